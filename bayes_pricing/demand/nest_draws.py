"""From unconstrained draws to draws of every coefficient of a nesting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry
from bayes_pricing.demand.nest_density import (
    Factors,
    Nest,
    Scales,
    States,
    fill_nest,
    new_factors,
    new_states,
    shared_place,
    weigh_items,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestDraws:
    """Draws of a nesting.

    Attributes
    ----------
    nodes : float32 array (chain, draw, node, k + o)
        Items in the order of the data, then the units of every level, the population last; the last `o` coefficients,
        tied ones, are zero but for items.
    sd : array (chain, draw, level, k)
        Items' first.
    correlation : array (chain, draw, level, pair)
    tied : array (chain, draw) or None
        Sd of the tied coefficients.
    shared : array (chain, draw, m)
    effects : array (chain, draw, 2 a)
        Of the attributes, on levels, then on elasticities.
    """

    nodes: NDArray[np.float32]
    sd: Floats
    correlation: Floats
    tied: Floats | None
    shared: Floats
    effects: Floats


def draw_nest(x: Floats, nest: Nest, scales: Scales, log_weight: Floats | None = None) -> NestDraws:
    """Coefficients, sds and correlations for draws (chain, draw, coordinate).

    `log_weight` (chain, draw, item), items in the order of the nest, says how their sales were weighed in the
    coordinates of each draw; left out where they were not.
    """
    shape, (levels, k) = x.shape[:2], scales.between_sd.shape
    flat = x.reshape(-1, x.shape[2])
    pairs = k * (k - 1) // 2
    nodes = np.zeros((len(flat), len(nest.parent), k + scales.tied), dtype=np.float32)
    sds, correlations = np.zeros((len(flat), levels, k)), np.zeros((len(flat), levels, pairs))
    weights = np.zeros((len(flat), 0)) if log_weight is None else log_weight.reshape(len(flat), -1)
    _expand(flat, weights, nest, scales, new_factors(scales), new_states(nest), nodes, sds, correlations)
    first = shared_place(scales)
    end = first + len(scales.shared_sd)
    effects = end - 2 * len(nest.attributes)
    return NestDraws(
        nodes=nodes.reshape(*shape, *nodes.shape[1:]),
        sd=sds.reshape(*shape, levels, k),
        correlation=correlations.reshape(*shape, levels, pairs),
        tied=np.abs(scales.tied_sd * x[:, :, first - 1]) if scales.tied else None,
        shared=x[:, :, first:effects],
        effects=x[:, :, effects:end],
    )


@entry
def _expand(
    xs: Floats,
    log_weight: Floats,
    nest: Nest,
    scales: Scales,
    factors: Factors,
    states: States,
    nodes: NDArray[np.float32],
    sds: Floats,
    correlations: Floats,
) -> None:
    levels, k = scales.between_sd.shape
    for draw in range(len(xs)):
        weigh_items(nest, states, log_weight[draw])
        fill_nest(xs[draw], nest, scales, factors, states)
        for node in range(nodes.shape[1]):
            place = nest.order[node] if node < len(nest.order) else node
            for j in range(nodes.shape[2]):
                nodes[draw, place, j] = states.b[j, node]
        for level in range(levels):
            pair = 0
            for j in range(k):
                sds[draw, level, j] = abs(factors.sd[level, j])
                for a in range(j):
                    product, sign = 0.0, np.sign(factors.sd[level, j] * factors.sd[level, a])
                    for c in range(k):
                        product += factors.corr[level, j, c] * factors.corr[level, a, c]
                    correlations[draw, level, pair] = product * sign
                    pair += 1
