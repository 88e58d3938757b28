"""The leakage guard: what would not be known on the day of the decision may not predict that day's sales."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from bayes_pricing.baselines.fixed_effects import Ints
from bayes_pricing.baselines.protocol import Floats, SalesRows
from bayes_pricing.errors import SpecError

LeakKind = Literal["not_known", "outcome_name", "same_period", "running_total", "recent_sum", "whole_total"]
# fmt: off
OUTCOME_WORDS = frozenset((
    "quantity", "quantities", "qty", "unit", "units", "sold", "sales", "revenue", "revenues", "turnover", "volume",
    "enrollment", "enrollments", "enrolment", "enrolments", "booking", "bookings", "order", "orders", "purchases",
    "transactions", "velocity", "total", "totals",
))
PAST_WORDS = frozenset((
    "lag", "lagged", "lag1", "lag2", "lag3", "lag4", "last", "previous", "prior", "past", "before",
))
# fmt: on
COMPOUNDS_THAT_ARE_KNOWN = ("sold_out", "unit_cost", "unit_price", "unit_size", "minimum_order")
SAME = 0.999  # above it two columns are one; an honest driver of demand leaves the noise of sales unexplained
WINDOW = 4  # rows of one item that a recent sum or velocity may span
LEAST_ROWS = 10  # below it a correlation near 1 is no evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One feature that holds the answer, how that was seen, and what to do.

    Examples
    --------
    >>> Leak(feature="revenue", kind="outcome_name", correlation=None).message
    "'revenue' is named after the outcome of the same period"
    """

    feature: str
    kind: LeakKind
    correlation: float | None

    @property
    def message(self) -> str:
        """What was found, in words."""
        found = {
            "not_known": "is not among the features known on the day of the decision",
            "outcome_name": "is named after the outcome of the same period",
            "same_period": "is the units sold in the same period in another form",
            "running_total": "is a running total that includes the same period's units",
            "recent_sum": "is a sum or velocity of recent units that includes the same period's",
            "whole_total": "is the item's total or mean over all periods, later ones among them",
        }[self.kind]
        number = "" if self.correlation is None else f" (correlation {self.correlation:.4f})"
        return f"'{self.feature}' {found}{number}"

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.kind == "not_known":
            return "leave it out, or declare it known if its value is fixed before the price is set"
        return "leave it out, or use its value of the period before (name it so: 'units_last_week')"


class LeakageError(SpecError):
    """Features would not be known on the day of the decision (exit code 2).

    Attributes
    ----------
    leaks : tuple of Leak
        Each with its remedy.

    Examples
    --------
    >>> error = LeakageError([Leak(feature="revenue", kind="outcome_name", correlation=None)], shown="R-squared 0.999.")
    >>> str(error).splitlines()[-1]
    'R-squared 0.999.'
    """

    def __init__(self, leaks: Sequence[Leak], shown: str = "") -> None:
        self.leaks = tuple(leaks)
        lines = [f"{leak.message}: {leak.remedy}." for leak in self.leaks]
        super().__init__("\n".join([*lines, *([shown] if shown else [])]))


def require_known_on_the_day(features: Collection[str], decision_day_features: Collection[str]) -> None:
    """Refuse features that are not declared known, or whose name says they are the outcome of the same period.

    A name speaks of the outcome if one of its words does (quantity, units, revenue, enrollments, total, velocity,
    ...) and none places it in the past (lag, last, previous, prior, past, before).

    Parameters
    ----------
    features : collection of str
        What a baseline would predict from.
    decision_day_features : collection of str
        What is known when the price is set.

    Raises
    ------
    LeakageError
        Naming every such feature and its remedy.

    Examples
    --------
    >>> require_known_on_the_day(["display", "units_last_week"], ["display", "units_last_week"])
    >>> try:
    ...     require_known_on_the_day(["display", "total_enrollments"], ["display", "total_enrollments"])
    ... except LeakageError as error:
    ...     print(error.leaks[0].message)
    'total_enrollments' is named after the outcome of the same period
    """
    leaks: list[Leak] = []
    for feature in features:
        if _named_after_outcome(feature):
            leaks.append(Leak(feature=feature, kind="outcome_name", correlation=None))
        elif feature not in decision_day_features:
            leaks.append(Leak(feature=feature, kind="not_known", correlation=None))
    if leaks:
        raise LeakageError(leaks)


def find_leaks(rows: SalesRows, features: Sequence[str]) -> tuple[Leak, ...]:
    """Features whose values hold the same period's units, whatever their names.

    Within items (their means taken off), a feature is compared with the units, revenue, units per price and units
    per exposure of its row, in levels and logs; its change from row to row with the units; the feature with the
    units of the row and the four before it, where the row's own must matter; and, between items, its item value with
    the item's total and mean. A correlation over 0.999 is a leak. Sums over earlier rows only are none.

    Parameters
    ----------
    rows : SalesRows
        With `period` where there is one: rows are then taken in its order.
    features : sequence of str
        Numeric columns of `rows.frame`.

    Returns
    -------
    tuple of Leak

    Examples
    --------
    >>> units = np.random.default_rng(1).poisson(5.0, 60).astype(float)
    >>> frame = pl.DataFrame({"item": ["tea"] * 60, "period": range(60), "price": [2.0, 3.0] * 30, "quantity": units,
    ...                       "velocity": units / 7, "so_far": units.cumsum(), "until_now": units.cumsum() - units})
    >>> [(leak.feature, leak.kind) for leak in find_leaks(SalesRows(frame=frame), ["velocity", "so_far", "until_now"])]
    [('velocity', 'same_period'), ('so_far', 'running_total')]
    """
    order = [*rows.keys, "period"] if "period" in rows.frame.columns else [*rows.keys]
    frame = rows.frame.sort(order, maintain_order=True)
    unit = frame.select(pl.struct(rows.keys).rle_id().cast(pl.Int64)).to_series().to_numpy()
    units = frame["quantity"].cast(pl.Float64).to_numpy()
    price = frame["price"].to_numpy()
    forms = [units, units * price, units / price]
    if "exposure" in frame.columns:
        forms.append(units / frame["exposure"].cast(pl.Float64).to_numpy())
    leaks = (_leak_of(name, frame[name].cast(pl.Float64).to_numpy(), units, forms, unit) for name in features)
    return tuple(leak for leak in leaks if leak is not None)


def refuse_leaks(rows: SalesRows, decision_day_features: Collection[str]) -> None:
    """Refuse rows whose controls would not be known on the day, by name or by value.

    Raises
    ------
    LeakageError
        Naming every such control and its remedy.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["tea"] * 2, "price": [2.0, 3.0], "quantity": [4.0, 2.0], "display": [0, 1]})
    >>> refuse_leaks(SalesRows(frame=frame, controls=("display",)), ["display"])
    """
    require_known_on_the_day(rows.features, decision_day_features)
    leaks = find_leaks(rows, rows.features)
    if leaks:
        raise LeakageError(leaks)


def _named_after_outcome(feature: str) -> bool:
    name = feature.lower()
    for compound in COMPOUNDS_THAT_ARE_KNOWN:
        name = name.replace(compound, "")
    words = set(re.split(r"[^a-z0-9]+", name))
    return bool(words & OUTCOME_WORDS) and not words & PAST_WORDS


def _leak_of(name: str, feature: Floats, units: Floats, forms: list[Floats], unit: Ints) -> Leak | None:
    """Return the first way in which one feature holds the answer."""
    direct = max((_correlation_within(feature, form, unit) for form in forms), default=0.0)
    if (feature > 0).any():
        positive = (feature > 0) & (units > 0)
        logs = [np.log(form[positive]) for form in forms]
        direct = max([direct, *(_correlation_within(np.log(feature[positive]), form, unit[positive]) for form in logs)])
    if direct > SAME:
        return Leak(feature=name, kind="same_period", correlation=direct)
    follows = np.concatenate([[False], np.diff(unit) == 0])
    step = np.concatenate([[0.0], np.diff(feature)])
    running = _correlation_within(step[follows], units[follows], unit[follows])
    if running > SAME:
        return Leak(feature=name, kind="running_total", correlation=running)
    recent = _recent_sum(feature, units, unit)
    if recent > SAME:
        return Leak(feature=name, kind="recent_sum", correlation=recent)
    whole = _whole_total(feature, units, unit)
    if whole > SAME:
        return Leak(feature=name, kind="whole_total", correlation=whole)
    return None


def _correlation(x: Floats, y: Floats) -> float:
    """Absolute correlation; 0 where a column never moves or rows are too few to tell."""
    if x.size < LEAST_ROWS:
        return 0.0
    dx, dy = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((dx @ dx) * (dy @ dy)))
    still = np.ptp(dx) <= 1e-12 * np.abs(x).max() or np.ptp(dy) <= 1e-12 * np.abs(y).max()
    return 0.0 if still or scale == 0 else abs(float(dx @ dy)) / scale


def _correlation_within(x: Floats, y: Floats, unit: Ints) -> float:
    """Absolute correlation of deviations from the means of each unit's rows."""
    if x.size < LEAST_ROWS:
        return 0.0
    return _correlation(_deviations(x, unit), _deviations(y, unit))


def _deviations(x: Floats, unit: Ints) -> Floats:
    rows = np.maximum(np.bincount(unit), 1)  # codes left out of a subset have no rows
    deviations: Floats = x - (np.bincount(unit, weights=x) / rows)[unit]
    deviations[np.abs(deviations) <= 1e-12 * np.abs(x)] = 0.0
    return deviations


def _recent_sum(feature: Floats, units: Floats, unit: Ints) -> float:
    """Multiple correlation with the row's units and those before, or 0 if the row's own are not needed."""
    n = units.size
    if n <= WINDOW + LEAST_ROWS:
        return 0.0
    whole = unit[WINDOW:] == unit[:-WINDOW]
    own = unit[WINDOW:][whole]
    if own.size < LEAST_ROWS + WINDOW:
        return 0.0
    target = _deviations(feature[WINDOW:][whole], own)
    shifts = (units[WINDOW - lag : n - lag][whole] for lag in range(WINDOW + 1))
    lags = np.stack([_deviations(shift, own) for shift in shifts], axis=1)
    fits = [columns @ np.linalg.lstsq(columns, target, rcond=None)[0] for columns in (lags, lags[:, 1:])]
    with_own, without = (_correlation(fit, target) for fit in fits)
    return with_own if without <= SAME else 0.0


def _whole_total(feature: Floats, units: Floats, unit: Ints) -> float:
    """Correlation between units of a feature that never moves within one, with their totals and means."""
    if np.abs(_deviations(feature, unit)).max() > 0:
        return 0.0
    rows = np.bincount(unit)
    value, total = np.bincount(unit, weights=feature) / rows, np.bincount(unit, weights=units)
    return max(_correlation(value, total), _correlation(value, total / rows))
