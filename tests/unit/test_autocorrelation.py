"""Quasi-differenced Gram statistics against the dense likelihood of an autoregression, and the estimate."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.data.lag import lag_products
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_autocorrelation import estimate_autocorrelation
from bayes_pricing.errors import SpecError


def sales(rho: float, *, items: int, weeks: int, seed: int) -> pl.DataFrame:
    """Log units with a price effect and autoregressive errors; some weeks are missing."""
    rng = np.random.default_rng(seed)
    frames = []
    for item in range(items):
        error = np.zeros(weeks)
        error[0] = rng.normal() / np.sqrt(1.0 - rho**2)
        for week in range(1, weeks):
            error[week] = rho * error[week - 1] + rng.normal()
        x = rng.normal(0.3, 0.5, weeks)
        kept = rng.random(weeks) < 0.9
        kept[: weeks // 2] = True
        columns = {"period": np.arange(weeks)[kept], "x": x[kept], "y": (4.0 - 2.0 * x + 0.5 * error)[kept]}
        frames.append(pl.DataFrame({"item": [f"item{item}"] * int(kept.sum())} | columns))
    return pl.concat(frames)


def dense_log_density(rows: pl.DataFrame, coefficients: Floats, rho: float, sd: float) -> float:
    """Stationary autoregression by runs of consecutive weeks, the covariance written out."""
    week = rows["period"].to_numpy()
    residual = rows["y"].to_numpy() - coefficients[0] - coefficients[1] * (rows["x"] - rows["x"].mean()).to_numpy()
    total = 0.0
    for run in np.split(np.arange(len(week)), np.flatnonzero(np.diff(week) > 1) + 1):
        covariance = sd**2 * rho ** np.abs(run[:, None] - run[None, :]) / (1.0 - rho**2)
        e = residual[run]
        total -= 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] + 0.5 * e @ np.linalg.solve(covariance, e)
    return float(total)


@pytest.mark.parametrize("rho", [-0.4, 0.0, 0.7])
def test_quasi_differences_give_the_dense_likelihood(rho: float) -> None:
    rows = sales(0.5, items=3, weeks=25, seed=2)
    gram = gather_gram(rows, "item", "y", ["x"])
    lagged = lag_products(rows.lazy(), "item", "period", "y", ["x"], centre=gram)
    found = lagged.quasi_difference(gram, rho)
    b, sd = np.array([3.7, -1.6]), 0.6
    for at, item in enumerate(gram.items):
        square = found.yty[at] - 2 * b @ found.xty[at] + b @ found.xtx[at] @ b
        runs = gram.count[at] - lagged.pairs[at]
        value = -0.5 * (gram.count[at] * np.log(2 * np.pi * sd**2) + square / sd**2) + 0.5 * runs * np.log1p(-(rho**2))
        # sums of some 25 products of order ten
        assert_allclose(value, dense_log_density(rows.filter(item=item), b, rho, sd), atol=1e-9)


def test_the_autocorrelation_is_found() -> None:
    """30 items of 40 weeks: the standard error is about sqrt((1 - rho^2) / 1,200), under 0.03; four are allowed."""
    items = pl.DataFrame({"item": sorted(f"item{at}" for at in range(30))})
    for rho in (0.0, 0.6):
        rows = sales(rho, items=30, weeks=40, seed=3).rename({"x": "log_price"})
        gram = gather_gram(rows, "item", "y", ["log_price"])
        lagged = lag_products(rows.lazy(), "item", "period", "y", ["log_price"], centre=gram)
        assert estimate_autocorrelation(gram, lagged, items, DemandSpec(levels=())) == pytest.approx(rho, abs=0.12)


def test_what_is_refused() -> None:
    rows = sales(0.0, items=1, weeks=6, seed=1)
    gram = gather_gram(rows, "item", "y", ["x"])
    lagged = lag_products(rows.lazy(), "item", "period", "y", ["x"], centre=gram)
    with pytest.raises(SpecError, match="inside"):
        lagged.quasi_difference(gram, 1.0)
    with pytest.raises(SpecError, match="0 for counts"):
        DemandSpec(likelihood="poisson", autocorrelation=0.3)
