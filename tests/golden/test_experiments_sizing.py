"""Published test sizes: Feit & Berman (2019), pwr for R, O'Hagan et al. (2005), unit normal loss."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.experiments.power import assurance, hypothesis_test_size, t_test_power, t_test_size
from bayes_pricing.experiments.sizing import TwoArms, profit_maximizing_test, score_test
from bayes_pricing.pricing.value_of_information import unit_normal_loss

NOISE = float(np.sqrt(0.68 * 0.32))
WEBSITE = TwoArms(means=(0.68, 0.68), sds=(0.03, 0.03), noise_sds=(NOISE, NOISE), population=100_000)


def test_feit_and_berman_website_test() -> None:
    plan = profit_maximizing_test(WEBSITE)
    assert plan.n_per_arm == pytest.approx((2283.89, 2283.89), abs=5e-3)
    assert plan.test_profit == pytest.approx(3106.1, abs=0.05)
    assert plan.rollout_profit == pytest.approx(66429.9, abs=0.05)
    assert plan.regret_fraction == pytest.approx(0.002247, abs=5e-7)
    assert plan.error_probability == pytest.approx(0.1001, abs=5e-5)
    assert plan.perfect_information_profit == pytest.approx(69692.57, abs=5e-3)
    assert plan.no_test_profit == pytest.approx(68000.0)


def test_feit_and_berman_hypothesis_test() -> None:
    size = hypothesis_test_size(0.0136, NOISE)
    assert size == pytest.approx(18467.95, abs=5e-3)
    scored = score_test(WEBSITE, size, size)
    assert scored.profit == pytest.approx(69060.48, abs=5e-3)
    assert scored.regret_fraction == pytest.approx(0.00907, abs=5e-6)
    assert scored.error_probability == pytest.approx(0.0363, abs=5e-5)


def test_feit_and_berman_unequal_priors() -> None:
    arms = TwoArms(means=(0.68, 0.68), sds=(0.03, 0.06), noise_sds=(NOISE, NOISE), population=100_000)
    # the profit is flat at its top: sizes are found to a few parts in a million
    assert profit_maximizing_test(arms).n_per_arm == pytest.approx((1339.86, 1521.19), rel=1e-5)


@pytest.mark.parametrize(("effect", "size"), [(0.5, 63.76561), (0.2, 393.4057)])
def test_pwr_two_sample_t(effect: float, size: float) -> None:
    assert t_test_size(effect) == pytest.approx(size, abs=5e-5 if effect == 0.2 else 5e-6)


def test_pwr_power() -> None:
    assert t_test_power(30, 1.0) == pytest.approx(0.967708258, abs=5e-10)
    assert t_test_power(20, 0.1) == pytest.approx(0.06095912, abs=5e-9)


def test_assurance_and_its_ceiling() -> None:
    found = assurance(0.2, 0.1, float(np.sqrt(2.0 / 392.44)))
    assert found.positive == pytest.approx(0.68758, abs=5e-6)
    assert found.either == pytest.approx(0.6904, abs=5e-5)
    assert found.ceiling == pytest.approx(0.97725, abs=5e-6)


def test_assurance_of_a_sure_effect_is_its_power() -> None:
    assert assurance(0.2, 1e-9, float(np.sqrt(2.0 / 392.44))).positive == pytest.approx(0.8, abs=5e-6)


@pytest.mark.parametrize(("distance", "loss"), [(0.0, 0.39894), (0.5, 0.19780), (1.0, 0.08332)])
def test_unit_normal_loss(distance: float, loss: float) -> None:
    assert float(unit_normal_loss(distance)) == pytest.approx(loss, abs=5e-6)
