"""Speed of the real server: single and bulk recommendations, live questions, start and memory; ratios to a bare app.

    python -m simulations.benchmarks.server [--items 2000] [--seconds 10]

Needs `wrk`. The bare application is a Litestar hello-world under the same server program in the same run, because
requests a second of two machines, or of two minutes on one, do not compare.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

WORKERS = 2
CONNECTIONS = 32
BULK_ITEMS = 1000
WHAT_IFS_PER_SECOND = 50
READY_SECONDS = 120.0
WARM_SECONDS = 8.0
"""After it is ready a process loads, behind the requests, what its first live answer needs; that is not measured."""
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


def main() -> None:
    """Measure everything and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=10)
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; it is the load generator of this benchmark.")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        made = prepare(folder / "shop", asked.items)
        bare = bare_speed(folder, asked.seconds)
        print(f"bare hello-world:        {bare[0]:8,.0f} requests/s, p99 {bare[1]:6.2f} ms")
        with serving(folder / "shop", 1) as (_, process, _):
            one = memory_megabytes(process.pid)
        with serving(folder / "shop", WORKERS) as (port, process, ready):
            two = memory_megabytes(process.pid)
            measure(folder, port, made["token"], asked, bare[0])
        print(f"start to ready:          {ready:8.2f} s (limit 3)")
        print(f"memory: {one:.0f} MB with one worker, {two:.0f} MB with two: {two - one:+.0f} MB (limit 150)")


def measure(folder: Path, port: int, token: str, asked: argparse.Namespace, bare: float) -> None:
    """Load of the running server."""
    time.sleep(WARM_SECONDS)
    script = folder / "items.lua"
    script.write_text(lua(token, asked.items))
    rate, tail = wrk(f"http://127.0.0.1:{port}", asked.seconds, script)
    print(f"single recommendations:  {rate:8,.0f} requests/s, p99 {tail:6.2f} ms; {rate / bare:.0%} of bare (60 %)")
    names = [f"item-{place:05d}" for place in range(min(BULK_ITEMS, asked.items))]
    bulk = [post(port, token, "/v1/recommendations", {"items": names}) for _ in range(20)]
    middle = np.median(bulk[1:])
    print(f"bulk of {len(names)}:            median {middle:6.1f} ms, worst {max(bulk[1:]):6.1f} ms (limit 100)")
    post(port, token, "/v1/what-if", {"item": names[0], "prices": [9.0]})
    live = paced(port, token, names, asked.seconds)
    print(
        f"what-if at {WHAT_IFS_PER_SECOND}/s:         p50 {np.quantile(live, 0.5):6.1f} ms, "
        f"p99 {np.quantile(live, 0.99):6.1f} ms (limit 100)"
    )


def prepare(folder: Path, items: int) -> dict[str, str]:
    """A made-up shop with a live model and a key."""
    command = [sys.executable, "-m", "server.rehearsal", str(folder), str(items)]
    done = subprocess.run(command, check=True, capture_output=True, env=environment())
    return msgspec.json.decode(done.stdout, type=dict[str, str])


@contextlib.contextmanager
def serving(folder: Path, workers: int) -> Iterator[tuple[int, subprocess.Popen[bytes], float]]:
    """The server's own command on a shop; port, process, and seconds from start to ready."""
    port = free_port()
    words = ["serve", "--data-dir", str(folder), "--port", str(port), "--workers", str(workers)]
    room = {"BAYES_PRICING_RATE_PER_SECOND": "1e6", "BAYES_PRICING_RATE_BURST": "1e6"}
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", SERVE, *words], env=environment() | room)
    try:
        wait_ready(port)
        yield port, process, time.perf_counter() - started
    finally:
        stop(process)


def bare_speed(folder: Path, seconds: int) -> tuple[float, float]:
    """Requests a second and p99 in milliseconds of a hello-world."""
    (folder / "bare.py").write_text(BARE)
    port = free_port()
    process = subprocess.Popen([sys.executable, "bare.py", str(port)], cwd=folder, env=environment())
    try:
        wait_ready(port)
        return wrk(f"http://127.0.0.1:{port}/health/ready", seconds, None)
    finally:
        stop(process)


def wrk(address: str, seconds: int, script: Path | None) -> tuple[float, float]:
    """Requests a second, and the 99th percentile of latency in milliseconds."""
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    words += [] if script is None else ["-s", str(script)]
    done = subprocess.run([*words, address], check=True, capture_output=True, text=True)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    if bad is not None:
        raise SystemExit(f"{bad[1]} requests failed:\n{done.stdout}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index]
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout).groups()  # type: ignore[union-attr]
    return rate, float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def lua(token: str, items: int) -> str:
    """Requests for one item after the other."""
    return (
        f'local n = 0\nlocal headers = {{["Authorization"] = "Bearer {token}"}}\n'
        f"request = function()\n  n = (n + 1) % {items}\n"
        '  return wrk.format("GET", string.format("/v1/items/item-%05d/recommendation", n), headers)\nend\n'
    )


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


def paced(port: int, token: str, names: list[str], seconds: int) -> list[float]:
    """Milliseconds of live questions asked at a steady pace, whether earlier ones were answered or not."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(max_workers=32) as pool:
        waiting = []
        for place in range(seconds * WHAT_IFS_PER_SECOND):
            time.sleep(max(begin + place / WHAT_IFS_PER_SECOND - time.perf_counter(), 0.0))
            body: dict[str, object] = {"item": names[place % len(names)], "prices": np.linspace(8, 12, 41).tolist()}
            waiting.append(pool.submit(post, port, token, "/v1/what-if", body))
        return [asked.result() for asked in waiting]


def memory_megabytes(parent: int) -> float:
    """Memory of a process and its children, what they share counted once."""
    return sum(_proportional(process) for process in [parent, *_children(parent)]) / 1024.0


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


def _children(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [found for child in listed for found in (int(child), *_children(int(child)))]


def _proportional(process: int) -> float:
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return float(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]


if __name__ == "__main__":
    main()
