"""Orange juice (83 stores, 11 brands, 121 weeks): `python -m simulations.studies.orange_juice FILE`.

Each brand is fitted by itself as the product fits any sales: the store is the item, the other ten brands' prices are
competitor prices, deal and feature are controls, and every store has its own noise. The listed elasticities are those
of bayesm's hierarchical linear model under the same specification.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import polars as pl

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from bayes_pricing.demand.spec import Correlated

LISTED = (-2.82, -1.81, -3.45, -3.93, -2.95, -2.44, -3.60, -2.80, -4.23, -2.84, -1.33)
TOLERANCE = 0.10

HEADER = """# Orange juice: eleven brands in 83 stores

Log units of a brand in each store and week on the log prices of all eleven brands, deal and feature; every store has
its own coefficients and its own noise. "Listed" are the population elasticities of bayesm's hierarchical linear model.
With `--correlated price` only a store's level and own-price elasticity correlate; with `all` all fourteen do.
Written by `python -m simulations.studies.orange_juice FILE` from the file of 106,139 store weeks.
"""


def brand_panel(frame: pl.DataFrame, brand: int) -> SalesPanel:
    """Sales of one brand: stores as items, the other brands' prices as competitor prices."""
    rows = frame.filter(pl.col("brand") == brand).with_columns(
        quantity=pl.col("logmove").exp(), item=pl.col("store").cast(pl.String)
    )
    roles = ColumnRoles(
        item="item",
        price=f"price{brand}",
        quantity="quantity",
        period="week",
        controls=("deal", "feat"),
        competitor_prices=tuple(f"price{other}" for other in range(1, 12) if other != brand),
    )
    return SalesPanel.from_frame(rows, roles, absent="missing")


def fit_brand(
    frame: pl.DataFrame, brand: int, correlated: Correlated, sampler: SamplerSettings, seed: int
) -> DemandFit:
    """Fit one brand as the specification of the listed numbers says: residuals without autocorrelation."""
    request = ModelRequest(model="lognormal", noise_by="item", correlated=correlated, autocorrelation="off")
    return fit_demand(brand_panel(frame, brand), request, sampler, seed=seed)


def run_study(file: Path, path: Path, seed: int = 11) -> None:
    """Fit all brands with either correlation structure and write the table."""
    frame, lines = pl.read_parquet(file), [HEADER]
    structures: tuple[Correlated, ...] = ("price", "all")
    for correlated in structures:
        lines += [f"## `--correlated {correlated}`", ""]
        lines += ["| brand | listed | mean | sd | between stores | within 0.10 | gate | seconds |", "|---" * 8 + "|"]
        for brand, listed in enumerate(LISTED, 1):
            started = time.perf_counter()
            fitted = fit_brand(frame, brand, correlated, SamplerSettings(), seed)
            draws = fitted.posterior.coefficients("population").sel(coefficient="log_price")
            between = float(fitted.posterior.variation("item").sel(coefficient="log_price").mean())
            mean, gate = float(draws.mean()), "passed" if fitted.diagnostics.passed else "FAILED"
            inside = "yes" if abs(mean - listed) <= TOLERANCE else "NO"
            cells = (
                f"{brand} | {listed:.2f} | {mean:.2f} | {float(draws.std()):.2f} | {between:.2f} | {inside} | {gate}"
            )
            lines.append(f"| {cells} | {time.perf_counter() - started:.1f} |")
            print(lines[-1], flush=True)
        lines.append("")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    run_study(Path(sys.argv[1]), Path(__file__).parents[2] / "docs" / "results" / "orange_juice.md")
