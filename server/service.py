"""What one process of the server has in hand: settings, store, live models, audit; started and stopped with it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from sqlalchemy.engine import Engine

from bayes_pricing.errors import PricingError
from server.answers import ItemRequest, answer, canonical
from server.live import LiveModels, Served
from server.problems import Failure
from server.schemas import Strict
from server.settings import Settings
from server.store.audit_writer import AuditWriter
from server.store.database import open_database
from server.store.keys import KeyRing
from server.store.limits import RateLimiter

if TYPE_CHECKING:
    from litestar import Litestar

    from server.store.published import PublishedModel

LIVE_THREADS = 2
"""Live answers computed at once in a process."""
LIVE_WAITING = 64
"""Live answers that may wait for their turn; more are told to come again."""

EXPLANATIONS_KEPT = 2000


@dataclass(eq=False)
class Service:
    """Everything a request needs that is not in the request."""

    settings: Settings
    engine: Engine
    live: LiveModels
    audit: AuditWriter
    keys: KeyRing
    limiter: RateLimiter
    turns: anyio.CapacityLimiter

    async def answer(self, kind: str, request: Strict, model_id: str | None) -> tuple[bytes, dict[str, str]]:
        """A live answer, remembered by the audit: its bytes and headers."""
        served = await self.served(model_id)
        asked = canonical(request)
        if self.turns.statistics().tasks_waiting >= LIVE_WAITING:
            raise Failure("unavailable", "Too many live answers are waiting for their turn; come again shortly.")
        content = await anyio.to_thread.run_sync(answer, served.model, kind, asked, limiter=self.turns)
        return content, {"audit-id": self.audit.served(kind, served.model.id, asked, content)}

    async def explanation(self, item: str, model_id: str | None) -> tuple[bytes, dict[str, str]]:
        """The explanation of an item's recommendation, kept for the next who asks."""
        served = await self.served(model_id)
        kept = served.explained.get(item)
        if kept is not None:
            self.audit.again(kept[1])
            return kept[0], {"audit-id": kept[1]}
        content, headers = await self.answer("explanation", ItemRequest(item=item), model_id)
        served.explained[item] = (content, headers["audit-id"])
        if len(served.explained) > EXPLANATIONS_KEPT:
            served.explained.popitem(last=False)
        return content, headers

    async def served(self, model_id: str | None) -> Served:
        """The champion, or the model of an id."""
        if model_id is None:
            return self.live.require()
        return await anyio.to_thread.run_sync(self.live.require, model_id)

    async def watch(self) -> None:
        """Keep champion and keys fresh until cancelled."""
        while True:
            await anyio.sleep(self.settings.poll_seconds)
            with contextlib.suppress(PricingError):
                await anyio.to_thread.run_sync(self.live.refresh)
                await anyio.to_thread.run_sync(self.keys.refresh)


def open_service(settings: Settings) -> Service:
    """Open the store and load what is live."""
    for folder in (settings.published_dir, settings.uploads_dir, settings.runtime_dir):
        folder.mkdir(parents=True, exist_ok=True)
    engine = open_database(settings.database_url)
    live = LiveModels(settings.published_dir, engine, _tell_model)
    live.refresh()
    limiter = RateLimiter(
        settings.runtime_dir / "limits", rate_per_second=settings.rate_per_second, burst=settings.rate_burst
    )
    return Service(
        settings=settings,
        engine=engine,
        live=live,
        audit=AuditWriter(engine),
        keys=KeyRing(engine),
        limiter=limiter,
        turns=anyio.CapacityLimiter(LIVE_THREADS),
    )


@contextlib.asynccontextmanager
async def serving(app: Litestar) -> AsyncIterator[None]:
    """The process's life: open, watch, and at the end write what the audit still holds."""
    settings: Settings = app.state.settings
    service = await anyio.to_thread.run_sync(open_service, settings)
    app.state.service = service
    service.audit.start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.watch)
            tasks.start_soon(_warm, service, app.state.warmed)
            yield
            tasks.cancel_scope.cancel()
    finally:
        await anyio.to_thread.run_sync(service.audit.stop)
        service.limiter.close()
        service.engine.dispose()


async def _warm(service: Service, warmed: Callable[[], None] | None) -> None:
    """As soon as a model is live, load what its first live answer needs before somebody waits for it."""
    while service.live.champion is None:
        await anyio.sleep(service.settings.poll_seconds)
    await anyio.to_thread.run_sync(_touch, service.live.champion.model)
    if warmed is not None:
        warmed()


def _touch(model: PublishedModel) -> None:
    for room in ("bayes_pricing.pricing.explanation", "bayes_pricing.pricing.wording"):
        importlib.import_module(room)
    model.posterior.own_data_weight()


def _tell_model(model: PublishedModel, seconds: float) -> None:
    from server import metrics

    metrics.set_model(model.id, None, seconds)
