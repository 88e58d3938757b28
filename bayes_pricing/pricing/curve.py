"""What an item would bring at every price in reach: the picture behind a decision."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.pricing.category_curve import category_curve
from bayes_pricing.pricing.decision import PROBABILITY, PriceDecision

Floats = NDArray[np.float64]

POINTS = 41


def price_curve(posterior: DemandPosterior, decision: PriceDecision, item: str, points: int = POINTS) -> pl.DataFrame:
    r"""Expected objective of one item per period against its price, with its credible band.

    .. math:: \Pi_d(p) = v(p) \, \exp(a_d + \bar\varepsilon_d(p) \log(p / p_0))

    with :math:`\bar\varepsilon(p)` the mean elasticity between today's price and p.

    Parameters
    ----------
    posterior : DemandPosterior
        The one the decision was made with.
    decision : PriceDecision
        Says what is counted: objective, commission, cost, tax.
    item : str
    points : int
        Prices evenly spaced in log price over the observed range, today's and the recommended price among them.

    Returns
    -------
    DataFrame
        Columns ``price`` (currency per unit), ``mean, lower, upper`` (objective per period; the band holds 90 % of
        posterior draws) and ``probability``. Where prices cross it is the money of the item's category, the other
        prices as decided.
    """
    row = select_items(posterior, [item])
    crossing = posterior.spec.cross_prices is not None
    decided = decision.item(item)
    ends = np.log([row["lowest_price"].item(), row["highest_price"].item()])
    named = np.array([decided.current_price, decided.price])
    prices = np.unique(np.concatenate([np.exp(np.linspace(ends[0], ends[1], points)), named]))
    if crossing:
        return _summed_up(prices, category_curve(posterior, decision, item).money(prices))
    draws = demand_draws(posterior, [item])
    value = decision.economics.unit_value(decision.objective, row)
    units = np.stack([draws.units(np.array([price]))[0] for price in prices])
    worth = np.array([value.at(np.array([price]))[0] for price in prices])
    return _summed_up(prices, worth[:, None] * units)


def _summed_up(prices: Floats, outcome: Floats) -> pl.DataFrame:
    """Mean and band of the outcome (K, S) at every price (K,)."""
    tail = (1.0 - PROBABILITY) / 2.0
    lower, upper = np.quantile(outcome, [tail, 1.0 - tail], axis=1)
    return pl.DataFrame({"price": prices, "mean": outcome.mean(axis=1), "lower": lower, "upper": upper}).with_columns(
        pl.lit(PROBABILITY).alias("probability")
    )
