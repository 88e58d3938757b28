"""Orange juice end to end on three brands of twenty stores: fit with cross prices, decide, explain, report."""

from __future__ import annotations

import html
import re
from pathlib import Path

import polars as pl
import pytest

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.pricing.constraints import Limit, MaxChange, MaxShortfall, PriceLadder
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.reporting import assemble
from bayes_pricing.reporting.content import Report
from bayes_pricing.reporting.report import render_report
from simulations.studies.orange_juice_prices import chain_weeks
from tests.support import shared_data

BRANDS = ("Dominicks 64", "Minute Maid 64", "Tropicana 64")


def three_brands() -> pl.DataFrame:
    sales = pl.read_parquet(shared_data("oj_dominicks_store_brand_week.parquet"))
    stores = sales["store"].unique().sort().head(20).to_list()
    return chain_weeks(sales, stores=stores).filter(pl.col("brand").is_in(BRANDS))


def test_the_prepared_file_is_the_chain_s_week() -> None:
    rows = three_brands()
    assert rows.columns == ["brand", "week", "price", "cost", "deal", "feature", "quantity"]
    assert rows.height == 3 * 121
    cents = rows["price"].to_numpy() * 100
    assert abs(cents - cents.round()).max() < 1e-9  # whole cents
    assert rows.select((pl.col("cost") < pl.col("price")).mean()).item() > 0.99
    assert 90 < cents.min() < cents.max() < 400


@pytest.mark.slow
def test_every_brand_is_priced_explained_and_reported() -> None:
    rows = three_brands()
    roles = ColumnRoles(item="brand", price="price", quantity="quantity", period="week", cost="cost",
                        shared_controls=("deal", "feature"))  # fmt: skip
    fitted = fit_demand(
        SalesPanel.from_frame(rows, roles, absent="missing"),
        ModelRequest(model="lognormal", cross_prices=True, autocorrelation="off"),
        SamplerSettings(draws=200), seed=1,
    )  # fmt: skip
    assert fitted.diagnostics.passed
    limits: list[Limit] = [PriceLadder(step=0.05), MaxChange(share=0.10), MaxShortfall(amount=0.0)]
    decision = optimize_prices(
        fitted.posterior, Economics(currency="USD"), "profit", limits, horizon_periods=13, seed=1
    )  # fmt: skip
    portfolio = decision.portfolio
    assert portfolio.feasible
    assert portfolio.certified
    assert portfolio.expected_shortfall is not None
    assert portfolio.expected_shortfall <= 1e-6
    assert portfolio.objective > 0
    for item in decision.items:
        assert abs(item.price / item.current_price - 1.0) <= 0.10 + 1e-9
        if item.action == "change":
            assert item.price / 0.05 == pytest.approx(round(item.price / 0.05), abs=1e-6)
    part = assemble.decision_part(fitted.posterior, decision, list(BRANDS), "week", fitted.findings)
    part = assemble.with_frontier(part, fitted.posterior, seed=1, points=2)
    page = render_report(
        Report(
            title="Orange juice",
            question="Which prices earn the most?",
            period="week",
            sales=assemble.sales_part(fitted, "Orange juice, twenty stores"),
            demand=assemble.demand_part(fitted, seed=1),
            decision=part,
            trust=assemble.trust_part(fitted),
            provenance=assemble.provenance(fitted, fitted.seconds, "report"),
        )
    )
    shown = re.sub(r"\s+", " ", html.unescape(page).replace("\u00a0", " ").replace("\u202f", " "))
    for number, story in enumerate(part.stories):
        item = decision.item(story.item)
        assert story.headline in shown
        assert f"{item.current_price:.2f}" in story.headline
        labels = [fact.label for fact in story.facts]
        assert {"Today", "New price", "What holds it"} <= set(labels)
        assert f'id="curve-{number}"' in page or f"curve-{number}" in page
        assert "other prices as decided" in story.paragraph
        assert any("Today's price would earn its category more" in text or "best price of all for its category" in text
                   for text in story.full)  # fmt: skip
    for needed in ("Gain against risk", "in steps of 0.05", "the largest change of 10", "profit of its category"):
        assert needed.lower() in shown.lower(), needed
    assert part.frontier[0].objective == pytest.approx(portfolio.objective)  # the floor of nothing lost costs nothing
    assert [cost.limit for cost in part.caution] == ["max_shortfall"]


def test_the_study_s_commands_are_those_of_the_docs() -> None:
    page = Path(__file__).parents[2] / "docs" / "orange_juice_prices.md"
    text = page.read_text(encoding="utf-8")
    for words in ("--cross-prices", "--price-step 0.05", "--max-change 0.10", "--max-shortfall -8000"):
        assert words in text
