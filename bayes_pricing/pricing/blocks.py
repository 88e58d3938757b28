"""Items that take sales from each other, as one block: expected units at a vector of prices, per draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.profit import UnitValue

Floats = NDArray[np.float64]


class BlockDemand(Protocol):
    """Expected units per period of n items on S draws, as a function of their log price ratios to today."""

    @property
    def current_price(self) -> Floats:
        """Today's prices, array (n,)."""
        ...

    def units(self, log_ratio: Floats) -> Floats:
        """Expected units per period at prices today's times exp(log_ratio), array (S, n)."""
        ...

    def pulled_back(self, log_ratio: Floats, units: Floats, weights: Floats) -> Floats:
        r"""Gradient of :math:`\sum_{si} W_{si} q_{si}` in the log price ratios, array (n,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogLogBlock:
    r"""Constant own and cross elasticities.

    .. math:: \log q_{si} = a_{si} + \sum_j E_{sij} \log(p_j / p_{j0})

    Attributes
    ----------
    current_price : array (n,)
    log_units_today : array (S, n)
        :math:`a`: log expected units per period at today's prices, smearing and exposure included.
    elasticity : array (S, n, n)
        :math:`E`: of the row's units in the column's price; own elasticities on the diagonal, substitutes positive
        beside it.

    Examples
    --------
    >>> pair = LogLogBlock(current_price=np.array([10.0, 10.0]), log_units_today=np.zeros((1, 2)),
    ...                    elasticity=np.array([[[-3.0, 0.5], [0.5, -3.0]]]))
    >>> pair.units(np.log([1.1, 1.0])).round(4).tolist()
    [[0.7513, 1.0488]]
    """

    current_price: Floats
    log_units_today: Floats
    elasticity: Floats

    def units(self, log_ratio: Floats) -> Floats:
        """Expected units per period, array (S, n)."""
        flat = self.elasticity.reshape(-1, self.elasticity.shape[2])  # one product, not one for every draw
        moved = (flat @ log_ratio).reshape(self.log_units_today.shape)
        return np.asarray(np.exp(self.log_units_today + moved), dtype=np.float64)

    def pulled_back(self, log_ratio: Floats, units: Floats, weights: Floats) -> Floats:
        """Gradient of weighted units in the log price ratios, array (n,)."""
        flat = self.elasticity.reshape(-1, self.elasticity.shape[2])
        return np.asarray((weights * units).ravel() @ flat, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogitBlock:
    r"""Multinomial logit with an outside option of utility 0.

    .. math:: q_{si} = M_s \frac{e^{u_{si}}}{1 + \sum_j e^{u_{sj}}}, \qquad u_{si} = \alpha_{si} - \beta_{si} p_i

    Attributes
    ----------
    current_price : array (n,)
    utility : array (S, n)
        :math:`\alpha`.
    sensitivity : array (S, n)
        :math:`\beta`, per currency, positive.
    market : array (S,)
        Buyers per period, those who buy nothing included.

    Examples
    --------
    >>> one = LogitBlock(current_price=np.array([2.0]), utility=np.array([[1.0]]), sensitivity=np.array([[0.5]]),
    ...                  market=np.array([100.0]))
    >>> one.units(np.zeros(1)).tolist()
    [[50.0]]
    """

    current_price: Floats
    utility: Floats
    sensitivity: Floats
    market: Floats

    def units(self, log_ratio: Floats) -> Floats:
        """Expected units per period, array (S, n)."""
        utility = self.utility - self.sensitivity * (self.current_price * np.exp(log_ratio))
        top = np.maximum(utility.max(axis=1, keepdims=True), 0.0)
        share = np.exp(utility - top)
        return np.asarray(self.market[:, None] * share / (np.exp(-top) + share.sum(axis=1, keepdims=True)))

    def pulled_back(self, log_ratio: Floats, units: Floats, weights: Floats) -> Floats:
        """Gradient of weighted units in the log price ratios, array (n,)."""
        share = units / self.market[:, None]
        mean = (weights * share).sum(axis=1, keepdims=True)
        slope = self.market[:, None] * share * (weights - mean)
        price = self.current_price * np.exp(log_ratio)
        return np.asarray(-(self.sensitivity * slope).sum(axis=0) * price, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlockMoney:
    """Money that a block of items brings per draw, and its gradient in log prices.

    Attributes
    ----------
    demand : BlockDemand
    value : UnitValue
        Worth of a unit of each item, in the order of the block.
    lowest, highest : arrays (n,)
        Log price ratios to today between which prices may move.
    """

    demand: BlockDemand
    value: UnitValue
    lowest: Floats
    highest: Floats

    @property
    def size(self) -> int:
        """Number of items n."""
        return int(self.lowest.size)

    def money(self, log_ratio: Floats) -> Floats:
        """Money per period on every draw, array (S,)."""
        worth = self.value.at(self.demand.current_price * np.exp(log_ratio))
        return np.asarray(self.demand.units(log_ratio) @ worth, dtype=np.float64)

    def money_and_gradient(self, log_ratio: Floats, weights: Floats) -> tuple[float, Floats]:
        """Weighted sum over draws of the money, weights (S,), and its gradient in log prices, array (n,)."""
        price = self.demand.current_price * np.exp(log_ratio)
        worth = self.value.at(price)
        units = self.demand.units(log_ratio)
        gradient = self.demand.pulled_back(log_ratio, units, weights[:, None] * worth[None, :])
        gradient += (weights @ units) * self.value.kept * price
        return float(weights @ (units @ worth)), gradient
