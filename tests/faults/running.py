"""The real server and the real worker in processes of their own, to be killed."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from server.store.aliases import promote
from server.store.database import open_database
from server.store.models import record_model
from server.store.publishing import publish_posterior
from tests.api.running import NO_EVIDENCE, PATIENT, Shop, market, wait_until_ready

ITEM = "/v1/items/item-00000/recommendation"
SERVE = (
    "import os, sys; from server.serving import run_server; from server.settings import Settings; "
    "sys.exit(run_server(Settings.from_environment(os.environ)))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server: its supervisor, where it answers, what it serves."""

    supervisor: subprocess.Popen[bytes]
    address: str
    shop: Shop

    def client(self) -> httpx.Client:
        """Somebody with a key that may do everything."""
        return httpx.Client(base_url=self.address, headers=self.shop.key, timeout=120.0, verify=False)

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one request on a connection of its own."""
        connection = http.client.HTTPConnection(self.address.removeprefix("http://"), timeout=120.0)
        try:
            connection.request("GET", path, headers=self.shop.key)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def processes(self) -> list[int]:
        """Numbers of the processes that answer."""
        number = self.supervisor.pid
        return [int(child) for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


@contextlib.contextmanager
def serving(
    shop: Shop, *, workers: int = 2, environ: Mapping[str, str] | None = None, until: str = "/health/ready"
) -> Iterator[Running]:
    """`serve` on a free port, from when an address says 200 until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {
        "DATA_DIR": str(shop.settings.data_dir),
        "DATABASE_URL": shop.settings.database_url,
        "RUNTIME_DIR": str(shop.settings.runtime_dir),
        "PORT": str(port),
        "WORKERS": str(workers),
        "RATE_PER_SECOND": str(PATIENT),
        "RATE_BURST": str(PATIENT),
        "POLL_SECONDS": "0.2",
        "NOTICE_SECONDS": "0.5",
        "LOG_LEVEL": "warning",
        **(environ or {}),
    }
    variables = {f"BAYES_PRICING_{name}": value for name, value in given.items()}
    supervisor = subprocess.Popen([sys.executable, "-c", SERVE], env=os.environ | variables)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, supervisor, path=until)
        yield Running(supervisor=supervisor, address=address, shop=shop)
    finally:
        if supervisor.poll() is None:
            supervisor.terminate()
        supervisor.wait(timeout=120)


def second_model(shop: Shop, seed: int = 2) -> str:
    """Another published model, not yet live."""
    posterior = market(seed=seed)
    model = publish_posterior(posterior, shop.settings.published_dir, seed=seed)
    engine = open_database(shop.settings.database_url)
    record_model(engine, model, fit_id=posterior.id, by="test", evidence=NO_EVIDENCE, about={})
    engine.dispose()
    return model


def promote_in_store(shop: Shop, model: str, expected_version: int) -> None:
    """Let a model go live without the server's help."""
    engine = open_database(shop.settings.database_url)
    promote(engine, "champion", model, expected_version=expected_version, by="test", reason="test", override=True)
    engine.dispose()


def eventually(holds: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Whether something becomes true; the time is no promise of speed, only an end for what never comes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError, http.client.HTTPException, OSError):
            if holds():
                return True
        time.sleep(0.02)
    return False


def kill(number: int) -> None:
    """End a process at once, without a chance to tidy up."""
    os.kill(number, signal.SIGKILL)
