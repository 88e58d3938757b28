"""The main job, end to end: sales, assessment, posterior, baselines, prices, reasons, a price test, a report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
from bayes_pricing.experiments.sizing import TestPlan

from bayes_pricing.baselines.boosting import BoostedTrees
from bayes_pricing.baselines.evaluation import compare_elasticities, evaluate
from bayes_pricing.baselines.linear import LinearDemand
from bayes_pricing.baselines.protocol import Baseline, SalesRows
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, Stopwatch, fit_demand
from bayes_pricing.errors import Refusal
from bayes_pricing.pricing.constraints import Limit, MaxChange, MaxLossProbability, MaxShortfall
from bayes_pricing.pricing.decision import ItemDecision, PriceDecision
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import most_worth_testing

ProgressCallback = Callable[[float, str], None]

HORIZON_PERIODS = 13.0
LARGEST_CHANGE = 0.25
LARGEST_LOSS_PROBABILITY = 0.25
FEWEST_PERIODS_TO_SCORE = 12
SCORED_SHARE = 6
"""The last sixth of the periods is held out to score forecasts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemoData:
    """Sales to run the main job on, with what is known of them.

    Attributes
    ----------
    panel : SalesPanel
    source : str
        Where the sales come from, in words.
    economics : Economics
    objective : {"profit", "revenue", "units"}
    period : str
        What a period is called.
    truth : DataFrame or None
        Columns ``level, name, elasticity`` where they are known.
    """

    panel: SalesPanel
    source: str
    economics: Economics
    objective: Objective
    period: str = "period"
    truth: pl.DataFrame | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemoRun:
    """What one run of the main job produced.

    Attributes
    ----------
    data : DemoData
    fitted : DemandFit
    scores : DataFrame or None
        Forecast scores of the baselines on held-out periods; None without enough periods.
    compared : DataFrame
        Mean elasticities per category by every baseline.
    decision : PriceDecision
    boldest : str or None
        The item whose price changes most.
    test : TestPlan or None
        The price test most worth running; None where none is worth its cost.
    seconds : dict of str to float
        Wall-clock seconds by stage.
    """

    data: DemoData
    fitted: DemandFit
    scores: pl.DataFrame | None
    compared: pl.DataFrame
    decision: PriceDecision
    boldest: str | None
    test: TestPlan | None
    seconds: dict[str, float]


def run_demo(data: DemoData, *, seed: int, progress: ProgressCallback) -> DemoRun:
    """Run the main job on some sales.

    Raises
    ------
    Refusal
        If the sales identify no elasticity, or the sampler did not converge.
    """
    watch = Stopwatch()
    with watch.stage("fit"):
        fitted = fit_demand(
            data.panel,
            ModelRequest(),
            SamplerSettings(),
            seed=seed,
            progress=lambda done, label: progress(0.05 + 0.6 * done, label),
        )
    if not fitted.diagnostics.passed:
        raise Refusal(fitted.diagnostics.findings)
    with watch.stage("baselines"):
        progress(0.66, "fitting the baselines")
        scores, compared = compare_baselines(data, fitted, seed=seed)
    with watch.stage("decide"):
        progress(0.8, "judging prices on every posterior draw")
        decision = decide(data, fitted, seed=seed)
    with watch.stage("test"):
        progress(0.95, "looking for the price test most worth running")
        candidates = most_worth_testing(decision, 1)
        test = plan_best_test(data, fitted, candidates[0].item, candidates[0].test_price) if candidates else None
    progress(1.0, "done")
    return DemoRun(
        data=data,
        fitted=fitted,
        scores=scores,
        compared=compared,
        decision=decision,
        boldest=boldest_change(decision),
        test=test,
        seconds=watch.seconds,
    )


def compare_baselines(data: DemoData, fitted: DemandFit, *, seed: int) -> tuple[pl.DataFrame | None, pl.DataFrame]:
    """Baselines on the same sales: forecast scores on the last periods, and elasticities per category."""
    rows = SalesRows.from_panel(data.panel)
    baselines: list[Baseline] = [
        LinearDemand(pooling="pooled"),
        LinearDemand(pooling="item_effects"),
        BoostedTrees(seed=seed),
    ]
    periods = data.panel.summary.periods
    scores = None
    if periods >= FEWEST_PERIODS_TO_SCORE:
        scores = evaluate(baselines, rows, n_origins=1, horizon=periods // SCORED_SHARE, seed=seed)
    levels = [level for level in data.panel.roles.levels if level in fitted.posterior.items.columns]
    table = compare_elasticities([baseline.fit(rows) for baseline in baselines], data.panel.item_table(), levels)
    return scores, table


def decide(data: DemoData, fitted: DemandFit, *, seed: int) -> PriceDecision:
    """Prices for the objective under the demo's limits: step, risk per item, and risk of the whole portfolio."""
    limits: list[Limit] = [
        MaxChange(share=LARGEST_CHANGE),
        MaxLossProbability(probability=LARGEST_LOSS_PROBABILITY),
        MaxShortfall(amount=0.0),
    ]
    return optimize_prices(
        fitted.posterior, data.economics, data.objective, limits, horizon_periods=HORIZON_PERIODS, seed=seed
    )


def boldest_change(decision: PriceDecision) -> str | None:
    """The item whose price is to change by the largest share; None where no price changes."""

    def share(item: ItemDecision) -> float:
        return abs(item.price / item.current_price - 1.0)

    changes = [item for item in decision.items if item.action == "change"]
    return max(changes, key=share).item if changes else None
