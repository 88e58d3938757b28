"""Fits: from a sales file to a published model, as jobs."""

from __future__ import annotations

import msgspec

from server.operations import Ask, Operation, Reply, in_thread, reply
from server.schemas import FitRequest, NoQuery
from server.store.failures import NotFound
from server.store.jobs import submit_job


async def start_fit(ask: Ask[NoQuery, FitRequest]) -> Reply:
    """Estimate demand from sales; the finished job names the published model, or says why there is none."""
    if not await in_thread(sales_known, ask):
        raise NotFound(f"There are no sales {ask.body.sales!r}; upload them to POST /v1/uploads first.")
    request = {**msgspec.to_builtins(ask.body), "policy": ask.body.policy.flags()}
    submitted = await in_thread(lambda: submit_job(ask.service.engine, "fit", request, by=ask.principal.key_id))
    return accepted(submitted.job, created=submitted.created)


def sales_known(ask: Ask[NoQuery, FitRequest]) -> bool:
    """Whether the file a fit names is there."""
    kind, _, name = ask.body.sales.partition(":")
    settings = ask.service.settings
    if kind == "source":
        return (settings.sources_dir / name).is_file()
    return any((settings.uploads_dir / f"{name}{suffix}").is_file() for suffix in (".csv", ".parquet"))


def accepted(job: object, *, created: bool) -> Reply:
    """202 with the job and where to watch it; work that was asked for before is found again."""
    plain = msgspec.to_builtins(job)
    return reply({"job": plain, "created": created}, status=202, headers={"location": f"/v1/jobs/{plain['id']}"})


OPERATIONS = (
    Operation(
        method="POST", path="/v1/fits", handler=start_fit, body=FitRequest, answer="JobAccepted", scope="fits:run",
        status=202, problems=(404, 409, 422), headers={"Location": "Where to watch the job"},
        example={"sales": "upload:" + "0" * 64, "roles": {"item": "sku", "category": ["family"]}, "seed": 1},
    ),
)  # fmt: skip
