"""Whether the server lives, whether it can answer, and what it counts."""

from __future__ import annotations

from server.finite import encode_finite
from server.metrics import METRICS_TYPE, render_metrics
from server.operations import Ask, Operation, Reply, in_thread, reply
from server.schemas import NoQuery


async def live(ask: Ask[NoQuery, None]) -> Reply:
    """The process runs; nothing else is looked at."""
    return reply({"status": "live"}, headers={"cache-control": "no-store"})


async def ready(ask: Ask[NoQuery, None]) -> Reply:
    """Answers can be given: a model is live and is the one that was promoted; otherwise 503 and why."""
    state = ask.service.live
    fine = state.champion is not None and state.trouble is None
    content = {
        "status": "ready" if fine else "not ready",
        "model": None if state.champion is None else state.champion.model.id,
        "version": 0 if state.alias is None else state.alias.version,
        "reason": state.trouble,
    }
    return Reply(content=encode_finite(content), status=200 if fine else 503, headers={"cache-control": "no-store"})


async def metrics(ask: Ask[NoQuery, None]) -> Reply:
    """What the processes count, for Prometheus."""
    content = await in_thread(render_metrics, ask.service.settings, ask.service.engine)
    return Reply(content=content, media_type=METRICS_TYPE)


OPERATIONS = (
    Operation(method="GET", path="/health/live", handler=live, answer="Liveness", scope=None),
    Operation(method="GET", path="/health/ready", handler=ready, answer="Readiness", scope=None),
    Operation(
        method="GET", path="/metrics", handler=metrics, answer="", answer_media="text/plain", scope="metrics:read",
    ),
)  # fmt: skip
