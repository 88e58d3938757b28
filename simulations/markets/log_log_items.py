"""Items with log-log demand whose every number is known: the plainest market on which a planner can be judged."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLogSettings:
    """How many items there are, how they differ, and how much their history tells.

    Attributes
    ----------
    items, categories, weeks : int
    elasticity_mean, elasticity_sd, category_sd : float
        Item elasticities around their category's, and categories' around the mean.
    noise_sd : float
        Of log weekly sales.
    price_sd : float
        Of log price in the history around the usual one.
    cost_share : float
        Unit cost as a share of the usual price.
    """

    items: int = 150
    categories: int = 6
    weeks: int = 26
    elasticity_mean: float = -2.2
    elasticity_sd: float = 0.8
    category_sd: float = 0.4
    noise_sd: float = 0.3
    price_sd: float = 0.03
    cost_share: float = 0.5

    def __post_init__(self) -> None:
        if self.items < self.categories or self.categories < 2 or self.weeks < 4:
            raise SpecError("LogLogSettings wants at least two categories, an item in each, and four weeks.")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogLogMarket:
    r"""The truth, :math:`\log q = a + \varepsilon (\log p - \log \bar p) + e`.

    Attributes
    ----------
    settings : LogLogSettings
    items, categories : tuple of str, by item
    level, elasticity, usual_price, cost : arrays (item,)
    """

    settings: LogLogSettings
    items: tuple[str, ...]
    categories: tuple[str, ...]
    level: Floats
    elasticity: Floats
    usual_price: Floats
    cost: Floats

    def expected_profit(self, prices: Floats) -> Floats:
        """Expected profit per week of each item at its price, array (item,)."""
        units = np.exp(
            self.level + self.elasticity * np.log(prices / self.usual_price) + 0.5 * self.settings.noise_sd**2
        )
        return np.asarray((prices - self.cost) * units, dtype=np.float64)

    def history(self, rng: np.random.Generator) -> pl.DataFrame:
        """Weekly sales, the last week at the usual price."""
        weeks, count = self.settings.weeks, len(self.items)
        move = rng.normal(0.0, self.settings.price_sd, size=(weeks, count))
        move[-1] = 0.0
        log_units = self.level + self.elasticity * move + rng.normal(0.0, self.settings.noise_sd, size=move.shape)
        starts = pl.Series([date(2025, 1, 6) + timedelta(weeks=week) for week in range(weeks)])
        return pl.DataFrame(
            {
                "item": np.tile(np.array(self.items), weeks),
                "category": np.tile(np.array(self.categories), weeks),
                "period": starts.gather(np.repeat(np.arange(weeks), count)),
                "price": (self.usual_price * np.exp(move)).ravel(),
                "quantity": np.exp(log_units).ravel(),
                "cost": np.tile(self.cost, weeks),
            }
        )


def draw_log_log(settings: LogLogSettings, rng: np.random.Generator) -> LogLogMarket:
    """Draw a market.

    Examples
    --------
    >>> market = draw_log_log(LogLogSettings(items=8, categories=2), np.random.default_rng(1))
    >>> bool((market.expected_profit(market.usual_price) > 0).all())
    True
    """
    category = np.arange(settings.items) % settings.categories
    centre = rng.normal(settings.elasticity_mean, settings.category_sd, size=settings.categories)
    usual = np.exp(rng.normal(2.0, 0.3, size=settings.items))
    return LogLogMarket(
        settings=settings,
        items=tuple(f"item-{place:04d}" for place in range(settings.items)),
        categories=tuple(f"category-{place}" for place in category),
        level=rng.normal(4.0, 0.5, size=settings.items),
        elasticity=rng.normal(centre[category], settings.elasticity_sd),
        usual_price=usual,
        cost=settings.cost_share * usual,
    )
