"""Every optional extra in a fresh environment of its own: `python -m tests.extras [boosting] [causal] [mlflow]`.

The default test line does not collect these tests: what they need weighs hundreds of megabytes. Each extra is installed
with `uv`, at the versions that `pyproject.toml` pins, into a temporary folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("boosting", "causal", "mlflow")
MISSING = """
import sys
from bayes_pricing.errors import SpecError
from bayes_pricing.extras import import_extra

for module, extra in (("xgboost", "boosting"), ("lightgbm", "boosting"), ("doubleml", "causal"), ("mlflow", "mlflow")):
    if extra == sys.argv[1]:
        import_extra(module, extra)
        continue
    try:
        import_extra(module, extra)
    except SpecError as error:
        assert str(error).endswith(f"pip install 'bayes-pricing[{extra}]'."), error
    else:
        sys.exit(f"{module} is here without its extra: the environment is not the extra's own")
"""
"""What an environment must have, and must miss with the right words."""


def run_extra(extra: str, uv: str, folder: Path) -> int:
    """Install one extra into a new environment and run its tests there; the exit code."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    environment = os.environ | {"BAYES_PRICING_EXTRA": extra, "OMP_NUM_THREADS": "1"}
    steps = {
        "environment": [uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
        "packages": [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            str(python),
            "-e",
            f".[{extra}]",
            "pytest",
            "hypothesis",
        ],
        "what is there and what is missing": [str(python), "-c", MISSING, extra],
        "tests": [str(python), "-m", "pytest", "-q", f"tests/extras/test_{extra}.py"],
    }
    for name, command in steps.items():
        print(f"== {extra}: {name}", flush=True)
        code = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if code != 0:
            return code
    return 0


def main() -> int:
    """Run the extras named, all of them without a name, and say at the end which failed."""
    parser = argparse.ArgumentParser(description="Test optional extras, each in a fresh environment.")
    parser.add_argument("extras", nargs="*", help=f"of {', '.join(EXTRAS)}; all when left out")
    chosen = parser.parse_args().extras or list(EXTRAS)
    if unknown := sorted(set(chosen) - set(EXTRAS)):
        parser.error(f"unknown extras {unknown}; choose from {', '.join(EXTRAS)}")
    uv = shutil.which("uv")
    if uv is None:
        print("These tests make their environments with uv, which is not on the path: pip install uv.")
        return 2
    failed = []
    for extra in chosen:
        with tempfile.TemporaryDirectory(prefix=f"bayes-pricing-{extra}-") as folder:
            if run_extra(extra, uv, Path(folder) / "environment") != 0:
                failed.append(extra)
    print(f"FAILED: {', '.join(failed)}" if failed else f"Passed: {', '.join(chosen)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
