"""Which policy leaves least money on the table? `python -m simulations.studies.backtest --market retail`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
from scipy import stats

from bayes_pricing.demand.fit import SamplerSettings
from bayes_pricing.errors import SpecError
from simulations.floor import KnowsHyperparameters
from simulations.markets.arena import Arena, CourseArena, RetailArena
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.courses import simulate_courses
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import retail_scenario
from simulations.markets.tutoring import simulate_tutoring
from simulations.markets.tutoring_settings import TutoringSettings
from simulations.play import Rules, play
from simulations.policies import Beliefs, every_policy
from simulations.studies.plots import regret_intervals, write_policy_plot
from simulations.studies.runner import Backend, Progress, Study, run_study, silent

MarketName = Literal["courses", "busy-courses", "large-courses", "retail", "tutoring"]
BAYESIAN = "Bayesian, risk-neutral"
CATEGORY = "category-level, posterior"
FLOOR = "knows the hyper-parameters"
COURSES = CourseMarketSettings(learners=2_000, teachers=20, courses=96, categories=6, expected_enrollments=2_400)
"""The course market in small: 25 expected enrollments a course, as in the large one, 16 courses a category."""
BUSY_COURSES = replace(COURSES, learners=10_000, expected_enrollments=19_200)
"""The same with 200 expected enrollments a course."""
LARGE_COURSES = CourseMarketSettings()
"""The course market as it is: 2,000 courses, 125 a category."""
TUTORING = TutoringSettings(learners=800, mentors=40, sessions=96, subjects=6, expected_bookings=6_000)
"""The tutoring marketplace in small: 62 expected bookings a session, as in the large one, 16 sessions a subject."""
COURSE_MARKETS = {"courses": COURSES, "busy-courses": BUSY_COURSES, "large-courses": LARGE_COURSES}
PROBABILITY = 0.95
WEEKS, FEW_WEEKS = 26, 4
"""Demand for courses does not change in time: four weeks tell their policies apart as well as half a year."""


def build_arena(market: MarketName, scenario: str, seed: int) -> Arena:
    """A market to play: courses in small or as they are, tutoring sessions, or retail in a scenario.

    Raises
    ------
    SpecError
        If the market or the scenario is unknown, or any but retail is asked for in a scenario other than base.

    Examples
    --------
    >>> len(build_arena("retail", "base", 1).items)
    48
    """
    if market == "retail":
        return RetailArena(market=simulate_retail(retail_scenario(scenario), seed))
    if market == "tutoring" and scenario == "base":
        return CourseArena(market=simulate_tutoring(TUTORING, seed))
    if market not in COURSE_MARKETS or scenario != "base":
        raise SpecError(f"There is no market {market!r} in scenario {scenario!r}; only retail has more than base.")
    return CourseArena(market=simulate_courses(COURSE_MARKETS[market], seed))


def play_one(
    market: MarketName, scenario: str, seed: int, weeks: int, review_every: int, draws: int
) -> list[dict[str, object]]:
    """All policies on one market: a task of the back-test."""
    arena = build_arena(market, scenario, seed)
    beliefs = Beliefs(sampler=SamplerSettings(draws=draws, chains=4))
    rules = Rules(weeks=weeks, review_every=review_every, seed=seed)
    floor = (KnowsHyperparameters(),) if scenario == "base" else ()
    table = play(arena, (*every_policy(arena, beliefs), *floor), rules)
    return [{"market": market, "scenario": scenario, "seed": seed, **row} for row in table.to_dicts()]


def backtest(
    market: MarketName,
    scenario: str,
    seeds: Sequence[int],
    *,
    weeks: int = WEEKS,
    review_every: int = 0,
    draws: int = 400,
    folder: Path | None = None,
    backend: Backend = "local",
    processes: int | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Play many markets; one row per seed and policy, as in :func:`simulations.play.play`."""
    tasks = [
        {
            "market": market,
            "scenario": scenario,
            "seed": seed,
            "weeks": weeks,
            "review_every": review_every,
            "draws": draws,
        }
        for seed in seeds
    ]
    study = Study(name=f"back-test of {market} {scenario}", work=play_one, tasks=tasks)
    return run_study(study, folder, backend=backend, processes=processes, progress=progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Mean difference of regret between two policies on the same markets, with its confidence interval."""

    mean: float
    lower: float
    upper: float


def paired_difference(table: pl.DataFrame, first: str, second: str, weight: float = 1.0) -> PairedDifference:
    """Regret of `first` minus `weight` times that of `second`, market by market; Student-t interval of 95 %.

    Examples
    --------
    >>> table = pl.DataFrame({"seed": [1, 1, 2, 2], "policy": ["a", "b"] * 2, "regret": [1.0, 3.0, 2.0, 6.0]})
    >>> paired_difference(table, "a", "b", weight=0.5).mean
    -0.75
    """
    wide = table.filter(pl.col("policy").is_in([first, second])).pivot("policy", index="seed", values="regret")
    difference = (wide[first] - weight * wide[second]).to_numpy()
    mean = float(difference.mean())
    if difference.size < 2:
        return PairedDifference(mean=mean, lower=-np.inf, upper=np.inf)
    error = float(difference.std(ddof=1) / np.sqrt(difference.size))
    half = float(stats.t.ppf((1 + PROBABILITY) / 2, difference.size - 1)) * error
    return PairedDifference(mean=mean, lower=mean - half, upper=mean + half)


def summarize_policies(table: pl.DataFrame) -> pl.DataFrame:
    """Mean of every number over the markets, the least regret first.

    Examples
    --------
    >>> row = {"policy": "a", "kind": "strategy", "profit": 1.0, "regret": 2.0, "regret_share": 0.1,
    ...        "worst_month": 0.5, "price_changes": 1.0}
    >>> summarize_policies(pl.DataFrame([row, row])).height
    1
    """
    numbers = ("profit", "regret", "regret_share", "worst_month", "price_changes")
    return (
        table.group_by("policy", "kind", maintain_order=True)
        .agg(pl.col(name).mean() for name in numbers)
        .sort("regret", maintain_order=True)
    )


def best_without_posterior(table: pl.DataFrame, kind: str) -> str:
    """The policy of a kind with the least mean regret.

    Examples
    --------
    >>> table = pl.DataFrame({"policy": ["a", "b"], "kind": ["strategy"] * 2, "regret": [2.0, 1.0]})
    >>> best_without_posterior(table, "strategy")
    'b'
    """
    means = table.filter(pl.col("kind") == kind).group_by("policy").agg(pl.col("regret").mean())
    return str(means.sort("regret", "policy")["policy"][0])


def verdict_lines(table: pl.DataFrame) -> list[str]:
    """The Bayesian optimiser against the best strategy, the best baseline and pricing by category, paired by market."""
    means = dict(table.group_by("policy").agg(pl.col("regret").mean()).iter_rows())
    lines = []
    rivals = [
        ("half the regret of the best strategy of practice", best_without_posterior(table, "strategy"), 0.5),
        ("half the regret of the best baseline's argmax", best_without_posterior(table, "baseline"), 0.5),
        ("the regret of the best baseline's argmax", best_without_posterior(table, "baseline"), 1.0),
        ("pricing by category on the same posterior", CATEGORY, 1.0),
    ]
    for words, rival, weight in rivals:
        gap = paired_difference(table, BAYESIAN, rival, weight)
        verdict = "below it" if gap.upper <= 0 else "above it" if gap.lower > 0 else "not told apart"
        lines.append(
            f"- against {words} ({rival}, {means[rival]:,.2f}): {gap.mean:+,.2f} "
            f"({gap.lower:+,.2f} to {gap.upper:+,.2f}): **{verdict}**"
        )
    return lines


def floor_lines(table: pl.DataFrame) -> list[str]:
    """How much of the regret nobody could avoid, and whether half of the best strategy's is within anyone's reach.

    Examples
    --------
    >>> players = ((BAYESIAN, "posterior", 6.0), (FLOOR, "floor", 5.0), ("a", "strategy", 8.0))
    >>> rows = [{"seed": seed, "policy": policy, "kind": kind, "regret": regret + 0.1 * seed}
    ...         for seed in (1, 2, 3) for policy, kind, regret in players]
    >>> floor_lines(pl.DataFrame(rows))[-1]
    "The floor less half the best strategy's regret is +1.10 (+0.98 to +1.22): half of it is **out of anyone's reach**."
    """
    means = dict(table.group_by("policy").agg(pl.col("regret").mean()).iter_rows())
    if FLOOR not in means:
        return []
    rival = best_without_posterior(table, "strategy")
    gap = paired_difference(table, FLOOR, rival, 0.5)
    reached = (means[rival] - means[BAYESIAN]) / (means[rival] - means[FLOOR])
    reach = "out of anyone's reach" if gap.lower > 0 else "within reach" if gap.upper <= 0 else "at the edge of reach"
    return [
        "The floor: who knows exactly how elasticities are spread, and learns each item's own from the same sales,",
        f"leaves **{means[FLOOR]:,.2f}**. Of what can be gained on {rival} the optimiser gains {reached:.0%}.",
        f"The floor less half the best strategy's regret is {gap.mean:+,.2f} ({gap.lower:+,.2f} to {gap.upper:+,.2f}): "
        f"half of it is **{reach}**.",
    ]


def markdown(table: pl.DataFrame, title: str, facts: str) -> list[str]:
    """A section with the verdict and one row per policy."""
    summary = summarize_policies(table)
    regret = float(summary.filter(pl.col("policy") == BAYESIAN)["regret"].item())
    lines = [
        f"## {title}",
        "",
        facts,
        "",
        f"Regret of the Bayesian optimiser (risk-neutral): **{regret:,.2f}** per week. Paired differences of regret,",
        "with 95 % intervals:",
        "",
        *verdict_lines(table),
        "",
        *floor_lines(table),
        "",
        "| policy | kind | profit per week | regret | of best profit | worst month | price changes per item |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['policy']} | {row['kind']} | {row['profit']:,.1f} | {row['regret']:,.2f} | {row['regret_share']:.2%} "
        f"| {row['worst_month']:,.1f} | {row['price_changes']:.1f} |"
        for row in summary.to_dicts()
    ]
    return [*lines, ""]


HEADER = """# Back-test of pricing policies

Every policy prices the same simulated market week by week, with the same luck (a stroke of luck is a quantile of the
week's sales, so that two policies with equal prices sell equal units) and within the prices posted in the past. Regret
is the expected profit of the oracle, who knows the truth, minus that of the policy, per week. "Worst month" is the
lowest realised profit of four weeks in a row, per week. The category-level strategy goes by a regression with item
effects; "argmax" prices each item where a baseline's predicted units earn most.

"Knows the hyper-parameters" is no policy anybody could play but the floor of all: it is told the true mean of every
category and the true spread of items, and sets the prices of most expected profit given those and the same sales.
Nobody who learns from these sales, and does not try prices out, leaves less on average.

`tutoring` is the marketplace of mentors' sessions, 62 bookings each; the mentors keep 88 % of the price.
`large-courses` is the course market as it is: 2,000 courses, 25 expected sales each. `courses` is the same in small (96
courses), `busy-courses` has 200 sales a course. With 25 sales a course's own rows decide about a fifth of its
elasticity: most of what items of one category differ by stays unknown whatever the model, and a rule that knows each
category's mean cannot be beaten by much. In retail an item has 78 weeks of sales, and what it differs by is known. What
the optimiser leaves above the floor in `courses` is the price of not knowing category means and spreads, of which 400
sales a category say little.
Written by `python -m simulations.studies.backtest`.
"""


def main() -> None:
    """Play the base markets and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[20], help="one number, or one per market")
    parser.add_argument("--weeks", type=int, default=None, help="26 when left out, 4 for large-courses")
    parser.add_argument("--review-every", type=int, default=0, help="weeks between refits, 0 for none")
    parser.add_argument(
        "--markets",
        nargs="+",
        default=["retail", "courses", "busy-courses", "tutoring", "large-courses"],
        choices=get_args(MarketName),
    )
    parser.add_argument("--processes", type=int, default=None, help="all cores when left out")
    parser.add_argument("--keep", type=Path, default=None, help="folder for finished tasks, to resume from")
    parser.add_argument("--out", type=Path, default=Path("docs/results/backtest.md"))
    options = parser.parse_args()
    sections: list[str] = []
    counts = options.seeds * len(options.markets) if len(options.seeds) == 1 else options.seeds
    for market, seeds in zip(options.markets, counts, strict=True):
        weeks = options.weeks or (FEW_WEEKS if market == "large-courses" else WEEKS)
        table = backtest(
            market,
            "base",
            range(1, seeds + 1),
            weeks=weeks,
            review_every=options.review_every,
            processes=options.processes,
            folder=None if options.keep is None else options.keep / market,
            progress=lambda _share, label: print(label, flush=True),
        )
        arena = build_arena(market, "base", 1)
        facts = f"{seeds} markets of {len(arena.items):,} items, {weeks} weeks" + (
            f", beliefs formed anew every {options.review_every} weeks." if options.review_every else ", one fit each."
        )
        plot = options.out.with_name(f"{options.out.stem}_{market}.svg")
        write_policy_plot(regret_intervals(table), plot, f"Regret by policy: {market}, base")
        sections += [*markdown(table, f"{market.capitalize()}, base", facts), f"![Regret by policy]({plot.name})", ""]
        options.out.write_text("\n".join([HEADER, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
