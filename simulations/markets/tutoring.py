"""The tutoring marketplace: learners who come, book mentors' sessions and leave, with every chance of it known."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.economy import Progress, create_economy, in_currency, write_economy
from bayes_pricing.data.tutoring import TUTORING
from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.course_ledger import WEEKDAY_SHARES
from simulations.markets.courses import MarketFiles, draw_buyers
from simulations.markets.tutoring_settings import CHANNELS, TutoringSettings
from simulations.markets.tutoring_truth import (
    PostedPrices,
    TutoringTruth,
    draw_tutoring,
    weekly_shares,
    write_tutoring_truth,
)

Integers = NDArray[np.int64]

RATED_SHARE = 0.6
"""Share of bookings that the learner rates."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stay:
    """Who the learners are and when they are there: latent, in no table but for the day they joined and their channel.

    Attributes
    ----------
    segment, channel : int array (learner,)
    joined_week : int array (learner,)
        First week; below 0 for those who were there before the bookings begin.
    last_week : int array (learner,)
        Last week in which the learner is active, at least `joined_week` and at least 0.

    Examples
    --------
    >>> stay = Stay(segment=np.array([0]), channel=np.array([1]), joined_week=np.array([-3]), last_week=np.array([2]))
    >>> stay.active(2).tolist(), stay.active(3).tolist()
    ([True], [False])
    """

    segment: Integers
    channel: Integers
    joined_week: Integers
    last_week: Integers

    def active(self, week: int) -> NDArray[np.bool_]:
        """Which learners choose in a week."""
        return (self.joined_week <= week) & (week <= self.last_week)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TutoringMarket:
    """A simulated tutoring marketplace: the truth, the latent stays, and the tables that a user would see.

    Attributes
    ----------
    truth : TutoringTruth
    posted : PostedPrices
    stay : Stay
        Learner n of the tables is entry n - 1.
    tables : mapping of str to pl.DataFrame
        One frame per table of :mod:`bayes_pricing.data.tutoring`.

    Examples
    --------
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> simulate_tutoring(settings, seed=1).sales().columns
    ['item', 'category', 'period', 'price', 'quantity', 'cost']
    """

    truth: TutoringTruth
    posted: PostedPrices
    stay: Stay
    tables: Mapping[str, pl.DataFrame]

    def sales(self) -> pl.DataFrame:
        """Weekly bookings of every session, weeks without one included, sorted by item and period.

        `period` is the first day of the week, `price` the posted price and `cost` the unit cost in currency; with
        endogenous prices there is `mentor_cost`, a valid instrument. The mentor's share is no cost but a commission on
        the price: ``truth.commission``.
        """
        booked = self.tables["bookings"].group_by("session_id", "week_start").agg(pl.len().alias("quantity"))
        sessions = self.tables["sessions"].select(
            "session_id", pl.col("slug").alias("item"), pl.col("subject").alias("category"), "unit_cost_cents"
        )
        prices = self.tables["session_prices"]
        known = [] if prices["mentor_cost"].is_null().all() else ["mentor_cost"]
        return (
            prices.join(sessions, on="session_id")
            .join(booked, on=["session_id", "week_start"], how="left")
            .select(
                "item",
                "category",
                pl.col("week_start").alias("period"),
                in_currency("price_cents").alias("price"),
                pl.col("quantity").fill_null(0).cast(pl.Int64),
                in_currency("unit_cost_cents").alias("cost"),
                *known,
            )
            .sort("item", "period")
        )


def simulate_tutoring(settings: TutoringSettings, seed: int, progress: Progress | None = None) -> TutoringMarket:
    """Play out a tutoring marketplace week by week and keep its truth.

    Parameters
    ----------
    settings : TutoringSettings
    seed : int
        The same seed gives the same rows.
    progress : callable, optional
        Called with the finished share of the work and a label.

    Returns
    -------
    TutoringMarket

    Raises
    ------
    SpecError
        If `seed` is negative.

    Examples
    --------
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> simulate_tutoring(settings, seed=1).sales().height
    2080
    """
    if not seed >= 0:
        raise SpecError(f"seed is {seed}; choose a whole number of at least 0.")
    report = progress or _no_progress
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)]
    report(0.0, "drawing sessions and learners")
    truth, posted = draw_tutoring(settings, seed, streams[0])
    stay = _draw_stays(truth, streams[1])
    choices = _draw_bookings(truth, posted, stay, streams[2], report)
    tables = {
        **_build_people(truth, stay, streams[3]),
        "session_prices": _build_prices(settings, posted),
        "bookings": _build_bookings(truth, posted, choices, streams[3]),
    }
    report(1.0, "simulated")
    return TutoringMarket(truth=truth, posted=posted, stay=stay, tables=tables)


def _no_progress(fraction: float, label: str) -> None:
    """Tell nobody."""


def _draw_stays(truth: TutoringTruth, rng: np.random.Generator) -> Stay:
    """Learners there in the first week, and those who come later, in order of joining."""
    segments = np.arange(truth.segment_sizes.size)
    there = np.repeat(segments, rng.poisson(truth.segment_sizes))
    arrivals = truth.segment_sizes * (1 - truth.weekly_stay)
    weeks = np.arange(1, truth.settings.weeks)
    per_week = rng.poisson(np.broadcast_to(arrivals, (weeks.size, segments.size)))
    later = np.repeat(np.tile(segments, weeks.size), per_week.ravel())
    segment = np.concatenate([there, later])
    before = 1 - rng.geometric(1 - truth.weekly_stay[there])  # weeks since joining are geometric too, from 0 on
    joined = np.concatenate([before, np.repeat(np.repeat(weeks, segments.size), per_week.ravel())])
    last = np.maximum(joined, 0) + rng.geometric(1 - truth.weekly_stay[segment]) - 1
    place = rng.random(segment.size)[:, None] > np.cumsum(truth.channel_mix, axis=1)[segment]
    order = np.argsort(joined, kind="stable")
    channel = np.minimum(place.sum(axis=1), len(CHANNELS) - 1)
    return Stay(
        segment=segment[order].astype(np.int64),
        channel=channel[order].astype(np.int64),
        joined_week=joined[order].astype(np.int64),
        last_week=last[order].astype(np.int64),
    )


def _draw_bookings(
    truth: TutoringTruth, posted: PostedPrices, stay: Stay, rng: np.random.Generator, report: Progress
) -> pl.DataFrame:
    """One row per booking: `learner`, `session` and `week`, all counted from 0."""
    parts: list[pl.DataFrame] = []
    weeks = truth.settings.weeks
    for week in range(weeks):
        shares = weekly_shares(truth, posted.price_cents[:, week] / 100, posted.demand_shock[:, week])
        active = stay.active(week)
        for segment, share in enumerate(shares):
            buyers, items = draw_buyers(np.flatnonzero(active & (stay.segment == segment)), share, rng)
            parts.append(pl.DataFrame({"learner": buyers, "session": items, "week": np.full(items.size, week)}))
        report(0.1 + 0.8 * (week + 1) / weeks, "learners book")
    return pl.concat(parts)


def _build_people(truth: TutoringTruth, stay: Stay, rng: np.random.Generator) -> dict[str, pl.DataFrame]:
    """Rows of the tables ``learners``, ``mentors`` and ``sessions``."""
    settings = truth.settings
    opening = np.datetime64(settings.first_week, "D")
    days = 7 * (stay.joined_week - 1) + rng.integers(0, 7, stay.segment.size)  # joined the week before the first one
    learners = {
        "learner_id": np.arange(1, stay.segment.size + 1),
        "joined_on": opening + days,
        "channel": np.array(CHANNELS)[stay.channel],
        "acquisition_cost_cents": np.rint(100 * truth.acquisition_cost[stay.channel]).astype(np.int64),
    }
    mentors = {
        "mentor_id": np.arange(1, settings.mentors + 1),
        "joined_on": opening - rng.integers(1, 731, settings.mentors),
    }
    sessions = {
        "session_id": np.arange(1, settings.sessions + 1),
        "slug": truth.items,
        "subject": [truth.categories[c] for c in truth.category.tolist()],
        "mentor_id": truth.mentor + 1,
        "unit_cost_cents": np.rint(100 * truth.unit_cost).astype(np.int64),
    }
    return {"learners": pl.DataFrame(learners), "mentors": pl.DataFrame(mentors), "sessions": pl.DataFrame(sessions)}


def _build_prices(settings: TutoringSettings, posted: PostedPrices) -> pl.DataFrame:
    """Rows of the table ``session_prices``; what an hour costs the mentor is known where prices are endogenous."""
    sessions, weeks = posted.price_cents.shape
    week = np.tile(np.arange(weeks), sessions)
    starts = pl.Series("week_start", [settings.first_week + timedelta(weeks=n) for n in range(weeks)])
    known = pl.Series("mentor_cost", posted.mentor_cost.ravel())
    unknown = pl.repeat(None, week.size, dtype=pl.Float64, eager=True)
    return pl.DataFrame(
        {
            "session_id": np.repeat(np.arange(1, sessions + 1), weeks),
            "week_start": starts.gather(week),
            "price_cents": posted.price_cents.ravel(),
            "mentor_cost": known if settings.price_response > 0 else unknown,
        }
    )


def _build_bookings(
    truth: TutoringTruth, posted: PostedPrices, choices: pl.DataFrame, rng: np.random.Generator
) -> pl.DataFrame:
    """Rows of the table ``bookings`` in order of time; ratings depend on the mentor alone."""
    settings = truth.settings
    learner, session, week = (choices[name].to_numpy() for name in ("learner", "session", "week"))
    price = posted.price_cents[session, week]
    commission = price * round(100 * settings.commission_share) // 100
    rating = np.clip(np.rint(truth.quality[truth.mentor[session]] + rng.normal(0, 0.7, week.size)), 1, 5)
    rated = pl.Series(rng.random(week.size) < RATED_SHARE)
    starts = np.datetime64(settings.first_week, "D") + 7 * week
    return (
        pl.DataFrame(
            {
                "learner_id": learner + 1,
                "session_id": session + 1,
                "week_start": starts,
                "booked_on": starts + rng.choice(7, size=week.size, p=WEEKDAY_SHARES),
                "price_cents": price,
                "commission_cents": commission,
                "rating": rating.astype(np.int64),
            }
        )
        .with_columns(pl.when(rated).then(pl.col("rating")).alias("rating"))
        .sort("booked_on", "learner_id")
        .with_columns(pl.int_range(1, pl.len() + 1).alias("booking_id"))
        .select("booking_id", pl.exclude("booking_id"))
    )


def write_tutoring(
    market: TutoringMarket, out_dir: Path, url: str | None = None, progress: Progress | None = None
) -> MarketFiles:
    """Write the tables, the weekly sales and, apart from both, the truth.

    Parameters
    ----------
    market : TutoringMarket
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
    >>> from bayes_pricing.data.tutoring import read_tutoring_sales
    >>> settings = TutoringSettings(learners=500, mentors=20, sessions=40, subjects=4, expected_bookings=2_000)
    >>> market = simulate_tutoring(settings, seed=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = write_tutoring(market, Path(folder) / "market")
    ...     read_tutoring_sales(files.database).collect().equals(market.sales())
    True
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    database, truth, sales = (out_dir / name for name in ("market.db", "truth.json", "sales.parquet"))
    taken = [path.name for path in (database, truth, sales) if path.exists()]
    if taken:
        raise StorageError(f"{out_dir} holds {', '.join(taken)} already: choose another directory, or remove them.")
    unfinished = database.with_suffix(".db.unfinished")
    unfinished.unlink(missing_ok=True)
    target = url or f"sqlite:///{unfinished}"
    create_economy(target, TUTORING)
    write_economy(target, market.tables, progress, TUTORING)
    if url is None:
        os.replace(unfinished, database)
    market.sales().write_parquet(sales)
    write_tutoring_truth(market.truth, truth)
    return MarketFiles(database=url or f"sqlite:///{database}", truth=truth, sales=sales)
