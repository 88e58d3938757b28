from __future__ import annotations

import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.baselines.boosting import BoostedTrees
from bayes_pricing.baselines.evaluation import compare_elasticities, evaluate, rolling_origin, score_forecast
from bayes_pricing.baselines.leakage import LeakageError
from bayes_pricing.baselines.linear import LinearDemand
from bayes_pricing.baselines.protocol import Baseline, Elasticities, SalesRows
from bayes_pricing.errors import SpecError


def sales(n_items: int = 30, n_periods: int = 24) -> SalesRows:
    rng = np.random.default_rng(8)
    item = np.repeat(np.arange(n_items), n_periods)
    price = rng.choice([4.0, 4.5, 5.0, 5.5, 6.0], item.size)
    slope = np.where(item % 2 == 0, -1.0, -3.0)
    mean = np.exp(rng.normal(1.5, 0.6, n_items)[item] + slope * np.log(price / 5))
    frame = pl.DataFrame(
        {
            "item": [f"i{code:02d}" for code in item],
            "category": np.where(item % 2 == 0, "even", "odd"),
            "period": np.tile(np.arange(n_periods), n_items),
            "price": price,
            "quantity": rng.poisson(mean).astype(float),
            "display": rng.integers(0, 2, item.size),
        }
    )
    return SalesRows(frame=frame, levels=("category",), shared_controls=("display",))


def test_origins_never_train_on_what_they_test() -> None:
    frame = sales().frame.sample(fraction=1.0, shuffle=True, seed=2)
    windows = list(rolling_origin(frame, 3, 4))
    assert [(train["period"].max(), test["period"].min(), test["period"].max()) for train, test in windows] == [
        (11, 12, 15),
        (15, 16, 19),
        (19, 20, 23),
    ]
    assert [train.height for train, _ in windows] == [30 * 12, 30 * 16, 30 * 20]


def test_too_few_periods_or_none_are_refused() -> None:
    with pytest.raises(SpecError, match="fewer origins"):
        next(rolling_origin(sales().frame, 6, 4))
    with pytest.raises(SpecError, match="needs a period"):
        next(rolling_origin(sales().frame.drop("period"), 1, 1))
    with pytest.raises(SpecError, match="at least 1"):
        next(rolling_origin(sales().frame, 0, 1))


def test_one_row_per_estimator_and_origin_and_item_effects_beat_pooling() -> None:
    baselines: list[Baseline] = [LinearDemand(pooling="pooled"), LinearDemand(), BoostedTrees(seed=1, refits=2)]
    table = evaluate(baselines, sales(), n_origins=2, horizon=4, seed=1)
    assert table["origin"].to_list() == [16, 16, 16, 20, 20, 20]
    assert table["estimator"].n_unique() == 3
    assert table["rmse_log_units"].null_count() == 6  # some rows sold nothing
    crps = dict(table.group_by("estimator").agg(pl.col("crps").mean()).iter_rows())
    assert crps["item fixed effects (Poisson)"] < 0.8 * crps["pooled regression (Poisson)"]
    within = table.filter(pl.col("estimator") == "item fixed effects (Poisson)")
    assert within["coverage_95"].min() > 0.92  # type: ignore[operator]  # 240 counts: sd of the share 0.014
    assert (within["width_50"] < within["width_80"]).all()
    assert (within["directional_accuracy"] > 0.6).all()


def test_the_same_seed_gives_the_same_table() -> None:
    first, again = (evaluate([LinearDemand()], sales(), n_origins=1, horizon=4, seed=5).drop("seconds") for _ in "ab")
    assert first.equals(again)


def test_a_leaking_control_stops_the_evaluation() -> None:
    rows = sales()
    frame = rows.frame.with_columns(heads=pl.col("quantity") * 2.0)
    leaking = SalesRows(frame=frame, levels=("category",), controls=("heads",))
    with pytest.raises(LeakageError, match="'heads' is the units sold in the same period"):
        evaluate([LinearDemand()], leaking, n_origins=1, horizon=4, seed=1)


def test_direction_starts_from_the_last_training_row() -> None:
    frame = pl.DataFrame(
        {
            "item": ["a"] * 3 + ["b"] * 3,
            "period": [1, 2, 3] * 2,
            "price": [1.0, 2.0, 1.0, 1.0, 1.0, 2.0],
            "quantity": [4.0, 2.0, 4.0, 4.0, 4.0, 5.0],
        }
    )
    train, test = next(rolling_origin(frame, 1, 1))
    scores = score_forecast(SalesRows(frame=train), test, lambda rows: 4 / rows["price"].to_numpy(), np.ones((2, 2)))
    assert scores["directional_accuracy"] == 0.5  # a's units rose as its price fell; b's rose with its price


def test_the_comparison_has_a_row_per_estimator_and_unit() -> None:
    rows = sales(n_items=60)
    items = rows.frame.group_by("item", "category").agg(pl.lit(5.0).alias("current_price")).sort("item")
    fitted = [LinearDemand().fit(rows), LinearDemand(pooling="separate").fit(rows)]
    table = compare_elasticities(fitted, items, ["category"])
    assert table.select("estimator", "level", "name").rows() == [
        (estimator.name, *unit)
        for estimator in fitted
        for unit in [("population", "population"), ("category", "even"), ("category", "odd")]
    ]
    assert table["items"].to_list()[:3] == [60, 30, 30]
    population, even, odd = table["mean"].to_list()[:3]
    assert_allclose(population, (even + odd) / 2)
    assert_allclose([even, odd], [-1.0, -3.0], atol=0.6)  # four standard errors
    with pytest.raises(SpecError, match="current_price"):
        compare_elasticities(fitted, items.drop("current_price"), ["category"])


def test_elasticities_check_their_shape() -> None:
    draws = np.zeros((5, 2))
    with pytest.raises(SpecError, match="different lengths"):
        Elasticities.from_draws(["only one"], draws, probability=0.9, interval_kind="credible")


def test_importing_the_room_loads_no_learner() -> None:
    code = (
        "import sys, bayes_pricing.baselines.evaluation, bayes_pricing.baselines.boosting, "
        "bayes_pricing.baselines.leak_demonstration; "
        "sys.exit(any(name in sys.modules for name in ('sklearn', 'pymc', 'pytensor', 'nutpie')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
