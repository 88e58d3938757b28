"""The main job, end to end: sales, assessment, posterior, baselines, prices, reasons, a price test, a report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from bayes_pricing.baselines.boosting import BoostedTrees
from bayes_pricing.baselines.evaluation import compare_elasticities, evaluate
from bayes_pricing.baselines.linear import LinearDemand
from bayes_pricing.baselines.protocol import Baseline, SalesRows
from bayes_pricing.cli.check import summary_line
from bayes_pricing.cli.fit import fit_json
from bayes_pricing.cli.text import decision_lines, elasticity_lines, finding_lines
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, Stopwatch, fit_demand
from bayes_pricing.errors import Refusal
from bayes_pricing.experiments.price_test import TestGoals, TestPlan, plan_json, plan_price_test
from bayes_pricing.pricing.constraints import Limit, MaxChange, MaxLossProbability, MaxShortfall
from bayes_pricing.pricing.decision import PriceDecision, boldest_changes, decision_json
from bayes_pricing.pricing.explanation import explain
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.phrases import calendar_word
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import TestCandidate, most_worth_testing
from bayes_pricing.pricing.wording import percent, word
from bayes_pricing.reporting import assemble
from bayes_pricing.reporting.content import BaselinePart, Fact, PriceTestPart, Report
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.course_truth import true_elasticities
from simulations.markets.courses import simulate_courses

ProgressCallback = Callable[[float, str], None]

HORIZON_PERIODS = 13.0
STORIES = 3
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
class PlannedTest:
    """The price test most worth running: which, and how long."""

    candidate: TestCandidate
    plan: TestPlan


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
    test : PlannedTest or None
        The price test most worth running; None where none is worth its cost.
    seconds : dict of str to float
        Wall-clock seconds by stage.
    """

    data: DemoData
    fitted: DemandFit
    scores: pl.DataFrame | None
    compared: pl.DataFrame
    decision: PriceDecision
    test: PlannedTest | None
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
        test = plan_best_test(data, fitted, decision)
    progress(1.0, "done")
    return DemoRun(
        data=data,
        fitted=fitted,
        scores=scores,
        compared=compared,
        decision=decision,
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


def plan_best_test(data: DemoData, fitted: DemandFit, decision: PriceDecision) -> PlannedTest | None:
    """Plan the test of the item whose answer is worth most; None where no test is worth its cost."""
    for candidate in most_worth_testing(decision, 1):
        plan = plan_price_test(
            fitted.posterior,
            data.economics,
            candidate.item,
            horizon_periods=HORIZON_PERIODS,
            goals=TestGoals(),
            objective=data.objective,
            test_price=candidate.test_price,
        )
        return PlannedTest(candidate=candidate, plan=plan)
    return None


def course_data(settings: CourseMarketSettings, seed: int, progress: ProgressCallback) -> DemoData:
    """The embedded course market, with its truth."""
    market = simulate_courses(settings, seed, progress)
    sales = market.sales()
    return DemoData(
        panel=SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns)),
        source=f"Simulated course market, seed {seed}",
        economics=Economics(commission=market.truth.commission, currency="EUR"),
        objective="profit",
        period="week",
        truth=true_elasticities(market.truth).select("level", "name", "elasticity"),
    )


def demo_report(run: DemoRun, command: str) -> Report:
    """Everything the run has to say."""
    fitted, data = run.fitted, run.data
    stories = [item.item for item in boldest_changes(run.decision, STORIES)]
    return Report(
        title=data.source,
        question=(
            f"Which prices bring the most {data.objective} over the next {HORIZON_PERIODS:.0f} {data.period}s, if no "
            f"price moves by more than {LARGEST_CHANGE:.0%} and no item risks a loss with more than "
            f"{LARGEST_LOSS_PROBABILITY:.0%} probability?"
        ),
        period=data.period,
        sales=assemble.sales_part(fitted, data.source),
        demand=assemble.demand_part(fitted, data.truth, seed=fitted.seed),
        baselines=None
        if run.scores is None
        else BaselinePart(
            design=f"Fitted before and scored on the last {data.panel.summary.periods // SCORED_SHARE} {data.period}s",
            scores=run.scores,
            elasticities=run.compared,
        ),
        decision=assemble.decision_part(fitted.posterior, run.decision, stories, data.period),
        test=None if run.test is None else test_part(run.test, data),
        trust=assemble.trust_part(fitted),
        provenance=assemble.provenance(fitted, {**fitted.seconds, **run.seconds}, command),
    )


def test_part(test: PlannedTest, data: DemoData) -> PriceTestPart:
    """The test most worth running, in words and facts."""
    money = data.economics.currency or "currency"
    candidate, plan = test.candidate, test.plan
    best = plan.test_and_roll
    lengths = " and ".join(f"{math.ceil(size)}" for size in best.n_per_arm)
    headline = (
        f"{candidate.item} at {candidate.test_price:,.2f} against today's {candidate.current_price:,.2f}, prices "
        f"alternating; worth {_money(plan.value_of_information.net)} {money} over the horizon."
    )
    paragraph = (
        f"Today's price for {lengths.replace(' and ', f' {data.period}s and the new one for ')}, alternating, then the "
        f"better one for the rest of the {HORIZON_PERIODS:.0f} {data.period}s: the lengths that are expected to earn "
        f"most. The worse price would be kept in the end with a probability of {percent(best.error_probability)}."
    )
    value = plan.value_of_information
    facts = [
        Fact(label="Price to test", value=f"{candidate.test_price:,.2f}", unit=f"{money} per unit"),
        Fact(label="Net worth of the test", value=_money(value.net), unit=f"{money} in all"),
        Fact(label="Worth of knowing for sure", value=_money(value.perfect), unit=f"{money} in all"),
    ]
    if plan.power is not None:
        size = f"{plan.power.n_per_arm:,.0f} {data.period}s an arm"
        facts.append(Fact(label=f"A classical test with {plan.power.target:.0%} power would take", value=size))
    return PriceTestPart(item=candidate.item, headline=headline, paragraph=paragraph, facts=tuple(facts))


def _money(value: float) -> str:
    """An amount with three figures, never rounded to nothing."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def demo_lines(run: DemoRun) -> list[str]:
    """What the run found, as a person would say it, on one screen."""
    fitted, data, decision = run.fitted, run.data, run.decision
    diagnostics = fitted.diagnostics
    truth = {} if data.truth is None else dict(data.truth.select("name", "elasticity").iter_rows())
    refused = [item for item in decision.items if item.action == "refused"]
    lines = [
        f"{data.source}: {summary_line(data.panel.summary)}",
        f"Model: {fitted.posterior.spec.likelihood.replace('_', ' ')}, because {fitted.choice.reason}.",
        f"Checks: largest R-hat {diagnostics.max_rhat:.3f}, smallest effective sample size "
        f"{diagnostics.min_ess_bulk:,.0f}, {diagnostics.divergences} divergences.",
        "",
        *elasticity_lines(fitted.posterior, truth),
        *finding_lines(finding for finding in fitted.findings if finding.severity != "info"),
        "",
        *baseline_lines(run),
        "",
        *decision_lines(decision, changes=0, period=calendar_word(data.panel.summary)),
    ]
    boldest = boldest_changes(decision, 1)
    if boldest:
        explained = explain(fitted.posterior, decision, boldest[0].item, period=calendar_word(data.panel.summary))
        lines += ["", "Boldest change: " + word(explained, "headline")]
    if run.test is not None:
        lines += ["", "Test first: " + test_part(run.test, data).headline]
    if refused:
        lines += ["", "Refused:", *finding_lines(finding for item in refused for finding in item.findings)]
    return lines


def baseline_lines(run: DemoRun) -> list[str]:
    """The population elasticity by every estimator, beside the posterior's."""
    rows = run.compared.filter(pl.col("level") == "population")
    width = max(len(name) for name in rows["estimator"])
    return [
        "Others on the same sales (mean elasticity of the items sold, their own 90 % interval):",
        *(
            f"  {row['estimator']:<{width}}  {row['mean']:6.2f}   {row['lower']:6.2f} to {row['upper']:6.2f}"
            for row in rows.to_dicts()
        ),
    ]


def own_data(panel: SalesPanel) -> DemoData:
    """The user's own sales: profit where a cost is known, revenue elsewhere."""
    known = panel.roles.cost is not None
    return DemoData(
        panel=panel,
        source="Your sales",
        economics=Economics(),
        objective="profit" if known else "revenue",
    )


def demo_json(run: DemoRun) -> dict[str, object]:
    """The run for machines: what `fit` and `recommend` answer, with the baselines and the test beside."""
    return {
        "source": run.data.source,
        "fit": fit_json(run.fitted),
        "baselines": {
            "elasticities": run.compared.to_dicts(),
            "scores": None if run.scores is None else run.scores.to_dicts(),
        },
        "decision": decision_json(run.decision),
        "test": None if run.test is None else {"item": run.test.candidate.item, **plan_json(run.test.plan)},
        "seconds": run.seconds,
    }
