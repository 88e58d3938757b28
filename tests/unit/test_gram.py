from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.gram import Gram, gather_gram
from bayes_pricing.data.lag import lag_products
from bayes_pricing.data.sample import sample_rows
from bayes_pricing.errors import PanelError, SpecError

COLUMNS = ["log_price", "promo"]


def sales(seed: int = 3, rows: int = 400, items: int = 7) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "item": [f"i{number}" for number in rng.integers(0, items, rows)],
            "log_price": rng.normal(3.0, 0.1, rows),
            "promo": rng.random(rows),
            "log_units": rng.normal(5.0, 1.0, rows),
        }
    )


def rows_of(frame: pl.DataFrame, item: str) -> tuple[np.ndarray, np.ndarray]:
    mine = frame.filter(item=item)
    controls = mine.select(COLUMNS).to_numpy()
    design = np.column_stack([np.ones(mine.height), controls - controls.mean(axis=0)])
    return design, mine["log_units"].to_numpy()


def assert_same(gram: Gram, other: Gram) -> None:
    assert gram.items == other.items
    for name in ("count", "xtx", "xty", "yty", "centre"):
        # 1e-10 of the size of the uncentred sums: what adding the same rows in another order may change
        np.testing.assert_allclose(getattr(gram, name), getattr(other, name), rtol=1e-10, atol=1e-10 * 1e4)


def test_statistics_are_those_of_the_rows() -> None:
    frame = sales()
    gram = gather_gram(frame, "item", "log_units", COLUMNS)
    assert gram.columns == ("level", "log_price", "promo")
    assert gram.items == tuple(sorted(set(frame["item"])))
    for place, item in enumerate(gram.items):
        design, response = rows_of(frame, item)
        assert gram.count[place] == len(response)
        np.testing.assert_allclose(gram.xtx[place], design.T @ design, atol=1e-10)
        np.testing.assert_allclose(gram.xty[place], design.T @ response, atol=1e-10)
        assert gram.yty[place] == pytest.approx(response @ response, rel=1e-13)


def test_large_offsets_do_not_drown_small_variation() -> None:
    # years near 2000 with an sd of 1e-3: raw squares would leave 2^-52 * 4e6 * 400 = 4e-7 of error in sums of 4e-4
    frame = sales().with_columns(promo=2000.0 + 1e-3 * pl.col("promo"))
    gram = gather_gram(frame, "item", "log_units", COLUMNS)
    design, _ = rows_of(frame, gram.items[0])
    np.testing.assert_allclose(gram.xtx[0, 2, 2], (design.T @ design)[2, 2], rtol=1e-8)


def test_every_engine_gives_the_same_statistics() -> None:
    frame = sales()
    gram = gather_gram(frame, "item", "log_units", COLUMNS)
    connection = duckdb.connect()
    try:
        frames = [
            frame.lazy(),
            frame.to_pandas(),
            frame.to_arrow(),
            connection.from_arrow(frame.to_arrow()),
        ]
        for other in frames:
            assert_same(gather_gram(other, "item", "log_units", COLUMNS), gram)
    finally:
        connection.close()


@pytest.mark.slow
def test_dask_gives_the_same_statistics() -> None:
    import dask.dataframe as dd

    frame = sales()
    parts = dd.from_pandas(frame.to_pandas(), npartitions=3)  # type: ignore[no-untyped-call]
    assert_same(gather_gram(parts, "item", "log_units", COLUMNS), gather_gram(frame, "item", "log_units", COLUMNS))


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_missing_and_infinite_values_are_refused(bad: float | None) -> None:
    frame = sales().with_columns(promo=pl.when(pl.int_range(pl.len()) == 5).then(pl.lit(bad)).otherwise("promo"))
    for other in (frame, frame.to_pandas()):
        with pytest.raises(PanelError, match="finite value"):
            gather_gram(other, "item", "log_units", COLUMNS)


def test_only_chosen_columns_are_centred() -> None:
    gram = gather_gram(sales(), "item", "log_units", COLUMNS, centred=["log_price"])
    assert (gram.centre[:, 2] == 0).all()
    mine = sales().filter(item=gram.items[0])["promo"].to_numpy()
    assert gram.xtx[0, 2, 2] == pytest.approx(mine @ mine, rel=1e-12)


def test_new_weeks_keep_the_frozen_centre() -> None:
    frame = sales()
    whole = gather_gram(frame, "item", "log_units", COLUMNS)
    old = gather_gram(frame[:300], "item", "log_units", COLUMNS, centre=whole)
    new = gather_gram(frame[300:], "item", "log_units", COLUMNS, centre=whole)
    assert_same(old.add(new), whole)


def test_new_items_are_appended_in_order() -> None:
    frame = sales()
    one, two = frame.filter(pl.col("item") < "i4"), frame.filter(pl.col("item") >= "i4")
    whole = gather_gram(frame, "item", "log_units", COLUMNS)
    parts = [gather_gram(part, "item", "log_units", COLUMNS) for part in (two, one)]
    assert_same(parts[0].add(parts[1]), whole)


def test_statistics_centred_apart_do_not_add() -> None:
    frame = sales()
    gram = gather_gram(frame[:300], "item", "log_units", COLUMNS)
    with pytest.raises(SpecError, match="centred otherwise"):
        gram.add(gather_gram(frame[300:], "item", "log_units", COLUMNS))
    with pytest.raises(SpecError, match="do not add up"):
        gram.add(gather_gram(frame, "item", "log_units", ["log_price"]))


def test_select() -> None:
    gram = gather_gram(sales(), "item", "log_units", COLUMNS)
    some = gram.select(["i5", "i2"])
    assert some.items == ("i2", "i5")
    np.testing.assert_array_equal(some.xty[1], gram.xty[gram.items.index("i5")])
    with pytest.raises(SpecError, match="'other'"):
        gram.select(["other"])


def panel_rows(seed: int, rho: float) -> pl.DataFrame:
    """Three items over 200 periods, residuals autocorrelated by rho; item b lacks period 50."""
    rng = np.random.default_rng(seed)
    frames = []
    for item in "abc":
        noise = np.zeros(200)
        for place in range(1, 200):
            noise[place] = rho * noise[place - 1] + rng.normal()
        price = rng.normal(3.0, 0.2, 200)
        frames.append(
            pl.DataFrame({"item": item, "period": np.arange(200), "x": price, "y": 4.0 - 2.0 * price + noise})
        )
    return pl.concat(frames).filter(~((pl.col("item") == "b") & (pl.col("period") == 50)))


def test_lag_products_are_those_of_consecutive_rows() -> None:
    frame = panel_rows(1, 0.5)
    gram = gather_gram(frame, "item", "y", ["x"])
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=4).lazy()
    lagged = lag_products(shuffled, "item", "period", "y", ["x"], centre=gram)
    assert lagged.pairs.tolist() == [199.0, 197.0, 199.0]
    mine = frame.filter(item="a")
    design = np.column_stack([np.ones(200), mine["x"].to_numpy() - gram.centre[0, 1]])
    y = mine["y"].to_numpy()
    np.testing.assert_allclose(lagged.xtx[0], design[1:].T @ design[:-1], atol=1e-9)
    np.testing.assert_allclose(lagged.xty[0], design[1:].T @ y[:-1], atol=1e-9)
    np.testing.assert_allclose(lagged.ytx[0], y[1:] @ design[:-1], atol=1e-9)
    assert lagged.yty[0] == pytest.approx(y[1:] @ y[:-1], rel=1e-12)


def test_autocorrelation_is_recovered() -> None:
    frame = panel_rows(2, 0.6)
    gram = gather_gram(frame, "item", "y", ["x"])
    lagged = lag_products(frame.lazy(), "item", "period", "y", ["x"], centre=gram)
    truth = np.column_stack([4.0 - 2.0 * gram.centre[:, 1], np.full(3, -2.0)])
    # standard error of a lag-one autocorrelation is sqrt((1 - 0.36) / 200) = 0.057
    np.testing.assert_allclose(lagged.autocorrelation(gram, truth), 0.6, atol=4 * 0.057)


def test_an_item_without_a_pair_has_no_autocorrelation() -> None:
    frame = pl.DataFrame({"item": ["a", "a", "b"], "period": [1, 2, 1], "x": [0.0, 1.0, 0.0], "y": [1.0, 2.0, 3.0]})
    gram = gather_gram(frame, "item", "y", ["x"])
    lagged = lag_products(frame.lazy(), "item", "period", "y", ["x"], centre=gram)
    assert np.isnan(lagged.autocorrelation(gram, np.zeros((2, 2)))).tolist() == [False, True]


def test_lag_pairs_stay_inside_a_region() -> None:
    frame = pl.DataFrame(
        {"item": ["a"] * 4, "region": ["n", "s", "n", "s"], "period": [1, 2, 3, 3], "x": 0.0, "y": [1.0, 2.0, 3.0, 4.0]}
    )
    gram = gather_gram(frame, "item", "y", ["x"])
    lagged = lag_products(frame.lazy(), "item", "period", "y", ["x"], centre=gram)
    assert lagged.pairs.tolist() == [1.0]
    assert lagged.yty.tolist() == pytest.approx([8.0])


def test_lag_products_of_other_columns_are_refused() -> None:
    frame = panel_rows(1, 0.0)
    gram = gather_gram(frame, "item", "y", ["x"])
    with pytest.raises(SpecError, match="columns"):
        lag_products(frame.lazy(), "item", "period", "y", [], centre=gram)


def test_a_sample_depends_on_the_seed_only() -> None:
    frame = panel_rows(1, 0.0)
    kept = sample_rows(frame.lazy(), 50, seed=7)
    assert kept.height == 50
    again = sample_rows(frame.reverse().lazy().with_columns(extra=pl.lit(1)), 50, seed=7)
    assert again.drop("extra").equals(kept)
    assert not sample_rows(frame.lazy(), 50, seed=8).equals(kept)


def test_a_sample_is_spread_evenly() -> None:
    frame = panel_rows(1, 0.0)
    counts = np.zeros(3)
    for seed in range(40):
        kept = sample_rows(frame.lazy(), 60, seed=seed)
        counts += kept.group_by("item").len().sort("item")["len"].to_numpy()
    # 800 expected of each; binomial sd sqrt(2400 * 1/3 * 2/3 * (1 - 60/599)) = 22, four of them
    np.testing.assert_allclose(counts, 800, atol=4 * 22)


def test_a_sample_of_more_than_there_is() -> None:
    frame = pl.LazyFrame({"item": ["a", "b"], "price": [1.0, 2.0], "quantity": [1.0, 1.0]})
    assert sample_rows(frame, 10, seed=1).height == 2
    with pytest.raises(SpecError, match="at least 1"):
        sample_rows(frame, 0, seed=1)


def test_sums_do_not_depend_on_the_order_of_rows() -> None:
    """A streaming engine adds in whatever order its threads get there; draws of a chain differ from the last bit on."""
    rng = np.random.default_rng(1)
    rows = pl.DataFrame(
        {"item": [f"i{at % 7}" for at in range(5000)], "x": rng.normal(3.0, 0.1, 5000), "y": rng.normal(5.0, 2.0, 5000)}
    )
    found = gather_gram(rows, "item", "y", ["x"])
    for seed in range(3):
        again = gather_gram(rows.sample(fraction=1.0, shuffle=True, seed=seed), "item", "y", ["x"])
        for name in ("xtx", "xty", "yty", "centre"):
            assert (getattr(again, name) == getattr(found, name)).all(), name
    one = rows.filter(item="i3")
    centred = one["x"].to_numpy() - one["x"].mean()
    np.testing.assert_allclose(found.xtx[3, 1, 1], centred @ centred, rtol=1e-10)
