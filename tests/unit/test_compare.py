"""`compare` on a small file: one table of posterior and baselines, for people and machines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

from bayes_pricing.cli.main import exit_code
from simulations.markets.retail import simulate_retail
from simulations.markets.retail_settings import RetailMarketSettings


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    market = simulate_retail(RetailMarketSettings(categories=3, products=4, stores=1, weeks=30), seed=1)
    path = tmp_path_factory.mktemp("sales") / "sales.parquet"
    market.sales.drop("product").write_parquet(path)
    return path


@pytest.mark.slow
def test_one_table_of_posterior_and_baselines(sales: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("posterior", "item_effects", "gam", "double_ml")
    words = ["compare", "--sales", str(sales), "--draws", "250", "--json"]
    assert exit_code([*words, *(word for name in names for word in ("--estimator", name))]) == 0
    document = json.loads(capsys.readouterr().out)
    table = pl.DataFrame(document["estimators"])
    assert table.height == len(names)
    assert table["estimator"][0] == "posterior (lognormal)"
    assert table["elasticity"].is_between(-3.6, -1.6).all()  # the market's mean is -2.6, twelve items with sd 0.7
    assert (table["width_50"] < table["width_95"]).all()
    assert table["coverage_95"].is_between(0.75, 1.0).all()  # 60 rows
    assert document["horizon"] == 5
    assert {row["feature"] for row in document["importance"]} == {"price", "period"}
    assert {row["level"] for row in document["elasticities"]} == {"population", "category"}


def test_people_get_columns_and_what_each_leans_on(sales: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["compare", "--sales", str(sales), "--estimator", "pooled", "--estimator", "item_effects"]) == 0
    text = capsys.readouterr().out
    assert "Scored on 5 periods after the last origin" in text
    assert "item fixed effects (log units)" in text
    assert "price (" in text


def test_what_refuses_is_named_and_the_rest_goes_on(
    sales: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = pl.read_parquet(sales).filter(pl.col("item").str.starts_with("bread-1") | (pl.col("item") < "bread-3"))
    few.write_parquet(tmp_path / "few.parquet")
    words = ["compare", "--sales", str(tmp_path / "few.parquet"), "--estimator", "double_ml", "--estimator"]
    assert exit_code([*words, "item_effects"]) == 0
    assert "double ml is left out" in capsys.readouterr().out


def test_a_leaking_column_is_refused_with_the_score_it_would_have_had(
    sales: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = pl.read_parquet(sales).with_columns(heads=3 * pl.col("quantity") + 1)
    leaking.write_parquet(tmp_path / "leaking.parquet")
    words = ["compare", "--sales", str(tmp_path / "leaking.parquet"), "--control", "heads", "--origins", "0"]
    assert exit_code([*words, "--estimator", "item_effects"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "'heads' is the units sold in the same period in another form" in told
    numbers = re.search(
        r"R-squared of (\S+) and find an elasticity of (\S+)\. Honestly it is (\S+), with .* of (\S+)\.", told
    )
    assert numbers is not None
    leak, flat, honest, steep = (float(number) for number in numbers.groups())
    assert leak > 0.95  # trees of 300 rows in steps; over 0.99 with the 6,000 of the guard's own test
    assert abs(flat) < 0.3
    assert honest < leak - 0.1
    assert steep < -1.0


def test_an_unknown_estimator_is_wrong_use(sales: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["compare", "--sales", str(sales), "--estimator", "oracle"]) == 2
    assert "is unknown; choose posterior" in capsys.readouterr().err
