"""What one process of the server has in hand: settings, store, live models, audit; started and stopped with it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from sqlalchemy.engine import Engine

from bayes_pricing.errors import PricingError
from server.answers import ItemRequest, answer, canonical
from server.live import LiveModels, Served
from server.metrics import set_model, set_warm
from server.problems import Failure
from server.schemas import MOST_PRICES, Strict, WhatIfRequest
from server.settings import Settings
from server.store.audit_writer import AuditWriter
from server.store.database import open_database
from server.store.keys import KeyRing
from server.store.limits import RateLimiter

if TYPE_CHECKING:
    from litestar import Litestar

    from server.store.published import PublishedModel

SWITCH_SECONDS = 0.0005
"""How long a live question keeps the interpreter while ready answers wait for it, several times in one request: as
shipped five milliseconds, which made one ready answer in a hundred wait a tenth of a second at half load."""
LIVE_THREADS = 2
"""Live answers computed at once in a process."""
LIVE_WAITING = 64
"""Live answers that may wait for their turn; more are told to come again."""

EXPLANATIONS_KEPT = 200
"""Of one model, some 7 kB each."""


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
    sys.setswitchinterval(SWITCH_SECONDS)
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
    """As soon as a model is live, rehearse live answers in as many threads as give them, before somebody waits."""
    while service.live.champion is None:
        await anyio.sleep(service.settings.poll_seconds)
    model = service.live.champion.model
    await anyio.to_thread.run_sync(_rehearse, model, limiter=service.turns)  # what is loaded is loaded by one
    async with anyio.create_task_group() as tasks:
        for _ in range(LIVE_THREADS):
            tasks.start_soon(partial(anyio.to_thread.run_sync, _rehearse, model, limiter=service.turns))
    set_warm()
    if warmed is not None:
        warmed()


def _rehearse(model: PublishedModel) -> None:
    """Give the largest answers, which nobody asked for: what they load, and the room they need, is at hand then."""
    decided = model.decision(model.names[0]).items[0]
    prices = [decided.current_price * (1.0 + place / MOST_PRICES) for place in range(MOST_PRICES)]
    tried = WhatIfRequest(item=decided.item, prices=prices)
    for kind, request in (("what-if", tried), ("explanation", ItemRequest(item=decided.item))):
        with contextlib.suppress(PricingError):
            answer(model, kind, canonical(request))


def _tell_model(model: PublishedModel, seconds: float) -> None:
    set_model(model.id, None, seconds)
