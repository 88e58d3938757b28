"""Posted prices: every course cycles through its own price points in random order, whatever demand does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulations.markets.course_settings import PRICE_STEP_TOKENS, CourseMarketSettings

WEEKS_PER_POINT = 3.5
"""Weeks a price is held on average before the next one, where the weeks allow it."""


def draw_base_prices(
    settings: CourseMarketSettings, category: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Centre of each course's price range in tokens, dims (item,), within 1,500 to 10,000.

    Examples
    --------
    >>> base = draw_base_prices(CourseMarketSettings(), np.repeat(np.arange(16), 125), np.random.default_rng(1))
    >>> bool(1_500 <= base.min() < base.max() <= 10_000)
    True
    """
    centre = rng.uniform(np.log(2_500), np.log(6_000), settings.categories)
    return np.exp(centre[category] + rng.uniform(-0.5, 0.5, category.size))


def draw_price_schedule(
    settings: CourseMarketSettings, base: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Posted price of each course and week in tokens, dims (item, period), drawn independently of demand.

    Each course has `price_points` prices, equally far apart in logs around `base`. It walks through all of them in
    random order, holds each for several weeks, and starts again in another order. The step between points is set
    from the realised schedule, so that the sd of log price over the weeks is what was asked for, to within rounding.

    Examples
    --------
    >>> settings = CourseMarketSettings(courses=40)
    >>> schedule = draw_price_schedule(settings, np.linspace(1_500, 9_000, 40), np.random.default_rng(1))
    >>> schedule.shape, min(len(set(row)) for row in schedule.tolist())
    ((40, 52), 7)
    >>> bool(np.log(schedule).std(axis=1).min() > 0.25)
    True
    """
    points, weeks, courses = settings.price_points, settings.weeks, base.size
    cycles = max(1, round(weeks / (points * WEEKS_PER_POINT)))
    runs = cycles * points
    order = np.tile(np.arange(points) - (points - 1) / 2, (courses, cycles, 1))
    order = rng.permuted(order, axis=2).reshape(courses, runs)
    longer = np.arange(runs) < weeks % runs
    held = weeks // runs + rng.permuted(np.tile(longer, (courses, 1)), axis=1)
    position = np.repeat(order.ravel(), held.ravel()).reshape(courses, weeks)
    wanted_sd = settings.price_log_sd * rng.uniform(1.0, 1.1, courses)
    step = wanted_sd / position.std(axis=1)
    price = base[:, None] * np.exp(position * step[:, None])
    return PRICE_STEP_TOKENS * np.rint(price / PRICE_STEP_TOKENS).astype(np.int64)
