from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.designs import TestDesign, design_effect, draw_assignment, intraclass_correlation
from bayes_pricing.experiments.switchback import (
    draw_switches,
    switch_points,
    switchback_effect,
    switchback_p_value,
)


def test_clusters_are_balanced_inside_blocks() -> None:
    units = tuple(f"c{place}" for place in range(18))
    blocks = tuple("big" if place < 7 else "small" for place in range(18))
    design = TestDesign(kind="clusters", arms=("A", "B", "C"), weeks=2, units=units, blocks=blocks)
    drawn = draw_assignment(design, np.random.default_rng(1))
    assert drawn["unit"].to_list() == list(units)
    counts = drawn.with_columns(block=pl.Series(blocks)).group_by("block", "arm").len()
    assert counts.filter(block="big")["len"].sort().to_list() == [2, 2, 3]
    assert counts.filter(block="small")["len"].sort().to_list() == [3, 4, 4]


def test_shares_are_kept_and_who_gets_which_is_chance() -> None:
    design = TestDesign(
        kind="split", arms=("A", "B"), weeks=1, shares=(3.0, 1.0), units=tuple(str(place) for place in range(40))
    )
    rng = np.random.default_rng(2)
    drawn = [draw_assignment(design, rng)["arm"].to_list() for _ in range(200)]
    assert all(arms.count("B") == 10 for arms in drawn)
    often = np.mean([[arm == "B" for arm in arms] for arms in drawn], axis=0)
    assert np.all(np.abs(often - 0.25) < 4 * (0.25 * 0.75 / 200) ** 0.5)


def test_items_by_time_are_balanced_both_ways_in_whole_stretches() -> None:
    design = TestDesign(
        kind="items_by_time",
        arms=("today", "new"),
        weeks=4,
        units=tuple("abcdefgh"),
        blocks=tuple("xxxxyyyy"),
        carryover=7,
    )
    drawn = draw_assignment(design, np.random.default_rng(3)).with_columns(new=pl.col("arm") == "new")
    assert drawn.group_by("unit").agg(pl.col("new").sum())["new"].unique().to_list() == [14]
    by_block = drawn.with_columns(block=pl.col("unit").is_in(list("abcd"))).group_by("block", "period")
    assert by_block.agg(pl.col("new").sum())["new"].unique().to_list() == [2]
    weeks = drawn.with_columns(week=(pl.col("period") - 1) // 7).group_by("unit", "week").agg(pl.col("arm").n_unique())
    assert weeks["arm"].unique().to_list() == [1]


def test_a_switchback_holds_its_arm_between_the_coins() -> None:
    design = TestDesign(kind="switchback", arms=("today", "new"), weeks=4, carryover=2)
    points = switch_points(28, 2)
    for seed in range(10):
        arms = draw_assignment(design, np.random.default_rng(seed))["arm"].to_numpy()
        changes = np.flatnonzero(arms[1:] != arms[:-1]) + 2
        assert set(changes.tolist()) <= set(points)


def test_the_switchback_estimate_is_unbiased_over_all_coins() -> None:
    """Every outcome of the four coins, weighted alike, with a price whose effect lasts two more periods."""
    points, periods, carryover = (1, 5, 7, 9), 12, 2
    rng = np.random.default_rng(4)
    base, lengths = rng.normal(50.0, 10.0, periods), np.diff([*points, periods + 1])
    estimates = []
    for coins in range(16):
        treated = np.repeat([(coins >> bit) & 1 == 1 for bit in range(4)], lengths)
        lagged = sum(np.concatenate([np.zeros(lag), treated[: periods - lag]]) for lag in range(3))
        estimates.append(switchback_effect(base + 2.0 * lagged, treated, points, carryover))
    assert np.mean(estimates) == pytest.approx(6.0, abs=1e-9)  # three periods' worth of 2


def test_the_switchback_p_value_keeps_its_rate() -> None:
    points = switch_points(40, 1)
    rng = np.random.default_rng(5)
    p_values = [
        switchback_p_value(rng.normal(size=40), draw_switches(points, 40, rng), points, 1, rng, draws=199)
        for _ in range(60)
    ]
    assert np.mean(np.array(p_values) <= 0.1) < 0.24  # Binomial(60, 0.1): P(over 14) = 0.1 %


def test_likeness_and_its_price() -> None:
    rng = np.random.default_rng(6)
    cluster = np.repeat(np.arange(400), 5)
    values = rng.normal(size=400)[cluster] + 2.0 * rng.normal(size=2_000)
    assert intraclass_correlation(values, cluster) == pytest.approx(0.2, abs=0.06)  # sd over samples about 0.025
    assert intraclass_correlation(rng.normal(size=2_000), cluster) < 0.08
    assert design_effect(1, 0.5) == 1.0
    assert design_effect(20, 0.1, size_variation=1.0) > design_effect(20, 0.1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"kind": "clusters", "arms": ("A", "B"), "units": ("c1", "c2", "c3")}, "at least two for each arm"),
        ({"kind": "split", "arms": ("A", "A")}, "each once"),
        ({"kind": "split", "arms": ("A", "B"), "shares": (1.0,)}, "shares"),
        ({"kind": "split", "arms": ("A", "B"), "weeks": 0}, "at least 1"),
        ({"kind": "switchback", "arms": ("A", "B", "C")}, "two arms"),
        ({"kind": "switchback", "arms": ("A", "B"), "weeks": 1, "carryover": 2}, "no multiple"),
        ({"kind": "items_by_time", "arms": ("A", "B"), "weeks": 1, "units": tuple("abcd")}, "odd number"),
        ({"kind": "split", "arms": ("A", "B"), "units": ("a", "a")}, "twice"),
        ({"kind": "split", "arms": ("A", "B"), "units": ("a", "b"), "blocks": ("x",)}, "1 entries"),
    ],
)
def test_designs_without_meaning_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        TestDesign(**{"weeks": 2, **fields})  # type: ignore[arg-type]


def test_horizons_that_do_not_suit_the_carryover_are_refused() -> None:
    with pytest.raises(SpecError, match="such as 14"):
        switch_points(13, 2)
    with pytest.raises(SpecError, match="such as 12"):
        switch_points(6, 3)
    with pytest.raises(SpecError, match="is empty"):
        draw_assignment(TestDesign(kind="split", arms=("A", "B"), weeks=1), np.random.default_rng(1))
