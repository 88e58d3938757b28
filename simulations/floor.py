"""The attainable floor of regret: knowing how elasticities are spread, and learning the rest from the sales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from bayes_pricing.errors import SpecError
from simulations.markets.arena import Arena, CourseArena, Floats, RetailArena
from simulations.markets.course_truth import ChoiceTruth
from simulations.markets.retail_truth import RetailMarketTruth
from simulations.policies import Situation

PRICE_POINTS = 201
DEVIATIONS = np.linspace(-4.5, 4.5, 181)
"""Where a course's elasticity is looked for, in prior standard deviations around its category's mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowsHyperparameters:
    """Bayes-optimal prices given the true category means and spreads, and the sales; single items it does not know.

    No policy that learns from the same sales and does not explore can leave less regret on average over markets, but
    for what its model leaves out: the bend of demand between segments of course buyers.
    """

    name: str = "knows the hyper-parameters"
    kind: str = "floor"

    def prices(self, situation: Situation) -> Floats:
        """Its prices of the week."""
        return informed_prices(situation.arena, situation.sales)


def informed_prices(arena: Arena, sales: pl.DataFrame) -> Floats:
    r"""Prices of most expected profit, given what elasticities are drawn from and the sales of every item.

    Courses, tutoring sessions: counts are Poisson with :math:`\log E q_w = a + e x_w`, the level's prior flat, so that

    .. math:: L(e) \propto \frac{\prod_w \exp(e x_w q_w)}{(\sum_w \exp(e x_w))^Q}, \qquad
              E[q(p) \mid e] = Q \frac{\exp(e x(p))}{\sum_w \exp(e x_w)}

    with :math:`e \sim N(\mu_c, \sigma^2)` of its category. Retail: log units are Gaussian around the same line with the
    item's true noise, and the elasticities of one product's stores are Gaussian around the product's.

    Parameters
    ----------
    arena : Arena
        Of courses, of tutoring sessions, or of retail in its base scenario: no drift, no substitutes, prices that owe
        nothing to demand.
    sales : DataFrame

    Returns
    -------
    array (item,)
        Currency.

    Raises
    ------
    SpecError
        For any other market.

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> from simulations.markets.retail_settings import RetailMarketSettings
    >>> arena = RetailArena(market=simulate_retail(RetailMarketSettings(), seed=1))
    >>> prices = informed_prices(arena, arena.sales())
    >>> bool((prices >= arena.price_range[0]).all() and (prices <= arena.price_range[2]).all())
    True
    """
    lowest, _today, highest = arena.price_range
    grid = lowest * (highest / lowest) ** np.linspace(0.0, 1.0, PRICE_POINTS)[:, None]
    ordered = sales.sort("item", "period")
    count = len(arena.items)
    log_price = ordered["price"].log().to_numpy().reshape(count, -1)
    units = ordered["quantity"].cast(pl.Float64).to_numpy().reshape(count, -1)
    centre = log_price.mean(axis=1)
    x, place = log_price - centre[:, None], np.log(grid) - centre
    if isinstance(arena, RetailArena):
        demand = _retail_demand(arena.market.truth, x, units, place)
    elif isinstance(arena, CourseArena):
        demand = _choice_demand(arena.truth, x, units, place)
    else:
        raise SpecError("The floor of regret is worked out for choices and retail only; leave it out elsewhere.")
    best = np.argmax(demand * ((1 - arena.commission) * grid - arena.unit_cost), axis=0)
    return np.asarray(grid[best, np.arange(count)])


def _choice_demand(truth: ChoiceTruth, x: Floats, units: Floats, place: Floats) -> Floats:
    """Posterior mean of expected units, dims (price, item), up to a factor by item."""
    demand = np.empty_like(place)
    for item in range(len(x)):
        mean = truth.category_mean[truth.category[item]]
        elasticity = mean + truth.elasticity_spread * DEVIATIONS
        total = np.log(np.exp(elasticity[:, None] * x[item]).sum(axis=1))
        log_weight = elasticity * (units[item] @ x[item]) - units[item].sum() * total - DEVIATIONS**2 / 2
        weight = np.exp(log_weight - log_weight.max())
        demand[:, item] = np.exp(elasticity * place[:, item, None] - total) @ weight
    return demand


def _retail_demand(truth: RetailMarketTruth, x: Floats, units: Floats, place: Floats) -> Floats:
    """As for courses; the level and the slope are independent, as prices are centred."""
    settings = truth.settings
    squares = (x**2).sum(axis=1)
    precision = squares / truth.noise_sd**2
    slope = (x * np.log(units)).sum(axis=1) / squares
    mean, variance = np.empty_like(slope), np.empty_like(slope)
    for product in range(len(truth.products)):
        own = np.flatnonzero(truth.product == product)
        prior = truth.category_mean[truth.category[own]]
        spread = settings.between_products**2 + settings.between_stores**2 * np.eye(own.size)
        covariance = np.linalg.inv(np.linalg.inv(spread) + np.diag(precision[own]))
        mean[own] = prior + covariance @ (precision[own] * (slope[own] - prior))
        variance[own] = np.diag(covariance)
    return np.asarray(np.exp(mean * place + variance * place**2 / 2))
