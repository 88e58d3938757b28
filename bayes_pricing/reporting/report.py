"""One self-contained HTML file of a run: opens from disk, asks no other host for anything, runs no code but its own.

A content-security policy in the file allows only the scripts and the style that were written with it, by their hashes;
charts are Vega-Lite specifications drawn by Vega's interpreter, which needs no ``eval``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup

from bayes_pricing.errors import StorageError
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.reporting import formats
from bayes_pricing.reporting.content import DecisionPart, Report
from bayes_pricing.reporting.decision_plots import objective_draws, outcome_unit
from bayes_pricing.reporting.figures import (
    Figure,
    baseline_figures,
    comparison,
    decision_figures,
    demand_figures,
    frontier_figure,
    story_figure,
    trust_figures,
)
from bayes_pricing.reporting.tables import (
    assessment_rows,
    examples,
    group_findings,
    identification_rows,
    items_to_test,
    limit_words,
    refused_reasons,
    score_rows,
    top_items,
)

STATIC = files("bayes_pricing.reporting") / "static"
INTERPRETER_IMPORT = "import { ascending, isString, DisallowedObjectProperties } from 'vega-util';"
INTERPRETER_EXPORT = "export { expression as expressionInterpreter };"


def write_report(report: Report, path: Path) -> Path:
    """Write a report as one HTML file that needs nothing else.

    Parameters
    ----------
    report : Report
    path : Path
        Where to write; folders are made, an existing file is replaced.

    Returns
    -------
    Path
        The file, as an absolute path.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    text = render_report(report)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise StorageError(f"The report {str(path)!r} cannot be written: {error}; name another file.") from error
    return path.resolve()


def render_report(report: Report) -> str:
    """Render the HTML text of a report; the same report gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bayes_pricing.reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("plain", "signed", "price", "percent", "odds", "percent_change", "interval", "whole", "glued"):
        environment.filters[name] = getattr(formats, name)
    environment.filters["examples"] = examples
    style, scripts = _static("report.css"), _scripts()
    return environment.get_template("report.html.jinja").render(
        report=report,
        policy=content_policy(scripts, [style]),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        **_parts(report),
    )


def content_policy(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """Content-security policy that lets exactly these inline scripts and styles run, and nothing be loaded.

    Examples
    --------
    >>> content_policy([], ["p {}"]).split("; ")[1:3]
    ["script-src 'none'", "style-src 'sha256-SNJDlN1Iy2mnt7DOjQIyDb2LQE6O5PQiSZomcdzawQ4='"]
    """
    allowed = {"script-src": scripts, "style-src": styles}
    rules = [f"{rule} {' '.join(map(_source_hash, texts)) or _NOTHING}" for rule, texts in allowed.items()]
    return "; ".join([f"default-src {_NOTHING}", *rules, f"base-uri {_NOTHING}", f"form-action {_NOTHING}"])


_NOTHING = "'none'"


def chart_json(figure: Figure) -> Markup:
    """Specification of a chart as JSON that is safe inside a script element; the title stands in the page instead."""
    spec = figure.chart.to_dict(validate=False)  # half the time of a report; the charts' own tests validate
    spec.pop("title", None)
    text = json.dumps(spec, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _parts(report: Report) -> dict[str, object]:
    """What the template shows besides the report itself: figures and tables."""
    demand, sales = report.demand, report.sales
    population = demand.elasticities.filter(demand.elasticities["level"] == "population")
    parts: dict[str, object] = {
        "chart_json": chart_json,
        "population": next(population.iter_rows(named=True), None),
        "assessment": assessment_rows(sales.assessment),
        "identification": identification_rows(sales.identification),
        "findings": group_findings(sales.findings),
        "demand_figures": demand_figures(demand),
        "trust_figures": trust_figures(report.trust),
        "decision": None,
    }
    if report.baselines is not None:
        parts["baseline_figures"] = baseline_figures(report.baselines, demand)
        parts["score_headings"], parts["score_rows"] = score_rows(comparison(report.baselines, demand))
    if report.decision is not None:
        parts |= _decision_parts(report, report.decision)
    return parts


def _decision_parts(report: Report, part: DecisionPart) -> dict[str, object]:
    decision, elasticities, period = part.decision, report.demand.elasticities, report.period
    draws = decision.portfolio.change_draws
    return {
        "decision": decision,
        "totals": [
            (outcome, outcome_unit(decision, period, outcome), float((draws.sel(metric=outcome) > 0).mean()))
            for outcome, change in decision.portfolio.changes.items()
            if math.isfinite(change.mean)
        ],
        "unit": outcome_unit(decision, period),
        "draws": objective_draws(decision).size,
        "limits": [limit_words(limit) for limit in decision.limits],
        "decision_findings": group_findings(decision.findings),
        "decision_figures": decision_figures(decision, elasticities, period),
        "frontier": frontier_figure(part.frontier, decision, period) if part.frontier else None,
        "caution": [(limit_words(_limit(decision, cost.limit)), cost.cost) for cost in part.caution],
        "stories": [(story, story_figure(story.curve, number)) for number, story in enumerate(part.stories)],
        "top_items": list(top_items(decision, elasticities).iter_rows(named=True)),
        "items_to_test": list(items_to_test(decision).iter_rows(named=True)),
        "refused": refused_reasons(decision),
    }


def _limit(decision: PriceDecision, name: str) -> Limit:
    return next(limit for limit in decision.limits if limit.name == name)


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def _scripts() -> list[str]:
    """Vega, Vega-Lite and the interpreter with their licences, then our own few lines."""
    vega_licence, lite_licence = _static("LICENSE-vega"), _static("LICENSE-vega-lite")
    interpreter = _static("vega-interpreter.js").replace(
        INTERPRETER_IMPORT, "const { ascending, isString, DisallowedObjectProperties } = vega;"
    )
    body, _, _ = interpreter.partition(INTERPRETER_EXPORT)
    module = "(function () {\n" + body + "globalThis.vegaInterpreter = expression;\n})();"
    licensed = [
        f"/*!\n{vega_licence}*/\n{_static('vega.min.js')}",
        f"/*!\n{lite_licence}*/\n{_static('vega-lite.min.js')}",
        f"/*! vega-interpreter, of the same project as vega and under the same licence */\n{module}",
    ]
    return [*licensed, _static("report.js")]


def _source_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
