"""How well can anybody predict? The best scores of simulated markets: `python -m simulations.studies.attainable`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from simulations.markets.studio import simulate_studio
from simulations.markets.studio_truth import StudioSettings, expected_revenue, oracle_scores, revenue_scores
from simulations.markets.tutoring import simulate_tutoring
from simulations.markets.tutoring_settings import SCENARIOS, tutoring_scenario
from simulations.markets.tutoring_tasks import LAPSE_WEEKS, attainable_precision, attainable_scores
from simulations.studies.runner import Study, run_study

STUDIO = "studio"


def measure_market(scenario: str, seed: int) -> list[dict[str, object]]:
    """Best scores of one market, in rows of `scenario, seed, task, given, score, value`: a task of the study.

    Examples
    --------
    >>> rows = measure_market("studio", 1)
    >>> [row["score"] for row in rows if row["given"] == "expected"]
    ['mape', 'r_squared', 'direction']
    """
    found: list[tuple[str, str, str, float]] = []
    if scenario == STUDIO:
        studio = simulate_studio(StudioSettings(), seed)
        realised = revenue_scores(studio.panel, expected_revenue(studio.truth, studio.panel))
        for given, scores in (("expected", oracle_scores(studio.truth, studio.panel)), ("realised", realised)):
            found += [("revenue", given, name, value) for name, value in scores.items()]
    else:
        settings = tutoring_scenario(scenario)
        market, cut_off = simulate_tutoring(settings, seed), settings.weeks - 1 - LAPSE_WEEKS
        for row in attainable_scores(market, cut_off).to_dicts():
            names = ("rate", "auc", "log_score", "brier")
            found += [(row["task"], row["given"], name, row[name]) for name in names]
        for row in attainable_precision(market, cut_off).to_dicts():
            found += [("ten sessions", row["given"], name, row[name]) for name in ("precision", "realised")]
    return [
        {"scenario": scenario, "seed": seed, "task": task, "given": given, "score": score, "value": value}
        for task, given, score, value in found
    ]


def measure_markets(seeds: Sequence[int], folder: Path | None = None, processes: int | None = None) -> pl.DataFrame:
    """Best scores of every scenario over seeds: mean values in a column per score."""
    tasks = [{"scenario": name, "seed": seed} for name in (*SCENARIOS, STUDIO) for seed in seeds]
    study = Study(name="attainable scores", work=measure_market, tasks=tasks)
    table = run_study(study, folder, processes=processes)
    keys = ("scenario", "task", "given")
    means = table.group_by(*keys, "score", maintain_order=True).agg(pl.col("value").mean())
    return means.pivot("score", index=keys, values="value", maintain_order=True)


HEADER = """# The best scores there are

What nobody predicts better on average, since the market's own probabilities say it. Tutoring: at a cut-off eight weeks
before the end, of every learner who has booked by then. *tables*: given all that the tables hold up to that day (with
demand shocks a bound); *truth*: segment and stay known too, which no model can; *popularity*: the same ten sessions for
everybody. Studios: accuracy of expected revenue itself, as expected and as realised. Means over {seeds} markets.
Written by `python -m simulations.studies.attainable`.
"""


def markdown(table: pl.DataFrame, seeds: int) -> str:
    """The page: a section per scenario, a table per kind of task."""
    kinds = {
        ("books again", "lapses"): ("rate", "auc", "log_score", "brier"),
        ("ten sessions",): ("precision", "realised"),
        ("revenue",): ("mape", "r_squared", "direction"),
    }
    lines = [HEADER.format(seeds=seeds)]
    for scenario in table["scenario"].unique(maintain_order=True):
        lines += [f"## {'Fitness studios' if scenario == STUDIO else f'Tutoring, {scenario}'}", ""]
        for tasks, scores in kinds.items():
            rows = table.filter(pl.col("scenario") == scenario, pl.col("task").is_in(tasks)).to_dicts()
            if rows:
                lines += [f"| task | given | {' | '.join(name.replace('_', ' ') for name in scores)} |"]
                lines += ["|---" * (2 + len(scores)) + "|"]
                for row in rows:
                    numbers = " | ".join(f"{row[name]:.4f}" for name in scores)
                    lines.append(f"| {row['task']} | {row['given']} | {numbers} |")
                lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Measure every market and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--processes", type=int, default=None, help="all cores when left out")
    parser.add_argument("--keep", type=Path, default=None, help="folder for finished tasks, to resume from")
    parser.add_argument("--out", type=Path, default=Path("docs/results/attainable.md"))
    options = parser.parse_args()
    table = measure_markets(range(1, options.seeds + 1), options.keep, options.processes)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(table, options.seeds), encoding="utf-8")


if __name__ == "__main__":
    main()
