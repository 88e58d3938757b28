from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.pricing.blocks import BlockMoney, LogitBlock, LogLogBlock
from bayes_pricing.pricing.branch_and_bound import bound_block
from bayes_pricing.pricing.constraints import Limit, MaxChange, MaxShortfall, PriceLadder, SamePrice
from bayes_pricing.pricing.functionals import TailMean
from bayes_pricing.pricing.joint_prices import highest_tail, maximize_joint
from bayes_pricing.pricing.optimizer import evaluate_prices, optimize_prices
from bayes_pricing.pricing.profit import Economics, UnitValue
from tests.crossing import crossed_posterior

Floats = NDArray[np.float64]


def crossing(items: int, draws: int, *, seed: int, reach: tuple[float, float] = (0.8, 1.3)) -> BlockMoney:
    rng = np.random.default_rng(seed)
    elasticity = rng.uniform(0.0, 0.4, (items, items)) + rng.normal(0.0, 0.05, (draws, items, items))
    own = np.arange(items)
    elasticity[:, own, own] = rng.uniform(-3.2, -2.0, items) + rng.normal(0.0, 0.25, (draws, items))
    price = rng.uniform(5.0, 15.0, items)
    units = rng.normal(3.0, 0.3, items) + rng.normal(0.0, 0.1, (draws, items))
    return BlockMoney(
        demand=LogLogBlock(current_price=price, log_units_today=units, elasticity=elasticity),
        value=UnitValue(kept=np.ones(items), charge=price * rng.uniform(0.4, 0.6, items)),
        lowest=np.full(items, np.log(reach[0])), highest=np.full(items, np.log(reach[1])),
    )  # fmt: skip


def test_gradients_agree_with_differences() -> None:
    logit = LogitBlock(
        current_price=np.array([4.0, 6.0, 5.0]), utility=np.array([[2.0, 1.5, 1.0], [1.0, 2.0, 0.5]]),
        sensitivity=np.array([[0.5, 0.4, 0.6], [0.3, 0.5, 0.4]]), market=np.array([100.0, 80.0]),
    )  # fmt: skip
    block = crossing(3, 50, seed=1)
    weights = np.random.default_rng(2).uniform(0.0, 1.0, 50)
    for money, mass in ((replace(block, demand=logit), np.array([0.3, 0.7])), (block, weights)):
        here = np.array([0.1, -0.05, 0.07])
        value, gradient = money.money_and_gradient(here, mass)
        assert value == pytest.approx(float(mass @ money.money(here)))
        steps = 1e-6 * np.eye(3)
        slopes = [(mass @ (money.money(here + step) - money.money(here - step))) / 2e-6 for step in steps]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6)  # central differences are right to 1e-9 or so


@pytest.mark.parametrize(("items", "seed"), [(2, 3), (3, 4)])
def test_climbs_agree_with_a_grid_and_stay_under_the_bound(items: int, seed: int) -> None:
    block = crossing(items, 60, seed=seed)
    found = maximize_joint([block], seed=1)
    assert found is not None
    today = block.money(np.zeros(items)).mean()
    grid = np.linspace(np.log(0.8), np.log(1.3), 21)
    best = max(block.money(np.array(point)).mean() for point in product(grid, repeat=items)) - today
    assert best <= found.value * (1.0 + 1e-9)
    assert found.value == pytest.approx(best, rel=0.02)  # the grid's step is 2.4 % of the price
    assert found.upper_bound is not None
    assert found.value <= found.upper_bound <= found.value * 1.01
    assert found.agreed > 0


def test_bounds_hold_everywhere_in_the_box() -> None:
    block = crossing(4, 30, seed=5, reach=(0.6, 1.8))
    weights = np.full(30, 1.0 / 30.0)
    rng = np.random.default_rng(6)
    points = block.lowest + (block.highest - block.lowest) * rng.random((3000, 4))
    best = max(float(weights @ block.money(point)) for point in points)
    today = float(weights @ block.money(np.zeros(4)))
    for known in (0.5 * (today + best), best):
        bound = bound_block(block, weights, known, enough=0.5 * abs(known - today))
        assert bound is not None
        assert bound.value >= best


def test_floors_ladders_and_scale() -> None:
    block = crossing(4, 400, seed=7)
    tail = TailMean(share=0.05)
    free = maximize_joint([block], seed=1, tail=tail)
    assert free is not None
    assert free.tail is not None
    top = highest_tail([block], tail, seed=1)
    floor = 0.5 * (free.tail + top)
    held = maximize_joint([block], seed=1, tail=tail, floor=floor)
    assert held is not None
    assert held.tail is not None
    assert held.upper_bound is not None
    assert held.tail >= floor - 1e-6
    assert held.value < free.value
    assert held.value <= held.upper_bound <= held.value + 0.02 * free.value
    assert maximize_joint([block], seed=1, tail=tail, floor=top + 0.5 * abs(top) + 1.0) is None
    today = np.asarray(block.demand.current_price)
    rungs = [[np.log(np.append(np.linspace(0.85, 1.25, 5), 1.0)) for _ in today]]
    laddered = maximize_joint([block], seed=1, tail=tail, floor=floor, rungs=rungs)
    assert laddered is not None
    assert all(np.isclose(rungs[0][0], move).any() for move in laddered.log_ratio[0])
    assert laddered.value <= held.upper_bound
    cents = replace(
        block, value=UnitValue(kept=block.value.kept * 1e6, charge=block.value.charge * 1e6),
    )  # fmt: skip
    again = maximize_joint([cents], seed=1)
    assert again is not None
    np.testing.assert_allclose(again.log_ratio[0], free.log_ratio[0], atol=1e-6)


def decide(posterior: Any, limits: Sequence[Limit] = ()) -> Any:
    return optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=13, seed=1)


def test_a_known_pair_through_the_one_entry() -> None:
    pair = np.tile(np.array([[-3.0, 0.5], [0.5, -3.0]]), (400, 1, 1))
    decision = decide(crossed_posterior(pair, highest=20.0))
    np.testing.assert_allclose(decision.prices, 6.66667, atol=5e-6)
    assert decision.portfolio.engine == "joint prices by category, several starts"
    assert decision.portfolio.certified
    assert decision.portfolio.gap < 0.01
    assert "starts agreed" in decision.portfolio.certificate
    corner = decide(crossed_posterior(pair, highest=40.0))
    assert corner.prices.max() == pytest.approx(40.0)  # raising one and selling the other is better there
    alone = np.tile(np.diag([-3.0, -3.0]), (400, 1, 1))
    np.testing.assert_allclose(decide(crossed_posterior(alone, highest=20.0)).prices, 6.0, atol=5e-6)


def test_a_decision_with_crossing_prices_recomputes() -> None:
    rng = np.random.default_rng(8)
    elasticity = rng.uniform(0.0, 0.3, (4, 4)) + rng.normal(0.0, 0.05, (400, 4, 4))
    elasticity[:, np.arange(4), np.arange(4)] = rng.normal(-2.6, 0.3, (400, 4))
    posterior = crossed_posterior(elasticity, cost=5.5)
    limits: list[Limit] = [PriceLadder(step=0.05), MaxChange(share=0.1), MaxShortfall(amount=20.0)]
    decision = decide(posterior, limits)
    prices = decision.prices.to_numpy()
    moves = np.log(prices / 10.0)
    units = 100.0 * np.exp(elasticity @ moves)
    change = (units * (prices - 5.5) - 450.0).sum(axis=1)
    np.testing.assert_allclose(decision.portfolio.change_draws.sel(metric="profit").to_numpy().ravel(), change)
    np.testing.assert_allclose(prices / 0.05, np.round(prices / 0.05), atol=1e-6)
    assert (np.abs(moves) <= np.log(1.1) + 1e-9).all()
    assert decision.portfolio.feasible
    assert decision.portfolio.expected_shortfall <= 20.0
    assert decision.portfolio.objective <= decision.portfolio.upper_bound
    parts = [item.shortfall_contribution for item in decision.items]
    assert sum(parts) == pytest.approx(decision.portfolio.expected_shortfall, rel=1e-9)
    same = evaluate_prices(
        posterior, Economics(), "profit", limits, prices=dict(zip(posterior.base.names, prices, strict=True)),
        horizon_periods=13, seed=1,
    )  # fmt: skip
    assert same.portfolio.objective == pytest.approx(decision.portfolio.objective, rel=1e-9)
    with pytest.raises(Refusal, match="smallest found is"):
        decide(posterior, [MaxShortfall(amount=-1e6)])
    with pytest.raises(SpecError, match="'item-99999', which is not among the 4"):
        decide(posterior, [SamePrice(groups=(("item-00000", "item-99999"),))])
