"""What can be wrong with a test, and the answer that each fault gets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bayes_pricing.cli.main import exit_code
from bayes_pricing.experiments.guardrails import Guardrail
from bayes_pricing.experiments.readout import ReadOutRequest
from tests.trials import codes, read, trial_of, user_rows

READ = ["--arm", "arm", "--control-arm", "A", "--outcome", "spent", "--json"]


def visitors(control: int, treated: int, seed: int = 1, lift: float = 0.5) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    arm = np.repeat([0, 1], [control, treated])
    spent = rng.normal(10.0 + lift * arm, 2.0)
    kept = (rng.random(arm.size) < 0.8 - 0.2 * arm).astype(float)
    return pl.DataFrame({"arm": np.where(arm == 1, "B", "A"), "spent": spent, "kept": kept})


def shell(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = exit_code(list(words))
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return code, document


def found(document: dict[str, object]) -> set[str]:
    findings = document["findings"]
    assert isinstance(findings, list)
    return {finding["code"] for finding in findings}


def test_a_wrong_sample_ratio_is_shown_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "test.csv"
    visitors(5_000, 5_300).write_csv(path)
    code, document = shell(capsys, "read-test", "--data", str(path), *READ)
    assert (code, document["status"]) == (3, "refused")
    assert document["sample_ratio"]["passed"] is False  # type: ignore[index]
    assert document["sample_ratio"]["p_value"] == pytest.approx(0.0031, abs=5e-5)  # type: ignore[index]
    assert document["decision"]["action"] == "inconclusive"  # type: ignore[index]
    assert document["effects"][0]["mean"] == pytest.approx(0.5, abs=0.2)  # type: ignore[index]
    assert "sample_ratio_mismatch" in found(document)
    shares = ["--share", "A=5000", "--share", "B=5300"]
    assert shell(capsys, "read-test", "--data", str(path), *READ, *shares)[0] == 0


def test_unequal_shares_that_nobody_promised_are_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "test.csv"
    visitors(3_000, 1_000).write_csv(path)
    code, document = shell(capsys, "read-test", "--data", str(path), *READ)
    assert (code, document["status"]) == (0, "ok")
    assert document["decision"]["action"] == "inconclusive"  # type: ignore[index]
    assert "shares_not_promised" in found(document)


def test_from_the_plan_file_to_the_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, data = tmp_path / "plan.toml", tmp_path / "test.csv"
    prior = ["--prior-mean", "10", "--prior-sd", "0.3", "--noise-sd", "2", "--population", "100000"]
    named = ["--arm-name", "A", "--arm-name", "B", "--outcome", "spent", "--guardrail", "kept=0.05"]
    words = ["plan-test", *prior, *named, "--units-per-week", "1000", "--out", str(plan), "--json"]
    code, document = shell(capsys, *words)
    assert code == 0
    weeks = document["duration_weeks"]
    assert isinstance(weeks, int)
    visitors(500 * weeks, 500 * weeks).write_csv(data)
    code, answer = shell(capsys, "read-test", "--data", str(data), *READ, "--plan", str(plan))
    # the arm earns more and drives customers away: the planned guardrail forbids it
    assert code == 0
    assert answer["guardrails"][0]["status"] == "breached"  # type: ignore[index]
    assert answer["decision"]["action"] == "keep"  # type: ignore[index]
    visitors(100, 100).write_csv(data)
    code, answer = shell(capsys, "read-test", "--data", str(data), *READ, "--plan", str(plan))
    assert code == 0
    assert "peeked" in found(answer)
    assert answer["decision"]["action"] == "inconclusive"  # type: ignore[index]
    plan.write_text(plan.read_text().replace("margin = 0.05", "margin = 0.5"))
    code, answer = shell(capsys, "read-test", "--data", str(data), *READ, "--plan", str(plan))
    assert code == 3
    assert found(answer) == {"plan_edited"}


def test_a_test_that_does_not_pay_is_not_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.toml"
    prior = ["--prior-mean", "1", "--treatment-mean", "0.95", "--prior-sd", "0.1", "--noise-sd", "5"]
    words = ["plan-test", *prior, "--population", "100000", "--largest-units", "20", "--out", str(plan), "--json"]
    code, document = shell(capsys, *words)
    assert (code, found(document)) == (3, {"test_too_small"})
    assert not plan.exists()


def test_four_clusters_could_never_have_decided_anything() -> None:
    rng = np.random.default_rng(3)
    store = np.repeat(np.arange(4), 50)
    frame = pl.DataFrame(
        {"store": store, "arm": np.where(store % 2 == 1, "B", "A"), "spent": rng.normal(10.0 + 5.0 * (store % 2))}
    )
    answer = read(trial_of(frame, cluster="store"))
    assert "test_too_small" in codes(answer)
    assert answer.decision.action == "inconclusive"


def test_a_guardrail_that_is_not_yet_known_waits() -> None:
    frame = visitors(400, 400, lift=1.0)
    trial = trial_of(frame, outcomes=("spent", "kept"))
    rails = (Guardrail(outcome="kept", margin=0.2),)
    answer = read(trial, ReadOutRequest(guardrails=rails))  # the true harm is 0.2: neither safe nor breached
    assert answer.guardrails[0].status == "open"
    assert answer.decision.action == "inconclusive"
    assert not answer.refused
    wide = read(trial, ReadOutRequest(guardrails=(Guardrail(outcome="kept", margin=0.4),)))
    assert (wide.guardrails[0].status, wide.decision.action) == ("safe", "change")


def test_the_effect_on_those_who_got_it() -> None:
    rng = np.random.default_rng(5)
    arm = np.arange(6_000) % 2
    received = (rng.random(6_000) < np.where(arm == 1, 0.7, 0.1)).astype(int)
    frame = pl.DataFrame(
        {"arm": np.where(arm == 1, "B", "A"), "spent": rng.normal(10.0 + 2.0 * received), "got": received}
    )
    answer = read(trial_of(frame, received="got"))
    complier = answer.compliers[0]
    assert complier.compliance == pytest.approx(0.6, abs=0.04)
    assert complier.lower < 2.0 < complier.upper
    assert complier.upper - complier.lower == pytest.approx(2 * 1.645 * complier.sd, rel=0.02)
    assert answer.effects[0].mean == pytest.approx(complier.mean * complier.compliance)
    assert "non_compliance" in codes(answer)
    nobody = frame.with_columns(got=pl.lit(1))
    assert "no_compliance" in codes(read(trial_of(nobody, received="got")))


def test_time_retained_stands_beside() -> None:
    rng = np.random.default_rng(6)
    frame = user_rows(4_000, 0.5, seed=6)
    stay = rng.exponential(np.where(frame["arm"].to_numpy() == "B", 8.0, 10.0))
    frame = frame.with_columns(months=np.minimum(stay, 12.0), gone=(stay < 12.0).astype(int))
    effect = read(trial_of(frame, stayed="months", left="gone")).retention[0]
    truth = 8 * (1 - np.exp(-1.5)) - 10 * (1 - np.exp(-1.2))
    assert abs(effect.mean - truth) < 3.5 * effect.sd
    assert effect.upper < 0
