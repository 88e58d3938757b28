"""Several threads may read a type for the first time at once; without care msgspec ends the process there."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import dataclasses, sys, threading
import msgspec
from server.readers import readable

sys.setswitchinterval(1e-6)
for number in range(60):
    inner = dataclasses.make_dataclass("Inner", [(f"part_{n}", "float", 0.0) for n in range(10)], frozen=True)
    outer = dataclasses.make_dataclass("Outer", [(f"field_{n}", inner, inner()) for n in range(10)], frozen=True)
    plain = msgspec.to_builtins(outer())
    together = threading.Barrier(8)

    def read():
        together.wait()
        assert msgspec.convert(plain, readable(outer)) == outer()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_first_readers_at_once_do_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", RACE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
