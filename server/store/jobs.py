"""Jobs: a table from which workers take work under a lease, so that a killed worker's job is finished by the next."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from server.store.database import reading, writing
from server.store.failures import Conflict, LeaseLost, NotFound
from server.store.tables import insert_new, jobs
from server.store.tables import job_events as events

State = Literal["queued", "running", "done", "failed", "refused", "cancelled"]
FINISHED = ("done", "failed", "refused", "cancelled")
MAX_ATTEMPTS = 3
RETRY_SECONDS = 2.0
LONGEST_LABEL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A piece of long work.

    Attributes
    ----------
    sequence : int
        Order of asking.
    id, kind : str
    request : mapping
        What was asked for, plain values.
    state : str
        queued, running, done, failed (ours), refused (statistical reasons or bad input), cancelled.
    attempts, max_attempts : int
        How often a worker took it, and how often one may.
    worker : str or None
        Who has it.
    progress : float
        0 to 1.
    label : str
        What is being done.
    result, problem : mapping or None
    cancel_requested : bool
    created_by : str
    created_at, started_at, finished_at : datetime
    """

    sequence: int
    id: str
    kind: str
    request: Mapping[str, Any]
    state: State
    attempts: int
    max_attempts: int
    worker: str | None
    progress: float
    label: str
    result: Mapping[str, Any] | None
    problem: Mapping[str, Any] | None
    cancel_requested: bool
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def finished(self) -> bool:
        """Nothing more will happen to it."""
        return self.state in FINISHED


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """The job of a request; `created` is False where an equal one was there already."""

    job: Job
    created: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """A step of a job, numbered from 1."""

    number: int
    at: datetime
    progress: float
    label: str


def submit_job(
    engine: Engine, kind: str, request: Mapping[str, Any], *, by: str, max_attempts: int = MAX_ATTEMPTS
) -> Submitted:
    """Ask for a job; an equal one that waits, runs or is done is the answer, so nothing is computed twice.

    Examples
    --------
    >>> import tempfile
    >>> from server.store.database import open_database
    >>> folder = tempfile.TemporaryDirectory()
    >>> engine = open_database(f"sqlite:///{folder.name}/server.db")
    >>> first = submit_job(engine, "fit", {"sales": "upload:a", "seed": 1}, by="shop")
    >>> again = submit_job(engine, "fit", {"seed": 1, "sales": "upload:a"}, by="shop")
    >>> first.created, again.created, first.job.id == again.job.id
    (True, False, True)
    >>> engine.dispose(); folder.cleanup()
    """
    content = hashlib.sha256(msgspec.json.encode([kind, request], order="sorted")).hexdigest()
    now = datetime.now(UTC)
    values = {
        "id": secrets.token_hex(8),
        "kind": kind,
        "content": content,
        "request": request,
        "state": "queued",
        "attempts": 0,
        "max_attempts": max_attempts,
        "not_before": now,
        "cancel_requested": False,
        "progress": 0.0,
        "label": "waiting for a worker",
        "created_by": by,
        "created_at": now,
    }
    with writing(engine) as connection:
        created = insert_new(connection, jobs, values)
        live = jobs.c.state.in_(("queued", "running", "done"))
        row = connection.execute(sa.select(jobs).where(jobs.c.content == content, live)).one()
        if created:
            _say(connection, row.id, 0.0, row.label, now)
    return Submitted(job=_job(row), created=created)


def find_job(engine: Engine, job_id: str) -> Job:
    """One job.

    Raises
    ------
    NotFound
        If there is none with this id.
    """
    with reading(engine) as connection:
        return _find(connection, job_id)


def list_jobs(
    engine: Engine, *, after: str | None = None, limit: int = 100, state: str | None = None
) -> tuple[Job, ...]:
    """Jobs, newest first; `after` is the id of the last one of the page before."""
    query = sa.select(jobs).order_by(jobs.c.sequence.desc()).limit(limit)
    query = query if state is None else query.where(jobs.c.state == state)
    with reading(engine) as connection:
        if after is not None:
            query = query.where(jobs.c.sequence < _find(connection, after).sequence)
        return tuple(_job(row) for row in connection.execute(query))


def count_jobs(engine: Engine) -> dict[str, int]:
    """How many jobs are in each state."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(jobs.c.state, sa.func.count().label("jobs")).group_by(jobs.c.state)).all()
    return {row.state: int(row.jobs) for row in rows}


def job_events(engine: Engine, job_id: str, after: int = 0) -> tuple[JobEvent, ...]:
    """Steps of a job after a number, oldest first.

    Raises
    ------
    NotFound
        If there is no such job.
    """
    query = sa.select(events).where(events.c.job_id == job_id, events.c.number > after).order_by(events.c.number)
    with reading(engine) as connection:
        _find(connection, job_id)
        rows = connection.execute(query).all()
    return tuple(JobEvent(number=row.number, at=row.at, progress=row.progress, label=row.label) for row in rows)


def cancel_job(engine: Engine, job_id: str) -> Job:
    """Ask a job to end: one that waits ends now, one that runs at its next step.

    Raises
    ------
    NotFound
        If there is no such job.
    Conflict
        If it is finished.
    """
    with writing(engine) as connection:
        job = _find(connection, job_id)
        if job.finished:
            raise Conflict(f"The job {job_id!r} is {job.state} already.")
        now = datetime.now(UTC)
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(cancel_requested=True))
        waiting = jobs.update().where(jobs.c.id == job_id, jobs.c.state == "queued")
        if connection.execute(waiting.values(state="cancelled", finished_at=now, label="cancelled")).rowcount:
            _say(connection, job_id, job.progress, "cancelled", now)
        return _find(connection, job_id)


def claim_job(engine: Engine, worker: str, lease_seconds: float) -> Job | None:
    """Take the oldest job that waits or whose worker is silent past its lease; None where there is none.

    The claim is one statement, so of two workers one gets it. A job whose workers died `max_attempts` times fails:
    a job that kills its worker must not take all of them down.
    """
    now = datetime.now(UTC)
    silent = (jobs.c.state == "running") & (jobs.c.lease_until < now)
    free = ((jobs.c.state == "queued") & (jobs.c.not_before <= now)) | silent
    with writing(engine) as connection:
        _end_silent(connection, silent, now)
        oldest = (
            sa.select(jobs.c.sequence).where(free).order_by(jobs.c.sequence).limit(1).with_for_update(skip_locked=True)
        )
        claim = (
            jobs.update()
            .where(jobs.c.sequence == oldest.scalar_subquery())
            .values(
                state="running",
                worker=worker,
                lease_until=now + timedelta(seconds=lease_seconds),
                attempts=jobs.c.attempts + 1,
                started_at=sa.func.coalesce(jobs.c.started_at, sa.literal(now, jobs.c.started_at.type)),
            )
            .returning(jobs)
        )
        row = connection.execute(claim).first()
        if row is None:
            return None
        words = "taken by a worker" if row.attempts == 1 else f"taken by a worker, attempt {row.attempts}"
        _say(connection, row.id, row.progress, words, now)
    return _job(row)


def heartbeat(engine: Engine, job: Job, lease_seconds: float, progress: float, label: str) -> bool:
    """Renew the lease and tell how far the job is; True where it is to be cancelled.

    Raises
    ------
    LeaseLost
        If another worker has the job.
    """
    now = datetime.now(UTC)
    label = label[:LONGEST_LABEL]
    renew = _mine(job).values(lease_until=now + timedelta(seconds=lease_seconds), progress=progress, label=label)
    with writing(engine) as connection:
        row = connection.execute(renew.returning(jobs.c.cancel_requested)).first()
        if row is None:
            raise _lost(job)
        last = connection.execute(
            sa.select(events).where(events.c.job_id == job.id).order_by(events.c.number.desc()).limit(1)
        ).first()
        if last is None or last.label != label or progress - last.progress >= 0.01:
            _say(connection, job.id, progress, label, now)
    return bool(row.cancel_requested)


def finish_job(
    engine: Engine, job: Job, result: Mapping[str, Any], also: Callable[[Connection], object] | None = None
) -> None:
    """Mark the job done and keep its result; `also` writes in the same transaction: both are there, or neither.

    Raises
    ------
    LeaseLost
        If another worker has the job: then nothing is written.
    """
    with writing(engine) as connection:
        _end(connection, job, "done", progress=1.0, label="done", result=dict(result))
        if also is not None:
            also(connection)


def end_job(engine: Engine, job: Job, state: Literal["failed", "refused", "cancelled"], problem: object = None) -> None:
    """Mark the job as ended without a result.

    Raises
    ------
    LeaseLost
        If another worker has the job.
    """
    with writing(engine) as connection:
        _end(connection, job, state, label=state, problem=problem)


def release_job(engine: Engine, job: Job, *, counted: bool) -> None:
    """Give a job back: after a fault (`counted`: one of its attempts, with a pause) or because the worker stops.

    Raises
    ------
    LeaseLost
        If another worker has the job.
    """
    now = datetime.now(UTC)
    pause = timedelta(seconds=RETRY_SECONDS * 2.0 ** (job.attempts - 1)) if counted else timedelta(0)
    given = _mine(job).values(
        state="queued",
        worker=None,
        lease_until=None,
        not_before=now + pause,
        attempts=job.attempts if counted else job.attempts - 1,
        label="waiting for a worker",
    )
    with writing(engine) as connection:
        if connection.execute(given).rowcount != 1:
            raise _lost(job)
        _say(connection, job.id, job.progress, "waiting for a worker", now)


def _mine(job: Job) -> sa.Update:
    """Only while the same attempt of the same worker holds the job."""
    where = (jobs.c.id == job.id) & (jobs.c.worker == job.worker) & (jobs.c.attempts == job.attempts)
    return jobs.update().where(where & (jobs.c.state == "running"))


def _end(connection: Connection, job: Job, state: State, **values: object) -> None:
    now = datetime.now(UTC)
    ended = _mine(job).values(state=state, finished_at=now, worker=None, lease_until=None, **values)
    if connection.execute(ended).rowcount != 1:
        raise _lost(job)
    _say(connection, job.id, 1.0 if state == "done" else job.progress, state, now)


def _end_silent(connection: Connection, silent: sa.ColumnElement[bool], now: datetime) -> None:
    """End the jobs of silent workers that nobody may take again."""
    cancelled = jobs.update().where(silent, jobs.c.cancel_requested).values(state="cancelled", label="cancelled")
    spent = jobs.update().where(silent, jobs.c.attempts >= jobs.c.max_attempts)
    problem = {
        "code": "worker_died",
        "message": "every worker that took the job died",
        "remedy": "ask for a smaller one",
    }
    for statement in (cancelled, spent.values(state="failed", label="failed", problem=problem)):
        ended = statement.values(finished_at=now, worker=None, lease_until=None)
        for row in connection.execute(ended.returning(jobs.c.id, jobs.c.progress, jobs.c.state)).all():
            _say(connection, row.id, row.progress, row.state, now)


def _say(connection: Connection, job_id: str, progress: float, label: str, now: datetime) -> None:
    last = connection.execute(sa.select(sa.func.max(events.c.number)).where(events.c.job_id == job_id)).scalar()
    connection.execute(
        events.insert().values(job_id=job_id, number=(last or 0) + 1, at=now, progress=progress, label=label)
    )


def _lost(job: Job) -> LeaseLost:
    return LeaseLost(f"The job {job.id!r} was taken over by another worker; what this one did is thrown away.")


def _find(connection: Connection, job_id: str) -> Job:
    row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise NotFound(f"There is no job {job_id!r}; `GET /v1/jobs` lists them.")
    return _job(row)


def _job(row: sa.Row[tuple[object, ...]]) -> Job:
    return Job(
        sequence=row.sequence,
        id=row.id,
        kind=row.kind,
        request=row.request,
        state=row.state,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        worker=row.worker,
        progress=row.progress,
        label=row.label,
        result=row.result,
        problem=row.problem,
        cancel_requested=row.cancel_requested,
        created_by=row.created_by,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
