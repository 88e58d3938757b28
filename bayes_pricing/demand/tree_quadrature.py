r"""Noise by item integrated out, item by item, given all that is above it: what a new week needs.

With the parent's coefficients `x` and the variance components given, an item's rows depend on its log noise sd `u` and
coefficients alone. In the basis that diagonalises :math:`L'X'XL` (eigenvalues :math:`\lambda_a`, projected information
:math:`c_a`, residual square :math:`r` around `x`) and with :math:`v = e^{-2u}`,

.. math:: f(u) = -n u - \tfrac12 r v + \tfrac12 \sum_a \frac{c_a^2 v^2}{1 + \lambda_a v}
          - \tfrac12 \sum_a \log(1 + \lambda_a v) - \frac{(u - m)^2}{2 \omega^2}.
"""

from __future__ import annotations

import math

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.tree_draws import Floats32, mix
from bayes_pricing.demand.tree_kernels import LOG_2PI, Tree

# Gauss-Hermite nodes (probabilists') and log weights
_nodes, _weights = np.polynomial.hermite_e.hermegauss(9)
NODES = _nodes
LOG_WEIGHTS = np.log(_weights) - 0.5 * LOG_2PI


@inner
def _diagonalise(A, V, k):  # type: ignore[no-untyped-def]
    """Jacobi rotations: `A` becomes diagonal, the columns of `V` its eigenvectors."""
    for a in range(k):
        for b in range(k):
            V[a, b] = 1.0 if a == b else 0.0
    for _ in range(30):
        off, on = 0.0, 0.0
        for a in range(k):
            on += A[a, a] * A[a, a]
            for b in range(a):
                off += A[a, b] * A[a, b]
        if not off > 1e-26 * on:
            return
        for a in range(1, k):
            for b in range(a):
                if A[a, b] == 0.0:
                    continue
                ratio = (A[a, a] - A[b, b]) / (2.0 * A[a, b])
                tangent = math.copysign(1.0, ratio) / (abs(ratio) + math.sqrt(1.0 + ratio * ratio))
                c = 1.0 / math.sqrt(1.0 + tangent * tangent)
                s = tangent * c
                for e in range(k):
                    low, high = A[e, b], A[e, a]
                    A[e, b], A[e, a] = c * low - s * high, s * low + c * high
                for e in range(k):
                    low, high = A[b, e], A[a, e]
                    A[b, e], A[a, e] = c * low - s * high, s * low + c * high
                for e in range(k):
                    low, high = V[e, b], V[e, a]
                    V[e, b], V[e, a] = c * low - s * high, s * low + c * high


@inner
def _project(i, tree, chol, d, x, A, V, line, k, p):  # type: ignore[no-untyped-def]
    """Eigenvalues into ``line[0]``, squared projected information into ``line[1]``; return the residual square."""
    xtx, xty = tree.xtx, tree.xty
    residual = tree.yty[i]
    for a in range(p):
        s = xty[i, a]
        for b in range(p):
            s -= xtx[i, a, b] * x[b]
        line[2, a] = s
        residual -= x[a] * (s + xty[i, a])
    for a in range(k):
        for b in range(k):
            s = 0.0
            for c in range(a, k):
                for e in range(b, k):
                    s += chol[d, c, a] * xtx[i, c, e] * chol[d, e, b]
            A[a, b] = s
    _diagonalise(A, V, k)
    for a in range(k):
        line[0, a] = max(A[a, a], 0.0)
        s = 0.0
        for b in range(k):
            for c in range(b, k):
                s += V[b, a] * chol[d, c, b] * line[2, c]
        line[1, a] = s * s
    return max(residual, 0.0)


@inner
def _density(u, n, residual, line, k, mean, precision):  # type: ignore[no-untyped-def]
    """The log density f(u)."""
    v = math.exp(-2.0 * u)
    total = -n * u - 0.5 * residual * v - 0.5 * precision * (u - mean) * (u - mean)
    for a in range(k):
        spread = 1.0 + line[0, a] * v
        total += 0.5 * line[1, a] * v * v / spread - 0.5 * math.log(spread)
    return total


@inner
def _slope(u, n, residual, line, k, mean, precision):  # type: ignore[no-untyped-def]
    """Derivative of f(u)."""
    v = math.exp(-2.0 * u)
    total = -n + residual * v - precision * (u - mean)
    for a in range(k):
        spread = 1.0 + line[0, a] * v
        total += line[0, a] * v / spread - line[1, a] * v * v * (1.0 + spread) / (spread * spread)
    return total


@inner
def _mode(u, n, residual, line, k, mean, precision):  # type: ignore[no-untyped-def]
    """Mode of f near `u` and the curvature there, by guarded Newton steps with a numerical second derivative."""
    curvature = 1.0
    for _ in range(60):
        slope = _slope(u, n, residual, line, k, mean, precision)
        ahead = _slope(u + 1e-4, n, residual, line, k, mean, precision)
        curvature = max((slope - ahead) / 1e-4, precision)
        move = min(max(slope / curvature, -0.5), 0.5)
        u += move
        if abs(move) * math.sqrt(curvature) < 1e-3:
            break
    return u, curvature


@entry
def integrate_noise(
    chol: Floats,
    typical: Floats,
    spread: Floats,
    start: Floats32,
    states: Floats,
    tree: Tree,
    logs: Floats,
) -> None:
    """Log likelihood of all rows given what is above the items, each item's noise and coefficients integrated out.

    Adaptive Gauss-Hermite quadrature with nine nodes around each item's mode, into `logs` (draws,).

    Parameters
    ----------
    chol : array (draws, k, k)
    typical : array (draws, groups)
        Log typical noise sds.
    spread : array (draws,)
        Log of the sd of log noise sds.
    start : array (draws, items)
        Where the search for the mode begins: log noise sds.
    states : array (draws, inner nodes and root, p)
        Less the prior mean of the root.
    """
    items, p = tree.xty.shape
    k = tree.k
    A, V, line = np.zeros((k, k)), np.zeros((k, k)), np.zeros((3, p))
    for d in range(chol.shape[0]):
        precision = math.exp(-2.0 * spread[d])
        total = 0.0
        for i in range(items):
            n, mean = tree.count[i], typical[d, tree.noise_group[i]]
            residual = _project(i, tree, chol, d, states[d, tree.parent[i] - items], A, V, line, k, p)
            u, curvature = _mode(np.float64(start[d, i]), n, residual, line, k, mean, precision)
            width = 1.0 / math.sqrt(curvature)
            top = _density(u, n, residual, line, k, mean, precision)
            s = 0.0
            for q in range(NODES.shape[0]):
                value = _density(u + width * NODES[q], n, residual, line, k, mean, precision)
                s += math.exp(value - top + 0.5 * NODES[q] * NODES[q] + LOG_WEIGHTS[q])
            total += top + math.log(s) + 0.5 * LOG_2PI + math.log(width)
            total -= 0.5 * (n + 1.0) * LOG_2PI + spread[d]
        logs[d] = total


@inner
def _uniform(state):  # type: ignore[no-untyped-def]
    return (np.float64(mix(state) >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@entry
def redraw_noise(
    seed: int,
    chol: Floats,
    typical: Floats,
    spread: Floats,
    states: Floats,
    tree: Tree,
    log_noise: Floats32,
) -> None:
    """Move every item's log noise sd by four slice-sampling steps on its exact conditional density, in place.

    It starts from a draw given the older data, so a few steps of a sampler that forgets its start at once are enough;
    any number leaves the right distribution unchanged. Random numbers depend on (seed, draw, item) only.
    """
    items, p = tree.xty.shape
    k = tree.k
    A, V, line = np.zeros((k, k)), np.zeros((k, k)), np.zeros((3, p))
    for d in range(chol.shape[0]):
        precision = math.exp(-2.0 * spread[d])
        for i in range(items):
            n, mean = tree.count[i], typical[d, tree.noise_group[i]]
            residual = _project(i, tree, chol, d, states[d, tree.parent[i] - items], A, V, line, k, p)
            u = np.float64(log_noise[d, i])
            counter = mix(np.uint64(mix(np.uint64(mix(np.uint64(seed)) + np.uint64(d))) + np.uint64(i)))
            width = 3.0 / math.sqrt(2.0 * n + precision)
            for _ in range(4):
                counter = mix(counter)
                height = _density(u, n, residual, line, k, mean, precision) + math.log(_uniform(counter))
                counter = mix(counter)
                left = u - width * _uniform(counter)
                right = left + width
                for _ in range(50):
                    if not _density(left, n, residual, line, k, mean, precision) > height:
                        break
                    left -= width
                for _ in range(50):
                    if not _density(right, n, residual, line, k, mean, precision) > height:
                        break
                    right += width
                for _ in range(100):
                    counter = mix(counter)
                    y = left + (right - left) * _uniform(counter)
                    if _density(y, n, residual, line, k, mean, precision) > height:
                        u = y
                        break
                    if y < u:
                        left = y
                    else:
                        right = y
            log_noise[d, i] = u
