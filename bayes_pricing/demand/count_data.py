"""Counts compressed to cells: rows with equal predictors count once, and the likelihood stays exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import gammaln

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import SpecError

Integers = NDArray[np.int64]
_ITEM = "__item"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountData:
    r"""Sales counts as cells: one per item and distinct set of predictors.

    With :math:`\eta` the log of the expected units per unit of exposure, :math:`n` a row's units and :math:`E` its
    exposure, rows of one cell share :math:`\eta`, and up to a constant their log likelihood is

    .. math::
       \text{Poisson:} \quad & \eta \textstyle\sum n - e^\eta \sum E \\
       \text{negative binomial:} \quad & \eta \textstyle\sum n
           - \left(\sum n + W \varphi\right) \log(1 + E e^\eta / \varphi)
           + \sum_\text{rows} \left[\log\Gamma(n + \varphi) - \log\Gamma(\varphi) - n \log\varphi\right]

    so Poisson exposures add, negative binomial cells are split by exposure and hold :math:`W` rows each, and the last
    sum needs only how often each count occurs.

    Attributes
    ----------
    spec : DemandSpec
    tree : TreeData
        Items, their nesting and the second moments of the predictors (its response is empty).
    item : int array (cells,)
        Position of each cell's item, ascending.
    predictors : array (cells, k + m + 2 a)
        ``level`` (ones), ``log_price``, item-level controls, shared controls, what `a` attributes add to level and
        elasticity, each centred by `centre`.
    total, rows, exposure : arrays (cells,)
        Units sold, number of rows, and exposure: the sum over rows for Poisson, that of each row for the negative
        binomial.
    centre : array (items, k + m + 2 a)
        Item means subtracted from the predictors (zero where the specification keeps a column's zero), frozen with the
        fit.
    counts, count_rows : arrays
        Distinct units of a row, and how many rows have them.
    log_constant : float
        What to add to the compressed log likelihood to get that of the rows.
    """

    spec: DemandSpec
    tree: TreeData
    item: Integers
    predictors: Floats
    total: Floats
    rows: Floats
    exposure: Floats
    centre: Floats
    counts: Floats
    count_rows: Floats
    log_constant: float

    @property
    def items(self) -> tuple[str, ...]:
        """Sorted item names."""
        return self.tree.gram.items

    @property
    def start(self) -> Integers:
        """First cell of each item, and last the number of cells: shape (items + 1,)."""
        return np.searchsorted(self.item, np.arange(len(self.items) + 1)).astype(np.int64)


def build_count_data(frame: pl.LazyFrame | pl.DataFrame, spec: DemandSpec) -> CountData:
    """Compress sales rows to cells.

    Parameters
    ----------
    frame : polars frame, lazy or eager
        Columns ``item``, the levels of the spec, ``price`` (currency), ``quantity`` (whole units), its controls, the
        columns of its attributes and, where there is one, ``exposure``.
    spec : DemandSpec
        With a count likelihood.

    Raises
    ------
    SpecError
        If the likelihood is not one of counts, a quantity is not a whole number of units, or an exposure not positive.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["a", "a", "a", "b"], "price": [1.0, 2.0, 1.0, 3.0], "quantity": [3, 1, 2, 0]})
    >>> data = build_count_data(frame, DemandSpec(likelihood="poisson", levels=()))
    >>> data.total.tolist(), data.rows.tolist()
    ([5.0, 1.0, 0.0], [2.0, 1.0, 1.0])
    """
    if spec.likelihood == "lognormal":
        raise SpecError("DemandSpec.likelihood is lognormal; counts need poisson or negative_binomial.")
    rows = _rows(frame.lazy(), spec)
    _check_rows(rows)
    columns = spec.columns[1:]
    cells = _cells(rows, spec, columns)
    means = rows.group_by(_ITEM).agg(pl.len(), *(pl.col(name).mean() for name in columns)).sort(_ITEM)
    items = tuple(means[_ITEM].to_list())
    item = cells["position"].to_numpy().astype(np.int64)
    centred = [pl.col(name) if name in spec.centred else pl.lit(0.0).alias(name) for name in columns]
    centre = np.column_stack([np.zeros(len(items)), means.select(centred).to_numpy()])
    predictors = np.column_stack([np.ones(cells.height), cells.select(columns).to_numpy()]) - centre[item]
    repeats = rows.group_by("quantity").len().sort("quantity")
    counts, count_rows = (repeats[name].to_numpy().astype(np.float64) for name in ("quantity", "len"))
    groups = rows.group_by(_ITEM).agg(pl.col(level).first() for level in spec.levels).sort(_ITEM)
    weight = cells["rows"].to_numpy().astype(np.float64)
    gram = _moments(items, spec.columns, item, predictors, weight, centre)
    arrays = {name: cells[name].to_numpy().astype(np.float64) for name in ("total", "exposure")}
    constant = float(rows.select((pl.col("quantity") * pl.col("exposure").log()).sum()).item())
    return CountData(
        spec=spec,
        tree=build_tree_data(gram, [groups[level].cast(pl.String).to_list() for level in spec.levels], spec),
        item=item,
        predictors=predictors,
        rows=weight,
        centre=centre,
        counts=counts,
        count_rows=count_rows,
        log_constant=constant - float((count_rows * gammaln(counts + 1.0)).sum()),
        **arrays,
    )


def count_log_likelihood(data: CountData, log_rate: Floats, dispersion: float = np.inf) -> float:
    """Log likelihood of all rows, constants kept, from the log expected units per unit of exposure of each cell.

    Parameters
    ----------
    data : CountData
    log_rate : array (cells,)
    dispersion : float
        Size parameter of the negative binomial (variance = mean + mean^2 / dispersion); not used for Poisson.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["a", "a"], "price": [1.0, 1.0], "quantity": [0, 2]})
    >>> data = build_count_data(frame, DemandSpec(likelihood="poisson", levels=()))
    >>> round(count_log_likelihood(data, np.zeros(1)), 6)  # -1 + (-1 - log 2)
    -2.693147
    """
    mean = data.exposure * np.exp(log_rate)
    value = data.log_constant + float((data.total * log_rate).sum())
    if data.spec.likelihood == "poisson":
        return value - float(mean.sum())
    value -= float(((data.total + data.rows * dispersion) * np.log1p(mean / dispersion)).sum())
    rising = gammaln(data.counts + dispersion) - gammaln(dispersion) - data.counts * np.log(dispersion)
    return value + float((data.count_rows * rising).sum())


def _rows(frame: pl.LazyFrame, spec: DemandSpec) -> pl.DataFrame:
    """The columns a count model needs, in its terms."""
    exposure = pl.col("exposure") if "exposure" in frame.collect_schema() else pl.lit(1.0)
    return frame.select(
        pl.col("item").cast(pl.String).alias(_ITEM),
        *spec.levels,
        *(pl.col(name).cast(pl.Float64) for name in spec.columns[2:]),
        pl.col("price").cast(pl.Float64).log().alias("log_price"),
        pl.col("quantity").cast(pl.Float64),
        exposure.cast(pl.Float64).alias("exposure"),
    ).collect(engine="streaming")


def _check_rows(rows: pl.DataFrame) -> None:
    """Refuse what a count likelihood has no probability for."""
    quantity, exposure = pl.col("quantity"), pl.col("exposure")
    fractions = rows.filter((quantity != quantity.floor()) | (quantity < 0))
    if fractions.height:
        first = fractions.row(0, named=True)
        raise SpecError(
            f"{fractions.height} of {rows.height} quantities are no counts, e.g. {first['quantity']:g} of "
            f"{first[_ITEM]!r}; a count model needs whole units: fit a log-normal one, or give units instead of volume."
        )
    unexposed = rows.filter(~(exposure > 0) | exposure.is_infinite())
    if unexposed.height:
        raise SpecError(
            f"{unexposed.height} of {rows.height} rows have no positive exposure, e.g. {unexposed[_ITEM][0]!r}; "
            "leave out rows in which nobody could buy."
        )


def _cells(rows: pl.DataFrame, spec: DemandSpec, columns: tuple[str, ...]) -> pl.DataFrame:
    """One row per cell, sorted: the item's position, its predictors, `total`, `rows` and `exposure`."""
    poisson = spec.likelihood == "poisson"
    keys = (_ITEM, *columns) if poisson else (_ITEM, *columns, "exposure")
    sums = [pl.col("quantity").sum().alias("total"), pl.len().alias("rows")]
    cells = rows.group_by(keys).agg(*sums, *([pl.col("exposure").sum()] if poisson else []))
    return cells.sort(keys).with_columns((pl.col(_ITEM).rank("dense") - 1).alias("position"))


def _moments(
    items: tuple[str, ...],
    names: tuple[str, ...],
    item: Integers,
    predictors: Floats,
    weight: Floats,
    centre: Floats,
) -> Gram:
    """Second moments of the predictors by item; the response, which counts do not have, is zero."""
    count, p = len(items), predictors.shape[1]
    xtx = sum_by_item(item, predictors[:, :, None] * predictors[:, None, :] * weight[:, None, None], count)
    return Gram(
        items=items,
        columns=names,
        count=np.bincount(item, weight, count),
        xtx=xtx,
        xty=np.zeros((count, p)),
        yty=np.zeros(count),
        centre=centre,
    )


def sum_by_item(item: Integers, values: Floats, items: int) -> Floats:
    """Sums of the rows of `values` that belong to each item; `item` ascends and misses none.

    Examples
    --------
    >>> sum_by_item(np.array([0, 0, 1]), np.array([[1.0], [2.0], [5.0]]), 2).ravel().tolist()
    [3.0, 5.0]
    """
    starts = np.searchsorted(item, np.arange(items))
    summed: Floats = np.add.reduceat(values, starts, axis=0)
    return summed
