"""The worker: takes jobs one after the other, says it is alive, and gives back what it cannot finish."""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.errors import PanelError, PricingError, Refusal, SpecError, StorageError
from server.logs import write_log
from server.settings import Settings
from server.store.failures import LeaseLost, NotFound, StoreUnavailable
from server.store.idempotency import process_name
from server.store.jobs import Job, claim_job, end_job, finish_job, heartbeat, release_job

LOGGER = logging.getLogger("bayes_pricing.worker")
LOOK_SECONDS = 0.5
BEATS_IN_LEASE = 4
SHORTEST_BEAT = 0.25


class JobCancelled(Exception):
    """Its asker does not want the job any more."""


class WorkerStops(Exception):
    """The worker was asked to end; the job goes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a handler hands back.

    Attributes
    ----------
    result : mapping
        Plain values for the asker.
    also : callable or None
        Writes in the transaction that marks the job done: both are there, or neither.
    """

    result: Mapping[str, Any]
    also: Callable[[Connection], object] | None = None


@dataclass(slots=True, kw_only=True)
class JobRun:
    """One attempt at a job, as its handler sees it; `progress` is also where the handler learns that it should end."""

    settings: Settings
    engine: Engine
    job: Job
    stop: threading.Event
    fraction: float = 0.0
    label: str = "starting"
    ending: Exception | None = None
    beaten: threading.Event = field(default_factory=threading.Event)

    def progress(self, fraction: float, label: str) -> None:
        """Tell how far the job is.

        Raises
        ------
        JobCancelled, WorkerStops, LeaseLost
            If the work should end here.
        """
        self.fraction, self.label = min(max(fraction, 0.0), 1.0), label
        if self.ending is not None:
            raise self.ending
        if self.stop.is_set():
            raise WorkerStops


Handler = Callable[[JobRun], Done]


def run_worker(
    settings: Settings,
    engine: Engine,
    handlers: Mapping[str, Handler],
    *,
    stop: threading.Event,
    once: bool = False,
    warm: Callable[[Callable[[float, str], None]], None] | None = None,
) -> int:
    """Take jobs until told to stop; how many were taken.

    Parameters
    ----------
    settings : Settings
    engine : Engine
    handlers : mapping of kind to function
    stop : Event
        Set it to end: the job in work is given back and the next worker starts it anew.
    once : bool
        End when no job is left.
    warm : callable, optional
        Done when for the first time no job waits: it gets ready for the first one, and holds none meanwhile.
    """
    worker = f"{process_name()}:{secrets.token_hex(4)}"
    taken = 0
    while not stop.is_set():
        try:
            job = claim_job(engine, worker, settings.lease_seconds)
        except StoreUnavailable as error:
            write_log(LOGGER, "warning", "worker_waits", {"reason": str(error)})
            job = None
        if job is not None:
            taken += 1
            run_job(JobRun(settings=settings, engine=engine, job=job, stop=stop), handlers)
        elif once:
            break
        else:
            if warm is not None:
                _get_ready(warm, stop)
                warm = None
            stop.wait(LOOK_SECONDS)
    return taken


def _get_ready(warm: Callable[[Callable[[float, str], None]], None], stop: threading.Event) -> None:
    """Warm up; a worker that is to stop does not finish it, and one that cannot warm up does without."""

    def told(fraction: float, label: str) -> None:
        if stop.is_set():
            raise WorkerStops

    began = time.monotonic()
    with suppress(WorkerStops):
        try:
            warm(told)
        except PricingError as error:
            write_log(LOGGER, "warning", "worker_not_warm", {"reason": str(error)})
    write_log(LOGGER, "info", "worker_waits_for_jobs", {"seconds": round(time.monotonic() - began, 3)})


def run_job(run: JobRun, handlers: Mapping[str, Handler]) -> None:
    """Do one job and write down how it ended."""
    job = run.job
    told = {"job": job.id, "kind": job.kind, "attempt": job.attempts}
    write_log(LOGGER, "info", "job_taken", told)
    began = time.monotonic()
    try:
        with _beating(run):
            handler = handlers.get(job.kind)
            if handler is None:
                raise SpecError(f"No worker knows jobs of kind {job.kind!r}; known are {', '.join(sorted(handlers))}.")
            done = handler(run)
        ending = "done"
        _insist(run, lambda: finish_job(run.engine, job, done.result, done.also))
    except LeaseLost:
        ending = "lost"
    except JobCancelled:
        ending = _end(run, lambda: end_job(run.engine, job, "cancelled"), "cancelled")
    except WorkerStops:
        ending = _end(run, lambda: release_job(run.engine, job, counted=False), "given back")
    except Refusal as refusal:
        problem = {"code": "refused", "message": str(refusal), "findings": msgspec.to_builtins(refusal.findings)}
        ending = _end(run, lambda: end_job(run.engine, job, "refused", problem), "refused")
    except (SpecError, PanelError, NotFound) as error:
        problem = {"code": "wrong_request", "message": str(error)}
        ending = _end(run, lambda: end_job(run.engine, job, "refused", problem), "refused")
    except (
        PricingError,
        OSError,
        MemoryError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        ending = _failed(run, error)
    write_log(LOGGER, "info", "job_ended", {**told, "ending": ending, "seconds": round(time.monotonic() - began, 3)})


def _failed(run: JobRun, error: Exception) -> str:
    """Try again where another attempt may help; else say what happened. Texts of our own errors only go out."""
    LOGGER.error("job_failed", exc_info=error, extra={"fields": {"job": run.job.id}})
    ours = isinstance(error, PricingError)
    again = isinstance(error, StoreUnavailable | OSError | MemoryError)
    if again and run.job.attempts < run.job.max_attempts:
        return _end(run, lambda: release_job(run.engine, run.job, counted=True), "tried again later")
    code = "storage" if isinstance(error, StorageError) else "internal"
    message = str(error) if ours else "the job failed for a reason that is in the worker's log"
    problem = {"code": code, "message": message}
    return _end(run, lambda: end_job(run.engine, run.job, "failed", problem), "failed")


def _end(run: JobRun, write: Callable[[], None], ending: str) -> str:
    try:
        _insist(run, write)
    except LeaseLost:
        return "lost"
    return ending


def _insist(run: JobRun, write: Callable[[], None]) -> None:
    """Write how the job ended, waiting for a database that does not answer as long as the lease lasts."""
    give_up = time.monotonic() + run.settings.lease_seconds
    while True:
        try:
            write()
        except StoreUnavailable:
            if time.monotonic() > give_up or run.stop.is_set():
                raise LeaseLost(f"The end of job {run.job.id!r} could not be written; it will be done again.") from None
            time.sleep(LOOK_SECONDS)
        else:
            return


@contextmanager
def _beating(run: JobRun) -> Iterator[None]:
    """Renew the lease beside the work, and learn whether the work is still wanted."""
    thread = threading.Thread(target=_beat, args=(run,), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        run.beaten.set()
        thread.join()


def _beat(run: JobRun) -> None:
    lease = run.settings.lease_seconds
    pause = min(max(lease / BEATS_IN_LEASE, SHORTEST_BEAT), 2.0)
    told: tuple[float, str] | None = None
    renewed = time.monotonic()
    stopped_at: float | None = None
    while not run.beaten.wait(SHORTEST_BEAT):
        now = time.monotonic()
        if run.stop.is_set():
            stopped_at = now if stopped_at is None else stopped_at
            if now - stopped_at > run.settings.drain_seconds:
                _leave(run)
        if now - renewed < pause and told == (run.fraction, run.label):
            continue
        try:
            if heartbeat(run.engine, run.job, lease, run.fraction, run.label):
                run.ending = JobCancelled()
            told, renewed = (run.fraction, run.label), now
        except LeaseLost as lost:
            run.ending = lost
            return
        except StoreUnavailable:
            if now - renewed > lease:
                run.ending = LeaseLost(f"The lease of job {run.job.id!r} could not be renewed.")
                return


def _leave(run: JobRun) -> None:
    """The work does not come to a point where it can stop: give the job back and end the process."""
    try:
        release_job(run.engine, run.job, counted=False)
    except (StoreUnavailable, LeaseLost) as error:
        write_log(LOGGER, "warning", "job_not_given_back", {"job": run.job.id, "reason": str(error)})
    os._exit(1)
