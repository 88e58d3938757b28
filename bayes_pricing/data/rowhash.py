"""Hashes of rows that are the same on every machine, polars version and row order."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

_GOLDEN = 0x9E3779B97F4A7C15
_NULL = 0x7FF8DEADBEEF0001


def _shifted(value: pl.Expr, bits: int) -> pl.Expr:
    """`value` xor itself shifted right."""
    return value ^ (value // pl.lit(2**bits, dtype=pl.UInt64))


def mix(value: pl.Expr) -> pl.Expr:
    """Scramble 64-bit words one by one so that their sums tell sets apart (the finaliser of splitmix64).

    References
    ----------
    Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators", OOPSLA.

    Examples
    --------
    >>> words = pl.DataFrame({"word": [1, 2]}, schema={"word": pl.UInt64})
    >>> words.select(mix(pl.col("word")))["word"].to_list()
    [6238072747940578789, 15839785061582574730]
    """
    value = _shifted(value, 30) * pl.lit(0xBF58476D1CE4E5B9, dtype=pl.UInt64)
    value = _shifted(value, 27) * pl.lit(0x94D049BB133111EB, dtype=pl.UInt64)
    return _shifted(value, 31)


def bits(name: str, dtype: pl.DataType) -> pl.Expr:
    """Read a float, whole number, date or boolean column as 64-bit words; zero has one sign, null is a word."""
    column = pl.col(name)
    if dtype.is_float():
        word = (column.cast(pl.Float64) + 0.0).reinterpret(dtype=pl.UInt64)
    elif dtype == pl.Date:
        word = column.cast(pl.Int32).cast(pl.Int64).reinterpret(signed=False)
    elif dtype == pl.UInt64:
        word = column
    else:
        word = column.cast(pl.Int64).reinterpret(signed=False)
    return word.fill_null(pl.lit(_NULL, dtype=pl.UInt64))


def with_row_hash(
    frame: pl.LazyFrame, columns: Sequence[tuple[str, pl.DataType]], seed: int, name: str
) -> pl.LazyFrame:
    """Add one 64-bit hash per row of the given columns, in their order; equal rows have equal hashes.

    Built in steps, each a column of its own: as one expression it would double with every use of a value.

    Examples
    --------
    >>> frame = pl.LazyFrame({"price": [2.0, 2.0, 3.0]})
    >>> hashes = with_row_hash(frame, [("price", pl.Float64())], seed=0, name="hash").collect()["hash"]
    >>> hashes[0] == hashes[1] != hashes[2]
    True
    """
    words = {f"_word_{place}": bits(column, dtype) for place, (column, dtype) in enumerate(columns)}
    odd = [pl.lit((_GOLDEN * (2 * place + 1)) % 2**64 | 1, dtype=pl.UInt64) for place in range(len(words))]
    start = pl.lit((seed * _GOLDEN + 1) % 2**64, dtype=pl.UInt64)
    mixed = [mix(pl.col(word) + start * constant).alias(word) for word, constant in zip(words, odd, strict=True)]
    total = pl.sum_horizontal(pl.col(word) * constant for word, constant in zip(words, odd, strict=True))
    return (
        frame.with_columns(**words)
        .with_columns(mixed)
        .with_columns((total + start).alias(name))
        .with_columns(mix(pl.col(name)).alias(name))
        .drop(list(words))
    )
