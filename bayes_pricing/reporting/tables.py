"""Tables of a report: scores of every estimator, items worth most, what was refused and why, grouped findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from bayes_pricing.errors import Finding
from bayes_pricing.reporting.content import DecisionPart
from bayes_pricing.reporting.formats import plain

MOST_ITEMS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedFinding:
    """Findings of one code: how many items it concerns, which ones first, and what the first of them says."""

    code: str
    severity: str
    count: int
    items: tuple[str, ...]
    message: str
    remedy: str


def group_findings(findings: Sequence[Finding]) -> tuple[GroupedFinding, ...]:
    """Findings by code, the severest first, so that a thousand alike read as one.

    Examples
    --------
    >>> twice = [Finding(code="thin", severity="warning", message="few", remedy="wait", item=name) for name in "ab"]
    >>> [(group.code, group.count, group.items) for group in group_findings(twice)]
    [('thin', 2, ('a', 'b'))]
    """
    by_code: dict[str, list[Finding]] = {}
    for finding in findings:
        by_code.setdefault(finding.code, []).append(finding)
    groups = [
        GroupedFinding(
            code=code,
            severity=alike[0].severity,
            count=len(alike),
            items=tuple(finding.item for finding in alike if finding.item is not None),
            message=alike[0].message,
            remedy=alike[0].remedy,
        )
        for code, alike in by_code.items()
    ]
    severity = {"error": 0, "warning": 1, "info": 2}
    return tuple(sorted(groups, key=lambda group: (severity[group.severity], -group.count)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """Scores of one estimator as texts, and which of them are the best of their column."""

    estimator: str
    cells: tuple[tuple[str, bool], ...]


def score_rows(scores: pl.DataFrame) -> tuple[tuple[str, ...], tuple[ScoreRow, ...]]:
    """Headings and one row per estimator, in the order given; winners of each score are marked.

    Examples
    --------
    >>> scores = pl.DataFrame({"estimator": ["a", "b"], "score": ["WAPE", "WAPE"], "unit": ["", ""],
    ...                        "value": [0.2, 0.3], "lower_is_better": [True, True]})
    >>> headings, rows = score_rows(scores)
    >>> headings, rows[0].cells
    (('WAPE',), (('0.200', True),))
    """
    names = scores["score"].unique(maintain_order=True).to_list()
    headings: list[str] = []
    best: dict[str, float | None] = {}
    known: dict[tuple[str, str], float | None] = {}
    for name in names:
        rows = scores.filter(pl.col("score") == name)
        unit = rows["unit"][0]
        headings.append(f"{name} ({unit})" if unit else name)
        finite = [value for value in rows["value"] if value is not None and value == value]
        best[name] = (min if rows["lower_is_better"][0] else max)(finite, default=None)
        known |= {(estimator, name): value for estimator, value in rows.select("estimator", "value").rows()}
    estimators = scores["estimator"].unique(maintain_order=True).to_list()
    table = tuple(
        ScoreRow(
            estimator=estimator,
            cells=tuple(
                (
                    plain(known.get((estimator, name))),
                    best[name] is not None and known.get((estimator, name)) == best[name],
                )
                for name in names
            ),
        )
        for estimator in estimators
    )
    return tuple(headings), table


def with_elasticity(items: pl.DataFrame, elasticities: pl.DataFrame) -> pl.DataFrame:
    """Items with ``elasticity, elasticity_lower, elasticity_upper`` of their own row of the elasticity table.

    Examples
    --------
    >>> table = pl.DataFrame({"level": ["item"], "name": ["a"], "mean": [-2.0], "lower": [-3.0], "upper": [-1.0]})
    >>> with_elasticity(pl.DataFrame({"item": ["a"]}), table).row(0)
    ('a', -2.0, -3.0, -1.0)
    """
    known = elasticities.filter(pl.col("level") == "item").select(
        pl.col("name").alias("item"),
        pl.col("mean").alias("elasticity"),
        pl.col("lower").alias("elasticity_lower"),
        pl.col("upper").alias("elasticity_upper"),
    )
    return items.drop("elasticity", strict=False).join(known, on="item", how="left", maintain_order="left")


def top_items(decision: DecisionPart, elasticities: pl.DataFrame, most: int = MOST_ITEMS) -> pl.DataFrame:
    """Recommended changes worth most under the objective, at most `most`, each with its elasticity.

    Returns
    -------
    DataFrame
        The decision's columns, ``move`` (relative change of price), ``gain, gain_lower, gain_upper`` (of the
        objective), and ``elasticity, elasticity_lower, elasticity_upper``; items to be tested first come after those to change.
    """
    objective = decision.objective
    return (
        with_elasticity(decision.items, elasticities)
        .filter(pl.col("action").is_in(["change", "test_first"]))
        .with_columns(
            (pl.col("recommended_price") / pl.col("current_price") - 1.0).alias("move"),
            pl.col(f"{objective}_mean").alias("gain"),
            pl.col(f"{objective}_lower").alias("gain_lower"),
            pl.col(f"{objective}_upper").alias("gain_upper"),
        )
        .sort(pl.col("action") != "change", -pl.col("gain"), "item")
        .head(most)
    )


def refused_reasons(items: pl.DataFrame) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """What was refused: (reason, number of items, their names), the commonest reason first.

    Examples
    --------
    >>> items = pl.DataFrame({"item": ["a", "b"], "action": ["refused", "hold"], "reason": ["no cost is known", None]})
    >>> refused_reasons(items)
    (('no cost is known', 1, ('a',)),)
    """
    refused = items.filter(pl.col("action") == "refused").with_columns(
        pl.col("reason").fill_null("no reason was recorded")
    )
    grouped = refused.group_by("reason", maintain_order=True).agg(pl.col("item"))
    rows = [(reason, len(names), tuple(names)) for reason, names in grouped.rows()]
    return tuple(sorted(rows, key=lambda row: -row[1]))


def action_counts(items: pl.DataFrame) -> dict[str, int]:
    """Number of items per action; 0 where no item has it.

    Examples
    --------
    >>> action_counts(pl.DataFrame({"action": ["change", "change", "hold"]}))
    {'change': 2, 'hold': 1, 'test_first': 0, 'refused': 0}
    """
    seen = dict(items.group_by("action").len().rows())
    return {action: int(seen.get(action, 0)) for action in ("change", "hold", "test_first", "refused")}


def examples(names: Iterable[str], most: int = 3) -> str:
    """First names of many, as a text.

    Examples
    --------
    >>> examples(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    known = list(names)
    more = len(known) - most
    return ", ".join(known[:most]) + (f" and {more:,} more" if more > 0 else "")
