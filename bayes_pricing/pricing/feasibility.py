"""How far a portfolio's limits are broken, recomputed from the prices alone: no solver is asked."""

from __future__ import annotations

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


def portfolio_residuals(
    problem: Problem, prices: Floats, change: Floats, today: float
) -> tuple[tuple[str, float], ...]:
    """By how much prices break each limit of the portfolio, 0 where they keep it.

    Parameters
    ----------
    problem : Problem
    prices : array (J,)
    change : array (S,)
        Change of the objective per draw, on the draws that risk limits are held to.
    today : float
        The objective per period at today's prices.

    Returns
    -------
    tuple of (str, float)
        Money for the shortfall, probability for the quantile, the limit's own unit for rows (items, shares), items
        out of order for tiers and groups.
    """
    limits = problem.limits
    found: list[tuple[str, float]] = []
    if limits.shortfall is not None:
        beyond = -float(tail_mean(change, limits.shortfall.share)) - limits.shortfall.amount
        slack = 1e-6 * abs(limits.shortfall.amount) + MONEY_SLACK * abs(today)
        found.append((limits.shortfall.name, beyond if beyond > slack else 0.0))
    if limits.quantile is not None:
        lost = float((change < -limits.quantile.amount - MONEY_SLACK * abs(today)).mean())
        beyond = lost - limits.quantile.probability
        found.append((limits.quantile.name, beyond if beyond > 1e-12 else 0.0))
    if limits.linear:
        pairs = _chosen_pairs(problem, prices)
        for limit in limits.linear:
            rows = limit.rows(pairs)
            over = [
                (float(row.values.sum()) - row.bound) * abs(row.unit)
                for row in rows
                if row.values.sum() > row.bound + ROW_SLACK * max(abs(row.bound), 1.0)
            ]
            found.append((limit.name, max(over, default=0.0)))
    place = {item: index for index, item in enumerate(problem.items)}
    if limits.order is not None:
        falls = 0
        for chain in limits.order.tiers:
            tier = prices[[place[item] for item in chain]]
            falls += int((tier[1:] < tier[:-1] * (1.0 + limits.order.step) * (1.0 - ROW_SLACK)).sum())
        found.append((limits.order.name, float(falls)))
    if limits.same is not None:
        unlike = 0
        for group in limits.same.groups:
            members = prices[[place[item] for item in group]]
            unlike += int((np.abs(members / members[0] - 1.0) > ROW_SLACK).sum())
        found.append((limits.same.name, float(unlike)))
    return tuple(found)


def _chosen_pairs(problem: Problem, prices: Floats) -> Pairs:
    """The prices as pairs, one per item, with the units that are expected of them."""
    parts = problem.over_blocks(
        lambda where, block: (
            block.units_today.mean(axis=1),
            np.einsum("js,js->j", block.growth(prices[where]), block.units_today) / block.units_today.shape[1],
        )
    )
    today = np.concatenate([part[0] for part in parts])
    return Pairs(
        table=problem.table, level=next(iter(problem.posterior.spec.levels), None), facts=problem.facts,
        units_today=today, kept=problem.economics.unit_value("revenue", problem.table).kept,
        item=np.arange(prices.size), price=prices, units=today + np.concatenate([part[1] for part in parts]),
        moved=np.abs(np.log(prices / problem.facts.current_price)) > SMALLEST_MOVE,
    )  # fmt: skip
