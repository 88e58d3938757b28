from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from bayes_pricing.baselines.noise import CountNoise
from bayes_pricing.baselines.protocol import Floats
from bayes_pricing.baselines.scores import (
    crps,
    crps_normal,
    crps_quantiles,
    directional_accuracy,
    interval_coverage,
    poisson_deviance,
    predictive_interval,
    r_squared,
    rmse_log_units,
    wape,
)
from bayes_pricing.errors import SpecError

ROWS, DRAWS = 7, 9
units = arrays(np.float64, ROWS, elements=st.floats(0.1, 1e4))
unit_draws = arrays(np.float64, (DRAWS, ROWS), elements=st.floats(0.1, 1e4))
changes = arrays(np.float64, ROWS, elements=st.integers(-10, 10).map(float))


@given(actual=units, predicted=unit_draws, unit=st.floats(0.01, 100))
def test_relative_scores_do_not_depend_on_the_unit(actual: Floats, predicted: Floats, unit: float) -> None:
    assert_allclose(wape(actual * unit, predicted * unit), wape(actual, predicted), rtol=1e-9, atol=1e-12)
    assert_allclose(
        rmse_log_units(actual * unit, predicted * unit), rmse_log_units(actual, predicted), rtol=1e-7, atol=1e-9
    )


@given(actual=units, predicted=unit_draws, unit=st.floats(0.01, 100))
def test_crps_is_in_units(actual: Floats, predicted: Floats, unit: float) -> None:
    assert_allclose(crps(actual * unit, predicted * unit), unit * crps(actual, predicted), rtol=1e-7, atol=1e-7)


@given(actual=units, predicted=unit_draws)
def test_crps_is_not_negative_and_no_worse_than_the_mean_absolute_error_of_draws(
    actual: Floats, predicted: Floats
) -> None:
    score = crps(actual, predicted)
    assert -1e-9 <= score <= np.abs(predicted - actual).mean() + 1e-9  # rounding of sums of 1e4


@given(actual=units, point=units)
def test_a_point_forecast_scores_its_absolute_error(actual: Floats, point: Floats) -> None:
    error = np.abs(actual - point).mean()
    assert_allclose(crps(actual, point), error)
    assert_allclose(crps(actual, np.tile(point, (DRAWS, 1))), error, atol=1e-9)
    assert_allclose(crps_normal(actual, point, np.zeros(ROWS)), error)


@given(actual=units, predicted=unit_draws, seed=st.integers(0, 10))
def test_order_of_draws_and_of_rows_does_not_matter(actual: Floats, predicted: Floats, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, draws = rng.permutation(ROWS), rng.permutation(DRAWS)
    shuffled = predicted[draws][:, rows]
    for score in (crps, wape, rmse_log_units, poisson_deviance):
        assert_allclose(score(actual[rows], shuffled), score(actual, predicted), rtol=1e-7, atol=1e-7)


@given(actual=units)
def test_the_truth_is_the_best_forecast(actual: Floats) -> None:
    assert wape(actual, actual) == 0
    assert rmse_log_units(actual, actual) == 0
    assert crps(actual, actual) == 0
    assert_allclose(poisson_deviance(actual, actual), 0, atol=1e-9)


@given(actual=units, predicted=units)
def test_deviance_is_not_negative(actual: Floats, predicted: Floats) -> None:
    assert poisson_deviance(actual, predicted) >= -1e-9


@given(actual=units, predicted=unit_draws)
def test_wider_intervals_cover_more(actual: Floats, predicted: Floats) -> None:
    coverage = [interval_coverage(actual, *predictive_interval(predicted, level)) for level in (0.5, 0.8, 0.95)]
    assert coverage == sorted(coverage)


@given(actual=changes, predicted=changes, price=changes, scale=st.floats(0.1, 10))
def test_direction_is_a_share_and_knows_only_signs(
    actual: Floats, predicted: Floats, price: Floats, scale: float
) -> None:
    share = directional_accuracy(actual, predicted, price)
    assert_allclose(directional_accuracy(actual * scale, np.sign(predicted), -price), share, equal_nan=True)
    counted = (price != 0) & (actual != 0)
    assert np.isnan(share) if not counted.any() else 0 <= share <= 1


def test_draws_and_quantiles_tend_to_the_normal_score() -> None:
    rng = np.random.default_rng(1)
    actual = np.array([-1.0, 0.0, 2.0])
    exact = crps_normal(actual, np.zeros(3), np.ones(3))
    draws = np.repeat(rng.normal(size=(20_000, 1)), 3, axis=1)
    assert_allclose(crps(actual, draws), exact, atol=0.02)  # Monte-Carlo error 1 / sqrt(20,000), three times
    levels = (np.arange(500) + 0.5) / 500
    quantiles = np.quantile(draws, levels, axis=0)
    assert_allclose(crps_quantiles(actual, quantiles, levels), exact, atol=0.02)


def test_honest_draws_cover_at_their_rate_and_score_best() -> None:
    rng = np.random.default_rng(2)
    expected = np.full(4000, 40.0)
    sold = rng.poisson(expected).astype(float)
    draws = CountNoise(dispersion=0.0).draw(np.log(expected), 400, rng)
    lower, upper = predictive_interval(draws, 0.8)
    assert 0.78 < interval_coverage(sold, lower, upper) < 0.86  # 0.8, and the steps of whole numbers near 40
    assert crps(sold, draws) < crps(sold, draws + 2)
    assert crps(sold, draws) < crps(sold, expected)


def test_scores_that_do_not_exist_are_nan_or_infinite() -> None:
    assert np.isnan(rmse_log_units([0.0], [1.0]))
    assert np.isnan(wape([0.0], [1.0]))
    assert np.isnan(r_squared([1.0, 1.0], [1.0, 1.0]))
    assert np.isnan(directional_accuracy([0.0], [1.0], [1.0]))
    assert poisson_deviance([1.0], [0.0]) == np.inf


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SpecError, match="shapes"):
        wape([1.0, 2.0], [[1.0], [2.0]])
    with pytest.raises(SpecError, match="negative or missing sd"):
        crps_normal([1.0], [1.0], [-1.0])
    with pytest.raises(SpecError, match="one level"):
        crps_quantiles([1.0], [[1.0]], [1.5])
