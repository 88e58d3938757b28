"""Fixtures that several rooms use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.postgres import find_postgres, running_postgres
from tests.support import require

# Laws run on shared machines: a slow example is no failure, and failures must be the same for everybody.
settings.register_profile("project", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("project")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of an empty PostgreSQL server that lives as long as the test session."""
    tools = find_postgres()
    require(tools is not None, "PostgreSQL's server programs, or a user who is not root to run them, are absent")
    if tools is not None:
        with running_postgres(tools) as url:
            yield url
