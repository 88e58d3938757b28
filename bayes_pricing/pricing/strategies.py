r"""Strategies of practice as named policies: what shops do without a posterior, on the same footing as one.

Each is a frozen value with a name and one act, `prices(shelf)`, whose answer is held to the shelf's price range, so
that no strategy wins or loses by leaving it. Prices are currency per unit; :math:`p^r` is an item's mean past price.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

LITERATURE_ELASTICITY = -2.62
"""Mean of 1,851 published estimates (Bijmolt, van Heerde & Pieters 2005)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shelf:
    """What a strategy sees of the items when it sets their prices.

    Attributes
    ----------
    items : tuple of str, length J
    category : int array (J,)
        Index of each item's category, from 0 without gaps.
    unit_cost, current_price, usual_price : arrays (J,)
        Currency per unit; usual is the mean past price.
    lowest_price, highest_price : arrays (J,)
        Prices allowed.
    units_per_period : array (J,)
        Mean past sales.
    rival_price : array (J,)
        What others charge for the like; the item's usual price where nobody looked.
    period : int
        Periods since prices were first set by strategy, from 0.
    age_periods : array (J,)
        Periods since the item was first sold.
    commission : float in [0, 1)
        Share of the price that is paid away.

    Raises
    ------
    SpecError
        If lengths differ or a price range is empty.

    Examples
    --------
    >>> one = np.ones(1)
    >>> shelf = Shelf(items=("tea",), category=np.zeros(1, dtype=np.int64), unit_cost=2 * one, current_price=4 * one,
    ...               usual_price=4 * one, lowest_price=3 * one, highest_price=6 * one, units_per_period=9 * one,
    ...               rival_price=5 * one, period=0, age_periods=one)
    >>> CompetitiveIndex(index=0.9).prices(shelf).tolist()
    [4.5]
    """

    items: tuple[str, ...]
    category: Integers
    unit_cost: Floats
    current_price: Floats
    usual_price: Floats
    lowest_price: Floats
    highest_price: Floats
    units_per_period: Floats
    rival_price: Floats
    period: int
    age_periods: Floats
    commission: float = 0.0

    def __post_init__(self) -> None:
        arrays = (self.category, self.unit_cost, self.current_price, self.usual_price, self.lowest_price)
        more = (self.highest_price, self.units_per_period, self.rival_price, self.age_periods)
        if {len(array) for array in (*arrays, *more)} != {len(self.items)}:
            raise SpecError("Shelf has arrays of different lengths; give one value per item.")
        if not (self.lowest_price <= self.highest_price).all():
            raise SpecError("Shelf has a lowest price above the highest; give each item a price range.")

    def held(self, prices: Floats) -> Floats:
        """Prices moved into their range."""
        return np.clip(prices, self.lowest_price, self.highest_price)

    def lerner(self, elasticity: Floats) -> Floats:
        """Best prices under constant elasticities: c / (1 - k) * e / (1 + e), the top of the range where e >= -1."""
        elastic = elasticity < -1
        safe = np.where(elastic, elasticity, -2.0)
        prices = self.unit_cost / (1 - self.commission) * safe / (1 + safe)
        return self.held(np.where(elastic, prices, self.highest_price))


class Strategy(Protocol):
    """A named way of setting all prices of a shelf."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def prices(self, shelf: Shelf) -> Floats:
        """Price of every item, dims (item,), inside its range."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ElasticityRule:
    r"""Markup by one elasticity for everything: :math:`p = \frac{c}{1-k} \frac{e}{1+e}` (Lerner 1934)."""

    elasticity: float = LITERATURE_ELASTICITY
    name: str = "elasticity rule"

    def prices(self, shelf: Shelf) -> Floats:
        """Lerner's price of every item."""
        return shelf.lerner(np.full(len(shelf.items), self.elasticity))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompetitiveIndex:
    """A fixed index of what rivals charge: 1 matches them, 0.95 undercuts by five per cent."""

    index: float = 1.0
    name: str = "competitive index"

    def prices(self, shelf: Shelf) -> Floats:
        """Index times rival price."""
        return shelf.held(self.index * shelf.rival_price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    r"""Skim the young, discount the old: :math:`p = p^r (1 + s\,(2 \cdot 2^{-a/h} - 1))`, age `a`, half-life `h`."""

    swing: float = 0.1
    half_life_periods: float = 52.0
    name: str = "lifecycle"

    def prices(self, shelf: Shelf) -> Floats:
        """Usual price, dearer before the half-life and cheaper after it."""
        young = 2.0 * 0.5 ** (shelf.age_periods / self.half_life_periods) - 1.0
        return shelf.held(shelf.usual_price * (1.0 + self.swing * young))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBased:
    """A calendar of prices: in one of every `every` periods all prices are cut by `cut`, else they are usual."""

    cut: float = 0.15
    every: int = 4
    name: str = "time-based"

    def prices(self, shelf: Shelf) -> Floats:
        """Usual prices, or the sale's."""
        sale = (shelf.period + 1) % self.every == 0
        return shelf.held(shelf.usual_price * (1.0 - self.cut if sale else 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A category's better and lesser sellers together: items below its median sales ride along at a discount."""

    discount: float = 0.15
    name: str = "bundle"

    def prices(self, shelf: Shelf) -> Floats:
        """Usual prices, the slower half of each category at the bundle's discount."""
        slow = np.zeros(len(shelf.items), dtype=bool)
        for one in range(int(shelf.category.max()) + 1):
            members = shelf.category == one
            slow[members] = shelf.units_per_period[members] < np.median(shelf.units_per_period[members])
        return shelf.held(shelf.usual_price * np.where(slow, 1.0 - self.discount, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class TieredSubscription:
    """A few price points per category (basic, plus, premium): every item gets the mean price of its tier."""

    tiers: int = 3
    name: str = "tiered subscription"

    def prices(self, shelf: Shelf) -> Floats:
        """Mean usual price of the item's tier, tiers being equal shares of a category ranked by usual price."""
        prices = shelf.usual_price.copy()
        for one in range(int(shelf.category.max()) + 1):
            members = np.flatnonzero(shelf.category == one)
            for tier in np.array_split(members[np.argsort(shelf.usual_price[members])], self.tiers):
                if tier.size:
                    prices[tier] = shelf.usual_price[tier].mean()
        return shelf.held(prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class PropensityPersonalised:
    r"""Dearer where people buy anyway: :math:`p = p^r (1 + s\,(2 r - 1))`, `r` the rank of its sales in [0, 1]."""

    strength: float = 0.1
    name: str = "propensity-personalised"

    def prices(self, shelf: Shelf) -> Floats:
        """Usual price moved by the rank of the item's sales."""
        order = np.argsort(np.argsort(shelf.units_per_period))
        rank = order / max(len(shelf.items) - 1, 1)
        return shelf.held(shelf.usual_price * (1.0 + self.strength * (2.0 * rank - 1.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryLevel:
    """One markup per category, from its elasticity: what pricing by category makes of a posterior or a regression.

    Attributes
    ----------
    elasticity : tuple of float
        Of each category, by its index on the shelf.
    """

    elasticity: tuple[float, ...]
    name: str = "category-level"

    def prices(self, shelf: Shelf) -> Floats:
        """Lerner's price of every item under its category's elasticity."""
        return shelf.lerner(np.asarray(self.elasticity, dtype=np.float64)[shelf.category])


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    r"""Several strategies at once, by weighted geometric mean: :math:`\log p = \sum_k w_k \log p_k`.

    Raises
    ------
    SpecError
        If there are not as many weights as parts, or they do not sum to 1.
    """

    parts: tuple[Strategy, ...]
    weights: tuple[float, ...]
    name: str = "blend"

    def __post_init__(self) -> None:
        if len(self.parts) != len(self.weights) or not abs(sum(self.weights) - 1.0) < 1e-9:
            raise SpecError(
                f"Blend has {len(self.parts)} parts and weights {self.weights}; give one each, summing to 1."
            )

    def prices(self, shelf: Shelf) -> Floats:
        """Weighted geometric mean of the parts' prices."""
        logs = np.stack([np.log(part.prices(shelf)) for part in self.parts])
        return shelf.held(np.exp(np.asarray(self.weights) @ logs))


def strategies_of_practice(category_elasticity: Sequence[float]) -> tuple[Strategy, ...]:
    """The nine named strategies with usual settings.

    Parameters
    ----------
    category_elasticity : sequence of float
        For the category-level strategy and its part in the blend.

    Examples
    --------
    >>> [one.name for one in strategies_of_practice([-2.0])][-2:]
    ['category-level', 'blend']
    """
    category = CategoryLevel(elasticity=tuple(category_elasticity))
    singles: tuple[Strategy, ...] = (
        ElasticityRule(),
        CompetitiveIndex(),
        Lifecycle(),
        TimeBased(),
        Bundle(),
        TieredSubscription(),
        PropensityPersonalised(),
        category,
    )
    parts = (singles[0], singles[1], category)
    return (*singles, Blend(parts=parts, weights=(0.4, 0.2, 0.4)))


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedPrices:
    """Prices that somebody else worked out, as a strategy: items not named keep today's.

    Examples
    --------
    >>> NamedPrices(name="mine", by_item={"tea": 4.0}).name
    'mine'
    """

    name: str
    by_item: Mapping[str, float] = field(default_factory=dict)

    def prices(self, shelf: Shelf) -> Floats:
        """The given prices."""
        pairs = zip(shelf.items, shelf.current_price.tolist(), strict=True)
        return shelf.held(np.array([self.by_item.get(item, today) for item, today in pairs]))
