from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from bayes_pricing.cli.main import exit_code
from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.pricing.functionals import ExponentialUtility
from bayes_pricing.pricing.optimizer import evaluate_prices, optimize_prices
from bayes_pricing.pricing.profit import Economics
from tests.crossing import crossed_posterior
from tests.posteriors import ArrayPosterior, normal_posterior, posterior_from_draws

Ask = Callable[..., Any]
FIRST, LAST, WEEKS, REGIONS = date(2025, 1, 6), date(2025, 12, 29), 52, 3


def weekly(posterior: ArrayPosterior) -> ArrayPosterior:
    """The same items sold in three regions over the 52 weeks of a year."""
    items = posterior.items.with_columns(
        first_period=pl.lit(FIRST), last_period=pl.lit(LAST), rows=pl.lit(WEEKS * REGIONS)
    )
    return replace(posterior, items=items)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run a command on a posterior as if it had been read from a folder; its document, or its text."""
    summary = PanelSummary(
        rows=1, items=1, zero_rows=0, absent_rows=0, absent=None, first_period=FIRST, last_period=LAST,
        periods=WEEKS, units={}, data_hash="0" * 64,
    )  # fmt: skip

    def run(posterior: object, *words: str, plain: bool = False) -> Any:
        fitted = SimpleNamespace(posterior=posterior, summary=summary, findings=())
        monkeypatch.setattr("bayes_pricing.registry.load_fit", lambda folder: fitted)
        code = exit_code([words[0], "--model-dir", "nowhere", *words[1:], *([] if plain else ["--json"])])
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out if plain else json.loads(said.out)

    return run


def test_the_frontier_and_the_price_of_caution_are_a_flag(ask: Ask) -> None:
    posterior = weekly(normal_posterior(4, 400, seed=5, sd=0.6))
    words = ("recommend", "--no-tests", "--price-step", "0.5", "--max-loss-probability", "0.2", "--frontier")
    answer = ask(posterior, *words)
    gains = [point["objective"] for point in answer["frontier"]]
    assert len(gains) == 6
    assert gains == sorted(gains, reverse=True)
    assert gains[0] == pytest.approx(answer["portfolio"]["objective"])
    assert [cost["limit"] for cost in answer["price_of_caution"]] == ["max_loss_probability"]
    cost = answer["price_of_caution"][0]
    assert cost["objective_without"] - cost["cost"] == pytest.approx(answer["portfolio"]["objective"])
    told = ask(posterior, *words, plain=True)
    assert "the highest expected gain for every expected shortfall" in told
    assert f"The limit max_loss_probability costs {cost['cost']:,.2f}" in told
    assert "frontier" not in ask(posterior, "recommend", "--no-tests")


def test_a_rise_of_cost_or_tax_is_passed_on(ask: Ask) -> None:
    posterior = posterior_from_draws(np.full((400, 1), -2.5), cost=4.0, current_price=7.0)
    passed = ask(posterior, "recommend", "--cost-rise", "0.3")["pass_through"]
    assert passed[0]["rate"] == pytest.approx(2.5 / 1.5, rel=1e-6)
    told = ask(posterior, "recommend", "--tax-rise", "0.02", plain=True)
    assert "passed on 100%, 100% under constant elasticity alone" in told
    assert exit_code(["recommend", "--model-dir", "nowhere", "--cost-rise", "1", "--tax-rise", "0.1"]) == 2


def test_periods_are_called_and_counted_by_the_calendar(ask: Ask) -> None:
    posterior = weekly(normal_posterior(3, 400, seed=6))
    answer = ask(posterior, "recommend", "--horizon", "4")
    assert (answer["period"], answer["data_as_of"], answer["stale_on"]) == ("week", "2025-12-29", "2026-01-26")
    told = ask(posterior, "recommend", plain=True)
    assert "units per week" in told
    assert "per period" not in told
    assert "units per season" in ask(posterior, "recommend", "--period-name", "season", plain=True)
    assert ask(posterior, "explain", "--item", "item-00001", "--horizon", "4")["provenance"]["stale_on"] == "2026-01-26"


def test_own_prices_are_scored_by_their_certainty_equivalent(ask: Ask, tmp_path: Path) -> None:
    posterior = normal_posterior(5, 400, seed=7, sd=0.8)
    own = tmp_path / "own.csv"
    prices = {name: price * 1.1 for name, price in posterior.items.select("item", "current_price").iter_rows()}
    pl.DataFrame({"item": list(prices), "price": list(prices.values())}).write_csv(own)
    answer = ask(posterior, "recommend", "--evaluate", str(own), "--risk-tolerance", "60")
    draws = evaluate_prices(
        posterior, Economics(), "profit", prices=prices, horizon_periods=13, seed=1
    ).portfolio.change_draws.sel(metric="profit")
    sure = ExponentialUtility(tolerance=60.0).value(draws.to_numpy().ravel())
    assert answer["portfolio"]["objective"] == pytest.approx(sure, rel=1e-9)
    assert sure < float(draws.mean())
    assert answer["portfolio"]["upper_bound"] >= sure
    told = ask(posterior, "recommend", "--evaluate", str(own), "--risk-tolerance", "60", plain=True)
    assert f"worth a sure {sure:+,.2f}" in told


def test_an_explanation_is_of_the_decision_that_was_recommended(ask: Ask) -> None:
    risky = normal_posterior(6, 400, seed=8, sd=0.8)
    words = ("--risk-tolerance", "20", "--no-tests")
    recommended = {row["item"]: row["recommended_price"] for row in ask(risky, "recommend", *words)["items"]}
    told = ask(risky, "explain", "--item", "item-00002", *words)["decision"]
    assert told["recommended_price"] == recommended["item-00002"]
    pair = np.tile(np.array([[-3.0, 0.5], [0.5, -3.0]]), (400, 1, 1))
    posterior = crossed_posterior(pair, highest=20.0)
    told = ask(posterior, "explain", "--item", "item-00001")["decision"]
    assert told["recommended_price"] == pytest.approx(20.0 / 3.0, abs=5e-6)  # 6 with the other price at today's 10


def test_an_item_given_up_for_its_category_is_named() -> None:
    pair = np.tile(np.array([[-3.0, 0.5], [0.5, -3.0]]), (400, 1, 1))
    corner = optimize_prices(crossed_posterior(pair, highest=40.0), Economics(), "profit", horizon_periods=13, seed=1)
    dear, cheap = sorted(corner.items, key=lambda item: -item.price)
    assert [finding.code for finding in dear.findings] == ["given_up_for_category"]
    assert "gives up" in dear.findings[0].message
    assert dear.profit is not None
    assert dear.profit.mean < -0.1 * 600.0  # 6 on each of 100 units today
    assert cheap.findings == ()
    even = optimize_prices(crossed_posterior(pair, highest=20.0), Economics(), "profit", horizon_periods=13, seed=1)
    assert all(item.findings == () for item in even.items)
