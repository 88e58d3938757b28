"""Closed forms of pricing under constant elasticity and normal posteriors; draws are normal quantiles, not samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.pricing.blocks import BlockMoney, LogitBlock, LogLogBlock
from bayes_pricing.pricing.constraints import (
    Bounds,
    Limit,
    MaxChange,
    MaxItemShortfall,
    MaxLossProbability,
    MaxShortfall,
    PriceLadder,
)
from bayes_pricing.pricing.joint_prices import maximize_joint
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.outlook import Outlook, build_block, item_facts
from bayes_pricing.pricing.profit import Economics, Objective, UnitValue
from bayes_pricing.pricing.risk import lower_tail_mean, probability_worse
from tests.posteriors import ArrayPosterior, posterior_from_draws

Floats = NDArray[np.float64]


def normal_quantiles(mean: float, sd: float, draws: int) -> Floats:
    return np.asarray(mean + sd * ndtri((np.arange(draws) + 0.5) / draws), dtype=np.float64)


def outlook_at(posterior: ArrayPosterior, prices: list[float], objective: Objective, cost: float = 0.0) -> Outlook:
    facts = item_facts(posterior.items, Economics(cost=cost), objective)
    return Outlook(block=build_block(facts, demand_draws(posterior)), prices=np.array([prices]))


def test_constant_elasticity_price_is_cost_times_e_over_one_plus_e() -> None:
    posterior = posterior_from_draws(np.full(400, -2.5), lowest_price=2.0, highest_price=30.0)
    decision = optimize_prices(posterior, Economics(cost=4.0), "profit", horizon_periods=13, seed=1, testing=None)
    price = float(decision.prices[0])
    assert price == pytest.approx(6.66667, abs=5e-6)  # printed digits
    assert (price - 4.0) / price == pytest.approx(0.4, abs=1e-6)
    # q = 1000 p^-2.5 sells 3.1623 at 10, so money scales by 100 / 3.1623 from the textbook's 23.23790
    profit = decision.portfolio.recommended["profit"].mean
    assert profit * 1000.0 * 10.0**-2.5 / 100.0 == pytest.approx(23.23790, abs=5e-6)


def test_lower_tail_of_a_lognormal() -> None:
    draws = xr.DataArray(np.exp(normal_quantiles(0.0, 0.2, 400_000)).reshape(4, -1), dims=("chain", "draw"))
    # midpoint quantiles of 20,000 tail draws: the error of the mean is about 1e-6
    assert float(lower_tail_mean(draws, 0.05)) == pytest.approx(0.6637310961, abs=3e-6)


def test_expected_revenue_ratio_under_a_normal_elasticity() -> None:
    posterior = posterior_from_draws(normal_quantiles(-2.0, 0.5, 400_000), units=1.0, current_price=1.0)
    change = outlook_at(posterior, [1.2], "revenue").expected_change[0, 0]
    assert 1.0 + change == pytest.approx(0.8368031569, abs=1e-7)  # midpoint rule, 400,000 points


def test_probability_that_revenue_is_worse_depends_on_the_direction_only() -> None:
    posterior = posterior_from_draws(normal_quantiles(-1.5, 0.5, 100_000))
    outlook = outlook_at(posterior, [10.1, 13.0, 19.0, 9.9, 7.0, 5.5], "revenue")
    # one draw of 100,000 is the resolution
    np.testing.assert_allclose(outlook.probability_worse[0, :3], 0.8413447, atol=1.1e-5)
    np.testing.assert_allclose(outlook.probability_worse[0, 3:], 0.1586553, atol=1.1e-5)


def test_largest_raise_under_a_ten_per_cent_chance_of_losing_profit() -> None:
    posterior = posterior_from_draws(normal_quantiles(-1.5, 0.3, 200_000), lowest_price=5.0, highest_price=20.0)
    decision = optimize_prices(
        posterior, Economics(cost=5.0), "profit", [MaxLossProbability(probability=0.1)],
        horizon_periods=13, seed=1, testing=None,
    )  # fmt: skip
    # the elasticity quantile of 200,000 draws is right to 1e-5, the price ratio to ten times that
    assert float(decision.prices[0]) / 10.0 == pytest.approx(1.1393554, abs=2e-4)
    assert decision.items[0].binding == ("max_loss_probability",)
    assert decision.items[0].probability_better == pytest.approx(0.9, abs=1e-4)


def two_items_four_scenarios(repeats: int) -> ArrayPosterior:
    """Elasticities under which price 11 instead of 10 changes revenue by exactly these amounts."""
    changes = np.tile(np.array([[10.0, 8.0], [10.0, -4.0], [10.0, 8.0], [-6.0, 8.0]]), (repeats, 1))
    elasticity = np.log((changes / 100.0 + 10.0) / 11.0) / np.log(1.1)
    return posterior_from_draws(elasticity, units=100.0, highest_price=11.0, lowest_price=10.0)


def test_item_by_item_limits_keep_nothing_where_the_portfolio_keeps_both() -> None:
    posterior = two_items_four_scenarios(repeats=20)  # 20 draws in the worst quarter
    only: list[Limit] = [PriceLadder(prices=(11.0,)), Bounds(lowest=9.0, highest=12.0)]
    alone = optimize_prices(
        posterior, Economics(), "revenue", [*only, MaxItemShortfall(amount=0.0, share=0.25)],
        horizon_periods=13, seed=1, testing=None,
    )  # fmt: skip
    assert alone.count("change") == 0
    together = optimize_prices(
        posterior, Economics(), "revenue", [*only, MaxShortfall(amount=0.0, share=0.25)],
        horizon_periods=13, seed=1, testing=None,
    )  # fmt: skip
    assert together.count("change") == 2
    assert together.portfolio.objective == pytest.approx(11.0, abs=1e-9)
    assert together.portfolio.expected_shortfall == pytest.approx(-2.0, abs=1e-9)
    worst = [
        float(-lower_tail_mean(xr.DataArray(draws.reshape(2, -1), dims=("chain", "draw")), 0.25))
        for draws in (np.tile([10.0, 10.0, 10.0, -6.0], 20), np.tile([8.0, -4.0, 8.0, 8.0], 20))
    ]
    assert worst == pytest.approx([6.0, 4.0])


def test_claimed_equals_realised_for_the_posterior_and_not_for_plug_in_prices() -> None:
    rng = np.random.default_rng(20)
    truth = rng.normal(-2.0, 0.5, 600)
    seen = truth + rng.normal(0.0, 0.5, 600)
    posterior_mean, posterior_sd = 0.5 * (seen - 2.0), np.sqrt(0.125)
    believed = posterior_mean[None, :] + normal_quantiles(0.0, posterior_sd, 400)[:, None]
    for elasticity, calibrated in ((believed, True), (np.repeat(seen[None, :], 400, axis=0), False)):
        posterior = posterior_from_draws(elasticity, units=1.0, lowest_price=7.0, highest_price=13.0)
        decision = optimize_prices(
            posterior, Economics(cost=5.0), "profit", [MaxChange(share=0.3)], horizon_periods=13, seed=1, testing=None
        )
        prices = decision.prices.to_numpy()
        realised = (prices - 5.0) * (prices / 10.0) ** truth - 5.0
        claimed = np.array([0.0 if item.profit is None else item.profit.mean for item in decision.items])
        surprise = claimed - realised
        error = surprise.std(ddof=1) / np.sqrt(surprise.size)
        if calibrated:
            assert abs(surprise.mean()) < 3.5 * error
        else:
            assert surprise.mean() > 5.0 * error


def test_probability_worse_counts_strict_losses() -> None:
    change = xr.DataArray([[-1.0, 0.0, 2.0, 3.0]], dims=("chain", "draw"))
    assert float(probability_worse(change)) == 0.25


def test_logit_prices_have_one_markup() -> None:
    demand = LogitBlock(
        current_price=np.full(3, 5.0), utility=np.array([[2.0, 1.5, 1.0]]), sensitivity=np.full((1, 3), 0.5),
        market=np.ones(1),
    )  # fmt: skip
    block = BlockMoney(
        demand=demand, value=UnitValue(kept=np.ones(3), charge=np.array([3.0, 2.0, 1.0])),
        lowest=np.full(3, np.log(0.2)), highest=np.full(3, np.log(3.0)),
    )  # fmt: skip
    found = maximize_joint([block], seed=1)
    assert found is not None
    np.testing.assert_allclose(5.0 * np.exp(found.log_ratio[0]), [6.6194034, 5.6194034, 4.6194034], atol=2e-6)
    assert float(block.money(found.log_ratio[0])[0]) == pytest.approx(1.6194033638, abs=1e-9)
    assert found.agreed == found.starts


def test_a_pair_of_substitutes_is_unbounded_without_a_box() -> None:
    pair = LogLogBlock(
        current_price=np.full(2, 10.0), log_units_today=np.zeros((1, 2)),
        elasticity=np.array([[[-3.0, 0.5], [0.5, -3.0]]]),
    )  # fmt: skip

    def best(highest: float) -> Floats:
        block = BlockMoney(
            demand=pair, value=UnitValue(kept=np.ones(2), charge=np.full(2, 4.0)),
            lowest=np.full(2, np.log(0.41)), highest=np.full(2, np.log(highest / 10.0)),
        )  # fmt: skip
        found = maximize_joint([block], seed=1)
        assert found is not None
        return np.append(10.0 * np.exp(found.log_ratio[0]), found.value)

    np.testing.assert_allclose(best(20.0)[:2], 6.66667, atol=5e-6)
    assert best(40.0)[:2].max() == pytest.approx(40.0)
    assert best(1e6)[2] > 100.0 * best(40.0)[2]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OneCurve:
    """Demand of one item handed in as a function of its price and its slope."""

    curve: Callable[[float], float]
    slope: Callable[[float], float]
    current_price: Floats = field(default_factory=lambda: np.array([20.0]))

    def units(self, log_ratio: Floats) -> Floats:
        return np.array([[self.curve(20.0 * float(np.exp(log_ratio[0])))]])

    def pulled_back(self, log_ratio: Floats, units: Floats, weights: Floats) -> Floats:
        price = 20.0 * float(np.exp(log_ratio[0]))
        return np.array([float(weights[0, 0]) * self.slope(price) * price])


@pytest.mark.parametrize(
    ("demand", "answer", "profit"),
    [
        (OneCurve(curve=lambda p: 100.0 - 2.0 * p, slope=lambda p: -2.0), 30.0, 800.0),
        (
            OneCurve(curve=lambda p: float(np.exp(5.0 - 0.2 * p)), slope=lambda p: -0.2 * float(np.exp(5.0 - 0.2 * p))),
            15.0,
            5.0 * float(np.exp(2.0)),
        ),
    ],
)
def test_demand_handed_in_as_a_function(demand: OneCurve, answer: float, profit: float) -> None:
    block = BlockMoney(
        demand=demand, value=UnitValue(kept=np.ones(1), charge=np.full(1, 10.0)),
        lowest=np.full(1, np.log(0.55)), highest=np.full(1, np.log(2.2)),
    )  # fmt: skip
    found = maximize_joint([block], seed=1)
    assert found is not None
    assert 20.0 * float(np.exp(found.log_ratio[0][0])) == pytest.approx(answer, abs=1e-4)  # a flat peak
    assert float(block.money(found.log_ratio[0])[0]) == pytest.approx(profit, rel=1e-9)
    assert found.upper_bound is None  # branch and bound knows log-log demand only
