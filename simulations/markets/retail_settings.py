"""What a simulated retail market is made of, and the scenarios it is played in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from bayes_pricing.errors import SpecError

_RANGES: dict[str, tuple[float, float, str]] = {
    "categories": (1, 40, "product categories"),
    "products": (1, 200, "products of a category"),
    "stores": (1, 200, "stores, each with all products"),
    "weeks": (8, 520, "weeks of sales"),
    "elasticity_mean": (-6.0, -1.2, "mean own-price elasticity of the population"),
    "between_categories": (0.0, 1.5, "sd of category means"),
    "between_products": (0.0, 1.5, "sd of products around their category"),
    "between_stores": (0.0, 1.0, "sd of a product's stores around the product"),
    "noise_sd": (0.0, 1.5, "typical sd of log units around what is expected"),
    "price_step_sd": (0.0, 0.5, "sd of a regular price around its centre, in logs"),
    "weeks_per_price": (1, 26, "weeks a regular price is held"),
    "promotion_share": (0.0, 0.5, "share of weeks with a price cut"),
    "promotion_lift": (0.0, 2.0, "log units a display adds in a promotion"),
    "cost_shock_sd": (0.0, 0.5, "sd of log unit cost over time"),
    "pass_through": (0.0, 1.0, "share of a cost shock that goes into the price"),
    "demand_shock_sd": (0.0, 1.0, "sd of demand shocks"),
    "price_response": (0.0, 1.0, "log price per unit of demand shock: the seller raises prices when demand is high"),
    "sold_out_share": (0.0, 0.6, "share of weeks in which stock does not suffice"),
    "cross_elasticity": (0.0, 0.6, "mean elasticity to a substitute's price"),
    "drift": (-2.0, 2.0, "change of every elasticity over the weeks of sales"),
    "mix_swing": (0.0, 0.4, "swing of the share of large packs"),
}
UNITS_LIMIT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailMarketSettings:
    """Size, demand, prices and troubles of a simulated retail market; ranges are checked when it is made.

    The thing that has a price is a product in a store. All defaults together are the scenario ``base``: prices that
    owe nothing to demand, enough weeks, no stock-outs, no substitutes.

    Attributes
    ----------
    categories, products, stores, weeks : int
        Categories, products of each, stores that carry all of them, weeks of sales.
    first_week : date
        First day of the first week.
    elasticity_mean, between_categories, between_products, between_stores : float
        Category means are Normal(mean, between_categories^2), products Normal(category, between_products^2), a product
        in a store Normal(product, between_stores^2): its elasticity at today's prices.
    noise_sd : float
        Typical sd of log units; products differ around it by a factor of about 1.35.
    price_step_sd, weeks_per_price, promotion_share : float, int, float
        Regular prices are set anew every `weeks_per_price` weeks; in `promotion_share` of the weeks they are cut by 15
        to 30 %, though never in the last week.
    promotion_lift : float
        Log units that the display beside a price cut adds; above 0 the sales have a column ``display``.
    cost_shock_sd, pass_through : float
        Weekly shocks of log unit cost and the share of them that the price follows.
    demand_shock_sd, price_response : float
        Demand shocks that the seller sees, and how prices answer them: above 0 prices are endogenous, and the sales
        have a column ``wholesale`` (the cost shock alone), which is a valid instrument.
    sold_out_share : float
        Above 0, sales end at the stock in about this share of weeks, and the sales have a column ``sold_out``.
    cross_elasticity : float
        Mean elasticity of a product to the price of each other product of its category in the same store.
    drift : float
        Elasticities move by this much from the first week to the last.
    mix_swing : float
        Above 0, each price is revenue over units of small and large packs, whose mix moves price and units together.

    Raises
    ------
    SpecError
        If a field is outside its range or the market has more than 2,000 products in stores.

    Examples
    --------
    >>> RetailMarketSettings(stores=3).units
    72
    """

    categories: int = 4
    products: int = 6
    stores: int = 2
    weeks: int = 78
    first_week: date = date(2025, 1, 6)
    elasticity_mean: float = -2.6
    between_categories: float = 0.4
    between_products: float = 0.6
    between_stores: float = 0.15
    noise_sd: float = 0.3
    price_step_sd: float = 0.1
    weeks_per_price: int = 4
    promotion_share: float = 0.15
    promotion_lift: float = 0.0
    cost_shock_sd: float = 0.08
    pass_through: float = 0.5
    demand_shock_sd: float = 0.0
    price_response: float = 0.0
    sold_out_share: float = 0.0
    cross_elasticity: float = 0.0
    drift: float = 0.0
    mix_swing: float = 0.0

    def __post_init__(self) -> None:
        for name, (lowest, highest, meaning) in _RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise SpecError(f"RetailMarketSettings.{name} is {value}; choose {lowest} to {highest} ({meaning}).")
        if not self.units <= UNITS_LIMIT:
            raise SpecError(
                f"{self.units} products in stores; at most {UNITS_LIMIT}, as every pair may be substitutes."
            )

    @property
    def units(self) -> int:
        """Products in stores: how many prices there are."""
        return self.categories * self.products * self.stores


SCENARIOS: Mapping[str, RetailMarketSettings] = MappingProxyType(
    {
        "base": RetailMarketSettings(),
        "endogenous": RetailMarketSettings(demand_shock_sd=0.3, price_response=0.4, cost_shock_sd=0.12),
        "sparse": RetailMarketSettings(weeks=16, price_step_sd=0.06, promotion_share=0.06, cost_shock_sd=0.04),
        "stock-outs": RetailMarketSettings(sold_out_share=0.25),
        "promotion": RetailMarketSettings(promotion_lift=0.5),
        "substitutes": RetailMarketSettings(cross_elasticity=0.2),
        "drift": RetailMarketSettings(drift=-0.8),
        "composition": RetailMarketSettings(mix_swing=0.3),
    }
)
"""Markets by the one trouble each has; ``base`` has none."""


def retail_scenario(name: str) -> RetailMarketSettings:
    """Settings of a scenario by its name.

    Raises
    ------
    SpecError
        If there is no such scenario; the message lists all.

    Examples
    --------
    >>> retail_scenario("sparse").weeks
    16
    """
    if name not in SCENARIOS:
        raise SpecError(f"The scenario {name!r} is unknown; choose {', '.join(SCENARIOS)}.")
    return SCENARIOS[name]
