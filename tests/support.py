"""What tests need of the machine: a thing that is absent skips a test, or fails it where everything must be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).parents[1].parent / "shared" / "data"


def require(present: object, reason: str) -> None:
    """Skip the test with `reason` unless `present`; fail instead where BAYES_PRICING_REQUIRE_ALL=1 is set."""
    if present:
        return
    if os.environ.get("BAYES_PRICING_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason} (and BAYES_PRICING_REQUIRE_ALL=1 says everything must be there)")
    pytest.skip(reason)


def shared_data(name: str) -> Path:
    """Path of a public data set kept beside the project; the test skips where it is absent."""
    path = SHARED_DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside the project")
    return path
