"""Sold-out weeks: the bias of taking sales for demand shown, and removed."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from tests.stock_outs import simulate_stock_outs

pytestmark = pytest.mark.slow

Z_LIMIT = 4.1
"""Family error of 0.1 % over some ten parameters, two-sided."""


def fit(frame: pl.DataFrame) -> DemandFit:
    panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns))
    return fit_demand(panel, ModelRequest(model="poisson"), SamplerSettings(draws=1000, tune=300, chains=4), seed=3)


def population(fitted: DemandFit) -> tuple[float, float]:
    draws = fitted.posterior.coefficients("population").sel(coefficient="log_price")
    return float(draws.mean()), float(draws.std())


def test_bias_is_shown_and_removed() -> None:
    market = simulate_stock_outs(seed=4, items=8, weeks=30, counts=True, mean=6.0)
    plain, plain_sd = population(fit(market.frame.drop("sold_out")))
    assert plain > market.population + 2.0 * plain_sd  # confidently too flat
    fitted = fit(market.frame)
    assert fitted.diagnostics.passed, fitted.diagnostics.findings
    assert "sold_out_censored" in {finding.code for finding in fitted.findings}
    found, sd = population(fitted)
    assert abs(found - market.population) < Z_LIMIT * sd
    assert sd < 0.35  # a quarter of the prior's 1.4
    assert found < plain - 0.25
    items = fitted.posterior.coefficients("item").sel(coefficient="log_price")
    z = (items.mean(("chain", "draw")).to_numpy() - market.elasticity) / items.std(("chain", "draw")).to_numpy()
    assert float(np.abs(z).max()) < Z_LIMIT, z
