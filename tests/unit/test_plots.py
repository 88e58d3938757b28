from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.frontier import FrontierPoint
from bayes_pricing.reporting.decision_plots import (
    change_bins,
    decision_frame,
    decision_overview_plot,
    frontier_plot,
    portfolio_change_plot,
    profit_curve_plot,
)
from bayes_pricing.reporting.figures import frontier_figure
from bayes_pricing.reporting.plots import (
    elasticity_forest,
    forest_rows,
    response_bins,
    revenue_response_plot,
    shrinkage_plot,
)
from bayes_pricing.reporting.trust_plots import coverage_plot, pit_bars, pit_histogram, score_plot
from tests.reports import example_report

REPORT = example_report(items=120)
TABLE = REPORT.demand.elasticities


def spec_of(chart: alt.LayerChart) -> dict[str, Any]:
    """Validate the chart against Vega-Lite's schema and return its specification."""
    return dict(chart.to_dict(validate=True))


def rows_of(spec: dict[str, Any], layer: int) -> list[dict[str, Any]]:
    """Data behind one layer."""
    data = spec["layer"][layer].get("data", spec.get("data"))  # shared data stand at the top
    return list(spec["datasets"][data["name"]])


def forest_table(means: list[float]) -> pl.DataFrame:
    count = len(means)
    return pl.DataFrame(
        {
            "level": ["category"] * count,
            "name": [f"c{number}" for number in range(count)],
            "mean": means,
            "lower": [mean - 0.3 for mean in means],
            "upper": [mean + 0.3 for mean in means],
            "probability": [0.9] * count,
        }
    )


def test_forest_puts_the_population_first_and_sorts_by_value() -> None:
    labels = forest_rows(TABLE)["label"].to_list()
    means = forest_rows(TABLE)["mean"].to_list()
    assert labels[0] == "All items"
    assert len(labels) == 9
    assert means[1:] == sorted(means[1:])


@pytest.mark.parametrize(("groups", "drawn"), [(1, 1), (60, 60), (75, 60)])
def test_forest_draws_one_to_sixty_groups_and_keeps_the_ends(groups: int, drawn: int) -> None:
    means = np.linspace(-3.0, -0.5, groups).tolist()
    spec = spec_of(elasticity_forest(forest_table(means)))
    seen = [row["mean"] for row in rows_of(spec, 2)]
    assert len(seen) == drawn
    assert min(seen) == pytest.approx(min(means), rel=1e-4)  # charts carry five digits
    assert max(seen) == pytest.approx(max(means), rel=1e-4)


def test_forest_of_items_alone_shows_the_items() -> None:
    alone = TABLE.filter(pl.col("level") != "category").head(11)
    assert len(rows_of(spec_of(elasticity_forest(alone)), 2)) == 11


def test_forest_marks_the_truth_and_baselines_of_the_same_groups_only() -> None:
    assert REPORT.baselines is not None
    theirs = REPORT.baselines.elasticities
    assert theirs is not None
    stranger = theirs.head(1).with_columns(name=pl.lit("unknown"))
    spec = spec_of(elasticity_forest(TABLE, REPORT.demand.truth, pl.concat([theirs, stranger])))
    assert len(rows_of(spec, 2)) == 9 + 16
    assert {row["elasticity"] for row in rows_of(spec, 3)} >= {-1.8}
    assert len(rows_of(spec, 3)) == 9


def test_forest_survives_an_infinite_baseline_interval() -> None:
    table = forest_table([-2.0, -1.0])
    wild = table.select(
        pl.lit("pooled").alias("estimator"), "level", "name", pl.lit(None, dtype=pl.Float64).alias("mean"),
        pl.lit(-np.inf).alias("lower"), pl.lit(np.inf).alias("upper"),
    )  # fmt: skip
    spec = spec_of(elasticity_forest(table, baselines=wild))
    domain = spec["layer"][1]["encoding"]["x"]["scale"]["domain"]
    assert -3.0 < domain[0] < -2.2
    assert -0.7 < domain[1] < 0.0
    assert [row["lower"] for row in rows_of(spec, 1) if row["estimator"] == "pooled"] == [None, None]


def test_same_name_on_two_levels_gets_two_labels() -> None:
    table = pl.concat([forest_table([-2.0]), forest_table([-1.0]).with_columns(level=pl.lit("department"))])
    assert sorted(forest_rows(table)["label"]) == ["c0 (category)", "c0 (department)"]


def test_shrinkage_thins_evenly_and_says_so() -> None:
    many = pl.DataFrame(
        {
            "level": ["item"] * 5000,
            "name": [str(number) for number in range(5000)],
            "mean": np.full(5000, -2.0),
            "lower": np.full(5000, -3.0),
            "upper": np.full(5000, -1.0),
            "own_data_weight": np.linspace(0, 1, 5000),
            "prior_only": [False] * 5000,
        }
    )
    spec = spec_of(shrinkage_plot(many))
    weights = [row["own_data_weight"] for row in rows_of(spec, 0)]
    assert len(weights) == 1667
    assert weights[0] == 0.0
    assert weights[-1] > 0.999
    assert spec["title"]["subtitle"] == "5,000 items, 1 in 3 drawn; 0 whose price says nothing of its own"


def test_revenue_response_keeps_the_middle_of_each_distribution() -> None:
    draws = {"before": np.linspace(-0.5, 0.5, 1001), "after": np.full(1001, -0.1)}
    shares = response_bins(draws).group_by("draws").agg(pl.col("share").sum())
    known = dict(shares.rows())
    assert known["after"] == pytest.approx(1.0)
    assert known["before"] == pytest.approx(0.96, abs=0.01)  # the outer 1 % of the pooled draws on each side
    assert spec_of(revenue_response_plot(draws))["title"]["text"] == "Revenue after a price rise of +10 %"
    with pytest.raises(SpecError, match="finite"):
        revenue_response_plot({"bad": [float("nan")]})


def test_portfolio_bins_split_at_zero_and_hold_every_draw() -> None:
    draws = np.random.default_rng(1).normal(1.0, 1.0, 4000)
    bins = change_bins(draws)
    assert bins["share"].sum() == pytest.approx(1.0)
    loss = bins.filter(pl.col("side") == "worse than today")["share"].sum()
    assert loss == pytest.approx((draws < 0).mean(), abs=1e-12)
    with pytest.raises(SpecError, match="unknown is not zero"):
        change_bins([1.0, float("nan")])


@pytest.mark.parametrize("draws", [[0.0, 0.0], [5.0], [-3.0, -3.0]])
def test_portfolio_bins_of_a_single_value(draws: list[float]) -> None:
    assert change_bins(draws)["share"].sum() == pytest.approx(1.0)


def test_portfolio_plot_tells_mean_interval_and_odds() -> None:
    assert REPORT.decision is not None
    decision = REPORT.decision.decision
    draws = decision.portfolio.change_draws.sel(metric="profit").to_numpy()
    subtitle = spec_of(portfolio_change_plot(decision, "week"))["title"]["subtitle"]
    assert subtitle.startswith(f"mean +{decision.portfolio.changes['profit'].mean:.0f} [")
    assert "tokens per week" in subtitle
    assert f"loses in {100 * (draws < 0).mean():.0f} % of draws" in subtitle


def test_overview_has_every_item_and_puts_tests_at_the_tested_price() -> None:
    assert REPORT.decision is not None
    decision = REPORT.decision.decision
    rows = rows_of(spec_of(decision_overview_plot(decision, TABLE)), 1)
    assert len(rows) == 120
    frame = decision_frame(decision).filter(pl.col("action") == "test_first")
    tested = {row["item"]: row["price_change"] for row in rows if row["action"] == "test first"}
    for item, current, test in frame.select("item", "current_price", "test_price").rows():
        assert tested[item] == pytest.approx(test / current - 1.0, rel=1e-4, abs=1e-9)
    refused = [row["price_change"] for row in rows if row["action"] == "refused"]
    assert refused == [0.0] * decision.count("refused")


def test_profit_curve_marks_both_prices_inside_the_picture() -> None:
    assert REPORT.decision is not None
    curve = REPORT.decision.stories[0].curve
    spec = spec_of(profit_curve_plot(curve))
    texts = [row["text"] for layer in (4, 6) for row in rows_of(spec, layer)]
    assert texts == [f"today {curve.current_price:.2f}", f"recommended {curve.recommended_price:.2f}"]
    same = spec_of(profit_curve_plot(replace(curve, recommended_price=curve.current_price)))
    assert rows_of(same, 4)[0]["text"] == f"today and recommended {curve.current_price:.2f}"


def test_pit_band_holds_what_it_promises() -> None:
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(200):
        shares, low, high, _ = pit_bars(rng.uniform(size=500))
        inside.append(np.mean((shares >= low) & (shares <= high)))
    assert 0.97 < np.mean(inside) < 0.995  # 98 % per bar, a little more because counts are whole
    with pytest.raises(SpecError, match="not calibration"):
        pit_histogram([0.2, float("nan")])
    assert "20 bars" in spec_of(pit_histogram(rng.uniform(size=500)))["title"]["subtitle"]


def test_scores_are_drawn_best_first() -> None:
    assert REPORT.baselines is not None
    spec = spec_of(score_plot(REPORT.baselines.scores, "wape"))
    order = spec["layer"][0]["encoding"]["y"]["sort"]
    assert order == ["gradient boosting", "posterior", "fixed effects", "pooled"]
    assert rows_of(spec, 0)[0]["value"] == pytest.approx(0.605)
    with pytest.raises(SpecError, match="choose one of wape"):
        score_plot(REPORT.baselines.scores, "beauty")


def test_coverage_is_averaged_over_origins() -> None:
    assert REPORT.baselines is not None
    spec = spec_of(coverage_plot(REPORT.baselines.scores))
    boosted = [row["coverage"] for row in rows_of(spec, 1) if row["estimator"] == "gradient boosting"]
    assert boosted == pytest.approx([0.335, 0.585, 0.795])


def test_a_frame_without_a_needed_column_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"needs the columns \['upper'\]"):
        elasticity_forest(TABLE.drop("upper"))


def test_the_frontier_marks_this_decision_and_counts_its_points() -> None:
    assert REPORT.decision is not None
    decision = REPORT.decision.decision
    points = [
        FrontierPoint(
            max_shortfall=limit,
            objective=gain,
            upper_bound=gain,
            expected_shortfall=risk,
            expected_shortfall_held_out=None,
            probability_better=0.9,
            changes=changes,
        )
        for limit, gain, risk, changes in ((None, 900.0, 40.0, 12), (0.0, 700.0, 0.0, 9), (-20.0, 400.0, -20.0, 5))
    ]
    figure = frontier_figure(points, decision, "week")
    assert [row[0] for row in figure.table.rows] == ["+40.0", "0", "−20.0"]
    assert [row[3] for row in figure.table.rows] == ["12", "9", "5"]
    drawn = json.dumps(figure.chart.to_dict())
    assert '"this decision"' in drawn
    assert '"shortfall": -20' in drawn
    with pytest.raises(SpecError, match="at least one point"):
        frontier_plot([], decision)
