"""Everything the project asks of a change, in one command: `uv run --group test python -m tests`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEPS = {
    "lint": ("ruff", "check", "."),
    "format": ("ruff", "format", "--check", "."),
    "layers": ("lint-imports",),
    "types": ("mypy",),
    "docs": ("sphinx-build", "-W", "-q", "-b", "html", "docs", "docs/_build"),
    "tests": ("pytest", "-q", "-n", "2", "--dist", "loadgroup", "--durations", "15"),
}


def main() -> int:
    """Run every step, go on after a failure, and say at the end which failed."""
    failed = []
    for name, command in STEPS.items():
        print(f"== {name}: {' '.join(command)}", flush=True)
        start = time.monotonic()
        code = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]], cwd=ROOT, check=False
        ).returncode
        print(f"== {name} {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s", flush=True)
        if code != 0:
            failed.append(name)
    if failed:
        print(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
