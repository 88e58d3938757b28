"""Identities of explanations: prior power scaling, the elasticity that makes a price best, terms that add up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.contrast import optimal_at, split_change
from bayes_pricing.pricing.explanation import explain
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.outlook import build_block, item_facts
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.sensitivity import power_scaling_gradient
from tests.posteriors import normal_posterior


def test_conjugate_normal_mean_under_power_scaling() -> None:
    # prior N(0, 1), 20 observations of sd 2 and mean 3: posterior N(2.5, 1/6)
    theta = 2.5 + np.sqrt(1.0 / 6.0) * ndtri((np.arange(400_000) + 0.5) / 400_000)
    # midpoint quantiles reproduce the variance to 1e-5
    assert power_scaling_gradient(theta, -0.5 * theta**2) == pytest.approx(-0.28881, abs=1e-5)


def test_the_elasticity_at_which_seven_is_the_best_price() -> None:
    assert optimal_at(7.0, 1.0, 4.0) == pytest.approx(-2.3333, abs=5e-5)


def test_margin_and_volume_add_up_on_every_draw() -> None:
    posterior = normal_posterior(5, 500, seed=3)
    economics = Economics(commission=0.12, fixed_fee=0.2, tax_rate=0.1)
    for name in posterior.names:
        table = posterior.items.filter(posterior.items["item"] == name)
        block = build_block(item_facts(table, economics, "profit"), demand_draws(posterior, [name]))
        split = split_change(block, float(table["current_price"][0]) * 1.13)
        assert split.residual < 1e-9
        assert split.own_volume.lower == pytest.approx(split.volume.lower, rel=1e-12)
        assert split.cross_volume.mean == 0.0


def test_items_contributions_to_the_shortfall_add_up() -> None:
    posterior = normal_posterior(40, 1000, seed=4)
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.2)], horizon_periods=13, seed=1, testing=None
    )
    parts = [item.shortfall_contribution for item in decision.items]
    assert sum(part for part in parts if part is not None) == pytest.approx(
        decision.portfolio.expected_shortfall, rel=1e-12
    )


def test_elasticity_contributions_add_up_to_the_posterior_mean() -> None:
    posterior = normal_posterior(9, 500, seed=5)
    decision = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1)
    for name in posterior.names:
        evidence = explain(posterior, decision, name).elasticity
        assert sum(part.contribution for part in evidence.contributions) == pytest.approx(
            evidence.estimate.mean, abs=1e-9
        )
        assert sum(part.weight for part in evidence.contributions) == pytest.approx(1.0, abs=1e-12)
