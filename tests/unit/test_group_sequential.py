from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.group_sequential import crossing_probabilities, plan_looks


def test_one_look_is_the_fixed_test() -> None:
    assert plan_looks(1, "pocock").bounds[0] == pytest.approx(1.959964, abs=1e-6)
    power = crossing_probabilities([1.959964], [1.0], drift=2.801585)
    assert power[0] == pytest.approx(float(ndtr(2.801585 - 1.959964) + ndtr(-2.801585 - 1.959964)), abs=1e-12)


@pytest.mark.parametrize("drift", [0.0, 1.3])
def test_unequal_looks_agree_with_the_joint_normal(drift: float) -> None:
    shares, bounds = np.array([0.2, 0.55, 1.0]), np.array([2.6, 2.2, 2.0])
    covariance = np.sqrt(np.minimum.outer(shares, shares) / np.maximum.outer(shares, shares))
    joint = multivariate_normal(mean=drift * np.sqrt(shares), cov=covariance)
    inside = joint.cdf(bounds, lower_limit=-bounds)
    # the joint normal is integrated to about 1e-5
    assert crossing_probabilities(bounds, shares, drift).sum() == pytest.approx(1 - float(inside), abs=5e-5)


def test_a_look_without_a_bound_changes_nothing() -> None:
    with_it = crossing_probabilities([np.inf, 2.0], [0.5, 1.0])
    assert with_it[0] == pytest.approx(0.0, abs=1e-15)
    assert with_it[1] == pytest.approx(2 * float(ndtr(-2.0)), abs=1e-9)


def test_the_error_rate_is_spent_exactly() -> None:
    for shape in ("pocock", "obrien-fleming"):
        planned = plan_looks(4, shape, alpha=0.1, information=[0.1, 0.5, 0.6, 1.0])
        assert crossing_probabilities(planned.bounds, planned.information).sum() == pytest.approx(0.1, abs=1e-9)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SpecError, match="at least one look"):
        plan_looks(0, "pocock")
    with pytest.raises(SpecError, match="information must rise"):
        plan_looks(2, "pocock", information=[0.5, 0.9])
    with pytest.raises(SpecError, match="must be over 0"):
        crossing_probabilities([2.0, 0.0], [0.5, 1.0])
