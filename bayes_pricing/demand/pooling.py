r"""What an item's elasticity owes to its own sales, its category and the population, exactly, on every hyper-draw.

Given the variance components and the population, every level of the Gaussian tree is a normal regression. A node with
information :math:`G, h` of the rows below it and covariance :math:`\Sigma` around its parent's :math:`\beta_p` has

.. math:: V = (G + \Sigma^{-1})^{-1}, \qquad E[\beta] = \beta_p + V (h - G \beta_p).

With :math:`S` the information on the elasticity when the node's other coefficients are free (the Schur complement) and
:math:`b` the elasticity that the rows alone would give,

.. math:: E[\varepsilon] = u\, b + (1 - u)\, \varepsilon_p + o, \qquad u = S\, V_{\varepsilon\varepsilon} \in [0, 1],

and what is left, :math:`o`, comes through the other coefficients: were they known, it would be
:math:`(1 - u)\, \Sigma_{\varepsilon o} \Sigma_{oo}^{-1} (\beta_o - \beta_{p,o})`. Repeated up the tree this gives terms
that add up to the conditional mean, whatever the draw.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry
from bayes_pricing.demand.tree_kernels import cholesky_inverse
from bayes_pricing.demand.tree_lanes import Integers
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.errors import SpecError

MOST_DRAWS = 400
FEWEST_DRAWS = 64
ITEM_DRAWS = 12_000
"""Items of a category times hyper-draws that one split may cost; with more items fewer hyper-draws are used."""
OWN_DATA = "own_data"
POPULATION = "population"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ElasticitySplit:
    """An item's conditional mean elasticity in parts, one column per hyper-draw used.

    Attributes
    ----------
    sources : tuple of (str, str)
        What speaks, and its name: ``("own_data", item)``, each nesting level with its unit, then
        ``("population", "population")``.
    weight : array (sources, draws)
        In [0, 1]; the columns add up to 1.
    contribution : array (sources, draws)
        Weight times the elasticity the source speaks for.
    other_coefficients : array (draws,)
        What comes through the item's other coefficients, and those of the groups above it.
    mean : array (draws,)
        Expected elasticity given the hyper-draw, the population's draw and the data: the sum of the parts.
    """

    sources: tuple[tuple[str, str], ...]
    weight: Floats
    contribution: Floats
    other_coefficients: Floats
    mean: Floats


def split_elasticity(posterior: TreePosterior, item: str, most_draws: int = MOST_DRAWS) -> ElasticitySplit:
    """Split the elasticity of one item into what its own sales, each level above it and the population contribute.

    Parameters
    ----------
    posterior : TreePosterior
    item : str
    most_draws : int
        Evenly spaced hyper-draws used at most; fewer (64 or more) where the item's category is large. The parts add
        up on every one of them.

    Returns
    -------
    ElasticitySplit

    Raises
    ------
    SpecError
        If the item is unknown.

    References
    ----------
    Gelman & Pardoe (2006), "Bayesian measures of explained variance and pooling in multilevel models",
    Technometrics 48(2).
    """
    data, k = posterior.data, posterior.kernel.k
    place = bisect_left(data.gram.items, item)
    if place == len(data.gram.items) or data.gram.items[place] != item:
        raise SpecError(f"The model has no item {item!r}; it knows {len(data.gram.items)}.")
    subtree = _subtree(posterior, place)
    total = posterior.item_factor.shape[2]
    affordable = max(ITEM_DRAWS // max(len(subtree.items), 1), FEWEST_DRAWS)
    used = np.unique(np.linspace(0, total - 1, min(total, most_draws, affordable)).astype(np.int64))
    factors = [_level_factor(posterior, level, used) for level in range(1 + len(data.levels))]
    above: list[_Node] = []
    own_noise = _noise_weight(posterior, np.array([place]), used)[0]
    if len(subtree.items):
        gram, information = _messages(posterior, subtree, _noise_weight(posterior, subtree.items, used), factors)
        above = [
            _Node(gram=gram[at], information=information[at], factor=factors[level])
            for level, at in enumerate(subtree.chain, 1)
        ]
    own = _Node(
        gram=own_noise[:, None, None] * posterior.kernel.xtx[place],
        information=own_noise[:, None] * posterior.kernel.xty[place],
        factor=factors[0],
    )
    units = tuple(
        (level, data.units[at][unit]) for at, (level, unit) in enumerate(zip(data.levels, subtree.units, strict=True))
    )
    root = posterior.draws.states.reshape(-1, *posterior.draws.states.shape[2:])[used, -1].astype(np.float64)
    explained = root[:, root.shape[1] - len(data.spec.attributes) :] @ posterior.attributes("item")[place]
    return _combine(
        ((OWN_DATA, item), *units, (POPULATION, POPULATION)), [own, *above], root - posterior.prior.root_mean,
        explained + posterior.prior.root_mean[1], k,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Node:
    """Information of the rows below a node, (draws, p, p) and (draws, p), and the factor of its prior covariance."""

    gram: Floats
    information: Floats
    factor: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Subtree:
    """Everything below the item's topmost group: positions of items, and parents as places among the inner nodes."""

    items: Integers
    parent: Integers  # of items, then of inner nodes but the last; numbered among the inner nodes
    level: Integers  # of items, then of inner nodes
    chain: tuple[int, ...]  # the item's own groups among the inner nodes, inner first
    units: tuple[int, ...]  # the same as positions within their levels


def _subtree(posterior: TreePosterior, place: int) -> _Subtree:
    membership = posterior.data.membership
    units: list[int] = []
    at = place
    for member in membership[:-1]:
        at = int(member[at])
        units.append(at)
    none = np.empty(0, dtype=np.int64)
    if not units:
        return _Subtree(items=none, parent=none, level=none, chain=(), units=())
    below = [np.array([units[-1]], dtype=np.int64)]
    for member in membership[-2::-1]:
        below.append(np.flatnonzero(np.isin(member, below[-1])).astype(np.int64))
    below.reverse()  # items, inner groups, ..., the topmost group
    starts = np.cumsum([0, *(len(part) for part in below[1:])])
    parent = [
        starts[level] + np.searchsorted(below[level + 1], membership[level][below[level]])
        for level in range(len(below) - 1)
    ]
    return _Subtree(
        items=below[0],
        parent=np.concatenate(parent).astype(np.int64),
        level=np.repeat(np.arange(len(below)), [len(part) for part in below]).astype(np.int64),
        chain=tuple(int(starts[at] + np.searchsorted(below[at + 1], unit)) for at, unit in enumerate(units)),
        units=tuple(units),
    )


def _level_factor(posterior: TreePosterior, level: int, used: Integers) -> Floats:
    """Cholesky factors of a level's covariance around its parent, (draws, k, k)."""
    if level == 0:
        return np.ascontiguousarray(np.moveaxis(posterior.item_factor[:, :, used], -1, 0))
    theta = posterior.draws.theta.reshape(-1, posterior.draws.theta.shape[-1])[used]
    return np.ascontiguousarray(posterior.prior.layout.factors(theta)[:, level])


def _noise_weight(posterior: TreePosterior, items: Integers, used: Integers) -> Floats:
    """One over noise variances, (items, draws)."""
    if posterior.draws.item_log_noise is not None:
        by_item = posterior.draws.item_log_noise
        log_noise = by_item.reshape(-1, by_item.shape[-1])[used[:, None], items].astype(np.float64)
    else:
        by_group = posterior.draws.log_noise
        log_noise = by_group.reshape(-1, by_group.shape[-1])[used][:, posterior.data.noise_group[items]]
    return np.ascontiguousarray(np.exp(-2.0 * log_noise).T)


def _messages(posterior: TreePosterior, tree: _Subtree, weight: Floats, factors: list[Floats]) -> tuple[Floats, Floats]:
    """Information that reaches each inner node from the rows below it, (nodes, draws, p, p) and (nodes, draws, p)."""
    inner, (draws, p) = len(tree.level) - len(tree.items), (weight.shape[1], posterior.kernel.xty.shape[1])
    gram, information = np.zeros((inner, draws, p, p)), np.zeros((inner, draws, p))
    xtx, xty = posterior.kernel.xtx[tree.items], posterior.kernel.xty[tree.items]
    send_messages(xtx, xty, weight, tree.parent, tree.level, np.stack(factors), gram, information)
    return gram, information


@entry
def send_messages(
    xtx: Floats,
    xty: Floats,
    weight: Floats,
    parent: Integers,
    level: Integers,
    factor: Floats,
    gram: Floats,
    information: Floats,
) -> None:
    """Integrate every node but the last out and add what it says of its parent: G - T'T and h - T't.

    Parameters
    ----------
    xtx, xty : arrays (items, p, p) and (items, p)
    weight : array (items, draws)
        One over noise variances.
    parent, level : arrays (items + inner - 1,) and (items + inner,)
        Nodes children first; parents are numbered among the inner nodes.
    factor : array (levels, draws, k, k)
        Cholesky factors of the covariance around the parent.
    gram, information : arrays (inner, draws, p, p) and (inner, draws, p)
        Zero on entry.
    """
    items, p = xty.shape
    k = factor.shape[2]
    F, M, C, W = np.zeros((k, p + 1)), np.zeros((k, k)), np.zeros((k, k)), np.zeros((1, k, k))
    G, h, T = np.zeros((p, p)), np.zeros(p), np.zeros((k, p + 1))
    for node in range(parent.shape[0]):
        up, at = parent[node], node - items
        for d in range(weight.shape[1]):
            for a in range(p):
                h[a] = weight[node, d] * xty[node, a] if at < 0 else information[at, d, a]
                for b in range(p):
                    G[a, b] = weight[node, d] * xtx[node, a, b] if at < 0 else gram[at, d, a, b]
            L = factor[level[node], d]
            for a in range(k):
                for b in range(p + 1):
                    s = 0.0
                    for c in range(a, k):
                        s += L[c, a] * (G[c, b] if b < p else h[c])
                    F[a, b] = s
            for a in range(k):
                for b in range(a + 1):
                    s = 1.0 if a == b else 0.0
                    for c in range(b, k):
                        s += F[a, c] * L[c, b]
                    M[a, b] = s
            cholesky_inverse(M, C, W, 0, k)
            for a in range(k):
                for b in range(p + 1):
                    s = 0.0
                    for c in range(a + 1):
                        s += W[0, a, c] * F[c, b]
                    T[a, b] = s
            for a in range(p):
                for b in range(p + 1):
                    s = G[a, b] if b < p else h[a]
                    for c in range(k):
                        s -= T[c, a] * T[c, b]
                    if b < p:
                        gram[up, d, a, b] += s
                    else:
                        information[up, d, a] += s


def _combine(
    sources: tuple[tuple[str, str], ...], nodes: list[_Node], root: Floats, centre: Floats, k: int
) -> ElasticitySplit:
    """From the information at each node to the parts; everything inside is less the root's prior mean.

    `centre` (draws,) is that of the elasticity, and what the item's attributes add: whatever speaks for the elasticity
    speaks for an item with these attributes.
    """
    means = [root[:, :k]]
    solved: list[tuple[Floats, Floats]] = []
    for node in reversed(nodes):
        own, own_weight, mean = _solve(node, means[0], root[:, k:], k)
        solved.insert(0, (own, own_weight))
        means.insert(0, mean)
    left = np.ones(len(root))
    weights, parts, other = [], [], np.zeros(len(root))
    for (own, own_weight), mean, above in zip(solved, means[:-1], means[1:], strict=True):
        weights.append(left * own_weight)
        parts.append(left * (own + own_weight * centre))
        other += left * (mean[:, 1] - own - (1.0 - own_weight) * above[:, 1])
        left = left * (1.0 - own_weight)
    return ElasticitySplit(
        sources=sources,
        weight=np.stack([*weights, left]),
        contribution=np.stack([*parts, left * (root[:, 1] + centre)]),
        other_coefficients=other,
        mean=means[0][:, 1] + centre,
    )


def _solve(node: _Node, above: Floats, shared: Floats, k: int) -> tuple[Floats, Floats, Floats]:
    """Own part u b and own weight u of the elasticity, arrays (draws,), and the mean coefficients, (draws, k)."""
    gram, factor = node.gram[:, :k, :k], node.factor
    rows = node.information[:, :k] - np.einsum("dab,db->da", node.gram[:, :k, k:], shared)
    inner = np.eye(k) + factor.transpose(0, 2, 1) @ gram @ factor
    covariance = factor @ np.linalg.solve(inner, factor.transpose(0, 2, 1))
    mean = above + np.einsum("dab,db->da", covariance, rows - np.einsum("dab,db->da", gram, above))
    rest = [column for column in range(k) if column != 1]
    known = np.linalg.pinv(gram[:, rest][:, :, rest], rcond=1e-10, hermitian=True)
    share = np.einsum("da,dab->db", gram[:, 1, rest], known)
    information = gram[:, 1, 1] - np.einsum("da,da->d", share, gram[:, rest, 1])
    speaks = information > 1e-9 * gram[:, 1, 1]
    variance = np.where(speaks, covariance[:, 1, 1], 0.0)
    own = variance * (rows[:, 1] - np.einsum("da,da->d", share, rows[:, rest]))
    return own, np.clip(variance * information, 0.0, 1.0), mean
