from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.experiments.plan_file import PlannedArm, Preregistration, departures, read_plan, write_plan
from tests.trials import cluster_rows, trial_of, user_rows

PLAN = Preregistration(
    name='the "tea" test',
    arms=(PlannedArm(name="A", price=4.0), PlannedArm(name="B", share=2.0, price=4.5)),
    outcomes=("spent", "visits"),
    planned_units=1_000,
    registered=date(2026, 3, 1),
    start=date(2026, 3, 2),
    weeks=2,
    unit_cost=2.0,
)


@pytest.mark.parametrize("name", ["plan.toml", "plan.json"])
def test_a_plan_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    stated = write_plan(PLAN, tmp_path / name)
    assert read_plan(tmp_path / name) == PLAN
    assert stated == PLAN.content_hash
    with pytest.raises(SpecError, match="never overwritten"):
        write_plan(PLAN, tmp_path / name)


@pytest.mark.parametrize("name", ["plan.toml", "plan.json"])
def test_an_edited_plan_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_plan(PLAN, path)
    path.write_text(path.read_text().replace("1000", "500"))
    with pytest.raises(Refusal, match="changed after it was registered") as refusal:
        read_plan(path)
    assert refusal.value.findings[0].code == "plan_edited"


def test_a_plan_registered_after_the_start_or_never_is_refused(tmp_path: Path) -> None:
    late = tmp_path / "late.toml"
    write_plan(replace(PLAN, registered=date(2026, 3, 9)), late)
    with pytest.raises(Refusal, match="after the start"):
        read_plan(late)
    bare = tmp_path / "bare.toml"
    lines = (tmp_path / "late.toml").read_text().splitlines()
    bare.write_text("\n".join(line for line in lines if not line.startswith("hash")))
    with pytest.raises(Refusal, match="has no hash"):
        read_plan(bare)


def test_files_that_are_no_plans_say_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="does not exist"):
        read_plan(tmp_path / "none.toml")
    for name, text, said in [
        ("a.toml", "= 1", "cannot be read"),
        ("b.json", "[]", "holds no plan"),
        ("c.toml", "colour = 1", "unknown field 'colour'"),
        ("d.toml", "name = 3", "name"),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(SpecError, match=said):
            read_plan(tmp_path / name)
    with pytest.raises(SpecError, match=r"neither \.toml nor \.json"):
        write_plan(PLAN, tmp_path / "plan.yaml")


def test_an_arm_below_cost_cannot_be_planned() -> None:
    with pytest.raises(Refusal, match=r"'B' sells at 1\.5, below its cost of 2"):
        replace(PLAN, arms=(PlannedArm(name="A", price=4.0), PlannedArm(name="B", price=1.5)))


@pytest.mark.parametrize(
    "change",
    [
        {"arms": (PlannedArm(name="A"),)},
        {"arms": (PlannedArm(name="A"), PlannedArm(name="B", share=0.0))},
        {"outcomes": ()},
        {"planned_units": 3},
        {"looks": 2},
        {"weeks": 0},
        {"loss_threshold": 0.0},
        {"probability": 1.0},
    ],
)
def test_plans_without_meaning_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SpecError):
        replace(PLAN, **change)  # type: ignore[arg-type]


def found(
    plan: Preregistration, frame: pl.DataFrame, outcomes: tuple[str, ...] = ("spent",), **columns: object
) -> set[str]:
    return {finding.code for finding in departures(plan, trial_of(frame, outcomes=outcomes, **columns), outcomes)}


def test_a_test_as_planned_has_no_departures() -> None:
    plan = replace(PLAN, outcomes=("spent",))
    days = pl.Series([date(2026, 3, 2 + day % 14) for day in range(1_000)])
    assert found(plan, user_rows(1_000, 0.0, seed=1).with_columns(day=days), unit="user", period="day") == set()


def test_departures_are_named() -> None:
    users = user_rows(900, 0.0, seed=1)
    assert found(PLAN, users) == {"peeked", "missing_outcome"}
    assert "prolonged" in found(PLAN, user_rows(1_200, 0.0, seed=1))
    assert "other_control" in found(PLAN, users, control_arm="B")
    assert "other_arms" in found(PLAN, user_rows(1_000, 0.0, seed=1, arms=3))
    assert {"other_primary_outcome", "unplanned_outcome"} <= found(PLAN, users, outcomes=("before",))
    assert "other_assignment" in found(PLAN, cluster_rows(10, 0.0, seed=1), cluster="store")
    assert "other_assignment" in found(replace(PLAN, assigned="cluster"), users)
    days = users.with_columns(day=pl.Series([date(2026, 3, 2 + day % 10) for day in range(900)]))
    assert "other_duration" in found(PLAN, days, unit="user", period="day")
    early = days.with_columns(pl.col("day").dt.offset_by("-3d"))
    assert "other_start" in found(PLAN, early, unit="user", period="day")


def test_another_estimator_than_planned_is_named() -> None:
    plan = replace(PLAN, outcomes=("spent",), covariates=("before",), probability=0.95)
    users = user_rows(1_000, 0.0, seed=1)
    assert "other_covariates" in found(plan, users)
    assert found(plan, users, pre=("before",)) == set()
    assert "unplanned_covariate" in found(replace(plan, covariates=()), users, pre=("before",))
    trial = trial_of(users, pre=("before",))
    assert [finding.code for finding in departures(plan, trial, ("spent",), 0.9)] == ["other_probability"]
    assert departures(plan, trial, ("spent",), 0.95) == []
    assert departures(replace(plan, probability=None), trial, ("spent",), 0.8) == []  # nothing was said of it


def test_covariates_and_probability_are_in_the_hash_once_they_are_said(tmp_path: Path) -> None:
    fuller = replace(PLAN, covariates=("before",), probability=0.95)
    assert len({PLAN.content_hash, fuller.content_hash, replace(fuller, probability=0.9).content_hash}) == 3
    assert PLAN.content_hash == "b345b51b01f7795acd18c838ab036b9d"  # as plans without them were registered
    write_plan(fuller, tmp_path / "plan.toml")
    assert read_plan(tmp_path / "plan.toml") == fuller
    edited = (tmp_path / "plan.toml").read_text().replace("0.95", "0.8")
    (tmp_path / "plan.toml").write_text(edited)
    with pytest.raises(Refusal, match="changed after it was registered"):
        read_plan(tmp_path / "plan.toml")


def test_a_watched_test_may_be_read_early() -> None:
    assert "peeked" not in found(replace(PLAN, monitoring="anytime"), user_rows(100, 0.0, seed=1))
