"""Products of consecutive periods: what first-order autocorrelation of residuals needs to know of an item's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, Gram, Ranges, centring, column_ranges, quantum
from bayes_pricing.errors import SpecError

ROWS_AT_ONCE = 20_000_000
"""Rows put in order at a time; the others wait on disk."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LagGram:
    r"""Sums over an item's pairs of consecutive periods, centred as the Gram statistics they go with.

    Attributes
    ----------
    items, columns : tuple of str
        As in :class:`Gram`.
    pairs : array (J,)
        Pairs of rows of one item (and region) in consecutive periods of the panel.
    xtx : array (J, p, p)
        :math:`\sum_t x_t x_{t-1}'`
    xty : array (J, p)
        :math:`\sum_t x_t y_{t-1}`
    ytx : array (J, p)
        :math:`\sum_t y_t x_{t-1}`
    yty : array (J,)
        :math:`\sum_t y_t y_{t-1}`
    later, earlier : arrays (J, p + 1, p + 1)
        :math:`\sum_t (x_t, y_t)(x_t, y_t)'` and :math:`\sum_t (x_{t-1}, y_{t-1})(x_{t-1}, y_{t-1})'`, `y` last.
    """

    items: tuple[str, ...]
    columns: tuple[str, ...]
    pairs: Floats
    xtx: Floats
    xty: Floats
    ytx: Floats
    yty: Floats
    later: Floats
    earlier: Floats

    def quasi_difference(self, gram: Gram, rho: float) -> Gram:
        r"""Statistics of the same rows as independent errors would give them, at first-order autocorrelation `rho`.

        With :math:`z_t = (x_t, y_t)` and :math:`F` the first rows of runs of consecutive periods,

        .. math:: \sum_{t \in F} (1 - \rho^2) z_t z_t' + \sum_{t \notin F} (z_t - \rho z_{t-1})(z_t - \rho z_{t-1})'

        so the exact Gaussian likelihood of a stationary first-order autoregression is that of these statistics with the
        innovations' variance, times :math:`(1 - \rho^2)^{1/2}` for every run (rows less pairs).

        Raises
        ------
        SpecError
            If items or columns differ, or `rho` is not inside (-1, 1).
        """
        if gram.items != self.items or gram.columns != self.columns:
            raise SpecError("Lag products and Gram statistics are of different items or columns; gather both anew.")
        if not abs(rho) < 1:
            raise SpecError(f"The autocorrelation is {rho}; it must be inside (-1, 1).")
        ends = self.earlier + self.later
        xtx, xty, yty = ends[:, :-1, :-1] - gram.xtx, ends[:, :-1, -1] - gram.xty, ends[:, -1, -1] - gram.yty
        return replace(
            gram,
            xtx=gram.xtx - rho * (self.xtx + self.xtx.transpose(0, 2, 1)) + rho**2 * xtx,
            xty=gram.xty - rho * (self.xty + self.ytx) + rho**2 * xty,
            yty=gram.yty - 2.0 * rho * self.yty + rho**2 * yty,
        )

    def autocorrelation(self, gram: Gram, coefficients: Floats) -> Floats:
        r"""First-order autocorrelation of each item's residuals at given coefficients.

        .. math:: r_i = \frac{\sum_t e_t e_{t-1} / \text{pairs}_i}{\sum_t e_t^2 / n_i}, \qquad e_t = y_t - x_t'b_i

        Parameters
        ----------
        gram : Gram
            The statistics of the same rows, items and columns.
        coefficients : array (J, p)
            One row per item, in the columns' order.

        Returns
        -------
        array (J,)
            About [-1, 1], no unit; NaN for an item without a pair or without residuals.

        Raises
        ------
        SpecError
            If items or columns differ.
        """
        if gram.items != self.items or gram.columns != self.columns:
            raise SpecError("Lag products and Gram statistics are of different items or columns; gather both anew.")
        b = np.asarray(coefficients, dtype=float)
        lagged = self.yty - np.einsum("jp,jp->j", b, self.xty + self.ytx) + np.einsum("jp,jpq,jq->j", b, self.xtx, b)
        squares = gram.yty - 2 * np.einsum("jp,jp->j", b, gram.xty) + np.einsum("jp,jpq,jq->j", b, gram.xtx, b)
        known = (self.pairs > 0) & (squares > 0)
        out = np.full(len(self.items), np.nan)
        out[known] = (lagged[known] / self.pairs[known]) / (squares[known] / gram.count[known])
        return out


def lag_products(
    frame: pl.LazyFrame, item: str, period: str, response: str, columns: Sequence[str], *, centre: Gram
) -> LagGram:
    """Sum the products of rows in consecutive periods of the frame's own set of periods, in one ordered pass.

    Parameters
    ----------
    frame : polars LazyFrame
        A panel's rows with the design's columns; where it has a ``region``, pairs stay inside it.
    item, period, response : str
    columns : sequence of str
        As given to :func:`gather_gram`.
    centre : Gram
        The statistics of the same rows: their items and centres are kept.

    Raises
    ------
    SpecError
        If `centre` has other columns.

    Examples
    --------
    >>> from bayes_pricing.data.gram import gather_gram
    >>> rows = pl.LazyFrame({"item": ["tea"] * 4, "period": [1, 2, 3, 4], "x": [0.0, 1.0, 0.0, 1.0],
    ...                      "y": [1.0, -1.0, 1.0, -1.0]})
    >>> gram = gather_gram(rows, "item", "y", ["x"])
    >>> lagged = lag_products(rows, "item", "period", "y", ["x"], centre=gram)
    >>> lagged.autocorrelation(gram, np.zeros((1, 2))).tolist()
    [-1.0]
    """
    if centre.columns != ("level", *columns):
        raise SpecError(f"The Gram statistics have columns {centre.columns}, the lag products {('level', *columns)}.")
    names = [*columns, response]
    ranges = column_ranges(frame, names)
    codes = frame.select(pl.col(period).unique()).collect(engine="streaming").sort(period).with_row_index("_code")
    place = {name: position for position, name in enumerate(centre.items)}
    size = len(names) + 1
    products = np.zeros((len(place), 3, size, size))
    part = np.cumsum(centre.count) // ROWS_AT_ONCE
    for number in np.unique(part):
        items = [name for name, mine in zip(centre.items, part, strict=True) if mine == number]
        table = _sum_pairs(frame, items, codes, (item, period), names, ranges)
        rows = np.array([place[name] for name in table["item"]], dtype=np.intp)
        products[rows] = table.drop("item").to_numpy().reshape(-1, 3, size, size)
    return _centred(products, centre, ranges.middle)


def _sum_pairs(
    frame: pl.LazyFrame,
    items: Sequence[str],
    codes: pl.DataFrame,
    key: tuple[str, str],
    names: Sequence[str],
    ranges: Ranges,
) -> pl.DataFrame:
    """Products of (1, columns, response) of consecutive periods, of the later alone and of the earlier, by item."""
    item, period = key
    region = [name for name in ("region",) if name in frame.collect_schema()]
    now = {"_0": pl.lit(1.0)} | {
        f"_{place}": pl.col(name).cast(pl.Float64) - float(ranges.middle[place - 1])
        for place, name in enumerate(names, 1)
    }
    reach = [1.0, *ranges.reach.tolist()]
    unit = {
        f"_{a}*_{b}": quantum(reach[a] * reach[b], ranges.rows) for a in range(len(reach)) for b in range(len(reach))
    }
    ordered = (
        frame.with_columns(pl.col(item).cast(pl.String).alias("item"))
        .filter(pl.col("item").is_in(items))
        .join(codes.lazy(), on=period)
        .select("item", *region, pl.col("_code").cast(pl.Int64), **now)
        .sort("item", *region, "_code")
    )
    same = [pl.col(name) == pl.col(name).shift(1) for name in ("item", *region)]
    before = {f"before{name}": pl.col(name).shift(1) for name in now}
    pairs = ordered.with_columns(
        **before, _next=pl.col("_code") - pl.col("_code").shift(1), _same=pl.all_horizontal(same)
    )
    kinds = ((now, before), (now, now), (before, before))
    return (
        pairs.filter(pl.col("_same") & (pl.col("_next") == 1))
        .group_by("item")
        .agg(
            _exact_sum(pl.col(a) * pl.col(b), unit[f"{a}*{b}".replace("before", "")]).alias(f"{kind}{a}*{b}")
            for kind, (x, y) in enumerate(kinds)
            for a in x
            for b in y
        )
        .collect(engine="streaming")
    )


def _exact_sum(values: pl.Expr, unit: float) -> pl.Expr:
    """The sum of values rounded to multiples of `unit`, which no order of adding changes."""
    return (values * (1.0 / unit)).round(0).sum() * unit


def _centred(products: Floats, centre: Gram, shift: Floats) -> LagGram:
    """Re-centre the sums as the Gram statistics are, and give the response its mean back."""
    width = len(centre.columns)
    wide = np.zeros((len(centre.items), width + 1, width + 1))
    wide[:, :width, :width] = centring(centre.centre, np.concatenate([[0.0], shift[:-1]]))
    wide[:, width, width] = 1.0
    wide[:, 0, width] = shift[-1]
    lagged, later, earlier = (wide.transpose(0, 2, 1) @ products[:, kind] @ wide for kind in range(3))
    return LagGram(
        items=centre.items,
        columns=centre.columns,
        pairs=products[:, 0, 0, 0],
        xtx=lagged[:, :width, :width],
        xty=lagged[:, :width, width],
        ytx=lagged[:, width, :width],
        yty=lagged[:, width, width],
        later=later,
        earlier=earlier,
    )
