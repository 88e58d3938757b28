"""Calibration by command: the existing studies run through the resumable runner, as one tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from simulations.markets.course_settings import CourseMarketSettings
from simulations.studies.course_coverage import measure_coverage
from simulations.studies.runner import Backend, Progress, Study, run_study, silent
from simulations.studies.tree_calibration import coverage, holm_accepts, simulate_rank, uniformity_p_value

PROBABILITIES = (0.5, 0.8, 0.9, 0.95)
PROMISED = {"items": (0.87, 0.93), "categories": (0.84, 0.96)}
"""Average coverage of 90 % intervals on the course market that the product promises."""


def rank_task(noise_by: Literal["common", "item"], seed: int, draws: int, tune: int) -> list[dict[str, object]]:
    """Ranks of one market's parameters; one row without a name where the fit did not pass the gate."""
    ranks = simulate_rank(noise_by, seed, draws, tune)
    if ranks is None:
        return [{"seed": seed, "parameter": None, "rank": None}]
    return [{"seed": seed, "parameter": name, "rank": rank} for name, rank in ranks.items()]


def calibrate_tree(
    simulations: int,
    seed: int,
    *,
    noise_by: Literal["common", "item"] = "common",
    draws: int = 1000,
    tune: int = 500,
    folder: Path | None = None,
    backend: Backend = "local",
    processes: int | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Simulation-based calibration of the Gaussian tree from its shipped priors.

    Returns
    -------
    DataFrame
        One row per parameter: ``parameter, markets, failed`` (fits that did not pass the gate), ``p_value`` (of the rank
        ECDF's largest excursion), ``inside`` (Holm's verdict at 1 % over all parameters) and ``covers_50`` ... ``covers_95``.
    """  # noqa: E501 - names stand together
    seeds = [int(np.random.SeedSequence([seed, at]).generate_state(1)[0]) for at in range(simulations)]
    tasks = [{"noise_by": noise_by, "seed": one, "draws": draws, "tune": tune} for one in seeds]
    study = Study(name=f"calibration of the tree, {noise_by} noise", work=rank_task, tasks=tasks)
    ranks = run_study(study, folder, backend=backend, processes=processes, progress=progress)
    failed = int(ranks["parameter"].null_count())
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    p_values: dict[str, float] = {}
    known = ranks.drop_nulls("parameter")
    for name in known["parameter"].unique(maintain_order=True):
        values = known.filter(pl.col("parameter") == name)["rank"].to_numpy()
        p_values[name] = uniformity_p_value(values, rng)
        shares = {f"covers_{p:.0%}".rstrip("%"): coverage(values, p) for p in PROBABILITIES}
        rows.append({"parameter": name, "markets": len(values), "failed": failed, "p_value": p_values[name], **shares})
    inside = holm_accepts(p_values)
    return pl.DataFrame([{**row, "inside": inside[str(row["parameter"])]} for row in rows])


def coverage_task(seed: int) -> list[dict[str, object]]:
    """Coverage on one default course market."""
    return [asdict(measure_coverage(seed, CourseMarketSettings()))]


def calibrate_courses(
    simulations: int,
    seed: int,
    *,
    folder: Path | None = None,
    backend: Backend = "local",
    processes: int | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Coverage of 90 % intervals of item and category elasticities on default course markets.

    Returns
    -------
    DataFrame
        One row for items and one for categories: ``parameter, markets, failed, covers_90, inside`` (the promised band).
    """
    tasks = [{"seed": one} for one in range(seed, seed + simulations)]
    study = Study(name="coverage on course markets", work=coverage_task, tasks=tasks)
    found = run_study(study, folder, backend=backend, processes=processes, progress=progress)
    failed = int((~found["passed"]).sum())
    rows = []
    for name, (low, high) in PROMISED.items():
        share = float(found[name].to_numpy().mean())
        row = {"parameter": name, "markets": found.height, "failed": failed, "covers_90": share}
        rows.append({**row, "inside": low <= share <= high})
    return pl.DataFrame(rows)


def is_calibrated(table: pl.DataFrame) -> bool:
    """Every parameter inside its band, no fit failed, and at least one of them known.

    Examples
    --------
    >>> is_calibrated(pl.DataFrame({"inside": [True, True], "failed": [0, 0]})), is_calibrated(pl.DataFrame())
    (True, False)
    """
    return bool(table.height and table["inside"].all() and (table["failed"] == 0).all())


def calibration_lines(table: pl.DataFrame, simulations: int) -> list[str]:
    """The table as text."""
    if not table.height:
        return [f"None of {simulations} fits passed the diagnostics gate."]
    covers = [name for name in table.columns if name.startswith("covers_")]
    width = max(len(str(name)) for name in table["parameter"])
    head = f"{'parameter':<{width}}  inside" + "".join(f"{_title(name):>9}" for name in covers)
    lines = [f"{simulations} markets, {table['failed'][0]} fits failed; share of intervals that hold the truth:", head]
    for row in table.to_dicts():
        shares = "".join(f"{row[name]:>9.3f}" for name in covers)
        lines.append(f"{row['parameter']:<{width}}  {'yes' if row['inside'] else 'NO':<6}" + shares)
    return [*lines, _verdict(table)]


def _title(name: str) -> str:
    return f"{name.removeprefix('covers_')} %"


def _verdict(table: pl.DataFrame) -> str:
    outside: Sequence[str] = table.filter(~pl.col("inside"))["parameter"].to_list()
    if is_calibrated(table):
        return "Calibrated: all inside their bands."
    return f"NOT calibrated: outside their bands: {', '.join(outside) or 'none'}; failed fits: {table['failed'][0]}."
