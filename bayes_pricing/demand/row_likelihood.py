"""Compiled log likelihood of single rows: log-normal or counts, with weeks that ran out, and its slopes.

A row's log likelihood depends on its log rate and on parameters of the law (the item's log residual sd, degrees of
freedom, dispersion). Sold-out rows give the log probability of at least what was sold, by the rules of
:mod:`bayes_pricing.demand.censoring`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.censoring import NODES, TINY, WEIGHTS
from bayes_pricing.demand.compiled import inner
from bayes_pricing.demand.count_data import Integers
from bayes_pricing.demand.count_likelihood import LARGEST_LOG_RATE, digamma, rising
from bayes_pricing.demand.count_tails import binomial_at_least, poisson_at_least

GAUSSIAN, STUDENT_T, POISSON, NEGATIVE_BINOMIAL = range(4)
AT = 0.5 * (1.0 + NODES)
LOG_ANGLE_WEIGHT = np.log(WEIGHTS)
HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
ASYMPTOTIC_FROM = 25.0
"""Standard deviations from which erfc nears the smallest number there is."""


class Rows(NamedTuple):
    """Rows slot by slot: the first rows of all items, then the second of those that have one, and so on."""

    law: int
    slot_start: Integers  # (slots + 1,)
    predictors: Floats  # (k, rows): item-level ones: ones, log price, controls
    shared: Floats  # (m, rows)
    response: Floats  # (rows,): log units per unit of exposure, or units
    offset: Floats  # (rows,): log exposure of counts, zero for log units
    gone: NDArray[np.bool_]  # (rows,): ran out
    item: Integers  # (rows,): place of the row's item
    kinds: Floats  # distinct counts
    kind: Integers  # (rows,): which of them is the row's


class LawSlopes(NamedTuple):
    """Slopes of the log likelihood in the law's own parameters, and what distinct counts contribute."""

    log_sd: Floats  # (items,)
    scalar: Floats  # (1,): in degrees of freedom or dispersion
    rising: Floats  # (kinds,): of the negative binomial
    harmonic: Floats  # (kinds,): its slope


@inner
def _log_normal_above(z):  # type: ignore[no-untyped-def]
    """Log probability that a standard normal number exceeds `z`."""
    if z < 0.0:
        return math.log1p(-0.5 * math.erfc(-z / math.sqrt(2.0)))
    if z < ASYMPTOTIC_FROM:
        return math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
    w = 1.0 / (z * z)
    return -0.5 * z * z - math.log(z) - HALF_LOG_TWO_PI + math.log1p(-w * (1.0 - w * (3.0 - 15.0 * w)))


@inner
def _gaussian(rows, eta, log_sd, residual, slopes):  # type: ignore[no-untyped-def]
    """Log units with normal errors."""
    value = 0.0
    for at in range(len(eta)):
        item = rows.item[at]
        inverse = math.exp(-log_sd[item])
        z = (rows.response[at] - eta[at]) * inverse
        if rows.gone[at]:
            log_above = _log_normal_above(z)
            hazard = math.exp(-0.5 * z * z - HALF_LOG_TWO_PI - log_above)
            value += log_above
            residual[at] = hazard * inverse
            slopes.log_sd[item] += hazard * z
        else:
            value -= 0.5 * z * z + log_sd[item]
            residual[at] = z * inverse
            slopes.log_sd[item] += z * z - 1.0
    return value


@inner
def _student_above(z, degrees, inside):  # type: ignore[no-untyped-def]
    """Log probability that a Student-t number exceeds `z`, and its slopes in `z` and the degrees of freedom.

    Up to the constant of the degrees of freedom, which :func:`_student_t` adds.
    """
    root = math.sqrt(degrees)
    start = math.atan(z / root)
    half = 0.5 * (0.5 * math.pi - start)
    top = -math.inf
    for i in range(len(inside)):
        cosine = max(math.cos(start + half * 2.0 * AT[i]), TINY)
        inside[i] = (degrees - 1.0) * math.log(cosine) + LOG_ANGLE_WEIGHT[i]
        top = max(top, inside[i])
    total, by_start, by_degrees = 0.0, 0.0, 0.0
    for i in range(len(inside)):
        share = math.exp(inside[i] - top)
        angle = start + half * 2.0 * AT[i]
        total += share
        by_start -= share * (degrees - 1.0) * math.tan(angle) * (1.0 - AT[i])
        by_degrees += share * math.log(max(math.cos(angle), TINY))
    slope_start = by_start / total - 0.5 / half
    by_z = slope_start / (root * (1.0 + z * z / degrees))
    return math.log(half) + top + math.log(total), by_z, by_degrees / total - 0.5 * by_z * z / degrees


@inner
def _student_t(rows, eta, log_sd, degrees, residual, slopes):  # type: ignore[no-untyped-def]
    """Log units with Student-t errors."""
    value, by_degrees, inside = 0.0, 0.0, np.empty(len(AT))
    half = 0.5 * (degrees + 1.0)
    constant = math.lgamma(half) - math.lgamma(0.5 * degrees) - 0.5 * math.log(math.pi)
    by_constant = 0.5 * (digamma(half) - digamma(0.5 * degrees))
    for at in range(len(eta)):
        item = rows.item[at]
        inverse = math.exp(-log_sd[item])
        z = (rows.response[at] - eta[at]) * inverse
        if rows.gone[at]:
            log_above, by_z, by_own = _student_above(z, degrees, inside)
            value += constant + log_above
            by_degrees += by_constant + by_own
            residual[at] = -by_z * inverse
            slopes.log_sd[item] -= by_z * z
        else:
            square = z * z
            log_term, pull = math.log1p(square / degrees), (degrees + 1.0) / (degrees + square)
            value += constant - 0.5 * math.log(degrees) - half * log_term - log_sd[item]
            by_degrees += by_constant - 0.5 / degrees - 0.5 * log_term + 0.5 * pull * square / degrees
            residual[at] = pull * z * inverse
            slopes.log_sd[item] += pull * square - 1.0
    slopes.scalar[0] = by_degrees
    return value


@inner
def _poisson(rows, eta, residual):  # type: ignore[no-untyped-def]
    """Poisson counts; a sold-out week without sales says nothing."""
    value = 0.0
    for at in range(len(eta)):
        count, rate = rows.response[at], max(min(eta[at] + rows.offset[at], LARGEST_LOG_RATE), -LARGEST_LOG_RATE)
        mean = math.exp(rate)
        if not rows.gone[at]:
            value += count * rate - mean
            residual[at] = count - mean
        elif count > 0.0:
            log_above, residual[at] = poisson_at_least(count, rate, mean)
            value += log_above
        else:
            residual[at] = 0.0
    return value


@inner
def _negative_binomial(rows, eta, size, residual, slopes):  # type: ignore[no-untyped-def]
    """Negative binomial counts; a sold-out week without sales says nothing."""
    value, by_size = 0.0, 0.0
    for kind in range(len(rows.kinds)):
        slopes.rising[kind], slopes.harmonic[kind] = rising(rows.kinds[kind], size)
    for at in range(len(eta)):
        count, rate = rows.response[at], max(min(eta[at] + rows.offset[at], LARGEST_LOG_RATE), -LARGEST_LOG_RATE)
        if rows.gone[at] and count == 0.0:
            residual[at] = 0.0
            continue
        mean, kind = math.exp(rate), rows.kind[at]
        log_term, share = math.log1p(mean / size), mean / (mean + size)
        log_at = slopes.rising[kind] + count * rate - (count + size) * log_term
        slope = slopes.harmonic[kind] + (count + size) * share / size - log_term
        residual[at] = count - (count + size) * share
        if rows.gone[at]:
            log_at, residual[at], slope = binomial_at_least(count, mean, size, log_at, slope)
        value += log_at
        by_size += slope
    slopes.scalar[0] = by_size
    return value


@inner
def row_likelihood(rows, eta, log_sd, scalar, residual, slopes):  # type: ignore[no-untyped-def]
    """Log likelihood of the rows at these log rates; fills `residual` (slope in the log rate) and `slopes`.

    `log_sd` (items,) is read by the log-normal laws; `scalar` is degrees of freedom or dispersion.
    """
    slopes.log_sd[:] = 0.0
    slopes.scalar[0] = 0.0
    if rows.law == GAUSSIAN:
        return _gaussian(rows, eta, log_sd, residual, slopes)
    if rows.law == STUDENT_T:
        return _student_t(rows, eta, log_sd, scalar, residual, slopes)
    if rows.law == POISSON:
        return _poisson(rows, eta, residual)
    return _negative_binomial(rows, eta, scalar, residual, slopes)
