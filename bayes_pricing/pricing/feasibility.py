"""How far a portfolio's limits are broken, recomputed from the prices alone: no solver is asked."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.portfolio_limits import Pairs
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem
from bayes_pricing.pricing.risk import tail_mean

Floats = NDArray[np.float64]

MONEY_SLACK = 1e-8
"""Share of today's money within which a tail stands on its limit."""
ROW_SLACK = 1e-6
"""Relative distance within which a row stands on its bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A limit that prices break.

    Attributes
    ----------
    limit : str
        Its name.
    what : str
        What it limits, in words, e.g. ``the revenue of tea, as a share of today's``.
    bound, reached : float
        What was asked for and what these prices do, in the limit's own unit.
    share : float
        How far it is broken, of order one whatever the unit; positive.
    """

    limit: str
    what: str
    bound: float
    reached: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """Prices of all items and the units that are expected per period, arrays (J,)."""

    prices: Floats
    units_today: Floats
    units: Floats


def expected_alone(problem: Problem, prices: Floats) -> Expected:
    """What is expected of prices where each item's sales depend on its own price only."""
    parts = problem.over_blocks(
        lambda where, block: (
            block.units_today.mean(axis=1),
            np.einsum("js,js->j", block.growth(prices[where]), block.units_today) / block.units_today.shape[1],
        )
    )
    today = np.concatenate([part[0] for part in parts])
    return Expected(prices=prices, units_today=today, units=today + np.concatenate([part[1] for part in parts]))


def portfolio_misses(problem: Problem, expected: Expected, change: Floats, today: float) -> list[Miss]:
    """Limits of the portfolio that prices break.

    Parameters
    ----------
    problem : Problem
    expected : Expected
    change : array (S,)
        Change of the objective per draw, on the draws that risk limits are held to.
    today : float
        The objective per period at today's prices.

    Returns
    -------
    list of Miss
        Empty where all are kept.
    """
    return [*_misses_of_risk(problem, change, abs(today)), *_misses_of_rows(problem, expected),
            *_misses_of_ties(problem, expected.prices)]  # fmt: skip


def portfolio_residuals(
    problem: Problem, expected: Expected, change: Floats, today: float
) -> tuple[tuple[str, float], ...]:
    """By how much prices break each limit of the portfolio, 0 where they keep it.

    Arguments are those of :func:`portfolio_misses`.

    Returns
    -------
    tuple of (str, float)
        Money for the shortfall, probability for the quantile, the limit's own unit for rows (items, shares), items
        out of order for tiers and groups.
    """
    misses = portfolio_misses(problem, expected, change, today)
    return tuple(
        (limit.name, max((abs(miss.reached - miss.bound) for miss in misses if miss.limit == limit.name), default=0.0))
        for limit in problem.limits.portfolio
    )


def _misses_of_risk(problem: Problem, change: Floats, today: float) -> list[Miss]:
    limits, found = problem.limits, []
    if limits.shortfall is not None:
        reached, bound = -float(tail_mean(change, limits.shortfall.share)), limits.shortfall.amount
        if not reached - bound <= 1e-6 * abs(bound) + MONEY_SLACK * today:
            found.append(
                Miss(limit=limits.shortfall.name, what="the expected shortfall of the change", bound=bound,
                     reached=reached, share=(reached - bound) / (today or 1.0))
            )  # fmt: skip
    if limits.quantile is not None:
        lost = float((change < -limits.quantile.amount - MONEY_SLACK * today).mean())
        bound = limits.quantile.probability
        if not lost - bound <= 1e-12:
            found.append(
                Miss(limit=limits.quantile.name, what=f"the probability of losing over {limits.quantile.amount:.6g}",
                     bound=bound, reached=lost, share=lost - bound)
            )  # fmt: skip
    return found


def _misses_of_rows(problem: Problem, expected: Expected) -> list[Miss]:
    if not problem.limits.linear:
        return []
    pairs = _chosen_pairs(problem, expected)
    found: list[Miss] = []
    for limit in problem.limits.linear:
        for row in limit.rows(pairs):
            over = float(row.values.sum()) - row.bound
            if not over <= ROW_SLACK * max(abs(row.bound), 1.0):
                found.append(
                    Miss(limit=limit.name, what=row.what, bound=row.bound * row.unit,
                         reached=float(row.values.sum()) * row.unit, share=over / expected.prices.size)
                )  # fmt: skip
    return found


def _misses_of_ties(problem: Problem, prices: Floats) -> list[Miss]:
    limits, found = problem.limits, []
    place = {item: index for index, item in enumerate(problem.items)}
    if limits.order is not None:
        gaps = [
            np.log(prices[place[lower]] * (1.0 + limits.order.step) / prices[place[upper]])
            for chain in limits.order.tiers
            for lower, upper in pairwise(chain)
        ]
        found += _untied(limits.order.name, "the number of tiers out of order", np.array(gaps))
    if limits.same is not None:
        gaps = [
            abs(np.log(prices[place[item]] / prices[place[group[0]]]))
            for group in limits.same.groups
            for item in group[1:]
        ]
        found += _untied(limits.same.name, "the number of unlike prices", np.array(gaps))
    return found


def _untied(name: str, what: str, gaps: Floats) -> list[Miss]:
    apart = gaps[~(gaps <= ROW_SLACK)]
    if not apart.size:
        return []
    return [Miss(limit=name, what=what, bound=0.0, reached=float(apart.size), share=float(apart.sum()))]


def _chosen_pairs(problem: Problem, expected: Expected) -> Pairs:
    """The prices as pairs, one per item, with the units that are expected of them."""
    return Pairs(
        table=problem.table, level=next(iter(problem.posterior.spec.levels), None), facts=problem.facts,
        units_today=expected.units_today, kept=problem.economics.unit_value("revenue", problem.table).kept,
        item=np.arange(expected.prices.size), price=expected.prices, units=expected.units,
        moved=np.abs(np.log(expected.prices / problem.facts.current_price)) > SMALLEST_MOVE,
    )  # fmt: skip
