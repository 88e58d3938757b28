"""The sales panel: rows that were checked once, so that nothing after it asks whether a price is positive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from bayes_pricing.data.absence import fill_absent
from bayes_pricing.data.columns import period_kind
from bayes_pricing.data.items import item_table
from bayes_pricing.data.listing import (
    Gaps,
    Listing,
    Period,
    content_hash,
    find_gaps,
    item_levels,
    key_problems,
    listing_queries,
    make_listing,
)
from bayes_pricing.data.roles import SINGLE, ColumnRoles
from bayes_pricing.data.sources import frame_from_any, stands_in_memory
from bayes_pricing.data.validation import ParsedColumns, count_broken, parse_columns, row_problems, unknown_columns
from bayes_pricing.errors import PanelError, Problem, SpecError

Absent = Literal["zero", "missing"]

MONEY = ("price", "list_price", "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelSummary:
    """What the panel holds, found while it was checked.

    Attributes
    ----------
    rows : int
        Rows of the panel, those added for `absent` ``"zero"`` among them.
    items, periods : int
        Different items; different periods (0 without a period role).
    zero_rows : int
        Rows in which nothing was sold.
    absent_rows : int
        (item[, region], period) between an item's first and last period that had no row.
    absent : str or None
        What they were said to mean; with ``"zero"`` they were added with no units at the last known price.
    first_period, last_period : date, int or None
    units : dict
        Different units of each nesting level, inner first.
    data_hash : str
        Content hash of the rows as given: the same for any order of rows and any source of them.
    deflated : bool
        Whether money was expressed in the money of the last period.
    """

    rows: int
    items: int
    zero_rows: int
    absent_rows: int
    absent: Absent | None
    first_period: Period | None
    last_period: Period | None
    periods: int
    units: Mapping[str, int]
    data_hash: str
    deflated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SalesPanel:
    """Sales rows, one per item (and region) and period, lazy and checked.

    Attributes
    ----------
    frame : polars LazyFrame
        Canonical columns, in the source's order of rows: ``item`` and each level (text), ``region`` (text), ``period``
        (date or whole number), ``price`` (currency per unit), ``quantity`` (units per period) and the other roles
        under their own names; controls, competitor prices, instruments and attributes keep the source's names.
    roles : ColumnRoles
    summary : PanelSummary

    Examples
    --------
    >>> sales = pl.DataFrame({"sku": ["tea", "tea"], "week": [1, 2], "price": [3.0, 2.5], "units": [10, 14]})
    >>> panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    >>> panel.summary.rows, panel.summary.last_period
    (2, 2)
    """

    frame: pl.LazyFrame
    roles: ColumnRoles
    summary: PanelSummary

    @classmethod
    def from_frame(cls, frame: object, roles: ColumnRoles, absent: Absent | None = None) -> SalesPanel:
        """Check a table of sales by aggregates, and keep it lazy.

        Parameters
        ----------
        frame : polars (eager or lazy), pandas, Arrow, DuckDB relation, or any frame that narwhals knows
        roles : ColumnRoles
        absent : {"zero", "missing"}, optional
            What it means that a listed item has no row in a period: nothing was sold (a row is added with no units at
            the last known price), or it was not on sale or is not known (left as it is).

        Raises
        ------
        PanelError
            Listing every problem with its row count and three example rows.

        Examples
        --------
        >>> sales = pl.DataFrame({"item": ["tea", "tea"], "period": [1, 1], "price": ["3.0", "free"],
        ...                       "quantity": [10, -1]})
        >>> try:
        ...     SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
        ... except PanelError as error:
        ...     print([problem.code for problem in error.problems])
        ['non_numeric_text', 'negative_quantity', 'duplicate_key']
        """
        if absent not in (None, "zero", "missing"):
            raise SpecError(f"absent is {absent!r}; choose 'zero' or 'missing', or leave it out.")
        raw = frame_from_any(frame)
        schema = raw.collect_schema()
        problems = unknown_columns(roles, schema)
        kind = period_kind(raw, roles.period) if roles.period is not None and roles.period in schema else "integer"
        parsed = parse_columns(roles, schema, kind)
        canonical = raw.select(_ordered(parsed, roles))
        if stands_in_memory(frame):
            canonical = canonical.collect().lazy()
        counts, listing = _scan(raw, canonical, parsed, roles)
        if not counts["rows"]:
            problems.append(_no_rows())
        problems += row_problems(raw, roles, parsed.rules, counts)
        gaps = None
        if listing is not None:
            gaps = find_gaps(canonical, listing) if listing.periods.height else None
            problems += key_problems(listing, gaps, allow_absent=absent is not None)
        if problems or listing is None:
            raise PanelError(problems)
        return _build(canonical, roles, absent, listing, gaps, counts)

    def item_table(self) -> pl.DataFrame:
        """Return what is known of each item, sorted by item.

        Returns
        -------
        DataFrame
            ``item``, the levels, ``current_price`` (mean of the last period's rows; without periods the geometric
            mean), ``reference_log_price`` (mean log price), ``lowest_price``, ``highest_price``, ``distinct_prices``,
            ``rows``, ``units_per_period`` (mean over rows), ``cost`` (last known, or null), ``exposure`` (mean per
            row, 1 without the role), ``first_period``, ``last_period``, ``within_sd_log_price`` (0 for one row),
            ``last_other_price`` (last period whose price differed from today's by about 1 % or more, null for none),
            ``sold_out_share`` (share of rows sold out, null without the role), ``price_counts`` (rows by step of 0.01
            in log price, as text ``step:rows``), and ``mean_<control>`` for each control and shared control.

        Examples
        --------
        >>> sales = pl.DataFrame({"item": ["tea", "tea"], "period": [1, 2], "price": [3.0, 2.5], "quantity": [10, 14]})
        >>> table = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns)).item_table()
        >>> table.select("current_price", "units_per_period").row(0)
        (2.5, 12.0)
        """
        return item_table(self.frame, self.roles)


def _ordered(parsed: ParsedColumns, roles: ColumnRoles) -> list[pl.Expr]:
    """Canonical columns in the panel's order: item, levels, the other roles, columns with their own names."""
    order = dict.fromkeys(("item", *roles.levels, *SINGLE, *roles.own_names()))
    return [parsed.values[name] for name in order if name in parsed.values]


def _no_rows() -> Problem:
    return Problem(code="no_rows", count=0, message="there are no sales rows", remedy="check the file or the query")


def _scan(
    raw: pl.LazyFrame, canonical: pl.LazyFrame, parsed: ParsedColumns, roles: ColumnRoles
) -> tuple[dict[str, int], Listing | None]:
    """Count broken rows and list the items in one collect; without a readable item there is no listing."""
    zero = (pl.col("quantity") == 0).sum() if "quantity" in parsed.values else pl.lit(0)
    counting = raw.select(pl.len().alias("rows"), *count_broken(parsed.rules))
    totals = canonical.select(zero.alias("zero_rows"))
    if "item" not in parsed.values:
        counted, zeros = pl.collect_all([counting, totals], engine="streaming")
        return {**counted.row(0, named=True), **zeros.row(0, named=True)}, None
    levels = [level for level in roles.levels if level in parsed.values]
    key, groups, periods = listing_queries(canonical, canonical.collect_schema(), levels)
    counted, zeros, grouped, dates = pl.collect_all([counting, totals, groups, periods], engine="streaming")
    return {**counted.row(0, named=True), **zeros.row(0, named=True)}, make_listing(key, grouped, dates, levels)


def _build(
    canonical: pl.LazyFrame,
    roles: ColumnRoles,
    absent: Absent | None,
    listing: Listing,
    gaps: Gaps | None,
    counts: Mapping[str, int],
) -> SalesPanel:
    """Make the panel of rows that broke no rule."""
    absent_rows = 0 if gaps is None else gaps.absent_rows
    added = absent_rows if absent == "zero" else 0
    frame = fill_absent(canonical, roles, listing) if added else canonical
    if roles.deflator is not None:
        frame = _deflate(frame, roles)
    items = item_levels(listing)
    dates: list[Period] = listing.periods["period"].to_list()
    summary = PanelSummary(
        rows=counts["rows"] + added,
        items=items.height,
        zero_rows=counts["zero_rows"] + added,
        absent_rows=absent_rows,
        absent=absent,
        first_period=dates[0] if dates else None,
        last_period=dates[-1] if dates else None,
        periods=len(dates),
        units={level: items[level].n_unique() for level in roles.levels},
        data_hash=content_hash(listing, canonical.collect_schema().names()),
        deflated=roles.deflator is not None,
    )
    return SalesPanel(frame=frame, roles=roles, summary=summary)


def _deflate(frame: pl.LazyFrame, roles: ColumnRoles) -> pl.LazyFrame:
    """Express money in that of the last period: price x (mean deflator of the last period) / deflator."""
    last = pl.col("period") == pl.col("period").max() if roles.period is not None else pl.lit(value=True)
    base = frame.filter(last).select(pl.col("deflator").mean()).collect(engine="streaming").item()
    money = [*(role for role in MONEY if role in roles.single()), *roles.competitor_prices]
    return frame.with_columns(pl.col(money) * (base / pl.col("deflator")))
