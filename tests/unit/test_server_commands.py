"""The server's commands: what they answer and how they fail, in process."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from bayes_pricing.cli.main import exit_code
from bayes_pricing.gate import Evidence
from server import commands, model_commands
from server.commands import StoreFlags
from server.logs import RequestLog, configure_logging, log_request, write_log
from server.settings import Settings
from server.store.audit_writer import AuditWriter
from server.store.database import open_database, writing
from server.store.keys import KeyRing
from server.store.models import record_model
from server.store.tables import audit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("BAYES_PRICING_DATABASE_URL", raising=False)
    return tmp_path / "data"


def test_key_made_listed_and_revoked(folder: Path) -> None:
    made = commands.create(name="shop", scopes=("prices:read",), days=30, flags=StoreFlags(data_dir=folder)).document
    engine = open_database(Settings(data_dir=folder).database_url)
    ring = KeyRing(engine, refresh_seconds=0.0)
    assert ring.authenticate(str(made["token"])).scopes == {"prices:read"}
    listed = commands.list_all(flags=StoreFlags(data_dir=folder))
    assert str(made["token"]) not in listed.text
    assert [key["name"] for key in msgspec.to_builtins(listed.document["keys"])] == ["shop"]
    key = msgspec.to_builtins(made["key"])
    assert "revoked" in commands.revoke(key["id"], flags=StoreFlags(data_dir=folder)).text
    engine.dispose()


def test_models_promoted_and_rolled_back(folder: Path) -> None:
    engine = open_database(Settings(data_dir=folder).database_url)
    for name in ("m1", "m2"):
        record_model(engine, name, fit_id="f", by="test", evidence=Evidence(), about={"items": 2})
    arguments = {"override": True, "reason": "first", "flags": StoreFlags(data_dir=folder)}
    assert model_commands.promote("m1", **arguments).document["version"] == 1  # type: ignore[arg-type]
    assert model_commands.promote("m2", expected_version=1, **arguments).document["version"] == 2  # type: ignore[arg-type]
    assert model_commands.rollback(flags=StoreFlags(data_dir=folder)).document["model"] == "m1"
    listed = model_commands.list_models(flags=StoreFlags(data_dir=folder))
    assert (listed.document["champion"], listed.document["version"]) == ("m1", 3)
    assert listed.text.count("CHAMPION") == 1
    shown = model_commands.show("m1", flags=StoreFlags(data_dir=folder))
    assert shown.text.count("FAILED") == 3
    assert shown.document["passes_gate"] is False
    engine.dispose()


def test_gate_refuses_with_its_own_exit_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_database(Settings(data_dir=folder).database_url)
    record_model(engine, "m1", fit_id="f", by="test", evidence=Evidence(), about={})
    engine.dispose()
    assert exit_code(["models", "promote", "m1", "--data-dir", str(folder), "--json"]) == 3
    said = msgspec.json.decode(capsys.readouterr().out)
    assert [finding["code"] for finding in said["findings"]][-1] == "backtest_missing"
    assert exit_code(["models", "promote", "none", "--data-dir", str(folder)]) == 1
    assert exit_code(["keys", "create", "--name", "x", "--scope", "all", "--data-dir", str(folder)]) == 2
    assert exit_code(["serve", "--no-keys", "--host", "0.0.0.0", "--data-dir", str(folder)]) == 2


def test_verify_leaves_with_1_where_the_chain_is_broken(folder: Path) -> None:
    engine = open_database(Settings(data_dir=folder).database_url)
    writer = AuditWriter(engine)
    for number in range(3):
        writer.served("recommendation", "m1", b"%d" % number, b"answer")
    writer.flush()
    sound = commands.verify(flags=StoreFlags(data_dir=folder))
    assert (sound.exit_code, sound.document["rows"]) == (0, 3)
    with writing(engine) as connection:
        connection.execute(audit.update().where(audit.c.sequence == 2).values(request=b"edited"))
    broken = commands.verify(head=str(sound.document["head"]), flags=StoreFlags(data_dir=folder))
    assert broken.exit_code == 1
    assert "row 2" in broken.text
    engine.dispose()


def test_settings_are_shown_without_secrets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYES_PRICING_DATABASE_URL", "postgresql://me:hidden-word@host/name")
    answer = commands.serve(show_settings=True, workers=3, data_dir=folder)
    assert answer is not None
    assert "hidden-word" not in answer.text
    assert msgspec.to_builtins(answer.document["settings"])["BAYES_PRICING_WORKERS"] == "3"


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    kept = {
        name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate, logging.getLogger(name).level)
        for name in ("bayes_pricing", "uvicorn", "litestar")
    }
    configure_logging(Settings(data_dir=tmp_path, log_share=0.0), stream)
    yield stream
    for name, (handlers, propagate, level) in kept.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_log_lines_are_json_without_secrets(lines: io.StringIO) -> None:
    token = "bp_0123456789ab_" + "S" * 43
    write_log(logging.getLogger("bayes_pricing.test"), "warning", "told", {"what": f"Bearer {token}", "n": 1})
    logging.getLogger("bayes_pricing.test").error("failed", exc_info=ValueError(f"postgresql://me:word@host {token}"))
    first, second = (msgspec.json.decode(line) for line in lines.getvalue().splitlines())
    assert (first["event"], first["level"], first["n"]) == ("told", "warning", 1)
    assert "ValueError" in second["trace"]
    assert "SSS" not in lines.getvalue()
    assert ":word@" not in lines.getvalue()


def test_failed_and_slow_requests_are_always_logged(lines: io.StringIO) -> None:
    for status, seconds in ((200, 0.01), (404, 0.01), (503, 0.01), (200, 1.5)):
        entry = RequestLog(request_id="r", method="GET", route="/v1/items", status=status, seconds=seconds)
        log_request(entry, share=0.0)
    found = [msgspec.json.decode(line) for line in lines.getvalue().splitlines()]
    assert [(line["status"], line["milliseconds"]) for line in found] == [(503, 10.0), (200, 1500.0)]
    log_request(RequestLog(request_id="r", method="GET", route="/", status=200, seconds=0.01), share=1.0)
    assert len(lines.getvalue().splitlines()) == 3


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    """As in `bayes-pricing serve --show-settings | head -1`: no trace, and the exit code of a closed pipe."""
    reading, writing_end = os.pipe()
    os.close(reading)
    code = "from bayes_pricing.cli.main import run; run(['serve', '--show-settings'])"
    with os.fdopen(writing_end, "wb") as closed:
        done = subprocess.run([sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")
