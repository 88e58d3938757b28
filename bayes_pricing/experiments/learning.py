"""What a test taught, given to the demand model: its rows join the sales, exactly where the tree allows it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import polars as pl

from bayes_pricing.data.columns import period_kind, read_period
from bayes_pricing.data.gram import gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import SINGLE
from bayes_pricing.data.sources import frame_from_any
from bayes_pricing.demand.changing import term_columns
from bayes_pricing.demand.fit import DemandFit
from bayes_pricing.demand.spec import UNCENTRED
from bayes_pricing.demand.tree_fit import build_tree_posterior
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.update import update_week
from bayes_pricing.errors import Finding, PanelError, Problem, Refusal, SpecError

NEEDED = ("item", "price", "quantity")
TESTED_FROM, TESTED_TO = "tested_first_period", "tested_last_period"
"""Columns of the item table that keep in mind which periods' tests the fit has learnt from."""


def learn_from_test(fitted: DemandFit, rows: object, start: date | int | None = None) -> DemandFit:
    """The fit after a test's sales rows, without sampling anew.

    Rows are one per item, period and price shown; where buyers were split, `exposure` is the share of them that saw
    the price, so that half of the units at half of the exposure are the units of a whole period. Given
    hyper-parameters the update is exact (see `demand.update.update_week`); prices that were tested now count as
    observed. Rows that lie within the periods of an item's sales, or of a test that was learnt before, are refused:
    counted twice they would make the model too sure.

    Parameters
    ----------
    fitted : DemandFit
        Of a log-normal model.
    rows : any frame
        Columns ``item``, ``price``, ``quantity``, ``exposure`` (1 where left out), ``period`` where the fit's sales
        have one, and every control of the fit.
    start : date or int, optional
        First period of the test; earlier rows are left out.

    Returns
    -------
    DemandFit
        Its diagnostics are those of the fit that it started from.

    Raises
    ------
    Refusal
        If the model is no Gaussian tree, a row sold nothing, rows are in the sales already, or they move the model too
        far: fit again.
    PanelError
        If a column is missing, a price is not positive, or a period cannot be read.
    SpecError
        If an item is unknown.
    """
    posterior = fitted.posterior
    if not isinstance(posterior, TreePosterior):
        raise Refusal([_refit(f"a {posterior.spec.likelihood} model has no sufficient statistics to add to")])
    spec = posterior.spec
    given = tuple(name for name in (*spec.controls, *spec.shared_controls) if name not in UNCENTRED)
    sales = _checked(rows, given)
    sales = _of_the_test(sales, posterior.items, start)
    logged = term_columns(sales, posterior).with_columns(
        log_price=pl.col("price").log(), log_units=pl.col("quantity").log() - pl.col("exposure").log()
    )
    columns = ["log_price", *spec.controls, *spec.shared_controls, *spec.attribute_levels, *spec.attribute_prices]
    gram = gather_gram(logged.lazy(), "item", "log_units", columns, centre=posterior.data.gram)
    moved = update_week(posterior, gram)
    items = _widened(posterior.items, sales)
    learnt = build_tree_posterior(moved.data, moved.prior, moved.draws, items, seed=moved.seed)
    told = Finding(
        code="learnt_from_test", severity="info",
        message=f"{sales.height:,} rows of a test of {sales['item'].n_unique()} items were added to the fit",
        remedy="fit again with all rows when there is time; the diagnostics are those of the first fit",
    )  # fmt: skip
    summary = replace(fitted.summary, rows=fitted.summary.rows + sales.height)
    return replace(fitted, posterior=learnt, findings=(*fitted.findings, told), summary=summary)


def append_test(panel: SalesPanel, rows: object) -> SalesPanel:
    """The panel with a test's rows, for a fit anew: the way for counts, and when an update is refused.

    Parameters
    ----------
    panel : SalesPanel
        Not in real money (no deflator): give the rows with the source instead.
    rows : any frame
        The panel's canonical columns; one row per item (and region) and period.

    Raises
    ------
    PanelError
        If a key is there already, or a row breaks the panel's rules.

    Examples
    --------
    >>> from bayes_pricing.data.roles import ColumnRoles
    >>> sales = pl.DataFrame({"sku": ["tea", "tea"], "week": [1, 2], "price": [3.0, 2.5], "units": [10, 14]})
    >>> panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    >>> test = pl.DataFrame({"item": ["tea", "tea"], "period": [3, 4], "price": [3.0, 3.3], "quantity": [10.0, 8.0]})
    >>> append_test(panel, test).summary.rows
    4
    """
    if panel.roles.deflator is not None:
        raise SpecError(
            "The panel is in real money; add the test's rows to the source, deflator included, and fit again."
        )
    both = pl.concat([panel.frame, frame_from_any(rows)], how="diagonal_relaxed")
    canonical: dict[str, Any] = {name: name for name in panel.roles.single() if name in SINGLE}
    roles = replace(panel.roles, **canonical)
    return SalesPanel.from_frame(both, roles, absent=panel.summary.absent)


def _checked(rows: object, controls: tuple[str, ...]) -> pl.DataFrame:
    frame = frame_from_any(rows).collect()
    missing = [name for name in (*NEEDED, *controls) if name not in frame.columns]
    if missing:
        raise PanelError(
            [Problem(code="unknown_column", count=0, message=f"the test's rows have no column {name!r}",
                     remedy="name it as the fit does") for name in missing]
        )  # fmt: skip
    numbers = [name for name in ("price", "quantity", "exposure", *controls) if name in frame.columns]
    sales = frame.with_columns(pl.col("item").cast(pl.String), *(pl.col(name).cast(pl.Float64) for name in numbers))
    if "exposure" not in sales.columns:
        sales = sales.with_columns(exposure=pl.lit(1.0))
    for name in ("price", "exposure"):
        bad = sales.height - int((sales[name] > 0).sum())
        if bad:
            raise PanelError(
                Problem(code=f"non_positive_{name}", count=bad, message=f"{bad} rows have no positive {name}",
                        remedy="correct the rows of the test")
            )  # fmt: skip
    nothing = sales.height - int((sales["quantity"] > 0).sum())
    if nothing:
        raise Refusal([_refit(f"{nothing} of {sales.height} rows of the test sold nothing and have no logarithm")])
    return sales


def _of_the_test(sales: pl.DataFrame, items: pl.DataFrame, start: date | int | None) -> pl.DataFrame:
    """The test's rows with their periods read, none of them among the periods that the fit has of the item."""
    comparable = "last_period" in items.columns and items["last_period"].null_count() < items.height
    if "period" not in sales.columns:
        if comparable or start is not None:
            raise _unreadable("the test's rows have no column 'period', and it is needed")
        return sales
    reading = read_period("period", sales.schema["period"], period_kind(sales.lazy(), "period"))
    dated = sales.with_columns(period=reading.value)
    if dated["period"].null_count():
        raise _unreadable(f"{dated['period'].null_count()} rows of the test have a period that cannot be read")
    dated = dated if start is None else dated.filter(pl.col("period") >= start)
    if not comparable:
        return dated.drop("period")  # sales without periods: nothing says which rows they hold
    if dated["period"].dtype.is_integer() != items["last_period"].dtype.is_integer():
        raise _unreadable("the test's periods are not of the kind of the fit's")
    known = dated.lazy().join(items.lazy(), on="item", how="left", maintain_order="left")
    for first, last in (("first_period", "last_period"), (TESTED_FROM, TESTED_TO)):
        if last not in items.columns:
            continue
        within = pl.col("period").is_between(pl.col(first), pl.col(last))
        twice = known.filter(within).select("item", "period", first, last).collect()
        if not twice.is_empty():
            raise Refusal([_known_already(twice, sales.height)])
    return dated


def _known_already(twice: pl.DataFrame, rows: int) -> Finding:
    item, period, first, last = twice.row(0)
    return Finding(
        code="test_in_sales", severity="error", item=str(item),
        message=f"{twice.height} of {rows} rows of the test lie within periods that the fit has already, e.g. {item!r} "
        f"in {period} (known from {first} to {last}): they would count twice",
        remedy="give only rows outside those periods, or fit again with each row once (`append_test` finds repeats)",
    )  # fmt: skip


def _unreadable(what: str) -> PanelError:
    return PanelError(
        Problem(code="unreadable_period", count=0, message=what,
                remedy="name the period as in the sales, so that rows that they hold already are noticed")
    )  # fmt: skip


def _widened(items: pl.DataFrame, sales: pl.DataFrame) -> pl.DataFrame:
    """The item table with the test's rows counted, its prices observed and its periods kept in mind.

    Centres, today's prices and the sales' own periods stay: an item without a test has not stopped selling.
    """
    dated = "period" in sales.columns
    spans = {TESTED_FROM: pl.col("period").min(), TESTED_TO: pl.col("period").max()} if dated else {}
    seen = sales.group_by("item").agg(
        pl.col("price").min().alias("__low"), pl.col("price").max().alias("__high"), pl.len().alias("__rows"),
        *(span.alias(f"__{name}") for name, span in spans.items()),
    )  # fmt: skip
    before = items.with_columns(
        pl.lit(None, dtype=items.schema["last_period"]).alias(name) for name in spans if name not in items.columns
    )
    joined = before.join(seen, on="item", how="left", maintain_order="left")
    widened = {TESTED_FROM: pl.min_horizontal, TESTED_TO: pl.max_horizontal}
    return joined.with_columns(
        pl.min_horizontal("lowest_price", "__low").alias("lowest_price"),
        pl.max_horizontal("highest_price", "__high").alias("highest_price"),
        (pl.col("rows") + pl.col("__rows").fill_null(0)).alias("rows"),
        *(widened[name](name, f"__{name}").alias(name) for name in spans),
    ).select(before.columns)


def _refit(why: str) -> Finding:
    return Finding(
        code="refit_due", severity="error", message=why,
        remedy="append the test's rows to the sales (`append_test`) and fit again",
    )  # fmt: skip
