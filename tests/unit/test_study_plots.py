"""Plots of the study tables: a dot per row where its number says, readable as XML, nothing drawn from nothing."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from scipy import stats

from bayes_pricing.errors import SpecError
from simulations.studies.plots import PANEL_WIDTH, regret_intervals, write_estimator_plot, write_policy_plot

SVG = "{http://www.w3.org/2000/svg}"


def test_intervals_are_those_of_student() -> None:
    shares = np.array([0.1, 0.14, 0.09, 0.2])
    table = pl.DataFrame({"policy": ["a"] * 4, "kind": ["strategy"] * 4, "regret_share": shares})
    row = regret_intervals(table).row(0, named=True)
    low, high = stats.t.interval(0.95, 3, shares.mean(), stats.sem(shares))
    assert (row["lower"], row["upper"]) == pytest.approx((low, high))
    single = regret_intervals(table.head(1)).row(0, named=True)
    assert (single["lower"], single["upper"]) == (None, None)


def test_dots_lie_where_the_numbers_say(tmp_path: Path) -> None:
    summary = pl.DataFrame(
        {"policy": ["oracle", "a < b", "worst"], "kind": ["oracle", "strategy", "posterior"],
         "regret_share": [0.0, 0.1, 0.4], "lower": [0.0, 0.05, None], "upper": [0.0, 0.15, None]}
    )  # fmt: skip
    root = ElementTree.parse(write_policy_plot(summary, tmp_path / "new" / "plot.svg")).getroot()
    x = [float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle")]
    # From 0 to 0.4 over the panel's width; coordinates are written to a tenth of a pixel.
    assert np.diff(x) == pytest.approx([PANEL_WIDTH / 4, 3 * PANEL_WIDTH / 4], abs=0.11)
    assert "a < b" in [text.text for text in root.iter(f"{SVG}text")]
    thick = [line for line in root.iter(f"{SVG}line") if line.attrib["stroke-width"] == "2.5"]
    assert len(thick) == 2


def test_estimators_are_grouped_by_market_and_sorted_by_regret(tmp_path: Path) -> None:
    summary = pl.DataFrame(
        {"market": ["retail"] * 3 + ["courses"], "scenario": ["base"] * 3 + ["base"],
         "estimator": ["gam", "posterior", "double_ml", "posterior"], "elasticity_error": [0.4, 0.2, None, 0.3],
         "coverage": [0.5, 0.9, None, 0.88], "regret": [0.03, 0.01, None, 0.02]}
    )  # fmt: skip
    root = ElementTree.parse(write_estimator_plot(summary, tmp_path / "plot.svg")).getroot()
    words = [text.text for text in root.iter(f"{SVG}text")]
    shown = [word for word in words if word in ("retail, base", "courses, base", "gam", "posterior", "double ml")]
    # The legend comes first, then a heading and its rows, the least regret on top and who refused at the end.
    assert shown == ["posterior", "retail, base", "posterior", "gam", "double ml", "courses, base", "posterior"]
    assert words.count("refused") == 1
    assert len(list(root.iter(f"{SVG}circle"))) == 9


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"policy plot needs the columns \['kind'\]"):
        write_policy_plot(pl.DataFrame({"policy": ["a"], "regret_share": [0.1]}), tmp_path / "plot.svg")
    assert not (tmp_path / "plot.svg").exists()
