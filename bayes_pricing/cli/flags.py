"""Flags that many commands share: where the sales are, what their columns mean, how to sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from bayes_pricing.data.panel import SalesPanel
    from bayes_pricing.data.roles import ColumnRoles
    from bayes_pricing.demand.fit import SamplerSettings

Repeatable = Annotated[tuple[str, ...], Parameter(consume_multiple=False, negative=())]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RoleFlags:
    """Which column plays which role; a flag can be left out where the column carries the role's own name."""

    item: str | None = None
    """Column of the item that has a price."""
    category: Repeatable = ()
    """Column of the item's category; repeat it for further levels, inner first."""
    period: str | None = None
    """Column of the period (date, week, number)."""
    price: str | None = None
    """Column of the price per unit."""
    quantity: str | None = None
    """Column of the units sold."""
    cost: str | None = None
    """Column of the cost per unit."""
    list_price: str | None = None
    """Column of the price before discounts."""
    discount: str | None = None
    """Column of the discount."""
    stock: str | None = None
    """Column of the units in stock."""
    sold_out: str | None = None
    """Column that marks a sold-out period."""
    exposure: str | None = None
    """Column of visits or days on sale: expected units are proportional to it."""
    region: str | None = None
    """Column of the store or region."""
    deflator: str | None = None
    """Column of the price index that turns prices into real ones."""
    control: Repeatable = ()
    """Column with an effect that may differ by item; repeatable."""
    shared_control: Repeatable = ()
    """Column with one effect for all items; repeatable."""
    competitor_price: Repeatable = ()
    """Column of a competitor's or substitute's price; repeatable."""
    instrument: Repeatable = ()
    """Column that moves price but not demand; repeatable."""
    attribute: Repeatable = ()
    """Column of what an item is (size, brand), the same in all its rows: explains its elasticity; repeatable."""

    def roles(self, columns: Sequence[str]) -> ColumnRoles:
        """The named roles, the rest filled from `columns` that carry a role's own name or a known alias."""
        from bayes_pricing.data.roles import ColumnRoles

        return ColumnRoles.resolve(
            columns,
            item=self.item,
            levels=self.category or None,
            period=self.period,
            price=self.price,
            quantity=self.quantity,
            cost=self.cost,
            list_price=self.list_price,
            discount=self.discount,
            stock=self.stock,
            sold_out=self.sold_out,
            exposure=self.exposure,
            region=self.region,
            deflator=self.deflator,
            controls=self.control or None,
            shared_controls=self.shared_control or None,
            competitor_prices=self.competitor_price or None,
            instruments=self.instrument or None,
            attributes=self.attribute,
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SalesFlags:
    """Where the sales are."""

    sales: str
    """CSV or Parquet file, or a database URL (with --query)."""
    query: str | None = None
    """SQL that selects the sales, where --sales is a database URL."""
    absent: Literal["zero", "missing"] | None = None
    """What a period without a row means for a listed item: nothing sold, or not known."""

    def panel(self, roles: RoleFlags) -> SalesPanel:
        """Read and check the sales."""
        from bayes_pricing.data.panel import SalesPanel
        from bayes_pricing.data.sources import read_sales

        frame = read_sales(self.sales, self.query)
        columns = frame.collect_schema().names()
        return SalesPanel.from_frame(frame, roles.roles(columns), absent=self.absent)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TermFlags:
    """What else the demand equation holds beside the item's own price and the controls."""

    cross_prices: Annotated[bool, Parameter(negative=())] = False
    """Every item has a cross-price elasticity with every other item of its category (log-normal sales)."""
    correlated: Literal["all", "price"] = "all"
    """Which effects of one item correlate: all, or level and own price only (faster with many controls)."""
    autocorrelation: Literal["auto", "off"] = "auto"
    """Model first-order autocorrelation of log-normal sales where it is there, or only name it."""
    season: int = 0
    """Pairs of sine and cosine over the year, common to all items."""
    season_length: float | None = None
    """Periods of one cycle, where periods are whole numbers (52 for weeks)."""
    trend: Annotated[bool, Parameter(negative=())] = False
    """A straight line in time, common to all items."""
    stockpiling: Annotated[bool, Parameter(negative=())] = False
    """Buyers stock up when the price falls: short-run and long-run elasticity apart."""
    drift: Annotated[bool, Parameter(negative=())] = False
    """The elasticity moves from the first to the last period (log-normal sales)."""
    price_curve: Literal["constant", "quadratic", "saturating"] = "constant"
    """Elasticity the same at every price, or changing with it: in a straight line of log price, or from one limit to
    another (log-normal sales)."""
    month_effects: Annotated[bool, Parameter(negative=())] = False
    """Every month of the year has an effect, common to all items."""
    holiday: Repeatable = ()
    """NAME=2026-12-25 or NAME=2026-12-20..2026-12-26: an effect of the periods these days fall in; repeatable."""
    period_effects: Literal["all", "category"] | None = None
    """Every period has an effect of its own, common to all items or to those of one category."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerFlags:
    """How long to sample."""

    draws: int = 1000
    """Posterior draws of each chain."""
    tune: int | None = None
    """Warm-up iterations of each chain; left out, what suits the model."""
    chains: int = 4
    """Independent chains."""

    def settings(self) -> SamplerSettings:
        """The flags as a value."""
        from bayes_pricing.demand.fit import SamplerSettings

        return SamplerSettings(draws=self.draws, tune=self.tune, chains=self.chains)
