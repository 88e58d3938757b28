"""Where prices follow demand: the bias of the plain model shown, and removed by the joint one."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from tests.endogenous import simulate_endogenous

pytestmark = pytest.mark.slow

Z_LIMIT = 4.7
"""Family error of 0.1 % over two markets of 30 items and 6 other parameters each, two-sided."""


@pytest.mark.parametrize("seed", [11, 12])
def test_bias_is_shown_and_removed(seed: int) -> None:
    market = simulate_endogenous(seed=seed, items=30, weeks=30, instruments=2)
    sales = market.frame.drop("category")
    roles = ColumnRoles.resolve(sales.columns, shared_controls=["season"], instruments=["cost0", "cost1"])
    panel = SalesPanel.from_frame(sales, roles)
    fitted = fit_demand(panel, ModelRequest(), SamplerSettings(draws=500, chains=2), seed=seed)
    assert fitted.diagnostics.passed, fitted.diagnostics.findings
    found = fitted.endogeneity
    assert found is not None
    assert found.uninstrumented.lower > market.population + 0.3  # confidently wrong
    assert found.shift < -0.5
    posterior = fitted.posterior
    hyper = posterior.hyper()
    elasticity = posterior.coefficients("item").sel(coefficient="log_price")
    population = posterior.coefficients("population").sel(coefficient="log_price")
    truths: list[tuple[xr.DataArray, float | np.ndarray]] = [
        (elasticity, market.elasticity),
        (population, market.population),
        (posterior.variation("item").sel(coefficient="log_price"), 0.4),
        (posterior.shared().sel(control="season"), 0.3),
        (hyper["confounding"].isel(confounding_at=0), market.confounding),
        (hyper["first_stage"], np.array([0.8, 0.8])),
        (hyper["first_stage_sd"].isel(first_stage_sd_at=0), 0.15),
    ]
    for draws, truth in truths:
        z = (draws.mean(("chain", "draw")).to_numpy() - truth) / draws.std(("chain", "draw")).to_numpy()
        assert float(np.abs(z).max()) < Z_LIMIT, z
    assert float(population.std()) < 0.3  # a quarter of the prior's sd
    smearing = posterior.log_smearing()  # half the variance of demand shocks were price set at will
    variance = 0.25**2 + (market.confounding * 0.15) ** 2
    assert float(smearing.mean()) == pytest.approx(0.5 * variance, rel=0.15)
    shocks = {finding.code for finding in fitted.findings}
    assert "instrument_shift" in shocks
    assert "weak_instrument" not in shocks
