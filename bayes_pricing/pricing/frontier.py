"""Gain against risk: the efficient frontier, and what each risk limit of a decision costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.pricing.constraints import (
    Limit,
    MaxItemLossQuantile,
    MaxItemShortfall,
    MaxLossProbability,
    MaxLossQuantile,
    MaxShortfall,
)
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.functionals import ExponentialUtility
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics, Objective

RISK_LIMITS = MaxLossProbability | MaxItemShortfall | MaxItemLossQuantile | MaxShortfall | MaxLossQuantile
NEAR_SAFEST = 0.05
"""Share of the way back from the safest prices at which the frontier ends: nearer to them whole prices that keep the
floor are a handful, and hard to find."""
OUT_OF_REACH = 1e9
"""Times today's money: a floor that no prices reach, asked for so that the refusal names the highest one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """Best prices under one limit on the portfolio's expected shortfall. Money is per period.

    Attributes
    ----------
    max_shortfall : float or None
        The limit; None where none was set.
    objective, upper_bound : float
        Expected change, and no prices under this limit bring more.
    expected_shortfall : float
        Mean loss over the worst draws, positive a loss.
    expected_shortfall_held_out : float or None
    probability_better : float
    changes : int
        Prices that change.
    """

    max_shortfall: float | None
    objective: float
    upper_bound: float
    expected_shortfall: float
    expected_shortfall_held_out: float | None
    probability_better: float
    changes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CautionCost:
    """What a risk limit costs: expected change per period without it, and how much of that it takes away."""

    limit: str
    objective_without: float
    cost: float


def efficient_frontier(
    posterior: DemandPosterior,
    economics: Economics,
    objective: Objective,
    limits: Sequence[Limit] = (),
    *,
    horizon_periods: float,
    seed: int,
    points: int = 6,
    share: float = 0.05,
    items: Sequence[str] | None = None,
    utility: ExponentialUtility | None = None,
) -> tuple[FrontierPoint, ...]:
    """Highest expected gain for every risk, from no limit on the portfolio's shortfall to nearly the safest prices.

    Parameters
    ----------
    posterior, economics, objective, limits, horizon_periods, seed, items, utility
        As for :func:`bayes_pricing.pricing.optimizer.optimize_prices`; a limit on the shortfall among the limits is
        left out. With a utility the gain is its certainty equivalent.
    points : int
        Two or more.
    share : float
        Share of the draws that counts as the tail.

    Returns
    -------
    tuple of FrontierPoint
        From the boldest to the safest; the objective never rises along it beyond the gap of its certificates.

    Raises
    ------
    SpecError
        For fewer than two points.
    Refusal
        If the other limits cannot be met.
    """
    if points < 2:
        raise SpecError(f"A frontier of {points} points is none; ask for two or more.")
    others = [limit for limit in limits if not isinstance(limit, MaxShortfall)]

    def decided(amount: float | None) -> PriceDecision:
        limited: list[Limit] = [*others] if amount is None else [*others, MaxShortfall(amount=amount, share=share)]
        return optimize_prices(
            posterior, economics, objective, limited, horizon_periods=horizon_periods, seed=seed, items=items,
            testing=None, utility=utility,
        )  # fmt: skip

    free = decided(None)
    today = abs(float(free.portfolio.current_draws.sel(metric=objective).mean()))
    loosest = decided(OUT_OF_REACH * today)
    risk = loosest.portfolio.expected_shortfall
    found = [_point(loosest, None)]
    try:
        decided(-OUT_OF_REACH * today)
    except Refusal as refusal:
        smallest = smallest_named(refusal)
    if risk is None or smallest is None or not smallest < risk:
        return tuple(found)
    for amount in np.linspace(risk, smallest + NEAR_SAFEST * (risk - smallest), points)[1:].tolist():
        try:
            found.append(_point(decided(amount), amount))
        except Refusal:
            break
    return tuple(found)


def smallest_named(refusal: Refusal) -> float | None:
    """The smallest expected shortfall that a refused decision names, None where it was refused for something else."""
    said = [
        finding.message for finding in refusal.findings
        if "expected shortfall of the change" in finding.message and "the smallest found is" in finding.message
    ]  # fmt: skip
    return float(said[0].rsplit(" ", 1)[1]) if said else None


def _point(decision: PriceDecision, amount: float | None) -> FrontierPoint:
    portfolio = decision.portfolio
    return FrontierPoint(
        max_shortfall=amount,
        objective=portfolio.objective,
        upper_bound=portfolio.upper_bound,
        expected_shortfall=float("nan") if portfolio.expected_shortfall is None else portfolio.expected_shortfall,
        expected_shortfall_held_out=portfolio.expected_shortfall_held_out,
        probability_better=portfolio.probability_better,
        changes=decision.count("change"),
    )


def price_of_caution(
    posterior: DemandPosterior,
    economics: Economics,
    objective: Objective,
    limits: Sequence[Limit],
    *,
    horizon_periods: float,
    seed: int,
    items: Sequence[str] | None = None,
    utility: ExponentialUtility | None = None,
) -> tuple[CautionCost, ...]:
    """What each risk limit costs: the decision made again without it, one at a time.

    Parameters
    ----------
    posterior, economics, objective, limits, horizon_periods, seed, items, utility
        As for :func:`bayes_pricing.pricing.optimizer.optimize_prices`.

    Returns
    -------
    tuple of CautionCost
        One for every risk limit; costs do not add up, as one limit may stand in for another.
    """

    def reached(kept: Sequence[Limit]) -> float:
        return optimize_prices(
            posterior, economics, objective, kept, horizon_periods=horizon_periods, seed=seed, items=items,
            testing=None, utility=utility,
        ).portfolio.objective  # fmt: skip

    risky = [limit for limit in limits if isinstance(limit, RISK_LIMITS)]
    if not risky:
        return ()
    here = reached(limits)
    found: list[CautionCost] = []
    for limit in risky:
        without = reached([other for other in limits if other is not limit])
        found.append(CautionCost(limit=limit.name, objective_without=without, cost=max(without - here, 0.0)))
    return tuple(found)
