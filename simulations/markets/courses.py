"""The course market: a token economy over a year whose every elasticity and best price is known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.economy import Progress, create_economy, in_currency, write_economy
from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.course_ledger import build_transactions, draw_enrollments, draw_members, sum_daily
from simulations.markets.course_population import draw_truth
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.course_truth import CourseMarketTruth, choice_shares, true_propensities, write_truth

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CourseMarket:
    """A simulated course market: the truth, and the tables that a user would see.

    Attributes
    ----------
    truth : CourseMarketTruth
    tables : mapping of str to pl.DataFrame
        One frame per table of :mod:`bayes_pricing.data.economy_schema`.

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
                in_currency("price_cents").alias("price"),
                pl.col("quantity").fill_null(0).cast(pl.Int64),
                in_currency("unit_cost_cents").alias("cost"),
            )
            .sort("item", "period")
        )

    def write(self, url: str, progress: Progress | None = None) -> None:
        """Create the tables at a database URL and fill them; the truth stays out of them.

        Raises
        ------
        StorageError
            If the database cannot be reached or holds a market already.
        """
        create_economy(url)
        write_economy(url, self.tables, progress)


def _week_starts(settings: CourseMarketSettings) -> list[date]:
    return [settings.first_week + timedelta(weeks=week) for week in range(settings.weeks)]


def _build_courses(truth: CourseMarketTruth, teaching: pl.DataFrame) -> pl.DataFrame:
    """Rows of the table ``courses``."""
    described = {
        "course_id": np.arange(1, len(truth.items) + 1),
        "slug": truth.items,
        "category": [truth.categories[c] for c in truth.category.tolist()],
        "unit_cost_cents": np.rint(truth.unit_cost * 100).astype(np.int64),
    }
    return pl.DataFrame(described).join(teaching, on="course_id", maintain_order="left")


def _build_prices(settings: CourseMarketSettings, schedule: Integers) -> pl.DataFrame:
    """Rows of the table ``course_prices`` from the schedule in tokens, dims (item, period)."""
    courses, weeks = schedule.shape
    starts = pl.Series("week_start", _week_starts(settings))
    return pl.DataFrame(
        {
            "course_id": np.repeat(np.arange(1, courses + 1), weeks),
            "week_start": starts.gather(np.tile(np.arange(weeks), courses)),
            "price_tokens": schedule.ravel(),
            "price_cents": schedule.ravel() * settings.cents_per_token,
        }
    )


def draw_buyers(members: Integers, share: NDArray[np.float64], rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Who of a segment buys in a week, and what: one independent choice per member, at most one item each.

    Every member faces the same logit, so the number of buyers is binomial, who they are is a sample without
    replacement, and what they buy is multinomial.

    Parameters
    ----------
    members : int array
        Learners of the segment.
    share : array (item,)
        Probability that a member takes the item; the rest takes none.
    rng : Generator

    Returns
    -------
    buyers, items : int arrays of equal length

    Examples
    --------
    >>> buyers, items = draw_buyers(np.arange(10), np.array([0.0, 1.0]), np.random.default_rng(1))
    >>> sorted(buyers.tolist()) == list(range(10)), set(items.tolist())
    (True, {1})
    """
    buying = share.sum()
    buyers = rng.choice(members, size=rng.binomial(members.size, buying), replace=False)
    return buyers, np.repeat(np.arange(share.size), rng.multinomial(buyers.size, share / buying))


def _draw_choices(
    truth: CourseMarketTruth, schedule: Integers, rng: np.random.Generator, report: Progress
) -> pl.DataFrame:
    """One row per sale: `learner_id`, `course_id`, `week_start`, `price_tokens`."""
    members = [np.flatnonzero(truth.learner_segment == segment) for segment in range(len(truth.attraction))]
    log_ratio = np.log(schedule / schedule[:, -1:]).T
    learners, courses, sold_in_week = [], [], np.zeros(len(log_ratio), dtype=np.int64)
    for week, row in enumerate(log_ratio):
        for learner, share in zip(members, choice_shares(truth.attraction, truth.sensitivity, row), strict=True):
            buyers, items = draw_buyers(learner, share, rng)
            learners.append(buyers)
            courses.append(items)
            sold_in_week[week] += buyers.size
        report(0.1 + 0.5 * (week + 1) / len(log_ratio), "learners choose")
    week_of_sale, course = np.repeat(np.arange(len(log_ratio)), sold_in_week), np.concatenate(courses)
    starts = pl.Series("week_start", _week_starts(truth.settings))
    return pl.DataFrame(
        {
            "learner_id": np.concatenate(learners) + 1,
            "course_id": course + 1,
            "week_start": starts.gather(week_of_sale),
            "price_tokens": schedule[course, week_of_sale],
        }
    )


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

    Raises
    ------
    SpecError
        If `seed` is negative.

    Examples
    --------
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> market = simulate_courses(settings, seed=1)
    >>> market.sales().height
    2080
    """
    if not seed >= 0:
        raise SpecError(f"seed is {seed}; choose a whole number of at least 0.")
    report = progress or _no_progress
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)]
    report(0.0, "drawing courses and learners")
    truth, schedule = draw_truth(settings, seed, streams[0])
    choices = _draw_choices(truth, schedule, streams[1], report)
    report(0.6, "enrollments")
    finishing = truth.completion_rate[truth.learner_segment[choices["learner_id"].to_numpy() - 1]]
    enrollments = draw_enrollments(settings, choices, finishing, streams[2])
    members = draw_members(settings, true_propensities(truth)["purchase_probability"].to_numpy(), streams[3])
    report(0.7, "token transactions")
    transactions = build_transactions(settings, enrollments, members["teaching"])
    tables = {
        "learners": members["learners"],
        "teachers": members["teachers"],
        "courses": _build_courses(truth, members["teaching"]),
        "course_prices": _build_prices(settings, schedule),
        "enrollments": enrollments,
        "token_transactions": transactions,
        "daily_platform_metrics": sum_daily(settings, transactions),
    }
    report(1.0, "simulated")
    return CourseMarket(truth=truth, tables=tables)


def _no_progress(fraction: float, label: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFiles:
    """Where a written market lies.

    Attributes
    ----------
    database : str
        URL of the tables.
    truth : Path
        The known truth, JSON; read it with :func:`simulations.markets.course_truth.read_truth`.
    sales : Path
        Weekly sales, Parquet: the columns of :meth:`CourseMarket.sales`.

    Examples
    --------
    >>> MarketFiles(database="sqlite:///m/market.db", truth=Path("m/truth.json"), sales=Path("m/sales.parquet")).database
    'sqlite:///m/market.db'
    """  # noqa: E501 - the example must stand on one line

    database: str
    truth: Path
    sales: Path


def write_market(
    market: CourseMarket, out_dir: Path, url: str | None = None, progress: Progress | None = None
) -> MarketFiles:
    """Write the tables, the weekly sales and, apart from both, the truth.

    Parameters
    ----------
    market : CourseMarket
    out_dir : Path
        Made if absent; gets ``truth.json``, ``sales.parquet`` and, without `url`, ``market.db`` (SQLite).
    url : str, optional
        Database for the tables instead, e.g. ``postgresql://USER@HOST/NAME``.
    progress : callable, optional

    Raises
    ------
    StorageError
        If the directory holds a market already or the database refuses.

    Examples
    --------
    >>> import tempfile
    >>> from bayes_pricing.data.economy import read_course_sales
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> market = simulate_courses(settings, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_market(market, Path(folder) / "market")
    ...     read_course_sales(files.database).collect().equals(market.sales())
    True
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    database, truth, sales = (out_dir / name for name in ("market.db", "truth.json", "sales.parquet"))
    taken = [path.name for path in (database, truth, sales) if path.exists()]
    if taken:
        raise StorageError(f"{out_dir} holds {', '.join(taken)} already: choose another directory, or remove them.")
    if url is None:
        unfinished = database.with_suffix(".db.unfinished")
        unfinished.unlink(missing_ok=True)
        market.write(f"sqlite:///{unfinished}", progress)
        os.replace(unfinished, database)
    else:
        market.write(url, progress)
    market.sales().write_parquet(sales)
    write_truth(market.truth, truth)
    return MarketFiles(database=url or f"sqlite:///{database}", truth=truth, sales=sales)
