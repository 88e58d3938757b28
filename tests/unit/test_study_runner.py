"""The study runner: the same table however it was run, interrupted or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bayes_pricing.errors import SpecError, StorageError
from simulations.studies.runner import Study, run_study, sum_of_two

TASKS = [{"left": left, "right": left * left} for left in range(6)]
STUDY = Study(name="sums", work=sum_of_two, tasks=TASKS)


def test_results_stand_in_the_order_of_the_tasks_on_every_core() -> None:
    table = run_study(STUDY, processes=2)
    assert table["total"].to_list() == [left + left * left for left in range(6)]
    assert table.equals(run_study(STUDY, processes=1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed")
def test_dask_gives_the_same_table() -> None:
    assert run_study(STUDY, backend="dask", processes=1).equals(run_study(STUDY, processes=1))


def test_a_study_killed_halfway_ends_with_the_same_table(tmp_path: Path) -> None:
    """A process that dies inside the fourth task, without a word, leaves three results; the next run does the rest."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from simulations.studies.runner import Study, run_study, sum_of_two\n"
        "def watch(share, label):\n"
        "    if share >= 0.5:\n"
        "        os._exit(9)\n"
        f"study = Study(name='sums', work=sum_of_two, tasks={TASKS!r})\n"
        "run_study(study, Path(sys.argv[1]), processes=1, progress=watch)\n"
    )
    folder = tmp_path / "study"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    died = subprocess.run([sys.executable, "-c", program, str(folder)], check=False, env=environment)
    assert died.returncode == 9
    assert len(list(folder.glob("task-*.json"))) == 3
    seen: list[float] = []
    resumed = run_study(STUDY, folder, processes=1, progress=lambda share, label: seen.append(share))
    assert seen[0] == 0.5
    assert resumed.equals(run_study(STUDY, processes=1))


def test_a_folder_of_another_study_is_refused(tmp_path: Path) -> None:
    run_study(STUDY, tmp_path / "kept", processes=1)
    with pytest.raises(StorageError, match="another study"):
        run_study(Study(name="sums", work=sum_of_two, tasks=TASKS[:2]), tmp_path / "kept", processes=1)


def test_a_study_grows_by_more_tasks(tmp_path: Path) -> None:
    short = Study(name="sums", work=sum_of_two, tasks=TASKS[:4])
    run_study(short, tmp_path / "kept", processes=1)
    seen: list[float] = []
    grown = run_study(STUDY, tmp_path / "kept", processes=1, progress=lambda share, label: seen.append(share))
    assert seen[0] == pytest.approx(4 / 6)
    assert grown.equals(run_study(STUDY, processes=1))
    with pytest.raises(StorageError, match="other tasks"):
        run_study(short, tmp_path / "kept", processes=1)


def test_an_unreadable_result_is_named(tmp_path: Path) -> None:
    run_study(STUDY, tmp_path / "kept", processes=1)
    path = tmp_path / "kept" / "task-000002.json"
    assert json.loads(path.read_text()) == [{"left": 2, "right": 4, "total": 6}]
    path.write_text("[{")
    with pytest.raises(StorageError, match=r"task-000002\.json cannot be read"):
        run_study(STUDY, tmp_path / "kept", processes=1)


def test_backends_that_are_not_there_are_refused() -> None:
    with pytest.raises(SpecError, match="choose local, dask, ray"):
        run_study(STUDY, backend="cloud")  # type: ignore[arg-type]


def test_ray_gives_the_same_table_or_is_refused() -> None:
    if find_spec("ray") is None:
        with pytest.raises(SpecError, match="needs the extra `ray`"):
            run_study(STUDY, backend="ray")
    else:
        assert run_study(STUDY, backend="ray").equals(run_study(STUDY, processes=1))
