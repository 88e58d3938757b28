"""Why a portfolio's limits cannot be met: which of them conflict, and how far each could be met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.pricing.constraints import Limits
from bayes_pricing.pricing.functionals import TailMean
from bayes_pricing.pricing.judging import Judged
from bayes_pricing.pricing.portfolio import Portfolio, build_portfolio, chosen_draws
from bayes_pricing.pricing.portfolio_limits import MaxShortfall, Row, RowLimit
from bayes_pricing.pricing.problem import Problem
from bayes_pricing.pricing.programme import SMALL_PROBLEM
from bayes_pricing.pricing.relaxing import relax
from bayes_pricing.pricing.whole import FREE_CHOOSERS, choose_whole, taken

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

FREE = 8
"""Choosers left to the integer programme that looks for an attainable floor, beyond the smallest problems."""
ROUNDS, GAP = 6, 0.005
"""Rounds of tangents, and the relative distance at which an integer programme stops, when a tail is held up."""
MOST_ROWS = 3
"""Rows of one limit (categories, say) of which the attainable amount is looked for."""


def unattainable(problem: Problem, judged: Judged, *, seed: int) -> tuple[Finding, ...]:
    """Findings on limits of a portfolio that no allowed prices meet; nothing is relaxed.

    Limits are left out one at a time while the rest still conflict (deletion filter); for each of those that remain,
    the best that can be reached while the others hold is looked for and named.
    """
    names = [limit.name for limit in problem.limits.portfolio if limit.name != "max_loss_quantile"]
    kept = list(names)
    for name in names:
        rest = [other for other in kept if other != name]
        if rest and not _feasible(problem, judged, _only(problem.limits, rest), seed):
            kept = rest
    together = " and ".join(kept)
    found = [
        finding
        for name in kept
        for finding in _attainable(problem, judged, name, _only(problem.limits, kept), together, seed)
    ]
    if found:
        return tuple(found)
    return (_conflict(f"no allowed prices keep {together}", f"relax one of {', '.join(kept)}"),)


def _only(limits: Limits, names: list[str]) -> Limits:
    for limit in limits.portfolio:
        if limit.name not in names:
            limits = limits.without(limit.name)
    return limits


def _built(problem: Problem, judged: Judged, limits: Limits, seed: int) -> Portfolio | None:
    try:
        return build_portfolio(replace(problem, limits=limits), judged, None, seed=seed)
    except Refusal:
        return None


def _feasible(problem: Problem, judged: Judged, limits: Limits, seed: int) -> bool:
    portfolio = _built(problem, judged, limits, seed)
    return portfolio is not None and relax(portfolio, portfolio.rows) is not None


def _attainable(problem: Problem, judged: Judged, name: str, limits: Limits, together: str, seed: int) -> list[Finding]:
    """How far one limit can be met while the others hold."""
    limit = next(limit for limit in limits.portfolio if limit.name == name)
    others = _built(problem, judged, limits.without(name), seed)
    if others is None:
        return []
    if isinstance(limit, MaxShortfall):
        tail = TailMean(share=limit.share, among=chosen_draws(problem, seed))
        reached = _best(replace(others, functional=tail))
        if reached is None:
            return []
        smallest = -tail.value(others.change(taken(others, reached)))
        return [
            _conflict(
                f"no allowed prices hold the expected shortfall of the change to {limit.amount:.6g} per period"
                f"{_beside(name, together)}; the smallest found is {smallest:.6g}",
                f"set {name} to {smallest:.6g} or more, or relax another limit",
            )
        ]
    if isinstance(limit, RowLimit):
        return _attainable_rows(others, name, list(limit.rows(others.pairs)), together)
    return []


def _attainable_rows(others: Portfolio, name: str, rows: list[Row], together: str) -> list[Finding]:
    found: list[Finding] = []
    for row in rows:
        activity = np.zeros(others.pairs.item.size)
        activity[row.places] = row.values
        of_option = np.bincount(others.option, weights=activity, minlength=others.options.mean.size)
        reached = _best(replace(others, options=replace(others.options, mean=-of_option), functional=None))
        if reached is None:
            continue
        lowest = float(of_option[reached].sum())
        if lowest > row.bound + 1e-7 * max(abs(row.bound), 1.0):
            side = "smallest" if row.unit > 0 else "largest"
            found.append(
                _conflict(
                    f"no allowed prices hold {row.what} to {row.bound * row.unit:.6g}{_beside(name, together)}; "
                    f"the {side} found is {lowest * row.unit:.6g}",
                    f"set {name} to {lowest * row.unit:.6g}, or relax another limit",
                )
            )
        if len(found) == MOST_ROWS:
            break
    return found


def _best(portfolio: Portfolio) -> Places | None:
    relaxed = relax(portfolio, portfolio.rows)
    if relaxed is None:
        return None
    if portfolio.options.mean.size <= SMALL_PROBLEM:
        whole = choose_whole(portfolio, relaxed, free=FREE_CHOOSERS)
    elif portfolio.tails or portfolio.functional is None:
        whole = choose_whole(portfolio, relaxed, free=FREE)
    else:  # any prices attain what the draws say of them, so the search may stop early
        whole = choose_whole(portfolio, relaxed, free=FREE, rounds=ROUNDS, gap=GAP)
    return None if whole is None else whole.chosen


def _beside(name: str, together: str) -> str:
    others = [other for other in together.split(" and ") if other != name]
    return f" while {' and '.join(others)} holds" if others else ""


def _conflict(message: str, remedy: str) -> Finding:
    return Finding(code="portfolio_limits_conflict", severity="error", message=message, remedy=remedy)
