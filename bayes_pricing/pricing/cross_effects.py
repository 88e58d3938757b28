"""What other items' prices do to one item's sales, where the model says that prices cross inside a category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.pricing.decision import PriceDecision

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossEffects:
    """Changes of one item's log units by the prices of the others of its category, on every draw.

    Attributes
    ----------
    today : array (S,)
        By their prices today, against their usual ones.
    decided : array (S,)
        By the prices decided for them, against today's.
    """

    today: Floats
    decided: Floats


def cross_effects(posterior: DemandPosterior, decision: PriceDecision, item: str) -> CrossEffects | None:
    r"""Effects of the other items' prices on one item; None where prices do not cross.

    .. math:: x_i = \sum_{j \ne i} \varepsilon_{ij} \log(p_j / p_{j0})

    Others that the decision is not about keep today's prices.
    """
    level = posterior.spec.cross_prices
    if level is None:
        return None
    label = "population" if level == "population" else str(select_items(posterior, [item])[level].item())
    matrix = posterior.cross_elasticities(label)
    if matrix is None:
        return None
    rows = matrix.sel(item=item).transpose("chain", "draw", "other")
    names = [str(name) for name in rows["other"].to_numpy()]
    table = select_items(posterior, names)
    price = {decided.item: decided.price for decided in decision.items}
    current = table["current_price"].to_numpy()
    away = np.log(current) - table["reference_log_price"].to_numpy()
    moved = np.log([price.get(name, today) for name, today in zip(names, current, strict=True)]) - np.log(current)
    others = np.array([name != item for name in names])
    values = np.asarray(rows.to_numpy(), dtype=np.float64).reshape(-1, len(names))
    return CrossEffects(today=values @ (away * others), decided=values @ (moved * others))
