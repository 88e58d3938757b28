"""How fast and how good the price engines are: `python -m simulations.benchmarks.optimizer` prints each figure.

Every case runs in a process of its own, from draws in memory to the finished decision, and is told with its target,
its wall-clock and processor time, its distance from the bound and the peak memory of the process (the made-up draws
included). `--case NAME` runs one of them, `--scale 0.1` all of them on a tenth of the items.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
import xarray as xr

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.pricing.blocks import BlockMoney, LogLogBlock
from bayes_pricing.pricing.constraints import Limit, MaxChanges, MaxItemShortfall, MaxLossProbability, MaxShortfall
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.joint_prices import maximize_joint
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics, UnitValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One figure: the size of the problem, its limits and what is wanted."""

    name: str
    items: int
    draws: int
    kind: Literal["item risk", "portfolio", "crossed"]
    seconds: float
    gigabytes: float | None = None
    gap: float | None = None


CASES = (
    Case(name="grid", items=10_000, draws=2000, kind="item risk", seconds=10.0, gigabytes=2.0),
    Case(name="500", items=500, draws=1000, kind="portfolio", seconds=15.0, gap=1e-3),
    Case(name="2000", items=2000, draws=2000, kind="portfolio", seconds=25.6, gap=1e-3),
    Case(name="10000", items=10_000, draws=1000, kind="portfolio", seconds=30.0, gap=1e-3),
    Case(name="100000", items=100_000, draws=1000, kind="portfolio", seconds=180.0, gigabytes=4.0, gap=1e-3),
    Case(name="crossed", items=8, draws=1000, kind="crossed", seconds=30.0, gap=1e-2),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MadeUpPosterior:
    """Joint draws (item, draw) in single precision behind the protocol, as far as a decision asks for them."""

    items: pl.DataFrame
    level: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    elasticity: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    spec: DemandSpec
    id: str = "0" * 64

    def _at(self, units: Sequence[str] | None) -> slice | list[int]:
        return slice(None) if units is None else [int(name[5:]) for name in units]

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        """Level and elasticity of items, dims (item, coefficient, chain, draw)."""
        at = self._at(units)
        values = np.stack([self.level[at], self.elasticity[at]], axis=1)
        return xr.DataArray(
            values.reshape(*values.shape[:2], 4, -1), dims=("item", "coefficient", "chain", "draw"),
            coords={"coefficient": ["level", "log_price"]},
        )  # fmt: skip

    def log_smearing(self, units: Sequence[str] | None = None) -> xr.DataArray:
        """Zero: units are expected ones."""
        shape = self.level[self._at(units)].shape
        return xr.DataArray(np.zeros((shape[0], 4, shape[1] // 4), dtype=np.float32), dims=("item", "chain", "draw"))


def make_posterior(items: int, draws: int, *, seed: int) -> DemandPosterior:
    """Items whose elasticities share a common part, prices between 5 and 15, observed from -25 % to +30 %."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0.0, 0.1, draws).astype(np.float32)
    elasticity = rng.standard_normal((items, draws), dtype=np.float32) * np.float32(0.35)
    elasticity += common + rng.normal(-2.2, 0.4, items).astype(np.float32)[:, None]
    level = rng.standard_normal((items, draws), dtype=np.float32) * np.float32(0.1)
    level += rng.normal(3.0, 0.5, items).astype(np.float32)[:, None]
    price = rng.uniform(5.0, 15.0, items)
    table = pl.DataFrame({
        "item": [f"item-{index:06d}" for index in range(items)], "current_price": price,
        "reference_log_price": np.log(price), "lowest_price": price * 0.75, "highest_price": price * 1.3,
        "cost": price * 0.5, "exposure": np.ones(items), "rows": np.full(items, 52),
        "first_period": np.ones(items, dtype=np.int64), "last_period": np.full(items, 52),
    })  # fmt: skip
    found: object = MadeUpPosterior(items=table, level=level, elasticity=elasticity, spec=DemandSpec())
    return found  # type: ignore[return-value]  # what a decision asks of the protocol, no more


def decide(posterior: DemandPosterior, limits: Sequence[Limit]) -> PriceDecision:
    """Prices for profit, nothing held back for a test."""
    return optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=13, seed=1, testing=None)


def binding_limits(items: int) -> list[Limit]:
    """Half of the prices may change, and the tail must be a tenth better than that alone would leave it."""
    small = min(items, 500)
    changes = MaxChanges(count=small // 2)
    free = decide(make_posterior(small, 1000, seed=1), [changes, MaxShortfall(amount=1e12)]).portfolio
    tail = free.expected_shortfall or 0.0
    amount = (tail - 0.05 * abs(tail)) * items / small
    return [MaxChanges(count=items // 2), MaxShortfall(amount=amount)]


def make_crossed(items: int, draws: int, *, seed: int) -> BlockMoney:
    """A category of substitutes, price box -20 % to +30 %."""
    rng = np.random.default_rng(seed)
    elasticity = rng.uniform(0.0, 1.0 / items, (items, items)) + rng.normal(0.0, 0.05, (draws, items, items))
    own = np.arange(items)
    elasticity[:, own, own] = rng.uniform(-3.5, -2.0, items) + rng.normal(0.0, 0.25, (draws, items))
    price = rng.uniform(5.0, 15.0, items)
    return BlockMoney(
        demand=LogLogBlock(
            current_price=price, elasticity=elasticity,
            log_units_today=rng.normal(3.0, 0.3, items) + rng.normal(0.0, 0.1, (draws, items)),
        ),
        value=UnitValue(kept=np.ones(items), charge=price * rng.uniform(0.4, 0.6, items)),
        lowest=np.full(items, np.log(0.8)), highest=np.full(items, np.log(1.3)),
    )  # fmt: skip


def run_case(case: Case) -> str:
    """Run one case in this process and tell it in a line."""
    warm = make_posterior(4, 400, seed=0)
    decide(warm, [MaxLossProbability(probability=0.2), MaxItemShortfall(amount=50.0)])
    if case.kind == "crossed":
        block = make_crossed(case.items, case.draws, seed=8)
        started, cpu = time.perf_counter(), time.process_time()
        found = maximize_joint([block], seed=1)
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
        bound = None if found is None else found.upper_bound
        gap = float("nan") if found is None or bound is None else (bound - found.value) / bound
        note = "" if found is None else f"{found.agreed} of {found.starts} starts agreed"
    else:
        limits: list[Limit] = [MaxLossProbability(probability=0.2), MaxItemShortfall(amount=50.0)]
        if case.kind == "portfolio":
            limits = binding_limits(case.items)
        posterior = make_posterior(case.items, case.draws, seed=1)
        started, cpu = time.perf_counter(), time.process_time()
        decision = decide(posterior, limits)
        taken, cpu = time.perf_counter() - started, time.process_time() - cpu
        gap = decision.portfolio.gap
        note = f"{decision.portfolio.engine}, feasible {decision.portfolio.feasible}, {decision.count('change')} change"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    wanted = [f"{case.seconds:g} s"]
    wanted += [] if case.gap is None else [f"gap {case.gap:g}"]
    wanted += [] if case.gigabytes is None else [f"{case.gigabytes:g} GB"]
    return (
        f"{case.name:>8}: {case.items:,} items x {case.draws:,} draws, {case.kind}: {taken:.1f} s ({cpu:.1f} s of "
        f"processor), gap {gap:.2g}, {peak:.2f} GB; wanted {', '.join(wanted)}; {note}"
    )


def main() -> None:
    """Run all cases, each in its own process, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=[case.name for case in CASES])
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    if asked.case is not None:
        case = next(case for case in CASES if case.name == asked.case)
        if case.kind != "crossed":
            case = replace(case, items=max(int(case.items * asked.scale), 20))
        print(run_case(case), flush=True)
        return
    for case in CASES:
        command = [sys.executable, "-m", "simulations.benchmarks.optimizer", "--case", case.name]
        subprocess.run([*command, "--scale", str(asked.scale)], check=True)


if __name__ == "__main__":
    main()
