"""Workers under fire: killed in the middle of a job, stopped in the middle; the job is finished once, by the next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sqlalchemy.engine import Engine

from server.settings import Settings
from server.store.audit import list_entries
from server.store.database import open_database
from server.store.jobs import find_job, job_events, submit_job
from server.store.models import find_model, list_models
from server.tasks import HANDLERS
from server.worker import run_worker
from tests.changing import changing_market
from tests.faults.running import eventually, kill

LEASE = 5.0
"""Seconds: short enough to wait for, and more than a living worker is silent where others use the machine."""
PUBLISHING = """
import os, sys, threading, time
from pathlib import Path
from bayes_pricing.gate import Evidence
from server.settings import Settings
from server.store.database import open_database
from server.store.models import insert_model
from server.worker import Done, run_worker

def handler(run):
    for step in range(int(sys.argv[1])):
        run.progress(step / 1000, f"step {step}")
        time.sleep(0.02)
    record = lambda connection: insert_model(connection, "m1", fit_id="f1", by="job", evidence=Evidence(), about={})
    return Done(result={"process": os.getpid()}, also=record)

settings = Settings.from_environment(os.environ)
stop = threading.Event()
import signal
signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
run_worker(settings, open_database(settings.database_url), {"job": handler}, stop=stop, once=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, lease_seconds=LEASE)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    engine = open_database(settings.database_url)
    yield engine
    engine.dispose()


def start(settings: Settings, steps: int) -> subprocess.Popen[bytes]:
    environ = {"BAYES_PRICING_DATA_DIR": str(settings.data_dir), "BAYES_PRICING_LEASE_SECONDS": str(LEASE)}
    return subprocess.Popen([sys.executable, "-c", PUBLISHING, str(steps)], env=os.environ | environ)


def test_job_of_a_killed_worker_is_finished_once_by_the_next(settings: Settings, engine: Engine) -> None:
    job = submit_job(engine, "job", {}, by="shop").job
    first = start(settings, 100_000)
    assert eventually(lambda: "step" in find_job(engine, job.id).label)
    kill(first.pid)
    first.wait()
    seconds = [start(settings, 1), start(settings, 1)]  # two at once want it; before the lease ends neither gets it
    assert all(process.wait(timeout=120) == 0 for process in seconds)
    if not find_job(engine, job.id).finished:
        assert eventually(lambda: start(settings, 1).wait() == 0 and find_job(engine, job.id).finished)
    done = find_job(engine, job.id)
    assert (done.state, done.attempts) == ("done", 2)
    assert done.result is not None
    assert done.result["process"] != first.pid
    assert [entry.kind for entry in list_entries(engine)] == ["model_published"]
    assert [event.label for event in job_events(engine, job.id)].count("done") == 1


def test_stopped_worker_gives_its_job_back_at_once(settings: Settings, engine: Engine) -> None:
    job = submit_job(engine, "job", {}, by="shop").job
    worker = start(settings, 100_000)
    assert eventually(lambda: "step" in find_job(engine, job.id).label)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=120) == 0
    waiting = find_job(engine, job.id)
    assert (waiting.state, waiting.attempts) == ("queued", 0)
    assert start(settings, 1).wait(timeout=120) == 0
    assert find_job(engine, job.id).state == "done"


@pytest.mark.slow
def test_fit_of_a_killed_worker_is_published_once_with_its_evidence(settings: Settings, engine: Engine) -> None:
    rng = np.random.default_rng(1)
    price = rng.choice([4.0, 4.5, 5.0, 5.5], (8, 32))
    sales = pl.DataFrame(
        {
            "item": np.repeat([f"tea-{number}" for number in range(8)], 32),
            "period": np.tile(np.arange(32), 8),
            "price": price.ravel(),
            "quantity": np.exp(6 - 2 * np.log(price) + rng.normal(0, 0.3, (8, 32))).ravel(),
        }
    )
    settings.sources_dir.mkdir()
    sales.write_csv(settings.sources_dir / "tea.csv")
    request = {"sales": "source:tea.csv", "draws": 500, "seed": 1, "randomised_price": True}
    job = submit_job(engine, "fit", request, by="shop").job
    command = [sys.executable, "-c", "from bayes_pricing.cli.main import run; run(['worker', '--once'])"]
    environ = {"BAYES_PRICING_DATA_DIR": str(settings.data_dir), "BAYES_PRICING_LEASE_SECONDS": str(LEASE)}
    first = subprocess.Popen(command, env=os.environ | environ, stderr=subprocess.DEVNULL)
    assert eventually(lambda: find_job(engine, job.id).progress > 0.01, 300)
    kill(first.pid)
    first.wait()
    assert find_job(engine, job.id).state == "running"
    assert not settings.published_dir.exists()

    def work() -> bool:
        run_worker(settings, engine, HANDLERS, stop=threading.Event(), once=True)
        return find_job(engine, job.id).finished

    assert eventually(work, 600)
    done = find_job(engine, job.id)
    assert done.state == "done", done.problem
    assert done.attempts == 2
    assert done.result is not None
    record = find_model(engine, done.result["published"])
    assert record.fit_id == done.result["model"] == done.result["document"]["model"]
    assert record.evidence.backtest is not None
    assert record.evidence.backtest.rival == "each item's own mean"
    # Prices explain 0.25 of the sd of log units, noise 0.3: knowing the price must beat the mean.
    assert record.evidence.backtest.error < record.evidence.backtest.rival_error
    assert record.evidence.backtest.importance[0].feature == "price"
    assert record.evidence.backtest.importance[0].lower > 0
    assert record.verdict.passed, record.verdict.findings
    assert len(list_models(engine)) == 1
    assert [path.name for path in settings.published_dir.iterdir() if not path.name.startswith(".")] == [record.id]
    again = submit_job(
        engine, "publish", {"fit": record.fit_id, "policy": {"max_change": 0.1}, "seed": 1}, by="shop"
    ).job
    assert work()
    other = find_job(engine, again.id)
    assert other.state == "done", other.problem
    assert other.result is not None
    assert find_model(engine, other.result["published"]).evidence == record.evidence
    bulk = submit_job(engine, "recommend", {"model": record.fit_id, "seed": 1}, by="shop").job
    assert work()
    answered = find_job(engine, bulk.id)
    assert answered.result is not None
    assert answered.result["items"] == 8
    assert (settings.results_dir / answered.result["file"]).stat().st_size > 1000


@pytest.mark.slow
def test_a_fit_that_cannot_be_back_tested_is_published_without_that_evidence_and_says_why(
    settings: Settings, engine: Engine
) -> None:
    rng = np.random.default_rng(2)
    market = changing_market(rng, 5.0)
    settings.sources_dir.mkdir(parents=True, exist_ok=True)
    sales = market.rows(np.exp(market.log_units + rng.normal(0.0, 0.2, market.log_units.shape)))
    sales.write_csv(settings.sources_dir / "keener.csv")
    payload = {"sales": "source:keener.csv", "terms": {"drift": True}, "draws": 300, "seed": 3}
    job = submit_job(engine, "fit", payload, by="test").job
    run_worker(settings, engine, HANDLERS, stop=threading.Event(), once=True)
    ended = find_job(engine, job.id)
    assert ended.state == "done", ended.problem
    result = dict(ended.result or {})
    assert [finding["code"] for finding in result["not_back_tested"]] == ["drift_not_back_tested"]
    found = find_model(engine, result["published"])
    assert found.evidence.backtest is None
    assert not found.verdict.passed
