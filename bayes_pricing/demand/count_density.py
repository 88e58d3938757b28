r"""Compiled log density of hierarchical counts and its gradient, in coordinates that are nearly independent normals.

Every node (item, unit of a nesting level, population) has `k` coefficients :math:`b \sim N(b_\text{parent}, L L')`.
NUTS moves :math:`z` instead of :math:`b`, one coordinate after the other, the level first:

.. math::
   t_j = b_j + \sum_{l<j} R_{jl} b_l, \quad
   t_j \mid b_{<j} \sim N(\mu_j, s_j^2), \quad s_j = L_{jj}, \\
   b_{<j}, z \mapsto t_j = \frac{h_j + \mu_j / s_j^2}{D_j + 1 / s_j^2} + \frac{z_j}{\sqrt{D_j + 1 / s_j^2}}

where :math:`R, D, h` are *constants*: the Gaussian approximation, at a rough first fit, of what the sales below a node
say of its coefficients (:math:`-\frac12 \sum_j D_j t_j^2 + h_j t_j`). The density of `b` and of the counts is exact,
and so is the Jacobian, so a poor approximation can only cost speed. Where it is good, `z` given the hyper-parameters is
close to independent standard normals, whether data are rich (centred), thin (non-centred) or in between, and the ridges
between levels, slopes and group means are gone. The PyMC definition of the same posterior is in
:mod:`bayes_pricing.demand.model`; a test holds the two equal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import Integers

LOG2E = 1.0 / math.log(2.0)
LOG2_HIGH, LOG2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10  # log 2, the first with trailing zeros
ROUNDER = 1.5 * 2.0**52
LARGEST_LOG_RATE = 700.0
STIRLING_FROM = 1e3


class Counts(NamedTuple):
    """What the kernel reads: nodes numbered items first, level by level, the population last."""

    level_start: Integers  # (levels + 2,): first node of the items, of each nesting level, the population, and the end
    parent: Integers  # (nodes,); that of the population is one past the last node and holds its prior mean
    order: Integers  # (items,): position in the data of each item here, those with most cells first
    slot_start: Integers  # (slots + 1,): the first cells of all items, then the second of those that have one, ...
    predictors: Floats  # (k, cells): item-level ones: ones, log price, controls
    shared: Floats  # (m, cells)
    total: Floats  # (cells,)
    rows: Floats  # (cells,)
    exposure: Floats  # (cells,)
    counts: Floats  # distinct units of a row
    count_rows: Floats  # how many rows have them
    between_sd: Floats  # (levels, k): half-normal scales
    root_mean: Floats  # (k,)
    root_sd: Floats  # (k,)
    shared_sd: Floats  # (m,)
    concentration: float
    overdispersion_scale: float  # half-normal scale of 1/sqrt(dispersion); 0 for Poisson
    rotation: Floats  # (k, k, nodes): R
    information: Floats  # (k, nodes): D
    pull: Floats  # (k, nodes): h


class Work(NamedTuple):
    """Scratch arrays of one chain."""

    sd: Floats  # (levels, k)
    corr: Floats  # (levels, k, k)
    chol: Floats  # (levels + 1, k, k); the last is the population's
    chol_adjoint: Floats  # (levels + 1, k, k)
    b: Floats  # (k, nodes + 1); the last column is the prior mean of the population
    u: Floats  # (k, nodes): deviation of t from its mean, standardised
    mu: Floats  # (k, nodes): mean of t given the parent and the coefficients before it
    spread: Floats  # (k, nodes): 1 / sqrt(D + 1 / s^2)
    shift: Floats  # (nodes,): t - b; then the adjoint of mu
    ratio: Floats  # (nodes,): 1 + D s^2
    adjoint: Floats  # (k, nodes + 1): d log density / d b
    deviation: Floats  # (k, nodes): the same of u, from the coefficients after it
    eta: Floats  # (cells,): log rate
    mean: Floats  # (cells,): expected units
    residual: Floats  # (cells,): slope of the log likelihood in the log rate
    power: Floats  # (cells,): scratch of the exponential


def new_work(counts: Counts) -> Work:
    """Scratch arrays that fit `counts`."""
    levels, k = counts.between_sd.shape
    nodes = len(counts.parent)
    return Work(
        sd=np.zeros((levels, k)),
        corr=np.zeros((levels, k, k)),
        chol=np.zeros((levels + 1, k, k)),
        chol_adjoint=np.zeros((levels + 1, k, k)),
        b=np.zeros((k, nodes + 1)),
        u=np.zeros((k, nodes)),
        mu=np.zeros((k, nodes)),
        spread=np.zeros((k, nodes)),
        shift=np.zeros(nodes),
        ratio=np.zeros(nodes),
        adjoint=np.zeros((k, nodes + 1)),
        deviation=np.zeros((k, nodes)),
        eta=np.zeros(len(counts.total)),
        mean=np.zeros(len(counts.total)),
        residual=np.zeros(len(counts.total)),
        power=np.zeros(len(counts.total)),
    )


def hyper_size(counts: Counts) -> int:
    """Coordinates before the `z`: per level k log sds and k(k-1)/2 correlations, shared effects, log overdispersion."""
    levels, k = counts.between_sd.shape
    return int(levels * (k + k * (k - 1) // 2) + len(counts.shared_sd) + (counts.overdispersion_scale > 0))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _fill_factors(x, counts, work):  # type: ignore[no-untyped-def]
    """Standard deviations, correlation factors and Cholesky factors of every level; returns their log prior."""
    levels, k = counts.between_sd.shape
    pairs = k * (k - 1) // 2
    value = 0.0
    work.chol[:] = 0.0
    for level in range(levels):
        at = level * (k + pairs)
        y = at + k
        for i in range(k):
            sd = math.exp(x[at + i])
            work.sd[level, i] = sd
            value += x[at + i] - 0.5 * (sd / counts.between_sd[level, i]) ** 2
            rest = 1.0
            for j in range(i):
                r = math.tanh(x[y])
                y += 1
                work.corr[level, i, j] = r * math.sqrt(rest)
                rest *= 1.0 - r * r
                value += (counts.concentration + 0.5 * (k - 2 - j)) * math.log(1.0 - r * r)
            work.corr[level, i, i] = math.sqrt(rest)
            for j in range(i + 1):
                work.chol[level, i, j] = sd * work.corr[level, i, j]
    for i in range(k):
        work.chol[levels, i, i] = counts.root_sd[i]
    return value


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _factor_gradient(x, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Carry the adjoint of the Cholesky factors to log sds and correlations, and add their prior's gradient."""
    levels, k = counts.between_sd.shape
    pairs = k * (k - 1) // 2
    for level in range(levels):
        at = level * (k + pairs)
        for i in range(k):
            sd = work.sd[level, i]
            total = 1.0 - (sd / counts.between_sd[level, i]) ** 2
            for j in range(i + 1):
                total += work.chol_adjoint[level, i, j] * work.chol[level, i, j]
            gradient[at + i] = total
            y = at + k + i * (i - 1) // 2
            rest = work.corr[level, i, i] ** 2
            rest_adjoint = 0.5 * work.chol_adjoint[level, i, i] * sd / work.corr[level, i, i]
            for j in range(i - 1, -1, -1):
                r = math.tanh(x[y + j])
                rest /= 1.0 - r * r
                c_adjoint = work.chol_adjoint[level, i, j] * sd
                r_adjoint = c_adjoint * math.sqrt(rest) - 2.0 * rest_adjoint * r * rest
                rest_adjoint = rest_adjoint * (1.0 - r * r) + 0.5 * c_adjoint * r / math.sqrt(rest)
                alpha = counts.concentration + 0.5 * (k - 2 - j)
                gradient[y + j] = r_adjoint * (1.0 - r * r) - 2.0 * alpha * r


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _forward(x, counts, work):  # type: ignore[no-untyped-def]
    """Coefficients of all nodes, parents before children; returns their log density with the Jacobian.

    Here as below, inner loops run over neighbours, from zero on slices, which the compiler turns into vector code.
    """
    k, nodes = work.u.shape
    squares, logs = 0.0, 0.0
    work.b[:, nodes] = counts.root_mean
    for level in range(len(counts.level_start) - 2, -1, -1):
        first, end = counts.level_start[level], counts.level_start[level + 1]
        parent, shift, ratio = counts.parent[first:end], work.shift[first:end], work.ratio[first:end]
        for j in range(k):
            mu, u, b, sd = work.mu[j, first:end], work.u[j, first:end], work.b[j, first:end], work.spread[j, first:end]
            z = x[len(x) - (k - j) * nodes + first : len(x) - (k - j) * nodes + end]
            information, pull = counts.information[j, first:end], counts.pull[j, first:end]
            for i in range(len(mu)):
                mu[i] = work.b[j, parent[i]]
            shift[:] = 0.0
            for a in range(j):
                factor = work.chol[level, j, a]
                rotation, b_a, u_a = counts.rotation[j, a, first:end], work.b[a, first:end], work.u[a, first:end]
                for i in range(len(mu)):
                    shift[i] += rotation[i] * b_a[i]
                    mu[i] += rotation[i] * b_a[i] + factor * u_a[i]
            s = work.chol[level, j, j]
            inverse, square = 1.0 / s, s * s
            for i in range(len(mu)):
                ratio[i] = 1.0 + information[i] * square
                variance = square / ratio[i]
                sd[i] = math.sqrt(variance)
                t = pull[i] * variance + mu[i] / ratio[i] + z[i] * sd[i]
                b[i] = t - shift[i]
                u[i] = (t - mu[i]) * inverse
            for i in range(len(mu)):
                squares += u[i] * u[i]
            logs += _log_product(ratio)
    return -0.5 * (squares + logs)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _log_product(values):  # type: ignore[no-untyped-def]
    """Sum of logs of values of one or more, most of them by products."""
    total, product = 0.0, 1.0
    for value in values:
        product *= value
        if not product < 1e100:
            total += math.log(product)
            product = 1.0
    return total + math.log(product)


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _reverse(x, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Carry the adjoint of the coefficients to `z`, to parents and to the levels' factors, children before parents."""
    k, nodes = work.u.shape
    work.deviation[:] = 0.0
    for level in range(len(counts.level_start) - 1):
        first, end = counts.level_start[level], counts.level_start[level + 1]
        parent, mu_adjoint = counts.parent[first:end], work.shift[first:end]
        for j in range(k - 1, -1, -1):
            mu, u, sd, pull = (
                work.mu[j, first:end],
                work.u[j, first:end],
                work.spread[j, first:end],
                counts.pull[j, first:end],
            )
            adjoint, deviation = work.adjoint[j, first:end], work.deviation[j, first:end]
            z_at = len(x) - (k - j) * nodes
            z, z_gradient = x[z_at + first : z_at + end], gradient[z_at + first : z_at + end]
            inverse, total = 1.0 / work.chol[level, j, j], 0.0
            for i in range(len(mu)):
                variance = sd[i] * sd[i]
                share = variance * inverse * inverse  # of the prior in t
                off = mu[i] * (1.0 - share) - pull[i] * variance - 0.5 * z[i] * sd[i]
                u_adjoint = deviation[i] - u[i]
                t_adjoint = adjoint[i] + u_adjoint * inverse
                mu_adjoint[i] = t_adjoint * share - u_adjoint * inverse
                z_gradient[i] = t_adjoint * sd[i]
                total += share * (1.0 - 2.0 * t_adjoint * off) - u_adjoint * u[i] - 1.0
            work.chol_adjoint[level, j, j] = total * inverse
            for a in range(j):
                rotation, u_a = counts.rotation[j, a, first:end], work.u[a, first:end]
                deviation_a, adjoint_a = work.deviation[a, first:end], work.adjoint[a, first:end]
                factor, total = work.chol[level, j, a], 0.0
                for i in range(len(mu)):
                    total += mu_adjoint[i] * u_a[i]
                for i in range(len(mu)):
                    deviation_a[i] += mu_adjoint[i] * factor
                    adjoint_a[i] += (mu_adjoint[i] - adjoint[i]) * rotation[i]
                work.chol_adjoint[level, j, a] = total
            for i in range(len(mu)):
                work.adjoint[j, parent[i]] += mu_adjoint[i]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
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


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _log_rates(x, gamma, counts, work):  # type: ignore[no-untyped-def]
    """Write the log rate of every cell into ``work.eta``."""
    for slot in range(len(counts.slot_start) - 1):
        first, end = counts.slot_start[slot], counts.slot_start[slot + 1]
        eta, level, price = work.eta[first:end], work.b[0, : end - first], work.b[1, : end - first]
        log_price = counts.predictors[1, first:end]
        for i in range(len(eta)):
            eta[i] = level[i] + price[i] * log_price[i]
        for j in range(2, len(counts.predictors)):
            b, predictor = work.b[j, : end - first], counts.predictors[j, first:end]
            for i in range(len(eta)):
                eta[i] += b[i] * predictor[i]
    for j in range(len(counts.shared)):
        effect, column = x[gamma + j], counts.shared[j]
        for cell in range(len(column)):
            work.eta[cell] += effect * column[cell]


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _carry_residuals(gamma, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Sum residuals times predictors by item into the adjoint, over all cells into the shared effects' gradient."""
    for slot in range(len(counts.slot_start) - 1):
        first, end = counts.slot_start[slot], counts.slot_start[slot + 1]
        residual = work.residual[first:end]
        for j in range(len(counts.predictors)):
            adjoint, predictor = work.adjoint[j, : end - first], counts.predictors[j, first:end]
            for i in range(len(residual)):
                adjoint[i] += residual[i] * predictor[i]
    for j in range(len(counts.shared)):
        total, column = 0.0, counts.shared[j]
        for cell in range(len(column)):
            total += work.residual[cell] * column[cell]
        gradient[gamma + j] += total


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _likelihood(x, gamma, dispersion, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Log likelihood of the cells and its derivative in the dispersion; fills adjoints of items and shared effects."""
    eta, mean, residual, totals, rows = work.eta, work.mean, work.residual, counts.total, counts.rows
    value, slope = 0.0, 0.0
    _log_rates(x, gamma, counts, work)
    _exponentials(eta, counts.exposure, mean, work.power)
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
    _carry_residuals(gamma, counts, work, gradient)
    return value, slope


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _digamma(x):  # type: ignore[no-untyped-def]
    """Derivative of log gamma for x > 0 (recurrence, then the asymptotic series; Abramowitz & Stegun 6.3.18)."""
    value = 0.0
    while x < 10.0:
        value -= 1.0 / x
        x += 1.0
    w = 1.0 / (x * x)
    series = w * (1 / 12 - w * (1 / 120 - w * (1 / 252 - w * (1 / 240 - w * (1 / 132)))))
    return value + math.log(x) - 0.5 / x - series


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _row_terms(dispersion, counts):  # type: ignore[no-untyped-def]
    r"""What the negative binomial keeps of single rows, and its derivative with respect to the dispersion.

    :math:`\log\Gamma(n + \varphi) - \log\Gamma(\varphi) - n \log\varphi`; by the difference of Stirling's series where
    the gammas are so large that theirs would be rounding error (it is exact there to the last digits).
    """
    value, slope, inverse = 0.0, 0.0, 1.0 / dispersion
    for at in range(len(counts.counts)):
        n, rows = counts.counts[at], counts.count_rows[at]
        shifted = n + dispersion
        if dispersion < STIRLING_FROM:
            term = math.lgamma(shifted) - math.lgamma(dispersion) - n * math.log(dispersion)
            change = _digamma(shifted) - _digamma(dispersion) - n * inverse
        else:
            log_ratio, back = math.log1p(n * inverse), 1.0 / shifted
            term = (shifted - 0.5) * log_ratio - n + (back - inverse) / 12.0 - (back**3 - inverse**3) / 360.0
            change = log_ratio - (shifted - 0.5) * n * inverse * back
            change += (inverse**2 - back**2) / 12.0 - (inverse**4 - back**4) / 120.0
        value += rows * term
        slope += rows * change
    return value, slope


@nb.njit(cache=True, nogil=True, error_model="numpy")
def fill_coefficients(x: Floats, counts: Counts, work: Work) -> float:
    """Write the coefficients of all nodes into ``work.b``; returns their log prior with the Jacobian."""
    value: float = _fill_factors(x, counts, work) + _forward(x, counts, work)
    return value


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_posterior(x: Floats, counts: Counts, work: Work, gradient: Floats) -> float:
    """Log density of the unconstrained coordinates `x`, constants left out; writes its gradient."""
    levels, k = counts.between_sd.shape
    m = len(counts.shared_sd)
    gamma = levels * (k + k * (k - 1) // 2)
    value = fill_coefficients(x, counts, work)
    gradient[:] = 0.0
    work.adjoint[:] = 0.0
    for j in range(m):
        scaled = x[gamma + j] / counts.shared_sd[j]
        value -= 0.5 * scaled * scaled
        gradient[gamma + j] = -scaled / counts.shared_sd[j]
    dispersion, row_slope = 0.0, 0.0
    if counts.overdispersion_scale > 0.0:
        dispersion = math.exp(-2.0 * x[gamma + m])
        row_value, row_slope = _row_terms(dispersion, counts)
        scaled = math.exp(x[gamma + m]) / counts.overdispersion_scale
        value += row_value + x[gamma + m] - 0.5 * scaled * scaled
    cell_value, cell_slope = _likelihood(x, gamma, dispersion, counts, work, gradient)
    if counts.overdispersion_scale > 0.0:
        gradient[gamma + m] = 1.0 - scaled * scaled - 2.0 * dispersion * (row_slope + cell_slope)
    _reverse(x, counts, work, gradient)
    _factor_gradient(x, counts, work, gradient)
    total: float = value + cell_value
    return total
