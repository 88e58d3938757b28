"""The known truth of a retail market: expected demand in closed form, its elasticities, the best prices."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize

from simulations.markets.retail_settings import RetailMarketSettings

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RetailMarketTruth:
    r"""Everything that decides expected demand in a retail market; an item is a product in a store.

    .. math:: \log E[q_j(p)] = a_j + e_j \log\frac{p_j}{p^0_j} + \sum_{k \ne j} c_{jk} \log\frac{p_k}{p^0_k}

    with :math:`p^0` today's prices (those of the last week); no display, stock without end, today's mix of packs.

    Attributes
    ----------
    settings : RetailMarketSettings
    seed : int
    items, products, categories : tuples of str, sorted
        Items are named ``product @ store``.
    product, category : int arrays (item,)
        Index of each item's product and category.
    log_units : array (item,)
        a: log expected units per week at today's prices.
    elasticity : array (item,)
        e: own-price elasticity today, no unit.
    cross : array (item, item)
        c: elasticity of the row's units to the column's price; zero on the diagonal, between stores and categories.
    weekly_drift : array (item,)
        Change of the own-price elasticity per week.
    noise_sd : array (item,)
        Sd of log units around log expected units, demand shocks included; E[exp(noise)] = 1.
    current_price, unit_cost, lowest_price, highest_price : array (item,)
        Currency per unit; the cost is the last week's, the range that of the prices posted.
    product_mean, category_mean : arrays (product,), (category,)
        Means of the distributions that the elasticities of their members are drawn from.

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> truth = simulate_retail(RetailMarketSettings(), seed=1).truth
    >>> truth.items[0], truth.elasticity.shape
    ('bread-1 @ store-1', (48,))
    """

    settings: RetailMarketSettings
    seed: int
    items: tuple[str, ...]
    products: tuple[str, ...]
    categories: tuple[str, ...]
    product: Integers
    category: Integers
    log_units: Floats
    elasticity: Floats
    cross: Floats
    weekly_drift: Floats
    noise_sd: Floats
    current_price: Floats
    unit_cost: Floats
    lowest_price: Floats
    highest_price: Floats
    product_mean: Floats
    category_mean: Floats

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)


def log_expected_units(truth: RetailMarketTruth, prices: Floats, weeks_ahead: float = 0.0) -> Floats:
    """Log of expected units per week at given prices.

    Parameters
    ----------
    truth : RetailMarketTruth
    prices : array (..., item)
        Currency per unit, in the truth's item order.
    weeks_ahead : float
        Weeks after the last one of the sales: elasticities drift on.

    Returns
    -------
    array (..., item)

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> truth = simulate_retail(RetailMarketSettings(), seed=1).truth
    >>> bool(np.allclose(log_expected_units(truth, truth.current_price), truth.log_units))
    True
    """
    ratio = np.log(prices / truth.current_price)
    own = truth.elasticity + weeks_ahead * truth.weekly_drift
    units: Floats = truth.log_units + own * ratio + ratio @ truth.cross.T
    return units


def retail_profit(truth: RetailMarketTruth, prices: Floats, weeks_ahead: float = 0.0) -> tuple[Floats, Floats]:
    r"""Expected profit of every item per week, and the gradient of their sum in log prices.

    .. math:: \frac{\partial \Pi}{\partial \log p_k} = E_k p_k + e_k E_k (p_k - c_k) + \sum_{j \ne k} c_{jk} E_j (p_j - c_j)

    Parameters
    ----------
    truth : RetailMarketTruth
    prices : array (item,)
        Currency per unit.
    weeks_ahead : float

    Returns
    -------
    profit, gradient : arrays (item,)
        Currency per week; currency per week and unit of log price.

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> truth = simulate_retail(RetailMarketSettings(cross_elasticity=0.2), seed=1).truth
    >>> _profit, gradient = retail_profit(truth, truth.current_price)
    >>> up, down = (truth.current_price.copy() for _ in range(2))
    >>> up[3], down[3] = up[3] * np.exp(1e-5), down[3] * np.exp(-1e-5)
    >>> slope = (retail_profit(truth, up)[0].sum() - retail_profit(truth, down)[0].sum()) / 2e-5
    >>> bool(np.isclose(slope, gradient[3], rtol=1e-7))
    True
    """  # noqa: E501 - an equation cannot be folded
    units = np.exp(log_expected_units(truth, prices, weeks_ahead))
    profit = units * (prices - truth.unit_cost)
    own = truth.elasticity + weeks_ahead * truth.weekly_drift
    gradient: Floats = units * prices + own * profit + profit @ truth.cross
    return profit, gradient


def retail_optimal_prices(truth: RetailMarketTruth, weeks_ahead: float = 0.0) -> Floats:
    r"""Prices that together earn most within the range of posted prices: the oracle's.

    Without substitutes each is :math:`c_j e_j / (1 + e_j)` (Lerner), held to its range; an item less elastic than
    -1 belongs at the top of it. With substitutes they are found jointly, by L-BFGS-B with exact gradients
    from those prices and from four further starts.

    Parameters
    ----------
    truth : RetailMarketTruth
    weeks_ahead : float

    Returns
    -------
    array (item,)
        Currency per unit.

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> truth = simulate_retail(RetailMarketSettings(), seed=1).truth
    >>> best = retail_optimal_prices(truth)
    >>> bool(retail_profit(truth, best)[0].sum() > retail_profit(truth, truth.current_price)[0].sum())
    True
    """
    own = truth.elasticity + weeks_ahead * truth.weekly_drift
    lerner = np.where(own < -1, truth.unit_cost * own / np.minimum(1 + own, -1e-9), np.inf)
    alone = np.clip(lerner, truth.lowest_price, truth.highest_price)
    if not truth.cross.any():
        return alone
    lowest, highest = np.log(truth.lowest_price), np.log(truth.highest_price)
    scale = float(np.abs(retail_profit(truth, alone, weeks_ahead)[0]).sum())

    def loss(log_prices: Floats) -> tuple[float, Floats]:
        profit, gradient = retail_profit(truth, np.exp(log_prices), weeks_ahead)
        return -float(profit.sum()) / scale, -gradient / scale

    starts = [np.log(alone), *(lowest + share * (highest - lowest) for share in (0.0, 0.5, 1.0)), np.zeros_like(alone)]
    found = [
        minimize(loss, np.clip(start, lowest, highest), jac=True, bounds=list(zip(lowest, highest, strict=True)))
        for start in starts
    ]
    best = min(found, key=lambda result: float(result.fun))
    return np.clip(np.exp(best.x), truth.lowest_price, truth.highest_price)


def retail_elasticities(truth: RetailMarketTruth) -> pl.DataFrame:
    """True own-price elasticities today: of items, and the means of their products', categories' and population's.

    Returns
    -------
    pl.DataFrame
        `level` (``item``, ``product``, ``category``, ``population``), `name`, `elasticity`.

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> table = retail_elasticities(simulate_retail(RetailMarketSettings(), seed=1).truth)
    >>> table.filter(pl.col("level") == "population").row(0)
    ('population', 'population', -2.6)
    """
    levels = {
        "item": (truth.items, truth.elasticity),
        "product": (truth.products, truth.product_mean),
        "category": (truth.categories, truth.category_mean),
        "population": (("population",), np.array([truth.settings.elasticity_mean])),
    }
    return pl.concat(
        pl.DataFrame({"level": [level] * len(names), "name": names, "elasticity": values})
        for level, (names, values) in levels.items()
    )
