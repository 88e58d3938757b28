"""Made-up sales of items that run out: cheap weeks sell most and run out first, so sales understate price response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StockedMarket:
    """Rows ``item, period, price, quantity, sold_out`` and what made them."""

    frame: pl.DataFrame
    elasticity: NDArray[np.float64]
    population: float
    wanted: NDArray[np.float64]


def simulate_stock_outs(
    *, seed: int, items: int, weeks: int, counts: bool, mean: float, degrees: float | None = None
) -> StockedMarket:
    """Stock is a little over what an average week wants; `degrees` makes log-normal errors Student-t."""
    rng = np.random.default_rng(seed)
    n, item = items * weeks, np.repeat(np.arange(items), weeks)
    log_price = rng.choice([-0.3, -0.15, 0.0, 0.15, 0.3], size=n)
    population = -2.0
    elasticity = population + rng.normal(scale=0.3, size=items)
    level = np.log(mean) + rng.normal(scale=0.3, size=items)
    eta = level[item] + elasticity[item] * log_price
    if counts:
        wanted = rng.poisson(np.exp(eta)).astype(float)
    else:
        noise = rng.normal(size=n) if degrees is None else rng.standard_t(degrees, size=n)
        wanted = np.exp(eta + 0.3 * noise)
    stock = np.exp(level[item]) * rng.uniform(1.0, 1.8, size=n)
    stock = np.floor(stock) if counts else stock
    frame = pl.DataFrame(
        {
            "item": [f"item{at:03d}" for at in item],
            "period": np.tile(np.arange(weeks), items),
            "price": np.exp(1.0 + log_price),
            "quantity": np.minimum(wanted, stock),
            "sold_out": wanted >= stock,
        }
    )
    return StockedMarket(frame=frame, elasticity=elasticity, population=population, wanted=wanted)
