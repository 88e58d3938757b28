r"""Compiled log density of purchase probability against price.

.. math:: y_i \sim \text{Binomial}(n_i, \pi_i), \quad
          \text{logit}\, \pi_i = x_i'\beta - D \sum_m w_m \tilde I_m(p_i), \quad
          w = \text{softmax}(\log c + \tau z)

with :math:`\beta \sim N(m, \operatorname{diag}(s^2))`, :math:`D \sim N^+(d, s_D^2)`, :math:`\tau \sim N^+(0, t^2)` and
:math:`z \sim N(0, I)`. At :math:`\tau = 0` the weights are `c` and the curve is a straight line in price. The logistic
model has price among the columns of `x` and no steps. Coordinates are the standard normals behind :math:`\beta`, then
:math:`\log D`, :math:`\log \tau` and `z`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.nuts_chain import Chain, advance
from bayes_pricing.demand.purchase_data import Floats


class Offers(NamedTuple):
    """Data and prior as the kernel reads them."""

    x: Floats  # (n, k) constant, regressors around their means
    steps: Floats  # (n, M) rising steps around their means; M = 0 for the logistic model
    bought: Floats  # (n,)
    trials: Floats  # (n,)
    mean: Floats  # (k,)
    sd: Floats  # (k,)
    log_even: Floats  # (M,) log c
    curve: Floats  # (3,) d, s_D, t


def size_of(offers: Offers) -> int:
    """How many coordinates the density has."""
    k, m = offers.x.shape[1], offers.steps.shape[1]
    size: int = k + (2 + m if m else 0)
    return size


@inner
def fill_weights(coordinates: Floats, offers: Offers, weight: Floats) -> None:
    """The softmax weights of the steps from the coordinates."""
    k, m = offers.x.shape[1], offers.steps.shape[1]
    tau, top, total = math.exp(coordinates[k + 1]), -math.inf, 0.0
    for a in range(m):
        weight[a] = offers.log_even[a] + tau * coordinates[k + 2 + a]
        top = max(top, weight[a])
    for a in range(m):
        weight[a] = math.exp(weight[a] - top)
        total += weight[a]
    for a in range(m):
        weight[a] /= total


@entry
def log_posterior(coordinates: Floats, offers: Offers, gradient: Floats) -> float:
    """Log density up to a constant at `coordinates`; `gradient` is overwritten."""
    n, k = offers.x.shape
    m = offers.steps.shape[1]
    value, drop, tau = 0.0, 0.0, 0.0
    beta, slope, weight, pull = np.zeros(k), np.zeros(k), np.zeros(m), np.zeros(m)
    for a in range(k):
        value -= 0.5 * coordinates[a] * coordinates[a]
        gradient[a] = -coordinates[a]
        beta[a] = offers.mean[a] + offers.sd[a] * coordinates[a]
    if m:
        drop, tau = math.exp(coordinates[k]), math.exp(coordinates[k + 1])
        fill_weights(coordinates, offers, weight)
    for i in range(n):
        predictor = 0.0
        for a in range(k):
            predictor += offers.x[i, a] * beta[a]
        for a in range(m):
            predictor -= drop * weight[a] * offers.steps[i, a]
        small = math.exp(-abs(predictor))
        chance = 1.0 / (1.0 + small) if predictor > 0 else small / (1.0 + small)
        value += offers.bought[i] * predictor - offers.trials[i] * (max(predictor, 0.0) + math.log1p(small))
        left = offers.bought[i] - offers.trials[i] * chance
        for a in range(k):
            slope[a] += left * offers.x[i, a]
        for a in range(m):
            pull[a] -= left * offers.steps[i, a]
    for a in range(k):
        gradient[a] += offers.sd[a] * slope[a]
    if m:
        value += _add_curve(coordinates, offers, weight, pull, drop, tau, gradient)
    return value


@inner
def _add_curve(
    coordinates: Floats, offers: Offers, weight: Floats, pull: Floats, drop: float, tau: float, gradient: Floats
) -> float:
    """Prior of the curve and the gradient of its coordinates; `pull` is the likelihood's slope in each step."""
    k, m = offers.x.shape[1], offers.steps.shape[1]
    mean = 0.0
    for a in range(m):
        mean += weight[a] * pull[a]
    off, ratio = (drop - offers.curve[0]) / offers.curve[1], tau / offers.curve[2]
    gradient[k] = drop * mean + 1.0 - off * drop / offers.curve[1]
    gradient[k + 1] = 1.0 - ratio * ratio
    value = coordinates[k] - 0.5 * off * off + coordinates[k + 1] - 0.5 * ratio * ratio
    for a in range(m):
        z = coordinates[k + 2 + a]
        bend = drop * weight[a] * (pull[a] - mean)
        value -= 0.5 * z * z
        gradient[k + 2 + a] = tau * bend - z
        gradient[k + 1] += tau * z * bend
    return float(value)


@entry
def run_chain(rng: np.random.Generator, chain: Chain, offers: Offers) -> None:
    """Run a chain on this density."""
    more = True
    while more:
        chain.value[0] = log_posterior(chain.x, offers, chain.gradient)
        more = advance(rng, chain)
