"""The retail market: its truth is the generator's own, and each scenario has the trouble it is named after."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.retail import simulate_retail, write_retail
from simulations.markets.retail_settings import SCENARIOS, RetailMarketSettings, retail_scenario
from simulations.markets.retail_truth import (
    log_expected_units,
    retail_elasticities,
    retail_optimal_prices,
    retail_profit,
)

STEP = 1e-5


def within_slope(sales: pl.DataFrame, *more: str) -> float:
    """Slope of log units in log price within items, `more` columns held fixed."""
    logs = sales.with_columns(x=pl.col("price").log(), y=pl.col("quantity").log())
    centred = logs.select((pl.col(name) - pl.col(name).mean().over("item")).alias(name) for name in ("y", "x", *more))
    found, *_ = np.linalg.lstsq(centred.drop("y").to_numpy(), centred["y"].to_numpy(), rcond=None)
    return float(found[0])


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_true_elasticities_are_the_slopes_of_expected_demand(name: str) -> None:
    truth = simulate_retail(retail_scenario(name), seed=3).truth
    up, down = (np.tile(truth.current_price, (len(truth.items), 1)) for _ in range(2))
    np.fill_diagonal(up, truth.current_price * np.exp(STEP))
    np.fill_diagonal(down, truth.current_price * np.exp(-STEP))
    slopes = (log_expected_units(truth, up) - log_expected_units(truth, down)) / (2 * STEP)
    assert_allclose(np.diag(slopes), truth.elasticity, atol=1e-6)
    assert_allclose(slopes.T - np.diag(np.diag(slopes)), truth.cross, atol=1e-6)


@pytest.mark.parametrize("name", ["base", "substitutes", "drift"])
def test_no_prices_in_range_earn_more_than_the_oracle(name: str) -> None:
    truth = simulate_retail(retail_scenario(name), seed=4).truth
    best = retail_profit(truth, retail_optimal_prices(truth, 13.0), 13.0)[0].sum()
    rng = np.random.default_rng(1)
    place = rng.random((400, len(truth.items)))
    anywhere = truth.lowest_price * (truth.highest_price / truth.lowest_price) ** place
    near = np.clip(
        retail_optimal_prices(truth, 13.0) * np.exp(rng.normal(0, 0.02, place.shape)),
        truth.lowest_price,
        truth.highest_price,
    )
    assert all(retail_profit(truth, row, 13.0)[0].sum() <= best * (1 + 1e-9) for row in (*anywhere, *near))


def test_without_substitutes_the_oracle_meets_lerner() -> None:
    truth = simulate_retail(RetailMarketSettings(), seed=2).truth
    best = retail_optimal_prices(truth)
    inside = (best > truth.lowest_price) & (best < truth.highest_price)
    assert inside.sum() > 20
    margin = (best - truth.unit_cost) / best
    assert_allclose(margin[inside], -1 / truth.elasticity[inside], rtol=1e-9)


def test_base_sales_show_the_mean_true_elasticity() -> None:
    market = simulate_retail(RetailMarketSettings(stores=10), seed=5)
    # 240 items x 78 weeks, noise 0.3, price sd 0.14: standard error of a common slope about 0.016, of the mean over
    # items (sd 0.7, weighted unequally) about 0.05
    assert abs(within_slope(market.sales) - market.truth.elasticity.mean()) < 0.2


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("endogenous", 0.6, 1.6), ("stock-outs", 0.5, 1.3), ("drift", 0.2, 0.6), ("composition", -1.6, -0.4)],
)
def test_each_trouble_bends_the_naive_elasticity(name: str, least: float, most: float) -> None:
    """By hand: 0.4 x 0.09 over 0.035 of price variance is 1.0; half of a drift of -0.8 is 0.4; the others by sign."""
    market = simulate_retail(retail_scenario(name), seed=6)
    bias = within_slope(market.sales) - float(market.truth.elasticity.mean())
    assert least < bias < most


def test_a_display_is_what_a_promotion_adds() -> None:
    market = simulate_retail(retail_scenario("promotion"), seed=7)
    with_display = within_slope(market.sales, "display")
    mean = float(market.truth.elasticity.mean())
    assert abs(with_display - mean) < 0.25
    assert within_slope(market.sales) < with_display - 0.5  # a promotion's display is taken for its price


def test_stock_outs_end_sales_in_the_share_asked_for() -> None:
    sales = simulate_retail(retail_scenario("stock-outs"), seed=8).sales
    assert 0.2 < float(sales["sold_out"].sum()) / sales.height < 0.3


def test_the_same_seed_gives_the_same_rows_and_levels_their_means() -> None:
    first, again = (simulate_retail(RetailMarketSettings(), seed=9) for _ in range(2))
    assert first.sales.equals(again.sales)
    table = retail_elasticities(first.truth)
    assert table["level"].unique(maintain_order=True).to_list() == ["item", "product", "category", "population"]
    spread = first.truth.elasticity - first.truth.product_mean[first.truth.product]
    assert 0.1 < spread.std() < 0.2  # 0.15 over 48 items


def test_files_hold_sales_and_truth_apart(tmp_path: Path) -> None:
    market = simulate_retail(RetailMarketSettings(), seed=1)
    sales, truth = write_retail(market, tmp_path / "market")
    assert pl.read_parquet(sales).equals(market.sales)
    document = json.loads(truth.read_text())
    assert document["elasticity"] == market.truth.elasticity.tolist()
    with pytest.raises(StorageError, match=r"holds sales\.parquet, truth\.json already"):
        write_retail(market, tmp_path / "market")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(SpecError, match="choose base, endogenous"):
        retail_scenario("chaos")
    with pytest.raises(SpecError, match=r"price_step_sd is 2\.0"):
        RetailMarketSettings(price_step_sd=2.0)
    with pytest.raises(SpecError, match="every pair may be substitutes"):
        RetailMarketSettings(stores=200)
    with pytest.raises(SpecError, match="seed is -1"):
        simulate_retail(RetailMarketSettings(), seed=-1)
