"""Limits on prices and on risk: small frozen values, each of which says how it is enforced.

``mask``: an item's candidate prices are allowed or not, whatever the other items do.
``chain``: the limit ties the prices of a few named items to each other and holds inside every step of the search.
``coupling row``: the limit ties items together and enters the portfolio programme as a row, or as cuts where it is a
risk limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.item_limits import (
    SLACK,
    Amount,
    Bounds,
    Capacity,
    Enforcement,
    MaxChange,
    MinMargin,
    MinStepIfChanged,
    MinVolume,
    PriceLadder,
    Support,
    by_item,
    require,
)
from bayes_pricing.pricing.outlook import Bools, ItemFacts, Outlook
from bayes_pricing.pricing.portfolio_limits import (
    BasketPrice,
    CategoryRevenueFloor,
    CategoryVolumeFloor,
    MaxAverageMove,
    MaxChanges,
    MaxLossQuantile,
    MaxShortfall,
    PortfolioLimit,
    RowLimit,
    SamePrice,
    TierOrder,
)

__all__ = [
    "BasketPrice",
    "Bounds",
    "Capacity",
    "CategoryRevenueFloor",
    "CategoryVolumeFloor",
    "Limit",
    "Limits",
    "MaxAverageMove",
    "MaxChange",
    "MaxChanges",
    "MaxItemLossQuantile",
    "MaxItemShortfall",
    "MaxLossProbability",
    "MaxLossQuantile",
    "MaxShortfall",
    "MinMargin",
    "MinStepIfChanged",
    "MinVolume",
    "PriceLadder",
    "SamePrice",
    "Support",
    "TierOrder",
    "sort_limits",
]

Floats = NDArray[np.float64]


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
        require(0 <= self.probability <= 1, "MaxLossProbability.probability", text)

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
        require(0 < self.share < 1, "MaxItemShortfall.share", f"is {self.share}; give a share in (0, 1)")

    def allows(self, outlook: Outlook, among: Bools | None = None) -> Bools:
        """Which candidate prices are allowed, array (J, K); today's always is where the amount is zero or more.

        Candidates outside `among` count as forbidden.
        """
        return _within(outlook, self.amount, among, lambda wanted: outlook.shortfall(self.share, wanted))

    def moved(self, steps: float) -> MaxItemShortfall:
        """The limit `steps` steps looser (tighter when negative)."""
        return replace(self, amount=_by_tenths(self.amount, steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxItemLossQuantile:
    r"""Worst-case quantile of each item: a loss beyond `amount` has at most this probability; relaxed by a tenth.

    .. math:: q_{\text{probability}}(\Delta_j) \ge -\text{amount}

    Examples
    --------
    >>> MaxItemLossQuantile(amount=20.0).probability
    0.05
    """

    name: ClassVar[str] = "max_item_loss_quantile"
    enforced: ClassVar[Enforcement] = "mask"
    step: ClassVar[str] = "a tenth of the amount"
    amount: Amount
    probability: float = 0.05

    def __post_init__(self) -> None:
        text = f"is {self.probability}; give a probability in (0, 1)"
        require(0 < self.probability < 1, "MaxItemLossQuantile.probability", text)

    def allows(self, outlook: Outlook, among: Bools | None = None) -> Bools:
        """Which candidate prices are allowed, array (J, K); today's always is where the amount is zero or more.

        Candidates outside `among` count as forbidden.
        """
        return _within(outlook, self.amount, among, lambda wanted: outlook.loss_quantile(self.probability, wanted))

    def moved(self, steps: float) -> MaxItemLossQuantile:
        """The limit `steps` steps looser (tighter when negative)."""
        return replace(self, amount=_by_tenths(self.amount, steps))


BoxLimit = Bounds | MaxChange | Support | MinMargin
ItemLimit = (
    BoxLimit | MinStepIfChanged | MinVolume | Capacity | MaxLossProbability | MaxItemShortfall | MaxItemLossQuantile
)
Limit = ItemLimit | PriceLadder | PortfolioLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits sorted by how they are enforced; built by :func:`sort_limits`."""

    item: tuple[ItemLimit, ...]
    ladder: PriceLadder | None
    shortfall: MaxShortfall | None
    changes: MaxChanges | None
    quantile: MaxLossQuantile | None = None
    rows: tuple[RowLimit, ...] = ()
    order: TierOrder | None = None
    same: SamePrice | None = None

    @property
    def portfolio(self) -> tuple[PortfolioLimit, ...]:
        """Every limit that ties items together."""
        found = (self.shortfall, self.changes, self.quantile, *self.rows, self.order, self.same)
        return tuple(limit for limit in found if limit is not None)

    @property
    def couples(self) -> bool:
        """Whether a limit ties items together."""
        return bool(self.portfolio)

    @property
    def linear(self) -> tuple[RowLimit, ...]:
        """Those of them that are rows over expected prices, units and money."""
        return self.rows if self.changes is None else (self.changes, *self.rows)

    @property
    def every(self) -> tuple[Limit, ...]:
        """All limits, as applied."""
        return (*self.item, *(() if self.ladder is None else (self.ladder,)), *self.portfolio)

    def without(self, name: str) -> Limits:
        """The same limits but the one of this name."""
        return sort_limits([limit for limit in self.every if limit.name != name])

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
            if not isinstance(limit, MaxItemShortfall | MaxItemLossQuantile):
                allowed &= limit.allows(outlook)
        for limit in self.item:  # those that look at every draw, where the others leave something to look at
            if isinstance(limit, MaxItemShortfall | MaxItemLossQuantile):
                allowed &= limit.allows(outlook, allowed)
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
    item: list[ItemLimit] = [limit for limit in limits if isinstance(limit, ItemLimit)]
    if Support.name not in names:
        item.append(Support())
    return Limits(
        item=tuple(item),
        ladder=next((limit for limit in limits if isinstance(limit, PriceLadder)), None),
        shortfall=next((limit for limit in limits if isinstance(limit, MaxShortfall)), None),
        changes=next((limit for limit in limits if isinstance(limit, MaxChanges)), None),
        quantile=next((limit for limit in limits if isinstance(limit, MaxLossQuantile)), None),
        rows=tuple(limit for limit in limits if isinstance(limit, RowLimit) and not isinstance(limit, MaxChanges)),
        order=next((limit for limit in limits if isinstance(limit, TierOrder)), None),
        same=next((limit for limit in limits if isinstance(limit, SamePrice)), None),
    )


def _within(outlook: Outlook, amount: Amount, among: Bools | None, loss: Callable[[Bools], Floats]) -> Bools:
    """Whether a measure of loss stays within the amount; it is taken only where the worst draw would break it."""
    most = by_item(amount, outlook.facts, np.inf)[:, None]
    most = most + SLACK * np.abs(np.where(np.isfinite(most), most, 0.0))
    wanted = np.ones(outlook.prices.shape, dtype=np.bool_) if among is None else among
    safe = wanted & (outlook.largest_loss <= most)
    return np.asarray(safe | (loss(wanted & ~safe) <= most), dtype=np.bool_)


def _by_tenths(amount: Amount, steps: float) -> Amount:
    if isinstance(amount, Mapping):
        return {item: value + 0.1 * steps * abs(value) for item, value in amount.items()}
    return amount + 0.1 * steps * abs(amount)
