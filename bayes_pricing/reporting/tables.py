"""Tables of a report: scores of every estimator, items worth most, what was refused and why, grouped findings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from bayes_pricing.data.assessment import Assessment
from bayes_pricing.demand.identification import WEAK_SE, Identification
from bayes_pricing.errors import Finding
from bayes_pricing.pricing.constraints import Limit, MaxChange, MaxChanges, MaxLossProbability, MaxShortfall, Support
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.limit_words import limit_phrase
from bayes_pricing.reporting.decision_plots import decision_frame, with_elasticity
from bayes_pricing.reporting.formats import percent, plain
from bayes_pricing.reporting.scoring import SCORES

MOST_ITEMS = 200
MOST_TESTS = 10
CLEAR_SE = 0.5
"""Standard error of an item's elasticity up to which its own sales are called clear."""


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


def score_rows(means: pl.DataFrame) -> tuple[tuple[str, ...], tuple[ScoreRow, ...]]:
    """Headings and one row per estimator of mean scores; the winner of each column is marked.

    Examples
    --------
    >>> headings, rows = score_rows(pl.DataFrame({"estimator": ["a", "b"], "wape": [0.2, 0.3]}))
    >>> headings, rows[0].cells, rows[1].cells
    (('WAPE (share missed)',), (('0.200', True),), (('0.300', False),))
    """
    names = [name for name in SCORES if name in means.columns]
    distance = means.select((pl.col(name) - SCORES[name].best).abs() for name in names)
    wins = distance.select((pl.all() == pl.all().min()).fill_null(value=False))
    rows = tuple(
        ScoreRow(estimator=estimator, cells=tuple((plain(means[name][row]), wins[name][row]) for name in names))
        for row, estimator in enumerate(means["estimator"])
    )
    return tuple(SCORES[name].heading for name in names), rows


def assessment_rows(assessment: Assessment) -> tuple[tuple[str, float, str], ...]:
    """Scores of data quality: (name, 0-100, what was found).

    Examples
    --------
    >>> from bayes_pricing.data.assessment import Score
    >>> fine = Score(value=100.0, findings=())
    >>> assessment_rows(Assessment(completeness=fine, validity=fine, integrity=fine, realism=fine))[0]
    ('Completeness', 100.0, 'nothing found')
    """
    scores = {
        "Completeness": assessment.completeness,
        "Validity": assessment.validity,
        "Integrity": assessment.integrity,
        "Realism": assessment.realism,
    }
    return tuple(
        (name, score.value, "; ".join(group.message for group in group_findings(score.findings)) or "nothing found")
        for name, score in scores.items()
    )


def identification_rows(identification: Identification) -> tuple[tuple[str, int, str], ...]:
    """How much the items' own rows can say of their elasticity: (class, number of items, what that means).

    Examples
    --------
    >>> table = pl.DataFrame({"item": ["a", "b"], "elasticity_se": [0.3, None], "prior_only": [False, True]})
    >>> rows = identification_rows(Identification(table=table, findings=(), prior_only=("b",)))
    >>> [count for _, count, _ in rows]
    [1, 0, 0, 1]
    """
    moved = identification.table.filter(~pl.col("prior_only"))
    error = moved["elasticity_se"].fill_null(float("inf"))
    clear, weak = int((error <= CLEAR_SE).sum()), int((error > WEAK_SE).sum())
    return (
        (f"standard error up to {CLEAR_SE}", clear, "their own sales say much"),
        (f"{CLEAR_SE} to {WEAK_SE}", moved.height - clear - weak, "their own sales and their category speak together"),
        (f"above {WEAK_SE}, or unknown", weak, "their own sales say less than what is known of prices in general"),
        ("the price never moved", len(identification.prior_only), "their category speaks for them"),
    )


def top_items(decision: PriceDecision, elasticities: pl.DataFrame, most: int = MOST_ITEMS) -> pl.DataFrame:
    """Recommended changes worth most under the objective, at most `most`, each with its elasticity.

    Returns
    -------
    DataFrame
        Columns of :func:`bayes_pricing.reporting.decision_plots.decision_frame`; ``gain, gain_lower, gain_upper`` (of
        the objective), and ``elasticity, elasticity_lower, elasticity_upper``.
    """
    gain = {part: pl.col(f"{decision.objective}_{part}") for part in ("mean", "lower", "upper")}
    return (
        with_elasticity(decision_frame(decision), elasticities)
        .filter(pl.col("action") == "change")
        .with_columns(gain=gain["mean"], gain_lower=gain["lower"], gain_upper=gain["upper"])
        .sort(-pl.col("gain"), "item")
        .head(most)
    )


def items_to_test(decision: PriceDecision, most: int = MOST_TESTS) -> pl.DataFrame:
    """Items whose price is worth testing first, the most valuable test first."""
    tests = decision_frame(decision).filter(
        (pl.col("action") == "test_first") & pl.col("value_of_testing").is_not_null()
    )
    return tests.sort(-pl.col("value_of_testing"), "item").head(most)


def refused_reasons(decision: PriceDecision) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """What was refused: (reason, number of items, their names), the commonest reason first."""
    refused = decision_frame(decision).filter(pl.col("action") == "refused")
    reason = pl.col("reason").fill_null("no reason was recorded")
    grouped = refused.with_columns(reason).group_by("reason", maintain_order=True).agg(pl.col("item"))
    rows = [(text, len(names), tuple(names)) for text, names in grouped.rows()]
    return tuple(sorted(rows, key=lambda row: -row[1]))


def limit_words(limit: Limit) -> str:
    """A limit in words: a sentence for the common ones, otherwise what it is with its number.

    Examples
    --------
    >>> from bayes_pricing.pricing.constraints import Capacity, MaxChange
    >>> limit_words(MaxChange(share=0.15)), limit_words(Capacity(units=40.0))
    ('no price moves by more than 15 %', 'the capacity of 40.0 units')
    """
    match limit:
        case MaxChange():
            return f"no price moves by more than {percent(limit.share)}"
        case Support() if limit.extend == 0:
            return "no price outside those seen in the data"
        case MaxLossProbability():
            return f"no item is worse off with a probability above {percent(limit.probability)}"
        case MaxShortfall():
            return f"mean loss over the worst {percent(limit.share)} of draws at most {plain(limit.amount)} per period"
        case MaxChanges():
            return f"at most {limit.count:,} prices change"
    return limit_phrase(limit, "")


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
