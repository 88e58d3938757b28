"""The real server and a bare one in processes of their own, as the benchmarks start, ask and measure them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

READY_SECONDS = 120.0
BARE = """
import sys, litestar, uvicorn
@litestar.get("/health/ready", media_type="application/json")
async def hello() -> bytes:
    return b'{"hello":"world"}'
app = litestar.Litestar([hello], openapi_config=None)
if __name__ == "__main__":
    uvicorn.run("bare:app", port=int(sys.argv[1]), workers=2, log_level="error", access_log=False)
"""
SERVE = "import sys; from bayes_pricing.cli.main import run; run(sys.argv[1:])"


def prepare(folder: Path, items: int, models: int) -> dict[str, str]:
    """A made-up shop with published models, one of them live, and a key."""
    command = [sys.executable, "-m", "server.rehearsal", str(folder), str(items), str(models)]
    done = subprocess.run(command, check=True, capture_output=True, env=environment())
    return msgspec.json.decode(done.stdout, type=dict[str, str])


@contextlib.contextmanager
def serving(folder: Path, workers: int) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """The server's own command on a shop; port, process, and seconds from start to ready."""
    port = free_port()
    words = ["serve", "--data-dir", str(folder), "--port", str(port), "--workers", str(workers)]
    room = {
        "BAYES_PRICING_RATE_PER_SECOND": "1e6",
        "BAYES_PRICING_RATE_BURST": "1e6",
        "BAYES_PRICING_LOG_LEVEL": "error",
    }
    started = time.perf_counter()
    command = [sys.executable, "-c", SERVE, *words]
    process = subprocess.Popen(command, env=environment() | room, stderr=subprocess.DEVNULL)
    try:
        wait_ready(port)
        yield port, process, time.perf_counter() - started
    finally:
        stop(process)


@contextlib.contextmanager
def bare_server(folder: Path) -> Iterator[int]:
    """A hello-world under the same server program; its port."""
    (folder / "bare.py").write_text(BARE)
    port = free_port()
    process = subprocess.Popen([sys.executable, "bare.py", str(port)], cwd=folder, env=environment())
    try:
        wait_ready(port)
        yield port
    finally:
        stop(process)


def post(port: int, token: str, path: str, body: dict[str, object]) -> float:
    """Milliseconds of one request on a connection of its own."""
    started = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request("POST", path, msgspec.json.encode(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != 200:
        raise SystemExit(f"{path} answered {answer.status}: {content[:300]!r}")
    return 1e3 * (time.perf_counter() - started)


def memory_megabytes(parent: int) -> float:
    """Memory of a process and its children, what they share counted once."""
    return sum(_proportional(process) for process in [parent, *children(parent)]) / 1024.0


def environment() -> dict[str, str]:
    """One thread for each process's arrays."""
    return os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_ready(port: int) -> None:
    """Wait for the server to be ready."""
    end = time.perf_counter() + READY_SECONDS
    while time.perf_counter() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.02)
    raise SystemExit(f"the server was not ready within {READY_SECONDS} seconds")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server and wait for it."""
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


def children(parent: int) -> list[int]:
    """Numbers of the processes below one."""
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [found for child in listed for found in (int(child), *children(int(child)))]


def _proportional(process: int) -> float:
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return float(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]


def own_kilobytes(process: int) -> float:
    """Kilobytes that nobody shares; shares of what others map too change when those others come and go."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return float(sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+)", text, re.MULTILINE)))


def wait_warm(port: int, token: str, workers: int) -> float:
    """Wait until every process says that it has loaded what live answers need; seconds waited."""
    begin = time.perf_counter()
    while time.perf_counter() < begin + READY_SECONDS:
        said = get(port, token, "/metrics")
        found = re.search(rb"^bp_processes_warm (\S+)", said, re.MULTILINE)
        if found is not None and float(found[1]) == workers:
            return time.perf_counter() - begin
        time.sleep(0.1)
    raise SystemExit(f"the server's processes were not warm within {READY_SECONDS} seconds")


def get(port: int, token: str, path: str) -> bytes:
    """Body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().read()
    finally:
        connection.close()


def open_sockets(process: int) -> int:
    """How many sockets a process holds."""
    found = 0
    for place in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(place.readlink()).startswith("socket:")
    return found
