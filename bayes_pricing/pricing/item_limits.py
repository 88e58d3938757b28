"""Limits on the price and volume of single items: small frozen values that mask candidate prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.outlook import Bools, ItemFacts, Outlook

Floats = NDArray[np.float64]
Enforcement = Literal["mask", "chain", "coupling row"]
Amount = float | Mapping[str, float]

SLACK = 1e-9
"""Relative tolerance within which a price stands on a limit, not beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Lowest and highest price, currency per unit, for all items or by item; relaxed by 1 % of the price.

    Examples
    --------
    >>> Bounds(lowest=5.0, highest={"tea": 12.0}).name
    'bounds'
    """

    name: ClassVar[str] = "bounds"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 % of the price"
    lowest: Amount | None = None
    highest: Amount | None = None

    def __post_init__(self) -> None:
        if self.lowest is None and self.highest is None:
            raise SpecError("Bounds has neither a lowest nor a highest price; give at least one.")
        for amount in (self.lowest, self.highest):
            if amount is not None:
                require(all(value > 0 for value in amounts(amount)), "Bounds", "prices must be positive")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,)."""
        return by_item(self.lowest, facts, 0.0), by_item(self.highest, facts, np.inf)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return inside(outlook.prices, *self.box(outlook.facts))

    def moved(self, steps: float) -> Bounds:
        """The limit `steps` steps looser (tighter when negative)."""
        return Bounds(lowest=scaled(self.lowest, 1.0 - 0.01 * steps), highest=scaled(self.highest, 1.0 + 0.01 * steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxChange:
    """Largest move from today's price, as a share of it: 0.15 allows -15 % to +15 %; relaxed by one point.

    Examples
    --------
    >>> MaxChange(share=0.15).moved(1.0).share
    0.16
    """

    name: ClassVar[str] = "max_change"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 point of the share"
    share: float

    def __post_init__(self) -> None:
        require(0 <= self.share < 1, "MaxChange.share", f"is {self.share}; give a share in [0, 1), 0.15 for 15 %")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,)."""
        return facts.current_price * (1.0 - self.share), facts.current_price * (1.0 + self.share)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return inside(outlook.prices, *self.box(outlook.facts))

    def moved(self, steps: float) -> MaxChange:
        """The limit `steps` steps looser (tighter when negative)."""
        return MaxChange(share=round(min(max(self.share + 0.01 * steps, 0.0), 0.99), 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class Support:
    """No price outside those ever observed for the item, widened by `extend` (a share of the price).

    It is in force unless another one is given: an elasticity says nothing about prices nobody has seen.

    Examples
    --------
    >>> Support().extend
    0.0
    """

    name: ClassVar[str] = "support"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 % of the price"
    extend: float = 0.0

    def __post_init__(self) -> None:
        require(-1 < self.extend <= 1, "Support.extend", f"is {self.extend}; give a share of at most 1, 0.05 for 5 %")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,)."""
        return facts.lowest_price / (1.0 + self.extend), facts.highest_price * (1.0 + self.extend)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K); today's always is."""
        return inside(outlook.prices, *self.box(outlook.facts)) | outlook.is_today

    def moved(self, steps: float) -> Support:
        """The limit `steps` steps looser (tighter when negative)."""
        return Support(extend=round(self.extend + 0.01 * steps, 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class MinMargin:
    """Lowest profit per unit as a share of the price; relaxed by one point.

    Examples
    --------
    >>> MinMargin(share=0.2).enforced
    'mask'
    """

    name: ClassVar[str] = "min_margin"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 point of the margin"
    share: float

    def __post_init__(self) -> None:
        require(self.share < 1, "MinMargin.share", f"is {self.share}; give a share below 1, 0.2 for 20 %")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,); no price is allowed where the cost is unknown."""
        kept, charge = facts.profit.kept, facts.profit.charge
        with np.errstate(divide="ignore", invalid="ignore"):
            lowest = np.where(charge == 0, 0.0, charge / (kept - self.share))
        return np.where((kept > self.share) & np.isfinite(lowest), lowest, np.inf), np.full(len(facts.items), np.inf)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return inside(outlook.prices, *self.box(outlook.facts))

    def moved(self, steps: float) -> MinMargin:
        """The limit `steps` steps looser (tighter when negative)."""
        return MinMargin(share=round(min(self.share - 0.01 * steps, 0.99), 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class MinStepIfChanged:
    """A price that moves must move by at least this share of today's: no changes too small to matter.

    Examples
    --------
    >>> MinStepIfChanged(share=0.03).name
    'min_step'
    """

    name: ClassVar[str] = "min_step"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 point of the share"
    share: float

    def __post_init__(self) -> None:
        require(0 <= self.share < 1, "MinStepIfChanged.share", f"is {self.share}; give a share in [0, 1)")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return self.far_enough(outlook.prices, outlook.facts.current_price[:, None]) | outlook.is_today

    def far_enough(self, prices: Floats, current: Floats) -> Bools:
        """Which prices are far enough from today's to be a change, of the arguments' common shape."""
        return np.asarray(np.abs(prices / current - 1.0) >= self.share * (1.0 - SLACK), dtype=np.bool_)

    def moved(self, steps: float) -> MinStepIfChanged:
        """The limit `steps` steps looser (tighter when negative)."""
        return MinStepIfChanged(share=round(min(max(self.share - 0.01 * steps, 0.0), 0.99), 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class MinVolume:
    """Fewest expected units per period, for all items or by item; relaxed by 1 %.

    Examples
    --------
    >>> MinVolume(units=10.0).moved(-1.0).units
    10.1
    """

    name: ClassVar[str] = "min_volume"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 % of the units"
    units: Amount

    def __post_init__(self) -> None:
        require(all(value >= 0 for value in amounts(self.units)), "MinVolume.units", "must be zero or more")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return outlook.expected_units >= by_item(self.units, outlook.facts, 0.0)[:, None] * (1.0 - SLACK)

    def moved(self, steps: float) -> MinVolume:
        """The limit `steps` steps looser (tighter when negative)."""
        return MinVolume(units=scale(self.units, 1.0 - 0.01 * steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Most expected units per period that can be served, for all items or by item; relaxed by 1 %.

    Examples
    --------
    >>> Capacity(units={"yoga": 30.0}).name
    'capacity'
    """

    name: ClassVar[str] = "capacity"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 % of the units"
    units: Amount

    def __post_init__(self) -> None:
        require(all(value >= 0 for value in amounts(self.units)), "Capacity.units", "must be zero or more")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return outlook.expected_units <= by_item(self.units, outlook.facts, np.inf)[:, None] * (1.0 + SLACK)

    def moved(self, steps: float) -> Capacity:
        """The limit `steps` steps looser (tighter when negative)."""
        return Capacity(units=scale(self.units, 1.0 + 0.01 * steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLadder:
    """The only prices that may be charged: multiples of a step, whole numbers plus endings, or a list.

    Today's price stays a choice even where it is off the ladder.

    Attributes
    ----------
    step : float, optional
        Multiples of this, e.g. 0.05.
    endings : tuple of float
        Parts below one that a price ends with, e.g. (0.49, 0.99).
    prices : tuple of float
        The prices themselves, the same for every item.

    Examples
    --------
    >>> PriceLadder(endings=(0.99,)).rungs(3.0, 5.5).tolist()
    [3.99, 4.99]
    """

    name: ClassVar[str] = "ladder"
    enforced: ClassVar[Enforcement] = "mask"
    step: float | None = None
    endings: tuple[float, ...] = ()
    prices: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        given = (self.step is not None) + bool(self.endings) + bool(self.prices)
        require(given == 1, "PriceLadder", "wants exactly one of step, endings or prices")
        require(self.step is None or self.step > 0, "PriceLadder.step", f"is {self.step}; it must be positive")
        require(all(0 <= ending < 1 for ending in self.endings), "PriceLadder.endings", "must be in [0, 1)")
        require(all(price > 0 for price in self.prices), "PriceLadder.prices", "must be positive")

    def rungs(self, lowest: float, highest: float) -> Floats:
        """Prices of the ladder between two prices, ascending.

        Raises
        ------
        SpecError
            If more than 2,000 rungs lie between them.
        """
        if self.prices:
            every = np.array(sorted(self.prices), dtype=np.float64)
        else:
            step = 1.0 if self.step is None else self.step
            first, last = np.floor(lowest / step), np.ceil(highest / step)
            if last - first > 2000:
                raise SpecError(f"PriceLadder has over 2,000 rungs from {lowest:g} to {highest:g}; use a larger step.")
            whole = np.arange(first, last + 1.0) * step
            every = whole if not self.endings else np.sort(np.add.outer(whole, np.array(self.endings)).ravel())
            every = np.round(every, 10)
        inside = (every >= lowest * (1.0 - SLACK)) & (every <= highest * (1.0 + SLACK)) & (every > 0)
        return np.asarray(every[inside], dtype=np.float64)


def require(holds: bool, name: str, problem: str) -> None:
    """Refuse a setting that does not hold."""
    if not holds:
        raise SpecError(f"{name} {problem}.")


def inside(prices: Floats, lowest: Floats, highest: Floats) -> Bools:
    """Which prices (J, K) stand between bounds (J,), within the slack."""
    low, high = lowest[:, None] * (1.0 - SLACK), highest[:, None] * (1.0 + SLACK)
    return np.asarray((prices >= low) & (prices <= high), dtype=np.bool_)


def amounts(amount: Amount) -> list[float]:
    """The numbers of an amount, one for all or by item."""
    return list(amount.values()) if isinstance(amount, Mapping) else [amount]


def by_item(amount: Amount | None, facts: ItemFacts, absent: float) -> Floats:
    """An amount as an array (J,); items it does not name have `absent`."""
    if isinstance(amount, Mapping):
        return np.array([amount.get(item, absent) for item in facts.items], dtype=np.float64)
    return np.full(len(facts.items), absent if amount is None else amount, dtype=np.float64)


def scale(amount: Amount, factor: float) -> Amount:
    """An amount times a factor."""
    if isinstance(amount, Mapping):
        return {item: value * factor for item, value in amount.items()}
    return amount * factor


def scaled(amount: Amount | None, factor: float) -> Amount | None:
    """The same where the amount may be absent."""
    return None if amount is None else scale(amount, factor)
