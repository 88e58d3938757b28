"""The population a course market is drawn from: its courses, buyer segments and the elasticities of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from simulations.markets.course_prices import draw_base_prices, draw_price_schedule
from simulations.markets.course_settings import CATEGORY_NAMES, CourseMarketSettings
from simulations.markets.course_truth import CourseMarketTruth, choice_shares, solve_sensitivity

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def _item_names(settings: CourseMarketSettings) -> tuple[tuple[str, ...], tuple[str, ...], Integers]:
    """Item names, category names and each item's category: equal sizes up to one, items sorted by name."""
    category = np.sort(np.arange(settings.courses) % settings.categories)
    names = CATEGORY_NAMES[: settings.categories]
    place = np.arange(settings.courses) - np.searchsorted(category, category)
    width = max(2, len(str(int(place.max()) + 1)))
    items = tuple(f"{names[c]}-{n + 1:0{width}d}" for c, n in zip(category.tolist(), place.tolist(), strict=True))
    return items, names, category


def _draw_attraction(settings: CourseMarketSettings, category: Integers, rng: np.random.Generator) -> Floats:
    """Utilities at the centre of the price range up to a shift, dims (segment, item): popularity, taste, activity."""
    popularity = rng.normal(0, 0.4, settings.categories)[category]
    popularity = popularity + rng.normal(0, settings.popularity_sd, settings.courses)
    taste = rng.normal(0, settings.taste_sd, (settings.segments, settings.categories))[:, category]
    utility = popularity + taste
    utility = utility - np.log(np.exp(utility).sum(axis=1, keepdims=True))
    activity = rng.normal(0, 0.6, settings.segments)
    return np.asarray(utility + activity[:, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Demand:
    """Demand up to the common shift of utility that decides how much is bought in all."""

    relative_attraction: Floats
    sizes: Integers
    offset: Floats
    elasticity: Floats
    log_ratio: Floats
    """Log of each week's price over today's, dims (period, item)."""

    def at(self, shift: float) -> tuple[Floats, Floats]:
        attraction = self.relative_attraction + shift
        return attraction, solve_sensitivity(attraction, self.sizes, self.offset, self.elasticity)

    def expected_total(self, shift: float) -> float:
        attraction, sensitivity = self.at(shift)
        buying = [choice_shares(attraction, sensitivity, row).sum(axis=1) for row in self.log_ratio]
        return float((self.sizes * np.array(buying)).sum())


def _solve_shift(demand: _Demand, expected_enrollments: float) -> float:
    """Shift of all utilities that makes the expected total at the posted prices what was asked for.

    Rounded far above the solver's tolerance, so that a last digit of arithmetic cannot change what a seed gives.
    """

    def excess(shift: float) -> float:
        return float(np.log(demand.expected_total(shift) / expected_enrollments))

    return round(float(brentq(excess, -30.0, 30.0, xtol=1e-13, rtol=1e-14)), 10)


def draw_truth(
    settings: CourseMarketSettings, seed: int, rng: np.random.Generator
) -> tuple[CourseMarketTruth, Integers]:
    """Draw a market: its truth, and the posted prices in tokens, dims (item, period).

    Examples
    --------
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> truth, schedule = draw_truth(settings, 1, np.random.default_rng(1))
    >>> schedule.shape, bool(np.allclose(truth.current_price, schedule[:, -1] / 100))
    ((40, 52), True)
    """
    items, names, category = _item_names(settings)
    base = draw_base_prices(settings, category, rng)
    schedule = draw_price_schedule(settings, base, rng)
    category_mean = rng.normal(settings.elasticity_mean, settings.elasticity_between_categories, settings.categories)
    elasticity = rng.normal(category_mean[category], settings.elasticity_between_items)
    segment_share = rng.dirichlet(np.full(settings.segments, 10.0))
    segment = rng.choice(settings.segments, size=settings.learners, p=segment_share).astype(np.int64)
    # Popularity is drawn at the centre of the price range; a course that is dear today sells less today.
    moved = elasticity * np.log(schedule[:, -1] / base)
    demand = _Demand(
        relative_attraction=_draw_attraction(settings, category, rng) + moved,
        sizes=np.bincount(segment, minlength=settings.segments).astype(np.int64),
        offset=rng.normal(0, settings.segment_offset_sd, settings.segments),
        elasticity=elasticity,
        log_ratio=np.log(schedule / schedule[:, -1:]).T,
    )
    attraction, sensitivity = demand.at(_solve_shift(demand, settings.expected_enrollments))
    kept = (1 - settings.commission) * base * settings.cents_per_token
    truth = CourseMarketTruth(
        settings=settings,
        seed=seed,
        items=items,
        categories=names,
        category=category,
        learner_segment=segment,
        attraction=attraction,
        sensitivity=sensitivity,
        completion_rate=rng.uniform(0.2, 0.6, settings.segments),
        current_price=schedule[:, -1] * settings.cents_per_token / 100,
        lowest_price=schedule.min(axis=1) * settings.cents_per_token / 100,
        highest_price=schedule.max(axis=1) * settings.cents_per_token / 100,
        unit_cost=np.rint(kept * rng.uniform(0.45, 0.7, settings.courses)) / 100,
        elasticity=elasticity,
        category_mean=category_mean,
    )
    return truth, schedule
