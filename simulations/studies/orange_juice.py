"""Orange juice (83 stores, 11 brands, 121 weeks): `python -m simulations.studies.orange_juice FILE`.

Each brand is fitted by itself as the product fits any sales: the store is the item, the other ten brands' prices are
competitor prices, deal and feature are controls, and every store has its own noise. The listed elasticities are those
of bayesm's hierarchical linear model under the same specification.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import polars as pl

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from bayes_pricing.demand.spec import Correlated
from simulations.studies.runner import Study, run_study

LISTED = (-2.82, -1.81, -3.45, -3.93, -2.95, -2.44, -3.60, -2.80, -4.23, -2.84, -1.33)
TOLERANCE = 0.10
STRUCTURES: tuple[Correlated, ...] = ("price", "all")
SEED = 11

HEADER = """# Orange juice: eleven brands in 83 stores

Log units of a brand in each store and week on the log prices of all eleven brands, deal and feature; every store has
its own coefficients and its own noise. "Listed" are the population elasticities of bayesm's hierarchical linear model.
With `--correlated price` only a store's level and own-price elasticity correlate; with `all` all fourteen do. Four
chains of {draws} draws after {tune} of warm-up, brands side by side on all cores; seconds include the diagnostics gate
and the check of predictions. Written by `python -m simulations.studies.orange_juice FILE` from the 106,139 store
weeks.
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


def summarise_brand(file: str, brand: int, correlated: Correlated, draws: int, tune: int) -> list[dict[str, object]]:
    """One row of the table: the brand's population elasticity and what its fit took (seconds of all cores)."""
    started = time.process_time()
    fitted = fit_brand(pl.read_parquet(file), brand, correlated, SamplerSettings(draws=draws, tune=tune), SEED)
    own = fitted.posterior.coefficients("population").sel(coefficient="log_price")
    return [
        {
            "correlated": correlated,
            "brand": brand,
            "mean": float(own.mean()),
            "sd": float(own.std()),
            "between": float(fitted.posterior.variation("item").sel(coefficient="log_price").mean()),
            "passed": fitted.diagnostics.passed,
            "divergences": fitted.diagnostics.divergences,
            "ess": fitted.diagnostics.min_ess_bulk,
            "seconds": time.process_time() - started,
        }
    ]


def table_lines(found: pl.DataFrame, correlated: Correlated, elapsed: float | None) -> list[str]:
    """The table of one correlation structure."""
    rows = found.filter(pl.col("correlated") == correlated).sort("brand").to_dicts()
    wall = "" if elapsed is None else f", {elapsed:.0f} seconds of wall-clock time in all"
    lines = [f"## `--correlated {correlated}`", ""]
    lines += [f"{sum(row['seconds'] for row in rows):.0f} seconds of one core{wall}.", ""]
    lines += ["| brand | listed | mean | sd | between stores | within 0.10 | gate | bulk ESS | core seconds |"]
    lines += ["|---" * 9 + "|"]
    for row in rows:
        listed = LISTED[row["brand"] - 1]
        inside = "yes" if abs(row["mean"] - listed) <= TOLERANCE else "NO"
        gate = "passed" if row["passed"] else "FAILED"
        lines.append(
            f"| {row['brand']} | {listed:.2f} | {row['mean']:.2f} | {row['sd']:.2f} | {row['between']:.2f} "
            f"| {inside} | {gate} | {row['ess']:.0f} | {row['seconds']:.1f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Fit the brands with each correlation structure, two at a time, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="Parquet file of the store weeks")
    parser.add_argument("--correlated", choices=STRUCTURES, action="append", help="only this structure; repeatable")
    parser.add_argument("--brand", type=int, choices=range(1, 12), action="append", help="only this brand; repeatable")
    parser.add_argument("--draws", type=int, default=500, help="of each of four chains")
    parser.add_argument("--tune", type=int, default=200)
    parser.add_argument("--processes", type=int, default=None, help="brands at a time; all cores when left out")
    parser.add_argument("--keep", type=Path, default=None, help="folder of finished fits; nothing is timed in all then")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "results" / "orange_juice.md")
    asked = parser.parse_args()
    lines = [HEADER.format(draws=asked.draws, tune=asked.tune)]
    for correlated in asked.correlated or STRUCTURES:
        about = {"file": str(asked.file), "correlated": correlated, "draws": asked.draws, "tune": asked.tune}
        tasks = [{"brand": brand, **about} for brand in asked.brand or range(1, 12)]
        started, folder = time.perf_counter(), None if asked.keep is None else asked.keep / correlated
        study = Study(name="orange_juice", work=summarise_brand, tasks=tasks)
        found = run_study(study, folder, processes=asked.processes, progress=tell)
        lines += table_lines(found, correlated, time.perf_counter() - started if folder is None else None)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    asked.out.write_text("\n".join(lines), encoding="utf-8")


def tell(done: float, label: str) -> None:
    """Say how far the study is."""
    print(f"{done:.0%} {label}", flush=True)


if __name__ == "__main__":
    main()
