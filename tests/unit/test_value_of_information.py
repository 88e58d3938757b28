from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.value_of_information import (
    TestingRule,
    value_of_perfect_information,
    value_of_sample_information,
    worth_of_testing,
)


def test_perfect_information_agrees_with_simulation() -> None:
    draws = np.random.default_rng(1).normal(3.0, 5.0, 400_000)
    gain = np.maximum(draws, 0.0) - 3.0
    error = gain.std() / np.sqrt(gain.size)
    assert abs(gain.mean() - float(value_of_perfect_information(3.0, 5.0))) < 3.5 * error


def test_sample_information_grows_to_perfect_information() -> None:
    errors = np.array([100.0, 10.0, 1.0, 1e-6])
    worth = value_of_sample_information(2.0, 5.0, errors)
    assert (np.diff(worth) > 0).all()
    assert worth[-1] == pytest.approx(float(value_of_perfect_information(2.0, 5.0)))
    assert float(value_of_sample_information(2.0, 0.0, 1.0)) == 0.0


def test_the_best_length_is_the_best_of_all_it_tries() -> None:
    mean, sd, noise = np.array([1.0]), np.array([8.0]), np.array([400.0])
    found = worth_of_testing(mean, sd, noise, 52, TestingRule(cost=3.0))
    lengths = np.arange(2, 27, 2)
    gains = value_of_sample_information(1.0, 8.0, np.sqrt(2.0 * 400.0 / lengths))
    worth = (52 - lengths) * gains - lengths / 2 * 1.0 - 3.0
    assert found.net[0] <= worth.max() + 1e-9
    assert found.net[0] > 0.98 * worth.max()  # lengths beyond 12 are tried in growing steps
    assert found.periods[0] % 2 == 0


def test_no_test_fits_a_short_horizon() -> None:
    found = worth_of_testing(np.zeros(1), np.ones(1), np.ones(1), 3, TestingRule())
    assert found.net[0] == -np.inf
    assert found.periods[0] == 0


def test_impossible_rules_are_refused() -> None:
    with pytest.raises(SpecError, match="cost"):
        TestingRule(cost=-1.0)
    with pytest.raises(SpecError, match="largest_share"):
        TestingRule(largest_share=0.0)
