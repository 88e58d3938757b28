"""The report in a real browser: from disk, with its strict policy, no console line and no request."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bayes_pricing.reporting.report import write_report
from tests.browser.chromium import Visit, open_page
from tests.reports import example_report

pytestmark = pytest.mark.browser

CHARTS = 11
"""Three of demand, two scores, coverage, baselines' elasticities, two of the decision, one story, one PIT."""


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(example_report(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(scope="module")
def visit(report_file: Path) -> Visit:
    return open_page(report_file)


def charts(document: str) -> list[str]:
    """The drawn part of every chart."""
    return re.findall(r'<div class="chart drawn"[^>]*>(.*?)</div>', document, flags=re.DOTALL)


def test_every_chart_is_drawn_with_marks(visit: Visit) -> None:
    drawn = charts(visit.document)
    assert len(drawn) == CHARTS
    for chart in drawn:
        assert "<svg" in chart
        assert re.search(r'class="mark-(symbol|rect|line|rule|area)', chart)


def test_the_elasticity_chart_has_a_point_for_all_items_and_every_category(visit: Visit) -> None:
    forest = charts(visit.document)[0]
    points = re.search(r'<g class="mark-symbol[^"]*layer_\d+_marks"[^>]*>(.*?)</g>', forest, flags=re.DOTALL)
    assert points is not None
    assert points.group(1).count("<path") == 9
    assert ">Programming</text>" in forest


def test_nothing_is_written_to_the_console(visit: Visit) -> None:
    assert visit.console == ()


def test_the_page_asks_no_host(visit: Visit, tmp_path: Path) -> None:
    careless = tmp_path / "careless.html"
    careless.write_text('<img src="http://example.org/x.png">', encoding="utf-8")
    assert open_page(careless).addresses == ("http://example.org/x.png",)  # the test would see one
    assert visit.addresses == ()


def test_a_hostile_item_name_stays_text(visit: Visit) -> None:
    assert "<script>alert(1)</script>" not in visit.document
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in visit.document


def test_a_script_that_was_not_written_with_the_report_does_not_run(report_file: Path, tmp_path: Path) -> None:
    intruder = "<script>document.title = 'owned'</script></body>"
    page = tmp_path / "tampered.html"
    page.write_text(report_file.read_text(encoding="utf-8").replace("</body>", intruder), encoding="utf-8")
    visit = open_page(page)
    assert "<title>Course prices, autumn</title>" in visit.document
    assert any("Content Security Policy" in line for line in visit.console)


def test_a_click_on_a_heading_sorts_the_items(report_file: Path, tmp_path: Path) -> None:
    """The report's own script, driven by a page without the policy, puts the largest price first."""
    text = report_file.read_text(encoding="utf-8")
    open_text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    click = "<script>document.querySelectorAll('table.sortable th button')[1].click()</script></body>"
    page = tmp_path / "sorted.html"
    page.write_text(open_text.replace("</body>", click), encoding="utf-8")
    document = open_page(page).document
    table = document[document.index('class="sortable"') :]
    prices = [float(value) for value in re.findall(r'<tr><td class="name">.*?data-value="([\d.]+)"', table)]
    assert len(prices) == 200
    assert prices == sorted(prices, reverse=True)


def test_a_phone_shows_the_charts_inside_its_width(report_file: Path) -> None:
    document = open_page(report_file, width=420).document
    widths = [float(width) for width in re.findall(r'<svg[^>]*class="marks" width="([\d.]+)"', document)]
    assert len(widths) == CHARTS
    assert max(widths) <= 500  # headless Chromium lays out at 500 pixels at least
