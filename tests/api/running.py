"""A small published market behind the real application, in process or in a process of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.gate import Evidence
from server.settings import Settings
from server.store.aliases import promote
from server.store.database import open_database
from server.store.keys import SCOPES, create_key
from server.store.models import record_model
from server.store.publishing import publish_posterior
from tests.posteriors import ArrayPosterior, normal_posterior

NO_EVIDENCE = Evidence(diagnostics=None, calibration=None, backtest=None)
PATIENT = 1e6
"""A rate that no test meets by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Settings, the model that is live, and a key that may do everything."""

    settings: Settings
    model: str
    token: str

    @property
    def key(self) -> dict[str, str]:
        """The key as a header."""
        return {"Authorization": f"Bearer {self.token}"}


def market(items: int = 6, draws: int = 400, seed: int = 1) -> ArrayPosterior:
    """A posterior with items that change, hold and are tested."""
    return normal_posterior(items, draws, seed=seed)


def open_shop(folder: Path, posterior: DemandPosterior, **settings: object) -> Shop:
    """Publish a posterior and promote it, past a gate that has no evidence to look at."""
    chosen: dict[str, object] = {"rate_per_second": PATIENT, "rate_burst": PATIENT, "poll_seconds": 0.1, **settings}
    built = Settings(data_dir=folder, runtime_dir=folder / "run", **chosen)  # type: ignore[arg-type]
    model = publish_posterior(posterior, built.published_dir)
    engine = open_database(built.database_url)
    record_model(engine, model, fit_id=posterior.id, by="test", evidence=NO_EVIDENCE, about={})
    promote(engine, "champion", model, expected_version=0, by="test", reason="made up", override=True)
    token = create_key(engine, name="everything", scopes=SCOPES, by="test").token
    engine.dispose()
    return Shop(settings=built, model=model, token=token)


@contextlib.contextmanager
def running(shop: Shop) -> Iterator[str]:
    """The shop's server in a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "import sys, uvicorn; from pathlib import Path; from server.app import create_app; "
        "from server.settings import Settings; "
        f"uvicorn.run(create_app(Settings.from_environment(__import__('os').environ)), port={port}, log_level='error')"
    )
    prefix = "BAYES_PRICING_"
    given = {
        f"{prefix}DATA_DIR": str(shop.settings.data_dir),
        f"{prefix}RUNTIME_DIR": str(shop.settings.runtime_dir),
        f"{prefix}RATE_PER_SECOND": str(PATIENT),
        f"{prefix}RATE_BURST": str(PATIENT),
    }
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | given | {"OMP_NUM_THREADS": "1"})
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(address, process)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_until_ready(
    address: str, process: subprocess.Popen[bytes], seconds: float = 120.0, path: str = "/health/ready"
) -> None:
    """Wait until the server answers that it is ready, or whatever another address says with 200."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}{path}").status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"the server was not ready within {seconds} seconds")
