"""Decisions need no sampler: the server and the decision rooms load neither PyMC nor PyTensor."""

from __future__ import annotations

import subprocess
import sys

import pytest

ROOMS = (
    "server",
    "bayes_pricing.pricing.optimizer",
    "bayes_pricing.pricing.explanation",
    "bayes_pricing.pricing.wording",
    "bayes_pricing.experiments.sizing",
    "bayes_pricing.registry",
    "bayes_pricing.reporting.report",
    "bayes_pricing.cli.main",
)


@pytest.mark.parametrize("room", ROOMS)
def test_room_loads_no_sampler(room: str) -> None:
    code = f"import sys, {room}; print([name for name in ('pymc', 'pytensor', 'nutpie') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
