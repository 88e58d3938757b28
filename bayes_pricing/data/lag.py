"""Products of consecutive periods: what first-order autocorrelation of residuals needs to know of an item's rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, Gram, centring
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
    """

    items: tuple[str, ...]
    columns: tuple[str, ...]
    pairs: Floats
    xtx: Floats
    xty: Floats
    ytx: Floats
    yty: Floats

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
    shift = frame.select(pl.col(names).cast(pl.Float64).mean()).collect(engine="streaming").to_numpy()[0]
    codes = frame.select(pl.col(period).unique()).collect(engine="streaming").sort(period).with_row_index("_code")
    place = {name: position for position, name in enumerate(centre.items)}
    size = len(names) + 1
    products = np.zeros((len(place), size, size))
    part = np.cumsum(centre.count) // ROWS_AT_ONCE
    for number in np.unique(part):
        items = [name for name, mine in zip(centre.items, part, strict=True) if mine == number]
        table = _sum_pairs(frame, items, codes, (item, period), names, shift)
        rows = np.array([place[name] for name in table["item"]], dtype=np.intp)
        values = table.drop("item").to_numpy().reshape(-1, size, size)
        products[rows] = values
    return _centred(products, centre, shift)


def _sum_pairs(
    frame: pl.LazyFrame,
    items: Sequence[str],
    codes: pl.DataFrame,
    key: tuple[str, str],
    names: Sequence[str],
    shift: Floats,
) -> pl.DataFrame:
    """All products of (1, columns, response) of one period with those of the period before, summed by item."""
    item, period = key
    region = [name for name in ("region",) if name in frame.collect_schema()]
    now = {"_0": pl.lit(1.0)} | {
        f"_{place}": pl.col(name).cast(pl.Float64) - float(shift[place - 1]) for place, name in enumerate(names, 1)
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
    return (
        pairs.filter(pl.col("_same") & (pl.col("_next") == 1))
        .group_by("item")
        .agg((pl.col(a) * pl.col(f"before{b}")).sum().alias(f"{a}*{b}") for a in now for b in now)
        .collect(engine="streaming")
    )


def _centred(products: Floats, centre: Gram, shift: Floats) -> LagGram:
    """Re-centre the sums as the Gram statistics are, and give the response its mean back."""
    width = len(centre.columns)
    transform = centring(centre.centre, np.concatenate([[0.0], shift[:-1]]))
    turned = transform.transpose(0, 2, 1)
    pairs = products[:, 0, 0]
    xty = products[:, :width, width] + shift[-1] * products[:, :width, 0]
    ytx = products[:, width, :width] + shift[-1] * products[:, 0, :width]
    yty = (
        products[:, width, width] + shift[-1] * (products[:, 0, width] + products[:, width, 0]) + shift[-1] ** 2 * pairs
    )
    return LagGram(
        items=centre.items,
        columns=centre.columns,
        pairs=pairs,
        xtx=turned @ products[:, :width, :width] @ transform,
        xty=(turned @ xty[:, :, None])[:, :, 0],
        ytx=(turned @ ytx[:, :, None])[:, :, 0],
        yty=yty,
    )
