from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.errors import Refusal
from bayes_pricing.experiments.clusters import cluster_difference, randomisation_p_value
from bayes_pricing.experiments.effects import ArmSummary, difference_in_means


def test_clusters_of_one_are_welchs_test() -> None:
    rng = np.random.default_rng(1)
    outcome, treated = rng.normal(size=40), np.arange(40) < 15
    clustered = cluster_difference(outcome, treated, np.arange(40))
    plain = difference_in_means(ArmSummary.of(outcome[~treated]), ArmSummary.of(outcome[treated]))
    assert clustered.standard_error == pytest.approx(plain.standard_error, rel=1e-12)
    assert clustered.degrees_of_freedom == pytest.approx(plain.degrees_of_freedom, rel=1e-12)


def test_copies_of_a_unit_add_nothing() -> None:
    rng = np.random.default_rng(2)
    outcome, treated = rng.normal(size=20), np.arange(20) % 2 == 0
    once = cluster_difference(outcome, treated, np.arange(20))
    copied = cluster_difference(np.repeat(outcome, 9), np.repeat(treated, 9), np.repeat(np.arange(20), 9))
    assert copied.standard_error == pytest.approx(once.standard_error, rel=1e-12)


def test_clusters_with_both_arms_compare_within() -> None:
    """A level that a cluster's units share drops out where both arms stand in it."""
    rng = np.random.default_rng(3)
    cluster, treated = np.repeat(np.arange(30), 10), np.tile(np.arange(10) % 2 == 0, 30)
    outcome = 5.0 * rng.normal(size=30)[cluster] + rng.normal(size=300) + 0.5 * treated
    contrast = cluster_difference(outcome, treated, cluster)
    assert contrast.standard_error < 0.2  # 2 / sqrt(300) = 0.115 by the units' noise alone, 1.8 if clusters were split
    assert contrast.degrees_of_freedom == 29


def test_one_cluster_in_an_arm_is_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        cluster_difference(np.arange(6.0), np.arange(6) >= 4, np.array([0, 0, 1, 1, 2, 2]))
    assert refusal.value.findings[0].code == "too_few_clusters"


def test_the_assignments_p_value_is_exact_for_three_against_three() -> None:
    outcome, treated = np.array([1.0, 2.0, 3.0, 10.0, 11.0, 12.5]), np.arange(6) >= 3
    p_value = randomisation_p_value(outcome, treated, np.arange(6), np.random.default_rng(1))
    assert p_value == pytest.approx(2 / 20)  # the most extreme of 20 ways and its mirror


def test_the_assignments_p_value_is_uniform_under_no_effect() -> None:
    rng = np.random.default_rng(4)
    treated, cluster = np.repeat(np.arange(10) < 5, 4), np.repeat(np.arange(10), 4)
    p_values = [
        randomisation_p_value(rng.exponential(size=10)[cluster] + rng.normal(size=40), treated, cluster, rng)
        for _ in range(100)
    ]
    assert np.mean(np.array(p_values) <= 0.1) < 0.2  # Binomial(100, 0.1): P(20 or more) = 0.2 %
