"""Jobs: watched by polling or as server-sent events, and cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import msgspec

from server.cursors import cursor_of, read_cursor
from server.operations import Ask, Operation, Reply, in_thread, page, reply
from server.problems import Failure
from server.schemas import JobsQuery, NoQuery
from server.service import Service
from server.store.jobs import cancel_job, find_job, job_events, list_jobs

WATCH_SECONDS = 0.5
LONGEST_WATCH_SECONDS = 3600.0
SILENT_SECONDS = 10.0
"""A stream says at least this often that it is alive, so that nobody on its way takes it for dead."""


async def list_all_jobs(ask: Ask[JobsQuery, None]) -> Reply:
    """Jobs, the latest first."""
    query, after = ask.query, read_cursor(ask.query.cursor)
    jobs = await in_thread(lambda: list_jobs(ask.service.engine, after=after, limit=query.limit + 1, state=query.state))
    more = len(jobs) > query.limit
    return page(list(jobs[: query.limit]), cursor_of(jobs[query.limit - 1].id) if more else None)


async def read_job(ask: Ask[NoQuery, None]) -> Reply:
    """A job: its state, how far it is, and its result or problem."""
    return reply(await in_thread(find_job, ask.service.engine, ask.path["job"]))


async def stop_job(ask: Ask[NoQuery, None]) -> Reply:
    """Cancel a job; one that runs stops at its next step."""
    return reply(await in_thread(cancel_job, ask.service.engine, ask.path["job"]), status=202)


async def watch_job(ask: Ask[NoQuery, None]) -> Reply:
    """A job's progress as server-sent events, up to its end; `Last-Event-ID` goes on where a watcher left off."""
    seen = ask.headers.get("last-event-id", "0")
    if not (seen.isascii() and seen.isdigit() and len(seen) <= 15):
        raise Failure("invalid-request", "Last-Event-ID must be the number of an event of this job.")
    await in_thread(find_job, ask.service.engine, ask.path["job"])
    return Reply(
        content=b"",
        media_type="text/event-stream",
        headers={"cache-control": "no-store"},
        stream=events(ask.service, ask.path["job"], int(seen)),
    )


async def events(service: Service, job_id: str, after: int) -> AsyncIterator[bytes]:
    """Events of a job as they come, then the job itself."""
    spoken = anyio.current_time()
    with anyio.move_on_after(LONGEST_WATCH_SECONDS):
        while True:
            job = await in_thread(find_job, service.engine, job_id)
            for event in await in_thread(job_events, service.engine, job_id, after):
                after, spoken = event.number, anyio.current_time()
                yield b"id: %d\nevent: progress\ndata: %b\n\n" % (event.number, msgspec.json.encode(event))
            if anyio.current_time() - spoken > SILENT_SECONDS:
                spoken = anyio.current_time()
                yield b": %b\n\n" % job.state.encode()
            if job.finished:
                yield b"event: finished\ndata: %b\n\n" % msgspec.json.encode(job)
                return
            await anyio.sleep(WATCH_SECONDS)


OPERATIONS = (
    Operation(
        method="GET", path="/v1/jobs", handler=list_all_jobs, query=JobsQuery, answer="JobsPage", scope="fits:run",
        problems=(404,),
    ),
    Operation(
        method="GET", path="/v1/jobs/{job:str}", handler=read_job, answer="Job", scope="fits:run", problems=(404,),
    ),
    Operation(
        method="POST", path="/v1/jobs/{job:str}/cancel", handler=stop_job, answer="Job", scope="fits:run",
        status=202, problems=(404, 409),
    ),
    Operation(
        method="GET", path="/v1/jobs/{job:str}/events", handler=watch_job, answer="", scope="fits:run",
        answer_media="text/event-stream", problems=(404,),
    ),
)  # fmt: skip
