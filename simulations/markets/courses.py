"""The course market: a token economy over a year whose every elasticity and best price is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq

from simulations.markets.course_prices import draw_base_prices, draw_price_schedule
from simulations.markets.course_settings import CATEGORY_NAMES, CourseMarketSettings
from simulations.markets.course_truth import CourseMarketTruth, choice_shares, solve_sensitivity

Progress = Callable[[float, str], None]
"""Called with the finished share of the work, in [0, 1], and what is being done."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseMarket:
    """A simulated course market: the truth, and the tables that a user would see.

    Attributes
    ----------
    truth : CourseMarketTruth
    tables : mapping of str to pl.DataFrame
        One frame per table of :mod:`bayes_pricing.data.economy`.

    Examples
    --------
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> market = simulate_courses(settings, seed=1)
    >>> market.sales().columns
    ['item', 'category', 'period', 'price', 'quantity', 'cost']
    """

    truth: CourseMarketTruth
    tables: Mapping[str, pl.DataFrame]

    def sales(self) -> pl.DataFrame:
        """Weekly sales of every course, weeks without a sale included, sorted by item and period.

        `period` is the first day of the week, `price` the posted price in currency, `quantity` the enrollments of the
        week (refunded ones included) and `cost` the unit cost in currency. The teacher's share is no cost but a
        commission on the price: ``truth.commission``, refunds included.
        """
        sold = self.tables["enrollments"].group_by("course_id", "week_start").agg(pl.len().alias("quantity"))
        courses = self.tables["courses"].select(
            "course_id", pl.col("slug").alias("item"), "category", "unit_cost_cents"
        )
        return (
            self.tables["course_prices"]
            .join(courses, on="course_id")
            .join(sold, on=["course_id", "week_start"], how="left")
            .select(
                "item",
                "category",
                pl.col("week_start").alias("period"),
                (pl.col("price_cents") / 100).alias("price"),
                pl.col("quantity").fill_null(0).cast(pl.Int64),
                (pl.col("unit_cost_cents") / 100).alias("cost"),
            )
            .sort("item", "period")
        )


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
    taste = rng.normal(0, 0.5, (settings.segments, settings.categories))[:, category]
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
        return float(
            sum(self.sizes @ choice_shares(attraction, sensitivity, row).sum(axis=1) for row in self.log_ratio)
        )


def _solve_shift(demand: _Demand, expected_enrollments: float) -> float:
    """Shift of all utilities that makes the expected total at the posted prices what was asked for."""

    def excess(shift: float) -> float:
        return float(np.log(demand.expected_total(shift) / expected_enrollments))

    return float(brentq(excess, -30.0, 30.0, xtol=1e-12, rtol=1e-14))


def _draw_truth(
    settings: CourseMarketSettings, seed: int, rng: np.random.Generator
) -> tuple[CourseMarketTruth, Integers]:
    """The truth and the posted prices in tokens, dims (item, period)."""
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
        current_price=schedule[:, -1] * settings.cents_per_token / 100,
        unit_cost=np.rint(kept * rng.uniform(0.45, 0.7, settings.courses)) / 100,
        elasticity=elasticity,
        category_mean=category_mean,
    )
    return truth, schedule


def _draw_choices(
    truth: CourseMarketTruth, log_ratio: Floats, rng: np.random.Generator, progress: Progress | None
) -> tuple[Integers, Integers, Integers]:
    """Week, learner and course of each enrollment (indices), sorted by week.

    Every learner of a segment faces the same logit, so the number of buyers is binomial, who they are is a sample
    without replacement, and what they buy is multinomial: exactly one independent choice per learner and week.
    """
    members = [np.flatnonzero(truth.learner_segment == s) for s in range(truth.attraction.shape[0])]
    weeks, learners, courses = [], [], []
    for week, row in enumerate(log_ratio):
        shares = choice_shares(truth.attraction, truth.sensitivity, row)
        for learner, share in zip(members, shares, strict=True):
            buying = share.sum()
            buyers = rng.choice(learner, size=rng.binomial(learner.size, buying), replace=False)
            sold = rng.multinomial(buyers.size, share / buying)
            weeks.append(np.full(buyers.size, week))
            learners.append(buyers)
            courses.append(np.repeat(np.arange(sold.size), sold))
        if progress is not None:
            progress(0.1 + 0.4 * (week + 1) / len(log_ratio), "learners choose")
    return np.concatenate(weeks), np.concatenate(learners), np.concatenate(courses)


def simulate_courses(settings: CourseMarketSettings, seed: int, progress: Progress | None = None) -> CourseMarket:
    """Play out a course market week by week and keep its truth.

    Parameters
    ----------
    settings : CourseMarketSettings
    seed : int
        The same seed gives the same rows.
    progress : callable, optional
        Called with the finished share of the work and a label.

    Returns
    -------
    CourseMarket

    Examples
    --------
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> market = simulate_courses(settings, seed=1)
    >>> market.sales().height
    2080
    """
    truth_rng, choice_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    truth, schedule = _draw_truth(settings, seed, truth_rng)
    log_ratio = np.log(schedule / schedule[:, -1:]).T
    week, learner, course = _draw_choices(truth, log_ratio, choice_rng, progress)
    starts = np.array([settings.first_week + timedelta(weeks=w) for w in range(settings.weeks)], dtype="datetime64[D]")
    tables = {
        "courses": pl.DataFrame(
            {
                "course_id": np.arange(1, settings.courses + 1),
                "slug": truth.items,
                "category": [truth.categories[c] for c in truth.category.tolist()],
                "unit_cost_cents": np.rint(truth.unit_cost * 100).astype(np.int64),
            }
        ),
        "course_prices": pl.DataFrame(
            {
                "course_id": np.repeat(np.arange(1, settings.courses + 1), settings.weeks),
                "week_start": np.tile(starts, settings.courses),
                "price_tokens": schedule.ravel(),
                "price_cents": schedule.ravel() * settings.cents_per_token,
            }
        ),
        "enrollments": pl.DataFrame(
            {"learner_id": learner + 1, "course_id": course + 1, "week_start": starts[week]},
        ),
    }
    return CourseMarket(truth=truth, tables=tables)
