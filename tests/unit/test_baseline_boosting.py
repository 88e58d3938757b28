from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.baselines.boosting import BoostedTrees
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.errors import Refusal, SpecError


def sales(seed: int = 1, *, zeros: bool, n_items: int = 60, n_periods: int = 40) -> SalesRows:
    """Two categories with elasticities -1 and -3; about two units a period, or about a hundred."""
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(n_items), n_periods)
    log_price = np.log(5.0) + rng.uniform(-0.4, 0.4, item.size)
    slope = np.where(item % 2 == 0, -1.0, -3.0)
    level = rng.normal(0.5 if zeros else 4.5, 0.5, n_items)[item]
    mean = np.exp(level + slope * (log_price - np.log(5.0)))
    units = rng.poisson(mean) if zeros else mean * np.exp(rng.normal(0, 0.1, item.size))
    frame = pl.DataFrame(
        {
            "item": [f"i{code:03d}" for code in item],
            "category": np.where(item % 2 == 0, "even", "odd"),
            "period": [dt.date(2025, 1, 6) + dt.timedelta(weeks=w) for w in range(n_periods)] * n_items,
            "price": np.exp(log_price),
            "quantity": units.astype(float),
        }
    )
    return SalesRows(frame=frame, levels=("category",))


@pytest.mark.parametrize("zeros", [True, False])
def test_recovers_category_elasticities_and_falls_with_price(zeros: bool) -> None:
    rows = sales(zeros=zeros)
    fitted = BoostedTrees(seed=1, refits=4).fit(rows)
    items = rows.frame["item"].unique().sort().to_list()
    groups = ["even" if int(item[1:]) % 2 == 0 else "odd" for item in items]
    mean = fitted.mean_elasticity(items, np.full(60, 5.0), groups)
    assert mean.name == ("even", "odd")
    assert_allclose(mean.mean, [-1.0, -3.0], atol=0.5)  # steps of the trees inside +-10 % of one price
    assert (mean.lower < mean.mean).all()
    assert (mean.upper <= 0).all()
    prices = pl.DataFrame({"item": ["i001"] * 30, "category": ["odd"] * 30, "price": np.linspace(3.0, 8.0, 30)})
    dated = prices.with_columns(pl.lit(dt.date(2025, 9, 1)).alias("period"))
    assert (np.diff(fitted.predict_units(dated)) <= 0).all()


def test_same_seed_same_numbers_and_other_seed_other_intervals() -> None:
    rows = sales(zeros=True, n_items=20)
    first, again, other = (
        BoostedTrees(seed=seed, refits=2).fit(rows).own_price_elasticity(["i000"], [5.0]) for seed in (1, 1, 2)
    )
    assert first.lower == again.lower
    assert first.mean == other.mean
    assert first.lower != other.lower


def test_expected_units_add_up_to_those_sold_and_noise_is_poisson() -> None:
    rows = sales(zeros=True)
    fitted = BoostedTrees(seed=1, refits=2).fit(rows)
    sold = float(rows.frame["quantity"].sum())
    assert_allclose(float(fitted.predict_units(rows.frame).sum()), sold, rtol=0.03)  # the shrinkage of usual units
    draws = fitted.predict_draws(rows.frame, 50, np.random.default_rng(3))
    assert draws.shape == (50, rows.frame.height)
    assert_allclose(draws.mean(), fitted.predict_units(rows.frame).mean(), rtol=0.01)
    spread = draws.var(axis=0).mean() / draws.mean()
    assert 0.95 < spread < 1.6  # Poisson is 1; items' usual units are known from 40 rows only


def test_noise_of_log_units_is_that_of_held_out_rows() -> None:
    noise = BoostedTrees(seed=1, refits=2).fit(sales(zeros=False)).noise
    draws = np.log(noise.draw(np.zeros(4000), 1, np.random.default_rng(1)))
    assert 0.09 < draws.std() < 0.15  # the true 0.10, and what the trees miss


def test_items_never_seen_have_predictions_but_no_elasticity() -> None:
    fitted = BoostedTrees(seed=1, refits=2).fit(sales(zeros=True, n_items=20))
    own = fitted.own_price_elasticity(["new", "i000"], [5.0, 5.0])
    assert np.isnan(own.mean[0])
    assert own.lower[0] == -np.inf
    assert own.n_items == (0, 1)
    new = pl.DataFrame({"item": ["new"], "category": ["odd"], "price": [5.0], "period": [dt.date(2025, 9, 1)]})
    assert 0.3 < fitted.predict_units(new)[0] < 6.0


def test_category_and_item_means_agree() -> None:
    fitted = BoostedTrees(seed=1, refits=2).fit(sales(zeros=True, n_items=20))
    items = ["i000", "i002", "i004"]
    own = fitted.own_price_elasticity(items, [4.0, 5.0, 6.0])
    mean = fitted.mean_elasticity(items, [4.0, 5.0, 6.0], ["even"] * 3)
    assert_allclose(mean.mean[0], own.mean.mean())


def test_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match="at least 2"):
        BoostedTrees(seed=1, refits=1)
    with pytest.raises(Refusal, match="log units of zero"):
        BoostedTrees(seed=1, unit_model="log").fit(sales(zeros=True, n_items=4))
