"""Cheese (88 retailers, 5,555 weeks): the numbers of bayesm and of REML under the same specification."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.diagnostics import SamplerStatistics, check_sampling
from bayes_pricing.demand.gaussian_tree import SalesRows
from bayes_pricing.demand.spec import DemandSpec, NoiseBy
from bayes_pricing.demand.tree_fit import fit_tree
from bayes_pricing.demand.tree_posterior import TreePosterior
from tests.support import shared_data
from tests.trees import gram_of_rows

pytestmark = pytest.mark.slow


def fit_cheese(noise_by: NoiseBy) -> TreePosterior:
    sales = pl.read_csv(shared_data("cheese.csv"))
    frame = sales.with_columns(log_price=pl.col("price").log(), log_units=pl.col("volume").log())
    frame = frame.with_columns(reference=pl.col("log_price").mean().over("retailer"))
    names = tuple(sorted(frame["retailer"].unique().to_list()))
    position = {name: at for at, name in enumerate(names)}
    rows = SalesRows(
        log_units=frame["log_units"].to_numpy(),
        item=np.array([position[name] for name in frame["retailer"]], dtype=np.int64),
        log_price=frame["log_price"].to_numpy(),
        reference_log_price=frame["reference"].to_numpy(),
        controls=frame.select("disp").to_numpy(),
        shared_controls=np.zeros((frame.height, 0)),
    )
    spec = DemandSpec(levels=(), controls=("disp",), noise_by=noise_by)
    gram = gram_of_rows(rows, names, spec.coefficients)
    items = pl.DataFrame({"item": names})
    return fit_tree(gram, items, spec, draws=1000, tune=500, chains=4, seed=66)


def check(posterior: TreePosterior) -> tuple[float, float, float]:
    """The gate passes, no retailer's mean is positive; the elasticity's population mean, its sd, and the spread."""
    statistics = SamplerStatistics(divergences=posterior.draws.divergences, energy=posterior.draws.energy)
    diagnostics = check_sampling(posterior, statistics)
    assert diagnostics.passed, diagnostics.findings
    assert diagnostics.max_rhat <= 1.01
    assert diagnostics.min_ess_bulk >= 400
    elasticity = posterior.coefficients("item").sel(coefficient="log_price").mean(("chain", "draw"))
    assert float(elasticity.max()) < 0
    population = posterior.coefficients("population").sel(coefficient="log_price")
    between = posterior.variation("item").sel(coefficient="log_price")
    return float(population.mean()), float(population.std()), float(between.mean())


def test_noise_by_retailer() -> None:
    """bayesm's rhierLinearModel: -2.144 (0.10), 0.86 between retailers, display 0.99 (its own priors)."""
    posterior = fit_cheese("item")
    mean, sd, between = check(posterior)
    assert -2.30 < mean < -2.00
    assert 0.08 < sd < 0.13
    assert 0.70 < between < 1.00
    assert float(posterior.coefficients("population").sel(coefficient="disp").mean()) == pytest.approx(0.99, abs=0.1)


def test_one_common_noise() -> None:
    """REML: -2.195 (0.101), display 1.17 (0.15), 0.84 between retailers; the prior's pull is below a tenth of an sd."""
    posterior = fit_cheese("common")
    mean, sd, between = check(posterior)
    display = posterior.coefficients("population").sel(coefficient="disp")
    assert mean == pytest.approx(-2.195, abs=0.03)
    assert sd == pytest.approx(0.101, abs=0.008)
    assert between == pytest.approx(0.84, abs=0.04)
    assert float(display.mean()) == pytest.approx(1.17, abs=0.05)
    assert float(display.std()) == pytest.approx(0.15, abs=0.03)
