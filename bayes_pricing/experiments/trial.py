"""A price test's data as one checked value: units in their arms, or units over periods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.sources import frame_from_any
from bayes_pricing.errors import PanelError, Problem, SpecError
from bayes_pricing.experiments.trial_columns import (
    ARM,
    CLUSTER,
    COST,
    EVENT,
    LEFT,
    PERIOD,
    PRICE,
    RECEIVED,
    STAYED,
    UNIT,
    TrialColumns,
    check_arms,
    read_rows,
    trial_problem,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Layout = Literal["units", "before_after", "switchback"]
Period = date | int

SWITCHING_SHARE = 0.5
"""Share of units in several arms from which arms alternate by design and not by mistake."""


class AssignedTrial(Protocol):
    """What was assigned and read in a test, whether its data are units (`Trial`) or sums (`SummedTrial`)."""

    @property
    def layout(self) -> Layout:
        """``units``, ``before_after`` or ``switchback``."""

    @property
    def arms(self) -> tuple[str, ...]:
        """Control first."""

    @property
    def outcomes(self) -> Mapping[str, object]:
        """Outcomes read, the primary one first."""

    @property
    def primary(self) -> str:
        """The outcome that the decision rests on."""

    @property
    def pre(self) -> tuple[str, ...]:
        """Covariates that were named for it."""

    @property
    def clustered(self) -> bool:
        """Whether whole clusters were assigned to one arm each."""

    @property
    def assigned_by_cluster(self) -> bool:
        """Whether the units of a plan are clusters."""

    @property
    def periods(self) -> tuple[Period, Period] | None:
        """First and last period of the test."""

    @property
    def prices(self) -> tuple[float, ...] | None:
        """Mean price by arm."""

    @property
    def costs(self) -> tuple[float, ...] | None:
        """Mean cost by arm."""

    def assigned_counts(self) -> tuple[int, ...]:
        """What was assigned to each arm."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """A test's data, checked: one row per unit, or per unit and period where arms alternate or an event is read.

    Attributes
    ----------
    layout : str
        ``units``, ``before_after`` or ``switchback``.
    arms : tuple of str
        Control first.
    arm : int array (row,)
        Arm at work in the row, as a place in `arms`.
    unit : int array (row,)
    assigned : int array (unit,)
        Arm that each unit was assigned to; -1 where arms alternate.
    outcomes : mapping of str to array (row,)
    covariates : mapping of str to array (row, covariate)
        What was known before the test, by outcome; NaN where it is not known.
    cluster, period : int arrays (row,), optional
    periods : tuple, optional
        First and last period of the test.
    prices, costs : tuple of float, by arm, optional
        Means over rows.
    received : array (row,), optional
        Share of the new price's treatment that a unit got, in [0, 1].
    stayed, left : array (row,), optional
        Periods seen as a customer, and whether the unit left then.
    rows : int
        Rows read.
    only_before : int
        Units with rows before the start only; they are no part of the test.
    pre : tuple of str
        Covariates that were named; an outcome's own past is not among them.
    """

    layout: Layout
    arms: tuple[str, ...]
    arm: Ints
    unit: Ints
    assigned: Ints
    outcomes: Mapping[str, Floats]
    covariates: Mapping[str, Floats]
    cluster: Ints | None
    period: Ints | None
    periods: tuple[Period, Period] | None
    prices: tuple[float, ...] | None
    costs: tuple[float, ...] | None
    rows: int
    only_before: int
    received: Floats | None = None
    stayed: Floats | None = None
    left: NDArray[np.bool_] | None = None
    pre: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """The outcome that the decision rests on."""
        return next(iter(self.outcomes))

    @property
    def clustered(self) -> bool:
        """Whether whole clusters were assigned to one arm each."""
        if self.cluster is None or self.layout != "units":
            return False
        return bool(
            np.unique(np.column_stack([self.cluster, self.arm]), axis=0).shape[0] == np.unique(self.cluster).size
        )

    @property
    def assigned_by_cluster(self) -> bool:
        """Whether the units of a plan are clusters."""
        return self.clustered or (self.layout == "before_after" and self.cluster is not None)

    def assigned_counts(self) -> tuple[int, ...]:
        """What was assigned to each arm: clusters where whole clusters were, cells where arms alternate, else units."""
        if self.layout == "switchback":
            labels = self.arm
        elif self.cluster is not None and self.assigned_by_cluster:
            pairs = np.unique(np.column_stack([self.cluster, self.assigned[self.unit]]), axis=0)
            labels = pairs[:, 1]
        else:
            labels = self.assigned
        return tuple(int(count) for count in np.bincount(labels, minlength=len(self.arms)))


def read_trial(frame: object, columns: TrialColumns) -> Trial:
    """Check a test's rows and bring them into the shape that its design asks for.

    Parameters
    ----------
    frame : any frame
    columns : TrialColumns

    Raises
    ------
    PanelError
        With every problem: unknown columns, text among numbers, missing or infinite values, no control arm, one arm
        only, units that were in two arms.

    Examples
    --------
    >>> frame = pl.DataFrame({"user": [1, 1, 2, 3, 4], "arm": ["A", "A", "B", "A", "B"],
    ...                       "spent": [2.0, 3.0, 0.0, 4.0, 9.0]})
    >>> columns = TrialColumns(arm="arm", control_arm="A", outcomes=("spent",), unit="user")
    >>> trial = read_trial(frame, columns)
    >>> trial.arms, trial.outcomes["spent"].tolist(), trial.arm.tolist()
    (('A', 'B'), [5.0, 0.0, 4.0, 9.0], [0, 1, 0, 1])
    """
    rows = read_rows(frame_from_any(frame), columns)
    if columns.event is not None:
        check_arms(rows, columns)
        return _before_after(rows, columns)
    test = rows
    if columns.start is not None:
        test = rows.filter(pl.col(PERIOD) >= columns.start)
        if test.is_empty():
            raise trial_problem(
                "no_rows_in_test", f"no row lies on or after the start {columns.start}", "check --start"
            )
    check_arms(test, columns)
    if _alternates(test, columns):
        return _rows_over_periods(test, columns, "switchback", test[ARM])
    return _units(rows, test, columns)


def _alternates(test: pl.DataFrame, columns: TrialColumns) -> bool:
    """Whether units change arm over periods by design."""
    if columns.period is None or (columns.unit or columns.cluster) is None:
        return False
    key = UNIT if columns.unit is not None else CLUSTER
    arms = test.group_by(key).agg(pl.col(ARM).n_unique().alias("arms"), pl.col(PERIOD).n_unique().alias("periods"))
    several = arms.filter(pl.col("periods") > 1)
    if several.is_empty() or not (several["arms"] > 1).mean() >= SWITCHING_SHARE:  # type: ignore[operator]
        return False
    mixed = test.group_by(key, PERIOD).agg(pl.col(ARM).n_unique().alias("arms")).filter(pl.col("arms") > 1)
    return columns.unit is not None or mixed.is_empty()


def _units(rows: pl.DataFrame, test: pl.DataFrame, columns: TrialColumns) -> Trial:
    """One row per unit: outcomes added up over its rows."""
    _check_one_arm(test, columns)
    first = [pl.col(name).first() for name in (ARM, CLUSTER) if name in test.columns]
    sums = [pl.col(name).sum() for name in columns.outcomes]
    pre = [pl.col(name).mean().alias(f"__pre_{name}") for name in columns.pre]
    pre += [pl.col(name).max() for name in (RECEIVED, STAYED, LEFT) if name in test.columns]
    units = test.group_by(UNIT, maintain_order=True).agg(*first, *sums, *pre)
    before_names: list[str] = []
    only_before = 0
    if columns.start is not None:
        earlier = rows.filter(pl.col(PERIOD) < columns.start)
        before_names = [f"__before_{name}" for name in columns.outcomes]
        before = earlier.group_by(UNIT).agg(pl.col(name).sum().alias(f"__before_{name}") for name in columns.outcomes)
        only_before = before.join(units, on=UNIT, how="anti").height
        units = units.join(before, on=UNIT, how="left", maintain_order="left")
    arms = _arm_names(test, columns)
    arm = _codes_of(units[ARM], arms)
    return Trial(
        layout="units",
        arms=arms,
        arm=arm,
        unit=np.arange(units.height, dtype=np.int64),
        assigned=arm,
        outcomes={name: units[name].to_numpy() for name in columns.outcomes},
        covariates=_covariates(units, columns, bool(before_names) and units[before_names[0]].is_not_null().any()),
        cluster=_codes(units[CLUSTER]) if columns.cluster is not None else None,
        period=None,
        periods=_span(test, columns),
        prices=_by_arm(test, arms, PRICE),
        costs=_by_arm(test, arms, COST),
        rows=rows.height,
        only_before=only_before,
        received=_received(units, columns),
        stayed=units[STAYED].to_numpy() if columns.stayed is not None else None,
        left=(units[LEFT] > 0).to_numpy() if columns.left is not None else None,
        pre=columns.pre,
    )


def _received(units: pl.DataFrame, columns: TrialColumns) -> Floats | None:
    if columns.received is None:
        return None
    if not units[RECEIVED].is_between(0, 1).all():
        remedy = "write 1 where the unit got the new price, else 0"
        raise trial_problem("bad_received", f"{columns.received!r} is not in [0, 1] everywhere", remedy)
    return np.asarray(units[RECEIVED].to_numpy(), dtype=np.float64)


def _check_one_arm(test: pl.DataFrame, columns: TrialColumns) -> None:
    """Nobody was in two arms."""
    arms = test.group_by(UNIT, maintain_order=True).agg(pl.col(ARM).unique().sort())
    twice = arms.filter(pl.col(ARM).list.len() > 1)
    if twice.is_empty():
        return
    examples = [{str(columns.unit): row[UNIT], columns.arm: " and ".join(row[ARM])} for row in twice.head(3).to_dicts()]
    raise PanelError(
        Problem(
            code="unit_in_two_arms",
            count=twice.height,
            message=f"{twice.height} of {arms.height} units were in two arms",
            remedy="find out why the assignment changed; where prices alternate by design, name --period",
            examples=tuple(examples),
        )
    )


def _covariates(units: pl.DataFrame, columns: TrialColumns, has_before: bool) -> dict[str, Floats]:
    shared = [f"__pre_{name}" for name in columns.pre]
    chosen = {name: [*shared, *([f"__before_{name}"] if has_before else [])] for name in columns.outcomes}
    return {
        name: units.select(pl.col(names).cast(pl.Float64)).fill_null(float("nan")).to_numpy()
        for name, names in chosen.items()
        if names
    }


def _before_after(rows: pl.DataFrame, columns: TrialColumns) -> Trial:
    """Rows over periods, the arm at work only after the event."""
    event, period = rows[EVENT], rows[PERIOD]
    if event.dtype == pl.Boolean:
        after = event.fill_null(value=False)
    elif event.dtype == period.dtype:
        after = (period >= event).fill_null(value=False)
    else:
        remedy = "write 0 and 1, or the period from which on the change holds, in the form of the period column"
        raise trial_problem("bad_event", f"{columns.event!r} is neither 0 and 1 nor a period", remedy)
    if not after.any() or after.all():
        when = "after" if after.all() else "before"
        raise trial_problem("no_event", f"all rows lie {when} the event", "give rows before and after it")
    treated = (rows[ARM] != columns.control_arm) & after
    at_work = pl.select(pl.when(treated).then(rows[ARM]).otherwise(pl.lit(columns.control_arm))).to_series()
    return _rows_over_periods(rows, columns, "before_after", at_work)


def _rows_over_periods(rows: pl.DataFrame, columns: TrialColumns, layout: Layout, at_work: pl.Series) -> Trial:
    """One row per unit, period and arm."""
    if columns.pre:
        raise SpecError("Where arms alternate each unit is compared with itself; leave the covariates (--pre) out.")
    labels = [pl.col(key) for key, name in ((UNIT, columns.unit), (CLUSTER, columns.cluster)) if name is not None]
    joined = rows.with_columns(at_work.alias("__at_work"), pl.concat_str(labels, separator="\x1f").alias("__row_unit"))
    extra = [pl.col(CLUSTER).first()] if columns.cluster is not None else []
    cells = joined.group_by("__row_unit", PERIOD, "__at_work", maintain_order=True).agg(
        *[pl.col(name).sum() for name in columns.outcomes], *extra, pl.col(ARM).first()
    )
    arms = _arm_names(rows, columns)
    unit = _codes(cells["__row_unit"])
    assigned = np.full(int(unit.max()) + 1, -1, dtype=np.int64)
    if layout == "before_after":
        np.maximum.at(assigned, unit, _codes_of(cells[ARM], arms))
    return Trial(
        layout=layout,
        arms=arms,
        arm=_codes_of(cells["__at_work"], arms),
        unit=unit,
        assigned=assigned,
        outcomes={name: cells[name].to_numpy() for name in columns.outcomes},
        covariates={},
        cluster=_codes(cells[CLUSTER]) if columns.cluster is not None else None,
        period=_codes(cells[PERIOD]),
        periods=_span(rows, columns),
        prices=_by_arm(rows, arms, PRICE),
        costs=_by_arm(rows, arms, COST),
        rows=rows.height,
        only_before=0,
    )


def _arm_names(rows: pl.DataFrame, columns: TrialColumns) -> tuple[str, ...]:
    others = sorted(name for name in rows[ARM].unique() if name != columns.control_arm)
    return (columns.control_arm, *others)


def _codes_of(names: pl.Series, known: tuple[str, ...]) -> Ints:
    places = {name: place for place, name in enumerate(known)}
    return np.asarray(names.replace_strict(places, return_dtype=pl.Int64).to_numpy(), dtype=np.int64)


def _codes(values: pl.Series) -> Ints:
    return np.asarray(values.rank("dense").to_numpy(), dtype=np.int64) - 1


def _by_arm(rows: pl.DataFrame, arms: tuple[str, ...], column: str) -> tuple[float, ...] | None:
    if column not in rows.columns:
        return None
    means = dict(rows.group_by(ARM).agg(pl.col(column).mean()).iter_rows())
    return tuple(float(means.get(arm, float("nan"))) for arm in arms)


def _span(rows: pl.DataFrame, columns: TrialColumns) -> tuple[Period, Period] | None:
    if columns.period is None:
        return None
    return rows[PERIOD].min(), rows[PERIOD].max()  # type: ignore[return-value]
