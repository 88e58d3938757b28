"""Pictures of a report: each chart with its title, how to read it, and the numbers it was drawn from as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import polars as pl

from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.frontier import FrontierPoint
from bayes_pricing.reporting.content import BaselinePart, DemandPart, PriceCurve, TrustPart
from bayes_pricing.reporting.decision_plots import (
    ACTION_WORDS,
    decision_frame,
    decision_overview_plot,
    frontier_plot,
    objective_draws,
    outcome_unit,
    portfolio_change_plot,
    profit_curve_plot,
    with_elasticity,
)
from bayes_pricing.reporting.formats import interval, odds, percent, percent_change, plain, price, signed
from bayes_pricing.reporting.marks import POSTERIOR
from bayes_pricing.reporting.plots import elasticity_forest, forest_rows, revenue_response_plot, shrinkage_plot
from bayes_pricing.reporting.scoring import SCORES, elasticity_errors, mean_scores
from bayes_pricing.reporting.trust_plots import coverage_plot, coverage_rows, pit_bars, pit_histogram, score_plot

MOST_CURVE_ROWS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A small table of texts: headings, rows, and a note on what was left out (empty for nothing)."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """A chart with everything a reader without the chart needs."""

    key: str
    title: str
    caption: str
    chart: alt.LayerChart
    table: Table


def demand_figures(demand: DemandPart) -> tuple[Figure, ...]:
    """Elasticities by group, what a price rise does to revenue, and how items lean on their category."""
    table = demand.elasticities
    figures = [_forest_figure(demand)]
    if demand.revenue_change:
        figures.append(_response_figure(demand))
    items = table.filter(pl.col("level") == "item")
    if items.height:
        figures.append(
            Figure(
                key="shrinkage",
                title="How far single items lean on their relatives",
                caption="One point per item. Left: the item's own sales say little and its category speaks for it. "
                "Right: it speaks for itself. The dashed line is the mean of all items.",
                chart=shrinkage_plot(table),
                table=_weight_table(items),
            )
        )
    return tuple(figures)


def _forest_figure(demand: DemandPart) -> Figure:
    table = demand.elasticities
    rows = forest_rows(table)
    level = percent(float(rows["probability"][0]))
    truth = "" if demand.truth is None else " Dark ticks: the true values, known because this market is simulated."
    everybody = forest_rows(table, most=table.height).height
    part = f" The {rows.height} most and least elastic of {everybody:,} are shown." if everybody > rows.height else ""
    headings = ["Group", "Elasticity", f"{level} interval", "Elastic with probability"]
    texts: list[tuple[str, ...]] = [
        (row["label"], plain(row["mean"]), interval(row["lower"], row["upper"]), odds(row["probability_elastic"]))
        for row in rows.iter_rows(named=True)
    ]
    if demand.truth is not None:
        known = {
            (level, name): value for level, name, value in demand.truth.select("level", "name", "elasticity").rows()
        }
        headings.append("True value")
        keys = rows.select("level", "name").rows()
        texts = [(*text, plain(known.get(key))) for text, key in zip(texts, keys, strict=True)]
    return Figure(
        key="elasticities",
        title="Elasticity by group",
        caption=f"Per cent of units lost or won per 1 % of price. Points: means; bars: {level} credible intervals; "
        f"dashed line: −1, where a small change of price leaves revenue as it is.{truth}{part}",
        chart=elasticity_forest(table, demand.truth),
        table=Table(headings=tuple(headings), rows=tuple(texts)),
    )


def _response_figure(demand: DemandPart) -> Figure:
    rows = []
    for name, draws in demand.revenue_change.items():
        low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95])
        ends = f"[{percent_change(float(low))} to {percent_change(float(high))}]"
        rows.append((name, percent_change(float(middle)), ends, odds(float((np.asarray(draws) > 0).mean()))))
    return Figure(
        key="response",
        title="What a price rise of 10 % does to revenue",
        caption="The assumptions alone, and what the sales made of them. Left of the dashed line the rise loses money.",
        chart=revenue_response_plot(demand.revenue_change),
        table=Table(headings=("", "Median", "90 % interval", "Revenue rises with probability"), rows=tuple(rows)),
    )


def _weight_table(items: pl.DataFrame) -> Table:
    """Items by own-data weight, in five classes."""
    classes = [(0.0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)]
    weight = pl.col("own_data_weight")
    rows = []
    for low, high in classes:
        part = items.filter((weight >= low) & ((weight < high) | (pl.lit(high) == 1.0)))
        spread = part.select(width=pl.col("upper") - pl.col("lower"))["width"].to_numpy()
        width = float(spread.mean()) if spread.size else None
        rows.append((f"{low:.0%} to {high:.0%}".replace("%", " %"), f"{part.height:,}", plain(width)))
    return Table(
        headings=("Weight of own sales", "Items", "Mean width of the interval"),
        rows=tuple(rows),
        note="Single items stand in the model's elasticity table.",
    )


def comparison(part: BaselinePart, demand: DemandPart) -> pl.DataFrame:
    """Mean scores of every estimator, with the error of its elasticities where the truth is known; ours comes first."""
    means = mean_scores(_renamed(part.scores, part.ours))
    if part.elasticities is not None and demand.truth is not None:
        theirs = _renamed(part.elasticities, part.ours).select("estimator", "level", "name", "mean")
        if POSTERIOR not in set(theirs["estimator"]):
            ours = demand.elasticities.select(pl.lit(POSTERIOR).alias("estimator"), "level", "name", "mean")
            theirs = pl.concat([ours, theirs])
        errors = elasticity_errors(theirs, demand.truth)
        means = means.join(errors, on="estimator", how="full", coalesce=True, maintain_order="left_right")
    return means.sort(pl.col("estimator") != POSTERIOR, maintain_order=True)


def _renamed(table: pl.DataFrame, ours: str) -> pl.DataFrame:
    return table.with_columns(pl.col("estimator").replace({ours: POSTERIOR}))


def baseline_figures(part: BaselinePart, demand: DemandPart) -> tuple[Figure, ...]:
    """Two telling scores, the coverage of intervals, and the elasticities of all estimators side by side."""
    means = comparison(part, demand)
    figures = [_score_figure(means, score) for score in ("elasticity_error", "wape", "crps") if score in means.columns]
    figures = figures[:2]
    if {"coverage_50", "coverage_80", "coverage_95"} <= set(part.scores.columns):
        renamed = _renamed(part.scores, part.ours)
        figures.append(
            Figure(
                key="coverage",
                title="Do intervals hold what they promise?",
                caption="Share of later sales inside the predicted intervals. On the dashed line intervals are honest; "
                "below it too narrow, above it too wide.",
                chart=coverage_plot(renamed),
                table=Table(
                    headings=("Estimator", "Promised", "Seen"),
                    rows=tuple(
                        (name, percent(promised), percent(share, 1))
                        for name, promised, share in coverage_rows(renamed).rows()
                    ),
                ),
            )
        )
    if part.elasticities is not None:
        theirs = part.elasticities.filter(pl.col("estimator") != part.ours)
        if theirs.join(demand.elasticities, on=["level", "name"], how="semi").height:
            figures.append(_baseline_forest(theirs, demand))
    return tuple(figures)


def _score_figure(means: pl.DataFrame, score: str) -> Figure:
    meaning = SCORES[score]
    return Figure(
        key=f"score-{score}",
        title=meaning.label,
        caption=f"{meaning.hint.capitalize()}.",
        chart=score_plot(means, score),
        table=Table(
            headings=("Estimator", meaning.heading),
            rows=tuple((name, plain(value)) for name, value in means.select("estimator", score).rows()),
        ),
    )


def _baseline_forest(theirs: pl.DataFrame, demand: DemandPart) -> Figure:
    """Groups that some other estimator knows, ours beside theirs."""
    groups = demand.elasticities.join(theirs, on=["level", "name"], how="semi", maintain_order="left")
    labels = forest_rows(groups).select("level", "name", "label", "mean", "lower", "upper")
    columns = ["label", "estimator", "mean", "lower", "upper"]
    ours = labels.select(pl.lit(POSTERIOR).alias("estimator"), "label", "mean", "lower", "upper")
    known = labels.select("label", "level", "name").join(theirs, on=["level", "name"], maintain_order="left_right")
    both = pl.concat([ours.select(columns), known.select(columns)])
    order = {label: place for place, label in enumerate(labels["label"])}
    both = both.sort(pl.col("label").replace_strict(order, return_dtype=pl.Int64), maintain_order=True)
    rows = tuple((label, name, plain(mean), interval(low, high)) for label, name, mean, low, high in both.iter_rows())
    level = percent(float(groups["probability"][0]))
    truth = "" if demand.truth is None else " Dark ticks: the true values."
    return Figure(
        key="baseline-elasticities",
        title="The same elasticities, estimated by others",
        caption=f"Bars: {level} intervals, each of its own kind: credible for this model, as each estimator has them "
        f"for the others.{truth}",
        chart=elasticity_forest(groups, demand.truth, theirs),
        table=Table(headings=("Group", "Estimator", "Elasticity", f"{level} interval"), rows=rows),
    )


def decision_figures(decision: PriceDecision, elasticities: pl.DataFrame, period: str) -> tuple[Figure, ...]:
    """The odds of the whole portfolio, and which items move."""
    unit = outcome_unit(decision, period)
    draws = objective_draws(decision)
    level = percent(decision.portfolio.changes[decision.objective].probability)
    quantiles = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    shares = tuple(
        (percent(share), signed(float(value)))
        for share, value in zip(quantiles, np.quantile(draws, quantiles), strict=True)
    )
    return (
        Figure(
            key="portfolio",
            title=f"Change of {decision.objective} of the whole portfolio",
            caption=f"Each bar: a share of {len(draws):,} joint draws. The line on top: mean and {level} interval.",
            chart=portfolio_change_plot(decision, period),
            table=Table(headings=("Share of draws below", f"Change ({unit})"), rows=shares),
        ),
        Figure(
            key="overview",
            title="Which items move, and why",
            caption="One point per item: its change of price against how demand reacts to its price. "
            "Items to be tested first stand at the price to be tested.",
            chart=decision_overview_plot(decision, elasticities),
            table=_action_table(with_elasticity(decision_frame(decision), elasticities)),
        ),
    )


def _action_table(items: pl.DataFrame) -> Table:
    grouped = items.group_by("action").agg(
        pl.len(), (pl.col("move") > 0).sum().alias("up"), pl.col("move").mean(), pl.col("elasticity").mean()
    )
    rows = {
        action: (ACTION_WORDS[action], f"{n:,}", f"{up:,}", percent_change(move), plain(elasticity))
        for action, n, up, move, elasticity in grouped.rows()
    }
    headings = ("Action", "Items", "of these up", "Mean change of price", "Mean of posterior mean elasticities")
    return Table(headings=headings, rows=tuple(rows[action] for action in ACTION_WORDS if action in rows))


def story_figure(curve: PriceCurve, number: int) -> Figure:
    """The curve of one item's objective with its band."""
    every = max(1, -(-curve.points.height // MOST_CURVE_ROWS))
    outcome, level = curve.outcome.capitalize(), percent(curve.probability)
    rows = curve.points.sort("price").gather_every(every).select("price", "mean", "lower", "upper").rows()
    return Figure(
        key=f"curve-{number}",
        title=f"{outcome} at every price",
        caption=f"Line: mean; band: {level} interval; grey ground: prices seen in the data. "
        f"Beyond them the curve is extrapolation.{' The other prices stand as decided.' if curve.joint else ''}",
        chart=profit_curve_plot(curve),
        table=Table(
            headings=(f"Price ({curve.price_unit})", f"{outcome} ({curve.unit})", f"{level} interval"),
            rows=tuple((price(at), plain(mean), interval(low, high)) for at, mean, low, high in rows),
        ),
    )


def frontier_figure(points: Sequence[FrontierPoint], decision: PriceDecision, period: str) -> Figure:
    """Gain against risk, with the prices that lie on the frontier counted."""
    unit = outcome_unit(decision, period)
    tail = percent(decision.portfolio.shortfall_share)
    return Figure(
        key="frontier",
        title="Gain against risk",
        caption=f"Each point: the highest expected {decision.objective} for its risk, the mean loss over the worst "
        f"{tail} of draws (left is safer; below zero even those gain). The diamond: this decision.",
        chart=frontier_plot(points, decision, period),
        table=Table(
            headings=(
                f"Expected shortfall ({unit})",
                f"Expected change ({unit})",
                "Better than today",
                "Prices changed",
            ),
            rows=tuple(
                (
                    signed(point.expected_shortfall),
                    signed(point.objective),
                    odds(point.probability_better),
                    f"{point.changes:,}",
                )
                for point in points
            ),
        ),
    )


def trust_figures(trust: TrustPart) -> tuple[Figure, ...]:
    """Calibration of the model's own predictions, where it was looked at."""
    figures = []
    if trust.pit is not None:
        shares, low, high, rows = pit_bars(trust.pit)
        texts = tuple(
            (f"{5 * place} to {5 * place + 5} %", percent(float(share), 1), "yes" if low <= share <= high else "no")
            for place, share in enumerate(shares)
        )
        figures.append(
            Figure(
                key="pit",
                title="Are the predictions calibrated?",
                caption=f"Where {rows:,} sales fell in their own predictive distribution. Flat is right; a hump: "
                "intervals too wide, a valley: too narrow, a slope: predictions lean to one side. The band holds 98 % "
                "of the bars of a calibrated model.",
                chart=pit_histogram(trust.pit),
                table=Table(headings=("Predicted probability", "Share of rows", "Inside the band"), rows=texts),
            )
        )
    return tuple(figures)
