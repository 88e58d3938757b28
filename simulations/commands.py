"""Commands that simulations add to the shell: `simulate`, `demo`, `backtest` and `calibrate`."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bayes_pricing.cli.flags import RoleFlags, SalesFlags
from bayes_pricing.cli.output import Answer, progress_bar
from bayes_pricing.errors import SpecError


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DemoFlags:
    """Your own sales instead of the simulated market."""

    sales: str | None = None
    """CSV or Parquet file, or a database URL (with --query); left out, a market is simulated."""
    query: str | None = None
    """SQL that selects the sales, where --sales is a database URL."""
    absent: Literal["zero", "missing"] | None = None
    """What a period without a row means for a listed item: nothing sold, or not known."""


def simulate(
    *,
    out: Path,
    market: Literal["courses", "tutoring", "studio", "retail"] = "courses",
    scenario: str = "base",
    url: str | None = None,
    learners: int | None = None,
    teachers: int | None = None,
    courses: int | None = None,
    weeks: int | None = None,
    enrollments: float | None = None,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Simulate a market with known truth: its sales, with the tables behind them where there are some, and the truth.

    Example: bayes-pricing simulate --out market --courses 500 --enrollments 12500 --seed 7

    Parameters
    ----------
    out
        Folder for truth.json, sales.parquet (of studios panel.parquet) and, for courses and tutoring without --url,
        market.db (SQLite).
    market
        Courses for tokens, tutors' sessions with a commission, levers of fitness studios, or products in stores.
    scenario
        Of retail: base, endogenous, sparse, stock-outs, promotion, substitutes, drift or composition; of tutoring:
        base, endogenous or sparse; courses and studios have base alone.
    url
        Of courses and tutoring: database for the tables instead, e.g. postgresql://USER@HOST/NAME.
    learners
        Of courses: buyers who may enroll each week; 10,000 when left out.
    teachers
        Of courses: their owners; 500 when left out.
    courses
        Of courses: items on sale; 2,000 when left out.
    weeks
        Of courses: weeks of sales; 52 when left out.
    enrollments
        Of courses: expected number of sales over all weeks; 50,000 when left out. What is realised is random around it.
    seed
        Same seed, same market.
    json
        One JSON document on standard output.
    """
    from simulations.simulating import answer_courses, answer_retail, answer_studio, answer_tutoring

    sizes = {
        "learners": learners,
        "teachers": teachers,
        "courses": courses,
        "weeks": weeks,
        "expected_enrollments": enrollments,
    }
    given = {name: value for name, value in sizes.items() if value is not None}
    if given and market != "courses":
        raise SpecError(f"{', '.join(given)} can be set for courses only; the {market} market has a size of its own.")
    if url is not None and market in ("retail", "studio"):
        raise SpecError(f"--url is for courses and tutoring; the {market} market has no tables.")
    if scenario != "base" and market in ("courses", "studio"):
        raise SpecError(f"--market {market} has no scenario {scenario!r}, only base; retail and tutoring have more.")
    if market == "retail":
        return answer_retail(out, scenario, seed)
    if market == "tutoring":
        return answer_tutoring(out, scenario, seed, url)
    if market == "studio":
        return answer_studio(out, seed)
    return answer_courses(out, given, seed, url)


def demo(
    sales: DemoFlags | None = None,
    roles: RoleFlags | None = None,
    *,
    data: str | None = None,
    out: Path | None = None,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Run the main job end to end: sales, posterior, baselines, prices under risk limits, reasons, a test, a report.

    Example: bayes-pricing demo --seed 7

    Parameters
    ----------
    data
        A public data set instead of the simulated market: cigar or airfare (needs the extra `datasets`).
    out
        New folder for the report and the fitted model; left out, bayes-pricing-demo-N in the working directory.
    seed
        Same seed, same market, same answer.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.registry import save_fit
    from bayes_pricing.reporting.report import write_report
    from bayes_pricing.storage import require_free
    from simulations.demo import course_data, demo_json, demo_lines, demo_report, own_data, run_demo
    from simulations.markets.course_settings import CourseMarketSettings

    sales, roles = sales or DemoFlags(), roles or RoleFlags()
    if data is not None and sales.sales is not None:
        raise SpecError("Both --data and --sales are given; the demo runs on one of them.")
    folder = out or _free_folder(Path.cwd())
    require_free(folder)
    with progress_bar() as progress:
        if data is not None:
            from simulations.datasets import load_public

            chosen = load_public(data)
        elif sales.sales is not None:
            chosen = own_data(SalesFlags(sales=sales.sales, query=sales.query, absent=sales.absent).panel(roles))
        else:
            chosen = course_data(CourseMarketSettings(), seed, lambda done, label: progress(0.1 * done, label))
        run = run_demo(chosen, seed=seed, progress=lambda done, label: progress(0.1 + 0.85 * done, label))
        progress(0.97, "writing the report")
        save_fit(run.fitted, folder / "model")
        path = write_report(demo_report(run, f"bayes-pricing demo --seed {seed}"), folder / "report.html")
    text = "\n".join([*demo_lines(run), "", f"Report: {path.resolve()}", f"Model:  {(folder / 'model').resolve()}"])
    document = {"status": "ok", "report": str(path.resolve()), "model_dir": str(folder / "model"), **demo_json(run)}
    return Answer(document=document, text=text)


def backtest(
    *,
    market: Literal["courses", "busy-courses", "large-courses", "retail", "tutoring"] = "retail",
    scenario: str = "base",
    seeds: int = 20,
    weeks: int = 26,
    review_every: int = 0,
    draws: int = 400,
    backend: Literal["local", "dask", "ray"] = "local",
    processes: int | None = None,
    keep: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Play simulated markets by twenty policies with the same luck: profit, regret, worst month, price changes.

    Example: bayes-pricing backtest --market retail --scenario sparse --seeds 5 --keep backtest

    Parameters
    ----------
    market
        Retail, tutoring, a small course market with 25 (courses) or 200 (busy-courses) sales a course, or that of
        2,000 courses (large-courses, minutes a market).
    scenario
        Of retail: base, endogenous, sparse, stock-outs, promotion, substitutes, drift or composition.
    seeds
        How many markets; the first has seed 1.
    weeks
        Weeks each is played.
    review_every
        Weeks after which a policy fits again to its own sales too; 0 never.
    draws
        Posterior draws of each of four chains.
    backend
        This machine's cores, a Dask cluster or Ray.
    processes
        On this machine; left out, as many as it has cores.
    keep
        Folder for finished markets: an interrupted back-test goes on from there.
    json
        One JSON document on standard output.
    """
    from simulations.studies.backtest import backtest as run_backtest
    from simulations.studies.backtest import floor_lines, summarize_policies, verdict_lines

    if seeds < 1:
        raise SpecError(f"--seeds is {seeds}; play at least one market (20 tell policies apart).")
    with progress_bar() as progress:
        table = run_backtest(
            market,
            scenario,
            range(1, seeds + 1),
            weeks=weeks,
            review_every=review_every,
            draws=draws,
            folder=keep,
            backend=backend,
            processes=processes,
            progress=progress,
        )
    summary = summarize_policies(table)
    width = max(len(name) for name in summary["policy"])
    head = f"{'policy':<{width}}  {'profit':>10} {'regret':>9} {'of best':>8} {'worst month':>12} {'changes':>8}"
    lines = [f"{seeds} {market} markets ({scenario}), {weeks} weeks each; per week:", "", head]
    lines += [
        f"{row['policy']:<{width}}  {row['profit']:10,.1f} {row['regret']:9,.2f} {row['regret_share']:8.2%} "
        f"{row['worst_month']:12,.1f} {row['price_changes']:8.1f}"
        for row in summary.to_dicts()
    ]
    lines += ["", "Regret of the Bayesian optimiser, paired by market, 95 % intervals:"]
    lines += [line.replace("**", "") for line in (*verdict_lines(table), *floor_lines(table))]
    document = {"status": "ok", "policies": summary.to_dicts(), "markets": table.to_dicts()}
    return Answer(document=document, text="\n".join(lines))


def calibrate(
    *,
    study: Literal["tree", "courses"] = "tree",
    simulations: int = 50,
    noise_by: Literal["common", "item"] = "common",
    backend: Literal["local", "dask", "ray"] = "local",
    processes: int | None = None,
    seed: int = 1,
    keep: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Check that intervals hold the truth as often as they say: the tree from its priors, or the course market.

    Example: bayes-pricing calibrate --study tree --simulations 200 --keep calibration

    Parameters
    ----------
    study
        Simulation-based calibration of the Gaussian tree, or coverage on course markets.
    simulations
        How many markets are drawn and fitted; a course market takes a minute each.
    noise_by
        Of the tree: one noise for all items, or each its own.
    backend
        This machine's cores, a Dask cluster or Ray.
    processes
        On this machine; left out, as many as it has cores.
    seed
        Of the first market.
    keep
        Folder for finished markets: an interrupted study goes on from there.
    json
        One JSON document on standard output.
    """
    from simulations.studies.calibration import calibrate_courses, calibrate_tree, calibration_lines, is_calibrated

    if simulations < 1:
        raise SpecError(f"--simulations is {simulations}; draw at least one market (200 judge a sampler).")
    with progress_bar() as progress:
        if study == "tree":
            table = calibrate_tree(
                simulations,
                seed,
                noise_by=noise_by,
                folder=keep,
                backend=backend,
                processes=processes,
                progress=progress,
            )
        else:
            table = calibrate_courses(
                simulations, seed, folder=keep, backend=backend, processes=processes, progress=progress
            )
    document = {"status": "ok", "calibrated": is_calibrated(table), "parameters": table.to_dicts()}
    return Answer(document=document, text="\n".join(calibration_lines(table, simulations)))


def _free_folder(parent: Path) -> Path:
    """The first folder ``bayes-pricing-demo-N`` that does not exist yet."""
    return next(path for number in itertools.count(1) if not (path := parent / f"bayes-pricing-demo-{number}").exists())
