r"""The audit: one row for every distinct answer and every change of state, each chained to the row before it.

.. math:: h_n = \mathrm{SHA256}(h_{n-1}, n, \text{id}, \text{time}, \text{kind}, \text{model}, \text{by},
          \mathrm{SHA256}(\text{request}), \mathrm{SHA256}(\text{answer}))

An edited, removed, inserted or reordered row breaks the chain where it stands. Who can write the whole table could
recompute every hash after his edit, so keep a head (``audit verify`` prints it) where he cannot write, and ask later
whether the chain still holds it. How often an answer was served is counted apart from the chain.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.errors import SpecError
from server.store.database import reading, writing
from server.store.failures import NotFound
from server.store.tables import EPOCH, MICROSECOND, audit, audit_counts, audit_head

GENESIS = "0" * 64
ROWS_AT_ONCE = 500
MOST_BREAKS = 100
COUNT = """
INSERT INTO audit_counts (id, served, first_served, last_served)
SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), CAST(value ->> 2 AS BIGINT), CAST(value ->> 3 AS BIGINT)
FROM {rows} WHERE true
ON CONFLICT (id) DO UPDATE SET served = audit_counts.served + excluded.served, last_served = excluded.last_served
"""
"""Without `WHERE`, SQLite takes `ON CONFLICT` for the condition of a join."""
COUNT_SQLITE = sa.text(COUNT.format(rows="json_each(:rows)"))
COUNT_POSTGRESQL = sa.text(COUNT.format(rows="json_array_elements(CAST(:rows AS json))"))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """What is about to be chained; `request` and `answer` are the bytes themselves."""

    id: str
    at: datetime
    kind: str
    model_id: str
    by: str
    request: bytes
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One row of the audit with its counts; `served` is 0 for events, which nobody is served."""

    sequence: int
    id: str
    at: datetime
    kind: str
    model_id: str
    by: str
    request: bytes
    answer: bytes
    row_hash: str
    served: int
    first_served: datetime | None
    last_served: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReport:
    """What a walk along the chain found.

    Attributes
    ----------
    rows : int
    head : str
        ``sequence:hash`` of the last row, to be kept elsewhere and asked for later.
    broken : tuple of str
        Every break, in words, up to a hundred; empty where the chain holds.
    """

    rows: int
    head: str
    broken: tuple[str, ...]


def answer_id(kind: str, model_id: str, request: bytes, answer: bytes) -> str:
    """Content address of an answer: the same question, model and bytes, the same id.

    Examples
    --------
    >>> answer_id("recommendation", "m1", b"{}", b"[1]") == answer_id("recommendation", "m1", b"{}", b"[2]")
    False
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in (kind.encode(), model_id.encode(), request, answer):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def append_entries(connection: Connection, entries: Sequence[NewEntry]) -> int:
    """Chain the entries that the audit does not hold yet, inside the caller's transaction; how many those were."""
    head = connection.execute(sa.select(audit_head).where(audit_head.c.id == 1).with_for_update()).one()
    held = _held(connection, [entry.id for entry in entries])
    new = {entry.id: entry for entry in entries if entry.id not in held}
    if not new:
        return 0
    sequence, previous, rows = head.sequence, head.row_hash, []
    for entry in new.values():
        sequence += 1
        row = {
            "sequence": sequence,
            "id": entry.id,
            "at": entry.at,
            "kind": entry.kind,
            "model_id": entry.model_id,
            "by": entry.by,
            "request": entry.request,
            "answer": zlib.compress(entry.answer, 1),
            "previous_hash": previous,
        }
        previous = _row_hash(previous, sequence, entry, row["answer"])
        rows.append({**row, "row_hash": previous})
    connection.execute(audit.insert(), rows)
    connection.execute(audit_head.update().where(audit_head.c.id == 1).values(sequence=sequence, row_hash=previous))
    return len(rows)


def append_event(connection: Connection, kind: str, by: str, detail: object, *, model_id: str = "") -> str:
    """Chain a change of state inside the transaction that makes it; its id."""
    entry = NewEntry(
        id=secrets.token_hex(16),
        at=datetime.now(UTC),
        kind=kind,
        model_id=model_id,
        by=by,
        request=msgspec.json.encode(detail, order="sorted"),
        answer=b"",
    )
    append_entries(connection, [entry])
    return entry.id


def record_event(engine: Engine, kind: str, by: str, detail: object, *, model_id: str = "") -> str:
    """Chain a change of state in a transaction of its own; its id."""
    with writing(engine) as connection:
        return append_event(connection, kind, by, detail, model_id=model_id)


def add_counts(connection: Connection, counts: Iterable[tuple[str, int, datetime, datetime]]) -> None:
    """Add to how often answers were served: rows of (id, times, first, last).

    One statement takes all rows as JSON, so that the work is the database's and the interpreter is free for requests.
    """
    rows = [(name, n, _moment(first), _moment(last)) for name, n, first, last in counts]
    if rows:
        statement = COUNT_POSTGRESQL if connection.dialect.name == "postgresql" else COUNT_SQLITE
        connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})


def find_entry(engine: Engine, entry_id: str) -> AuditEntry:
    """One row of the audit.

    Raises
    ------
    NotFound
        If there is none with this id (an answer is written within a second of being served).
    """
    with reading(engine) as connection:
        row = connection.execute(_select().where(audit.c.id == entry_id)).first()
    if row is None:
        raise NotFound(f"The audit has no entry {entry_id!r}.")
    return _entry(row)


def list_entries(
    engine: Engine, *, after: int = 0, limit: int = 100, kind: str | None = None, model_id: str | None = None
) -> tuple[AuditEntry, ...]:
    """Rows after a sequence number, oldest first."""
    query = _select().where(audit.c.sequence > after)
    query = query if kind is None else query.where(audit.c.kind == kind)
    query = query if model_id is None else query.where(audit.c.model_id == model_id)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(audit.c.sequence).limit(limit)).all()
    return tuple(_entry(row) for row in rows)


def verify_chain(engine: Engine, expected_head: str | None = None) -> ChainReport:
    """Walk the whole chain and name every break.

    Parameters
    ----------
    engine : Engine
    expected_head : str, optional
        A head that an earlier walk printed; the chain must still hold it.

    Raises
    ------
    SpecError
        If the expected head is not ``sequence:hash``.
    """
    wanted = _read_head(expected_head)
    broken: list[str] = []
    rows, last, previous, found = 0, 0, GENESIS, wanted is None
    with reading(engine) as connection:
        for row in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(
            sa.select(audit).order_by(audit.c.sequence)
        ):
            rows += 1
            broken += _breaks(row, last, previous)
            last, previous = row.sequence, row.row_hash
            found = found or (row.sequence, row.row_hash) == wanted
        head = connection.execute(sa.select(audit_head)).first()
    if head is None or (head.sequence, head.row_hash) != (last, previous):
        said = "nothing" if head is None else f"row {head.sequence}"
        broken.append(f"the chain ends at row {last}, and {said} was written last: rows at the end are missing")
    if not found and wanted is not None:
        broken.append(f"row {wanted[0]} is not what it was when the head {expected_head} was noted")
    return ChainReport(rows=rows, head=f"{last}:{previous}", broken=tuple(broken[:MOST_BREAKS]))


def _breaks(row: sa.Row[tuple[object, ...]], last: int, previous: str) -> list[str]:
    found = []
    if row.sequence != last + 1:
        between = f"row {last + 1} is" if row.sequence == last + 2 else f"rows {last + 1} to {row.sequence - 1} are"
        found.append(f"{between} missing")
    if row.previous_hash != previous:
        found.append(f"row {row.sequence} does not follow the row before it")
    if _row_hash(row.previous_hash, row.sequence, row, row.answer) != row.row_hash:
        found.append(f"row {row.sequence} ({row.kind} {row.id}) was changed after it was written")
    return found


def _row_hash(previous: str, sequence: int, entry: NewEntry | sa.Row[tuple[object, ...]], answer: object) -> str:
    parts = [
        previous,
        str(sequence),
        entry.id,
        str(_moment(entry.at)),
        entry.kind,
        entry.model_id,
        entry.by,
        hashlib.sha256(entry.request).hexdigest(),
        hashlib.sha256(answer).hexdigest(),  # type: ignore[arg-type]  # bytes of the column
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def _moment(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _held(connection: Connection, ids: list[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(ids), ROWS_AT_ONCE):
        part = ids[start : start + ROWS_AT_ONCE]
        found.update(connection.execute(sa.select(audit.c.id).where(audit.c.id.in_(part))).scalars())
    return found


def _read_head(head: str | None) -> tuple[int, str] | None:
    if head is None:
        return None
    sequence, _, row_hash = head.partition(":")
    if not sequence.isdecimal() or len(row_hash) != len(GENESIS):
        raise SpecError(f"The head {head!r} is not SEQUENCE:HASH as `audit verify` prints it.")
    return int(sequence), row_hash


def _select() -> sa.Select[tuple[object, ...]]:
    counts = audit_counts.c
    return sa.select(audit, counts.served, counts.first_served, counts.last_served).join_from(
        audit, audit_counts, audit.c.id == counts.id, isouter=True
    )


def _entry(row: sa.Row[tuple[object, ...]]) -> AuditEntry:
    return AuditEntry(
        sequence=row.sequence,
        id=row.id,
        at=row.at,
        kind=row.kind,
        model_id=row.model_id,
        by=row.by,
        request=row.request,
        answer=zlib.decompress(row.answer),
        row_hash=row.row_hash,
        served=row.served or 0,
        first_served=row.first_served,
        last_served=row.last_served,
    )
