"""For the economist: how much of a rise of a cost or a tax buyers end up paying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassThrough:
    r"""How much of a rise of its cost or tax an item's best price passes on to buyers.

    Attributes
    ----------
    item : str
    price_before, price_after : float
        Best prices under the limits without and with the rise, currency per unit.
    rate : float
        Rise of the price over the rise of the cost (or of the tax on a unit at the old net price); 1 passes it on in
        full, more than 1 adds to it, 0 where a limit keeps the price.
    textbook : float
        Median over draws of what constant elasticity alone says: :math:`\varepsilon / (1 + \varepsilon)` for a cost, 1
        for a tax, on the draws where demand is elastic at the price before.
    elastic_share : float
        Share of those draws.
    """

    item: str
    price_before: float
    price_after: float
    rate: float
    textbook: float
    elastic_share: float


def pass_through(
    posterior: DemandPosterior,
    economics: Economics,
    limits: Sequence[Limit] = (),
    *,
    horizon_periods: float,
    seed: int,
    cost_rise: float | None = None,
    tax_rise: float | None = None,
    items: Sequence[str] | None = None,
) -> tuple[PassThrough, ...]:
    """Best prices for profit with and without a rise of the cost or of the tax, item by item.

    Parameters
    ----------
    posterior, economics, limits, horizon_periods, seed, items
        As for :func:`bayes_pricing.pricing.optimizer.optimize_prices`.
    cost_rise : float, optional
        Currency per unit, the same for every item.
    tax_rise : float, optional
        Points of the sales tax inside the price, e.g. 0.02.

    Returns
    -------
    tuple of PassThrough
        Items without a price of their own (refused) are left out.

    Raises
    ------
    SpecError
        Unless exactly one rise is given and it is positive.
    """
    given = [rise for rise in (cost_rise, tax_rise) if rise is not None]
    if len(given) != 1 or not 0 < given[0] < float("inf"):
        raise SpecError("Pass-through wants exactly one of cost_rise and tax_rise, positive.")
    if cost_rise is None:
        dearer = replace(economics, tax_rate=economics.tax_rate + given[0])
    else:
        dearer = replace(economics, fixed_fee=economics.fixed_fee + given[0])
    before, after = (
        optimize_prices(
            posterior, money, "profit", limits, horizon_periods=horizon_periods, seed=seed, items=items, testing=None
        )
        for money in (economics, dearer)
    )
    decided = [
        (old, new) for old, new in zip(before.items, after.items, strict=True)
        if "refused" not in (old.action, new.action)
    ]  # fmt: skip
    if not decided:
        return ()
    drawn = demand_draws(posterior, [old.item for old, _ in decided])
    elasticity = drawn.elasticity_at(np.log(np.array([old.price for old, _ in decided]) / drawn.current_price))
    found: list[PassThrough] = []
    for (old, new), draws in zip(decided, elasticity, strict=True):
        elastic = draws[draws < -1.0]
        textbook = 1.0 if cost_rise is None else float(np.median(elastic / (1.0 + elastic))) if elastic.size else np.nan
        rise = given[0] if cost_rise is not None else given[0] * old.price / (1.0 + economics.tax_rate)
        found.append(
            PassThrough(item=old.item, price_before=old.price, price_after=new.price,
                        rate=(new.price - old.price) / rise, textbook=float(textbook),
                        elastic_share=elastic.size / draws.size)
        )  # fmt: skip
    return tuple(found)
