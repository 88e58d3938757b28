"""The running server under fire: killed, locked, filled, corrupted, stopped under load, asked by the slow."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from server.commands import StoreFlags, replay
from server.settings import Settings
from server.store.aliases import current_alias
from server.store.audit import list_entries, verify_chain
from server.store.database import open_database, reading
from server.store.tables import audit, audit_counts
from tests.api.running import Shop, market, open_shop
from tests.faults.running import ITEM, Running, eventually, kill, promote_in_store, second_model, serving
from tests.support import require

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")

PATIENCE = 6
"""Seconds that the server waits for a slow request; those of the tests are quick, even where others use the machine."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return open_shop(tmp_path_factory.mktemp("shop"), market())


@pytest.fixture(scope="module")
def others(shop: Shop) -> tuple[str, str]:
    """Two published models beside the one that was live first."""
    return second_model(shop, 11), second_model(shop, 12)


@pytest.fixture(scope="module")
def running(shop: Shop) -> Iterator[Running]:
    patient = replace(shop, settings=replace(shop.settings, database_url=f"{shop.settings.database_url}?timeout=1"))
    with serving(patient, environ={"REQUEST_SECONDS": str(PATIENCE), "NOTICE_SECONDS": "5"}) as server:
        yield server


def model_of(answer: httpx.Response) -> str:
    """The model that an answer names."""
    found: str = answer.json()["model"]
    return found


def version(running: Running) -> int:
    engine = open_database(running.shop.settings.database_url)
    alias = current_alias(engine)
    engine.dispose()
    return 0 if alias is None else alias.version


def test_killed_process_is_replaced_and_others_go_on(running: Running) -> None:
    before = running.processes()
    assert len(before) == 2
    kill(before[0])
    assert eventually(lambda: len(set(running.processes()) - set(before)) == 1)
    with running.client() as client:
        assert eventually(lambda: client.get(ITEM).status_code == 200)


def test_killed_mid_request_with_a_key_is_done_once(running: Running, others: tuple[str, str]) -> None:
    shop = running.shop
    engine = open_database(shop.settings.database_url)
    for trial, delay in enumerate((0.0, 0.004, 0.01, 0.02)):
        seen = version(running)
        headers = {"If-Match": f'"{seen}"', "Idempotency-Key": f"promotion-{trial}"}
        body = {"model": others[trial % 2], "reason": "trial", "override_gate": True}

        def ask(headers: dict[str, str] = headers, body: dict[str, object] = body) -> httpx.Response:
            with running.client() as client:
                return client.put("/v1/aliases/champion", json=body, headers=headers)

        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(ask)
            time.sleep(delay)
            for number in running.processes():
                kill(number)
            first.exception(timeout=120)  # an answer, or a broken connection
        last: list[httpx.Response] = []

        def answered(last: list[httpx.Response] = last) -> bool:
            last.append(ask())
            return last[-1].status_code != 409  # 409: a process not yet known to be dead holds it

        assert eventually(answered)
        assert last[-1].status_code == 200, last[-1].text
        assert last[-1].json()["version"] == seen + 1
        assert version(running) == seen + 1
    assert verify_chain(engine).broken == ()
    engine.dispose()


def test_of_two_promotions_at_once_one_wins(running: Running, others: tuple[str, str]) -> None:
    seen = version(running)
    start = threading.Barrier(2)

    def ask(model: str) -> int:
        with running.client() as client:
            start.wait()
            body = {"model": model, "reason": "race", "override_gate": True}
            return client.put("/v1/aliases/champion", json=body, headers={"If-Match": f'"{seen}"'}).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(ask, others))
    assert statuses == [200, 412]
    assert version(running) == seen + 1


def test_every_process_serves_the_new_version(running: Running, others: tuple[str, str]) -> None:
    """How soon, `simulations.benchmarks.server` measures; here the setting leaves room: a look every half second."""
    engine = open_database(running.shop.settings.database_url)
    model = others[0] if current(engine) == others[1] else others[1]
    engine.dispose()
    promote_in_store(running.shop, model, version(running))
    assert 4 * Settings().poll_seconds <= 2.0

    def all_new() -> bool:  # thirty connections, spread over both processes
        return {json.loads(running.get(ITEM)[1])["model"] for _ in range(30)} == {model}

    assert eventually(all_new)


def test_damaged_file_leaves_the_old_version_live(running: Running) -> None:
    shop, model = running.shop, second_model(running.shop, 41)
    folder = shop.settings.published_dir / model
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    whole = path.read_bytes()
    path.chmod(0o644)
    with running.client() as client:
        old = model_of(client.get(ITEM))
        for damaged in (whole[:100] + bytes([whole[100] ^ 1]) + whole[101:], whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            promote_in_store(shop, model, version(running))
            assert eventually(lambda: all(_says_so(running) for _ in range(10)))
            assert {model_of(client.get(ITEM)) for _ in range(6)} == {old}
            tag = {"If-Match": f'"{version(running)}"'}
            assert client.post("/v1/aliases/champion/rollback", json={}, headers=tag).status_code == 200
            assert eventually(lambda: all(_ready(running) for _ in range(10)))


def _says_so(running: Running) -> bool:
    status, content = running.get("/health/ready")
    return status == 503 and "the model before stays live" in (json.loads(content)["reason"] or "")


def _ready(running: Running) -> bool:
    return running.get("/health/ready")[0] == 200


def test_locked_database_is_503_for_writers_and_nothing_is_lost(running: Running) -> None:
    path = Path(running.shop.settings.database_url.partition("///")[2].partition("?")[0])
    engine = open_database(running.shop.settings.database_url)
    with running.client() as client:
        tag = {"If-Match": f'"{version(running)}"'}
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        answers = [client.get(f"/v1/items/item-0000{n}/explanation") for n in range(3)]
        body = {"model": current(engine), "reason": "while locked", "override_gate": True}
        refused = client.put("/v1/aliases/champion", json=body, headers=tag)
        lock.execute("ROLLBACK")
        lock.close()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert refused.status_code == 503
    assert refused.headers["content-type"] == "application/problem+json"
    assert int(refused.headers["retry-after"]) >= 1
    assert tag == {"If-Match": f'"{version(running)}"'}
    names = {answer.headers["audit-id"] for answer in answers}

    def all_written() -> bool:
        with reading(engine) as connection:
            return set(connection.execute(sa.select(audit.c.id).where(audit.c.id.in_(names))).scalars()) == names

    assert eventually(all_written)
    engine.dispose()


def current(engine: sa.Engine) -> str:
    alias = current_alias(engine)
    assert alias is not None
    return alias.model_id


def test_audited_answers_come_out_again_byte_for_byte(running: Running) -> None:
    folder = running.shop.settings.data_dir
    with running.client() as client:
        answers = [client.get(ITEM), client.get("/v1/items/item-00002/explanation"), client.get(ITEM)]
        names = [answer.headers["audit-id"] for answer in answers]
    assert names[0] == names[2] != names[1]
    engine = open_database(running.shop.settings.database_url)
    assert eventually(lambda: {names[0], names[1]} <= {entry.id for entry in list_entries(engine, limit=1000)})
    engine.dispose()
    for answer, name in zip(answers, names, strict=True):
        again = replay(name, flags=StoreFlags(data_dir=folder))
        assert (again.exit_code, again.document["reproduced"]) == (0, True)
        assert str(again.document["answer"]).encode() == answer.content


def test_slow_client_is_hung_up_on_while_others_are_answered(running: Running) -> None:
    host, port = running.address.removeprefix("http://").split(":")
    slow = [socket.create_connection((host, int(port))) for _ in range(20)]
    began = time.monotonic()
    for connection in slow:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    with running.client() as client:
        assert {client.get(ITEM).status_code for _ in range(20)} == {200}
    for connection in slow:
        connection.settimeout(120)
        assert connection.recv(1000) == b""  # hung up
        connection.close()
    assert time.monotonic() - began >= PATIENCE - 0.5  # not before, and `recv` says that it comes


def test_idle_connections_stay(running: Running) -> None:
    """An asker that comes again on its connection after a while is answered: the server is not the one who ends it."""
    host, port = running.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        for pause in (PATIENCE, 0):  # longer than a request may take, and than the HTTP server's own five seconds
            connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):  # head and body may come apart
                answer += connection.recv(10_000)
            assert answer.startswith(b"HTTP/1.1 200")
            assert b"connection: close" not in answer.lower()
            time.sleep(pause)


def test_many_connect_at_once(running: Running) -> None:
    """Three hundred connections in one moment, one process just replaced: each is answered."""
    before = running.processes()
    kill(before[0])
    host, port = running.address.removeprefix("http://").split(":")
    connections = [socket.create_connection((host, int(port)), timeout=120) for _ in range(300)]
    for connection in connections:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answers = {whole(connection)[:12] for connection in connections}
    assert answers == {b"HTTP/1.1 200"}
    assert eventually(lambda: len(set(running.processes()) - set(before)) == 1)


def whole(connection: socket.socket) -> bytes:
    """All that comes until the other side ends."""
    found = b""
    with connection:
        while part := connection.recv(10_000):
            found += part
    return found


def test_full_disk_is_503_and_nothing_is_lost(tmp_path: Path) -> None:
    require(os.geteuid() == 0, "a small disk can be mounted by root only")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True, check=False
    )
    require(mounted.returncode == 0, "this machine does not let a small disk be mounted")
    try:
        _fill_and_free(open_shop(tmp_path / "data", market(), database_url=f"sqlite:///{small}/server.db"), small)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def _fill_and_free(shop: Shop, small: Path) -> None:
    with serving(shop, workers=1) as server, server.client() as client:
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        tag = {"If-Match": '"1"'}
        body = {"model": shop.model, "reason": "full", "override_gate": True}
        refused = client.put("/v1/aliases/champion", json=body, headers=tag)
        assert refused.status_code == 503, refused.text
        assert "full" in json.loads(refused.content)["detail"]
        answer = client.get("/v1/items/item-00001/explanation")
        assert answer.status_code == 200
        time.sleep(0.5)  # the audit tries, and waits
        filler.unlink()
        engine = open_database(shop.settings.database_url)

        def written() -> bool:
            with reading(engine) as connection:
                found = sa.select(audit.c.id).where(audit.c.id == answer.headers["audit-id"])
                return connection.execute(found).scalar() is not None

        assert eventually(written)
        with server.client() as later:  # the first connection may have been idle for too long
            assert later.put("/v1/aliases/champion", json=body, headers=tag).status_code == 200
        assert verify_chain(engine).broken == ()
        engine.dispose()


def served(engine: sa.Engine) -> int:
    """Answers that the audit has counted."""
    with reading(engine) as connection:
        return int(connection.execute(sa.select(sa.func.sum(audit_counts.c.served))).scalar() or 0)


def settled_count(running: Running) -> int:
    """Answers counted, when nothing more is waiting to be written."""
    engine = open_database(running.shop.settings.database_url)
    found, before = served(engine), -1
    while found != before:
        time.sleep(2.5)  # the writer counts every second
        found, before = served(engine), found
    engine.dispose()
    return found


@pytest.mark.slow
def test_stop_under_load_fails_no_request_and_audits_every_answer(running: Running) -> None:
    """Last, as it ends the server."""
    before = settled_count(running)
    counts = {"answered": 0, "failed": 0}
    failures: list[str] = []
    lock = threading.Lock()

    def load(number: int) -> None:
        """Ask until told to go, as a load balancer would: at `Connection: close` look whether it is ready."""
        with running.client() as client:
            while True:
                try:
                    answer = client.get(f"/v1/items/item-0000{number % 6}/recommendation")
                except httpx.TransportError as error:
                    with lock:
                        counts["failed"] += 1
                        failures.append(repr(error))
                    return
                with lock:
                    counts["answered" if answer.status_code == 200 else "failed"] += 1
                if answer.headers.get("connection") == "close":
                    return

    threads = [threading.Thread(target=load, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    running.supervisor.terminate()
    assert eventually(lambda: running.get("/health/ready")[0] == 503)
    for thread in threads:
        thread.join()
    assert running.supervisor.wait(timeout=120) == 0
    assert counts["failed"] == 0, failures
    assert counts["answered"] > 16  # each of the eight asked more than once
    engine = open_database(running.shop.settings.database_url)
    assert served(engine) - before == counts["answered"]
    assert verify_chain(engine).broken == ()
    engine.dispose()
