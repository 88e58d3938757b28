"""The course market: its truth is what it says, and its accounts balance to the token."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy
import xarray as xr

from bayes_pricing.data.economy import create_economy, read_course_sales, read_economy_metrics, write_economy
from bayes_pricing.data.economy_schema import METADATA
from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.course_ledger import PACK_TOKENS, REFUND_DAYS
from simulations.markets.course_optimum import expected_profit, optimal_prices
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.course_truth import (
    current_prices,
    expected_units,
    read_truth,
    true_elasticities,
    true_propensities,
    write_truth,
)
from simulations.markets.courses import CourseMarket, simulate_courses, write_market

SMALL = CourseMarketSettings(learners=2_000, teachers=20, courses=60, expected_enrollments=6_000)


@pytest.fixture(scope="module")
def market() -> CourseMarket:
    return simulate_courses(SMALL, seed=7)


@pytest.fixture(scope="module")
def default_market() -> CourseMarket:
    return simulate_courses(CourseMarketSettings(), seed=3)


def test_true_elasticities_are_slopes_of_expected_demand(market: CourseMarket) -> None:
    truth, step = market.truth, 1e-4
    today = current_prices(truth)
    nudge = xr.DataArray(step * np.eye(len(truth.items)), dims=("changed", "item"), coords={"item": list(truth.items)})
    up, down = (expected_units(truth, today * np.exp(sign * nudge)).transpose("changed", "item") for sign in (1, -1))
    slope = np.diagonal(np.log(up.to_numpy() / down.to_numpy())) / (2 * step)
    rows = true_elasticities(truth).filter(pl.col("level") == "item")
    assert rows["name"].to_list() == list(truth.items)
    # Central differences err by about step^2 / 6 times the third derivative, of order 1e-8 here.
    np.testing.assert_allclose(slope, rows["elasticity"].to_numpy(), atol=1e-6)


def test_elasticity_bends_only_mildly_with_price(market: CourseMarket) -> None:
    truth, step = market.truth, 1e-4
    for factor in (0.75, 1.33):
        at = current_prices(truth)
        first = truth.items[0]
        low, high = (
            float(
                np.log(
                    expected_units(truth, at.where(at["item"] != first, factor * float(at[0]) * np.exp(s))).sel(
                        item=first
                    )
                )
            )
            for s in (-step, step)
        )
        # A mixture of six slopes with sd about 0.25 bends by their variance (0.06) per unit of log price.
        assert abs((high - low) / (2 * step) - truth.elasticity[0]) < 0.1


def test_expected_total_is_what_was_asked_for(market: CourseMarket) -> None:
    truth = market.truth
    posted = market.sales().pivot(on="item", index="period", values="price").drop("period")
    prices = xr.DataArray(posted.to_numpy(), dims=("period", "item"), coords={"item": posted.columns})
    expected = expected_units(truth, prices)
    assert float(expected.sum()) == pytest.approx(SMALL.expected_enrollments, rel=1e-9)
    sold = market.sales().pivot(on="item", index="period", values="quantity").drop("period").to_numpy()
    assert sold.sum() != SMALL.expected_enrollments
    # Counts are nearly Poisson, so (sold - expected)^2 / expected has mean 1; its sum over 3,120 cells of mean 1.9 has
    # a relative sd of about sqrt((2 + 1/1.9) / 3120) = 0.03, more where cells are small: five of them.
    chi_square = float(((sold - expected.to_numpy()) ** 2 / expected.to_numpy()).sum()) / sold.size
    assert chi_square == pytest.approx(1.0, abs=0.15)


def test_prices_vary_as_promised_and_today_is_the_last_week(default_market: CourseMarket) -> None:
    sales = default_market.sales()
    per_item = sales.group_by("item").agg(
        pl.col("price").log().std(ddof=0).alias("sd"),
        pl.col("price").n_unique().alias("points"),
        pl.col("price").sort_by("period").rle().struct.field("len").min().alias("held"),
        pl.col("price").sort_by("period").last().alias("today"),
    )
    assert sales.height == 2_000 * 52
    assert per_item["sd"].to_numpy().min() >= 0.25
    assert per_item["points"].to_numpy().min() >= 7
    assert per_item["held"].to_numpy().min() >= 3
    assert per_item.sort("item")["today"].to_list() == default_market.truth.current_price.tolist()
    assert (default_market.tables["course_prices"]["price_tokens"] % 20 == 0).all()


def test_default_market_draws_elasticities_from_its_distributions(default_market: CourseMarket) -> None:
    truth = default_market.truth
    table = true_elasticities(truth)
    assert table.group_by("level", maintain_order=True).len()["len"].to_list() == [2_000, 16, 1]
    deviation = truth.elasticity - truth.category_mean[truth.category]
    # Sds of 2,000 and 16 normal draws: relative error 1.6 % and 18 %; four of each.
    assert deviation.std() == pytest.approx(0.5, rel=0.064)
    assert (truth.category_mean - SMALL.elasticity_mean).std() == pytest.approx(0.35, rel=0.72)
    assert (truth.category_mean < -1).all()
    categories = table.filter(pl.col("level") == "category")
    # A category's mean of 125 members is 0.5 / sqrt(125) = 0.045 from the mean they are drawn from.
    assert ((categories["elasticity"] - categories["mean_of_members"]).abs() < 0.2).all()
    total = default_market.tables["enrollments"].height
    assert total == pytest.approx(50_000, abs=5 * 50_000**0.5)


def test_best_prices_meet_the_first_order_condition(default_market: CourseMarket) -> None:
    truth = default_market.truth
    best = optimal_prices(truth, stretch=2.0)
    price = best["optimal_price"].to_numpy()
    profit, derivative = expected_profit(truth, price)
    inside = (best["at"] == "inside").to_numpy()
    assert 0.3 < inside.mean() < 1.0
    np.testing.assert_allclose(derivative[inside], 0, atol=1e-8)
    assert (derivative[(best["at"] == "highest").to_numpy()] >= 0).all()
    assert (derivative[(best["at"] == "lowest").to_numpy()] <= 0).all()
    for factor in np.linspace(0.5, 2.0, 31):
        other = np.clip(factor * price, truth.lowest_price / 2, truth.highest_price * 2)
        assert (expected_profit(truth, other)[0] <= profit * (1 + 1e-12)).all()


def test_profit_of_one_course_agrees_with_expected_demand_of_all(market: CourseMarket) -> None:
    truth = market.truth
    item, price = truth.items[5], 1.2 * truth.current_price[5]
    prices = current_prices(truth)
    prices.loc[{"item": item}] = price
    units = float(expected_units(truth, prices).sel(item=item))
    own = truth.current_price.copy()
    own[5] = price
    kept = price * (1 - 0.04) * (1 - 0.7)
    assert expected_profit(truth, own)[0][5] == pytest.approx(units * (kept - truth.unit_cost[5]), rel=1e-12)


def test_propensities_add_up_to_expected_demand(market: CourseMarket) -> None:
    truth = market.truth
    table = true_propensities(truth)
    total = float(expected_units(truth, current_prices(truth)).sum())
    assert table["purchase_probability"].sum() == pytest.approx(total, rel=1e-12)
    step = 1e-5
    up, down = (float(expected_units(truth, current_prices(truth) * np.exp(s)).sum()) for s in (step, -step))
    elasticity = table["price_elasticity"].to_numpy()
    weighted = (elasticity * table["purchase_probability"].to_numpy()).sum() / total
    assert weighted == pytest.approx((np.log(up) - np.log(down)) / (2 * step), abs=1e-7)


def test_nobody_buys_twice_in_a_week(market: CourseMarket) -> None:
    enrollments = market.tables["enrollments"]
    assert enrollments.select("learner_id", "week_start").is_duplicated().sum() == 0
    late = enrollments.filter(pl.col("enrolled_on") > pl.col("week_start") + pl.duration(days=6))
    assert late.height == 0
    posted = enrollments.join(market.tables["course_prices"], on=["course_id", "week_start"], suffix="_posted")
    assert posted.height == enrollments.height
    assert (posted["price_tokens"] == posted["price_tokens_posted"]).all()


def test_ledger_reconciles_with_enrollments(market: CourseMarket) -> None:
    ledger, enrollments = market.tables["token_transactions"], market.tables["enrollments"]
    by_enrollment = ledger.filter(pl.col("kind") != "purchase").pivot(on="kind", index="enrollment_id", values="tokens")
    rows = enrollments.join(by_enrollment, on="enrollment_id", how="left")
    assert rows.height == enrollments.height
    assert (rows["spend"] == -rows["price_tokens"]).all()
    given_back = rows.filter(pl.col("refunded_on").is_not_null())
    assert (given_back["refund"] == given_back["price_tokens"]).all()
    assert given_back["payout"].null_count() == given_back.height > 100
    settled = pl.col("enrolled_on") + pl.duration(days=REFUND_DAYS) <= SMALL.last_day
    kept = rows.filter(pl.col("refunded_on").is_null())
    assert kept["refund"].null_count() == kept.height
    paid = kept.filter(settled)
    assert (paid["payout"] * 10 == paid["price_tokens"] * 7).all()
    assert kept.filter(~settled)["payout"].null_count() == kept.filter(~settled).height > 0
    assert ledger.filter(pl.col("happened_on") > SMALL.last_day).height == 0


def test_no_balance_is_ever_negative_and_packs_are_the_fewest(market: CourseMarket) -> None:
    ledger = market.tables["token_transactions"].filter(pl.col("learner_id").is_not_null())
    balance = ledger.select(pl.col("tokens").cum_sum().over("learner_id", order_by="transaction_id"))
    assert balance["tokens"].to_numpy().min() >= 0
    after_purchase = ledger.with_columns(
        pl.col("tokens").cum_sum().over("learner_id", order_by="transaction_id").alias("balance"),
        pl.col("tokens").shift(-1).over("learner_id", order_by="transaction_id").alias("next"),
    ).filter(pl.col("kind") == "purchase")
    # What is left after the spend a pack was bought for is less than a pack.
    left = (after_purchase["balance"] + after_purchase["next"]).to_numpy()
    assert 0 <= left.min() <= left.max() < PACK_TOKENS
    assert (after_purchase["cents"] == after_purchase["tokens"]).all()


def test_daily_metrics_are_the_sums_of_the_tables(market: CourseMarket, tmp_path: Path) -> None:
    days, enrollments = market.tables["daily_platform_metrics"], market.tables["enrollments"]
    assert days["day"].to_list() == [SMALL.first_week + timedelta(days=n) for n in range(364)]
    assert days["enrollments"].sum() == enrollments.height
    assert days["tokens_spent"].sum() == enrollments["price_tokens"].sum()
    held = market.tables["token_transactions"].filter(pl.col("learner_id").is_not_null())["tokens"].sum()
    assert days["tokens_outstanding"][-1] == held
    assert (days["tokens_outstanding"] >= 0).all()
    files = write_market(market, tmp_path / "market")
    window = days.slice(40, 30)
    metrics = read_economy_metrics(files.database, window["day"][0], window["day"][-1])
    for column in ("enrollments", "refunds", "tokens_spent", "tokens_bought", "tokens_refunded", "tokens_paid_out"):
        assert getattr(metrics, column) == window[column].sum(), column
    assert metrics.cash_in == window["cash_in_cents"].sum() / 100


def test_written_market_reads_back_the_same(market: CourseMarket, tmp_path: Path) -> None:
    files = write_market(market, tmp_path / "market")
    assert read_course_sales(files.database).collect().equals(market.sales())
    assert pl.read_parquet(files.sales).equals(market.sales())
    truth = read_truth(files.truth)
    assert truth.settings == market.truth.settings
    np.testing.assert_array_equal(truth.sensitivity, market.truth.sensitivity)
    today = current_prices(truth)
    assert expected_units(truth, today).identical(expected_units(market.truth, current_prices(market.truth)))
    with pytest.raises(StorageError, match=r"holds market\.db, truth\.json, sales\.parquet already"):
        write_market(market, tmp_path / "market")


@pytest.mark.slow
def test_default_size_is_made_and_written_in_under_twenty_seconds(tmp_path: Path) -> None:
    start = time.monotonic()
    market = simulate_courses(CourseMarketSettings(), seed=4)
    files = write_market(market, tmp_path / "market")
    # About 5 s on two idle cores; the limit is the product's.
    assert time.monotonic() - start < 20
    assert read_course_sales(files.database).collect().equals(market.sales())


def test_same_seed_same_bytes_other_seed_other_rows(market: CourseMarket, tmp_path: Path) -> None:
    again, other = simulate_courses(SMALL, seed=7), simulate_courses(SMALL, seed=8)
    for name in METADATA.tables:
        assert again.tables[name].equals(market.tables[name]), name
    assert not other.sales().equals(market.sales())
    first, second = write_market(market, tmp_path / "a"), write_market(again, tmp_path / "b")
    for one, two in ((first.truth, second.truth), (first.sales, second.sales)):
        assert one.read_bytes() == two.read_bytes()
    dumps = []
    for folder in ("a", "b"):
        with sqlite3.connect(tmp_path / folder / "market.db") as connection:
            dumps.append(list(connection.iterdump()))
        connection.close()
    assert dumps[0] == dumps[1]


def test_prices_handed_out_do_not_reach_into_the_truth(market: CourseMarket) -> None:
    before = market.truth.current_price.copy()
    today = current_prices(market.truth)
    today[{"item": 0}] = 1.0
    np.testing.assert_array_equal(market.truth.current_price, before)
    with pytest.raises(ValueError, match="read-only"):
        market.truth.attraction[0, 0] = 0.0


def test_segments_are_in_no_table(market: CourseMarket) -> None:
    columns = {column for frame in market.tables.values() for column in frame.columns}
    assert set(market.tables) == set(METADATA.tables)
    assert not {"segment", "purchase_probability", "elasticity"} & columns


def test_truth_file_of_another_kind_is_refused(market: CourseMarket, tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    write_truth(market.truth, path)
    path.write_text(path.read_text().replace("course-market-truth/1", "course-market-truth/9"))
    with pytest.raises(StorageError, match="is no course-market-truth/1 file"):
        read_truth(path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"courses": 1}, "courses is 1; choose 2 to"),
        ({"price_log_sd": 0.2}, "price_log_sd is 0.2; choose 0.27"),
        ({"price_points": 5}, "price_points is 5; choose 7"),
        ({"payout_share": 0.72}, "multiple of 0.05"),
        ({"elasticity_between_items": float("nan")}, "elasticity_between_items is nan"),
        ({"weeks": 20, "price_points": 12}, "choose 24 weeks or more"),
        ({"courses": 10}, "categories is 16 with 10 courses"),
        ({"learners": 100}, "take more learners or weeks"),
    ],
)
def test_settings_say_what_is_wrong(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        replace(CourseMarketSettings(), **wrong)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SpecError, match="seed is -1; choose a whole number of at least 0"):
        simulate_courses(SMALL, seed=-1)


def test_prices_of_unknown_items_are_refused(market: CourseMarket) -> None:
    today = current_prices(market.truth)
    with pytest.raises(SpecError, match="wrong or missing: \\['accounting-01'\\]"):
        expected_units(market.truth, today.isel(item=slice(1, None)))
    with pytest.raises(SpecError, match="must be positive"):
        expected_units(market.truth, 0 * today)


@pytest.fixture
def empty_postgres(postgres_url: str) -> Iterator[str]:
    """The server's database without the tables of a market, before and after."""
    engine = sqlalchemy.create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    METADATA.drop_all(engine)
    yield postgres_url
    METADATA.drop_all(engine)
    engine.dispose()


@pytest.mark.postgres
def test_postgres_holds_the_same_market(market: CourseMarket, empty_postgres: str, tmp_path: Path) -> None:
    files = write_market(market, tmp_path / "market", url=empty_postgres)
    assert not (tmp_path / "market" / "market.db").exists()
    assert read_course_sales(files.database).collect().equals(market.sales())
    days = market.tables["daily_platform_metrics"]
    metrics = read_economy_metrics(empty_postgres, days["day"][0], days["day"][-1])
    assert metrics.enrollments == market.tables["enrollments"].height
    assert metrics.tokens_paid_out == days["tokens_paid_out"].sum()
    with pytest.raises(StorageError, match="holds rows in course_prices"):
        market.write(empty_postgres)


@pytest.mark.postgres
def test_postgres_refuses_broken_rows_and_keeps_nothing(market: CourseMarket, empty_postgres: str) -> None:
    create_economy(empty_postgres)
    broken = dict(market.tables)
    broken["enrollments"] = broken["enrollments"].with_columns(pl.col("completion") + 1)
    with pytest.raises(StorageError, match=r"rows of enrollments.*completion_is_a_share.*Nothing was changed"):
        write_economy(empty_postgres, broken)
    assert read_course_sales(empty_postgres).collect().height == 0
