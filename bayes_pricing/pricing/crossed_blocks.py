"""Categories whose prices cross, as blocks of a problem: joint demand on the posterior's draws and allowed prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.blocks import BlockMoney, LogLogBlock
from bayes_pricing.pricing.problem import Problem

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossedBlock:
    """A category: its items' places in the problem, their demand and what they bring together."""

    places: Places
    demand: LogLogBlock
    money: BlockMoney

    @cached_property
    def columns(self) -> Floats:
        """Elasticities of all units to one price after the other, array (price, n, S), each laid out in one piece."""
        return np.ascontiguousarray(self.demand.elasticity.transpose(2, 1, 0))


def prices_cross(problem: Problem) -> bool:
    """Whether the model has cross-price elasticities."""
    return problem.posterior.spec.cross_prices is not None


def crossed_blocks(problem: Problem) -> list[CrossedBlock]:
    """Every category of the problem as a block of items on the joint draws.

    Raises
    ------
    Refusal
        If a cost is unknown, an item has no price inside every limit on its price, or the elasticity changes with
        price.
    SpecError
        If the model has no cross-price elasticities for a category.
    """
    if problem.posterior.spec.curved:
        raise Refusal([refusal("curve_with_cross_prices", "prices of a category cross and the elasticity changes with "
                               "price: the bound on a category's best prices holds for elasticities that do not",
                               "fit without --price-curve, or without --cross-prices")])  # fmt: skip
    unknown = np.flatnonzero(np.isnan(problem.facts.value.charge))
    if unknown.size:
        name = problem.items[int(unknown[0])]
        raise Refusal([refusal("cost_unknown", f"the cost of {name!r} is unknown, and its category is priced together",
                               "give its cost, or maximise revenue", name)])  # fmt: skip
    level = problem.posterior.spec.cross_prices
    labels = ["population"] * len(problem.items)
    if level is not None and level != "population":
        labels = [str(label) for label in problem.table[level]]
    lowest, highest = problem.limits.box(problem.facts)
    empty = np.flatnonzero(~(lowest <= highest * (1.0 + 1e-9)))
    if empty.size:
        name = problem.items[int(empty[0])]
        raise Refusal([refusal("limits_conflict", f"no price of {name!r} is inside every limit on its price",
                               "relax one of them", name)])  # fmt: skip
    found: list[CrossedBlock] = []
    for label in sorted(set(labels)):
        places = np.flatnonzero(np.array(labels) == label)
        found.append(_block(problem, label, places, lowest[places], np.maximum(lowest, highest)[places]))
    return found


def _block(problem: Problem, label: str, places: Places, lowest: Floats, highest: Floats) -> CrossedBlock:
    names = [problem.items[place] for place in places]
    matrix = problem.posterior.cross_elasticities(label)
    if matrix is None:
        raise SpecError(f"The model says that prices cross inside {label!r} but gives no cross-price elasticities.")
    whole = matrix.transpose("chain", "draw", "item", "other")
    everybody = [str(name) for name in whole["other"].to_numpy()]
    table = problem.posterior.items.filter(pl.col("item").is_in(everybody)).sort("item")
    away = dict(zip(table["item"], np.log(table["current_price"].to_numpy()) - table["reference_log_price"].to_numpy(),
                    strict=True))  # fmt: skip
    draws = demand_draws(problem.posterior, names)
    rows = whole.sel(item=names).to_numpy().reshape(-1, len(names), len(everybody))
    move = np.array([away[name] for name in everybody])
    at = [everybody.index(name) for name in names]
    elasticity = np.ascontiguousarray(rows[:, :, at])
    own = np.einsum("sii->si", elasticity)
    log_units = draws.log_units_today.T + rows @ move - own * move[at]
    today = problem.facts.current_price[places]
    demand = LogLogBlock(current_price=today, log_units_today=log_units, elasticity=elasticity)
    return CrossedBlock(
        places=places,
        demand=demand,
        money=BlockMoney(
            demand=demand,
            value=problem.facts.value.part(places),
            lowest=np.log(lowest / today),
            highest=np.log(highest / today),
        ),
    )


def refusal(code: str, message: str, remedy: str, item: str | None = None) -> Finding:
    """A finding that refuses prices."""
    return Finding(code=code, severity="error", message=message, remedy=remedy, item=item)
