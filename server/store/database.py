"""The operational database: SQLite or PostgreSQL by URL, brought to the newest schema, entered by two doors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from bayes_pricing.errors import SpecError
from server.store.failures import StoreUnavailable
from server.store.migrations import HEAD, migrate

BUSY_SECONDS = 5.0
WRITES = "bayes_pricing_writes"


def open_database(url: str, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """Open the operational database and bring it to the newest schema.

    Parameters
    ----------
    url : str
        ``sqlite:///FILE`` (in write-ahead mode, so that readers never wait for a writer; ``?timeout=SECONDS`` in place
        of `busy_seconds`) or
        ``postgresql+psycopg://USER:PASSWORD@HOST/NAME``.
    busy_seconds : float
        How long a writer waits for another before `StoreUnavailable`.

    Returns
    -------
    Engine
        To be entered by :func:`reading` and :func:`writing` only.

    Raises
    ------
    SpecError
        If the URL is not one of these.
    StoreUnavailable
        If the database cannot be reached.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> engine = open_database(f"sqlite:///{folder.name}/server.db")
    >>> with reading(engine) as connection:
    ...     connection.execute(sa.text("SELECT count(*) FROM jobs")).scalar()
    0
    >>> engine.dispose(); folder.cleanup()
    """
    engine = connect(url, busy_seconds=busy_seconds)
    if schema_version(engine) != HEAD:
        with writing(engine) as connection:
            migrate(connection)
    return engine


def connect(url: str, *, busy_seconds: float = BUSY_SECONDS) -> Engine:
    """Open the database as it is, without bringing it to the newest schema."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise SpecError(
            "The database URL cannot be read; give sqlite:///FILE or postgresql://USER@HOST/NAME."
        ) from error
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, busy_seconds)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql(parsed, busy_seconds)
    raise SpecError(f"The database URL begins with {parsed.drivername!r}; SQLite and PostgreSQL are supported.")


def schema_version(engine: Engine) -> str | None:
    """Name of the schema the database is in; None where it is empty."""
    with reading(engine) as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        return found


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that reads one consistent state.

    Raises
    ------
    StoreUnavailable
        If the database is locked or gone.
    """
    with _unavailable(engine), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that may write: all of it is kept, or nothing. On SQLite it holds the write lock from its start.

    Raises
    ------
    StoreUnavailable
        If the database is locked, full, read-only or gone; nothing was changed.
    """
    with _unavailable(engine), engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
        yield connection


@contextmanager
def _unavailable(engine: Engine) -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        raise StoreUnavailable(_words(engine, error)) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise StoreUnavailable(_words(engine, error)) from error


def _words(engine: Engine, error: DBAPIError) -> str:
    reason = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    place = engine.url.render_as_string(hide_password=True)
    return f"The database {place} does not answer ({reason}); nothing was changed, try again shortly."


def _sqlite(url: sa.URL, busy_seconds: float) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise SpecError("The database URL names no file; the server's processes share one: sqlite:///FILE.")
    Path(str(url.database)).expanduser().parent.mkdir(parents=True, exist_ok=True)
    own = (
        {"check_same_thread": False}
        if "timeout" in url.query
        else {"timeout": busy_seconds, "check_same_thread": False}
    )
    engine = sa.create_engine(url, connect_args=own)

    def opened(connection: Any, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get(WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", opened)
    event.listen(engine, "begin", begun)
    return engine


def _postgresql(url: sa.URL, busy_seconds: float) -> Engine:
    url = url.set(drivername="postgresql+psycopg")
    wait = int(1000 * busy_seconds)
    options = f"-c lock_timeout={wait} -c idle_in_transaction_session_timeout={10 * wait}"
    arguments = {"connect_timeout": max(2, int(busy_seconds)), "options": options}
    try:
        return sa.create_engine(url, connect_args=arguments, pool_pre_ping=True)
    except (ImportError, NoSuchModuleError) as error:
        raise SpecError("PostgreSQL needs the extra `postgres`: pip install 'bayes-pricing[postgres]'.") from error
