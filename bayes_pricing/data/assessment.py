"""How good the data are: completeness, validity, integrity and realism, each 0-100 with what was found."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from bayes_pricing.data.gram import gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.errors import Finding

SHORT_HISTORY = 10
"""Rows below which an item is called new."""

PRICE_OUTLIER = 5.0
"""A price this many times above or below its item's geometric mean is questioned."""

QUANTITY_OUTLIER = 50.0
"""A quantity this many times its item's mean is questioned."""

UPWARD_PENALTY = 25.0
"""Points of realism lost where, inside items, more is sold at higher prices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One side of data quality: 100 is nothing found, 0 is nothing usable; `findings` say what was found."""

    value: float
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """How good a panel's data are; identification per item stands beside it.

    Attributes
    ----------
    completeness : Score
        Share of (item, period) between first and last row that have a row, times the share of known optional values.
    validity : Score
        Share of rows without a contradiction (cost above price, list price below price, more sold than in stock).
    integrity : Score
        Share of items and units of levels whose names and places in the tree are sound.
    realism : Score
        Share of rows without outliers and of items whose sales vary, less a penalty where demand rises with price.
    left_out : tuple of str
        What the quick mode did not look at.
    """

    completeness: Score
    validity: Score
    integrity: Score
    realism: Score
    left_out: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings, completeness first."""
        return tuple(
            finding
            for score in (self.completeness, self.validity, self.integrity, self.realism)
            for finding in score.findings
        )

    def as_builtins(self) -> dict[str, object]:
        """Return plain dicts, lists, numbers and texts, as ``check --json`` prints them."""
        return asdict(self)


def assess(panel: SalesPanel, quick: bool = False) -> Assessment:
    """Score a panel's completeness, validity, referential integrity and realism.

    What breaks the contract of a panel was refused before; this judges what is left.

    Parameters
    ----------
    panel : SalesPanel
    quick : bool
        Leave out the second pass over the rows that looks for outliers.

    Examples
    --------
    >>> from bayes_pricing.data.roles import ColumnRoles
    >>> sales = pl.DataFrame({"item": ["tea"] * 4, "period": [1, 2, 3, 4], "price": [3.0, 2.5, 3.0, 2.0],
    ...                       "quantity": [10, 14, 11, 21], "cost": [1.0, 1.0, None, 4.0]})
    >>> assessment = assess(SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns)))
    >>> assessment.completeness.value, assessment.validity.value
    (75.0, 75.0)
    """
    items = panel.item_table()
    facts = _row_facts(panel)
    return Assessment(
        completeness=_completeness(panel, items, facts),
        validity=_validity(panel, facts),
        integrity=_integrity(panel, items),
        realism=_realism(panel, items, quick=quick),
        left_out=("outliers of price and quantity",) if quick else (),
    )


def _row_facts(panel: SalesPanel) -> dict[str, int]:
    """Counts of rows: unknown optional values, and contradictions."""
    known = panel.roles.single()
    counts = {
        f"unknown_{name}": pl.col(name).is_null().sum()
        for name in ("list_price", "discount", "cost", "stock", "sold_out")
        if name in known
    }
    if "cost" in known:
        counts["cost_above_price"] = (pl.col("cost") > pl.col("price")).sum()
    if "list_price" in known:
        counts["price_above_list_price"] = (pl.col("price") > pl.col("list_price") * (1 + 1e-9)).sum()
    if "stock" in known:
        counts["sold_above_stock"] = (pl.col("quantity") > pl.col("stock")).sum()
    if not counts:
        return {}
    return panel.frame.select(**counts).collect(engine="streaming").row(0, named=True)


def _completeness(panel: SalesPanel, items: pl.DataFrame, facts: dict[str, int]) -> Score:
    summary = panel.summary
    findings = []
    given = summary.rows - (summary.absent_rows if summary.absent == "zero" else 0)
    cells = given / (given + summary.absent_rows)
    if summary.absent_rows:
        meaning = "taken as sales of zero" if summary.absent == "zero" else "left out"
        findings.append(
            Finding(
                code="absent_rows",
                severity="info",
                message=f"{summary.absent_rows} periods of listed items have no row ({meaning})",
                remedy="give a row for every period in which an item was on sale",
            )
        )
    unknown = {name.removeprefix("unknown_"): count for name, count in facts.items() if name.startswith("unknown_")}
    for name, count in unknown.items():
        if count:
            findings.append(
                Finding(
                    code="unknown_values",
                    severity="info",
                    message=f"{name} is not known in {count} of {summary.rows} rows",
                    remedy=f"fill {name} in where it can be found",
                )
            )
    short = items.filter(pl.col("rows") < SHORT_HISTORY).height
    if short:
        findings.append(
            Finding(
                code="short_history",
                severity="info",
                message=f"{short} of {items.height} items have fewer than {SHORT_HISTORY} rows",
                remedy="expect their category to decide their elasticity",
            )
        )
    known = 1 - sum(unknown.values()) / (len(unknown) * summary.rows) if unknown else 1.0
    return Score(value=_points(cells * known), findings=tuple(findings))


def _validity(panel: SalesPanel, facts: dict[str, int]) -> Score:
    rules = {
        "cost_above_price": ("cost more than their price", "check the unit of cost; loss leaders may be meant"),
        "price_above_list_price": ("sell above their list price", "check which column is the regular price"),
        "sold_above_stock": ("sell more than was in stock", "give the stock at the start of the period"),
    }
    rows = panel.summary.rows
    findings = tuple(
        Finding(code=code, severity="warning", message=f"{facts[code]} of {rows} rows {text}", remedy=remedy)
        for code, (text, remedy) in rules.items()
        if facts.get(code)
    )
    worst = max((facts.get(code, 0) for code in rules), default=0)
    return Score(value=_points(1 - worst / rows), findings=findings)


def _integrity(panel: SalesPanel, items: pl.DataFrame) -> Score:
    """Names that differ only by case or spaces, and units of levels with one member."""
    findings: list[Finding] = []
    broken, units = 0, 0
    child = "item"
    for level in (*panel.roles.levels, None):
        names = items[child].unique().sort()
        units += names.len()
        alike = names.to_frame(child).with_columns(_plain=pl.col(child).str.strip_chars().str.to_lowercase())
        twins = alike.filter(pl.len().over("_plain") > 1)
        if twins.height:
            broken += twins.height
            shown = ", ".join(repr(name) for name in twins.sort("_plain")[child].head(4))
            findings.append(
                Finding(
                    code="names_alike",
                    severity="warning",
                    message=f"{twins.height} {child} names differ only by case or spaces, e.g. {shown}",
                    remedy="write each name one way",
                )
            )
        if level is not None:
            members = items.unique([child, level]).group_by(level).len()
            alone = members.filter(pl.col("len") == 1).height
            if alone:
                findings.append(
                    Finding(
                        code="lonely_units",
                        severity="info",
                        message=f"{alone} of {members.height} units of {level!r} have one {child}",
                        remedy="merge them with a neighbour if they should learn from one another",
                    )
                )
            child = level
    return Score(value=_points(1 - broken / units), findings=tuple(findings))


def _realism(panel: SalesPanel, items: pl.DataFrame, *, quick: bool) -> Score:
    findings: list[Finding] = []
    constant = (
        panel.frame.group_by("item")
        .agg(same=pl.col("quantity").min() == pl.col("quantity").max(), rows=pl.len())
        .filter(pl.col("same") & (pl.col("rows") >= SHORT_HISTORY))
        .collect(engine="streaming")
        .sort("item")["item"]
    )
    if constant.len():
        findings.append(
            Finding(
                code="constant_sales",
                severity="warning",
                message=f"{constant.len()} items sell the same in every period, e.g. {constant[0]!r}",
                remedy="check whether these are plans, caps or placeholders",
            )
        )
    share = 1 - constant.len() / items.height
    if not quick:
        outlying = list(_outliers(panel, items))
        findings += [finding for finding, _ in outlying]
        share *= 1 - sum(count for _, count in outlying) / panel.summary.rows
    slope = _within_slope(panel)
    penalty = 0.0
    if slope is not None and slope > 0:
        penalty = UPWARD_PENALTY
        findings.append(
            Finding(
                code="demand_rises_with_price",
                severity="warning",
                message=f"inside items, sales rise with price (within-item slope of log units {slope:+.2f})",
                remedy="prices were probably raised when demand was high: add controls, an instrument or a price test",
            )
        )
    return Score(value=max(_points(share) - penalty, 0.0), findings=tuple(findings))


def _outliers(panel: SalesPanel, items: pl.DataFrame) -> Iterator[tuple[Finding, int]]:
    """Rows far from their own item's usual price or quantity, counted in one pass."""
    usual = items.lazy().select("item", "reference_log_price", "units_per_period")
    price = (pl.col("price").log() - pl.col("reference_log_price")).abs() > math.log(PRICE_OUTLIER)
    quantity = pl.col("quantity") > QUANTITY_OUTLIER * pl.col("units_per_period")
    rows = panel.frame.join(usual, on="item")
    counts = rows.select(price=price.sum(), quantity=quantity.sum()).collect(engine="streaming").row(0, named=True)
    texts = {
        "price": (f"a price {PRICE_OUTLIER:g} times above or below their item's usual one", "check units and packs"),
        "quantity": (f"a quantity over {QUANTITY_OUTLIER:g} times their item's mean", "check for bulk orders"),
    }
    for name, (text, remedy) in texts.items():
        if counts[name]:
            message = f"{counts[name]} rows have {text}"
            yield Finding(code=f"{name}_outliers", severity="warning", message=message, remedy=remedy), counts[name]


def _within_slope(panel: SalesPanel) -> float | None:
    """Pooled within-item slope of log(units + 1/2 where zero) on log price; None where no price moves."""
    units = pl.when(pl.col("quantity") > 0).then(pl.col("quantity")).otherwise(0.5).log()
    rows = panel.frame.select("item", _log_price=pl.col("price").log(), _units=units)
    gram = gather_gram(rows, "item", "_units", ["_log_price"])
    squares, cross = gram.xtx[:, 1, 1].sum(), gram.xty[:, 1].sum()
    return float(cross / squares) if squares > 1e-12 * max(gram.count.sum(), 1.0) and np.isfinite(cross) else None


def _points(share: float) -> float:
    """Share in [0, 1] as points of 100."""
    return round(100.0 * min(max(share, 0.0), 1.0), 1)
