"""Where prices cross: every limit against brute force over a ladder, conflicts, certificates, and given prices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bayes_pricing.errors import Refusal
from bayes_pricing.pricing.constraints import (
    BasketPrice,
    Capacity,
    CategoryRevenueFloor,
    CategoryVolumeFloor,
    Limit,
    MaxAverageMove,
    MaxChange,
    MaxChanges,
    MaxItemLossQuantile,
    MaxItemShortfall,
    MaxLossProbability,
    MaxLossQuantile,
    MaxShortfall,
    MinStepIfChanged,
    MinVolume,
    PriceLadder,
    SamePrice,
    TierOrder,
)
from bayes_pricing.pricing.optimizer import evaluate_prices, optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.risk import tail_mean
from tests.crossing import crossed_posterior

Floats = NDArray[np.float64]

DRAWS, COST, RUNGS = 400, 5.5, np.arange(8.5, 11.51, 0.5)
LADDER: list[Limit] = [PriceLadder(step=0.5), MaxChange(share=0.15)]


def matrix(items: int, *, seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    elasticity = rng.uniform(0.0, 0.5, (items, items)) + rng.normal(0.0, 0.05, (DRAWS, items, items))
    elasticity[:, np.arange(items), np.arange(items)] = rng.normal(-2.6, 0.3, (DRAWS, items))
    return elasticity


ELASTICITY = matrix(3, seed=8)
POSTERIOR = crossed_posterior(ELASTICITY, cost=COST)
NAMES = POSTERIOR.base.names


def decide(limits: Sequence[Limit], posterior: Any = POSTERIOR) -> Any:
    return optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=13, seed=1)


def worth(prices: Floats, cost: float = COST) -> tuple[Floats, Floats]:
    """Units (S, J) and change of profit (S, J) at prices, written out once more."""
    units = 100.0 * np.exp(ELASTICITY @ np.log(prices / 10.0))
    return units, units * (prices - cost) - 100.0 * (10.0 - cost)


def moved(prices: Floats) -> Floats:
    return np.asarray(np.abs(prices / 10.0 - 1.0))


RULES: list[tuple[list[Limit], Callable[..., Any]]] = [
    ([MaxChanges(count=1)], lambda p, q, d: (moved(p) > 0).sum() <= 1),
    ([MaxAverageMove(share=0.06)], lambda p, q, d: moved(p).mean() <= 0.06 + 1e-9),
    ([BasketPrice(highest=0.0)], lambda p, q, d: p.mean() <= 10.0 + 1e-9),
    ([CategoryVolumeFloor(share=0.98, level="category")],
     lambda p, q, d: (q.mean(axis=0) >= 98.0 - 1e-6).all()),
    ([CategoryRevenueFloor(share=0.97, level="category")],
     lambda p, q, d: (q.mean(axis=0) * p >= 970.0 - 1e-6).all()),
    ([MinVolume(units=90.0), Capacity(units=112.0)],
     lambda p, q, d: bool((q.mean(axis=0) >= 90.0 - 1e-6).all() and (q.mean(axis=0) <= 112.0 + 1e-6).all())),
    ([MaxLossProbability(probability=0.3)], lambda p, q, d: ((d < -1e-6).mean(axis=0) <= 0.3 + 1e-9).all()),
    ([MaxItemShortfall(amount=40.0)], lambda p, q, d: (-tail_mean(d.T, 0.05) <= 40.0 + 1e-4).all()),
    ([MaxItemLossQuantile(amount=30.0)], lambda p, q, d: (-np.quantile(d, 0.05, axis=0) <= 30.0 + 1e-4).all()),
    ([MaxLossQuantile(probability=0.1)], lambda p, q, d: (d.sum(axis=1) < -1e-4).mean() <= 0.1),
    ([MaxChanges(count=2), MaxShortfall(amount=10.0)],
     lambda p, q, d: bool((moved(p) > 0).sum() <= 2 and -tail_mean(d.sum(axis=1), 0.05) <= 10.0 + 1e-4)),
    ([TierOrder(tiers=((NAMES[2], NAMES[0], NAMES[1]),), step=0.04)],
     lambda p, q, d: bool(p[0] >= 1.04 * p[2] - 1e-9 and p[1] >= 1.04 * p[0] - 1e-9)),
    ([SamePrice(groups=((NAMES[0], NAMES[2]),))], lambda p, q, d: p[0] == p[2]),
    ([MinStepIfChanged(share=0.08)], lambda p, q, d: ((moved(p) == 0) | (moved(p) >= 0.08 - 1e-9)).all()),
]  # fmt: skip
"""Limits, and whether prices (J,), units (S, J) and changes of profit (S, J) keep them. Every item here has a category
of its own, which is not the level at which prices cross."""


@pytest.mark.parametrize(("limits", "keeps"), RULES, ids=lambda part: part[0].name if isinstance(part, list) else "")
def test_searched_prices_are_the_best_of_all_on_a_ladder(limits: list[Limit], keeps: Callable[..., Any]) -> None:
    best = -np.inf
    for trial in product(RUNGS, repeat=3):
        prices = np.array(trial)
        units, change = worth(prices)
        if keeps(prices, units, change):
            best = max(best, float(change.sum(axis=1).mean()))
    decision = decide([*LADDER, *limits])
    prices = decision.prices.to_numpy()
    units, change = worth(prices)
    assert keeps(prices, units, change)
    assert decision.portfolio.feasible
    assert decision.portfolio.objective == pytest.approx(change.sum(axis=1).mean(), rel=1e-9)
    assert decision.portfolio.objective == pytest.approx(best, rel=1e-9)  # 343 prices, all tried
    assert decision.portfolio.upper_bound >= best


def test_limits_hold_between_rungs_and_a_tighter_one_earns_no_more() -> None:
    free = decide([MaxChange(share=0.15)]).portfolio.objective
    reached = []
    for share in (0.06, 0.04, 0.02):
        decision = decide([MaxChange(share=0.15), MaxAverageMove(share=share)])
        assert decision.portfolio.feasible
        assert moved(decision.prices.to_numpy()).mean() == pytest.approx(share, rel=0.02)  # it binds
        assert "max_average_move" in {name for item in decision.items for name in item.binding}
        (shadow,) = decision.portfolio.shadow_prices
        assert shadow.looser > 0 > shadow.tighter
        reached.append(decision.portfolio.objective)
    assert free > reached[0] > reached[1] > reached[2] > 0.0


def test_today_keeps_every_limit_on_losses() -> None:
    decision = decide(
        [*LADDER, MaxLossProbability(probability=0.0), MaxItemShortfall(amount=0.0), MaxLossQuantile(probability=0.01),
         MaxShortfall(amount=0.0), MaxChanges(count=0), MaxAverageMove(share=0.0)]
    )  # fmt: skip
    assert decision.prices.to_numpy().tolist() == [10.0, 10.0, 10.0]
    assert decision.portfolio.feasible
    assert decision.portfolio.objective == 0.0
    assert decision.portfolio.consumer_surplus.mean == 0.0


def test_conflicts_are_named_with_what_can_be_had() -> None:
    with pytest.raises(Refusal) as refused:
        decide([*LADDER, MaxChanges(count=1), MinVolume(units={NAMES[0]: 160.0}), MaxLossProbability(probability=1.0)])
    (finding,) = [one for one in refused.value.findings if "units" in one.message]
    prices = [np.array(trial) for trial in product(RUNGS, repeat=3)]
    reach = {1: [p for p in prices if (moved(p) > 0).sum() <= 1], 3: prices}
    most, beside = (max(float(worth(p)[0].mean(axis=0)[0]) for p in reach[count]) for count in (1, 3))
    assert most < 160.0 < beside
    named = float(finding.message.rsplit(" ", 1)[1])
    assert named == pytest.approx(most, rel=1e-5)
    assert "max_loss_probability" not in finding.message
    assert finding.remedy == f"set min_volume to {named:.6g}, or relax another limit"
    with pytest.raises(Refusal, match="no allowed price is common to"):
        decide([PriceLadder(prices=(9.0,)), MaxChange(share=0.02), SamePrice(groups=((NAMES[0], NAMES[1]),))],
               crossed_posterior(ELASTICITY, cost=COST, current_price=[10.0, 11.0, 10.0]))  # fmt: skip


def test_given_prices_are_told_what_they_break() -> None:
    limits = [*LADDER, MaxChanges(count=1), MinVolume(units={NAMES[0]: 95.0}), MinStepIfChanged(share=0.02)]
    best = decide(limits)
    own = {NAMES[0]: 11.0, NAMES[1]: 10.1}
    given = evaluate_prices(POSTERIOR, Economics(), "profit", limits, prices=own, horizon_periods=13, seed=1)
    _, change = worth(np.array([11.0, 10.1, 10.0]))
    assert given.portfolio.objective == pytest.approx(change.sum(axis=1).mean(), rel=1e-9)
    assert given.portfolio.upper_bound == best.portfolio.upper_bound
    assert not given.portfolio.feasible
    residuals = dict(given.portfolio.residuals)
    assert {name: residuals[name] for name in ("max_changes", "min_volume", "min_step", "ladder")} == {
        "max_changes": 1.0, "min_volume": 1.0, "min_step": 1.0, "ladder": 1.0,
    }  # fmt: skip
    said = [item.findings[0].message if item.findings else "" for item in given.items]
    assert said == [f"the price given for {NAMES[0]!r} breaks min_volume",
                    f"the price given for {NAMES[1]!r} breaks min_step and ladder", ""]  # fmt: skip
    impossible = [*LADDER, MinVolume(units={NAMES[0]: 500.0})]
    scored = evaluate_prices(POSTERIOR, Economics(), "profit", impossible, prices=own, horizon_periods=13, seed=1)
    assert "no joint prices were found" in scored.findings[0].message
    assert scored.portfolio.objective == pytest.approx(change.sum(axis=1).mean(), rel=1e-9)


def test_surplus_of_joint_prices_is_the_integral_along_the_way() -> None:
    decision = decide([*LADDER, MaxChanges(count=2)])
    prices = decision.prices.to_numpy()
    total = np.log(prices / 10.0)
    steps = (np.arange(2000) + 0.5) / 2000
    sums = [
        (100.0 * np.exp(ELASTICITY @ (step * total))).mean(axis=0) @ (10.0 * np.exp(step * total) * total)
        for step in steps
    ]
    expected = -float(np.mean(sums))  # midpoint sums are right to about 1e-7
    assert decision.portfolio.consumer_surplus.mean == pytest.approx(expected, rel=1e-5)


def test_a_floor_out_of_reach_names_what_the_ladder_attains() -> None:
    dear, cost = crossed_posterior(ELASTICITY, cost=7.5), 7.5  # thin margins: to raise prices is safe
    best = max(
        float(tail_mean(worth(np.array(trial), cost)[1].sum(axis=1), 0.05)) for trial in product(RUNGS, repeat=3)
    )
    kept = decide([*LADDER, MaxShortfall(amount=-best + 1e-6)], dear)
    assert best > 10.0
    assert kept.portfolio.expected_shortfall == pytest.approx(-best, abs=1e-5)
    with pytest.raises(Refusal, match=f"the smallest found is {-best:.6g}"):
        decide([*LADDER, MaxShortfall(amount=-best - 1.0)], dear)
