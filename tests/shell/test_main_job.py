"""The main job through the shell: fit, save, recommend, explain, plan a test, report, on a small count panel."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.elasticity import elasticity_table
from bayes_pricing.registry import load_fit
from tests.shell.running import Ran, run

ITEMS, PERIODS = 24, 40
TRUE_MEANS = {"drinks": -1.6, "food": -3.0, "toys": -2.2}
STILL = "food-07"  # its price never moves


def sales_frame(seed: int) -> pl.DataFrame:
    """Poisson sales of items in three categories; one item's price never moves."""
    rng = np.random.default_rng(seed)
    parts = []
    for index in range(ITEMS):
        category = list(TRUE_MEANS)[index % 3]
        name = f"{category}-{index // 3:02d}"
        log_price = rng.choice(np.linspace(-0.4, 0.4, 7), size=PERIODS) * (name != STILL)
        elasticity = rng.normal(TRUE_MEANS[category], 0.3)
        rate = np.exp(rng.normal(1.0, 0.5) + elasticity * log_price)
        parts.append(
            pl.DataFrame(
                {
                    "item": [name] * PERIODS,
                    "category": [category] * PERIODS,
                    "period": np.arange(PERIODS),
                    "price": 10.0 * np.exp(log_price),
                    "quantity": rng.poisson(rate),
                    "cost": np.full(PERIODS, 5.0),
                }
            )
        )
    return pl.concat(parts)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A fitted model's folder, and what `fit` answered."""
    folder = tmp_path_factory.mktemp("main-job")
    sales_frame(1).write_parquet(folder / "sales.parquet")
    ran = run("fit", "--sales", folder / "sales.parquet", "--out", folder / "model", "--seed", 3, "--json")
    assert ran.code == 0, ran.err
    return folder, ran


def rows_of(document: Any, level: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in document["elasticities"] if row["level"] == level}


def test_fit_answers_as_written(saved: tuple[Path, Ran]) -> None:
    folder, ran = saved
    document = ran.json
    assert document["status"] == "ok"
    assert document["diagnostics"]["passed"]
    assert set(document["diagnostics"]) >= {"max_rhat", "min_ess_bulk", "min_ess_tail", "divergences"}
    assert {"model", "seconds", "variation", "coefficients", "findings"} <= set(document)
    assert len(rows_of(document, "item")) == ITEMS
    for row in document["elasticities"]:
        assert row["lower"] < row["mean"] < row["upper"]
        assert row["probability"] == 0.9
        assert 0.0 <= row["probability_elastic"] <= 1.0
    assert {(row["level"], row["coefficient"]) for row in document["variation"]} == {
        (level, name) for level in ("item", "category") for name in ("level", "log_price")
    }
    fitted = load_fit(folder / "model")
    assert fitted.posterior.id == document["model"]
    again = elasticity_table(fitted.posterior).filter(level="category").sort("name")
    told = rows_of(document, "category")
    np.testing.assert_allclose(again["mean"].to_numpy(), [told[name]["mean"] for name in again["name"]], rtol=1e-12)


def test_categories_are_recovered(saved: tuple[Path, Ran]) -> None:
    for name, row in rows_of(saved[1].json, "category").items():
        assert abs(row["mean"] - TRUE_MEANS[name]) / row["sd"] < 4.0


def test_an_item_whose_price_never_moves_leans_on_its_category_and_is_named(saved: tuple[Path, Ran]) -> None:
    document = saved[1].json
    items, category = rows_of(document, "item"), rows_of(document, "category")["food"]
    still = items[STILL]
    assert still["prior_only"]
    assert still["own_data_weight"] == 0.0
    assert abs(still["mean"] - category["mean"]) < 0.2 * still["sd"]  # a few Monte-Carlo errors
    others = [row for name, row in items.items() if name.startswith("food") and name != STILL]
    assert all(still["sd"] > row["sd"] for row in others)
    assert STILL in {finding["item"] for finding in document["findings"] if finding["code"] == "price_never_moves"}


def test_recommend_keeps_its_limits_and_answers_as_written(saved: tuple[Path, Ran]) -> None:
    folder, _ = saved
    ran = run(
        *("recommend", "--model-dir", folder / "model", "--objective", "profit"),
        *("--max-change", 0.15, "--max-loss-probability", 0.2, "--json"),
    )
    assert ran.code == 0, ran.err
    items, portfolio = ran.json["items"], ran.json["portfolio"]
    assert len(items) == ITEMS
    for item in items:
        assert item["action"] in {"change", "hold", "test_first", "refused"}
        if item["action"] == "change":
            assert abs(item["recommended_price"] / item["current_price"] - 1.0) <= 0.15 + 1e-9
            assert item["probability_better"] >= 0.8 - 1e-9
            assert item["profit"]["mean"] > 0
        for outcome in ("revenue", "profit", "units"):
            assert item[outcome] is None or set(item[outcome]) == {"mean", "lower", "upper", "probability"}
    names = ("objective", "upper_bound", "gap", "expected_shortfall", "shadow_prices", "engine", "feasible")
    assert set(names) <= set(portfolio)
    assert portfolio["feasible"] is True
    assert math.isclose(
        portfolio["objective"], sum(item["profit"]["mean"] for item in items if item["profit"]), rel_tol=1e-6
    )
    assert portfolio["upper_bound"] >= portfolio["objective"] - 1e-9


def test_a_policy_file_says_the_same_as_flags(saved: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = saved
    policy = tmp_path / "policy.toml"
    policy.write_text('objective = "profit"\nmax-change = 0.1\n')
    from_file = run("recommend", "--model-dir", folder / "model", "--policy", policy, "--json")
    from_flags = run(
        "recommend", "--model-dir", folder / "model", "--objective", "profit", "--max-change", 0.1, "--json"
    )
    assert from_file.code == 0, from_file.err
    assert from_file.json == from_flags.json
    policy.write_text("max-chnge = 0.1\n")
    wrong = run("recommend", "--model-dir", folder / "model", "--policy", policy)
    assert wrong.code == 2
    assert "max_chnge" in wrong.err


def test_own_prices_are_scored_on_the_same_footing(saved: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = saved
    flags = ("--model-dir", folder / "model", "--objective", "profit", "--max-change", 0.15, "--json")
    best = run("recommend", *flags).json
    prices = tmp_path / "prices.csv"
    pl.DataFrame(
        {
            "item": [item["item"] for item in best["items"]],
            "price": [item["recommended_price"] or item["current_price"] for item in best["items"]],
        }
    ).write_csv(prices)
    scored = run("recommend", *flags, "--evaluate", prices)
    assert scored.code == 0, scored.err
    assert math.isclose(scored.json["portfolio"]["objective"], best["portfolio"]["objective"], rel_tol=1e-6)
    prices.write_text("item,price\nnothing-like-it,3\n")
    unknown = run("recommend", *flags, "--evaluate", prices)
    assert unknown.code == 2
    assert "nothing-like-it" in unknown.json["message"]


def test_limits_that_cannot_be_met_are_refused_with_the_attainable(saved: tuple[Path, Ran]) -> None:
    folder, _ = saved
    ran = run("recommend", "--model-dir", folder / "model", "--max-shortfall", -1e9, "--json")
    assert ran.code == 3
    assert ran.json["status"] == "refused"
    assert ran.json["findings"]


def test_explain_says_why_from_its_own_numbers(saved: tuple[Path, Ran]) -> None:
    folder, _ = saved
    ran = run("explain", "--model-dir", folder / "model", "--item", "drinks-00", "--max-change", 0.15, "--json")
    assert ran.code == 0, ran.err
    document = ran.json
    assert len(document["prose"]["headline"].split()) <= 25
    parts = [part["contribution"] for part in document["elasticity"]["contributions"]]
    assert math.isclose(sum(parts), document["elasticity"]["estimate"]["mean"], rel_tol=1e-9)
    unknown = run("explain", "--model-dir", folder / "model", "--item", "nothing", "--json")
    assert unknown.code == 2
    assert "nothing" in unknown.json["message"]


def test_plan_test_from_the_model(saved: tuple[Path, Ran]) -> None:
    folder, _ = saved
    ran = run("plan-test", "--model-dir", folder / "model", "--item", "toys-01", "--test-price", 11, "--json")
    assert ran.code == 0, ran.err
    assert len(ran.json["test_and_roll"]["n_per_arm"]) == 2
    names = ("power", "minimum_detectable_effect", "assurance", "sequential", "value_of_information", "duration_weeks")
    assert set(names) <= set(ran.json)


def test_report_is_one_file_with_no_outside_host(saved: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, _ = saved
    ran = run(
        "report", "--model-dir", folder / "model", "--out", tmp_path / "report.html", "--max-change", 0.15, "--json"
    )
    assert ran.code == 0, ran.err
    page = (tmp_path / "report.html").read_text()
    assert "default-src &#39;none&#39;" in page
    assert "drinks" in page
    assert ran.json["bytes"] == (tmp_path / "report.html").stat().st_size


def test_a_model_is_never_overwritten(saved: tuple[Path, Ran]) -> None:
    folder, _ = saved
    before = json.loads((folder / "model" / "manifest.json").read_text())
    ran = run("fit", "--sales", folder / "sales.parquet", "--out", folder / "model", "--json")
    assert ran.code == 1
    assert "never overwritten" in ran.json["message"]
    assert json.loads((folder / "model" / "manifest.json").read_text()) == before


def test_the_same_seed_gives_the_same_model(saved: tuple[Path, Ran], tmp_path: Path) -> None:
    folder, first = saved
    again = run("fit", "--sales", folder / "sales.parquet", "--out", tmp_path / "model", "--seed", 3, "--json")
    assert again.json["elasticities"] == first.json["elasticities"]
    assert again.json["model"] == first.json["model"]
