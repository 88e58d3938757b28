"""Laws of price tests."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from bayes_pricing.experiments.designs import TestDesign, draw_assignment
from bayes_pricing.experiments.effects import Contrast, effect_of, holm
from bayes_pricing.experiments.group_sequential import crossing_probabilities, plan_looks
from bayes_pricing.experiments.monitoring import SequenceTuning, sequence_multiplier
from bayes_pricing.experiments.sample_ratio import check_sample_ratio
from bayes_pricing.experiments.switchback import switch_points
from tests.trials import read, trial_of, user_rows

seeds = st.integers(0, 10_000)


@given(seed=seeds, unit=st.floats(0.01, 100), shift=st.floats(-50, 50))
def test_a_read_out_does_not_mind_the_currency_or_a_fixed_sum(seed: int, unit: float, shift: float) -> None:
    frame = user_rows(60, 0.5, seed)
    base = read(trial_of(frame)).effects[0]
    other = read(trial_of(frame.with_columns(pl.col("spent") * unit + shift))).effects[0]
    for name in ("mean", "sd", "lower", "upper", "expected_loss"):
        assert_allclose(getattr(other, name), unit * getattr(base, name), rtol=1e-6, atol=1e-9 * unit)
    assert_allclose(other.probability_better, base.probability_better, atol=1e-9)


@given(seed=seeds)
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    frame = user_rows(40, 0.5, seed)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    base, other = (read(trial_of(rows, unit="user")).effects[0] for rows in (frame, shuffled))
    assert_allclose([other.mean, other.sd], [base.mean, base.sd], rtol=1e-9)


@given(seed=seeds)
def test_swapping_arms_turns_the_effect_round(seed: int) -> None:
    frame = user_rows(50, 0.5, seed)
    base, other = (read(trial_of(frame, control_arm=name)).effects[0] for name in ("A", "B"))
    assert_allclose([other.mean, other.sd], [-base.mean, base.sd], rtol=1e-9)
    assert_allclose(other.probability_better, 1 - base.probability_better, atol=1e-12)
    # what one decision loses more than the other is the effect itself
    assert_allclose(other.expected_loss - base.expected_loss, base.mean, atol=1e-9)


@given(mean=st.floats(-5, 5), error=st.floats(0.01, 5), freedom=st.floats(3, 1e7), wide=st.floats(0.5, 0.99))
def test_a_wider_interval_holds_a_narrower_one(mean: float, error: float, freedom: float, wide: float) -> None:
    contrast = Contrast(mean=mean, standard_error=error, degrees_of_freedom=freedom)
    outer, inner = effect_of(contrast, "o", "B", wide), effect_of(contrast, "o", "B", wide / 2)
    assert outer.lower <= inner.lower <= mean <= inner.upper <= outer.upper
    assert outer.expected_loss >= max(0.0, -mean) - 1e-12


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_p_value_and_bonferroni(p: list[float]) -> None:
    alone = np.array(p)
    adjusted = holm(alone)
    assert np.all(adjusted >= alone - 1e-15)
    assert np.all(adjusted <= np.minimum(alone * alone.size, 1.0) + 1e-12)
    assert np.all(np.diff(adjusted[np.argsort(alone, kind="stable")]) >= 0)


@given(units=st.floats(1, 1e9), planned=st.floats(10, 1e8), confidence=st.floats(0.5, 0.999))
def test_watching_costs_width(units: float, planned: float, confidence: float) -> None:
    from scipy.special import ndtri

    tuning = SequenceTuning(planned_units=planned, confidence=confidence)
    assert sequence_multiplier(units, tuning) > ndtri(0.5 + confidence / 2)
    # narrowest, in units of the outcome, for a test tuned to this size: no other tuning beats it by more than 1 %
    here = float(sequence_multiplier(planned, tuning))
    elsewhere = SequenceTuning(planned_units=planned * 7, confidence=confidence)
    assert here < 1.01 * float(sequence_multiplier(planned, elsewhere))


@given(looks=st.integers(1, 6), alpha=st.floats(0.01, 0.3), drift=st.floats(0, 4))
def test_more_effect_is_more_power_and_none_is_alpha(looks: int, alpha: float, drift: float) -> None:
    planned = plan_looks(looks, "pocock", alpha=alpha)
    none = float(crossing_probabilities(planned.bounds, planned.information).sum())
    assert_allclose(none, alpha, atol=1e-8)
    assert float(crossing_probabilities(planned.bounds, planned.information, drift).sum()) >= none - 1e-9


@given(counts=st.lists(st.integers(1, 10_000), min_size=2, max_size=5), seed=seeds)
def test_the_sample_ratio_does_not_mind_names(counts: list[int], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(counts))
    base, other = check_sample_ratio(counts), check_sample_ratio([counts[place] for place in order])
    assert_allclose(other.p_value, base.p_value, rtol=1e-9, atol=1e-300)


@given(
    seed=seeds, pairs=st.integers(2, 8), weeks=st.integers(1, 6), carryover=st.sampled_from([1, 7]), odd=st.booleans()
)
def test_items_by_time_are_balanced(seed: int, pairs: int, weeks: int, carryover: int, odd: bool) -> None:
    units = tuple(str(place) for place in range(2 * pairs + odd))
    design = TestDesign(kind="items_by_time", arms=("A", "B"), weeks=2 * weeks, units=units, carryover=carryover)
    drawn = draw_assignment(design, np.random.default_rng(seed)).with_columns(new=pl.col("arm") == "B")
    by_item = drawn.group_by("unit").agg(pl.col("new").sum())["new"]
    assert (by_item * 2 == design.periods).all()
    by_period = drawn.group_by("period").agg(pl.col("new").sum())["new"]
    assert (by_period.is_between(pairs, pairs + odd)).all()


@given(steps=st.integers(4, 60), carryover=st.integers(1, 14))
def test_switches_are_never_closer_than_the_carryover(steps: int, carryover: int) -> None:
    points = switch_points(steps * carryover, carryover)
    gaps = np.diff([*points, steps * carryover + 1])
    assert points[0] == 1
    assert gaps.min() >= carryover
    assert gaps[0] == gaps[-1] == 2 * carryover
