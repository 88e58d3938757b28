"""Headless Chromium as the tests drive it: a page from disk in, its document, picture and console out."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support import require

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=8000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
HOUSEKEEPING = ("accounts.google.com", "clients2.google.com", "update.googleapis.com")
"""Hosts that Chromium itself asks for, whatever the page (without an answer: no name is resolved)."""

CONSOLE = re.compile(r"CONSOLE[^\]]*\] (.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one visit left: the document after its scripts ran, every console line, every address the page asked for."""

    document: str
    console: tuple[str, ...]
    addresses: tuple[str, ...]


def open_page(page: Path, *, width: int = 1280, picture: Path | None = None) -> Visit:
    """Open a page from disk; the test skips (or fails, where everything must be there) without Chromium."""
    program = shutil.which("chromium")
    require(program, "Chromium is absent; install the package chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        log = Path(profile) / "net.json"
        out = [f"--screenshot={picture}"] if picture is not None else ["--dump-dom"]
        command = [str(program), *FLAGS, f"--user-data-dir={profile}/user", f"--log-net-log={log}", *out]
        run = subprocess.run(
            [*command, f"--window-size={width},4000", page.as_uri()], capture_output=True, timeout=120, check=True
        )
        network = log.read_text(encoding="utf-8", errors="replace")
    asked = set(re.findall(r'"url":"(https?://[^"]+)"', network))
    return Visit(
        document=run.stdout.decode(),
        console=tuple(CONSOLE.findall(run.stderr.decode(errors="replace"))),
        addresses=tuple(sorted(url for url in asked if urlsplit(url).hostname not in HOUSEKEEPING)),
    )
