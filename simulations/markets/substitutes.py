"""A small market of substitutes: items of a category take buyers from each other, and every effect is known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class SubstituteSettings:
    """How large the market is and how hard its items compete.

    Attributes
    ----------
    categories, items_per_category : int
    buyers : int
        Shoppers who come to each category every week.
    weeks : int
        Of history.
    sensitivity : float
        Slope of utility in log price: own elasticity is about minus this, times the share that buys something else.
    attraction : float
        Mean utility of an item against buying nothing; higher leaves fewer who buy nothing.
    price_sd : float
        Sd of log price around each item's usual one in the history.
    shock_sd : float
        Sd of what moves all sales of a week together, in logs.
    cost_share : float
        Unit cost as a share of the usual price.
    """

    categories: int = 10
    items_per_category: int = 4
    buyers: int = 2_000
    weeks: int = 52
    sensitivity: float = 3.5
    attraction: float = -0.9
    price_sd: float = 0.15
    shock_sd: float = 0.05
    cost_share: float = 0.45

    def __post_init__(self) -> None:
        if self.categories < 4 or self.items_per_category < 2 or self.weeks < 10:
            raise SpecError("SubstituteSettings wants at least 4 categories of 2 items and 10 weeks.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SubstituteMarket:
    r"""The truth: each shopper buys one item of the category or nothing, by a logit in log price.

    .. math:: s_i = \frac{e^{a_i - \beta \log(p_i / \bar p_i)}}{1 + \sum_{j \in g} e^{a_j - \beta \log(p_j/\bar p_j)}},
              \qquad \varepsilon_{ii} = -\beta (1 - s_i), \quad \varepsilon_{ij} = \beta s_j

    Attributes
    ----------
    settings : SubstituteSettings
    items, categories : tuple of str, by item
    attraction, usual_price, cost : arrays (item,)
    """

    settings: SubstituteSettings
    items: tuple[str, ...]
    categories: tuple[str, ...]
    attraction: Floats
    usual_price: Floats
    cost: Floats

    def shares(self, log_move: Floats) -> Floats:
        """Share of a category's shoppers who buy each item, array (period, item), at log moves from the usual price."""
        pull = np.exp(self.attraction - self.settings.sensitivity * log_move)
        grouped = pull.reshape(len(pull), self.settings.categories, -1)
        return np.asarray((grouped / (1.0 + grouped.sum(axis=2, keepdims=True))).reshape(pull.shape))

    def sell(self, expected: Floats, rng: np.random.Generator) -> Floats:
        """Units sold: a shock common to the week, and Poisson noise."""
        sd = self.settings.shock_sd
        shock = rng.normal(-0.5 * sd**2, sd, size=(len(expected), 1))
        return rng.poisson(expected * np.exp(shock)).astype(np.float64)

    def history(self, rng: np.random.Generator) -> pl.DataFrame:
        """Weekly sales with the geometric mean price of each item's rivals, sorted by item and period.

        The last week has the usual prices, so that today's price is the usual one.
        """
        settings = self.settings
        move = rng.normal(0.0, settings.price_sd, size=(settings.weeks, len(self.items)))
        move[-1] = 0.0
        sold = self.sell(settings.buyers * self.shares(move), rng)
        grouped = move.reshape(settings.weeks, settings.categories, -1)
        rivals = (grouped.sum(axis=2, keepdims=True) - grouped) / (settings.items_per_category - 1)
        usual = np.log(self.usual_price).reshape(settings.categories, -1)
        level = (usual.sum(axis=1, keepdims=True) - usual) / (settings.items_per_category - 1)
        weeks = [date(2025, 1, 6) + timedelta(weeks=week) for week in range(settings.weeks)]
        count = len(self.items)
        return pl.DataFrame(
            {
                "item": np.tile(np.array(self.items), settings.weeks),
                "category": np.tile(np.array(self.categories), settings.weeks),
                "period": pl.Series(weeks).gather(np.repeat(np.arange(settings.weeks), count)),
                "price": (self.usual_price * np.exp(move)).ravel(),
                "quantity": sold.ravel(),
                "cost": np.tile(self.cost, settings.weeks),
                "rival_price": np.exp(rivals + level).ravel(),
            }
        ).sort("item", "period")


def draw_substitutes(settings: SubstituteSettings, rng: np.random.Generator) -> SubstituteMarket:
    """Draw a market.

    Examples
    --------
    >>> market = draw_substitutes(SubstituteSettings(categories=4, items_per_category=2), np.random.default_rng(1))
    >>> market.history(np.random.default_rng(2)).columns
    ['item', 'category', 'period', 'price', 'quantity', 'cost', 'rival_price']
    """
    count = settings.categories * settings.items_per_category
    category = np.repeat(np.arange(settings.categories), settings.items_per_category)
    usual = np.exp(rng.normal(2.0, 0.3, size=count))
    return SubstituteMarket(
        settings=settings,
        items=tuple(f"item-{place:03d}" for place in range(count)),
        categories=tuple(f"category-{place:02d}" for place in category),
        attraction=rng.normal(settings.attraction, 0.3, size=count),
        usual_price=usual,
        cost=settings.cost_share * usual,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MarketResponse:
    """The true market as a place to play tests in: the second implementation of `PriceResponse`.

    Attributes
    ----------
    market : SubstituteMarket
    move : float
        Change of every tested price as a share of the usual one.
    """

    market: SubstituteMarket
    move: float

    @property
    def clusters(self) -> tuple[str, ...]:
        """Category of each item."""
        return self.market.categories

    @property
    def draws(self) -> int:
        """There is one truth."""
        return 1

    @property
    def worth(self) -> Floats:
        """Profit per unit at the usual and the new price, array (2, item)."""
        usual, cost = self.market.usual_price, self.market.cost
        return np.stack([usual - cost, usual * (1.0 + self.move) - cost])

    def expected_units(self, draw: int, new: Bools) -> Floats:
        """Expected units by period and item; there is no other draw than 0."""
        return self.market.settings.buyers * self.market.shares(np.log1p(self.move) * new)

    def sell(self, expected: Floats, rng: np.random.Generator) -> Floats:
        """Units sold."""
        return self.market.sell(expected, rng)
