from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.identification import check_identified, identify
from bayes_pricing.errors import Refusal
from tests.support import shared_data


def panel_of(frame: pl.DataFrame, **options: object) -> SalesPanel:
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, **options))  # type: ignore[arg-type]


def item_rows(name: str, price: np.ndarray, quantity: np.ndarray, **columns: object) -> pl.DataFrame:
    periods = np.arange(len(price))
    return pl.DataFrame({"item": name, "period": periods, "price": price, "quantity": quantity, **columns})


def row(panel: SalesPanel, item: str, quick: bool = False) -> dict[str, object]:
    return identify(panel, quick=quick).table.filter(item=item).row(0, named=True)


def test_standard_error_is_that_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    price = np.exp(rng.normal(1, 0.2, 60))
    promo = rng.random(60) + 0.5 * np.log(price)
    units = np.exp(3 - 2 * np.log(price) + 0.4 * promo + rng.normal(0, 0.3, 60))
    panel = panel_of(item_rows("tea", price, units, promo=promo), controls=("promo",))
    design = np.column_stack([np.ones(60), np.log(price), promo])
    _, squares, *_ = np.linalg.lstsq(design, np.log(units), rcond=None)
    expected = np.sqrt(squares[0] / 57 * np.linalg.inv(design.T @ design)[1, 1])
    assert row(panel, "tea")["elasticity_se"] == pytest.approx(expected, rel=1e-8)


def test_standard_error_of_counts_with_zeros_is_poisson_information() -> None:
    price = np.array([1.0, 2.0] * 10)
    units = np.array([2, 0, 3, 1] * 5)
    panel = panel_of(item_rows("tea", price, units))
    squares = 20 * (np.log(2) / 2) ** 2
    assert row(panel, "tea")["elasticity_se"] == pytest.approx(1 / np.sqrt(1.5 * squares), rel=1e-10)


def test_prices_that_never_move_are_prior_only_and_named() -> None:
    rng = np.random.default_rng(2)
    promo = rng.random(30)
    moving = item_rows("moving", np.exp(rng.normal(0, 0.1, 30)), np.full(30, 5), promo=promo)
    still = item_rows("still", np.full(30, 3.1), np.full(30, 5), promo=promo)
    follows = item_rows("follows", np.exp(1 - 0.3 * promo), np.full(30, 5), promo=promo)
    found = identify(panel_of(pl.concat([moving, still, follows]), controls=("promo",)))
    assert found.prior_only == ("follows", "still")
    named = [finding.item for finding in found.findings if finding.code == "price_never_moves"]
    assert named == ["follows", "still"]
    assert found.table.filter("prior_only")["elasticity_se"].to_list() == [None, None]


def test_a_price_that_only_rises_follows_time() -> None:
    panel = panel_of(item_rows("tea", np.exp(0.01 * np.arange(40)), np.arange(40) + 1))
    assert row(panel, "tea")["time_correlation"] == pytest.approx(1.0)
    assert "price_follows_time" in {finding.code for finding in identify(panel).findings}


def test_promotion_confounding_names_the_column() -> None:
    rng = np.random.default_rng(3)
    discount = rng.choice([0.0, 0.2], 40)
    price = 3.0 * (1 - discount) * np.exp(rng.normal(0, 0.005, 40))
    panel = panel_of(item_rows("tea", price, rng.poisson(9, 40) + 1, discount=discount))
    found = row(panel, "tea")
    assert found["promotion_column"] == "discount"
    assert found["promotion_correlation"] == pytest.approx(np.corrcoef(np.log(price), discount)[0, 1], rel=1e-8)
    assert "promotion_confounded" in {finding.code for finding in identify(panel).findings}


def test_revenue_divided_by_units_is_noticed() -> None:
    rng = np.random.default_rng(4)
    units = rng.integers(5, 50, 40)
    ratio = rng.choice([2.99, 2.49], 40) * (1 + rng.integers(0, 5, 40) / units)
    asked = rng.choice([2.99, 2.49, 1.99], 40)
    panel = panel_of(pl.concat([item_rows("ratio", ratio, units), item_rows("asked", asked, units)]))
    assert row(panel, "ratio")["price_is_ratio"] is True
    assert row(panel, "asked")["price_is_ratio"] is False


def test_sold_out_share_from_a_flag_or_from_stock() -> None:
    price, units = np.array([1.0, 2.0, 1.0, 2.0]), np.array([5, 3, 5, 2])
    flagged = panel_of(item_rows("tea", price, units, sold_out=[True, False, False, False]))
    assert row(flagged, "tea")["sold_out_share"] == 0.25
    stocked = panel_of(item_rows("tea", price, units, stock=[5, 9, 5, 9]))
    assert row(stocked, "tea")["sold_out_share"] == 0.5
    assert "often_sold_out" in {finding.code for finding in identify(stocked).findings}


def test_items_inside_a_total() -> None:
    rng = np.random.default_rng(5)
    parts = [item_rows(name, rng.random(12) + 1, rng.integers(1, 20, 12)) for name in ("single", "double")]
    total = item_rows("all", rng.random(12) + 1, parts[0]["quantity"].to_numpy() + parts[1]["quantity"].to_numpy())
    panel = panel_of(pl.concat([*parts, total]))
    assert identify(panel).table.filter("inside_total")["item"].to_list() == ["all"]
    quick = identify(panel, quick=True)
    assert quick.left_out == ("items listed both alone and inside a total",)
    assert quick.table["inside_total"].null_count() == 3


def test_a_cross_section_is_refused_with_the_remedy() -> None:
    panel = panel_of(pl.DataFrame({"item": ["a", "b", "c"], "price": [1.0, 2.0, 3.0], "quantity": [9, 5, 3]}))
    with pytest.raises(Refusal) as refusal:
        check_identified(panel, randomised_price=False, has_instrument=False)
    (finding,) = refusal.value.findings
    assert finding.code == "no_within_item_variation"
    assert "--randomised-price" in finding.remedy
    check_identified(panel, randomised_price=True, has_instrument=False)
    check_identified(panel, randomised_price=False, has_instrument=True)


def test_still_prices_over_many_periods_are_refused_too() -> None:
    panel = panel_of(pl.concat([item_rows(name, np.full(9, 2.0), np.arange(9) + 1) for name in "ab"]))
    with pytest.raises(Refusal, match="no item's own price moved"):
        check_identified(panel, randomised_price=False, has_instrument=False)


def test_json_is_plain() -> None:
    panel = panel_of(item_rows("tea", np.array([1.0, 2.0, 1.0]), np.array([5, 3, 4])))
    plain = json.loads(json.dumps(identify(panel).as_builtins(), allow_nan=False))
    assert plain["items"][0]["item"] == "tea"
    assert plain["prior_only"] == []


def test_without_periods_time_is_not_assessed() -> None:
    panel = panel_of(item_rows("tea", np.array([1.0, 2.0, 1.0]), np.array([5, 3, 4])).drop("period"))
    found = identify(panel)
    assert found.table["time_correlation"].to_list() == [None]
    assert "time_not_assessed" in {finding.code for finding in found.findings}


def test_cheese() -> None:
    frame = pl.read_csv(shared_data("cheese.csv"))
    found = identify(panel_of(frame, item="retailer", controls=("disp",)))
    # published: five retailers whose log price has an sd under 0.02; median within-retailer sd 0.096
    assert (found.table["within_sd_log_price"] < 0.02).sum() == 5
    assert found.table["within_sd_log_price"].median() == pytest.approx(0.096, abs=0.0005)
    assert found.prior_only == ()
