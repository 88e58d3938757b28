"""What is known of each item before any model: prices seen, units sold, cost, when it was on sale."""

from __future__ import annotations

import math

import polars as pl

from bayes_pricing.data.roles import ColumnRoles

BIN = 0.01
"""Width in log price of the steps in which rows are counted."""


def item_table(frame: pl.LazyFrame, roles: ColumnRoles) -> pl.DataFrame:
    """Sum up the canonical rows of each item; :meth:`SalesPanel.item_table` says which columns come out."""
    schema = frame.collect_schema()
    dated, costed = roles.period is not None, roles.cost is not None
    nothing = pl.lit(None, dtype=schema.get("period", pl.Int64())).first()
    log_price = pl.col("price").log()
    period, known = pl.col("period"), pl.col("cost").is_not_null()
    table = (
        frame.group_by("item")
        .agg(
            *(pl.col(level).first() for level in roles.levels),
            reference_log_price=log_price.mean(),
            lowest_price=pl.col("price").min(),
            highest_price=pl.col("price").max(),
            distinct_prices=pl.col("price").n_unique().cast(pl.Int64),
            rows=pl.len().cast(pl.Int64),
            units_per_period=pl.col("quantity").mean(),
            exposure=pl.col("exposure").mean() if roles.exposure is not None else pl.lit(1.0).first(),
            first_period=period.min() if dated else nothing,
            last_period=period.max() if dated else nothing,
            cost_period=period.filter(known).max() if dated and costed else nothing,
            within_sd_log_price=log_price.std().fill_null(0.0),
            sold_out_share=pl.col("sold_out").cast(pl.Float64).mean()
            if roles.sold_out is not None
            else pl.lit(None, dtype=pl.Float64).first(),
            **{f"mean_{name}": pl.col(name).mean() for name in (*roles.controls, *roles.shared_controls)},
        )
        .collect(engine="streaming")
    )
    prices = _latest(frame, table, dated=dated, costed=costed)
    means = [name for name in table.columns if name.startswith("mean_")]
    seen = _prices_seen(frame, prices, dated=dated)
    return (
        table.join(prices, on="item")
        .join(seen, on="item")
        .select(
            "item",
            *roles.levels,
            "current_price",
            *("reference_log_price", "lowest_price", "highest_price", "distinct_prices"),
            *("rows", "units_per_period", "cost", "exposure", "first_period", "last_period", "within_sd_log_price"),
            *("last_other_price", "sold_out_share", "price_counts"),
            *means,
        )
        .sort("item")
    )


def _latest(frame: pl.LazyFrame, table: pl.DataFrame, *, dated: bool, costed: bool) -> pl.DataFrame:
    """Current price and last known cost of each item, averaged over regions; over all rows without periods."""
    price = pl.col("price").log().mean().exp()
    cost = pl.col("cost").mean() if costed else pl.lit(None, dtype=pl.Float64).first()
    if dated:
        price = pl.col("price").filter(pl.col("period") == pl.col("last_period")).mean()
        cost = pl.col("cost").filter(pl.col("period") == pl.col("cost_period")).mean() if costed else cost
    ends = table.lazy().select("item", "last_period", "cost_period")
    return frame.join(ends, on="item").group_by("item").agg(current_price=price, cost=cost).collect(engine="streaming")


def _prices_seen(frame: pl.LazyFrame, prices: pl.DataFrame, *, dated: bool) -> pl.DataFrame:
    """Rows of each item by step of log price, as text, and the last period with a price other than today's."""
    step = (pl.col("price").log() / BIN).round().cast(pl.Int32)
    last = pl.col("period").max() if dated else pl.lit(None, dtype=pl.Int64).first()
    counts = frame.group_by("item", step.alias("step")).agg(rows=pl.len(), last=last).collect(engine="streaming")
    today = prices.select("item", today=(pl.col("current_price").log() / BIN).round().cast(pl.Int32))
    return (
        counts.join(today, on="item")
        .sort("item", "step")
        .group_by("item", maintain_order=True)
        .agg(
            price_counts=pl.format("{}:{}", "step", "rows").str.join(" "),
            last_other_price=pl.col("last").filter(pl.col("step") != pl.col("today")).max(),
        )
    )


def rows_near(price_counts: str, price: float, reach: float) -> int:
    """Rows whose price was within a share of a price, from an item table's ``price_counts`` (to half a per cent).

    Examples
    --------
    >>> rows_near("69:34 83:50", 2.0, 0.05)  # 34 rows near 1.99, 50 near 2.29
    34
    """
    centre, width = math.log(price) / BIN, math.log1p(reach) / BIN + 0.5
    pairs = (pair.split(":") for pair in price_counts.split())
    return sum(int(rows) for step, rows in pairs if abs(int(step) - centre) <= width)
