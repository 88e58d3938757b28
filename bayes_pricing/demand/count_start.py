"""A rough first fit of counts (Laplace and EM): where the sampler starts and the coordinates it moves in, no more."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import CountData, count_log_likelihood, sum_by_item
from bayes_pricing.demand.count_density import Counts, hyper_size
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior

ROUNDS = 25
LARGEST_STEP = 1.0
OVERDISPERSION_SCALE = 1.0
"""Half-normal scale of 1 / sqrt(dispersion), the sd of the extra variation of sales relative to their mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoughFit:
    """Where a rough fit ended.

    Attributes
    ----------
    coefficients : array (nodes, k)
        Items, units of every level, population.
    covariance : array (levels, k, k)
        Between units of one parent.
    shared : array (m,)
    dispersion : float
        Infinite for Poisson.
    curvature : array (nodes, k, k)
        Information of the sales below a node about its coefficients.
    score : array (nodes, k)
        So that the log likelihood below a node is about ``score @ b - b @ curvature @ b / 2``.
    """

    coefficients: Floats
    covariance: Floats
    shared: Floats
    dispersion: float
    curvature: Floats
    score: Floats


def build_counts(data: CountData) -> tuple[Counts, RoughFit]:
    """What the compiled density reads, with coordinates from a rough fit.

    Returns
    -------
    (Counts, RoughFit)
    """
    counts = _without_coordinates(data, count_prior(data))
    rough = fit_roughly(data, counts)
    rotation, information, pull = _coordinates(counts, rough)
    return counts._replace(rotation=rotation, information=information, pull=pull), rough


def count_prior(data: CountData) -> TreePrior:
    """Priors of :func:`build_tree_prior`, the population's level centred at the data's own mean log rate.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.demand.count_data import build_count_data
    >>> from bayes_pricing.demand.spec import DemandSpec
    >>> frame = pl.DataFrame({"item": ["a", "b"], "price": [1.0, 2.0], "quantity": [3, 5]})
    >>> prior = count_prior(build_count_data(frame, DemandSpec(likelihood="poisson", levels=())))
    >>> round(float(np.exp(prior.root_mean[0])), 6)
    4.0
    """
    prior = build_tree_prior(data.tree, data.spec.priors)
    exposure = data.exposure if data.spec.likelihood == "poisson" else data.exposure * data.rows
    mean = prior.root_mean.copy()
    mean[0] = np.log(max(float(data.total.sum()), 0.5) / float(exposure.sum()))
    return replace(prior, root_mean=mean)


def _without_coordinates(data: CountData, prior: TreePrior) -> Counts:
    """The kernel's arrays, coordinates left at zero (all non-centred)."""
    k = len(data.spec.coefficients)
    sizes = [len(data.items), *(len(names) for names in data.tree.units)]
    start = np.concatenate([[0], np.cumsum([*sizes, 1])]).astype(np.int64)
    nodes = int(start[-1])
    parents = [start[at + 1] + member for at, member in enumerate(data.tree.membership)]
    return Counts(
        level_start=start,
        parent=np.concatenate([*parents, [nodes]]).astype(np.int64),
        start=data.start,
        item=data.item,
        predictors=np.ascontiguousarray(data.predictors[:, :k].T),
        shared=np.ascontiguousarray(data.predictors[:, k:].T),
        total=data.total,
        rows=data.rows,
        exposure=data.exposure,
        counts=data.counts,
        count_rows=data.count_rows,
        between_sd=np.ascontiguousarray(prior.between_sd),
        root_mean=np.ascontiguousarray(prior.root_mean[:k]),
        root_sd=np.ascontiguousarray(prior.root_sd[:k]),
        shared_sd=np.ascontiguousarray(prior.root_sd[k:]),
        concentration=float(prior.concentration),
        overdispersion_scale=OVERDISPERSION_SCALE if data.spec.likelihood == "negative_binomial" else 0.0,
        rotation=np.zeros((nodes, k, k)),
        information=np.zeros((nodes, k)),
        pull=np.zeros((nodes, k)),
    )


def fit_roughly(data: CountData, counts: Counts) -> RoughFit:
    """Alternate Newton steps for coefficients, Gaussian passes up and down the levels and EM steps for covariances."""
    levels, k = counts.between_sd.shape
    nodes = len(counts.parent)
    covariance = np.array([np.diag(0.25 * scale**2) for scale in counts.between_sd])
    b = np.tile(counts.root_mean, (nodes, 1))
    shared, dispersion = np.zeros(len(counts.shared_sd)), np.inf
    curvature, score = np.zeros((nodes, k, k)), np.zeros((nodes, k))
    for _ in range(ROUNDS):
        if counts.overdispersion_scale > 0:
            dispersion = _dispersion(data, _log_rate(data, counts, b, shared))
        shared = _shared_step(data, counts, b, shared, dispersion)
        items = len(data.items)
        curvature[:items], score[:items] = item_information(data, counts, b, shared, dispersion)
        _pass_up(counts, covariance, curvature, score)
        b, spread = _pass_down(counts, covariance, curvature, score, b)
        for level in range(levels):
            own = slice(counts.level_start[level], counts.level_start[level + 1])
            deviation = b[own] - b[counts.parent[own]]
            moment = deviation.T @ deviation + spread[own].sum(axis=0) + np.diag(0.25 * counts.between_sd[level] ** 2)
            covariance[level] = moment / (deviation.shape[0] + 1.0)
    return RoughFit(
        coefficients=b, covariance=covariance, shared=shared, dispersion=dispersion, curvature=curvature, score=score
    )


def _log_rate(data: CountData, counts: Counts, b: Floats, shared: Floats) -> Floats:
    rate: Floats = (counts.predictors * b[data.item].T).sum(axis=0) + shared @ counts.shared
    return rate


def _mean_and_weight(counts: Counts, log_rate: Floats, dispersion: float) -> tuple[Floats, Floats]:
    """Residual and expected information of each cell with respect to its log rate."""
    mean = counts.exposure * np.exp(log_rate)
    if not np.isfinite(dispersion):
        return counts.total - mean, mean
    damping = dispersion / (dispersion + mean)
    return (counts.total - counts.rows * mean) * damping, counts.rows * mean * damping


def item_information(
    data: CountData, counts: Counts, b: Floats, shared: Floats, dispersion: float
) -> tuple[Floats, Floats]:
    """Quadratic approximation of every item's log likelihood at `b`: curvature (items, k, k) and score (items, k)."""
    residual, weight = _mean_and_weight(counts, _log_rate(data, counts, b, shared), dispersion)
    x, items = counts.predictors.T, len(data.items)
    curvature = sum_by_item(data.item, x[:, :, None] * x[:, None, :] * weight[:, None, None], items)
    gradient = sum_by_item(data.item, x * residual[:, None], items)
    return curvature, gradient + (curvature @ b[:items, :, None])[:, :, 0]


def _shared_step(data: CountData, counts: Counts, b: Floats, shared: Floats, dispersion: float) -> Floats:
    """One Newton step of the shared effects, items held."""
    if not len(shared):
        return shared
    residual, weight = _mean_and_weight(counts, _log_rate(data, counts, b, shared), dispersion)
    precision = np.diag(counts.shared_sd**-2.0)
    information = (counts.shared * weight) @ counts.shared.T + precision
    step = np.linalg.solve(information, counts.shared @ residual - precision @ shared)
    limit = LARGEST_STEP * np.minimum(counts.shared_sd, 1.0)
    return shared + np.clip(step, -limit, limit)


def _dispersion(data: CountData, log_rate: Floats) -> float:
    """Dispersion of the largest posterior density, rates held."""

    def loss(log_overdispersion: float) -> float:
        penalty = 0.5 * math.exp(2.0 * log_overdispersion) / OVERDISPERSION_SCALE**2
        return penalty - count_log_likelihood(data, log_rate, math.exp(-2.0 * log_overdispersion))

    return float(np.exp(-2.0 * minimize_scalar(loss, bounds=(-4.0, 2.0), method="bounded").x))


def _pass_up(counts: Counts, covariance: Floats, curvature: Floats, score: Floats) -> None:
    """Sum what the children of each node say of it, their own deviations integrated out."""
    items = counts.level_start[1]
    curvature[items:], score[items:] = 0.0, 0.0
    for level in range(len(covariance)):
        own = slice(counts.level_start[level], counts.level_start[level + 1])
        precision = np.linalg.inv(covariance[level])
        gain = precision @ np.linalg.inv(curvature[own] + precision)
        np.add.at(curvature, counts.parent[own], precision - gain @ precision)
        np.add.at(score, counts.parent[own], (gain @ score[own, :, None])[:, :, 0])


def _pass_down(
    counts: Counts, covariance: Floats, curvature: Floats, score: Floats, current: Floats
) -> tuple[Floats, Floats]:
    """New coefficients given their parents' and the covariance of each given its parent; steps are bounded."""
    b, spread = current.copy(), np.zeros_like(curvature)
    root = np.diag(counts.root_sd**-2.0)
    b[-1] = np.linalg.solve(curvature[-1] + root, score[-1] + root @ counts.root_mean)
    for level in range(len(covariance) - 1, -1, -1):
        own = slice(counts.level_start[level], counts.level_start[level + 1])
        precision = np.linalg.inv(covariance[level])
        spread[own] = np.linalg.inv(curvature[own] + precision)
        target = (spread[own] @ (score[own] + b[counts.parent[own]] @ precision)[:, :, None])[:, :, 0]
        b[own] = current[own] + np.clip(target - current[own], -LARGEST_STEP, LARGEST_STEP)
    return b, spread


def _coordinates(counts: Counts, rough: RoughFit) -> tuple[Floats, Floats, Floats]:
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
    spread, slopes, means = _reference_priors(counts, rough)
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


def _reference_priors(counts: Counts, rough: RoughFit) -> tuple[Floats, Floats, Floats]:
    r"""Prior of each coefficient given those before it, :math:`N(c_j + \sum_{l<j} \beta_{jl} b_l, s_j^2)`, by node.

    Returns ``s`` (nodes, k), ``beta`` (nodes, k, k) and ``c`` (nodes, k).
    """
    nodes, k = rough.score.shape
    spread, slopes, means = np.zeros((nodes, k)), np.zeros((nodes, k, k)), np.zeros((nodes, k))
    factors = [*np.linalg.cholesky(rough.covariance), np.diag(counts.root_sd)]
    parents = np.vstack([rough.coefficients, counts.root_mean])
    for level, factor in enumerate(factors):
        own = slice(counts.level_start[level], counts.level_start[level + 1])
        mean = parents[counts.parent[own]]
        spread[own] = np.diag(factor)
        for j in range(k):
            slope = np.linalg.solve(factor[:j, :j].T, factor[j, :j])
            slopes[own, j, :j] = slope
            means[own, j] = mean[:, j] - mean[:, :j] @ slope
    return spread, slopes, means


def start_point(counts: Counts, rough: RoughFit, rng: np.random.Generator) -> Floats:
    """A starting point near the rough fit, dispersed so that chains start apart."""
    levels, k = counts.between_sd.shape
    nodes, m, pairs = len(counts.parent), len(counts.shared_sd), k * (k - 1) // 2
    x: Floats = rng.normal(size=hyper_size(counts) + nodes * k)
    blocks = x[: levels * (k + pairs)].reshape(levels, k + pairs)
    sd = np.sqrt(np.einsum("ljj->lj", rough.covariance))
    blocks *= 0.2
    blocks[:, :k] += np.log(sd)
    at = levels * (k + pairs)
    if m:
        mean = counts.exposure * np.exp((counts.predictors * rough.coefficients[counts.item].T).sum(axis=0))
        width = (counts.shared**2 @ mean + counts.shared_sd**-2.0) ** -0.5
        x[at : at + m] = rough.shared + width * x[at : at + m]
    if counts.overdispersion_scale > 0:
        x[at + m] = -0.5 * np.log(rough.dispersion) + 0.1 * x[at + m]
    return x
