from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.constraints import (
    Bounds,
    Capacity,
    Limit,
    MaxChange,
    MaxChanges,
    MaxItemShortfall,
    MaxLossProbability,
    MaxShortfall,
    MinMargin,
    MinStepIfChanged,
    MinVolume,
    PriceLadder,
    Support,
    sort_limits,
)
from bayes_pricing.pricing.outlook import Outlook, build_block, item_facts
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import posterior_from_draws

PRICES = [8.0, 9.0, 9.9, 10.0, 10.1, 11.0, 12.0]


def outlook() -> Outlook:
    """One item at 10, observed from 9 to 11, cost 5, elasticity -2 or -1.2 in equal parts, 100 units."""
    elasticity = np.tile([-2.0, -1.2], 200)
    posterior = posterior_from_draws(elasticity, lowest_price=9.0, highest_price=11.0)
    facts = item_facts(posterior.items, Economics(cost=5.0), "profit")
    return Outlook(block=build_block(facts, demand_draws(posterior)), prices=np.array([PRICES]))


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [
        (Bounds(lowest=9.0, highest={"item-00000": 11.0}), [0, 1, 1, 1, 1, 1, 0]),
        (Bounds(highest={"another": 1.0}), [1] * 7),
        (MaxChange(share=0.1), [0, 1, 1, 1, 1, 1, 0]),
        (Support(), [0, 1, 1, 1, 1, 1, 0]),
        (Support(extend=0.1), [0, 1, 1, 1, 1, 1, 1]),
        (MinMargin(share=0.5), [0, 0, 0, 1, 1, 1, 1]),
        (MinStepIfChanged(share=0.05), [1, 1, 0, 1, 0, 1, 1]),
        (MinVolume(units=100.0), [1, 1, 1, 1, 0, 0, 0]),
        (Capacity(units={"item-00000": 100.0}), [0, 0, 0, 1, 1, 1, 1]),
        (MaxLossProbability(probability=0.4), [0, 0, 0, 1, 0, 0, 0]),
        (MaxLossProbability(probability=0.5), [0, 0, 0, 1, 1, 1, 1]),
        (MaxItemShortfall(amount=0.0), [0, 0, 0, 1, 0, 0, 0]),
        (MaxItemShortfall(amount=1e6), [1] * 7),
    ],
)
def test_masks(limit: Limit, allowed: list[int]) -> None:
    sorted_limit = next(item for item in sort_limits([limit]).item if item.name == limit.name)
    assert sorted_limit.allows(outlook())[0].astype(int).tolist() == allowed


def test_losses_are_what_the_draws_say() -> None:
    view = outlook()
    change = np.stack([view.block.change(np.array([price]), view.facts.value)[0] for price in PRICES])
    np.testing.assert_allclose(view.probability_worse[0], (change < 0).mean(axis=1))
    np.testing.assert_allclose(view.expected_change[0], change.mean(axis=1), atol=1e-9)
    assert view.expected_change[0, 3] == 0.0
    assert view.shortfall(0.05)[0, 3] == 0.0


def test_probability_of_loss_where_units_lose_money() -> None:
    posterior = posterior_from_draws(np.linspace(-3.0, 1.0, 400), lowest_price=2.0, highest_price=30.0)
    for cost in (9.5, 10.0, 12.0):  # today's unit earns, breaks even, loses
        facts = item_facts(posterior.items, Economics(cost=cost), "profit")
        view = Outlook(
            block=build_block(facts, demand_draws(posterior)), prices=np.array([[8.0, 9.7, 10.0, 11.0, 13.0]])
        )
        change = np.stack([view.block.change(price, facts.value)[0] for price in view.prices.T])
        np.testing.assert_allclose(view.probability_worse[0], (change < 0).mean(axis=1))


def test_every_limit_moves_looser_and_tighter() -> None:
    view = outlook()
    limits = (
        Bounds(lowest=9.05, highest=10.95), MaxChange(share=0.095), Support(), MinMargin(share=0.45),
        MinVolume(units=95.0), Capacity(units=105.0), MaxLossProbability(probability=0.49),
        MaxItemShortfall(amount=2.0),
        MinStepIfChanged(share=0.03),
    )  # fmt: skip
    for limit in limits:
        looser, here, tighter = (limit.moved(steps).allows(view) for steps in (10.0, 0.0, -10.0))
        assert (looser | ~here).all(), limit
        assert (here | ~tighter).all(), limit


def test_ladders() -> None:
    assert PriceLadder(step=0.5).rungs(9.1, 10.6).tolist() == [9.5, 10.0, 10.5]
    assert PriceLadder(endings=(0.49, 0.99)).rungs(9.0, 10.5).tolist() == [9.49, 9.99, 10.49]
    assert PriceLadder(prices=(12.0, 9.0, 10.0)).rungs(9.0, 11.0).tolist() == [9.0, 10.0]
    with pytest.raises(SpecError, match="2,000 rungs"):
        PriceLadder(step=0.001).rungs(1.0, 100.0)


def test_support_is_added_and_kinds_are_given_once() -> None:
    limits = sort_limits([MaxShortfall(amount=10.0), MaxChanges(count=3), PriceLadder(step=1.0)])
    assert [limit.name for limit in limits.item] == ["support"]
    assert limits.couples
    assert sort_limits([Support(extend=0.05)]).item == (Support(extend=0.05),)
    with pytest.raises(SpecError, match="'max_change' is given 2 times"):
        sort_limits([MaxChange(share=0.1), MaxChange(share=0.2)])


@pytest.mark.parametrize(
    "build",
    [
        lambda: Bounds(),
        lambda: Bounds(lowest=-1.0),
        lambda: MaxChange(share=1.0),
        lambda: MaxChange(share=float("nan")),
        lambda: Support(extend=1.5),
        lambda: MinMargin(share=1.0),
        lambda: MinStepIfChanged(share=-0.1),
        lambda: MinVolume(units=-1.0),
        lambda: Capacity(units=-1.0),
        lambda: MaxLossProbability(probability=1.1),
        lambda: MaxItemShortfall(amount=1.0, share=0.0),
        lambda: PriceLadder(),
        lambda: PriceLadder(step=1.0, prices=(1.0,)),
        lambda: MaxShortfall(amount=float("inf")),
        lambda: MaxChanges(count=-1),
    ],
)
def test_impossible_limits_are_refused(build: Callable[[], Limit]) -> None:
    with pytest.raises(SpecError):
        build()
