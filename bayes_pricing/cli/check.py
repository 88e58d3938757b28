"""`bayes-pricing check`: can these sales answer the question?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bayes_pricing.cli.flags import RoleFlags, SalesFlags
from bayes_pricing.cli.output import REFUSED, Answer, progress_bar

if TYPE_CHECKING:
    from bayes_pricing.data.assessment import Assessment
    from bayes_pricing.data.panel import PanelSummary, SalesPanel
    from bayes_pricing.demand.identification import Identification
    from bayes_pricing.errors import Finding

SCORES = ("completeness", "validity", "integrity", "realism")


def check(
    sales: SalesFlags,
    roles: RoleFlags | None = None,
    *,
    quick: bool = False,
    randomised_price: bool = False,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Assess sales before any model: completeness, validity, integrity, realism, and what each item can say of price.

    Example: bayes-pricing check --sales sales.csv --item sku --category family --quantity units --quick

    Parameters
    ----------
    quick
        Leave out what needs another pass over the rows; the answer says what.
    randomised_price
        Prices were set by chance: differences between items may be read as the effect of price.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.data.assessment import assess
    from bayes_pricing.demand.identification import check_identified, identify
    from bayes_pricing.errors import Refusal

    with progress_bar() as progress:
        progress(0.1, "reading and checking the sales")
        panel = sales.panel(roles or RoleFlags())
        progress(0.6, "assessing")
        assessment = assess(panel, quick=quick)
        progress(0.8, "asking what each item can say")
        identification = identify(panel, quick=quick)
    refused: tuple[Finding, ...] = ()
    try:
        instruments = bool(panel.roles.instruments)
        check_identified(panel, randomised_price=randomised_price, has_instrument=instruments)
    except Refusal as refusal:
        refused = refusal.findings
    document = {
        "status": "refused" if refused else "ok",
        "roles": panel.roles,
        "summary": panel.summary,
        "assessment": assessment.as_builtins(),
        "identification": identification.as_builtins(),
        "findings": (*refused, *assessment.findings, *identification.findings),
    }
    text = check_text(panel, assessment, identification, refused)
    return Answer(document=document, text=text, exit_code=REFUSED if refused else 0)


def check_text(
    panel: SalesPanel, assessment: Assessment, identification: Identification, refused: tuple[Finding, ...]
) -> str:
    """The assessment for people."""
    import numpy as np

    from bayes_pricing.cli.text import finding_lines, role_words

    scores = ", ".join(f"{name} {getattr(assessment, name).value:.0f}" for name in SCORES)
    left_out = (*assessment.left_out, *identification.left_out)
    errors = identification.table["elasticity_se"].drop_nulls().drop_nans().to_numpy()
    lines = [summary_line(panel.summary), f"Columns: {role_words(panel.roles)}.", f"Out of 100: {scores}."]
    if errors.size:
        lines.append(
            f"By their own rows alone, {errors.size:,} of {panel.summary.items:,} items would know their elasticity "
            f"with a standard error of {float(np.median(errors)):.2f} (the median)."
        )
    lines += finding_lines((*refused, *assessment.findings, *identification.findings))
    return "\n".join([*lines, *([f"Left out in the quick mode: {', '.join(left_out)}."] if left_out else [])])


def summary_line(summary: PanelSummary) -> str:
    """What was read, in one line."""
    levels = "".join(f" in {count:,} units of {level!r}" for level, count in summary.units.items())
    when = f", {summary.first_period} to {summary.last_period}" if summary.first_period is not None else ""
    return f"{summary.rows:,} rows of {summary.items:,} items{levels}{when}; {summary.zero_rows:,} rows sold nothing."
