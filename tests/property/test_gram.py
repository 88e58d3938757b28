from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from bayes_pricing.data.gram import Gram, gather_gram

NUMBERS = st.floats(-5, 5, allow_nan=False)
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=40)


def frame_of(rows: list[tuple[str, float, float, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["item", "x", "z", "y"], orient="row")


def gram_of(frame: object, centre: Gram | None = None) -> Gram:
    return gather_gram(frame, "item", "y", ["x", "z"], centre=centre)


def assert_same(gram: Gram, other: Gram) -> None:
    assert gram.items == other.items
    for name in ("count", "xtx", "xty", "yty", "centre"):
        # at most 40 rows of products up to 25: sums up to 1000, of which 1e-10 is asked
        np.testing.assert_allclose(getattr(gram, name), getattr(other, name), rtol=1e-10, atol=1e-10)


@given(rows=ROWS, seed=st.integers(0, 1000))
def test_any_order_and_any_engine_give_the_same(rows: list[tuple[str, float, float, float]], seed: int) -> None:
    frame = frame_of(rows)
    gram = gram_of(frame)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    for other in (shuffled, shuffled.lazy(), shuffled.to_pandas()):
        assert_same(gram_of(other), gram)


@given(rows=ROWS, cut=st.integers(0, 40))
def test_parts_add_up_to_the_whole(rows: list[tuple[str, float, float, float]], cut: int) -> None:
    frame = frame_of(rows)
    whole = gram_of(frame)
    parts = [gram_of(part, centre=whole) for part in (frame[:cut], frame[cut:])]
    assert_same(parts[0].add(parts[1]), whole)
    assert_same(parts[1].add(parts[0]), whole)


@given(rows=ROWS, move=st.floats(-100, 100))
def test_moving_a_column_moves_only_its_centre(rows: list[tuple[str, float, float, float]], move: float) -> None:
    gram = gram_of(frame_of(rows))
    moved = gram_of(frame_of(rows).with_columns(x=pl.col("x") + move))
    np.testing.assert_allclose(moved.centre[:, 1], gram.centre[:, 1] + move, atol=1e-11)
    # adding up to 100 rounds each value to 1.4e-14; forty products of up to 10 with it keep 1e-11
    np.testing.assert_allclose(moved.xtx, gram.xtx, atol=1e-10)
    np.testing.assert_allclose(moved.xty, gram.xty, atol=1e-10)


@given(rows=ROWS)
def test_statistics_are_a_covariance(rows: list[tuple[str, float, float, float]]) -> None:
    gram = gram_of(frame_of(rows))
    np.testing.assert_array_equal(gram.xtx[:, 0, 0], gram.count)
    assert (np.linalg.eigvalsh(gram.xtx) > -1e-9).all()
    np.testing.assert_allclose(gram.xtx, gram.xtx.transpose(0, 2, 1), atol=1e-10)
