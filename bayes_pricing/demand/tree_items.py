"""Draws of items given what is above them, many draws of an item side by side: the inner loops run over draws."""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.tree_draws import counter_of, normal_of
from bayes_pricing.demand.tree_lanes import Integers

LANES = 64


@nb.njit(inline="always", error_model="numpy")
def _set(out, x, y):  # type: ignore[no-untyped-def]
    for e in range(out.shape[0]):
        out[e] = x[e] * y[e]


@nb.njit(inline="always", error_model="numpy")
def _add(out, x, y):  # type: ignore[no-untyped-def]
    for e in range(out.shape[0]):
        out[e] += x[e] * y[e]


@nb.njit(inline="always", error_model="numpy")
def _take(out, x, y):  # type: ignore[no-untyped-def]
    for e in range(out.shape[0]):
        out[e] -= x[e] * y[e]


@nb.njit(inline="always", error_model="numpy")
def _add_scaled(out, v, x):  # type: ignore[no-untyped-def]
    for e in range(out.shape[0]):
        out[e] += v * x[e]


@inner
def _factor(M, C, W):  # type: ignore[no-untyped-def]
    """Inverse Cholesky factors W of M, a lane for every draw."""
    k = M.shape[0]
    for a in range(k):
        for b in range(a + 1):
            m = M[a, b]
            for c in range(b):
                _take(m, C[a, c], C[b, c])
            if a == b:
                inverse = W[a, a]
                for e in range(m.shape[0]):
                    inverse[e] = 1.0 / math.sqrt(m[e])
                _set(C[a, a], m, inverse)
            else:
                _set(C[a, b], m, W[b, b])
    for a in range(1, k):
        for b in range(a):
            w = W[a, b]
            w.fill(0.0)
            for c in range(b, a):
                _take(w, C[a, c], W[c, b])
            _set(w, w, W[a, a])


@inner
def _factor_draws(G, L, linked, weight, F, M, C, W):  # type: ignore[no-untyped-def]
    """Inverse Cholesky factors of I + w L'G L for one item, a lane for every draw."""
    k = L.shape[0]
    for a in range(k):
        for b in range(k):
            f = F[a, b]
            f.fill(0.0)
            for c in range(a, k):
                if linked[c, a]:
                    _add_scaled(f, G[c, b], L[c, a])
            for e in range(f.shape[0]):
                f[e] *= weight[e]
    for a in range(k):
        for b in range(a + 1):
            m = M[a, b]
            m.fill(1.0 if a == b else 0.0)
            for c in range(b, k):
                if linked[c, b]:
                    _add(m, F[a, c], L[c, b])
    _factor(M, C, W)


@inner
def _draw_lanes(G, h, L, linked, weight, x, W, r, u, z, out):  # type: ignore[no-untyped-def]
    """Coefficients x + L W'(w W L'(h - G x) + z) for one item, a lane for every draw; `z` is used up."""
    k, p = L.shape[0], h.shape[0]
    for a in range(k):
        r[a].fill(h[a])
        for b in range(p):
            _add_scaled(r[a], -G[a, b], x[b])
        for e in range(weight.shape[0]):
            r[a, e] *= weight[e]
    for a in range(k):
        u[a].fill(0.0)
        for c in range(a, k):
            if linked[c, a]:
                _add(u[a], L[c, a], r[c])
    for a in range(k):
        for c in range(a + 1):
            _add(z[a], W[a, c], u[c])
    for a in range(k):
        u[a].fill(0.0)
        for c in range(a, k):
            _add(u[a], W[c, a], z[c])
    for a in range(k):
        for e in range(weight.shape[0]):
            out[a, e] = x[a, e]
        for c in range(a + 1):
            if linked[a, c]:
                _add(out[a], L[a, c], u[c])


@inner
def _linked(chol):  # type: ignore[no-untyped-def]
    """Which entries of the factors are not zero in every draw: coefficients that correlate with none cost less."""
    k, draws = chol.shape[0], chol.shape[2]
    found = np.zeros((k, k), dtype=np.bool_)
    for a in range(k):
        for c in range(a + 1):
            for d in range(draws):
                if chol[a, c, d] != 0.0:
                    found[a, c] = True
                    break
    return found


@entry
def draw_items(
    seed: int,
    first: int,
    chosen: Integers,
    up: Integers,
    column: Integers,
    chol: Floats,
    weight: Floats,
    xtx: Floats,
    xty: Floats,
    states: Floats,
    out: Floats,
) -> None:
    """Draws of the chosen items' coefficients given the draws above them, into `out` (chosen, k, draws).

    Parameters
    ----------
    first : int
        Number of the first of these draws in the posterior: what a draw is does not depend on who asks for it.
    chosen, up, column : arrays of equal length
        Each item asked for, its parent's row of `states` and its noise's row of `weight`.
    chol : array (k, k, draws)
        Cholesky factors of the items' covariance.
    weight : array (columns, draws)
        One over noise variances.
    xtx, xty : arrays (items, p, p) and (items, p)
        The prior mean of the root taken off the response.
    states : array (parents, p, draws)
        Less the prior mean of the root.
    """
    k, draws, linked = chol.shape[0], chol.shape[2], _linked(chol)
    F, M, C, W = np.zeros((k, k, LANES)), np.zeros((k, k, LANES)), np.zeros((k, k, LANES)), np.zeros((k, k, LANES))
    r, u, z = np.zeros((k, LANES)), np.zeros((k, LANES)), np.zeros((k, LANES))
    for j in range(chosen.shape[0]):
        i = chosen[j]
        G, h, x = xtx[i], xty[i], states[up[j]]
        for start in range(0, draws, LANES):
            stop = min(start + LANES, draws)
            n = stop - start
            L, w = chol[:, :, start:stop], weight[column[j], start:stop]
            _factor_draws(G, L, linked, w, F[:, :, :n], M[:, :, :n], C[:, :, :n], W[:, :, :n])
            for e in range(n):
                counter = counter_of(seed, first + start + e, i)
                for a in range(k):
                    z[a, e] = normal_of(np.uint64(counter + np.uint64(a)))
            _draw_lanes(
                G, h, L, linked, w, x[:, start:stop], W[:, :, :n], r[:, :n], u[:, :n], z[:, :n], out[j, :, start:stop]
            )


@entry
def own_weights(at: int, own: Floats, chol: Floats, weight: Floats, column: Integers, xtx: Floats, out: Floats) -> None:
    """Mean over draws of each item's own information on coefficient `at` times its conditional posterior variance.

    Parameters
    ----------
    own : array (items,)
        What the item's rows say of the coefficient with its other coefficients free (Schur complement of X'X).
    chol, weight, column, xtx
        As in :func:`draw_items`, for all items in order.
    """
    k, draws, linked = chol.shape[0], chol.shape[2], _linked(chol)
    F, M, C, W = np.zeros((k, k, LANES)), np.zeros((k, k, LANES)), np.zeros((k, k, LANES)), np.zeros((k, k, LANES))
    for i in range(own.shape[0]):
        total = 0.0
        for start in range(0, draws, LANES):
            stop = min(start + LANES, draws)
            n = stop - start
            w = weight[column[i], start:stop]
            _factor_draws(xtx[i], chol[:, :, start:stop], linked, w, F[:, :, :n], M[:, :, :n], C[:, :, :n], W[:, :, :n])
            for a in range(k):
                for e in range(n):
                    v = 0.0
                    for c in range(min(a, at) + 1):
                        v += W[a, c, e] * chol[at, c, start + e]
                    total += v * v * w[e]
        out[i] = own[i] * total / draws


def price_information(xtx: Floats) -> Floats:
    """What each item's rows say of its elasticity with its other coefficients free: Schur complements, (items,).

    Exactly zero where nothing but rounding is left.
    """
    other = [column for column in range(xtx.shape[1]) if column != 1]
    cross = xtx[:, 1, other]
    solution = np.linalg.pinv(xtx[:, other][:, :, other], rcond=1e-10, hermitian=True) @ cross[:, :, None]
    left = xtx[:, 1, 1] - (cross[:, None, :] @ solution)[:, 0, 0]
    return np.where(left > 1e-9 * xtx[:, 1, 1], left, 0.0)
