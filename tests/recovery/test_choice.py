"""Tastes that differ between people come back from simulated choices."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.choice import fit_choice
from bayes_pricing.demand.choice_elasticity import choice_elasticities
from tests.choices import MEAN, SPREAD, simulate_choices


@pytest.mark.slow
def test_mixed_logit_recovers_tastes_and_breaks_equal_cross_elasticities() -> None:
    data = simulate_choices(people=60, occasions=10, seed=6)
    posterior = fit_choice(data, mixed=True, seed=6, draws=500, tune=300)
    assert posterior.diagnostics.passed
    mean, between = posterior.coefficients(), posterior.between_sd()
    z = (mean.mean(("chain", "draw")) - MEAN) / mean.std(("chain", "draw"))
    assert float(np.abs(z).max()) < 4
    spread_z = (between.mean(("chain", "draw")) - SPREAD) / between.std(("chain", "draw"))
    assert float(np.abs(spread_z).max()) < 4
    price = data.price_at
    prior_sd = 1.4 / (1.6 * 2 / 3)  # of the price coefficient: an elasticity's 1.4 at mean price and even shares
    assert float(mean.isel(coefficient=price).std()) < 0.25 * prior_sd
    cross = choice_elasticities(posterior).sel(price_of="b").mean("draw")
    assert float(abs(cross.sel(alternative="a") - cross.sel(alternative="c"))) > 0.01
