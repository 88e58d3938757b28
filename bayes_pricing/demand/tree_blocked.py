r"""Compiled sampler of the Gaussian tree.

One iteration moves, each leaving the joint posterior unchanged:

1. variance components, and the noise of groups of items, with all coefficients integrated out (Hamiltonian Monte Carlo
   of randomised length in whitened coordinates; step by dual averaging, metric from warm-up draws);
2. all coefficients given both (one exact joint draw down the tree);

and with noise by item, which step 1 then takes as given:

3. each item's log noise sd given its residual sum of squares: log-concave, drawn exactly by rejection;
4. typical noise by group and its spread, once given the log noises and once given their standardised deviations
   (interweaving, Yu & Meng 2011), so that items with few and with many rows both mix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.tree_density import fill_components, log_posterior
from bayes_pricing.demand.tree_draws import draw_upper
from bayes_pricing.demand.tree_kernels import Scales, Tree, Work, marginal
from bayes_pricing.demand.tree_lanes import Integers
from bayes_pricing.demand.tree_noise import NoiseState, draw_coefficients_and_noise, draw_noise_population

DIVERGENCE = 1000.0
MOST_STEPS = 128
FIRST_STEP_TRIES = 60


class Hamiltonian(NamedTuple):
    """Variance components of a chain with their sampler's adaptation, written in place (P components)."""

    theta: Floats  # (P,)
    metric: Floats  # (P, P) Cholesky factor of the covariance draws are whitened by
    adapt: Floats  # (7,) step size, log-step average, error average, anchor, iterations, search direction, aim
    stats: Floats  # (4,) energy, acceptance, leapfrog steps, 1 if diverged
    total: Floats  # (P,) sum and (below) sum of squares of warm-up draws
    square: Floats  # (P, P)
    vectors: Floats  # (4, P) scratch: proposal, momentum, gradient, gradient of the start


class Records(NamedTuple):
    """Kept draws of one chain, and the sampler's statistics of every iteration after warm-up."""

    theta: Floats  # (draws, P)
    typical: Floats  # (draws, groups); this and the next two stay as they are unless noise is by item
    spread: Floats  # (draws,)
    log_noise: np.ndarray[tuple[int, ...], np.dtype[np.float32]]  # (draws, items)
    states: Floats  # (draws, inner nodes and root, p)
    stats: Floats  # (draws * every, 4)


def new_hamiltonian(theta: Floats, metric: Floats, target: float) -> Hamiltonian:
    """Start at `theta` with a metric (Cholesky factor of a covariance), aiming at acceptance `target`."""
    size = len(theta)
    return Hamiltonian(
        theta=np.array(theta, dtype=np.float64),
        metric=np.array(metric, dtype=np.float64),
        adapt=np.array([0.1, 0.0, 0.0, math.log(1.0), 0.0, 0.0, target]),
        stats=np.zeros(4),
        total=np.zeros(size),
        square=np.zeros((size, size)),
        vectors=np.zeros((4, size)),
    )


@inner
def _kick(momentum, gradient, metric, step):  # type: ignore[no-untyped-def]
    size = momentum.shape[0]
    for a in range(size):
        s = 0.0
        for b in range(a, size):
            s += metric[b, a] * gradient[b]
        momentum[a] += step * s


@inner
def _drift(theta, momentum, metric, step):  # type: ignore[no-untyped-def]
    for a in range(theta.shape[0]):
        s = 0.0
        for b in range(a + 1):
            s += metric[a, b] * momentum[b]
        theta[a] += step * s


@nb.njit(inline="always", error_model="numpy")
def _trajectory(rng, tree, scales, work, state, steps):  # type: ignore[no-untyped-def]
    """One Metropolis-corrected trajectory of `steps` leapfrogs; leaves `work` at the new state; returns acceptance."""
    size = state.theta.shape[0]
    theta, momentum, gradient = state.vectors[0], state.vectors[1], state.vectors[2]
    start = value = before = 0.0
    taken, diverged = 0, False
    for s in range(steps + 1):
        if s == 0:
            _copy(state.theta, theta)
            for a in range(size):
                momentum[a] = rng.standard_normal()
            before = _kinetic(momentum)
        else:
            _drift(theta, momentum, state.metric, state.adapt[0])
        value = log_posterior(theta, tree, scales, work, gradient)
        taken += 1
        if s == 0:
            start = value
        elif not value > start - before - DIVERGENCE:
            diverged = True
            break
        _kick(momentum, gradient, state.metric, state.adapt[0] * (1.0 if 0 < s < steps else 0.5))
    after = _kinetic(momentum)
    change = value - start + before - after
    if diverged or not change > -DIVERGENCE:
        diverged, change = True, -math.inf
    accept = min(1.0, math.exp(min(change, 0.0)))
    if rng.random() < accept:
        _copy(theta, state.theta)
        state.stats[0] = after - value
    else:
        state.stats[0] = before - start
        fill_components(state.theta, tree, scales, work)
        marginal(tree, scales, work)
    state.stats[1], state.stats[2], state.stats[3] = accept, taken - 1.0, 1.0 if diverged else 0.0
    return accept


@inner
def _copy(source, target):  # type: ignore[no-untyped-def]
    for a in range(source.shape[0]):
        target[a] = source[a]


@inner
def _kinetic(momentum):  # type: ignore[no-untyped-def]
    total = 0.0
    for a in range(momentum.shape[0]):
        total += 0.5 * momentum[a] * momentum[a]
    return total


@inner
def _adapt_step(state, accept):  # type: ignore[no-untyped-def]
    """Dual averaging (Hoffman & Gelman 2014, section 3.2)."""
    adapt = state.adapt
    adapt[4] += 1.0
    n = adapt[4]
    share = 1.0 / (n + 10.0)
    adapt[2] = (1.0 - share) * adapt[2] + share * (adapt[6] - accept)
    log_step = adapt[3] - math.sqrt(n) / 0.05 * adapt[2]
    weight = n**-0.75
    adapt[1] = weight * log_step + (1.0 - weight) * adapt[1]
    adapt[0] = math.exp(min(max(log_step, -20.0), 1.5))


@inner
def _restart_step(state):  # type: ignore[no-untyped-def]
    state.adapt[1], state.adapt[2], state.adapt[4] = 0.0, 0.0, 0.0
    state.adapt[3] = math.log(min(max(state.adapt[0], 1e-3), 0.5) * 3.0)


@inner
def _learn_metric(state, draws):  # type: ignore[no-untyped-def]
    """Cholesky factor of the window's covariance, off-diagonals shrunk by how many draws stand behind them."""
    size, metric = state.theta.shape[0], state.metric
    keep = draws / (draws + 2.0 * size)
    for a in range(size):
        for b in range(a + 1):
            s = (state.square[a, b] - state.total[a] * state.total[b] / draws) / (draws - 1.0)
            s = s * keep if a != b else (draws * s + 5e-3) / (draws + 5.0)
            for c in range(b):
                s -= metric[a, c] * metric[b, c]
            metric[a, b] = math.sqrt(s) if a == b else s / metric[b, b]
    state.total.fill(0.0)
    state.square.fill(0.0)
    _restart_step(state)


@inner
def _note_draw(state):  # type: ignore[no-untyped-def]
    for a in range(state.theta.shape[0]):
        state.total[a] += state.theta[a]
        for b in range(a + 1):
            state.square[a, b] += state.theta[a] * state.theta[b]


@entry
def run_chain(
    rng: np.random.Generator,
    seed: int,
    first_draw: int,
    tune: int,
    tree: Tree,
    scales: Scales,
    spread_scale: float,
    work: Work,
    state: Hamiltonian,
    noise: NoiseState,
    records: Records,
    progress: Integers,
) -> None:
    """Warm up for `tune` iterations, then fill `records`; ``progress[0]`` counts iterations, ``progress[1] = 1`` stops.

    Of the iterations after warm-up, as many as `records.stats` has rows, evenly spaced ones are kept.

    Draws above the items come from counters (`seed`, iteration), so that a chain is the same wherever it runs.
    """
    first, second, third = int(0.15 * tune), int(0.35 * tune), int(0.85 * tune)
    opened, searching = 0, FIRST_STEP_TRIES
    iteration = 0
    after = records.stats.shape[0]
    every = after // records.theta.shape[0]
    by_item = noise.typical.shape[0] > 0
    while iteration < tune + after and progress[1] == 0:
        length = (0.5 + rng.random()) * 0.5 * math.pi / state.adapt[0]
        steps = min(max(int(length + rng.random()), 1), MOST_STEPS)
        if searching > 0:
            steps = 1
        accept = _trajectory(rng, tree, scales, work, state, steps)
        if searching > 0:
            searching = _search_step(state, accept, searching)
            continue
        if by_item:
            draw_coefficients_and_noise(rng, seed, first_draw + iteration, tree, work, noise)
            draw_noise_population(rng, tree, scales.noise, spread_scale, work, noise)
        if iteration < tune:
            _adapt_step(state, accept)
            _note_draw(state)
            if iteration in (first, second, third):
                if iteration - opened > 10:
                    _learn_metric(state, float(iteration + 1 - opened))
                opened = iteration + 1
            if iteration == tune - 1:
                state.adapt[0] = math.exp(state.adapt[1])
        else:
            _copy(state.stats, records.stats[iteration - tune])
            if (iteration - tune + 1) % every == 0:
                if not by_item:
                    draw_upper(seed, first_draw + iteration, tree, work, noise.states)
                _record((iteration - tune) // every, work, state, noise, records)
        iteration += 1
        progress[0] = iteration


@inner
def _search_step(state, accept, searching):  # type: ignore[no-untyped-def]
    """Halve or double the first step until one leapfrog's acceptance crosses the aim; returns the tries left."""
    direction = 1.0 if accept > state.adapt[6] else -1.0
    if searching == FIRST_STEP_TRIES:
        state.adapt[5] = direction
    if direction != state.adapt[5] or searching == 1:
        _restart_step(state)
        return 0
    state.adapt[0] *= 2.0**direction
    return searching - 1


@inner
def _record(d, work, state, noise, records):  # type: ignore[no-untyped-def]
    """Copy the state into row `d` of the records."""
    _copy(state.theta, records.theta[d])
    if noise.typical.shape[0] > 0:
        _copy(noise.typical, records.typical[d])
        _copy(work.log_noise, records.log_noise[d])
        records.spread[d] = noise.spread[0]
    for i in range(noise.states.shape[0]):
        _copy(noise.states[i], records.states[d, i])
