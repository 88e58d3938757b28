"""When each item was on sale: one group-by that finds repeated and absent rows and hashes the content."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bayes_pricing.data.rowhash import bits, mix, with_row_hash
from bayes_pricing.data.validation import EXAMPLES
from bayes_pricing.errors import Problem

Period = dt.date | int

ROWS_AT_ONCE = 20_000_000
"""Rows whose keys are held in memory at a time where items do not have exactly one row per period."""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """What one pass over the canonical rows found for every item (and region).

    Attributes
    ----------
    groups : DataFrame
        One row per (item[, region]): ``rows``, ``lane_1`` and ``lane_2`` (order-independent content), smallest and
        largest name of each level (``<level>`` and ``<level>_other``), and where there are periods ``first``,
        ``last``, ``period_sum``.
    periods : DataFrame
        The panel's own set of periods, sorted, with ``code`` 0, 1, ...; empty without a period role.
    key : tuple of str
        ``item`` and, where it plays a role, ``region``.
    levels : tuple of str
    """

    groups: pl.DataFrame
    periods: pl.DataFrame
    key: tuple[str, ...]
    levels: tuple[str, ...]


def listing_queries(
    frame: pl.LazyFrame, schema: pl.Schema, levels: Sequence[str]
) -> tuple[tuple[str, ...], pl.LazyFrame, pl.LazyFrame]:
    """Return the key and the two queries that make a :class:`Listing`: groups and periods."""
    key = tuple(name for name in ("item", "region") if name in schema)
    content = [(name, dtype) for name, dtype in schema.items() if dtype != pl.String]
    aggregates = [
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("_hash").sum().alias("lane_1"),
        mix(pl.col("_hash") ^ pl.lit(0x5851F42D4C957F2D, dtype=pl.UInt64)).sum().alias("lane_2"),
        *(pl.col(level).min() for level in levels),
        *(pl.col(level).max().alias(f"{level}_other") for level in levels),
    ]
    periods = frame.select(pl.lit(0).alias("period")).head(0)
    if "period" in schema:
        aggregates += [
            pl.col("period").min().alias("first"),
            pl.col("period").max().alias("last"),
            mix(bits("period", schema["period"])).sum().alias("period_sum"),
        ]
        periods = frame.select(pl.col("period").drop_nulls().unique())
    named = [pl.col(name).is_not_null() for name in (*key, *(["period"] if "period" in schema else []))]
    hashed = with_row_hash(frame.filter(*named), content, seed=0, name="_hash")
    return key, hashed.group_by(key).agg(aggregates), periods


def make_listing(key: tuple[str, ...], groups: pl.DataFrame, periods: pl.DataFrame, levels: Sequence[str]) -> Listing:
    """Put the answers of :func:`listing_queries` in order."""
    return Listing(groups.sort(key), periods.sort("period").with_row_index("code"), key, tuple(levels))


def content_hash(listing: Listing, names: Sequence[str]) -> str:
    """Hash of all canonical rows, the same for any order of rows and any source (64 hex digits).

    Each group's rows are summed as two 64-bit lanes; the names are hashed here.
    """
    digest = hashlib.sha256(repr(tuple(names)).encode())
    columns = [*listing.key, *listing.levels, "rows", "lane_1", "lane_2"]
    for row in listing.groups.select(columns).iter_rows():
        digest.update(repr(row).encode())
    return digest.hexdigest()


def irregular_groups(listing: Listing) -> pl.DataFrame:
    """Groups that do not have exactly one row in every period from their first to their last.

    A group is regular when its rows are as many as the periods it spans and the hashes of its periods add up to
    what those periods' hashes add up to; a mistake has probability 2^-64, and only such a mistake goes unseen.
    """
    periods = listing.periods.select("period", "code", hashed=mix(bits("period", listing.periods.schema["period"])))
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(periods["hashed"].to_numpy(), dtype=np.uint64)])
    places = pl.DataFrame({"period": periods["period"], "place": np.arange(periods.height)})
    spans = (
        listing.groups.join(places.rename({"period": "first", "place": "start"}), on="first", how="left")
        .join(places.rename({"period": "last", "place": "end"}), on="last", how="left")
        .with_columns(span=pl.col("end") - pl.col("start") + 1)
    )
    expected = sums[spans["end"].to_numpy() + 1] - sums[spans["start"].to_numpy()]
    regular = (spans["span"].to_numpy() == spans["rows"].to_numpy()) & (expected == spans["period_sum"].to_numpy())
    return spans.filter(pl.Series(~regular))


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """Rows that repeat a key, and keys without a row between an item's first and last period."""

    repeated_rows: int
    repeated: tuple[dict[str, object], ...]
    absent_rows: int
    absent: tuple[dict[str, object], ...]


def find_gaps(frame: pl.LazyFrame, listing: Listing) -> Gaps:
    """Look at the irregular groups key by key, some millions of rows at a time."""
    irregular = irregular_groups(listing)
    repeated_rows, absent_rows = 0, 0
    repeated: list[dict[str, object]] = []
    absent: list[dict[str, object]] = []
    key = list(listing.key)
    part = irregular["rows"].cum_sum() // ROWS_AT_ONCE
    for _, groups in irregular.group_by(part, maintain_order=True):
        cells = (
            frame.join(groups.lazy().select(key), on=key, how="semi")
            .group_by([*key, "period"])
            .agg(pl.len().alias("rows"))
        )
        distinct, many = pl.collect_all(
            [cells.group_by(key).agg(pl.len().cast(pl.Int64).alias("cells")), cells.filter(pl.col("rows") > 1)],
            engine="streaming",
        )
        repeated_rows += int(many["rows"].sum())
        if len(repeated) < EXAMPLES:
            repeated += many.sort([*key, "period"]).head(EXAMPLES - len(repeated)).to_dicts()
        short = groups.join(distinct, on=key).with_columns(lacking=pl.col("span") - pl.col("cells"))
        absent_rows += int(short["lacking"].sum())
        if len(absent) < EXAMPLES:
            some = short.filter(pl.col("lacking") > 0).sort(key).head(EXAMPLES)
            lacking = absent_keys(frame, some, listing).sort([*key, "period"])
            absent += lacking.head(EXAMPLES - len(absent)).collect().to_dicts()
    return Gaps(repeated_rows, tuple(repeated), absent_rows, tuple(absent))


def absent_keys(frame: pl.LazyFrame, groups: pl.DataFrame, listing: Listing) -> pl.LazyFrame:
    """Keys (item[, region], period) without a row between first and last of the given irregular groups."""
    key = list(listing.key)
    wanted = (
        groups.lazy()
        .select(*key, code=pl.int_ranges(pl.col("start"), pl.col("end") + 1))
        .explode("code", empty_as_null=False)
        .join(listing.periods.lazy().with_columns(pl.col("code").cast(pl.Int64)), on="code")
        .select(*key, "period")
    )
    there = frame.join(groups.lazy().select(key), on=key, how="semi").select(*key, "period")
    return wanted.join(there, on=[*key, "period"], how="anti")


def key_problems(listing: Listing, gaps: Gaps | None, *, allow_absent: bool) -> list[Problem]:
    """Problems of keys and of the tree: repeated keys, absent rows, an item in two categories and so on up."""
    problems = []
    names = ", ".join((*listing.key, "period"))
    if gaps is not None and gaps.repeated_rows:
        problems.append(
            Problem(
                code="duplicate_key",
                count=gaps.repeated_rows,
                examples=gaps.repeated,
                message=f"{gaps.repeated_rows} rows repeat an ({names})",
                remedy="sum units and average the price per period first, or name the region",
            )
        )
    if gaps is not None and gaps.absent_rows and not allow_absent:
        problems.append(
            Problem(
                code="absent_rows",
                count=gaps.absent_rows,
                examples=gaps.absent,
                message=f"{gaps.absent_rows} ({names}) have no row between the item's first and last period",
                remedy="say --absent zero (on sale, nobody bought) or --absent missing (not on sale, or not known)",
            )
        )
    return problems + nesting_problems(listing)


def item_levels(listing: Listing) -> pl.DataFrame:
    """One row per item: ``rows``, and the smallest and largest name of each level."""
    return (
        listing.groups.group_by("item")
        .agg(
            pl.col("rows").sum(),
            *(pl.col(level).min() for level in listing.levels),
            *(pl.col(f"{level}_other").max() for level in listing.levels),
        )
        .sort("item")
    )


def nesting_problems(listing: Listing) -> list[Problem]:
    """Units that belong to two units of the level above them."""
    problems = []
    table = item_levels(listing)
    child = "item"
    for level in listing.levels:
        pairs = pl.concat(
            [
                table.select(pl.col(child), pl.col(level).alias("parent"), "rows"),
                table.select(pl.col(child), pl.col(f"{level}_other").alias("parent"), "rows"),
            ]
        ).drop_nulls()
        parents = pairs.unique([child, "parent"]).filter(pl.len().over(child) > 1).sort(child, "parent")
        if parents.height:
            rows = int(table.filter(pl.col(child).is_in(parents[child].implode()))["rows"].sum())
            units = parents[child].n_unique()
            problems.append(
                Problem(
                    code="item_in_two_categories" if child == "item" else "level_in_two_parents",
                    count=rows,
                    examples=tuple({child: row[0], level: row[1]} for row in parents.rows()[:EXAMPLES]),
                    message=f"{units} {child} name{'s' if units > 1 else ''} ({rows} rows) belong to two of {level!r}",
                    remedy=f"give each {child} one {level}; prefix names that are used twice",
                )
            )
        child = level
    return problems
