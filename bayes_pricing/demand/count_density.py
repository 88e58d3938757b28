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


class Counts(NamedTuple):
    """What the kernel reads: nodes numbered items first, level by level, the population last."""

    level_start: Integers  # (levels + 2,): first node of the items, of each nesting level, the population, and the end
    parent: Integers  # (nodes,); that of the population is one past the last node and holds its prior mean
    start: Integers  # (items + 1,): first cell of every item
    item: Integers  # (cells,)
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
    rotation: Floats  # (nodes, k, k): R
    information: Floats  # (nodes, k): D
    pull: Floats  # (nodes, k): h


class Work(NamedTuple):
    """Scratch arrays of one chain."""

    sd: Floats  # (levels, k)
    corr: Floats  # (levels, k, k)
    chol: Floats  # (levels + 1, k, k); the last is the population's
    chol_adjoint: Floats  # (levels + 1, k, k)
    b: Floats  # (nodes + 1, k); the last row is the prior mean of the population
    u: Floats  # (nodes, k): standardised deviation from the parent
    adjoint: Floats  # (nodes + 1, k): d log density / d b
    standard: Floats  # (k,)
    mu: Floats  # (nodes, k): mean of t given the parent and the coefficients before it
    spread: Floats  # (nodes, k): 1 / sqrt(D + 1 / s^2)
    eta: Floats  # (cells,): log rate
    mean: Floats  # (cells,): expected units
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
        b=np.zeros((nodes + 1, k)),
        u=np.zeros((nodes, k)),
        adjoint=np.zeros((nodes + 1, k)),
        standard=np.zeros(k),
        mu=np.zeros((nodes, k)),
        spread=np.zeros((nodes, k)),
        eta=np.zeros(len(counts.total)),
        mean=np.zeros(len(counts.total)),
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


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _forward(x, counts, work):  # type: ignore[no-untyped-def]
    """Coefficients of all nodes, parents before children; returns their log density with the Jacobian."""
    b, u_of, chol, mu_of, spread = work.b, work.u, work.chol, work.mu, work.spread
    parent, level_start = counts.parent, counts.level_start
    rotation, information, pull = counts.rotation, counts.information, counts.pull
    level, nodes, k = len(level_start) - 2, len(parent), b.shape[1]
    z = len(x) - nodes * k
    squares, product, logs = 0.0, 1.0, 0.0
    b[nodes] = counts.root_mean
    for node in range(nodes - 1, -1, -1):
        if node < level_start[level]:
            level -= 1
        up = parent[node]
        for j in range(k):
            mu, shift = b[up, j], 0.0
            for a in range(j):
                mu += chol[level, j, a] * u_of[node, a]
                shift += rotation[node, j, a] * b[node, a]
            mu += shift
            s = chol[level, j, j]
            ratio = 1.0 + information[node, j] * s * s
            variance = s * s / ratio
            sd = math.sqrt(variance)
            t = pull[node, j] * variance + mu / ratio + x[z + node * k + j] * sd
            u = (t - mu) / s
            u_of[node, j], mu_of[node, j], spread[node, j] = u, mu, sd
            b[node, j] = t - shift
            squares += u * u
            product *= ratio  # sums of logs as logs of products
            if not product < 1e100:
                logs += math.log(product)
                product = 1.0
    return -0.5 * (squares + logs + math.log(product))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _reverse(x, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Carry the adjoint of the coefficients to `z`, to parents and to the levels' factors, children before parents."""
    b, u_of, chol, mu_of, spread = work.b, work.u, work.chol, work.mu, work.spread
    parent, level_start, rotation, pull = counts.parent, counts.level_start, counts.rotation, counts.pull
    standard, adjoint, chol_adjoint = work.standard, work.adjoint, work.chol_adjoint
    nodes, k = len(parent), b.shape[1]
    z = len(x) - nodes * k
    level = 0
    for node in range(nodes):
        if node >= level_start[level + 1]:
            level += 1
        up = parent[node]
        standard[:] = 0.0
        for j in range(k - 1, -1, -1):
            s_inverse = 1.0 / chol[level, j, j]
            u, mu, sd, place = u_of[node, j], mu_of[node, j], spread[node, j], z + node * k + j
            share = sd * sd * s_inverse * s_inverse  # of the prior in t
            centre = pull[node, j] * sd * sd + mu * share
            for a in range(j):
                adjoint[node, a] -= rotation[node, j, a] * adjoint[node, j]
            u_adjoint = standard[j] - u
            t_adjoint = adjoint[node, j] + u_adjoint * s_inverse
            mu_adjoint = t_adjoint * share - u_adjoint * s_inverse
            moved = 1.0 - 2.0 * t_adjoint * (mu - centre - 0.5 * x[place] * sd)
            gradient[place] = t_adjoint * sd
            chol_adjoint[level, j, j] += (share * moved - u_adjoint * u - 1.0) * s_inverse
            for a in range(j):
                chol_adjoint[level, j, a] += mu_adjoint * u_of[node, a]
                standard[a] += mu_adjoint * chol[level, j, a]
                adjoint[node, a] += mu_adjoint * rotation[node, j, a]
            adjoint[up, j] += mu_adjoint


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


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _log_rates(x, gamma, counts, work, eta):  # type: ignore[no-untyped-def]
    """Write the log rate of every cell into `eta`."""
    b, item, predictors, shared = work.b, counts.item, counts.predictors, counts.shared
    for cell in range(len(eta)):
        eta[cell] = b[item[cell], 0]
    for j in range(1, len(predictors)):
        for cell in range(len(eta)):
            eta[cell] += b[item[cell], j] * predictors[j, cell]
    for j in range(len(shared)):
        effect = x[gamma + j]
        for cell in range(len(eta)):
            eta[cell] += effect * shared[j, cell]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _carry_residuals(gamma, counts, residual, adjoint, gradient):  # type: ignore[no-untyped-def]
    """Sum residuals times predictors by item into `adjoint`, over all cells into the shared effects' gradient."""
    start, predictors, shared = counts.start, counts.predictors, counts.shared
    for item in range(len(start) - 1):
        plain, priced = 0.0, 0.0
        for cell in range(start[item], start[item + 1]):
            plain += residual[cell]
            priced += residual[cell] * predictors[1, cell]
        adjoint[item, 0], adjoint[item, 1] = plain, priced
        for j in range(2, len(predictors)):
            total = 0.0
            for cell in range(start[item], start[item + 1]):
                total += residual[cell] * predictors[j, cell]
            adjoint[item, j] = total
    for j in range(len(shared)):
        total = 0.0
        for cell in range(len(residual)):
            total += residual[cell] * shared[j, cell]
        gradient[gamma + j] += total


@nb.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _likelihood(x, gamma, dispersion, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Log likelihood of the cells and its derivative in the dispersion; fills adjoints of items and shared effects."""
    mean, residual, totals, rows = work.mean, work.power, counts.total, counts.rows
    value, slope = 0.0, 0.0
    _log_rates(x, gamma, counts, work, work.eta)
    _exponentials(work.eta, counts.exposure, mean, work.power)
    for cell in range(len(totals)):
        value += totals[cell] * work.eta[cell]
    if dispersion > 0.0:
        for cell in range(len(totals)):
            size = totals[cell] + rows[cell] * dispersion
            share = mean[cell] / (dispersion + mean[cell])
            log_term = math.log1p(mean[cell] / dispersion)
            value -= size * log_term
            slope += size * share / dispersion - rows[cell] * log_term
            residual[cell] = totals[cell] - size * share
    else:
        for cell in range(len(totals)):
            value -= mean[cell]
            residual[cell] = totals[cell] - mean[cell]
    _carry_residuals(gamma, counts, residual, work.adjoint, gradient)
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
    """What the negative binomial keeps of single rows, and its derivative with respect to the dispersion."""
    value, slope = 0.0, 0.0
    for at in range(len(counts.counts)):
        n, rows = counts.counts[at], counts.count_rows[at]
        value += rows * (math.lgamma(n + dispersion) - math.lgamma(dispersion) - n * math.log(dispersion))
        slope += rows * (_digamma(n + dispersion) - _digamma(dispersion) - n / dispersion)
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
    work.chol_adjoint[:] = 0.0
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
