"""Laws of risk measures, decisions and test sizes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import optimize
from scipy.optimize import LinearConstraint, milp

from bayes_pricing.errors import Refusal
from bayes_pricing.experiments.sizing import TwoArms, profit_maximizing_test, score_test
from bayes_pricing.pricing.constraints import (
    Limit,
    MaxChange,
    MaxChanges,
    MaxItemShortfall,
    MaxLossProbability,
    MaxShortfall,
    MinVolume,
    PriceLadder,
)
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.optimizer import evaluate_prices, optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.risk import expected_shortfall, tail_mean, tail_weights
from tests.posteriors import ArrayPosterior, normal_posterior, posterior_from_draws

Floats = NDArray[np.float64]

profit_draws = arrays(np.float64, (2, 100), elements=st.floats(-1e4, 1e4, width=32)).map(
    lambda values: xr.DataArray(values, dims=("chain", "draw"))
)


@given(profit=profit_draws, sure=st.floats(-1e5, 1e5), unit=st.floats(0.01, 100.0))
def test_expected_shortfall_is_coherent(profit: xr.DataArray, sure: float, unit: float) -> None:
    risk = float(expected_shortfall(profit, level=0.9))
    assert risk >= -float(profit.mean()) - 1e-6  # the tail is no better than the average
    assert_allclose(expected_shortfall(profit + sure, 0.9), risk - sure, atol=1e-6)  # sure money lowers risk
    assert_allclose(expected_shortfall(profit * unit, 0.9), risk * unit, rtol=1e-9, atol=1e-6)  # cents or euros


@given(first=profit_draws, second=profit_draws)
def test_expected_shortfall_rewards_pooling(first: xr.DataArray, second: xr.DataArray) -> None:
    together = float(expected_shortfall(first + second, 0.9))
    assert together <= float(expected_shortfall(first, 0.9)) + float(expected_shortfall(second, 0.9)) + 1e-6


@given(values=arrays(np.float64, 37, elements=st.floats(-1e3, 1e3)), share=st.floats(0.03, 0.9))
def test_tail_weights_reproduce_the_tail_mean(values: Floats, share: float) -> None:
    weights = tail_weights(values, share)
    assert_allclose(weights.sum(), 1.0)
    assert_allclose(weights @ values, tail_mean(values, share), atol=1e-9)


def decide(posterior: ArrayPosterior, *limits: Limit, economics: Economics | None = None) -> PriceDecision:
    money = Economics() if economics is None else economics
    return optimize_prices(posterior, money, "profit", limits, horizon_periods=13, seed=1, testing=None)


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 1000))
def test_a_tighter_limit_never_raises_the_objective(seed: int) -> None:
    posterior = normal_posterior(8, 400, seed=seed, sd=0.6)
    rung = PriceLadder(step=1.0)
    volume = float(posterior.items["units_per_period"].to_numpy().min())
    for loose, tight in (
        (MaxChange(share=0.2), MaxChange(share=0.1)),
        (MaxLossProbability(probability=0.3), MaxLossProbability(probability=0.1)),
        (MaxItemShortfall(amount=5.0), MaxItemShortfall(amount=1.0)),
        (MinVolume(units=0.5 * volume), MinVolume(units=0.9 * volume)),
        (MaxChanges(count=5), MaxChanges(count=2)),
        (MaxShortfall(amount=2.0), MaxShortfall(amount=0.0)),
    ):
        more, less = decide(posterior, rung, loose), decide(posterior, rung, tight)
        assert less.portfolio.objective <= more.portfolio.objective * (1.0 + 2e-4) + 1e-9  # the integer gap
        assert more.portfolio.feasible
        assert less.portfolio.feasible


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_todays_prices_meet_floors_at_or_below_zero(seed: int) -> None:
    posterior = normal_posterior(8, 400, seed=seed, sd=1.0)
    decision = decide(posterior, MaxShortfall(amount=0.0), MaxChange(share=0.2))
    assert decision.portfolio.objective >= 0.0
    today = evaluate_prices(
        posterior, Economics(), "profit", [MaxShortfall(amount=0.0)], prices={}, horizon_periods=13, seed=1
    )
    assert today.portfolio.feasible
    assert today.portfolio.objective == 0.0
    assert today.portfolio.expected_shortfall == 0.0


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_scaling_all_money_changes_nothing(unit: float) -> None:
    base = normal_posterior(30, 400, seed=8, sd=0.6)
    scaled = posterior_from_draws(
        base.elasticity.reshape(400, -1),
        units=np.exp(base.level.reshape(400, -1)),
        current_price=base.items["current_price"].to_numpy() * unit,
        lowest_price=base.items["lowest_price"].to_numpy() * unit,
        highest_price=base.items["highest_price"].to_numpy() * unit,
        cost=base.items["cost"].to_numpy() * unit,
    )
    first = decide(base, MaxShortfall(amount=-20.0), MaxChanges(count=12))
    second = decide(scaled, MaxShortfall(amount=-20.0 * unit), MaxChanges(count=12))
    assert first.portfolio.engine == second.portfolio.engine
    assert_allclose(second.prices, first.prices * unit, rtol=1e-9)
    assert_allclose(second.portfolio.objective, first.portfolio.objective * unit, rtol=1e-9)
    assert_allclose(second.portfolio.upper_bound, first.portfolio.upper_bound * unit, rtol=1e-6)


@settings(deadline=None, max_examples=10)
@given(order=st.permutations(range(6)))
def test_the_order_of_items_changes_nothing(order: list[int]) -> None:
    posterior = normal_posterior(6, 400, seed=9)
    names = [posterior.names[index] for index in order]
    shuffled = optimize_prices(posterior, Economics(), "profit", items=names, horizon_periods=13, seed=1, testing=None)
    assert_allclose(shuffled.prices, decide(posterior).prices, rtol=0, atol=0)


def changes_of(posterior: ArrayPosterior, factors: Floats) -> Floats:
    """Change of profit per draw of every (item, price factor), array (J, K, S), straight from the definition."""
    elasticity = posterior.elasticity.reshape(-1, len(posterior.names)).T[:, None, :]
    units = np.exp(posterior.level.reshape(-1, len(posterior.names)).T)[:, None, :]
    price = posterior.items["current_price"].to_numpy()[:, None, None]
    cost = posterior.items["cost"].to_numpy()[:, None, None]
    grown = units * factors[None, :, None] ** elasticity
    return np.asarray((price * factors[None, :, None] - cost) * grown - (price - cost) * units, dtype=np.float64)


def textbook_optimum(change: Floats, floor: float, share: float, most: int) -> float | None:
    """Rockafellar & Uryasev's programme with one row per draw; variables x (J*K), threshold, excess (S)."""
    items, prices, draws = change.shape
    cells = items * prices
    cost = np.concatenate([-change.mean(axis=2).ravel(), np.zeros(1 + draws)])
    one = np.zeros((items, cells + 1 + draws))
    for item in range(items):
        one[item, item * prices : (item + 1) * prices] = 1.0
    excess = np.hstack([change.reshape(cells, draws).T, -np.ones((draws, 1)), np.eye(draws)])
    tail = np.concatenate([np.zeros(cells), [1.0], np.full(draws, -1.0 / (share * draws))])
    moved = np.concatenate([np.tile(np.arange(prices) > 0, items).astype(float), np.zeros(1 + draws)])
    found = milp(
        cost,
        constraints=[
            LinearConstraint(one, 1.0, 1.0), LinearConstraint(excess, 0.0, np.inf),
            LinearConstraint(tail[None], floor, np.inf), LinearConstraint(moved[None], 0.0, most),
        ],
        integrality=np.concatenate([np.ones(cells), np.zeros(1 + draws)]),
        bounds=optimize.Bounds(
            np.concatenate([np.zeros(cells), [-np.inf], np.zeros(draws)]),
            np.concatenate([np.ones(cells), np.full(1 + draws, np.inf)]),
        ),
    )  # fmt: skip
    return None if found.x is None else -float(found.fun)


def brute_force_optimum(change: Floats, floor: float, share: float, most: int) -> float | None:
    best: float | None = None
    for choice in product(range(change.shape[1]), repeat=change.shape[0]):
        total = sum(change[item, column] for item, column in enumerate(choice))
        few = sum(column > 0 for column in choice) <= most
        if few and tail_mean(np.asarray(total), share) >= floor - 1e-9 and (best is None or np.mean(total) > best):
            best = float(np.mean(total))
    return best


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 10_000), floor=st.sampled_from([-30.0, -5.0, 0.0, 3.0]), most=st.sampled_from([2, 4]))
def test_cuts_agree_with_the_textbook_programme_and_with_brute_force(seed: int, floor: float, most: int) -> None:
    rng = np.random.default_rng(seed)
    factors = np.array([1.0, 0.9, 1.1, 1.2])
    posterior = posterior_from_draws(
        rng.normal(-2.0, 0.3, 4) + rng.normal(0.0, 0.7, (200, 4)),
        units=np.exp(rng.normal(3.0, 0.3, 4)), current_price=10.0, cost=rng.uniform(3.0, 6.0, 4),
    )  # fmt: skip
    change = changes_of(posterior, factors)
    best = brute_force_optimum(change, floor, 0.1, most)
    textbook = textbook_optimum(change, floor, 0.1, most)
    limits: list[Limit] = [
        PriceLadder(prices=(9.0, 11.0, 12.0)),
        MaxShortfall(amount=-floor, share=0.1),
        MaxChanges(count=most),
    ]
    if best is None:
        assert textbook is None
        with pytest.raises(Refusal, match="max_shortfall"):
            decide(posterior, *limits)
        return
    decision = decide(posterior, *limits)
    assert textbook == pytest.approx(best, abs=1e-6)
    assert decision.portfolio.objective == pytest.approx(best, abs=1e-6)
    assert decision.portfolio.upper_bound >= best - 1e-9
    assert decision.portfolio.feasible


def test_the_attainable_floor_named_in_a_refusal_can_be_attained() -> None:
    posterior = normal_posterior(6, 400, seed=21, sd=0.8)
    ladder = PriceLadder(step=1.0)
    with pytest.raises(Refusal) as refused:
        decide(posterior, ladder, MaxShortfall(amount=-1e6))
    smallest = float(refused.value.findings[0].message.rsplit(" ", 1)[1])
    loosened = smallest + 1e-4 * abs(smallest)  # the message rounds to six digits
    assert decide(posterior, ladder, MaxShortfall(amount=loosened)).portfolio.feasible


@settings(deadline=None, max_examples=10)
@given(
    gap=st.floats(-0.05, 0.05), first=st.floats(0.01, 0.1), second=st.floats(0.01, 0.1),
    correlation=st.floats(-0.9, 0.9), population=st.floats(500.0, 1e5),
)  # fmt: skip
def test_planned_sizes_earn_as_much_as_the_best_of_a_grid(
    gap: float, first: float, second: float, correlation: float, population: float
) -> None:
    arms = TwoArms(
        means=(0.5 + gap, 0.5), sds=(first, second), noise_sds=(0.5, 0.4), population=population,
        correlation=correlation,
    )  # fmt: skip
    plan = profit_maximizing_test(arms)
    sizes = np.geomspace(1.0, population / 2.5, 15)
    best = max(score_test(arms, one, two).profit for one in sizes for two in sizes)
    assert plan.profit >= max(best, plan.no_test_profit) - 1e-9 * population
    assert plan.profit <= plan.perfect_information_profit + 1e-9 * population
    assert 0.0 <= plan.error_probability <= 0.5
