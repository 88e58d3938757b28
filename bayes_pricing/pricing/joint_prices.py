"""Engine for categories whose items take sales from each other: one vector of prices per block, several starts.

Joint profit has several peaks, and no limit on how far one is from the best of them but branch and bound's. So every
block is climbed from several starts with analytic gradients (L-BFGS-B in log price), a floor under the portfolio's
tail is kept by a multiplier, a ladder by searching its rungs one item and two items at a time, and the answer says how
many starts agreed and what branch and bound could prove.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bayes_pricing.pricing.blocks import BlockMoney
from bayes_pricing.pricing.branch_and_bound import MOST_TERMS, bound_block
from bayes_pricing.pricing.functionals import Functional, TailMean

Floats = NDArray[np.float64]

STARTS = 16
AGREEMENT = 1e-5
"""Starts agree where their money differs by less than this share of the best gain."""
DOUBLINGS = 12
HALVINGS = 18
MOST_SWEEPS = 30
TOLERANCE = 1e-9
CERTIFIED_GAP = 0.009
"""Distance from the bound, as a share of the gain over today, at which a proof ends."""
HELD_BACK = 0.25
"""Share of the gain without a floor that a proof's accuracy is measured by where the floor leaves less than that."""
SMALLEST_GAIN = 1e-5
"""Share of today's money below which a gain is not worth a proof."""
STEEP = 5.0
"""Multiplier from which on a proof at that multiplier is mostly about the tail: little time is spent on it, and the
bound without the floor is looked at beside it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointPrices:
    """Prices of every block and how good they are.

    Attributes
    ----------
    log_ratio : tuple of array (n,)
        Log price ratios to today, by block.
    change : array (S,)
        Change of money per period against today, all blocks together.
    value : float
        Mean of the change, or its worth under the functional.
    upper_bound : float or None
        Certified: no prices in the boxes that keep the floor are worth more. None where it could not be shown.
    starts, agreed : int
        Climbs started and those that ended at the best value found (over blocks: the fewest).
    multiplier : float
        Worth of one more of money in the tail.
    tail : float or None
        Tail mean reached, where a floor was given.
    """

    log_ratio: tuple[Floats, ...]
    change: Floats
    value: float
    upper_bound: float | None
    starts: int
    agreed: int
    multiplier: float
    tail: float | None


def maximize_joint(
    blocks: Sequence[BlockMoney], *, seed: int, functional: Functional | None = None,
    tail: TailMean | None = None, floor: float = -np.inf, rungs: Sequence[Sequence[Floats]] | None = None,
) -> JointPrices | None:  # fmt: skip
    """Best joint prices of blocks on joint draws; None where no prices were found that keep the floor.

    Parameters
    ----------
    blocks : sequence of BlockMoney
        All on the same S draws.
    seed : int
        Of the random starts.
    functional : Functional, optional
        What is maximised of the change per draw; its mean when left out.
    tail, floor : TailMean and float, optional
        The tail mean of the change that must be reached.
    rungs : for every block, for every item, array of allowed log price ratios, optional
        The only prices allowed (today's, 0, among them where it is).

    Returns
    -------
    JointPrices or None
    """
    climb = _Climb(blocks=tuple(blocks), functional=functional, tail=tail)
    ends, agreed = climb.from_many_starts(np.random.default_rng(seed))
    free, multiplier = ends, 0.0
    if tail is not None and tail.value(climb.change(ends)) < floor - TOLERANCE * climb.scale:
        found = climb.with_floor(ends, floor)
        if found is None:
            return None
        ends, multiplier = found
    bound = climb.bound(ends, multiplier, floor, free)
    if rungs is not None:
        searched = climb.on_rungs(ends, rungs, floor)
        if searched is None:
            return None
        ends = searched
    change = climb.change(ends)
    value = climb.worth(change)
    return JointPrices(
        log_ratio=tuple(ends), change=change, value=value,
        upper_bound=None if bound is None else max(bound, value),
        starts=STARTS, agreed=agreed, multiplier=multiplier,
        tail=None if tail is None else tail.value(change),
    )  # fmt: skip


def highest_tail(
    blocks: Sequence[BlockMoney], tail: TailMean, *, seed: int, rungs: Sequence[Sequence[Floats]] | None = None
) -> float:
    """Highest tail mean of the change that was found, on rungs where there are any: the largest attainable floor."""
    climb = _Climb(blocks=tuple(blocks), functional=tail, tail=None)
    ends, _ = climb.from_many_starts(np.random.default_rng(seed))
    ends = climb.polished(ends, tail.value)
    if rungs is not None:
        ends = climb.on_rungs(ends, rungs, -np.inf) or ends
    return tail.value(climb.change(ends))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Climb:
    """Hill climbing on blocks of joint draws."""

    blocks: tuple[BlockMoney, ...]
    functional: Functional | None
    tail: TailMean | None

    @property
    def scale(self) -> float:
        """Money today: everything is divided by it, or a climber would stop where it starts."""
        return float(sum(abs(block.money(np.zeros(block.size)).mean()) for block in self.blocks)) or 1.0

    def change(self, ends: Sequence[Floats]) -> Floats:
        """Change of all blocks' money per draw, array (S,)."""
        parts = [
            block.money(end) - block.money(np.zeros(block.size)) for block, end in zip(self.blocks, ends, strict=True)
        ]
        return np.asarray(np.sum(parts, axis=0), dtype=np.float64)

    def worth(self, change: Floats) -> float:
        """What a change is worth to the objective."""
        return float(change.mean()) if self.functional is None else self.functional.value(change)

    def weights(self, change: Floats, multiplier: float) -> Floats:
        """Weight of every draw at a change: the objective's gradient plus the tail's times its multiplier."""
        found = np.full(change.size, 1.0 / change.size) if self.functional is None else self.functional.tangent(change)
        if self.tail is not None and multiplier > 0:
            found = found + multiplier * self.tail.tangent(change)
        return found

    def from_many_starts(self, rng: np.random.Generator) -> tuple[list[Floats], int]:
        """Best end of several climbs, block by block, and how many of them agreed."""
        ends: list[Floats] = []
        fewest = STARTS
        for block in self.blocks:
            alone = replace_blocks(self, (block,))
            zero = np.zeros(block.size)
            low, high = block.lowest, block.highest
            starts = [zero.clip(low, high), (low + high) / 2.0, low, high]
            starts += list(low + (high - low) * rng.random((STARTS - len(starts), block.size)))
            found = [alone.climbed([start], 0.0)[0] for start in starts]
            worth = np.array([self.worth(alone.change([end])) for end in found])
            best = int(worth.argmax())
            near = AGREEMENT * max(abs(float(worth[best])), 1e-9 * alone.scale)
            fewest = min(fewest, int((worth >= worth[best] - near).sum()))
            ends.append(found[best])
        if self.functional is not None and len(self.blocks) > 1:
            ends = self.climbed(ends, 0.0)
        return ends, fewest

    def climbed(self, ends: Sequence[Floats], multiplier: float) -> list[Floats]:
        """Nearest peak of the objective plus the multiplier times the tail, all blocks together."""
        sizes = np.cumsum([block.size for block in self.blocks])[:-1]
        today = [block.money(np.zeros(block.size)) for block in self.blocks]
        scale = self.scale

        def fall(joint: Floats) -> tuple[float, Floats]:
            parts = np.split(joint, sizes)
            change = np.sum(
                [block.money(part) - base for block, part, base in zip(self.blocks, parts, today, strict=True)], axis=0
            )
            weights = self.weights(change, multiplier)
            slopes = [
                block.money_and_gradient(part, weights)[1] for block, part in zip(self.blocks, parts, strict=True)
            ]
            value = self.worth(change)
            if self.tail is not None and multiplier > 0:
                value += multiplier * self.tail.value(change)
            return -value / scale, -np.concatenate(slopes) / scale

        low = np.concatenate([block.lowest for block in self.blocks])
        high = np.concatenate([block.highest for block in self.blocks])
        result = minimize(
            fall, np.concatenate(ends), jac=True, method="L-BFGS-B", bounds=np.stack([low, high], axis=1),
            options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-9},
        )  # fmt: skip
        return list(np.split(np.clip(result.x, low, high), sizes))

    def with_floor(self, ends: list[Floats], floor: float) -> tuple[list[Floats], float] | None:
        """Smallest multiplier whose peak reaches the floor, by doubling and halving."""
        if self.tail is None:
            return ends, 0.0
        low, high = 0.0, 0.25
        best: list[Floats] | None = None
        for _ in range(DOUBLINGS):
            trial = self.climbed(ends, high)
            if self.tail.value(self.change(trial)) >= floor:
                best = trial
                break
            low, high = high, 2.0 * high
        if best is None:
            return self._safest(ends, floor)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            trial = self.climbed(best, middle)
            if self.tail.value(self.change(trial)) >= floor:
                high, best = middle, trial
            else:
                low = middle
        return best, high

    def _safest(self, ends: list[Floats], floor: float) -> tuple[list[Floats], float] | None:
        """Prices with the highest tail, or today's, where one of them reaches the floor."""
        if self.tail is None:
            return None
        only = _Climb(blocks=self.blocks, functional=self.tail, tail=None)
        today = [np.zeros(block.size).clip(block.lowest, block.highest) for block in self.blocks]
        for start in (ends, today):
            trial = only.polished(only.climbed(start, 0.0), self.tail.value)
            if self.tail.value(self.change(trial)) >= floor:
                return trial, 2.0**DOUBLINGS
        return (today, 2.0**DOUBLINGS) if self.tail.value(self.change(today)) >= floor else None

    def polished(self, ends: Sequence[Floats], worth: Callable[[Floats], float]) -> list[Floats]:
        """Small steps of one price at a time: a peak of a tail mean is a ridge that gradients do not settle on."""
        found = [end.copy() for end in ends]
        best = worth(self.change(found))
        step = 0.02
        while step > 1e-5:
            moved = False
            for block, end in zip(self.blocks, found, strict=True):
                for place in range(block.size):
                    here = end[place]
                    for trial in (here - step, here + step):
                        end[place] = np.clip(trial, block.lowest[place], block.highest[place])
                        value = worth(self.change(found))
                        if value > best + 1e-12 * self.scale:
                            best, here, moved = value, end[place], True
                    end[place] = here
            if not moved:
                step /= 2.0
        return found

    def bound(self, ends: Sequence[Floats], multiplier: float, floor: float, free: Sequence[Floats]) -> float | None:
        """Upper bound on the worth of any prices that keep the floor: the tangent at these, bounded block by block.

        `free` are the best prices without the floor.
        """
        if multiplier <= STEEP:
            return self._bound_at(ends, multiplier, floor, free, MOST_TERMS)
        without = self._bound_at(free, 0.0, floor, free, MOST_TERMS)
        steep = self._bound_at(ends, multiplier, floor, free, MOST_TERMS // 30)
        return None if without is None or steep is None else min(without, steep)

    def _bound_at(
        self, ends: Sequence[Floats], multiplier: float, floor: float, free: Sequence[Floats], most_terms: int
    ) -> float | None:
        change = self.change(ends)
        weights = self.weights(change, multiplier)
        own = self.weights(change, 0.0)
        total = self.worth(change) - float(own @ change)
        if multiplier > 0:
            total -= multiplier * floor
        for block, end, best in zip(self.blocks, ends, free, strict=True):
            today = block.money(np.zeros(block.size))
            gains = [abs(float(own @ (block.money(move) - today))) for move in (end, best)]
            enough = max(CERTIFIED_GAP * max(gains[0], HELD_BACK * gains[1]), SMALLEST_GAIN * abs(float(own @ today)))
            reached = float(weights @ block.money(end))
            found = bound_block(block, weights, reached, enough=enough, most_terms=most_terms)
            if found is None:
                return None
            total += found.value - float(weights @ today)
        return total

    def on_rungs(self, ends: Sequence[Floats], rungs: Sequence[Sequence[Floats]], floor: float) -> list[Floats] | None:
        """Best rungs near the continuous prices: one item at a time, then two next to each other's rung."""
        near = [
            np.array([row[np.abs(row - price).argmin()] for row, price in zip(allowed, end, strict=True)])
            for allowed, end in zip(rungs, ends, strict=True)
        ]
        today = [np.array([row[np.abs(row).argmin()] for row in allowed]) for allowed in rungs]
        search = _Rungs(climb=self, rungs=rungs, floor=floor)
        best = max((search.searched(start) for start in (near, today)), key=lambda end: search.rank(self.change(end)))
        if self.tail is None or search.rank(self.change(best))[0] == 0:
            return best
        safest = _Climb(blocks=self.blocks, functional=self.tail, tail=None).on_rungs(ends, rungs, -np.inf)
        best = best if safest is None else search.searched(safest)
        return best if search.rank(self.change(best))[0] == 0 else None


def replace_blocks(climb: _Climb, blocks: tuple[BlockMoney, ...]) -> _Climb:
    """The same climb over other blocks."""
    return replace(climb, blocks=blocks)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rungs:
    """Local search over the rungs of a ladder."""

    climb: _Climb
    rungs: Sequence[Sequence[Floats]]
    floor: float

    def rank(self, change: Floats) -> tuple[float, float]:
        """Order of answers: first by how far the floor is missed, then by worth."""
        missed = 0.0
        if self.climb.tail is not None:
            missed = min(self.climb.tail.value(change) - self.floor + TOLERANCE * self.climb.scale, 0.0)
        return missed, self.climb.worth(change)

    def searched(self, start: Sequence[Floats]) -> list[Floats]:
        """Climb from rungs to better ones until no single move and no pair of moves to next rungs is better."""
        found = [end.copy() for end in start]
        parts = [self._part(number, end) for number, end in enumerate(found)]
        best = self.rank(np.sum(parts, axis=0))
        places = [(block, item) for block, end in enumerate(found) for item in range(end.size)]
        for _ in range(MOST_SWEEPS):
            before = best
            for block, item in places:
                best = self._moved(found, parts, best, block, item, self.rungs[block][item])
            if best == before:
                best = self._pairs(found, parts, best, places)
            if best == before:
                break
        return found

    def _part(self, block: int, end: Floats) -> Floats:
        money = self.climb.blocks[block]
        return money.money(end) - money.money(np.zeros(money.size))

    def _moved(
        self, found: list[Floats], parts: list[Floats], best: tuple[float, float], block: int, item: int, to: Floats
    ) -> tuple[float, float]:
        others = np.sum(parts, axis=0) - parts[block]
        for rung in to:
            if rung == found[block][item]:
                continue
            trial = found[block].copy()
            trial[item] = rung
            part = self._part(block, trial)
            rank = self.rank(others + part)
            if rank > best:
                best, found[block], parts[block] = rank, trial, part
        return best

    def _pairs(
        self, found: list[Floats], parts: list[Floats], best: tuple[float, float], places: list[tuple[int, int]]
    ) -> tuple[float, float]:
        for place, (block, item) in enumerate(places):
            for other, second in places[place + 1 :]:
                if other != block:
                    continue
                for rung in self._next(block, item, found[block][item]):
                    trial = found[block].copy()
                    trial[item] = rung
                    for twin in self._next(block, second, trial[second]):
                        trial[second] = twin
                        part = self._part(block, trial)
                        rank = self.rank(np.sum(parts, axis=0) - parts[block] + part)
                        if rank > best:
                            best, found[block], parts[block] = rank, trial.copy(), part
        return best

    def _next(self, block: int, item: int, here: float) -> list[float]:
        row = np.sort(self.rungs[block][item])
        place = int(np.abs(row - here).argmin())
        return [float(row[near]) for near in (place - 1, place + 1) if 0 <= near < row.size]
