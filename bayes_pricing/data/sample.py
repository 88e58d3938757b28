"""A seeded sample of rows that does not depend on their order or their source."""

from __future__ import annotations

import hashlib

import polars as pl

from bayes_pricing.data.rowhash import with_row_hash
from bayes_pricing.errors import SpecError


def sample_rows(frame: pl.LazyFrame, n: int, seed: int) -> pl.DataFrame:
    """Keep `n` of a panel's rows: those whose key has the smallest seeded hash, found in one streaming pass.

    The key is (item, region, period) as far as the panel has them; without periods, item, price and quantity stand in.

    Parameters
    ----------
    frame : polars LazyFrame
        A panel's frame; columns added to it do not change which rows are kept.
    n : int
        Rows wanted; all come back where there are fewer.
    seed : int

    Returns
    -------
    DataFrame
        Sorted by the key.

    Raises
    ------
    SpecError
        If `n` is not positive.

    Examples
    --------
    >>> frame = pl.LazyFrame({"item": ["a", "b", "c", "d"], "period": [1, 1, 1, 1]})
    >>> sample_rows(frame, 2, seed=1).equals(sample_rows(frame.reverse(), 2, seed=1))
    True
    """
    if not n > 0:
        raise SpecError(f"A sample of {n} rows was asked for; n must be at least 1.")
    schema = frame.collect_schema()
    texts = [name for name in ("item", "region") if name in schema]
    numbers = ["period"] if "period" in schema else [name for name in ("price", "quantity") if name in schema]
    words = {f"_{name}": pl.UInt64() for name in texts}
    hashed = frame
    for name in texts:
        hashed = hashed.join(_tokens(frame, name, seed), on=name)
    columns = [*words.items(), *((name, schema[name]) for name in numbers)]
    return (
        with_row_hash(hashed, columns, seed, "_hash")
        .bottom_k(n, by="_hash")
        .sort(*texts, *numbers)
        .select(schema.names())
        .collect(engine="streaming")
    )


def _tokens(frame: pl.LazyFrame, name: str, seed: int) -> pl.LazyFrame:
    """One 64-bit word per different name, from a hash that every machine computes alike."""
    names = frame.select(pl.col(name).unique()).collect(engine="streaming")[name]
    words = [
        int.from_bytes(hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest(), "little") for text in names
    ]
    return pl.LazyFrame({name: names, f"_{name}": pl.Series(words, dtype=pl.UInt64)})
