"""Demand whose elasticity changes with price: closed forms of the best price."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from bayes_pricing.demand.changing import elasticity_at_price
from bayes_pricing.demand.forecast import predict_units
from bayes_pricing.demand.spec import PRICE_CURVE, DemandSpec
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.curved import prices_on_curve
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import ArrayPosterior, posterior_from_draws

SPEC = DemandSpec(controls=(PRICE_CURVE,))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CurvedPosterior(ArrayPosterior):
    """The same draws, with a curve that is one number for all items."""

    curve: float

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        plain = ArrayPosterior.coefficients(self, level, units)
        curve = xr.full_like(plain.isel(coefficient=[0]), self.curve).assign_coords(coefficient=[PRICE_CURVE])
        return xr.concat([plain, curve], dim="coefficient")


def curved(elasticity: float, curve: float, cost: float | None = None) -> CurvedPosterior:
    """One item without uncertainty, seen from half to twice its price of 10."""
    plain = posterior_from_draws(np.full((400, 1), elasticity), cost=cost, spec=SPEC)
    parts = {name: getattr(plain, name) for name in ArrayPosterior.__slots__}
    return CurvedPosterior(**parts, curve=curve)


def test_revenue_peaks_where_the_elasticity_is_minus_one() -> None:
    """1 + e + 2 k x = 0 at x = (1 - 0.6) / 1.6: the peak stands inside, and no end of the prices is chosen."""
    found = prices_on_curve(curved(-1.4, -0.8), Economics(), "revenue").row(0, named=True)
    assert found["price"] == pytest.approx(10.0 * np.exp(-0.4 / 1.6), rel=1e-4)  # a parabola's top within a grid step
    assert found["elasticity"] == pytest.approx(-1.0, abs=2e-4)
    assert not found["at_end"]
    assert found["probability_better"] == 1.0
    # log revenue changes by (1 + e) x + k x^2 = 0.05 at the peak
    assert found["change_mean"] == pytest.approx(1000.0 * np.expm1(0.05), rel=1e-6)


def test_profit_meets_its_first_order_condition() -> None:
    found = prices_on_curve(curved(-1.5, -0.8, cost=4.0), Economics(), "profit").row(0, named=True)
    margin = (found["price"] - 4.0) / found["price"]
    assert margin == pytest.approx(-1.0 / found["elasticity"], abs=1e-3)
    assert not found["at_end"]


def test_without_a_curve_revenue_ends_at_the_prices_seen() -> None:
    """Constant elasticity over one in size: the lowest price, said to be an end."""
    found = prices_on_curve(posterior_from_draws(np.full((400, 1), -1.4)), Economics(), "revenue").row(0, named=True)
    assert found["price"] == pytest.approx(5.0)
    assert found["at_end"]


def test_an_unknown_cost_gives_no_price() -> None:
    assert prices_on_curve(curved(-1.5, -0.8), Economics(), "profit")["price"].to_list() == [None]


def test_units_follow_the_curve_and_the_engines_of_constant_elasticity_refuse() -> None:
    posterior = curved(-1.5, -0.8)
    prices = np.array([[8.0, 10.0, 15.0]])
    away = np.log(prices[0] / 10.0)
    units = predict_units(posterior, ["item-00000"], prices).isel(chain=0, draw=0, item=0).to_numpy()
    np.testing.assert_allclose(units, 100.0 * np.exp(-1.5 * away - 0.8 * away**2))
    elasticity = elasticity_at_price(posterior, ["item-00000"], prices).isel(chain=0, draw=0, item=0).to_numpy()
    np.testing.assert_allclose(elasticity, -1.5 - 1.6 * away)
    with pytest.raises(SpecError, match="prices_on_curve"):
        optimize_prices(posterior, Economics(), "revenue", [], horizon_periods=1.0, seed=1)
