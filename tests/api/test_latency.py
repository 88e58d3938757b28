"""What keeps the tail of the latency short: nothing large for the collector to walk through, thrifty audit writes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from litestar.testing import TestClient
from prometheus_client import generate_latest

from server.answers import answer, canonical
from server.app import create_app
from server.schemas import WhatIfRequest
from server.settings import Settings
from server.store import published
from server.store.audit_writer import AuditWriter
from server.store.database import open_database, reading
from server.store.tables import audit, audit_counts
from tests.api.running import Shop, market, open_shop

SETTLED = """
import gc, sys
from server.serving import LOADED_ONCE, settle_memory
import importlib
for name in LOADED_ONCE:
    importlib.import_module(name)
before = len(gc.get_objects())
settle_memory()
print(before, len(gc.get_objects()))
import server.client, server.store.published, server.answers, server.openapi
print(*(name for name in ("pymc", "pytensor", "nutpie") if name in sys.modules))
"""


def test_what_is_loaded_is_no_sampler_and_for_good_out_of_the_collectors_sight() -> None:
    done = subprocess.run([sys.executable, "-c", SETTLED], capture_output=True, text=True, check=True)
    counts, samplers = done.stdout.splitlines()
    before, after = map(int, counts.split())
    assert samplers == ""
    assert before > 50_000  # a walk through so many takes tens of milliseconds, in which nobody is answered
    assert after < 1_000


def test_a_process_says_when_it_is_warm(shop: Shop) -> None:
    warm = threading.Event()
    with TestClient(create_app(shop.settings, warmed=warm.set)):
        assert warm.wait(120)
    assert b"bp_processes_warm 1.0" in generate_latest()


def test_what_a_process_keeps_of_a_model_does_not_grow_with_its_items(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "MOST_KEPT", 2)
    model = published.load_published(shop.settings.published_dir, shop.model)
    for item in model.names:
        answer(model, "what-if", canonical(WhatIfRequest(item=item, prices=[5.0])))
    assert list(model.kept) == list(model.names[-2:])


def test_a_process_without_a_model_is_warm_when_one_is_live(tmp_path: Path) -> None:
    warm = threading.Event()
    settings = Settings(data_dir=tmp_path, runtime_dir=tmp_path / "run", poll_seconds=0.05)
    with TestClient(create_app(settings, warmed=warm.set)):
        assert not warm.is_set()
        open_shop(tmp_path, market(2, 100))
        assert warm.wait(120)


def test_counts_are_written_apart_and_in_one_statement(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/server.db")
    statements: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    writer = AuditWriter(engine)
    names = [writer.served("recommendation", "m1", b"%d" % number, b"answer") for number in range(3)]
    writer.flush(counts=False)
    with reading(engine) as connection:
        assert set(connection.execute(sa.select(audit.c.id)).scalars()) == set(names)
    assert not [statement for statement in statements if "INTO audit_counts" in statement]
    for name in names * 100:
        writer.again(name)
    writer.stop()
    assert len([statement for statement in statements if "INTO audit_counts" in statement]) == 1
    with reading(engine) as connection:
        found = connection.execute(sa.select(audit_counts.c.id, audit_counts.c.served)).all()
    assert {row.id: row.served for row in found} == dict.fromkeys(names, 101)
    engine.dispose()
