"""Speed of the real server: recommendations, live questions, promotion, start and memory; ratios to a bare app.

    python -m simulations.benchmarks.server [--items 2000] [--seconds 10] [--rounds 3] [--connections 16]
    python -m simulations.benchmarks.server --soak 600

Needs `wrk`. The bare application is a Litestar hello-world under the same server program, asked in turns with the real
one, because requests a second and latencies of two machines, or of two minutes on one, do not compare: read the ratios.
With `--soak` the server is kept at half its full load for so many seconds, live questions among it, and what is printed
is errors and the memory of each process. Every connection asks again as soon as it is answered, so that the machine is
always full: more connections wait longer and are not answered faster.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simulations.benchmarks.server_processes import (
    bare_server,
    children,
    get,
    memory_megabytes,
    own_kilobytes,
    post,
    prepare,
    serving,
    wait_warm,
)
from simulations.benchmarks.server_switch import measure_switch

WORKERS = 2
CONNECTIONS = 16
BULK_ITEMS = 1000
WHAT_IFS_PER_SECOND = 50
SOAK_WHAT_IFS_PER_SECOND = 5
SOAK_LOOKS = 10
WHY_EVERY = 5
SWITCHES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk saw: requests a second, latencies in milliseconds, requests that failed or got no answer."""

    rate: float
    p50: float
    p99: float
    failed: int


def main() -> None:
    """Measure everything and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the bare and the real server")
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help="that ask as fast as they are answered")
    parser.add_argument("--soak", type=int, default=0, help="seconds at half load, in place of everything else")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; it is the load generator of this benchmark.")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        made = prepare(folder / "shop", asked.items, models=1 if asked.soak else 2)
        token = made["token"]
        script = folder / "items.lua"
        script.write_text(lua(token, asked.items))
        if asked.soak:
            with serving(folder / "shop", WORKERS) as (port, process, _):
                soak(folder, port, process.pid, token, asked)
            return
        with serving(folder / "shop", 1) as (_, process, _):
            one = memory_megabytes(process.pid)
        with serving(folder / "shop", WORKERS) as (port, process, ready):
            two = memory_megabytes(process.pid)
            wait_warm(port, token, WORKERS)
            with bare_server(folder) as bare:
                compare(f"http://127.0.0.1:{bare}/health/ready", f"http://127.0.0.1:{port}", script, asked)
            measure_live(port, token, asked)
            first, second = made["models"].split(",")
            switches = measure_switch(port, process.pid, token, (first, second), SWITCHES)
        print(f"promotion to all serving: median {np.median(switches):6.2f} s, worst {max(switches):6.2f} s (limit 2)")
        print(f"start to ready:          {ready:8.2f} s (limit 3)")
        print(f"memory: {one:.0f} MB with one worker, {two:.0f} MB with two: {two - one:+.0f} MB (limit 150)")


def compare(bare: str, real: str, script: Path, asked: argparse.Namespace) -> None:
    """The bare and the real server under full load, in turns; medians over the rounds, and ratios within each."""
    seconds, connections = asked.seconds, asked.connections
    wrk(real, seconds, script, connections)  # every answer is new to the audit once; that is not the steady state
    rounds = [
        (wrk(bare, seconds, None, connections), wrk(real, seconds, script, connections)) for _ in range(asked.rounds)
    ]
    print(f"{connections} connections, {WORKERS} workers, {asked.rounds} rounds of {seconds} s:")
    for name, place in (("bare hello-world:      ", 0), ("single recommendations:", 1)):
        loads = [found[place] for found in rounds]
        rate, p50, p99 = (np.median([getattr(load, what) for load in loads]) for what in ("rate", "p50", "p99"))
        failed = sum(load.failed for load in loads)
        print(f"{name}  {rate:8,.0f} requests/s, p50 {p50:6.2f} ms, p99 {p99:6.2f} ms, {failed} failed")
    faster = np.median([ours.rate / hello.rate for hello, ours in rounds])
    slower = np.median([ours.p99 / hello.p99 for hello, ours in rounds])
    print(f"ratio to bare:           {faster:.0%} of its rate (60 %), {slower:.2f} times its p99")


def measure_live(port: int, token: str, asked: argparse.Namespace) -> None:
    """Bulk calls and live questions of the running server."""
    names = [f"item-{place:05d}" for place in range(min(BULK_ITEMS, asked.items))]
    bulk = [post(port, token, "/v1/recommendations", {"items": names}) for _ in range(20)]
    middle = np.median(bulk[1:])
    print(f"bulk of {len(names)}:            median {middle:6.1f} ms, worst {max(bulk[1:]):6.1f} ms (limit 100)")
    post(port, token, "/v1/what-if", {"item": names[0], "prices": [9.0]})
    live = paced(port, token, names, asked.seconds, WHAT_IFS_PER_SECOND)
    print(
        f"what-if at {WHAT_IFS_PER_SECOND}/s:         p50 {np.quantile(live, 0.5):6.1f} ms, "
        f"p99 {np.quantile(live, 0.99):6.1f} ms (limit 100)"
    )


def soak(folder: Path, port: int, parent: int, token: str, asked: argparse.Namespace) -> None:
    """Half the full load for a long time, live questions among it: errors, and what own memory does meanwhile.

    Each process has answered at full speed for some seconds before, so that half the full load is known.
    """
    wait_warm(port, token, WORKERS)
    processes = [parent, *children(parent)]
    start = [own_kilobytes(number) / 1024.0 for number in processes]
    _show("warm", start)
    script, slow = folder / "items.lua", folder / "half.lua"
    address = f"http://127.0.0.1:{port}"
    full = wrk(address, min(10, asked.soak), script, asked.connections)
    pause = 2e3 * asked.connections / full.rate - full.p50
    slow.write_text(script.read_text() + f"delay = function() return {max(int(pause), 0)} end\n")
    names = [f"item-{place:05d}" for place in range(min(BULK_ITEMS, asked.items))]
    paced(port, token, names, min(10, asked.soak), SOAK_WHAT_IFS_PER_SECOND)
    with ThreadPoolExecutor(max_workers=2) as pool:
        half = pool.submit(wrk, address, asked.soak, slow, asked.connections)
        live = pool.submit(paced, port, token, names, asked.soak, SOAK_WHAT_IFS_PER_SECOND, WHY_EVERY)
        seen: list[list[float]] = []
        for part in range(SOAK_LOOKS + 1):
            seen.append([own_kilobytes(number) / 1024.0 for number in processes])
            _show(f"{part * asked.soak // SOAK_LOOKS} s", seen[-1])
            time.sleep(asked.soak / SOAK_LOOKS if part < SOAK_LOOKS else 0)
        load, answered = half.result(), live.result()
    marks = (seen[0], seen[1], start)
    grown = [sum(seen[-1]) / sum(since) - 1.0 for since in marks]
    share, asked_in_all = load.rate / full.rate, load.rate * asked.soak
    print(f"half load:               {load.rate:8,.0f} requests/s ({share:.0%} of full), p99 {load.p99:.2f} ms")
    print(f"errors:                  {load.failed} of {asked_in_all:,.0f}; none of {len(answered)} live questions")
    whole, settled, first = grown
    print(f"memory of all together:  {whole:+.1%} under half load (limit 5 %), {settled:+.1%} after its first tenth")
    print(f"                         {first:+.1%} since before the first request: what serving itself takes is in it")


def _show(when: str, sizes: list[float]) -> None:
    print(f"{when:>7s}  {'  '.join(f'{size:6.1f} MB' for size in sizes)}", flush=True)


def wrk(address: str, seconds: int, script: Path | None, connections: int) -> Load:
    """Load of one thread."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    words += [] if script is None else ["-s", str(script)]
    done = subprocess.run([*words, address], check=True, capture_output=True, text=True).stdout
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done)
    return Load(
        rate=float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1]),  # type: ignore[index]
        p50=_milliseconds(done, "50%"),
        p99=_milliseconds(done, "99%"),
        failed=(int(bad[1]) if bad else 0) + (sum(map(int, broken.groups())) if broken else 0),
    )


def _milliseconds(text: str, share: str) -> float:
    number, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def lua(token: str, items: int) -> str:
    """Requests for one item after the other."""
    return (
        f'local n = 0\nlocal headers = {{["Authorization"] = "Bearer {token}"}}\n'
        f"request = function()\n  n = (n + 1) % {items}\n"
        '  return wrk.format("GET", string.format("/v1/items/item-%05d/recommendation", n), headers)\nend\n'
    )


def paced(port: int, token: str, names: list[str], seconds: int, per_second: int, why_every: int = 0) -> list[float]:
    """Milliseconds of live what-ifs asked at a steady pace, whether earlier ones were answered or not.

    With `why_every`, the last of every so many is followed by the question why its item's price is what it is.
    """
    begin = time.perf_counter()
    with ThreadPoolExecutor(max_workers=32) as pool:
        waiting = []
        for place in range(seconds * per_second):
            time.sleep(max(begin + place / per_second - time.perf_counter(), 0.0))
            body: dict[str, object] = {"item": names[place % len(names)], "prices": np.linspace(8, 12, 41).tolist()}
            waiting.append(pool.submit(post, port, token, "/v1/what-if", body))
            if why_every and place % why_every == why_every - 1:
                pool.submit(get, port, token, f"/v1/items/{body['item']}/explanation").result()
        return [asked.result() for asked in waiting]


if __name__ == "__main__":
    main()
