"""The operational database: schema by migrations, one writer at a time, errors as one type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from bayes_pricing.errors import SpecError
from server.store.database import connect, open_database, reading, schema_version, writing
from server.store.failures import StoreUnavailable
from server.store.migrations import HEAD
from server.store.tables import METADATA, aliases


def schema_differences(engine: Engine) -> list[Any]:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))


def test_migrations_lead_to_the_tables_on_sqlite(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/deep/server.db")
    assert schema_version(engine) == HEAD
    assert schema_differences(engine) == []
    open_database(f"sqlite:///{tmp_path}/deep/server.db").dispose()
    engine.dispose()


@pytest.mark.postgres
def test_migrations_lead_to_the_tables_on_postgresql(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    assert schema_version(engine) == HEAD
    assert schema_differences(engine) == []
    engine.dispose()


def test_newest_step_is_the_one_the_server_asks_for() -> None:
    from alembic.script import ScriptDirectory

    import server.store.migrations as migrations

    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_current_head() == HEAD


def test_locked_database_is_unavailable_and_readers_go_on(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/server.db"
    first, second = open_database(url), connect(url, busy_seconds=0.05)
    with writing(first) as connection:
        connection.execute(aliases.insert().values(name="champion", version=1))
        with pytest.raises(StoreUnavailable, match="locked"), writing(second):
            pass
        with reading(second) as other:
            assert other.execute(sa.select(sa.func.count()).select_from(aliases)).scalar() == 0
    with reading(second) as other:
        assert other.execute(sa.select(sa.func.count()).select_from(aliases)).scalar() == 1
    first.dispose()
    second.dispose()


def test_failed_transaction_keeps_nothing(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/server.db")

    def fail() -> None:
        with writing(engine) as connection:
            connection.execute(aliases.insert().values(name="champion", version=1))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with reading(engine) as connection:
        assert connection.execute(sa.select(aliases)).all() == []
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "mysql://host/name", "no url"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(SpecError, match="database URL"):
        connect(url)


def test_unreachable_server_hides_its_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_database("postgresql://somebody:hidden-word@127.0.0.1:1/none", busy_seconds=1)
    assert "hidden-word" not in str(caught.value)
