"""What sales rows must satisfy one by one: every rule is a boolean expression, counted in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from bayes_pricing.data.columns import PeriodKind, Reading, read_flag, read_name, read_number, read_period
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import Problem

EXAMPLES = 3
"""Rows shown of each problem."""

_REQUIRED_NUMBERS = {"price", "quantity", "exposure", "deflator"}
_POSITIVE = {"price", "list_price", "exposure", "deflator"}
_NOT_NEGATIVE = {"quantity", "cost", "stock"}
_SIGN_REMEDY = {
    "price": "drop returns and samples, or give the shelf price",
    "list_price": "leave it empty where it is not known",
    "exposure": "leave out periods in which nobody could buy, or drop the role",
    "deflator": "give a price index",
    "quantity": "book returns in a column of their own, or net them within the period",
    "cost": "give the cost per unit, or leave it empty where it is not known",
    "stock": "leave it empty where it is not known",
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowRule:
    """One thing that no row may be: `broken` marks the rows that are."""

    code: str
    column: str
    broken: pl.Expr
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, eq=False)
class ParsedColumns:
    """The canonical columns of a source, and the rules its rows must satisfy to be read as such.

    Attributes
    ----------
    values : dict of expressions
        Canonical name to the expression, over the source's columns, that reads it.
    rules : tuple of RowRule
        In the order in which they are reported.
    """

    values: Mapping[str, pl.Expr]
    rules: tuple[RowRule, ...]


def parse_columns(roles: ColumnRoles, schema: Mapping[str, pl.DataType], kind: PeriodKind) -> ParsedColumns:
    """Say how each column that plays a role and exists is read, and what its rows must satisfy."""
    values: dict[str, pl.Expr] = {}
    rules: list[RowRule] = []

    def take(name: str, column: str, reading: Reading, unreadable: str) -> None:
        values[name] = reading.value.alias(name)
        rules.append(
            RowRule(
                code="bad_period" if name == "period" else "non_numeric_text",
                column=column,
                broken=reading.unreadable,
                message=unreadable,
                remedy="write ISO periods such as 2026-01-05, 2026-W02, 2026-01, or whole numbers"
                if name == "period"
                else "write plain numbers with a decimal point and no currency sign",
            )
        )

    for role, column in {**roles.single(), **{name: name for name in roles.own_names()}}.items():
        if column not in schema:
            continue
        dtype = schema[column]
        named = role in roles.attributes and not (dtype.is_numeric() or dtype == pl.Boolean)
        if role in ("item", "region") or role in roles.levels or named:
            values[role] = read_name(column, dtype).value.alias(role)
            rules.append(_missing(role, column, values[role]))
        elif role == "period":
            take(role, column, read_period(column, dtype, kind), "whose period cannot be read")
            rules.append(_missing(role, column, values[role], rules[-1].broken))
        elif role == "sold_out":
            take(role, column, read_flag(column, dtype), "whose sold-out flag is neither yes nor no")
        else:
            take(role, column, read_number(column, dtype), "with non-numeric text")
            rules.extend(_number_rules(role, column, values[role], rules[-1].broken, roles))
    return ParsedColumns(values, tuple(rules))


def _missing(role: str, column: str, value: pl.Expr, unreadable: pl.Expr | None = None) -> RowRule:
    missing = value.is_null() if unreadable is None else value.is_null() & ~unreadable
    return RowRule(
        code=f"missing_{role}" if role in ("item", "region", "period", "price", "quantity") else "missing_value",
        column=column,
        broken=missing,
        message=f"without {'an' if role[0] in 'aeiou' else 'a'} {role}",
        remedy="fill it in, or leave the row out and say so",
    )


def _number_rules(role: str, column: str, value: pl.Expr, text: pl.Expr, roles: ColumnRoles) -> list[RowRule]:
    """Infinite, missing and wrongly signed numbers of one column."""
    rules = [
        RowRule(
            code="infinite_value",
            column=column,
            broken=value.is_infinite(),
            message="with an infinite value",
            remedy="correct the source, or leave the value empty where it may be",
        )
    ]
    if role in _REQUIRED_NUMBERS or role in roles.numeric() or role in roles.attributes:
        rules.append(_missing(role, column, value, text))
    if role in _POSITIVE or role in roles.competitor_prices:
        remedy = _SIGN_REMEDY.get(role, "give the price asked")
        rules.append(
            RowRule(
                code=f"non_positive_{role if role in _POSITIVE else 'competitor_price'}",
                column=column,
                broken=value <= 0,
                message="whose value is not positive",
                remedy=remedy,
            )
        )
    elif role in _NOT_NEGATIVE:
        rules.append(
            RowRule(
                code=f"negative_{role}",
                column=column,
                broken=value < 0,
                message="with a negative value",
                remedy=_SIGN_REMEDY[role],
            )
        )
    return rules


def count_broken(rules: Sequence[RowRule]) -> list[pl.Expr]:
    """Aggregates that count the rows breaking each rule, named by the rule's place."""
    return [rule.broken.fill_null(value=False).sum().alias(f"rule_{place}") for place, rule in enumerate(rules)]


def row_problems(
    raw: pl.LazyFrame, roles: ColumnRoles, rules: Sequence[RowRule], counts: Mapping[str, int]
) -> list[Problem]:
    """Turn counts into problems, with the first rows of each as the source holds them.

    Parameters
    ----------
    raw : polars LazyFrame
        The source, before anything was read.
    counts : mapping
        What :func:`count_broken` counted, {``rule_<place>``: rows}.
    """
    keys = [column for column in (roles.item, roles.region, roles.period) if column in raw.collect_schema()]
    problems = []
    for place, rule in enumerate(rules):
        count = counts[f"rule_{place}"]
        if not count:
            continue
        shown = list(dict.fromkeys((*keys, rule.column)))
        rows = raw.filter(rule.broken).select(shown).head(EXAMPLES).collect().to_dicts()
        problems.append(
            Problem(
                code=rule.code,
                count=count,
                examples=tuple(rows),
                message=f"{count} row{'s' if count > 1 else ''} {rule.message} (column {rule.column!r})",
                remedy=rule.remedy,
            )
        )
    return problems


def unknown_columns(roles: ColumnRoles, schema: Mapping[str, pl.DataType]) -> list[Problem]:
    """Name every column that a role names and the source lacks, with those that are there."""
    there = ", ".join(schema)
    return [
        Problem(
            code="unknown_column",
            count=0,
            message=f"column {column!r} is not in the data",
            remedy=f"choose from {there}",
        )
        for column in roles.columns()
        if column not in schema
    ]
