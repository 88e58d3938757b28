from __future__ import annotations

import polars as pl
import pytest

from bayes_pricing.errors import PanelError, SpecError
from bayes_pricing.experiments.trial_columns import TrialColumns
from tests.trials import event_rows, trial_of


def problem_codes(frame: pl.DataFrame, **columns: object) -> list[str]:
    with pytest.raises(PanelError) as error:
        trial_of(frame, **columns)
    return [problem.code for problem in error.value.problems]


SIMPLE = pl.DataFrame({"user": [1, 2, 3, 4], "arm": ["A", "B", "A", "B"], "spent": [1.0, 2.0, 3.0, 4.0]})


def test_rows_of_a_user_are_added_up_in_any_order() -> None:
    rows = pl.DataFrame({"user": [2, 1, 2], "arm": ["B", "A", "B"], "spent": [1.0, 2.0, 5.0]})
    for frame in (rows, rows.reverse()):
        trial = trial_of(frame, unit="user")
        assert sorted(zip(trial.arm.tolist(), trial.outcomes["spent"].tolist(), strict=True)) == [(0, 2.0), (1, 6.0)]
        assert trial.assigned_counts() == (1, 1)


def test_arms_may_be_numbers_and_control_comes_first() -> None:
    frame = pl.DataFrame({"arm": [1.0, 0.0, 2.0], "spent": [1, 2, 3]})
    assert trial_of(frame, control_arm="1").arms == ("1", "0", "2")


def test_every_problem_is_listed_at_once() -> None:
    frame = pl.DataFrame({"arm": ["A", None, "B"], "spent": ["1", "two", "inf"]})
    assert problem_codes(frame) == ["missing_value", "unreadable_value", "infinite_value"]
    assert problem_codes(frame, unit="who", cluster="where") == ["unknown_column", "unknown_column"]


def test_a_file_that_is_no_test_is_refused() -> None:
    assert problem_codes(SIMPLE, control_arm="C") == ["unknown_control"]
    assert problem_codes(SIMPLE.filter(pl.col("arm") == "A")) == ["one_arm"]
    assert problem_codes(SIMPLE.clear()) == ["no_rows"]
    twice = pl.concat([SIMPLE, pl.DataFrame({"user": [1], "arm": ["B"], "spent": [1.0]})])
    assert problem_codes(twice, unit="user") == ["unit_in_two_arms"]


def test_a_contaminated_user_is_no_switchback() -> None:
    rows = pl.concat([SIMPLE.with_columns(week=pl.Series([week] * 4)) for week in (1, 2)])
    moved = rows.with_columns(
        pl.when((pl.col("user") == 1) & (pl.col("week") == 2)).then(pl.lit("B")).otherwise("arm").alias("arm")
    )
    assert problem_codes(moved, unit="user", period="week") == ["unit_in_two_arms"]


def test_users_seen_only_before_the_start_are_counted() -> None:
    early = pl.DataFrame({"user": [9, 1], "arm": ["A", None], "spent": [5.0, 7.0], "week": [1, 1]})
    trial = trial_of(
        pl.concat([early, SIMPLE.with_columns(week=pl.Series([2] * 4))]), unit="user", period="week", start=2
    )
    assert (trial.only_before, trial.rows, trial.periods) == (1, 6, (2, 2))
    assert trial.covariates["spent"][:1].tolist() == [[7.0]]
    assert problem_codes(SIMPLE.with_columns(week=pl.Series([1] * 4)), unit="user", period="week", start=2) == [
        "no_rows_in_test"
    ]


def test_an_event_needs_rows_on_both_sides_and_a_form() -> None:
    frame = event_rows(4, 4, 0.0, seed=1)
    common = {"arm": "group", "control_arm": "old", "outcomes": ("sales",), "cluster": "store", "period": "week"}
    assert problem_codes(frame.filter(pl.col("after") == 1), **common, event="after") == ["no_event"]
    labelled = frame.with_columns(pl.format("Q{}-10", pl.col("week")).alias("week"))
    assert (
        trial_of(labelled, **common, event="after").arm.tolist()
        == trial_of(frame, **common, event="after").arm.tolist()
    )
    words = frame.with_columns(pl.when(pl.col("after") == 1).then(pl.lit("yes")).otherwise(pl.lit("no")).alias("after"))
    assert (
        trial_of(words, **common, event="after").arm.tolist() == trial_of(frame, **common, event="after").arm.tolist()
    )
    dated = frame.with_columns(pl.lit("2026-01-05").alias("begins"))
    assert problem_codes(dated, **common, event="begins") == ["bad_event"]


def test_rows_of_the_test_need_their_arm() -> None:
    frame = SIMPLE.with_columns(arm=pl.Series(["A", "B", "A", None]), week=pl.Series([2] * 4))
    assert problem_codes(frame, unit="user", period="week", start=2) == ["missing_value"]


EVENT_AND_START = {"event": "after", "period": "week", "unit": "user", "start": 2}


def test_flags_that_need_each_other() -> None:
    base = {"arm": "arm", "control_arm": "A", "outcomes": ("spent",)}
    for extra in ({"start": 2}, {"start": 2, "period": "week"}, {"event": "after"}, {"outcomes": ()}, EVENT_AND_START):
        with pytest.raises(SpecError):
            TrialColumns(**{**base, **extra})  # type: ignore[arg-type]
