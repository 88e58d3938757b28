"""Baselines where prices follow demand: who uses instruments, who does not, and who says so."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.baselines.double_ml import DoubleMachineLearning
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.baselines.suite import UNINSTRUMENTED, build_estimator
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import Refusal, SpecError
from tests.endogenous import EndogenousMarket, simulate_endogenous


@pytest.fixture(scope="module")
def market() -> EndogenousMarket:
    return simulate_endogenous(seed=4, items=20, weeks=30, instruments=1)


def rows_of(frame: pl.DataFrame, instrument: str) -> SalesRows:
    return SalesRows(frame=frame, levels=("category",), shared_controls=("season",), instruments=(instrument,))


def test_double_machine_learning_with_an_instrument_is_right_where_it_is_wrong_without(
    market: EndogenousMarket,
) -> None:
    rows = rows_of(market.frame, "cost0")
    items = market.frame["item"].unique().sort().to_list()
    fitted = [DoubleMachineLearning(seed=1, splits=1, instrumented=how).fit(rows) for how in (True, False)]
    assert [one.name for one in fitted] == [
        "double machine learning (log units, instrumented)",
        "double machine learning (log units)",
    ]
    found, biased = (one.mean_elasticity(items, [3.0] * len(items), ["all"] * len(items)) for one in fitted)
    truth = float(market.elasticity.mean())
    error = (found.upper[0] - found.lower[0]) / (2 * 1.7)
    assert abs(found.mean[0] - truth) < 3.5 * error  # one number, two-sided 0.05 %
    assert biased.lower[0] > truth + 0.3
    assert found.upper[0] < biased.mean[0]


@pytest.mark.parametrize("name", ["posterior", "double_ml"])
def test_an_instrument_that_hardly_moves_the_price_is_refused(market: EndogenousMarket, name: str) -> None:
    luck = np.random.default_rng(1).standard_normal(market.frame.height)
    with pytest.raises(Refusal) as refused:
        build_estimator(name, seed=1).fit(rows_of(market.frame.with_columns(luck=luck), "luck"))
    assert "weak_instrument" in [finding.code for finding in refused.value.findings]


def test_who_takes_prices_as_given_has_a_name_of_its_own() -> None:
    with pytest.raises(SpecError, match=", ".join(UNINSTRUMENTED)):
        build_estimator("uninstrumented", seed=1)


def test_rows_have_the_columns_that_a_fit_would_build() -> None:
    rng = np.random.default_rng(2)
    sales = pl.DataFrame(
        {
            "item": ["tea"] * 40,
            "period": range(40),
            "list_price": np.exp(0.2 * rng.standard_normal(40)),
            "rival": [2.0, 4.0] * 20,
            "quantity": 9.0,
        }
    ).with_columns(price=pl.col("list_price") * pl.Series([1.0, 0.8] * 20))
    roles = ColumnRoles.resolve(sales.columns, competitor_prices=("rival",), instruments=())
    rows = SalesRows.from_panel(SalesPanel.from_frame(sales, roles))
    assert rows.controls == ("log_rival", "promotion")
    assert rows.frame["promotion"].head(2).round(6).to_list() == [0.0, round(-np.log(0.8), 6)]
    assert rows.frame["log_rival"].head(2).round(6).to_list() == [round(np.log(2.0), 6), round(np.log(4.0), 6)]
