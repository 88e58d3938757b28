r"""From shares to mean utilities where people of one market differ (Berry, Levinsohn & Pakes 1995), compiled.

.. math:: s_{jt}(\delta, \sigma) = \frac{1}{N} \sum_{i=1}^N
          \frac{e^{\delta_{jt} + \mu_{ijt}}}{1 + \sum_l e^{\delta_{lt} + \mu_{ilt}}}, \qquad
          \mu_{ijt} = \sum_k \sigma_k \nu_{ik} x_{jtk}

Given :math:`\sigma` one :math:`\delta` gives the shares observed. The contraction
:math:`\delta \leftarrow \delta + \log S - \log s(\delta)` finds it from anywhere; close to it Newton's steps with the
Jacobian :math:`\partial s / \partial \delta`, which the density needs anyway, take three or four where the contraction
takes dozens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from bayes_pricing.demand.choice_data import Floats, Integers
from bayes_pricing.demand.compiled import entry, inner

MOST_STEPS = 300
CLOSE = 0.3
"""Largest distance of log shares from which Newton's steps are tried."""
EXACT = 1e-11
"""Largest distance of log shares at the end."""


class Markets(NamedTuple):
    """Shares by market and the people who buy there, as the kernels read them."""

    log_share: Floats  # (n,) markets one after the other
    x: Floats  # (n, K) what people differ in
    first: Integers  # (T + 1,) first row of each market
    nodes: Floats  # (N, K) standard normal people, the same in every market


def people_nodes(people: int, width: int, seed: int) -> Floats:
    """Persons (people, width) from a standard normal, spread evenly, with mean 0 and covariance 1 to rounding.

    A shifted additive recurrence (generalised golden ratio) through the normal quantile function, then whitened: for
    few dimensions far more even than draws, with equal weights.

    References
    ----------
    Train (2009), *Discrete Choice Methods with Simulation*, chapter 9, on why evenness counts.

    Examples
    --------
    >>> nodes = people_nodes(50, 2, seed=1)
    >>> bool(np.allclose(nodes.mean(axis=0), 0.0) and np.allclose(nodes.T @ nodes / 50, np.eye(2)))
    True
    """
    ratio = 2.0
    for _ in range(60):
        ratio = (1.0 + ratio) ** (1.0 / (width + 1))
    shift = np.random.default_rng(seed).random(width)
    even = (shift + np.arange(1, people + 1)[:, None] * ratio ** -np.arange(1.0, width + 1)) % 1.0
    normal = ndtri(np.clip(even, 0.5 / people, 1.0 - 0.5 / people))
    normal = normal - normal.mean(axis=0)
    factor = np.linalg.cholesky(normal.T @ normal / people)
    found: Floats = np.linalg.solve(factor, normal.T).T
    return np.ascontiguousarray(found)


@inner
def fill_weights(t: int, markets: Markets, spread: Floats, weight: Floats, nothing: Floats) -> None:
    """Factors exp(mu) of a market's products (J, N) and of the outside option (N,), scaled by the largest."""
    start, count = markets.first[t], markets.first[t + 1] - markets.first[t]
    people, width = markets.nodes.shape
    for i in range(people):
        top = 0.0
        for j in range(count):
            total = 0.0
            for k in range(width):
                total += spread[k] * markets.nodes[i, k] * markets.x[start + j, k]
            weight[j, i] = total
            top = max(top, total)
        nothing[i] = math.exp(-top)
        for j in range(count):
            weight[j, i] = math.exp(weight[j, i] - top)


@inner
def fill_chances(delta: Floats, weight: Floats, nothing: Floats, chance: Floats, share: Floats) -> None:
    """Everybody's chances (J, N) at mean utilities (J,), and their means, the shares."""
    count, people = weight.shape
    total = nothing.copy()
    for j in range(count):
        level = math.exp(delta[j])
        for i in range(people):
            chance[j, i] = level * weight[j, i]
            total[i] += chance[j, i]
    for i in range(people):
        total[i] = 1.0 / total[i]
    for j in range(count):
        mean = 0.0
        for i in range(people):
            chance[j, i] *= total[i]
            mean += chance[j, i]
        share[j] = mean / people


@inner
def _fill_factor(chance: Floats, share: Floats, factor: Floats) -> float:
    """Cholesky factor of ds/d delta; log of its determinant, NaN where rounding ate it."""
    count, people = chance.shape
    np.dot(chance, chance.T, factor)
    logdet = 0.0
    for j in range(count):
        for k in range(j + 1):
            s = -factor[j, k] / people
            if j == k:
                s += share[j]
            for a in range(k):
                s -= factor[j, a] * factor[k, a]
            if j > k:
                factor[j, k] = s / factor[k, k]
            elif s > 0.0:
                factor[j, j] = math.sqrt(s)
                logdet += math.log(s)
            else:
                return math.nan
    return logdet


@inner
def _step(factor: Floats, share: Floats, away: Floats, step: Floats) -> None:
    """Newton's step in delta: solve (ds/d delta) step = share * away."""
    count = len(share)
    for j in range(count):
        s = share[j] * away[j]
        for a in range(j):
            s -= factor[j, a] * step[a]
        step[j] = s / factor[j, j]
    for back in range(count):
        j = count - 1 - back
        s = step[j]
        for a in range(j + 1, count):
            s -= factor[a, j] * step[a]
        step[j] = s / factor[j, j]


@inner
def invert_market(
    t: int, markets: Markets, delta: Floats, weight: Floats, nothing: Floats, chance: Floats, share: Floats
) -> float:
    """Mean utilities of a market from where `delta` (J,) stands; log |ds/d delta|, NaN where none was found.

    `chance` and `share` are left as they are at the solution; `weight` and `nothing` are of :func:`fill_weights`.
    """
    start, count = markets.first[t], len(delta)
    away, step, factor = np.empty(count), np.empty(count), np.empty((count, count))
    before = math.inf
    for _ in range(MOST_STEPS):
        fill_chances(delta, weight, nothing, chance, share)
        worst = 0.0
        for j in range(count):
            away[j] = markets.log_share[start + j] - math.log(share[j])
            if not abs(away[j]) <= worst:  # NaN too
                worst = abs(away[j])
        if worst < EXACT:
            return float(_fill_factor(chance, share, factor))
        if not worst < math.inf:
            return math.nan
        newton = worst < CLOSE and worst < 0.5 * before
        if newton:
            newton = not math.isnan(_fill_factor(chance, share, factor))
        if newton:
            _step(factor, share, away, step)
        for j in range(count):
            delta[j] += step[j] if newton else away[j]
        before = worst if newton else math.inf
    return math.nan


@entry
def invert_shares(markets: Markets, spread: Floats, delta: Floats) -> float:
    """Mean utilities (n,) of every market, from where `delta` stands; the sum of log |ds/d delta|, NaN if none.

    Parameters
    ----------
    markets : Markets
    spread : array (K,)
        Sds of tastes.
    delta : array (n,)
        Overwritten.
    """
    largest = 0
    for t in range(len(markets.first) - 1):
        largest = max(largest, markets.first[t + 1] - markets.first[t])
    people = len(markets.nodes)
    weights, chances, shares = np.empty((largest, people)), np.empty((largest, people)), np.empty(largest)
    nothing, total = np.empty(people), 0.0
    for t in range(len(markets.first) - 1):
        a, b = markets.first[t], markets.first[t + 1]
        weight, chance, share = weights[: b - a], chances[: b - a], shares[: b - a]
        fill_weights(t, markets, spread, weight, nothing)
        total += invert_market(t, markets, delta[a:b], weight, nothing, chance, share)
        if math.isnan(total):
            return float(total)
    return total


@entry
def fill_own_slopes(markets: Markets, spread: Floats, delta: Floats, at: int, mean: Floats, around: Floats) -> None:
    r"""Parts of own slopes: :math:`E[s_i (1 - s_i)]` into `mean`, :math:`E[\nu_i s_i (1 - s_i)]` into `around`, (n,).

    Both over the share of the row; `at` is the position of price among what people differ in, -1 where it is not.
    """
    people = len(markets.nodes)
    for t in range(len(markets.first) - 1):
        a, b = markets.first[t], markets.first[t + 1]
        weight, chance = np.empty((b - a, people)), np.empty((b - a, people))
        share, nothing = np.empty(b - a), np.empty(people)
        fill_weights(t, markets, spread, weight, nothing)
        fill_chances(delta[a:b], weight, nothing, chance, share)
        for j in range(b - a):
            one, other = 0.0, 0.0
            for i in range(people):
                slope = chance[j, i] * (1.0 - chance[j, i])
                one += slope
                if at >= 0:
                    other += slope * markets.nodes[i, at]
            mean[a + j], around[a + j] = one / people / share[j], other / people / share[j]
