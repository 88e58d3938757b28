"""The nine named strategies: inside their price range, and what their names say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.strategies import (
    Blend,
    Bundle,
    CategoryLevel,
    CompetitiveIndex,
    ElasticityRule,
    Lifecycle,
    NamedPrices,
    PropensityPersonalised,
    Shelf,
    TieredSubscription,
    TimeBased,
    strategies_of_practice,
)


def shelf(period: int = 0, width: float = 3.0) -> Shelf:
    """Six items in two categories at a usual price of 4 to 9, each allowed from a third to three times of it."""
    usual = np.arange(4.0, 10.0)
    return Shelf(
        items=tuple("abcdef"),
        category=np.array([0, 0, 0, 1, 1, 1]),
        unit_cost=usual / 2,
        current_price=usual,
        usual_price=usual,
        lowest_price=usual / width,
        highest_price=usual * width,
        units_per_period=np.array([10.0, 30.0, 20.0, 3.0, 1.0, 2.0]),
        rival_price=usual + 1,
        period=period,
        age_periods=np.array([0.0, 52.0, 104.0, 0.0, 52.0, 104.0]),
        commission=0.2,
    )


def test_there_are_nine_and_each_stays_in_range() -> None:
    strategies = strategies_of_practice([-2.0, -1.1])
    assert [one.name for one in strategies] == [
        "elasticity rule",
        "competitive index",
        "lifecycle",
        "time-based",
        "bundle",
        "tiered subscription",
        "propensity-personalised",
        "category-level",
        "blend",
    ]
    narrow = shelf(width=1.02)
    for strategy in strategies:
        prices = strategy.prices(narrow)
        assert ((narrow.lowest_price <= prices) & (prices <= narrow.highest_price)).all()


def test_elasticity_rule_is_lerner_after_commission() -> None:
    given = shelf()
    assert_allclose(ElasticityRule(elasticity=-3.0).prices(given), given.unit_cost / 0.8 * 1.5)
    assert_allclose(CategoryLevel(elasticity=(-3.0, -2.0)).prices(given)[3:], given.unit_cost[3:] / 0.8 * 2.0)
    assert_allclose(ElasticityRule(elasticity=-0.9).prices(given), given.highest_price)


def test_each_does_what_its_name_says() -> None:
    given = shelf()
    usual = given.usual_price
    assert_allclose(CompetitiveIndex(index=0.9).prices(given), 0.9 * (usual + 1))
    assert_allclose(Lifecycle(swing=0.1).prices(given) / usual, [1.1, 1.0, 0.95, 1.1, 1.0, 0.95])
    assert_allclose(TimeBased(cut=0.2, every=2).prices(shelf(period=1)), 0.8 * usual)
    assert_allclose(TimeBased(cut=0.2, every=2).prices(given), usual)
    assert_allclose(Bundle(discount=0.1).prices(given) / usual, [0.9, 1.0, 1.0, 1.0, 0.9, 1.0])
    assert_allclose(TieredSubscription(tiers=1).prices(given), [5.0] * 3 + [8.0] * 3)
    rank = np.argsort(np.argsort(given.units_per_period)) / 5
    assert_allclose(PropensityPersonalised(strength=0.1).prices(given) / usual, 0.9 + 0.2 * rank)
    assert_allclose(NamedPrices(name="mine", by_item={"b": 6.0}).prices(given)[:3], [4.0, 6.0, 6.0])


def test_a_blend_is_the_weighted_geometric_mean_and_its_weights_sum_to_one() -> None:
    given = shelf()
    parts = (NamedPrices(name="today"), CompetitiveIndex())
    blend = Blend(parts=parts, weights=(0.5, 0.5))
    assert_allclose(blend.prices(given), np.sqrt(given.usual_price * (given.usual_price + 1)))
    with pytest.raises(SpecError, match="summing to 1"):
        Blend(parts=parts, weights=(0.5, 0.6))


def test_a_shelf_that_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="lowest price above"):
        shelf(width=0.5)
