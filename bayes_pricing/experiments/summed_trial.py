"""A price test that comes as sums: units, total and total of squares of each outcome, by arm and perhaps by day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.sources import frame_from_any
from bayes_pricing.errors import PanelError, Problem, SpecError
from bayes_pricing.experiments.trial import SWITCHING_SHARE, Layout, Period
from bayes_pricing.experiments.trial_columns import (
    ARM,
    CLUSTER,
    COST,
    PERIOD,
    PRICE,
    TrialColumns,
    check_arms,
    read_rows,
    trial_problem,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ROUNDING = 1e-6
"""Share of a sum of squares by which it may fall short of the least possible: files round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumColumns:
    """Which column of a file of sums means what; its rows are arms, or arms by day or cluster.

    Attributes
    ----------
    arm, control_arm : str
    count : str
        Units of the row, those with an outcome of zero included.
    outcomes : tuple of str
        Totals over the row's units; the decision rests on the first. More is better.
    squares : tuple of str
        Totals of the squares, in the order of the outcomes. Of an outcome that is 0 or 1 the squares are the outcome:
        name the same column. May be left out where clusters were assigned or arms alternate.
    cluster, period, price, cost : str, optional
        As in `TrialColumns`.
    start : date or int, optional
        First period of the test; earlier rows are left out.
    """

    arm: str
    control_arm: str
    count: str
    outcomes: tuple[str, ...]
    squares: tuple[str, ...] = ()
    cluster: str | None = None
    period: str | None = None
    start: date | int | None = None
    price: str | None = None
    cost: str | None = None

    def __post_init__(self) -> None:
        if self.squares and len(self.squares) != len(self.outcomes):
            raise SpecError(
                f"There are {len(self.outcomes)} outcomes {list(self.outcomes)} and {len(self.squares)} columns of "
                "squares; give one --square for each --outcome, in the same order."
            )
        if self.start is not None and self.period is None:
            raise SpecError("A start needs the column of the period; name it with --period.")
        self.rows()

    def rows(self) -> TrialColumns:
        """The same columns as those of rows of units, for reading them."""
        return TrialColumns(
            arm=self.arm,
            control_arm=self.control_arm,
            outcomes=tuple(dict.fromkeys([*self.outcomes, self.count, *self.squares])) if self.outcomes else (),
            cluster=self.cluster,
            period=self.period,
            price=self.price,
            cost=self.cost,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SummedTrial:
    """A test's sums, checked: one cell per row of the file.

    Attributes
    ----------
    layout : str
        ``units``, or ``switchback`` where arms alternate over periods.
    arms : tuple of str
        Control first.
    arm : int array (cell,)
    count : array (cell,)
        Units.
    outcomes, squares : mapping of str to array (cell,)
        Totals of each outcome, and of its squares where they were given.
    group : int array (cell,), optional
        What was assigned together: the cluster, or the stretch of periods in which everybody had one arm.
    blocks : int array (cell,)
        Cluster and period of a cell as one code: what alternating arms are counted by.
    periods : tuple, optional
    prices, costs : tuple of float, by arm, optional
        Means over units.
    spread : int
        Most rows of an arm (and cluster): over so many its units were added up.
    before_start : int
        Rows before the start, left out.
    pre : tuple of str
        Covariates: none.
    """

    layout: Layout
    arms: tuple[str, ...]
    arm: Ints
    count: Floats
    outcomes: Mapping[str, Floats]
    squares: Mapping[str, Floats]
    group: Ints | None
    blocks: Ints
    periods: tuple[Period, Period] | None
    prices: tuple[float, ...] | None
    costs: tuple[float, ...] | None
    spread: int
    before_start: int
    pre: tuple[str, ...] = ()

    @property
    def primary(self) -> str:
        """The outcome that the decision rests on."""
        return next(iter(self.outcomes))

    @property
    def clustered(self) -> bool:
        """Whether whole clusters were assigned to one arm each."""
        if self.group is None or self.layout != "units":
            return False
        return bool(np.unique(np.column_stack([self.group, self.arm]), axis=0).shape[0] == np.unique(self.group).size)

    @property
    def assigned_by_cluster(self) -> bool:
        """Whether the plan's units are clusters."""
        return self.clustered

    def assigned_counts(self) -> tuple[int, ...]:
        """What was assigned to each arm: clusters where whole clusters were, cells where arms alternate, else units."""
        if self.layout == "switchback":
            labels = np.unique(np.column_stack([self.blocks, self.arm]), axis=0)[:, 1]
        elif self.clustered and self.group is not None:
            labels = np.unique(np.column_stack([self.group, self.arm]), axis=0)[:, 1]
        else:
            return tuple(int(units) for units in self.by_arm(self.count))
        return tuple(int(count) for count in np.bincount(labels, minlength=len(self.arms)))

    def by_arm(self, values: Floats) -> Floats:
        """Totals (arm,) of what stands in the cells."""
        return np.bincount(self.arm, weights=values, minlength=len(self.arms))


def read_summed_trial(frame: object, columns: SumColumns) -> SummedTrial:
    """Check a file of sums.

    Parameters
    ----------
    frame : any frame
    columns : SumColumns

    Raises
    ------
    PanelError
        If columns or values are missing, a count is no whole number, an arm or control is missing, or a sum of squares
        is smaller than the total allows.
    SpecError
        If squares are needed (nothing was assigned by cluster) and not given.

    Examples
    --------
    >>> frame = pl.DataFrame({"arm": ["A", "B"], "users": [10, 10], "revenue": [100.0, 105.0],
    ...                       "revenue2": [1002.25, 1111.5]})
    >>> columns = SumColumns(arm="arm", control_arm="A", count="users", outcomes=("revenue",), squares=("revenue2",))
    >>> trial = read_summed_trial(frame, columns)
    >>> trial.arms, trial.assigned_counts()
    (('A', 'B'), (10, 10))
    """
    rows = read_rows(frame_from_any(frame), columns.rows())
    _check_sums(rows, columns)
    test = rows if columns.start is None else rows.filter(pl.col(PERIOD) >= columns.start)
    if test.is_empty():
        raise trial_problem("no_rows_in_test", f"no row lies on or after the start {columns.start}", "check --start")
    check_arms(test, columns.rows())
    others = sorted(name for name in test[ARM].unique() if name != columns.control_arm)
    arms = (columns.control_arm, *others)
    arm = np.array([arms.index(name) for name in test[ARM]], dtype=np.int64)
    count = test[columns.count].to_numpy()
    layout, group, blocks = _assignment(test, columns, arm)
    if group is None and not columns.squares:
        raise SpecError("Without clusters an interval needs each outcome's sum of squares; name them with --square.")
    return SummedTrial(
        layout=layout,
        arms=arms,
        arm=arm,
        count=count,
        outcomes={name: test[name].to_numpy() for name in columns.outcomes},
        squares={
            name: test[square].to_numpy() for name, square in zip(columns.outcomes, columns.squares, strict=False)
        },
        group=group,
        blocks=blocks,
        periods=(test[PERIOD].min(), test[PERIOD].max()) if columns.period is not None else None,  # type: ignore[arg-type]
        prices=_mean_by_arm(test, arm, count, PRICE),
        costs=_mean_by_arm(test, arm, count, COST),
        spread=int(test.group_by(ARM, *([CLUSTER] if columns.cluster is not None else [])).len()["len"].max()),  # type: ignore[arg-type]
        before_start=rows.height - test.height,
    )


def _check_sums(rows: pl.DataFrame, columns: SumColumns) -> None:
    """Counts are whole, and no sum of squares is below what its total allows."""
    count = pl.col(columns.count)
    wrong = [
        ((count < 0) | (count != count.floor()), "bad_count", f"have a {columns.count!r} that is no number of units",
         "give how many units the row's sums are over"),
    ]  # fmt: skip
    wrong += [
        ((count == 0) & (pl.col(name) != 0), "sum_of_nobody", f"have a {name!r} and no units",
         "count every unit that the sum is over")
        for name in columns.outcomes
    ]  # fmt: skip
    wrong += [
        ((count > 0) & (pl.col(square) * count < pl.col(name) ** 2 * (1.0 - ROUNDING)), "impossible_squares",
         f"have a {square!r} below {name!r} squared over {columns.count!r}",
         "give the sum over units of the squared outcome, and the outcome's sum rather than its mean")
        for name, square in zip(columns.outcomes, columns.squares, strict=False)
    ]  # fmt: skip
    shown = list(dict.fromkeys([columns.count, *columns.outcomes, *columns.squares]))
    problems = [
        Problem(code=code, count=bad.height, message=f"{bad.height} of {rows.height} rows {what}", remedy=remedy,
                examples=tuple(bad.select(shown).head(3).to_dicts()))
        for breaks, code, what, remedy in wrong
        if not (bad := rows.filter(breaks)).is_empty()
    ]  # fmt: skip
    if problems:
        raise PanelError(problems)


def _assignment(test: pl.DataFrame, columns: SumColumns, arm: Ints) -> tuple[Layout, Ints | None, Ints]:
    """How arms were assigned, what was assigned together, and cluster and period of each cell."""
    place = np.arange(test.height, dtype=np.int64)
    cluster = _codes(test[CLUSTER]) if columns.cluster is not None else None
    if columns.period is None:
        return "units", cluster, place if cluster is None else cluster
    period = _codes(test[PERIOD])
    blocks = period if cluster is None else cluster * (int(period.max()) + 1) + period
    if _arms_of(period, arm).max() == 1:  # everybody has the same arm in a period
        arm_of = np.zeros(int(period.max()) + 1, dtype=np.int64)
        arm_of[period] = arm
        stretches = np.concatenate([[0], np.cumsum(np.diff(arm_of) != 0)]).astype(np.int64)
        return "switchback", stretches[period], blocks
    if cluster is None or _arms_of(blocks, arm).max() > 1:
        return "units", cluster, blocks
    alternating = (_arms_of(cluster, arm) > 1).mean() >= SWITCHING_SHARE
    return "switchback" if alternating else "units", cluster, blocks


def _arms_of(group: Ints, arm: Ints) -> Ints:
    """How many arms each group had."""
    pairs = np.unique(np.column_stack([group, arm]), axis=0)
    return np.unique(pairs[:, 0], return_counts=True)[1].astype(np.int64)


def _codes(values: pl.Series) -> Ints:
    return np.asarray(values.rank("dense").to_numpy(), dtype=np.int64) - 1


def _mean_by_arm(test: pl.DataFrame, arm: Ints, count: Floats, column: str) -> tuple[float, ...] | None:
    """Means over units; over those of rows that have a value."""
    if column not in test.columns:
        return None
    values = test[column].fill_null(float("nan")).to_numpy()
    weight = np.where(np.isnan(values), 0.0, count)
    units = np.bincount(arm, weights=weight)
    total = np.bincount(arm, weights=weight * np.nan_to_num(values))
    return tuple(float(t / n) if n > 0 else float("nan") for t, n in zip(total, units, strict=True))
