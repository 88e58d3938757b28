"""What a test taught, given to the demand model: its rows join the sales, exactly where the tree allows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl

from bayes_pricing.data.gram import gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import SINGLE
from bayes_pricing.data.sources import frame_from_any
from bayes_pricing.demand.fit import DemandFit
from bayes_pricing.demand.tree_posterior import TreePosterior, build_tree_posterior
from bayes_pricing.demand.update import update_week
from bayes_pricing.errors import Finding, PanelError, Problem, Refusal, SpecError

NEEDED = ("item", "price", "quantity")


def learn_from_test(fitted: DemandFit, rows: object) -> DemandFit:
    """The fit after a test's sales rows, without sampling anew.

    Rows are one per item, period and price shown; where buyers were split, `exposure` is the share of them that saw
    the price, so that half of the units at half of the exposure are the units of a whole period. Given
    hyper-parameters the update is exact (see `demand.update.update_week`); prices that were tested now count as
    observed. Test rows must not be in the sales of the fit already.

    Parameters
    ----------
    fitted : DemandFit
        Of a log-normal model.
    rows : any frame
        Columns ``item``, ``price``, ``quantity``, ``exposure`` (1 where left out) and every control of the fit.

    Returns
    -------
    DemandFit
        Its diagnostics are those of the fit that it started from.

    Raises
    ------
    Refusal
        If the model is no Gaussian tree, a row sold nothing, or the rows move the model too far: fit again.
    PanelError
        If a column is missing or a price is not positive.
    SpecError
        If an item is unknown.
    """
    posterior = fitted.posterior
    if not isinstance(posterior, TreePosterior):
        raise Refusal([_refit(f"a {posterior.spec.likelihood} model has no sufficient statistics to add to")])
    spec = posterior.spec
    sales = _checked(rows, (*spec.controls, *spec.shared_controls))
    logged = sales.with_columns(
        log_price=pl.col("price").log(), log_units=pl.col("quantity").log() - pl.col("exposure").log()
    )
    columns = ["log_price", *spec.controls, *spec.shared_controls]
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


def _widened(items: pl.DataFrame, sales: pl.DataFrame) -> pl.DataFrame:
    """The item table with the test's rows counted and its prices observed; centres and today's prices stay."""
    seen = sales.group_by("item").agg(
        pl.col("price").min().alias("__low"), pl.col("price").max().alias("__high"), pl.len().alias("__rows")
    )
    joined = items.join(seen, on="item", how="left", maintain_order="left")
    return joined.with_columns(
        lowest_price=pl.min_horizontal("lowest_price", "__low"),
        highest_price=pl.max_horizontal("highest_price", "__high"),
        rows=pl.col("rows") + pl.col("__rows").fill_null(0),
    ).select(items.columns)


def _refit(why: str) -> Finding:
    return Finding(
        code="refit_due", severity="error", message=why,
        remedy="append the test's rows to the sales (`append_test`) and fit again",
    )  # fmt: skip
