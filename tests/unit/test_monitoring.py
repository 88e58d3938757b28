from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.monitoring import (
    SequenceTuning,
    check_guardrail,
    confidence_sequence,
    first_crossing,
    running_difference,
    sequence_multiplier,
    stop_by_expected_loss,
)


def test_the_running_difference_is_welchs_at_every_unit() -> None:
    rng = np.random.default_rng(2)
    outcome = rng.normal(1e6, 1.0, size=60)  # far from zero: sums of squares would lose these digits
    treated = rng.random(60) < 0.4
    difference, error = running_difference(outcome, treated)
    for units in (20, 41, 60):
        arms = [outcome[:units][treated[:units] == arm] for arm in (True, False)]
        assert difference[units - 1] == pytest.approx(arms[0].mean() - arms[1].mean(), abs=1e-8)
        expected = np.sqrt(sum(arm.var(ddof=1) / arm.size for arm in arms))
        assert error[units - 1] == pytest.approx(expected, rel=1e-6)


def test_streams_side_by_side_are_streams_one_by_one() -> None:
    rng = np.random.default_rng(3)
    outcome, treated = rng.normal(size=(3, 50)), rng.random((3, 50)) < 0.5
    together = running_difference(outcome, treated)[0]
    for stream in range(3):
        np.testing.assert_allclose(together[stream], running_difference(outcome[stream], treated[stream])[0])


def test_a_sequence_never_crosses_before_it_can_know() -> None:
    tuning = SequenceTuning(planned_units=100)
    assert first_crossing(np.arange(10.0), np.arange(10) % 2 == 1, tuning) == np.inf  # under the first look
    assert first_crossing(np.arange(40.0), np.arange(40) >= 20, tuning, first_look=2) == 22  # two treated, far above
    assert np.isinf(first_crossing(np.arange(60.0), np.zeros(60, dtype=bool), tuning))  # one arm only


def test_no_effect_crosses_at_most_at_the_stated_rate() -> None:
    """500 streams watched after every unit to four times the planned size; the long study watches to twenty times."""
    rng = np.random.default_rng(20)
    tuning = SequenceTuning(planned_units=500)
    outcome = rng.normal(size=(500, 2_000))
    treated = rng.random((500, 2_000)) < 0.5
    crossings = np.isfinite(first_crossing(outcome, treated, tuning)).sum()
    assert crossings <= 36  # Binomial(500, 0.05): P(more than 36) = 1 %


def test_a_fixed_interval_watched_as_often_would_lie() -> None:
    rng = np.random.default_rng(20)
    difference, error = running_difference(rng.normal(size=(200, 2_000)), rng.random((200, 2_000)) < 0.5)
    assert (np.abs(difference[:, 20:]) > 1.96 * error[:, 20:]).any(axis=1).mean() > 0.3


def test_an_effect_is_found_and_its_interval_shrinks() -> None:
    rng = np.random.default_rng(4)
    treated = np.arange(4_000) % 2 == 1
    outcome = rng.normal(size=4_000) + 0.3 * treated
    tuning = SequenceTuning(planned_units=2_000)
    assert first_crossing(outcome, treated, tuning) < 2_000
    difference, error = running_difference(outcome, treated)
    looks = np.array([500, 2_000, 4_000])
    lower, upper = confidence_sequence(difference[looks - 1], error[looks - 1], looks, tuning)
    assert np.all(np.diff(upper - lower) < 0)
    assert np.all((lower < 0.3) & (upper > 0.3))


def test_guardrails_and_losses_have_three_answers() -> None:
    assert check_guardrail(-1.0, 0.2, margin=0.5) == "open"
    assert stop_by_expected_loss(-0.05, 0.03, threshold=0.002).action == "keep"
    tied = stop_by_expected_loss(0.0, 1.0, threshold=0.1)
    assert (tied.action, round(tied.loss_of_change, 5), round(tied.loss_of_keep, 5)) == ("continue", 0.39894, 0.39894)


@pytest.mark.parametrize(("units", "confidence"), [(0, 0.95), (float("nan"), 0.95), (100, 1.0), (100, 0.0)])
def test_settings_without_meaning_are_refused(units: float, confidence: float) -> None:
    with pytest.raises(SpecError):
        SequenceTuning(planned_units=units, confidence=confidence)


def test_looks_before_the_first_unit_and_losses_of_nothing_are_refused() -> None:
    with pytest.raises(SpecError, match="at least one unit"):
        sequence_multiplier([0, 10], SequenceTuning(planned_units=100))
    with pytest.raises(SpecError, match="threshold"):
        stop_by_expected_loss(1.0, 1.0, threshold=0.0)
    with pytest.raises(SpecError, match="margin"):
        check_guardrail(0.0, 1.0, margin=-1.0)
