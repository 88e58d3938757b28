"""`bayes-pricing simulate`: markets and scenarios by name, and plain words for what a market does not have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from bayes_pricing.cli.main import exit_code
from bayes_pricing.data.tutoring import read_tutoring_sales
from simulations.markets.studio_truth import read_studio_truth
from simulations.markets.tutoring_truth import read_tutoring_truth


def simulate(out: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    code = exit_code(["simulate", "--out", str(out), "--json", *words])
    shown = capsys.readouterr()
    return code, json.loads(shown.out), shown.err


def test_a_tutoring_scenario_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, _ = simulate(tmp_path / "m", capsys, "--market", "tutoring", "--scenario", "sparse", "--seed", "3")
    assert (code, answer["status"], answer["scenario"]) == (0, "ok", "sparse")
    assert read_tutoring_truth(Path(answer["truth"])).settings.weeks == 16
    sales = pl.read_parquet(answer["sales"])
    assert sales.equals(read_tutoring_sales(answer["database"]).collect())
    assert sales["quantity"].sum() == answer["rows"]["bookings"]
    best = {row["given"]: row["precision"] for row in answer["attainable"]["precision_at_10"]}
    assert best["popularity"] < best["tables"] < best["truth"]
    chances = pl.read_parquet(answer["propensities"])
    assert chances["books_again_best"].is_between(0, 1).all()


def test_studios_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, answer, _ = simulate(tmp_path / "m", capsys, "--market", "studio", "--seed", "2")
    assert (code, answer["rows"]["panel"]) == (0, 384)
    assert read_studio_truth(Path(answer["truth"])).seed == 2
    assert answer["oracle"]["mape"] == pytest.approx(0.04, abs=0.001)
    again = simulate(tmp_path / "n", capsys, "--market", "studio", "--seed", "2")[1]
    assert pl.read_parquet(answer["panel"]).equals(pl.read_parquet(again["panel"]))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--market", "tutoring", "--scenario", "drift"], "choose base, endogenous, sparse"),
        (["--market", "retail", "--scenario", "nowhere"], "choose base, endogenous, sparse, stock-outs, promotion"),
        (["--scenario", "drift"], "--market courses has no scenario 'drift', only base"),
        (["--market", "studio", "--scenario", "sparse"], "--market studio has no scenario 'sparse', only base"),
        (["--market", "studio", "--url", "sqlite:///x.db"], "--url is for courses and tutoring"),
        (["--market", "tutoring", "--courses", "40"], "courses can be set for courses only"),
    ],
)
def test_what_a_market_does_not_have_is_refused(
    words: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = simulate(tmp_path / "m", capsys, *words)
    assert code == 2
    assert reason in said
    assert not (tmp_path / "m").exists()
