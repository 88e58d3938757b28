"""A rough first fit (Laplace and EM) of nested coefficients: where a sampler starts and how it moves, no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import Integers, sum_by_item
from bayes_pricing.demand.gaussian_tree import TreeData
from bayes_pricing.demand.tree_prior import TreePrior, attribute_values

ROUNDS = 25
LARGEST_STEP = 1.0
LEAST_SD = 1e-6
"""In place of zero, which tied coefficients have above the items: matrices keep their inverses."""


class RoughLaw(Protocol):
    """What sales are given the log rate of every row, up to a quadratic approximation."""

    def refitted(self, log_rate: Floats) -> Self:
        """The same law with its own parameters estimated at these log rates (rows,)."""
        ...

    def slopes(self, log_rate: Floats) -> tuple[Floats, Floats]:
        """Slope of every row's log likelihood in its log rate, and its information: arrays (rows,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NestedRows:
    """Rows (or cells) and the nesting of their items.

    Attributes
    ----------
    tree : TreeData
    prior : TreePrior
    item : int array (rows,)
        Position of each row's item, ascending, none missing.
    predictors : array (rows, k + m)
        Item-level ones, then the shared ones.
    attributes : array (items, a)
        What moves the items' levels and elasticities away from their parents'.
    """

    tree: TreeData
    prior: TreePrior
    item: Integers
    predictors: Floats
    attributes: Floats

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.tree.gram.items)

    @property
    def own(self) -> int:
        """Number of coefficients that every item has."""
        return int(self.prior.between_sd.shape[1])


def nest_rows(tree: TreeData, prior: TreePrior, item: Integers, predictors: Floats) -> NestedRows:
    """Rows of a nesting, the columns of attributes taken off the predictors: what they say is the items' own."""
    attributes = attribute_values(tree)
    kept = predictors.shape[1] - 2 * attributes.shape[1]
    return NestedRows(tree=tree, prior=prior, item=item, predictors=predictors[:, :kept], attributes=attributes)


class Nodes(NamedTuple):
    """Items first (as in the data), then the units of every level, the population last."""

    level_start: Integers  # (levels + 2,): first node of the items, of each nesting level, the population, and the end
    parent: Integers  # (nodes,); that of the population is one past the last node


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoughFit[Law: RoughLaw]:
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
    attributes : array (items, a)
    effects, effects_sd : arrays (2, a)
        Of the attributes, on levels and on elasticities, and their conditional posterior sd.
    law : RoughLaw
        With its parameters at their estimates.
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
    attributes: Floats
    effects: Floats
    effects_sd: Floats
    law: Law
    curvature: Floats
    score: Floats

    @property
    def offset(self) -> Floats:
        """What attributes add to the coefficients of the items, (items, k)."""
        return _offsets(self.attributes, self.effects, self.score.shape[1])


def build_nodes(tree: TreeData) -> Nodes:
    """Number the nodes of the nesting."""
    sizes = [len(tree.gram.items), *(len(names) for names in tree.units), 1]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    parents = [start[at + 1] + member for at, member in enumerate(tree.membership)]
    return Nodes(level_start=start, parent=np.concatenate([*parents, start[-1:]]).astype(np.int64))


def fit_roughly[Law: RoughLaw](rows: NestedRows, law: Law) -> RoughFit[Law]:
    """Alternate Newton steps for coefficients, Gaussian passes up and down the levels and EM steps for covariances."""
    prior, nodes, k, items = rows.prior, build_nodes(rows.tree), rows.own, rows.items
    count = len(nodes.parent)
    least = np.array([np.diag(np.maximum(0.5 * scale, LEAST_SD) ** 2) for scale in prior.between_sd])
    covariance = least.copy()
    b = np.tile(prior.root_mean[:k], (count, 1))
    shared, shared_sd = np.zeros(rows.predictors.shape[1] - k), prior.root_sd[k : rows.predictors.shape[1]]
    effects = effects_sd = np.zeros((2, rows.attributes.shape[1]))
    curvature, score = np.zeros((count, k, k)), np.zeros((count, k))
    for _ in range(ROUNDS):
        law = law.refitted(log_rates(rows, b, shared))
        shared, shared_sd = _shared_step(rows, law, b, shared)
        curvature[:items], score[:items] = item_information(rows, law, b, shared)
        offset = np.zeros_like(b)
        offset[:items] = _offsets(rows.attributes, effects, k)
        _pass_up(nodes, covariance, curvature, score, offset)
        b, spread = _pass_down(nodes, covariance, curvature, score, b, prior, offset)
        effects, effects_sd = _attribute_step(rows, b[:items] - b[nodes.parent[:items]], covariance[0])
        for level in range(len(covariance)):
            own = slice(nodes.level_start[level], nodes.level_start[level + 1])
            deviation = b[own] - b[nodes.parent[own]] - offset[own]
            moment = deviation.T @ deviation + spread[own].sum(axis=0) + least[level]
            covariance[level] = _tied(moment / (deviation.shape[0] + 1.0), prior.layout.own)
    return RoughFit(
        prior=prior,
        nodes=nodes,
        coefficients=b,
        covariance=covariance,
        shared=shared,
        shared_sd=shared_sd,
        attributes=rows.attributes,
        effects=effects,
        effects_sd=effects_sd,
        law=law,
        curvature=curvature,
        score=score,
    )


def log_rates(rows: NestedRows, b: Floats, shared: Floats) -> Floats:
    """Log rate of every row from coefficients of the items (and nodes above, which are not looked at)."""
    k = b.shape[1]
    rate: Floats = (rows.predictors[:, :k] * b[rows.item]).sum(axis=1) + rows.predictors[:, k:] @ shared
    return rate


def item_information(
    rows: NestedRows, law: RoughLaw, b: Floats, shared: Floats, counted: Floats | None = None
) -> tuple[Floats, Floats]:
    """Quadratic approximation of every item's log likelihood at `b`: curvature (items, k, k) and score (items, k).

    `counted` (rows,) says how much every row counts; left out, each counts once.
    """
    residual, weight = law.slopes(log_rates(rows, b, shared))
    if counted is not None:
        residual, weight = residual * counted, weight * counted
    x, items = rows.predictors[:, : b.shape[1]], rows.items
    curvature = sum_by_item(rows.item, x[:, :, None] * x[:, None, :] * weight[:, None, None], items)
    gradient = sum_by_item(rows.item, x * residual[:, None], items)
    return curvature, gradient + (curvature @ b[:items, :, None])[:, :, 0]


def _shared_step(rows: NestedRows, law: RoughLaw, b: Floats, shared: Floats) -> tuple[Floats, Floats]:
    """One Newton step of the shared effects with the items held, and their conditional sd."""
    prior_sd = rows.prior.root_sd[b.shape[1] : rows.predictors.shape[1]]
    if not len(shared):
        return shared, prior_sd
    residual, weight = law.slopes(log_rates(rows, b, shared))
    z, precision = rows.predictors[:, b.shape[1] :], np.diag(prior_sd**-2.0)
    information = (z * weight[:, None]).T @ z + precision
    step = np.linalg.solve(information, z.T @ residual - precision @ shared)
    limit = LARGEST_STEP * np.minimum(prior_sd, 1.0)
    return shared + np.clip(step, -limit, limit), np.diag(information) ** -0.5


def _tied(covariance: Floats, own: int) -> Floats:
    """A covariance in which all coefficients from `own` on are independent and have one variance."""
    found = covariance.copy()
    found[own:, :], found[:, own:] = 0.0, 0.0
    tied = np.arange(own, len(found))
    found[tied, tied] = np.diag(covariance)[own:].mean() if len(tied) else 0.0
    return found


def _offsets(attributes: Floats, effects: Floats, k: int) -> Floats:
    """What attributes add to the coefficients of the items, (items, k): only to level and elasticity."""
    found = np.zeros((len(attributes), k))
    found[:, :2] = attributes @ effects.T
    return found


def _attribute_step(rows: NestedRows, deviation: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Effects of the attributes from how far items lie from their parents, and their conditional sd."""
    a, sd = rows.attributes, rows.prior.root_sd[rows.predictors.shape[1] :]
    precision = np.linalg.inv(covariance[:2, :2])
    information = np.kron(precision, a.T @ a) + np.diag(sd**-2.0)
    effects = np.linalg.solve(information, (precision @ deviation[:, :2].T @ a).ravel())
    shape = (2, a.shape[1])
    return effects.reshape(shape), (np.diag(information) ** -0.5).reshape(shape)


def _pass_up(nodes: Nodes, covariance: Floats, curvature: Floats, score: Floats, offset: Floats) -> None:
    """Sum what the children of each node say of it, their own deviations integrated out.

    `offset` (nodes, k) is how far children lie from their parents on average.
    """
    items = nodes.level_start[1]
    curvature[items:], score[items:] = 0.0, 0.0
    for level in range(len(covariance)):
        own = slice(nodes.level_start[level], nodes.level_start[level + 1])
        precision = np.linalg.inv(covariance[level])
        gain = precision @ np.linalg.inv(curvature[own] + precision)
        np.add.at(curvature, nodes.parent[own], precision - gain @ precision)
        above = score[own] - (curvature[own] @ offset[own, :, None])[:, :, 0]
        np.add.at(score, nodes.parent[own], (gain @ above[:, :, None])[:, :, 0])


def _pass_down(
    nodes: Nodes,
    covariance: Floats,
    curvature: Floats,
    score: Floats,
    current: Floats,
    prior: TreePrior,
    offset: Floats,
) -> tuple[Floats, Floats]:
    """New coefficients given their parents' and the covariance of each given its parent; steps are bounded."""
    b, spread = current.copy(), np.zeros_like(curvature)
    k = b.shape[1]
    root = np.diag(np.maximum(prior.root_sd[:k], LEAST_SD) ** -2.0)
    b[-1] = np.linalg.solve(curvature[-1] + root, score[-1] + root @ prior.root_mean[:k])
    for level in range(len(covariance) - 1, -1, -1):
        own = slice(nodes.level_start[level], nodes.level_start[level + 1])
        precision = np.linalg.inv(covariance[level])
        spread[own] = np.linalg.inv(curvature[own] + precision)
        target = (spread[own] @ (score[own] + (b[nodes.parent[own]] + offset[own]) @ precision)[:, :, None])[:, :, 0]
        b[own] = current[own] + np.clip(target - current[own], -LARGEST_STEP, LARGEST_STEP)
    return b, spread
