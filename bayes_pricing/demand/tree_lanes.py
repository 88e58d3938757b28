r"""The items' part of the Gaussian tree, many items side by side: the inner loops run over items, so they vectorise.

Items stand in blocks of lanes (padded with items without rows); an array ``(blocks, p + 1, p, lanes)`` holds a matrix
per item: the lower triangle of the Gram matrix, and below it the information.

An item's effects ``b = x + L z`` are independent standard normals :math:`z_b` along the columns :math:`\ell_b` of `L`,
so they are integrated out one by one. With `A` the item's Gram matrix over its noise variance, and `h` its information,

.. math:: v_b = A \ell_b, \quad d_b = 1 + \ell_b'v_b, \quad A \leftarrow A - v_b v_b' / d_b, \quad
          h \leftarrow h - v_b (\ell_b'h) / d_b, \quad \tfrac12 (\ell_b'h)^2 / d_b - \tfrac12 \log d_b,

which leaves the message ``A, h`` about the parent's state `x`, divides by no sd and costs one product per entry of `A`
and effect; columns of `L` that are zero but for their diagonal (coefficients that correlate with none) cost no more.
Given a parent state with mean :math:`\bar x` and covariance :math:`R R'` the score of :math:`\Sigma = L L'` is half of

.. math:: \Xi = (h - A \bar x)(h - A \bar x)' + A R R' A - A,

and :math:`\sum (E[zz'] - I) = L' \Xi L`, of which only entries between coefficients that correlate are needed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import fused, inner, vector

Integers = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
MOST_LANES = 64
PANEL = 4
SINGULAR = 1e-13


class Lanes(NamedTuple):
    """Gram statistics of the items, in lanes."""

    stats: Floats  # (blocks, p + 1, p, lanes): lower triangles of X'X, and X'y below
    up: Integers  # (blocks, lanes): parents, counted from the first inner node
    alone: Integers  # (blocks,): 1 where all lanes have the same parent


class LaneWork(NamedTuple):
    """What the way up leaves for the way down and for draws, and scratch."""

    weight: Floats  # (blocks, lanes): one over the noise variance
    A: Floats  # (blocks, p + 1, p, lanes): messages
    V: Floats  # (blocks, k, p + 1, lanes): v of every effect, l'h last
    share: Floats  # (blocks, k, lanes): 1 / d of every effect
    square: Floats  # (blocks, lanes): sum of (l'h)^2 / d
    U: Floats  # (4, p + 1, lanes)
    Q: Floats  # (k, p + 1, lanes)
    R: Floats  # (p, p, lanes): Cholesky factors of parents' covariances
    x: Floats  # (p, lanes): parents' means, or coefficients
    total: Floats  # (k, k, lanes)
    trace: Floats  # (lanes,)
    s: Floats  # (lanes,)
    factor: Floats  # (inner nodes and root, p, p)
    score: Floats  # (2, k, k)


def lay_out(xtx: Floats, xty: Floats, up: Integers) -> Lanes:
    """Put items side by side, in blocks of at most 64.

    Examples
    --------
    >>> lay_out(np.ones((70, 2, 2)), np.ones((70, 2)), np.zeros(70, dtype=np.int64)).stats.shape
    (2, 3, 2, 40)
    """
    items, p = xty.shape
    blocks = -(-items // MOST_LANES)
    width = (items + blocks - 1) // blocks
    lanes = (width + 7) // 8 * 8
    padded = np.zeros((blocks * lanes, p + 1, p))
    padded[:items, :p], padded[:items, p] = xtx, xty
    parents = np.full(blocks * lanes, up[-1], dtype=np.int64)
    parents[:items] = up
    by_block = parents.reshape(blocks, lanes)
    return Lanes(
        stats=np.ascontiguousarray(padded.reshape(blocks, lanes, p + 1, p).transpose(0, 2, 3, 1)),
        up=by_block,
        alone=(by_block == by_block[:, :1]).all(axis=1).astype(np.int64),
    )


def new_lane_work(k: int, p: int, blocks: int, lanes: int, inner: int) -> LaneWork:
    """Scratch for so many lanes under so many inner nodes (the root counted)."""
    return LaneWork(
        weight=np.ones((blocks, lanes)),
        A=np.zeros((blocks, p + 1, p, lanes)),
        V=np.zeros((blocks, k, p + 1, lanes)),
        share=np.zeros((blocks, k, lanes)),
        square=np.zeros((blocks, lanes)),
        U=np.zeros((PANEL, p + 1, lanes)),
        Q=np.zeros((k, p + 1, lanes)),
        R=np.zeros((p, p, lanes)),
        x=np.zeros((p, lanes)),
        total=np.zeros((k, k, lanes)),
        trace=np.zeros(lanes),
        s=np.zeros(lanes),
        factor=np.zeros((inner, p, p)),
        score=np.zeros((2, k, k)),
    )


@fused
def _along(A, L, b, V, share, s):  # type: ignore[no-untyped-def]
    """v, and 1 / d into `share`, of effect `b`; the effects since the last update of `A` are taken off; `s` holds d."""
    k, p, n = L.shape[0], A.shape[1], s.shape[0]
    for a in range(p + 1):
        row, column = max(a, b), min(a, b)
        for e in range(n):
            V[b, a, e] = L[b, b] * A[row, column, e]
    for c in range(b + 1, k):
        if L[c, b] != 0.0:
            for a in range(p + 1):
                row, column = max(a, c), min(a, c)
                for e in range(n):
                    V[b, a, e] += L[c, b] * A[row, column, e]
    for j in range(b - b % PANEL, b):
        s.fill(0.0)
        for c in range(b, k):
            if L[c, b] != 0.0:
                for e in range(n):
                    s[e] += L[c, b] * V[j, c, e] * share[j, e]
        for a in range(p + 1):
            for e in range(n):
                V[b, a, e] -= s[e] * V[j, a, e]
    s.fill(1.0)
    for c in range(b, k):
        if L[c, b] != 0.0:
            for e in range(n):
                s[e] += L[c, b] * V[b, c, e]
    for e in range(n):
        share[b, e] = 1.0 / s[e]


@fused
def _update(A, V, share, U, start, stop):  # type: ignore[no-untyped-def]
    """Take effects `start` to `stop` out of `A`: four in one pass over it, or one by one."""
    p, n = A.shape[1], A.shape[2]
    for j in range(stop - start):
        for a in range(p + 1):
            for e in range(n):
                U[j, a, e] = V[start + j, a, e] * share[start + j, e]
    if stop - start == PANEL:
        for a in range(p + 1):
            for c in range(min(a + 1, p)):
                for e in range(n):
                    A[a, c, e] -= (
                        U[0, a, e] * V[start, c, e]
                        + U[1, a, e] * V[start + 1, c, e]
                        + U[2, a, e] * V[start + 2, c, e]
                        + U[3, a, e] * V[start + 3, c, e]
                    )
        return
    for j in range(stop - start):
        for a in range(p + 1):
            for c in range(min(a + 1, p)):
                for e in range(n):
                    A[a, c, e] -= U[j, a, e] * V[start + j, c, e]


@fused
def _eliminate(S, weight, L, A, V, share, square, U, s, product):  # type: ignore[no-untyped-def]
    """Integrate the effects of one block's items out; return the sum of log d."""
    k, p, n = L.shape[0], A.shape[1], weight.shape[0]
    for a in range(p + 1):
        for c in range(min(a + 1, p)):
            for e in range(n):
                A[a, c, e] = S[a, c, e] * weight[e]
    square.fill(0.0)
    product.fill(1.0)
    for start in range(0, k, PANEL):
        stop = min(start + PANEL, k)
        for b in range(start, stop):
            _along(A, L, b, V, share, s)
            for e in range(n):
                product[e] *= s[e]
                square[e] += V[b, p, e] * V[b, p, e] * share[b, e]
        _update(A, V, share, U, start, stop)
    log_det = 0.0
    for e in range(n):
        log_det += math.log(product[e])
    return log_det


@vector
def _send_alone(A, up, gram, info):  # type: ignore[no-untyped-def]
    """Add one block's messages (lower triangles) to what the one parent holds."""
    p, n = A.shape[1], A.shape[2]
    for a in range(p + 1):
        for c in range(min(a + 1, p)):
            s = 0.0
            for e in range(n):
                s += A[a, c, e]
            if a < p:
                gram[up, a, c] += s
            else:
                info[up, c] += s


@inner
def _send(A, up, gram, info):  # type: ignore[no-untyped-def]
    """Add one block's messages (lower triangles) to what the parents hold."""
    p, n = A.shape[1], A.shape[2]
    for a in range(p):
        for c in range(a + 1):
            for e in range(n):
                gram[up[e], a, c] += A[a, c, e]
    for c in range(p):
        for e in range(n):
            info[up[e], c] += A[p, c, e]


@inner
def items_up(lanes: Lanes, work: LaneWork, L: Floats, gram: Floats, info: Floats) -> float:
    """Integrate every item out: add the messages to what the parents hold; return the items' constant."""
    total = 0.0
    for i in range(lanes.up.shape[0]):
        A, V, share, square, up = work.A[i], work.V[i], work.share[i], work.square[i], lanes.up[i]
        total -= 0.5 * _eliminate(lanes.stats[i], work.weight[i], L, A, V, share, square, work.U, work.s, work.trace)
        for e in range(up.shape[0]):
            total += 0.5 * square[e]
        if lanes.alone[i] == 1:
            _send_alone(A, up[0], gram, info)
        else:
            _send(A, up, gram, info)
    return total


@inner
def _cholesky(A, R):  # type: ignore[no-untyped-def]
    """Lower Cholesky factor of a covariance that may be singular: columns without a pivot are zero."""
    p = A.shape[0]
    for b in range(p):
        s = A[b, b]
        for c in range(b):
            s -= R[b, c] * R[b, c]
        inverse = 1.0 / math.sqrt(s) if s > SINGULAR * A[b, b] else 0.0
        for a in range(b, p):
            s = A[a, b]
            for c in range(b):
                s -= R[a, c] * R[b, c]
            R[a, b] = s * inverse


@fused
def _gather(up, mean, factor, x, R):  # type: ignore[no-untyped-def]
    """Each lane's parent state: mean, and Cholesky factor of the covariance."""
    p = mean.shape[1]
    for a in range(p):
        for e in range(up.shape[0]):
            x[a, e] = mean[up[e], a]
        for b in range(a + 1):
            for e in range(up.shape[0]):
                R[a, b, e] = factor[up[e], a, b]


@fused
def _push_alone(A, x, R, Q):  # type: ignore[no-untyped-def]
    """A R and (last) h - A x of one block whose lanes have one parent."""
    k, p, n = Q.shape[0], A.shape[1], A.shape[2]
    for a in range(k):
        for e in range(n):
            Q[a, p, e] = A[p, a, e]
        for c in range(p):
            row, column = max(a, c), min(a, c)
            for e in range(n):
                Q[a, p, e] -= x[c] * A[row, column, e]
        for b in range(p):
            for e in range(n):
                Q[a, b, e] = 0.0
            last = b + 4 * ((p - b) // 4)
            for c in range(b, last, 4):
                r0, r1, r2, r3 = R[c, b], R[c + 1, b], R[c + 2, b], R[c + 3, b]
                i0, i1, i2, i3 = max(a, c), max(a, c + 1), max(a, c + 2), max(a, c + 3)
                j0, j1, j2, j3 = min(a, c), min(a, c + 1), min(a, c + 2), min(a, c + 3)
                for e in range(n):
                    Q[a, b, e] += r0 * A[i0, j0, e] + r1 * A[i1, j1, e] + r2 * A[i2, j2, e] + r3 * A[i3, j3, e]
            for c in range(last, p):
                row, column = max(a, c), min(a, c)
                for e in range(n):
                    Q[a, b, e] += R[c, b] * A[row, column, e]


@fused
def _push(A, x, R, Q):  # type: ignore[no-untyped-def]
    """A R and (last) h - A x of one block."""
    k, p, n = Q.shape[0], A.shape[1], A.shape[2]
    for a in range(k):
        for e in range(n):
            Q[a, p, e] = A[p, a, e]
        for c in range(p):
            row, column = max(a, c), min(a, c)
            for e in range(n):
                Q[a, p, e] -= x[c, e] * A[row, column, e]
                Q[a, c, e] = 0.0
            for b in range(c + 1):
                for e in range(n):
                    Q[a, b, e] += R[c, b, e] * A[row, column, e]


@fused
def _scores(A, Q, sigma, correlated, s, total, trace):  # type: ignore[no-untyped-def]
    """Add what is needed of one block's Xi (lower triangle) to `total`, lane by lane; tr(Sigma Xi) into `trace`."""
    k, columns, n = Q.shape[0], Q.shape[1], Q.shape[2]
    trace.fill(0.0)
    for a in range(k):
        for c in range(0 if a < correlated else a, a + 1):
            for e in range(n):
                s[e] = -A[a, c, e]
            last = 4 * (columns // 4)
            for b in range(0, last, 4):
                for e in range(n):
                    s[e] += (
                        Q[a, b, e] * Q[c, b, e]
                        + Q[a, b + 1, e] * Q[c, b + 1, e]
                        + Q[a, b + 2, e] * Q[c, b + 2, e]
                        + Q[a, b + 3, e] * Q[c, b + 3, e]
                    )
            for b in range(last, columns):
                for e in range(n):
                    s[e] += Q[a, b, e] * Q[c, b, e]
            share = sigma[a, c] if a == c else 2.0 * sigma[a, c]
            for e in range(n):
                total[a, c, e] += s[e]
                trace[e] += share * s[e]


@inner
def items_moments(
    lanes: Lanes,
    work: LaneWork,
    L: Floats,
    correlated: int,
    mean: Floats,
    cov: Floats,
    moment: Floats,
    noise_group: Integers,
    noise_gradient: Floats,
) -> None:
    """Write the items' sum of E[zz'] - I (lower triangle) into `moment`; take traces and t't off the noise gradient.

    Of coefficients past the first `correlated` only the diagonal is right.
    """
    k, items, groups = L.shape[0], noise_group.shape[0], noise_gradient.shape[0]
    xi, sigma = work.score[0], work.score[1]
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for c in range(b + 1):
                s += L[a, c] * L[b, c]
            sigma[a, b] = s
    done = -1
    work.total.fill(0.0)
    for i in range(lanes.up.shape[0]):
        A, up = work.A[i], lanes.up[i]
        if lanes.alone[i] == 1:
            if up[0] != done:
                done = up[0]
                _cholesky(cov[done], work.factor[done])
            _push_alone(A, mean[done], work.factor[done], work.Q)
        else:
            _gather_factors(up, cov, work.factor)
            _gather(up, mean, work.factor, work.x, work.R)
            _push(A, work.x, work.R, work.Q)
        _scores(A, work.Q, sigma, correlated, work.s, work.total, work.trace)
        if groups > 0:
            first = i * up.shape[0]
            for e in range(min(up.shape[0], items - first)):
                noise_gradient[noise_group[first + e]] -= work.trace[e] + work.square[i, e]
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for e in range(work.total.shape[2]):
                s += work.total[a, b, e]
            xi[a, b] = xi[b, a] = s
    _between(L, xi, sigma, moment)


@inner
def _gather_factors(up, cov, factor):  # type: ignore[no-untyped-def]
    """Cholesky factors of a block's parents' covariances; items of one parent mostly stand side by side."""
    for e in range(up.shape[0]):
        if e == 0 or up[e] != up[e - 1]:
            _cholesky(cov[up[e]], factor[up[e]])


@inner
def _between(L, xi, scratch, moment):  # type: ignore[no-untyped-def]
    """The lower triangle of L' xi L."""
    k = L.shape[0]
    for a in range(k):
        for b in range(k):
            s = 0.0
            for c in range(b, k):
                s += xi[a, c] * L[c, b]
            scratch[a, b] = s
    for a in range(k):
        for b in range(a + 1):
            s = 0.0
            for c in range(a, k):
                s += L[c, a] * scratch[c, b]
            moment[a, b] = s
