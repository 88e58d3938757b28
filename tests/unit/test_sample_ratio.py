from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.sample_ratio import READ_OUT_THRESHOLD, check_sample_ratio, sample_ratio_e_values


def test_the_p_value_is_the_chi_square_tests() -> None:
    counts, shares = [480, 330, 190], [0.5, 0.3, 0.2]
    expected = chisquare(counts, 1_000 * np.array(shares)).pvalue
    assert check_sample_ratio(counts, shares).p_value == pytest.approx(float(expected), rel=1e-10)


def test_a_finished_test_of_5000_against_5300_does_not_pass() -> None:
    ratio = check_sample_ratio([5_000, 5_300], threshold=READ_OUT_THRESHOLD)
    assert not ratio.passed
    assert ratio.expected == (5_150.0, 5_150.0)


def test_an_unequal_split_that_was_promised_passes() -> None:
    assert check_sample_ratio([1_000, 3_010], [1, 3]).passed


def test_no_units_never_pass() -> None:
    assert not check_sample_ratio([0, 0]).passed  # unknown is failed


def test_the_e_value_rarely_ever_reaches_twenty_where_the_promise_holds() -> None:
    rng = np.random.default_rng(5)
    arrivals = rng.multinomial(1, [0.5, 0.3, 0.2], size=(400, 1_500))
    evidence = sample_ratio_e_values(arrivals.cumsum(axis=1), [0.5, 0.3, 0.2])
    assert (evidence.max(axis=1) >= 20).mean() <= 0.08  # at most 5 %, Binomial(400, 0.05): P(over 32) = 0.4 %


def test_the_e_value_finds_a_wrong_ratio() -> None:
    assert sample_ratio_e_values([50_000, 53_000]) > 1_000
    assert sample_ratio_e_values([50_000, 50_000]) < 1


def test_the_mean_e_value_is_one_where_the_promise_holds() -> None:
    # every split of four units, weighted by its probability: a martingale from one
    splits = [(n, 4 - n) for n in range(5)]
    chance = np.array([1, 4, 6, 4, 1]) / 16
    assert float(chance @ sample_ratio_e_values(splits, concentration=3.0)) == pytest.approx(1.0, rel=1e-12)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(SpecError, match="two arms"):
        check_sample_ratio([10])
    with pytest.raises(SpecError, match="shares"):
        check_sample_ratio([10, 10], [1.0, 0.0])
