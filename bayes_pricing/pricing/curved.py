"""Best prices of single items where the elasticity changes with price, inside the prices they were seen at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.changing import elasticity_at_price
from bayes_pricing.demand.forecast import predict_units, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.pricing.decision import PROBABILITY
from bayes_pricing.pricing.profit import Economics, Objective

Floats = NDArray[np.float64]

GRID_POINTS = 61
ITEMS_AT_ONCE = 16


def prices_on_curve(
    posterior: DemandPosterior, economics: Economics, objective: Objective, items: Sequence[str] | None = None
) -> pl.DataFrame:
    r"""The price of each item that earns most in expectation, alone and among the prices it was seen at.

    With log demand quadratic in log price the objective can have its peak between the ends: revenue has it at the price
    where the elasticity is -1,

    .. math:: 1 + \varepsilon + 2 \kappa \log(p / \bar p) = 0, \qquad \kappa < 0.

    Every candidate of an even grid in log price is judged on the same joint draws, and the best one refined by the
    parabola through it and its neighbours. Limits between items, risk limits and cross prices are not looked at.

    Parameters
    ----------
    posterior : DemandPosterior
        With or without a curve.
    economics : Economics
    objective : {"revenue", "profit", "units"}
    items : sequence of str, optional
        All items when left out.

    Returns
    -------
    DataFrame
        Columns ``item, current_price, price`` (currency per unit; null where the objective is unknown for want of a
        cost), ``at_end`` (the best price is an end of those seen, so that the data do not say how far to go),
        ``elasticity`` (posterior mean at that price), ``change_mean, change_lower, change_upper`` (of the objective per
        period against today's price) with their ``probability``, and ``probability_better``.

    Raises
    ------
    SpecError
        For an unknown item or objective.
    """
    table = select_items(posterior, items)
    parts = [_best(posterior, economics, objective, part) for part in table.iter_slices(ITEMS_AT_ONCE)]
    return pl.concat(parts)


def _best(posterior: DemandPosterior, economics: Economics, objective: Objective, table: pl.DataFrame) -> pl.DataFrame:
    names, value = table["item"].to_list(), economics.unit_value(objective, table)
    current = table["current_price"].to_numpy().astype(np.float64)
    low, high = (np.log(table[name].to_numpy()) for name in ("lowest_price", "highest_price"))
    share = np.linspace(0.0, 1.0, GRID_POINTS)
    grid = low[:, None] * (1.0 - share) + high[:, None] * share
    units = predict_units(posterior, names, np.exp(grid)).mean(("chain", "draw")).to_numpy()
    expected = value.at(np.exp(grid)) * units
    log_price = _refined(grid, np.nan_to_num(expected, nan=-np.inf))
    prices = np.exp(log_price)
    change = _money(posterior, names, prices, value.at(prices)) - _money(posterior, names, current, value.at(current))
    tail = (1.0 - PROBABILITY) / 2.0
    lower, upper = np.quantile(change, [tail, 1.0 - tail], axis=1)
    elasticity = elasticity_at_price(posterior, names, prices).mean(("chain", "draw")).to_numpy()
    known = np.isfinite(value.charge)
    edge = 1e-9 + (high - low) * 1e-6
    found = pl.DataFrame(
        {
            "item": names,
            "current_price": current,
            "price": prices,
            "at_end": (log_price - low < edge) | (high - log_price < edge),
            "elasticity": elasticity,
            "change_mean": change.mean(axis=1),
            "change_lower": lower,
            "change_upper": upper,
            "probability": PROBABILITY,
            "probability_better": (change > 0.0).mean(axis=1),
        }
    )
    numbers = [name for name in found.columns if name not in ("item", "current_price", "probability")]
    return found.with_columns(pl.when(pl.Series(known)).then(pl.col(name)).alias(name) for name in numbers)


def _money(posterior: DemandPosterior, names: list[str], prices: Floats, worth: Floats) -> Floats:
    """Objective per period on every draw, (items, draws)."""
    units = predict_units(posterior, names, prices).transpose("item", "chain", "draw").to_numpy()
    return np.asarray(worth[:, None] * units.reshape(len(names), -1), dtype=np.float64)


def _refined(grid: Floats, expected: Floats) -> Floats:
    """Log price of the best point, moved to the top of the parabola through it and its neighbours."""
    rows, best = np.arange(len(grid)), expected.argmax(axis=1)
    inside = np.clip(best, 1, grid.shape[1] - 2)
    left, middle, right = (expected[rows, inside + step] for step in (-1, 0, 1))
    step = grid[rows, inside + 1] - grid[rows, inside]
    with np.errstate(divide="ignore", invalid="ignore"):
        move = 0.5 * (left - right) / (left - 2.0 * middle + right)
    peak = (inside == best) & np.isfinite(move) & (np.abs(move) <= 1.0)
    return np.asarray(np.where(peak, grid[rows, inside] + np.where(peak, move, 0.0) * step, grid[rows, best]))
