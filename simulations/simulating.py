"""What the command `simulate` does for each market: play it out, write it, say what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bayes_pricing.cli.output import Answer, progress_bar


def answer_courses(out: Path, sizes: Mapping[str, Any], seed: int, url: str | None) -> Answer:
    """Simulate courses of the sizes given, the others at their defaults; write tables, sales and truth."""
    from simulations.markets.course_settings import CourseMarketSettings
    from simulations.markets.courses import simulate_courses, write_market

    settings = replace(CourseMarketSettings(), **sizes)
    with progress_bar() as progress:
        simulated = simulate_courses(settings, seed, lambda done, label: progress(0.5 * done, label))
        files = write_market(simulated, out, url, lambda done, label: progress(0.5 + 0.5 * done, label))
    rows = {name: table.height for name, table in simulated.tables.items()}
    document = {
        "status": "ok",
        "seed": seed,
        "database": _without_password(files.database),
        "sales": str(files.sales),
        "truth": str(files.truth),
        "rows": rows,
    }
    text = "\n".join(
        [
            f"A market of {settings.courses:,} courses and {settings.learners:,} learners over {settings.weeks} weeks, "
            f"seed {seed}:",
            *(f"  {name:<24}{count:>12,} rows" for name, count in rows.items()),
            f"Tables in {document['database']}, weekly sales in {files.sales}, the truth in {files.truth}.",
        ]
    )
    return Answer(document=document, text=text)


def answer_retail(out: Path, scenario: str, seed: int) -> Answer:
    """Simulate a retail scenario; write sales and truth."""
    from simulations.markets.retail import simulate_retail, write_retail
    from simulations.markets.retail_settings import retail_scenario

    simulated = simulate_retail(retail_scenario(scenario), seed)
    sales, truth = write_retail(simulated, out)
    document = {
        "status": "ok",
        "seed": seed,
        "scenario": scenario,
        "sales": str(sales),
        "truth": str(truth),
        "rows": {"sales": simulated.sales.height},
    }
    text = (
        f"A retail market, scenario {scenario}, seed {seed}: {len(simulated.truth.items):,} products in stores over "
        f"{simulated.truth.settings.weeks} weeks.\nWeekly sales in {sales}, the truth in {truth}."
    )
    return Answer(document=document, text=text)


def answer_tutoring(out: Path, scenario: str, seed: int, url: str | None) -> Answer:
    """Simulate a tutoring scenario; write tables, bookings, truth and true chances; say what is predictable at best."""
    from simulations.markets.tutoring import simulate_tutoring, write_tutoring
    from simulations.markets.tutoring_settings import tutoring_scenario
    from simulations.markets.tutoring_tasks import (
        LAPSE_WEEKS,
        attainable_precision,
        attainable_scores,
        learner_propensities,
    )

    settings = tutoring_scenario(scenario)
    with progress_bar() as progress:
        simulated = simulate_tutoring(settings, seed, lambda done, label: progress(0.5 * done, label))
        files = write_tutoring(simulated, out, url, lambda done, label: progress(0.5 + 0.4 * done, label))
        progress(0.9, "what could be predicted at best")
        cut_off = settings.weeks - 1 - LAPSE_WEEKS
        scores = attainable_scores(simulated, cut_off)
        precision = attainable_precision(simulated, cut_off)
        propensities = out / "propensities.parquet"
        learner_propensities(simulated, settings.weeks - 1).write_parquet(propensities)
    rows = {name: table.height for name, table in simulated.tables.items()}
    document = {
        "status": "ok",
        "seed": seed,
        "scenario": scenario,
        "database": _without_password(files.database),
        "sales": str(files.sales),
        "truth": str(files.truth),
        "propensities": str(propensities),
        "rows": rows,
        "attainable": {
            "weeks_held_out": LAPSE_WEEKS,
            "propensities": scores.to_dicts(),
            "precision_at_10": precision.to_dicts(),
        },
    }
    ranked = dict(precision.select("given", "precision").iter_rows())
    best = [
        f"  {row['task']:<24}area under the curve {row['auc']:.3f}, log score {row['log_score']:.3f}"
        for row in scores.filter(given="tables").to_dicts()
    ]
    best += [
        f"  {'ten recommended':<24}{ranked['tables']:.2%} booked; of the ten most popular {ranked['popularity']:.2%}"
    ]
    text = "\n".join(
        [
            f"A tutoring market, scenario {scenario}, seed {seed}: {settings.sessions:,} sessions over "
            f"{settings.weeks} weeks, {settings.learners:,} learners active at a time:",
            *(f"  {name:<24}{count:>12,} rows" for name, count in rows.items()),
            f"Nobody who sees these tables predicts the last {LAPSE_WEEKS} weeks better, on average, than",
            *best,
            f"Tables in {document['database']}, weekly bookings in {files.sales}, the truth in {files.truth}; every",
            f"learner's true chances today in {propensities}.",
        ]
    )
    return Answer(document=document, text=text)


def answer_studio(out: Path, seed: int) -> Answer:
    """Simulate fitness studios; write the panel and the truth; say how well revenue could be predicted at best."""
    from simulations.markets.studio import simulate_studio, write_studio
    from simulations.markets.studio_truth import StudioSettings, oracle_scores

    simulated = simulate_studio(StudioSettings(), seed)
    panel, truth = write_studio(simulated, out)
    best = oracle_scores(simulated.truth, simulated.panel)
    document = {
        "status": "ok",
        "seed": seed,
        "panel": str(panel),
        "truth": str(truth),
        "rows": {"panel": simulated.panel.height},
        "oracle": best,
    }
    settings = simulated.truth.settings
    text = "\n".join(
        [
            f"{settings.studios} fitness studios over {settings.months} months, seed {seed}: seven levers and revenue.",
            f"Who knows the truth is off by {best['mape']:.1%} of revenue on average, with an R-squared of "
            f"{best['r_squared']:.3f},",
            f"and gets the direction of {best['direction']:.0%} of months right; nobody does better for long.",
            f"The panel in {panel}, the truth in {truth}.",
        ]
    )
    return Answer(document=document, text=text)


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)
