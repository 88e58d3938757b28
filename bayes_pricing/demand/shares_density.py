r"""Compiled log density of the share logit, with or without a first stage for its price.

.. math:: \log s_{jt} - \log s_{0t} &= \alpha_j + x_{jt}'\beta + e_t p_{jt} + \xi_{jt}, \quad
          \alpha_j \sim N(a_j'\gamma, \sigma_\alpha^2), \quad e_t \sim N(e, \sigma_m^2) \\
          p_{jt} &= \delta_j + x_{jt}'\delta + z_{jt}'\pi + v_{jt}, \quad
          \xi_{jt} = \lambda v_{jt} + u_{jt}, \quad u \sim N(0, \sigma^2), \; v \sim N(0, \sigma_v^2)

Price in units of elasticity and around its product's mean, controls likewise. Product effects are integrated out,
those of price (flat, orthonormal coordinates :math:`\eta`) with them: given the rest, its residuals have variance
:math:`\sigma^2 I + \tau_j^2 1 1'` with :math:`\tau_j^2 = \sigma_\alpha^2 + \lambda^2 \sigma_v^2 / T_j`. Coordinates, in
order: normals behind :math:`\gamma`, `e` and :math:`\beta`; :math:`\log \sigma`; with a hierarchy
:math:`\log \sigma_\alpha`, :math:`\log \sigma_m` and normals behind :math:`e_t`; with instruments the normal behind
:math:`\lambda`, :math:`\pi` around least squares, :math:`\log \sigma_v` and the :math:`\eta` of the controls.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.demand.choice_data import Floats, Integers
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.nuts_chain import Chain, advance


class ShareRows(NamedTuple):
    """Data and prior as the kernel reads them."""

    y: Floats  # (n,) log ratio less its mean
    price: Floats  # (n,) around the product's mean, in units of elasticity
    x: Floats  # (n, c) controls around the product's mean, one sd each
    v: Floats  # (n,) price with products and controls taken out
    z: Floats  # (n, q) instruments likewise; q = 0 takes prices as given
    basis: Floats  # (n, b) orthonormal columns of the controls
    first: Integers  # (J + 1,) first row of each product
    market: Integers  # (n,)
    markets: int  # 0 without a hierarchy
    of_product: Floats  # (J, m) constant and attributes; m = 0 without a hierarchy
    mean: Floats  # (m + 1 + c,) prior of gamma, e, beta
    sd: Floats  # (m + 1 + c,)
    scale: Floats  # (5,) of sigma, sigma_alpha (the sd itself without a hierarchy), sigma_m, sigma_v, lambda
    slope: Floats  # (q,) least-squares first stage
    factor: Floats  # (q, q) pi = slope + factor @ coordinates
    slope_sd: Floats  # (q,) prior sd of pi


def size_of(rows: ShareRows) -> int:
    """How many coordinates the density has."""
    q = rows.z.shape[1]
    return len(rows.mean) + 1 + (2 + rows.markets if rows.markets else 0) + (q + 2 + rows.basis.shape[1] if q else 0)


@entry
def log_posterior(coordinates: Floats, rows: ShareRows, gradient: Floats) -> float:
    """Log density up to a constant at `coordinates`; `gradient` is overwritten."""
    n, linear, q = len(rows.y), len(rows.mean), rows.z.shape[1]
    at_stage = linear + 1 + (2 + rows.markets if rows.markets else 0)
    value = 0.0
    for at in range(len(coordinates)):
        value -= 0.5 * coordinates[at] * coordinates[at]
        gradient[at] = -coordinates[at]
    own, slope = np.zeros(linear), np.zeros(linear)
    for a in range(linear):
        own[a] = rows.mean[a] + rows.sd[a] * coordinates[a]
    scales = np.zeros(5)  # as rows.scale, the last is lambda itself
    value += _fill_scales(coordinates, rows, at_stage, scales, gradient)
    shift, error, residual = np.zeros(n), np.zeros(n), np.empty(n)  # what lambda multiplies, the price errors
    if q:
        value += _add_stage(coordinates, rows, gradient, at_stage, scales[3], shift, error)
    for j in range(len(rows.first) - 1):
        value += _add_product(j, coordinates, rows, own, scales, shift, residual, slope, gradient, at_stage)
    for a in range(linear):
        gradient[a] += rows.sd[a] * slope[a]
    if q:
        _add_shift(rows, scales, residual, shift, error, gradient, at_stage)
    return float(value)


@inner
def _fill_scales(coordinates: Floats, rows: ShareRows, at_stage: int, scales: Floats, gradient: Floats) -> float:
    """Scales and lambda from the coordinates; the half-normal priors' log density, and their slopes put in place."""
    linear, q, value = len(rows.mean), rows.z.shape[1], 0.0
    places = np.full(4, -1)
    places[0] = linear
    scales[1] = rows.scale[1]
    if rows.markets:
        places[1], places[2] = linear + 1, linear + 2
    if q:
        places[3] = at_stage + 1 + q
        scales[4] = rows.scale[4] * coordinates[at_stage]
    for a in range(4):
        at = places[a]
        if at >= 0:
            scales[a] = math.exp(coordinates[at])
            ratio = scales[a] / rows.scale[a]
            gradient[at] = 1.0 - ratio * ratio
            value += coordinates[at] - 0.5 * ratio * ratio + 0.5 * coordinates[at] ** 2  # no normal stands behind it
    return value


@inner
def _fill_residual(
    j: int, coordinates: Floats, rows: ShareRows, own: Floats, scales: Floats, shift: Floats, residual: Floats
) -> tuple[float, float]:
    """Residuals of one product with its effect left in; their mean, and squares around it."""
    m, c, at_market = rows.of_product.shape[1], rows.x.shape[1], len(rows.mean) + 3
    centre, total, squares = 0.0, 0.0, 0.0
    for a in range(m):
        centre += rows.of_product[j, a] * own[a]
    for i in range(rows.first[j], rows.first[j + 1]):
        reaction = own[m]
        if rows.markets:
            reaction += scales[2] * coordinates[at_market + rows.market[i]]
        s = rows.y[i] - centre - reaction * rows.price[i] - scales[4] * shift[i]
        for a in range(c):
            s -= rows.x[i, a] * own[m + 1 + a]
        residual[i] = s
        total += s
    middle = total / (rows.first[j + 1] - rows.first[j])
    for i in range(rows.first[j], rows.first[j + 1]):
        squares += (residual[i] - middle) ** 2
    return middle, squares


@inner
def _add_product(
    j: int,
    coordinates: Floats,
    rows: ShareRows,
    own: Floats,
    scales: Floats,
    shift: Floats,
    residual: Floats,
    slope: Floats,
    gradient: Floats,
    at_stage: int,
) -> float:
    """Log likelihood of one product, its effect integrated out; `residual` becomes the slope in each row's mean."""
    m, c, q, linear = rows.of_product.shape[1], rows.x.shape[1], rows.z.shape[1], len(rows.mean)
    noise, spread, between, stage, lam = scales[0], scales[1], scales[2], scales[3], scales[4]
    middle, squares = _fill_residual(j, coordinates, rows, own, scales, shift, residual)
    length = rows.first[j + 1] - rows.first[j]
    precision = 1.0 / (noise * noise)
    wide = noise * noise + length * spread * spread + lam * lam * stage * stage
    value = -(length - 1.0) * coordinates[linear]
    value -= 0.5 * (math.log(wide) + squares * precision + length * middle * middle / wide)
    of_wide = 0.5 * (length * middle * middle / (wide * wide) - 1.0 / wide)
    gradient[linear] += squares * precision - (length - 1.0) + 2.0 * noise * noise * of_wide
    if rows.markets:
        gradient[linear + 1] += 2.0 * spread * spread * length * of_wide
    if q:
        gradient[at_stage] += 2.0 * lam * stage * stage * of_wide * rows.scale[4]
        gradient[at_stage + 1 + q] += 2.0 * lam * lam * stage * stage * of_wide
    pull = 0.0
    for i in range(rows.first[j], rows.first[j + 1]):
        g = (residual[i] - middle) * precision + middle / wide
        residual[i] = g
        pull += g
        slope[m] += g * rows.price[i]
        for a in range(c):
            slope[m + 1 + a] += g * rows.x[i, a]
        if rows.markets:
            at = linear + 3 + rows.market[i]
            gradient[at] += between * g * rows.price[i]
            gradient[linear + 2] += between * g * rows.price[i] * coordinates[at]
    for a in range(m):
        slope[a] += pull * rows.of_product[j, a]
    return float(value)


@inner
def _add_shift(
    rows: ShareRows, scales: Floats, pull: Floats, shift: Floats, error: Floats, gradient: Floats, at_stage: int
) -> None:
    """Gradient of what stands behind the shift: lambda, the first stage, its scale and the controls' coordinates."""
    n, q, b = len(rows.y), rows.z.shape[1], rows.basis.shape[1]
    stage, lam, at_sigma = scales[3], scales[4], at_stage + 1 + q
    of_slope = np.zeros(q)
    for i in range(n):
        gradient[at_stage] += pull[i] * shift[i] * rows.scale[4]
        gradient[at_sigma] += pull[i] * lam * (shift[i] - error[i])
        for a in range(b):
            gradient[at_sigma + 1 + a] += pull[i] * lam * stage * rows.basis[i, a]
        for a in range(q):
            of_slope[a] -= pull[i] * lam * rows.z[i, a]
    for a in range(q):
        for k in range(q):
            gradient[at_stage + 1 + k] += of_slope[a] * rows.factor[a, k]


@inner
def _add_stage(
    coordinates: Floats, rows: ShareRows, gradient: Floats, start: int, stage: float, shift: Floats, error: Floats
) -> float:
    """Log density of the price, its gradient, the price errors and what lambda multiplies."""
    n, q, b = len(rows.y), rows.z.shape[1], rows.basis.shape[1]
    pi, pull = np.empty(q), np.zeros(q)
    value, precision, squares = 0.0, 1.0 / (stage * stage), 0.0
    for a in range(q):
        pi[a] = rows.slope[a]
        for k in range(q):
            pi[a] += rows.factor[a, k] * coordinates[start + 1 + k]
        value += 0.5 * coordinates[start + 1 + a] ** 2 - 0.5 * (pi[a] / rows.slope_sd[a]) ** 2
        gradient[start + 1 + a] = 0.0
        pull[a] = -pi[a] / rows.slope_sd[a] ** 2
    for i in range(n):
        s = rows.v[i]
        for a in range(q):
            s -= rows.z[i, a] * pi[a]
        error[i] = s
        squares += s * s
        for a in range(q):
            pull[a] += s * rows.z[i, a] * precision
        for a in range(b):
            s += stage * rows.basis[i, a] * coordinates[start + 2 + q + a]
        shift[i] = s
    free = n - (len(rows.first) - 1) - b
    value -= free * coordinates[start + 1 + q] + 0.5 * squares * precision
    gradient[start + 1 + q] += squares * precision - free
    for a in range(q):
        for k in range(q):
            gradient[start + 1 + k] += pull[a] * rows.factor[a, k]
    return float(value)


@entry
def run_chain(rng: np.random.Generator, chain: Chain, rows: ShareRows) -> None:
    """Run a chain on this density."""
    more = True
    while more:
        chain.value[0] = log_posterior(chain.x, rows, chain.gradient)
        more = advance(rng, chain)
