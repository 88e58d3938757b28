r"""Compiled log density of demand row by row (sold-out weeks, Student-t errors) and its gradient.

Coefficients stand in the coordinates of :mod:`bayes_pricing.demand.nest_density`. Log residual sds of single items do
too, each around its group's with the spread :math:`\omega`:

.. math:: \log \sigma_i = \mu_{g(i)} + \omega u_i, \qquad
          u_i = \frac{\omega (h_i - D_i \mu_{g(i)})}{1 + D_i \omega^2} + \frac{z_i}{\sqrt{1 + D_i \omega^2}}

with constants :math:`D_i` (information of its rows about it) and :math:`h_i / D_i` (their estimate). The PyMC
definition of the same posterior is :func:`bayes_pricing.demand.model.build_row_model`; a test holds the two equal.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry, inner
from bayes_pricing.demand.count_data import Integers
from bayes_pricing.demand.count_likelihood import carry_residuals, log_rates
from bayes_pricing.demand.nest_density import (
    Factors,
    Nest,
    Scales,
    States,
    factor_gradient,
    fill_nest,
    nest_size,
    new_factors,
    new_states,
    reverse,
    shared_place,
    shared_prior,
    shared_start,
    weigh_items,
    weight_slopes,
)
from bayes_pricing.demand.nuts_chain import Chain, advance
from bayes_pricing.demand.row_likelihood import (
    NEGATIVE_BINOMIAL,
    STUDENT_T,
    LawSlopes,
    Rows,
    row_likelihood,
)

DEGREES_SHAPE, DEGREES_RATE = 2.0, 0.1
"""Gamma prior of the degrees of freedom (Juárez & Steel 2010)."""


class Noise(NamedTuple):
    """Residual sds of log-normal laws; no groups for counts."""

    group: Integers  # (items,): noise group of each item's place
    groups: int
    scale: float  # half-normal, of the groups' sd
    spread: float  # half-normal, of the items' log sd around their group's; 0 where they have none of their own
    information: Floats  # (items,): D
    pull: Floats  # (items,): h
    reference: Floats  # (items,): log sds at which the coordinates of the coefficients were made


class RowProblem(NamedTuple):
    """What the kernel reads."""

    nest: Nest
    rows: Rows
    scales: Scales
    noise: Noise


class RowRates(NamedTuple):
    """Rows at the coefficients of the moment."""

    eta: Floats  # (rows,): log rate
    residual: Floats  # (rows,): slope of the log likelihood in the log rate


class RowWork(NamedTuple):
    """Scratch arrays of one chain."""

    factors: Factors
    states: States
    rates: RowRates
    log_sd: Floats  # (items,)
    deviation: Floats  # (items,): u of the items' log sds
    log_weight: Floats  # (items,): how much more an item's rows say of its coefficients than at the rough fit
    by_weight: Floats  # (items,): slopes in it
    slopes: LawSlopes


class Places(NamedTuple):
    """Where the coordinates of the law start, after the shared effects; the nodes' come last."""

    scalar: int  # overdispersion of the negative binomial, signed as sds are; one coordinate at most
    noise: int  # log sd of every noise group
    spread: int  # the spread between items, signed as sds are
    degrees: int  # log degrees of freedom
    items: int  # the items' own z
    end: int


def new_row_work(problem: RowProblem) -> RowWork:
    """Scratch arrays that fit `problem`."""
    rows, items, kinds = len(problem.rows.response), len(problem.nest.order), len(problem.rows.kinds)
    return RowWork(
        factors=new_factors(problem.scales),
        states=new_states(problem.nest),
        rates=RowRates(eta=np.zeros(rows), residual=np.zeros(rows)),
        log_sd=np.zeros(items),
        deviation=np.zeros(items),
        log_weight=np.zeros(items),
        by_weight=np.zeros(items),
        slopes=LawSlopes(log_sd=np.zeros(items), scalar=np.zeros(1), rising=np.zeros(kinds), harmonic=np.zeros(kinds)),
    )


@inner
def _places(problem, first):  # type: ignore[no-untyped-def]
    """Places of the law's coordinates where the shared effects end at `first`."""
    own = problem.noise.spread > 0.0
    noise = first + (problem.rows.law == NEGATIVE_BINOMIAL)
    spread = noise + problem.noise.groups
    degrees = spread + own
    items = degrees + (problem.rows.law == STUDENT_T)
    return Places(first, noise, spread, degrees, items, items + own * len(problem.nest.order))


def law_places(problem: RowProblem) -> Places:
    """Places of the law's coordinates."""
    scales = problem.scales
    found: Places = _places.py_func(problem, shared_place(scales) + len(scales.shared_sd))
    return found


def row_size(problem: RowProblem) -> int:
    """Number of unconstrained coordinates."""
    return law_places(problem).end + nest_size(problem.nest, problem.scales)


@inner
def _fill_noise(x, places, noise, work):  # type: ignore[no-untyped-def]
    """Log residual sds of the items; returns the log prior of everything about noise."""
    value = 0.0
    for group in range(noise.groups):
        log_sd = x[places.noise + group]
        value += log_sd - 0.5 * (math.exp(log_sd) / noise.scale) ** 2
    if noise.groups == 0:
        return value
    if noise.spread <= 0.0:
        for item in range(len(work.log_sd)):
            work.log_sd[item] = x[places.noise + noise.group[item]]
        return value
    spread = noise.spread * x[places.spread]
    value -= 0.5 * x[places.spread] ** 2
    for item in range(len(work.log_sd)):
        typical, ratio = x[places.noise + noise.group[item]], 1.0 + noise.information[item] * spread * spread
        u = spread * (noise.pull[item] - noise.information[item] * typical) / ratio
        u += x[places.items + item] / math.sqrt(ratio)
        work.deviation[item] = u
        work.log_sd[item] = typical + spread * u
        value -= 0.5 * (u * u + math.log(ratio))
    return value


@inner
def _noise_gradient(x, places, noise, work, gradient):  # type: ignore[no-untyped-def]
    """Carry the slopes in the items' log sds to the coordinates of noise, and add their prior's gradient."""
    for group in range(noise.groups):
        gradient[places.noise + group] += 1.0 - (math.exp(x[places.noise + group]) / noise.scale) ** 2
    if noise.spread <= 0.0:
        for item in range(len(work.log_sd)):
            gradient[places.noise + noise.group[item]] += work.slopes.log_sd[item]
        return
    spread, total = noise.spread * x[places.spread], 0.0
    for item in range(len(work.log_sd)):
        d, z, at = noise.information[item], x[places.items + item], places.noise + noise.group[item]
        ratio, off = 1.0 + d * spread * spread, noise.pull[item] - d * x[at]
        slope, u = work.slopes.log_sd[item], work.deviation[item]
        by_u = slope * spread - u
        gradient[places.items + item] = by_u / math.sqrt(ratio)
        gradient[at] += slope - by_u * d * spread / ratio
        by_spread = off * (1.0 / ratio - 2.0 * d * spread * spread / (ratio * ratio)) - z * d * spread * ratio**-1.5
        total += slope * u + by_u * by_spread - d * spread / ratio
    gradient[places.spread] = noise.spread * total - x[places.spread]


@inner
def _law_parameter(x, places, problem):  # type: ignore[no-untyped-def]
    """Degrees of freedom or dispersion, with its log prior and that prior's slope in the coordinate."""
    if problem.rows.law == STUDENT_T:
        degrees = math.exp(x[places.degrees])
        value = DEGREES_SHAPE * x[places.degrees] - DEGREES_RATE * degrees
        return degrees, value, DEGREES_SHAPE - DEGREES_RATE * degrees
    if problem.rows.law == NEGATIVE_BINOMIAL:
        coordinate = x[places.scalar]
        return (problem.scales.overdispersion * coordinate) ** -2.0, -0.5 * coordinate**2, -coordinate
    return 0.0, 0.0, 0.0


@entry
def row_log_posterior(x: Floats, problem: RowProblem, work: RowWork, gradient: Floats) -> float:
    """Log density of the unconstrained coordinates `x`, constants left out; writes its gradient."""
    scales, states, rows, rates = problem.scales, work.states, problem.rows, work.rates
    gamma = shared_start(scales)
    places = _places(problem, gamma + len(scales.shared_sd))
    gradient[:] = 0.0
    states.adjoint[:] = 0.0
    value = _fill_noise(x, places, problem.noise, work) + shared_prior(x, scales, gradient)
    if problem.noise.groups > 0:
        for item in range(len(work.log_sd)):
            work.log_weight[item] = 2.0 * (problem.noise.reference[item] - work.log_sd[item])
        weigh_items(problem.nest, states, work.log_weight)
    value += fill_nest(x, problem.nest, scales, work.factors, states)
    scalar, prior, by_coordinate = _law_parameter(x, places, problem)
    log_rates(x, gamma, rows, states.b, rates)
    value += prior + row_likelihood(rows, rates.eta, work.log_sd, scalar, rates.residual, work.slopes)
    if rows.law == STUDENT_T:
        gradient[places.degrees] = by_coordinate + scalar * work.slopes.scalar[0]
    if rows.law == NEGATIVE_BINOMIAL:
        gradient[places.scalar] = by_coordinate - 2.0 * scalar / x[places.scalar] * work.slopes.scalar[0]
    carry_residuals(gamma, rows, states.adjoint, rates, gradient)
    reverse(x, problem.nest, scales, work.factors, states, gradient)
    factor_gradient(x, scales, work.factors, gradient)
    if problem.noise.groups > 0:
        weight_slopes(x, problem.nest, scales, work.factors, states, gradient, work.by_weight)
        for item in range(len(work.log_sd)):
            work.slopes.log_sd[item] -= 2.0 * work.by_weight[item]
        _noise_gradient(x, places, problem.noise, work, gradient)
    total: float = value
    return total


def item_log_weight(residual_sd: Floats, problem: RowProblem) -> Floats | None:
    """How the items' rows were weighed in draws with these residual sds (chain, draw, item); None for counts."""
    if problem.noise.groups == 0:
        return None
    found: Floats = 2.0 * (problem.noise.reference - np.log(residual_sd[..., problem.nest.order]))
    return found


def item_residual_sd(x: Floats, problem: RowProblem) -> Floats:
    """Residual sds of the items in the order of the data, (chain, draw, item), of draws of the coordinates."""
    places, noise = law_places(problem), problem.noise
    log_sd = x[..., places.noise : places.noise + noise.groups][..., noise.group]
    if noise.spread > 0:
        spread = noise.spread * x[..., places.spread, None]
        ratio = 1.0 + noise.information * spread**2
        own = x[..., places.items : places.items + len(noise.group)]
        u = spread * (noise.pull - noise.information * log_sd) / ratio + own / np.sqrt(ratio)
        log_sd = log_sd + spread * u
    found = np.empty(log_sd.shape)
    found[..., problem.nest.order] = np.exp(log_sd)
    return found


@entry
def run_chain(rng: np.random.Generator, chain: Chain, problem: RowProblem, work: RowWork) -> None:
    """Run a chain on this density."""
    more = True
    while more:
        chain.value[0] = row_log_posterior(chain.x, problem, work, chain.gradient)
        more = advance(rng, chain)
