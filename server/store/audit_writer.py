"""What stands between a request and the audit: a bounded queue and a thread that writes it in batches."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.engine import Engine

from server.store.audit import NewEntry, add_counts, answer_id, append_entries
from server.store.database import writing
from server.store.failures import StoreUnavailable

QUEUE_BYTES = 64_000_000
FLUSH_SECONDS = 0.2
COUNTS_EVERY = 5
"""Flushes for each one that writes counts too: those are a row for every item asked for, whatever the pause."""
IDS_KEPT = 10_000
"""Ids that are known to be written; one that was forgotten is looked up in the table."""
MOST_COUNTS = 200_000
ENTRIES_AT_ONCE = 500
LOGGER = logging.getLogger("bayes_pricing.audit")


@dataclass(slots=True)
class Count:
    """How often an answer was served since the last write."""

    served: int
    first: datetime
    last: datetime


class AuditWriter:
    """Takes answers without waiting and writes them to the audit behind the request.

    A graceful stop writes everything. A killed process loses what it served since its last write: new answers of at
    most `flush_seconds`, and counts of five times that, while the database answers. While it does not, answers wait in
    the queue; when that is full, `served` refuses, so that no answer goes out that the audit will never hold.

    Parameters
    ----------
    engine : Engine
    queue_bytes : int
        Of requests and answers that wait.
    flush_seconds : float
        Between two writes.

    Examples
    --------
    >>> import tempfile
    >>> from server.store.audit import find_entry
    >>> from server.store.database import open_database
    >>> folder = tempfile.TemporaryDirectory()
    >>> engine = open_database(f"sqlite:///{folder.name}/server.db")
    >>> writer = AuditWriter(engine)
    >>> name = writer.served("recommendation", "m1", b'{"item":"tea"}', b'{"price":4.5}')
    >>> writer.again(name)
    >>> writer.flush()
    >>> find_entry(engine, name).served
    2
    >>> engine.dispose(); folder.cleanup()
    """

    def __init__(self, engine: Engine, *, queue_bytes: int = QUEUE_BYTES, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._engine = engine
        self._queue_bytes = queue_bytes
        self._flush_seconds = flush_seconds
        self._waiting: dict[str, NewEntry] = {}
        self._waiting_bytes = 0
        self._counts: dict[str, Count] = {}
        self._written: set[str] = set()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write behind the requests."""
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end.

        Raises
        ------
        StoreUnavailable
            If the database does not take it; it is still in the queue.
        """
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.flush()

    def served(self, kind: str, model_id: str, request: bytes, answer: bytes) -> str:
        """Count an answer, and remember it if it is new; its id.

        Raises
        ------
        StoreUnavailable
            If the queue is full because the database does not answer.
        """
        name = answer_id(kind, model_id, request, answer)
        now = datetime.now(UTC)
        with self._lock:
            if name not in self._written and name not in self._waiting:
                size = len(request) + len(answer)
                if self._waiting_bytes + size > self._queue_bytes or len(self._counts) >= MOST_COUNTS:
                    raise StoreUnavailable("The audit cannot be written, and its queue is full; try again shortly.")
                self._waiting_bytes += size
                self._waiting[name] = NewEntry(
                    id=name, at=now, kind=kind, model_id=model_id, by="", request=request, answer=answer
                )
            self._count(name, 1, now, now)
        return name

    def again(self, name: str) -> None:
        """Count an answer that this process gave to `served` before."""
        now = datetime.now(UTC)
        with self._lock:
            self._count(name, 1, now, now)

    def flush(self, *, counts: bool = True) -> None:
        """Write what waits now; without `counts`, new answers only.

        Raises
        ------
        StoreUnavailable
            If the database does not take it; what was not written stays in the queue.
        """
        with self._flushing:
            while self._flush_some(counts=counts):
                pass

    def waiting(self) -> int:
        """Distinct answers not yet written."""
        with self._lock:
            return len(self._waiting)

    def _flush_some(self, *, counts: bool) -> bool:
        """Write a batch; True where more waits."""
        with self._lock:
            names = list(self._waiting)[:ENTRIES_AT_ONCE]
            entries = [self._waiting[name] for name in names]
            told = self._take_counts(names) if counts else {}
        if not entries and not told:
            return False
        try:
            with writing(self._engine) as connection:
                append_entries(connection, entries)
                add_counts(connection, [(name, c.served, c.first, c.last) for name, c in told.items()])
        except BaseException:
            with self._lock:
                for name, count in told.items():
                    self._count(name, count.served, count.first, count.last)
            raise
        with self._lock:
            for entry in entries:
                del self._waiting[entry.id]
                self._waiting_bytes -= len(entry.request) + len(entry.answer)
            if len(self._written) > IDS_KEPT:
                self._written.clear()
            self._written.update(names)
            return bool(self._waiting)

    def _take_counts(self, names: list[str]) -> dict[str, Count]:
        """Counts of answers that are written, or are about to be; the others stay."""
        later = self._waiting.keys() - set(names) if len(self._waiting) > len(names) else set()
        taken = {name: count for name, count in self._counts.items() if name not in later}
        self._counts = {name: count for name, count in self._counts.items() if name in later}
        return taken

    def _count(self, name: str, served: int, first: datetime, last: datetime) -> None:
        count = self._counts.get(name)
        if count is None:
            self._counts[name] = Count(served, first, last)
        else:
            count.served += served
            count.first, count.last = min(count.first, first), max(count.last, last)

    def _run(self) -> None:
        turn = 0
        while not self._stopped.wait(self._flush_seconds):
            turn += 1
            try:
                self.flush(counts=turn % COUNTS_EVERY == 0)
            except StoreUnavailable as error:
                LOGGER.warning("audit_waits", extra={"fields": {"entries": self.waiting(), "reason": str(error)}})
