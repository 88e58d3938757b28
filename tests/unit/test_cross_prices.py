"""Which prices of others a row sees, what is refused, and the matrix of cross-price elasticities."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import xarray as xr
from numpy.testing import assert_allclose

from bayes_pricing.demand.cross_prices import add_other_prices, cross_matrix
from bayes_pricing.errors import Refusal


def shelf(items: list[str], category: str, *, weeks: int = 3, region: str | None = None) -> pl.DataFrame:
    rows = [
        {"item": item, "category": category, "period": week, "price": 1.0 + at + 0.1 * week}
        for at, item in enumerate(items)
        for week in range(weeks)
    ]
    frame = pl.DataFrame(rows)
    return frame if region is None else frame.with_columns(region=pl.lit(region))


def moves(frame: pl.DataFrame) -> dict[tuple[str, int], float]:
    """Log price less the item's mean, by item and week."""
    out = frame.with_columns(move=pl.col("price").log() - pl.col("price").log().mean().over("item"))
    return {(row["item"], row["period"]): row["move"] for row in out.iter_rows(named=True)}


def test_each_row_sees_the_others_of_its_category() -> None:
    frame = pl.concat([shelf(["b", "a", "c"], "x"), shelf(["e", "d"], "y")])
    other = add_other_prices(frame.lazy(), "item", "category")
    found, known = other.frame.collect(), moves(frame)
    names = {"a": ("b", "c"), "b": ("a", "c"), "c": ("a", "b"), "d": ("e", None), "e": ("d", None)}
    assert other.count == 2
    assert {row[0]: row[1:] for row in other.table.iter_rows()} == names
    assert found.height == frame.height
    for row in found.iter_rows(named=True):
        seen = [0.0 if name is None else known[name, row["period"]] for name in names[row["item"]]]
        assert_allclose([row["other_1"], row["other_2"], row["cross_price"]], [*seen, sum(seen)], atol=1e-15)
    assert other.findings == ()


def test_absent_prices_count_as_the_mean_and_are_told() -> None:
    frame = shelf(["a", "b"], "x").filter(~((pl.col("item") == "b") & (pl.col("period") == 1)))
    other = add_other_prices(frame.lazy(), "item", None)
    found = other.frame.filter(pl.col("item") == "a").sort("period").collect()
    assert found["other_1"][1] == 0.0
    # one of five: item b is missing beside one of a's three rows, and a beside none of b's two
    assert [finding.code for finding in other.findings] == ["other_prices_absent"]
    assert "20%" in other.findings[0].message


def test_regions_see_their_own_prices() -> None:
    here, there = shelf(["a", "b"], "x", region="here"), shelf(["a"], "x", region="there")
    frame = pl.concat([here, there]).with_columns(product=pl.col("item"))
    frame = frame.with_columns(item=pl.concat_str("item", pl.lit(" @ "), "region"))
    other = add_other_prices(frame.lazy(), "product", "category")
    assert other.table.rows() == [("a @ here", "b @ here"), ("a @ there", None), ("b @ here", "a @ here")]
    assert (other.frame.filter(pl.col("region") == "there").collect()["other_1"] == 0.0).all()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (shelf([f"i{at:02d}" for at in range(13)], "x"), "cross_prices_too_many"),
        (shelf(["a"], "x"), "cross_prices_without_others"),
        (shelf(["a", "b"], "x").drop("period"), "cross_prices_without_period"),
    ],
)
def test_what_is_refused(frame: pl.DataFrame, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        add_other_prices(frame.lazy(), "item", "category")
    assert [finding.code for finding in refused.value.findings] == [code]
    assert refused.value.findings[0].remedy


def test_the_matrix_holds_mean_plus_deviation() -> None:
    names = ["level", "log_price", "cross_price", "other_1", "other_2"]
    values = np.array([[1.0, -2.0, 0.3, 0.1, -0.1], [1.0, -3.0, 0.2, 0.05, 0.7]])
    draws = xr.DataArray(
        values[None, None],
        dims=("chain", "draw", "item", "coefficient"),
        coords={"item": ["a", "b"], "coefficient": names},
    )
    matrix = cross_matrix(draws, [("b", None), ("c", "a")])
    assert matrix.dims == ("chain", "draw", "item", "other")
    assert_allclose(matrix[0, 0], [[-2.0, 0.4], [0.9, -3.0]])
