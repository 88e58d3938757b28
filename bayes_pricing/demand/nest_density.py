r"""Compiled prior of nested coefficients and its gradient, in coordinates that are nearly independent normals.

Every node (item, unit of a nesting level, population) has `k` coefficients :math:`b \sim N(b_\text{parent}, L L')`;
attributes move the means of items' levels and elasticities, :math:`b \sim N(b_\text{parent} + \Gamma a, L L')`.
NUTS moves :math:`z` instead of :math:`b`, one coordinate after the other, the level first:

.. math::
   t_j = b_j + \sum_{l<j} R_{jl} b_l, \quad
   t_j \mid b_{<j} \sim N(\mu_j, s_j^2), \quad s_j = L_{jj}, \\
   b_{<j}, z \mapsto t_j = \mu_j + s_j u_j, \quad
   u_j = \frac{s_j (h_j - D_j \mu_j)}{1 + D_j s_j^2} + \frac{z_j}{\sqrt{1 + D_j s_j^2}}

where :math:`R, D, h` are *constants*: the Gaussian approximation, at a rough first fit, of what the sales below a node
say of its coefficients (:math:`-\frac12 \sum_j D_j t_j^2 + h_j t_j`). Where items have a residual sd, their :math:`D`
and :math:`h` grow as it falls (:func:`weigh_items`): few rows that a small sd fits almost exactly pin the coefficients,
and the same rows under a large one say next to nothing. The density of `b` and of the sales is exact,
and so is the Jacobian, so a poor approximation can only cost speed. Where it is good, `z` given the hyper-parameters is
close to independent standard normals, whether data are rich (centred), thin (non-centred) or in between, and the ridges
between levels, slopes and group means are gone.

Cross prices give every item `o` coefficients more, one for each other price: deviations around zero that share one sd
(tied) and exist at no other level. They stand last in all arrays; above the items they are zero.

Between-unit sds stand with a sign, in units of their prior scale, which makes the half-normal prior a normal one and
takes away the narrow way that the log of a small sd has: nothing above depends on the sign of :math:`s` (that of a
correlation goes with it), and everything is smooth at zero.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import inner, vector
from bayes_pricing.demand.count_data import Integers


class Nest(NamedTuple):
    """Nodes, numbered items first, level by level, the population last; and the constants of their coordinates."""

    level_start: Integers  # (levels + 2,): first node of the items, of each nesting level, the population, and the end
    parent: Integers  # (nodes,); that of the population is one past the last node and holds its prior mean
    order: Integers  # (items,): position in the data of each item here, those with most cells first
    root_mean: Floats  # (k + o,)
    attributes: Floats  # (a, items)
    rotation: Floats  # (k + o, k + o, nodes): R
    information: Floats  # (k + o, nodes): D
    pull: Floats  # (k + o, nodes): h


class Scales(NamedTuple):
    """Scales of the priors."""

    between_sd: Floats  # (levels, k): half-normal
    root_sd: Floats  # (k,)
    tied_sd: float  # half-normal, of the sd of tied coefficients
    tied: int  # o
    shared_sd: Floats  # (m + 2 a,): of shared controls, then of attributes on levels and on elasticities
    concentration: float
    overdispersion: float  # half-normal scale of 1/sqrt(dispersion); 0 where there is none
    correlated: int  # so many of the first coefficients of a unit correlate


class Factors(NamedTuple):
    """Covariances of the levels."""

    sd: Floats  # (levels, k), with their signs
    corr: Floats  # (levels, k, k), Cholesky factors of the correlation matrices
    chol: Floats  # (levels + 1, k + o, k + o) = diag(sd) corr; the last is the population's
    adjoint: Floats  # (levels + 1, k + o, k + o): d log density / d chol


class States(NamedTuple):
    """Coefficients of the nodes (`k` counts the tied ones), and what the way back needs of the way there."""

    b: Floats  # (k, nodes + 1); the last column is the prior mean of the population
    u: Floats  # (k, nodes): deviation of t from its mean, standardised
    mu: Floats  # (k, nodes): mean of t given the parent and the coefficients before it
    spread: Floats  # (k, nodes): 1 / sqrt(1 + D s^2)
    shift: Floats  # (nodes,): t - b; then the adjoint of mu
    ratio: Floats  # (nodes,): 1 + D s^2
    adjoint: Floats  # (k, nodes + 1): d log density / d b
    deviation: Floats  # (k, nodes): the same of u, from the coefficients after it
    information: Floats  # (k, nodes): D of the moment
    pull: Floats  # (k, nodes): h of the moment


def new_factors(scales: Scales) -> Factors:
    """Scratch covariances."""
    levels, k = scales.between_sd.shape
    square = (levels + 1, k + scales.tied, k + scales.tied)
    return Factors(
        sd=np.zeros((levels, k)), corr=np.zeros((levels, k, k)), chol=np.zeros(square), adjoint=np.zeros(square)
    )


def new_states(nest: Nest) -> States:
    """Scratch coefficients."""
    k, nodes = nest.information.shape
    return States(
        b=np.zeros((k, nodes + 1)),
        u=np.zeros((k, nodes)),
        mu=np.zeros((k, nodes)),
        spread=np.zeros((k, nodes)),
        shift=np.zeros(nodes),
        ratio=np.zeros(nodes),
        adjoint=np.zeros((k, nodes + 1)),
        deviation=np.zeros((k, nodes)),
        information=nest.information.copy(),
        pull=nest.pull.copy(),
    )


def level_size(scales: Scales) -> int:
    """Coordinates of the variance components of one level: k sds, then the correlations."""
    size: int = scales.between_sd.shape[1] + scales.correlated * (scales.correlated - 1) // 2
    return size


@inner
def tied_start(scales):  # type: ignore[no-untyped-def]
    """Where the sd of tied coefficients stands: after the variance components of all levels."""
    levels, k = scales.between_sd.shape
    return levels * (k + scales.correlated * (scales.correlated - 1) // 2)


@inner
def shared_start(scales):  # type: ignore[no-untyped-def]
    """Where the shared effects stand."""
    return tied_start(scales) + (scales.tied > 0)


def shared_place(scales: Scales) -> int:
    """:func:`shared_start` for callers that are not compiled."""
    return len(scales.between_sd) * level_size(scales) + (scales.tied > 0)


def nest_size(nest: Nest, scales: Scales) -> int:
    """Number of `z`: those of all nodes, and of the items alone for tied coefficients."""
    return int(scales.between_sd.shape[1] * len(nest.parent) + scales.tied * len(nest.order))


@inner
def _z_place(x, nest, own, j):  # type: ignore[no-untyped-def]
    """Where the `z` of coefficient `j` begin, the first `own` coefficients being those of every level."""
    k, nodes, items = nest.information.shape[0], nest.information.shape[1], len(nest.order)
    return len(x) - (own - j) * nodes - (k - own) * items if j < own else len(x) - (k - j) * items


@inner
def shared_prior(x, scales, gradient):  # type: ignore[no-untyped-def]
    """Log prior of the shared effects; writes its gradient."""
    at, value = shared_start(scales), 0.0
    for j in range(len(scales.shared_sd)):
        scaled = x[at + j] / scales.shared_sd[j]
        value -= 0.5 * scaled * scaled
        gradient[at + j] = -scaled / scales.shared_sd[j]
    return value


@inner
def fill_factors(x, scales, factors):  # type: ignore[no-untyped-def]
    """Standard deviations, correlation factors and Cholesky factors of every level; returns their log prior."""
    levels, k = scales.between_sd.shape
    c = scales.correlated
    pairs = c * (c - 1) // 2
    value = 0.0
    factors.chol[:] = 0.0
    for level in range(levels):
        at = level * (k + pairs)
        y = at + k
        for i in range(k):
            sd = scales.between_sd[level, i] * x[at + i]
            factors.sd[level, i] = sd
            value -= 0.5 * x[at + i] * x[at + i]
            rest = 1.0
            for j in range(i if i < c else 0):
                r = math.tanh(x[y])
                y += 1
                factors.corr[level, i, j] = r * math.sqrt(rest)
                rest *= 1.0 - r * r
                value += (scales.concentration + 0.5 * (c - 2 - j)) * math.log(1.0 - r * r)
            factors.corr[level, i, i] = math.sqrt(rest)
            for j in range(i + 1):
                factors.chol[level, i, j] = sd * factors.corr[level, i, j]
    for i in range(k):
        factors.chol[levels, i, i] = scales.root_sd[i]
    if scales.tied > 0:
        tied = x[tied_start(scales)]
        value -= 0.5 * tied * tied
        for i in range(k, k + scales.tied):
            factors.chol[0, i, i] = scales.tied_sd * tied
    return value


@inner
def factor_gradient(x, scales, factors, gradient):  # type: ignore[no-untyped-def]
    """Carry the adjoint of the Cholesky factors to sds and correlations, and add their prior's gradient."""
    levels, k = scales.between_sd.shape
    c = scales.correlated
    pairs = c * (c - 1) // 2
    for level in range(levels):
        at = level * (k + pairs)
        for i in range(k):
            sd, total = factors.sd[level, i], 0.0
            for j in range(i + 1):
                total += factors.adjoint[level, i, j] * factors.corr[level, i, j]
            gradient[at + i] = scales.between_sd[level, i] * total - x[at + i]
            if i >= c:
                continue
            y = at + k + i * (i - 1) // 2
            rest = factors.corr[level, i, i] ** 2
            rest_adjoint = 0.5 * factors.adjoint[level, i, i] * sd / factors.corr[level, i, i]
            for j in range(i - 1, -1, -1):
                r = math.tanh(x[y + j])
                rest /= 1.0 - r * r
                c_adjoint = factors.adjoint[level, i, j] * sd
                r_adjoint = c_adjoint * math.sqrt(rest) - 2.0 * rest_adjoint * r * rest
                rest_adjoint = rest_adjoint * (1.0 - r * r) + 0.5 * c_adjoint * r / math.sqrt(rest)
                alpha = scales.concentration + 0.5 * (c - 2 - j)
                gradient[y + j] = r_adjoint * (1.0 - r * r) - 2.0 * alpha * r
    if scales.tied > 0:
        at, total = tied_start(scales), 0.0
        for i in range(k, k + scales.tied):
            total += factors.adjoint[0, i, i]
        gradient[at] = scales.tied_sd * total - x[at]


@inner
def _effects_start(nest, scales):  # type: ignore[no-untyped-def]
    """Where the effects of attributes stand: last of what is common to all items."""
    return shared_start(scales) + len(scales.shared_sd) - 2 * len(nest.attributes)


@vector
def forward(x, nest, own, effects, factors, states):  # type: ignore[no-untyped-def]
    """Coefficients of all nodes, parents before children; returns their log density with the Jacobian.

    Effects of attributes stand in `x` from place `effects` on. Inner loops run over the nodes of a level, from zero on
    slices, which the compiler turns into vector instructions.
    """
    k, nodes = states.u.shape
    squares, logs = 0.0, 0.0
    for j in range(k):
        states.b[j, nodes] = nest.root_mean[j]
    for level in range(len(nest.level_start) - 2, -1, -1):
        first, end = nest.level_start[level], nest.level_start[level + 1]
        parent, shift, ratio = nest.parent[first:end], states.shift[first:end], states.ratio[first:end]
        for j in range(k if level == 0 else own):
            mu, u = states.mu[j, first:end], states.u[j, first:end]
            b, spread = states.b[j, first:end], states.spread[j, first:end]
            z_at = _z_place(x, nest, own, j)
            z = x[z_at + first : z_at + end]
            information, pull = states.information[j, first:end], states.pull[j, first:end]
            for i in range(len(mu)):
                mu[i] = states.b[j, parent[i]]
            if level == 0 and j < 2:
                for a in range(len(nest.attributes)):
                    effect, attribute = x[effects + j * len(nest.attributes) + a], nest.attributes[a]
                    for i in range(len(mu)):
                        mu[i] += effect * attribute[i]
            shift[:] = 0.0
            for a in range(j):
                factor = factors.chol[level, j, a]
                rotation, b_a, u_a = nest.rotation[j, a, first:end], states.b[a, first:end], states.u[a, first:end]
                for i in range(len(mu)):
                    shift[i] += rotation[i] * b_a[i]
                    mu[i] += rotation[i] * b_a[i] + factor * u_a[i]
            s = factors.chol[level, j, j]
            square = s * s
            for i in range(len(mu)):
                ratio[i] = 1.0 + information[i] * square
                spread[i] = 1.0 / math.sqrt(ratio[i])
                u[i] = s * (pull[i] - information[i] * mu[i]) / ratio[i] + z[i] * spread[i]
                b[i] = mu[i] + s * u[i] - shift[i]
            for i in range(len(mu)):
                squares += u[i] * u[i]
            logs += _log_product(ratio)
    return -0.5 * (squares + logs)


@inner
def _log_product(values):  # type: ignore[no-untyped-def]
    """Sum of logs of values of one or more, most of them by products."""
    total, product = 0.0, 1.0
    for value in values:
        product *= value
        if not product < 1e100:
            total += math.log(product)
            product = 1.0
    return total + math.log(product)


@inner
def reverse(x, nest, scales, factors, states, gradient):  # type: ignore[no-untyped-def]
    """Carry the adjoint of the coefficients to `z`, parents, levels' factors and the effects of attributes."""
    _reverse(x, nest, scales.between_sd.shape[1], _effects_start(nest, scales), factors, states, gradient)


@vector
def _reverse(x, nest, own, effects, factors, states, gradient):  # type: ignore[no-untyped-def]
    """The same, children before parents."""
    k = len(states.u)
    states.deviation[:] = 0.0
    for level in range(len(nest.level_start) - 1):
        first, end = nest.level_start[level], nest.level_start[level + 1]
        parent, mu_adjoint = nest.parent[first:end], states.shift[first:end]
        for j in range((k if level == 0 else own) - 1, -1, -1):
            mu, u = states.mu[j, first:end], states.u[j, first:end]
            spread, information, pull = (
                states.spread[j, first:end],
                states.information[j, first:end],
                states.pull[j, first:end],
            )
            adjoint, deviation = states.adjoint[j, first:end], states.deviation[j, first:end]
            z_at = _z_place(x, nest, own, j)
            z, z_gradient = x[z_at + first : z_at + end], gradient[z_at + first : z_at + end]
            s, total = factors.chol[level, j, j], 0.0
            for i in range(len(mu)):
                share = spread[i] * spread[i]  # of the prior in t
                pulled = (pull[i] - information[i] * mu[i]) * share
                u_adjoint = deviation[i] - u[i]
                weight = information[i] * s * share  # 1 / s less its share
                mu_adjoint[i] = adjoint[i] * share - u_adjoint * weight
                z_gradient[i] = (adjoint[i] * s + u_adjoint) * spread[i]
                total += adjoint[i] * share * (2.0 * s * pulled + z[i] * spread[i]) - weight
                total += u_adjoint * (pulled * (2.0 * share - 1.0) - weight * z[i] * spread[i])
            factors.adjoint[level, j, j] = total
            for a in range(j):
                rotation, u_a = nest.rotation[j, a, first:end], states.u[a, first:end]
                deviation_a, adjoint_a = states.deviation[a, first:end], states.adjoint[a, first:end]
                factor, total = factors.chol[level, j, a], 0.0
                for i in range(len(mu)):
                    total += mu_adjoint[i] * u_a[i]
                for i in range(len(mu)):
                    deviation_a[i] += mu_adjoint[i] * factor
                    adjoint_a[i] += (mu_adjoint[i] - adjoint[i]) * rotation[i]
                factors.adjoint[level, j, a] = total
            if level == 0 and j < 2:
                for a in range(len(nest.attributes)):
                    attribute, total = nest.attributes[a], 0.0
                    for i in range(len(mu)):
                        total += mu_adjoint[i] * attribute[i]
                    gradient[effects + j * len(nest.attributes) + a] += total
            for i in range(len(mu)):
                states.adjoint[j, parent[i]] += mu_adjoint[i]


@inner
def fill_nest(x, nest, scales, factors, states):  # type: ignore[no-untyped-def]
    """Write the coefficients of all nodes into ``states.b``; returns their log prior with the Jacobian."""
    own, effects = scales.between_sd.shape[1], _effects_start(nest, scales)
    return fill_factors(x, scales, factors) + forward(x, nest, own, effects, factors, states)


@inner
def weigh_items(nest, states, log_weight):  # type: ignore[no-untyped-def]
    """Let the items' sales count as much more than at the rough fit as the exponential of `log_weight` says."""
    for item in range(len(log_weight)):
        weight = math.exp(log_weight[item])
        for j in range(len(states.information)):
            states.information[j, item] = nest.information[j, item] * weight
            states.pull[j, item] = nest.pull[j, item] * weight


@inner
def weight_slopes(x, nest, scales, factors, states, gradient, slopes):  # type: ignore[no-untyped-def]
    """Slopes of the log density in the log weights of :func:`weigh_items`, once :func:`reverse` has been there."""
    own = scales.between_sd.shape[1]
    slopes[:] = 0.0
    for j in range(len(states.u)):
        s, z_at = factors.chol[0, j, j], _z_place(x, nest, own, j)
        for item in range(len(slopes)):
            spread, information = states.spread[j, item], states.information[j, item]
            share = spread * spread
            pulled = (states.pull[j, item] - information * states.mu[j, item]) * share
            gained = information * s * s * share
            u_adjoint = gradient[z_at + item] / spread
            slopes[item] += u_adjoint * (s * pulled * share - 0.5 * x[z_at + item] * gained * spread) - 0.5 * gained
