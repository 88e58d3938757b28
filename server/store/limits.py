r"""Rate limits shared by the processes of one host: a table in shared memory, exact, without a query.

The generic cell rate algorithm keeps one number per key, the theoretical arrival time :math:`T`. A request of cost
:math:`c` at time :math:`t` under rate :math:`r` and burst :math:`b` passes if

.. math:: T' = \max(T, t) + c / r, \qquad T' - t \le b / r,

and then :math:`T := T'`; otherwise it may come back after :math:`T' - t - b / r` seconds. In any window of :math:`s`
seconds at most :math:`b + r s` requests pass, over all processes together: each step holds a lock on the bucket's
bytes, so none is counted twice or lost. Behind several hosts the bound is per host.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from bayes_pricing.errors import SpecError

SLOT = struct.Struct("=Qd")
SLOTS_IN_BUCKET = 8
BUCKETS = 8192
BUCKET_BYTES = SLOT.size * SLOTS_IN_BUCKET


class RateLimiter:
    """How long each asker has to wait; one table for all processes that open the same file.

    Call it from one thread of a process (the event loop's): the lock is between processes.

    Parameters
    ----------
    path : Path
        File of the table, made if it is absent; on a local disk or in memory.
    rate_per_second, burst : float
        What a key may do that has no rate of its own; the burst is in requests.
    clock : function
        Seconds, the same in all processes of the host.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> limiter = RateLimiter(Path(folder.name) / "limits", rate_per_second=10, burst=2, clock=lambda: 100.0)
    >>> limiter.take("shop"), limiter.take("shop"), round(limiter.take("shop"), 6)
    (0.0, 0.0, 0.1)
    >>> limiter.take("another")
    0.0
    >>> limiter.close(); folder.cleanup()
    """

    def __init__(
        self, path: Path, *, rate_per_second: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not (rate_per_second > 0 and burst >= 1):
            raise SpecError(
                f"A rate limit needs a rate above 0 and a burst of at least 1, not {rate_per_second}, {burst}."
            )
        self._rate, self._burst, self._clock = rate_per_second, burst, clock
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, BUCKETS * BUCKET_BYTES)
        self._table = mmap.mmap(self._file, BUCKETS * BUCKET_BYTES)
        self._places: dict[str, tuple[int, int]] = {}

    def take(self, asker: str, cost: float = 1.0, rate_per_second: float | None = None) -> float:
        """Count a request of `asker`; seconds to wait before it may come again, 0.0 where it may pass.

        Parameters
        ----------
        asker : str
            A key's id, or an address.
        cost : float
            In requests; one above the burst counts as a full burst.
        rate_per_second : float, optional
            The asker's own rate, in place of the table's; its burst grows in proportion.
        """
        rate = rate_per_second or self._rate
        span = self._burst / self._rate
        identity, start = self._place(asker)
        fcntl.lockf(self._file, fcntl.LOCK_EX, BUCKET_BYTES, start)
        try:
            now = self._clock()
            slot, arrival = self._find(identity, start, now)
            due = max(arrival, now) + min(cost / rate, span)
            wait = due - now - span
            if wait > 1e-9:
                return wait
            SLOT.pack_into(self._table, slot, identity, due)
            return 0.0
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, BUCKET_BYTES, start)

    def close(self) -> None:
        """Let go of the table; other processes keep it."""
        self._table.close()
        os.close(self._file)

    def _place(self, asker: str) -> tuple[int, int]:
        place = self._places.get(asker)
        if place is None:
            digest = hashlib.blake2b(asker.encode(), digest_size=12).digest()
            identity = int.from_bytes(digest[:8], "big") or 1
            place = identity, (int.from_bytes(digest[8:], "big") % BUCKETS) * BUCKET_BYTES
            if len(self._places) >= BUCKETS:
                self._places.clear()
            self._places[asker] = place
        return place

    def _find(self, identity: int, start: int, now: float) -> tuple[int, float]:
        """The asker's slot and arrival time; else the slot of the bucket that has been idle longest.

        A slot whose arrival time is past says as much as no slot. Where eight busy askers fill a bucket, the one
        closest to idle is forgotten, which forgives it at most one burst.
        """
        oldest, oldest_arrival = start, float("inf")
        for slot in range(start, start + BUCKET_BYTES, SLOT.size):
            found, arrival = SLOT.unpack_from(self._table, slot)
            if found == identity:
                return slot, arrival
            if arrival < oldest_arrival:
                oldest, oldest_arrival = slot, arrival
        return oldest, now
