"""The operational tables, for SQLite and PostgreSQL alike; `migrations` brings a database to this shape."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """A moment in UTC, stored as microseconds since 1970: exact, and the same on every database.

    Examples
    --------
    >>> moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    >>> stored = Instant().process_bind_param(moment, sa.create_engine("sqlite://").dialect)
    >>> stored, Instant().process_result_value(stored, sa.create_engine("sqlite://").dialect) == moment
    (1772366400000000, True)
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Microseconds since 1970; a naive time is refused by the subtraction."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """The moment, in UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


class Json(TypeDecorator[Any]):
    """Plain values as JSON text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any | None, dialect: Dialect) -> str | None:
        """JSON text; None is SQL's NULL."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any:
        """The plain values."""
        return None if value is None else msgspec.json.decode(value)


def insert_new(connection: Connection, table: sa.Table, values: Mapping[str, Any]) -> bool:
    """Insert a row unless one with its key is there; whether it was inserted.

    The row comes back from the database: how many rows an INSERT made is not told by every driver.
    """
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(dict(values)).on_conflict_do_nothing()
    return connection.execute(statement.returning(*table.primary_key.columns)).first() is not None


METADATA = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)


def _counter(name: str) -> sa.Column[int]:
    """A primary key that the database counts up; SQLite does so for INTEGER only."""
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True)


keys = sa.Table(
    "keys",
    METADATA,
    sa.Column("id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("secret_digest", sa.String(64), nullable=False),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("rate_per_second", sa.Double),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("expires_at", Instant),
    sa.Column("revoked_at", Instant),
)

models = sa.Table(
    "models",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("fit_id", sa.String(64), nullable=False),
    sa.Column("published_at", Instant, nullable=False),
    sa.Column("published_by", sa.String(200), nullable=False),
    sa.Column("evidence", Json, nullable=False),
    sa.Column("about", Json, nullable=False),
)

aliases = sa.Table(
    "aliases",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)

alias_changes = sa.Table(
    "alias_changes",
    METADATA,
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("model_id", sa.String(64), sa.ForeignKey("models.id"), nullable=False),
    sa.Column("undoes", sa.BigInteger),
    sa.Column("changed_at", Instant, nullable=False),
    sa.Column("changed_by", sa.String(200), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("operation", sa.String(64), unique=True),
)

jobs = sa.Table(
    "jobs",
    METADATA,
    _counter("sequence"),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("content", sa.String(64), nullable=False),
    sa.Column("request", Json, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(64)),
    sa.Column("lease_until", Instant),
    sa.Column("not_before", Instant, nullable=False),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("progress", sa.Double, nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
    sa.Column("result", Json),
    sa.Column("problem", Json),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("finished_at", Instant),
)

# Of equal jobs one at most waits, runs or is done.
sa.Index(
    "uq_jobs_live_content",
    jobs.c.content,
    unique=True,
    sqlite_where=jobs.c.state.in_(("queued", "running", "done")),
    postgresql_where=jobs.c.state.in_(("queued", "running", "done")),
)

job_events = sa.Table(
    "job_events",
    METADATA,
    sa.Column("job_id", sa.String(32), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("progress", sa.Double, nullable=False),
    sa.Column("label", sa.String(200), nullable=False),
)

audit = sa.Table(
    "audit",
    METADATA,
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("model_id", sa.String(64), nullable=False, index=True),
    sa.Column("by", sa.String(200), nullable=False),
    sa.Column("request", sa.LargeBinary, nullable=False),
    sa.Column("answer", sa.LargeBinary, nullable=False),
    sa.Column("previous_hash", sa.String(64), nullable=False),
    sa.Column("row_hash", sa.String(64), nullable=False),
)

audit_head = sa.Table(
    "audit_head",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("row_hash", sa.String(64), nullable=False),
)

audit_counts = sa.Table(
    "audit_counts",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("served", sa.BigInteger, nullable=False),
    sa.Column("first_served", Instant, nullable=False),
    sa.Column("last_served", Instant, nullable=False),
)

idempotency = sa.Table(
    "idempotency",
    METADATA,
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("body_digest", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(200)),
    sa.Column("lease_until", Instant, nullable=False),
    sa.Column("expires_at", Instant, nullable=False, index=True),
    sa.Column("status", sa.Integer),
    sa.Column("headers", Json),
    sa.Column("answer", sa.LargeBinary),
)

outcomes = sa.Table(
    "outcomes",
    METADATA,
    _counter("sequence"),
    sa.Column("id", sa.String(64), nullable=False, unique=True),
    sa.Column("recommendation_id", sa.String(64), nullable=False, index=True),
    sa.Column("model_id", sa.String(64), nullable=False, index=True),
    sa.Column("item", sa.String(500), nullable=False),
    sa.Column("applied_price", sa.Double, nullable=False),
    sa.Column("quantity", sa.Double, nullable=False),
    sa.Column("periods", sa.Double, nullable=False),
    sa.Column("ended_on", sa.Date, nullable=False),
    sa.Column("claimed_mean", sa.Double, nullable=False),
    sa.Column("claimed_lower", sa.Double, nullable=False),
    sa.Column("claimed_upper", sa.Double, nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("recorded_at", Instant, nullable=False),
    sa.Column("recorded_by", sa.String(200), nullable=False),
)
