"""The documentation's examples, as they stand, against the running server."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.running import Shop, running
from tests.support import require

ROOT = Path(__file__).parents[2]
PROGRAMS = {"sh": ["sh", "-e", "-c"], "py": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}


def examples() -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "server.md").read_text()
    return re.findall(r"^```(sh|py|js)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def address(shop: Shop) -> Iterator[str]:
    with running(shop) as address:
        yield address


def test_there_are_examples_in_three_languages() -> None:
    assert {language for language, _ in examples()} == set(PROGRAMS)


@pytest.mark.parametrize(("language", "text"), examples())
def test_example(language: str, text: str, address: str, shop: Shop, tmp_path: Path) -> None:
    program = PROGRAMS[language]
    needed = "curl" if language == "sh" else program[0]
    require(shutil.which(needed), f"{needed} is absent")
    known = {"ADDRESS": address, "KEY": shop.token, "ITEM": "item-00000", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*program, text], cwd=tmp_path, env=os.environ | known, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
