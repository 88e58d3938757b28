"""Columns of the calendar, and of an elasticity that changes."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.calendar import add_calendar, read_holiday
from bayes_pricing.demand.terms import TermRequest, add_terms
from bayes_pricing.errors import Refusal, SpecError

WEEKS = pl.LazyFrame({"period": pl.date_range(date(2025, 12, 1), date(2026, 2, 23), "1w", eager=True)})
ROLES = ColumnRoles(item="item", price="price", quantity="quantity", period="period")


def test_a_holiday_marks_the_periods_its_days_fall_in() -> None:
    texts = ["feast=2025-12-24..2025-12-29", "feast=2026-02-14", "new year=2026-01-01"]
    found = WEEKS.with_columns(**add_calendar(WEEKS, holidays=texts)).collect()
    marked = found.filter(pl.col("feast") == 1.0)["period"].to_list()
    assert marked == [date(2025, 12, 22), date(2025, 12, 29), date(2026, 2, 9)]
    assert found["new year"].sum() == 1.0


def test_months_are_compared_with_the_first_one_there() -> None:
    assert list(add_calendar(WEEKS, months=True)) == ["month_2", "month_12"]


def test_periods_by_category() -> None:
    rows = pl.LazyFrame({"period": [1, 2, 3] * 2, "category": ["jam"] * 3 + ["tea"] * 3})
    columns = add_calendar(rows, periods="category", category="category")
    assert list(columns) == ["period_jam_2", "period_jam_3", "period_tea_2", "period_tea_3"]
    assert rows.with_columns(**columns).collect()["period_tea_3"].to_list() == [0.0] * 5 + [1.0]


@pytest.mark.parametrize("text", ["2025-12-25", "=2025-12-25", "feast=soon", "feast=2026-01-02..2026-01-01"])
def test_a_holiday_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--holiday"):
        read_holiday(text)


def test_refusals() -> None:
    with pytest.raises(SpecError, match="no period"):
        add_calendar(WEEKS, holidays=["feast=2024-12-25"])
    numbers = pl.LazyFrame({"period": np.arange(80)})
    with pytest.raises(Refusal, match="dates"):
        add_calendar(numbers, months=True)
    with pytest.raises(Refusal, match="at most 60"):
        add_calendar(numbers, periods="all")
    one = pl.LazyFrame({"item": ["tea"], "period": [1], "price": [1.0], "quantity": [1.0]})
    with pytest.raises(Refusal, match="drift"):
        add_terms(one, ROLES, TermRequest(drift=True))


def test_drift_and_curve_are_zero_at_the_usual_price() -> None:
    rows = pl.LazyFrame(
        {"item": ["tea"] * 3, "period": [0, 1, 4], "price": [1.0, math.e, math.e**2], "quantity": [1.0] * 3}
    )
    found = add_terms(rows, ROLES, TermRequest(drift=True, curve="quadratic"))
    assert found.controls == ("price_drift", "price_curve")
    columns = found.frame.collect()
    np.testing.assert_allclose(columns["price_drift"], [1.0, 0.0, 0.0], atol=1e-12)  # (log price - 1) times (t - 4) / 4
    np.testing.assert_allclose(columns["price_curve"], [1.0, 0.0, 1.0], atol=1e-12)
