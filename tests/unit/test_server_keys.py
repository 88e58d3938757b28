"""Keys: shown once, kept as a digest, refused when forged, expired, revoked or without the scope."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bayes_pricing.errors import SpecError
from server.store.audit import list_entries
from server.store.database import reading, writing
from server.store.failures import Conflict, KeyRefused, NotFound, ScopeMissing
from server.store.keys import ANYBODY, SCOPES, KeyRing, create_key, list_keys, revoke_key
from server.store.tables import keys
from tests.stores import BOTH, opened


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with opened(request, tmp_path) as engine:
        yield engine


def test_key_is_good_for_its_scopes_only(engine: Engine) -> None:
    new = create_key(engine, name="shop", scopes=("prices:read",), rate_per_second=5.0, by="operator")
    principal = KeyRing(engine).authenticate(new.token)
    assert (principal.key_id, principal.name, principal.rate_per_second) == (new.key.id, "shop", 5.0)
    principal.require("prices:read")
    with pytest.raises(ScopeMissing, match="models:publish") as caught:
        principal.require("models:publish")
    assert caught.value.scope == "models:publish"
    assert ANYBODY.scopes == set(SCOPES)


def test_secret_is_kept_nowhere(engine: Engine) -> None:
    new = create_key(engine, name="shop", scopes=("prices:read",), by="operator")
    secret = new.token.rpartition("_")[2]
    with reading(engine) as connection:
        row = str(connection.execute(sa.select(keys)).one())
    assert secret not in row
    assert secret not in repr(new)
    assert all(secret.encode() not in entry.request for entry in list_entries(engine))


def test_forged_unknown_and_malformed_keys_are_refused_alike(engine: Engine) -> None:
    new = create_key(engine, name="shop", scopes=("prices:read",), by="operator")
    ring = KeyRing(engine)
    forged = new.token[:-1] + ("A" if new.token[-1] != "A" else "B")
    messages = set()
    for token in (forged, "", "bp_", new.token.upper(), new.token + "x", "bp_" + "0" * 12 + new.token[15:], "é" * 60):
        with pytest.raises(KeyRefused) as caught:
            ring.authenticate(token)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_revoked_key_ends_within_the_refresh_time(engine: Engine) -> None:
    new = create_key(engine, name="shop", scopes=("prices:read",), by="operator")
    ring = KeyRing(engine, refresh_seconds=3600)
    ring.authenticate(new.token)
    revoke_key(engine, new.key.id, by="operator")
    ring.authenticate(new.token)  # still in memory
    ring.refresh()
    with pytest.raises(KeyRefused):
        ring.authenticate(new.token)
    with pytest.raises(Conflict, match="revoked already"):
        revoke_key(engine, new.key.id, by="operator")
    with pytest.raises(NotFound):
        revoke_key(engine, "none", by="operator")
    assert [entry.kind for entry in list_entries(engine)] == ["key_created", "key_revoked"]


def test_expired_key_is_refused_from_memory(engine: Engine) -> None:
    new = create_key(
        engine, name="shop", scopes=("prices:read",), expires_at=datetime.now(UTC) + timedelta(hours=1), by="operator"
    )
    ring = KeyRing(engine)
    ring.authenticate(new.token)
    with writing(engine) as connection:
        connection.execute(keys.update().values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    ring.refresh()
    with pytest.raises(KeyRefused):
        ring.authenticate(new.token)
    assert not list_keys(engine)[0].active(datetime.now(UTC))


def test_key_made_after_the_keys_were_read_works(engine: Engine) -> None:
    ring = KeyRing(engine, refresh_seconds=0.0)
    first = create_key(engine, name="one", scopes=("prices:read",), by="operator")
    ring.authenticate(first.token)
    second = create_key(engine, name="two", scopes=("prices:read",), by="operator")
    assert ring.authenticate(second.token).name == "two"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": " "}, "name"),
        ({"scopes": ()}, "no scope"),
        ({"scopes": ("prices:write",)}, "unknown scope"),
        ({"rate_per_second": 0.0}, "rate"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "past"),
    ],
)
def test_nonsense_is_refused(engine: Engine, wrong: dict[str, object], words: str) -> None:
    asked: dict[str, object] = {"name": "shop", "scopes": ("prices:read",), "by": "operator", **wrong}
    with pytest.raises(SpecError, match=words):
        create_key(engine, **asked)  # type: ignore[arg-type]
    assert list_keys(engine) == ()
