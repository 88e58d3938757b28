"""Prices of the other items of a category as regressors: what each item sees, and the matrix of cross elasticities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import xarray as xr

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import CROSS_PRICE
from bayes_pricing.errors import Finding, Refusal, SpecError

MOST_ITEMS = 12
"""Items of a category up to which each has a cross-price elasticity with every other."""

ABSENT_SHARE = 0.1
"""Share of other items' prices that may be missing without a word."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OtherPrices:
    """Rows with the prices of the other items of their category, and which others they are.

    Attributes
    ----------
    frame : LazyFrame
        With ``other_1 ... other_R`` (log price of each other item, less that item's mean; 0 where it has none) and
        ``cross_price``, their sum.
    table : DataFrame
        One row per leaf: ``item`` and the names of its others, ``other_1 ... other_R``; null where there are fewer.
    count : int
        R, other items of the largest category.
    findings : tuple of Finding
    """

    frame: pl.LazyFrame
    table: pl.DataFrame
    count: int
    findings: tuple[Finding, ...]


def add_other_prices(frame: pl.LazyFrame, product: str, category: str | None) -> OtherPrices:
    """Give every row the log prices that the other items of its category had in its period (and region).

    A price that is missing because the other item was not on sale counts as that item's mean price.

    Parameters
    ----------
    frame : LazyFrame
        Columns ``item`` (the leaf), `product`, `category`, ``period``, ``price`` and, where there is one, ``region``.
    product : str
        Column of the item as sold; ``item`` itself where there are no regions.
    category : str or None
        Column of the category; None: all items are one.

    Raises
    ------
    Refusal
        If there is no period, no category with two items, or one with more than twelve.

    Examples
    --------
    >>> rows = pl.LazyFrame({"item": ["a", "b", "a", "b"], "period": [1, 1, 2, 2], "price": [1.0, 2.0, 1.0, 4.0]})
    >>> other = add_other_prices(rows, "item", None)
    >>> other.frame.sort("period", "item").collect()["other_1"].round(3).to_list()
    [-0.347, 0.0, 0.347, 0.0]
    >>> other.table.rows()
    [('a', 'b'), ('b', 'a')]
    """
    names = frame.collect_schema().names()
    if "period" not in names:
        raise Refusal([_no_period()])
    cell = [*([category] if category else []), *(["region"] if "region" in names else []), "period"]
    places, largest = _places(frame, product, category)
    leaf = pl.col("price").log() - pl.col("price").log().mean().over("item")
    priced = frame.with_columns(leaf.alias("_move")).join(
        places.lazy(), on=[*cell[:-1][: bool(category)], product], maintain_order="left"
    )
    at = [pl.col("_move").filter(pl.col("_place") == place).first().alias(f"_at_{place}") for place in range(largest)]
    wide = priced.group_by(cell).agg(at)
    others = {f"other_{number + 1}": _other(number) for number in range(largest - 1)}
    joined = priced.join(wide, on=cell, maintain_order="left").with_columns(**others)
    members = pl.col("_members") - 1
    present = pl.sum_horizontal(pl.col(name).is_not_null().cast(pl.Int64) for name in others)
    shares = joined.select(present.sum().alias("seen"), members.sum().alias("wanted")).collect(engine="streaming")
    seen, wanted = shares.row(0)
    kept = [*names, *others]
    filled = joined.with_columns(pl.col(name).fill_null(0.0) for name in others).select(kept)
    return OtherPrices(
        frame=filled.with_columns(pl.sum_horizontal(list(others)).alias(CROSS_PRICE)),
        table=_table(frame, places, product, category),
        count=largest - 1,
        findings=() if 1.0 - seen / wanted <= ABSENT_SHARE else (_absent(1.0 - seen / wanted),),
    )


def category_matrix(posterior: DemandPosterior, category: str) -> xr.DataArray | None:
    """:func:`cross_matrix` of the items whose prices cross inside `category`; None where the model has no such prices.

    Raises
    ------
    SpecError
        For a category the model does not have.
    """
    spec, items = posterior.spec, posterior.items
    if spec.cross_prices is None:
        return None
    if spec.cross_prices != "population":
        items = items.filter(pl.col(spec.cross_prices) == category)
    if not items.height or (spec.cross_prices == "population" and category != "population"):
        raise SpecError(f"Prices cross inside units of {spec.cross_prices!r}, and {category!r} is none.")
    draws = posterior.coefficients("item", [str(name) for name in items["item"]])
    return cross_matrix(draws, items.select(spec.deviations).rows())


def cross_matrix(draws: xr.DataArray, others: Sequence[tuple[str | None, ...]]) -> xr.DataArray:
    """Own elasticities on the diagonal, cross-price elasticities beside it.

    Parameters
    ----------
    draws : DataArray, dims (chain, draw, item, coefficient)
        Item-level coefficients, deviations among them.
    others : sequence of tuples, one for each item
        Names of the items whose prices its deviations belong to; None or a name not among the items is left out.

    Returns
    -------
    DataArray, dims (chain, draw, item, other)
    """
    names = [str(name) for name in draws["item"].to_numpy()]
    position = {name: at for at, name in enumerate(names)}
    values = draws.transpose("chain", "draw", "item", "coefficient")
    own, mean = (values.sel(coefficient=name).to_numpy() for name in ("log_price", CROSS_PRICE))
    found = np.zeros((*own.shape, len(names)))
    for at, row in enumerate(others):
        found[:, :, at, at] = own[:, :, at]
        for number, name in enumerate(row, 1):
            if name is not None and name in position:
                deviation = values.sel(coefficient=f"other_{number}").to_numpy()[:, :, at]
                found[:, :, at, position[name]] = mean[:, :, at] + deviation
    return xr.DataArray(found, dims=("chain", "draw", "item", "other"), coords={"item": names, "other": names})


def _places(frame: pl.LazyFrame, product: str, category: str | None) -> tuple[pl.DataFrame, int]:
    """Place of every product in its category's sorted list, ``_members`` of the category, and the largest of those."""
    keys = [*([category] if category else []), product]
    order = pl.col(product).rank("ordinal") - 1
    members = pl.len()
    if category:
        order, members = order.over(category), members.over(category)
    listed = frame.select(keys).unique().collect(engine="streaming").sort(keys)
    places = listed.with_columns(order.cast(pl.Int64).alias("_place"), members.cast(pl.Int64).alias("_members"))
    largest = int(places["_members"].max())  # type: ignore[arg-type]
    if largest > MOST_ITEMS:
        crowded = places.filter(pl.col("_members") == largest)
        where = f"{category} {crowded[category][0]!r}" if category else "the table"
        raise Refusal([_too_many(where, largest)])
    if largest < 2:
        raise Refusal([_alone()])
    return places, largest


def _other(number: int) -> pl.Expr:
    """The price of the other item with this number: items of the category in order, the row's own left out."""
    return pl.when(pl.col("_place") > number).then(pl.col(f"_at_{number}")).otherwise(pl.col(f"_at_{number + 1}"))


def _table(frame: pl.LazyFrame, places: pl.DataFrame, product: str, category: str | None) -> pl.DataFrame:
    """Names of every leaf's others."""
    keys = [*([category] if category else []), product]
    region = ["region"] if "region" in frame.collect_schema() else []
    leaves = frame.select(list(dict.fromkeys(["item", *keys, *region]))).unique().collect(engine="streaming")
    members: dict[object, list[str]] = {}
    for row in places.sort(*keys[:-1], "_place").iter_rows(named=True):
        members.setdefault(row[category] if category else None, []).append(row[product])
    leaf_of = {(row[product], row.get("region")): row["item"] for row in leaves.iter_rows(named=True)}
    most = max(len(names) for names in members.values()) - 1
    rows = []
    for row in leaves.sort("item").iter_rows(named=True):
        others = [name for name in members[row[category] if category else None] if name != row[product]]
        found: list[str | None] = [leaf_of.get((name, row.get("region"))) for name in others]
        rows.append([row["item"], *found, *[None] * (most - len(found))])
    schema = {"item": pl.String, **{f"other_{number}": pl.String for number in range(1, most + 1)}}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _no_period() -> Finding:
    return Finding(
        code="cross_prices_without_period",
        severity="error",
        message="without periods nobody knows which prices stood beside each other",
        remedy="name the period's column with --period",
    )


def _too_many(where: str, items: int) -> Finding:
    return Finding(
        code="cross_prices_too_many",
        severity="error",
        message=f"{where} has {items} items; each would need {items - 1} cross-price elasticities (at most "
        f"{MOST_ITEMS - 1})",
        remedy="name finer categories with --category, or the few substitutes that matter with --competitor-price",
    )


def _alone() -> Finding:
    return Finding(
        code="cross_prices_without_others",
        severity="error",
        message="no category has two items, so there is no price of another item",
        remedy="leave --cross-prices out, or name wider categories with --category",
    )


def _absent(share: float) -> Finding:
    return Finding(
        code="other_prices_absent",
        severity="warning",
        message=f"{share:.0%} of the prices of other items are missing in a period; each counts as that item's mean "
        "price",
        remedy="read cross-price elasticities of items that come and go with care",
    )
