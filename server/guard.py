"""The guard in front of every request: id, key, rate, room, idempotency, time; and what every answer carries."""

from __future__ import annotations

import logging
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import anyio
import anyio.to_thread
import msgspec
from litestar.enums import ScopeType

from bayes_pricing.errors import PricingError
from server.logs import RequestLog, log_request
from server.metrics import observe_request
from server.problems import MEDIA_TYPE, Failure, problem_of
from server.routes import allowed_methods
from server.short_way import asked_item, send_ready
from server.store.idempotency import StoredAnswer, Ticket, abandon, begin, complete
from server.store.keys import ANYBODY, Principal

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from server.service import Service

OPEN = ("/health/", "/schema", "/problems/")
"""Addresses that need no key."""
UNHURRIED = "/events"
"""Streams may last."""
SLASH_INSIDE = "\x1f"
"""Stands for a slash that is part of a name, so that the path is not split there."""
ENCODED_SLASH = re.compile(rb"%2[fF]")
INBOUND_ID = re.compile(rb"[A-Za-z0-9_-]{8,64}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,200}")
LOGGER = logging.getLogger("bayes_pricing.server")
SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        b"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
]


@dataclass(slots=True)
class Passage:
    """What the guard knows of one request on its way out."""

    request_id: str
    started: float
    principal: Principal | None = None
    status: int = 0
    answer: bytearray | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


class Guard:
    """ASGI door around the application; every error it raises is a problem of the one form.

    Parameters
    ----------
    inner : ASGIApp
        The application's own handler.
    app : Litestar
        Its state holds settings and, once started, the service.
    """

    def __init__(self, inner: ASGIApp, app: Litestar) -> None:
        self._inner, self._app = inner, app
        self._settings = app.state.settings
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with a problem."""
        if scope["type"] != ScopeType.HTTP:
            await self._inner(scope, receive, send)
            return
        given = {name: value for name, value in scope["headers"] if name in WANTED}
        inbound = given.get(b"x-request-id", b"")
        passage = Passage(
            request_id=inbound.decode() if INBOUND_ID.fullmatch(inbound) else secrets.token_hex(8),
            started=time.perf_counter(),
        )
        out = self._outward(passage, send)
        self._in_flight += 1
        try:
            await self._admit(scope, given, receive, out, passage)
        except (PricingError, TimeoutError) as error:
            if passage.status:
                raise
            await send_problem(error, passage.request_id, out)
        finally:
            self._in_flight -= 1
            self._tell(scope, passage)

    async def _admit(
        self, scope: Scope, given: dict[bytes, bytes], receive: Receive, send: Send, passage: Passage
    ) -> None:
        path = scope["path"]
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = passage.request_id
        self._require_host(given)
        if b"%2f" in scope.get("raw_path", b"").lower():
            scope["path"] = unquote(ENCODED_SLASH.sub(SLASH_INSIDE.encode(), scope["raw_path"]).decode("latin-1"))
            path = scope["path"]
        if path.startswith(OPEN):
            if method_of(scope) == "OPTIONS":
                await _tell_methods(path, send)
            else:
                await self._inner(scope, receive, send)
            return
        service: Service = self._app.state.service
        if self._in_flight > self._settings.in_flight_limit:
            raise Failure("unavailable", "Too many requests are in work; come again shortly.")
        principal = self._authenticate(service, given)
        passage.principal = state["principal"] = principal
        wait = service.limiter.take(principal.key_id, 1.0, principal.rate_per_second)
        if wait > 0:
            raise Failure(
                "rate-limited",
                f"The key {principal.name!r} has used up its rate; wait {wait:.2f} seconds.",
                headers={"retry-after": str(max(int(wait + 0.999), 1))},
            )
        if method_of(scope) == "OPTIONS":
            await _tell_methods(path, send)
            return
        item = asked_item(scope, principal)
        if item is not None and await send_ready(scope, item.replace(SLASH_INSIDE, "/"), service, given, send):
            return
        if path.endswith(UNHURRIED):
            await self._inner(scope, receive, send)
            return
        with anyio.fail_after(self._settings.request_seconds):
            key = given.get(b"idempotency-key")
            if key is None or method_of(scope) not in ("POST", "PUT"):
                await self._inner(scope, receive, send)
            else:
                await self._once(service, key, scope, receive, send, passage)

    def _authenticate(self, service: Service, given: dict[bytes, bytes]) -> Principal:
        if not self._settings.keys_required:
            return ANYBODY
        kind, _, token = given.get(b"authorization", b"").decode("latin-1").partition(" ")
        return service.keys.authenticate(token.strip() if kind.lower() == "bearer" else "")

    def _require_host(self, given: dict[bytes, bytes]) -> None:
        allowed = self._settings.allowed_hosts
        if allowed and given.get(b"host", b"").decode("latin-1").rsplit(":", 1)[0] not in allowed:
            raise Failure("invalid-request", "This server does not answer to the name in the Host header.")

    async def _once(
        self, service: Service, key: bytes, scope: Scope, receive: Receive, send: Send, passage: Passage
    ) -> None:
        """Answer a request with an idempotency key: as before where it came before, else now, and remember."""
        text = key.decode("latin-1")
        if not IDEMPOTENCY_KEY.fullmatch(text):
            raise Failure("invalid-request", "Idempotency-Key must be 1 to 200 visible ASCII characters.")
        body = await self._read(receive)
        principal = passage.principal or ANYBODY
        found = await anyio.to_thread.run_sync(
            lambda: begin(
                service.engine,
                key=text,
                principal_id=principal.key_id,
                route=f"{method_of(scope)} {scope['path']}",
                body=body,
                hours=self._settings.idempotency_hours,
            )
        )
        if isinstance(found, StoredAnswer):
            await _replay(found, send)
            return
        scope["state"]["operation"] = found.operation
        passage.answer = bytearray()
        done = False
        try:
            await self._inner(scope, _given_body(body, receive), send)
            done = passage.status < 500
        finally:
            with anyio.CancelScope(shield=True):
                await self._close(service, found, passage, done=done)

    async def _close(self, service: Service, ticket: Ticket, passage: Passage, *, done: bool) -> None:
        if not done:
            await anyio.to_thread.run_sync(abandon, service.engine, ticket)
            return
        kept = {name.decode(): value.decode("latin-1") for name, value in passage.headers if name not in PER_REQUEST}
        stored = StoredAnswer(status=passage.status, headers=kept, body=bytes(passage.answer or b""))
        await anyio.to_thread.run_sync(complete, service.engine, ticket, stored)

    async def _read(self, receive: Receive) -> bytes:
        body = bytearray()
        while True:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                raise Failure("invalid-request", "The client left before its body was complete.")
            body += message["body"]
            if len(body) > self._settings.bulk_body_limit:
                raise Failure("body-too-large", f"A body may have {self._settings.bulk_body_limit} bytes at most.")
            if not message["more_body"]:
                return bytes(body)

    def _outward(self, passage: Passage, send: Send) -> Send:
        async def out(message: Message) -> None:
            if message["type"] == "http.response.start":
                passage.status = message["status"]
                passage.headers = list(message["headers"])
                message["headers"] = [
                    *passage.headers, (b"x-request-id", passage.request_id.encode()), *SECURITY_HEADERS
                ]  # fmt: skip
            elif message["type"] == "http.response.body" and passage.answer is not None:
                passage.answer += message["body"]
            await send(message)

        return out

    def _tell(self, scope: Scope, passage: Passage) -> None:
        seconds = time.perf_counter() - passage.started
        route = str(scope.get("path_template") or "unknown")
        status = passage.status or 500
        observe_request(method_of(scope), route, status, seconds)
        client = scope.get("client")
        entry = RequestLog(
            request_id=passage.request_id,
            method=method_of(scope),
            route=route,
            status=status,
            seconds=seconds,
            key_id="" if passage.principal is None else passage.principal.key_id,
            client="" if client is None else str(client[0]),
        )
        log_request(entry, self._settings.log_share)


WANTED = frozenset((b"authorization", b"x-request-id", b"idempotency-key", b"host", b"if-none-match"))
PER_REQUEST = frozenset((b"x-request-id", b"date", b"server", b"connection", b"content-length"))


def method_of(scope: Scope) -> str:
    """The request's method."""
    return str(scope.get("method", ""))


async def send_problem(error: BaseException, request_id: str, send: Send) -> None:
    """Answer with the problem an exception means."""
    problem, headers = problem_of(error, request_id)
    if problem.status >= 500 and problem.type.endswith("failed"):
        LOGGER.error("failed", exc_info=error, extra={"fields": {"request_id": request_id}})
    content = msgspec.json.encode(problem)
    await send(
        {
            "type": "http.response.start",
            "status": problem.status,
            "headers": [
                (b"content-type", MEDIA_TYPE.encode()),
                (b"content-length", str(len(content)).encode()),
                (b"cache-control", b"no-store"),
                *((name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": content, "more_body": False})


async def _tell_methods(path: str, send: Send) -> None:
    methods = allowed_methods(path)
    if not methods:
        raise Failure("not-found", f"There is no address {path!r}; see /schema.")
    allow = (b"allow", ", ".join(methods).encode())
    await send({"type": "http.response.start", "status": 204, "headers": [allow]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _replay(stored: StoredAnswer, send: Send) -> None:
    headers = [(name.encode(), value.encode("latin-1")) for name, value in stored.headers.items()]
    headers += [(b"idempotency-replayed", b"true"), (b"content-length", str(len(stored.body)).encode())]
    await send({"type": "http.response.start", "status": stored.status, "headers": headers})
    await send({"type": "http.response.body", "body": stored.body, "more_body": False})


def _given_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands over a body that was read already, then whatever comes."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
