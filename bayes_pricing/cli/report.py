"""`bayes-pricing report`: one HTML file that opens from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bayes_pricing.cli.decision_flags import LimitFlags, ModelFlags, MoneyFlags
from bayes_pricing.cli.output import Answer, progress_bar

FULLY_TOLD = 16
"""Items of a portfolio small enough that every one is explained; of a larger one, only the boldest changes."""
STORIES = 3


def report(
    model: ModelFlags,
    money: MoneyFlags | None = None,
    limits: LimitFlags | None = None,
    *,
    out: Path,
    policy: Path | None = None,
    period_name: str | None = None,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Write everything a model has to say into one self-contained HTML file: demand, prices, reasons, trust.

    Example: bayes-pricing report --model-dir model --out report.html --max-change 0.15

    Parameters
    ----------
    out
        The HTML file.
    policy
        TOML file with objective and limits under the flags' own names, instead of flags.
    period_name
        What a period is called, e.g. week; left out, read off the calendar of the sales.
    seed
        Same seed, same decision.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.cli.policy import decidable, decide, read_policy
    from bayes_pricing.pricing.decision import boldest_changes
    from bayes_pricing.pricing.phrases import calendar_days, calendar_word
    from bayes_pricing.registry import load_fit
    from bayes_pricing.reporting import assemble
    from bayes_pricing.reporting.content import Report
    from bayes_pricing.reporting.report import write_report

    money, limits = read_policy(policy, money or MoneyFlags(), limits or LimitFlags())
    with progress_bar() as progress:
        progress(0.1, "reading the model")
        fitted = load_fit(model.model_dir)
        progress(0.3, "judging prices on every posterior draw")
        decision = decide(decidable(fitted), money, limits, seed=seed, period_days=calendar_days(fitted.summary))
        progress(0.6, "explaining")
        small = len(decision.items) <= FULLY_TOLD
        told = decision.items if small else boldest_changes(decision, STORIES)
        called = period_name or calendar_word(fitted.summary)
        part = assemble.decision_part(fitted.posterior, decision, [item.item for item in told], called, fitted.findings)
        if small:
            progress(0.7, "weighing gain against risk")
            part = assemble.with_frontier(part, fitted.posterior, seed=seed)
        progress(0.9, "writing the report")
        path = write_report(
            Report(
                title=f"Prices from {model.model_dir.name}",
                question=f"Which prices bring the most {decision.objective} within the limits?",
                period=called,
                sales=assemble.sales_part(fitted, "Sales of the fitted model"),
                demand=assemble.demand_part(fitted, seed=seed),
                decision=part,
                trust=assemble.trust_part(fitted),
                provenance=assemble.provenance(fitted, fitted.seconds, f"report --model-dir {model.model_dir}"),
            ),
            out,
        )
    document = {"status": "ok", "report": str(path), "model": fitted.posterior.id, "bytes": path.stat().st_size}
    return Answer(document=document, text=f"Report: {path.resolve()}")
