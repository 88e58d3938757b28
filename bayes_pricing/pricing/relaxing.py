"""Which engine solves the relaxed programme: one linear programme for a few choosers, decomposition for many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.cuts import Relaxed, solve_by_cuts
from bayes_pricing.pricing.decomposition import solve_by_decomposition
from bayes_pricing.pricing.portfolio import Portfolio
from bayes_pricing.pricing.programme import Rows

DECOMPOSED_FROM = 300
"""Choosers from which the decomposition is the faster of the two (both reach the same bound)."""


def relax(portfolio: Portfolio, rows: Rows, *, warm: NDArray[np.intp] | None = None) -> Relaxed | None:
    """Solve the relaxed programme; None where no mix of options keeps the rows.

    `warm` are answers of a similar programme.
    """
    options = portfolio.options
    if options.choosers < DECOMPOSED_FROM:
        return solve_by_cuts(portfolio, rows)
    start = np.stack([options.best(options.mean), portfolio.nearest(portfolio.problem.facts.current_price)])
    return solve_by_decomposition(portfolio, rows, start=start, warm=warm)
