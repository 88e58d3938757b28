"""Demand whose elasticity changes with price: closed forms of the best price, and engines against every draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.demand.changing import elasticity_at_price
from bayes_pricing.demand.forecast import demand_draws, predict_units
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_CURVE, DemandSpec
from bayes_pricing.errors import Refusal
from bayes_pricing.pricing.constraints import CategoryRevenueFloor, Limit, MaxChange, MaxShortfall
from bayes_pricing.pricing.contrast import flip_point
from bayes_pricing.pricing.curve import price_curve
from bayes_pricing.pricing.curved import prices_on_curve
from bayes_pricing.pricing.explanation import explain
from bayes_pricing.pricing.ladder import best_on_each_draw, choose_prices
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.outlook import Block, Outlook, build_block, item_facts
from bayes_pricing.pricing.problem import Problem, build_problem
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.risk import tail_mean
from bayes_pricing.pricing.wording import word
from server.answers import demand
from server.schemas import DemandQuestion, DemandRequest
from server.store.published import load_published
from server.store.publishing import publish_posterior
from tests.posteriors import ArrayPosterior, posterior_from_draws

Floats = NDArray[np.float64]

SPEC = DemandSpec(controls=(PRICE_CURVE,))
NAME = "item-00000"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurvedPosterior(ArrayPosterior):
    """The same draws, with a coefficient of squared log price of every item, (chain, draw, item)."""

    curve: Floats

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        plain = ArrayPosterior.coefficients(self, level, units)
        values = self.curve.mean(axis=-1, keepdims=True)
        if level == "population":
            values = values[..., 0]
        elif level == "item":
            values = self.curve[..., self._positions(units)]
        empty = xr.zeros_like(plain.isel(coefficient=[0])).assign_coords(coefficient=[PRICE_CURVE])
        return xr.concat([plain, empty + values[..., None]], dim="coefficient")

    def variation(self, level: str) -> xr.DataArray:
        plain = ArrayPosterior.variation(self, level)
        return xr.concat([plain, plain.isel(coefficient=[0]).assign_coords(coefficient=[PRICE_CURVE])], "coefficient")


def with_curve(plain: ArrayPosterior, curve: ArrayLike) -> CurvedPosterior:
    parts = {name: getattr(plain, name) for name in ArrayPosterior.__slots__}
    shape = plain.elasticity.shape
    whole = np.broadcast_to(np.asarray(curve, dtype=float), (shape[0] * shape[1], shape[2])).reshape(shape)
    return CurvedPosterior(**parts | {"spec": SPEC}, curve=whole)


def curved(elasticity: float, curve: float, cost: float | None = None) -> CurvedPosterior:
    """One item without uncertainty, seen from half to twice its price of 10."""
    return with_curve(posterior_from_draws(np.full((400, 1), elasticity), cost=cost), curve)


def uncertain(items: int = 5, *, away: float = 0.1, seed: int = 3) -> CurvedPosterior:
    """Items with joint draws of everything, today's price `away` from the usual one in logs."""
    rng = np.random.default_rng(seed)
    plain = posterior_from_draws(
        rng.normal(np.linspace(-2.6, -1.4, items), 0.3, (400, items)),
        units=np.exp(rng.normal(3.0, 0.1, (400, items))),
        cost=np.linspace(3.0, 6.0, items),
    )
    usual = plain.items.with_columns(reference_log_price=plain.items["reference_log_price"] - away)
    return with_curve(replace(plain, items=usual), rng.normal(-0.5, 0.3, (400, items)))


def units_of(posterior: CurvedPosterior, prices: Floats) -> Floats:
    """Units from the equation, (items, draws)."""
    away = np.log(prices) - posterior.items["reference_log_price"].to_numpy()
    log_units = posterior.level + posterior.elasticity * away + posterior.curve * away**2
    return np.asarray(np.exp(log_units).reshape(-1, prices.size).T)


def block_of(posterior: CurvedPosterior, objective: Objective = "profit") -> Block:
    return build_block(item_facts(posterior.items, Economics(), objective), demand_draws(posterior))


def test_revenue_peaks_where_the_elasticity_is_minus_one() -> None:
    """1 + e + 2 k x = 0 at x = (1 - 0.6) / 1.6: the peak stands inside, and no end of the prices is chosen."""
    found = prices_on_curve(curved(-1.4, -0.8), Economics(), "revenue").row(0, named=True)
    peak = 10.0 * np.exp(-0.4 / 1.6)
    assert found["price"] == pytest.approx(peak, rel=1e-4)  # a parabola's top within a grid step
    assert found["elasticity"] == pytest.approx(-1.0, abs=2e-4)
    assert not found["at_end"]
    assert found["probability_better"] == 1.0
    # log revenue changes by (1 + e) x + k x^2 = 0.05 at the peak
    assert found["change_mean"] == pytest.approx(1000.0 * np.expm1(0.05), rel=1e-6)
    decision = optimize_prices(
        curved(-1.4, -0.8), Economics(), "revenue", [MaxChange(share=0.4)], horizon_periods=1.0, seed=1, testing=None
    )
    assert decision.items[0].price == pytest.approx(peak, rel=1e-9)  # refined by Newton
    assert decision.portfolio.changes["revenue"].mean == pytest.approx(1000.0 * np.expm1(0.05), rel=1e-9)
    assert all(finding.code != "bang_bang" for finding in decision.findings)


def test_profit_meets_its_first_order_condition() -> None:
    found = prices_on_curve(curved(-1.5, -0.8, cost=4.0), Economics(), "profit").row(0, named=True)
    margin = (found["price"] - 4.0) / found["price"]
    assert margin == pytest.approx(-1.0 / found["elasticity"], abs=1e-3)
    assert not found["at_end"]


def test_without_a_curve_revenue_ends_at_the_prices_seen() -> None:
    """Constant elasticity over one in size: the lowest price, said to be an end."""
    found = prices_on_curve(posterior_from_draws(np.full((400, 1), -1.4)), Economics(), "revenue").row(0, named=True)
    assert found["price"] == pytest.approx(5.0)
    assert found["at_end"]


def test_an_unknown_cost_gives_no_price() -> None:
    assert prices_on_curve(curved(-1.5, -0.8), Economics(), "profit")["price"].to_list() == [None]


def test_units_and_elasticities_follow_the_equation() -> None:
    posterior = uncertain()
    names, prices = posterior.items["item"].to_list(), np.linspace(8.0, 13.0, 5)
    assert_allclose(demand_draws(posterior).units(prices), units_of(posterior, prices))
    predicted = predict_units(posterior, names, np.stack([prices, np.full(5, 10.0)], axis=1)).isel(price=0)
    assert_allclose(predicted.transpose("item", "chain", "draw").to_numpy().reshape(5, -1), units_of(posterior, prices))
    there = demand_draws(posterior).elasticity_at(np.log(prices / 10.0))
    said = elasticity_at_price(posterior, names, prices).transpose("item", "chain", "draw").to_numpy()
    assert_allclose(there, said.reshape(5, -1))
    near = [np.log(units_of(posterior, prices * np.exp(step))) for step in (-1e-4, 1e-4)]
    assert_allclose(there, (near[1] - near[0]) / 2e-4, atol=1e-6)


@pytest.mark.parametrize("objective", ["profit", "revenue"])
def test_measures_are_those_of_all_draws(objective: Objective) -> None:
    posterior = uncertain()
    block = block_of(posterior, objective)
    prices = np.tile(10.0 * np.exp(np.linspace(-0.5, 0.5, 9)), (5, 1))
    view = Outlook(block=block, prices=prices, geometric=True)
    today = block.facts.value.at(np.full(5, 10.0))[:, None] * units_of(posterior, np.full(5, 10.0))
    sold = np.stack([units_of(posterior, prices[:, column]) for column in range(9)], axis=1)
    change = block.facts.value.at(prices)[:, :, None] * sold - today[:, None]
    change[:, 4] = 0.0
    assert_allclose(view.expected_units, sold.mean(axis=2))
    assert_allclose(view.expected_change, change.mean(axis=2), atol=1e-9)
    assert_allclose(view.probability_worse, (change < 0).mean(axis=2))
    assert_allclose(view.shortfall(0.05), -tail_mean(change, 0.05), atol=1e-9)
    assert_allclose(view.loss_quantile(0.1), -np.quantile(change, 0.1, axis=2), atol=1e-9)
    assert (view.largest_loss >= -change.min(axis=2) - 1e-9).all()


def test_the_best_price_beats_a_fine_grid_and_knowing_demand_beats_it() -> None:
    posterior = uncertain()
    limits = _problem(posterior, MaxChange(share=0.35)).limits
    block = block_of(posterior)
    choice = choose_prices(block, limits)
    fine = Outlook(block=block, prices=np.tile(10.0 * np.linspace(0.65, 1.35, 701), (5, 1)))
    assert (choice.expected_change >= fine.expected_change.max(axis=1) - 1e-9).all()
    each = np.stack([block.change(column, block.facts.value) for column in choice.outlook.prices.T])
    each = np.concatenate([each, block.change(choice.prices, block.facts.value)[None]])
    assert_allclose(best_on_each_draw(block, choice), each.max(axis=0).mean(axis=1))


def test_a_portfolio_under_limits_is_proven_and_kept() -> None:
    """The bound is over the same money; the answer recomputed from the equation is the one reported."""
    posterior = uncertain(8)
    free = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.3)], horizon_periods=1.0, seed=2, testing=None
    )
    limits: list[Limit] = [
        MaxChange(share=0.3),
        CategoryRevenueFloor(share=1.0),
        MaxShortfall(amount=0.4 * free.portfolio.objective, share=0.2),
    ]
    decision = optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=1.0, seed=2, testing=None)
    whole = decision.portfolio
    assert whole.feasible
    assert whole.certified
    assert 0.0 <= whole.gap < 0.02
    assert whole.objective <= free.portfolio.objective
    prices, cost = decision.prices.to_numpy(), posterior.items["cost"].to_numpy()
    sold, today = units_of(posterior, prices), units_of(posterior, np.full(8, 10.0))
    change = ((prices - cost)[:, None] * sold - (10.0 - cost)[:, None] * today).sum(axis=0)
    assert whole.objective == pytest.approx(change.mean(), rel=1e-9)
    for place in range(3):  # categories of the posterior, each with its floor
        after, before = (prices[:, None] * sold)[place::3].mean(axis=1).sum(), 10.0 * today[place::3].mean(axis=1).sum()
        assert after >= before * (1.0 - 1e-6)
    path = np.linspace(0.0, 1.0, 2001)[:, None] * np.log(prices / 10.0)
    along = np.stack([10.0 * np.exp(move) * units_of(posterior, 10.0 * np.exp(move)).mean(axis=1) for move in path])
    surplus = -np.trapezoid(along * np.log(prices / 10.0), dx=1.0 / 2000, axis=0).sum()
    assert whole.consumer_surplus is not None
    assert whole.consumer_surplus.mean == pytest.approx(surplus, rel=1e-6)


def _problem(posterior: CurvedPosterior, *limits: MaxChange) -> Problem:
    return build_problem(posterior, Economics(), "profit", limits, horizon_periods=1.0)


def test_an_explanation_splits_exactly_and_says_where_its_elasticities_hold() -> None:
    posterior = uncertain()
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.3)], horizon_periods=1.0, seed=1, testing=None
    )
    explained = explain(posterior, decision, NAME)
    split, flip = explained.split, explained.flip
    assert split is not None
    assert flip is not None
    assert split.residual < 1e-9
    assert explained.elasticity.at_price == pytest.approx(10.0 * np.exp(-0.1))
    usual = posterior.elasticity[..., 0].mean()
    assert explained.elasticity.estimate.mean == pytest.approx(usual)
    chosen, cost = decision.items[0].price, 3.0
    sold, today = (units_of(posterior, np.full(5, at))[0] for at in (chosen, 10.0))
    assert split.margin.mean == pytest.approx(((chosen - 10.0) * (sold + today) / 2.0).mean())
    mean = np.log(sold / today) / np.log(chosen / 10.0)
    worse = (chosen - cost) * sold < (10.0 - cost) * today
    assert flip.equal_at is not None
    assert_allclose((mean < flip.equal_at) if chosen > 10.0 else (mean > flip.equal_at), worse)
    assert flip.equal_beyond == pytest.approx(worse.mean())
    words = word(explained, "full")
    assert "at its usual price of 9.05" in words
    assert "mean elasticity between the two prices" in words
    points = price_curve(posterior, decision, NAME)
    at = points["price"].to_numpy()
    expected = [(price - cost) * units_of(posterior, np.full(5, price))[0].mean() for price in at]
    assert_allclose(points["mean"].to_numpy(), expected)


def test_today_is_best_at_the_elasticity_of_todays_price() -> None:
    """e(10) = -10 / (10 - 4): no price near today's earns more, whatever the curve."""
    posterior = curved(-10.0 / 6.0, -0.7, cost=4.0)
    block = block_of(posterior)
    near = Outlook(block=block, prices=np.array([[9.99, 10.0, 10.01]])).expected_change[0]
    assert near.max() == near[1] == 0.0
    flip = flip_point(block, 11.0, fee=0.0)
    assert flip.today_best_at == pytest.approx(-10.0 / 6.0)


def test_draws_in_single_precision_are_joined_and_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = uncertain(7)
    monkeypatch.setattr("bayes_pricing.pricing.problem.ITEMS_FETCHED", 3)
    monkeypatch.setattr("bayes_pricing.pricing.problem.LARGEST_MEMORY_BYTES", 3 * 7 * 400 * 4)
    kept = _problem(posterior)
    assert kept.draws is not None
    assert kept.draws.elasticity.dtype == np.float32
    prices = np.linspace(8.0, 13.0, 7)
    assert_allclose(kept.fetch(slice(2, 6)).units(prices[2:6]), units_of(posterior, prices)[2:6], rtol=1e-5)
    assert_allclose(
        kept.draws_of(np.array([6, 1])).units(prices[[6, 1]]), units_of(posterior, prices)[[6, 1]], rtol=1e-5
    )


def test_a_published_model_answers_from_the_curve(tmp_path: Path) -> None:
    posterior = uncertain(3)
    model = load_published(tmp_path, publish_posterior(posterior, tmp_path, draws=400, policy={"no_tests": True}))
    prices = np.array([8.0, 10.0, 13.0])
    told = msgspec.json.decode(
        demand(model, DemandRequest(questions=[DemandQuestion(item=NAME, prices=prices.tolist())]))
    )
    means = [point["expected_units_per_period"]["mean"] for point in told["predictions"][0]["points"]]
    expected = [units_of(posterior, np.full(3, price))[0].mean() for price in prices]
    assert_allclose(means, expected, rtol=1e-4)  # draws are kept in single precision
    point = msgspec.json.decode(model.curves[0])[0]
    earned = (point["price"] - 3.0) * units_of(posterior, np.full(3, point["price"]))[0].mean()
    assert point["mean"] == pytest.approx(earned, rel=1e-4)


def test_crossing_prices_with_a_curve_are_refused_by_name() -> None:
    spec = DemandSpec(controls=(PRICE_CURVE, CROSS_PRICE), cross_prices="population", others=1)
    posterior = replace(curved(-1.5, -0.8), spec=spec)
    with pytest.raises(Refusal, match="elasticity changes with price"):
        optimize_prices(posterior, Economics(), "revenue", [], horizon_periods=1.0, seed=1)
