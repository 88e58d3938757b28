from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.risk import expected_shortfall, lower_tail_mean, require_tail, tail_mean, value_quantile


def test_shortfall_keeps_the_other_dimensions() -> None:
    draws = xr.DataArray(np.arange(2000.0).reshape(2, 500, 2), dims=("chain", "draw", "item"))
    risk = expected_shortfall(draws, level=0.95)
    assert risk.dims == ("item",)
    np.testing.assert_allclose(risk, [-49.0, -50.0])


def test_the_boundary_draw_counts_in_part() -> None:
    assert tail_mean(np.array([4.0, 1.0, 2.0, 3.0]), 0.375) == pytest.approx((1.0 + 0.5 * 2.0) / 1.5)


def test_a_loss_is_positive() -> None:
    draws = xr.DataArray(np.full((2, 200), -3.0), dims=("chain", "draw"))
    assert float(expected_shortfall(draws)) == pytest.approx(3.0)
    assert float(lower_tail_mean(draws)) == pytest.approx(-3.0)
    assert float(value_quantile(draws)) == pytest.approx(-3.0)


def test_a_tail_of_fewer_than_twenty_draws_is_refused() -> None:
    draws = xr.DataArray(np.zeros((1, 399)), dims=("chain", "draw"))
    with pytest.raises(SpecError, match="at least 400 draws"):
        expected_shortfall(draws)
    require_tail(400, 0.05)


@pytest.mark.parametrize("level", [0.0, 1.0, float("nan")])
def test_a_level_outside_zero_and_one_is_refused(level: float) -> None:
    with pytest.raises(SpecError, match="level"):
        expected_shortfall(xr.DataArray(np.zeros((1, 400)), dims=("chain", "draw")), level=level)
