"""What the demand equation may hold beside the own price, from sales with known truth through `fit` to a saved model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.elasticity import cross_elasticity_table
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from bayes_pricing.registry import load_fit, save_fit

QUICK = SamplerSettings(draws=500, tune=300, chains=2)


def fit(frame: pl.DataFrame, request: ModelRequest, seed: int) -> DemandFit:
    return fit_demand(SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns)), request, QUICK, seed=seed)


@pytest.mark.slow
def test_cross_price_elasticities_are_recovered(tmp_path: Path) -> None:
    """Three categories of three items over 40 weeks; |z| below 4 for 27 elasticities; the saved model says the same."""
    rng = np.random.default_rng(5)
    frames, truth = [], {}
    for category in ("jam", "rice", "tea"):
        matrix = rng.normal(0.3, 0.25, (3, 3))
        np.fill_diagonal(matrix, rng.normal(-2.5, 0.4, 3))
        log_price = rng.normal(0.0, 0.2, (40, 3))
        log_units = 5.0 + log_price @ matrix.T + rng.normal(0.0, 0.25, (40, 3))
        truth[category] = matrix
        for at in range(3):
            columns = {"period": np.arange(40), "price": np.exp(log_price[:, at]), "quantity": np.exp(log_units[:, at])}
            frames.append(pl.DataFrame({"item": f"{category}-{at}", "category": category} | columns))
    fitted = fit(pl.concat([frame.cast({"item": pl.String}) for frame in frames]), ModelRequest(cross_prices=True), 3)
    assert fitted.diagnostics.passed
    for category, matrix in truth.items():
        draws = fitted.posterior.cross_elasticities(category)
        assert draws is not None
        z = (draws.mean(("chain", "draw")) - matrix) / draws.std(("chain", "draw"))
        assert float(np.abs(z).max()) < 4, z
        assert float(draws.std(("chain", "draw")).max()) < 0.3  # the prior's sd of a single pair is over 0.5
    table = cross_elasticity_table(fitted.posterior)
    assert table.height == 3 * 3 * 2
    save_fit(fitted, tmp_path / "model")
    again = load_fit(tmp_path / "model").posterior
    assert cross_elasticity_table(again).equals(table)
