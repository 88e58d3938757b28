"""What a baseline is: rows of sales in, predicted units and an own-price elasticity with an interval out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.demand.terms import TermRequest, add_terms
from bayes_pricing.errors import Finding, PanelError, Problem, Refusal, SpecError

if TYPE_CHECKING:
    from bayes_pricing.data.panel import SalesPanel

Floats = NDArray[np.float64]
UnitModel = Literal["auto", "log", "counts"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SalesRows:
    """Sales in memory in canonical names, and which columns mean what: all that a baseline sees.

    Attributes
    ----------
    frame : polars.DataFrame
        ``item``, the level columns, ``price`` (currency per unit), ``quantity`` (units per period), and where they
        exist ``period``, ``region``, ``exposure`` (positive), ``stock`` or ``sold_out``, the controls and the
        instruments (numbers or booleans). Only the posterior knows that a week without stock would have sold more.
    levels : tuple of str
        Nesting levels above the item, inner first; empty for none.
    controls, shared_controls : tuple of str
        Columns whose effect may differ by item, and columns with one effect for all.
    instruments : tuple of str
        Columns that move the price and nothing else. The posterior and double machine learning use them; no estimator
        predicts with them.
    zeros : bool, optional
        Whether the sales these rows are part of have rows that sold nothing; looked up in the frame unless given, so
        that a training window keeps the unit model of the whole.

    Raises
    ------
    SpecError
        If a named column is absent, or a control or an instrument is not a number.
    PanelError
        If there are no rows, or a needed value is missing.

    Examples
    --------
    >>> rows = SalesRows(frame=pl.DataFrame({"item": ["tea", "tea"], "price": [4.0, 5.0], "quantity": [3.0, 0.0]}))
    >>> rows.keys, rows.group, rows.has_zeros
    (('item',), None, True)
    """

    frame: pl.DataFrame
    levels: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    shared_controls: tuple[str, ...] = ()
    instruments: tuple[str, ...] = ()
    zeros: bool | None = None

    def __post_init__(self) -> None:
        needed = ["item", *self.levels, "price", "quantity", *self.features, *self.instruments]
        absent = [name for name in needed if name not in self.frame.columns]
        if absent:
            raise SpecError(f"SalesRows lacks the columns {absent}; it has {self.frame.columns}.")
        texts = [name for name in (*self.features, *self.instruments) if not _is_number(self.frame.schema[name])]
        if texts:
            raise SpecError(f"Controls or instruments {texts} are not numbers; code them as numbers or 0/1 first.")
        if self.frame.height == 0:
            raise PanelError(Problem(code="no_rows", count=0, message="there are no sales rows", remedy="give some"))
        holes = {name: self.frame[name].null_count() for name in needed if self.frame[name].null_count()}
        if holes:
            raise PanelError(
                Problem(
                    code="missing_values",
                    count=sum(holes.values()),
                    message=f"values are missing in {holes} rows by column",
                    remedy="fill them, or leave these rows or columns out",
                )
            )

    @classmethod
    def from_panel(cls, panel: SalesPanel) -> SalesRows:
        """Bring a panel's rows into memory, with the roles a baseline uses.

        As in a fit, competitors' prices become controls in logs and an announced price cut the control ``promotion``.

        Examples
        --------
        >>> from bayes_pricing.data.panel import SalesPanel
        >>> from bayes_pricing.data.roles import ColumnRoles
        >>> sales = pl.DataFrame({"item": ["tea", "tea"], "week": [1, 2], "price": [3.0, 2.5], "units": [10, 14]})
        >>> panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
        >>> SalesRows.from_panel(panel).frame.columns
        ['item', 'period', 'price', 'quantity']
        """
        roles = panel.roles
        rivals = {f"log_{name}": pl.col(name).log() for name in roles.competitor_prices}
        terms = add_terms(panel.frame.with_columns(**rivals), roles, TermRequest())
        controls = (*roles.controls, *rivals, *terms.controls)
        optional = {
            "region": roles.region,
            "period": roles.period,
            "exposure": roles.exposure,
            "stock": roles.stock,
            "sold_out": roles.sold_out,
        }
        columns = [
            "item",
            *roles.levels,
            *(name for name, source in optional.items() if source is not None),
            "price",
            "quantity",
            *controls,
            *roles.shared_controls,
            *roles.instruments,
        ]
        return cls(
            frame=terms.frame.select(columns).collect(),
            levels=roles.levels,
            controls=controls,
            shared_controls=roles.shared_controls,
            instruments=roles.instruments,
        )

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all controls, item-level ones first."""
        return (*self.controls, *self.shared_controls)

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that name one selling unit: the item, and its region where there is one."""
        return ("item", "region") if "region" in self.frame.columns else ("item",)

    @property
    def group(self) -> str | None:
        """The innermost level, whose items share an elasticity in the pooled estimators; None if there is none."""
        return self.levels[0] if self.levels else None

    @property
    def has_zeros(self) -> bool:
        """Whether some row sold nothing, so that log units do not exist."""
        if self.zeros is not None:
            return self.zeros
        return bool((self.frame["quantity"] == 0).any())

    def with_frame(self, frame: pl.DataFrame) -> SalesRows:
        """Give the same roles to other rows, for example one training window."""
        return SalesRows(
            frame=frame,
            levels=self.levels,
            controls=self.controls,
            shared_controls=self.shared_controls,
            instruments=self.instruments,
            zeros=self.has_zeros,
        )

    def without_instruments(self) -> SalesRows:
        """The same rows with prices taken as given.

        Examples
        --------
        >>> frame = pl.DataFrame({"item": ["tea"], "price": [4.0], "quantity": [3.0], "tax": [0.5]})
        >>> SalesRows(frame=frame, instruments=("tax",)).without_instruments().instruments
        ()
        """
        return replace(self, instruments=())

    def without_stock(self) -> SalesRows:
        """The same rows with every quantity taken for what was wanted.

        Examples
        --------
        >>> frame = pl.DataFrame({"item": ["tea"], "price": [4.0], "quantity": [3.0], "sold_out": [True]})
        >>> SalesRows(frame=frame).without_stock().frame.columns
        ['item', 'price', 'quantity']
        """
        return replace(self, frame=self.frame.drop("stock", "sold_out", strict=False))


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elasticities:
    """Own-price elasticities (d log units / d log price) with intervals, one per name.

    Attributes
    ----------
    name : tuple of str
        Items, or the groups that were averaged over.
    mean, lower, upper : arrays, dims (name,), no unit
        NaN with an infinite interval where the data say nothing (the price never moved); an infinite interval
        around a number where its error cannot be estimated (a single cluster).
    probability : float in (0, 1)
        Nominal coverage of the intervals.
    interval_kind : str
        How the interval was made and of what it speaks.
    n_items : tuple of int
        Items with an elasticity behind each number; the others were left out of a group's mean.

    Examples
    --------
    >>> draws = np.linspace(-3.0, -1.0, 101)[:, None]
    >>> tea = Elasticities.from_draws(["tea"], draws, probability=0.9, interval_kind="credible")
    >>> [round(float(value), 2) for value in (tea.mean[0], tea.lower[0], tea.upper[0])]
    [-2.0, -2.9, -1.1]
    """

    name: tuple[str, ...]
    mean: Floats
    lower: Floats
    upper: Floats
    probability: float
    interval_kind: str
    n_items: tuple[int, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.name), len(self.mean), len(self.lower), len(self.upper), len(self.n_items)}
        if len(lengths) > 1:
            raise SpecError(f"Elasticities has fields of different lengths {sorted(lengths)}; give one value per name.")
        if not 0 < self.probability < 1:
            raise SpecError(
                f"Elasticities.probability is {self.probability}; it must lie between 0 and 1 (0.9 is usual)."
            )

    @classmethod
    def from_draws(
        cls,
        name: Sequence[str],
        draws: ArrayLike,
        *,
        probability: float,
        interval_kind: str,
        n_items: Sequence[int] | None = None,
    ) -> Elasticities:
        """Summarise draws, shape (n_draws, n_names), by their mean and equal-tailed interval."""
        values = np.asarray(draws, dtype=np.float64)
        tail = (1 - probability) / 2
        lower, upper = np.quantile(values, [tail, 1 - tail], axis=0)
        return cls(
            name=tuple(name),
            mean=values.mean(axis=0),
            lower=lower,
            upper=upper,
            probability=probability,
            interval_kind=interval_kind,
            n_items=tuple(n_items) if n_items is not None else (1,) * len(name),
        )


class FittedBaseline(Protocol):
    """What a baseline learned from its training rows; never modified."""

    @property
    def name(self) -> str:
        """Name of the estimator as tables print it, with its unit model."""
        ...

    @property
    def seconds(self) -> float:
        """Wall-clock seconds the fit took, intervals included."""
        ...

    def predict_units(self, frame: pl.DataFrame) -> Floats:
        """Return the expected units per period of each row; its `quantity` is not read."""
        ...

    def predict_draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        """Predictive draws of units, shape (n_draws, n_rows): expected units and the noise of single sales."""
        ...

    def own_price_elasticity(self, items: Sequence[str], at_prices: ArrayLike) -> Elasticities:
        """Elasticity of each item at its price (currency per unit)."""
        ...

    def mean_elasticity(self, items: Sequence[str], at_prices: ArrayLike, groups: Sequence[str]) -> Elasticities:
        """Mean elasticity of the items of each group (sorted by group), with the interval of that mean."""
        ...


class Baseline(Protocol):
    """An estimator and its options as a value: `fit` is its only act."""

    def fit(self, train: SalesRows) -> FittedBaseline:
        """Learn from training rows only."""
        ...


def resolve_unit_model(unit_model: UnitModel, rows: SalesRows) -> Literal["log", "counts"]:
    """Choose counts where some row sold nothing, log units otherwise; refuse the logarithm of zero.

    Raises
    ------
    Refusal
        If log units are asked for and some row sold nothing.

    Examples
    --------
    >>> rows = SalesRows(frame=pl.DataFrame({"item": ["tea"], "price": [4.0], "quantity": [0.0]}))
    >>> resolve_unit_model("auto", rows)
    'counts'
    """
    if unit_model == "auto":
        return "counts" if rows.has_zeros else "log"
    if unit_model == "log" and rows.has_zeros:
        raise Refusal(
            [
                Finding(
                    code="zeros_under_log_model",
                    severity="error",
                    message="some rows sold nothing, and log units of zero do not exist",
                    remedy="use a count model (unit_model='counts' or 'auto')",
                )
            ]
        )
    return unit_model
