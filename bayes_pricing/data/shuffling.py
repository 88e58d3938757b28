"""Columns permuted among the rows of an item: what a forecast loses by that is what it takes from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl


def shuffle_within_items(frame: pl.DataFrame, columns: Sequence[str], rng: np.random.Generator) -> pl.DataFrame:
    """The frame with some columns permuted within items, all of them alike, so that what belongs together stays so.

    Parameters
    ----------
    frame : DataFrame
        With a column ``item``.
    columns : sequence of str
    rng : Generator

    Examples
    --------
    >>> rows = pl.DataFrame({"item": ["a", "a", "b"], "price": [1.0, 2.0, 3.0], "list_price": [1.5, 2.5, 3.5]})
    >>> found = shuffle_within_items(rows, ["price", "list_price"], np.random.default_rng(0))
    >>> found["price"].to_list(), (found["list_price"] - found["price"]).to_list()
    ([2.0, 1.0, 3.0], [0.5, 0.5, 0.5])
    """
    order = frame.select("item").with_row_index("row").with_columns(key=pl.Series(rng.random(frame.height)))
    taken, given = (order.sort("item", by)["row"] for by in ("key", "row"))
    moved = frame.select(columns)[taken].with_columns(given).sort("row").drop("row")
    return frame.with_columns(moved)
