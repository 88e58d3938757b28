from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from bayes_pricing.cli.main import exit_code
from bayes_pricing.experiments.plan_file import PlannedArm, Preregistration, write_plan
from tests.trials import event_rows, user_rows


@pytest.fixture
def users(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    user_rows(2_000, 0.5, seed=1).write_csv(path)
    return path


def words(path: Path, *more: str) -> list[str]:
    return ["read-test", "--data", str(path), "--arm", "arm", "--control-arm", "A", "--outcome", "spent", *more]


def test_the_document_has_the_promised_shape(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(words(users, "--outcome", "before", "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert [arm["name"] for arm in document["arms"]] == ["A", "B"]
    assert [arm["n"] for arm in document["arms"]] == [1_000, 1_000]
    assert [(effect["outcome"], effect["arm"]) for effect in document["effects"]] == [("spent", "B"), ("before", "B")]
    effect = document["effects"][0]
    assert set(effect) == {
        *("outcome", "arm", "mean", "sd", "lower", "upper", "probability", "probability_better", "expected_loss")
    }
    assert effect["probability"] == 0.9
    assert effect["lower"] < effect["mean"] < effect["upper"]
    assert document["sample_ratio"]["passed"] is True
    assert (document["decision"]["action"], document["decision"]["arm"]) == ("change", "B")


def test_people_read_the_decision_first(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(words(users, "--pre", "before")) == 0
    said = capsys.readouterr().out
    assert said.startswith("Change to 'B'")
    assert "Covariates took away 49 %" in said  # half of the variance is foretold


def test_an_edited_plan_is_refused_and_a_peek_is_named(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = users.with_name("plan.toml")
    arms = (PlannedArm(name="A"), PlannedArm(name="B"))
    write_plan(
        Preregistration(name="t", arms=arms, outcomes=("spent",), planned_units=50_000, registered=date(2026, 1, 1)),
        plan,
    )
    assert exit_code(words(users, "--plan", str(plan), "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert "peeked" in [finding["code"] for finding in document["findings"]]
    assert "confidence sequence" in document["decision"]["rule"]
    plan.write_text(plan.read_text().replace("50000", "2000"))
    assert exit_code(words(users, "--plan", str(plan), "--json")) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["findings"][0]["code"]) == ("refused", "plan_edited")


def test_before_and_after_by_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stores.csv"
    event_rows(12, 10, -0.2, seed=1).write_csv(path)
    roles = ["--cluster", "store", "--period", "week", "--event", "after", "--json"]
    arms = ["--arm", "group", "--control-arm", "old", "--outcome", "sales"]
    assert exit_code(["read-test", "--data", str(path), *arms, *roles]) == 0
    document = json.loads(capsys.readouterr().out)
    effect = document["effects"][0]
    assert abs(effect["mean"] + 0.2) < 4 * effect["sd"]
    assert document["sample_ratio"] == {"p_value": None, "passed": None}
    assert document["decision"]["action"] == "keep"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--share", "B"], "--share is 'B'"),
        (["--share", "B=2"], "one for each"),
        (["--start", "soon"], "--start is 'soon'"),
        (["--control-arm", "Z"], "its arms are 'A', 'B'"),
        (["--unit", "who"], "there is no column 'who'"),
    ],
)
def test_wrong_use_says_what_to_do(users: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = words(users, *more) if more[0] != "--control-arm" else [*words(users)[:5], *more, "--outcome", "spent"]
    assert exit_code(command) == 2
    assert said in capsys.readouterr().err


def test_the_planned_estimator_is_held(users: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = users.with_name("plan.toml")
    prior = ["--prior-mean", "10", "--prior-sd", "0.3", "--noise-sd", "2", "--population", "20000"]
    named = ["--arm-name", "A", "--arm-name", "B", "--outcome", "spent", "--pre", "before", "--probability", "0.95"]
    assert exit_code(["plan-test", *prior, *named, "--monitoring", "anytime", "--out", str(plan)]) == 0
    capsys.readouterr()

    def answer(*more: str) -> tuple[int, float, set[str]]:
        code = exit_code(words(users, "--plan", str(plan), *more, "--json"))
        document = json.loads(capsys.readouterr().out)
        found = {finding["code"] for finding in document["findings"]}
        return code, document["effects"][0]["probability"], found & {"other_covariates", "other_probability"}

    assert answer("--pre", "before") == (0, 0.95, set())
    assert answer() == (3, 0.95, {"other_covariates"})
    assert answer("--pre", "before", "--probability", "0.8") == (3, 0.8, {"other_probability"})
