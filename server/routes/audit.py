"""The audit: every distinct answer that was given, how often, and who changed what is live."""

from __future__ import annotations

from typing import Any

import msgspec

from server.cursors import cursor_of, read_number
from server.operations import Ask, Operation, Reply, in_thread, page, reply
from server.schemas import AuditQuery, NoQuery
from server.store.audit import AuditEntry, find_entry, list_entries


async def list_audit(ask: Ask[AuditQuery, None]) -> Reply:
    """Entries in the order of the chain, without the answers themselves."""
    query, after = ask.query, read_number(ask.query.cursor)
    found = await in_thread(
        lambda: list_entries(
            ask.service.engine, after=after, limit=query.limit + 1, kind=query.kind, model_id=query.model
        )
    )
    rows = [about_entry(entry) for entry in found[: query.limit]]
    more = len(found) > query.limit
    return page(rows, cursor_of(found[query.limit - 1].sequence) if more else None)


async def read_audit(ask: Ask[NoQuery, None]) -> Reply:
    """One entry with request and answer as they were."""
    entry = await in_thread(find_entry, ask.service.engine, ask.path["entry"])
    parts = {"request": entry.request.decode(), "answer": entry.answer.decode()}
    return reply({**about_entry(entry), **parts})


def about_entry(entry: AuditEntry) -> dict[str, Any]:
    """An entry without its bytes."""
    plain: dict[str, Any] = msgspec.to_builtins(entry)
    return {name: value for name, value in plain.items() if name not in ("request", "answer")}


OPERATIONS = (
    Operation(
        method="GET", path="/v1/audit", handler=list_audit, query=AuditQuery, answer="AuditPage", scope="audit:read",
    ),
    Operation(
        method="GET", path="/v1/audit/{entry:str}", handler=read_audit, answer="AuditAnswer", scope="audit:read",
        problems=(404,),
    ),
)  # fmt: skip
