r"""Compiled log likelihood of cells of counts, its slope in every coefficient and in the dispersion.

Inner loops run over neighbours in memory, from zero on slices, which the compiler turns into vector instructions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import fused, inner, vector
from bayes_pricing.demand.count_data import Integers

LOG2E = 1.0 / math.log(2.0)
LOG2_HIGH, LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # log 2, the first with trailing zeros
ROUNDER = 1.5 * 2.0**52
LARGEST_LOG_RATE = 700.0
STIRLING_FROM = 1e3


class Cells(NamedTuple):
    """Cells slot by slot: the first cells of all items, then the second of those that have one, and so on."""

    slot_start: Integers  # (slots + 1,)
    predictors: Floats  # (k, cells): item-level ones: ones, log price, controls
    shared: Floats  # (m, cells)
    total: Floats  # (cells,)
    rows: Floats  # (cells,)
    exposure: Floats  # (cells,)
    counts: Floats  # distinct units of a row
    count_rows: Floats  # how many rows have them


class Rates(NamedTuple):
    """Cells at the coefficients of the moment."""

    eta: Floats  # (cells,): log rate
    mean: Floats  # (cells,): expected units
    residual: Floats  # (cells,): slope of the log likelihood in the log rate
    power: Floats  # (cells,): scratch of the exponential


@fused
def _exponentials(eta, exposure, mean, power):  # type: ignore[no-untyped-def]
    r"""Write ``exposure * exp(eta)`` into `mean`, to the last two bits, in loops the compiler turns into vectors.

    With :math:`\eta = n \log 2 + r`, :math:`|r| \le \tfrac12 \log 2`: the Taylor series of :math:`e^r`, and
    :math:`2^n` by its bits, `n` having been rounded into the low bits of a large number.
    """
    bits = power.view(np.int64)
    for cell in range(len(eta)):
        limited = min(max(eta[cell], -LARGEST_LOG_RATE), LARGEST_LOG_RATE)
        power[cell] = limited * LOG2E + ROUNDER
        n = power[cell] - ROUNDER
        r = (limited - n * LOG2_HIGH) - n * LOG2_LOW
        series = 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (
            1 / 5040 + r * (1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800 + r * (
                1 / 479001600 + r * (1 / 6227020800)))))))))))))  # fmt: skip
        mean[cell] = exposure[cell] * series
    for cell in range(len(eta)):
        bits[cell] = (bits[cell] << 52) + (np.int64(1023) << 52)
    for cell in range(len(eta)):
        mean[cell] *= power[cell]


@fused
def log_rates(x, gamma, cells, coefficients, rates):  # type: ignore[no-untyped-def]
    """Write the log rate of every cell into ``rates.eta``."""
    for slot in range(len(cells.slot_start) - 1):
        first, end = cells.slot_start[slot], cells.slot_start[slot + 1]
        eta, level, price = rates.eta[first:end], coefficients[0, : end - first], coefficients[1, : end - first]
        log_price = cells.predictors[1, first:end]
        for i in range(len(eta)):
            eta[i] = level[i] + price[i] * log_price[i]
        for j in range(2, len(cells.predictors)):
            b, predictor = coefficients[j, : end - first], cells.predictors[j, first:end]
            for i in range(len(eta)):
                eta[i] += b[i] * predictor[i]
    for j in range(len(cells.shared)):
        effect, column = x[gamma + j], cells.shared[j]
        for cell in range(len(column)):
            rates.eta[cell] += effect * column[cell]


@vector
def carry_residuals(gamma, cells, adjoints, rates, gradient):  # type: ignore[no-untyped-def]
    """Sum residuals times predictors by item into the adjoint, over all cells into the shared effects' gradient."""
    for slot in range(len(cells.slot_start) - 1):
        first, end = cells.slot_start[slot], cells.slot_start[slot + 1]
        residual = rates.residual[first:end]
        for j in range(len(cells.predictors)):
            adjoint, predictor = adjoints[j, : end - first], cells.predictors[j, first:end]
            for i in range(len(residual)):
                adjoint[i] += residual[i] * predictor[i]
    for j in range(len(cells.shared)):
        total, column = 0.0, cells.shared[j]
        for cell in range(len(column)):
            total += rates.residual[cell] * column[cell]
        gradient[gamma + j] += total


@vector
def cell_likelihood(x, gamma, dispersion, cells, b, adjoint, rates, gradient):  # type: ignore[no-untyped-def]
    """Log likelihood of the cells and its derivative in the dispersion; fills adjoints of items and shared effects."""
    eta, mean, residual, totals, rows = rates.eta, rates.mean, rates.residual, cells.total, cells.rows
    value, slope = 0.0, 0.0
    log_rates(x, gamma, cells, b, rates)
    _exponentials(eta, cells.exposure, mean, rates.power)
    if dispersion > 0.0:
        for cell in range(len(totals)):
            size = totals[cell] + rows[cell] * dispersion
            share = mean[cell] / (dispersion + mean[cell])
            log_term = math.log1p(mean[cell] / dispersion)
            value += totals[cell] * eta[cell] - size * log_term
            slope += size * share / dispersion - rows[cell] * log_term
            residual[cell] = totals[cell] - size * share
    else:
        for cell in range(len(totals)):
            value += totals[cell] * eta[cell] - mean[cell]
            residual[cell] = totals[cell] - mean[cell]
    carry_residuals(gamma, cells, adjoint, rates, gradient)
    return value, slope


@inner
def digamma(x):  # type: ignore[no-untyped-def]
    """Derivative of log gamma for x > 0 (recurrence, then the asymptotic series; Abramowitz & Stegun 6.3.18)."""
    value = 0.0
    while x < 10.0:
        value -= 1.0 / x
        x += 1.0
    w = 1.0 / (x * x)
    series = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w * (1 / 132)))))
    return value + math.log(x) - 0.5 / x - series


@inner
def rising(n, dispersion):  # type: ignore[no-untyped-def]
    r"""What the negative binomial keeps of one row, and its derivative with respect to the dispersion.

    :math:`\log\Gamma(n + \varphi) - \log\Gamma(\varphi) - n \log\varphi`; by the difference of Stirling's series where
    the gammas are so large that theirs would be rounding error (it is exact there to the last digits).
    """
    shifted, inverse = n + dispersion, 1.0 / dispersion
    if dispersion < STIRLING_FROM:
        term = math.lgamma(shifted) - math.lgamma(dispersion) - n * math.log(dispersion)
        return term, digamma(shifted) - digamma(dispersion) - n * inverse
    log_ratio, back = math.log1p(n * inverse), 1.0 / shifted
    term = (shifted - 0.5) * log_ratio - n + (back - inverse) / 12.0 - (back**3 - inverse**3) / 360.0
    change = log_ratio - (shifted - 0.5) * n * inverse * back
    return term, change + (inverse**2 - back**2) / 12.0 - (inverse**4 - back**4) / 120.0


@inner
def row_terms(dispersion, cells):  # type: ignore[no-untyped-def]
    """Sum of :func:`rising` over all rows, and its derivative with respect to the dispersion."""
    value, slope = 0.0, 0.0
    for at in range(len(cells.counts)):
        term, change = rising(cells.counts[at], dispersion)
        value += cells.count_rows[at] * term
        slope += cells.count_rows[at] * change
    return value, slope
