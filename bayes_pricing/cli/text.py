"""Lines of plain text that several commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

if TYPE_CHECKING:
    from bayes_pricing.demand.posterior import DemandPosterior
    from bayes_pricing.errors import Finding

MOST_ROWS = 24
MOST_NAMES = 3


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
