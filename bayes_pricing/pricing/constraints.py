"""Limits on prices and on risk: small frozen values, each of which says how it is enforced.

``mask``: an item's candidate prices are allowed or not, whatever the other items do.
``coupling row``: the limit ties items together and enters the portfolio programme as a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
                _require(all(value > 0 for value in _amounts(amount)), "Bounds", "prices must be positive")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,)."""
        return _by_item(self.lowest, facts, 0.0), _by_item(self.highest, facts, np.inf)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return _inside(outlook.prices, *self.box(outlook.facts))

    def moved(self, steps: float) -> Bounds:
        """The limit `steps` steps looser (tighter when negative)."""
        return Bounds(
            lowest=_scaled(self.lowest, 1.0 - 0.01 * steps), highest=_scaled(self.highest, 1.0 + 0.01 * steps)
        )


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
        _require(0 <= self.share < 1, "MaxChange.share", f"is {self.share}; give a share in [0, 1), 0.15 for 15 %")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,)."""
        return facts.current_price * (1.0 - self.share), facts.current_price * (1.0 + self.share)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return _inside(outlook.prices, *self.box(outlook.facts))

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
        _require(-1 < self.extend <= 1, "Support.extend", f"is {self.extend}; give a share of at most 1, 0.05 for 5 %")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,)."""
        return facts.lowest_price / (1.0 + self.extend), facts.highest_price * (1.0 + self.extend)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K); today's always is."""
        return _inside(outlook.prices, *self.box(outlook.facts)) | outlook.is_today

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
        _require(self.share < 1, "MinMargin.share", f"is {self.share}; give a share below 1, 0.2 for 20 %")

    def box(self, facts: ItemFacts) -> tuple[Floats, Floats]:
        """Lowest and highest allowed price, arrays (J,); no price is allowed where the cost is unknown."""
        kept, charge = facts.profit.kept, facts.profit.charge
        with np.errstate(divide="ignore", invalid="ignore"):
            lowest = np.where(charge == 0, 0.0, charge / (kept - self.share))
        return np.where((kept > self.share) & np.isfinite(lowest), lowest, np.inf), np.full(len(facts.items), np.inf)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return _inside(outlook.prices, *self.box(outlook.facts))

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
        _require(0 <= self.share < 1, "MinStepIfChanged.share", f"is {self.share}; give a share in [0, 1)")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        move = np.abs(outlook.prices / outlook.facts.current_price[:, None] - 1.0)
        return (move >= self.share * (1.0 - SLACK)) | outlook.is_today

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
        _require(all(value >= 0 for value in _amounts(self.units)), "MinVolume.units", "must be zero or more")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return outlook.expected_units >= _by_item(self.units, outlook.facts, 0.0)[:, None] * (1.0 - SLACK)

    def moved(self, steps: float) -> MinVolume:
        """The limit `steps` steps looser (tighter when negative)."""
        return MinVolume(units=_scale(self.units, 1.0 - 0.01 * steps))


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
        _require(all(value >= 0 for value in _amounts(self.units)), "Capacity.units", "must be zero or more")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return outlook.expected_units <= _by_item(self.units, outlook.facts, np.inf)[:, None] * (1.0 + SLACK)

    def moved(self, steps: float) -> Capacity:
        """The limit `steps` steps looser (tighter when negative)."""
        return Capacity(units=_scale(self.units, 1.0 + 0.01 * steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxLossProbability:
    """Largest posterior probability, item by item, that the new price earns less than today's; relaxed by one point.

    Under constant elasticity and the revenue objective this does not depend on the size of a step, only on its
    direction.

    Examples
    --------
    >>> MaxLossProbability(probability=0.1).enforced
    'mask'
    """

    name: ClassVar[str] = "max_loss_probability"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "1 point of probability"
    probability: float

    def __post_init__(self) -> None:
        text = f"is {self.probability}; give a probability in [0, 1], 0.1 for 10 %"
        _require(0 <= self.probability <= 1, "MaxLossProbability.probability", text)

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K)."""
        return outlook.probability_worse <= self.probability + SLACK

    def moved(self, steps: float) -> MaxLossProbability:
        """The limit `steps` steps looser (tighter when negative)."""
        return MaxLossProbability(probability=round(min(max(self.probability + 0.01 * steps, 0.0), 1.0), 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxItemShortfall:
    """Largest expected shortfall of each item's change against today, currency per period; relaxed by a tenth.

    Examples
    --------
    >>> MaxItemShortfall(amount=50.0).share
    0.05
    """

    name: ClassVar[str] = "max_item_shortfall"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "a tenth of the amount"
    amount: Amount
    share: float = 0.05

    def __post_init__(self) -> None:
        _require(0 < self.share < 1, "MaxItemShortfall.share", f"is {self.share}; give a share in (0, 1)")

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices are allowed, array (J, K); today's always is where the amount is zero or more."""
        amount = _by_item(self.amount, outlook.facts, np.inf)[:, None]
        return outlook.shortfall(self.share) <= amount + SLACK * np.abs(np.where(np.isfinite(amount), amount, 0.0))

    def moved(self, steps: float) -> MaxItemShortfall:
        """The limit `steps` steps looser (tighter when negative)."""
        amount = self.amount
        if isinstance(amount, Mapping):
            looser: Amount = {item: value + 0.1 * steps * abs(value) for item, value in amount.items()}
        else:
            looser = amount + 0.1 * steps * abs(amount)
        return replace(self, amount=looser)


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
        _require(given == 1, "PriceLadder", "wants exactly one of step, endings or prices")
        _require(self.step is None or self.step > 0, "PriceLadder.step", f"is {self.step}; it must be positive")
        _require(all(0 <= ending < 1 for ending in self.endings), "PriceLadder.endings", "must be in [0, 1)")
        _require(all(price > 0 for price in self.prices), "PriceLadder.prices", "must be positive")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxShortfall:
    """Largest expected shortfall of the whole portfolio's change against today, currency per period.

    A negative amount asks for a gain even in the worst draws. Relaxed by a tenth.

    Examples
    --------
    >>> MaxShortfall(amount=1000.0).enforced
    'coupling row'
    """

    name: ClassVar[str] = "max_shortfall"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "a tenth of the amount"
    amount: float
    share: float = 0.05

    def __post_init__(self) -> None:
        _require(abs(self.amount) < np.inf, "MaxShortfall.amount", f"is {self.amount}; give money per period")
        _require(0 < self.share < 1, "MaxShortfall.share", f"is {self.share}; give a share in (0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxChanges:
    """Most items whose price may change; relaxed by one.

    Examples
    --------
    >>> MaxChanges(count=10).name
    'max_changes'
    """

    name: ClassVar[str] = "max_changes"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "1 item"
    count: int

    def __post_init__(self) -> None:
        _require(self.count >= 0, "MaxChanges.count", f"is {self.count}; it must be zero or more")


BoxLimit = Bounds | MaxChange | Support | MinMargin
ItemLimit = BoxLimit | MinStepIfChanged | MinVolume | Capacity | MaxLossProbability | MaxItemShortfall
PortfolioLimit = MaxShortfall | MaxChanges
Limit = ItemLimit | PriceLadder | PortfolioLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits sorted by how they are enforced; built by :func:`sort_limits`."""

    item: tuple[ItemLimit, ...]
    ladder: PriceLadder | None
    shortfall: MaxShortfall | None
    changes: MaxChanges | None

    @property
    def couples(self) -> bool:
        """Whether a limit ties items together."""
        return self.shortfall is not None or self.changes is not None

    def box(self, facts: ItemFacts, *, without: str = "") -> tuple[Floats, Floats]:
        """Lowest and highest price inside every box limit but the one named `without`, arrays (J,)."""
        lowest, highest = np.zeros(len(facts.items)), np.full(len(facts.items), np.inf)
        for limit in self.item:
            if isinstance(limit, BoxLimit) and limit.name != without:
                low, high = limit.box(facts)
                lowest, highest = np.maximum(lowest, low), np.minimum(highest, high)
        return lowest, highest

    def allows(self, outlook: Outlook) -> Bools:
        """Which candidate prices every item limit allows, array (J, K)."""
        allowed = np.ones(outlook.prices.shape, dtype=np.bool_)
        for limit in self.item:
            allowed &= limit.allows(outlook)
        return allowed


def sort_limits(limits: Sequence[Limit]) -> Limits:
    """Sort limits by how they are enforced; support is added where none is given.

    Raises
    ------
    SpecError
        If two limits of one kind are given.

    Examples
    --------
    >>> [limit.name for limit in sort_limits([MaxChange(share=0.1)]).item]
    ['max_change', 'support']
    """
    names = [limit.name for limit in limits]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SpecError(f"The limit {twice[0]!r} is given {names.count(twice[0])} times; give each kind once.")
    item = [limit for limit in limits if not isinstance(limit, PriceLadder | MaxShortfall | MaxChanges)]
    if Support.name not in names:
        item.append(Support())
    return Limits(
        item=tuple(item),
        ladder=next((limit for limit in limits if isinstance(limit, PriceLadder)), None),
        shortfall=next((limit for limit in limits if isinstance(limit, MaxShortfall)), None),
        changes=next((limit for limit in limits if isinstance(limit, MaxChanges)), None),
    )


def _require(holds: bool, name: str, problem: str) -> None:
    if not holds:
        raise SpecError(f"{name} {problem}.")


def _inside(prices: Floats, lowest: Floats, highest: Floats) -> Bools:
    low, high = lowest[:, None] * (1.0 - SLACK), highest[:, None] * (1.0 + SLACK)
    return np.asarray((prices >= low) & (prices <= high), dtype=np.bool_)


def _amounts(amount: Amount) -> list[float]:
    return list(amount.values()) if isinstance(amount, Mapping) else [amount]


def _by_item(amount: Amount | None, facts: ItemFacts, absent: float) -> Floats:
    if isinstance(amount, Mapping):
        return np.array([amount.get(item, absent) for item in facts.items], dtype=np.float64)
    return np.full(len(facts.items), absent if amount is None else amount, dtype=np.float64)


def _scale(amount: Amount, factor: float) -> Amount:
    if isinstance(amount, Mapping):
        return {item: value * factor for item, value in amount.items()}
    return amount * factor


def _scaled(amount: Amount | None, factor: float) -> Amount | None:
    return None if amount is None else _scale(amount, factor)
