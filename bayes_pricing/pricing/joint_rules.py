"""What joint prices break: limits on items and on the portfolio, recomputed on draws with every price moved at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.constraints import (
    Capacity,
    MaxItemLossQuantile,
    MaxItemShortfall,
    MaxLossProbability,
    MinVolume,
)
from bayes_pricing.pricing.feasibility import MONEY_SLACK, Expected, Miss, portfolio_misses
from bayes_pricing.pricing.item_limits import SLACK, by_item
from bayes_pricing.pricing.problem import Problem
from bayes_pricing.pricing.risk import tail_mean

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

DrawLimit = MinVolume | Capacity | MaxLossProbability | MaxItemShortfall | MaxItemLossQuantile
"""Limits on an item that other items' prices have a say in, where prices cross."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointPoint:
    """Prices of all items at once and what they bring.

    Attributes
    ----------
    prices : array (J,)
    units : array (J, S)
        Expected units per period on every draw, every price moved at once.
    money : array (J, S)
        What they bring under the objective.
    """

    prices: Floats
    units: Floats
    money: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointRules:
    """The limits that must be looked at on joint draws.

    An item's risk is that of its own money with all prices moved at once: an item whose price stays may lose buyers to
    its neighbours, and then counts as losing. At today's prices nothing is lost.

    Attributes
    ----------
    problem : Problem
    today : JointPoint
    among : array of int or None
        Draws that the portfolio's risk limits are held to.
    units_today, money_today : array (J,)
        Means over draws at today's prices.
    """

    problem: Problem
    today: JointPoint
    among: Places | None
    units_today: Floats = field(init=False)
    money_today: Floats = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "units_today", self.today.units.mean(axis=1))
        object.__setattr__(self, "money_today", self.today.money.mean(axis=1))

    @property
    def scale(self) -> float:
        """Money today, all items together, never zero."""
        return float(np.abs(self.money_today).sum()) or 1.0

    @property
    def of_items(self) -> tuple[DrawLimit, ...]:
        """Limits on single items among them."""
        return tuple(limit for limit in self.problem.limits.item if isinstance(limit, DrawLimit))

    def change(self, point: JointPoint) -> Floats:
        """Change of all items' money against today per draw, array (S,)."""
        return np.asarray((point.money - self.today.money).sum(axis=0), dtype=np.float64)

    def expected(self, point: JointPoint) -> Expected:
        """Prices and the means of their units."""
        return Expected(prices=point.prices, units_today=self.units_today, units=point.units.mean(axis=1))

    def misses(self, point: JointPoint) -> list[Miss]:
        """Every limit that the prices break, items one by one."""
        expected = self.expected(point)
        change = self.change(point)
        limited = change if self.among is None else change[self.among]
        found = portfolio_misses(self.problem, expected, limited, float(self.money_today.sum()))
        for limit in self.of_items:
            reached, bound, share = self._measured(limit, point, expected)
            for place in np.flatnonzero(~(share <= SLACK)).tolist():
                found.append(
                    Miss(limit=limit.name, what=_what(limit, self.problem.items[place]), bound=float(bound[place]),
                         reached=float(reached[place]), share=float(share[place]))
                )  # fmt: skip
        return found

    def breaking(self, point: JointPoint) -> dict[str, list[int]]:
        """Places of the items that break each limit on items."""
        expected = self.expected(point)
        return {
            limit.name: np.flatnonzero(~(self._measured(limit, point, expected)[2] <= SLACK)).tolist()
            for limit in self.of_items
        }

    def _measured(self, limit: DrawLimit, point: JointPoint, expected: Expected) -> tuple[Floats, Floats, Floats]:
        """What every item reaches, its bound, and how far it is beyond, of order one; arrays (J,)."""
        facts = self.problem.facts
        today = np.abs(self.money_today)
        if isinstance(limit, MinVolume):
            bound = by_item(limit.units, facts, 0.0)
            return expected.units, bound, (bound - expected.units) / np.maximum(bound, 1e-300)
        if isinstance(limit, Capacity):
            bound = by_item(limit.units, facts, np.inf)
            return expected.units, bound, np.where(
                np.isfinite(bound), (expected.units - bound) / np.maximum(expected.units, 1e-300), -1.0
            )  # fmt: skip
        change = point.money - self.today.money
        rounding = (MONEY_SLACK * today)[:, None]
        if isinstance(limit, MaxLossProbability):
            bound = np.full(len(today), limit.probability)
            lost = (change < -rounding).mean(axis=1)
            return lost, bound, lost - bound
        if isinstance(limit, MaxItemShortfall):
            bound, reached = by_item(limit.amount, facts, np.inf), -tail_mean(change, limit.share)
        else:
            bound, reached = by_item(limit.amount, facts, np.inf), -np.quantile(change, limit.probability, axis=1)
        over = np.where(np.isfinite(bound), reached - bound - rounding[:, 0], -1.0)
        return reached, bound, over / np.where(today > 0, today, 1.0)


def _what(limit: DrawLimit, item: str) -> str:
    match limit:
        case MinVolume() | Capacity():
            return f"the expected units of {item!r}"
        case MaxLossProbability():
            return f"the probability that {item!r} earns less"
        case MaxItemShortfall():
            return f"the expected shortfall of {item!r}"
        case MaxItemLossQuantile():
            return f"the loss of {item!r} in a bad case"
