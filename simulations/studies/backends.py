"""Do all backends give the same numbers? `python -m simulations.studies.backends`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import polars as pl

from bayes_pricing.errors import SpecError
from simulations.studies.estimators import measure_estimators
from simulations.studies.runner import Backend, Study, run_study

ESTIMATORS = ("posterior", "item_effects", "gam")
PACKAGES = {"local": "joblib", "dask": "distributed", "ray": "ray"}
CLOCK = "seconds"
DRAWS = 250


def small_study(seeds: Sequence[int]) -> Study:
    """A posterior, a regression and a curve on sparse retail markets: fits of every kind, a few seconds a task."""
    tasks = [
        {"market": "retail", "scenario": "sparse", "seed": seed, "estimators": list(ESTIMATORS), "draws": DRAWS}
        for seed in seeds
    ]
    return Study(name="the same numbers", work=measure_estimators, tasks=tasks)


def largest_difference(left: pl.DataFrame, right: pl.DataFrame) -> float:
    """Largest absolute difference of any number in two tables of one study, seconds apart; infinite if rows differ.

    Examples
    --------
    >>> one = pl.DataFrame({"estimator": ["gam"], "regret": [0.5], "seconds": [1.0]})
    >>> largest_difference(one, one.with_columns(seconds=2.0)), largest_difference(one, one.with_columns(regret=0.25))
    (0.0, 0.25)
    """
    left, right = left.drop(CLOCK), right.drop(CLOCK)
    words = [name for name, dtype in left.schema.items() if not dtype.is_float()]
    numbers = [name for name in left.columns if name not in words]
    if left.columns != right.columns or not left.select(words).equals(right.select(words)):
        return float("inf")
    if any((left[name].is_null() != right[name].is_null()).any() for name in numbers):
        return float("inf")
    gaps = [(left[name] - right[name]).abs().max() for name in numbers]
    return max(float(gap) for gap in gaps if isinstance(gap, float))


def compare_backends(backends: Sequence[Backend], seeds: Sequence[int]) -> pl.DataFrame:
    """Run the small study in this process, then on every backend with two processes.

    Returns
    -------
    DataFrame
        One row per backend: ``backend, package`` (with its version), ``rows`` and ``difference`` (the largest, to the
        numbers of this process).
    """
    study = small_study(seeds)
    own = run_study(study, processes=1)
    rows = []
    for backend in backends:
        table = run_study(study, backend=backend, processes=2)
        package = PACKAGES[backend]
        rows.append(
            {
                "backend": backend,
                "package": f"{package} {version(package)}",
                "rows": table.height,
                "difference": largest_difference(own, table),
            }
        )
    return pl.DataFrame(rows)


def installed_backends() -> list[Backend]:
    """The backends whose package is here.

    Examples
    --------
    >>> "local" in installed_backends()
    True
    """
    found: list[Backend] = []
    for backend in get_args(Backend):
        try:
            version(PACKAGES[backend])
        except PackageNotFoundError:
            continue
        found.append(backend)
    return found


def markdown(table: pl.DataFrame, seeds: int) -> str:
    """The page of the docs.

    Examples
    --------
    >>> row = {"backend": "local", "package": "joblib 1.5", "rows": 3, "difference": 0.0}
    >>> markdown(pl.DataFrame([row]), 1).splitlines()[-1]
    '| local | joblib 1.5 | 3 | 0 |'
    """
    lines = [
        "# One study on every backend",
        "",
        f"{seeds} sparse retail markets, each fitted by {', '.join(name.replace('_', ' ') for name in ESTIMATORS)},",
        "and measured against its truth: once in one process, then on each backend with two processes. The difference",
        "is the largest of any number of the two tables, seconds apart: 0 means the same to the last bit.",
        "Written by `python -m simulations.studies.backends` where the extras `dask` and `ray` are installed.",
        "",
        "| backend | package | rows | largest difference to one process |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['backend']} | {row['package']} | {row['rows']} | {row['difference']:g} |" for row in table.to_dicts()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the study on the backends and write the page.

    Raises
    ------
    SpecError
        If a backend that was asked for is not installed.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", default=list(get_args(Backend)), choices=get_args(Backend))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/results/backends.md"))
    options = parser.parse_args()
    absent = sorted({*options.backends} - {*installed_backends()})
    if absent:
        raise SpecError(f"Not installed: {', '.join(absent)}. Install the extra, or leave it out with --backends.")
    table = compare_backends(options.backends, range(1, options.seeds + 1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(table, options.seeds) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
