"""Alembic loads this file by path, under the name `env_py`; the connection is the caller's, who commits."""

from __future__ import annotations

from alembic import context

from server.store.tables import METADATA


def run() -> None:
    """Run the steps that the command asked for."""
    context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
    context.run_migrations()


if __name__ == "env_py":
    run()
