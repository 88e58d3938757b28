from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.experiments.covariates import adjust_for_covariates
from bayes_pricing.experiments.effects import ArmSummary, difference_in_means, effect_of
from bayes_pricing.experiments.plan_file import Monitoring, PlannedArm, Preregistration
from bayes_pricing.experiments.readout import ReadOutRequest
from tests.trials import cluster_rows, codes, event_rows, read, trial_of, user_rows

ARMS = (PlannedArm(name="A"), PlannedArm(name="B"))


def plan_of(
    units: int, monitoring: Monitoring = "fixed", looks: int = 1, threshold: float | None = None
) -> Preregistration:
    return Preregistration(
        name="test",
        arms=ARMS,
        outcomes=("spent",),
        planned_units=units,
        registered=date(2026, 1, 1),
        monitoring=monitoring,
        looks=looks,
        loss_threshold=threshold,
    )


def test_an_effect_is_found_and_changes_the_price() -> None:
    answer = read(trial_of(user_rows(4_000, 0.5, seed=1)))
    effect = answer.effects[0]
    assert abs(effect.mean - 0.5) < 4 * effect.sd
    assert effect.sd == pytest.approx(8**0.5 * 2 / 4_000**0.5, rel=0.05)
    assert (answer.decision.action, answer.decision.arm) == ("change", "B")
    assert answer.arms[1].mean - answer.arms[0].mean == pytest.approx(effect.mean)
    assert answer.lifts[0].mean == pytest.approx(effect.mean / answer.arms[0].mean)


def test_intervals_of_skewed_revenue_with_zeros_cover_at_their_rate() -> None:
    rng = np.random.default_rng(21)
    spent = rng.lognormal(3.0, 0.8, size=(1_500, 2, 1_000)) * (rng.random((1_500, 2, 1_000)) < 0.3)
    held = 0
    for control, treated in spent:
        effect = effect_of(difference_in_means(ArmSummary.of(control), ArmSummary.of(treated)), "spent", "B", 0.9)
        held += effect.lower <= 0 <= effect.upper
    assert abs(held / 1_500 - 0.9) < 4 * (0.09 / 1_500) ** 0.5


def test_a_worse_arm_keeps_control_and_no_effect_is_inconclusive() -> None:
    kept = read(trial_of(user_rows(4_000, -0.5, seed=2))).decision
    assert (kept.action, kept.arm) == ("keep", "A")
    assert kept.expected_loss is not None
    assert kept.expected_loss < 0.001
    assert read(trial_of(user_rows(4_000, 0.0, seed=3))).decision.action == "inconclusive"


def test_what_was_spent_before_halves_the_variance_and_the_gain_is_measured() -> None:
    frame = user_rows(4_000, 0.5, seed=4)
    plain, adjusted = read(trial_of(frame)), read(trial_of(frame, pre=("before",)))
    gain = adjusted.variance_reduction[0].gain
    assert gain == pytest.approx(0.5, abs=0.05)  # correlation sqrt(0.5), 4,000 users
    assert adjusted.effects[0].sd == pytest.approx(plain.effects[0].sd * (1 - gain) ** 0.5, rel=0.01)


def test_users_without_a_past_stay_in() -> None:
    frame = user_rows(2_000, 0.5, seed=5).with_columns(
        pl.when(pl.col("user") % 4 > 0).then(pl.col("before")).alias("before")
    )
    answer = read(trial_of(frame, pre=("before",)))
    assert answer.variance_reduction[0].units_without == 500
    assert 0.2 < answer.variance_reduction[0].gain < 0.5
    assert abs(answer.effects[0].mean - 0.5) < 4 * answer.effects[0].sd


def test_rows_before_the_start_are_the_covariate() -> None:
    users = user_rows(1_000, 0.5, seed=6)
    before = users.select("user", "arm", pl.col("before").alias("spent"), pl.lit(1).alias("week"))
    test = users.select("user", "arm", "spent", pl.lit(2).alias("week"))
    answer = read(trial_of(pl.concat([before, test]), unit="user", period="week", start=2))
    assert answer.variance_reduction[0].gain == pytest.approx(0.5, abs=0.1)
    same = read(trial_of(users, pre=("before",)))
    assert answer.effects[0].mean == pytest.approx(same.effects[0].mean)


def test_a_covariate_that_never_varies_is_refused() -> None:
    with pytest.raises(SpecError, match="same for every unit"):
        adjust_for_covariates(np.arange(6.0), np.arange(6) % 2, np.ones((6, 1)))


def test_a_wrong_sample_ratio_withholds_the_decision() -> None:
    rng = np.random.default_rng(7)
    arm = np.array(["A"] * 5_000 + ["B"] * 5_300)
    answer = read(trial_of(pl.DataFrame({"arm": arm, "spent": rng.normal(size=10_300) + (arm == "B")})))
    assert answer.sample_ratio is not None
    assert answer.sample_ratio.p_value == pytest.approx(0.00312, abs=5e-6)
    assert not answer.sample_ratio.passed
    assert answer.decision.action == "inconclusive"
    assert "sample_ratio_mismatch" in codes(answer)
    promised = read(
        trial_of(pl.DataFrame({"arm": arm, "spent": rng.normal(size=10_300)})),
        ReadOutRequest(shares={"A": 50, "B": 53}),
    )
    assert promised.sample_ratio is not None
    assert promised.sample_ratio.passed


def test_an_arm_below_cost_is_never_chosen() -> None:
    frame = user_rows(4_000, 1.0, seed=8).with_columns(
        pl.when(pl.col("arm") == "A").then(5.0).otherwise(2.0).alias("price"), pl.lit(3.0).alias("cost")
    )
    answer = read(trial_of(frame, price="price", cost="cost"))
    assert answer.effects[0].probability_better > 0.99
    assert answer.decision.action == "keep"
    assert "arm_below_cost" in codes(answer)


def test_an_arm_that_never_got_its_price_is_named() -> None:
    frame = user_rows(200, 0.0, seed=9).with_columns(pl.lit(5.0).alias("price"))
    assert "same_price" in codes(read(trial_of(frame, price="price")))


def test_many_arms_and_outcomes_raise_no_false_alarms() -> None:
    alarms = 0
    rng = np.random.default_rng(10)
    for _ in range(60):
        arm = np.arange(400) % 4
        outcomes = {f"o{place}": rng.normal(size=400) for place in range(5)}
        frame = pl.DataFrame({"arm": np.array(list("ABCD"))[arm], **outcomes})
        answer = read(trial_of(frame, outcomes=tuple(outcomes)))
        alarms += answer.decision.action != "inconclusive"
    assert alarms <= 13  # at most 10 % each: Binomial(60, 0.1), P(over 13) = 0.3 %


def test_the_best_of_several_better_arms_is_taken() -> None:
    rng = np.random.default_rng(11)
    arm = np.arange(6_000) % 3
    answer = read(trial_of(pl.DataFrame({"arm": np.array(list("ABC"))[arm], "spent": rng.normal(0.3 * arm)})))
    assert (answer.decision.action, answer.decision.arm) == ("change", "C")
    assert "Holm" in answer.procedure


def test_secondary_outcomes_inform_and_do_not_decide() -> None:
    frame = user_rows(2_000, 0.0, seed=12).with_columns((pl.col("arm") == "B").cast(pl.Float64).alias("clicks"))
    answer = read(trial_of(frame.with_columns(pl.col("clicks") + pl.col("before")), outcomes=("spent", "clicks")))
    assert answer.decision.action == "inconclusive"
    assert "secondary_effect" in codes(answer)


def test_clusters_widen_the_error_and_few_are_said_to_be_few() -> None:
    answer = read(trial_of(cluster_rows(20, 0.0, seed=13), cluster="store"))
    naive = read(trial_of(cluster_rows(20, 0.0, seed=13)))
    assert answer.effects[0].sd > 2 * naive.effects[0].sd  # 20 shoppers alike: design effect about 10
    assert "few_clusters" in codes(answer)
    assert answer.sample_ratio is not None
    assert answer.sample_ratio.counts == (10, 10)  # clusters were assigned, not shoppers


def test_four_clusters_can_never_decide() -> None:
    answer = read(trial_of(cluster_rows(4, 50.0, seed=14), cluster="store"))
    assert answer.tests[0].p_value == pytest.approx(2 / 6)  # six ways to choose two of four
    assert answer.decision.action == "inconclusive"


def test_before_and_after_by_flag_and_by_period_agree() -> None:
    frame = event_rows(12, 10, -0.2, seed=15)
    common = {"arm": "group", "control_arm": "old", "outcomes": ("sales",), "cluster": "store", "period": "week"}
    by_flag, by_period = (read(trial_of(frame, **common, event=column)) for column in ("after", "begins"))
    effect = by_flag.effects[0]
    assert abs(effect.mean + 0.2) < 4 * effect.sd
    assert effect.sd == pytest.approx(0.05 * 2 * 2 / 120**0.5, rel=0.5)  # noise by cell, 12 clusters
    assert by_period.effects[0] == effect
    assert by_flag.sample_ratio is None
    assert [arm.n for arm in by_flag.arms] == [6, 6]


def test_before_and_after_refuses_zeros_and_what_is_not_identified() -> None:
    frame = event_rows(6, 6, 0.1, seed=16)
    common = {"arm": "group", "control_arm": "old", "outcomes": ("sales",), "cluster": "store", "period": "week"}
    zeros = frame.with_columns(pl.when(pl.col("week") > 0).then(pl.col("sales")).otherwise(0.0).alias("sales"))
    with pytest.raises(Refusal) as refusal:
        read(trial_of(zeros, **common, event="after"))
    assert refusal.value.findings[0].code == "zeros_under_log"
    confounded = frame.with_columns(
        pl.when(pl.col("after") == 1).then(pl.lit("new")).otherwise(pl.lit("old")).alias("group")
    )
    with pytest.raises(Refusal) as refusal:
        read(trial_of(confounded, **common, event="after"))
    assert refusal.value.findings[0].code == "not_identified"


def test_items_that_alternate_are_compared_with_themselves() -> None:
    rng = np.random.default_rng(17)
    item, week = np.repeat(np.arange(20), 8), np.tile(np.arange(8), 20)
    new = (item + week) % 2 == 1
    spent = 100 * rng.normal(size=20)[item] + 10 * rng.normal(size=8)[week] + 2.0 * new + rng.normal(size=160)
    frame = pl.DataFrame({"item": item, "week": week, "arm": np.where(new, "B", "A"), "spent": spent})
    effect = read(trial_of(frame, unit="item", period="week")).effects[0]
    assert abs(effect.mean - 2.0) < 4 * effect.sd < 1.5  # the items' levels (sd 100) are gone


def test_a_price_that_switches_for_everybody_counts_stretches() -> None:
    rng = np.random.default_rng(18)
    day = np.arange(56)
    new = day // 4 % 2 == 1
    frame = pl.DataFrame({"shop": "s", "day": day, "arm": np.where(new, "B", "A"), "spent": rng.normal(10 + 3.0 * new)})
    answer = read(trial_of(frame, unit="shop", period="day"))
    assert answer.decision.action == "change"
    assert abs(answer.effects[0].mean - 3.0) < 4 * answer.effects[0].sd


@pytest.mark.parametrize(
    ("plan", "action", "rule"),
    [
        (plan_of(2_000), "change", "one look"),
        (plan_of(20_000), "inconclusive", "confidence sequence"),  # peeked at a tenth
        (plan_of(2_000, "anytime"), "inconclusive", "confidence sequence"),
        (plan_of(4_000, "pocock", looks=2), "change", "look 1 of 2"),
        (plan_of(4_000, "obrien-fleming", looks=2), "inconclusive", "look 1 of 2"),
        (plan_of(2_000, threshold=0.01), "change", "expected loss"),
        (plan_of(2_000, threshold=1e-6), "inconclusive", "expected loss"),
    ],
)
def test_the_planned_rule_decides(plan: Preregistration, action: str, rule: str) -> None:
    """z is about 2.5: over one look's 1.64 and Pocock's 1.88, under O'Brien-Fleming's 2.37 ... and a sequence's 2.6."""
    frame = user_rows(2_000, 0.0, seed=19)
    control = pl.col("spent") - pl.col("spent").mean().over("arm")
    frame = frame.with_columns(control + pl.when(pl.col("arm") == "B").then(0.2900).otherwise(0.0))
    answer = read(trial_of(frame), ReadOutRequest(plan=plan))
    assert 2.2 < answer.effects[0].mean / answer.effects[0].sd < 2.4
    assert (answer.decision.action, rule in answer.decision.rule) == (action, True)
