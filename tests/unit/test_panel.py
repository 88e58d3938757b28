from __future__ import annotations

import datetime as dt
import math

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest

from bayes_pricing.data.items import rows_near
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import PanelError, Problem, SpecError
from tests.support import shared_data

SALES = pl.DataFrame(
    {
        "item": ["tea", "tea", "tea", "jam", "jam", "jam"],
        "category": ["drinks"] * 3 + ["spreads"] * 3,
        "period": ["2026-W01", "2026-W02", "2026-W03"] * 2,
        "price": [3.0, 2.5, 2.0, 4.0, 4.0, 4.4],
        "quantity": [10, 14, 0, 5, 6, 4],
    }
)


def panel_of(frame: pl.DataFrame, **options: object) -> SalesPanel:
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, **options))  # type: ignore[arg-type]


def problems_of(frame: pl.DataFrame, absent: str | None = None, **options: object) -> dict[str, Problem]:
    with pytest.raises(PanelError) as error:
        SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, **options), absent)  # type: ignore[arg-type]
    return {problem.code: problem for problem in error.value.problems}


def test_summary_and_canonical_columns() -> None:
    panel = panel_of(SALES)
    assert panel.frame.collect_schema() == {
        "item": pl.String,
        "category": pl.String,
        "period": pl.Date,
        "price": pl.Float64,
        "quantity": pl.Float64,
    }
    summary = panel.summary
    assert (summary.rows, summary.items, summary.zero_rows, summary.periods) == (6, 2, 1, 3)
    assert (summary.first_period, summary.last_period) == (dt.date(2025, 12, 29), dt.date(2026, 1, 12))
    assert summary.units == {"category": 2}
    assert summary.absent_rows == 0


def test_item_table() -> None:
    table = panel_of(SALES.with_columns(cost=pl.Series([1.0, 1.2, None, 2, 2, 2]))).item_table()
    assert table["item"].to_list() == ["jam", "tea"]
    tea = table.row(1, named=True)
    assert tea["current_price"] == 2.0
    assert tea["cost"] == 1.2  # the last one known
    assert tea["units_per_period"] == 8.0
    assert (tea["lowest_price"], tea["highest_price"], tea["distinct_prices"], tea["rows"]) == (2.0, 3.0, 3, 3)
    assert tea["exposure"] == 1.0
    logs = np.log([3.0, 2.5, 2.0])
    assert tea["reference_log_price"] == pytest.approx(logs.mean(), rel=1e-12)
    assert tea["within_sd_log_price"] == pytest.approx(logs.std(ddof=1), rel=1e-12)
    assert tea["last_period"] == dt.date(2026, 1, 12)
    assert tea["price_counts"] == "69:1 92:1 110:1"  # hundredths of log 2, log 2.5 and log 3
    assert tea["last_other_price"] == dt.date(2026, 1, 5)
    assert tea["sold_out_share"] is None
    flagged = panel_of(SALES.with_columns(sold_out=pl.Series([1, 0, 0, 1, 0, 1]))).item_table()
    assert sorted(flagged["sold_out_share"].to_list()) == pytest.approx([1 / 3, 2 / 3])


def test_rows_near_a_price_are_counted() -> None:
    rng = np.random.default_rng(3)
    prices = rng.choice([1.79, 1.85, 1.99, 2.05, 2.19, 2.49], 500)
    frame = pl.DataFrame({"item": "a", "period": np.arange(500), "price": prices, "quantity": 1.0})
    counts = panel_of(frame).item_table()["price_counts"][0]
    for price in (1.99, 2.28, 2.49, 5.0):
        inside = np.abs(np.log(prices / price)) <= np.log(1.05)
        assert rows_near(counts, price, 0.05) == inside.sum()  # none of them within half a per cent of the edge


def test_a_control_that_carries_a_role_s_name_is_a_control_only() -> None:
    frame = SALES.with_columns(cost=pl.lit(0.5), exposure=pl.lit(3.0))
    table = panel_of(frame, controls=("cost", "exposure")).item_table()
    assert table["cost"].to_list() == [None, None]
    assert table["exposure"].to_list() == [1.0, 1.0]
    assert table["mean_cost"].to_list() == [0.5, 0.5]


def test_item_table_without_periods_takes_the_usual_price() -> None:
    table = panel_of(SALES.drop("period").with_columns(disp=pl.lit(0.5)), controls=("disp",)).item_table()
    assert table["current_price"][1] == pytest.approx(math.exp(np.log([3.0, 2.5, 2.0]).mean()), rel=1e-12)
    assert table["first_period"].to_list() == [None, None]
    assert table["mean_disp"].to_list() == [0.5, 0.5]


def test_every_problem_is_in_one_answer_with_counts_and_rows() -> None:
    bad = pl.DataFrame(
        {
            "item": ["tea", "tea", "tea", "jam", "jam", "salt", "salt"],
            "category": ["drinks", "drinks", "drinks", "spreads", "dips", "spices", "spices"],
            "period": [1, 2, 2, 1, 2, 1, 2],
            "price": ["3", "0", "2.5", "free", "4", "inf", None],
            "quantity": [10, 14, -2, 5, 6, 4, None],
        }
    )
    found = problems_of(bad, cost="kost")
    assert {code: problem.count for code, problem in found.items()} == {
        "unknown_column": 0,
        "non_numeric_text": 1,
        "infinite_value": 1,
        "missing_price": 1,
        "non_positive_price": 1,
        "missing_quantity": 1,
        "negative_quantity": 1,
        "duplicate_key": 2,
        "item_in_two_categories": 2,
    }
    assert "choose from item, category, period, price, quantity" in found["unknown_column"].remedy
    assert found["non_numeric_text"].examples == ({"item": "jam", "period": 1, "price": "free"},)
    assert found["non_positive_price"].examples == ({"item": "tea", "period": 2, "price": "0"},)
    assert found["negative_quantity"].examples == ({"item": "tea", "period": 2, "quantity": -2},)
    assert found["duplicate_key"].examples == ({"item": "tea", "period": 2, "rows": 2},)
    assert found["item_in_two_categories"].examples == (
        {"item": "jam", "category": "dips"},
        {"item": "jam", "category": "spreads"},
    )


def test_three_example_rows_at_most() -> None:
    found = problems_of(SALES.with_columns(price=pl.lit(-1.0)))
    assert found["non_positive_price"].count == 6
    assert len(found["non_positive_price"].examples) == 3


def test_no_rows() -> None:
    assert set(problems_of(SALES.clear())) == {"no_rows"}


def test_missing_names_and_control_values() -> None:
    frame = SALES.with_columns(
        item=pl.Series(["tea", "tea", "", "jam", None, "jam"]),
        disp=pl.Series([1.0, math.nan, 1.0, 1.0, 1.0, None]),
        category=pl.Series(["drinks", None, "drinks", "spreads", "spreads", "spreads"]),
    )
    found = problems_of(frame, absent="missing", controls=("disp",))
    assert found["missing_item"].count == 2
    with pytest.raises(PanelError, match=r"1 row without a category.*\n.*2 rows without a disp"):
        SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, controls=("disp",)), "missing")


def test_a_category_in_two_departments() -> None:
    frame = SALES.with_columns(category=pl.lit("food"), department=pl.Series(["north"] * 3 + ["south"] * 3))
    found = problems_of(frame, levels=("category", "department"))
    assert set(found) == {"level_in_two_parents"}
    assert found["level_in_two_parents"].count == 6


def test_duplicates_are_not_looked_for_without_periods() -> None:
    doubled = pl.concat([SALES, SALES]).drop("period")
    assert panel_of(doubled).summary.rows == 12


def test_a_region_is_part_of_the_key() -> None:
    two = pl.concat([SALES.with_columns(store=pl.lit(name)) for name in ("north", "south")])
    assert panel_of(two).summary.items == 2
    assert problems_of(two.drop("store"))["duplicate_key"].count == 12


@pytest.fixture
def gappy() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item": ["tea", "tea", "tea", "jam", "jam", "jam", "jam"],
            "period": [1, 2, 4, 1, 2, 3, 4],
            "price": [3.0, 2.5, 2.0, 4.0, 4.0, 4.0, 4.0],
            "quantity": [10, 14, 20, 5, 6, 4, 5],
            "season": [0.0, 1.0, 0.0, 0.0, 1.0, 7.0, 0.0],
            "shelf": [5.0, 6.0, 7.0, 1.0, 1.0, 1.0, 1.0],
        }
    )


def test_absent_rows_are_refused_until_explained(gappy: pl.DataFrame) -> None:
    found = problems_of(gappy)
    assert set(found) == {"absent_rows"}
    assert found["absent_rows"].count == 1
    assert found["absent_rows"].examples == ({"item": "tea", "period": 3},)
    assert "--absent zero" in found["absent_rows"].remedy


def test_absent_missing_leaves_rows_as_they_are(gappy: pl.DataFrame) -> None:
    summary = SalesPanel.from_frame(gappy, ColumnRoles.resolve(gappy.columns), "missing").summary
    assert (summary.rows, summary.absent_rows, summary.absent, summary.zero_rows) == (7, 1, "missing", 0)


def test_absent_zero_adds_rows_at_the_last_price(gappy: pl.DataFrame) -> None:
    roles = ColumnRoles.resolve(gappy.columns, controls=("season", "shelf"))
    panel = SalesPanel.from_frame(gappy, roles, "zero")
    assert (panel.summary.rows, panel.summary.absent_rows, panel.summary.zero_rows) == (8, 1, 1)
    added = panel.frame.filter(item="tea", period=3).collect().row(0, named=True)
    # the season is the period's, the shelf place the item's own
    assert added == {"item": "tea", "period": 3, "price": 2.5, "quantity": 0.0, "season": 7.0, "shelf": 6.0}
    assert panel.frame.collect().height == 8


def test_rows_before_the_first_and_after_the_last_are_not_absent(gappy: pl.DataFrame) -> None:
    late = gappy.filter(~((pl.col("item") == "tea") & (pl.col("period") < 4)))
    assert panel_of(late).summary.absent_rows == 0


def test_a_wrong_word_for_absent_is_refused() -> None:
    with pytest.raises(SpecError, match="'drop'"):
        SalesPanel.from_frame(SALES, ColumnRoles.resolve(SALES.columns), "drop")  # type: ignore[arg-type]


def test_a_repeated_key_hidden_by_a_gap_is_seen() -> None:
    # as many rows as periods: only the sum of hashes tells that period 2 stands twice and 3 is absent
    frame = pl.DataFrame(
        {"item": ["a"] * 4 + ["b"] * 4, "period": [1, 2, 2, 4, 1, 2, 3, 4], "price": 1.0, "quantity": 1}
    )
    found = problems_of(frame)
    assert {code: problem.count for code, problem in found.items()} == {"duplicate_key": 2, "absent_rows": 1}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 7], 7),
        (["3", " 7 "], 7),
        ([3.0, 7.0], 7),
        (["2026-01-05", "2026-01-12"], dt.date(2026, 1, 12)),
        (["2026-01-05T10:00:00", "2026-01-12 23:59"], dt.date(2026, 1, 12)),
        (["2026-W02", "2026W03"], dt.date(2026, 1, 12)),
        (["2026-01", "2026-02"], dt.date(2026, 2, 1)),
        (["2026-Q1", "2026Q3"], dt.date(2026, 7, 1)),
        ([dt.datetime(2026, 1, 5), dt.datetime(2026, 1, 12, 8)], dt.date(2026, 1, 12)),
        ([dt.date(2026, 1, 5), dt.date(2026, 1, 12)], dt.date(2026, 1, 12)),
    ],
)
def test_periods_of_every_kind(values: list[object], expected: object) -> None:
    frame = pl.DataFrame({"item": ["a", "a"], "period": values, "price": 1.0, "quantity": 1})
    assert panel_of(frame).summary.last_period == expected


@pytest.mark.parametrize(
    "values",
    [
        ["2026-01-05", "05.01.2026"],
        ["1", "one"],
        [1.0, 1.5],
        ["2026-13", "2026-01"],
        ["2026-Q1", "2026-Q5"],
        ["2026-W01", "2026-01-12"],
    ],
)
def test_periods_that_cannot_be_read(values: list[object]) -> None:
    frame = pl.DataFrame({"item": ["a", "a"], "period": values, "price": 1.0, "quantity": 1})
    assert problems_of(frame)["bad_period"].count == 1


def test_periods_without_a_value() -> None:
    frame = pl.DataFrame({"item": ["a", "a"], "period": [1, None], "price": 1.0, "quantity": 1})
    assert set(problems_of(frame)) == {"missing_period"}


def test_money_is_deflated_to_the_last_period() -> None:
    frame = SALES.with_columns(index=pl.Series([1.0, 1.1, 1.25] * 2), cost=pl.lit(1.0))
    panel = panel_of(frame, deflator="index")
    tea = panel.frame.filter(item="tea").sort("period").collect()
    assert tea["price"].to_list() == pytest.approx([3.0 * 1.25, 2.5 * 1.25 / 1.1, 2.0])
    assert tea["cost"].to_list() == pytest.approx([1.25, 1.25 / 1.1, 1.0])
    assert panel.summary.deflated
    assert panel.item_table()["current_price"].to_list() == pytest.approx([4.4, 2.0])


def test_the_same_panel_from_every_kind_of_frame() -> None:
    eager = panel_of(SALES)
    pandas = SALES.to_pandas()
    pandas["category"] = pandas["category"].astype("category")
    connection = duckdb.connect()
    try:
        for frame in (SALES.lazy(), pandas, SALES.to_arrow(), connection.from_arrow(SALES.to_arrow())):
            panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(SALES.columns))
            assert panel.summary == eager.summary
            assert panel.frame.collect().equals(eager.frame.collect())
    finally:
        connection.close()


@pytest.mark.slow
def test_dask_frames_are_taken() -> None:
    import dask.dataframe as dd

    frame = dd.from_pandas(SALES.to_pandas(), npartitions=2)  # type: ignore[no-untyped-call]
    panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(SALES.columns))
    assert panel.summary.data_hash == panel_of(SALES).summary.data_hash


def test_pandas_columns_that_mix_text_and_numbers() -> None:
    frame = pd.DataFrame({"item": ["a", "a"], "price": [1.5, "two"], "quantity": [1, 2]})
    with pytest.raises(PanelError, match="non-numeric text") as error:
        SalesPanel.from_frame(frame, ColumnRoles.resolve(list(frame.columns)))
    assert error.value.problems[0].examples == ({"item": "a", "price": "two"},)


def test_item_numbers_are_the_same_items_in_every_type() -> None:
    hashes = {
        panel_of(
            pl.DataFrame({"item": pl.Series([7, 7], dtype=dtype), "period": [1, 2], "price": 1.0, "quantity": 1})
        ).summary.data_hash
        for dtype in (pl.Int64, pl.Float64, pl.UInt8)
    }
    text = pl.DataFrame({"item": ["7", "7"], "period": [1, 2], "price": 1.0, "quantity": 1})
    assert hashes == {panel_of(text).summary.data_hash}


def test_the_hash_sees_a_swap_of_prices_between_rows() -> None:
    swapped = SALES.with_columns(price=pl.Series([2.5, 3.0, 2.0, 4.0, 4.0, 4.4]))
    assert panel_of(swapped).summary.data_hash != panel_of(SALES).summary.data_hash


def test_the_hash_does_not_change_between_releases() -> None:
    # a saved model names the data it was fitted to; a new hash function would disown every saved model
    frame = pl.DataFrame({"item": ["a", "a"], "period": [1, 2], "price": [1.0, 2.5], "quantity": [0, 3]})
    assert panel_of(frame).summary.data_hash == "7d38e33ac808455e7f8763de6841160327886106f796f0eccca476b387a93996"


def test_what_is_not_a_table_is_refused() -> None:
    with pytest.raises(PanelError, match="list is not a table"):
        SalesPanel.from_frame([1, 2], ColumnRoles(item="a", price="b", quantity="c"))


def test_sold_out_flags() -> None:
    frame = SALES.with_columns(sold_out=pl.Series(["yes", "no", "maybe", "0", "1", None]))
    assert problems_of(frame)["non_numeric_text"].count == 1
    good = SALES.with_columns(sold_out=pl.Series([1, 0, 0, 1, 0, 1]))
    assert panel_of(good).frame.collect()["sold_out"].to_list() == [True, False, False, True, False, True]


def test_cheese_has_no_periods() -> None:
    frame = pl.read_csv(shared_data("cheese.csv"))
    panel = panel_of(frame, item="retailer", controls=("disp",))
    assert (panel.summary.rows, panel.summary.items, panel.summary.periods) == (5555, 88, 0)
