r"""Compiled arithmetic of the Gaussian tree: exact log marginal likelihood and gradient, nothing allocated per item.

Every node below the root is ``b = b_parent + L z`` with ``z ~ N(0, I)`` and ``L = diag(sd) R`` (`R` the Cholesky factor
of the level's correlation matrix; `sd` may carry a sign), so standard deviations of zero, items without rows and
singular ``X'X`` are all ordinary cases. A node holds the Gram matrix ``G`` and information ``h`` of the rows below it,
on ``p = k + m`` columns (its own coefficients, then the shared ones). Integrating `z` out sends its parent

.. math::
   M = I + L'G_{b\cdot}L, \quad C C' = M, \quad W = C^{-1}, \quad T = W L' G_{b\cdot}, \quad t = W L' h_b, \\
   G' = G - T'T, \quad h' = h - T't, \quad \tfrac12 t't - \tfrac12 \log|M|,

and downward :math:`E[zz'] = W'(I + \tilde t \tilde t' + T \Omega T') W` with
:math:`\tilde t = t - T \bar x` for a parent state `x` (its coefficients, then the shared ones) with mean
:math:`\bar x` and covariance :math:`\Omega`. By Fisher's identity the gradient of the log marginal likelihood is
:math:`L^{-T} \sum (E[zz'] - I)` for a level's `L` and the expected score for a noise sd.

Numba's cache of compiled code watches a function's own file only: after changing these kernels, remove the cached
``tree_*.nbi`` files, or functions of other files that call them keep the old ones.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import inner
from bayes_pricing.demand.tree_lanes import Integers, Lanes, LaneWork, items_moments, items_up, new_lane_work

LOG_2PI = math.log(2.0 * math.pi)
SMALLEST = 1e-10


class Tree(NamedTuple):
    """What the kernels know of the data: nodes numbered level by level, items first, the root last."""

    k: int  # coefficients of every item
    level_start: Integers  # (levels + 1,): first node of the items, of each nesting level, and the root
    parent: Integers  # (nodes - 1,)
    child_noise: Integers  # (inner nodes and root,): noise group of the items under a node, -1 if it has none
    noise_group: Integers  # (items,)
    count: Floats  # type: ignore[assignment]  # (items,); hides a method of tuples that nobody calls
    xtx: Floats  # (items, p, p)
    xty: Floats  # (items, p), the prior mean of the root taken off the response
    yty: Floats  # (items,)
    lanes: Lanes  # the items' matrices again, side by side


class Scales(NamedTuple):
    """Prior scales the kernels need: half-normal for sds, normal for the root and shared coefficients."""

    sd: Floats  # (levels, k)
    root: Floats  # (p,); zero for a coefficient whose population mean is zero
    noise: float
    concentration: float
    correlated: int  # so many of the first coefficients correlate; the others are independent
    tied: int  # so many of the last coefficients share one sd between items, and have none above


class Work(NamedTuple):
    """Scratch arrays of one chain."""

    sd: Floats  # (levels, k)
    corr: Floats  # (levels, k, k), Cholesky factors of the correlation matrices
    chol: Floats  # (levels, k, k) = diag(sd) corr
    log_noise: Floats  # (items,)
    gram: Floats  # (inner nodes and root, p, p)
    info: Floats  # (inner nodes and root, p)
    W: Floats  # (inner nodes and root, k, k)
    T: Floats  # (inner nodes and root, k, p)
    t: Floats  # (inner nodes and root, k)
    mean: Floats  # (inner nodes and root, p)
    cov: Floats  # (inner nodes and root, p, p)
    moment: Floats  # (levels, k, k): sum of E[zz'] - I
    root: Floats  # (1, p, p): inverse Cholesky factor of the root's posterior precision
    M: Floats  # (k, p) scratch, as C, F, square and line
    C: Floats
    F: Floats
    square: Floats
    line: Floats
    lanes: LaneWork


def new_work(tree: Tree) -> Work:
    """Scratch arrays that fit `tree`."""
    k, (items, p) = tree.k, tree.xty.shape
    levels, inner = len(tree.level_start) - 1, len(tree.parent) + 1 - items
    blocks, lanes = tree.lanes.up.shape
    return Work(
        sd=np.zeros((levels, k)),
        corr=np.zeros((levels, k, k)),
        chol=np.zeros((levels, k, k)),
        log_noise=np.zeros(items),
        gram=np.zeros((inner, p, p)),
        info=np.zeros((inner, p)),
        W=np.zeros((inner, k, k)),
        T=np.zeros((inner, k, p)),
        t=np.zeros((inner, k)),
        mean=np.zeros((inner, p)),
        cov=np.zeros((inner, p, p)),
        moment=np.zeros((levels, k, k)),
        root=np.zeros((1, p, p)),
        M=np.zeros((k, p)),
        C=np.zeros((k, p)),
        F=np.zeros((k, p + 1)),
        square=np.zeros((5, p, p)),
        line=np.zeros((4, p)),
        lanes=new_lane_work(k, p, blocks, lanes, inner),
    )


@nb.njit(inline="always", error_model="numpy")
def cholesky_inverse(A, C, W, i, n):  # type: ignore[no-untyped-def]
    """Write the lower Cholesky factor of `A` (lower triangle read) and, into ``W[i]``, its inverse; return log|A|."""
    log_det = 0.0
    for a in range(n):
        for b in range(a + 1):
            s = A[a, b]
            for c in range(b):
                s -= C[a, c] * C[b, c]
            if a == b:
                log_det += math.log(s)
                inverse = 1.0 / math.sqrt(s)
                C[a, a] = s * inverse
                W[i, a, a] = inverse
            else:
                C[a, b] = s * W[i, b, b]
    for a in range(1, n):
        for b in range(a):
            s = 0.0
            for c in range(b, a):
                s -= C[a, c] * W[i, c, b]
            W[i, a, b] = s * W[i, a, a]
    return log_det


@nb.njit(inline="always", error_model="numpy")
def eliminate(i, weight, G, h, chol, level, node, W, T, t, M, C, F, k, p):  # type: ignore[no-untyped-def]
    """Integrate a node out: write W, T, t for the way down and return its log constant."""
    for a in range(k):
        for b in range(p):
            s = 0.0
            for c in range(a, k):
                s += chol[level, c, a] * G[i, c, b]
            F[a, b] = s * weight
        s = 0.0
        for c in range(a, k):
            s += chol[level, c, a] * h[i, c]
        F[a, p] = s * weight
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for c in range(b, k):
                s += F[a, c] * chol[level, c, b]
            M[a, b] = s
        M[a, a] += 1.0
    constant = -0.5 * cholesky_inverse(M, C, W, node, k)
    for a in range(k):
        for b in range(p):
            s = 0.0
            for c in range(a + 1):
                s += W[node, a, c] * F[c, b]
            T[node, a, b] = s
        s = 0.0
        for c in range(a + 1):
            s += W[node, a, c] * F[c, p]
        t[node, a] = s
        constant += 0.5 * s * s
    return constant


@inner
def _send(i, gram, info, T, t, up, k, p):  # type: ignore[no-untyped-def]
    """Add an inner node's message (lower triangle) to what its parent holds."""
    for a in range(p):
        for b in range(a + 1):
            s = gram[i, a, b]
            for c in range(k):
                s -= T[i, c, a] * T[i, c, b]
            gram[up, a, b] += s
        s = info[i, a]
        for c in range(k):
            s -= T[i, c, a] * t[i, c]
        info[up, a] += s


@inner
def marginal(tree: Tree, scales: Scales, work: Work) -> float:
    """Log marginal likelihood given `work.chol` and `work.log_noise`: all coefficients integrated out."""
    items, p = tree.xty.shape
    k, root = tree.k, tree.parent.shape[0]
    chol, W, T, t, gram, info = work.chol, work.W, work.T, work.t, work.gram, work.info
    M, C, F = work.M, work.C, work.F
    gram.fill(0.0)
    info.fill(0.0)
    total = 0.0
    weights = work.lanes.weight
    width = weights.shape[1]
    for i in range(items):
        weight = math.exp(-2.0 * work.log_noise[i])
        weights[i // width, i % width] = weight
        total -= 0.5 * (tree.count[i] * (LOG_2PI + 2.0 * work.log_noise[i]) + weight * tree.yty[i])
    total += items_up(tree.lanes, work.lanes, chol[0], gram, info)
    for level in range(1, tree.level_start.shape[0] - 1):
        for node in range(tree.level_start[level], tree.level_start[level + 1]):
            i = node - items
            _mirror(gram, i, p)
            total += eliminate(i, 1.0, gram, info, chol, level, i, W, T, t, M, C, F, k, p)
            _send(i, gram, info, T, t, tree.parent[node] - items, k, p)
    root_part: float = _solve_root(root - items, scales, work, p)
    return float(total + root_part)


@inner
def _mirror(G, i, p):  # type: ignore[no-untyped-def]
    for a in range(p):
        for b in range(a):
            G[i, b, a] = G[i, a, b]


@inner
def _solve_root(r, scales, work, p):  # type: ignore[no-untyped-def]
    """Posterior mean and covariance of the root and the shared coefficients, and the root's constant.

    The root is ``s z`` with ``z ~ N(0, I)`` and `s` its prior sds, so that an sd of zero is an ordinary case.
    """
    M, C, W, s = work.square[3], work.square[4], work.root, scales.root
    _mirror(work.gram, r, p)
    for a in range(p):
        for b in range(a + 1):
            M[a, b] = s[a] * work.gram[r, a, b] * s[b]
        M[a, a] += 1.0
    constant = -0.5 * cholesky_inverse(M, C, W, 0, p)
    for a in range(p):
        for b in range(a + 1):
            W[0, a, b] *= s[b]
    for a in range(p):
        for b in range(a + 1):
            total = 0.0
            for c in range(a, p):
                total += W[0, c, a] * W[0, c, b]
            work.cov[r, a, b] = total
            work.cov[r, b, a] = total
    for a in range(p):
        total = 0.0
        for b in range(p):
            total += work.cov[r, a, b] * work.info[r, b]
        work.mean[r, a] = total
        constant += 0.5 * total * work.info[r, a]
    return constant


@inner
def _add_moment(node, level, up, W, T, t, mean, cov, V, X, r, moment, k, p):  # type: ignore[no-untyped-def]
    """Add E[zz'] - I of an inner node (lower triangle) to its level's sum; leave t - T mean in ``r[0]``."""
    for a in range(k):
        s = t[node, a]
        for b in range(p):
            s -= T[node, a, b] * mean[up, b]
            u = 0.0
            for c in range(p):
                u += T[node, a, c] * cov[up, c, b]
            V[a, b] = u
        r[0, a] = s
    for a in range(k):
        for b in range(a + 1):
            s = r[0, a] * r[0, b]
            for c in range(p):
                s += V[a, c] * T[node, b, c]
            X[a, b] = s
            X[b, a] = s
        X[a, a] += 1.0
    for a in range(k):
        for b in range(k):
            s = 0.0
            for c in range(b, k):
                s += X[a, c] * W[node, c, b]
            V[a, b] = s
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for c in range(a, k):
                s += W[node, c, a] * V[c, b]
            moment[level, a, b] += s
        moment[level, a, a] -= 1.0


@inner
def _descend(i, up, level, k, p, work):  # type: ignore[no-untyped-def]
    """Posterior mean and covariance of an inner node's state, from its parent's (``work.line[0]`` holds t - T mean)."""
    T, W, L = work.T, work.W, work.chol
    z, B, D, V = work.line[1], work.square[0], work.square[1], work.square[2]
    for a in range(k):
        s = 0.0
        for c in range(a, k):
            s += W[i, c, a] * work.line[0, c]
        z[a] = s
        for b in range(p):
            s = 0.0
            for c in range(a, k):
                s += W[i, c, a] * T[i, c, b]
            B[a, b] = s
    for a in range(p):
        work.mean[i, a] = work.mean[up, a]
        for b in range(p):
            D[a, b] = 1.0 if a == b else 0.0
    for a in range(k):
        for c in range(a + 1):
            work.mean[i, a] += L[level, a, c] * z[c]
            for b in range(p):
                D[a, b] -= L[level, a, c] * B[c, b]
    for a in range(p):
        for b in range(p):
            s = 0.0
            for c in range(p):
                s += D[a, c] * work.cov[up, c, b]
            V[a, b] = s
    for a in range(k):
        for b in range(k):
            s = 0.0
            for c in range(min(a, b) + 1):
                s += L[level, a, c] * W[i, b, c]
            B[a, b] = s
    for a in range(p):
        for b in range(a + 1):
            s = 0.0
            for c in range(p):
                s += V[a, c] * D[b, c]
            if a < k:
                for c in range(k):
                    s += B[a, c] * B[b, c]
            work.cov[i, a, b] = s
            work.cov[i, b, a] = s


@inner
def marginal_gradient(tree: Tree, scales: Scales, work: Work, noise_gradient: Floats) -> None:
    """After :func:`marginal`: sum E[zz'] - I by level into `work.moment`, d/d log noise by group (if any groups)."""
    items, p = tree.xty.shape
    k, moment, mean, cov, parent = tree.k, work.moment, work.mean, work.cov, tree.parent
    moment.fill(0.0)
    noise_gradient.fill(0.0)
    for level in range(tree.level_start.shape[0] - 2, 0, -1):
        for node in range(tree.level_start[level], tree.level_start[level + 1]):
            i, up = node - items, parent[node] - items
            _add_moment(i, level, up, work.W, work.T, work.t, mean, cov, work.M, work.C, work.line, moment, k, p)
            _descend(i, up, level, k, p, work)
    if noise_gradient.shape[0] > 0:
        for i in range(items):
            weighted = tree.yty[i] * math.exp(-2.0 * work.log_noise[i])
            noise_gradient[tree.noise_group[i]] += weighted - tree.count[i]
        _parent_scores(tree, work, noise_gradient, p)
    correlated = scales.correlated
    items_moments(
        tree.lanes, work.lanes, work.chol[0], correlated, mean, cov, moment[0], tree.noise_group, noise_gradient
    )
    for level in range(tree.level_start.shape[0] - 1):
        _mirror(moment, level, k)


@inner
def _parent_scores(tree, work, noise_gradient, p):  # type: ignore[no-untyped-def]
    """Add what items' residuals owe to their parents' states: E[x'Gx - 2h'x], summed over each parent's items."""
    for i in range(work.gram.shape[0]):
        if tree.child_noise[i] < 0:
            continue
        s = 0.0
        for a in range(p):
            s -= 2.0 * work.info[i, a] * work.mean[i, a]
            for b in range(p):
                s += work.gram[i, a, b] * (work.mean[i, a] * work.mean[i, b] + work.cov[i, a, b])
        noise_gradient[tree.child_noise[i]] += s
