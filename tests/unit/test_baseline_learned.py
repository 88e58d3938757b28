"""Curves, forests, ensembles and double machine learning on sales whose elasticities are known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.baselines.double_ml import DoubleMachineLearning
from bayes_pricing.baselines.inspection import partial_dependence, permutation_importance
from bayes_pricing.baselines.learned import LearnedDemand
from bayes_pricing.baselines.protocol import Baseline, SalesRows
from bayes_pricing.baselines.regressors import Learner
from bayes_pricing.baselines.suite import build_estimator
from bayes_pricing.errors import Refusal, SpecError


def sales(seed: int = 1, *, zeros: bool = False, confounded: bool = False, bend: float = 0.0) -> SalesRows:
    """40 items in two categories, elasticities -1 and -3 at the centre, `bend` times the squared log ratio added."""
    rng = np.random.default_rng(seed)
    item, period = np.repeat(np.arange(40), 40), np.tile(np.arange(40), 40)
    season = 0.4 * np.sin(2 * np.pi * period / 13)
    x = rng.normal(0, 0.2, item.size) + (season if confounded else 0.0)
    slope = np.where(item % 2 == 0, -1.0, -3.0)
    level = rng.normal(1.0 if zeros else 4.5, 0.5, 40)[item]
    mean = np.exp(level + slope * x + bend * x**2 + (season if confounded else 0.0))
    units = rng.poisson(mean) if zeros else mean * np.exp(rng.normal(0, 0.1, item.size))
    frame = pl.DataFrame(
        {
            "item": [f"i{code:02d}" for code in item],
            "category": np.where(item % 2 == 0, "even", "odd"),
            "period": period,
            "price": 5.0 * np.exp(x),
            "quantity": units.astype(float),
        }
    )
    return SalesRows(frame=frame, levels=("category",))


def category_means(estimator: Baseline, rows: SalesRows, at: float = 5.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    fitted = estimator.fit(rows)
    items = rows.frame["item"].unique().sort().to_list()
    groups = ["even" if int(item[1:]) % 2 == 0 else "odd" for item in items]
    found = fitted.mean_elasticity(items, np.full(40, at), groups)
    return found.mean, found.lower, found.upper


@pytest.mark.parametrize("learner", ["quadratic", "cubic", "gam"])
@pytest.mark.parametrize("zeros", [False, True])
def test_curves_recover_category_elasticities(learner: Learner, zeros: bool) -> None:
    mean, lower, upper = category_means(LearnedDemand(learner=learner, seed=1, refits=4), sales(zeros=zeros))
    assert_allclose(mean, [-1.0, -3.0], atol=0.25)  # 800 rows a category, sd of log price 0.2
    assert (lower < mean).all()
    assert (mean < upper).all()


@pytest.mark.parametrize("learner", ["random_forest", "ensemble"])
def test_trees_come_near(learner: Learner) -> None:
    mean, _lower, _upper = category_means(LearnedDemand(learner=learner, seed=1, refits=2), sales())
    assert_allclose(mean, [-1.0, -3.0], atol=0.7)  # leaves of 20 rows flatten the slope inside +-10 %


def test_a_bent_curve_is_seen_by_the_parabola() -> None:
    rows = sales(bend=2.0)
    cheap, _lower, _upper = category_means(LearnedDemand(learner="quadratic", seed=1, refits=2), rows, at=4.0)
    dear, _lower, _upper = category_means(LearnedDemand(learner="quadratic", seed=1, refits=2), rows, at=6.0)
    assert_allclose(dear - cheap, 2 * 2.0 * np.log(6 / 4), atol=0.4)  # derivative of 2 x^2


@pytest.mark.parametrize("zeros", [False, True])
def test_double_ml_removes_what_moves_price_and_sales_together(zeros: bool) -> None:
    """Periods in which all prices and all sales are high: period effects take them away, for counts too."""
    rows = sales(seed=2, zeros=zeros, confounded=True)
    mean, lower, upper = category_means(DoubleMachineLearning(seed=1, splits=3), rows)
    assert_allclose(mean, [-1.0, -3.0], atol=0.45 if zeros else 0.15)
    plain, _lower, _upper = category_means(build_estimator("item_effects", seed=1), rows)
    assert (plain > mean + 0.2).all()
    assert ((lower < mean) & (mean < upper)).all()


def test_double_ml_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for seed in range(12):
        _mean, lower, upper = category_means(DoubleMachineLearning(seed=1, splits=1), sales(seed=seed))
        held += ((lower < [-1.0, -3.0]) & (upper > [-1.0, -3.0])).tolist()
    assert np.mean(held) > 0.7  # 24 intervals of 90 %: fewer than 17 hold with probability 0.003


def test_double_ml_refuses_more_folds_than_items() -> None:
    rows = sales()
    few = rows.with_frame(rows.frame.filter(pl.col("item").is_in(["i00", "i01", "i02"])))
    with pytest.raises(Refusal, match="3 items and 5 folds"):
        DoubleMachineLearning(seed=1).fit(few)


def test_predictions_of_new_items_are_their_categorys() -> None:
    rows = sales()
    new = pl.DataFrame(
        {"item": ["new"] * 2, "category": ["odd"] * 2, "period": [40, 40], "price": [5.0, 5.0 * np.exp(0.2)]}
    )
    for name in ("gam", "double_ml"):
        low, high = np.log(build_estimator(name, seed=1, refits=2).fit(rows).predict_units(new))
        assert_allclose(high - low, -0.6, atol=0.1)


def test_importance_finds_the_price_and_not_the_useless_column() -> None:
    rows = sales()
    noise = np.random.default_rng(3).normal(size=rows.frame.height)
    more = SalesRows(
        frame=rows.frame.with_columns(useless=pl.Series(noise)), levels=("category",), controls=("useless",)
    )
    fitted = LearnedDemand(learner="gam", seed=1, refits=2).fit(more)
    table = permutation_importance(fitted, more, repeats=2, seed=1)
    score = dict(table.select("feature", "importance").iter_rows())
    assert table["feature"][0] == "price"
    assert score["price"] > 10 * abs(score["useless"])


def test_partial_dependence_falls_as_the_elasticity_says() -> None:
    rows = sales()
    odd = rows.frame.filter(pl.col("category") == "odd")
    fitted = build_estimator("item_effects", seed=1).fit(rows)
    curve = partial_dependence(fitted, odd, [1.0, 1.1])["units"].to_numpy()
    assert_allclose(np.log(curve[1] / curve[0]) / np.log(1.1), -3.0, atol=0.1)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SpecError, match="choose posterior, pooled"):
        build_estimator("oracle", seed=1)
    with pytest.raises(SpecError, match="choose one of"):
        LearnedDemand(learner="magic", seed=1)  # type: ignore[arg-type]
