"""Rows for periods in which a listed item sold nothing."""

from __future__ import annotations

import polars as pl

from bayes_pricing.data.listing import Listing, absent_keys, irregular_groups
from bayes_pricing.data.roles import ColumnRoles


def fill_absent(frame: pl.LazyFrame, roles: ColumnRoles, listing: Listing) -> pl.LazyFrame:
    """Add a row with no units for every absent (item[, region], period) between first and last.

    A column that is the same for all rows of a period, in every period (a season, an index), takes that period's
    value; every other takes the item's last known one (the price among them). The result is sorted by item, region
    and period, which holds the rows in memory when it is collected.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.data.panel import SalesPanel
    >>> sales = pl.DataFrame({"item": ["tea", "tea", "jam", "jam"], "period": [1, 3, 2, 3],
    ...                       "price": [3.0, 2.5, 4.0, 4.0], "quantity": [10, 14, 1, 1]})
    >>> panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns), absent="zero")
    >>> panel.frame.filter(item="tea").select("period", "price", "quantity").collect().rows()
    [(1, 3.0, 10.0), (2, 3.0, 0.0), (3, 2.5, 14.0)]
    """
    names = frame.collect_schema().names()
    key = list(listing.key)
    filled = [name for name in names if name not in (*key, "period", "quantity")]
    common = _common_to_period(frame, [name for name in filled if name not in roles.levels])
    added = absent_keys(frame, irregular_groups(listing), listing).with_columns(quantity=pl.lit(0.0))
    if common:
        calendar = frame.group_by("period").agg(pl.col(name).first() for name in common)
        added = added.join(calendar, on="period")
    carried = [name for name in filled if name not in common]
    return (
        pl.concat([frame.with_columns(_added=False), added.with_columns(_added=True)], how="diagonal")
        .sort([*key, "period"])
        .with_columns(
            pl.when("_added").then(pl.col(name).forward_fill().over(key)).otherwise(pl.col(name)).alias(name)
            for name in carried
        )
        .select(names)
    )


def _common_to_period(frame: pl.LazyFrame, names: list[str]) -> list[str]:
    """Those columns whose rows agree within every period."""
    if not names:
        return []
    agree = (
        frame.group_by("period")
        .agg((pl.col(name).n_unique() == 1).alias(name) for name in names)
        .select(pl.all().exclude("period").all())
        .collect(engine="streaming")
        .row(0, named=True)
    )
    return [name for name, same in agree.items() if same]
