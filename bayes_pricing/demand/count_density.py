r"""Compiled log density of hierarchical counts and its gradient, in coordinates that are nearly independent normals.

Every node (item, unit of a nesting level, population) has `k` coefficients :math:`b \sim N(b_\text{parent}, L L')`. NUTS
moves :math:`z` instead of :math:`b`, one coordinate after the other, the level last:

.. math::
   t_j = b_j + \sum_{l<j} R_{jl} b_l, \quad
   t_j \mid b_{<j} \sim N(\mu_j, s_j^2), \quad s_j = L_{jj}, \\
   b_{<j}, z \mapsto t_j = \frac{h_j + \mu_j / s_j^2}{D_j + 1 / s_j^2} + \frac{z_j}{\sqrt{D_j + 1 / s_j^2}}

where :math:`R, D, h` are *constants*: the Gaussian approximation, at a rough first fit, of what the sales below a node say
of its coefficients (:math:`-\frac12 \sum_j D_j t_j^2 + h_j t_j`). The density of `b` and of the counts is exact, and so is
the Jacobian, so a poor approximation can only cost speed. Where it is good, `z` given the hyper-parameters is close to
independent standard normals, whether data are rich (centred), thin (non-centred) or in between, and the ridges between
levels, slopes and group means are gone. The PyMC definition of the same posterior is in
:mod:`bayes_pricing.demand.model`; a test holds the two equal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import Integers


class Counts(NamedTuple):
    """What the kernel reads: nodes numbered items first, level by level, the population last."""

    level_start: Integers  # (levels + 2,): first node of the items, of each nesting level, the population, and the end
    parent: Integers  # (nodes,); that of the population is one past the last node and holds its prior mean
    start: Integers  # (items + 1,): first cell of every item
    predictors: Floats  # (cells, k): item-level ones in the kernel's order (the level last)
    shared: Floats  # (cells, m)
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
    )


def hyper_size(counts: Counts) -> int:
    """Coordinates before the `z`: per level k log sds and k(k-1)/2 correlations, shared effects, log overdispersion."""
    levels, k = counts.between_sd.shape
    return levels * (k + k * (k - 1) // 2) + len(counts.shared_sd) + (counts.overdispersion_scale > 0)


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
def _forward(x, counts, work, first):  # type: ignore[no-untyped-def]
    """Coefficients of the nodes from `first` up, parents before children; returns their log density with the Jacobian."""
    b, u_of, chol, parent, level_start = work.b, work.u, work.chol, counts.parent, counts.level_start
    rotation, information, pull = counts.rotation, counts.information, counts.pull
    level, nodes, k = len(level_start) - 2, len(parent), b.shape[1]
    z = len(x) - nodes * k
    value = 0.0
    b[nodes] = counts.root_mean
    for node in range(nodes - 1, first - 1, -1):
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
            weight = 1.0 / (s * s)
            precision = information[node, j] + weight
            t = (pull[node, j] + mu * weight) / precision + x[z + node * k + j] / math.sqrt(precision)
            u = (t - mu) / s
            u_of[node, j] = u
            b[node, j] = t - shift
            value -= 0.5 * u * u + math.log(s * math.sqrt(precision))
    return value


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _reverse(x, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Carry the adjoint of the coefficients to `z`, to parents and to the levels' factors, children before parents."""
    b, u_of, chol, parent, level_start = work.b, work.u, work.chol, counts.parent, counts.level_start
    rotation, information, pull = counts.rotation, counts.information, counts.pull
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
            u, s = u_of[node, j], chol[level, j, j]
            weight = 1.0 / (s * s)
            precision = information[node, j] + weight
            sd = 1.0 / math.sqrt(precision)
            mu = b[up, j]
            for a in range(j):
                mu += chol[level, j, a] * u_of[node, a] + rotation[node, j, a] * b[node, a]
                adjoint[node, a] -= rotation[node, j, a] * adjoint[node, j]
            centre = (pull[node, j] + mu * weight) / precision
            place = z + node * k + j
            u_adjoint = standard[j] - u
            t_adjoint = adjoint[node, j] + u_adjoint / s
            mu_adjoint = t_adjoint * weight / precision - u_adjoint / s
            s_adjoint = weight / (s * precision) - (u_adjoint * u + 1.0) / s
            s_adjoint -= 2.0 * t_adjoint * (mu - centre - 0.5 * x[place] * sd) / precision * weight / s
            gradient[place] = t_adjoint * sd
            chol_adjoint[level, j, j] += s_adjoint
            for a in range(j):
                chol_adjoint[level, j, a] += mu_adjoint * u_of[node, a]
                standard[a] += mu_adjoint * chol[level, j, a]
                adjoint[node, a] += mu_adjoint * rotation[node, j, a]
            adjoint[up, j] += mu_adjoint


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _likelihood(x, gamma, dispersion, counts, work, gradient):  # type: ignore[no-untyped-def]
    """Log likelihood of the cells and its derivative in the dispersion; fills adjoints of items and shared effects."""
    b, adjoint, start, predictors, shared = work.b, work.adjoint, counts.start, counts.predictors, counts.shared
    totals, rows, exposure = counts.total, counts.rows, counts.exposure
    k, m = predictors.shape[1], shared.shape[1]
    value, slope = 0.0, 0.0
    for item in range(len(start) - 1):
        for cell in range(start[item], start[item + 1]):
            eta, total = 0.0, totals[cell]
            for j in range(k):
                eta += b[item, j] * predictors[cell, j]
            for j in range(m):
                eta += x[gamma + j] * shared[cell, j]
            mean = exposure[cell] * math.exp(eta)
            if dispersion > 0.0:
                size = total + rows[cell] * dispersion
                share = mean / (dispersion + mean)
                log_term = math.log1p(mean / dispersion)
                value += total * eta - size * log_term
                slope += size * share / dispersion - rows[cell] * log_term
                residual = total - size * share
            else:
                value += total * eta - mean
                residual = total - mean
            for j in range(k):
                adjoint[item, j] += residual * predictors[cell, j]
            for j in range(m):
                gradient[gamma + j] += residual * shared[cell, j]
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
def fill_coefficients(x: Floats, counts: Counts, work: Work, first: int) -> float:
    """Coefficients of all nodes from `first` up into ``work.b``; returns the log prior with the Jacobian."""
    return _fill_factors(x, counts, work) + _forward(x, counts, work, first)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_posterior(x: Floats, counts: Counts, work: Work, gradient: Floats) -> float:
    """Log density of the unconstrained coordinates `x`, constants left out; writes its gradient."""
    levels, k = counts.between_sd.shape
    m = len(counts.shared_sd)
    gamma = levels * (k + k * (k - 1) // 2)
    value = fill_coefficients(x, counts, work, 0)
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
    return value + cell_value
