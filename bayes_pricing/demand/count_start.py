"""A rough first fit of counts (Laplace and EM): it tells the sampler where to start and how to move, no more."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import CountData, Integers, count_log_likelihood, sum_by_item
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior

ROUNDS = 25
LARGEST_STEP = 1.0
OVERDISPERSION_SCALE = 1.0
"""Half-normal scale of 1 / sqrt(dispersion), the sd of the extra variation of sales relative to their mean."""


class Nodes(NamedTuple):
    """Items first (as in the data), then the units of every level, the population last."""

    level_start: Integers  # (levels + 2,): first node of the items, of each nesting level, the population, and the end
    parent: Integers  # (nodes,); that of the population is one past the last node


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoughFit:
    """Where a rough fit ended.

    Attributes
    ----------
    prior : TreePrior
    nodes : Nodes
    coefficients : array (nodes, k)
    covariance : array (levels, k, k)
        Between units of one parent.
    shared, shared_sd : arrays (m,)
        Effects common to all items, and their conditional posterior sd.
    dispersion : float
        Infinite for Poisson.
    curvature : array (nodes, k, k)
        Information of the sales below a node about its coefficients.
    score : array (nodes, k)
        So that the log likelihood below a node is about ``score @ b - b @ curvature @ b / 2``.
    """

    prior: TreePrior
    nodes: Nodes
    coefficients: Floats
    covariance: Floats
    shared: Floats
    shared_sd: Floats
    dispersion: float
    curvature: Floats
    score: Floats


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


def build_nodes(data: CountData) -> Nodes:
    """Number the nodes of the nesting."""
    sizes = [len(data.items), *(len(names) for names in data.tree.units), 1]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    parents = [start[at + 1] + member for at, member in enumerate(data.tree.membership)]
    return Nodes(level_start=start, parent=np.concatenate([*parents, start[-1:]]).astype(np.int64))


def fit_roughly(data: CountData) -> RoughFit:
    """Alternate Newton steps for coefficients, Gaussian passes up and down the levels and EM steps for covariances."""
    prior, nodes, k = count_prior(data), build_nodes(data), len(data.spec.coefficients)
    items, count = len(data.items), len(nodes.parent)
    covariance = np.array([np.diag(0.25 * scale**2) for scale in prior.between_sd])
    b = np.tile(prior.root_mean[:k], (count, 1))
    shared, shared_sd, dispersion = np.zeros(len(prior.root_sd) - k), prior.root_sd[k:], np.inf
    curvature, score = np.zeros((count, k, k)), np.zeros((count, k))
    for _ in range(ROUNDS):
        if data.spec.likelihood == "negative_binomial":
            dispersion = _dispersion(data, _log_rate(data, b, shared))
        shared, shared_sd = _shared_step(data, b, shared, prior.root_sd[k:], dispersion)
        curvature[:items], score[:items] = item_information(data, b, shared, dispersion)
        _pass_up(nodes, covariance, curvature, score)
        b, spread = _pass_down(nodes, covariance, curvature, score, b, prior)
        for level, scale in enumerate(prior.between_sd):
            own = slice(nodes.level_start[level], nodes.level_start[level + 1])
            deviation = b[own] - b[nodes.parent[own]]
            moment = deviation.T @ deviation + spread[own].sum(axis=0) + np.diag(0.25 * scale**2)
            covariance[level] = moment / (deviation.shape[0] + 1.0)
    return RoughFit(
        prior=prior,
        nodes=nodes,
        coefficients=b,
        covariance=covariance,
        shared=shared,
        shared_sd=shared_sd,
        dispersion=dispersion,
        curvature=curvature,
        score=score,
    )


def _log_rate(data: CountData, b: Floats, shared: Floats) -> Floats:
    k = b.shape[1]
    rate: Floats = (data.predictors[:, :k] * b[data.item]).sum(axis=1) + data.predictors[:, k:] @ shared
    return rate


def _residual_and_weight(data: CountData, log_rate: Floats, dispersion: float) -> tuple[Floats, Floats]:
    """Slope of the log likelihood of each cell in its log rate, and its expected information."""
    mean = data.exposure * np.exp(log_rate)
    if not np.isfinite(dispersion):
        return data.total - mean, mean
    damping = dispersion / (dispersion + mean)
    return (data.total - data.rows * mean) * damping, data.rows * mean * damping


def item_information(data: CountData, b: Floats, shared: Floats, dispersion: float) -> tuple[Floats, Floats]:
    """Quadratic approximation of every item's log likelihood at `b`: curvature (items, k, k) and score (items, k)."""
    residual, weight = _residual_and_weight(data, _log_rate(data, b, shared), dispersion)
    x, items = data.predictors[:, : b.shape[1]], len(data.items)
    curvature = sum_by_item(data.item, x[:, :, None] * x[:, None, :] * weight[:, None, None], items)
    gradient = sum_by_item(data.item, x * residual[:, None], items)
    return curvature, gradient + (curvature @ b[:items, :, None])[:, :, 0]


def _shared_step(
    data: CountData, b: Floats, shared: Floats, prior_sd: Floats, dispersion: float
) -> tuple[Floats, Floats]:
    """One Newton step of the shared effects with the items held, and their conditional sd."""
    if not len(shared):
        return shared, prior_sd
    residual, weight = _residual_and_weight(data, _log_rate(data, b, shared), dispersion)
    z, precision = data.predictors[:, b.shape[1] :], np.diag(prior_sd**-2.0)
    information = (z * weight[:, None]).T @ z + precision
    step = np.linalg.solve(information, z.T @ residual - precision @ shared)
    limit = LARGEST_STEP * np.minimum(prior_sd, 1.0)
    return shared + np.clip(step, -limit, limit), np.diag(information) ** -0.5


def _dispersion(data: CountData, log_rate: Floats) -> float:
    """Dispersion of the largest posterior density, rates held."""

    def loss(log_overdispersion: float) -> float:
        penalty = 0.5 * math.exp(2.0 * log_overdispersion) / OVERDISPERSION_SCALE**2
        return penalty - count_log_likelihood(data, log_rate, math.exp(-2.0 * log_overdispersion))

    return float(np.exp(-2.0 * minimize_scalar(loss, bounds=(-4.0, 2.0), method="bounded").x))


def _pass_up(nodes: Nodes, covariance: Floats, curvature: Floats, score: Floats) -> None:
    """Sum what the children of each node say of it, their own deviations integrated out."""
    items = nodes.level_start[1]
    curvature[items:], score[items:] = 0.0, 0.0
    for level in range(len(covariance)):
        own = slice(nodes.level_start[level], nodes.level_start[level + 1])
        precision = np.linalg.inv(covariance[level])
        gain = precision @ np.linalg.inv(curvature[own] + precision)
        np.add.at(curvature, nodes.parent[own], precision - gain @ precision)
        np.add.at(score, nodes.parent[own], (gain @ score[own, :, None])[:, :, 0])


def _pass_down(
    nodes: Nodes, covariance: Floats, curvature: Floats, score: Floats, current: Floats, prior: TreePrior
) -> tuple[Floats, Floats]:
    """New coefficients given their parents' and the covariance of each given its parent; steps are bounded."""
    b, spread = current.copy(), np.zeros_like(curvature)
    k = b.shape[1]
    root = np.diag(prior.root_sd[:k] ** -2.0)
    b[-1] = np.linalg.solve(curvature[-1] + root, score[-1] + root @ prior.root_mean[:k])
    for level in range(len(covariance) - 1, -1, -1):
        own = slice(nodes.level_start[level], nodes.level_start[level + 1])
        precision = np.linalg.inv(covariance[level])
        spread[own] = np.linalg.inv(curvature[own] + precision)
        target = (spread[own] @ (score[own] + b[nodes.parent[own]] @ precision)[:, :, None])[:, :, 0]
        b[own] = current[own] + np.clip(target - current[own], -LARGEST_STEP, LARGEST_STEP)
    return b, spread
