"""Effects of the calendar that are common to many items: months, holidays, single periods."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from typing import Literal

import polars as pl

from bayes_pricing.errors import Finding, Refusal, SpecError

PeriodEffects = Literal["all", "category"]
MOST_PERIOD_EFFECTS = 60
"""Effects of single periods up to which each is estimated; the cost of a fit grows with their square."""


def add_calendar(
    frame: pl.LazyFrame,
    *,
    months: bool = False,
    holidays: Sequence[str] = (),
    periods: PeriodEffects | None = None,
    category: str | None = None,
) -> dict[str, pl.Expr]:
    """Columns of 0 and 1 of the calendar: ``month_2 ... month_12``, each holiday's name, ``period_...``.

    The first month and the first period are what the others are compared with.

    Parameters
    ----------
    frame : LazyFrame
        With ``period``; months and holidays need dates.
    months : bool
    holidays : sequence of str
        ``NAME=2026-12-25`` or ``NAME=2026-12-20..2026-12-26``; a day belongs to the period that begins on it or last
        began before it.
    periods : str or None
        Effects of single periods, of ``all`` items or by ``category``.
    category : str or None
        Column of the category.

    Raises
    ------
    SpecError
        If a holiday cannot be read, or falls in no period of the sales.
    Refusal
        If periods are no dates where they must be, or there would be more than sixty effects of single periods.

    Examples
    --------
    >>> weeks = pl.LazyFrame({"period": [date(2026, 12, 14), date(2026, 12, 21), date(2026, 12, 28)]})
    >>> columns = add_calendar(weeks, holidays=["christmas=2026-12-25..2026-12-26"])
    >>> weeks.with_columns(**columns).collect()["christmas"].to_list()
    [0.0, 1.0, 0.0]
    """
    dated = frame.collect_schema()["period"] == pl.Date
    if (months or holidays) and not dated:
        raise Refusal([_no_dates()])
    found: dict[str, pl.Expr] = {}
    known = frame.select(pl.col("period").unique().sort()).collect(engine="streaming")["period"]
    if months:
        present = sorted(known.dt.month().unique().to_list())
        found |= {f"month_{month}": _flag(pl.col("period").dt.month() == month) for month in present[1:]}
    marked: dict[str, list[date]] = {}
    for text in holidays:
        name, first, last = read_holiday(text)
        marked.setdefault(name, []).extend(_periods_of(known.to_list(), first, last, text))
    found |= {name: _flag(pl.col("period").is_in(sorted(set(days)))) for name, days in marked.items()}
    if periods is not None:
        found |= _single_periods(frame, known, category if periods == "category" else None)
    return found


def read_holiday(text: str) -> tuple[str, date, date]:
    """Name, first and last day of a holiday.

    Examples
    --------
    >>> read_holiday("easter=2026-04-03..2026-04-06")
    ('easter', datetime.date(2026, 4, 3), datetime.date(2026, 4, 6))
    """
    name, _, days = text.partition("=")
    first, _, last = days.partition("..")
    try:
        begins, ends = date.fromisoformat(first), date.fromisoformat(last or first)
    except ValueError as error:
        raise SpecError(
            f"--holiday {text!r} cannot be read; write NAME=2026-12-25 or NAME=2026-12-20..2026-12-26."
        ) from (error)
    if not name or ends < begins:
        raise SpecError(f"--holiday {text!r} has no name, or ends before it begins; write NAME=FIRST..LAST.")
    return name, begins, ends


def _periods_of(known: list[date], first: date, last: date, text: str) -> list[date]:
    """Periods that a holiday's days fall in."""
    gaps = sorted((later - earlier).days for earlier, later in pairwise(known))
    length = timedelta(days=gaps[len(gaps) // 2] if gaps else 1)
    begins = [
        known[at - 1] for day in _days(first, last) if (at := bisect_right(known, day)) and day - known[at - 1] < length
    ]
    if not begins:
        raise SpecError(
            f"--holiday {text!r} falls in no period of the sales ({known[0]} to {known[-1]}); leave it out."
        )
    return begins


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=at) for at in range((last - first).days + 1)]


def _single_periods(frame: pl.LazyFrame, known: pl.Series, category: str | None) -> dict[str, pl.Expr]:
    units: list[str | None] = [None]
    if category is not None:
        units = frame.select(pl.col(category).unique().sort()).collect(engine="streaming")[category].to_list()
    wanted = len(units) * (len(known) - 1)
    if wanted > MOST_PERIOD_EFFECTS:
        raise Refusal([_too_many(wanted)])
    found: dict[str, pl.Expr] = {}
    for unit in units:
        inside = pl.lit(value=True) if unit is None else pl.col(category or "") == unit
        of = "" if unit is None else f"_{unit}"
        found |= {
            f"period{of}_{period}": _flag(inside & (pl.col("period") == period)) for period in known.to_list()[1:]
        }
    return found


def _flag(condition: pl.Expr) -> pl.Expr:
    return condition.cast(pl.Float64)


def _no_dates() -> Finding:
    return Finding(
        code="calendar_without_dates",
        severity="error",
        message="months and holidays need periods that are dates; these are whole numbers",
        remedy="give dates as periods, or name a column of your own with --shared-control",
    )


def _too_many(wanted: int) -> Finding:
    return Finding(
        code="period_effects_too_many",
        severity="error",
        message=f"--period-effects would be {wanted} effects (at most {MOST_PERIOD_EFFECTS})",
        remedy="use --month-effects, --holiday or --season, --period-effects all, or longer periods",
    )
