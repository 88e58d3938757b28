"""The relational schema refuses what cannot be, and its queries count what is there."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from bayes_pricing.data.economy import create_economy, read_course_sales, read_economy_metrics, write_economy
from bayes_pricing.errors import SpecError, StorageError

FIRST, MIDWEEK, SECOND = date(2025, 1, 6), date(2025, 1, 8), date(2025, 1, 13)


def small_economy() -> dict[str, pl.DataFrame]:
    """Two learners, one teacher, two courses, two weeks; course b never sells."""
    return {
        "learners": pl.DataFrame(
            {"learner_id": [1, 2], "signed_up_on": [date(2024, 5, 1)] * 2, "sessions_per_week": [1.0, 0.0]}
        ),
        "teachers": pl.DataFrame({"teacher_id": [1], "joined_on": [date(2024, 1, 1)]}),
        "courses": pl.DataFrame(
            {
                "course_id": [1, 2],
                "slug": ["a", "b"],
                "category": ["x", "y"],
                "teacher_id": [1, 1],
                "published_on": [date(2024, 6, 1)] * 2,
                "unit_cost_cents": [500, 700],
            }
        ),
        "course_prices": pl.DataFrame(
            {
                "course_id": [1, 1, 2, 2],
                "week_start": [FIRST, SECOND] * 2,
                "price_tokens": [1_000, 2_000, 3_000, 3_000],
                "price_cents": [2_000, 4_000, 6_000, 6_000],
            }
        ),
        "enrollments": pl.DataFrame(
            {
                "enrollment_id": [1, 2, 3],
                "learner_id": [1, 2, 1],
                "course_id": [1, 1, 1],
                "week_start": [FIRST, FIRST, SECOND],
                "enrolled_on": [FIRST, MIDWEEK, SECOND],
                "price_tokens": [1_000, 1_000, 2_000],
                "completion": [1.0, 0.1, 0.0],
                "refunded_on": [None, date(2025, 1, 14), None],
            }
        ),
        "token_transactions": pl.DataFrame(
            {
                "transaction_id": [1, 2, 3, 4, 5, 6, 7],
                "happened_on": [FIRST, FIRST, MIDWEEK, MIDWEEK, SECOND, date(2025, 1, 14), date(2025, 1, 20)],
                "kind": ["purchase", "spend", "purchase", "spend", "spend", "refund", "payout"],
                "learner_id": [1, 1, 2, 2, 1, 2, None],
                "teacher_id": [None, None, None, None, None, None, 1],
                "enrollment_id": [None, 1, None, 2, 3, 2, 1],
                "tokens": [5_000, -1_000, 5_000, -1_000, -2_000, 1_000, 700],
                "cents": [10_000, 0, 10_000, 0, 0, 0, 0],
            }
        ),
    }


@pytest.fixture
def url(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'market.db'}"
    create_economy(address)
    return address


def test_weekly_sales_keep_weeks_without_a_sale(url: str) -> None:
    write_economy(url, small_economy())
    assert read_course_sales(url).collect().rows() == [
        ("a", "x", FIRST, 20.0, 2, 5.0),
        ("a", "x", SECOND, 40.0, 1, 5.0),
        ("b", "y", FIRST, 60.0, 0, 7.0),
        ("b", "y", SECOND, 60.0, 0, 7.0),
    ]


def test_metrics_of_a_window_count_both_ends_and_distinct_buyers(url: str) -> None:
    write_economy(url, small_economy())
    whole = read_economy_metrics(url, FIRST, date(2025, 1, 20))
    assert (whole.enrollments, whole.buyers, whole.refunds) == (3, 2, 1)
    assert (whole.sales_value, whole.unit_costs, whole.cash_in) == (80.0, 15.0, 200.0)
    assert (whole.tokens_bought, whole.tokens_spent, whole.tokens_refunded, whole.tokens_paid_out) == (
        10_000,
        4_000,
        1_000,
        700,
    )
    later = read_economy_metrics(url, date(2025, 1, 9), SECOND)
    assert (later.enrollments, later.tokens_spent, later.tokens_bought, later.average_price) == (1, 2_000, 0, 40.0)
    quiet = read_economy_metrics(url, date(2026, 1, 1), date(2026, 1, 2))
    assert (quiet.enrollments, quiet.sales_value, quiet.average_price) == (0, 0.0, None)


BROKEN = {
    "negative price": ("course_prices", pl.col("price_tokens") * -1, "CHECK"),
    "free course": ("course_prices", pl.col("price_cents") * 0, "CHECK"),
    "completion above one": ("enrollments", pl.col("completion") + 1, "CHECK"),
    "refund before purchase": ("enrollments", pl.lit(date(2024, 1, 1)).alias("refunded_on"), "CHECK"),
    "enrolled before its week": ("enrollments", pl.lit(date(2025, 1, 1)).alias("enrolled_on"), "CHECK"),
    "unknown learner": ("enrollments", pl.col("learner_id") + 10, "FOREIGN KEY"),
    "course without a posted price": ("enrollments", pl.lit(date(2024, 12, 30)).alias("week_start"), "FOREIGN KEY"),
    "unknown teacher": ("courses", pl.col("teacher_id") + 1, "FOREIGN KEY"),
    "two courses of one name": ("courses", pl.lit("a").alias("slug"), "UNIQUE"),
    "spend that gives tokens": ("token_transactions", pl.col("tokens").abs(), "CHECK"),
    "unknown kind": ("token_transactions", pl.lit("gift").alias("kind"), "CHECK"),
    "missing price": ("course_prices", pl.lit(None, pl.Int64).alias("price_tokens"), "NOT NULL"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_database_refuses_what_cannot_be_and_keeps_nothing(url: str, name: str) -> None:
    table, change, reason = BROKEN[name]
    tables = small_economy()
    tables[table] = tables[table].with_columns(change)
    with pytest.raises(StorageError, match=f"{reason}.*Nothing was changed"):
        write_economy(url, tables)
    assert read_course_sales(url).collect().height == 0


def test_a_learner_takes_one_course_a_day(url: str) -> None:
    tables = small_economy()
    tables["enrollments"] = tables["enrollments"].with_columns(learner_id=1, week_start=FIRST, enrolled_on=FIRST)
    with pytest.raises(StorageError, match="UNIQUE"):
        write_economy(url, tables)


def test_a_database_is_never_overwritten(url: str) -> None:
    create_economy(url)
    write_economy(url, small_economy())
    with pytest.raises(StorageError, match=r"rows in course_prices, courses, enrollments.*choose an empty one"):
        create_economy(url)


def test_wrong_tables_columns_and_addresses_are_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"Unknown tables \['pupils'\]; the schema has learners, teachers"):
        write_economy(url, {"pupils": pl.DataFrame()})
    with pytest.raises(SpecError, match=r"Table teachers has columns \['teacher_id'\]"):
        write_economy(url, {"teachers": pl.DataFrame({"teacher_id": [1]})})
    with pytest.raises(StorageError, match="is no database URL"):
        read_course_sales("market.db")
    with pytest.raises(StorageError, match="neither sqlite"):
        create_economy("mysql://host/name")
    with pytest.raises(StorageError, match="There is no database file"):
        read_course_sales(f"sqlite:///{tmp_path / 'absent.db'}")
    assert not (tmp_path / "absent.db").exists()


def test_progress_ends_at_one(url: str) -> None:
    told: list[float] = []
    write_economy(url, small_economy(), lambda fraction, _: told.append(fraction))
    assert told == sorted(told)
    assert told[-1] == 1.0
