"""API keys: a random secret shown once, its digest kept, scopes and an end."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.errors import SpecError
from server.store.audit import append_event
from server.store.database import reading, writing
from server.store.failures import Conflict, KeyRefused, NotFound, ScopeMissing, StoreUnavailable
from server.store.tables import keys

SCOPES = (
    "prices:read",
    "prices:whatif",
    "models:read",
    "models:publish",
    "fits:run",
    "experiments:plan",
    "outcomes:write",
    "audit:read",
    "metrics:read",
)
"""What a key may be good for."""

TOKEN = re.compile(r"bp_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
REFUSED = "The API key is not valid; send a current one as `Authorization: Bearer bp_...` or ask for a new one."
SOONEST_RELOAD = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks.

    Attributes
    ----------
    key_id, name : str
        Of the key.
    scopes : frozenset of str
    rate_per_second : float or None
        Requests a second this key may make; None is the server's rate.
    """

    key_id: str
    name: str
    scopes: frozenset[str]
    rate_per_second: float | None = None

    def require(self, scope: str) -> None:
        """Go on only if the key has the scope.

        Raises
        ------
        ScopeMissing
            If it has not.
        """
        if scope not in self.scopes:
            raise ScopeMissing(f"The key {self.name!r} has no scope {scope!r}; ask for a key that has it.", scope=scope)


ANYBODY = Principal(key_id="loopback", name="loopback", scopes=frozenset(SCOPES))
"""Everybody, where keys are switched off on loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: everything but its secret."""

    id: str
    name: str
    scopes: tuple[str, ...]
    rate_per_second: float | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def active(self, now: datetime) -> bool:
        """Neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key just made; `token` is shown once and kept nowhere."""

    key: ApiKey
    token: str = field(repr=False)


def create_key(
    engine: Engine,
    *,
    name: str,
    scopes: tuple[str, ...],
    expires_at: datetime | None = None,
    rate_per_second: float | None = None,
    by: str,
) -> NewKey:
    """Make a key of the form ``bp_<id>_<secret>``: 256 random bits, of which only the SHA-256 digest is kept.

    A random secret of this length cannot be guessed from its digest, so a slow password hash would protect nothing
    and cost every request.

    Raises
    ------
    SpecError
        If the name is empty, a scope is unknown, none is given, the rate is not positive or the end is past.

    Examples
    --------
    >>> import tempfile
    >>> from server.store.database import open_database
    >>> folder = tempfile.TemporaryDirectory()
    >>> engine = open_database(f"sqlite:///{folder.name}/server.db")
    >>> new = create_key(engine, name="shop", scopes=("prices:read",), by="operator")
    >>> KeyRing(engine).authenticate(new.token).name
    'shop'
    >>> engine.dispose(); folder.cleanup()
    """
    now = datetime.now(UTC)
    _check(name, scopes, expires_at, rate_per_second, now)
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    kept = {
        "id": key_id,
        "name": name,
        "scopes": tuple(dict.fromkeys(scopes)),
        "rate_per_second": rate_per_second,
        "created_at": now,
        "expires_at": expires_at,
        "revoked_at": None,
    }
    with writing(engine) as connection:
        connection.execute(keys.insert().values(**kept, secret_digest=_digest(secret)))
        append_event(connection, "key_created", by, {"key": key_id, "name": name, "scopes": list(scopes)})
    return NewKey(key=ApiKey(**kept), token=f"bp_{key_id}_{secret}")  # type: ignore[arg-type]  # the same names


def list_keys(engine: Engine) -> tuple[ApiKey, ...]:
    """All keys, oldest first, without their secrets."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(keys).order_by(keys.c.created_at, keys.c.id)).all()
    return tuple(_key(row) for row in rows)


def revoke_key(engine: Engine, key_id: str, *, by: str) -> ApiKey:
    """End a key now; servers stop taking it within their poll time.

    Raises
    ------
    NotFound
        If there is none with this id.
    Conflict
        If it was revoked before.
    """
    with writing(engine) as connection:
        key = _find(connection, key_id)
        if key.revoked_at is not None:
            raise Conflict(f"The key {key_id!r} was revoked already, at {key.revoked_at:%Y-%m-%d %H:%M} UTC.")
        connection.execute(keys.update().where(keys.c.id == key_id).values(revoked_at=datetime.now(UTC)))
        append_event(connection, "key_revoked", by, {"key": key_id, "name": key.name})
        return _find(connection, key_id)


class KeyRing:
    """The keys in memory: a request costs one digest and no query.

    Parameters
    ----------
    engine : Engine
    refresh_seconds : float
        Age from which the keys are read again before one is looked at. While the database does not answer, the last
        known keys hold.
    """

    def __init__(self, engine: Engine, refresh_seconds: float = 0.5) -> None:
        self._engine = engine
        self._refresh_seconds = refresh_seconds
        self._known: dict[str, tuple[str, ApiKey, Principal]] = {}
        self._read_at = -float("inf")
        self._lock = Lock()

    def authenticate(self, token: str) -> Principal:
        """Who holds this token.

        Raises
        ------
        KeyRefused
            If it is malformed, unknown, revoked or expired.
        StoreUnavailable
            If no key was ever read and the database does not answer.
        """
        match = TOKEN.fullmatch(token)
        if match is None:
            raise KeyRefused(REFUSED)
        key_id, secret = match.groups()
        age = time.monotonic() - self._read_at
        if age > self._refresh_seconds or (key_id not in self._known and age > SOONEST_RELOAD):
            self.refresh()
        digest, key, principal = self._known.get(key_id, ("", None, None))
        good = hmac.compare_digest(_digest(secret), digest)
        if not good or key is None or principal is None or not key.active(datetime.now(UTC)):
            raise KeyRefused(REFUSED)
        return principal

    def refresh(self) -> None:
        """Read the keys again."""
        with self._lock:
            try:
                with reading(self._engine) as connection:
                    rows = connection.execute(sa.select(keys).where(keys.c.revoked_at.is_(None))).all()
            except StoreUnavailable:
                if not self._known:
                    raise
                self._read_at = time.monotonic()
                return
            self._known = {row.id: (row.secret_digest, _key(row), _principal(row)) for row in rows}
            self._read_at = time.monotonic()


def _check(
    name: str, scopes: tuple[str, ...], expires_at: datetime | None, rate_per_second: float | None, now: datetime
) -> None:
    if not name.strip() or len(name) > 200:
        raise SpecError(f"The key's name is {name!r}; give 1 to 200 characters that say who holds it.")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        found = f"names the unknown scope {unknown[0]!r}" if unknown else "names no scope"
        raise SpecError(f"The key {name!r} {found}; choose from {', '.join(SCOPES)}.")
    if expires_at is not None and not expires_at > now:
        raise SpecError(f"The key {name!r} would end at {expires_at:%Y-%m-%d %H:%M}, which is past.")
    if rate_per_second is not None and not 0 < rate_per_second < float("inf"):
        raise SpecError(f"The key {name!r} has the rate {rate_per_second}; give requests a second above 0.")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _find(connection: Connection, key_id: str) -> ApiKey:
    row = connection.execute(sa.select(keys).where(keys.c.id == key_id)).first()
    if row is None:
        raise NotFound(f"There is no key {key_id!r}; `bayes-pricing keys list` names them.")
    return _key(row)


def _key(row: sa.Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        scopes=tuple(row.scopes),
        rate_per_second=row.rate_per_second,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _principal(row: sa.Row[tuple[object, ...]]) -> Principal:
    return Principal(key_id=row.id, name=row.name, scopes=frozenset(row.scopes), rate_per_second=row.rate_per_second)
