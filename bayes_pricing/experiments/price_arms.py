"""Arms of a price test from the demand posterior: which prices, and what is believed of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.experiments.many_arms import Arms, best_equal_size
from bayes_pricing.pricing.constraints import Limit, Support
from bayes_pricing.pricing.judging import judge_items, period_noise
from bayes_pricing.pricing.outlook import Block, Outlook
from bayes_pricing.pricing.problem import Problem, build_problem
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import TestingRule

Floats = NDArray[np.float64]

CANDIDATES = 13
WIDEST_MOVE = 0.25
"""Prices to test are looked for within a quarter of today's where no limit is closer."""
DAYS_PER_WEEK = 7.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceArms:
    """Prices to test and what is believed of each, a unit being one period of the item's sales.

    Attributes
    ----------
    prices : tuple of float
        Today's first, currency per unit.
    arms : Arms
        Normal beliefs with the draws' means and covariance: money per period.
    draws : array (draw, arm)
        Joint posterior draws of money per period.
    findings : tuple of Finding
        Arms below cost.
    """

    prices: tuple[float, ...]
    arms: Arms
    draws: Floats
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceChoice:
    """Which new prices a test is to have.

    Attributes
    ----------
    prices : tuple of float
        Named ones; left out, the `count` prices whose test is worth most within the limits.
    count : int
    switching_cost : float
        Money that rolling out a new price costs once.
    """

    prices: tuple[float, ...] = ()
    count: int = 1
    switching_cost: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 < price < float("inf") for price in self.prices):
            raise SpecError(f"test_price is {list(self.prices)}; prices must be positive.")
        if len(set(self.prices)) < len(self.prices) or self.count < 1:
            raise SpecError("A test needs at least one new price, each named once.")
        if not 0 <= self.switching_cost < float("inf"):
            raise SpecError(f"switching_cost is {self.switching_cost}; give money, zero or more.")


def price_arms(
    posterior: DemandPosterior,
    economics: Economics,
    item: str,
    choice: PriceChoice,
    *,
    horizon_periods: float,
    objective: Objective = "profit",
    limits: Sequence[Limit] = (),
) -> PriceArms:
    """Arms of one item's price test; all true means come from the same joint draws.

    New prices may lie outside what was ever observed (tests make support), not outside the other limits. Several of
    them are chosen one after the other: each is the one with which the test is worth most.

    Parameters
    ----------
    posterior : DemandPosterior
    economics : Economics
    item : str
    choice : PriceChoice
    horizon_periods : float
        Periods the decision is for, the test included.
    objective : {"profit", "revenue", "units"}
    limits : sequence of Limit

    Raises
    ------
    SpecError
        For an unknown item, a price that is today's, or a horizon under 2 periods.
    Refusal
        If the item's worth is unknown, or no price can be tested within the limits.
    """
    problem = build_problem(
        posterior, economics, objective, limits, horizon_periods=horizon_periods, items=[item], testing=TestingRule()
    )
    _, block = next(problem.blocks())
    if np.isnan(block.facts.value.charge).any():
        raise Refusal([_nothing_to_test(item)])
    today = float(block.facts.current_price[0])
    for price in choice.prices:
        if abs(np.log(price / today)) < 1e-9:
            raise SpecError(f"test_price is today's price of {item!r}, {today:g}; a test needs another one.")
    chosen = choice.prices or _most_worth_testing(problem, block, choice)
    if not chosen:
        raise Refusal([_nothing_to_test(item)])
    prices = (today, *chosen)
    arms, draws = _believed(problem, block, prices, choice.switching_cost)
    return PriceArms(prices=prices, arms=arms, draws=draws, findings=tuple(_below_cost(block, item, chosen)))


def weeks_per_period(summary: PanelSummary) -> float | None:
    """Length of a panel's periods in weeks, from its first and last day; None where periods are numbers or one.

    Examples
    --------
    >>> summary = PanelSummary(rows=52, items=1, zero_rows=0, absent_rows=0, absent=None, units={}, data_hash="",
    ...                        first_period=date(2025, 1, 6), last_period=date(2025, 12, 29), periods=52)
    >>> weeks_per_period(summary)
    1.0
    """
    first, last = summary.first_period, summary.last_period
    if not isinstance(first, date) or not isinstance(last, date) or summary.periods < 2:
        return None
    return (last - first).days / (summary.periods - 1) / DAYS_PER_WEEK


def _believed(problem: Problem, block: Block, prices: Sequence[float], switching_cost: float) -> tuple[Arms, Floats]:
    """Joint draws of money per period at each price, and their normal summary."""
    at = [np.array([price]) for price in prices]
    units = [block.draws.units(price) for price in at]
    value = block.facts.value
    draws = np.stack([value.at(price)[0] * sold[0] for price, sold in zip(at, units, strict=True)], axis=1)
    covariance = np.cov(draws, rowvar=False)
    noise = [
        max(float(np.sqrt(period_noise(problem, block, price, sold.mean(axis=1))[0])), 1e-9 * float(spread))
        for price, sold, spread in zip(at, units, np.sqrt(np.diag(covariance)), strict=True)
    ]
    arms = Arms(
        means=tuple(float(mean) for mean in draws.mean(axis=0)),
        covariance=tuple(tuple(float(entry) for entry in row) for row in covariance),
        noise_sds=tuple(noise),
        population=problem.horizon_periods,
        switching_costs=(0.0, *(switching_cost for _ in prices[1:])),
    )
    return arms, draws


def _most_worth_testing(problem: Problem, block: Block, choice: PriceChoice) -> tuple[float, ...]:
    best = float(judge_items(problem).test_price[0])
    if not np.isfinite(best):
        return ()
    chosen, candidates = [best], _candidates(problem, block)
    while len(chosen) < choice.count:
        apart = [price for price in candidates if all(abs(np.log(price / other)) > 0.01 for other in chosen)]
        if not apart:
            break
        today = float(block.facts.current_price[0])
        worth = [
            best_equal_size(_believed(problem, block, (today, *chosen, price), choice.switching_cost)[0]).profit
            for price in apart
        ]
        chosen.append(apart[int(np.argmax(worth))])
    return tuple(chosen)


def _candidates(problem: Problem, block: Block) -> list[float]:
    """Prices within the limits, support aside, and within a quarter of today's price; today's own left out."""
    limits = problem.limits.without(Support.name)
    today = block.facts.current_price
    lowest, highest = limits.box(block.facts)
    low, high = (
        max(float(lowest[0]), today[0] / (1 + WIDEST_MOVE)),
        min(float(highest[0]), today[0] * (1 + WIDEST_MOVE)),
    )
    if not low < high:
        return []
    grid = np.geomspace(low, high, CANDIDATES) if limits.ladder is None else limits.ladder.rungs(low, high)
    prices = np.asarray(grid, dtype=np.float64)[None, :]
    allowed = limits.allows(Outlook(block=block, prices=prices))[0]
    return [float(price) for price in prices[0, allowed] if abs(np.log(price / today[0])) > 0.01]


def _below_cost(block: Block, item: str, prices: Sequence[float]) -> list[Finding]:
    profit = block.facts.profit
    return [
        Finding(
            code="arm_below_cost", severity="warning", item=item,
            message=f"a unit of {item!r} sold at {price:g} loses money", remedy="test a price above its cost",
        )
        for price in prices
        if float(profit.kept[0]) * price < float(profit.charge[0])
    ]  # fmt: skip


def _nothing_to_test(item: str) -> Finding:
    return Finding(
        code="nothing_to_test", severity="error", item=item,
        message=f"no price of {item!r} can be tested: its worth is unknown or the limits leave only today's price",
        remedy="give its cost, relax the limits, or name a test price",
    )  # fmt: skip
