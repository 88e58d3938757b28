r"""Compiled posterior of the random-coefficients logit on shares: a few coordinates stepped, the linear rest drawn.

.. math:: \delta_{jt}(\sigma) &= \alpha_j + x_{jt}'\beta + e\, p_{jt} + \xi_{jt}, \qquad
          p_{jt} = \dots + z_{jt}'\pi + v_{jt}, \qquad \xi_{jt} = \lambda v_{jt} + u_{jt} \\
          p(s \mid \cdot) &= N(\xi; \dots) \prod_t \left| \partial s_t / \partial \delta_t \right|^{-1}

Given the sds of tastes :math:`\sigma`, that of `u` and :math:`\pi`, mean utilities are a linear regression with normal
priors: :math:`e, \beta, \lambda` and the products are integrated out of the step in :math:`(\sigma, \log \sigma_u)` and
drawn after it. Price is around its product's mean and in units of elasticity, controls likewise with one sd each; `v`
and `z` have products and controls taken out, so that what these leave of :math:`\lambda v` in the products and
:math:`\beta` is drawn apart. Two proposals take turns: an independent t around the mode, folded at zero, and a short
step, folded too (both are reversible, as sds are not negative).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from bayes_pricing.demand.choice_data import Floats, Integers
from bayes_pricing.demand.shares_inversion import Markets, fill_own_slopes, invert_shares

FREEDOM = 5.0
"""Of the independent proposal: its tails are heavier than the posterior's."""
SWEEPS = 3
"""Turns between the linear part and the first stage after each step: they hang together and cost little."""


class PeopleRows(NamedTuple):
    """Data and prior as the kernels read them; rows market by market."""

    markets: Markets
    product: Integers  # (n,)
    count: Floats  # (J,) rows of each product
    level: float  # log ratio that product effects are around
    x: Floats  # (n, 1 + c) price and controls around the product's mean
    price: Floats  # (n,) in units of elasticity
    v: Floats  # (n,) price with products and controls taken out
    z: Floats  # (n, q) instruments likewise; q = 0 takes prices as given
    zz: Floats  # (q, q)
    mean: Floats  # (m,) prior of e, beta and, with instruments, lambda
    sd: Floats  # (m,)
    taste: Floats  # (K,) half-normal scales of the sds of tastes
    scale: Floats  # (3,) of sigma_u, of product effects, of sigma_v
    slope_sd: Floats  # (q,) prior sd of pi
    freedom: float  # rows less products and controls
    price_at: int  # position of price among tastes, -1 where everybody's is the same


class PeopleState(NamedTuple):
    """Where a chain stands, and how it proposes; arrays that kernels overwrite."""

    at: Floats  # (K + 1,) sds of tastes, log sigma_u
    delta: Floats  # (n,) mean utilities there
    jacobian: Floats  # (1,) their log |ds/d delta|
    v: Floats  # (n,) residual of the first stage
    pi: Floats  # (q,)
    log_stage: Floats  # (1,) log sigma_v
    centre: Floats  # (K + 1,) of the independent proposal
    factor: Floats  # (K + 1, K + 1) lower triangular
    step: Floats  # (K + 1,) of the short one
    accepted: Floats  # (2,) of either, since last looked at


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _cholesky(matrix: Floats) -> float:
    """Lower factor in place; half the log of the determinant."""
    half = 0.0
    for j in range(len(matrix)):
        for k in range(j + 1):
            s = matrix[j, k]
            for a in range(k):
                s -= matrix[j, a] * matrix[k, a]
            if j == k:
                matrix[j, j] = math.sqrt(s)
                half += math.log(matrix[j, j])
            else:
                matrix[j, k] = s / matrix[k, k]
    return half


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _forward(factor: Floats, right: Floats) -> None:
    """Solve L y = right in place."""
    for j in range(len(right)):
        s = right[j]
        for a in range(j):
            s -= factor[j, a] * right[a]
        right[j] = s / factor[j, j]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _backward(factor: Floats, right: Floats) -> None:
    """Solve L' y = right in place."""
    for back in range(len(right)):
        j = len(right) - 1 - back
        s = right[j]
        for a in range(j + 1, len(right)):
            s -= factor[a, j] * right[a]
        right[j] = s / factor[j, j]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def gram_of(rows: PeopleRows, v: Floats) -> Floats:
    """Squares and products of the regressors, those of `v` last, (m, m)."""
    own, m = rows.x.shape[1], len(rows.mean)
    gram = np.zeros((m, m))
    for i in range(len(v)):
        for a in range(m):
            left = rows.x[i, a] if a < own else v[i]
            for b in range(a + 1):
                gram[a, b] += left * (rows.x[i, b] if b < own else v[i])
    return gram


@nb.njit(cache=True, nogil=True, error_model="numpy")
def regress(rows: PeopleRows, gram: Floats, v: Floats, delta: Floats, log_noise: float, centre: Floats) -> float:
    """Log likelihood of mean utilities with the linear part integrated out.

    `gram` becomes the Cholesky factor of the linear part's precision, `centre` (m,) its mean.
    """
    own, m, n = rows.x.shape[1], len(rows.mean), len(delta)
    precision = math.exp(-2.0 * log_noise)
    sums, squares = np.zeros(len(rows.count)), 0.0
    centre[:] = 0.0
    for i in range(n):
        y = delta[i] - rows.level
        sums[rows.product[i]] += y
        squares += y * y
        for a in range(own):
            centre[a] += rows.x[i, a] * y
        if m > own:
            centre[own] += v[i] * y
    value = -(n - len(sums)) * log_noise
    for j in range(len(sums)):
        wide = 1.0 / precision + rows.count[j] * rows.scale[1] ** 2
        squares -= sums[j] ** 2 / rows.count[j]
        value -= 0.5 * (math.log(wide) + sums[j] ** 2 / rows.count[j] / wide)
    value -= 0.5 * squares * precision
    for a in range(m):
        centre[a] = centre[a] * precision + rows.mean[a] / rows.sd[a] ** 2
        for b in range(a + 1):
            gram[a, b] *= precision
        gram[a, a] += 1.0 / rows.sd[a] ** 2
    value -= _cholesky(gram)
    _forward(gram, centre)
    for a in range(m):
        value += 0.5 * centre[a] ** 2
    _backward(gram, centre)
    return float(value)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_prior(rows: PeopleRows, at: Floats) -> float:
    """Half-normal sds of tastes and of the noise, the latter in its logarithm."""
    last = len(at) - 1
    value = at[last] - 0.5 * (math.exp(at[last]) / rows.scale[0]) ** 2
    for k in range(last):
        value -= 0.5 * (at[k] / rows.taste[k]) ** 2
    return float(value)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def log_target(rows: PeopleRows, at: Floats, v: Floats, delta: Floats) -> float:
    """Log density of the stepped coordinates given the first stage; `delta` is where the inversion starts and ends."""
    logdet = invert_shares(rows.markets, at[: len(at) - 1], delta)
    if math.isnan(logdet):
        return -math.inf
    centre = np.empty(len(rows.mean))
    return regress(rows, gram_of(rows, v), v, delta, at[len(at) - 1], centre) - logdet + log_prior(rows, at)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _log_proposal(state: PeopleState, at: Floats) -> float:
    """Log density of the folded t: the sum over the signs that fold to the same place."""
    width, total = len(at), 0.0
    left = np.empty(width)
    for signs in range(1 << (width - 1)):
        for k in range(width):
            turned = k < width - 1 and (signs >> k) & 1
            left[k] = (-at[k] if turned else at[k]) - state.centre[k]
        _forward(state.factor, left)
        squares = 0.0
        for k in range(width):
            squares += left[k] ** 2
        total += (1.0 + squares / FREEDOM) ** (-0.5 * (FREEDOM + width))
    return math.log(total)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _propose(rng: np.random.Generator, state: PeopleState, independent: bool, at: Floats) -> None:
    width = len(at)
    if independent:
        wide = math.sqrt(FREEDOM / rng.chisquare(FREEDOM))
        normal = np.empty(width)
        for k in range(width):
            normal[k] = wide * rng.standard_normal()
        for k in range(width):
            at[k] = state.centre[k]
            for a in range(k + 1):
                at[k] += state.factor[k, a] * normal[a]
    else:
        for k in range(width):
            at[k] = state.at[k] + state.step[k] * rng.standard_normal()
    for k in range(width - 1):
        at[k] = abs(at[k])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _move(rng: np.random.Generator, rows: PeopleRows, state: PeopleState, gram: Floats, independent: bool) -> None:
    """One accepted or rejected step of the sds of tastes and of the noise, the linear part integrated out."""
    width, centre, delta = len(state.at), np.empty(len(rows.mean)), state.delta.copy()
    last, at = width - 1, np.empty(width)
    here = regress(rows, gram.copy(), state.v, state.delta, state.at[last], centre)
    here += log_prior(rows, state.at) - state.jacobian[0]
    _propose(rng, state, independent, at)
    chance = math.log(rng.random())
    logdet = invert_shares(rows.markets, at[:last], delta)
    if math.isnan(logdet):
        return
    there = regress(rows, gram.copy(), state.v, delta, at[last], centre) + log_prior(rows, at) - logdet
    gain = there - here
    if independent:
        gain += _log_proposal(state, state.at) - _log_proposal(state, at)
    if chance < gain:
        state.at[:] = at
        state.delta[:] = delta
        state.jacobian[0] = logdet
        state.accepted[0 if independent else 1] += 1.0


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _draw_linear(
    rng: np.random.Generator, rows: PeopleRows, state: PeopleState, gram: Floats, linear: Floats, product: Floats
) -> None:
    """e, beta and lambda, then the products, given everything else."""
    factor, m, own = gram.copy(), len(rows.mean), rows.x.shape[1]
    log_noise = state.at[len(state.at) - 1]
    centre, normal, sums = np.empty(m), np.empty(m), np.zeros(len(product))
    regress(rows, factor, state.v, state.delta, log_noise, centre)
    for a in range(m):
        normal[a] = rng.standard_normal()
    _backward(factor, normal)
    for a in range(m):
        linear[a] = centre[a] + normal[a]
    for i in range(len(state.delta)):
        sums[rows.product[i]] += state.delta[i] - rows.level  # regressors have mean zero within a product
    precision = math.exp(-2.0 * log_noise)
    for j in range(len(product)):
        total = rows.count[j] * precision + 1.0 / rows.scale[1] ** 2
        product[j] = sums[j] * precision / total + rng.standard_normal() / math.sqrt(total)
    if m > own:
        _draw_stage(rng, rows, state, linear)


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _draw_stage(rng: np.random.Generator, rows: PeopleRows, state: PeopleState, linear: Floats) -> None:
    """The first stage given the rest: its slopes from both equations, then its noise."""
    n, q, lam = len(rows.v), rows.z.shape[1], linear[len(linear) - 1]
    precision = math.exp(-2.0 * state.at[len(state.at) - 1])
    stage = math.exp(-2.0 * state.log_stage[0])
    right, normal, matrix = np.zeros(q), np.empty(q), np.empty((q, q))
    for i in range(n):
        pull = stage * rows.v[i]
        pull -= lam * precision * (state.delta[i] - rows.level - (linear[0] + lam) * rows.v[i])
        for a in range(q):
            right[a] += pull * rows.z[i, a]
    for a in range(q):
        normal[a] = rng.standard_normal()
        for b in range(q):
            matrix[a, b] = rows.zz[a, b] * (stage + lam * lam * precision)
        matrix[a, a] += 1.0 / rows.slope_sd[a] ** 2
    _cholesky(matrix)
    _forward(matrix, right)
    for a in range(q):
        right[a] += normal[a]
    _backward(matrix, right)
    state.pi[:] = right
    squares = 0.0
    for i in range(n):
        state.v[i] = rows.v[i]
        for a in range(q):
            state.v[i] -= rows.z[i, a] * right[a]
        squares += state.v[i] ** 2
    width = 2.4 / math.sqrt(2.0 * rows.freedom)
    for _ in range(3):
        there = state.log_stage[0] + width * rng.standard_normal()
        gain = _log_stage(rows, squares, there) - _log_stage(rows, squares, state.log_stage[0])
        if math.log(rng.random()) < gain:
            state.log_stage[0] = there


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _log_stage(rows: PeopleRows, squares: float, log_stage: float) -> float:
    """Log density of the first stage's noise, in its logarithm."""
    sd = math.exp(log_stage)
    return log_stage * (1.0 - rows.freedom) - 0.5 * squares / (sd * sd) - 0.5 * (sd / rows.scale[2]) ** 2


@nb.njit(cache=True, nogil=True, error_model="numpy")
def advance(rng: np.random.Generator, rows: PeopleRows, state: PeopleState, every: int, out: Floats) -> None:
    """Iterations of one chain, each `every`-th kept as a row of `out`.

    Columns: sds of tastes and log sigma_u (K + 1), e, beta and lambda (m), products (J), pi and log sigma_v (q + 1 or
    none), mean own elasticity of each product (J).
    """
    width, m, products, q = len(state.at), len(rows.mean), len(rows.count), rows.z.shape[1]
    linear, product, n = np.empty(m), np.empty(products), len(rows.price)
    mean, around = np.empty(n), np.empty(n)
    gram = gram_of(rows, state.v)
    for kept in range(len(out)):
        for _ in range(every):
            _move(rng, rows, state, gram, True)
            _move(rng, rows, state, gram, False)
            for _ in range(SWEEPS if q else 1):
                _draw_linear(rng, rows, state, gram, linear, product)
                if q:
                    gram = gram_of(rows, state.v)
        row = out[kept]
        row[:width] = state.at
        row[width : width + m] = linear
        row[width + m : width + m + products] = product
        if q:
            row[width + m + products : width + m + products + q] = state.pi
            row[width + m + products + q] = state.log_stage[0]
        own = row[len(row) - products :]
        own[:] = 0.0
        fill_own_slopes(rows.markets, state.at[: width - 1], state.delta, rows.price_at, mean, around)
        for i in range(n):
            slope = linear[0] * mean[i]
            if rows.price_at >= 0:
                slope += state.at[rows.price_at] * around[i]
            own[rows.product[i]] += slope * rows.price[i] / rows.count[rows.product[i]]
