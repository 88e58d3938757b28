"""What the sales themselves can say about price response, item by item, before any model is fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, Gram, gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.errors import Finding, Refusal

STILL = 1e-6
"""Within-item sd of log price (after the controls) up to which a price counts as never having moved."""

WEAK_SE = 1.4
"""A standard error above the prior's own sd (Bijmolt et al. 2005): the item's rows say less than the literature."""

COLLINEAR = 0.9
"""Correlation from which price and time, or price and a control, are called hard to tell apart."""

SOLD_OUT_SHARE = 0.1
"""Share of sold-out rows from which sales understate demand."""

RATIO_ROWS = 10
"""Rows an item needs before its prices can be judged to be revenue divided by units."""

NAMED = 10
"""Items named one by one under each code, the table has them all; ten times as many where the price never moved."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Identification:
    r"""What each item's own rows can say about its price elasticity.

    Attributes
    ----------
    table : DataFrame
        One row per item, sorted: ``item``, the levels, ``rows``, ``distinct_prices``, ``within_sd_log_price``,
        ``sd_after_controls`` (of log price, its item-level controls taken out), ``elasticity_se`` (standard error of
        the elasticity from the item's rows alone; null where there is none), ``time_correlation`` (of log price with
        the period), ``promotion_correlation`` and ``promotion_column`` (the discount or control that log price follows
        most), ``unrounded_share`` (rows whose price is no whole number of cents; null where money was deflated),
        ``price_is_ratio``, ``sold_out_share``, ``inside_total``, ``prior_only``. Correlations and shares are null where
        they were not assessed.
    findings : tuple of Finding
    prior_only : tuple of str
        Items with no price variation left after the controls: a model gives them their category's elasticity.
    left_out : tuple of str
        What the quick mode did not look at.
    """

    table: pl.DataFrame
    findings: tuple[Finding, ...]
    prior_only: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    def as_builtins(self) -> dict[str, object]:
        """Return plain dicts, lists, numbers and texts, as ``check --json`` prints them."""
        return {
            "items": self.table.to_dicts(),
            "prior_only": list(self.prior_only),
            "findings": [asdict(finding) for finding in self.findings],
            "left_out": list(self.left_out),
        }


def identify(panel: SalesPanel, quick: bool = False) -> Identification:
    r"""Say for each item how much its own rows can tell about its elasticity, and what would mislead them.

    From each item's Gram statistics, with :math:`S_i` the sum of squares of log price left by the item-level controls:

    .. math:: \text{se}_i = \hat\sigma_i / \sqrt{S_i} \quad\text{or, with zeros,}\quad 1 / \sqrt{\bar q_i S_i}

    the second being the Poisson information at the mean rate.

    Parameters
    ----------
    panel : SalesPanel
    quick : bool
        Leave out the search for items that are totals of others, which joins all rows.

    Examples
    --------
    >>> from bayes_pricing.data.roles import ColumnRoles
    >>> sales = pl.DataFrame({"item": ["tea", "tea", "tea", "jam", "jam", "jam"], "period": [1, 2, 3] * 2,
    ...                       "price": [3.0, 2.5, 2.0, 4.0, 4.0, 4.0], "quantity": [10, 14, 21, 5, 6, 4]})
    >>> identify(SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))).prior_only
    ('jam',)
    """
    facts = _facts(panel)
    gram, names = _gram(panel)
    spread = gram.xtx[:, 1, 1]
    left, residual = _after_controls(gram, len(panel.roles.controls))
    degrees = np.maximum(gram.count - 1, 1)
    sd_left = np.sqrt(left / degrees)
    still = ~((sd_left > STILL) & (left > STILL**2 * np.maximum(spread, 1e-300)))
    correlations = _correlations(gram)
    time = correlations[:, names.index("_time")] if "_time" in names else np.full(len(gram.items), np.nan)
    others = [place for place, name in enumerate(names) if name not in ("_log_price", "_time")]
    strongest, column = _strongest(correlations[:, others], [names[place] for place in others])
    table = facts.with_columns(
        sd_after_controls=np.where(still, 0.0, sd_left),
        elasticity_se=_standard_errors(facts, gram, left, residual, still, len(panel.roles.controls)),
        time_correlation=time,
        promotion_correlation=strongest,
        promotion_column=pl.Series(column, dtype=pl.String),
        prior_only=still,
    ).with_columns(pl.col("elasticity_se", "time_correlation", "promotion_correlation").fill_nan(None))
    inside = [] if quick else _totals(panel)
    totals = pl.lit(None, dtype=pl.Boolean) if quick else pl.col("item").is_in(inside)
    table = table.with_columns(inside_total=totals).select(_order(panel))
    left_out = ("items listed both alone and inside a total",) if quick else ()
    return Identification(
        table=table,
        findings=tuple(_findings(panel, table)),
        prior_only=tuple(table.filter("prior_only")["item"]),
        left_out=left_out,
    )


def check_identified(panel: SalesPanel, *, randomised_price: bool, has_instrument: bool) -> None:
    """Refuse a panel in which no item's price moved, unless its prices were randomised or have an instrument.

    A cross-section compares different items: dearer items differ in more than price.

    Raises
    ------
    Refusal
        With code ``no_within_item_variation`` and the remedy.

    Examples
    --------
    >>> from bayes_pricing.data.roles import ColumnRoles
    >>> sales = pl.DataFrame({"item": ["tea", "jam"], "price": [3.0, 4.0], "quantity": [10, 5]})
    >>> panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    >>> check_identified(panel, randomised_price=True, has_instrument=False)
    >>> try:
    ...     check_identified(panel, randomised_price=False, has_instrument=False)
    ... except Refusal as refusal:
    ...     print(refusal.findings[0].code)
    no_within_item_variation
    """
    if randomised_price or has_instrument:
        return
    still = identify(panel, quick=True).prior_only
    if len(still) < panel.summary.items:
        return
    single = panel.summary.rows == panel.summary.items
    controls = " after the controls" if panel.roles.controls else ""
    raise Refusal(
        [
            Finding(
                code="no_within_item_variation",
                severity="error",
                message="there is one row per item, so no item was seen at two prices"
                if single
                else f"no item's own price moved{controls}, so differences between items stand in for price response",
                remedy="give several periods with different prices, plan a price test, or say --randomised-price "
                "(prices were drawn by lot) or --instrument COLUMN",
            )
        ]
    )


def _facts(panel: SalesPanel) -> pl.DataFrame:
    """Counts and shares per item that are no products of columns, sorted by item."""
    price, quantity = pl.col("price"), pl.col("quantity")
    sold_out = pl.lit(None, dtype=pl.Float64).first()
    if panel.roles.sold_out is not None:
        sold_out = pl.col("sold_out").mean()
    elif panel.roles.stock is not None:
        sold_out = (quantity >= pl.col("stock")).mean()
    cents = price * 100
    off = (cents - cents.round()).abs() > 1e-6 * cents.clip(lower_bound=1.0)
    facts = (
        panel.frame.group_by("item")
        .agg(
            *(pl.col(level).first() for level in panel.roles.levels),
            rows=pl.len().cast(pl.Int64),
            distinct_prices=price.n_unique().cast(pl.Int64),
            within_sd_log_price=price.log().std().fill_null(0.0),
            unrounded_share=pl.lit(None, dtype=pl.Float64).first() if panel.summary.deflated else off.mean(),
            sold_out_share=sold_out,
            zero_rows=(quantity == 0).sum(),
            mean_quantity=quantity.mean(),
        )
        .sort("item")
        .collect(engine="streaming")
    )
    ratio = (
        (pl.col("rows") >= RATIO_ROWS)
        & (pl.col("distinct_prices") > pl.col("rows") / 2)
        & (pl.col("unrounded_share") > 0.5)
    )
    return facts.with_columns(price_is_ratio=ratio)


def _gram(panel: SalesPanel) -> tuple[Gram, list[str]]:
    """Gram statistics of log price, controls, discount and time against log units; names without ``level``."""
    roles = panel.roles
    columns = {"_log_price": pl.col("price").log()}
    columns |= {name: pl.col(name) for name in (*roles.controls, *roles.shared_controls)}
    if roles.discount is not None:
        columns["discount"] = pl.col("discount").fill_null(0.0)
    if roles.period is not None:
        columns["_time"] = pl.col("period").to_physical().cast(pl.Float64)
    units = pl.when(pl.col("quantity") > 0).then(pl.col("quantity").log()).otherwise(0.0)
    rows = panel.frame.select("item", _units=units, **columns)
    return gather_gram(rows, "item", "_units", list(columns)), list(columns)


def _after_controls(gram: Gram, controls: int) -> tuple[Floats, Floats]:
    """Sums of squares of log price left by the item-level controls, and of log units left by price and controls."""
    inner = gram.xtx[:, 2 : 2 + controls, 2 : 2 + controls]
    cross = gram.xtx[:, 1, 2 : 2 + controls]
    left = gram.xtx[:, 1, 1] - _explained(inner, cross)
    mean = gram.xty[:, 0] / gram.count
    own = gram.xty[:, 1 : 2 + controls] - mean[:, None] * gram.xtx[:, 1 : 2 + controls, 0]
    block = gram.xtx[:, 1 : 2 + controls, 1 : 2 + controls]
    residual = gram.yty - gram.count * mean**2 - _explained(block, own)
    return np.maximum(left, 0.0), np.maximum(residual, 0.0)


def _explained(block: Floats, cross: Floats) -> Floats:
    """c' A^+ c per item, A scaled to correlations first; columns that never move explain nothing."""
    scale = np.sqrt(np.maximum(block.diagonal(0, 1, 2), 0.0))
    scale = np.where(scale > STILL, scale, np.inf)
    inverse = np.linalg.pinv(block / scale[:, :, None] / scale[:, None, :], rcond=1e-10, hermitian=True)
    scaled = cross / scale
    return np.asarray(np.einsum("jp,jpq,jq->j", scaled, inverse, scaled))


def _standard_errors(
    facts: pl.DataFrame, gram: Gram, left: Floats, residual: Floats, still: np.ndarray, controls: int
) -> Floats:
    """Standard error of each item's elasticity from its own rows; NaN where it has none."""
    degrees = gram.count - 2 - controls
    safe = np.where(still, np.nan, left)
    counted = facts["zero_rows"].to_numpy() > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = np.where(degrees > 0, np.sqrt(residual / np.where(degrees > 0, degrees, np.nan) / safe), np.nan)
        poisson = 1.0 / np.sqrt(facts["mean_quantity"].to_numpy() * safe)
    chosen = np.where(counted, poisson, normal)
    return np.where(np.isfinite(chosen), chosen, np.nan)


def _correlations(gram: Gram) -> Floats:
    """Correlation of log price with every column, within each item; NaN where either never moves."""
    squares = gram.xtx.diagonal(0, 1, 2)[:, 1:]
    scale = np.sqrt(np.where(squares > STILL**2, squares, np.nan))
    return np.asarray(gram.xtx[:, 1, 1:] / (scale * scale[:, :1]))


def _strongest(correlations: Floats, names: Sequence[str]) -> tuple[Floats, list[str | None]]:
    """The column most correlated with log price, and how much."""
    if not names:
        return np.full(correlations.shape[0], np.nan), [None] * correlations.shape[0]
    size = np.where(np.isnan(correlations), -1.0, np.abs(correlations))
    best = size.argmax(axis=1)
    value = correlations[np.arange(best.size), best]
    return value, [None if np.isnan(found) else names[place] for found, place in zip(value, best, strict=True)]


def _totals(panel: SalesPanel) -> list[str]:
    """Items that sell, in every period, what two or more others of their category sell together."""
    roles = panel.roles
    if roles.period is None:
        return []
    cell = [*roles.levels[:1], *(["region"] if roles.region is not None else []), "period"]
    totals = panel.frame.group_by(cell).agg(_total=pl.col("quantity").sum(), _members=pl.len())
    same = (2 * pl.col("quantity") - pl.col("_total")).abs() <= 1e-9 * pl.col("_total")
    found = (
        panel.frame.select("item", "quantity", *cell)
        .join(totals, on=cell)
        .group_by("item")
        .agg(all=(same & (pl.col("_members") >= 3)).all(), rows=pl.len(), sold=(pl.col("quantity") > 0).any())
        .filter(pl.col("all") & pl.col("sold") & (pl.col("rows") >= 3))
        .collect(engine="streaming")
    )
    return sorted(found["item"])


def _order(panel: SalesPanel) -> list[str]:
    return [
        "item",
        *panel.roles.levels,
        *("rows", "distinct_prices", "within_sd_log_price", "sd_after_controls", "elasticity_se"),
        *("time_correlation", "promotion_correlation", "promotion_column"),
        *("unrounded_share", "price_is_ratio", "sold_out_share", "inside_total", "prior_only"),
    ]


def _findings(panel: SalesPanel, table: pl.DataFrame) -> Iterator[Finding]:
    """What to say of the table."""
    yield from _named(
        "price_never_moves",
        table.filter("prior_only"),
        "its price never moved" + (" apart from the controls" if panel.roles.controls else ""),
        "test a second price; until then its elasticity is its category's, with a wide interval",
        most=10 * NAMED,
    )
    weak = table.filter(~pl.col("prior_only") & ~(pl.col("elasticity_se") <= WEAK_SE).fill_null(value=False))
    if weak.height:
        yield Finding(
            code="weak_own_data",
            severity="info",
            message=f"{weak.height} of {table.height} items say less about their elasticity than the literature does "
            f"(standard error above {WEAK_SE})",
            remedy="lean on their category, and test prices where much is sold",
        )
    if panel.summary.periods == 0:
        yield Finding(
            code="time_not_assessed",
            severity="info",
            message="without periods duplicates, absent rows and prices that follow a trend were not assessed",
            remedy="name the column with --period",
        )
    yield from _named(
        "price_follows_time",
        table.filter(pl.col("time_correlation").abs() > COLLINEAR),
        "its price moved with time almost only, so trend and price response look alike",
        "add a control that carries the trend, or test prices up and down",
    )
    yield from _named(
        "promotion_confounded",
        table.filter(pl.col("promotion_correlation").abs() > COLLINEAR),
        "its price moved with a promotion or another control almost only",
        "change the price without the promotion for some periods",
    )
    yield from _named(
        "price_is_ratio",
        table.filter("price_is_ratio"),
        "its prices hardly repeat and are no whole cents: they look like revenue divided by units",
        "give the price asked; a ratio mixes packs and customers, and errors in units bend the elasticity towards -1",
    )
    yield from _named(
        "often_sold_out",
        table.filter(pl.col("sold_out_share") > SOLD_OUT_SHARE),
        "it was often sold out, so sales understate demand at low prices",
        "leave sold-out periods out and say so: sales at the stock's end are not demand",
    )
    yield from _named(
        "inside_total",
        table.filter("inside_total"),
        "it sells in every period what others of its category sell together: it is a total of them",
        "leave the total out",
    )


def _named(code: str, rows: pl.DataFrame, message: str, remedy: str, most: int = NAMED) -> Iterator[Finding]:
    """One finding per item for the first `most` of them, and one for the rest."""
    for item in rows["item"].head(most):
        yield Finding(code=code, severity="warning", item=item, message=f"{item!r}: {message}", remedy=remedy)
    if rows.height > most:
        rest = f"and {rows.height - most} more items: {message}"
        yield Finding(code=code, severity="warning", message=rest, remedy=remedy)
