"""Laws of expected demand in a course market, whatever its numbers."""

from __future__ import annotations

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from simulations.markets.course_prices import draw_price_schedule
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.course_truth import choice_shares, current_prices, expected_units, solve_sensitivity
from simulations.markets.courses import simulate_courses

SETTINGS = CourseMarketSettings(learners=500, teachers=5, courses=32, expected_enrollments=1_500)
TRUTH = simulate_courses(SETTINGS, seed=5).truth
TODAY = current_prices(TRUTH)

factors = st.lists(st.floats(0.5, 2.0), min_size=32, max_size=32).map(
    lambda values: xr.DataArray(values, dims=("item",), coords={"item": list(TRUTH.items)})
)
seeds = st.integers(0, 2**32 - 1)


@given(factor=factors)
def test_nobody_buys_more_than_one_course_a_week(factor: xr.DataArray) -> None:
    units = expected_units(TRUTH, TODAY * factor)
    assert bool((units > 0).all())
    assert float(units.sum()) < SETTINGS.learners


@given(factor=factors, place=st.integers(0, 31), rise=st.floats(1.01, 2.0))
def test_a_dearer_course_sells_less_and_all_others_more(factor: xr.DataArray, place: int, rise: float) -> None:
    before = expected_units(TRUTH, TODAY * factor)
    dearer = (TODAY * factor).copy()
    dearer[{"item": place}] *= rise
    after = expected_units(TRUTH, dearer)
    change = (after - before).to_numpy()
    assert change[place] < 0
    assert (np.delete(change, place) > 0).all()
    assert change.sum() < 0


@given(factor=factors, seed=seeds)
def test_the_order_of_items_does_not_matter(factor: xr.DataArray, seed: int) -> None:
    prices = TODAY * factor
    shuffled = prices.isel(item=np.random.default_rng(seed).permutation(32))
    assert expected_units(TRUTH, shuffled).identical(expected_units(TRUTH, prices))


@given(
    seed=seeds,
    segments=st.integers(1, 8),
    items=st.integers(2, 20),
    level=st.floats(-8, 2),
    offset_sd=st.floats(0, 0.5),
)
def test_solved_sensitivities_give_the_elasticities_asked_for(
    seed: int, segments: int, items: int, level: float, offset_sd: float
) -> None:
    rng = np.random.default_rng(seed)
    attraction = level + rng.normal(0, 1, (segments, items))
    sizes = rng.integers(1, 1_000, segments)
    wanted = rng.normal(-2.4, 0.5, items)
    sensitivity = solve_sensitivity(attraction, sizes, rng.normal(0, offset_sd, segments), wanted)
    step = 1e-5
    for item in range(items):
        nudge = np.zeros(items)
        nudge[item] = step
        up, down = (np.log(sizes @ choice_shares(attraction, sensitivity, sign * nudge)[:, item]) for sign in (1, -1))
        # Rounding costs about 1e-16 / 1e-5, the third derivative (below 1e3) 1e-10 / 6 of itself.
        assert_allclose((up - down) / (2 * step), wanted[item], atol=1e-6)


@given(seed=seeds, points=st.integers(7, 15), weeks=st.integers(30, 160), sd=st.floats(0.27, 0.6))
def test_every_price_schedule_varies_enough(seed: int, points: int, weeks: int, sd: float) -> None:
    rng = np.random.default_rng(seed)
    settings = CourseMarketSettings(courses=16, weeks=weeks, price_points=points, price_log_sd=sd)
    base = rng.uniform(1_500, 10_000, 16)
    schedule = draw_price_schedule(settings, base, rng)
    assert schedule.shape == (16, weeks)
    assert np.log(schedule).std(axis=1).min() >= 0.25
    assert {len(set(row)) for row in schedule.tolist()} == {points}
