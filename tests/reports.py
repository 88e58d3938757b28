"""A plausible report built from arrays: a course market of a few hundred items, nothing fitted."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.data.assessment import Assessment, Score
from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.identification import Identification
from bayes_pricing.errors import Check, Finding
from bayes_pricing.pricing.constraints import MaxChange, MaxShortfall, Support
from bayes_pricing.pricing.decision import (
    Action,
    Estimate,
    ItemDecision,
    PortfolioDecision,
    PriceDecision,
    ShadowPrice,
    estimate,
)
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.reporting.content import (
    BaselinePart,
    DecisionPart,
    DemandPart,
    Fact,
    ItemStory,
    PriceCurve,
    PriceTestPart,
    Provenance,
    Report,
    SalesPart,
    TrustPart,
)

CATEGORIES = ("Business", "Data science", "Design", "Health", "Languages", "Marketing", "Music", "Programming")
DRAWS = 2000
HOSTILE = "<script>alert(1)</script>"

Floats = NDArray[np.float64]


def example_report(*, items: int = 240, seed: int = 7, passed: bool = True) -> Report:
    """Everything a run can have; the first item carries a hostile name."""
    rng = np.random.default_rng(seed)
    names = [HOSTILE, *(f"course-{number:04d}" for number in range(2, items + 1))]
    table, truth = _elasticities(names, rng)
    decision = _decision(names, table, rng)
    return Report(
        title="Course prices, autumn",
        question="Which prices earn the most profit over the next eight weeks, if no price moves by more than 15 %?",
        period="week",
        sales=_sales(items),
        demand=DemandPart(
            model="negative binomial counts, items within category",
            why="38 % of rows sold nothing, which logarithms cannot hold",
            elasticities=table,
            variation=_variation(),
            truth=truth,
            revenue_change={
                "before the data": 1.1 ** (1 + rng.normal(-2.6, 1.4, DRAWS)) - 1,
                "after the data": 1.1 ** (1 + rng.normal(-1.83, 0.11, DRAWS)) - 1,
            },
        ),
        baselines=_baselines(table, rng),
        decision=decision,
        test=_test(names[3]),
        trust=_trust(rng, passed),
        provenance=Provenance(
            model_id="7c1f0a92be34d5",
            seed=seed,
            created="2026-03-02",
            versions={"bayes-pricing": "0.1.0", "pymc": "6.4.0", "nutpie": "0.16.11"},
            seconds={"read": 0.8, "assess": 0.4, "fit": 61.2, "decide": 3.9},
            command="bayes-pricing demo --seed 7",
        ),
        items_file="items.parquet",
    )


def _sales(items: int) -> SalesPart:
    still = [f"course-{number:04d}" for number in (12, 31, 77, 102)]
    thin = tuple(
        Finding(
            code="price_never_moved",
            severity="warning",
            item=name,
            message="the price never moved, so its own sales say nothing of price",
            remedy="it leans on its category; test two prices",
        )
        for name in still
    )
    trend = Finding(
        code="price_with_time",
        severity="info",
        message="prices and time are correlated at 0.21 on average",
        remedy="none needed below 0.5",
    )
    names = sorted([*still, *(f"other-{number}" for number in range(items - 4))])
    table = pl.DataFrame({"item": names}).with_columns(
        pl.col("item").is_in(still).alias("prior_only"),
        pl.when(pl.col("item").is_in(still))
        .then(None)
        .otherwise(0.4 + 0.01 * pl.int_range(pl.len()))
        .alias("elasticity_se"),
    )
    fine = Score(value=100.0, findings=())
    return SalesPart(
        source="Course market, seed 7",
        summary=PanelSummary(
            rows=items * 52,
            items=items,
            zero_rows=int(items * 52 * 0.38),
            absent_rows=0,
            absent=None,
            first_period=date(2025, 3, 3),
            last_period=date(2026, 2, 23),
            periods=52,
            units={"category": len(CATEGORIES)},
            data_hash="9b2de1417f",
        ),
        assessment=Assessment(
            completeness=fine, validity=fine, integrity=fine, realism=Score(value=86.0, findings=(trend,))
        ),
        identification=Identification(table=table, findings=thin, prior_only=tuple(still)),
    )


def _elasticities(names: list[str], rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    centre = rng.normal(-1.83, 0.45, len(CATEGORIES))
    estimate = centre + rng.normal(0, 0.1, len(CATEGORIES))
    home = np.arange(len(names)) % len(CATEGORIES)
    weight = np.clip(rng.beta(2, 7, len(names)), 0.01, 0.95)
    silent = np.zeros(len(names), dtype=bool)
    silent[[at for at in (11, 30, 76, 101) if at < len(names)]] = True
    weight[silent] = 0.0
    item = estimate[home] + 0.5 * weight * rng.normal(0, 1.6, len(names))
    mean = np.concatenate([[-1.83], estimate, item])
    sd = np.concatenate([[0.16], np.full(len(CATEGORIES), 0.1), 0.5 * np.sqrt(1 - weight)])
    above = 1 + len(CATEGORIES)
    table = pl.DataFrame(
        {
            "level": ["population"] + ["category"] * len(CATEGORIES) + ["item"] * len(names),
            "name": ["population", *CATEGORIES, *names],
            "mean": mean,
            "sd": sd,
            "lower": mean - 1.645 * sd,
            "upper": mean + 1.645 * sd,
            "probability": np.full(len(mean), 0.9),
            "probability_elastic": 1 / (1 + np.exp(1.7 * (mean + 1) / sd)),
            "own_data_weight": [*([None] * above), *weight.tolist()],
            "prior_only": [*([False] * above), *silent.tolist()],
        }
    )
    truth = pl.DataFrame(
        {
            "level": ["population"] + ["category"] * len(CATEGORIES),
            "name": ["population", *CATEGORIES],
            "elasticity": [-1.8, *centre.tolist()],
        }
    )
    return table, truth


def _variation() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "level": ["item", "item", "category", "category"],
            "coefficient": ["level", "log_price", "level", "log_price"],
            "mean": [0.82, 0.51, 0.4, 0.43],
            "lower": [0.77, 0.4, 0.25, 0.28],
            "upper": [0.88, 0.62, 0.62, 0.66],
            "probability": [0.9] * 4,
        }
    )


def _baselines(table: pl.DataFrame, rng: np.random.Generator) -> BaselinePart:
    seen = {
        "posterior": (0.61, 0.93, 61.2, 0.51, 0.79, 0.95),
        "fixed effects": (0.63, 0.99, 0.3, 0.47, 0.75, 0.92),
        "gradient boosting": (0.60, 0.94, 8.4, 0.33, 0.58, 0.79),
        "pooled": (0.74, 1.12, 0.1, 0.44, 0.7, 0.9),
    }
    names = ("wape", "crps", "seconds", "coverage_50", "coverage_80", "coverage_95")
    scores = [
        {
            "estimator": estimator,
            "origin": origin,
            **{name: value + 0.01 * origin for name, value in zip(names, row, strict=True)},
        }
        for origin in range(2)
        for estimator, row in seen.items()
    ]
    category = table.filter(pl.col("level") == "category").select("level", "name", "mean")
    frames = []
    for name, lean, half in (("fixed effects", 0.05, 0.3), ("gradient boosting", 0.6, 0.25)):
        mean = category["mean"].to_numpy() * (1 - lean) + rng.normal(0, 0.12, category.height)
        frames.append(
            category.with_columns(
                pl.lit(name).alias("estimator"), pl.Series("mean", mean),
                pl.Series("lower", mean - half), pl.Series("upper", mean + half),
            )
        )  # fmt: skip
    return BaselinePart(
        design="Rolling origin: fitted on the weeks before two origins, scored on the four weeks after each.",
        scores=pl.DataFrame(scores),
        elasticities=pl.concat(frames),
        ours="posterior",
    )


def _decision(names: list[str], table: pl.DataFrame, rng: np.random.Generator) -> DecisionPart:
    n = len(names)
    elasticity = table.filter(pl.col("level") == "item")["mean"].to_numpy()
    current = np.round(rng.uniform(20, 120, n), 2)
    cost = 0.3 * current
    best = np.clip(np.where(elasticity < -1.05, elasticity / (1 + elasticity), 9.0) * cost / current, 0.85, 1.15)
    units = rng.gamma(2.0, 0.4, n)
    actions: list[Action] = ["hold" if abs(share - 1) < 0.02 else "change" for share in best]
    actions[5::17] = ["test_first"] * len(actions[5::17])
    actions[3::41] = ["refused"] * len(actions[3::41])
    move = np.where(np.array(actions) == "change", best, 1.0)
    ratio = move**elasticity
    gains = {
        "revenue": units * current * (move * ratio - 1),
        "profit": units * ((move * current - cost) * ratio - (current - cost)),
        "units": units * (ratio - 1),
    }
    items = tuple(
        _item(name, actions[at], current[at], best[at], {metric: gain[at] for metric, gain in gains.items()})
        for at, name in enumerate(names)
    )
    decision = PriceDecision(
        items=items,
        portfolio=_portfolio({metric: float(gain.sum()) for metric, gain in gains.items()}, rng),
        objective="profit",
        economics=Economics(cost=6.0, currency="tokens"),
        limits=(MaxChange(share=0.15), Support(), MaxShortfall(amount=60.0)),
        horizon_periods=8,
        data_as_of=date(2026, 2, 23),
        stale_on=date(2026, 4, 20),
        model="7c1f0a92be34d5",
        seed=7,
    )
    return DecisionPart(decision=decision, stories=(_story(names, current, cost, elasticity, move, units),))


def _item(name: str, action: Action, current: float, best: float, gain: dict[str, float]) -> ItemDecision:
    def around(mean: float) -> Estimate:
        half = 1.2 * abs(mean) + 0.01
        return Estimate(mean=mean, lower=mean - half, upper=mean + half)

    refused, test = action == "refused", action == "test_first"
    reason = Finding(
        code="no_cost", severity="error", item=name, message="its unit cost is unknown", remedy="give --cost"
    )
    changed = action == "change"
    return ItemDecision(
        item=name,
        action=action,
        current_price=float(current),
        recommended_price=None if refused else round(float(current * best), 2) if changed else float(current),
        revenue=None if refused else around(gain["revenue"]),
        profit=None if refused else around(gain["profit"]),
        units=None if refused else around(gain["units"]),
        probability_better=None if refused else 0.83 if changed else 0.0,
        expected_regret=None if refused else 0.1 * abs(gain["profit"]),
        regret_of_staying=None if refused else 0.2 * abs(gain["profit"]),
        binding=("max_change",) if changed and abs(best - 1) > 0.149 else (),
        shadow_price=0.0,
        shortfall_contribution=None,
        support="supported",
        test_price=round(float(current * best), 2) if test else None,
        test_periods=4 if test else 0,
        value_of_testing=0.4 * float(current) if test else None,
        findings=(reason,) if refused else (),
    )


def _portfolio(totals: dict[str, float], rng: np.random.Generator) -> PortfolioDecision:
    today = {"revenue": 13_500.0, "profit": 9_400.0, "units": 192.0}
    change = {name: rng.normal(total, 0.45 * abs(total) + 1, (2, DRAWS // 2)) for name, total in totals.items()}
    level = {name: rng.normal(mean, 0.05 * mean, (2, DRAWS // 2)) for name, mean in today.items()}
    profit = np.sort(change["profit"].ravel())

    def summaries(draws: dict[str, Floats]) -> dict[str, Estimate]:
        return {name: estimate(values.ravel()) for name, values in draws.items()}

    def labelled(draws: dict[str, Floats]) -> xr.DataArray:
        stacked = np.stack([draws[name] for name in totals])
        return xr.DataArray(stacked, dims=("metric", "chain", "draw"), coords={"metric": list(totals)})

    return PortfolioDecision(
        objective=totals["profit"],
        upper_bound=1.03 * totals["profit"],
        gap=0.029,
        certificate="Lagrangian bound recomputed from the prices",
        expected_shortfall=-float(profit[: DRAWS // 20].mean()),
        shortfall_share=0.05,
        expected_shortfall_held_out=None,
        probability_better=float((profit > 0).mean()),
        shadow_prices=(ShadowPrice(limit="max_change", value=9.5, step="one per cent more for every item"),),
        residuals=(("max_change", 0.0),),
        engine="vectorised grid",
        feasible=True,
        changes=summaries(change),
        current=summaries(level),
        recommended=summaries({name: level[name] + change[name] for name in totals}),
        change_draws=labelled(change),
        current_draws=labelled(level),
    )


def _story(
    names: list[str], current: Floats, cost: Floats, elasticity: Floats, move: Floats, units: Floats
) -> ItemStory:
    chosen = int(np.argmax(np.where(move > 1, units * current, 0)))
    at = np.linspace(0.75, 1.3, 45) * current[chosen]
    mean = units[chosen] * (at - cost[chosen]) * (at / current[chosen]) ** elasticity[chosen]
    half = 0.12 * mean + 0.5 * np.abs(mean - mean[20])
    return ItemStory(
        item=names[chosen],
        headline=f"Raise {names[chosen]} by {100 * (move[chosen] - 1):.0f} %: very likely (93 %) more profit.",
        paragraph="Demand reacts less to this price than to most: the higher margin outweighs the enrolments lost. "
        "The largest allowed change binds; without it the price would go further, beyond what the data have seen.",
        curve=PriceCurve(
            points=pl.DataFrame({"price": at, "mean": mean, "lower": mean - half, "upper": mean + half}),
            current_price=float(current[chosen]),
            recommended_price=float(current[chosen] * move[chosen]),
            lowest_price=float(0.82 * current[chosen]),
            highest_price=float(1.2 * current[chosen]),
            unit="tokens per week",
            price_unit="tokens per unit",
        ),
    )


def _test(item: str) -> PriceTestPart:
    return PriceTestPart(
        item=item,
        headline=f"Test {item} at two prices for six weeks.",
        paragraph="Its best price depends most on what is not yet known of it, and a wrong guess costs most.",
        facts=(
            Fact(label="Prices", value="48.00 and 55.00", unit="tokens"),
            Fact(label="Size", value="310 learners in each arm, six whole weeks"),
            Fact(label="Gain", value=Estimate(mean=84.0, lower=12.0, upper=190.0), unit="tokens over a year"),
        ),
    )


def _trust(rng: np.random.Generator, passed: bool) -> TrustPart:
    rhat = 1.004 if passed else 1.08
    checks = (
        Check(code="rhat", passed=passed, finding=f"largest R-hat {rhat}, limit 1.01", remedy="fit with more draws"),
        Check(code="ess_bulk", passed=True, finding="smallest bulk effective sample size 910, limit 400"),
        Check(code="divergences", passed=True, finding="0 divergent draws"),
    )
    return TrustPart(
        diagnostics=Diagnostics(checks=checks, max_rhat=rhat, min_ess_bulk=910.0, min_ess_tail=760.0, divergences=0),
        pit=rng.uniform(0, 1, 3000),
    )
