"""Engine for items that nothing ties together: every candidate price enumerated on the draws, then refined."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.constraints import Limits, PriceLadder
from bayes_pricing.pricing.outlook import Block, Bools, ItemFacts, Outlook
from bayes_pricing.pricing.tails import means_of_best

Floats = NDArray[np.float64]

GRID_POINTS = 61
NEWTON_STEPS = 4
"""From within a grid step of a smooth peak four Newton steps reach machine precision."""
HALVINGS = 14
"""Halvings of the grid step towards a limit that lies between two candidates."""
PROBE = 1e-3
"""Log-price distance at which a price just beyond the chosen one is looked at."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The best allowed price of every item of a block, and what it was chosen from.

    Attributes
    ----------
    prices : array (J,)
        Today's price where nothing is allowed.
    expected_change : array (J,)
        Of the objective per period against today.
    expected_units : array (J,)
        Per period at `prices`.
    possible : array (J,)
        Whether any candidate meets every item limit.
    outlook : Outlook
        The candidates; column 0 is today's price.
    allowed : array (J, K)
        Which of them meet every item limit.
    """

    prices: Floats
    expected_change: Floats
    expected_units: Floats
    possible: Bools
    outlook: Outlook
    allowed: Bools


def candidate_prices(facts: ItemFacts, limits: Limits, points: int = GRID_POINTS) -> Floats:
    """Candidate prices inside the box limits: today's first, then a ladder's rungs or an even grid in log price.

    Returns
    -------
    array (J, K)
        Rows short of rungs are filled up with today's price.
    """
    lowest, highest = limits.box(facts)
    current = facts.current_price
    empty = ~(lowest <= highest)
    lowest, highest = np.where(empty, current, lowest), np.where(empty, current, highest)
    if limits.ladder is None:
        share = np.linspace(0.0, 1.0, points)
        grid = np.exp(np.log(lowest)[:, None] * (1.0 - share) + np.log(highest)[:, None] * share)
        return np.concatenate([current[:, None], grid], axis=1)
    rungs = [limits.ladder.rungs(low, high) for low, high in zip(lowest, highest, strict=True)]
    prices = np.repeat(current[:, None], 1 + max((len(row) for row in rungs), default=0), axis=1)
    for row, (rung, none) in enumerate(zip(rungs, empty, strict=True)):
        if not none:
            prices[row, 1 : 1 + len(rung)] = rung
    return prices


def choose_prices(block: Block, limits: Limits, points: int = GRID_POINTS) -> Choice:
    """Best allowed price of every item by its expected change against today, on the block's draws.

    Enumeration of the candidates; without a ladder the best one is refined inside its grid step, every new point being
    held against the same limits.

    Parameters
    ----------
    block : Block
    limits : Limits
        Item limits and the ladder; coupling limits are not looked at.
    points : int
        Grid points in log price where there is no ladder.

    Returns
    -------
    Choice
    """
    outlook = Outlook(
        block=block, prices=candidate_prices(block.facts, limits, points), geometric=limits.ladder is None
    )
    allowed = limits.allows(outlook)
    score = np.where(allowed, outlook.expected_change, -np.inf)
    best = score.argmax(axis=1)
    rows = np.arange(len(best))
    prices, change, units = outlook.prices[rows, best], score[rows, best], outlook.expected_units[rows, best]
    possible = np.isfinite(change)
    if limits.ladder is None:
        prices, change, units = _refined(block, limits, prices, change, units, outlook)
    prices = np.where(possible, prices, block.facts.current_price)
    return Choice(
        prices=prices,
        expected_change=np.where(possible, change, 0.0),
        expected_units=units,
        possible=possible,
        outlook=outlook,
        allowed=allowed,
    )


def _refined(
    block: Block, limits: Limits, prices: Floats, change: Floats, units: Floats, outlook: Outlook
) -> tuple[Floats, Floats, Floats]:
    lowest, highest = outlook.prices[:, 1], outlook.prices[:, -1]
    width = np.log(highest / lowest) / max(outlook.prices.shape[1] - 2, 1)
    live = np.flatnonzero(np.isfinite(change) & (width > 0))
    prices, change, units = prices.copy(), change.copy(), units.copy()
    if len(live):
        low, high = np.minimum(lowest, prices)[live], np.maximum(highest, prices)[live]
        bracket = Bracket(width=width[live], low=low, high=high)
        part = block if live.size == len(prices) else block.part(live)
        peaks = _stationary(part, prices[live], bracket)
        near = Outlook(block=part, prices=peaks[:, None])
        barred = np.flatnonzero(~limits.allows(near)[:, 0])
        if len(barred):
            peaks[barred] = _halved(part.part(barred), limits, prices[live[barred]], peaks[barred])
            near = Outlook(block=part, prices=peaks[:, None])
        better = near.expected_change[:, 0] > change[live]
        prices[live[better]], change[live[better]] = peaks[better], near.expected_change[better, 0]
        units[live[better]] = near.expected_units[better, 0]
    return prices, change, units


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bracket:
    """Where the best price of some items lies: within one grid step (log price) of the best candidate, in the box."""

    width: Floats
    low: Floats
    high: Floats


def _stationary(block: Block, start: Floats, bracket: Bracket) -> Floats:
    """Newton steps on the expected change in log price, kept inside the bracket; where it is convex, to its end."""
    draws, value = block.draws, block.facts.value
    low = np.maximum(start * np.exp(-bracket.width), bracket.low)
    high = np.minimum(start * np.exp(bracket.width), bracket.high)
    prices = start
    for _ in range(NEWTON_STEPS):
        log_ratio = np.log(prices / block.facts.current_price)
        units, elasticity = block.units_today * np.exp(draws.log_growth(log_ratio)), draws.elasticity_at(log_ratio)
        slopes = units * elasticity
        total, first = units.sum(axis=1), slopes.sum(axis=1)
        second = np.einsum("js,js->j", slopes, elasticity)
        if draws.curve is not None:
            second += np.einsum("js,js->j", units, draws.curve.bend_at(draws.elasticity, log_ratio))
        gross, worth = value.kept * prices, value.at(prices)
        gradient = gross * total + worth * first
        curvature = gross * total + 2.0 * gross * first + worth * second
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(curvature < 0, -gradient / curvature, np.sign(gradient) * bracket.width)
        prices = (prices * np.exp(step.clip(-bracket.width, bracket.width))).clip(low, high)
    return prices


def _halved(block: Block, limits: Limits, kept: Floats, barred: Floats) -> Floats:
    """Close in on the limit that lies between an allowed price and a better one that is not, by bisection."""
    low, high = np.log(kept), np.log(barred)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        allowed = limits.allows(Outlook(block=block, prices=np.exp(middle)[:, None]))[:, 0]
        low, high = np.where(allowed, middle, low), np.where(allowed, high, middle)
    return np.exp(low)


def best_on_each_draw(block: Block, choice: Choice) -> Floats:
    """Mean over draws of the best allowed change on that draw: what knowing demand would bring, array (J,)."""
    facts = block.facts
    allowed = np.where(choice.allowed, choice.outlook.prices, np.inf)
    prices = np.sort(np.concatenate([allowed, choice.prices[:, None]], axis=1), axis=1)
    if block.draws.curve is not None:
        return _best_of_all(block, prices)
    today = np.stack([facts.current_price, facts.value.kept, facts.value.charge], axis=1)
    found: Floats = means_of_best(np.ascontiguousarray(block.draws.elasticity), block.units_today, prices, today)
    return found


def _best_of_all(block: Block, prices: Floats) -> Floats:
    """Mean over draws of the change at the best of these prices (J, K), infinite where there are no more."""
    best = np.full(block.units_today.shape, -np.inf)
    for column in prices.T:
        there = np.isfinite(column)
        change = block.change(np.where(there, column, block.facts.current_price), block.facts.value)
        np.maximum(best, np.where(there[:, None], change, -np.inf), out=best)
    return np.asarray(best.mean(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Binding:
    """Which limits keep chosen prices from a better one next to them, what they cost, and which are broken.

    Attributes
    ----------
    names : tuple of tuple of str, length J
    gain_per_percent : array (J,)
        Expected gain per period if the price could move one per cent further, in the unit of the objective.
    broken : dict of str to array (J,)
        By limit, whether the chosen price itself breaks it.
    """

    names: tuple[tuple[str, ...], ...]
    gain_per_percent: Floats
    broken: dict[str, Bools]


def binding_limits(block: Block, limits: Limits, prices: Floats) -> Binding:
    """Limits with no slack left: those that forbid a price just beyond the chosen one which would earn more.

    Parameters
    ----------
    block : Block
    limits : Limits
    prices : array (J,)

    Returns
    -------
    Binding
    """
    outlook = Outlook(block=block, prices=np.stack([prices, *probes(prices, limits.ladder)], axis=1))
    change = outlook.expected_change
    scale = np.abs(block.facts.value.at(prices)) * outlook.expected_units[:, 0]
    better = change[:, 1:] - change[:, :1] > 1e-9 * scale[:, None]
    names: list[list[str]] = [[] for _ in prices]
    forbidden = np.zeros(better.shape, dtype=np.bool_)
    broken: dict[str, Bools] = {}
    for limit in limits.item:
        barred = ~limit.allows(outlook)
        broken[limit.name] = barred[:, 0]
        blocks = better & barred[:, 1:]
        forbidden |= blocks
        for row in np.flatnonzero(blocks.any(axis=1)):
            names[row].append(limit.name)
    distance = np.abs(np.log(outlook.prices[:, 1:] / prices[:, None]))
    gain = np.where(forbidden, (change[:, 1:] - change[:, :1]) / distance * np.log(1.01), 0.0)
    return Binding(names=tuple(tuple(row) for row in names), gain_per_percent=gain.max(axis=1), broken=broken)


def probes(prices: Floats, ladder: PriceLadder | None) -> tuple[Floats, Floats]:
    """Prices just below and above given ones (J,): a tenth of a per cent away, or the next rungs of a ladder."""
    below, above = prices * np.exp(-PROBE), prices * np.exp(PROBE)
    if ladder is None:
        return below, above
    for row, price in enumerate(prices):
        rungs = ladder.rungs(price * 0.5, price * 2.0)
        lower, higher = rungs[rungs < price * (1.0 - 1e-9)], rungs[rungs > price * (1.0 + 1e-9)]
        below[row] = lower[-1] if len(lower) else below[row]
        above[row] = higher[0] if len(higher) else above[row]
    return below, above


def conflicting_limits(block: Block, limits: Limits) -> tuple[tuple[str, ...], ...]:
    """For items without any allowed price: a set of limits that cannot hold together, none of which could be left out.

    Judged at today's price and on an even grid in log price from a quarter to four times today's. Limits are left
    out one at a time while the rest still conflict (deletion filter).

    Returns
    -------
    tuple of tuple of str, one per item of the block
    """
    share = np.linspace(np.log(0.25), np.log(4.0), 241)
    current = block.facts.current_price
    prices = np.concatenate([current[:, None], current[:, None] * np.exp(share)], axis=1)
    outlook = Outlook(block=block, prices=prices)
    masks = {limit.name: limit.allows(outlook) for limit in limits.item}
    conflicts: list[tuple[str, ...]] = []
    for row in range(len(current)):
        kept = list(masks)
        for name in list(kept):
            rest = [masks[other][row] for other in kept if other != name]
            if rest and not np.logical_and.reduce(rest).any():
                kept.remove(name)
        conflicts.append(tuple(kept))
    return tuple(conflicts)
