"""Compiled log density of hierarchical counts and its gradient (coordinates: :mod:`bayes_pricing.demand.nest_density`).

The PyMC definition of the same posterior is in :mod:`bayes_pricing.demand.model`; a test holds the two equal.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.compiled import entry
from bayes_pricing.demand.count_likelihood import Cells, Rates, cell_likelihood, row_terms
from bayes_pricing.demand.nest_density import (
    Factors,
    Nest,
    Scales,
    States,
    factor_gradient,
    fill_nest,
    new_factors,
    new_states,
    reverse,
    shared_place,
    shared_prior,
    shared_start,
)
from bayes_pricing.demand.nuts_chain import Chain, advance


class Counts(NamedTuple):
    """What the kernel reads."""

    nest: Nest
    cells: Cells
    scales: Scales


class Work(NamedTuple):
    """Scratch arrays of one chain."""

    factors: Factors
    states: States
    rates: Rates


def new_work(counts: Counts) -> Work:
    """Scratch arrays that fit `counts`."""
    cells = len(counts.cells.total)
    rates = Rates(eta=np.zeros(cells), mean=np.zeros(cells), residual=np.zeros(cells), power=np.zeros(cells))
    return Work(factors=new_factors(counts.scales), states=new_states(counts.nest), rates=rates)


def hyper_size(counts: Counts) -> int:
    """Coordinates before the `z`: variance components level by level, shared effects, overdispersion (as sds)."""
    scales = counts.scales
    return int(shared_place(scales) + len(scales.shared_sd) + (scales.overdispersion > 0))


@entry
def fill_coefficients(x: Floats, counts: Counts, work: Work) -> float:
    """Write the coefficients of all nodes into ``work.states.b``; returns their log prior with the Jacobian."""
    value: float = fill_nest(x, counts.nest, counts.scales, work.factors, work.states)
    return value


@entry
def log_posterior(x: Floats, counts: Counts, work: Work, gradient: Floats) -> float:
    """Log density of the unconstrained coordinates `x`, constants left out; writes its gradient."""
    scales, states = counts.scales, work.states
    m, gamma = len(scales.shared_sd), shared_start(scales)
    value = fill_coefficients(x, counts, work)
    gradient[:] = 0.0
    states.adjoint[:] = 0.0
    value += shared_prior(x, scales, gradient)
    dispersion, row_slope = 0.0, 0.0
    if scales.overdispersion > 0.0:
        dispersion = (scales.overdispersion * x[gamma + m]) ** -2.0
        row_value, row_slope = row_terms(dispersion, counts.cells)
        value += row_value - 0.5 * x[gamma + m] ** 2
    cell_value, cell_slope = cell_likelihood(
        x, gamma, dispersion, counts.cells, states.b, states.adjoint, work.rates, gradient
    )
    if scales.overdispersion > 0.0:
        gradient[gamma + m] = -x[gamma + m] - 2.0 * dispersion / x[gamma + m] * (row_slope + cell_slope)
    reverse(x, counts.nest, scales, work.factors, states, gradient)
    factor_gradient(x, scales, work.factors, gradient)
    total: float = value + cell_value
    return total


@entry
def run_chain(rng: np.random.Generator, chain: Chain, counts: Counts, work: Work) -> None:
    """Run a chain on this density."""
    more = True
    while more:
        chain.value[0] = log_posterior(chain.x, counts, work, chain.gradient)
        more = advance(rng, chain)
