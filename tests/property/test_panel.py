from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import PanelError

KEYS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1, max_size=25)


def frame_of(keys: list[tuple[str, int]]) -> pl.DataFrame:
    items, periods = zip(*keys, strict=True)
    prices = [1.0 + place % 5 for place in range(len(keys))]
    return pl.DataFrame({"item": items, "period": periods, "price": prices, "quantity": 1.0})


def panel_of(frame: pl.DataFrame, absent: str | None = None) -> SalesPanel:
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns), absent)  # type: ignore[arg-type]


@given(keys=KEYS)
def test_duplicates_and_absent_rows_are_counted_as_sets_count_them(keys: list[tuple[str, int]]) -> None:
    repeated = sum(count for key in set(keys) if (count := keys.count(key)) > 1)
    periods = sorted({period for _, period in keys})
    absent = 0
    for item in {item for item, _ in keys}:
        own = {period for name, period in keys if name == item}
        absent += sum(1 for period in periods if min(own) < period < max(own) and period not in own)
    found: dict[str, int] = {}
    try:
        panel_of(frame_of(keys))
    except PanelError as error:
        found = {problem.code: problem.count for problem in error.problems}
    assert found.get("duplicate_key", 0) == repeated
    assert found.get("absent_rows", 0) == absent


@given(keys=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1), seed=st.integers(0, 10**6))
def test_the_order_of_rows_does_not_matter(keys: set[tuple[str, int]], seed: int) -> None:
    frame = frame_of(sorted(keys))
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    one, two = panel_of(frame, "zero"), panel_of(shuffled, "zero")
    assert one.summary == two.summary
    # means of at most seven numbers added in another order
    assert_frame_equal(one.item_table(), two.item_table(), rel_tol=1e-13, abs_tol=1e-15)
    order = ["item", "period"]
    assert one.frame.collect().sort(order).equals(two.frame.collect().sort(order))


@given(keys=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=1))
def test_filled_panels_have_no_gaps_and_keep_the_sales(keys: set[tuple[str, int]]) -> None:
    panel = panel_of(frame_of(sorted(keys)), "zero")
    rows = panel.frame.collect()
    again = panel_of(rows)
    assert again.summary.absent_rows == 0
    assert rows["quantity"].sum() == len(keys)
    assert panel.summary.rows == rows.height == len(keys) + panel.summary.absent_rows


@given(keys=st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 6)), min_size=2), place=st.integers(0, 100))
def test_any_changed_value_changes_the_hash(keys: set[tuple[str, int]], place: int) -> None:
    frame = frame_of(sorted(keys))
    number = place % frame.height
    changed = frame.with_columns(
        price=pl.when(pl.int_range(pl.len()) == number).then(pl.col("price") + 1e-9).otherwise("price")
    )
    assert panel_of(frame, "missing").summary.data_hash != panel_of(changed, "missing").summary.data_hash
