from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.constraints import (
    Limit,
    MaxChange,
    MaxItemShortfall,
    MaxLossProbability,
    MaxShortfall,
    PriceLadder,
)
from bayes_pricing.pricing.frontier import efficient_frontier, price_of_caution
from bayes_pricing.pricing.functionals import ExponentialUtility
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import normal_posterior, posterior_from_draws


def test_less_risk_never_brings_more() -> None:
    posterior = normal_posterior(5, 400, seed=3, sd=0.6)
    ladder = [PriceLadder(step=0.5)]
    points = efficient_frontier(posterior, Economics(), "profit", ladder, horizon_periods=13, seed=1, points=4)
    free = optimize_prices(posterior, Economics(), "profit", ladder, horizon_periods=13, seed=1, testing=None).portfolio
    assert len(points) == 4
    assert points[0].max_shortfall is None
    assert points[0].objective == pytest.approx(free.objective, rel=1e-9)
    assert points[0].expected_shortfall == pytest.approx(free.expected_shortfall)
    for bolder, safer in pairwise(points):
        assert safer.max_shortfall is not None
        assert safer.expected_shortfall <= safer.max_shortfall + 1e-6 * abs(safer.max_shortfall)
        assert safer.max_shortfall < bolder.expected_shortfall + 1e-9 * abs(bolder.expected_shortfall)
        assert safer.objective <= bolder.upper_bound * (1.0 + 1e-9)
        assert safer.objective <= safer.upper_bound * (1.0 + 1e-9)
    with pytest.raises(SpecError, match="two or more"):
        efficient_frontier(posterior, Economics(), "profit", horizon_periods=13, seed=1, points=1)


def test_the_frontier_of_a_utility_is_of_its_certainty_equivalent() -> None:
    posterior = normal_posterior(5, 400, seed=3, sd=0.6)
    utility = ExponentialUtility(tolerance=200.0)
    points = efficient_frontier(
        posterior, Economics(), "profit", horizon_periods=13, seed=1, points=2, utility=utility
    )  # fmt: skip
    averse = optimize_prices(
        posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None, utility=utility
    ).portfolio
    assert points[0].objective == pytest.approx(averse.objective, rel=1e-3)  # integer programmes stop within 1e-4
    assert points[0].objective < averse.changes["profit"].mean
    assert points[-1].objective <= points[0].upper_bound * (1.0 + 1e-9)


def test_caution_costs_what_the_limit_forbids() -> None:
    # half of the draws gain from any rise and half from any cut: a limit of 10 % on loss leaves today's price
    split = np.tile([-4.0, -1.2], 200)
    posterior = posterior_from_draws(split, cost=5.0)
    free = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None).portfolio
    careful = MaxLossProbability(probability=0.1)
    costs = price_of_caution(posterior, Economics(), "profit", [careful], horizon_periods=13, seed=1)
    assert [cost.limit for cost in costs] == ["max_loss_probability"]
    assert costs[0].objective_without == costs[0].cost == pytest.approx(free.objective)
    assert free.objective > 0
    # where two limits forbid the same, neither alone costs anything
    both: list[Limit] = [careful, MaxItemShortfall(amount=0.0), MaxChange(share=0.3)]
    assert [cost.cost for cost in price_of_caution(
        posterior, Economics(), "profit", both, horizon_periods=13, seed=1
    )] == [0.0, 0.0]  # fmt: skip
    assert price_of_caution(posterior, Economics(), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1) == ()


def test_caution_under_a_utility_costs_certainty_equivalent() -> None:
    posterior = normal_posterior(4, 400, seed=4, sd=0.6)
    utility = ExponentialUtility(tolerance=50.0)
    ladder = PriceLadder(step=0.5)
    free = optimize_prices(
        posterior, Economics(), "profit", [ladder], horizon_periods=13, seed=1, testing=None, utility=utility
    ).portfolio
    costs = price_of_caution(
        posterior,
        Economics(),
        "profit",
        [ladder, MaxShortfall(amount=1e6)],
        horizon_periods=13,
        seed=1,
        utility=utility,
    )
    assert costs[0].objective_without == pytest.approx(free.objective)
    # a limit this loose takes nothing away, up to the gap at which the programme stops
    assert costs[0].cost == pytest.approx(0.0, abs=1e-3 * free.objective)
