"""Jobs: taken once, finished once, given back, tried again, cancelled; equal ones are one job."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bayes_pricing.errors import Finding, Refusal, SpecError
from server.settings import Settings
from server.store.database import reading, writing
from server.store.failures import Conflict, LeaseLost, NotFound
from server.store.jobs import (
    Job,
    cancel_job,
    claim_job,
    count_jobs,
    end_job,
    find_job,
    finish_job,
    heartbeat,
    job_events,
    list_jobs,
    release_job,
    submit_job,
)
from server.store.tables import aliases, jobs
from server.tasks import fit_folder, sales_file
from server.worker import Done, Handler, JobRun, run_worker
from tests.stores import BOTH, opened


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with opened(request, tmp_path) as engine:
        yield engine


def work(
    engine: Engine, tmp_path: Path, handler: Handler, *, stop: threading.Event | None = None, once: bool = True
) -> int:
    settings = Settings(data_dir=tmp_path, lease_seconds=1.0)
    return run_worker(settings, engine, {"job": handler}, stop=stop or threading.Event(), once=once)


def submit(engine: Engine, number: int = 1) -> Job:
    return submit_job(engine, "job", {"number": number}, by="shop").job


def test_oldest_first_and_each_once(engine: Engine) -> None:
    asked = [submit(engine, number).id for number in range(3)]
    taken: list[str] = []

    def take() -> None:
        while (job := claim_job(engine, threading.current_thread().name, 60)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(asked)
    assert [job.id for job in list_jobs(engine)] == asked[::-1]
    assert [job.id for job in list_jobs(engine, after=asked[1])] == [asked[0]]
    assert count_jobs(engine) == {"running": 3}


def test_equal_requests_are_one_job(engine: Engine) -> None:
    first = submit(engine)
    assert submit(engine).id == first.id
    job = claim_job(engine, "w", 60)
    assert job is not None
    finish_job(engine, job, {"answer": 1})
    again = submit_job(engine, "job", {"number": 1}, by="another")
    assert (again.created, again.job.id, again.job.result) == (False, first.id, {"answer": 1})
    assert submit(engine, 2).id != first.id


def test_failed_job_may_be_asked_for_again(engine: Engine) -> None:
    first = submit(engine)
    job = claim_job(engine, "w", 60)
    assert job is not None
    end_job(engine, job, "failed", {"message": "no"})
    assert submit(engine).id != first.id


def test_silent_worker_loses_the_job_and_cannot_finish_it(engine: Engine) -> None:
    submit(engine)
    first = claim_job(engine, "dead", -1)
    assert first is not None
    second = claim_job(engine, "alive", 60)
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    for late in (
        lambda: heartbeat(engine, first, 60, 0.5, "late"),
        lambda: finish_job(engine, first, {}, lambda connection: connection.execute(aliases.insert())),
        lambda: end_job(engine, first, "failed"),
        lambda: release_job(engine, first, counted=False),
    ):
        with pytest.raises(LeaseLost):
            late()
    finish_job(engine, second, {"by": "alive"})
    assert find_job(engine, first.id).result == {"by": "alive"}


def test_job_that_kills_its_workers_fails(engine: Engine) -> None:
    job = submit(engine)
    for _ in range(3):
        assert claim_job(engine, "dies", -1) is not None
    assert claim_job(engine, "lives", 60) is None
    ended = find_job(engine, job.id)
    assert ended.state == "failed"
    assert ended.problem is not None
    assert ended.problem["code"] == "worker_died"


def test_cancelled_while_waiting_or_with_a_silent_worker(engine: Engine) -> None:
    waiting = submit(engine, 1)
    assert cancel_job(engine, waiting.id).state == "cancelled"
    with pytest.raises(Conflict):
        cancel_job(engine, waiting.id)
    silent = submit(engine, 2)
    assert claim_job(engine, "dead", -1) is not None
    assert cancel_job(engine, silent.id).state == "running"
    assert claim_job(engine, "alive", 60) is None
    assert find_job(engine, silent.id).state == "cancelled"
    with pytest.raises(NotFound):
        cancel_job(engine, "none")


def test_result_and_side_effect_are_both_there_or_neither(engine: Engine) -> None:
    submit(engine)
    job = claim_job(engine, "w", 60)
    assert job is not None

    def fails(connection: sa.Connection) -> None:
        connection.execute(aliases.insert().values(name="half", version=1))
        raise LookupError

    with pytest.raises(LookupError):
        finish_job(engine, job, {}, fails)
    with reading(engine) as connection:
        assert connection.execute(sa.select(aliases)).all() == []
    assert find_job(engine, job.id).state == "running"


def test_worker_tells_progress_and_keeps_the_result(engine: Engine, tmp_path: Path) -> None:
    job = submit(engine)

    def handler(run: JobRun) -> Done:
        for step in range(4):
            run.progress(step / 4, f"step {step}")
            time.sleep(0.3)
        return Done(result={"number": run.job.request["number"]})

    assert work(engine, tmp_path, handler) == 1
    ended = find_job(engine, job.id)
    assert (ended.state, ended.result, ended.progress) == ("done", {"number": 1}, 1.0)
    events = job_events(engine, job.id)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert {"waiting for a worker", "taken by a worker", "step 3", "done"} <= {event.label for event in events}
    assert job_events(engine, job.id, after=events[-2].number) == events[-1:]
    assert [event.progress for event in events] == sorted(event.progress for event in events)


def test_worker_ends_a_cancelled_job_at_its_next_step(engine: Engine, tmp_path: Path) -> None:
    job = submit(engine)

    def handler(run: JobRun) -> Done:
        cancel_job(engine, run.job.id)
        for _ in range(100):
            run.progress(0.5, "going on")
            time.sleep(0.05)
        return Done(result={})

    work(engine, tmp_path, handler)
    assert find_job(engine, job.id).state == "cancelled"


def test_worker_that_stops_gives_the_job_back_uncounted(engine: Engine, tmp_path: Path) -> None:
    job = submit(engine)
    stop = threading.Event()

    def handler(run: JobRun) -> Done:
        stop.set()
        run.progress(0.5, "going on")
        return Done(result={})

    work(engine, tmp_path, handler, stop=stop, once=False)
    given_back = find_job(engine, job.id)
    assert (given_back.state, given_back.attempts) == ("queued", 0)


def failing(error: Exception) -> Callable[[JobRun], Done]:
    def handler(run: JobRun) -> Done:
        raise error

    return handler


def test_refused_wrong_and_broken_jobs_say_why(engine: Engine, tmp_path: Path) -> None:
    finding = Finding(code="zeros", severity="error", message="zeros", remedy="count them")
    expected = [
        (Refusal([finding]), "refused", "refused", "zeros: count them."),
        (SpecError("no such column"), "refused", "wrong_request", "no such column"),
        (ValueError("secret path"), "failed", "internal", "the job failed for a reason that is in the worker's log"),
    ]
    for number, (error, state, code, message) in enumerate(expected):
        job = submit(engine, number)
        work(engine, tmp_path, failing(error))
        ended = find_job(engine, job.id)
        assert ended.problem is not None
        assert (ended.state, ended.problem["code"], ended.problem["message"]) == (state, code, message)


def test_passing_fault_is_tried_again_up_to_a_limit(engine: Engine, tmp_path: Path) -> None:
    job = submit(engine)
    for attempt in (1, 2):
        work(engine, tmp_path, failing(OSError("disk full")))
        waiting = find_job(engine, job.id)
        assert (waiting.state, waiting.attempts) == ("queued", attempt)
        with writing(engine) as connection:  # the pause is over
            connection.execute(jobs.update().values(not_before=job.created_at))
    work(engine, tmp_path, failing(OSError("disk full")))
    assert find_job(engine, job.id).state == "failed"


def test_unknown_kind_is_refused(engine: Engine, tmp_path: Path) -> None:
    job = submit_job(engine, "dance", {}, by="shop").job
    work(engine, tmp_path, failing(OSError()))
    assert find_job(engine, job.id).state == "refused"


def test_requests_reach_uploads_and_sources_only(tmp_path: Path) -> None:
    settings = replace(Settings(), data_dir=tmp_path)
    settings.sources_dir.mkdir()
    (settings.sources_dir / "sales.csv").write_text("item\n")
    (tmp_path / "server.csv").write_text("secret\n")
    assert sales_file(settings, "source:sales.csv") == settings.sources_dir / "sales.csv"
    wrong = ("source:../server.csv", "source:/etc/passwd", "source:.csv", "sales.csv", "upload:../x", "sqlite:///x")
    for place in (*wrong, "upload:" + "0" * 64, "source:other.csv"):
        with pytest.raises(SpecError):
            sales_file(settings, place)
    for name in ("../uploads", "", "none", "0" * 64):
        with pytest.raises(NotFound):
            fit_folder(settings, name)
