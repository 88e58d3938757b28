"""From units to money: what a sold unit brings in after tax, commission, fees and cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
Objective = Literal["revenue", "profit", "units"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)


@dataclass(frozen=True, slots=True, kw_only=True)
class Economics:
    r"""What the seller keeps of a price and what a unit costs.

    .. math:: \text{revenue per unit} = \frac{p}{1 + t}, \qquad
              \text{profit per unit} = \frac{p (1 - k)}{1 + t} - f - c

    Attributes
    ----------
    cost : float, mapping of item to float, or None
        Unit cost :math:`c`, currency per unit; None takes each item's last known cost from the model.
    commission : float or mapping of item to float, in [0, 1)
        Share :math:`k` of the price net of tax that is paid away: a marketplace's commission, a teacher's payout.
    fixed_fee : float
        Fee :math:`f` per unit sold, currency.
    tax_rate : float
        Sales tax :math:`t` that is inside the price and is passed on, e.g. 0.2; revenue is counted net of it.
    currency : str
        How money is called in texts, e.g. ``EUR`` or ``tokens``.

    Examples
    --------
    >>> Economics(cost=4.0, commission=0.25).profit_per_unit(10.0)
    3.5
    """

    cost: float | Mapping[str, float] | None = None
    commission: float | Mapping[str, float] = 0.0
    fixed_fee: float = 0.0
    tax_rate: float = 0.0
    currency: str = ""

    def __post_init__(self) -> None:
        costs = [] if self.cost is None else _values(self.cost)
        if not all(0 <= cost < float("inf") for cost in costs):
            raise SpecError("Economics.cost must be zero or more and finite, in currency per unit.")
        if not all(0 <= share < 1 for share in _values(self.commission)):
            raise SpecError("Economics.commission is a share of the price in [0, 1), e.g. 0.12 for 12 %.")
        if not 0 <= self.fixed_fee < float("inf"):
            raise SpecError(f"Economics.fixed_fee is {self.fixed_fee}; it must be zero or more and finite.")
        if not 0 <= self.tax_rate < float("inf"):
            raise SpecError(f"Economics.tax_rate is {self.tax_rate}; give a share such as 0.2, zero or more.")

    def profit_per_unit(self, price: float) -> float:
        """Profit on one unit sold at `price` where cost and commission are one number for all items, in currency."""
        if isinstance(self.cost, Mapping) or isinstance(self.commission, Mapping) or self.cost is None:
            raise SpecError("Economics has costs or commissions by item; use `unit_value` with the item table.")
        return price * (1.0 - self.commission) / (1.0 + self.tax_rate) - self.fixed_fee - self.cost

    def unit_value(self, objective: Objective, items: pl.DataFrame) -> UnitValue:
        """What one unit of each item is worth under an objective, as a linear function of its price.

        Parameters
        ----------
        objective : {"revenue", "profit", "units"}
        items : DataFrame
            Item table with ``item`` and, where `cost` is None, ``cost``.

        Returns
        -------
        UnitValue
            `charge` is NaN where profit is asked for and the cost is unknown.

        Raises
        ------
        SpecError
            For another objective.
        """
        names = [str(name) for name in items["item"]]
        kept = np.full(len(names), 1.0 / (1.0 + self.tax_rate))
        if objective == "revenue":
            return UnitValue(kept=kept, charge=np.zeros(len(names)))
        if objective == "units":
            return UnitValue(kept=np.zeros(len(names)), charge=np.full(len(names), -1.0))
        if objective != "profit":
            raise SpecError(f"The objective {objective!r} is unknown; choose {', '.join(OBJECTIVES)}.")
        cost = items["cost"].cast(pl.Float64).fill_null(np.nan).to_numpy() if self.cost is None else self.cost
        return UnitValue(
            kept=kept * (1.0 - _by_item(self.commission, names)), charge=_by_item(cost, names) + self.fixed_fee
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitValue:
    r"""Worth of one unit as a function of its price, :math:`v(p) = \text{kept} \cdot p - \text{charge}`.

    Revenue, profit and units all have this form (units: kept 0, charge -1), which is what lets one engine serve them.

    Attributes
    ----------
    kept : array (J,)
        Share of the price that is kept, in [0, 1].
    charge : array (J,)
        Currency per unit that does not depend on the price.
    """

    kept: Floats
    charge: Floats

    def at(self, prices: Floats) -> Floats:
        """Worth of a unit at `prices`, shape (J,) or (J, K), in currency (or 1 for units)."""
        if prices.ndim == 2:
            return self.kept[:, None] * prices - self.charge[:, None]
        return self.kept * prices - self.charge

    def part(self, where: slice | NDArray[np.intp]) -> UnitValue:
        """The same for some of the items, by position."""
        return UnitValue(kept=self.kept[where], charge=self.charge[where])


def money(units: xr.DataArray, prices: xr.DataArray, value: UnitValue) -> xr.DataArray:
    """Revenue or profit per period from units draws, by the linear worth of a unit.

    Parameters
    ----------
    units : DataArray, dims (chain, draw, item)
        Units per period.
    prices : DataArray, dims (item,)
        Currency per unit.
    value : UnitValue
        From :meth:`Economics.unit_value`, items in the order of `prices`.

    Returns
    -------
    DataArray, dims (chain, draw, item)
        Currency per period; positive is good.

    Examples
    --------
    >>> units = xr.DataArray([[[50.0]]], dims=("chain", "draw", "item"))
    >>> prices = xr.DataArray([10.0], dims=("item",))
    >>> value = Economics(cost=4.0).unit_value("profit", pl.DataFrame({"item": ["tea"]}))
    >>> money(units, prices, value).item()
    300.0
    """
    return units * xr.DataArray(value.at(prices.to_numpy()), dims=("item",))


def _values(setting: float | Mapping[str, float]) -> list[float]:
    return list(setting.values()) if isinstance(setting, Mapping) else [setting]


def _by_item(setting: float | Mapping[str, float] | Floats, names: list[str]) -> Floats:
    if isinstance(setting, Mapping):
        return np.array([setting.get(name, np.nan) for name in names], dtype=np.float64)
    return np.broadcast_to(np.asarray(setting, dtype=np.float64), (len(names),)).copy()
