"""Lines of plain text that several commands print."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from bayes_pricing.data.roles import ColumnRoles
    from bayes_pricing.demand.choice_of_model import ModelScore
    from bayes_pricing.demand.posterior import DemandPosterior
    from bayes_pricing.errors import Finding
    from bayes_pricing.pricing.decision import Estimate, PortfolioDecision, PriceDecision
    from bayes_pricing.pricing.frontier import CautionCost, FrontierPoint
    from bayes_pricing.pricing.pass_through import PassThrough

MOST_ROWS = 24
MOST_NAMES = 3
LARGEST_CHANGES = 8
REPEATED_ROLES = ("levels", "controls", "shared_controls", "competitor_prices", "instruments", "attributes")
ACTIONS = {"change": "to change", "hold": "to hold", "test_first": "to test first", "refused": "refused"}


def elasticity_lines(posterior: DemandPosterior, truth: Mapping[str, float] | None = None) -> list[str]:
    """Elasticities above the items as a table; items too where there is no level between."""
    from bayes_pricing.demand.elasticity import elasticity_table

    table = elasticity_table(posterior)
    above = table.filter(pl.col("level") != "item") if posterior.spec.levels else table
    rows = above.head(MOST_ROWS).to_dicts()
    width = max(len(str(row["name"])) for row in rows)
    head = f"{'':<{width}}  elasticity   90 % interval" + ("      truth" if truth else "")
    lines = [head]
    for row in rows:
        interval = f"{row['lower']:6.2f} to {row['upper']:6.2f}"
        known = f"     {truth[row['name']]:6.2f}" if truth and row["name"] in truth else ""
        lines.append(f"{row['name']:<{width}}  {row['mean']:10.2f}   {interval}{known}")
    if above.height > MOST_ROWS:
        lines.append(f"... and {above.height - MOST_ROWS:,} more (--json has all).")
    alone = table.filter(pl.col("prior_only"))
    if alone.height:
        lines.append(f"{alone.height:,} items have no price variation of their own and lean on their category.")
    return lines


def score_lines(scores: Sequence[ModelScore]) -> list[str]:
    """Families compared by leave-one-out, best first; those refused with the reason."""
    lines = ["Families by leave-one-out (expected log density of left-out rows, less that of the best):"]
    for score in scores:
        found = score.refused or f"{score.difference:+.1f} (standard error {score.standard_error:.1f})"
        lines.append(f"  {score.model}: {found}")
    return lines


def attribute_lines(posterior: DemandPosterior) -> list[str]:
    """By how much attributes of the items move their elasticity, where the model has some."""
    from bayes_pricing.demand.elasticity import attribute_table

    rows = attribute_table(posterior).filter(of="elasticity").to_dicts()
    lines = [f"  {row['attribute']}: {row['mean']:+.2f} ({row['lower']:+.2f} to {row['upper']:+.2f})" for row in rows]
    return ["", "What one unit of an attribute adds to the elasticity:", *lines] if lines else []


def role_words(roles: ColumnRoles) -> str:
    """Which column plays which role, those taken by their name or an alias included."""
    parts = [f"{role} = {column}" for role, column in roles.single().items()]
    parts += [
        f"{role.replace('_', ' ')} = {', '.join(getattr(roles, role))}"
        for role in REPEATED_ROLES
        if getattr(roles, role)
    ]
    return "; ".join(parts)


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Findings grouped by code: the message of the first, how many more, and the remedy."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.code, []).append(finding)
    return [line for group in groups.values() for line in _group_lines(group)]


def _group_lines(group: Sequence[Finding]) -> list[str]:
    first = group[0]
    names = [finding.item for finding in group if finding.item is not None]
    shown = ", ".join(names[:MOST_NAMES]) + (
        f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    )
    where = f" [{shown}]" if names else ""
    return [f"{first.severity}: {first.message}{where}; {first.remedy}."]


def decision_lines(decision: PriceDecision, changes: int = LARGEST_CHANGES, *, period: str = "period") -> list[str]:
    """A decision in lines: counts, portfolio money with intervals per `period`, then the largest `changes`."""
    from bayes_pricing.pricing.decision import boldest_changes
    from bayes_pricing.pricing.wording import percent

    portfolio, money = decision.portfolio, f"{decision.economics.currency} per {period}".strip()
    actions = [item.action for item in decision.items]
    counts = ", ".join(f"{actions.count(name):,} {words}" for name, words in ACTIONS.items() if name in actions)
    lines = [f"{len(decision.items):,} items: {counts}. Objective: {decision.objective}.", ""]
    for outcome in ("revenue", "profit", "units"):
        if outcome in portfolio.changes:
            unit = f"units per {period}" if outcome == "units" else money
            lines.append(f"{outcome:<8} {_outcome(portfolio, outcome)} {unit}")
    lines.append(f"Probability of doing better than today: {percent(portfolio.probability_better)}.")
    if portfolio.expected_shortfall is not None:
        lines.append(
            f"Expected shortfall (mean loss over the worst {portfolio.shortfall_share:.0%} of draws): "
            f"{portfolio.expected_shortfall:,.0f} {money}."
        )
    if not portfolio.feasible:
        broken = ", ".join(name for name, amount in portfolio.residuals if amount > 0)
        lines.append(f"These prices break limits: {broken}.")
    bound = f"{portfolio.upper_bound:+,.0f} {money} of {decision.objective}"
    lines.append(
        f"The best allowed prices cannot bring more than {bound} (engine: {portfolio.engine})."
        if portfolio.certified
        else f"Not certified: {bound} is the best that was found (engine: {portfolio.engine})."
    )
    boldest = boldest_changes(decision, changes)
    lines += ["", "Largest changes:"] if boldest else []
    for item in boldest:
        move = item.price / item.current_price - 1.0
        lines.append(
            f"  {item.item:<24} {item.current_price:9.2f} -> {item.price:9.2f} ({move:+.0%}), "
            f"better with probability {percent(item.probability_better or 0.0)}"
        )
    return [*lines, *finding_lines(decision.findings)]


def certainty_line(decision: PriceDecision, tolerance: float, period: str) -> str:
    """The certainty equivalent of a decision made or scored under a risk tolerance."""
    money = f"{decision.economics.currency} per {period}".strip()
    return (
        f"Under a risk tolerance of {tolerance:,.6g} {money} the change is worth a sure "
        f"{decision.portfolio.objective:+,.2f} {money} (its certainty equivalent)."
    )


def frontier_lines(points: Sequence[FrontierPoint], costs: Sequence[CautionCost]) -> list[str]:
    """The efficient frontier as a table, the boldest prices first, and what each risk limit costs."""
    from bayes_pricing.pricing.wording import percent

    lines = [
        "Gain against risk, the highest expected gain for every expected shortfall:",
        f"  {'gain':>12} {'shortfall':>12} {'changes':>8}  probability better",
    ]
    lines += [
        f"  {point.objective:>+12,.2f} {point.expected_shortfall:>12,.2f} {point.changes:>8,}  "
        f"{percent(point.probability_better)}"
        for point in points
    ]
    lines += [
        f"The limit {cost.limit} costs {cost.cost:,.2f} of the {cost.objective_without:+,.2f} to be had without it."
        for cost in costs
    ]
    return lines


def pass_through_lines(passed: Sequence[PassThrough]) -> list[str]:
    """How much of a rise each item's best price passes on."""
    if not passed:
        return ["No item has a best price of its own, so nothing can be said about passing the rise on."]
    rates = sorted(item.rate for item in passed)
    lines = [
        f"Of the rise the best prices pass on {rates[len(rates) // 2]:.0%} (median of {len(passed):,} items; "
        "little or nothing where a limit keeps the price):"
    ]
    lines += [
        f"  {item.item:<24} {item.price_before:9.2f} -> {item.price_after:9.2f}, passed on {item.rate:.0%}"
        + (f", {item.textbook:.0%} under constant elasticity alone" if math.isfinite(item.textbook) else "")
        for item in passed[:MOST_ROWS]
    ]
    if len(passed) > MOST_ROWS:
        lines.append(f"  and {len(passed) - MOST_ROWS:,} more (--json has all).")
    return lines


def _outcome(portfolio: PortfolioDecision, outcome: str) -> str:
    today, then, change = (getattr(portfolio, part)[outcome] for part in ("current", "recommended", "changes"))
    return f"today {_interval(today, '')}, recommended {_interval(then, '')}, change {_interval(change, '+')}"


def _interval(estimate: Estimate, sign: str) -> str:
    return f"{estimate.mean:{sign},.0f} ({estimate.lower:{sign},.0f} to {estimate.upper:{sign},.0f})"
