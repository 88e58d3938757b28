"""How a column of any type is read as a number, a name, a flag or a period, and which of its rows cannot be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import polars as pl

MISSING_TEXT = ("", "na", "n/a", "nan", "null", "none")
"""Texts (any case) that stand for a missing number or period, as other programs write them."""

PeriodKind = Literal["integer", "day", "week", "month", "quarter"]

_PERIOD_PATTERNS: dict[PeriodKind, str] = {
    "integer": r"^-?\d+$",
    "week": r"^\d{4}-?W\d{2}$",
    "month": r"^\d{4}-\d{2}$",
    "quarter": r"^\d{4}-?Q[1-4]$",
}


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A column as the panel reads it.

    Attributes
    ----------
    value : polars expression
        The value read; null where it is missing or could not be read.
    unreadable : polars expression, boolean
        Rows that hold something which is not of the kind asked for.
    """

    value: pl.Expr
    unreadable: pl.Expr


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    """Read any column as text; whole floats lose their ``.0``, so that item 7 is the same item in every source."""
    column = pl.col(name)
    if dtype.is_float():
        whole = column.cast(pl.Int64, strict=False)
        return pl.when(column == whole).then(whole.cast(pl.String)).otherwise(column.fill_nan(None).cast(pl.String))
    return column.cast(pl.String)


def read_name(name: str, dtype: pl.DataType) -> Reading:
    """Read a column as names (items, categories, regions); empty text is missing.

    Examples
    --------
    >>> frame = pl.DataFrame({"sku": [7.0, None]})
    >>> frame.select(read_name("sku", frame.schema["sku"]).value)["sku"].to_list()
    ['7', None]
    """
    if dtype.is_nested() or dtype == pl.Binary:
        return Reading(_nothing(name, pl.String()), pl.col(name).is_not_null())
    text = _text(name, dtype)
    return Reading(pl.when(text.str.strip_chars() != "").then(text), pl.lit(value=False))


def read_number(name: str, dtype: pl.DataType) -> Reading:
    """Read a column as 64-bit floats; NaN is missing, text that is no number is unreadable.

    Examples
    --------
    >>> frame = pl.DataFrame({"price": ["3.5", "NA", "three"]})
    >>> reading = read_number("price", frame.schema["price"])
    >>> frame.select(value=reading.value, unreadable=reading.unreadable).rows()
    [(3.5, False), (None, False), (None, True)]
    """
    column = pl.col(name)
    if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
        return Reading(column.cast(pl.Float64).fill_nan(None), pl.lit(value=False))
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String).str.strip_chars()
        number = text.cast(pl.Float64, strict=False)
        return Reading(number.fill_nan(None), number.is_null() & _says_something(text))
    return Reading(_nothing(name, pl.Float64()), column.is_not_null())


def read_flag(name: str, dtype: pl.DataType) -> Reading:
    """Read a column as yes or no: booleans, 0 and 1, or the words true, false, yes, no, t, f, y, n.

    Examples
    --------
    >>> frame = pl.DataFrame({"sold_out": ["yes", "0", "perhaps"]})
    >>> reading = read_flag("sold_out", frame.schema["sold_out"])
    >>> frame.select(value=reading.value, unreadable=reading.unreadable).rows()
    [(True, False), (False, False), (None, True)]
    """
    if dtype == pl.Boolean:
        return Reading(pl.col(name), pl.lit(value=False))
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        text = pl.col(name).cast(pl.String).str.strip_chars().str.to_lowercase()
        yes, no = text.is_in(["true", "yes", "1", "t", "y", "1.0"]), text.is_in(["false", "no", "0", "f", "n", "0.0"])
        return Reading(pl.when(yes | no).then(yes), ~(yes | no) & _says_something(text))
    number = read_number(name, dtype)
    known = number.value.is_in([0.0, 1.0])
    return Reading(pl.when(known).then(number.value == 1.0), number.unreadable | ~known.fill_null(value=True))


def period_kind(frame: pl.LazyFrame, name: str) -> PeriodKind:
    """Say how a period column is written; text is judged by its first value, and must then keep to it.

    Examples
    --------
    >>> period_kind(pl.LazyFrame({"week": ["2026-W02", "2026-W03"]}), "week")
    'week'
    """
    dtype = frame.collect_schema()[name]
    if dtype.is_numeric():
        return "integer"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        text = pl.col(name).cast(pl.String).str.strip_chars()
        first = frame.select(text.filter(_says_something(text)).first()).collect().item()
        for kind, pattern in _PERIOD_PATTERNS.items():
            if first is not None and re.match(pattern, first):
                return kind
    return "day"


def read_period(name: str, dtype: pl.DataType, kind: PeriodKind) -> Reading:
    """Read a column as dates or whole numbers.

    Text of the given kind: ``2026-01-05`` (a time of day after it is dropped), ``2026-W02`` (its Monday), ``2026-01``
    or ``2026-Q1`` (their first day), or a whole number.

    Examples
    --------
    >>> frame = pl.DataFrame({"week": ["2026-W02", "2026W03", "12/01/26"]})
    >>> reading = read_period("week", frame.schema["week"], "week")
    >>> frame.select(reading.value)["week"].to_list()
    [datetime.date(2026, 1, 5), datetime.date(2026, 1, 12), None]
    """
    column = pl.col(name)
    if dtype == pl.Date:
        return Reading(column, pl.lit(value=False))
    if dtype == pl.Datetime:
        return Reading(column.dt.date(), pl.lit(value=False))
    if dtype.is_numeric():
        whole = column.cast(pl.Int64, strict=False)
        number: pl.Expr = pl.when(column == whole).then(whole)
        present = column.is_not_nan() if dtype.is_float() else column.is_not_null()
        return Reading(number, present.fill_null(value=False) & number.is_null())
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        text = column.cast(pl.String).str.strip_chars()
        value = text.cast(pl.Int64, strict=False) if kind == "integer" else _iso_date(text, kind)
        return Reading(value, value.is_null() & _says_something(text))
    return Reading(_nothing(name, pl.Date()), column.is_not_null())


def _nothing(name: str, dtype: pl.DataType) -> pl.Expr:
    """Null in every row of a column that cannot be read at all."""
    return pl.when(pl.col(name).is_null()).then(pl.lit(None, dtype=dtype))


def _says_something(text: pl.Expr) -> pl.Expr:
    """Rows whose text is there and does not stand for a missing value."""
    return ~text.str.to_lowercase().is_in(MISSING_TEXT).fill_null(value=True)


def _iso_date(text: pl.Expr, kind: PeriodKind) -> pl.Expr:
    """Read ISO days, weeks, months or quarters as the first day they name."""
    if kind == "week":
        return text.str.replace(r"^(\d{4})-?W(\d{2})$", "$1-W$2-1").str.to_date("%G-W%V-%u", strict=False)
    if kind == "month":
        return (text + "-01").str.to_date("%Y-%m-%d", strict=False)
    if kind == "quarter":
        named = text.str.contains(_PERIOD_PATTERNS["quarter"])
        year, quarter = text.str.head(4).cast(pl.Int32, strict=False), text.str.tail(1).cast(pl.Int32, strict=False)
        return pl.when(named).then(pl.date(year, quarter * 3 - 2, 1))
    rest = text.str.slice(10, 1)
    return pl.when(rest.is_in(["", "T", " "])).then(text.str.head(10).str.to_date("%Y-%m-%d", strict=False))
