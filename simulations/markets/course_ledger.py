"""From choices to accounts: enrollments, refunds, tokens bought and spent, payouts, and what each day adds up to."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from simulations.markets.course_settings import CourseMarketSettings

Integers = NDArray[np.int64]

PACK_TOKENS = 5_000
"""Tokens are sold in packs of this size; a learner buys the fewest that cover the next course."""

REFUND_DAYS = 14
"""A course can be given back before this many days are over; then the teacher is paid."""

WEEKDAY_SHARES = (0.13, 0.13, 0.13, 0.13, 0.12, 0.17, 0.19)
"""Share of a week's enrollments by day, from its first day on."""

FULL_PACE_DAYS = 60
"""Days until a learner has got as far with a course as they ever will."""


def draw_enrollments(
    settings: CourseMarketSettings,
    choices: pl.DataFrame,
    finishing: NDArray[np.float64],
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Enrollments with their day, refund and completion as of the day the data end.

    Parameters
    ----------
    settings : CourseMarketSettings
    choices : pl.DataFrame
        `learner_id`, `course_id`, `week_start` and `price_tokens` of each sale.
    finishing : array (sale,)
        Probability that the learner finishes a course they keep.
    rng : Generator

    Returns
    -------
    pl.DataFrame
        Rows of the table ``enrollments`` in order of time.

    Examples
    --------
    >>> from datetime import date
    >>> choices = pl.DataFrame({"learner_id": [1], "course_id": [1], "week_start": [date(2025, 1, 6)],
    ...                         "price_tokens": [2_000]})
    >>> rows = draw_enrollments(CourseMarketSettings(refund_rate=0.0), choices, np.array([1.0]), np.random.default_rng(1))
    >>> rows["completion"].item()
    1.0
    """  # noqa: E501 - the example must stand on one line
    sales = choices.height
    refunded = rng.random(sales) < settings.refund_rate
    reach = np.where(rng.random(sales) < finishing, 1.0, rng.beta(1.2, 2.0, sales))
    columns = {
        "weekday": rng.choice(7, size=sales, p=WEEKDAY_SHARES),
        "refund_after": np.where(refunded, rng.integers(1, REFUND_DAYS, sales), -1),
        "reach": reach,
    }
    end = pl.lit(settings.last_day)
    refund_day = pl.col("enrolled_on") + pl.duration(days=pl.col("refund_after"))
    known = (pl.col("refund_after") > 0) & (refund_day <= end)
    last = pl.coalesce("refunded_on", end)
    pace = ((last - pl.col("enrolled_on")).dt.total_days() / FULL_PACE_DAYS).clip(0, 1)
    return (
        choices.with_columns(pl.Series(name, values) for name, values in columns.items())
        .with_columns((pl.col("week_start") + pl.duration(days=pl.col("weekday"))).alias("enrolled_on"))
        .with_columns(pl.when(known).then(refund_day).alias("refunded_on"))
        .with_columns((pl.col("reach") * pace).round(3).alias("completion"))
        .sort("enrolled_on", "learner_id")
        .with_columns(pl.int_range(1, pl.len() + 1).alias("enrollment_id"))
        .select(
            "enrollment_id",
            "learner_id",
            "course_id",
            "week_start",
            "enrolled_on",
            "price_tokens",
            "completion",
            "refunded_on",
        )
    )


def build_transactions(
    settings: CourseMarketSettings, enrollments: pl.DataFrame, teacher_of_course: pl.DataFrame
) -> pl.DataFrame:
    """Every movement of tokens up to the day the data end; no learner is ever below zero.

    An enrollment is a spend; then either a refund, or, when `REFUND_DAYS` are over, a payout to the teacher.

    Parameters
    ----------
    settings : CourseMarketSettings
    enrollments : pl.DataFrame
    teacher_of_course : pl.DataFrame
        `course_id`, `teacher_id`.

    Returns
    -------
    pl.DataFrame
        Rows of the table ``token_transactions`` in order of time; `tokens` positive into the account.

    Examples
    --------
    >>> from datetime import date
    >>> enrollments = pl.DataFrame({
    ...     "enrollment_id": [1], "learner_id": [7], "course_id": [1], "price_tokens": [6_000],
    ...     "enrolled_on": [date(2025, 1, 8)], "refunded_on": [None]}, schema_overrides={"refunded_on": pl.Date})
    >>> ledger = build_transactions(CourseMarketSettings(), enrollments,
    ...                             pl.DataFrame({"course_id": [1], "teacher_id": [3]}))
    >>> ledger.select("kind", "tokens").rows()
    [('purchase', 10000), ('spend', -6000), ('payout', 4200)]
    """
    settled_on = pl.col("enrolled_on") + pl.duration(days=REFUND_DAYS)
    spends = enrollments.select(
        pl.col("enrolled_on").alias("happened_on"),
        pl.lit("spend").alias("kind"),
        "learner_id",
        "enrollment_id",
        (-pl.col("price_tokens")).alias("tokens"),
    )
    refunds = enrollments.filter(pl.col("refunded_on").is_not_null()).select(
        pl.col("refunded_on").alias("happened_on"),
        pl.lit("refund").alias("kind"),
        "learner_id",
        "enrollment_id",
        pl.col("price_tokens").alias("tokens"),
    )
    payouts = (
        enrollments.filter(pl.col("refunded_on").is_null() & (settled_on <= settings.last_day))
        .join(teacher_of_course, on="course_id")
        .select(
            settled_on.alias("happened_on"),
            pl.lit("payout").alias("kind"),
            "teacher_id",
            "enrollment_id",
            (pl.col("price_tokens") * settings.payout_share).round().cast(pl.Int64).alias("tokens"),
        )
        .filter(pl.col("tokens") > 0)
    )
    rank = pl.col("kind").replace_strict({"refund": 0, "purchase": 1, "spend": 2, "payout": 3}, return_dtype=pl.Int8)
    purchases = _purchases(pl.concat([refunds, spends]).sort("learner_id", "happened_on", rank))
    cents = pl.when(pl.col("kind") == "purchase").then(pl.col("tokens") * settings.cents_per_token).otherwise(0)
    return (
        pl.concat([purchases, spends, refunds, payouts], how="diagonal")
        .with_columns(cents.alias("cents"), rank.alias("rank"))
        .sort("happened_on", "rank", "enrollment_id", "learner_id")
        .select(
            pl.int_range(1, pl.len() + 1).alias("transaction_id"),
            "happened_on",
            "kind",
            "learner_id",
            "teacher_id",
            "enrollment_id",
            "tokens",
            "cents",
        )
    )


def _purchases(moves: pl.DataFrame) -> pl.DataFrame:
    """Packs bought just before a spend that the balance would not cover; `moves` in order within each learner."""
    needed = (-pl.col("tokens")).cum_sum().over("learner_id")
    packs = (needed / PACK_TOKENS).ceil().cast(pl.Int64).clip(0).cum_max().over("learner_id")
    before = pl.col("packs").shift(1, fill_value=0).over("learner_id")
    return (
        moves.with_columns(packs.alias("packs"))
        .with_columns((pl.col("packs") - before).alias("new"))
        .filter(pl.col("new") > 0)
        .select(
            "happened_on",
            pl.lit("purchase").alias("kind"),
            "learner_id",
            (pl.col("new") * PACK_TOKENS).alias("tokens"),
        )
    )


def sum_daily(settings: CourseMarketSettings, transactions: pl.DataFrame) -> pl.DataFrame:
    """What each day adds up to, quiet days included: rows of the table ``daily_platform_metrics``.

    `tokens_outstanding` is what all learners hold at the end of the day.

    Examples
    --------
    >>> from datetime import date
    >>> settings = CourseMarketSettings(weeks=14)
    >>> transactions = pl.DataFrame({"happened_on": [date(2025, 1, 7)] * 2, "kind": ["purchase", "spend"],
    ...                              "tokens": [5_000, -3_000], "cents": [5_000, 0]})
    >>> days = sum_daily(settings, transactions)
    >>> days.height, days["tokens_outstanding"].to_list()[:3]
    (98, [0, 2000, 2000])
    """

    def of(kind: str, column: str = "tokens") -> pl.Expr:
        return pl.col(column).filter(pl.col("kind") == kind).sum()

    def count(kind: str) -> pl.Expr:
        return (pl.col("kind") == kind).sum().cast(pl.Int64)

    by_day = transactions.group_by(pl.col("happened_on").alias("day")).agg(
        count("spend").alias("enrollments"),
        count("refund").alias("refunds"),
        (-of("spend")).alias("tokens_spent"),
        of("purchase").alias("tokens_bought"),
        of("refund").alias("tokens_refunded"),
        of("payout").alias("tokens_paid_out"),
        of("purchase", "cents").alias("cash_in_cents"),
    )
    days = [settings.first_week + timedelta(days=n) for n in range(7 * settings.weeks)]
    held = pl.col("tokens_bought") + pl.col("tokens_refunded") - pl.col("tokens_spent")
    return (
        pl.DataFrame({"day": days})
        .join(by_day, on="day", how="left")
        .fill_null(0)
        .sort("day")
        .with_columns(held.cum_sum().alias("tokens_outstanding"))
    )


def draw_members(
    settings: CourseMarketSettings, purchase_rate: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """Learners, teachers, and who teaches which course since when: all there before the first week.

    Parameters
    ----------
    settings : CourseMarketSettings
    purchase_rate : array (learner,)
        Weekly purchase probability; learners who buy more also drop in more often.
    rng : Generator

    Returns
    -------
    dict of str to pl.DataFrame
        ``learners`` and ``teachers`` as in the schema, and ``teaching`` (`course_id`, `teacher_id`, `published_on`).

    Examples
    --------
    >>> members = draw_members(CourseMarketSettings(), np.full(10_000, 0.1), np.random.default_rng(1))
    >>> members["learners"]["signed_up_on"].max()
    datetime.date(2025, 1, 5)
    """
    opening = np.datetime64(settings.first_week, "D")
    activity = 3 * np.sqrt(purchase_rate / settings.purchase_rate)
    learners = {
        "learner_id": np.arange(1, settings.learners + 1),
        "signed_up_on": opening - rng.integers(1, 731, settings.learners),
        "sessions_per_week": np.round(activity * rng.lognormal(0, 0.5, settings.learners), 1),
    }
    teacher = rng.integers(0, settings.teachers, settings.courses)
    published_before = rng.integers(1, 366, settings.courses)
    first = np.zeros(settings.teachers, dtype=np.int64)
    np.maximum.at(first, teacher, published_before)
    teachers = {
        "teacher_id": np.arange(1, settings.teachers + 1),
        "joined_on": opening - first - rng.integers(1, 366, settings.teachers),
    }
    teaching = {
        "course_id": np.arange(1, settings.courses + 1),
        "teacher_id": teacher + 1,
        "published_on": opening - published_before,
    }
    return {
        "learners": pl.DataFrame(learners),
        "teachers": pl.DataFrame(teachers),
        "teaching": pl.DataFrame(teaching),
    }
