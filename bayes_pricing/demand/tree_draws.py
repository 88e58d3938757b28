"""Exact joint draws down the Gaussian tree: upper levels once per hyper-draw, items on demand."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.tree_kernels import (
    Integers,
    Scales,
    Tree,
    Work,
    eliminate,
    fill_scales,
    marginal,
)

Floats32 = NDArray[np.float32]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def mix(x: np.uint64) -> np.uint64:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014): a counter in, 64 well-mixed bits out."""
    x = np.uint64(x + np.uint64(0x9E3779B97F4A7C15))
    x = np.uint64((x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    x = np.uint64((x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(x ^ (x >> np.uint64(31)))


@nb.njit(cache=True, nogil=True, error_model="numpy")
def fill_normals(seed: int, draw: int, unit: int, out: Floats, n: int) -> None:
    """Standard normals that depend on nothing but (seed, draw, unit): the same in every process and order."""
    state = mix(np.uint64(mix(np.uint64(mix(np.uint64(seed)) + np.uint64(draw))) + np.uint64(unit)))
    for a in range(0, n, 2):
        first = mix(np.uint64(state + np.uint64(2 * a)))
        second = mix(np.uint64(state + np.uint64(2 * a + 1)))
        u = (np.float64(first >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)
        v = np.float64(second >> np.uint64(11)) * (1.0 / 9007199254740992.0)
        radius = math.sqrt(-2.0 * math.log(u))
        out[a] = radius * math.cos(2.0 * math.pi * v)
        if a + 1 < n:
            out[a + 1] = radius * math.sin(2.0 * math.pi * v)


@nb.njit(inline="always", error_model="numpy")
def _draw_child(node, W, T, t, chol, at, states, up, z, k, p):  # type: ignore[no-untyped-def]
    """Turn standard normals `z` into a node's coefficients given its parent's state: x + L W'(t - T x + z)."""
    for a in range(k):
        s = t[node, a] + z[a]
        for b in range(p):
            s -= T[node, a, b] * states[up, b]
        z[a] = s
    for a in range(k):
        s = 0.0
        for c in range(a, k):
            s += W[node, c, a] * z[c]
        z[a] = s
    for a in range(k - 1, -1, -1):
        s = states[up, a]
        for c in range(a + 1):
            s += chol[at, a, c] * z[c]
        z[a] = s


@nb.njit(cache=True, nogil=True, error_model="numpy")
def draw_upper(seed: int, draw: int, tree: Tree, work: Work, states: Floats) -> None:
    """One joint draw of all nodes above the items, into `states` (inner nodes and root, p), after :func:`marginal`.

    Columns past the k-th of every row hold the shared coefficients.
    """
    items, p = tree.xty.shape
    k, root = tree.k, tree.parent.shape[0]
    z = work.line[1]
    fill_normals(seed, draw, root, z, p)
    for a in range(p):
        s = work.mean[root - items, a]
        for c in range(a, p):
            s += work.root[0, c, a] * z[c]
        states[root - items, a] = s
    for level in range(tree.level_start.shape[0] - 2, 0, -1):
        for node in range(tree.level_start[level], tree.level_start[level + 1]):
            i = node - items
            fill_normals(seed, draw, node, z, k)
            _draw_child(i, work.W, work.T, work.t, work.chol, level, states, tree.parent[node] - items, z, k, p)
            for a in range(p):
                states[i, a] = z[a] if a < k else states[root - items, a]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def draw_uppers(
    seed: int, thetas: Floats, log_noise: Floats32, tree: Tree, scales: Scales, work: Work, states: Floats, logs: Floats
) -> None:
    """Joint draws of all nodes above the items for every hyper-draw, and the log marginal likelihoods.

    `thetas` is as :func:`log_posterior` reads it; `log_noise` is (draws, items) for noise by item and empty otherwise.
    """
    for d in range(thetas.shape[0]):
        at = fill_scales(thetas[d], tree.k, scales, work)
        for i in range(tree.xty.shape[0]):
            if log_noise.shape[0] > 0:
                work.log_noise[i] = log_noise[d, i]
            else:
                work.log_noise[i] = thetas[d, at + tree.noise_group[i]]
        logs[d] = marginal(tree, scales, work)
        draw_upper(seed, d, tree, work, states[d])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def draw_items(
    seed: int,
    first: int,
    chosen: Integers,
    chol: Floats,
    log_noise: Floats,
    tree: Tree,
    states: Floats,
    work: Work,
    out: Floats,
) -> None:
    """Draws of the chosen items' coefficients given the draws above them, into `out` (draws, chosen, k).

    Parameters
    ----------
    first : int
        Number of the first of these draws in the posterior: what a draw is does not depend on who asks for it.
    chol : array (draws, k, k)
        Cholesky factors of the items' covariance.
    log_noise : array (draws, chosen)
    states : array (draws, inner nodes and root, p)
        Less the prior mean of the root.
    work : Work
        Any scratch of the tree's k and p.
    """
    items, p = tree.xty.shape
    k = tree.k
    M, C, F, W, T, t, z = work.M, work.C, work.F, work.W, work.T, work.t, work.line[1]
    xtx, xty, parent = tree.xtx, tree.xty, tree.parent
    for d in range(chol.shape[0]):
        above = states[d]
        for j in range(chosen.shape[0]):
            i = chosen[j]
            weight = math.exp(-2.0 * log_noise[d, j])
            eliminate(i, weight, xtx, xty, chol, d, 0, W, T, t, M, C, F, k, p)
            fill_normals(seed, first + d, i, z, k)
            _draw_child(0, W, T, t, chol, d, above, parent[i] - items, z, k, p)
            for a in range(k):
                out[d, j, a] = z[a]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def own_weights(
    column: int,
    own: Floats,
    chol: Floats,
    log_noise: Floats,
    noise_column: Integers,
    tree: Tree,
    work: Work,
    out: Floats,
) -> None:
    """Add up, over draws, each item's own information on a coefficient times its conditional posterior variance.

    Parameters
    ----------
    own : array (items,)
        What the item's rows say of the coefficient with its other coefficients free (Schur complement of X'X).
    log_noise : array (draws, columns)
    noise_column : array (items,)
        Which of them is an item's.
    """
    items, p = tree.xty.shape
    k = tree.k
    M, C, F, W, T, t = work.M, work.C, work.F, work.W, work.T, work.t
    for d in range(chol.shape[0]):
        for i in range(items):
            weight = math.exp(-2.0 * log_noise[d, noise_column[i]])
            eliminate(i, weight, tree.xtx, tree.xty, chol, d, 0, W, T, t, M, C, F, k, p)
            variance = 0.0
            for a in range(k):
                s = 0.0
                for c in range(a + 1):
                    s += W[0, a, c] * chol[d, column, c]
                variance += s * s
            out[i] += own[i] * weight * variance
