"""Made-up sales whose prices follow demand: the elasticity of least squares is wrong by a known amount."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndogenousMarket:
    """Rows ``item, category, period, price, quantity, season, cost<j>`` and what made them."""

    frame: pl.DataFrame
    elasticity: Floats
    population: float
    confounding: float


def simulate_endogenous(
    *, seed: int, items: int, weeks: int, instruments: int, strength: float = 0.8, confounding: float = 2.0
) -> EndogenousMarket:
    """Managers raise prices in weeks that sell well: log units carry `confounding` times the price's own shock."""
    rng = np.random.default_rng(seed)
    n, item = items * weeks, np.repeat(np.arange(items), weeks)
    cost = rng.normal(scale=0.15, size=(n, instruments))
    season = np.tile(np.sin(np.arange(weeks) / 4.0), items)
    shock = rng.normal(scale=0.15, size=n)
    log_price = 1.0 + 0.1 * item / items + cost @ np.full(instruments, strength) + 0.05 * season + shock
    population = -2.2
    elasticity = population + rng.normal(scale=0.4, size=items)
    level = 6.0 + rng.normal(scale=0.8, size=items)
    mean = np.bincount(item, log_price) / weeks
    log_units = level[item] + elasticity[item] * (log_price - mean[item]) + 0.3 * season
    log_units += confounding * shock + rng.normal(scale=0.25, size=n)
    frame = pl.DataFrame(
        {
            "item": [f"item{at:03d}" for at in item],
            "category": [f"category{at % 3}" for at in item],
            "period": np.tile(np.arange(weeks), items),
            "price": np.exp(log_price),
            "quantity": np.exp(log_units),
            "season": season,
            **{f"cost{at}": cost[:, at] for at in range(instruments)},
        }
    )
    return EndogenousMarket(frame=frame, elasticity=elasticity, population=population, confounding=confounding)
