"""From a rough fit to coordinates in which nested coefficients are nearly independent normals, and a starting point."""

from __future__ import annotations

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import Integers
from bayes_pricing.demand.nest_density import Nest, Scales, level_size, shared_place
from bayes_pricing.demand.nest_start import LEAST_SD, NestedRows, RoughFit, RoughLaw


def slot_order(item: Integers, items: int) -> tuple[Integers, Integers, Integers]:
    """The order in which rows and items stand in memory.

    Items are put in order of falling number of rows, and the first row of every item comes first, then the second of
    every item that has one, and so on: whatever is done by row or by item then runs over neighbours in memory.

    Returns
    -------
    order : int array (items,)
    place : int array (rows,)
        Which row stands at each place.
    slot_start : int array (slots + 1,)

    Examples
    --------
    >>> order, place, start = slot_order(np.array([0, 1, 1]), 2)
    >>> order.tolist(), place.tolist(), start.tolist()
    ([1, 0], [1, 0, 2], [0, 2, 3])
    """
    first = np.searchsorted(item, np.arange(items + 1))
    order = np.argsort(-np.diff(first), kind="stable")
    slots = np.arange(len(item)) - first[item]
    rank = np.empty(items, dtype=np.int64)
    rank[order] = np.arange(items)
    place = np.lexsort((rank[item], slots))
    return order, place, np.concatenate([[0], np.cumsum(np.bincount(slots))]).astype(np.int64)


def build_nest[Law: RoughLaw](rough: RoughFit[Law], order: Integers) -> Nest:
    """Nodes with the items in this order, and the constants of their coordinates."""
    nodes = rough.nodes
    moved = np.concatenate([order, np.arange(len(order), len(nodes.parent))])
    rotation, information, pull = (array[moved] for array in _coordinates(rough))
    return Nest(
        level_start=nodes.level_start,
        parent=nodes.parent[moved],
        order=order,
        root_mean=np.ascontiguousarray(rough.prior.root_mean[: rough.prior.layout.k]),
        attributes=np.ascontiguousarray(rough.attributes[order].T),
        rotation=np.ascontiguousarray(rotation.transpose(1, 2, 0)),
        information=np.ascontiguousarray(information.T),
        pull=np.ascontiguousarray(pull.T),
    )


def build_scales(rows: NestedRows, overdispersion: float) -> Scales:
    """Scales of the priors as the compiled density reads them; `overdispersion` is 0 where there is none.

    Effects of attributes stand after those of the shared controls.
    """
    prior, layout = rows.prior, rows.prior.layout
    return Scales(
        between_sd=np.ascontiguousarray(prior.between_sd[:, : layout.own]),
        root_sd=np.ascontiguousarray(prior.root_sd[: layout.own]),
        tied_sd=float(prior.between_sd[0, layout.own]) if layout.tied else 0.0,
        tied=layout.tied,
        shared_sd=np.ascontiguousarray(prior.root_sd[layout.k :]),
        concentration=float(prior.concentration),
        overdispersion=overdispersion,
        correlated=prior.layout.correlated,
    )


def start_nest[Law: RoughLaw](rough: RoughFit[Law], scales: Scales, size: int, rng: np.random.Generator) -> Floats:
    """A starting point of `size` coordinates near the rough fit, dispersed so that chains start apart.

    Variance components and shared effects are set; all other coordinates are standard normal.
    """
    levels, k = scales.between_sd.shape
    width = level_size(scales)
    x: Floats = rng.normal(size=size)
    blocks = x[: levels * width].reshape(levels, width)
    blocks *= 0.2
    sds = np.sqrt(np.einsum("ljj->lj", rough.covariance))
    blocks[:, :k] = np.exp(blocks[:, :k]) * sds[:, :k] / scales.between_sd
    at = shared_place(scales)
    if scales.tied:
        x[at - 1] = np.exp(0.2 * x[at - 1]) * sds[0, k] / scales.tied_sd
    middle, sd = (
        np.concatenate([own, effects.ravel()])
        for own, effects in ((rough.shared, rough.effects), (rough.shared_sd, rough.effects_sd))
    )
    x[at : at + len(middle)] = middle + sd * x[at : at + len(middle)]
    return x


def _coordinates[Law: RoughLaw](rough: RoughFit[Law]) -> tuple[Floats, Floats, Floats]:
    r"""What the sales below a node say of each coefficient given those before it, those after it integrated out.

    .. math:: h'b - \tfrac12 b'Qb = h_j t_j - \tfrac12 D_j t_j^2 + \dots, \quad
              t_j = b_j + \sum_{l<j} R_{jl} b_l, \quad D_j = Q_{jj}, \quad R_{jl} = Q_{jl} / Q_{jj}

    from the last coefficient to the first, each integrated out under its prior given those before it, with the rough
    fit's covariances and parents.
    """
    left, pull = rough.curvature.copy(), rough.score.copy()
    nodes, k = pull.shape
    rotation, information, own = np.zeros_like(left), np.zeros_like(pull), rough.prior.layout.own
    scale = np.einsum("njj->nj", rough.curvature)
    spread, slopes, means = _reference_priors(rough)
    for j in range(k - 1, -1, -1):
        known = left[:, j, j] > 1e-9 * scale[:, j]
        information[known, j] = left[known, j, j]
        rotation[known, j, :j] = left[known, j, :j] / left[known, j, j, None]
        own_pull = np.where(known, pull[:, j], 0.0)
        contrast = np.column_stack([-slopes[:, j, :j], np.ones(nodes)])
        precision = spread[:, j] ** -2.0
        left[:, : j + 1, : j + 1] += precision[:, None, None] * contrast[:, :, None] * contrast[:, None, :]
        pull[:, : j + 1] += (precision * means[:, j])[:, None] * contrast
        ratio = left[:, j, :j] / left[:, j, j, None]
        left[:, :j, :j] -= ratio[:, :, None] * left[:, j, None, :j]
        pull[:, :j] -= ratio * pull[:, j, None]
        pull[:, j] = own_pull
    above = slice(rough.nodes.level_start[1], None)  # where tied coefficients are zero
    rotation[above, own:], information[above, own:], pull[above, own:] = 0.0, 0.0, 0.0
    return rotation, information, pull


def _reference_priors[Law: RoughLaw](rough: RoughFit[Law]) -> tuple[Floats, Floats, Floats]:
    r"""Prior of each coefficient given those before it, :math:`N(c_j + \sum_{l<j} \beta_{jl} b_l, s_j^2)`, by node.

    Returns ``s`` (nodes, k), ``beta`` (nodes, k, k) and ``c`` (nodes, k).
    """
    nodes, k = rough.score.shape
    spread, slopes, means = np.zeros((nodes, k)), np.zeros((nodes, k, k)), np.zeros((nodes, k))
    factors = [*np.linalg.cholesky(rough.covariance), np.diag(np.maximum(rough.prior.root_sd[:k], LEAST_SD))]
    parents = np.vstack([rough.coefficients, rough.prior.root_mean[:k]])
    for level, factor in enumerate(factors):
        own = slice(rough.nodes.level_start[level], rough.nodes.level_start[level + 1])
        mean = parents[rough.nodes.parent[own]] + (rough.offset if level == 0 else 0.0)
        spread[own] = np.diag(factor)
        for j in range(k):
            slope = np.linalg.solve(factor[:j, :j].T, factor[j, :j])
            slopes[own, j, :j] = slope
            means[own, j] = mean[:, j] - mean[:, :j] @ slope
    return spread, slopes, means
