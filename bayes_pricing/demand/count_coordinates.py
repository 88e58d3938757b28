"""The arrays the compiled density of counts reads: coordinates from a rough fit, cells laid out for vector loops."""

from __future__ import annotations

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import CountData
from bayes_pricing.demand.count_density import Counts, Nest, Scales, hyper_size
from bayes_pricing.demand.count_likelihood import Cells
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE, RoughFit, fit_roughly


def build_counts(data: CountData) -> tuple[Counts, RoughFit]:
    """What the compiled density reads, with coordinates from a rough fit.

    Items are put in order of falling number of cells, and the first cell of every item comes first, then the second of
    every item that has one, and so on: whatever is done by cell or by item then runs over neighbours in memory.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.demand.count_data import build_count_data
    >>> from bayes_pricing.demand.spec import DemandSpec
    >>> frame = pl.DataFrame({"item": ["a", "b", "b"], "price": [1.0, 2.0, 3.0], "quantity": [7, 5, 4]})
    >>> counts, _ = build_counts(build_count_data(frame, DemandSpec(likelihood="poisson", levels=())))
    >>> counts.nest.order.tolist(), counts.cells.slot_start.tolist(), counts.cells.total.tolist()
    ([1, 0], [0, 2, 3], [5.0, 7.0, 4.0])
    """
    rough = fit_roughly(data)
    prior, nodes, k, items = rough.prior, rough.nodes, len(data.spec.coefficients), len(data.items)
    cells_of = np.diff(data.start)
    order = np.argsort(-cells_of, kind="stable")
    slots = np.arange(len(data.item)) - data.start[data.item]
    rank = np.empty(items, dtype=np.int64)
    rank[order] = np.arange(items)
    place = np.lexsort((rank[data.item], slots))
    moved = np.concatenate([order, np.arange(items, len(nodes.parent))])
    rotation, information, pull = (array[moved] for array in _coordinates(rough))
    nest = Nest(
        level_start=nodes.level_start,
        parent=nodes.parent[moved],
        order=order,
        root_mean=np.ascontiguousarray(prior.root_mean[:k]),
        rotation=np.ascontiguousarray(rotation.transpose(1, 2, 0)),
        information=np.ascontiguousarray(information.T),
        pull=np.ascontiguousarray(pull.T),
    )
    cells = Cells(
        slot_start=np.concatenate([[0], np.cumsum(np.bincount(slots))]).astype(np.int64),
        predictors=np.ascontiguousarray(data.predictors[place, :k].T),
        shared=np.ascontiguousarray(data.predictors[place, k:].T),
        total=data.total[place],
        rows=data.rows[place],
        exposure=data.exposure[place],
        counts=data.counts,
        count_rows=data.count_rows,
    )
    scales = Scales(
        between_sd=np.ascontiguousarray(prior.between_sd),
        root_sd=np.ascontiguousarray(prior.root_sd[:k]),
        shared_sd=np.ascontiguousarray(prior.root_sd[k:]),
        concentration=float(prior.concentration),
        overdispersion=OVERDISPERSION_SCALE if data.spec.likelihood == "negative_binomial" else 0.0,
    )
    return Counts(nest=nest, cells=cells, scales=scales), rough


def _coordinates(rough: RoughFit) -> tuple[Floats, Floats, Floats]:
    r"""What the sales below a node say of each coefficient given those before it, those after it integrated out.

    .. math:: h'b - \tfrac12 b'Qb = h_j t_j - \tfrac12 D_j t_j^2 + \dots, \quad
              t_j = b_j + \sum_{l<j} R_{jl} b_l, \quad D_j = Q_{jj}, \quad R_{jl} = Q_{jl} / Q_{jj}

    from the last coefficient to the first, each integrated out under its prior given those before it, with the rough
    fit's covariances and parents.
    """
    left, pull = rough.curvature.copy(), rough.score.copy()
    nodes, k = pull.shape
    rotation, information = np.zeros_like(left), np.zeros_like(pull)
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
    return rotation, information, pull


def _reference_priors(rough: RoughFit) -> tuple[Floats, Floats, Floats]:
    r"""Prior of each coefficient given those before it, :math:`N(c_j + \sum_{l<j} \beta_{jl} b_l, s_j^2)`, by node.

    Returns ``s`` (nodes, k), ``beta`` (nodes, k, k) and ``c`` (nodes, k).
    """
    nodes, k = rough.score.shape
    spread, slopes, means = np.zeros((nodes, k)), np.zeros((nodes, k, k)), np.zeros((nodes, k))
    factors = [*np.linalg.cholesky(rough.covariance), np.diag(rough.prior.root_sd[:k])]
    parents = np.vstack([rough.coefficients, rough.prior.root_mean[:k]])
    for level, factor in enumerate(factors):
        own = slice(rough.nodes.level_start[level], rough.nodes.level_start[level + 1])
        mean = parents[rough.nodes.parent[own]]
        spread[own] = np.diag(factor)
        for j in range(k):
            slope = np.linalg.solve(factor[:j, :j].T, factor[j, :j])
            slopes[own, j, :j] = slope
            means[own, j] = mean[:, j] - mean[:, :j] @ slope
    return spread, slopes, means


def start_point(counts: Counts, rough: RoughFit, rng: np.random.Generator) -> Floats:
    """A starting point near the rough fit, dispersed so that chains start apart."""
    levels, k = counts.scales.between_sd.shape
    nodes, m, pairs = len(counts.nest.parent), len(counts.scales.shared_sd), k * (k - 1) // 2
    x: Floats = rng.normal(size=hyper_size(counts) + nodes * k)
    blocks = x[: levels * (k + pairs)].reshape(levels, k + pairs)
    sd = np.sqrt(np.einsum("ljj->lj", rough.covariance))
    blocks *= 0.2
    blocks[:, :k] += np.log(sd)
    at = levels * (k + pairs)
    x[at : at + m] = rough.shared + rough.shared_sd * x[at : at + m]
    if counts.scales.overdispersion > 0:
        x[at + m] = -0.5 * np.log(rough.dispersion) + 0.1 * x[at + m]
    return x
