"""Exact joint draws down the Gaussian tree, and random numbers that depend on counters alone."""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.tree_density import fill_scales
from bayes_pricing.demand.tree_kernels import Scales, Tree, Work, marginal

Floats32 = NDArray[np.float32]

# AS 241: numerator and denominator of the three pieces, by rising power
CENTRE = np.array(
    [
        [
            3.3871328727963666080e0,
            1.3314166789178437745e2,
            1.9715909503065514427e3,
            1.3731693765509461125e4,
            4.5921953931549871457e4,
            6.7265770927008700853e4,
            3.3430575583588128105e4,
            2.5090809287301226727e3,
        ],
        [
            1.0,
            4.2313330701600911252e1,
            6.8718700749205790830e2,
            5.3941960214247511077e3,
            2.1213794301586595867e4,
            3.9307895800092710610e4,
            2.8729085735721942674e4,
            5.2264952788528545610e3,
        ],
    ]
)
MIDDLE = np.array(
    [
        [
            1.42343711074968357734e0,
            4.63033784615654529590e0,
            5.76949722146069140550e0,
            3.64784832476320460504e0,
            1.27045825245236838258e0,
            2.41780725177450611770e-1,
            2.27238449892691845833e-2,
            7.74545014278341407640e-4,
        ],
        [
            1.0,
            2.05319162663775882187e0,
            1.67638483018380384940e0,
            6.89767334985100004550e-1,
            1.48103976427480074590e-1,
            1.51986665636164571966e-2,
            5.47593808499534494600e-4,
            1.05075007164441684324e-9,
        ],
    ]
)
TAIL = np.array(
    [
        [
            6.65790464350110377720e0,
            5.46378491116411436990e0,
            1.78482653991729133580e0,
            2.96560571828504891230e-1,
            2.65321895265761230930e-2,
            1.24266094738807843860e-3,
            2.71155556874348757815e-5,
            2.01033439929228813265e-7,
        ],
        [
            1.0,
            5.99832206555887937690e-1,
            1.36929880922735805310e-1,
            1.48753612908506148525e-2,
            7.86869131145613259100e-4,
            1.84631831751005468180e-5,
            1.42151175831644588870e-7,
            2.04426310338993978564e-15,
        ],
    ]
)


@inner
def mix(x: np.uint64) -> np.uint64:
    """Finaliser of SplitMix64 (Steele, Lea & Flood 2014): a counter in, 64 well-mixed bits out."""
    x = np.uint64(x + np.uint64(0x9E3779B97F4A7C15))
    x = np.uint64((x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    x = np.uint64((x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    return np.uint64(x ^ (x >> np.uint64(31)))


@inner
def counter_of(seed: int, draw: int, unit: int) -> np.uint64:
    """Where the random numbers of one unit in one draw begin: the same in every process and order."""
    return np.uint64(mix(np.uint64(mix(np.uint64(mix(np.uint64(seed)) + np.uint64(draw))) + np.uint64(unit))))


@inner
def normal_of(counter: np.uint64) -> float:
    """Standard normal number of a counter: the normal quantile of its 53 mixed bits."""
    return normal_quantile((np.float64(mix(counter) >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0))


@entry
def normal_quantile(p: float) -> float:
    """Quantile of the standard normal to sixteen digits (Wichura 1988, algorithm AS 241).

    Examples
    --------
    >>> round(normal_quantile(0.975), 8)
    1.95996398
    """
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        value: float = q * _ratio(r, CENTRE)
        return value
    r = math.sqrt(-math.log(p if q < 0.0 else 1.0 - p))
    value = _ratio(r - 1.6, MIDDLE) if r <= 5.0 else _ratio(r - 5.0, TAIL)
    return -value if q < 0.0 else value


@inner
def _ratio(r, coefficients):  # type: ignore[no-untyped-def]
    """Quotient of two polynomials of degree seven."""
    above, below = coefficients[0, 7], coefficients[1, 7]
    for power in range(6, -1, -1):
        above = above * r + coefficients[0, power]
        below = below * r + coefficients[1, power]
    return above / below


@entry
def fill_normals(seed: int, draw: int, unit: int, out: Floats, n: int) -> None:
    """Standard normals that depend on nothing but (seed, draw, unit)."""
    counter = counter_of(seed, draw, unit)
    for a in range(n):
        out[a] = normal_of(np.uint64(counter + np.uint64(a)))


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


@inner
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


@entry
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
