"""Search for joint prices under every limit: one price, then two at once, each trial looked at on all draws.

Where prices cross, a limit on one item's volume or risk, or on the number of changes, ties all prices of its category
together and has no box. So prices move among candidates (a ladder's rungs, or a grid that is halved around the best
found), from the best prices without those limits, from today's and from points between; prices that break a limit are
left by the way that breaks the limits less.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.crossed_blocks import CrossedBlock
from bayes_pricing.pricing.functionals import Functional
from bayes_pricing.pricing.joint_prices import AGREEMENT
from bayes_pricing.pricing.joint_rules import JointPoint, JointRules
from bayes_pricing.pricing.problem import SMALLEST_MOVE

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MOST_SWEEPS = 30
FINEST_STEP = 2e-4
"""Log-price step at which the search between candidates ends."""
FEW_CHOOSERS = 24
"""Up to these many prices, any two are moved at once; beyond, two of one category."""
WAYS = (1.0, 0.5, 0.0)
"""Starts: shares of the way from today's prices to the best ones without the limits."""
ROUNDING = 1e-11


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chooser:
    """An item, or several that have one price in common, and the prices it may have.

    Attributes
    ----------
    items : array of int
        Places in the problem.
    candidates : array
        Ascending, currency per unit.
    lowest, highest : float
        Box of the price.
    finer : bool
        Prices between the candidates are allowed too.
    barred : tuple of (float, float)
        Prices strictly between these two are too small a change.
    """

    items: Places
    candidates: Floats
    lowest: float
    highest: float
    finer: bool
    barred: tuple[float, float]

    def next_to(self, price: float) -> list[float]:
        """Candidates just below and just above a price."""
        below = self.candidates[self.candidates < price * (1.0 - 1e-9)]
        above = self.candidates[self.candidates > price * (1.0 + 1e-9)]
        return [*below[-1:].tolist(), *above[:1].tolist()]

    def around(self, price: float, step: float) -> list[float]:
        """Prices one log step below and above, inside the box."""
        found = np.clip(price * np.exp([-step, step]), self.lowest, self.highest)
        low, high = self.barred
        return [float(one) for one in found if abs(one / price - 1.0) > 1e-9 and not low < one < high]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Position:
    """Joint prices, how far they break the limits (0: not at all) and what they are worth."""

    point: JointPoint
    change: Floats
    missed: float
    worth: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searched:
    """The best position found, and how many of the starts ended as well."""

    position: Position
    starts: int
    agreed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Trial:
    """A move from a point: the new prices, the change per draw, and units and money of the categories that it hits."""

    base: JointPoint
    prices: Floats
    change: Floats
    parts: list[tuple[Places, Floats, Floats]]

    def point(self) -> JointPoint:
        """Everything at the new prices."""
        units, money = self.base.units.copy(), self.base.money.copy()
        for places, new_units, new_money in self.parts:
            units[places], money[places] = new_units, new_money
        return JointPoint(prices=self.prices, units=units, money=money)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointSearch:
    """A search for the best joint prices under the rules.

    Attributes
    ----------
    rules : JointRules
    blocks : tuple of CrossedBlock
    choosers : tuple of Chooser
    chains : tuple of tuple of int
        Choosers of every chain of tiers, the cheapest first: they are also moved together.
    functional : Functional or None
        What is maximised of the change per draw; None for its mean.
    aim : str
        Name of a limit to be broken as little as possible, instead of earning most; empty for none.
    """

    rules: JointRules
    blocks: tuple[CrossedBlock, ...]
    choosers: tuple[Chooser, ...]
    chains: tuple[tuple[int, ...], ...]
    functional: Functional | None
    aim: str = ""

    def best(self, wish: Floats, *, ways: Sequence[float] = WAYS) -> Searched:
        """Search from several points between today's prices and wished ones (J,), then between the candidates."""
        current = self.rules.problem.facts.current_price
        found = [self._climbed(self.at(self._on_candidates(current * (wish / current) ** way)), wish) for way in ways]
        top = max(found, key=lambda end: (-end.missed, end.worth))
        near = AGREEMENT * max(abs(top.worth), 1e-9 * self._scale)
        agreed = sum(end.missed == top.missed and end.worth >= top.worth - near for end in found)
        return Searched(position=self._refined(top), starts=len(ways), agreed=agreed)

    def at(self, prices: Floats) -> Position:
        """Everything about given prices (J,)."""
        facts = self.rules.problem.facts
        units = np.empty_like(self.rules.today.units)
        for block in self.blocks:
            moves = np.log(prices[block.places] / facts.current_price[block.places])
            units[block.places] = block.demand.units(moves).T
        return self._position(JointPoint(prices=prices, units=units, money=facts.value.at(prices)[:, None] * units))

    def _position(self, point: JointPoint, change: Floats | None = None) -> Position:
        change = self.rules.change(point) if change is None else change
        misses = self.rules.misses(point)
        missed = sum(miss.share for miss in misses if miss.limit != self.aim)
        return Position(point=point, change=change, missed=missed, worth=self._worth(change) if not self.aim else
                        -sum(miss.share for miss in misses if miss.limit == self.aim))  # fmt: skip

    def _worth(self, change: Floats) -> float:
        return float(change.mean()) if self.functional is None else self.functional.value(change)

    @property
    def _scale(self) -> float:
        """Money today: what rounding is measured by."""
        return self.rules.scale

    def _on_candidates(self, prices: Floats) -> Floats:
        """The nearest candidate of every chooser, array (J,)."""
        found = prices.copy()
        for chooser in self.choosers:
            wanted = float(np.log(prices[chooser.items]).mean())
            found[chooser.items] = chooser.candidates[np.abs(np.log(chooser.candidates) - wanted).argmin()]
        return found

    def _climbed(self, start: Position, wish: Floats) -> Position:
        here = start
        for _ in range(MOST_SWEEPS):
            before = here
            for number, chooser in enumerate(self.choosers):
                here = self._best_price(here, number, chooser.candidates)
            if here is before:
                here = self._better(here, self._together(here, wish))
            if here is before:
                break
        return here

    def _refined(self, start: Position) -> Position:
        """Halve the steps between candidates where prices are not tied to a ladder."""
        finer = [number for number, chooser in enumerate(self.choosers) if chooser.finer]
        if not finer:
            return start
        here = start
        step = max(float(np.diff(np.log(self.choosers[number].candidates)).max(initial=0.0)) for number in finer) / 2.0
        while step > FINEST_STEP:
            before = here
            for number in finer:
                around = self.choosers[number].around(self._price(here, number), step)
                here = self._best_price(here, number, np.array(around))
            if here is before:
                here = self._better(here, self._pairs_around(here, finer, step))
            if here is before:
                step /= 2.0
        return here

    def _price(self, here: Position, number: int) -> float:
        return float(here.point.prices[self.choosers[number].items[0]])

    def _moved(self, here: Position, number: int) -> bool:
        items = self.choosers[number].items
        current = self.rules.problem.facts.current_price[items]
        return bool((np.abs(np.log(here.point.prices[items] / current)) > SMALLEST_MOVE).any())

    def _together(self, here: Position, wish: Floats) -> Iterator[dict[int, float]]:
        """Two prices to candidates next to them; one back to today's while another leaves it; chains all at once."""
        for first, second in self._couples(range(len(self.choosers))):
            for one in self.choosers[first].next_to(self._price(here, first)):
                for other in self.choosers[second].next_to(self._price(here, second)):
                    yield {first: one, second: other}
        if self.rules.problem.limits.changes is not None:
            yield from self._swaps(here, wish)
        for chain in self.chains:
            for side in (0, -1):
                steps = {number: self.choosers[number].next_to(self._price(here, number)) for number in chain}
                yield {number: near[side] for number, near in steps.items() if near}

    def _swaps(self, here: Position, wish: Floats) -> Iterator[dict[int, float]]:
        """One changed price back to today's, for another one that changes instead."""
        current = self.rules.problem.facts.current_price
        moved = np.array([self._moved(here, number) for number in range(len(self.choosers))], dtype=np.bool_)
        for back in np.flatnonzero(moved).tolist():
            today = current[self.choosers[back].items]
            if np.ptp(today) > 0 or not np.isin(today[0].round(12), self.choosers[back].candidates):
                continue
            for number in np.flatnonzero(~moved).tolist():
                chooser = self.choosers[number]
                few = len(self.choosers) <= FEW_CHOOSERS
                for price in chooser.candidates if few else chooser.candidates[self._nearest(chooser, wish)]:
                    yield {back: float(today[0]), number: float(price)}

    def _nearest(self, chooser: Chooser, wish: Floats) -> slice:
        place = int(np.abs(np.log(chooser.candidates / wish[chooser.items[0]])).argmin())
        return slice(place, place + 1)

    def _pairs_around(self, here: Position, numbers: Sequence[int], step: float) -> Iterator[dict[int, float]]:
        for first, second in self._couples(numbers):
            for one in self.choosers[first].around(self._price(here, first), step):
                for other in self.choosers[second].around(self._price(here, second), step):
                    yield {first: one, second: other}

    def _couples(self, numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
        every = len(self.choosers) <= FEW_CHOOSERS
        owner = {int(place): number for number, block in enumerate(self.blocks) for place in block.places}
        for first, second in combinations(numbers, 2):
            if every or owner[int(self.choosers[first].items[0])] == owner[int(self.choosers[second].items[0])]:
                yield first, second

    def _best_price(self, here: Position, number: int, prices: Floats) -> Position:
        """The best of some prices of one chooser: those that would be worth most are held against the limits first."""
        trials = [self._trial(here, {number: float(price)}) for price in prices]
        worth = np.array([self._worth(trial.change) for trial in trials])
        best = here
        for place in np.argsort(-worth, kind="stable").tolist():
            best = self._judged(best, trials[place], float(worth[place])) or best
            if best is not here and not best.missed and not self.aim:
                break
        return best

    def _better(self, here: Position, trials: Iterator[dict[int, float]]) -> Position:
        """The best of some moves from a position, or the position itself; each better one is the next to beat."""
        best = here
        for move in trials:
            trial = self._trial(here, move)
            best = self._judged(best, trial, self._worth(trial.change)) or best
        return best

    def _trial(self, base: Position, move: Mapping[int, float]) -> _Trial:
        """What a move from a position would change; its limits are not looked at yet."""
        prices = base.point.prices.copy()
        for number, price in move.items():
            prices[self.choosers[number].items] = price
        delta = np.log(prices / base.point.prices)
        change = base.change.copy()
        parts: list[tuple[Places, Floats, Floats]] = []
        worth_of_unit = self.rules.problem.facts.value.at(prices)
        for block in self.blocks:
            own = delta[block.places]
            hit = np.flatnonzero(own)
            if hit.size:
                exponent = own[hit[0]] * block.columns[hit[0]]
                for place in hit[1:]:
                    exponent += own[place] * block.columns[place]
                units = base.point.units[block.places] * np.exp(exponent)
                money = worth_of_unit[block.places][:, None] * units
                change += (money - base.point.money[block.places]).sum(axis=0)
                parts.append((block.places, units, money))
        return _Trial(base=base.point, prices=prices, change=change, parts=parts)

    def _judged(self, best: Position, trial: _Trial, worth: float) -> Position | None:
        """The position that a trial leads to where it is better than the best so far."""
        tolerance = ROUNDING * self._scale
        if not trial.parts or (not self.aim and not best.missed and worth <= best.worth + tolerance):
            return None
        found = self._position(trial.point(), trial.change)
        gained = found.worth > best.worth + (ROUNDING if self.aim else tolerance)
        better = found.missed < best.missed - ROUNDING or (found.missed <= best.missed and gained)
        return found if better else None
