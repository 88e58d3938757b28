"""From how many sales a course on can the best strategy's regret be halved? `python -m simulations.studies.reach`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from bayes_pricing.pricing.strategies import strategies_of_practice
from simulations.floor import KnowsHyperparameters
from simulations.markets.arena import CourseArena
from simulations.markets.courses import simulate_courses
from simulations.play import Rules, play
from simulations.policies import PlayedStrategy, regression_elasticities
from simulations.studies.backtest import COURSES, FLOOR, LARGE_COURSES, best_without_posterior, paired_difference
from simulations.studies.runner import Progress, Study, run_study, silent

SALES = (10, 25, 50, 100, 200)
SPREADS = (0.27, 0.45)
"""Within-course sd of log price: that of the course market, and a wider one."""
SALES_OF_THE_LARGE = 25
WEEKS = 4


def play_floor(courses: int, sales: int, spread: float, seed: int) -> list[dict[str, object]]:
    """Regret of every strategy of practice and of the floor on one course market: a task of the study."""
    market = COURSES if courses == COURSES.courses else LARGE_COURSES
    enrollments = float(sales * courses)
    learners = round(market.learners * enrollments / market.expected_enrollments)  # as many purchases each
    settings = replace(market, expected_enrollments=enrollments, learners=learners, price_log_sd=spread)
    arena = CourseArena(market=simulate_courses(settings, seed))
    strategies = [PlayedStrategy(strategy=one) for one in strategies_of_practice(regression_elasticities(arena))]
    table = play(arena, [*strategies, KnowsHyperparameters()], Rules(weeks=WEEKS, seed=seed))
    place = {"courses": courses, "sales": sales, "spread": spread, "seed": seed}
    return [{**place, **row} for row in table.select("policy", "kind", "regret", "regret_share").to_dicts()]


def measure_reach(
    seeds: Sequence[int], *, folder: Path | None = None, processes: int | None = None, progress: Progress = silent
) -> pl.DataFrame:
    """Play every number of sales and spread of prices, and the course market as it is: a row per market and policy."""
    small = [(COURSES.courses, sales, spread) for spread in SPREADS for sales in SALES]
    kinds = [*small, (LARGE_COURSES.courses, SALES_OF_THE_LARGE, SPREADS[0])]
    tasks = [
        {"courses": courses, "sales": sales, "spread": spread, "seed": seed}
        for seed in seeds
        for courses, sales, spread in kinds
    ]
    study = Study(name="reach of halving", work=play_floor, tasks=tasks)
    return run_study(study, folder, processes=processes, progress=progress)


def markdown(table: pl.DataFrame) -> str:
    """The page of the docs.

    Examples
    --------
    >>> place = {"courses": 96, "sales": 25, "spread": 0.27}
    >>> rows = [{**place, "seed": seed, "policy": policy, "kind": kind, "regret": regret, "regret_share": regret / 100}
    ...         for seed in (1, 2)
    ...         for policy, kind, regret in ((FLOOR, "floor", 3.0), ("category-level", "strategy", 4.0))]
    >>> markdown(pl.DataFrame(rows)).splitlines()[-1]
    '| 96 | 25 | 0.27 | category-level | 4.00% | 3.00% | 75% | +1.00 (+1.00 to +1.00): out of reach |'
    """
    lines = [
        "# When can the best strategy's regret be halved?",
        "",
        f"{table['seed'].n_unique()} course markets of each kind. The floor is who knows exactly how elasticities are",
        "spread and learns each course's own from its sales; see the [back-test](backtest.md).",
        "The last column is the floor's regret less half the best strategy's, in currency",
        "per week with a 95 % interval, paired by market: above zero nobody who learns from these sales can halve it.",
        "Written by `python -m simulations.studies.reach`.",
        "",
        "| courses | sales each | sd of log price | best strategy | its regret | the floor's | ratio | less half |",
        "|---|---|---|---|---|---|---|---|",
    ]
    kind = ["courses", "spread", "sales"]
    for (courses, spread, sales), part in table.sort(kind, maintain_order=True).group_by(kind, maintain_order=True):
        rival = best_without_posterior(part, "strategy")
        share = dict(part.group_by("policy").agg(pl.col("regret_share").mean()).iter_rows())
        mean = dict(part.group_by("policy").agg(pl.col("regret").mean()).iter_rows())
        gap = paired_difference(part, FLOOR, rival, 0.5)
        ratio = mean[FLOOR] / mean[rival]
        verdict = "out of reach" if gap.lower > 0 else "within reach" if gap.upper <= 0 else "not told apart"
        lines.append(
            f"| {courses:,} | {sales} | {spread} | {rival} | {share[rival]:.2%} | {share[FLOOR]:.2%} | {ratio:.0%} "
            f"| {gap.mean:+,.2f} ({gap.lower:+,.2f} to {gap.upper:+,.2f}): {verdict} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Play the markets and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=None, help="all cores when left out")
    parser.add_argument("--keep", type=Path, default=None, help="folder for finished tasks, to resume from")
    parser.add_argument("--out", type=Path, default=Path("docs/results/reach.md"))
    options = parser.parse_args()
    table = measure_reach(
        range(1, options.seeds + 1),
        folder=options.keep,
        processes=options.processes,
        progress=lambda _share, label: print(label, flush=True),
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(table) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
