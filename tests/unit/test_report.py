from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import SpecError, StorageError
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.reporting.assemble import item_story
from bayes_pricing.reporting.content import PriceCurve
from bayes_pricing.reporting.report import render_report, write_report
from bayes_pricing.reporting.scoring import elasticity_errors, mean_scores
from bayes_pricing.reporting.tables import items_to_test, refused_reasons, score_rows, top_items
from tests.posteriors import posterior_from_draws
from tests.reports import HOSTILE, example_report

REPORT = example_report(items=240)
HTML = render_report(REPORT)


class Page(HTMLParser):
    """Scripts, styles, ids, links and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[str, str]] = []
        self.styles: list[str] = []
        self.ids: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.policy = ""
        self.words: list[str] = []
        self._inside, self._kind = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        if tag in ("script", "style"):
            self._inside, self._kind = tag, known.get("type", "")
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"]
        if "id" in known:
            self.ids.append(known["id"])
        self.sources += [known[name] for name in ("src", "srcset", "data", "style") if name in known]
        self.links += [known["href"]] if "href" in known else []

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts.append((self._kind, data))
        elif self._inside == "style":
            self.styles.append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


PAGE = Page(HTML)


def digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def test_policy_allows_exactly_the_scripts_and_the_style_of_the_file() -> None:
    code = [text for kind, text in PAGE.scripts if kind != "application/json"]
    rules = dict(rule.split(" ", 1) for rule in PAGE.policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"].split() == [digest(text) for text in code]
    assert rules["style-src"].split() == [digest(text) for text in PAGE.styles]
    assert "unsafe" not in PAGE.policy


def test_nothing_is_loaded_from_anywhere() -> None:
    assert PAGE.sources == []
    assert all(link.startswith("#") for link in PAGE.links)
    assert {link[1:] for link in PAGE.links} <= set(PAGE.ids)


def test_licences_travel_with_the_scripts() -> None:
    code = [text for kind, text in PAGE.scripts if kind != "application/json"]
    assert all("Redistribution and use in source and binary forms" in text for text in code[:2])


def test_a_hostile_name_never_becomes_a_tag() -> None:
    assert HOSTILE not in HTML
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in HTML
    charts = "".join(text for kind, text in PAGE.scripts if kind == "application/json")
    assert "\\u003cscript\\u003ealert(1)" in charts


def test_every_chart_is_valid_json_with_finite_numbers_and_a_table_beside_it() -> None:
    charts = [json.loads(text) for kind, text in PAGE.scripts if kind == "application/json"]
    assert len(charts) == 11
    assert all(chart["width"] == "container" for chart in charts)
    assert "NaN" not in "".join(text for kind, text in PAGE.scripts if kind == "application/json")
    assert HTML.count("The numbers behind this chart") == HTML.count("<noscript>") == 11


def test_the_story_runs_from_the_question_to_provenance() -> None:
    order = ["data", "demand", "baselines", "decision", "test", "trust", "provenance"]
    places = [HTML.index(f'<h2 id="{key}"') for key in order]
    assert places == sorted(places)
    assert PAGE.text.index(REPORT.question) < PAGE.text.index("Can the data answer?")


def test_the_headline_numbers_stand_with_interval_level_and_unit() -> None:
    assert "units would change by about −1.83 % (90 % interval [−2.09 to −1.57])" in PAGE.text
    decision = REPORT.decision
    assert decision is not None
    gain = decision.decision.portfolio.changes["profit"]
    sentence = (
        f"change profit by +{gain.mean:,.0f} tokens per week (90 % interval [{gain.lower:,.0f} to {gain.upper:,.0f}])"
    )
    assert sentence in PAGE.text


def test_a_probability_counted_on_draws_is_never_certain() -> None:
    assert REPORT.decision is not None
    decision = REPORT.decision.decision
    sure = replace(decision, portfolio=replace(decision.portfolio, probability_better=1.0))
    page = Page(render_report(replace(REPORT, decision=replace(REPORT.decision, decision=sure))))
    assert "The probability that they do better than today's is > 99 %." in page.text


def test_parts_that_a_run_did_not_reach_are_left_out() -> None:
    text = render_report(replace(REPORT, baselines=None, decision=None, test=None))
    page = Page(text)
    assert {"data", "demand", "trust", "provenance"} <= set(page.ids)
    assert not {"baselines", "decision", "test"} & set(page.ids)
    assert "12,480 rows" in page.text


def test_a_failed_gate_is_said_at_the_top() -> None:
    page = Page(render_report(example_report(items=60, passed=False)))
    warning = page.text.index("Do not act on these numbers")
    assert warning < page.text.index("Can the data answer?")
    assert "largest R-hat 1.08, limit 1.01: fit with more draws" in page.text
    assert "Do not act" not in PAGE.text


def test_same_report_same_text() -> None:
    small = example_report(items=60)
    assert render_report(small) == render_report(small)


def test_two_thousand_items_stay_under_two_megabytes_and_name_the_rest(tmp_path: Path) -> None:
    report = example_report(items=2000)
    path = write_report(report, tmp_path / "new" / "report.html")
    assert path.stat().st_size < 2_000_000
    text = path.read_text(encoding="utf-8")
    assert report.decision is not None
    more = report.decision.decision.count("change") - 200
    assert f"{more:,} more items to change stand in items.parquet" in text
    assert text.count('<tr><td class="name">') == 200 + 10


def test_a_file_that_cannot_be_written_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="name another file"):
        write_report(example_report(items=60), tmp_path)


def test_items_table_is_sorted_by_what_a_change_is_worth() -> None:
    assert REPORT.decision is not None
    decision = REPORT.decision.decision
    table = top_items(decision, REPORT.demand.elasticities, most=5)
    best = sorted(
        (item.profit.mean for item in decision.items if item.action == "change" and item.profit), reverse=True
    )
    assert table["gain"].to_list() == pytest.approx(best[:5], rel=1e-12)
    assert table["elasticity"].null_count() == 0


def test_refusals_and_tests_are_listed() -> None:
    assert REPORT.decision is not None
    decision = REPORT.decision.decision
    ((reason, count, names),) = refused_reasons(decision)
    assert (reason, count) == ("its unit cost is unknown", decision.count("refused"))
    assert names[0] == "course-0004"
    worth = items_to_test(decision)["value_of_testing"].to_list()
    assert worth == sorted(worth, reverse=True)
    assert len(worth) == 10


def test_winners_are_nearest_to_the_best_value_and_unknown_never_wins() -> None:
    scores = pl.DataFrame(
        {"estimator": ["a", "a", "b"], "coverage_80": [0.9, 0.94, 0.7], "rmse_log_units": [0.1, None, 0.5]}
    )
    headings, rows = score_rows(mean_scores(scores))
    assert headings == ("RMSE (log units)", "Coverage of 80 % intervals")
    assert rows[0].cells == (("–", False), ("0.920", False))
    assert rows[1].cells == (("0.500", True), ("0.700", True))


def test_elasticity_errors_compare_only_groups_that_all_estimators_know() -> None:
    seen = pl.DataFrame(
        {
            "estimator": ["a", "a", "b"],
            "level": ["category"] * 3,
            "name": ["tea", "jam", "tea"],
            "mean": [-1.0, -9.0, -2.0],
        }
    )
    truth = pl.DataFrame({"level": ["category"] * 2, "name": ["tea", "jam"], "elasticity": [-1.5, -1.0]})
    assert elasticity_errors(seen, truth).rows() == [("a", 0.5), ("b", 0.5)]


def test_parts_refuse_frames_without_the_columns_they_need() -> None:
    with pytest.raises(SpecError, match=r"DemandPart\.elasticities needs the columns \['prior_only'\]"):
        replace(REPORT.demand, elasticities=REPORT.demand.elasticities.drop("prior_only"))
    with pytest.raises(SpecError, match=r"PriceCurve\.points needs at least one row"):
        PriceCurve(
            points=pl.DataFrame(
                schema={"price": pl.Float64, "mean": pl.Float64, "lower": pl.Float64, "upper": pl.Float64}
            ),
            current_price=1.0,
            recommended_price=1.0,
            lowest_price=1.0,
            highest_price=1.0,
        )


def test_no_registry_host_or_outside_script_is_named_in_the_page() -> None:
    outside = [text for kind, text in PAGE.scripts if kind == "application/json"]
    assert not re.search(r'"(url|href)":', "".join(outside))


def test_a_story_says_both_prices_what_holds_it_and_what_that_costs() -> None:
    posterior = posterior_from_draws(np.full(400, -1.5), cost=5.0)
    decision = optimize_prices(
        posterior, Economics(currency="EUR"), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1, testing=None
    )
    story = item_story(posterior, decision, "item-00000", "week")
    facts = {fact.label: fact.value for fact in story.facts}
    assert facts["Today"] == "10.00"
    assert facts["New price"] == "11.00 (+10.0 %)"
    # profit at a price p is 100 (p - 5) (p / 10)^-1.5: one point further brings 6.1 x 1.11^-1.5 - 6 x 1.1^-1.5 hundred
    further = 100.0 * (6.1 * 1.11**-1.5 - 6.0 * 1.1**-1.5)
    back = 100.0 * (5.9 * 1.09**-1.5 - 6.0 * 1.1**-1.5)
    assert facts["What holds it"] == (
        f"the largest change of 10 %: 11 % would bring +{further:.2f} EUR per week, 9 % −{-back:.2f} EUR per week"
    )
    assert story.headline not in story.paragraph
    assert any(text.startswith("Today's price would earn more than 11.00") for text in story.full)
    drawn = story.curve.points["price"].to_numpy()
    assert drawn.min() >= 7.5  # drawn around the prices in question
    assert drawn.max() <= 11.0 * 1.33
