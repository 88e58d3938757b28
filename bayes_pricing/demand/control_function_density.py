r"""Compiled density of the joint control-function model: the Gaussian tree with the first stage's residual in it.

The tree's last ``1 + q`` columns are log price and the instruments. Given the first stage's slopes :math:`\pi` their
coefficients are :math:`(\lambda, -\lambda\pi)`, so that together they stand for :math:`\lambda (\log p - \pi'z)`. The
messages that arrive at the root are quadratic in all columns; the population, shared effects and :math:`\lambda` are
integrated out of them exactly, and what is left depends on variance components, :math:`\pi` and the first stage's
:math:`\omega`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.nuts_chain import Chain, advance
from bayes_pricing.demand.tree_density import fill_scales, scales_prior
from bayes_pricing.demand.tree_draws import draw_upper
from bayes_pricing.demand.tree_kernels import Scales, Tree, Work, cholesky_inverse, marginal, marginal_gradient


class Stage(NamedTuple):
    """The first stage's sums, items and controls taken out, and where its parameters are centred."""

    price: float  # sum of squares of log price
    cross: Floats  # (q,) instruments with log price
    moments: Floats  # (q, q) of the instruments
    degrees: float  # rows less item effects and controls
    slope: Floats  # (q,) least squares
    factor: Floats  # (q, q) Cholesky factor of its covariance
    log_sd: float  # of the residual
    log_sd_width: float  # its approximate posterior sd
    prior_sd: float  # half-normal scale of the residual sd


class Root(NamedTuple):
    """Scratch of the root's solution."""

    pi: Floats  # (q,)
    push: Floats  # (q,) slope of the log density in pi
    precision: Floats  # (r, r), r = p - q
    pull: Floats  # (r,)
    chol: Floats  # (r, r)
    inverse: Floats  # (1, r, r) of the Cholesky factor
    mean: Floats  # (r,)
    cov: Floats  # (r, r)


def new_root(p: int, q: int) -> Root:
    """Scratch for `p` columns of which the last `q` are instruments."""
    r = p - q
    return Root(
        pi=np.zeros(q),
        push=np.zeros(q),
        precision=np.zeros((r, r)),
        pull=np.zeros(r),
        chol=np.zeros((r, r)),
        inverse=np.zeros((1, r, r)),
        mean=np.zeros(r),
        cov=np.zeros((r, r)),
    )


@inner
def _root_part(scales, work, node, p):  # type: ignore[no-untyped-def]
    """What `marginal` added for a root whose columns are all free."""
    value = 0.0
    for a in range(p):
        value += 0.5 * work.mean[node, a] * work.info[node, a] + math.log(work.root[0, a, a] / scales.root[a])
    return value


@inner
def _restrict(scales, work, node, root, p):  # type: ignore[no-untyped-def]
    """Integrate out population, shared effects and lambda given pi; leave mean and covariance of all columns."""
    q = len(root.pi)
    r = p - q
    gram, info, last = work.gram[node], work.info[node], r - 1
    for a in range(r):
        for b in range(a + 1):
            root.precision[a, b] = gram[a, b]
        root.pull[a] = info[a]
    for j in range(q):
        for b in range(r):
            root.precision[last, b] -= root.pi[j] * gram[r + j, b]
        root.precision[last, last] -= root.pi[j] * gram[last, r + j]
        for i in range(q):
            root.precision[last, last] += root.pi[j] * root.pi[i] * gram[r + j, r + i]
        root.pull[last] -= root.pi[j] * info[r + j]
    value = 0.0
    for a in range(r):
        root.precision[a, a] += 1.0 / (scales.root[a] * scales.root[a])
        value -= math.log(scales.root[a])
    value -= 0.5 * cholesky_inverse(root.precision, root.chol, root.inverse, 0, r)
    for a in range(r):
        root.mean[a] = 0.0
        for b in range(r):
            s = 0.0
            for c in range(max(a, b), r):
                s += root.inverse[0, c, a] * root.inverse[0, c, b]
            root.cov[a, b] = s
            root.mean[a] += s * root.pull[b]
        value += 0.5 * root.mean[a] * root.pull[a]
    _spread(work.mean[node], work.cov[node], root, r, q)
    return value


@inner
def _spread(mean, cov, root, r, q):  # type: ignore[no-untyped-def]
    """From the free coefficients to those of all columns: the instruments' are -lambda pi."""
    last = r - 1
    for a in range(r):
        mean[a] = root.mean[a]
        for b in range(r):
            cov[a, b] = root.cov[a, b]
        for j in range(q):
            cov[a, r + j] = cov[r + j, a] = -root.pi[j] * root.cov[a, last]
    for j in range(q):
        mean[r + j] = -root.pi[j] * root.mean[last]
        for i in range(q):
            cov[r + j, r + i] = root.pi[j] * root.pi[i] * root.cov[last, last]


@inner
def _first_stage(theta, at, stage, root, gradient):  # type: ignore[no-untyped-def]
    """Log density of the first stage; its slopes, and those of the outcome in pi, into the gradient."""
    q = len(root.pi)
    log_sd = stage.log_sd + stage.log_sd_width * theta[at + q]
    rss = stage.price
    for j in range(q):
        rss -= 2.0 * root.pi[j] * stage.cross[j]
        moved = 0.0
        for i in range(q):
            moved += stage.moments[j, i] * root.pi[i]
        rss += root.pi[j] * moved
        root.push[j] += (stage.cross[j] - moved) * math.exp(-2.0 * log_sd)
    ratio = math.exp(log_sd) / stage.prior_sd
    weighted = rss * math.exp(-2.0 * log_sd)
    for j in range(q):
        total = 0.0
        for i in range(j, q):
            total += stage.factor[i, j] * root.push[i]
        gradient[at + j] = total
    gradient[at + q] = stage.log_sd_width * (1.0 - stage.degrees + weighted - ratio * ratio)
    return (1.0 - stage.degrees) * log_sd - 0.5 * weighted - 0.5 * ratio * ratio


@inner
def _outcome(theta, groups, tree, scales, work, root, stage):  # type: ignore[no-untyped-def]
    """Log marginal likelihood of the outcome given pi; returns it and where the first stage's parameters start."""
    p, q, node = tree.xty.shape[1], len(root.pi), tree.parent.shape[0] - tree.xty.shape[0]
    at = fill_scales(theta, tree.k, scales, work)
    for i in range(tree.xty.shape[0]):
        work.log_noise[i] = theta[at + tree.noise_group[i]]
    for j in range(q):
        root.pi[j] = stage.slope[j]
        for i in range(j + 1):
            root.pi[j] += stage.factor[j, i] * theta[at + groups + i]
    value = marginal(tree, scales, work) - _root_part(scales, work, node, p)
    return value + _restrict(scales, work, node, root, p), at


@entry
def log_joint(
    theta: Floats, groups: int, tree: Tree, scales: Scales, stage: Stage, work: Work, root: Root, gradient: Floats
) -> float:
    """Log density of the hyper-parameters, the first stage's among them, and its gradient (written).

    `theta` is as :func:`bayes_pricing.demand.tree_density.log_posterior` reads it with `groups` log noise sds, then the
    first stage's slopes and log sd, standardised by `stage`.
    """
    gradient.fill(0.0)
    value, at = _outcome(theta, groups, tree, scales, work, root, stage)
    p, q, node = tree.xty.shape[1], len(root.pi), tree.parent.shape[0] - tree.xty.shape[0]
    r = p - q
    for j in range(q):
        strength = work.mean[node, r - 1]
        push = -strength * work.info[node, r + j]
        for b in range(p):
            push += work.gram[node, r + j, b] * (work.mean[node, b] * strength + work.cov[node, b, r - 1])
        root.push[j] = push
    marginal_gradient(tree, scales, work, gradient[at : at + groups])
    value += scales_prior(theta, tree, scales, work, gradient)
    for group in range(at, at + groups):
        ratio = math.exp(theta[group]) / scales.noise
        value += theta[group] - 0.5 * ratio * ratio
        gradient[group] += 1.0 - ratio * ratio
    total: float = value + _first_stage(theta, at + groups, stage, root, gradient)
    return total


@entry
def draw_above_items(
    seed: int,
    thetas: Floats,
    normals: Floats,
    groups: int,
    tree: Tree,
    scales: Scales,
    stage: Stage,
    work: Work,
    root: Root,
    states: Floats,
    pi: Floats,
) -> None:
    """One joint draw of everything above the items for every draw of `thetas`, into `states`; its slopes into `pi`.

    `normals` (draws, r) are standard.
    """
    p, q, node = tree.xty.shape[1], len(root.pi), tree.parent.shape[0] - tree.xty.shape[0]
    r = p - q
    for d in range(thetas.shape[0]):
        _outcome(thetas[d], groups, tree, scales, work, root, stage)
        for a in range(r):
            for c in range(a, r):
                work.mean[node, a] += root.inverse[0, c, a] * normals[d, c]
        for j in range(q):
            work.mean[node, r + j] = -root.pi[j] * work.mean[node, r - 1]
            pi[d, j] = root.pi[j]
        work.root.fill(0.0)  # the root's state is drawn already
        draw_upper(seed, d, tree, work, states[d])


@entry
def run_chain(
    rng: np.random.Generator,
    chain: Chain,
    groups: int,
    tree: Tree,
    scales: Scales,
    stage: Stage,
    work: Work,
    root: Root,
) -> None:
    """Run a chain on this density."""
    more = True
    while more:
        chain.value[0] = log_joint(chain.x, groups, tree, scales, stage, work, root, chain.gradient)
        more = advance(rng, chain)
