"""Rate limits: what passes in a window is bounded, whoever counts, and askers do not pay for each other."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bayes_pricing.errors import SpecError
from server.store.limits import BUCKETS, RateLimiter


@dataclass(slots=True)
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_burst_then_rate_then_rest(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(tmp_path / "limits", rate_per_second=10, burst=5, clock=clock)
    assert [limiter.take("shop") for _ in range(5)] == [0.0] * 5
    assert limiter.take("shop") == pytest.approx(0.1)  # one request is earned back in 1 / rate
    assert limiter.take("other") == 0.0
    clock.now += 0.1
    assert limiter.take("shop") == 0.0
    assert limiter.take("shop") > 0
    clock.now += 100  # rest earns one burst, not more
    assert sum(limiter.take("shop") == 0.0 for _ in range(20)) == 5
    limiter.close()


def test_own_rate_and_cost(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(tmp_path / "limits", rate_per_second=10, burst=10, clock=clock)
    assert limiter.take("bulk", cost=7) == 0.0
    assert limiter.take("bulk", cost=4) == pytest.approx(0.1)
    assert sum(limiter.take("vip", rate_per_second=20) == 0.0 for _ in range(50)) == 20
    assert limiter.take("huge", cost=1000) == 0.0  # a full burst, not a lock-out
    assert limiter.take("huge") > 0
    limiter.close()


TAKE_MANY = """
import sys
from pathlib import Path
from server.store.limits import RateLimiter
limiter = RateLimiter(Path(sys.argv[1]), rate_per_second=1e-3, burst=1000, clock=lambda: 5.0)
print(sum(limiter.take("shop") == 0.0 for _ in range(1500)))
"""


def test_processes_share_one_count(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TAKE_MANY, str(tmp_path / "limits")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    passed = [int(process.communicate()[0]) for process in processes]
    assert sum(passed) == 1000  # none counted twice, none lost


def test_more_askers_than_buckets_do_not_block_each_other(tmp_path: Path) -> None:
    limiter = RateLimiter(tmp_path / "limits", rate_per_second=1, burst=2)
    assert all(limiter.take(f"asker {number}") == 0.0 for number in range(BUCKETS + 10))
    limiter.close()


def test_nonsense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        RateLimiter(tmp_path / "limits", rate_per_second=float("nan"), burst=1)
