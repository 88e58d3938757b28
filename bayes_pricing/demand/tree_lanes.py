"""The items' part of the Gaussian tree, many items side by side: the inner loops run over items, so they vectorise.

Items stand in blocks of lanes (padded with items without rows); an array ``(blocks, k, p, lanes)`` holds a `k` by `p`
matrix per item. The arithmetic is that of one node in :mod:`bayes_pricing.demand.tree_kernels`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from bayes_pricing.data.gram import Floats

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
MOST_LANES = 64


class Lanes(NamedTuple):
    """Gram statistics of the items, in lanes."""

    xtx: Floats  # (blocks, p, p, lanes)
    xty: Floats  # (blocks, p, lanes)
    up: Integers  # (blocks, lanes): parents, counted from the first inner node


class LaneWork(NamedTuple):
    """What the way up leaves for the way down, and scratch."""

    weight: Floats  # (blocks, lanes): one over the noise variance
    W: Floats  # (blocks, k, k, lanes)
    T: Floats  # (blocks, k, p, lanes)
    t: Floats  # (blocks, k, lanes)
    M: Floats  # (k, k, lanes)
    C: Floats  # (k, k, lanes)
    F: Floats  # (k, p + 1, lanes)
    mean: Floats  # (p, lanes)
    cov: Floats  # (p, p, lanes)
    r: Floats  # (k, lanes)
    V: Floats  # (k, p, lanes)
    X: Floats  # (k, k, lanes)
    total: Floats  # (k, k, lanes)
    trace: Floats  # (lanes,)
    s: Floats  # (lanes,)


def lay_out(xtx: Floats, xty: Floats, up: Integers) -> Lanes:
    """Put items side by side, in blocks of at most 64.

    Examples
    --------
    >>> lay_out(np.ones((70, 2, 2)), np.ones((70, 2)), np.zeros(70, dtype=np.int64)).xtx.shape
    (2, 2, 2, 40)
    """
    items, p = xty.shape
    blocks = -(-items // MOST_LANES)
    width = (items + blocks - 1) // blocks
    lanes = (width + 7) // 8 * 8
    padded = np.zeros((blocks * lanes, p, p + 1))
    padded[:items, :, :p], padded[:items, :, p] = xtx, xty
    by_block = np.ascontiguousarray(padded.reshape(blocks, lanes, p, p + 1).transpose(0, 2, 3, 1))
    parents = np.zeros(blocks * lanes, dtype=np.int64)
    parents[:items] = up
    return Lanes(
        xtx=np.ascontiguousarray(by_block[:, :, :p]),
        xty=np.ascontiguousarray(by_block[:, :, p]),
        up=parents.reshape(blocks, lanes),
    )


def new_lane_work(k: int, p: int, blocks: int, lanes: int) -> LaneWork:
    """Scratch for so many lanes."""
    return LaneWork(
        weight=np.ones((blocks, lanes)),
        W=np.zeros((blocks, k, k, lanes)),
        T=np.zeros((blocks, k, p, lanes)),
        t=np.zeros((blocks, k, lanes)),
        M=np.zeros((k, k, lanes)),
        C=np.zeros((k, k, lanes)),
        F=np.zeros((k, p + 1, lanes)),
        mean=np.zeros((p, lanes)),
        cov=np.zeros((p, p, lanes)),
        r=np.zeros((k, lanes)),
        V=np.zeros((k, p, lanes)),
        X=np.zeros((k, k, lanes)),
        total=np.zeros((k, k, lanes)),
        trace=np.zeros(lanes),
        s=np.zeros(lanes),
    )


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


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _project(G, h, weight, L, F, M):  # type: ignore[no-untyped-def]
    """F = L'[G_b h_b] times the weight, and M = I + L'G L (lower triangle), for one block."""
    k, p = L.shape[0], h.shape[0]
    for a in range(k):
        for b in range(p + 1):
            f = F[a, b]
            f.fill(0.0)
            for c in range(a, k):
                if L[c, a] != 0.0:
                    _add_scaled(f, L[c, a], G[c, b] if b < p else h[c])
            for e in range(f.shape[0]):
                f[e] *= weight[e]
    for a in range(k):
        for b in range(a + 1):
            m = M[a, b]
            m.fill(1.0 if a == b else 0.0)
            for c in range(b, k):
                if L[c, b] != 0.0:
                    _add_scaled(m, L[c, b], F[a, c])


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _factor(M, C, W, s):  # type: ignore[no-untyped-def]
    """Inverse Cholesky factors W of M, and log|M| summed over the lanes of one block."""
    k = M.shape[0]
    s.fill(1.0)
    for a in range(k):
        for b in range(a + 1):
            m = M[a, b]
            for c in range(b):
                _take(m, C[a, c], C[b, c])
            if a == b:
                inverse = W[a, a]
                for e in range(m.shape[0]):
                    s[e] *= m[e]
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
    log_det = 0.0
    for e in range(s.shape[0]):
        log_det += math.log(s[e])
    return log_det


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _send(G, h, weight, W, F, T, t, up, s, gram, info):  # type: ignore[no-untyped-def]
    """T and t of one block, its messages to the parents (lower triangles), and the sum of t't."""
    k, p = T.shape[0], h.shape[0]
    for a in range(k):
        for b in range(p + 1):
            out = T[a, b] if b < p else t[a]
            out.fill(0.0)
            for c in range(a + 1):
                _add(out, W[a, c], F[c, b])
    for a in range(p):
        for b in range(a + 2):
            _set(s, G[a, b] if b <= a else h[a], weight)
            for c in range(k):
                _take(s, T[c, a], T[c, b] if b <= a else t[c])
            if b <= a:
                for e in range(s.shape[0]):
                    gram[up[e], a, b] += s[e]
            else:
                for e in range(s.shape[0]):
                    info[up[e], a] += s[e]
    square = 0.0
    for a in range(k):
        for e in range(s.shape[0]):
            square += t[a, e] * t[a, e]
    return square


@nb.njit(cache=True, nogil=True, error_model="numpy")
def items_up(lanes: Lanes, work: LaneWork, L: Floats, gram: Floats, info: Floats) -> float:
    """Integrate every item out: add the messages to what the parents hold; return half (t't - log|M|), summed."""
    total = 0.0
    for i in range(lanes.xtx.shape[0]):
        G, h, weight = lanes.xtx[i], lanes.xty[i], work.weight[i]
        _project(G, h, weight, L, work.F, work.M)
        total -= 0.5 * _factor(work.M, work.C, work.W[i], work.s)
        total += 0.5 * _send(G, h, weight, work.W[i], work.F, work.T[i], work.t[i], lanes.up[i], work.s, gram, info)
    return total


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _gather(up, mean, cov, lane_mean, lane_cov):  # type: ignore[no-untyped-def]
    """Each lane's parent state: mean and covariance."""
    p = mean.shape[1]
    for a in range(p):
        for e in range(up.shape[0]):
            lane_mean[a, e] = mean[up[e], a]
        for b in range(p):
            for e in range(up.shape[0]):
                lane_cov[a, b, e] = cov[up[e], a, b]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _moments(W, T, t, mean, cov, r, V, X, s, total, trace):  # type: ignore[no-untyped-def]
    """Add E[zz'] (lower triangle) of one block to `total`, lane by lane; its traces into `trace`."""
    k, p = T.shape[0], T.shape[1]
    for a in range(k):
        x = r[a]
        for e in range(x.shape[0]):
            x[e] = t[a, e]
        for b in range(p):
            _take(x, T[a, b], mean[b])
            v = V[a, b]
            v.fill(0.0)
            for c in range(p):
                _add(v, T[a, c], cov[c, b])
    for a in range(k):
        for b in range(a + 1):
            x = X[a, b]
            x.fill(1.0 if a == b else 0.0)
            _add(x, r[a], r[b])
            for c in range(p):
                _add(x, V[a, c], T[b, c])
    trace.fill(0.0)
    for a in range(k):
        for b in range(k):
            v = V[a, b]
            v.fill(0.0)
            for c in range(b, k):
                _add(v, X[a, c] if c <= a else X[c, a], W[c, b])
    for a in range(k):
        for b in range(a + 1):
            s.fill(0.0)
            for c in range(a, k):
                _add(s, W[c, a], V[c, b])
            sums = total[a, b]
            for e in range(s.shape[0]):
                sums[e] += s[e]
        for e in range(s.shape[0]):
            trace[e] += s[e]


@nb.njit(cache=True, nogil=True, error_model="numpy")
def items_moments(
    lanes: Lanes,
    work: LaneWork,
    mean: Floats,
    cov: Floats,
    moment: Floats,
    noise_group: Integers,
    noise_gradient: Floats,
) -> None:
    """Write the items' sum of E[zz'] - I (lower triangle) into `moment`; take traces and t't off the noise gradient."""
    k, items = work.t.shape[1], noise_group.shape[0]
    work.total.fill(0.0)
    at = 0
    for i in range(lanes.up.shape[0]):
        _gather(lanes.up[i], mean, cov, work.mean, work.cov)
        T, t = work.T[i], work.t[i]
        _moments(work.W[i], T, t, work.mean, work.cov, work.r, work.V, work.X, work.s, work.total, work.trace)
        for e in range(lanes.up.shape[1]):
            if at < items and noise_gradient.shape[0] > 0:
                s = work.trace[e] - k
                for a in range(k):
                    s += t[a, e] * t[a, e]
                noise_gradient[noise_group[at]] -= s
            at += 1
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for e in range(work.total.shape[2]):
                s += work.total[a, b, e]
            moment[a, b] = s - at if a == b else s
