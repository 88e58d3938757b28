"""The game: equal luck, honest regret, sales that a policy makes itself; no sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.strategies import Floats, strategies_of_practice
from simulations.markets.arena import Arena, CourseArena, RetailArena, course_profit
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.courses import simulate_courses
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import RetailMarketSettings
from simulations.play import Rules, play
from simulations.policies import FixedPrices, Oracle, PlayedStrategy, Situation
from simulations.studies.backtest import paired_difference, verdict_lines


@dataclass(frozen=True, kw_only=True)
class Listener:
    """Keeps today's prices and notes what it was shown."""

    seen: list[Situation]
    name: str = "listener"
    kind: str = "strategy"

    def prices(self, situation: Situation) -> Floats:
        self.seen.append(situation)
        return situation.arena.price_range[1]


@pytest.fixture(scope="module")
def retail() -> Arena:
    return RetailArena(market=simulate_retail(RetailMarketSettings(categories=2, products=4, stores=1), seed=1))


@pytest.fixture(scope="module")
def courses() -> CourseArena:
    settings = CourseMarketSettings(courses=40, learners=1_000, categories=4, expected_enrollments=4_000)
    return CourseArena(market=simulate_courses(settings, seed=2))


def test_equal_prices_have_equal_luck_and_the_oracle_no_regret(retail: Arena) -> None:
    table = play(retail, [FixedPrices(), Listener(seen=[]), Oracle()], Rules(weeks=8, seed=3))
    fixed, listener, oracle = table.drop("policy", "kind").rows()
    assert fixed == listener
    by_name = {row["policy"]: row for row in table.to_dicts()}
    assert by_name["oracle"]["regret"] == 0
    assert by_name["fixed prices"]["regret"] > 0
    assert by_name["fixed prices"]["price_changes"] == 0
    assert by_name["fixed prices"]["worst_month"] <= by_name["fixed prices"]["profit"]
    assert oracle != fixed


@pytest.mark.parametrize("market", ["retail", "courses"])
def test_no_strategy_of_practice_beats_the_oracle(market: str, retail: Arena, courses: Arena) -> None:
    arena = retail if market == "retail" else courses
    elasticities = [-2.5] * len(arena.categories)
    policies = [PlayedStrategy(strategy=one) for one in strategies_of_practice(elasticities)]
    table = play(arena, policies, Rules(weeks=4))
    assert (table["regret"] >= 0).all()


def test_the_oracle_of_courses_prices_them_together(courses: CourseArena) -> None:
    best = courses.best_prices(1)
    most = course_profit(courses.truth, best)[0]
    rng = np.random.default_rng(1)
    lowest, _today, highest = courses.price_range
    for scale in (0.005, 0.05, 0.5):
        near = np.clip(best * np.exp(rng.normal(0, scale, (100, best.size))), lowest, highest)
        assert all(course_profit(courses.truth, row)[0] <= most * (1 + 1e-9) for row in near)


def test_units_are_drawn_around_what_is_expected(retail: Arena, courses: CourseArena) -> None:
    rng = np.random.default_rng(4)
    for arena in (retail, courses):
        expected = arena.expected_units(arena.price_range[1], 1)
        luck = rng.standard_normal((2_000, expected.size))
        mean = np.mean([arena.draw_units(expected, row) for row in luck], axis=0)
        assert_allclose(mean, expected, rtol=0.06, atol=0.15)  # four standard errors: 4 x 0.6 / sqrt(2,000) = 0.054


def test_more_luck_never_sells_less(courses: CourseArena) -> None:
    expected = courses.expected_units(courses.price_range[1], 1)
    units = [courses.draw_units(expected, np.full(expected.size, luck)) for luck in (-3.0, -1.0, 0.0, 1.0, 3.0)]
    assert (np.diff(units, axis=0) >= 0).all()


def test_a_review_shows_a_policy_its_own_weeks(retail: Arena) -> None:
    seen: list[Situation] = []
    play(retail, [Listener(seen=seen)], Rules(weeks=10, review_every=4, seed=5))
    rows = retail.sales().height
    assert [one.sales.height - rows for one in seen] == [0] * 4 + [4 * 8] * 4 + [8 * 8] * 2
    last = seen[-1].sales.sort("item", "period").group_by("item", maintain_order=True).last()
    assert last["period"].unique().to_list() == [retail.period(8)]
    assert_allclose(last.sort("item")["price"].to_numpy(), retail.price_range[1])
    panel = retail.panel(seen[-1].sales)
    assert panel.summary.periods == retail.panel(retail.sales()).summary.periods + 8


def test_rules_that_cannot_be_are_refused() -> None:
    with pytest.raises(SpecError, match="worst month"):
        Rules(weeks=3)
    with pytest.raises(SpecError, match="0 never reviews"):
        Rules(review_every=-1)


def test_differences_are_paired_by_market() -> None:
    """Regret that differs by 1 on markets that differ by 100: the pairing sees the 1."""
    rows = [
        {"seed": seed, "policy": policy, "kind": kind, "regret": 100.0 * seed + extra + 0.01 * seed}
        for seed in range(6)
        for policy, kind, extra in (
            ("Bayesian, risk-neutral", "posterior", 0.0),
            ("category-level, posterior", "posterior", 1.0),
            ("competitive index", "strategy", 400.0),
            ("argmax of gam", "baseline", 2.0),
        )
    ]
    table = pl.DataFrame(rows)
    gap = paired_difference(table, "Bayesian, risk-neutral", "category-level, posterior")
    assert_allclose([gap.mean, gap.lower, gap.upper], -1.0, atol=1e-9)
    lines = verdict_lines(table)
    assert "below it" in lines[3]
    assert "argmax of gam" in lines[2]
