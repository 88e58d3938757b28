"""Items whose elasticities drift and change with price, for tests of several models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.demand.changing import elasticity_at_price
from bayes_pricing.demand.forecast import predict_units
from bayes_pricing.demand.posterior import DemandPosterior

Floats = NDArray[np.float64]
ITEMS, WEEKS = 8, 52


@dataclass(frozen=True, kw_only=True)
class ChangingMarket:
    """Eight items over a year; buyers grow keener, and keener still at high prices.

    Attributes
    ----------
    own, drift, curve : arrays (items,)
        Elasticity in the last week at the usual price, its change over the year, and half its change per log price.
    log_price, log_units : arrays (items, weeks)
        Log units expected.
    usual : array (items,)
        Mean log price.
    """

    own: Floats
    drift: Floats
    curve: Floats
    log_price: Floats
    log_units: Floats
    usual: Floats

    @property
    def names(self) -> list[str]:
        return [f"i{at}" for at in range(ITEMS)]

    def rows(self, units: Floats | NDArray[np.int64], periods: Sequence[int | date] | None = None) -> pl.DataFrame:
        """Sales of these units (items, weeks)."""
        return pl.DataFrame(
            {
                "item": np.repeat(self.names, WEEKS),
                "period": [*(range(WEEKS) if periods is None else periods)] * ITEMS,
                "price": np.exp(self.log_price).ravel(),
                "quantity": units.ravel(),
            }
        )

    def check_recovered(self, posterior: DemandPosterior, tolerance: float) -> xr.DataArray:
        """Coefficients and what they say of units at a raised price; draws of the elasticities there.

        `tolerance` is of a slope over neighbouring prices: draws are kept in single precision by some models.
        """
        for name, truth in (("log_price", self.own), ("price_drift", self.drift), ("price_curve", self.curve)):
            z = standardised(posterior.coefficients("item").sel(coefficient=name), truth)
            assert float(np.abs(z).max()) < 4.0, (name, z)
        raised = np.exp(self.usual + 0.2)
        draws = elasticity_at_price(posterior, self.names, raised)
        assert float(np.abs(standardised(draws, self.own + 0.4 * self.curve)).max()) < 4.0
        near = predict_units(posterior, self.names, np.stack([raised * np.exp(-1e-4), raised * np.exp(1e-4)], axis=1))
        slope = np.diff(np.log(near.to_numpy()), axis=-1)[..., 0] / 2e-4  # the same elasticity on every draw
        np.testing.assert_allclose(slope, draws.to_numpy(), atol=tolerance)
        return draws


def standardised(draws: xr.DataArray, truth: Floats) -> Floats:
    """Posterior means less the truth, in posterior sds."""
    found: Floats = ((draws.mean(("chain", "draw")) - truth) / draws.std(("chain", "draw"))).to_numpy()
    return found


def changing_market(rng: np.random.Generator, level: float) -> ChangingMarket:
    """A market that sells ``exp(level)`` units a week at the usual price."""
    own, drift, curve = (rng.normal(mean, 0.2, ITEMS) for mean in (-2.0, -1.2, -1.0))
    log_price = rng.normal(0.0, 0.25, (ITEMS, WEEKS))
    usual = log_price.mean(axis=1)
    away = log_price - usual[:, None]
    keener = own[:, None] + drift[:, None] * np.linspace(-1.0, 0.0, WEEKS)
    return ChangingMarket(
        own=own,
        drift=drift,
        curve=curve,
        log_price=log_price,
        log_units=level + keener * away + curve[:, None] * away**2,
        usual=usual,
    )
