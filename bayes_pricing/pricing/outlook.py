"""What candidate prices would bring some items, on joint posterior draws: the numbers that limits and engines read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import DemandDraws
from bayes_pricing.pricing.profit import Economics, Objective, UnitValue
from bayes_pricing.pricing.tails import Prospects, count_below, geometric_sums

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

PAIRS_AT_ONCE = 128
"""Pairs of item and price whose draws are laid out together where every price has elasticities of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ItemFacts:
    """What is known of some items without any draw.

    Attributes
    ----------
    items : tuple of str, length J
    current_price, lowest_price, highest_price : array (J,)
        Today's price and the range ever observed, currency per unit.
    value : UnitValue
        Worth of a unit under the objective.
    profit : UnitValue
        Profit per unit, its charge NaN where the cost is unknown.
    """

    items: tuple[str, ...]
    current_price: Floats
    lowest_price: Floats
    highest_price: Floats
    value: UnitValue
    profit: UnitValue

    def part(self, where: slice | NDArray[np.intp]) -> ItemFacts:
        """The same for some of the items, by position."""
        items = self.items[where] if isinstance(where, slice) else tuple(self.items[index] for index in where.tolist())
        return ItemFacts(
            items=items,
            current_price=self.current_price[where],
            lowest_price=self.lowest_price[where],
            highest_price=self.highest_price[where],
            value=self.value.part(where),
            profit=self.profit.part(where),
        )


def item_facts(table: pl.DataFrame, economics: Economics, objective: Objective) -> ItemFacts:
    """Facts of the rows of an item table under an economics and an objective."""
    return ItemFacts(
        items=tuple(str(name) for name in table["item"]),
        current_price=table["current_price"].to_numpy().astype(np.float64),
        lowest_price=table["lowest_price"].to_numpy().astype(np.float64),
        highest_price=table["highest_price"].to_numpy().astype(np.float64),
        value=economics.unit_value(objective, table),
        profit=economics.unit_value("profit", table),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Some items ready to be judged: facts, joint draws, and what every candidate price of theirs shares.

    Attributes
    ----------
    facts : ItemFacts
    draws : DemandDraws
    units_today : array (J, S)
        Expected units per period at today's price.
    """

    facts: ItemFacts
    draws: DemandDraws
    units_today: Floats

    @cached_property
    def sorted_elasticity(self) -> Floats:
        """Elasticities at today's price in ascending order, array (J, S).

        Where they are the same at every price a probability of loss is a search among them.
        """
        return np.sort(self.draws.elasticity, axis=1)

    def part(self, where: slice | NDArray[np.intp]) -> Block:
        """The same for some of the items, by position; elasticities sorted once stay sorted."""
        part = Block(facts=self.facts.part(where), draws=self.draws.part(where), units_today=self.units_today[where])
        if "sorted_elasticity" in self.__dict__:
            part.__dict__["sorted_elasticity"] = self.sorted_elasticity[where]
        return part

    def on(self, draws: NDArray[np.intp]) -> Block:
        """The same items on some of the draws."""
        return Block(facts=self.facts, draws=self.draws.on(draws), units_today=self.units_today[:, draws])

    def growth(self, prices: Floats) -> Floats:
        r"""Share by which units grow from today's price to `prices` on every draw, array (J, S): exactly 0 at today's.

        .. math:: g = e^{\bar\varepsilon L} - 1, \quad L = \log(p / p_0)

        with :math:`\bar\varepsilon` the mean elasticity between the two prices.
        """
        return np.asarray(np.expm1(self.draws.log_growth(np.log(prices / self.facts.current_price))), dtype=np.float64)

    def change(self, prices: Floats, value: UnitValue, growth: Floats | None = None) -> Floats:
        r"""Change of money per period against today on every draw, array (J, S); exactly 0 at today's price.

        .. math:: \Delta = q_0 \big( v(p)\, g + v(p) - v(p_0) \big)

        `growth` is that of the same prices where it is known already.
        """
        worth = value.at(prices)
        change = (self.growth(prices) if growth is None else growth) * worth[:, None]
        change += (worth - value.at(self.facts.current_price))[:, None]
        change *= self.units_today
        return np.asarray(change, dtype=np.float64)


def build_block(facts: ItemFacts, draws: DemandDraws) -> Block:
    """Put facts and draws of the same items side by side."""
    return Block(facts=facts, draws=draws, units_today=np.exp(draws.log_units_today))


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """Candidate prices of a block and, computed when first asked for, what is expected of each.

    Attributes
    ----------
    block : Block
    prices : array (J, K)
        Candidates, currency per unit.
    geometric : bool
        The columns from the second on are equally spaced in log price: one exponential per draw serves them all.
    """

    block: Block
    prices: Floats
    geometric: bool = False

    @property
    def facts(self) -> ItemFacts:
        """Facts of the block's items."""
        return self.block.facts

    @cached_property
    def log_ratio(self) -> Floats:
        """Log of each candidate over today's price, array (J, K); exactly 0 at today's price."""
        return np.asarray(np.log(self.prices / self.facts.current_price[:, None]), dtype=np.float64)

    @cached_property
    def is_today(self) -> Bools:
        """True where the candidate is today's price, array (J, K)."""
        return np.abs(self.log_ratio) < 1e-12

    @cached_property
    def expected_units(self) -> Floats:
        """Mean over draws of expected units per period, array (J, K)."""
        draws, log_ratio = self.block.draws, self.log_ratio
        elasticity = draws.elasticity
        expected = np.empty_like(self.prices)
        count = self.prices.shape[1]
        if not self.geometric or draws.curve is not None:
            for column in range(count):
                units = np.exp(draws.log_growth(log_ratio[:, column]))
                expected[:, column] = np.einsum("js,js->j", units, self.block.units_today)
            return np.asarray(expected / elasticity.shape[1], dtype=np.float64)
        first = np.exp(elasticity * log_ratio[:, 0, None])
        expected[:, 0] = np.einsum("js,js->j", self.block.units_today, first)
        units = self.block.units_today * np.exp(elasticity * log_ratio[:, 1, None])
        step = np.exp(elasticity * ((log_ratio[:, -1] - log_ratio[:, 1]) / max(count - 2, 1))[:, None])
        expected[:, 1:] = geometric_sums(units, step, count - 1)
        return np.asarray(expected / elasticity.shape[1], dtype=np.float64)

    @cached_property
    def expected_change(self) -> Floats:
        """Expected change of the objective per period against today, array (J, K); exactly 0 at today's price."""
        value = self.facts.value
        today = value.at(self.facts.current_price) * self.block.units_today.mean(axis=1)
        return np.where(self.is_today, 0.0, value.at(self.prices) * self.expected_units - today[:, None])

    @cached_property
    def probability_worse(self) -> Floats:
        r"""Posterior probability that a candidate earns less than today, array (J, K).

        With v the worth of a unit, a draw loses where :math:`v(p) e^{\bar\varepsilon L} < v(p_0)`, i.e. where its
        mean elasticity between the two prices is on the wrong side of :math:`-\log(v(p) / v(p_0)) / L`: today's volume
        cancels, and where the elasticity is the same at every price one sort serves them all.
        """
        worth, value = self.facts.value.at(self.prices), self.facts.value
        today = np.broadcast_to(value.at(self.facts.current_price)[:, None], worth.shape)
        same_sign = (worth * today) > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            threshold = np.where(same_sign & ~self.is_today, -np.log(worth / today) / self.log_ratio, 0.0)
        loses_below = (self.log_ratio > 0) == (today > 0)
        threshold = np.where(loses_below, threshold, np.nextafter(threshold, np.inf))
        draws = self.block.units_today.shape[1]
        below = self._count_below(threshold)
        worse = np.where(loses_below, below, draws - below) / draws
        worse = np.where(same_sign, worse, (worth < today).astype(np.float64))
        return np.where(self.is_today, 0.0, worse)

    @cached_property
    def largest_loss(self) -> Floats:
        """No draw loses more than this against today, array (J, K): the worst mean elasticity on the most units."""
        worth, today = self.facts.value.at(self.prices), self.facts.value.at(self.facts.current_price)[:, None]
        lowest, highest = self._extremes
        worst = np.where((self.log_ratio > 0) == (worth > 0), lowest, highest)
        loss = today - worth * np.exp(worst * self.log_ratio)
        return np.asarray(loss.clip(min=0.0) * self.block.units_today.max(axis=1)[:, None], dtype=np.float64)

    def shortfall(self, share: float, among: Bools | None = None) -> Floats:
        """Mean loss of the change against today over the worst `share` of draws, (J, K); a loss is positive.

        Candidates outside `among` are not looked at and count as losing without end.
        """
        return self._loss(lambda prospects: -prospects.tail_mean(share), among)

    def loss_quantile(self, probability: float, among: Bools | None = None) -> Floats:
        """Loss against today that is exceeded with this probability, array (J, K); a loss is positive."""
        return self._loss(lambda prospects: -prospects.quantile(probability), among)

    def _loss(self, measure: Callable[[Prospects], Floats], among: Bools | None) -> Floats:
        found = np.where(self.is_today, 0.0, np.inf)
        row, column = np.nonzero(~self.is_today if among is None else among & ~self.is_today)
        if row.size:
            value, block = self.facts.value, self.block
            worth, today = value.at(self.prices)[row, column], value.at(self.facts.current_price)[row]
            money = np.stack([self.log_ratio[row, column], worth, today], axis=1)
            if block.draws.curve is None:
                found[row, column] = measure(
                    Prospects(
                        elasticity=block.draws.elasticity,
                        ordered=block.sorted_elasticity,
                        units=block.units_today,
                        row=row,
                        money=money,
                    )
                )
                return found
            for start in range(0, row.size, PAIRS_AT_ONCE):
                some = slice(start, start + PAIRS_AT_ONCE)
                found[row[some], column[some]] = measure(_curved_prospects(block, row[some], money[some]))
        return found

    def _count_below(self, threshold: Floats) -> Floats:
        """How many draws of every candidate have a mean elasticity from today's price below its threshold, (J, K)."""
        draws = self.block.draws
        if draws.curve is None:
            counted: Floats = count_below(self.block.sorted_elasticity, threshold)
            return counted
        found = np.empty(threshold.shape)
        for column in range(threshold.shape[1]):
            mean = draws.mean_elasticity(self.log_ratio[:, column])
            found[:, column] = (mean < threshold[:, column, None]).sum(axis=1)
        return found

    @property
    def _extremes(self) -> tuple[Floats, Floats]:
        """Lowest and highest mean elasticity from today's price to every candidate, arrays that broadcast to (J, K)."""
        draws = self.block.draws
        if draws.curve is None:
            return self.block.sorted_elasticity[:, :1], self.block.sorted_elasticity[:, -1:]
        means = [draws.mean_elasticity(self.log_ratio[:, column]) for column in range(self.prices.shape[1])]
        lowest, highest = (np.stack([end(mean, axis=1) for mean in means], axis=1) for end in (np.min, np.max))
        return lowest, highest


def _curved_prospects(block: Block, row: NDArray[np.intp], money: Floats) -> Prospects:
    """Pairs whose elasticities are means between today's price and their own, so that each has its own order."""
    elasticity = block.draws.part(row).mean_elasticity(money[:, 0])
    return Prospects(
        elasticity=elasticity,
        ordered=np.sort(elasticity, axis=1),
        units=block.units_today[row],
        row=np.arange(row.size),
        money=money,
    )
