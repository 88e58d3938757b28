"""What a fit by request hands on to the rooms below."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bayes_pricing import backtest
from bayes_pricing.demand import model_comparison
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.terms import TermRequest
from bayes_pricing.errors import SpecError
from server.settings import Settings
from server.store.database import open_database
from server.store.jobs import find_job, submit_job
from server.tasks import HANDLERS
from server.worker import run_worker

SALES = "item,category,period,price,quantity\ntea,drinks,1,9.5,120\ntea,drinks,2,9.0,140\n"


def test_the_family_that_a_comparison_found_is_the_one_that_is_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def compared(panel: Any, request: Any, *others: Any, **named: Any) -> Any:
        asked.append(request.model)
        assert request.terms == TermRequest(curve="quadratic")
        spec = DemandSpec(likelihood="lognormal", levels=("category",), errors="student_t")
        return SimpleNamespace(diagnostics=SimpleNamespace(passed=True), posterior=SimpleNamespace(spec=spec))

    def tested(panel: Any, request: Any, *others: Any, **named: Any) -> Any:
        asked.append(request.model)
        raise SpecError("Far enough: seen.")

    monkeypatch.setattr(model_comparison, "fit_compared", compared)
    monkeypatch.setattr(backtest, "backtest", tested)
    settings = Settings(data_dir=tmp_path)
    settings.sources_dir.mkdir()
    (settings.sources_dir / "tea.csv").write_text(SALES)
    engine = open_database(settings.database_url)
    job = submit_job(
        engine,
        "fit",
        {"sales": "source:tea.csv", "compare_models": True, "terms": {"price_curve": "quadratic"}},
        by="test",
    ).job
    run_worker(settings, engine, HANDLERS, stop=threading.Event(), once=True)
    ended = find_job(engine, job.id)
    engine.dispose()
    assert "Far enough" in str(ended.problem)
    assert asked == ["auto", "student-t"]


def test_a_worker_without_jobs_gets_ready_once_and_stops_in_the_middle(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    engine = open_database(settings.database_url)
    stop, begun = threading.Event(), []

    def warm(progress: Callable[[float, str], None]) -> None:
        begun.append("begun")
        progress(0.1, "not yet told to stop")
        stop.set()
        progress(0.2, "here it ends")
        begun.append("went on")

    assert run_worker(settings, engine, {}, stop=stop, once=True, warm=warm) == 0
    assert begun == []
    assert run_worker(settings, engine, {}, stop=stop, warm=warm) == 0
    assert begun == ["begun"]
    engine.dispose()
