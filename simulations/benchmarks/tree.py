"""How fast the Gaussian tree is: `python -m simulations.benchmarks.tree` prints every ratio from one run.

1. Effective draws of cheese's population elasticity per second, noise by retailer on both sides, against bayesm's
   `rhierLinearModel` (where Rscript and r-cran-bayesm are installed; the data are bayesm's own).
2. Effective draws of the worst-mixing of population means, sds and noise per second, on a simulated panel of 100 items
   and 100 weeks, against the row-wise PyMC model of the same posterior: with standardised offsets, as hierarchical
   models are usually written, and with the coefficients themselves, which suits items as rich as these.
3. Time to posterior at one and at ten million rows of the same items, the scan apart.

Effective sample sizes are arviz's bulk ESS on both sides; times are wall-clock with compiled code in its cache.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.demand.gaussian_tree import SalesRows
from bayes_pricing.demand.model import build_lognormal_model
from bayes_pricing.demand.spec import DemandSpec, NoiseBy
from bayes_pricing.demand.tree_fit import fit_tree
from bayes_pricing.demand.tree_posterior import TreePosterior

BAYESM = """
suppressMessages(library(bayesm)); data(cheese)
args <- commandArgs(trailingOnly = TRUE)
write.csv(cheese, args[1], row.names = FALSE)
units <- lapply(levels(cheese$RETAILER), function(name) {
  rows <- cheese[cheese$RETAILER == name, ]
  list(y = log(rows$VOLUME), X = cbind(1, rows$DISP, log(rows$PRICE)))
})
set.seed(66)
started <- proc.time()[["elapsed"]]
out <- rhierLinearModel(Data = list(regdata = units, Z = matrix(1, length(units), 1)), Prior = list(),
                        Mcmc = list(R = 20000, keep = 1, nprint = 0))
seconds <- proc.time()[["elapsed"]] - started
write.table(c(seconds, out$Deltadraw[2001:20000, 3]), args[2], row.names = FALSE, col.names = FALSE)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """Effective draws of one parameter and the time they took."""

    name: str
    mean: float
    sd: float
    effective: float
    seconds: float

    @property
    def rate(self) -> float:
        """Effective draws per second."""
        return self.effective / self.seconds

    def line(self) -> str:
        """One line for people."""
        return (
            f"  {self.name:<44} {self.mean:7.3f} ({self.sd:.3f})  {self.effective:7.0f} effective draws"
            f" in {self.seconds:6.2f} s = {self.rate:8.1f} / s"
        )


def speed_of(name: str, draws: Floats, seconds: float) -> Speed:
    """Bulk ESS of draws (chain, draw) per second."""
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    effective = float(array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk"))
    return Speed(name=name, mean=float(draws.mean()), sd=float(draws.std()), effective=effective, seconds=seconds)


def time_tree(
    rows: pl.DataFrame, spec: DemandSpec, items: pl.DataFrame, *, draws: int, name: str
) -> tuple[Speed, TreePosterior]:
    """Fit the tree (after one short fit that fills the compiler's cache) and time it, warm-up and draws together."""
    gram = gather_gram(rows.lazy(), "item", "log_units", ["log_price", *spec.controls, *spec.shared_controls])
    fit_tree(gram, items, spec, draws=20, tune=20, chains=4, seed=1)
    started = time.perf_counter()
    posterior = fit_tree(gram, items, spec, draws=draws, tune=500, chains=4, seed=2)
    seconds = time.perf_counter() - started
    elasticity = posterior.coefficients("population").sel(coefficient="log_price").to_numpy()
    return speed_of(name, elasticity, seconds), posterior


def benchmark_cheese() -> None:
    """The tree against bayesm on bayesm's own cheese data."""
    print("Cheese, 88 retailers, noise by retailer: population price elasticity")
    if shutil.which("Rscript") is None:
        print("  skipped: Rscript is not installed (Debian packages r-base-core and r-cran-bayesm)")
        return
    with tempfile.TemporaryDirectory() as folder:
        data, draws = Path(folder) / "cheese.csv", Path(folder) / "draws.txt"
        command = ["Rscript", "-e", BAYESM, str(data), str(draws)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            print(f"  skipped: bayesm did not run: {result.stderr.strip().splitlines()[-1:]}")
            return
        frame = pl.read_csv(data)
        found = np.loadtxt(draws)
    bayesm = speed_of("bayesm rhierLinearModel, one thread", found[None, 1:], float(found[0]))
    rows = frame.select(
        item=pl.col("RETAILER"),
        log_units=pl.col("VOLUME").log(),
        log_price=pl.col("PRICE").log(),
        disp=pl.col("DISP"),
    )
    items = rows.select("item").unique().sort("item")
    spec = DemandSpec(levels=(), controls=("disp",), noise_by="item")
    tree, _ = time_tree(rows, spec, items, draws=5000, name="tree, 4 chains on all cores, warm-up counted")
    print(bayesm.line())
    print(tree.line())
    print(f"  ratio {tree.rate / bayesm.rate:.2f} (at least 1 wanted)\n")


def simulate_rows(items: int, weeks: int, seed: int) -> pl.DataFrame:
    """Log-normal sales of items in ten categories; item elasticities around -2.2."""
    rng = np.random.default_rng(seed)
    member = np.arange(items) % 10
    category = np.array([4.0, -2.2]) + np.array([0.6, 0.4]) * rng.standard_normal((10, 2))
    own = category[member] + np.array([0.8, 0.5]) * rng.standard_normal((items, 2))
    noise = 0.3 * np.exp(0.3 * rng.standard_normal(items))
    at = np.repeat(np.arange(items, dtype=np.int32), weeks)
    log_price = rng.normal(scale=0.15, size=items * weeks)
    log_units = own[at, 0] + own[at, 1] * log_price + noise[at] * rng.standard_normal(items * weeks)
    names = pl.Series([f"item{number:04d}" for number in range(items)])
    return pl.DataFrame({"item": names.gather(at), "log_price": log_price, "log_units": log_units})


def item_table(items: int) -> pl.DataFrame:
    """Items of `simulate_rows` and their categories."""
    names = [f"item{number:04d}" for number in range(items)]
    return pl.DataFrame({"item": names, "category": [f"category{number % 10}" for number in range(items)]})


def worst_speed(name: str, draws: Mapping[str, Floats], seconds: float) -> Speed:
    """Speed of the parameter with the smallest bulk ESS; its name goes into the line."""
    speeds = [
        speed_of(f"{name}: {key}[{at}]", values.reshape(*values.shape[:2], -1)[:, :, at], seconds)
        for key, values in draws.items()
        for at in range(int(np.prod(values.shape[2:])))
    ]
    return min(speeds, key=lambda speed: speed.effective)


def benchmark_row_wise() -> None:
    """The tree against PyMC's row-wise model of the same posterior, sampled by nutpie."""
    print("Simulated panel, 100 items, 100 weeks, one noise: worst of population means, sds and noise")
    rows, spec, items = simulate_rows(100, 100, seed=3), DemandSpec(noise_by="common"), item_table(100)
    elasticity, posterior = time_tree(rows, spec, items, draws=1000, name="tree")
    hyper = posterior.hyper()
    found = {name: hyper[name].to_numpy() for name in ("sd_item", "sd_category", "noise_sd")}
    found["population"] = posterior.coefficients("population").to_numpy()
    tree = worst_speed("tree", found, elasticity.seconds)
    print(tree.line())
    for non_centred, draws in ((True, 250), (False, 500)):
        row_wise, compiling = time_row_wise(rows, items, posterior, non_centred=non_centred, draws=draws)
        whole = row_wise.effective / (row_wise.seconds + compiling)
        print(row_wise.line())
        print(f"    ratio {tree.rate / row_wise.rate:.0f} to sampling alone, {tree.rate / whole:.0f} with compiling")
    print("  (at least 100 wanted)\n")


def time_row_wise(
    rows: pl.DataFrame, items: pl.DataFrame, posterior: TreePosterior, *, non_centred: bool, draws: int
) -> tuple[Speed, float]:
    """Sample the row-wise model of the tree's posterior: its speed, and the seconds compiling took apart from it."""
    import nutpie  # type: ignore[import-untyped]

    rows = rows.with_columns(reference=pl.col("log_price").mean().over("item"))
    position = {name: at for at, name in enumerate(items["item"])}
    sales = SalesRows(
        log_units=rows["log_units"].to_numpy(),
        item=np.array([position[name] for name in rows["item"]], dtype=np.int64),
        log_price=rows["log_price"].to_numpy(),
        reference_log_price=rows["reference"].to_numpy(),
        controls=np.zeros((rows.height, 0)),
        shared_controls=np.zeros((rows.height, 0)),
    )
    model = build_lognormal_model(sales, posterior.data, posterior.prior, non_centred=non_centred)
    started = time.perf_counter()
    compiled = nutpie.compile_pymc_model(model)
    ready = time.perf_counter()
    trace = nutpie.sample(compiled, draws=draws, tune=500, chains=4, seed=4, progress_bar=False)
    seconds = time.perf_counter() - ready
    found = {name: trace["posterior"][name].to_numpy() for name in ("sd_item", "sd_category", "noise_sd", "population")}
    name = "row-wise PyMC, offsets" if non_centred else "row-wise PyMC, coefficients"
    return worst_speed(name, found, seconds), ready - started


def benchmark_rows(noise_by: NoiseBy = "item", items: int = 1000) -> None:
    """Time to posterior with the same items and ten times the rows."""
    print(f"Time to posterior of {items} items, the scan apart")
    spec, table = DemandSpec(noise_by=noise_by), item_table(items)
    times = []
    for weeks in (1_000_000 // items, 10_000_000 // items):
        rows = simulate_rows(items, weeks, seed=5)
        started = time.perf_counter()
        gram = gather_gram(rows.lazy(), "item", "log_units", ["log_price"])
        scanned = time.perf_counter()
        seconds = []
        for _ in range(2):
            begun = time.perf_counter()
            fit_tree(gram, table, spec, draws=500, tune=300, chains=4, seed=6)
            seconds.append(time.perf_counter() - begun)
        times.append(min(seconds))
        print(f"  {rows.height:>10,} rows: scan {scanned - started:.2f} s, posterior {times[-1]:.2f} s (better of two)")
    print(f"  ratio {times[1] / times[0]:.2f} (at most 1.2 wanted)\n")


if __name__ == "__main__":
    benchmark_cheese()
    benchmark_row_wise()
    benchmark_rows()
