from __future__ import annotations

import json
import time

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.assessment import assess
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.identification import identify


def clean(items: int = 20, periods: int = 30, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    size = items * periods
    price = np.round(3 * np.exp(rng.normal(0, 0.1, size)), 2)
    return pl.DataFrame(
        {
            "item": np.repeat([f"item {number:05d}" for number in range(items)], periods),
            "category": np.repeat([f"category {number % 4}" for number in range(items)], periods),
            "period": np.tile(np.arange(periods), items),
            "price": price,
            "quantity": rng.poisson(40 * price**-2.0) + 1,
        }
    )


def panel_of(frame: pl.DataFrame, absent: str | None = None) -> SalesPanel:
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns), absent)  # type: ignore[arg-type]


def test_clean_data_score_full_marks() -> None:
    found = assess(panel_of(clean()))
    assert [score.value for score in (found.completeness, found.validity, found.integrity, found.realism)] == [100] * 4
    assert found.findings == ()
    assert found.left_out == ()


def test_completeness_counts_absent_rows_and_unknown_values() -> None:
    rows = clean().with_columns(cost=pl.when(pl.col("period") < 15).then(1.0))
    gappy = rows.filter(~((pl.col("period") == 7) & (pl.col("item") < "item 00012")))
    for absent in ("missing", "zero"):
        score = assess(panel_of(gappy, absent)).completeness
        assert [finding.code for finding in score.findings] == ["absent_rows", "unknown_values"]
        assert "12 periods" in score.findings[0].message
    # 588 of 600 cells and 288 of 588 costs are there
    missing = assess(panel_of(gappy, "missing")).completeness.value
    assert missing == pytest.approx(100 * 588 / 600 * 288 / 588, abs=0.05)


def test_validity_counts_contradictions() -> None:
    rows = clean().with_columns(
        cost=pl.when(pl.col("period") == 0).then(99.0).otherwise(1.0), list_price=pl.col("price"), stock=pl.lit(1000.0)
    )
    score = assess(panel_of(rows)).validity
    assert [finding.code for finding in score.findings] == ["cost_above_price"]
    assert score.value == pytest.approx(100 * 29 / 30, abs=0.05)


def test_integrity_sees_names_that_differ_by_case() -> None:
    rows = clean().with_columns(pl.col("item").replace({"item 00001": "Item 00000 "}))
    score = assess(panel_of(rows)).integrity
    assert [finding.code for finding in score.findings] == ["names_alike"]
    assert score.value == pytest.approx(100 * (1 - 2 / 24), abs=0.05)


def test_realism_sees_outliers_constants_and_upward_demand() -> None:
    rows = clean()
    odd = rows.with_columns(
        price=pl.when((pl.col("item") == "item 00000") & (pl.col("period") == 3)).then(300.0).otherwise("price"),
        quantity=pl.when(pl.col("item") == "item 00001").then(7).otherwise("quantity"),
    )
    found = assess(panel_of(odd))
    assert [finding.code for finding in found.realism.findings] == ["constant_sales", "price_outliers"]
    assert assess(panel_of(odd), quick=True).left_out == ("outliers of price and quantity",)
    upward = rows.with_columns(quantity=(10 * pl.col("price") ** 2).round())
    score = assess(panel_of(upward)).realism
    assert score.value == 75.0
    assert score.findings[0].code == "demand_rises_with_price"


def test_json_is_plain() -> None:
    plain = json.loads(json.dumps(assess(panel_of(clean())).as_builtins(), allow_nan=False))
    assert plain["completeness"] == {"value": 100.0, "findings": []}


def test_quick_check_of_100_000_rows_is_quick() -> None:
    rows = clean(items=1000, periods=100)
    start = time.perf_counter()
    panel = panel_of(rows)
    assess(panel, quick=True)
    identify(panel, quick=True)
    # promised: under two seconds; measured 0.4 on two cores
    assert time.perf_counter() - start < 2.0
