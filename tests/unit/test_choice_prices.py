"""Best prices where people choose: the closed form, people who differ, rivals who stand still, a tested offer."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.choice import ChoicePosterior
from bayes_pricing.demand.choice_data import build_choices
from bayes_pricing.demand.choice_elasticity import market_shares, typical_market
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.purchase import PurchasePosterior
from bayes_pricing.demand.purchase_data import build_purchases
from bayes_pricing.demand.shares import SharePosterior
from bayes_pricing.demand.shares_data import build_shares
from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.pricing.choice_prices import best_choice_prices, best_offer_price
from bayes_pricing.pricing.constraints import MaxChange, MaxShortfall, MinVolume
from bayes_pricing.pricing.profit import Economics

UNCHECKED = Diagnostics(checks=(), max_rhat=1.0, min_ess_bulk=1e3, min_ess_tail=1e3, divergences=0)
COST = Economics(cost={"a": 3.0, "b": 2.0, "c": 1.0})


def shares(constants: list[float], price: float, draws: int = 2) -> SharePosterior:
    """Equal draws of a logit with these utilities at price zero; prices from 1 to 11, 6 on average."""
    rows = pl.DataFrame(
        {
            "city": np.repeat(["x", "y", "z"], 3),
            "brand": ["a", "b", "c"] * 3,
            "share": 0.1,
            "price": np.repeat([1.0, 6.0, 11.0], 3),
        }
    )
    data = build_shares(rows, market=["city"], product="brand", share="share", price="price")
    return SharePosterior(
        id="known",
        data=data,
        hierarchical=False,
        instrumented=False,
        elasticity=np.full((1, draws), price / data.per_elasticity),
        by_market=None,
        product=np.tile(np.array(constants) + 6.0 * price, (1, draws, 1)),
        slopes=np.empty((1, draws, 0)),
        scales={},
        first_stage=None,
        diagnostics=UNCHECKED,
        seed=1,
    )


def people() -> ChoicePosterior:
    """Two draws, brands a and b and an outside option, tastes for price that differ between people."""
    rng = np.random.default_rng(2)
    rows = pl.DataFrame(
        {
            "trip": np.repeat(np.arange(40), 2),
            "brand": ["a", "b"] * 40,
            "bought": 0,
            "price": rng.choice([1.0, 2.0, 3.0, 4.0], 80),
        }
    )
    data = build_choices(rows, occasion="trip", alternative="brand", chosen="bought", price="price", outside=True)
    factor = np.zeros((1, 2, 3, 3))
    factor[..., 2, 2] = 0.5
    mean = np.array([[[1.5, 1.0, -1.0], [1.2, 1.1, -1.2]]])
    return ChoicePosterior(id="p", data=data, mean=mean, factor=factor, people=None, diagnostics=UNCHECKED, seed=7)


def test_the_closed_form_of_three_products() -> None:
    found = best_choice_prices(shares([2.0, 1.5, 1.0], -0.5), COST, "profit", seed=1)
    np.testing.assert_allclose(found.prices, [6.6194034, 5.6194034, 4.6194034], rtol=1e-5)  # where climbs end
    np.testing.assert_allclose(found.money_today + found.change, 1.6194033638, rtol=1e-9)
    assert found.agreed == found.starts


def test_rivals_stand_still_and_their_money_is_not_counted() -> None:
    posterior = shares([2.0, 1.5, 1.0], -0.5)
    found = best_choice_prices(posterior, COST, "profit", seed=1, own=["c"])
    rivals = np.exp([2.0 - 3.0, 1.5 - 3.0]).sum()
    price = np.linspace(1.0, 11.0, 100_001)
    own = np.exp(1.0 - 0.5 * price)
    money = (price - 1.0) * own / (1.0 + rivals + own)
    assert found.prices == pytest.approx([price[money.argmax()]], abs=2e-4)
    np.testing.assert_allclose(found.money_today + found.change, money.max(), rtol=1e-8)


def test_people_who_differ_are_priced_on_their_joint_curve() -> None:
    """Against every pair of a grid, by the shares that `market_shares` gives."""
    posterior = people()
    found = best_choice_prices(posterior, Economics(cost=0.5), "profit", seed=3)
    market = typical_market(posterior)

    def money(prices: tuple[float, float]) -> float:
        x = market.copy()
        x[:2, 2] = prices
        sold = market_shares(posterior, x).to_numpy()[:, :2]
        return float((sold @ (np.array(prices) - 0.5)).mean())

    step = 0.25
    grid = np.arange(1.0, 4.0 + step / 2, step)
    best = max(itertools.product(grid, grid), key=money)
    assert np.abs(found.prices - best).max() <= step
    reached = money((float(found.prices[0]), float(found.prices[1])))
    assert reached == pytest.approx(float((found.money_today + found.change).mean()))
    assert reached >= money(best)


def test_limits_hold_or_are_named() -> None:
    posterior = shares([2.0, 1.5, 1.0], -0.5)
    held = best_choice_prices(posterior, COST, "profit", [MaxChange(share=0.05)], seed=1)
    assert held.prices == pytest.approx([6.3, 5.7, 5.7])  # towards 6.62, 5.62 and 4.62 from 6.0; c's pull moves b's
    with pytest.raises(SpecError, match="min_volume"):
        best_choice_prices(posterior, COST, "profit", [MinVolume(units=1.0)], seed=1)
    with pytest.raises(SpecError, match="no product 'z'"):
        best_choice_prices(posterior, COST, "profit", seed=1, own=["z"])
    with pytest.raises(Refusal, match="costs are unknown"):
        best_choice_prices(posterior, Economics(), "profit", seed=1)


def test_a_shortfall_holds_prices_back() -> None:
    posterior = people()
    free = best_choice_prices(posterior, Economics(cost=0.5), "profit", seed=3)
    amount = 0.0
    held = best_choice_prices(
        posterior, Economics(cost=0.5), "profit", [MaxShortfall(amount=amount, share=0.5)], seed=3
    )
    assert held.change.min() >= -1e-9  # of two draws the worse half is one
    assert held.change.mean() <= free.change.mean() + 1e-9


def test_choices_without_an_outside_option_have_no_money() -> None:
    rows = pl.DataFrame({"t": [1, 1, 2, 2], "brand": ["a", "b"] * 2, "b": [1, 0] * 2, "price": [1.0, 2.0, 2.0, 1.0]})
    data = build_choices(rows, occasion="t", alternative="brand", chosen="b", price="price")
    posterior = ChoicePosterior(
        id="x", data=data, mean=np.zeros((1, 2, 2)), factor=None, people=None, diagnostics=UNCHECKED, seed=1
    )
    with pytest.raises(Refusal, match="no money follows"):
        best_choice_prices(posterior, Economics(), "revenue", seed=1)


def test_an_offer_is_priced_inside_the_tested_range() -> None:
    rows = pl.DataFrame({"price": [1.0, 2.0, 3.0], "bought": [80, 50, 20], "offers": [100] * 3})
    data = build_purchases(rows, price="price", bought="bought", trials="offers")
    slopes = np.array([-1.0, -2.0])
    posterior = PurchasePosterior(
        id="x", data=data, shape="logistic", names=("constant", "price"), basis=None, falls=None, bend=None,
        beta=np.stack([np.zeros(2), slopes], axis=1)[None], diagnostics=UNCHECKED, findings=(), seed=1,
    )  # fmt: skip
    found = best_offer_price(posterior, Economics(cost=0.5, tax_rate=0.25), "profit")
    grid = np.linspace(1.0, 3.0, 41)
    money = (grid / 1.25 - 0.5) / (1.0 + np.exp(-slopes[:, None] * (grid - 2.0)))
    np.testing.assert_allclose(found.money, money, rtol=1e-12)
    place = money.mean(axis=0).argmax()
    assert found.price == grid[place]
    assert found.expected_regret == pytest.approx((money.max(axis=1) - money[:, place]).mean())
    assert found.lower_tail == pytest.approx(money[:, place].min())
    bounded = best_offer_price(posterior, Economics(), "revenue", lowest=2.5, highest=9.0)
    assert (bounded.price, bounded.grid[-1]) == (2.5, 3.0)
    with pytest.raises(SpecError, match="No price between the bounds"):
        best_offer_price(posterior, Economics(), "revenue", lowest=3.5)
