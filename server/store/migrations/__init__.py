"""Steps from one schema of the operational tables to the next (Alembic, as package data)."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import Connection

HEAD = "0001"
"""Name of the newest schema; a test holds it equal to the last step in `versions`."""

MIGRATION_LOCK = 7_203_114


def migrate(connection: Connection) -> None:
    """Bring the database to the newest schema, inside the caller's transaction; two processes at once are safe."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
