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
    ran = run("fit", "--sales", offers(tmp_path, [1.0, 3.0]), *words, "--out", tmp_path / "model")
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
    kept = run("recommend", "--model-dir", tmp_path / "model", "--json")
    assert kept.code == 0, kept.err
    again = kept.json["best_price"]
    assert (kept.json["model"], again["price"]) == (answer["model"], best["price"])
    at = [row["price"] for row in answer["curve"]].index(best["price"])
    assert again["money"] == answer["curve"][at]["money"]
    assert again["lower_tail_mean"] < again["money"]["lower"] < again["money"]["mean"]
    refused = run("recommend", "--model-dir", tmp_path / "model", "--max-change", 0.1, "--json")
    assert refused.code == 2
    assert "--max-change has no meaning" in refused.json["message"]
    effect, line = answer["marginal_effects"][0], answer["linear_probability"][1]
    assert effect["mean"] == pytest.approx(-1.5 * 0.82 * 0.18, abs=0.06)  # the curve's slope where offers were made
    assert line["coefficient"] == pytest.approx((0.18 - 0.82) / 2.0, abs=0.06)  # the straight line between them


def test_choices_and_shares_answer_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    price, shown = rng.choice([1.0, 2.0, 3.0], (150, 2)), rng.integers(0, 2, (150, 2))
    utility = np.array([0.4, 0.0]) - 1.2 * price + 0.8 * shown
    weight = np.exp(utility)
    share = weight / (1.0 + weight.sum(axis=1, keepdims=True)) * np.exp(rng.normal(scale=0.05, size=(150, 2)))
    bought = (utility + rng.gumbel(size=(150, 2))).argmax(axis=1)[:, None] == np.arange(2)
    rows = pl.DataFrame(
        {
            "trip": np.repeat(np.arange(150), 2),
            "brand": ["a", "b"] * 150,
            "price": price.ravel(),
            "shown": shown.ravel(),
            "share": share.ravel(),
            "bought": bought.ravel().astype(int),
        }
    )
    path = tmp_path / "rows.csv"
    rows.write_csv(path)
    words = ("fit", "--sales", path, "--item", "brand", "--control", "shown", "--draws", 300, "--json")
    chosen = run(*words, "--model", "choice-logit", "--occasion", "trip", "--quantity", "bought")
    shares = run(*words, "--model", "share-logit", "--region", "trip", "--quantity", "share")
    codes = {0: ["no_outside_option"], 1: ["prices_taken_as_given"]}
    for at, ran in enumerate((chosen, shares)):
        assert ran.code == 0, ran.err
        answer = ran.json
        assert [finding["code"] for finding in answer["findings"]] == codes[at]
        found = {row["name"]: row for row in answer["coefficients"]}
        assert found["price"]["lower"] < -1.2 + 0.3
        assert found["price"]["upper"] > -1.2 - 0.3
        worth = answer["willingness_to_pay"][0]
        slack = (0.4, 0.02)[at]  # an sd of the ratio: 150 choices say little, 300 shares a lot
        assert worth["lower"] < 0.8 / 1.2 + slack
        assert worth["upper"] > 0.8 / 1.2 - slack
        own = {row["name"]: row["mean"] for row in answer["elasticities"] if row["level"] == "item"}
        assert set(own) == {"a", "b"}
        assert max(own.values()) < 0
        assert {(row["item"], row["price_of"]) for row in answer["cross_elasticities"]} >= {("a", "b"), ("b", "a")}
        assert sum(row["mean"] for row in answer["shares"]) == pytest.approx(1.0)
        leaving = [row["mean"] for row in answer["diversion"] if row["from"] == "a"]
        assert sum(leaving) == pytest.approx(1.0)


def test_people_of_a_market_differ_and_their_prices_are_recommended(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    price = np.array([1.0, 1.2, 3.0]) + rng.choice([-0.2, 0.0, 0.2], (24, 3))
    taste = -1.5 + 0.8 * rng.standard_normal((1000, 1, 1))
    weight = np.exp(np.array([1.0, 1.2, 3.0]) + taste * price + rng.normal(scale=0.2, size=(24, 3)))
    share = (weight / (1.0 + weight.sum(axis=2, keepdims=True))).mean(axis=0)
    path = tmp_path / "shares.csv"
    city, brand = np.indices(price.shape)
    pl.DataFrame(
        {
            "city": city.ravel(),
            "brand": np.array(["basic", "plain", "fine"])[brand.ravel()],
            "share": share.ravel(),
            "price": price.ravel(),
        }
    ).write_csv(path)
    words = ("--model", "share-logit", "--item", "brand", "--region", "city", "--quantity", "share")
    people = ("--tastes", "people", "--taste", "price", "--draws", 400, "--tune", 100, "--out", tmp_path / "model")
    ran = run("fit", "--sales", path, *words, *people, "--json")
    assert ran.code == 0, ran.err
    (spread,) = ran.json["variation"]
    assert (spread["level"], spread["coefficient"]) == ("person", "price")
    assert spread["lower"] < 0.8 + 2 * spread["sd"]
    assert spread["upper"] > 0.8 - 2 * spread["sd"]
    away = {(row["item"], row["price_of"]): row["mean"] for row in ran.json["cross_elasticities"]}
    assert away["plain", "basic"] > 1.3 * away["fine", "basic"]  # buyers of the cheap one go to the other cheap one
    asked = ("--model-dir", tmp_path / "model", "--own-item", "fine", "--unit-cost", 1.0, "--json")
    told = run("explain", *asked, "--item", "fine")
    assert told.code == 0, told.err
    assert told.json["model"] == ran.json["model"]
    (fine,) = told.json["prices"]
    assert (fine["item"], told.json["objective"]) == ("fine", "profit")
    assert price[:, 2].min() <= fine["price"] <= price[:, 2].max()
    assert told.json["change"]["mean"] >= 0.0
    assert f"{fine['price']:.4g}" in told.json["prose"]["headline"]


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
        (["--model", "share-logit", "--trend"], "no further terms"),
        (["--model", "share-logit", "--randomised-price"], "--randomised-price has no meaning"),
        (["--model", "share-logit", "--taste", "price"], "needs --tastes people"),
        (["--model", "poisson", "--tastes", "different"], "reads none of"),
    ],
)
def test_flags_that_would_do_nothing_are_wrong_use(words: list[str], said: str) -> None:
    ran = run("fit", "--sales", "x.csv", "--quantity", "bought", *words, "--json")
    assert ran.code == 2
    assert said in ran.json["message"]
