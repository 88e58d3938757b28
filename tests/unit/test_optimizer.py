from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.forecast import predict_units
from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.pricing.constraints import (
    Bounds,
    Limit,
    MaxChange,
    MaxChanges,
    MaxLossProbability,
    MaxShortfall,
    MinMargin,
    MinStepIfChanged,
    PriceLadder,
    Support,
)
from bayes_pricing.pricing.decision import decision_json
from bayes_pricing.pricing.explanation import explain
from bayes_pricing.pricing.optimizer import evaluate_prices, optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.value_of_information import TestingRule, most_worth_testing
from bayes_pricing.pricing.wording import word
from tests.posteriors import normal_posterior, posterior_from_draws


def test_a_decision_recomputes_from_its_prices() -> None:
    posterior = normal_posterior(70, 500, seed=1)  # more than one block
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.15)], horizon_periods=13, seed=1, testing=None
    )
    names = posterior.names
    cost = posterior.items["cost"].to_numpy()
    today, new = posterior.items["current_price"].to_numpy(), decision.prices.to_numpy()
    before = ((today - cost) * predict_units(posterior, names, today)).sum("item")
    after = ((new - cost) * predict_units(posterior, names, new)).sum("item")
    change = decision.portfolio.change_draws.sel(metric="profit")
    np.testing.assert_allclose(change, after - before, rtol=1e-9)
    np.testing.assert_allclose(decision.portfolio.current_draws.sel(metric="profit"), before, rtol=1e-9)
    assert decision.portfolio.objective == pytest.approx(float((after - before).mean()))
    assert decision.portfolio.feasible
    assert decision.portfolio.gap == 0.0
    assert (np.abs(new / today - 1.0) <= 0.15 + 1e-9).all()


def test_an_interior_optimum_meets_its_first_order_condition() -> None:
    posterior = normal_posterior(20, 1000, seed=2, sd=0.2, unit_cost_share=0.55)
    decision = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None)
    inside = [item for item in decision.items if item.action == "change" and not item.binding]
    assert inside
    names = [item.item for item in inside]
    cost = posterior.items.filter(pl.col("item").is_in(names))["cost"].to_numpy()
    best = np.array([item.price for item in inside])
    profit = [
        ((price - cost) * predict_units(posterior, names, price)).mean(("chain", "draw")).to_numpy()
        for price in (best * np.exp(-1e-4), best, best * np.exp(1e-4))
    ]
    slope = (profit[2] - profit[0]) / 2e-4 / np.abs(profit[1])
    assert np.abs(slope).max() < 1e-5  # the difference quotient itself is right to about 1e-7


def test_ladder_agrees_with_brute_force() -> None:
    posterior = normal_posterior(10, 400, seed=3)
    decision = optimize_prices(
        posterior, Economics(), "profit", [PriceLadder(step=0.5)], horizon_periods=13, seed=1, testing=None
    )
    for item, row in zip(decision.items, posterior.items.iter_rows(named=True), strict=True):
        rungs = PriceLadder(step=0.5).rungs(row["lowest_price"], row["highest_price"])
        prices = np.append(rungs, row["current_price"])
        units = predict_units(posterior, [item.item], prices[None, :]).mean(("chain", "draw"))[0].to_numpy()
        assert item.price == pytest.approx(prices[int(((prices - row["cost"]) * units).argmax())])


def test_revenue_goes_to_an_end_of_the_box_and_says_so() -> None:
    posterior = normal_posterior(15, 400, seed=4, mean=-1.0)
    decision = optimize_prices(posterior, Economics(), "revenue", horizon_periods=13, seed=1, testing=None)
    low, high = posterior.items["lowest_price"].to_numpy(), posterior.items["highest_price"].to_numpy()
    prices = decision.prices.to_numpy()
    assert (np.isclose(prices, low) | np.isclose(prices, high)).all()
    assert [finding.code for finding in decision.findings] == ["bang_bang"]
    assert all(item.binding == ("support",) for item in decision.items)


def test_an_item_whose_price_never_moved_keeps_it() -> None:
    posterior = posterior_from_draws(np.full(400, -2.0), cost=3.0, lowest_price=10.0, highest_price=10.0)
    item = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None).items[0]
    assert (item.action, item.price, item.probability_better) == ("hold", 10.0, 0.0)
    assert [finding.code for finding in item.findings] == ["price_never_moved"]
    assert item.binding == ("support",)
    assert item.test_price is not None


def test_conflicting_limits_refuse_the_item_and_are_named() -> None:
    posterior = posterior_from_draws(np.full((400, 2), -2.0), cost=3.0, current_price=[10.0, 20.0])
    decision = optimize_prices(
        posterior, Economics(), "profit", [Bounds(lowest=14.0), MaxChange(share=0.2)], horizon_periods=13, seed=1
    )
    refused, fine = decision.items
    assert (refused.action, refused.recommended_price, refused.profit) == ("refused", None, None)
    assert "bounds and max_change" in refused.findings[0].message
    assert refused.price == 10.0
    assert fine.action != "refused"


def test_today_outside_the_bounds_must_move() -> None:
    posterior = posterior_from_draws(np.full(400, -2.0), cost=6.0)
    decision = optimize_prices(posterior, Economics(), "profit", [Bounds(highest=9.0)], horizon_periods=13, seed=1)
    item = decision.items[0]
    assert item.action == "change"
    assert item.price == pytest.approx(9.0)
    assert item.profit is not None
    assert item.profit.mean < 0


def test_unknown_costs_refuse_the_item_or_the_question() -> None:
    posterior = posterior_from_draws(np.full((400, 2), -2.0))
    decision = optimize_prices(posterior, Economics(cost={"item-00001": 4.0}), "profit", horizon_periods=13, seed=1)
    assert decision.items[0].action == "refused"
    assert decision.items[0].findings[0].code == "cost_unknown"
    assert "profit_incomplete" in [finding.code for finding in decision.findings]
    with pytest.raises(SpecError, match="No item has a cost"):
        optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1)
    revenue = optimize_prices(posterior, Economics(), "revenue", horizon_periods=13, seed=1, testing=None)
    assert all(item.profit is None for item in revenue.items)


def test_an_expectation_carried_by_few_draws_is_refused() -> None:
    rng = np.random.default_rng(5)
    wild = -1.5 + 1.5 * rng.standard_t(2, (2000, 1))
    posterior = posterior_from_draws(wild, cost=3.0, lowest_price=3.0, highest_price=30.0)
    item = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1).items[0]
    assert item.action == "refused"
    assert item.findings[0].code == "few_draws_carry_expectation"


def test_regret_is_what_knowing_the_draw_would_add() -> None:
    rng = np.random.default_rng(6)
    elasticity = rng.normal(-2.2, 0.6, (400, 1))
    posterior = posterior_from_draws(elasticity, cost=5.0, lowest_price=8.0, highest_price=12.5)
    item = optimize_prices(
        posterior, Economics(), "profit", [PriceLadder(step=0.25)], horizon_periods=13, seed=1, testing=None
    ).items[0]
    prices = np.arange(8.0, 12.51, 0.25)
    money = (prices - 5.0) * 100.0 * (prices / 10.0) ** elasticity
    chosen = (item.price - 5.0) * 100.0 * (item.price / 10.0) ** elasticity[:, 0]
    assert item.expected_regret == pytest.approx(float((money.max(axis=1) - chosen).mean()))
    assert item.regret_of_staying == pytest.approx(float((money.max(axis=1) - 500.0).mean()))


def test_a_test_comes_first_where_it_is_worth_more_than_acting() -> None:
    rng = np.random.default_rng(7)
    unsure = posterior_from_draws(rng.normal(-2.1, 0.8, (2000, 1)), units=200.0, cost=5.0, smearing=0.005)
    rule = TestingRule()
    first = optimize_prices(unsure, Economics(), "profit", horizon_periods=52, seed=1, testing=rule).items[0]
    assert first.action == "test_first"
    assert first.price == 10.0
    assert first.test_price is not None
    assert first.value_of_testing is not None
    assert first.value_of_testing > 0
    costly = TestingRule(cost=first.value_of_testing * 1.01)
    assert (
        optimize_prices(unsure, Economics(), "profit", horizon_periods=52, seed=1, testing=costly).count("change") == 1
    )
    sure = posterior_from_draws(rng.normal(-3.0, 0.1, (2000, 1)), units=200.0, cost=5.0, smearing=0.005)
    assert optimize_prices(sure, Economics(), "profit", horizon_periods=52, seed=1, testing=rule).count("change") == 1
    assert most_worth_testing(optimize_prices(unsure, Economics(), "profit", horizon_periods=52, seed=1, testing=None))[
        0
    ].value == pytest.approx(first.value_of_testing)


def test_coupling_limits_bind_and_are_priced() -> None:
    posterior = normal_posterior(30, 400, seed=8, sd=0.5)
    free = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None)
    few = optimize_prices(
        posterior, Economics(), "profit", [MaxChanges(count=10)], horizon_periods=13, seed=1, testing=None
    )
    assert free.portfolio.engine == "grid"
    assert few.portfolio.engine == "ladder programme with shortfall cuts"
    assert few.count("change") == 10
    kept = [item for item in few.items if item.action == "hold"]
    assert all("max_changes" in item.binding for item in kept)
    story = word(explain(posterior, few, kept[0].item), "full")
    assert "the portfolio's limits leave no room" in story
    assert "It is kept from its own best price by the limit of 10 changes." in story
    shadow = few.portfolio.shadow_prices[0]
    assert shadow.limit == "max_changes"
    assert shadow.looser is not None
    assert shadow.tighter is not None
    assert 0 < shadow.looser <= shadow.value * (1 + 1e-9) <= -shadow.tighter * (1 + 1e-6)
    # with one row and whole items, the best ten items by their own gain are the answer up to the ladder's grid
    gains = sorted((item.profit.mean for item in free.items if item.profit is not None), reverse=True)[:10]
    assert few.portfolio.objective == pytest.approx(sum(gains), rel=1e-9)
    assert few.portfolio.upper_bound >= few.portfolio.objective


def test_portfolio_risk_is_checked_on_draws_held_out() -> None:
    posterior = normal_posterior(25, 2000, seed=9, sd=0.8)
    loose = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None)
    assert loose.portfolio.expected_shortfall is not None
    target = loose.portfolio.expected_shortfall - 0.2 * abs(loose.portfolio.expected_shortfall)
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxShortfall(amount=target)], horizon_periods=13, seed=1, testing=None
    )
    portfolio = decision.portfolio
    assert portfolio.feasible
    assert portfolio.expected_shortfall is not None
    assert portfolio.expected_shortfall <= target + 1e-6 * abs(target)
    assert portfolio.expected_shortfall_held_out is not None
    # 1,000 held-out draws: the tail mean of 50 of them is known to about a sixth of its distance from the mean
    spread = abs(portfolio.objective + target)
    assert abs(portfolio.expected_shortfall_held_out - target) < 0.5 * spread
    missed = portfolio.expected_shortfall_held_out > target
    assert ("shortfall_held_out" in [finding.code for finding in decision.findings]) == missed
    again = optimize_prices(
        posterior, Economics(), "profit", [MaxShortfall(amount=target)], horizon_periods=13, seed=1, testing=None
    )
    np.testing.assert_array_equal(again.prices, decision.prices)


def test_unattainable_portfolio_limits_are_refused_with_the_attainable_one() -> None:
    posterior = normal_posterior(5, 400, seed=10)
    with pytest.raises(Refusal, match="smallest found is"):
        optimize_prices(posterior, Economics(), "profit", [MaxShortfall(amount=-1e9)], horizon_periods=13, seed=1)
    forced = posterior_from_draws(np.full((400, 2), -2.0), cost=6.0)
    with pytest.raises(Refusal, match="max_changes"):
        optimize_prices(
            forced, Economics(), "profit", [Bounds(highest=9.0), MaxChanges(count=1)], horizon_periods=13, seed=1
        )


def test_somebodys_own_prices_are_scored_on_the_same_footing() -> None:
    posterior = normal_posterior(12, 400, seed=11)
    limits: list[Limit] = [MaxChange(share=0.1), MinMargin(share=0.3)]
    best = optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=13, seed=1, testing=None)
    same = evaluate_prices(
        posterior, Economics(), "profit", limits,
        prices={item.item: item.price for item in best.items}, horizon_periods=13, seed=1,
    )  # fmt: skip
    assert same.portfolio.objective == pytest.approx(best.portfolio.objective, rel=1e-12)
    assert same.portfolio.gap == 0.0
    assert same.portfolio.feasible
    price = float(posterior.items["current_price"][0])
    wild = evaluate_prices(
        posterior, Economics(), "profit", limits, prices={"item-00000": price * 1.2}, horizon_periods=13, seed=1
    )
    assert not wild.portfolio.feasible
    assert dict(wild.portfolio.residuals)["max_change"] == 1.0
    assert wild.items[0].findings[0].code == "breaks_limit"
    assert wild.items[1].action == "hold"
    with pytest.raises(SpecError, match="no item 'nobody'"):
        evaluate_prices(posterior, Economics(), "profit", prices={"nobody": 1.0}, horizon_periods=13, seed=1)
    with pytest.raises(SpecError, match="positive"):
        evaluate_prices(posterior, Economics(), "profit", prices={"item-00000": 0.0}, horizon_periods=13, seed=1)


def test_json_has_the_products_shape() -> None:
    posterior = normal_posterior(6, 400, seed=12)
    decision = optimize_prices(
        posterior,
        Economics(currency="EUR"),
        "profit",
        [MaxLossProbability(probability=0.2)],
        horizon_periods=13,
        seed=1,
    )
    plain = json.loads(json.dumps(decision_json(decision), allow_nan=False))
    assert {"item", "action", "current_price", "recommended_price", "revenue", "profit", "units", "probability_better",
            "expected_regret", "binding"} <= set(plain["items"][0])  # fmt: skip
    assert set(plain["items"][0]["revenue"]) == {"mean", "lower", "upper", "probability"}
    assert {"objective", "upper_bound", "gap", "expected_shortfall", "shadow_prices", "engine", "feasible"} <= set(
        plain["portfolio"]
    )
    assert plain["items"][0]["revenue"]["probability"] == 0.9
    assert (plain["data_as_of"], plain["stale_on"]) == (52, 65)


def test_the_decision_goes_stale_after_its_horizon() -> None:
    base = normal_posterior(3, 400, seed=13)
    dated = base.items.with_columns(
        first_period=pl.lit(date(2026, 1, 5)), last_period=pl.lit(date(2026, 12, 28)), rows=pl.lit(52)
    )
    decision = optimize_prices(replace(base, items=dated), Economics(), "profit", horizon_periods=4, seed=1)
    assert decision.data_as_of == date(2026, 12, 28)
    assert decision.stale_on == date(2027, 1, 25)


def test_a_smallest_step_is_a_dead_band() -> None:
    posterior = posterior_from_draws(np.full(400, -2.45), cost=5.75)  # best price 9.716
    free = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None).items[0]
    held = optimize_prices(
        posterior, Economics(), "profit", [MinStepIfChanged(share=0.08)], horizon_periods=13, seed=1, testing=None
    ).items[0]
    assert free.price == pytest.approx(5.75 * 2.45 / 1.45)
    assert (held.action, held.binding) == ("hold", ("min_step",))


def test_prices_outside_the_data_need_leave() -> None:
    posterior = posterior_from_draws(np.full(400, -1.5), cost=5.0, lowest_price=9.0, highest_price=11.0)
    kept = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None).items[0]
    let = optimize_prices(
        posterior, Economics(), "profit", [Support(extend=0.1)], horizon_periods=13, seed=1, testing=None
    ).items[0]
    assert kept.price == pytest.approx(11.0)
    assert kept.support == "edge"
    assert let.price == pytest.approx(12.1)
    assert let.support == "extrapolation"
    assert [finding.code for finding in let.findings] == ["extrapolation"]
    assert not kept.findings


def test_unknown_questions_are_refused() -> None:
    posterior = normal_posterior(3, 100, seed=14)
    with pytest.raises(SpecError, match="horizon_periods"):
        optimize_prices(posterior, Economics(), "profit", horizon_periods=0, seed=1)
    with pytest.raises(SpecError, match="at least 400 draws"):
        optimize_prices(posterior, Economics(), "profit", [MaxShortfall(amount=0.0)], horizon_periods=1, seed=1)
    with pytest.raises(SpecError, match="has no item 'x'"):
        optimize_prices(posterior, Economics(), "profit", horizon_periods=1, seed=1).item("x")
