"""What takes long besides fits, as jobs: prices for every item on every draw, and studies; and the files they leave."""

from __future__ import annotations

import msgspec

from server.operations import Ask, Operation, Reply, in_thread
from server.routes.fits import accepted
from server.schemas import BatchRequest, NoQuery, StudyRequest
from server.store.failures import NotFound
from server.store.jobs import find_job, submit_job

MEDIA = {".json": "application/json", ".md": "text/markdown"}


async def start_batch(ask: Ask[NoQuery, BatchRequest]) -> Reply:
    """Recommend prices for all items of a saved fit on every posterior draw; the result is a file of the job."""
    if not await in_thread((ask.service.settings.models_dir / ask.body.fit).is_dir):
        raise NotFound(f"There is no saved fit {ask.body.fit!r}; run POST /v1/fits first.")
    request = {"model": ask.body.fit, "policy": ask.body.policy.flags(), "seed": ask.body.seed}
    submitted = await in_thread(lambda: submit_job(ask.service.engine, "recommend", request, by=ask.principal.key_id))
    return accepted(submitted.job, created=submitted.created)


async def start_study(ask: Ask[NoQuery, StudyRequest]) -> Reply:
    """Run a study of the methods on simulated markets; the result is a file of the job."""
    request = msgspec.to_builtins(ask.body)
    submitted = await in_thread(lambda: submit_job(ask.service.engine, "study", request, by=ask.principal.key_id))
    return accepted(submitted.job, created=submitted.created)


async def read_result(ask: Ask[NoQuery, None]) -> Reply:
    """The file that a finished batch or study wrote: decisions as JSON, or a table as Markdown."""
    job = await in_thread(find_job, ask.service.engine, ask.path["job"])
    path = ask.service.settings.results_dir / str((job.result or {}).get("file", "none"))
    if not await in_thread(path.is_file):
        raise NotFound(
            f"The job {job.id!r} ({job.kind}, {job.state}) has no file; batches and studies that are done do."
        )
    return Reply(content=await in_thread(path.read_bytes), media_type=MEDIA[path.suffix])


OPERATIONS = (
    Operation(
        method="POST", path="/v1/batches", handler=start_batch, body=BatchRequest, answer="JobAccepted",
        scope="fits:run", status=202, problems=(404, 409, 422), headers={"Location": "Where to watch the job"},
        example={"fit": "0" * 64, "policy": {"objective": "profit", "max_change": 0.15}},
    ),
    Operation(
        method="POST", path="/v1/studies", handler=start_study, body=StudyRequest, answer="JobAccepted",
        scope="fits:run", status=202, problems=(409, 422), headers={"Location": "Where to watch the job"},
        example={"name": "monitoring", "arguments": {"streams": 200}},
    ),
    Operation(
        method="GET", path="/v1/jobs/{job:str}/result", handler=read_result, answer="", answer_media="*/*",
        scope="fits:run", problems=(404,),
    ),
)  # fmt: skip
