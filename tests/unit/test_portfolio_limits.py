from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.pricing.constraints import (
    BasketPrice,
    CategoryRevenueFloor,
    CategoryVolumeFloor,
    Limit,
    MaxAverageMove,
    MaxChange,
    MaxChanges,
    MaxItemLossQuantile,
    MaxLossQuantile,
    MaxShortfall,
    PriceLadder,
    SamePrice,
    Support,
    TierOrder,
    sort_limits,
)
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.functionals import ExponentialUtility
from bayes_pricing.pricing.optimizer import evaluate_prices, optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.welfare import surplus_change
from tests.posteriors import ArrayPosterior, normal_posterior, posterior_from_draws

POSTERIOR = normal_posterior(12, 400, seed=2, sd=0.5)


def decide(
    *limits: Limit, posterior: ArrayPosterior = POSTERIOR, utility: ExponentialUtility | None = None
) -> PriceDecision:
    return optimize_prices(
        posterior, Economics(), "profit", limits, horizon_periods=13, seed=1, testing=None, utility=utility
    )


def test_average_move_holds_and_is_priced() -> None:
    decision = decide(MaxAverageMove(share=0.03))
    today = POSTERIOR.items["current_price"].to_numpy()
    assert np.abs(decision.prices.to_numpy() / today - 1.0).mean() <= 0.03 + 1e-9
    shadow = {price.limit: price for price in decision.portfolio.shadow_prices}["max_average_move"]
    assert shadow.looser is not None
    assert 0 < shadow.looser <= shadow.value * (1.0 + 1e-9)  # the objective is concave in the limit
    assert decision.portfolio.upper_bound >= decision.portfolio.objective
    assert decide(MaxAverageMove(share=0.06)).portfolio.objective > decision.portfolio.objective


def test_the_price_of_the_basket_stays_where_it_should() -> None:
    decision = decide(BasketPrice(lowest=0.0, highest=0.002))
    units = np.exp(POSTERIOR.level).mean(axis=(0, 1))
    today = POSTERIOR.items["current_price"].to_numpy()
    index = float(units @ decision.prices.to_numpy() / (units @ today)) - 1.0
    assert -1e-9 <= index <= 0.002 + 1e-9
    assert decision.portfolio.feasible


def test_category_floors_hold_in_expectation() -> None:
    def sold(decision: PriceDecision) -> float:
        """Volume of one category as a share of today's."""
        names = POSTERIOR.items.filter(pl.col("category") == "category-2")["item"].to_list()
        change = sum(estimate.mean for name in names if (estimate := decision.item(name).units) is not None)
        return 1.0 + change / float(np.exp(POSTERIOR.level).mean(axis=(0, 1))[[int(name[5:]) for name in names]].sum())

    free = decide()
    wanted = 1.05 * sold(free)
    floored = decide(CategoryVolumeFloor(share={"category-2": wanted}))
    assert sold(floored) >= wanted * (1.0 - 1e-6)
    assert floored.portfolio.objective < free.portfolio.objective
    assert [price.limit for price in floored.portfolio.shadow_prices] == ["category_volume_floor"]
    only = decide(CategoryRevenueFloor(share={"category-0": 1.05}))
    assert only.portfolio.feasible
    with pytest.raises(SpecError, match="unknown category 'shoes'"):
        decide(CategoryRevenueFloor(share={"shoes": 1.0}))
    with pytest.raises(SpecError, match="no level 'brand'"):
        decide(CategoryRevenueFloor(share=1.0, level="brand"))


def test_tiers_rise_and_groups_share_one_price() -> None:
    order = TierOrder(tiers=(("item-00000", "item-00001", "item-00002"),), step=0.05)
    posterior = normal_posterior(6, 400, seed=4)
    same = SamePrice(groups=(("item-00003", "item-00004"),))
    wide = Support(extend=1.0)
    decision = decide(order, same, wide, posterior=posterior)
    low, middle, high, first, second = (decision.item(f"item-0000{number}").price for number in range(5))
    assert middle >= low * 1.05 * (1.0 - 1e-6)
    assert high >= middle * 1.05 * (1.0 - 1e-6)
    assert first == pytest.approx(second, rel=1e-9)
    assert decision.portfolio.feasible
    assert decision.portfolio.upper_bound >= decision.portfolio.objective
    broken = evaluate_prices(
        posterior, Economics(), "profit", [order, same, wide],
        prices={"item-00000": high * 1.5, "item-00003": first * 1.1, "item-00004": first}, horizon_periods=13, seed=1,
    )  # fmt: skip
    residuals = dict(broken.portfolio.residuals)
    assert residuals["tier_order"] >= 1.0
    assert residuals["same_price"] == 1.0
    assert not broken.portfolio.feasible


def test_chains_and_groups_agree_with_brute_force() -> None:
    rng = np.random.default_rng(6)
    posterior = posterior_from_draws(
        rng.normal(-2.2, 0.4, 3) + rng.normal(0.0, 0.4, (400, 3)), units=[30.0, 20.0, 25.0],
        current_price=[10.0, 10.0, 12.0], cost=[7.0, 4.0, 5.0],
    )  # fmt: skip
    rungs = (9.0, 10.0, 11.0, 12.0)
    ladder = PriceLadder(prices=rungs)
    elasticity, units = posterior.elasticity.reshape(-1, 3), np.exp(posterior.level.reshape(-1, 3))
    today, cost = np.array([10.0, 10.0, 12.0]), np.array([7.0, 4.0, 5.0])

    def worth(prices: tuple[float, ...]) -> float:
        new = np.array(prices)
        sold = units * (new / today) ** elasticity
        return float(((new - cost) * sold - (today - cost) * units).sum(axis=1).mean())

    every = [(a, b, c) for a in rungs for b in rungs for c in rungs]
    ordered = max(worth(prices) for prices in every if prices[0] <= prices[1] <= prices[2])
    together = max(worth(prices) for prices in every if prices[0] == prices[1])
    order = TierOrder(tiers=(("item-00000", "item-00001", "item-00002"),))
    same = SamePrice(groups=(("item-00000", "item-00001"),))
    assert decide(ladder, order, posterior=posterior).portfolio.objective == pytest.approx(ordered, rel=1e-9)
    assert decide(ladder, same, posterior=posterior).portfolio.objective == pytest.approx(together, rel=1e-9)


def test_probability_of_a_loss_of_the_portfolio() -> None:
    posterior = normal_posterior(6, 400, seed=9, sd=1.2)
    free = decide(posterior=posterior)
    worse = float((free.portfolio.change_draws.sel(metric="profit") < 0).mean())
    limited = decide(MaxLossQuantile(probability=0.5 * worse), posterior=posterior)
    assert float((limited.portfolio.change_draws.sel(metric="profit") < 0).mean()) <= 0.5 * worse
    assert limited.portfolio.feasible
    assert 0.0 <= limited.portfolio.objective <= free.portfolio.objective
    assert free.portfolio.objective <= limited.portfolio.upper_bound * (1.0 + 1e-6)  # the bound leaves the limit out
    assert not limited.portfolio.certified


def test_worst_case_quantile_of_an_item() -> None:
    posterior = posterior_from_draws(np.random.default_rng(3).normal(-2.2, 0.6, (400, 1)), cost=5.0)
    free = decide(posterior=posterior)
    change = free.portfolio.change_draws.sel(metric="profit").to_numpy().ravel()
    loss = -float(np.quantile(change, 0.05))
    limited = decide(MaxItemLossQuantile(amount=loss / 2.0), posterior=posterior)
    change = limited.portfolio.change_draws.sel(metric="profit").to_numpy().ravel()
    assert -float(np.quantile(change, 0.05)) <= loss / 2.0 * (1.0 + 1e-9)
    assert limited.items[0].binding == ("max_item_loss_quantile",)


def test_utility_trades_gain_for_safety_and_is_bounded() -> None:
    averse = decide(utility=ExponentialUtility(tolerance=20.0))
    neutral, free = decide(utility=ExponentialUtility(tolerance=1e9)), decide()
    # a huge tolerance is the mean, up to its curvature: variance / (2 tolerance)
    assert neutral.portfolio.objective == pytest.approx(free.portfolio.objective, rel=1e-5)
    change = averse.portfolio.change_draws.sel(metric="profit").to_numpy().ravel()
    certain = -20.0 * np.log(np.exp(-change / 20.0).mean())
    assert averse.portfolio.objective == pytest.approx(certain, rel=1e-9)
    plain = free.portfolio.change_draws.sel(metric="profit").to_numpy().ravel()
    assert certain > -20.0 * np.log(np.exp(-plain / 20.0).mean())
    assert change.mean() < plain.mean()
    assert 0.0 <= averse.portfolio.gap < 1e-3


def test_conflicts_name_the_limits_and_what_can_be_reached() -> None:
    with pytest.raises(Refusal) as refused:
        decide(MaxChanges(count=1), BasketPrice(lowest=0.1), MaxAverageMove(share=0.5))
    messages = [finding.message for finding in refused.value.findings]
    assert any("the number of changes to 1 while basket_price holds" in message for message in messages)
    assert not any("max_average_move" in message for message in messages)  # it takes no part in the conflict
    reached = float(next(message for message in messages if "basket's price" in message).rsplit(" ", 1)[1])
    assert decide(MaxChanges(count=1), BasketPrice(lowest=reached - 1e-5)).portfolio.feasible
    crossed = TierOrder(tiers=(("item-00000", "item-00001"),), step=5.0)
    with pytest.raises(Refusal, match="order of the tiers"):
        decide(crossed)
    with pytest.raises(SpecError, match="names 'nobody'"):
        decide(TierOrder(tiers=(("nobody", "item-00001"),)))


def test_decomposition_reaches_the_linear_programmes_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = normal_posterior(40, 400, seed=8, sd=0.6)
    free = decide(posterior=posterior).portfolio.expected_shortfall
    assert free is not None
    limits = (MaxShortfall(amount=free - 0.2 * abs(free)), MaxChanges(count=30), CategoryRevenueFloor(share=1.0))
    whole = decide(*limits, posterior=posterior).portfolio
    monkeypatch.setattr("bayes_pricing.pricing.relaxing.DECOMPOSED_FROM", 10)
    monkeypatch.setattr("bayes_pricing.pricing.coupled.DECOMPOSED_FROM", 10)
    parts = decide(*limits, posterior=posterior).portfolio
    assert (whole.engine, parts.engine) == (
        "ladder programme with shortfall cuts", "decomposition with shortfall cuts",
    )  # fmt: skip
    # both solve the same relaxed programme, one to 1e-7, the other to 2e-5 of the tail
    assert parts.upper_bound == pytest.approx(whole.upper_bound, rel=1e-4)
    assert parts.objective == pytest.approx(whole.objective, rel=2e-3)
    assert parts.feasible
    assert {price.limit for price in parts.shadow_prices} == {price.limit for price in whole.shadow_prices}


def test_limits_say_how_they_are_enforced() -> None:
    limits = sort_limits([MaxAverageMove(share=0.1), TierOrder(tiers=(("a", "b"),)), MaxLossQuantile(probability=0.1)])
    assert {limit.name: limit.enforced for limit in limits.every} == {
        "support": "mask", "max_average_move": "coupling row", "tier_order": "chain",
        "max_loss_quantile": "coupling row",
    }  # fmt: skip
    assert [limit.name for limit in limits.without("tier_order").portfolio] == ["max_loss_quantile", "max_average_move"]


def test_consumer_surplus_is_the_area_under_the_curve() -> None:
    prices = np.linspace(10.0, 12.0, 200_001)
    area = np.trapezoid(100.0 * (prices / 10.0) ** -2.3, prices)
    assert surplus_change(100.0, 10.0, -2.3, 12.0) == pytest.approx(-area, rel=1e-9)  # trapezoids: (h^2) 1e-10
    assert surplus_change(100.0, 10.0, -1.0 + 1e-12, 12.0) == pytest.approx(-1000.0 * np.log(1.2))
    cut = decide(MaxChange(share=0.1)).portfolio.consumer_surplus
    assert cut is not None
    assert cut.lower <= cut.mean <= cut.upper


@pytest.mark.parametrize(
    "build",
    [
        lambda: MaxAverageMove(share=-0.1),
        lambda: BasketPrice(),
        lambda: BasketPrice(lowest=0.1, highest=0.0),
        lambda: CategoryRevenueFloor(share=-1.0),
        lambda: CategoryVolumeFloor(share={"tea": float("nan")}),
        lambda: TierOrder(tiers=(("a",),)),
        lambda: TierOrder(tiers=(("a", "b"), ("b", "c"))),
        lambda: SamePrice(groups=()),
        lambda: MaxLossQuantile(probability=0.0),
        lambda: MaxItemLossQuantile(amount=1.0, probability=1.0),
        lambda: ExponentialUtility(tolerance=0.0),
    ],
)
def test_impossible_limits_are_refused(build: Callable[[], Limit]) -> None:
    with pytest.raises(SpecError):
        build()
