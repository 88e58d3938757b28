"""The audit: one row per distinct answer, counts apart, and no edit, loss or swap goes unseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bayes_pricing.errors import SpecError
from server.store.audit import answer_id, find_entry, list_entries, record_event, verify_chain
from server.store.audit_writer import AuditWriter
from server.store.database import connect, writing
from server.store.failures import NotFound, StoreUnavailable
from server.store.tables import audit, audit_counts, audit_head
from tests.stores import BOTH, opened


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with opened(request, tmp_path) as engine:
        yield engine


def serve(engine: Engine, numbers: range) -> list[str]:
    writer = AuditWriter(engine)
    names = [writer.served("recommendation", "m1", b'{"item":%d}' % n, b'{"price":%d}' % n) for n in numbers]
    writer.flush()
    return names


def test_same_answer_is_one_row_with_counts(engine: Engine) -> None:
    first, second = AuditWriter(engine), AuditWriter(engine)
    name = first.served("recommendation", "m1", b"q", b"a")
    assert name == answer_id("recommendation", "m1", b"q", b"a")
    assert second.served("recommendation", "m1", b"q", b"a") == name
    first.again(name)
    first.flush()
    second.flush()
    first.served("recommendation", "m1", b"q", b"a")
    first.flush()
    entry = find_entry(engine, name)
    assert (entry.request, entry.answer, entry.served) == (b"q", b"a", 4)
    assert entry.first_served is not None
    assert entry.last_served is not None
    assert entry.first_served <= entry.last_served
    assert len(list_entries(engine)) == 1


def test_chain_holds_over_answers_and_events(engine: Engine) -> None:
    serve(engine, range(1200))  # several batches
    record_event(engine, "key_created", "operator", {"key": "k"})
    report = verify_chain(engine)
    assert (report.rows, report.broken) == (1201, ())
    assert report.head.startswith("1201:")
    serve(engine, range(5000, 5010))
    assert verify_chain(engine, expected_head=report.head).broken == ()
    assert [entry.sequence for entry in list_entries(engine, after=1200, limit=2)] == [1201, 1202]
    assert [entry.kind for entry in list_entries(engine, kind="key_created")] == ["key_created"]


@pytest.mark.parametrize("column", ["id", "at", "kind", "model_id", "by", "request", "answer", "row_hash"])
def test_edited_row_is_found(engine: Engine, column: str) -> None:
    serve(engine, range(5))
    with writing(engine) as connection:
        value = connection.execute(sa.select(audit.c[column]).where(audit.c.sequence == 4)).scalar()
        connection.execute(audit.update().where(audit.c.sequence == 3).values({column: _other(value)}))
    broken = verify_chain(engine).broken
    assert any("row 3" in line or "row 4 does not follow" in line for line in broken)


def _other(value: object) -> object:
    """Another value of the same type."""
    if isinstance(value, str):
        return value[::-1] + "x" if len(value) < 20 else value[::-1]
    if isinstance(value, bytes):
        return value + b"x"
    from datetime import datetime, timedelta

    assert isinstance(value, datetime)
    return value + timedelta(microseconds=7)


def test_removed_reordered_and_cut_rows_are_found(engine: Engine) -> None:
    serve(engine, range(6))
    head = verify_chain(engine).head
    with writing(engine) as connection:
        for old, new in ((2, 100), (3, 2), (100, 3)):
            connection.execute(audit.update().where(audit.c.sequence == old).values(sequence=new))
    assert any("does not follow" in line for line in verify_chain(engine).broken)
    with writing(engine) as connection:
        connection.execute(audit.delete().where(audit.c.sequence == 5))
    assert any("row 5 is missing" in line for line in verify_chain(engine).broken)
    with writing(engine) as connection:
        connection.execute(audit.delete().where(audit.c.sequence > 1))
    assert any("rows at the end are missing" in line for line in verify_chain(engine).broken)
    with writing(engine) as connection:  # who cuts the end and mends the head too is caught by a head kept elsewhere
        row = connection.execute(sa.select(audit)).one()
        connection.execute(audit_head.update().values(sequence=row.sequence, row_hash=row.row_hash))
    assert verify_chain(engine).broken == ()
    assert "row 6 is not what it was" in verify_chain(engine, expected_head=head).broken[0]


def test_counts_do_not_touch_the_chain(engine: Engine) -> None:
    serve(engine, range(3))
    with writing(engine) as connection:
        connection.execute(audit_counts.update().values(served=99))
    assert verify_chain(engine).broken == ()


def test_nothing_is_lost_while_the_database_is_locked(engine: Engine) -> None:
    impatient = connect(engine.url.render_as_string(hide_password=False), busy_seconds=0.01)
    writer = AuditWriter(impatient, queue_bytes=10)
    with writing(engine) as connection:
        connection.execute(sa.select(audit_head).with_for_update())  # SQLite is locked as a whole already
        name = writer.served("recommendation", "m1", b"12345", b"1234")
        with pytest.raises(StoreUnavailable, match="does not answer"):
            writer.flush()
        writer.again(name)
        with pytest.raises(StoreUnavailable, match="queue is full"):
            writer.served("recommendation", "m1", b"12345", b"5678")
        assert writer.waiting() == 1
    writer.flush()
    assert find_entry(engine, name).served == 2
    impatient.dispose()


def test_stop_writes_what_waits(engine: Engine) -> None:
    writer = AuditWriter(engine, flush_seconds=3600)
    writer.start()
    name = writer.served("recommendation", "m1", b"q", b"a")
    with pytest.raises(NotFound):
        find_entry(engine, name)
    writer.stop()
    assert find_entry(engine, name).served == 1


def test_unreadable_head_is_refused(engine: Engine) -> None:
    with pytest.raises(SpecError, match="SEQUENCE:HASH"):
        verify_chain(engine, expected_head="12")
