"""Gram statistics: all that a Gaussian demand model needs to know of an item's rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import narwhals as nw
import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.sources import not_a_frame
from bayes_pricing.errors import PanelError, Problem, SpecError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gram:
    """Sufficient statistics of a linear model with Gaussian errors, one set per item; they add over rows and files.

    Attributes
    ----------
    items : tuple of str, length J
        Sorted item names.
    columns : tuple of str, length p
        ``level`` (a column of ones), ``log_price`` (centred by `centre`), item-level controls, shared controls.
    count : array (J,)
        Rows.
    xtx : array (J, p, p)
    xty : array (J, p)
        The response is log units.
    yty : array (J,)
    centre : array (J, p)
        What was subtracted from each column before the products: the item's mean log price, frozen with the fit
        so that new weeks enter on the same footing; zero for `level`.
    """

    items: tuple[str, ...]
    columns: tuple[str, ...]
    count: Floats
    xtx: Floats
    xty: Floats
    yty: Floats
    centre: Floats

    def add(self, other: Gram) -> Gram:
        """Add the statistics of further rows: of the same items, of new ones, or of both.

        Raises
        ------
        SpecError
            If the columns differ, or an item of both is not centred alike.

        Examples
        --------
        >>> old = gather_gram({"item": ["tea"] * 2, "log_price": [0.1, 0.3], "y": [2.0, 1.5]},
        ...                   "item", "y", ["log_price"])
        >>> new = gather_gram({"item": ["tea"], "log_price": [0.2], "y": [1.8]}, "item", "y", ["log_price"],
        ...                   centre=old)
        >>> old.add(new).count
        array([3.])
        """
        if self.columns != other.columns:
            raise SpecError(f"Gram statistics of columns {self.columns} and {other.columns} do not add up.")
        items = tuple(sorted({*self.items, *other.items}))
        mine, theirs = _places(self.items, items), _places(other.items, items)
        centre = np.full((len(items), len(self.columns)), np.nan)
        centre[theirs] = other.centre
        both = ~np.isnan(centre[mine, 0])
        moved = both & (centre[mine] != self.centre).any(axis=1)
        if moved.any():
            name = self.items[int(np.flatnonzero(moved)[0])]
            raise SpecError(
                f"Item {name!r} is centred otherwise in the two Gram statistics; gather with centre=<the first>."
            )
        centre[mine] = self.centre

        def total(ours: Floats, others: Floats) -> Floats:
            out = np.zeros((len(items), *ours.shape[1:]))
            out[mine] += ours
            out[theirs] += others
            return out

        return Gram(
            items=items,
            columns=self.columns,
            count=total(self.count, other.count),
            xtx=total(self.xtx, other.xtx),
            xty=total(self.xty, other.xty),
            yty=total(self.yty, other.yty),
            centre=centre,
        )

    def select(self, items: Sequence[str]) -> Gram:
        """Keep the statistics of some items.

        Raises
        ------
        SpecError
            If an item is not there.
        """
        names = tuple(sorted(set(items)))
        lacking = sorted(set(names) - set(self.items))
        if lacking:
            raise SpecError(f"Items {lacking[:3]} have no Gram statistics; choose from the {len(self.items)} fitted.")
        kept = _places(names, self.items)
        return Gram(
            items=names,
            columns=self.columns,
            count=self.count[kept],
            xtx=self.xtx[kept],
            xty=self.xty[kept],
            yty=self.yty[kept],
            centre=self.centre[kept],
        )


def gather_gram(
    frame: object,
    item: str,
    response: str,
    columns: Sequence[str],
    *,
    centre: Gram | None = None,
    centred: Sequence[str] | None = None,
) -> Gram:
    r"""Sum the products of every item's columns by one group-by, on the engine that holds the rows.

    With :math:`s` a constant per column (the middle of its range, so that nothing large cancels) the sums
    :math:`M_i = \sum_t (x_{it} - s)(x_{it} - s)'` are gathered, and re-centred algebraically:

    .. math:: X_i'X_i = T_i' M_i T_i, \qquad T_i = I - e_0 (m_i - s)'

    where :math:`e_0` stands for the column of ones and :math:`m_i` for the item's centre. The second pass over the
    rows is the one that finds :math:`s`. Every product is rounded to a :func:`quantum`, so that the sums are the same
    whatever order the engine's threads add them in: a fit is then reproducible to the last bit.

    Parameters
    ----------
    frame : polars, pandas, Arrow, DuckDB relation, Dask, or any frame that narwhals knows; or a dict of columns
    item, response : str
        Column of item names; column of the response (log units).
    columns : sequence of str
        Columns of the design after ``level``, in order.
    centre : Gram, optional
        Statistics whose centre is kept for the items it knows (new weeks of a fitted model).
    centred : sequence of str, optional
        Columns from which the item's own mean is taken; all of `columns` if left out.

    Raises
    ------
    PanelError
        If a value is missing or infinite.

    Examples
    --------
    >>> gram = gather_gram({"item": ["tea"] * 2, "log_price": [0.1, 0.3], "y": [2.0, 1.5]},
    ...                    "item", "y", ["log_price"])
    >>> gram.columns, gram.centre.round(3).tolist(), gram.xtx.diagonal(0, 1, 2).round(3).tolist()
    (('level', 'log_price'), [[0.0, 0.2]], [[2.0, 0.02]])
    """
    rows = _as_lazy(frame)
    names = [*columns, response]
    ranges = column_ranges(frame, names)
    shift = ranges.middle
    keys, products = _sums_of_products(rows, item, names, ranges)
    width = len(columns) + 1
    moments, count = products[:, :width, :width], products[:, 0, 0]
    means = products[:, 0, :width] / count[:, None]
    centres = np.zeros_like(means)
    taken = [place for place, name in enumerate(columns, 1) if centred is None or name in centred]
    centres[:, taken] = means[:, taken] + shift[np.array(taken, dtype=int) - 1]
    if centre is not None:
        _keep_centres(centres, keys, centre, ("level", *columns))
    transform = centring(centres, np.concatenate([[0.0], shift[:-1]]))
    xty = products[:, :width, width] + shift[-1] * products[:, :width, 0]
    yty = products[:, width, width] + 2 * shift[-1] * products[:, 0, width] + shift[-1] ** 2 * count
    return Gram(
        items=keys,
        columns=("level", *columns),
        count=count,
        xtx=transform.transpose(0, 2, 1) @ moments @ transform,
        xty=(transform.transpose(0, 2, 1) @ xty[:, :, None])[:, :, 0],
        yty=yty,
        centre=centres,
    )


def _places(names: Sequence[str], among: Sequence[str]) -> NDArray[np.intp]:
    """Place of each name in a sorted tuple of names that has them all."""
    position = {name: place for place, name in enumerate(among)}
    return np.array([position[name] for name in names], dtype=np.intp)


def _keep_centres(centres: Floats, items: Sequence[str], frozen: Gram, columns: tuple[str, ...]) -> None:
    """Overwrite the centres of the items that `frozen` knows."""
    if frozen.columns != columns:
        raise SpecError(f"The frozen centre has columns {frozen.columns}, the new rows {columns}.")
    known = {name: place for place, name in enumerate(frozen.items)}
    for place, name in enumerate(items):
        if name in known:
            centres[place] = frozen.centre[known[name]]


def centring(centre: Floats, shift: Floats) -> Floats:
    """Return T_i = I - e_0 (m_i - s)' for every item, (J, p, p): it moves sums centred by `shift` to `centre`."""
    transform = np.broadcast_to(np.eye(centre.shape[1]), (centre.shape[0], centre.shape[1], centre.shape[1])).copy()
    transform[:, 0, 1:] = -(centre - shift)[:, 1:]
    return transform


def _as_lazy(frame: object) -> nw.LazyFrame[Any]:
    """Any frame, lazy on its own engine."""
    native = nw.from_native(pl.LazyFrame(frame) if isinstance(frame, dict) else frame, pass_through=True)
    if isinstance(native, nw.DataFrame):
        return native.lazy()
    if isinstance(native, nw.LazyFrame):
        return native
    raise not_a_frame(frame)


def _collected(frame: nw.LazyFrame[Any]) -> pl.DataFrame:
    """Run a query on the engine that holds it; polars streams."""
    native = frame.to_native()
    if isinstance(native, pl.LazyFrame):
        return native.collect(engine="streaming")
    return frame.collect("polars").to_polars()


class Ranges(NamedTuple):
    """Where the values of some columns lie: no order of reading changes that."""

    rows: int
    middle: Floats  # 0 where there is none
    reach: Floats  # largest distance from it


def quantum(largest: float, rows: int) -> float:
    """The power of two to whose multiples as many values of at most this size are rounded before they are added.

    Up to :math:`2^{52}` of it are exact in double precision, and so are all their sums, in whatever order.

    Examples
    --------
    >>> unit = quantum(1.0, 3)
    >>> values = [round(value / unit) * unit for value in (0.1, 0.2, 0.3)]
    >>> sum(values) == sum(reversed(values)), unit < 1e-15
    (True, True)
    """
    size = largest * rows
    return 2.0 ** (math.ceil(math.log2(size)) - 52) if 0.0 < size < math.inf else 1.0


def column_ranges(frame: object, names: Sequence[str]) -> Ranges:
    """Ranges of some columns over all rows, in one pass on the engine that holds them.

    Examples
    --------
    >>> column_ranges({"x": [1.0, 4.0, 2.0]}, ["x"])
    Ranges(rows=3, middle=array([2.5]), reach=array([1.5]))
    """
    values = [nw.col(name).cast(nw.Float64) for name in names]
    low = [value.min().alias(f"low{at}") for at, value in enumerate(values)]
    high = [value.max().alias(f"high{at}") for at, value in enumerate(values)]
    row = _collected(_as_lazy(frame).select(nw.len().alias("rows"), *low, *high)).row(0)
    ends = np.array([math.nan if end is None else end for end in row[1:]], dtype=np.float64).reshape(2, len(names))
    known = np.isfinite(ends).all(axis=0)
    middle = np.where(known, 0.5 * ends.sum(axis=0), 0.0)
    return Ranges(int(row[0]), middle, np.where(known, ends[1] - middle, 0.0))


def _sums_of_products(
    rows: nw.LazyFrame[Any],
    item: str,
    names: Sequence[str],
    ranges: Ranges,
) -> tuple[tuple[str, ...], Floats]:
    """Group by item and sum all products of (1, columns, response), shifted; products are (J, p + 1, p + 1)."""
    parts = {f"v{at}": nw.col(name).cast(nw.Float64) - float(ranges.middle[at]) for at, name in enumerate(names)}
    reach = dict(zip(parts, ranges.reach.tolist(), strict=True))
    pairs = list(combinations_with_replacement(parts, 2))
    units = {part: quantum(reach[part], ranges.rows) for part in parts}
    units |= {f"{a}*{b}": quantum(reach[a] * reach[b], ranges.rows) for a, b in pairs}
    lacking = nw.any_horizontal(*(nw.col(name).is_null() for name in names), ignore_nulls=True)
    shifted = rows.select(
        nw.col(item).cast(nw.String).alias("item"),
        nw.lit(1.0).alias("n"),
        lacking.cast(nw.Float64).alias("lacking"),
        **parts,
    )
    multiplied = shifted.with_columns(**{f"{a}*{b}": nw.col(a) * nw.col(b) for a, b in pairs})
    whole = multiplied.with_columns((nw.col(name) * (1.0 / unit)).round(0).alias(name) for name, unit in units.items())
    summed = ["n", "lacking", *units]
    sums = _collected(whole.group_by("item").agg(*(nw.col(name).sum() for name in summed))).sort("item")
    table = sums.with_columns(pl.col(name).cast(pl.Float64) * unit for name, unit in units.items())
    if table["item"].null_count() or not _complete(table):
        raise PanelError(
            Problem(
                code="missing_value",
                count=int(table["lacking"].sum()),
                message=f"rows lack an item or a finite value among {list(names)}",
                remedy="give the rows of a checked panel; take the logarithm of positive numbers only",
            )
        )
    size = len(names) + 1
    products = np.empty((table.height, size, size))
    products[:, 0, 0] = table["n"].to_numpy()
    for place, part in enumerate(parts, 1):
        products[:, 0, place] = products[:, place, 0] = table[part].to_numpy()
    for a, b in pairs:
        j, k = int(a[1:]) + 1, int(b[1:]) + 1
        products[:, j, k] = products[:, k, j] = table[f"{a}*{b}"].to_numpy()
    return tuple(table["item"].to_list()), products


def _complete(table: pl.DataFrame) -> bool:
    """Whether nothing was missing or infinite in what was summed."""
    return bool(np.isfinite(table.drop("item").to_numpy().astype(float)).all()) and table["lacking"].sum() == 0
