"""Published numbers of sequential tests (CHECKS 3), and their conventions named as such."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import ndtri

from bayes_pricing.experiments.group_sequential import BoundShape, crossing_probabilities, plan_looks, sample_inflation
from bayes_pricing.experiments.monitoring import SequenceTuning, growthbook_sequential_power, sequence_multiplier
from bayes_pricing.experiments.power import z_power

GROWTHBOOK = SequenceTuning(planned_units=5_000)
UNITS = 266_667
VARIANCE, MEAN, PER_ARM, LIFT = 3_909.99977, 10.0, 133_333, 0.05


def lift_error(lift: float) -> float:
    """GrowthBook's standard error of a relative lift (delta method)."""
    return float(np.sqrt(VARIANCE / PER_ARM * (1 + (1 + lift) ** 2)) / MEAN)


def lift_drift() -> float:
    """The lift as expected z."""
    return LIFT / lift_error(LIFT)


def test_growthbook_power_and_minimum_detectable_effect() -> None:
    assert z_power(LIFT, lift_error(LIFT)) == pytest.approx(0.52144, abs=5e-6)
    found = brentq(lambda lift: z_power(lift, lift_error(lift)) - 0.8, 0.01, 0.5)
    assert found == pytest.approx(0.07027, abs=5e-6)


@pytest.mark.parametrize(
    ("looks", "shape", "bound"),
    [
        # Jennison & Turnbull (2000), tables 2.1 and 2.3, printed to three decimals
        (2, "pocock", 2.178),
        (3, "pocock", 2.289),
        (5, "pocock", 2.413),
        (2, "obrien-fleming", 1.977),
        (3, "obrien-fleming", 2.004),
        (5, "obrien-fleming", 2.040),
    ],
)
def test_bounds_of_jennison_and_turnbull(looks: int, shape: BoundShape, bound: float) -> None:
    assert plan_looks(looks, shape).bounds[-1] == pytest.approx(bound, abs=6e-4)


@pytest.mark.parametrize(
    ("looks", "shape", "at_80", "at_90"),
    [
        (2, "pocock", 1.110, 1.100),
        (3, "pocock", 1.166, 1.151),
        (5, "pocock", 1.228, 1.207),
        (2, "obrien-fleming", 1.008, 1.007),
        (3, "obrien-fleming", 1.017, 1.016),
        (5, "obrien-fleming", 1.028, 1.027),
    ],
)
def test_inflation_of_jennison_and_turnbull(looks: int, shape: BoundShape, at_80: float, at_90: float) -> None:
    planned = plan_looks(looks, shape)
    assert sample_inflation(planned, 0.8) == pytest.approx(at_80, abs=6e-4)  # printed to three decimals
    assert sample_inflation(planned, 0.9) == pytest.approx(at_90, abs=6e-4)


def test_growthbook_sequence_and_its_convention() -> None:
    multiplier = float(sequence_multiplier(UNITS, GROWTHBOOK))
    assert multiplier == pytest.approx(3.47423, abs=5e-6)
    assert float(growthbook_sequential_power(lift_drift(), multiplier)) == pytest.approx(0.20596, abs=5e-6)


def test_growthbook_minimum_detectable_effect_by_the_same_convention() -> None:
    # the lift whose stretched z has 80 % power, the far tail left out: drift / (k / z) = z_0.975 + z_0.8
    stretch = float(sequence_multiplier(UNITS, GROWTHBOOK)) / float(ndtri(0.975))
    needed = stretch * float(ndtri(0.975) + ndtri(0.8))
    unit = VARIANCE / PER_ARM / MEAN**2
    lifts = np.roots([1 - needed**2 * unit, -2 * needed**2 * unit, -2 * needed**2 * unit])
    assert float(lifts.max()) == pytest.approx(0.12821, abs=5e-6)


@pytest.mark.parametrize(
    ("looks", "chance", "digits"), [(1, 0.0721, 5e-5), (7, 0.11, 5e-3), (28, 0.14, 5e-3), (400, 0.17, 5e-3)]
)
def test_the_chance_of_crossing_is_another_number(looks: int, chance: float, digits: float) -> None:
    information = np.arange(1, looks + 1) / looks
    bounds = sequence_multiplier(information * UNITS, GROWTHBOOK)
    assert float(crossing_probabilities(bounds, information, lift_drift()).sum()) == pytest.approx(chance, abs=digits)
