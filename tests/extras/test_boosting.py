"""XGBoost and LightGBM behind the baselines' protocol: right on known truth, falling in price, the same twice."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.baselines.inspection import partial_dependence
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.baselines.suite import build_estimator
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import RetailMarketSettings

NAMES = ("xgboost", "lightgbm")


@pytest.fixture(scope="module")
def rows() -> SalesRows:
    market = simulate_retail(RetailMarketSettings(categories=2, weeks=60), seed=1)
    return SalesRows(frame=market.sales, levels=("category",))


@pytest.fixture(scope="module")
def counts() -> SalesRows:
    rng = np.random.default_rng(3)
    price = rng.uniform(0.7, 1.4, (40, 60))
    frame = pl.DataFrame(
        {
            "item": np.repeat([f"i{n:02d}" for n in range(40)], 60),
            "period": np.tile(np.arange(60), 40),
            "price": price.ravel(),
            "quantity": rng.poisson(1.5 * price**-2.0).ravel().astype(np.float64),
        }
    )
    return SalesRows(frame=frame)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_elasticity_is_near_the_truth_in_logs_and_counts(
    name: str, rows: SalesRows, counts: SalesRows
) -> None:
    truth = simulate_retail(RetailMarketSettings(categories=2, weeks=60), seed=1).truth
    fitted = build_estimator(name, seed=1, refits=3).fit(rows)
    found = fitted.mean_elasticity(truth.items, truth.current_price, ["all"] * len(truth.items))
    # Trees flatten slopes, at the edges of the prices seen most: half of one is the room they get.
    assert found.mean[0] == pytest.approx(truth.elasticity.mean(), abs=0.5)
    items = [f"i{n:02d}" for n in range(40)]
    counted = build_estimator(name, seed=1, refits=3).fit(counts)
    mean = counted.mean_elasticity(items, np.ones(40), ["all"] * 40)
    assert mean.mean[0] == pytest.approx(-2.0, abs=0.5)
    assert mean.upper[0] <= 0.0
    assert "Poisson" in counted.name


@pytest.mark.parametrize("name", NAMES)
def test_units_never_rise_with_price(name: str, rows: SalesRows) -> None:
    fitted = build_estimator(name, seed=1, refits=2).fit(rows)
    curve = partial_dependence(fitted, rows.frame.head(200), np.linspace(0.5, 1.8, 27).tolist())["units"].to_numpy()
    assert (np.diff(curve) <= 1e-9 * curve[:-1]).all()
    assert curve[0] > 1.5 * curve[-1]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_numbers(name: str, rows: SalesRows) -> None:
    first, second = (build_estimator(name, seed=4, refits=2).fit(rows).predict_units(rows.frame) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_they_stand_beside_our_own_trees_in_one_comparison(rows: SalesRows) -> None:
    from bayes_pricing.baselines.suite import compare_estimators

    panel = SalesPanel.from_frame(rows.frame, ColumnRoles.resolve(rows.frame.columns, levels=("category",)))
    compared = compare_estimators(panel, ("boosted_trees", *NAMES), n_origins=1, horizon=8, seed=1)
    scores = dict(compared.table.select("estimator", "wape").iter_rows())
    assert list(scores) == ["boosted trees (log units)", "XGBoost (log units)", "LightGBM (log units)"]
    # The same loss, depth and number of trees: the scores of all three agree to a tenth.
    assert max(scores.values()) < 1.1 * min(scores.values())
