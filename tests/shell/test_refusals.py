"""What the shell refuses: wrong use and bad input with code 2, statistical impossibility with code 3, nothing saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.shell.running import run

BROKEN = """item,category,period,price,quantity
tea,drinks,1,2.0,10
tea,drinks,2,2.5,-3
tea,drinks,3,0,8
rice,food,1,3.0,5
rice,food,1,3.0,5
rice,food,2,cheap,4
salt,food,1,1.0,9
salt,drinks,2,1.1,9
"""


def test_one_answer_lists_every_problem_with_counts_and_rows(tmp_path: Path) -> None:
    sales = tmp_path / "sales.csv"
    sales.write_text(BROKEN)
    ran = run("fit", "--sales", sales, "--out", tmp_path / "model", "--json")
    assert ran.code == 2
    problems = {problem["code"]: problem for problem in ran.json["problems"]}
    assert set(problems) == {
        "negative_quantity",
        "non_positive_price",
        "duplicate_key",
        "non_numeric_text",
        "item_in_two_categories",
    }
    assert problems["negative_quantity"]["count"] == 1
    assert problems["negative_quantity"]["examples"][0]["quantity"] == -3
    assert problems["non_numeric_text"]["examples"][0]["price"] == "cheap"
    assert problems["duplicate_key"]["count"] == 2
    assert all(problem["examples"] and problem["remedy"] for problem in problems.values())
    assert not (tmp_path / "model").exists()


def panel(tmp_path: Path, price: np.ndarray, quantity: np.ndarray, periods: int) -> Path:
    items = len(price) // periods
    frame = pl.DataFrame(
        {
            "item": np.repeat([f"item-{index}" for index in range(items)], periods),
            "period": np.tile(np.arange(periods), items),
            "price": price,
            "quantity": quantity,
        }
    )
    path = tmp_path / "sales.parquet"
    frame.write_parquet(path)
    return path


@pytest.mark.parametrize("command", ["check", "fit"])
def test_a_cross_section_gives_no_elasticity(tmp_path: Path, command: str) -> None:
    rng = np.random.default_rng(1)
    sales = panel(tmp_path, rng.uniform(1, 3, 40), rng.poisson(50, 40), periods=1)
    ran = run(command, "--sales", sales, "--json")
    assert ran.code == 3
    assert ran.json["status"] == "refused"
    finding = ran.json["findings"][0]
    assert finding["code"] == "no_within_item_variation"
    assert "--randomised-price" in finding["remedy"]


def test_zeros_under_a_log_model_are_refused_with_the_remedy(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    sales = panel(tmp_path, rng.uniform(1, 3, 60), rng.poisson(0.7, 60), periods=20)
    ran = run("fit", "--sales", sales, "--model", "lognormal", "--out", tmp_path / "model", "--json")
    assert ran.code == 3
    assert [finding["code"] for finding in ran.json["findings"]] == ["zeros_under_log_model"]
    assert "--model poisson" in ran.json["findings"][0]["remedy"]
    assert not (tmp_path / "model").exists()


def test_wrong_use_says_what_is_missing_on_standard_error() -> None:
    ran = run("fit")
    assert ran.code == 2
    assert "--sales" in ran.err
    assert ran.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fit", "--sales", "nowhere.csv"], "nowhere.csv"),
        (["recommend", "--model-dir", "nowhere"], "holds no saved model"),
        (["fit", "--sales", "x.csv", "--draws", "10"], "--draws is 10"),
        (["fit", "--sales", "x.csv", "--model", "cubic"], "cubic"),
        (["bogus"], "bogus"),
    ],
)
def test_errors_name_what_was_wrong(words: list[str], said: str) -> None:
    ran = run(*words, "--json")
    assert ran.code in (1, 2)
    assert said in ran.json["message"]
