"""Columns of a price test's file: what each means, read and checked row by row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from bayes_pricing.data.columns import Reading, period_kind, read_flag, read_name, read_number, read_period
from bayes_pricing.errors import PanelError, Problem, SpecError

ARM, UNIT, CLUSTER, PERIOD, EVENT, PRICE, COST, RECEIVED, STAYED, LEFT = (
    f"__{name}" for name in ("arm", "unit", "cluster", "period", "event", "price", "cost", "received", "stayed", "left")
)
"""Names of the columns as they are read; outcomes and covariates keep their own."""

_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialColumns:
    """Which column of a test's file means what.

    Attributes
    ----------
    arm : str
        Arm of the row.
    control_arm : str
        Its value for control.
    outcomes : tuple of str
        The first is the primary outcome: the decision rests on it. More is better.
    unit : str, optional
        What was assigned (a user, an item); its rows are added up. Left out, each row is a unit.
    cluster : str, optional
        What was assigned together (a store, a category).
    period : str, optional
        Date, week, month or number.
    start : date or int, optional
        First period of the test; earlier rows are the pre-period, whose outcomes serve as covariates.
    pre : tuple of str
        Covariates known before the test.
    price, cost : str, optional
        Price paid and cost per unit.
    received : str, optional
        1 where the row's unit got what its arm was to get (paid the new price), else 0; left out, everybody did.
    stayed : str, optional
        Periods for which the unit was seen as a customer, and with `left` whether it left then (1) or was still there
        when last seen (0).
    left : str, optional
    event : str, optional
        Before and after: 0 and 1, or the period from which on the row's unit has the change (empty: never).
    """

    arm: str
    control_arm: str
    outcomes: tuple[str, ...]
    unit: str | None = None
    cluster: str | None = None
    period: str | None = None
    start: date | int | None = None
    pre: tuple[str, ...] = ()
    price: str | None = None
    cost: str | None = None
    received: str | None = None
    stayed: str | None = None
    left: str | None = None
    event: str | None = None

    def __post_init__(self) -> None:
        if not self.outcomes:
            raise SpecError("A read-out needs at least one outcome column; name it with --outcome.")
        if self.start is not None and self.period is None:
            raise SpecError("A start needs the column of the period; name it with --period.")
        if self.start is not None and (self.unit or self.cluster) is None:
            raise SpecError("A pre-period needs to know whose it is; name the unit with --unit.")
        if self.event is not None and (self.period is None or (self.unit or self.cluster) is None):
            raise SpecError("A before-and-after reading needs the period and the unit; name --period and --cluster.")
        if self.event is not None and (self.start is not None or self.pre):
            raise SpecError("A before-and-after reading takes all rows and no covariates; leave --start and --pre out.")
        if (self.stayed is None) != (self.left is None):
            raise SpecError(
                "Retention needs how long a customer was seen and whether it left; name --stayed and --left."
            )

    def named(self) -> tuple[str, ...]:
        """Every column, without repeats."""
        single = (self.arm, self.unit, self.cluster, self.period, self.price, self.cost, self.event)
        known = [name for name in (*single, self.received, self.stayed, self.left) if name is not None]
        return tuple(dict.fromkeys([*known, *self.outcomes, *self.pre]))


def read_rows(frame: pl.LazyFrame, columns: TrialColumns) -> pl.DataFrame:
    """Read the named columns of a test's file.

    Raises
    ------
    PanelError
        With every problem: unknown columns, text among numbers, missing or infinite values.

    Examples
    --------
    >>> frame = pl.LazyFrame({"arm": [0, 1], "spent": ["2.5", "3"]})
    >>> read_rows(frame, TrialColumns(arm="arm", control_arm="0", outcomes=("spent",))).rows()
    [(0, '0', 2.5), (1, '1', 3.0)]
    """
    schema = frame.collect_schema()
    unknown = [name for name in columns.named() if name not in schema]
    if unknown:
        known = ", ".join(schema.names()[:20])
        raise PanelError(
            [Problem(code="unknown_column", count=0, message=f"there is no column {name!r}",
                     remedy=f"the columns are {known}") for name in unknown]
        )  # fmt: skip
    readings: dict[str, tuple[str, Reading]] = {}
    for key, name in ((ARM, columns.arm), (UNIT, columns.unit), (CLUSTER, columns.cluster)):
        if name is not None:
            readings[key] = name, read_name(name, schema[name])
    for name in (*columns.outcomes, *columns.pre):
        readings[name] = name, read_number(name, schema[name])
    numbers = ((PRICE, columns.price), (COST, columns.cost), (RECEIVED, columns.received), (STAYED, columns.stayed))
    for key, maybe in (*numbers, (LEFT, columns.left)):
        if maybe is not None:
            readings[key] = maybe, read_number(maybe, schema[maybe])
    if columns.period is not None:
        readings[PERIOD] = columns.period, _period(frame, columns)
    if columns.event is not None:
        readings[EVENT] = columns.event, _event(frame, columns.event)
    source = frame.select(columns.named()).collect()
    parsed = source.select(reading.value.alias(key) for key, (_, reading) in readings.items())
    optional = {*columns.pre, EVENT, PRICE, COST} | ({ARM} if columns.start is not None else set())
    problems = [
        problem
        for key, (name, reading) in readings.items()
        for problem in _column_problems(source, parsed[key], name, reading, may_be_missing=key in optional)
    ]
    if parsed.is_empty():
        problems.append(Problem(code="no_rows", count=0, message="the file has no rows", remedy="check the file"))
    if problems:
        raise PanelError(problems)
    if columns.unit is not None:
        return parsed
    if columns.cluster is not None and (columns.start is not None or columns.event is not None):
        return parsed.with_columns(pl.col(CLUSTER).alias(UNIT))
    return parsed.with_row_index(UNIT)


def _period(frame: pl.LazyFrame, columns: TrialColumns) -> Reading:
    """The period in time; under an event any label of it serves, for nothing rests on its order."""
    name = str(columns.period)
    dtype = frame.collect_schema()[name]
    reading = read_period(name, dtype, period_kind(frame, name))
    if columns.event is not None and _fails(frame, reading):
        return read_name(name, dtype)
    return reading


def _event(frame: pl.LazyFrame, name: str) -> Reading:
    """The event as yes or no, or else as a period."""
    dtype = frame.collect_schema()[name]
    flag = read_flag(name, dtype)
    return read_period(name, dtype, period_kind(frame, name)) if _fails(frame, flag) else flag


def _fails(frame: pl.LazyFrame, reading: Reading) -> bool:
    return bool(frame.select(reading.unreadable.fill_null(value=False).any()).collect().item())


def _column_problems(
    source: pl.DataFrame, values: pl.Series, name: str, reading: Reading, *, may_be_missing: bool
) -> list[Problem]:
    unreadable = source.with_columns(__unreadable=reading.unreadable.fill_null(value=False))["__unreadable"]
    missing = values.is_null() & ~unreadable
    infinite = values.is_infinite() if values.dtype.is_float() else values.is_null() & False
    found = [(unreadable, "unreadable_value", "that cannot be read", "write plain numbers, or ISO dates for periods")]
    if not may_be_missing:
        remedy = "give 0 to a unit that bought nothing, or leave the row out and say so"
        found.append((missing, "missing_value", "without a value", remedy))
    found.append((infinite, "infinite_value", "that is infinite", "correct the source"))
    return [
        Problem(
            code=code,
            count=int(bad.sum()),
            message=f"{int(bad.sum())} of {source.height} rows have a {name!r} {what}",
            remedy=remedy,
            examples=tuple(source.filter(bad).head(_EXAMPLES).to_dicts()),
        )
        for bad, code, what, remedy in found
        if bad.any()
    ]


def check_arms(rows: pl.DataFrame, columns: TrialColumns) -> None:
    """Refuse a test without its control, with one arm, or with rows of no arm."""
    nowhere = rows[ARM].null_count()
    if nowhere:
        raise trial_problem("missing_value", f"{nowhere} rows of the test have no arm", "say which arm they were in")
    arms = sorted(rows[ARM].unique())
    if columns.control_arm not in arms:
        shown = ", ".join(repr(arm) for arm in arms[:10])
        raise trial_problem(
            "unknown_control", f"{columns.arm!r} has no arm {columns.control_arm!r}", f"its arms are {shown}"
        )
    if len(arms) < 2:
        raise trial_problem("one_arm", f"{columns.arm!r} has one arm only", "a test compares at least two")


def trial_problem(code: str, message: str, remedy: str) -> PanelError:
    """Error about the file as a whole rather than some of its rows."""
    return PanelError(Problem(code=code, count=0, message=message, remedy=remedy))
