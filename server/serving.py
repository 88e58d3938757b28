"""Processes that answer requests: one socket, N workers, each replaced when it dies, all drained at a stop."""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import time
from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections.abc import MutableMapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from bayes_pricing.errors import SpecError
from server.logs import configure_logging, write_log
from server.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from litestar import Litestar

LOGGER = logging.getLogger("bayes_pricing.serving")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
LOOK_SECONDS = 0.1
LOADED_ONCE = ("server.app", "server.metrics", "uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on")
M_ARENA_MAX = -8  # of malloc.h
MOST_ARENAS = 2
"""Heaps of a process: else every thread that has ever given a live answer keeps some megabytes of its own."""
QUICK_DEATH_SECONDS = 2.0
MOST_QUICK_DEATHS = 5  # in a row, for each worker
LAST_GRACE_SECONDS = 5.0
SWITCH_SECONDS = 0.0005
"""Longest a thread behind the requests (the audit's) computes before the loop gets its turn; Python's 5 ms, met several
times by one request, are the tail of its latency."""
NOT_READY = {
    "type": "/problems/unavailable",
    "title": "Not available now",
    "status": 503,
    "detail": "The server is stopping; ask another one.",
}


def run_server(settings: Settings) -> int:
    """Serve until told to stop (SIGTERM or SIGINT); the exit code.

    At the signal every worker says at ``/health/ready`` that it is not ready, and ``Connection: close`` with each
    answer; after `notice_seconds` it closes the door, finishes what it has begun within `drain_seconds`, writes the
    audit and ends.

    Raises
    ------
    SpecError
        If the address cannot be listened on.
    """
    for name in ONE_THREAD:  # before numpy is loaded: the processes are the parallelism
        os.environ.setdefault(name, "1")
    own_folder = settings.runtime_dir == Path("")
    settings = settings.with_runtime_dir()
    counts = settings.runtime_dir / "metrics"
    shutil.rmtree(counts, ignore_errors=True)
    counts.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
    configure_logging(settings)
    listener = listen(settings)
    try:
        _prepare(settings)
        host, port = listener.getsockname()[:2]
        write_log(LOGGER, "info", "serving", {"host": host, "port": port, "workers": settings.workers})
        return _supervise(settings, listener)
    finally:
        listener.close()
        if own_folder:
            shutil.rmtree(settings.runtime_dir, ignore_errors=True)


def listen(settings: Settings) -> socket.socket:
    """The socket that all workers share.

    Raises
    ------
    SpecError
        If the address is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise SpecError(
            f"{settings.host}:{settings.port} cannot be listened on ({error.strerror}); choose another port or host."
        ) from error
    listener.set_inheritable(True)
    return listener


def _prepare(settings: Settings) -> None:
    """Bring the database to its schema, and load the application's code once for all workers."""
    from server.store.database import open_database

    share_heaps()
    for name in LOADED_ONCE:
        importlib.import_module(name)
    open_database(settings.database_url).dispose()
    settle_memory()


def share_heaps() -> None:
    """Let all threads of this process, and of those it forks, share `MOST_ARENAS` heaps; where glibc allocates."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, MOST_ARENAS)


def settle_memory() -> None:
    """Take what is loaded for good out of the garbage collector's sight.

    Walking through it would stop every request for a tenth of a second, and write on pages that processes share.
    """
    gc.collect()
    gc.freeze()


def _supervise(settings: Settings, listener: socket.socket) -> int:
    """Keep the workers alive until a signal; then let them go."""
    stopping: list[int] = []
    previous = {
        number: signal.signal(number, lambda got, frame: stopping.append(got))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    started: dict[int, float] = {}
    quick_deaths = 0
    try:
        while not stopping:
            while len(started) < settings.workers:
                started[_start(settings, listener)] = time.monotonic()
            for number, status in _ended(started):
                lived = time.monotonic() - started.pop(number)
                quick_deaths = quick_deaths + 1 if lived < QUICK_DEATH_SECONDS else 0
                told = {"process": number, "status": status, "seconds": round(lived, 1)}
                write_log(LOGGER, "error", "worker_died", told)
            if quick_deaths >= MOST_QUICK_DEATHS * settings.workers:
                write_log(LOGGER, "error", "workers_keep_dying", {"deaths": quick_deaths})
                return 1
            time.sleep(LOOK_SECONDS)
    finally:
        listener.close()
        _let_go(settings, started)
        for number, handler in previous.items():
            signal.signal(number, handler)
    write_log(LOGGER, "info", "stopped", {})
    return 0


def _start(settings: Settings, listener: socket.socket) -> int:
    """A new worker process; its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, signal.SIG_DFL)
        code = _work(settings, listener)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        if code and sys.exc_info()[0] is not None:
            LOGGER.exception("worker_failed")
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


def _work(settings: Settings, listener: socket.socket) -> int:
    """Answer requests in this process until told to stop."""
    from server.app import create_app

    sys.setswitchinterval(SWITCH_SECONDS)
    config = _config(settings)
    server = _server_class()(config, notice_seconds=settings.notice_seconds, parent=os.getppid())
    config.app = Draining(create_app(settings, warmed=settle_memory), server)
    server.run(sockets=[listener])
    return 0 if server.started else 1


def _ended(started: dict[int, float]) -> list[tuple[int, int]]:
    """Workers that ended, with how."""
    from server.metrics import forget_process

    found = []
    for number in list(started):
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            forget_process(number)
            found.append((number, os.waitstatus_to_exitcode(status)))
    return found


def _let_go(settings: Settings, started: dict[int, float]) -> None:
    for number in started:
        os.kill(number, signal.SIGTERM)
    give_up = time.monotonic() + settings.notice_seconds + settings.drain_seconds + LAST_GRACE_SECONDS
    while started and time.monotonic() < give_up:
        for number, _ in _ended(started):
            del started[number]
        time.sleep(LOOK_SECONDS / 2)
    for number in started:
        write_log(LOGGER, "error", "worker_killed", {"process": number})
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)


class Draining:
    """The application, which while its server is leaving says so to everybody who asks."""

    def __init__(self, inner: Litestar, server: Any) -> None:
        self._inner, self._server = inner, server

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Pass the request on; at a stop, answer readiness here and ask the asker to go."""
        if scope["type"] != "http" or not self._server.leaving:
            await self._inner(scope, receive, send)  # type: ignore[arg-type]
            return

        async def farewell(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        if scope["path"] != "/health/ready":
            await self._inner(scope, receive, farewell)  # type: ignore[arg-type]
            return
        headers = [(b"content-type", b"application/problem+json"), (b"retry-after", b"5")]
        await farewell({"type": "http.response.start", "status": 503, "headers": headers})
        await farewell({"type": "http.response.body", "body": msgspec.json.encode(NOT_READY)})


def _config(settings: Settings) -> uvicorn.Config:
    import uvicorn

    return uvicorn.Config(
        app="set when the process has been started",
        http=_protocol_class(settings.request_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
    )


def _server_class() -> Any:
    """uvicorn's server with a notice before it leaves; made here, as uvicorn is loaded only by who serves."""
    import uvicorn

    class NoticeServer(uvicorn.Server):
        """Says that it will leave, goes on for a while, and only then closes its door."""

        def __init__(self, config: uvicorn.Config, *, notice_seconds: float, parent: int) -> None:
            super().__init__(config)
            self._notice, self._parent = notice_seconds, parent
            self._leave_at: float | None = None

        @property
        def leaving(self) -> bool:
            """A signal has come."""
            return self._leave_at is not None

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            """First signal: give notice. Second: leave now."""
            if self._leave_at is None:
                self._leave_at = time.monotonic() + self._notice
            else:
                self.should_exit = True

        async def on_tick(self, counter: int) -> bool:
            """Leave when the notice is over; give notice when the supervisor is gone."""
            if self._leave_at is None and os.getppid() != self._parent:
                self._leave_at = time.monotonic() + self._notice
            if self._leave_at is not None and time.monotonic() >= self._leave_at:
                self.should_exit = True
            return await super().on_tick(counter)

    return NoticeServer


def _protocol_class(patience: float) -> Any:
    """uvicorn's HTTP protocol that hangs up on who takes longer than `patience` seconds to send a request."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class PatientProtocol(HttpToolsProtocol):
        """A connection whose requests must arrive in time."""

        _waiting: TimerHandle | None = None

        def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
            """A client connects: his first request is due."""
            super().connection_made(transport)
            self._wait(self.loop)

        def on_message_begin(self) -> None:
            """A request begins: the rest of it is due."""
            super().on_message_begin()
            if self._waiting is None:
                self._wait(self.loop)

        def on_message_complete(self) -> None:
            """A request is complete."""
            super().on_message_complete()
            self._rest()

        def connection_lost(self, exc: Exception | None) -> None:
            """The connection is gone."""
            self._rest()
            super().connection_lost(exc)

        def _wait(self, loop: AbstractEventLoop) -> None:
            self._waiting = loop.call_later(patience, self._hang_up)

        def _rest(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _hang_up(self) -> None:
            self._waiting = None
            if not self.transport.is_closing():
                self.transport.close()

    return PatientProtocol
