"""Limits that tie items together: small frozen values that become rows, cuts, chains or groups of the programme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.item_limits import Amount, Enforcement, amounts, require, scale
from bayes_pricing.pricing.outlook import Bools, ItemFacts

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Allowed (item, price) pairs as flat arrays of length n, sorted by item, and what is expected of each.

    Attributes
    ----------
    table : DataFrame
        Item table, one row per item, in the order of `facts`.
    level : str or None
        The items' first nesting level.
    facts : ItemFacts
    units_today : array (J,)
        Expected units per period at today's prices.
    kept : array (J,)
        Share of the price that counts as revenue.
    item : array of int (n,)
    price : array (n,)
    units : array (n,)
        Expected units per period.
    moved : array of bool (n,)
        The price differs from today's.
    """

    table: pl.DataFrame
    level: str | None
    facts: ItemFacts
    units_today: Floats
    kept: Floats
    item: Places
    price: Floats
    units: Floats
    moved: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Row:
    r"""One coupling row over pairs, :math:`\sum_n a_n x_n \le b`, scaled to order one.

    Attributes
    ----------
    limit : str
        Name of the limit it belongs to.
    what : str
        What is limited, in words, e.g. ``the revenue of tea``.
    places : array of int
        Pairs with a coefficient.
    values : array
        Their coefficients.
    bound : float
    unit : float
        What 1 of the row is in the limit's own unit, with the sign that makes `bound * unit` the limit as stated.
    """

    limit: str
    what: str
    places: Places
    values: Floats
    bound: float
    unit: float = 1.0


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
        require(abs(self.amount) < np.inf, "MaxShortfall.amount", f"is {self.amount}; give money per period")
        require(0 < self.share < 1, "MaxShortfall.share", f"is {self.share}; give a share in (0, 1)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxLossQuantile:
    r"""Worst-case quantile of the whole portfolio: a loss beyond `amount` has at most this probability.

    .. math:: P(\Delta < -\text{amount}) \le \text{probability}

    With an amount of 0 it is the largest probability of doing worse than today. It is not a convex limit: it is
    enforced through the expected shortfall of the largest share of draws that suffices, so that other prices might
    keep it and earn more; the certificate says what its bound leaves out.

    Examples
    --------
    >>> MaxLossQuantile(probability=0.1).amount
    0.0
    """

    name: ClassVar[str] = "max_loss_quantile"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "1 point of probability"
    probability: float
    amount: float = 0.0

    def __post_init__(self) -> None:
        text = f"is {self.probability}; give a probability in (0, 1), 0.1 for 10 %"
        require(0 < self.probability < 1, "MaxLossQuantile.probability", text)
        require(abs(self.amount) < np.inf, "MaxLossQuantile.amount", f"is {self.amount}; give money per period")


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
        require(self.count >= 0, "MaxChanges.count", f"is {self.count}; it must be zero or more")

    def rows(self, pairs: Pairs) -> list[Row]:
        """The limit as rows over pairs."""
        moved = np.flatnonzero(pairs.moved)
        return [
            Row(limit=self.name, what="the number of changes", places=moved, values=np.ones(moved.size),
                bound=float(self.count))
        ]  # fmt: skip

    def moved(self, steps: float) -> MaxChanges:
        """The limit `steps` steps looser (tighter when negative)."""
        return MaxChanges(count=max(round(self.count + steps), 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAverageMove:
    r"""Largest mean absolute move of the prices, every item counting the same; relaxed by a tenth of a point.

    .. math:: \frac{1}{J} \sum_j |p_j / p_{j0} - 1| \le \text{share}

    Examples
    --------
    >>> MaxAverageMove(share=0.03).moved(1.0).share
    0.031
    """

    name: ClassVar[str] = "max_average_move"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "a tenth of a point of the mean move"
    share: float

    def __post_init__(self) -> None:
        require(0 <= self.share < np.inf, "MaxAverageMove.share", f"is {self.share}; give a share, 0.03 for 3 %")

    def rows(self, pairs: Pairs) -> list[Row]:
        """The limit as rows over pairs."""
        moved = np.flatnonzero(pairs.moved)
        today = pairs.facts.current_price[pairs.item[moved]]
        size = np.abs(pairs.price[moved] / today - 1.0)
        count = len(pairs.facts.items)
        return [
            Row(limit=self.name, what="the mean move of a price", places=moved, values=size,
                bound=self.share * count, unit=1.0 / count)
        ]  # fmt: skip

    def moved(self, steps: float) -> MaxAverageMove:
        """The limit `steps` steps looser (tighter when negative)."""
        return MaxAverageMove(share=round(max(self.share + 0.001 * steps, 0.0), 12))


@dataclass(frozen=True, slots=True, kw_only=True)
class BasketPrice:
    r"""How far the price of today's basket may move: the price index with today's expected units as weights.

    .. math:: \text{lowest} \le \frac{\sum_j q_{j0} p_j}{\sum_j q_{j0} p_{j0}} - 1 \le \text{highest}

    Relaxed by a tenth of a point on either side.

    Examples
    --------
    >>> BasketPrice(lowest=-0.02, highest=0.0).moved(1.0).highest
    0.001
    """

    name: ClassVar[str] = "basket_price"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "a tenth of a point of the basket's price"
    lowest: float | None = None
    highest: float | None = None

    def __post_init__(self) -> None:
        given = [end for end in (self.lowest, self.highest) if end is not None]
        require(bool(given), "BasketPrice", "has neither a lowest nor a highest move; give at least one")
        require(all(-1 < end < np.inf for end in given), "BasketPrice", "wants shares such as -0.02 and 0.03")
        require(len(given) < 2 or given[0] <= given[1], "BasketPrice", "has its lowest above its highest move")

    def rows(self, pairs: Pairs) -> list[Row]:
        """The limit as rows over pairs."""
        moved = np.flatnonzero(pairs.moved)
        today = pairs.facts.current_price
        spent = pairs.units_today * today
        weight = spent * (len(spent) / spent.sum())
        index = weight[pairs.item[moved]] * (pairs.price[moved] / today[pairs.item[moved]] - 1.0)
        unit = 1.0 / len(spent)
        rows: list[Row] = []
        if self.highest is not None:
            rows.append(Row(limit=self.name, what="the rise of the basket's price", places=moved, values=index,
                            bound=self.highest / unit, unit=unit))  # fmt: skip
        if self.lowest is not None:
            rows.append(Row(limit=self.name, what="the move of the basket's price", places=moved, values=-index,
                            bound=-self.lowest / unit, unit=-unit))  # fmt: skip
        return rows

    def moved(self, steps: float) -> BasketPrice:
        """The limit `steps` steps looser (tighter when negative)."""
        lowest = None if self.lowest is None else round(self.lowest - 0.001 * steps, 12)
        highest = None if self.highest is None else round(self.highest + 0.001 * steps, 12)
        if lowest is not None and highest is not None and lowest > highest:
            lowest = highest = (lowest + highest) / 2.0
        return BasketPrice(lowest=lowest, highest=highest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryRevenueFloor:
    """Least expected revenue of each category, as a share of today's; relaxed by one point.

    Attributes
    ----------
    share : float or mapping of category to float
        0.98 lets every category lose 2 % of its expected revenue; categories that a mapping leaves out are free.
    level : str
        Nesting level whose units have the floor; the items' first one when left out.

    Examples
    --------
    >>> CategoryRevenueFloor(share={"tea": 0.95}).enforced
    'coupling row'
    """

    name: ClassVar[str] = "category_revenue_floor"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "1 point of today's revenue"
    share: Amount
    level: str | None = None

    def __post_init__(self) -> None:
        require(all(0 <= value < np.inf for value in amounts(self.share)), "CategoryRevenueFloor.share",
                "must be zero or more, 0.98 for 98 % of today's")  # fmt: skip

    def rows(self, pairs: Pairs) -> list[Row]:
        """The limit as rows over pairs."""
        revenue = pairs.kept[pairs.item] * pairs.price * pairs.units
        today = pairs.kept * pairs.facts.current_price * pairs.units_today
        return _floors(self.name, "revenue", pairs, self.level, self.share, revenue, today)

    def moved(self, steps: float) -> CategoryRevenueFloor:
        """The limit `steps` steps looser (tighter when negative)."""
        return replace(self, share=_lower(self.share, 0.01 * steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryVolumeFloor:
    """Least expected units of each category, as a share of today's; relaxed by one point.

    Attributes
    ----------
    share : float or mapping of category to float
    level : str
        As for :class:`CategoryRevenueFloor`.

    Examples
    --------
    >>> CategoryVolumeFloor(share=0.98).moved(1.0).share
    0.97
    """

    name: ClassVar[str] = "category_volume_floor"
    enforced: ClassVar[Enforcement] = "coupling row"
    step: ClassVar[str] = "1 point of today's units"
    share: Amount
    level: str | None = None

    def __post_init__(self) -> None:
        require(all(0 <= value < np.inf for value in amounts(self.share)), "CategoryVolumeFloor.share",
                "must be zero or more, 0.98 for 98 % of today's")  # fmt: skip

    def rows(self, pairs: Pairs) -> list[Row]:
        """The limit as rows over pairs."""
        return _floors(self.name, "units", pairs, self.level, self.share, pairs.units, pairs.units_today)

    def moved(self, steps: float) -> CategoryVolumeFloor:
        """The limit `steps` steps looser (tighter when negative)."""
        return replace(self, share=_lower(self.share, 0.01 * steps))


@dataclass(frozen=True, slots=True, kw_only=True)
class TierOrder:
    """Prices that may not fall from one tier to the next; relaxed by one point of the step between them.

    Attributes
    ----------
    tiers : tuple of tuple of str
        Items of each ladder of tiers, the cheapest first; an item stands in one of them at most.
    step : float
        Least rise from one tier to the next, as a share of the lower price.

    Examples
    --------
    >>> TierOrder(tiers=(("basic", "plus", "pro"),), step=0.1).enforced
    'chain'
    """

    name: ClassVar[str] = "tier_order"
    enforced: ClassVar[Enforcement] = "chain"
    tiers: tuple[tuple[str, ...], ...]
    step: float = 0.0

    def __post_init__(self) -> None:
        require(bool(self.tiers), "TierOrder.tiers", "is empty; name the items of at least one ladder of tiers")
        require(all(len(chain) > 1 for chain in self.tiers), "TierOrder.tiers", "wants two items or more in each")
        require(0 <= self.step < np.inf, "TierOrder.step", f"is {self.step}; give a share, zero or more")
        _require_once("TierOrder", self.tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamePrice:
    """Items that must have one price in common.

    Attributes
    ----------
    groups : tuple of tuple of str
        An item stands in one group at most.

    Examples
    --------
    >>> SamePrice(groups=(("red", "blue"),)).enforced
    'chain'
    """

    name: ClassVar[str] = "same_price"
    enforced: ClassVar[Enforcement] = "chain"
    groups: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        require(bool(self.groups), "SamePrice.groups", "is empty; name the items of at least one group")
        require(all(len(group) > 1 for group in self.groups), "SamePrice.groups", "wants two items or more in each")
        _require_once("SamePrice", self.groups)


RowLimit = MaxChanges | MaxAverageMove | BasketPrice | CategoryRevenueFloor | CategoryVolumeFloor
PortfolioLimit = RowLimit | MaxShortfall | MaxLossQuantile | TierOrder | SamePrice


def _require_once(name: str, sets: Sequence[Sequence[str]]) -> None:
    named = [item for items in sets for item in items]
    require(len(set(named)) == len(named), name, "names an item twice; it may stand in one place only")


def _lower(share: Amount, by: float) -> Amount:
    if isinstance(share, Mapping):
        return {name: round(max(value - by, 0.0), 12) for name, value in share.items()}
    return round(max(share - by, 0.0), 12)


def _floors(
    name: str, what: str, pairs: Pairs, level: str | None, share: Amount, amount: Floats, today: Floats
) -> list[Row]:
    """A floor for every unit of a level: minus its amount at most minus the floor, both as shares of today's."""
    labels = _labels(pairs, level, name)
    known = sorted(set(labels.tolist()))
    if isinstance(share, Mapping):
        unknown = sorted(set(share) - set(known))
        if unknown:
            raise SpecError(f"{name} names the unknown category {unknown[0]!r}; known are {', '.join(known[:5])}.")
    rows: list[Row] = []
    of_pair = labels[pairs.item]
    order = np.argsort(of_pair, kind="stable")
    starts = np.searchsorted(of_pair[order], known)
    ends = np.append(starts[1:], order.size)
    floors = scale(share, 1.0)
    for unit, start, end in zip(known, starts, ends, strict=True):
        floor = floors.get(unit, 0.0) if isinstance(floors, Mapping) else floors
        total = float(today[labels == unit].sum())
        if floor > 0 and total > 0:
            places = np.sort(order[start:end])
            items = int((labels == unit).sum())
            rows.append(
                Row(limit=name, what=f"the {what} of {unit}, as a share of today's", places=places,
                    values=-amount[places] * (items / total), bound=-floor * items, unit=-1.0 / items)
            )  # fmt: skip
    return rows


def _labels(pairs: Pairs, level: str | None, name: str) -> NDArray[np.str_]:
    level = pairs.level if level is None else level
    if level is None or level not in pairs.table.columns:
        raise SpecError(f"{name} speaks of categories, but the items have no level {level or 'category'!r}.")
    return pairs.table[level].cast(pl.String).to_numpy().astype(np.str_)
