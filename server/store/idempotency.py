"""Idempotency keys: a request that is sent twice is done once, and answered the same both times."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from server.store.database import writing
from server.store.failures import IdempotencyInFlight, IdempotencyMismatch
from server.store.tables import idempotency, insert_new

LEASE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """Leave to do the request; `operation` names it for whatever must not be done twice."""

    operation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The answer that was given the first time."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def begin(
    engine: Engine, *, key: str, principal_id: str, route: str, body: bytes, hours: float = 24.0
) -> Ticket | StoredAnswer:
    """Ask whether a request was answered before; if not, take it on.

    A record of a process that is no more (on this host), or that is silent for a minute (on another), is taken over:
    the request may have been done, so do it under `Ticket.operation`, which finds what was done.

    Raises
    ------
    IdempotencyMismatch
        If the key came with another body before.
    IdempotencyInFlight
        If the first request is still being answered.
    StoreUnavailable
        If the database does not answer.

    Examples
    --------
    >>> import tempfile
    >>> from server.store.database import open_database
    >>> folder = tempfile.TemporaryDirectory()
    >>> engine = open_database(f"sqlite:///{folder.name}/server.db")
    >>> asked = {"key": "k1", "principal_id": "shop", "route": "POST /v1/fits", "body": b"{}"}
    >>> ticket = begin(engine, **asked)
    >>> complete(engine, ticket, StoredAnswer(status=202, headers={}, body=b"done"))
    >>> begin(engine, **asked).body
    b'done'
    >>> engine.dispose(); folder.cleanup()
    """
    now = datetime.now(UTC)
    operation = hashlib.sha256("\x00".join((principal_id, route, key)).encode()).hexdigest()
    digest = hashlib.sha256(body).hexdigest()
    with writing(engine) as connection:
        row = _claim(connection, operation, digest, now, timedelta(hours=hours))
        if row is None:
            return Ticket(operation=operation)
        if row.body_digest != digest:
            raise IdempotencyMismatch(
                "This idempotency key came with another request before; use a new key for a new request."
            )
        if row.status is not None:
            return StoredAnswer(status=row.status, headers=row.headers, body=row.answer)
        if row.lease_until > now and _alive(row.owner):
            raise IdempotencyInFlight(
                "The first request with this idempotency key is still in work; ask again shortly."
            )
        connection.execute(
            idempotency.update()
            .where(idempotency.c.operation == operation)
            .values(owner=process_name(), lease_until=now + LEASE)
        )
    return Ticket(operation=operation)


def complete(engine: Engine, ticket: Ticket, answer: StoredAnswer) -> None:
    """Keep the answer for the next time the request comes."""
    with writing(engine) as connection:
        connection.execute(
            idempotency.update()
            .where(idempotency.c.operation == ticket.operation)
            .values(owner=None, status=answer.status, headers=dict(answer.headers), answer=answer.body)
        )


def abandon(engine: Engine, ticket: Ticket) -> None:
    """Forget a request that failed on our side: the next one with its key is done anew."""
    with writing(engine) as connection:
        connection.execute(idempotency.delete().where(idempotency.c.operation == ticket.operation))


def process_name() -> str:
    """Host, number and start of this process: enough to know later whether it still runs."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _claim(
    connection: Connection, operation: str, digest: str, now: datetime, kept: timedelta
) -> sa.Row[tuple[object, ...]] | None:
    """None where the record was free and is ours now; else the record."""
    connection.execute(idempotency.delete().where(idempotency.c.expires_at <= now))
    values = {
        "operation": operation,
        "body_digest": digest,
        "owner": process_name(),
        "lease_until": now + LEASE,
        "expires_at": now + kept,
    }
    if insert_new(connection, idempotency, values):
        return None
    query = sa.select(idempotency).where(idempotency.c.operation == operation).with_for_update()
    return connection.execute(query).one()


def _alive(owner: str | None) -> bool:
    """Whether the process still runs; where that cannot be known it gets the benefit of the doubt."""
    host, number, started = (owner or "::").rsplit(":", 2)
    if host != socket.gethostname() or not started:
        return True
    return _started(int(number)) == started


def _started(number: int) -> str:
    """When a process began, in ticks since the machine did; empty where it runs no more or the system does not say."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""
