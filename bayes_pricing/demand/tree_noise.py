"""Noise by item, given coefficients: exact draws of every item's noise sd and of the population they come from."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import inner
from bayes_pricing.demand.tree_draws import draw_upper
from bayes_pricing.demand.tree_kernels import Tree


class NoiseState(NamedTuple):
    """Noise part of a chain's state, written in place; the items' log noise sds themselves stand in ``Work``."""

    typical: Floats  # (groups,) log of the typical noise sd
    spread: Floats  # (1,) log of the spread of log noise sds
    residual: Floats  # (items,) residual sums of squares of the last coefficients
    states: Floats  # (inner nodes and root, p) the last draw above the items
    sums: Floats  # (2, groups) scratch


def new_noise_state(tree: Tree, groups: int) -> NoiseState:
    """Arrays that fit `tree`."""
    items, p = tree.xty.shape
    return NoiseState(
        typical=np.zeros(groups),
        spread=np.zeros(1),
        residual=np.zeros(items),
        states=np.zeros((len(tree.parent) + 1 - items, p)),
        sums=np.zeros((2, groups)),
    )


@inner
def draw_log_scale(rng, n, low, high, precision, mean, start):  # type: ignore[no-untyped-def]
    """One exact draw from exp(-n x - low e^(-2x) / 2 - high e^(2x) / 2 - precision (x - mean)^2 / 2).

    The log density is concave: Newton finds the mode, then a flat piece and two tangents make the hat for rejection.
    """
    x = start
    curvature = 1.0
    for _ in range(100):
        down, up = low * math.exp(-2.0 * x), high * math.exp(2.0 * x)
        slope = -n + down - up - precision * (x - mean)
        curvature = 2.0 * (down + up) + precision
        move = min(max(slope / curvature, -1.0), 1.0)
        x += move
        if abs(move) < 1e-3 / math.sqrt(curvature):
            break
    top = _log_scale_density(x, n, low, high, precision, mean)
    reach = math.sqrt(2.0 / curvature)
    a, b = x - reach, x + reach
    fa = _log_scale_density(a, n, low, high, precision, mean)
    fb = _log_scale_density(b, n, low, high, precision, mean)
    ga = -n + low * math.exp(-2.0 * a) - high * math.exp(2.0 * a) - precision * (a - mean)
    gb = n - low * math.exp(-2.0 * b) + high * math.exp(2.0 * b) + precision * (b - mean)
    # the mode is known to Newton's tolerance: a hat 1e-5 above it stays above the density
    top += 1e-5
    left, right = a + (top - fa) / ga, b - (top - fb) / gb
    middle, total = right - left, right - left + 1.0 / ga + 1.0 / gb
    for _ in range(1000):
        u = rng.random() * total
        drop = -math.log(1.0 - rng.random())
        if u < middle:
            y, hat = left + u, top
        elif u < middle + 1.0 / ga:
            tail = -math.log(1.0 - rng.random())
            y, hat = left - tail / ga, top - tail
        else:
            tail = -math.log(1.0 - rng.random())
            y, hat = right + tail / gb, top - tail
        if _log_scale_density(y, n, low, high, precision, mean) >= hat - drop:
            return y
    return x


@inner
def _log_scale_density(x, n, low, high, precision, mean):  # type: ignore[no-untyped-def]
    return (
        -n * x - 0.5 * (low * math.exp(-2.0 * x) + high * math.exp(2.0 * x)) - 0.5 * precision * (x - mean) * (x - mean)
    )


@inner
def _draw_block(up, V, share, L, states, s, x, z):  # type: ignore[no-untyped-def]
    """Coefficients of one block given their parents' states, into `x`, from standard normals: last effect first."""
    k, p, n = L.shape[0], x.shape[0], up.shape[0]
    for a in range(p):
        for e in range(n):
            x[a, e] = states[up[e], a]
    for b in range(k - 1, -1, -1):
        for e in range(n):
            s[e] = V[b, p, e]
        for c in range(p):
            for e in range(n):
                s[e] -= V[b, c, e] * x[c, e]
        for e in range(n):
            s[e] = share[b, e] * s[e] + math.sqrt(share[b, e]) * z[b, e]
        for c in range(b, k):
            if L[c, b] != 0.0:
                for e in range(n):
                    x[c, e] += L[c, b] * s[e]


@inner
def _residual_squares(S, x, s, out):  # type: ignore[no-untyped-def]
    """What coefficients `x` add to one block's sums of squares: x'Gx - 2h'x."""
    p, n = x.shape
    out.fill(0.0)
    for a in range(p):
        for e in range(n):
            s[e] = S[a, a, e] * x[a, e] - 2.0 * S[p, a, e]
        for b in range(a):
            for e in range(n):
                s[e] += 2.0 * S[a, b, e] * x[b, e]
        for e in range(n):
            out[e] += s[e] * x[a, e]


@inner
def draw_coefficients_and_noise(rng, draw_seed, iteration, tree, work, state):  # type: ignore[no-untyped-def]
    """All coefficients given the hyper-parameters (after `marginal`), then every item's log noise sd given them."""
    items, width = tree.xty.shape[0], tree.lanes.up.shape[1]
    lanes, found, L = tree.lanes, work.lanes, work.chol[0]
    draw_upper(draw_seed, iteration, tree, work, state.states)
    precision = math.exp(-2.0 * state.spread[0])
    z = found.Q[0]
    for block in range(lanes.up.shape[0]):
        first = block * width
        count = min(width, items - first)
        for e in range(count):
            for a in range(L.shape[0]):
                z[a, e] = rng.standard_normal()
        _draw_block(lanes.up[block], found.V[block], found.share[block], L, state.states, found.s, found.x, z)
        _residual_squares(lanes.stats[block], found.x, found.s, found.trace)
        for e in range(count):
            i = first + e
            state.residual[i] = max(tree.yty[i] + found.trace[e], 0.0)
            mean, square = state.typical[tree.noise_group[i]], state.residual[i]
            work.log_noise[i] = draw_log_scale(rng, tree.count[i], square, 0.0, precision, mean, work.log_noise[i])


@inner
def draw_noise_population(rng, tree, noise_scale, spread_scale, work, state):  # type: ignore[no-untyped-def]
    """Typical noise by group and the spread around it, centred then non-centred (interweaving)."""
    items, groups = tree.count.shape[0], state.typical.shape[0]
    u, group, typical = work.log_noise, tree.noise_group, state.typical
    high, sums = 1.0 / (noise_scale * noise_scale), state.sums
    sums.fill(0.0)
    for i in range(items):
        sums[0, group[i]] += 1.0
        sums[1, group[i]] += u[i]
    precision = math.exp(-2.0 * state.spread[0])
    for c in range(groups):
        if sums[0, c] > 0.0:
            typical[c] = draw_log_scale(
                rng, -1.0, 0.0, high, sums[0, c] * precision, sums[1, c] / sums[0, c], typical[c]
            )
        else:
            typical[c] = math.log(noise_scale * abs(rng.standard_normal()))
    square = 0.0
    for i in range(items):
        square += (u[i] - typical[group[i]]) ** 2
    state.spread[0] = draw_log_scale(
        rng, items - 1.0, square, 1.0 / (spread_scale * spread_scale), 0.0, 0.0, state.spread[0]
    )
    spread = math.exp(state.spread[0])
    sums.fill(0.0)
    for i in range(items):
        c = group[i]
        sums[0, c] += tree.count[i]
        sums[1, c] += state.residual[i] * math.exp(-2.0 * (u[i] - typical[c]))
        u[i] = (u[i] - typical[c]) / spread
    for c in range(groups):
        if sums[0, c] > 0.0:
            typical[c] = draw_log_scale(rng, sums[0, c] - 1.0, sums[1, c], high, 0.0, 0.0, typical[c])
    state.spread[0] = _slice_spread(rng, tree, spread_scale, work, state)
    spread = math.exp(state.spread[0])
    for i in range(items):
        u[i] = typical[group[i]] + spread * u[i]


@inner
def _spread_density(x, tree, spread_scale, work, state):  # type: ignore[no-untyped-def]
    """Log density of the log spread given standardised deviations (in `work.log_noise`) and residuals."""
    spread = math.exp(x)
    total = x - 0.5 * (spread / spread_scale) ** 2
    for i in range(tree.count.shape[0]):
        deviation = spread * work.log_noise[i]
        total -= tree.count[i] * deviation
        total -= 0.5 * state.residual[i] * math.exp(-2.0 * (state.typical[tree.noise_group[i]] + deviation))
    return total


@inner
def _slice_spread(rng, tree, spread_scale, work, state):  # type: ignore[no-untyped-def]
    """Slice sampling (Neal 2003) of the log spread: stepping out by 0.3, shrinking in."""
    x = state.spread[0]
    height = _spread_density(x, tree, spread_scale, work, state) + math.log(1.0 - rng.random())
    left = x - 0.3 * rng.random()
    right = left + 0.3
    for _ in range(50):
        if not _spread_density(left, tree, spread_scale, work, state) > height:
            break
        left -= 0.3
    for _ in range(50):
        if not _spread_density(right, tree, spread_scale, work, state) > height:
            break
        right += 0.3
    for _ in range(200):
        y = left + (right - left) * rng.random()
        if _spread_density(y, tree, spread_scale, work, state) > height:
            return y
        if y < x:
            left = y
        else:
            right = y
    return x
