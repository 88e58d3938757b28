"""Flags that say what a decision is for and what it may not do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from bayes_pricing.pricing.constraints import Limit
    from bayes_pricing.pricing.functionals import ExponentialUtility
    from bayes_pricing.pricing.profit import Economics
    from bayes_pricing.pricing.value_of_information import TestingRule


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFlags:
    """Which fitted model answers."""

    model_dir: Path
    """Folder written by `fit --out`."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class MoneyFlags:
    """What the seller keeps of a price; money is in the unit of the prices."""

    unit_cost: float | None = None
    """Cost per unit of every item; left out, each item's last known cost."""
    commission: float = 0.0
    """Share of the price, net of tax, that is paid away (0.12 for 12 %)."""
    fixed_fee: float = 0.0
    """Fee per unit sold."""
    tax_rate: float = 0.0
    """Sales tax inside the price (0.2 for 20 %)."""
    currency: str = ""
    """How money is called in texts."""

    def economics(self) -> Economics:
        """The flags as a value."""
        from bayes_pricing.pricing.profit import Economics

        return Economics(
            cost=self.unit_cost,
            commission=self.commission,
            fixed_fee=self.fixed_fee,
            tax_rate=self.tax_rate,
            currency=self.currency,
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class LimitFlags:
    """What recommended prices may not do; without a flag only prices outside the observed range are out of bounds."""

    objective: Literal["revenue", "profit", "units"] | None = None
    """What to maximise; left out, profit where costs are known and revenue elsewhere."""
    horizon: float = 13.0
    """Periods the prices are meant for."""
    max_change: float | None = None
    """Largest change of a price as a share of today's (0.15 for 15 %)."""
    min_change: float | None = None
    """Smallest change worth making, as a share of today's price."""
    lowest_price: float | None = None
    """Lowest price of any item."""
    highest_price: float | None = None
    """Highest price of any item."""
    extrapolate: float = 0.0
    """How far beyond the observed prices to go, as a share (0.05 for 5 %)."""
    price_step: float | None = None
    """Prices are multiples of this."""
    ending: Annotated[tuple[float, ...], Parameter(consume_multiple=False, negative=())] = ()
    """Prices end with this part (0.99); repeatable."""
    min_margin: float | None = None
    """Smallest profit per unit as a share of the price."""
    min_volume: float | None = None
    """Fewest expected units per period and item."""
    capacity: float | None = None
    """Most expected units per period and item."""
    max_loss_probability: float | None = None
    """Largest probability, per item, of earning less than today."""
    max_item_shortfall: float | None = None
    """Largest expected shortfall of one item (mean loss over the worst 5 % of draws), money per period."""
    max_shortfall: float | None = None
    """Largest expected shortfall of the whole portfolio, money per period."""
    max_changes: int | None = None
    """Most items whose price changes."""
    tail_share: float = 0.05
    """Share of the draws that expected shortfalls average over."""
    max_item_loss: float | None = None
    """Largest loss of one item in its worst case (a loss beyond it has a probability of 5 %), money per period."""
    max_portfolio_loss_probability: float | None = None
    """Largest probability that the whole portfolio loses more than max-portfolio-loss."""
    max_portfolio_loss: float = 0.0
    """The loss that max-portfolio-loss-probability speaks of, money per period; 0 is doing worse than today."""
    max_average_move: float | None = None
    """Largest mean absolute move of the prices, as a share (0.03 for 3 %)."""
    basket_lowest: float | None = None
    """Lowest move of the price of today's basket, as a share (-0.02 for -2 %)."""
    basket_highest: float | None = None
    """Highest move of the price of today's basket, as a share."""
    category_revenue_floor: float | None = None
    """Least expected revenue of each category, as a share of today's (0.98 for 98 %)."""
    category_volume_floor: float | None = None
    """Least expected units of each category, as a share of today's."""
    tier: Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative=())] = ()
    """Items whose prices may not fall from one to the next, the cheapest first: basic,plus,pro; repeatable."""
    tier_step: float = 0.0
    """Least rise from one tier to the next, as a share of the lower price."""
    same_price: Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative=())] = ()
    """Items that must have one price in common: red,blue; repeatable."""
    risk_tolerance: float | None = None
    """Maximise the certainty equivalent under this risk tolerance (money per period) instead of the mean."""

    test_cost: float = 0.0
    """Money a price test costs beyond the sales it risks."""
    no_tests: bool = False
    """Decide now: no item is held back to be tested first."""

    def testing(self) -> TestingRule | None:
        """When an item is tested first; None never asks for a test."""
        from bayes_pricing.pricing.value_of_information import TestingRule

        return None if self.no_tests else TestingRule(cost=self.test_cost)

    def utility(self) -> ExponentialUtility | None:
        """Risk aversion, where a tolerance was given."""
        from bayes_pricing.pricing.functionals import ExponentialUtility

        return None if self.risk_tolerance is None else ExponentialUtility(tolerance=self.risk_tolerance)

    def limits(self) -> list[Limit]:
        """The flags that were given, as limits."""
        return [*self._item_limits(), *self._portfolio_limits()]

    def _portfolio_limits(self) -> list[Limit]:
        from bayes_pricing.pricing import constraints as c

        limits: list[Limit] = []
        if self.max_shortfall is not None:
            limits.append(c.MaxShortfall(amount=self.max_shortfall, share=self.tail_share))
        if self.max_portfolio_loss_probability is not None:
            limits.append(
                c.MaxLossQuantile(probability=self.max_portfolio_loss_probability, amount=self.max_portfolio_loss)
            )
        if self.max_changes is not None:
            limits.append(c.MaxChanges(count=self.max_changes))
        if self.max_average_move is not None:
            limits.append(c.MaxAverageMove(share=self.max_average_move))
        if self.basket_lowest is not None or self.basket_highest is not None:
            limits.append(c.BasketPrice(lowest=self.basket_lowest, highest=self.basket_highest))
        if self.category_revenue_floor is not None:
            limits.append(c.CategoryRevenueFloor(share=self.category_revenue_floor))
        if self.category_volume_floor is not None:
            limits.append(c.CategoryVolumeFloor(share=self.category_volume_floor))
        if self.tier:
            limits.append(c.TierOrder(tiers=tuple(map(_named, self.tier)), step=self.tier_step))
        if self.same_price:
            limits.append(c.SamePrice(groups=tuple(map(_named, self.same_price))))
        return limits

    def _item_limits(self) -> list[Limit]:
        from bayes_pricing.pricing import constraints as c

        limits: list[Limit] = [c.Support(extend=self.extrapolate)]
        if self.lowest_price is not None or self.highest_price is not None:
            limits.append(c.Bounds(lowest=self.lowest_price, highest=self.highest_price))
        if self.max_change is not None:
            limits.append(c.MaxChange(share=self.max_change))
        if self.min_change is not None:
            limits.append(c.MinStepIfChanged(share=self.min_change))
        if self.price_step is not None or self.ending:
            limits.append(c.PriceLadder(step=self.price_step, endings=self.ending))
        if self.min_margin is not None:
            limits.append(c.MinMargin(share=self.min_margin))
        if self.min_volume is not None:
            limits.append(c.MinVolume(units=self.min_volume))
        if self.capacity is not None:
            limits.append(c.Capacity(units=self.capacity))
        if self.max_loss_probability is not None:
            limits.append(c.MaxLossProbability(probability=self.max_loss_probability))
        if self.max_item_shortfall is not None:
            limits.append(c.MaxItemShortfall(amount=self.max_item_shortfall, share=self.tail_share))
        if self.max_item_loss is not None:
            limits.append(c.MaxItemLossQuantile(amount=self.max_item_loss))
        return limits


def _named(items: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in items.split(","))
