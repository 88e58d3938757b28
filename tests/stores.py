"""The operational store on both databases: what holds on SQLite must hold on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from server.store.audit import GENESIS
from server.store.database import open_database, writing
from server.store.tables import METADATA, audit_head

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@contextmanager
def opened(request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    """The empty store that the fixture's parameter names."""
    url = f"sqlite:///{folder}/server.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    engine = open_database(url)
    if request.param != "sqlite":
        _empty(engine)
    yield engine
    engine.dispose()


def _empty(engine: Engine) -> None:
    """Forget what the tests before left on the server they share."""
    with writing(engine) as connection:
        for table in reversed(METADATA.sorted_tables):
            if table is not audit_head:
                connection.execute(table.delete())
        connection.execute(audit_head.update().values(sequence=0, row_hash=GENESIS))
