r"""Compiled log density of the (hierarchical) multinomial logit.

.. math:: P(j \mid t) = \frac{\exp(x_{jt}'\beta_{h(t)})}{\sum_{l \text{ on offer}} \exp(x_{lt}'\beta_{h(t)})}, \quad
          \beta_h = \mu + C z_h, \quad z_h \sim N(0, I), \quad \mu \sim N(m, \operatorname{diag}(s^2)), \quad
          C_{ab} \sim N(0, w_a^2 / (a + 1)), \; b \le a

with `C` lower triangular: every coefficient's variance between people is :math:`w_a^2` on average before data, whatever
its place, and its correlations with the others are free. Coordinates are those of the standard normals behind
:math:`\mu`, `C` and `z`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.demand.choice_data import ChoiceData, Flags, Floats, Integers
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.nuts_chain import Chain, advance


class Choices(NamedTuple):
    """Data and prior as the kernels read them."""

    x: Floats  # (T, J, K)
    available: Flags  # (T, J)
    chosen: Integers  # (T,)
    first: Integers  # (H + 1,) first occasion of each chooser
    mean: Floats  # (K,)
    sd: Floats  # (K,)
    spread: Floats  # (K,) w; empty for equal tastes


def kernel_choices(data: ChoiceData, mean: Floats, sd: Floats, spread: Floats) -> Choices:
    """Data and prior side by side; `spread` is empty where everybody has the same tastes."""
    bounds = np.searchsorted(data.chooser, np.arange(len(data.choosers) + 1))
    return Choices(
        x=np.ascontiguousarray(data.x),
        available=np.ascontiguousarray(data.available),
        chosen=data.chosen,
        first=bounds.astype(np.int64),
        mean=mean,
        sd=sd,
        spread=spread,
    )


def size_of(choices: Choices) -> int:
    """How many coordinates the density has."""
    k, mixed = len(choices.mean), len(choices.spread) > 0
    return k + (k * (k + 1) // 2 + (len(choices.first) - 1) * k if mixed else 0)


@entry
def add_chooser(choices: Choices, h: int, beta: Floats, gradient: Floats, u: Floats) -> float:
    """Log likelihood of one chooser's occasions at `beta`; its gradient is added to `gradient`."""
    total = 0.0
    width, k = choices.x.shape[1], choices.x.shape[2]
    for t in range(choices.first[h], choices.first[h + 1]):
        top = -math.inf
        for j in range(width):
            if choices.available[t, j]:
                s = 0.0
                for a in range(k):
                    s += choices.x[t, j, a] * beta[a]
                u[j] = s
                top = max(top, s)
        weight = 0.0
        for j in range(width):
            u[j] = math.exp(u[j] - top) if choices.available[t, j] else 0.0
            weight += u[j]
        picked = choices.chosen[t]
        total += math.log(u[picked] / weight)
        for j in range(width):
            share = (1.0 if j == picked else 0.0) - u[j] / weight
            if share != 0.0:
                for a in range(k):
                    gradient[a] += share * choices.x[t, j, a]
    return total


@inner
def fill_spread(coordinates: Floats, choices: Choices, factor: Floats) -> None:
    """The lower triangular `C` from its coordinates."""
    k, at = len(choices.mean), len(choices.mean)
    for a in range(k):
        for b in range(a + 1):
            factor[a, b] = coordinates[at] * choices.spread[a] / math.sqrt(a + 1.0)
            at += 1


@entry
def log_posterior(coordinates: Floats, choices: Choices, gradient: Floats) -> float:
    """Log density up to a constant at `coordinates`; `gradient` is overwritten."""
    k, people = len(choices.mean), len(choices.first) - 1
    value = 0.0
    for at in range(len(coordinates)):
        value -= 0.5 * coordinates[at] * coordinates[at]
        gradient[at] = -coordinates[at]
    own, beta, slope = np.zeros(k), np.zeros(k), np.zeros(k)
    u, factor = np.zeros(choices.x.shape[1]), np.zeros((k, k))
    mixed = len(choices.spread) > 0
    start = k + k * (k + 1) // 2
    if mixed:
        fill_spread(coordinates, choices, factor)
    for a in range(k):
        own[a] = choices.mean[a] + choices.sd[a] * coordinates[a]
    for h in range(people):
        z = start + h * k
        for a in range(k):
            s = own[a]
            if mixed:
                for b in range(a + 1):
                    s += factor[a, b] * coordinates[z + b]
            beta[a] = s
            slope[a] = 0.0
        value += add_chooser(choices, h, beta, slope, u)
        at = k
        for a in range(k):
            gradient[a] += slope[a] * choices.sd[a]
            if mixed:
                for b in range(a + 1):
                    gradient[at] += slope[a] * coordinates[z + b] * choices.spread[a] / math.sqrt(a + 1.0)
                    gradient[z + b] += slope[a] * factor[a, b]
                    at += 1
    return value


@entry
def run_chain(rng: np.random.Generator, chain: Chain, choices: Choices) -> None:
    """Run a chain on this density."""
    more = True
    while more:
        chain.value[0] = log_posterior(chain.x, choices, chain.gradient)
        more = advance(rng, chain)
