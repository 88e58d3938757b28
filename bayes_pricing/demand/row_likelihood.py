"""Compiled log likelihood of single rows: log-normal or counts, with weeks that ran out, and its slopes.

A row's log likelihood depends on its log rate and on parameters of the law (the item's log residual sd, degrees of
freedom, dispersion). Sold-out rows give the log probability of at least what was sold, by the rules of
:mod:`bayes_pricing.demand.censoring`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.censoring import NODES, TINY, WEIGHTS
from bayes_pricing.demand.count_data import Integers
from bayes_pricing.demand.count_likelihood import INNER, LARGEST_LOG_RATE, digamma

GAUSSIAN, STUDENT_T, POISSON, NEGATIVE_BINOMIAL = range(4)
AT, LOG_AT, LOG_WEIGHT = 0.5 * (1.0 + NODES), np.log(0.5 * (1.0 + NODES)), np.log(0.5 * WEIGHTS)
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


class LawSlopes(NamedTuple):
    """Slopes of the log likelihood in the law's own parameters."""

    log_sd: Floats  # (items,)
    scalar: Floats  # (1,): in degrees of freedom or dispersion


@nb.njit(**INNER)
def _log_normal_above(z):  # type: ignore[no-untyped-def]
    """Log probability that a standard normal number exceeds `z`."""
    if z < 0.0:
        return math.log1p(-0.5 * math.erfc(-z / math.sqrt(2.0)))
    if z < ASYMPTOTIC_FROM:
        return math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
    w = 1.0 / (z * z)
    return -0.5 * z * z - math.log(z) - HALF_LOG_TWO_PI + math.log1p(-w * (1.0 - w * (3.0 - 15.0 * w)))


@nb.njit(**INNER)
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


@nb.njit(**INNER)
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


@nb.njit(**INNER)
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


@nb.njit(**INNER)
def _poisson_at_least(count, mean, inside):  # type: ignore[no-untyped-def]
    """Log probability of `count` or more, and its slope in the log mean."""
    top, total, moment = -math.inf, 0.0, 0.0
    for i in range(len(inside)):
        inside[i] = (count - 1.0) * LOG_AT[i] + LOG_WEIGHT[i] - mean * AT[i]
        top = max(top, inside[i])
    for i in range(len(inside)):
        share = math.exp(inside[i] - top)
        total += share
        moment += share * AT[i]
    value = count * math.log(mean) - math.lgamma(count) + top + math.log(total)
    return value, count - mean * moment / total


@nb.njit(**INNER)
def _poisson(rows, eta, residual):  # type: ignore[no-untyped-def]
    """Poisson counts; a sold-out week without sales says nothing."""
    value, inside = 0.0, np.empty(len(AT))
    for at in range(len(eta)):
        count, rate = rows.response[at], max(min(eta[at] + rows.offset[at], LARGEST_LOG_RATE), -LARGEST_LOG_RATE)
        mean = math.exp(rate)
        if not rows.gone[at]:
            value += count * rate - mean
            residual[at] = count - mean
        elif count > 0.0:
            log_above, residual[at] = _poisson_at_least(count, mean, inside)
            value += log_above
        else:
            residual[at] = 0.0
    return value


@nb.njit(**INNER)
def _binomial_at_least(count, mean, size, inside):  # type: ignore[no-untyped-def]
    """Log probability of `count` or more of a negative binomial, its slopes in the log mean and in the size."""
    share = mean / (mean + size)
    top, total, by_share, by_power = -math.inf, 0.0, 0.0, 0.0
    for i in range(len(inside)):
        inside[i] = (count - 1.0) * LOG_AT[i] + LOG_WEIGHT[i] + (size - 1.0) * math.log1p(-share * AT[i])
        top = max(top, inside[i])
    for i in range(len(inside)):
        weight, left = math.exp(inside[i] - top), 1.0 - share * AT[i]
        total += weight
        by_share += weight * AT[i] / left
        by_power += weight * math.log(left)
    constant = math.lgamma(count + size) - math.lgamma(count) - math.lgamma(size)
    slope = count / share - (size - 1.0) * by_share / total
    by_size = digamma(count + size) - digamma(size) + by_power / total - slope * share / (mean + size)
    return count * math.log(share) + constant + top + math.log(total), slope * share * (1.0 - share), by_size


@nb.njit(**INNER)
def _negative_binomial(rows, eta, size, residual, slopes):  # type: ignore[no-untyped-def]
    """Negative binomial counts; a sold-out week without sales says nothing."""
    value, by_size, inside = 0.0, 0.0, np.empty(len(AT))
    log_size, log_gamma, own = math.log(size), math.lgamma(size), digamma(size)
    for at in range(len(eta)):
        count, rate = rows.response[at], max(min(eta[at] + rows.offset[at], LARGEST_LOG_RATE), -LARGEST_LOG_RATE)
        mean = math.exp(rate)
        if not rows.gone[at]:
            log_sum, share = math.log(mean + size), mean / (mean + size)
            value += math.lgamma(count + size) - log_gamma + size * (log_size - log_sum) + count * (rate - log_sum)
            by_size += digamma(count + size) - own + log_size - log_sum + share - count / (mean + size)
            residual[at] = count - (count + size) * share
        elif count > 0.0:
            log_above, residual[at], slope = _binomial_at_least(count, mean, size, inside)
            value += log_above
            by_size += slope
        else:
            residual[at] = 0.0
    slopes.scalar[0] = by_size
    return value


@nb.njit(**INNER)
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
