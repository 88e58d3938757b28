"""Published numbers of read-outs and designs (CHECKS 3)."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from bayes_pricing.data.sources import read_sales
from bayes_pricing.experiments.designs import design_effect
from bayes_pricing.experiments.effects import ArmSummary, Contrast, effect_of, relative_lift, with_prior
from bayes_pricing.experiments.plan_file import PlannedArm, Preregistration
from bayes_pricing.experiments.readout import ReadOut, ReadOutRequest, read_out
from bayes_pricing.experiments.switchback import switch_points
from bayes_pricing.experiments.trial import read_trial
from bayes_pricing.experiments.trial_columns import TrialColumns
from tests.support import shared_data


def gbstats_lift() -> Contrast:
    """gbstats' test data: n, sum and sum of squares by arm."""
    return relative_lift(ArmSummary.from_sums(10, 100.0, 1002.25), ArmSummary.from_sums(10, 105.0, 1111.5))


def test_gbstats_with_a_flat_prior() -> None:
    effect = effect_of(gbstats_lift(), "lift", "B", probability=0.95)
    assert effect.mean == pytest.approx(0.05, abs=5e-6)
    assert effect.sd == pytest.approx(0.03572, abs=5e-6)
    assert effect.probability_better == pytest.approx(0.91923, abs=5e-6)
    assert (round(effect.lower, 2), round(effect.upper, 2)) == (-0.02, 0.12)
    # gbstats' risk is the loss of keeping control and of changing
    assert effect.mean + effect.expected_loss == pytest.approx(0.05131, abs=5e-6)
    assert effect.expected_loss == pytest.approx(0.00131, abs=5e-6)


def test_gbstats_with_a_normal_prior() -> None:
    effect = effect_of(with_prior(gbstats_lift(), mean=0.1, sd=0.1**0.5), "lift", "B", probability=0.95)
    assert effect.mean == pytest.approx(0.05063, abs=5e-6)
    assert effect.sd == pytest.approx(0.03549, abs=5e-6)
    assert effect.probability_better == pytest.approx(0.92315, abs=5e-6)
    assert (effect.lower, effect.upper) == pytest.approx((-0.01893, 0.12019), abs=5e-6)
    assert effect.expected_loss == pytest.approx(0.00123, abs=5e-6)


def test_bojinov_switch_points_and_the_textbook_design_effect() -> None:
    assert switch_points(12, 2) == (1, 5, 7, 9)
    assert switch_points(15, 3) == (1, 7, 10)
    assert design_effect(50, 0.02) == pytest.approx(1.98)


def read_lalonde(request: ReadOutRequest, pre: tuple[str, ...] = ()) -> ReadOut:
    columns = TrialColumns(arm="treat", control_arm="0", outcomes=("re78",), pre=pre)
    return read_out(read_trial(read_sales(shared_data("lalonde_nsw.csv")), columns), request, np.random.default_rng(1))


def test_lalonde_read_out_as_an_ab_test() -> None:
    answer = read_lalonde(ReadOutRequest(shares={"0": 260, "1": 185}))
    effect = answer.effects[0]
    assert effect.mean == pytest.approx(1_794.34, rel=1e-5)
    assert 633 * 0.95 < effect.sd < 671 * 1.05  # pooled error 632.85, each arm's own variance 671.0
    codes = {finding.code for finding in answer.findings}
    assert {"zeros", "heavy_tail"} <= codes  # 31 % zeros, skewness 2.7
    assert answer.decision.action == "change"
    parts = {part.method: part.effect for part in answer.robust}
    assert parts["share_above_zero"].mean == pytest.approx(0.1106, abs=5e-5)  # 75.7 % employed against 64.6 %


def test_lalonde_without_its_shares_is_a_wrong_sample_ratio() -> None:
    answer = read_lalonde(ReadOutRequest())
    assert answer.sample_ratio is not None
    assert not answer.sample_ratio.passed
    assert answer.decision.action == "inconclusive"


def test_lalonde_with_earlier_earnings_says_how_little_they_help() -> None:
    request = ReadOutRequest(shares={"0": 260, "1": 185})
    assert abs(read_lalonde(request, ("re74", "re75")).variance_reduction[0].gain) < 0.05


def test_lalonde_read_before_its_planned_size_is_inconclusive() -> None:
    arms = (PlannedArm(name="0", share=260), PlannedArm(name="1", share=185))
    plan = Preregistration(name="work", arms=arms, outcomes=("re78",), planned_units=2_000, registered=date(1975, 1, 1))
    answer = read_lalonde(ReadOutRequest(plan=plan))
    assert "peeked" in {finding.code for finding in answer.findings}
    assert answer.decision.action == "inconclusive"
    assert "confidence sequence" in answer.decision.rule
