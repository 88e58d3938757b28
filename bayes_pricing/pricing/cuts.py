"""Cuts and tangents: what the draws say of a mix of options, added to the programme until nothing is broken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.portfolio import Portfolio
from bayes_pricing.pricing.programme import Answer, Rows, lagrangian_bound, solve_programme

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MOST_ROUNDS = 60
SETTLED = 2e-6
"""Relative distance at which a value counts as reached."""
BROKEN = 1e-7
"""Relative distance by which a row may be missed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Relaxed:
    """The relaxed programme solved: choosers may mix options.

    Attributes
    ----------
    rows : Rows
        With every cut and tangent that was found.
    answer : Answer
        Mixed options and multipliers.
    bound : float
        Upper bound, recomputed from multipliers.
    selections : array (R, U)
        Answers found on the way, options by chooser: a warm start for the same problem with other bounds.
    """

    rows: Rows
    answer: Answer
    bound: float
    selections: Places


def first_tangent(portfolio: Portfolio, rows: Rows) -> Rows:
    """Rows with the tangent of a concave objective at today's prices, where there is one and none yet."""
    functional = portfolio.functional
    if functional is None or len(rows.goals):
        return rows
    today = np.zeros(portfolio.problem.total_draws)
    weights = functional.tangent(today)
    return rows.with_goal(portfolio.row(weights), functional.value(today))


def tightened(portfolio: Portfolio, rows: Rows, share: Floats, value: float, tolerance: float = BROKEN) -> Rows | None:
    """Rows with the cuts and tangents that weighted options break on the draws; None where they break none.

    Parameters
    ----------
    portfolio : Portfolio
    rows : Rows
    share : array (n,)
        Weight of every option.
    value : float
        Objective that the programme believes in.
    tolerance : float
        Relative distance by which a tail may be missed.
    """
    if portfolio.functional is None and not portfolio.tails:
        return None
    change = portfolio.change(share)
    found = rows
    for number, (tail, floor) in enumerate(portfolio.tails):
        weights = tail.tangent(change)
        if float(weights @ change) < floor - tolerance * max(abs(floor), portfolio.options.scale):
            found = found.with_cut(portfolio.row(weights), floor, number)
    functional = portfolio.functional
    if functional is not None:
        true = functional.value(change)
        if true < value - 10.0 * SETTLED * max(abs(value), portfolio.options.scale):
            weights = functional.tangent(change)
            found = found.with_goal(portfolio.row(weights), true - float(weights @ change))
    return None if found is rows else found


def solve_by_cuts(portfolio: Portfolio, rows: Rows) -> Relaxed | None:
    """Solve the relaxed programme of a few hundred choosers as one linear programme per round of cuts.

    None where no mix of options keeps the rows.
    """
    rows = first_tangent(portfolio, rows)
    answer = solve_programme(portfolio.options, rows, integer=False)
    for _ in range(MOST_ROUNDS):
        tighter = None if answer is None else tightened(portfolio, rows, answer.share, answer.value)
        if tighter is None:
            break
        rows = tighter
        answer = solve_programme(portfolio.options, rows, integer=False)
    if answer is None:
        return None
    return Relaxed(
        rows=rows, answer=answer, bound=lagrangian_bound(portfolio.options, rows, answer.prices),
        selections=np.zeros((0, portfolio.options.choosers), dtype=np.intp),
    )  # fmt: skip
