"""`fit` for choices, shares of markets and offers: what it answers and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.shell.running import run


def offers(folder: Path, prices: list[float]) -> Path:
    """400 visitors at prices drawn by lot; half of those at 2.0 buy."""
    rng = np.random.default_rng(3)
    price = rng.choice(prices, 400)
    bought = (rng.random(400) < 1.0 / (1.0 + np.exp(1.5 * (price - 2.0)))).astype(int)
    path = folder / "offers.csv"
    pl.DataFrame({"price": price, "bought": bought}).write_csv(path)
    return path


def test_offers_give_a_money_curve_and_a_best_tested_price(tmp_path: Path) -> None:
    words = ("--model", "purchase", "--quantity", "bought", "--randomised-price", "--json", "--draws", 300)
    ran = run("fit", "--sales", offers(tmp_path, [1.0, 3.0]), *words)
    assert ran.code == 0, ran.err
    answer = ran.json
    assert (answer["status"], answer["shape"], answer["comparison"]) == ("ok", "logistic", None)
    assert answer["findings"] == []
    assert answer["diagnostics"]["passed"]
    ends = [answer["curve"][0], answer["curve"][-1]]
    assert [end["price"] for end in ends] == [1.0, 3.0]
    taken = [end["probability_taken"] for end in ends]
    truth = [0.82, 0.18]  # 1 / (1 + exp(-+1.5)); 200 offers each, so an sd of 0.03
    for found, known in zip(taken, truth, strict=True):
        assert found["lower"] < found["mean"] < found["upper"]
        assert found["mean"] == pytest.approx(known, abs=0.09)
    best = answer["best_price"]
    assert best["price"] == pytest.approx(1.70, abs=0.2)  # where 1.5 p (1 - P(p)) = 1
    assert best["optimum"]["lower"] <= best["price"] <= best["optimum"]["upper"]
    effect, line = answer["marginal_effects"][0], answer["linear_probability"][1]
    assert effect["mean"] == pytest.approx(-1.5 * 0.82 * 0.18, abs=0.06)  # the curve's slope where offers were made
    assert line["coefficient"] == pytest.approx((0.18 - 0.82) / 2.0, abs=0.06)  # the straight line between them


def test_one_price_and_weak_instruments_end_with_code_three(tmp_path: Path) -> None:
    ran = run("fit", "--sales", offers(tmp_path, [2.0]), "--model", "purchase", "--quantity", "bought", "--json")
    assert ran.code == 3
    assert [finding["code"] for finding in ran.json["findings"]] == ["no_price_variation"]
    rng = np.random.default_rng(4)
    frame = pl.DataFrame(
        {
            "market": np.repeat(np.arange(30), 3),
            "item": ["a", "b", "c"] * 30,
            "share": rng.uniform(0.05, 0.3, 90),
            "price": rng.uniform(1.0, 2.0, 90),
            "iv_cost": rng.normal(size=90),
        }
    )
    path = tmp_path / "shares.csv"
    frame.write_csv(path)
    words = ("--model", "share-logit", "--quantity", "share", "--json")
    ran = run("fit", "--sales", path, *words)
    assert ran.code == 3
    assert ran.json["findings"][0]["code"] == "weak_instrument"
    assert "iv_cost" in ran.json["findings"][0]["message"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "choice-logit"], "--occasion"),
        (["--model", "purchase", "--instrument", "cost"], "--instrument has no meaning"),
        (["--model", "purchase", "--chooser", "who"], "--chooser has no meaning"),
        (["--model", "share-logit", "--out", "folder"], "is not saved"),
        (["--model", "share-logit", "--randomised-price"], "--randomised-price has no meaning"),
        (["--model", "poisson", "--tastes", "different"], "reads none of"),
    ],
)
def test_flags_that_would_do_nothing_are_wrong_use(words: list[str], said: str) -> None:
    ran = run("fit", "--sales", "x.csv", "--quantity", "bought", *words, "--json")
    assert ran.code == 2
    assert said in ran.json["message"]
