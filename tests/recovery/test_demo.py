"""The main job end to end on a small course market: every stage says something, and the report is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from bayes_pricing.reporting.report import write_report
from simulations.demo import DemoRun, course_data, demo_json, demo_lines, demo_report, run_demo
from simulations.markets.course_settings import CourseMarketSettings

SMALL = CourseMarketSettings(courses=160, learners=2_000, expected_enrollments=8_000, categories=10)


def silent(fraction: float, label: str) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def run() -> DemoRun:
    return run_demo(course_data(SMALL, 5, silent), seed=5, progress=silent)


def test_every_stage_speaks_on_one_screen(run: DemoRun) -> None:
    text = "\n".join(demo_lines(run))
    for said in (
        "Model: poisson",
        "truth",
        "Others on the same sales",
        "Probability of doing better",
        "Boldest change",
    ):
        assert said in text
    assert len(text.splitlines()) <= 60


def test_limits_hold_and_the_profit_is_expected_to_rise(run: DemoRun) -> None:
    assert run.decision.portfolio.feasible
    assert run.decision.portfolio.changes["profit"].mean > 0
    for item in run.decision.items:
        assert abs(item.price / item.current_price - 1.0) <= 0.25 + 1e-9


def test_the_truth_is_where_the_intervals_say(run: DemoRun) -> None:
    assert run.data.truth is not None
    truth = dict(run.data.truth.filter(level="category").select("name", "elasticity").iter_rows())
    draws = run.fitted.posterior.coefficients("category").sel(coefficient="log_price")
    z = (draws.mean(("chain", "draw")) - [truth[str(name)] for name in draws["category"].to_numpy()]) / draws.std(
        ("chain", "draw")
    )
    assert (abs(z) < 4).all(), z.to_series()


def test_the_report_and_the_json_are_complete(run: DemoRun, tmp_path: Path) -> None:
    page = write_report(demo_report(run, "demo"), tmp_path / "report.html").read_text()
    for heading in ("Can the data answer?", "What does price do to demand?", "How would others have answered?"):
        assert heading in page
    document = demo_json(run)
    assert {"fit", "baselines", "decision", "test", "seconds"} <= set(document)
