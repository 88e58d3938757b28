from __future__ import annotations

from math import inf

import numpy as np
import pytest
from scipy import stats

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.effects import (
    ArmSummary,
    Contrast,
    difference_in_means,
    effect_of,
    holm,
    relative_lift,
    with_prior,
)


def test_the_difference_is_welchs_test() -> None:
    rng = np.random.default_rng(1)
    control, treated = rng.normal(size=30), rng.normal(0.4, 2.0, size=50)
    contrast = difference_in_means(ArmSummary.of(control), ArmSummary.of(treated))
    expected = stats.ttest_ind(treated, control, equal_var=False)
    assert contrast.p_value == pytest.approx(float(expected.pvalue), rel=1e-10)
    interval = expected.confidence_interval(0.9)
    effect = effect_of(contrast, "spent", "B")
    assert (effect.lower, effect.upper) == pytest.approx((float(interval.low), float(interval.high)), rel=1e-10)


def test_sums_say_what_values_say() -> None:
    values = np.array([3.0, 0.0, 0.0, 8.5])
    summed = ArmSummary.from_sums(4, float(values.sum()), float((values**2).sum()))
    assert summed.variance == pytest.approx(ArmSummary.of(values).variance, rel=1e-12)


@pytest.mark.parametrize("freedom", [2.5, 10.0, inf])
def test_expected_loss_is_the_mean_of_its_draws(freedom: float) -> None:
    effect = effect_of(Contrast(mean=0.7, standard_error=1.3, degrees_of_freedom=freedom), "spent", "B")
    grid = (np.arange(200_000) + 0.5) / 200_000
    draws = 0.7 + 1.3 * (stats.norm.ppf(grid) if freedom == inf else stats.t.ppf(grid, freedom))
    # quantile grid: the cut tails cost most at 2.5 degrees of freedom
    assert effect.expected_loss == pytest.approx(float(np.maximum(-draws, 0).mean()), rel=5e-3 if freedom < 3 else 2e-4)


def test_an_effect_without_noise_is_known() -> None:
    effect = effect_of(Contrast(mean=-2.0, standard_error=0.0), "spent", "B")
    assert (effect.lower, effect.upper, effect.probability_better, effect.expected_loss) == (-2.0, -2.0, 0.0, 2.0)
    assert effect_of(Contrast(mean=0.0, standard_error=0.0), "spent", "B").probability_better == 0.5


def test_a_lift_of_nothing_is_refused() -> None:
    with pytest.raises(SpecError, match="needs a mean over 0"):
        relative_lift(ArmSummary(n=3, mean=0.0, variance=1.0), ArmSummary(n=3, mean=1.0, variance=1.0))
    with pytest.raises(SpecError, match="prior sd"):
        with_prior(Contrast(mean=1.0, standard_error=1.0), mean=0.0, sd=0.0)
    with pytest.raises(SpecError, match="at least 2"):
        ArmSummary.of(np.array([1.0]))


def test_holm_keeps_order_and_never_exceeds_one() -> None:
    assert holm(np.array([0.5, 0.001, 0.9])).tolist() == [1.0, 0.003, 1.0]
    assert holm(np.empty(0)).size == 0
