"""A test's sums say what its units say, and own up to what they cannot say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.cli.main import exit_code
from bayes_pricing.errors import PanelError, Refusal, SpecError
from bayes_pricing.experiments.plan_file import PlannedArm, Preregistration
from bayes_pricing.experiments.readout import ReadOut, ReadOutRequest
from bayes_pricing.experiments.summed_readout import read_out_sums
from bayes_pricing.experiments.summed_trial import SumColumns, read_summed_trial
from tests.trials import cluster_rows, codes, read, trial_of, user_rows

COLUMNS = SumColumns(arm="arm", control_arm="A", count="n", outcomes=("spent",), squares=("spent2",))
SUMS = pl.DataFrame({"arm": ["A", "B"], "n": [10, 10], "spent": [100.0, 105.0], "spent2": [1002.25, 1111.5]})


def summed(units: pl.DataFrame, *by: str) -> pl.DataFrame:
    """Sums of `spent` over users."""
    sums = (pl.len().alias("n"), pl.col("spent").sum(), (pl.col("spent") ** 2).sum().alias("spent2"))
    return units.group_by("arm", *by, maintain_order=True).agg(*sums)


def read_sums(frame: pl.DataFrame, columns: SumColumns = COLUMNS, request: ReadOutRequest | None = None) -> ReadOut:
    return read_out_sums(read_summed_trial(frame, columns), request or ReadOutRequest(), np.random.default_rng(7))


def numbers(answer: ReadOut) -> list[tuple[float, ...]]:
    rows = (*answer.effects, *answer.lifts)
    return [(row.mean, row.sd, row.lower, row.upper, row.probability_better, row.expected_loss) for row in rows]


@pytest.mark.parametrize("arms", [2, 3])
def test_sums_by_arm_and_day_read_as_their_users_do(arms: int) -> None:
    users = user_rows(3_000, 0.5, seed=1, arms=arms).with_columns(day=pl.col("user") % 7)
    units = read(trial_of(users))
    for by in ((), ("day",)):
        sums = read_sums(summed(users, *by), replace(COLUMNS, period="day" if by else None))
        assert_allclose(numbers(sums), numbers(units), rtol=1e-8)  # squares less squared totals lose a few digits
        assert sums.sample_ratio == units.sample_ratio
        assert (
            (sums.decision.action, sums.decision.arm) == (units.decision.action, units.decision.arm) == ("change", "B")
        )
        assert [(arm.name, arm.n) for arm in sums.arms] == [(arm.name, arm.n) for arm in units.arms]
        assert ("units_not_told_apart" in codes(sums)) == bool(by)
    assert {"tails_not_assessed", "no_covariates_in_sums", "conversion_not_in_sums"} <= codes(sums)
    assert not sums.robust
    assert not sums.variance_reduction


@pytest.mark.parametrize("clusters", [10, 40])
def test_clusters_need_their_totals_only(clusters: int) -> None:
    shoppers = cluster_rows(clusters, 1.0, seed=2)
    units = read(trial_of(shoppers, cluster="store"))
    sums = read_sums(summed(shoppers, "store").drop("spent2"), replace(COLUMNS, squares=(), cluster="store"))
    assert_allclose(numbers(sums), numbers(units), rtol=1e-9)
    assert sums.sample_ratio == units.sample_ratio
    assert [test.p_value for test in sums.tests] == pytest.approx([test.p_value for test in units.tests])
    assert ("few_clusters" in codes(sums)) == (clusters < 30)


def test_days_that_alternate_are_counted_in_stretches() -> None:
    rng = np.random.default_rng(3)
    day = np.arange(60)
    new = rng.permutation(np.arange(60) // 2 % 2)  # stretches of uneven length
    spent = 1_000 * (10.0 + 0.5 * new + rng.normal(0.0, 0.3, 60))
    frame = pl.DataFrame({"day": day, "arm": np.where(new == 1, "B", "A"), "n": 1_000, "spent": spent})
    columns = replace(COLUMNS, squares=(), period="day")
    answer = read_sums(frame, columns)
    assert answer.sample_ratio is None
    assert abs(answer.effects[0].mean - 0.5) < 4 * answer.effects[0].sd
    assert answer.effects[0].sd == pytest.approx(0.3 * (2 / 30) ** 0.5, rel=0.3)  # days, not 60,000 visitors
    with pytest.raises(Refusal, match="one cluster"):
        read_sums(frame.with_columns(arm=pl.when(pl.col("day") < 30).then(pl.lit("A")).otherwise(pl.lit("B"))), columns)


def test_days_before_the_start_are_left_out_and_prices_weigh_by_units() -> None:
    days = pl.concat([SUMS.with_columns(day=pl.lit(day), price=pl.lit(price)) for day, price in ((1, 9.0), (2, 4.0))])
    days = days.with_columns(n=pl.col("n") * pl.col("day"), spent2=pl.col("spent2") * 2)
    answer = read_sums(days, replace(COLUMNS, period="day", start=2, price="price"))
    assert [(arm.n, arm.price) for arm in answer.arms] == [(20, 4.0), (20, 4.0)]
    assert {"rows_before_start", "same_price"} <= codes(answer)
    both = read_sums(days, replace(COLUMNS, period="day", price="price"))
    assert both.arms[0].price == pytest.approx((10 * 9 + 20 * 4) / 30)


def test_a_yes_or_no_is_its_own_square() -> None:
    frame = SUMS.with_columns(bought=pl.Series([3, 6]))
    answer = read_sums(frame, replace(COLUMNS, outcomes=("bought",), squares=("bought",)))
    assert answer.effects[0].sd == pytest.approx((0.3 * 0.7 / 9 + 0.6 * 0.4 / 9) ** 0.5)
    assert codes(answer) == {"no_covariates_in_sums"}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"n": pl.Series([10.5, 10.0])}, "bad_count"),
        ({"n": pl.Series([-10, 10])}, "bad_count"),
        ({"n": pl.Series([0, 10])}, "sum_of_nobody"),
        ({"spent2": pl.Series([100.0, 105.0])}, "impossible_squares"),
        ({"spent": pl.Series([None, 105.0])}, "missing_value"),
        ({"arm": pl.Series(["A", "A"])}, "one_arm"),
    ],
)
def test_sums_that_cannot_be_are_refused(change: dict[str, pl.Series], code: str) -> None:
    with pytest.raises(PanelError) as error:
        read_summed_trial(SUMS.with_columns(**change), COLUMNS)
    assert error.value.problems[0].code == code


def test_what_an_interval_needs_is_asked_for() -> None:
    with pytest.raises(SpecError, match="--square"):
        read_summed_trial(SUMS, replace(COLUMNS, squares=()))
    with pytest.raises(SpecError, match="one --square for each --outcome"):
        replace(COLUMNS, squares=("spent2", "spent2"))
    with pytest.raises(SpecError, match="--period"):
        replace(COLUMNS, start=3)
    with pytest.raises(Refusal, match="fewer than two units"):
        read_sums(SUMS.with_columns(n=pl.Series([1, 10]), spent2=pl.Series([10_000.0, 1111.5])))


def test_a_plan_holds_for_sums_too() -> None:
    plan = Preregistration(
        name="t", arms=(PlannedArm(name="A"), PlannedArm(name="B")), outcomes=("spent",), planned_units=3_000,
        registered=date(2026, 1, 1), covariates=("before",),
    )  # fmt: skip
    answer = read_sums(summed(user_rows(3_000, 0.5, seed=1)), request=ReadOutRequest(plan=plan))
    assert "other_covariates" in codes(answer)  # sums cannot take the promised noise away
    assert (answer.decision.action, answer.refused) == ("inconclusive", True)
    plain = read_sums(summed(user_rows(300, 0.5, seed=1)), request=ReadOutRequest(plan=replace(plan, covariates=())))
    assert "peeked" in codes(plain)
    assert "confidence sequence" in plain.decision.rule


def shell(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str, str]:
    sums = ["--count", "n", "--outcome", "spent"]
    code = exit_code(["read-test", "--data", str(path), "--arm", "arm", "--control-arm", "A", *sums, *more])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_the_shell_reads_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "arms.csv"
    visitors = user_rows(10_600, 0.5, seed=4).filter((pl.col("arm") == "B") | (pl.col("user") < 10_000))
    summed(visitors).write_csv(path)  # 5,000 against 5,300
    code, out, _ = shell(path, capsys, "--square", "spent2", "--json")
    document = json.loads(out)
    assert (code, document["status"]) == (3, "refused")
    assert [arm["n"] for arm in document["arms"]] == [5_000, 5_300]
    assert document["sample_ratio"]["p_value"] == pytest.approx(0.00312, abs=5e-6)
    assert document["decision"]["action"] == "inconclusive"
    promised = ["--share", "A=50", "--share", "B=53", "--probability", "0.99", "--json"]
    code, out, _ = shell(path, capsys, "--square", "spent2", *promised)
    document = json.loads(out)
    units = read(trial_of(visitors), ReadOutRequest(shares={"A": 50, "B": 53}, probability=0.99))
    assert (code, document["decision"]["arm"]) == (0, "B")
    assert document["effects"][0]["lower"] == pytest.approx(units.effects[0].lower, rel=1e-8)
    assert document["effects"][0]["probability"] == 0.99


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "name them with --square"),
        (("--square", "spent2", "--unit", "user", "--pre", "before"), "--unit, --pre asks for"),
        (("--square", "spent2", "--guardrail", "kept=0.1"), "one --square for each"),
    ],
)
def test_the_shell_says_what_sums_need(
    tmp_path: Path, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "arms.csv"
    SUMS.write_csv(path)
    code, _, err = shell(path, capsys, *more)
    assert code == 2
    assert said in err
