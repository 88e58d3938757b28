"""Running a study: many independent tasks on all cores or a cluster, each result kept, so that it can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import polars as pl

from bayes_pricing.errors import SpecError, StorageError

Backend = Literal["local", "dask", "ray"]
Work = Callable[..., list[dict[str, object]]]
Progress = Callable[[float, str], None]


def silent(fraction: float, label: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is to be computed: one piece of work for each of many tasks.

    Attributes
    ----------
    name : str
    work : function
        Importable (it travels to other processes); called with a task's fields, gives rows of plain values.
    tasks : sequence of mapping
        Arguments of each task, plain values. Results stand in this order, whatever order they came in.

    Examples
    --------
    >>> from simulations.studies.runner import Study
    >>> study = Study(name="sums", work=sum_of_two, tasks=[{"left": 1, "right": 2}, {"left": 3, "right": 4}])
    >>> run_study(study, processes=1)["total"].to_list()
    [3, 7]
    """

    name: str
    work: Work
    tasks: Sequence[Mapping[str, Any]]


def sum_of_two(left: int, right: int) -> list[dict[str, object]]:
    """The smallest piece of work there is, for examples and tests.

    Examples
    --------
    >>> sum_of_two(1, 2)
    [{'left': 1, 'right': 2, 'total': 3}]
    """
    return [{"left": left, "right": right, "total": left + right}]


def run_study(
    study: Study,
    folder: Path | None = None,
    *,
    backend: Backend = "local",
    address: str | None = None,
    processes: int | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Do every task that is not done yet, keep each result at once, and return all of them as one tidy frame.

    Parameters
    ----------
    study : Study
    folder : Path, optional
        One file per finished task; a study that was interrupted goes on from there, and one with more tasks at its end
        does only those. None keeps nothing.
    backend : {"local", "dask", "ray"}
        joblib on this machine's cores, a Dask cluster, or Ray.
    address : str, optional
        Of a running Dask scheduler or Ray head; left out, one is started on this machine.
    processes : int, optional
        On this machine; all cores when left out, 1 stays in this process.
    progress : callable, optional
        Called with the share of tasks done and a label.

    Returns
    -------
    DataFrame
        Rows of all tasks in their order, the same whatever the backend and however often it was interrupted.

    Raises
    ------
    SpecError
        If the backend is unknown or not installed.
    StorageError
        If the folder holds results of another study, or a result that cannot be read.
    """
    if backend not in get_args(Backend):
        raise SpecError(f"The backend {backend!r} is unknown; choose {', '.join(get_args(Backend))}.")
    runners = {"local": _local, "dask": _dask, "ray": _ray}
    kept = _Kept.open(folder, study)
    results = {at: rows for at in range(len(study.tasks)) if (rows := kept.read(at)) is not None}
    todo = [at for at in range(len(study.tasks)) if at not in results]
    progress(len(results) / max(len(study.tasks), 1), f"{study.name}: {len(results)} of {len(study.tasks)} done")
    for at, rows in runners[backend](study, todo, address, processes):
        kept.write(at, rows)
        results[at] = rows
        progress(len(results) / len(study.tasks), f"{study.name}: {len(results)} of {len(study.tasks)} done")
    return pl.DataFrame([row for at in range(len(study.tasks)) for row in results[at]], infer_schema_length=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """Results on disk, one JSON file per task; what JSON cannot hold exactly is refused by it, not rounded."""

    folder: Path | None

    @classmethod
    def open(cls, folder: Path | None, study: Study) -> _Kept:
        if folder is None:
            return cls(folder=None)
        folder.mkdir(parents=True, exist_ok=True)
        plan = json.loads(json.dumps({"study": study.name, "tasks": [dict(task) for task in study.tasks]}, default=str))
        path = folder / "study.json"
        if path.exists():
            known = json.loads(path.read_text(encoding="utf-8"))
            if known["study"] != plan["study"] or known["tasks"] != plan["tasks"][: len(known["tasks"])]:
                raise StorageError(
                    f"{folder} holds results of another study or other tasks: choose another folder, or remove it."
                )
        path.write_text(json.dumps(plan), encoding="utf-8")
        return cls(folder=folder)

    def _path(self, at: int) -> Path | None:
        return None if self.folder is None else self.folder / f"task-{at:06d}.json"

    def read(self, at: int) -> list[dict[str, object]] | None:
        path = self._path(at)
        if path is None or not path.exists():
            return None
        try:
            rows: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StorageError(f"{path} cannot be read: remove it, and its task is done again.") from error
        return rows

    def write(self, at: int, rows: list[dict[str, object]]) -> None:
        path = self._path(at)
        if path is not None:
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(rows), encoding="utf-8")
            os.replace(unfinished, path)


Results = Iterator[tuple[int, list[dict[str, object]]]]


def _numbered(work: Work, at: int, task: Mapping[str, Any]) -> tuple[int, list[dict[str, object]]]:
    return at, work(**task)


def _local(study: Study, todo: Sequence[int], address: str | None, processes: int | None) -> Results:
    if processes == 1:
        yield from (_numbered(study.work, at, study.tasks[at]) for at in todo)
        return
    from joblib import Parallel, delayed  # type: ignore[import-untyped]  # it has no types

    pool = Parallel(n_jobs=processes or -1, return_as="generator_unordered")
    yield from pool(delayed(_numbered)(study.work, at, study.tasks[at]) for at in todo)


def _dask(study: Study, todo: Sequence[int], address: str | None, processes: int | None) -> Results:
    distributed = _installed("distributed", "The backend 'dask' needs the extra `dask`: install bayes-pricing[dask].")
    if not todo:
        return
    with ExitStack() as stack:
        place: Any = address
        if address is None:
            cluster = distributed.LocalCluster(n_workers=processes, threads_per_worker=1, dashboard_address=None)
            place = stack.enter_context(cluster)
        client = stack.enter_context(distributed.Client(place))
        futures = [client.submit(_numbered, study.work, at, study.tasks[at], pure=False) for at in todo]
        for future in distributed.as_completed(futures):
            yield future.result()


def _ray(study: Study, todo: Sequence[int], address: str | None, processes: int | None) -> Results:
    ray = _installed("ray", "The backend 'ray' needs the extra `ray`: install bayes-pricing[ray].")
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, num_cpus=None if address else processes, include_dashboard=False)
    remote = ray.remote(_numbered)
    waiting = [remote.remote(study.work, at, dict(study.tasks[at])) for at in todo]
    while waiting:
        ready, waiting = ray.wait(waiting)
        yield from ray.get(ready)
    if started:
        ray.shutdown()


def _installed(module: str, remedy: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise SpecError(remedy) from error
