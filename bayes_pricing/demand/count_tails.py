r"""Compiled log probability that a count is `n` or more, and its slopes, by sums of neighbouring probabilities.

With :math:`p_k` the probability of `k` the tail is :math:`p_n (1 + r_n + r_n r_{n+1} + \dots)`,
:math:`r_k = p_{k+1} / p_k`, where the ratios are under nine tenths; elsewhere it is no small number, and one less the
probabilities under `n`, summed from `n` down, loses nothing. Its slope in the log mean is :math:`n p_n` for both laws.
"""

from __future__ import annotations

import math

import numpy as np

from bayes_pricing.demand.censoring import LARGEST_COUNT
from bayes_pricing.demand.compiled import inner

LOG_FACTORIAL = np.array([math.lgamma(count + 1.0) for count in range(LARGEST_COUNT + 1)])
SLOWEST = 0.9
"""Largest ratio of neighbouring probabilities that is summed upwards."""
NEGLIGIBLE = 1e-17
MOST_TERMS = 2000


@inner
def poisson_at_least(count, log_mean, mean):  # type: ignore[no-untyped-def]
    """Log probability of `count` or more of a Poisson, 1 <= count <= 500, and its slope in the log mean."""
    log_at = count * log_mean - mean - LOG_FACTORIAL[int(count)]
    total, term, k = 0.0, 1.0, count
    if mean < SLOWEST * (count + 1.0):
        while term > NEGLIGIBLE * total:
            total += term
            k += 1.0
            term *= mean / k
        return log_at + math.log(total), count / total
    inverse = 1.0 / mean
    while k > 0.0 and term > NEGLIGIBLE * total:
        term *= k * inverse
        total += term
        k -= 1.0
    at = math.exp(log_at)
    above = 1.0 - at * total
    return math.log(above), count * at / above


@inner
def binomial_at_least(count, mean, size, log_at, by_size):  # type: ignore[no-untyped-def]
    """Log probability of `count` or more of a negative binomial, and its slopes in the log mean and in the size.

    `log_at` is the log probability of `count`, with its factorial left out, and `by_size` its slope in the size.
    """
    log_at -= LOG_FACTORIAL[int(count)]
    both = mean + size
    share = mean / both
    inverse = 1.0 / both
    total, slope, term, change, k = 0.0, 0.0, 1.0, 0.0, count
    if (size + count) / (count + 1.0) * share < SLOWEST and (size >= 1.0 or share < SLOWEST):
        while term > NEGLIGIBLE * total and k < count + MOST_TERMS:
            total += term
            slope += term * change
            change += 1.0 / (size + k) - inverse
            term *= (size + k) * share / (k + 1.0)
            k += 1.0
        return log_at + math.log(total), count / total, by_size + slope / total
    while k > 0.0 and term > NEGLIGIBLE * total:
        before = size + k - 1.0
        term *= k / (before * share)
        change += inverse - 1.0 / before
        total += term
        slope += term * change
        k -= 1.0
    at = math.exp(log_at)
    above = 1.0 - at * total
    return math.log(above), count * at / above, -at * (by_size * total + slope) / above
