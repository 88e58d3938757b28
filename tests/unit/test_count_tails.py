"""Tails of counts against the incomplete gamma and beta functions, their slopes against differences."""

from __future__ import annotations

import math

import numba as nb
import pytest
from scipy import special

from bayes_pricing.demand.count_likelihood import rising
from bayes_pricing.demand.count_tails import binomial_at_least, poisson_at_least

COUNTS = (1.0, 2.0, 7.0, 40.0, 500.0)
RATIOS = (1e-4, 0.3, 0.85, 0.95, 1.0, 1.2, 30.0)
SIZES = (1e-2, 0.4, 1.0, 3.0, 200.0, 1e5)


@nb.njit(error_model="numpy")
def poisson(count: float, log_mean: float) -> tuple[float, float]:
    """The compiled function, called from Python."""
    return poisson_at_least(count, log_mean, math.exp(log_mean))  # type: ignore[no-any-return]


@nb.njit(error_model="numpy")
def binomial(count: float, log_mean: float, size: float) -> tuple[float, float, float]:
    """As the row likelihood calls it."""
    mean = math.exp(log_mean)
    term, harmonic = rising(count, size)
    log_term = math.log1p(mean / size)
    by_size = harmonic + (count + size) * mean / (mean + size) / size - log_term
    log_at = term + count * log_mean - (count + size) * log_term
    return binomial_at_least(count, mean, size, log_at, by_size)  # type: ignore[no-any-return]


@pytest.mark.parametrize("count", COUNTS)
def test_poisson_tail(count: float) -> None:
    """Scipy's incomplete gamma is good to twelve digits; central differences of this width to three."""
    for ratio in RATIOS:
        log_mean, step = math.log(count * ratio), 2e-3 / math.sqrt(count)
        value, slope = poisson(count, log_mean)
        exact = float(special.gammainc(count, count * ratio))
        if exact > 1e-290:
            assert value == pytest.approx(math.log(exact), rel=1e-11, abs=1e-12)
        difference = (poisson(count, log_mean + step)[0] - poisson(count, log_mean - step)[0]) / (2 * step)
        assert slope == pytest.approx(difference, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", COUNTS)
def test_negative_binomial_tail(count: float, size: float) -> None:
    """Scipy's incomplete beta loses digits where size and share are extreme; nine stay."""
    for ratio in RATIOS:
        log_mean, step = math.log(count * ratio), 2e-3 / math.sqrt(count)
        value, by_mean, by_size = binomial(count, log_mean, size)
        exact = float(special.betainc(count, size, count * ratio / (count * ratio + size)))
        if exact > 1e-290:
            assert value == pytest.approx(math.log(exact), rel=1e-9, abs=1e-10)
        ends = [binomial(count, log_mean + way * step, size)[0] for way in (1, -1)]
        assert by_mean == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-6)
        ends = [binomial(count, log_mean, size * (1 + way * step))[0] for way in (1, -1)]
        assert by_size * size == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3, abs=1e-6)
