"""From a sales file to an explained price over real HTTP with a real worker: by the document alone, and as documented.

The fit is done once: the same sales under the same request are the same job, which is what the examples then find. So
all of this file is of one group: a process that took one test alone would open a shop of its own and fit again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import polars as pl
import pytest

from server.openapi import first_steps
from server.settings import Settings
from server.store.database import open_database
from server.store.keys import SCOPES, create_key
from tests.api.running import Shop
from tests.faults.running import Running, eventually, serving
from tests.support import require

ROOT = Path(__file__).parents[2]
PROGRAMS = {"sh": ["sh", "-e", "-c"], "py": [sys.executable, "-c"], "js": ["node", "--input-type=module", "-e"]}
WORKER = "from bayes_pricing.cli.main import run; run(['worker'])"
HEADER = "application/json"
PATIENCE_SECONDS = 600
"""An end for what never comes; a fit whose kernels have to be compiled first takes minutes on a busy machine."""


def examples() -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "server.md").read_text()
    return re.findall(r"^```(sh|py|js)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def write_sales(path: Path) -> None:
    """Eight teas over seven months at prices that were chosen by lot."""
    rng = np.random.default_rng(1)
    shape = (8, 32)
    price = rng.choice([4.0, 4.5, 5.0, 5.5], shape)
    days = pl.date_range(pl.date(2026, 1, 5), pl.date(2026, 8, 10), interval="7d", eager=True)
    pl.DataFrame(
        {
            "item": np.repeat([f"tea {number}" for number in range(shape[0])], shape[1]),
            "period": pl.concat([days] * shape[0]),
            "price": price.ravel(),
            "quantity": np.exp(6 - 2 * np.log(price) + rng.normal(0, 0.3, shape)).ravel().round(3),
            "cost": np.full(price.size, 2.0),
        }
    ).write_csv(path)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of two processes and a worker, on a folder where nothing was ever published."""
    folder = tmp_path_factory.mktemp("stranger")
    settings = Settings(data_dir=folder, runtime_dir=folder / "run")
    engine = open_database(settings.database_url)
    token = create_key(engine, name="stranger", scopes=SCOPES, by="test").token
    engine.dispose()
    write_sales(folder / "sales.csv")
    environ = {**os.environ, "BAYES_PRICING_DATA_DIR": str(folder), "BAYES_PRICING_LOG_LEVEL": "warning"}
    worker = subprocess.Popen([sys.executable, "-c", WORKER], env=environ)
    try:
        with serving(Shop(settings=settings, model="", token=token), until="/health/live") as server:
            yield server
    finally:
        worker.terminate()
        worker.wait(timeout=60)


class Stranger:
    """Knows an address, a key and the OpenAPI document; takes no answer that the document does not describe."""

    def __init__(self, asker: httpx.Client) -> None:
        self._asker = asker
        self.document: dict[str, Any] = asker.get("/schema/openapi.json").json()
        self._operations = {
            found["operationId"]: (method, path, found)
            for path, methods in self.document["paths"].items()
            for method, found in methods.items()
        }

    def ask(
        self, name: str, *, json: Any = None, content: bytes | None = None, query: Any = None, headers: Any = None,
        status: int | None = None, **parts: str,
    ) -> httpx.Response:  # fmt: skip
        """The answer to one operation, held against its schema."""
        method, path, described = self._operations[name]
        for part, value in parts.items():
            path = path.replace(f"{{{part}}}", httpx.URL(f"http://x/{value}").raw_path.decode()[1:])
        media = next(iter(described.get("requestBody", {"content": {HEADER: None}})["content"]))
        sent = {"Content-Type": media, **(headers or {})} if json is not None or content is not None else headers
        body = content if json is None else None
        answer = self._asker.request(method.upper(), path, json=json, content=body, params=query, headers=sent)
        told = described["responses"].get(str(answer.status_code))
        assert told is not None, f"{name} answered {answer.status_code}, which is not documented: {answer.text}"
        assert answer.status_code == status or (status is None and answer.is_success), answer.text
        schema = told["content"].get(HEADER, {"schema": {}})["schema"]
        if schema:
            whole = {**schema, "components": self.document["components"]}
            for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(answer.json()):
                pytest.fail(f"{name}: {error.message} at {error.instance_path}")
        return answer


def test_a_stranger_gets_from_sales_to_an_explained_price_by_the_document_alone(running: Running) -> None:
    with running.client() as asker:
        stranger = Stranger(asker)
        assert first_steps() in stranger.document["info"]["description"]
        content = (running.shop.settings.data_dir / "sales.csv").read_bytes()
        assert asker.get("/health/ready").status_code == 503
        sales = stranger.ask("upload_sales", content=content).json()["sales"]
        started = stranger.ask("start_fit", json={"sales": sales})
        job = started.json()["job"]["id"]
        assert started.headers["location"] == f"/v1/jobs/{job}"
        heard = stranger.ask("watch_job", job=job).text  # ends with the job
        assert heard.count("event: progress") > 3
        assert heard.rstrip().split("\n")[-2] == "event: finished"
        done = stranger.ask("read_job", job=job).json()
        assert done["state"] == "done", done["problem"]
        published = done["result"]["published"]
        seen = stranger.ask("read_champion")
        assert (seen.headers["etag"], seen.json()["version"]) == ('"0"', 0)
        verdict = stranger.ask("read_model", model=published).json()["verdict"]
        assert {check["code"] for check in verdict["checks"]} >= {"rhat", "calibration", "backtest"}
        assert verdict["passed"], verdict["findings"]
        stranger.ask("promote_model", json={"model": published}, headers={"If-Match": seen.headers["etag"]})
        assert eventually(lambda: all(running.get("/health/ready")[0] == 200 for _ in range(10)))
        items = stranger.ask("list_items").json()
        assert (items["model"], [row["item"] for row in items["rows"]]) == (published, [f"tea {n}" for n in range(8)])
        decision = stranger.ask("read_recommendation", item="tea 1").json()["decision"]
        explained = stranger.ask("explain_item", item="tea 1").json()
        assert explained["explanation"]["decision"] == decision
        assert "week" in explained["prose"]["full"]
        bulk = stranger.ask("recommend_many", json={"items": ["tea 1", "coffee"]}).json()["items"]
        assert [(row["status"], row["decision"]) for row in bulk] == [("ok", decision), ("unknown_item", None)]
        _ask_the_rest(stranger, published)
        _run_other_jobs(stranger, done["result"]["model"])


def _ask_the_rest(stranger: Stranger, published: str) -> None:
    """Every other answer about the model fits its schema, and estimates lie inside their intervals."""
    tried = stranger.ask("try_prices", json={"item": "tea 1", "prices": [4.5, 5.0]}).json()["outcomes"]
    assert all(one["units_per_period"]["lower"] < one["units_per_period"]["mean"] for one in tried)
    stranger.ask("read_curve", item="tea 1")
    stranger.ask("predict_demand", json={"questions": [{"item": "tea 1", "prices": [4.5]}]})
    stranger.ask("list_categories")
    for level in ("item", "population"):
        rows = stranger.ask("read_elasticities", query={"level": level}).json()["rows"]
        assert all(row["lower"] < row["mean"] < row["upper"] for row in rows)
    plan = stranger.ask("plan_experiment", json={"item": "tea 1", "horizon_periods": 26}).json()
    assert plan["model"] == published
    sold = {"item": "tea 1", "applied_price": 4.5, "quantity": 20, "ended_on": "2026-08-17"}
    stranger.ask("report_outcome", json=sold)
    assert stranger.ask("read_track_record", model=published).json()["outcomes"] == 1
    stranger.ask("list_reported")
    assert eventually(lambda: len(stranger.ask("list_audit").json()["rows"]) > 5)
    stranger.ask("read_audit", entry=stranger.ask("list_audit").json()["rows"][-1]["id"])


def _run_other_jobs(stranger: Stranger, fit: str) -> None:
    """Batches, studies and publications under another policy are jobs too, done by the same worker."""
    policy = {"max_change": 0.05}
    batch = stranger.ask("start_batch", json={"fit": fit, "policy": policy}).json()["job"]["id"]
    study = stranger.ask("start_study", json={"name": "monitoring", "arguments": {"streams": 0}}).json()["job"]["id"]
    other = stranger.ask("publish", json={"fit": fit, "policy": policy}).json()["job"]["id"]
    assert stranger.ask("start_batch", json={"fit": fit, "policy": policy}).json()["created"] is False
    stranger.ask("stop_job", job=study)
    for job in (batch, study, other):
        stranger.ask("watch_job", job=job)
    decided = stranger.ask("read_result", job=batch).json()
    moves = [abs(row["recommended_price"] / row["current_price"] - 1) for row in decided["items"]]
    assert len(moves) == 8
    assert max(moves) <= 0.05 + 1e-9
    assert stranger.ask("read_job", job=study).json()["state"] == "cancelled"
    stranger.ask("read_result", job=study, status=404)
    narrow = stranger.ask("read_job", job=other).json()["result"]["published"]
    assert stranger.ask("read_model", model=narrow).json()["verdict"]["passed"]


def test_there_are_examples_in_three_languages() -> None:
    assert {language for language, _ in examples()} == set(PROGRAMS)
    assert ("sh", first_steps()) in examples()


@pytest.mark.parametrize(("language", "text"), examples())
def test_example(language: str, text: str, running: Running) -> None:
    for needed in ("curl", "jq") if language == "sh" else (PROGRAMS[language][0],):
        require(shutil.which(needed), f"{needed} is absent")
    known = {"ADDRESS": running.address, "KEY": running.shop.token, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*PROGRAMS[language], text], cwd=running.shop.settings.data_dir, env=os.environ | known,
        capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tea 0" in done.stdout
