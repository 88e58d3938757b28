"""How long explaining one of many items takes: `python -m simulations.benchmarks.explanations`.

A market is simulated and fitted and its prices are decided once; then single items are explained, numbers and prose,
each in a call of its own as a server makes them.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import polars as pl

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.explanation import explain
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.wording import word

WEEKS = 40
ITEMS_PER_CATEGORY = 50


def simulate_sales(items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Sales of items around a price of their own, in categories of fifty, over forty weeks."""
    base = rng.uniform(5.0, 12.0, items)
    price = base[:, None] * rng.choice([0.8, 0.9, 1.0, 1.1, 1.2], (items, WEEKS))
    price[:, -1] = base
    elasticity = rng.normal(-2.0, 0.4, items)[:, None]
    log_units = 3.0 + elasticity * np.log(price / base[:, None]) + rng.normal(0.0, 0.3, price.shape)
    numbers = np.repeat(np.arange(items), WEEKS)
    return pl.DataFrame(
        {
            "item": [f"item-{number:05d}" for number in numbers],
            "category": [f"category-{number // ITEMS_PER_CATEGORY:03d}" for number in numbers],
            "week": np.tile(np.arange(WEEKS), items),
            "price": price.ravel(),
            "quantity": np.exp(log_units).ravel(),
            "cost": np.repeat(0.5 * base, WEEKS),
        }
    )


def time_explanations(
    posterior: DemandPosterior, decision: PriceDecision, names: list[str]
) -> list[tuple[float, float]]:
    """Wall-clock and processor seconds of each explanation."""
    found = []
    for name in names:
        wall, processor = time.perf_counter(), time.process_time()
        word(explain(posterior, decision, name), "full")
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    return found


def main() -> None:
    """Print the milliseconds of explaining one item, after a first one that loads compiled code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--explained", type=int, default=100)
    parser.add_argument("--draws", type=int, default=1000, help="draws kept of each of four chains")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sales = simulate_sales(options.items, np.random.default_rng(options.seed))
    panel = SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns))
    posterior = fit_demand(panel, ModelRequest(), SamplerSettings(draws=options.draws), seed=options.seed).posterior
    limits = [MaxChange(share=0.06)]
    decision = optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=13, seed=1)
    names = [item.item for item in decision.items[:: max(options.items // (options.explained + 1), 1)]]
    time_explanations(posterior, decision, names[:1])
    for label, seconds in zip(
        ("wall clock", "processor"), zip(*time_explanations(posterior, decision, names[1:]), strict=True), strict=True
    ):
        median, slow = np.quantile(1e3 * np.array(seconds), [0.5, 0.95])
        print(f"one of {options.items:,} items, {label}: median {median:.1f} ms, 95 % under {slow:.1f} ms")


if __name__ == "__main__":
    main()
