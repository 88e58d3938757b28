"""Everything the project asks of a change, in one command: `uv run --group test python -m tests`."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BESIDE = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "layers": ("lint-imports",),
    "types": ("mypy",),
    "docs": ("sphinx-build", "-W", "-q", "-b", "html", "docs", "docs/_build"),
}
"""Run one after the other beside the tests, which leave a core idle now and then; each has one process."""
TESTS = ("pytest", "-q", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "--durations", "15")
"""A file stays in one process, so that what its tests share is made once; slow folders come first by their names."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended and what it said."""

    name: str
    code: int
    seconds: float
    said: str = ""

    def tell(self) -> None:
        """Print the step and its verdict."""
        if self.said:
            print(self.said, end="", flush=True)
        print(f"== {self.name} {'passed' if self.code == 0 else 'FAILED'} in {self.seconds:.0f} s", flush=True)


def run(name: str, command: tuple[str, ...], *, captured: bool) -> Outcome:
    """Run a step with the environment's own programs."""
    start = time.monotonic()
    ended = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE if captured else None,
        stderr=subprocess.STDOUT if captured else None,
        text=True,
    )
    return Outcome(name, ended.returncode, time.monotonic() - start, ended.stdout if captured else "")


def main() -> int:
    """Run every step, go on after a failure, and say at the end which failed."""
    with ThreadPoolExecutor(1) as pool:
        beside = [pool.submit(run, name, command, captured=True) for name, command in BESIDE.items()]
        outcomes = [run("tests", TESTS, captured=False)]
    outcomes = [step.result() for step in beside] + outcomes
    for outcome in outcomes:
        outcome.tell()
    failed = [outcome.name for outcome in outcomes if outcome.code != 0]
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
