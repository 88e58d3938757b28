r"""Compiled No-U-Turn sampler that asks for the density instead of calling it.

A chain says in ``x`` where it wants the log density and its gradient; :func:`advance` takes both and says where next.
So the sampler is compiled once, and every density brings a loop of four lines that is compiled with it::

    more = True
    while more:
        chain.value[0] = log_posterior(chain.x, ..., chain.gradient)
        more = advance(rng, chain)

Trajectories grow by doubling until they turn back (Hoffman & Gelman 2014), draws are chosen from them by their weights
and away from the start (Betancourt 2017, appendix A.3); inside a new half only the states at the starts of its own
halves are remembered (Phan, Pradhan & Jankowiak 2019, appendix A). Momenta are standardised: with scales :math:`s` of
the coordinates, :math:`\dot x = s v`, :math:`\dot v = s \nabla \log p`. The scales are learnt in warm-up as
:math:`s_i^4 = \operatorname{var}(x_i) / \operatorname{var}(\partial_i \log p)`, which is right for normals however few
draws there are, from a window of the latest ones (Seyboldt, Carlson & Carpenter 2026).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import inner, vector
from bayes_pricing.demand.count_data import Integers

DIVERGENCE = 1000.0
MOST_DOUBLINGS = 10
FIRST_STEP_TRIES = 60
EARLY, LATE = 0.3, 0.85
"""Shares of warm-up until which the windows of the scales are short, and from which only the step is adapted."""
SHORT_WINDOW, LONG_WINDOW = 10, 80
FEWEST_DRAWS = 3
SETTING_OUT, SEARCHING, SAMPLING = range(3)
DRAW, SLOPE = range(2)

STATE = np.dtype(
    [
        ("phase", np.int64),
        ("iteration", np.int64),
        ("tune", np.int64),
        ("impatient", np.int64),  # whether a divergence after warm-up stops all chains
        # the trajectory
        ("direction", np.float64),
        ("depth", np.int64),
        ("leaf", np.int64),  # of the new half
        ("steps", np.int64),
        ("moved", np.int64),
        ("diverged", np.int64),
        ("accepted", np.float64),  # sum over its steps
        ("start", np.float64),  # energy at the start
        ("value", np.float64),  # log density of the draw
        ("energy", np.float64),  # of the draw
        ("weight", np.float64),  # log weight of the trajectory
        ("half_value", np.float64),  # the same three of the new half
        ("half_energy", np.float64),
        ("half_weight", np.float64),
        # the step
        ("step", np.float64),
        ("aim", np.float64),
        ("tries", np.int64),
        ("search", np.float64),
        ("adapted", np.float64),
        ("error", np.float64),
        ("anchor", np.float64),
        ("log_step", np.float64),  # average
    ]
)


class Chain(NamedTuple):
    """A chain: where the density is wanted, the trajectory, the scales' windows and the records (P coordinates)."""

    x: Floats  # (P,) where log density and gradient are wanted
    value: Floats  # (1,) log density there
    gradient: Floats  # (P,) there
    momentum: Floats  # (P,) there
    path: Floats  # (P,) way from the start, in standardised coordinates per step
    edges: Floats  # (2, 4, P) position, gradient, momentum and path of the trajectory's ends, the past one first
    drawn: Floats  # (2, 2, P) position and gradient of the draw, of the trajectory and of its new half
    marks: Floats  # (MOST_DOUBLINGS, 2, P) momentum and path where halves within the new half began
    scale: Floats  # (P,)
    windows: Floats  # (2, 2, 2, P) mean and sum of squared deviations of draws and gradients: the window, the next one
    counts: Integers  # (2,) draws in either
    state: NDArray[np.void]  # (1,) of STATE
    draws: Floats  # (draws, P) kept draws
    records: Floats  # (iterations after warm-up, 3) energy, steps, 1 if diverged
    stop: Integers  # (1,) 1 stops the chain


def new_chain(
    start: Floats, *, tune: int, draws: int, every: int, aim: float, impatient: bool, stop: Integers
) -> Chain:
    """A chain at `start` that aims at acceptance `aim`; `stop` is shared by the chains of a run."""
    size = len(start)
    state = np.zeros(1, dtype=STATE)
    state["tune"], state["aim"], state["impatient"], state["step"] = tune, aim, impatient, 0.1
    return Chain(
        x=np.array(start, dtype=np.float64),
        value=np.zeros(1),
        gradient=np.zeros(size),
        momentum=np.zeros(size),
        path=np.zeros(size),
        edges=np.zeros((2, 4, size)),
        drawn=np.zeros((2, 2, size)),
        marks=np.zeros((MOST_DOUBLINGS, 2, size)),
        scale=np.ones(size),
        windows=np.zeros((2, 2, 2, size)),
        counts=np.zeros(2, dtype=np.int64),
        state=state,
        draws=np.zeros((draws, size)),
        records=np.zeros((draws * every, 3)),
        stop=stop,
    )


@inner
def advance(rng, chain):  # type: ignore[no-untyped-def]
    """Take in the density at ``chain.x`` and say there where it is wanted next; False if the chain has ended."""
    state = chain.state[0]
    if state.phase == SETTING_OUT:
        _keep(chain, DRAW)
        state.value = chain.value[0]
        if chain.stop[0] != 0:
            return False
        _seek_step(state)
        _begin(rng, chain, state)
    elif state.phase == SEARCHING:
        gain = state.start - _finish_leap(chain, state)
        if _found_step(state, math.exp(min(gain, 0.0)) if gain > -DIVERGENCE else 0.0):
            state.phase = SAMPLING
        _begin(rng, chain, state)
    elif not _grow(rng, chain, state):
        _close(chain, state)
        state.iteration += 1
        if state.iteration == state.tune + len(chain.records) or chain.stop[0] != 0:
            return False
        _begin(rng, chain, state)
    _leap(chain, state)
    return True


@inner
def _copy(source, target):  # type: ignore[no-untyped-def]
    for a in range(len(source)):
        target[a] = source[a]


@inner
def _clear(values):  # type: ignore[no-untyped-def]
    for a in range(len(values)):
        values[a] = 0.0


@inner
def _keep(chain, which):  # type: ignore[no-untyped-def]
    """The moving point becomes a draw."""
    _copy(chain.x, chain.drawn[which, DRAW])
    _copy(chain.gradient, chain.drawn[which, SLOPE])


@inner
def _log_add(a, b):  # type: ignore[no-untyped-def]
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high)) if low > -math.inf else high


@inner
def _begin(rng, chain, state):  # type: ignore[no-untyped-def]
    """A trajectory of one state, the last draw with fresh momentum, and a direction to leave it in."""
    x, slope = chain.drawn[0, DRAW], chain.drawn[0, SLOPE]
    kinetic = 0.0
    for a in range(len(x)):
        v = rng.standard_normal()
        chain.momentum[a] = v
        kinetic += 0.5 * v * v
    for end in range(2):
        _copy(x, chain.edges[end, 0])
        _copy(slope, chain.edges[end, 1])
        _copy(chain.momentum, chain.edges[end, 2])
        _clear(chain.edges[end, 3])
    state.start = kinetic - state.value
    state.energy, state.weight = state.start, 0.0
    state.depth, state.steps, state.moved, state.diverged, state.accepted = 0, 0, 0, 0, 0.0
    _turn_to(rng, chain, state)


@inner
def _turn_to(rng, chain, state):  # type: ignore[no-untyped-def]
    """Begin a new half at the end of the trajectory that the lot says."""
    end = 1 if rng.random() < 0.5 else 0
    state.direction = 2.0 * end - 1.0
    _copy(chain.edges[end, 0], chain.x)
    _copy(chain.edges[end, 1], chain.gradient)
    _copy(chain.edges[end, 2], chain.momentum)
    _copy(chain.edges[end, 3], chain.path)
    state.leaf, state.half_weight = 0, -math.inf


@vector
def _leap(chain, state):  # type: ignore[no-untyped-def]
    """Half a kick and a drift."""
    x, gradient, momentum, path, scale = chain.x, chain.gradient, chain.momentum, chain.path, chain.scale
    direction, step = state.direction, state.direction * state.step
    for a in range(len(x)):
        v = momentum[a] + 0.5 * step * scale[a] * gradient[a]
        momentum[a] = v
        path[a] += direction * v
        x[a] += step * scale[a] * v


@vector
def _finish_leap(chain, state):  # type: ignore[no-untyped-def]
    """The other half of the kick; returns the energy."""
    gradient, momentum, scale = chain.gradient, chain.momentum, chain.scale
    half, square = 0.5 * state.direction * state.step, 0.0
    for a in range(len(momentum)):
        v = momentum[a] + half * scale[a] * gradient[a]
        momentum[a] = v
        square += v * v
    return 0.5 * square - chain.value[0]


@inner
def _grow(rng, chain, state):  # type: ignore[no-untyped-def]
    """One more state; returns whether the trajectory goes on."""
    energy = _finish_leap(chain, state)
    gain = state.start - energy
    state.steps += 1
    if not gain > -DIVERGENCE:
        state.diverged = 1
        return False
    state.accepted += math.exp(min(gain, 0.0))
    state.half_weight = _log_add(state.half_weight, gain)
    if rng.random() < math.exp(gain - state.half_weight):
        _keep(chain, 1)
        state.half_value, state.half_energy = chain.value[0], energy
    if _turned_inside(chain, state):
        return False
    state.leaf += 1
    if state.leaf < 1 << state.depth:
        return True
    return _join(rng, chain, state)


@inner
def _turned_inside(chain, state):  # type: ignore[no-untyped-def]
    """Whether a half within the new half, ended by this state, turned back; notes where such halves begin.

    With the new half's states counted from zero, an even one begins halves and an odd one ends as many as its number
    has trailing ones. The mark of a beginning stands at the number of ones above the lowest bit.
    """
    ones, rest = 0, state.leaf >> 1
    while rest > 0:
        ones += rest & 1
        rest >>= 1
    if state.leaf & 1 == 0:
        _copy(chain.momentum, chain.marks[ones, 0])
        _copy(chain.path, chain.marks[ones, 1])
        return False
    rest = state.leaf
    while rest & 1 == 1:
        mark = chain.marks[ones]
        if _turned(mark[0], mark[1], chain.momentum, chain.path, state.direction):
            return True
        rest >>= 1
        ones -= 1
    return False


@vector
def _turned(momentum, path, last_momentum, last_path, direction):  # type: ignore[no-untyped-def]
    """Whether the way from one state to a later one no longer grows at either."""
    first, last = 0.0, 0.0
    for a in range(len(path)):
        way = last_path[a] - path[a]
        first += way * momentum[a]
        last += way * last_momentum[a]
    return not (direction * first > 0.0 and direction * last > 0.0)


@inner
def _join(rng, chain, state):  # type: ignore[no-untyped-def]
    """Join the new half to the trajectory; returns whether it goes on."""
    if rng.random() < math.exp(min(state.half_weight - state.weight, 0.0)):
        _copy(chain.drawn[1, DRAW], chain.drawn[0, DRAW])
        _copy(chain.drawn[1, SLOPE], chain.drawn[0, SLOPE])
        state.value, state.energy, state.moved = state.half_value, state.half_energy, 1
    state.weight = _log_add(state.weight, state.half_weight)
    end = 1 if state.direction > 0.0 else 0
    near, far, first = chain.edges[end], chain.edges[1 - end], chain.marks[0]
    turned = (
        _turned(far[2], far[3], chain.momentum, chain.path, state.direction)
        or _turned(far[2], far[3], first[0], first[1], state.direction)
        or _turned(near[2], near[3], chain.momentum, chain.path, state.direction)
    )
    state.depth += 1
    if turned or state.depth == MOST_DOUBLINGS:
        return False
    _copy(chain.x, near[0])
    _copy(chain.gradient, near[1])
    _copy(chain.momentum, near[2])
    _copy(chain.path, near[3])
    _turn_to(rng, chain, state)
    return True


@inner
def _close(chain, state):  # type: ignore[no-untyped-def]
    """Adapt to the trajectory that ended, or record its draw."""
    if state.iteration < state.tune:
        _adapt_step(state, state.accepted / state.steps)
        if state.iteration < int(LATE * state.tune):
            _adapt_scale(chain, state)
        if state.iteration == state.tune - 1:
            state.step = math.exp(state.log_step)
        return
    at = state.iteration - state.tune
    chain.records[at, 0], chain.records[at, 1], chain.records[at, 2] = state.energy, state.steps, state.diverged
    every = len(chain.records) // len(chain.draws)
    if (at + 1) % every == 0:
        _copy(chain.drawn[0, DRAW], chain.draws[at // every])
    if state.diverged == 1 and state.impatient == 1:
        chain.stop[0] = 1


@inner
def _seek_step(state):  # type: ignore[no-untyped-def]
    state.phase, state.tries, state.search = SEARCHING, FIRST_STEP_TRIES, 0.0


@inner
def _found_step(state, accept):  # type: ignore[no-untyped-def]
    """Halve or double the step until one leapfrog's acceptance crosses the aim, and begin averaging there."""
    direction = 1.0 if accept > state.aim else -1.0
    if state.search == 0.0:
        state.search = direction
    state.tries -= 1
    if direction == state.search and state.tries > 0:
        state.step *= 2.0**direction
        return False
    state.anchor = math.log(10.0 * state.step)
    state.adapted, state.error, state.log_step = 0.0, 0.0, 0.0
    return True


@inner
def _adapt_step(state, accept):  # type: ignore[no-untyped-def]
    """Dual averaging (Hoffman & Gelman 2014, section 3.2)."""
    state.adapted += 1.0
    n = state.adapted
    share = 1.0 / (n + 10.0)
    state.error = (1.0 - share) * state.error + share * (state.aim - accept)
    log_step = state.anchor - math.sqrt(n) / 0.05 * state.error
    weight = n**-0.75
    state.log_step = weight * log_step + (1.0 - weight) * state.log_step
    state.step = math.exp(min(max(log_step, -30.0), 5.0))


@inner
def _adapt_scale(chain, state):  # type: ignore[no-untyped-def]
    """Take the draw into both windows, move on to the next window when it is long enough, and set the scales."""
    if state.moved == 0:
        return
    first = chain.counts[0] < FEWEST_DRAWS
    for which in range(2):
        chain.counts[which] += 1
        for what in range(2):
            _note(chain.drawn[0, what], chain.windows[which, what], 1.0 / chain.counts[which])
    early = state.iteration < int(EARLY * state.tune)
    length = SHORT_WINDOW if early else LONG_WINDOW
    if chain.counts[1] >= length and state.iteration + length < int(LATE * state.tune):
        chain.counts[0], chain.counts[1] = chain.counts[1], 0
        for what in range(2):
            for moment in range(2):
                _copy(chain.windows[1, what, moment], chain.windows[0, what, moment])
                _clear(chain.windows[1, what, moment])
    if chain.counts[0] < FEWEST_DRAWS:
        return
    draw, slope = chain.windows[0, DRAW, 1], chain.windows[0, SLOPE, 1]
    for a in range(len(chain.scale)):
        if 0.0 < draw[a] < math.inf and 0.0 < slope[a] < math.inf:
            chain.scale[a] = min(max((draw[a] / slope[a]) ** 0.25, 1e-10), 1e10)
    if first:
        _seek_step(state)


@vector
def _note(values, window, share):  # type: ignore[no-untyped-def]
    """Take values into means and sums of squared deviations (Welford)."""
    mean, square = window[0], window[1]
    for a in range(len(values)):
        off = values[a] - mean[a]
        mean[a] += share * off
        square[a] += off * (values[a] - mean[a])
