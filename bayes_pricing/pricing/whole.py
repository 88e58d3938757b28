"""From mixed options to whole prices: an integer programme over the choosers that the multipliers leave open."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.chains import chain_neighbours
from bayes_pricing.pricing.cuts import BROKEN, SETTLED, Relaxed
from bayes_pricing.pricing.portfolio import Portfolio
from bayes_pricing.pricing.programme import INTEGER_GAP, Rows, lagrangian_score, solve_programme

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Places = NDArray[np.intp]

FREE_CHOOSERS = 60
"""Choosers left to the integer programme at first: those whose choice is nearest to changing at the multipliers."""
MOST_FREE = 1000
"""More are left free only while no whole prices have been found at all."""
CLOSE_ENOUGH = 2e-4
"""Share of the bound at which whole prices are good enough not to free more choosers."""
OPEN_SHARE = 0.1
"""Share of what is close enough that the integer programme itself may leave open."""
COARSEST_GAP = 0.02
MOST_ROUNDS = 40


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whole:
    """Whole prices: the option of every chooser and what they are worth under the portfolio's objective."""

    chosen: Places
    value: float


def value_of(portfolio: Portfolio, chosen: Places, change: Floats | None = None) -> float:
    """Worth of chosen options under the portfolio's objective."""
    if portfolio.functional is None:
        return float(portfolio.options.mean[chosen].sum())
    return portfolio.functional.value(portfolio.change(taken(portfolio, chosen)) if change is None else change)


def taken(portfolio: Portfolio, chosen: Places) -> Floats:
    """Weight 1 on the chosen options, array (n,)."""
    share = np.zeros(portfolio.options.mean.size)
    share[chosen] = 1.0
    return share


def keeps(portfolio: Portfolio, rows: Rows, chosen: Places) -> bool:
    """Whether chosen options keep every row and tail, on the draws."""
    share = taken(portfolio, chosen)
    if not (rows.matrix @ share <= rows.bounds + BROKEN * np.maximum(np.abs(rows.bounds), 1.0)).all():
        return False
    change = portfolio.change(share) if portfolio.tails else np.zeros(0)
    scale = portfolio.options.scale
    return all(tail.value(change) >= floor - BROKEN * max(abs(floor), scale) for tail, floor in portfolio.tails)


def choose_whole(
    portfolio: Portfolio,
    relaxed: Relaxed,
    *,
    free: int = FREE_CHOOSERS,
    rounds: int = MOST_ROUNDS,
    gap: float = INTEGER_GAP,
) -> Whole | None:
    """Whole prices near the relaxed answer; None where none were found that keep the rows.

    `free` choosers are left to the integer programme at first, four times as many each time that this is not enough.
    With fewer `rounds` of cuts than usual the last answer is given even where it still misses a tail: for a caller who
    looks at the draws himself. `gap` is the least relative distance at which an integer programme may stop; a few
    choosers of many need not be settled to that share of their own money, so it is wider there.
    """
    options, rows = portfolio.options, relaxed.rows
    score = lagrangian_score(options, rows, relaxed.answer.prices)
    best = options.best(score)
    rest = score.copy()
    rest[best] = -np.inf
    margin = score[best] - np.maximum.reduceat(rest, options.starts)
    share = relaxed.answer.share
    split = np.bincount(options.chooser, weights=(share > 1e-9) & (share < 1.0 - 1e-9), minlength=options.choosers)
    order = np.argsort(np.where(split > 0, -1.0, margin), kind="stable")
    label = chain_neighbours(options.chains, options.choosers)
    found: Whole | None = None
    most = MOST_FREE if free == FREE_CHOOSERS else free
    while True:
        loose = np.isin(label, label[order[:free]])
        own_money = float(np.abs(options.mean[best[loose]]).sum())
        open_money = OPEN_SHARE * CLOSE_ENOUGH * abs(relaxed.bound)
        wide = min(open_money / own_money, COARSEST_GAP) if own_money > 0 else 0.0
        again = _among(portfolio, rows, best, loose, rounds, max(gap, wide))
        if again is not None and (found is None or again.value > found.value):
            found = again
        close = found is not None and relaxed.bound - found.value <= CLOSE_ENOUGH * abs(relaxed.bound)
        if close or free >= options.choosers or (found is not None and free >= most):
            return found
        free *= 4


def _among(portfolio: Portfolio, rows: Rows, best: Places, loose: Bools, rounds: int, gap: float) -> Whole | None:
    """Best whole options when only the loose choosers may move from `best`, true tails and utility kept by cuts."""
    options = portfolio.options
    open_options = loose[options.chooser]
    places = np.flatnonzero(open_options)
    fixed = best[~loose]
    part = options.part(open_options)
    rows_part = _shifted(rows, places, fixed)
    sampled = bool(portfolio.tails) or portfolio.functional is not None
    base = portfolio.change(taken(portfolio, fixed)) if sampled else np.zeros(0)
    held = float(options.mean[fixed].sum()) if portfolio.functional is None else 0.0
    for number in range(rounds):
        answer = solve_programme(part, rows_part, integer=True, gap=gap)
        if answer is None:
            return None
        own = places[np.flatnonzero(answer.share > 0.5)]
        chosen = np.sort(np.concatenate([fixed, own]))
        if not sampled:
            return Whole(chosen=chosen, value=value_of(portfolio, chosen))
        change = base + portfolio.change(taken(portfolio, own))
        tighter = _tightened(portfolio, rows_part, change, base, answer.value + held, open_options)
        if tighter is None or (rounds < MOST_ROUNDS and number + 1 == rounds):
            return Whole(chosen=chosen, value=value_of(portfolio, chosen, change))
        rows_part = tighter
    return None


def _shifted(rows: Rows, places: Places, fixed: Places) -> Rows:
    """Rows over the loose options, what the fixed ones bring taken off their bounds."""
    part = rows.part(places)
    return replace(
        part,
        floors=rows.floors - rows.cuts[:, fixed].sum(axis=1),
        constants=rows.constants + rows.goals[:, fixed].sum(axis=1),
        bounds=rows.bounds - np.asarray(rows.matrix[:, fixed].sum(axis=1)).ravel(),
    )


def _tightened(
    portfolio: Portfolio, rows: Rows, change: Floats, base: Floats, value: float, loose: Bools
) -> Rows | None:
    found, scale = rows, portfolio.options.scale
    for number, (tail, floor) in enumerate(portfolio.tails):
        weights = tail.tangent(change)
        if float(weights @ change) < floor - BROKEN * max(abs(floor), scale):
            cut = portfolio.row(weights, loose)[loose]
            found = found.with_cut(cut, floor - float(weights @ base), number)
    functional = portfolio.functional
    if functional is not None:
        true = functional.value(change)
        if true < value - 50.0 * SETTLED * max(abs(value), scale):
            weights = functional.tangent(change)
            goal = portfolio.row(weights, loose)[loose]
            found = found.with_goal(goal, true - float(weights @ (change - base)))
    return None if found is rows else found
