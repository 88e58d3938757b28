"""A plausible report built from arrays: a course market of a few hundred items, nothing fitted."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.demand.diagnostics import Check, Diagnostics
from bayes_pricing.errors import Finding
from bayes_pricing.reporting.content import (
    BaselinePart,
    DecisionPart,
    DemandPart,
    Estimate,
    ItemStory,
    PriceTestPart,
    Provenance,
    Report,
    SalesPart,
    Score,
    Total,
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
        currency="tokens",
        period="week",
        sales=_sales(items),
        demand=DemandPart(
            model="negative binomial counts, items within category",
            why="Chosen because 38 % of rows sold nothing, which logarithms cannot hold.",
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
    thin = [
        Finding(
            code="price_never_moved",
            severity="warning",
            item=f"course-{number:04d}",
            message="the price never moved, so its own sales say nothing of price",
            remedy="it leans on its category; test two prices",
        )
        for number in (12, 31, 77, 102)
    ]
    trend = Finding(
        code="price_with_time",
        severity="info",
        message="prices and time are correlated at 0.21 on average",
        remedy="none needed below 0.5",
    )
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
        scores=(
            Score(name="Completeness", value=100.0, finding="every item has a row in every week it was listed"),
            Score(name="Validity", value=99.2, finding="prices positive, quantities whole, no duplicate"),
            Score(name="Referential integrity", value=100.0, finding="every enrolment has its course and its learner"),
            Score(name="Realism", value=86.0, finding="4 courses whose price never moved"),
        ),
        identification=pl.DataFrame(
            {
                "status": ["moves enough", "moves a little", "never moves"],
                "items": [items - 34, 30, 4],
                "meaning": ["own sales weigh in", "leans mostly on the category", "its category speaks for it"],
            }
        ),
        findings=(*thin, trend),
    )


def _elasticities(names: list[str], rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    centre = rng.normal(-1.83, 0.45, len(CATEGORIES))
    estimate = centre + rng.normal(0, 0.1, len(CATEGORIES))
    home = np.arange(len(names)) % len(CATEGORIES)
    weight = np.clip(rng.beta(2, 7, len(names)), 0.01, 0.95)
    silent = np.zeros(len(names), dtype=bool)
    silent[[11, 30, 76, 101]] = True
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
        {"level": ["population"] + ["category"] * len(CATEGORIES), "name": ["population", *CATEGORIES],
         "elasticity": [-1.8, *centre.tolist()]}
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
    wape = {"this model": 0.61, "fixed effects": 0.63, "gradient boosting": 0.60, "pooled": 0.74}
    error = {"this model": 0.11, "fixed effects": 0.19, "gradient boosting": 0.58, "pooled": 0.47}
    seconds = {"this model": 61.2, "fixed effects": 0.3, "gradient boosting": 8.4, "pooled": 0.1}
    scores = [
        (name, score, unit, value, True)
        for score, unit, column in (
            ("WAPE", "share of units", wape),
            ("Elasticity error", "mean absolute", error),
            ("Time", "seconds", seconds),
        )
        for name, value in column.items()
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
        design="Rolling origin: fitted on the weeks before four origins, scored on the four weeks after each.",
        scores=pl.DataFrame(scores, schema=["estimator", "score", "unit", "value", "lower_is_better"], orient="row"),
        elasticities=pl.concat(frames),
    )


def _decision(names: list[str], table: pl.DataFrame, rng: np.random.Generator) -> DecisionPart:
    n = len(names)
    elasticity = table.filter(pl.col("level") == "item")["mean"].to_numpy()
    current = np.round(rng.uniform(20, 120, n), 2)
    cost = 0.3 * current
    best = np.clip(np.where(elasticity < -1.05, elasticity / (1 + elasticity), 9.0) * cost / current, 0.85, 1.15)
    action = np.where(np.abs(best - 1) < 0.02, "hold", "change").astype(object)
    action[5::17] = "test_first"
    action[3::41] = "refused"
    move = np.where(np.isin(action, ["change", "test_first"]), best, 1.0)
    units = rng.gamma(2.0, 0.4, n)
    ratio = move**elasticity
    profit = units * ((move * current - cost) * ratio - (current - cost))
    revenue = units * current * (move * ratio - 1)
    sold = units * (ratio - 1)
    columns: dict[str, object] = {
        "item": names,
        "action": action.tolist(),
        "current_price": current,
        "recommended_price": np.round(current * move, 2),
    }
    for name, mean in (("revenue", revenue), ("profit", profit), ("units", sold)):
        half = 1.2 * np.abs(mean) + 0.01
        columns |= {f"{name}_mean": mean, f"{name}_lower": mean - half, f"{name}_upper": mean + half}
    columns |= {
        "probability": np.full(n, 0.9),
        "probability_better": np.where(move == 1.0, 0.5, np.clip(0.72 + 0.2 * rng.random(n), 0, 1)),
        "expected_regret": 0.1 * np.abs(profit),
        "binding": [("largest change 15 %" if abs(share - 1) > 0.149 else None) for share in move],
        "reason": [("its price never moved and its cost is unknown" if kind == "refused" else None) for kind in action],
    }
    total = float(profit.sum())
    change = rng.normal(total, 0.45 * total, DRAWS)
    return DecisionPart(
        objective="profit",
        limits=("no price moves by more than 15 %", "no price outside those seen in the data",
                "expected shortfall of the portfolio at most 60 tokens per week"),
        items=pl.DataFrame(columns),
        totals=_totals(change, total),
        change=change,
        expected_shortfall=-float(np.sort(change)[: DRAWS // 20].mean()),
        upper_bound=1.03 * total,
        gap=0.029,
        engine="vectorised grid",
        feasible=True,
        horizon="eight weeks",
        data_until="2026-02-23",
        stale_after="2026-04-20",
        shadow_prices={"largest change (one point more for every item)": 0.012 * total},
        stories=(_story(names, current, cost, elasticity, move, units),),
    )  # fmt: skip


def _totals(change: Floats, total: float) -> tuple[Total, ...]:
    def estimate(mean: float, half: float, unit: str) -> Estimate:
        return Estimate(mean=mean, lower=mean - half, upper=mean + half, unit=unit)

    low, high = (float(end) for end in np.quantile(change, [0.05, 0.95]))
    money = "tokens per week"
    return (
        Total(
            outcome="profit", today=estimate(9_400.0, 700.0, money), recommended=estimate(9_400.0 + total, 800.0, money),
            change=Estimate(mean=float(change.mean()), lower=low, upper=high, unit=money),
            probability_better=float((change > 0).mean()),
        ),
        Total(
            outcome="revenue", today=estimate(13_500.0, 900.0, money), recommended=estimate(13_420.0, 950.0, money),
            change=estimate(-80.0, 210.0, money), probability_better=0.27,
        ),
        Total(
            outcome="units", today=estimate(192.0, 8.0, "units per week"),
            recommended=estimate(181.0, 9.0, "units per week"), change=estimate(-11.0, 5.0, "units per week"),
            probability_better=0.001,
        ),
    )  # fmt: skip


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
        curve=pl.DataFrame({"price": at, "mean": mean, "lower": mean - half, "upper": mean + half}),
        current_price=float(current[chosen]),
        recommended_price=float(current[chosen] * move[chosen]),
        lowest_price=float(0.82 * current[chosen]),
        highest_price=float(1.2 * current[chosen]),
    )


def _test(item: str) -> PriceTestPart:
    return PriceTestPart(
        item=item,
        headline=f"Test {item} at two prices for six weeks.",
        paragraph="Its best price depends most on what is not yet known of it, and a wrong guess costs most.",
        facts=(
            ("Prices", "48.00 and 55.00 tokens"),
            ("Size", "310 learners in each arm, six whole weeks"),
            ("Gain expected from testing", Estimate(mean=84.0, lower=12.0, upper=190.0, unit="tokens over a year")),
        ),
    )


def _trust(rng: np.random.Generator, passed: bool) -> TrustPart:
    rhat = 1.004 if passed else 1.08
    checks = (
        Check(code="rhat", passed=passed, finding=f"largest R-hat {rhat}, limit 1.01", remedy="fit with more draws"),
        Check(code="ess_bulk", passed=True, finding="smallest bulk effective sample size 910, limit 400"),
        Check(code="divergences", passed=True, finding="0 divergent draws"),
    )
    promised = [0.5, 0.8, 0.9, 0.95]
    return TrustPart(
        diagnostics=Diagnostics(checks=checks, max_rhat=rhat, min_ess_bulk=910.0, min_ess_tail=760.0, divergences=0),
        coverage=pl.DataFrame(
            {
                "estimator": ["this model"] * 4 + ["gradient boosting"] * 4,
                "probability": promised * 2,
                "coverage": [0.51, 0.79, 0.89, 0.95, 0.33, 0.58, 0.7, 0.79],
            }
        ),
        pit=rng.uniform(0, 1, 3000),
    )
