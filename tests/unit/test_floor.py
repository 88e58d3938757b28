"""The attainable floor: right where data are rich, better than any rule where they are thin, refused elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.strategies import CategoryLevel
from simulations.floor import KnowsHyperparameters, informed_prices
from simulations.markets.arena import CourseArena, RetailArena
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.courses import simulate_courses
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import RetailMarketSettings
from simulations.markets.tutoring import simulate_tutoring
from simulations.markets.tutoring_settings import TutoringSettings
from simulations.play import Rules, play
from simulations.policies import FixedPrices, PlayedStrategy


def courses(enrollments: float, seed: int) -> CourseArena:
    settings = CourseMarketSettings(
        courses=48,
        learners=round(enrollments),  # one purchase a year each: courses hardly take sales from each other
        categories=4,
        expected_enrollments=enrollments,
        segment_offset_sd=0.0,
    )
    return CourseArena(market=simulate_courses(settings, seed=seed))


def test_with_sales_without_end_it_prices_as_the_oracle() -> None:
    """1,000 sales a course know its elasticity to 0.12, and retail with little noise to a hundredth."""
    table = play(courses(48_000.0, 1), [KnowsHyperparameters()], Rules(weeks=4))
    assert 0 <= table["regret_share"].item() < 0.003
    retail = RetailArena(market=simulate_retail(RetailMarketSettings(noise_sd=0.02), seed=1))
    assert play(retail, [KnowsHyperparameters()], Rules(weeks=4))["regret_share"].item() < 1e-4


def test_it_prices_tutoring_sessions_too() -> None:
    """500 bookings a session: little is left unknown, and the platform's 12 % of the price is what counts."""
    settings = TutoringSettings(learners=4_000, mentors=10, sessions=24, subjects=2, expected_bookings=12_000)
    arena = CourseArena(market=simulate_tutoring(settings, 1))
    floor, fixed = play(arena, [KnowsHyperparameters(), FixedPrices()], Rules(weeks=4))["regret_share"].to_list()
    assert 0 <= floor < 0.01
    assert floor < 0.3 * fixed


def test_where_sales_are_thin_it_beats_who_only_knows_the_true_mean_of_every_category() -> None:
    regrets = []
    for seed in (1, 2, 3):
        arena = courses(48 * 25.0, seed)
        rule = PlayedStrategy(strategy=CategoryLevel(elasticity=tuple(arena.market.truth.category_mean)))
        table = play(arena, [KnowsHyperparameters(), rule], Rules(weeks=4))
        regrets.append(table["regret"].to_list())
    floor, told = np.mean(regrets, axis=0)
    assert floor < 0.95 * told


def test_retail_prices_follow_from_the_conjugate_posterior() -> None:
    """One store: the posterior of an elasticity is the precision-weighted mean of its own slope and its category's."""
    settings = RetailMarketSettings(stores=1, weeks=12, between_stores=0.0)
    arena = RetailArena(market=simulate_retail(settings, seed=3))
    truth = arena.market.truth
    sales = arena.sales().with_columns(pl.col("price").log().alias("x"), pl.col("quantity").log().alias("y"))
    x = sales["x"].to_numpy().reshape(len(arena.items), -1)
    y = sales["y"].to_numpy().reshape(x.shape)
    x = x - x.mean(axis=1, keepdims=True)
    precision = (x**2).sum(axis=1) / truth.noise_sd**2
    prior = settings.between_products**-2
    mean = (precision * (x * y).sum(axis=1) / (x**2).sum(axis=1) + prior * truth.category_mean[truth.category]) / (
        precision + prior
    )
    lowest, _today, highest = arena.price_range
    grid = np.exp(np.linspace(np.log(lowest), np.log(highest), 2_001))
    place = np.log(grid) - sales["x"].to_numpy().reshape(x.shape).mean(axis=1)
    profit = np.exp(mean * place + place**2 / (2 * (precision + prior))) * (grid - truth.unit_cost)
    best = grid[np.argmax(profit, axis=0), np.arange(len(arena.items))]
    step = np.log(highest / lowest).max() / 200
    assert_allclose(np.log(informed_prices(arena, arena.sales())), np.log(best), atol=1.01 * step)


def test_other_markets_are_refused() -> None:
    arena = courses(1_200.0, 1)
    other = SimpleNamespace(
        items=arena.items, price_range=arena.price_range, commission=0.0, unit_cost=arena.unit_cost, sales=arena.sales
    )
    with pytest.raises(SpecError, match="choices and retail only"):
        informed_prices(other, arena.sales())
