r"""A limit on the probability of a loss: the loosest limit on the expected shortfall that implies it.

The set of prices with :math:`P(\Delta < -a) \le \epsilon` is not convex, and its exact integer programme is out of
reach beyond a few items. An expected shortfall of at most :math:`a` over the worst share :math:`\alpha \ge \epsilon` of
draws becomes looser as :math:`\alpha` grows; the largest :math:`\alpha` whose answer keeps the probability is found
by bisection. It is far less costly than the usual safe choice :math:`\alpha = \epsilon`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.pricing.functionals import TailMean
from bayes_pricing.pricing.portfolio import Portfolio
from bayes_pricing.pricing.portfolio_limits import MaxLossQuantile
from bayes_pricing.pricing.relaxing import relax
from bayes_pricing.pricing.solution import Solution
from bayes_pricing.pricing.whole import Whole, choose_whole, taken

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

HALVINGS = 5
"""Halvings of the tail share: known to a thirtieth of its range."""
ROUNDS = 3
"""Rounds of cuts of each trial: the probability is counted on the draws whatever the tail mean is."""
FREE = 8
"""Choosers left to the integer programme of each trial: it is the tail share that decides, not the last rung."""


def solve_with_quantile(
    portfolio: Portfolio, limit: MaxLossQuantile, *, engine: str, chosen_on: Places | None
) -> Solution:
    """Best prices found under a limit on the probability of a loss, beside the portfolio's other limits.

    Returns
    -------
    Solution
        Its bound is that of the same problem without this limit: valid, but not tight.

    Raises
    ------
    Refusal
        If none were found; the finding gives the smallest probability that was.
    """
    free = relax(portfolio, portfolio.rows)
    if free is None:
        raise Refusal([_conflict(limit, None)])
    best = choose_whole(portfolio, free, free=FREE)
    lowest, highest = limit.probability, 1.0
    if best is None or _probability(portfolio, best, limit, chosen_on) > limit.probability:
        best = None
        found = _within(portfolio, limit, lowest, chosen_on)
        if found is None or _probability(portfolio, found, limit, chosen_on) > limit.probability:
            raise Refusal([_conflict(limit, _smallest(portfolio, limit, chosen_on))])
        best = found
        for _ in range(HALVINGS):
            middle = 0.5 * (lowest + highest)
            found = _within(portfolio, limit, middle, chosen_on)
            if found is not None and _probability(portfolio, found, limit, chosen_on) <= limit.probability:
                lowest = middle
                best = found if found.value > best.value else best
            else:
                highest = middle
    options = portfolio.options
    return Solution(
        prices=portfolio.prices(best.chosen),
        upper_bound=free.bound,
        certificate=f"Lagrangian bound over {options.mean.size} ladder prices of {options.choosers} choosers without "
        f"{limit.name}, which is kept but not certified as best",
        engine=f"{engine}, tail share searched",
        chosen_on=chosen_on,
        worth=portfolio.functional,
        certified=False,
    )


def _within(portfolio: Portfolio, limit: MaxLossQuantile, share: float, among: Places | None) -> Whole | None:
    tails = (*portfolio.tails, (TailMean(share=min(share, 0.999), among=among), -limit.amount))
    limited = replace(portfolio, tails=tails)
    relaxed = relax(limited, limited.rows)
    return None if relaxed is None else choose_whole(limited, relaxed, free=FREE, rounds=ROUNDS)


def _probability(portfolio: Portfolio, whole: Whole, limit: MaxLossQuantile, among: Places | None) -> float:
    change = portfolio.change(taken(portfolio, whole.chosen))
    change = change if among is None else change[among]
    return float((change < -limit.amount - 1e-9 * portfolio.options.scale).mean())


def _smallest(portfolio: Portfolio, limit: MaxLossQuantile, among: Places | None) -> float | None:
    tail = TailMean(share=limit.probability, among=among)
    safest = replace(portfolio, functional=tail)
    relaxed = relax(safest, safest.rows)
    whole = None if relaxed is None else choose_whole(safest, relaxed, free=FREE, rounds=ROUNDS)
    return None if whole is None else _probability(portfolio, whole, limit, among)


def _conflict(limit: MaxLossQuantile, reached: float | None) -> Finding:
    best = "" if reached is None else f"; the smallest found is {reached:.4g}"
    return Finding(
        code="portfolio_limits_conflict", severity="error",
        message=f"no allowed prices were found that lose more than {limit.amount:.6g} with a probability of at most "
        f"{limit.probability:.4g} beside the other limits{best}",
        remedy=f"allow {limit.name} more, or relax another limit",
    )  # fmt: skip
