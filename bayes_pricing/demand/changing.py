"""Own-price elasticity where it is not one number: at a price, and in a period."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import ArrayLike

from bayes_pricing.demand.forecast import positive_prices, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import PRICE_CURVE, PRICE_DRIFT
from bayes_pricing.errors import SpecError


def elasticity_at_price(posterior: DemandPosterior, items: Sequence[str], prices: ArrayLike) -> xr.DataArray:
    r"""Draws of d log units / d log price at chosen prices, dims (chain, draw, item) or (chain, draw, item, price).

    .. math:: \varepsilon_i(p) = \varepsilon_i + 2 \kappa_i (\log p - \overline{\log p}_i)

    with :math:`\kappa_i` the effect of ``price_curve``; the same at every price where the model has none. In the last
    period where it drifts.

    Parameters
    ----------
    posterior : DemandPosterior
    items : sequence of str, length J
    prices : array-like, shape (J,) or (J, K), or one number for all
        Currency per unit, positive.

    Raises
    ------
    SpecError
        For an unknown item, or a price that is not positive and finite.
    """
    wanted = positive_prices(prices, len(items))
    draws = posterior.coefficients("item", list(items)).transpose("chain", "draw", "item", "coefficient")
    own = draws.sel(coefficient="log_price", drop=True)
    names = ("item",) if wanted.ndim == 1 else ("item", "price")
    reference = select_items(posterior, items)["reference_log_price"].to_numpy()
    away = xr.DataArray(np.log(wanted).T - reference, dims=names[::-1]).transpose(*names)
    slope = draws.sel(coefficient=PRICE_CURVE, drop=True) if PRICE_CURVE in posterior.spec.controls else 0.0 * own
    return (own + 2.0 * slope * away).transpose("chain", "draw", *names)


def elasticity_in_period(
    posterior: DemandPosterior, period: date | int, level: str, units: Sequence[str] | None = None
) -> xr.DataArray:
    r"""Draws of d log units / d log price in a period, at the items' reference prices, dims (chain, draw, <level>).

    .. math:: \varepsilon_i(t) = \varepsilon_i + \delta_i \, \frac{t - t_{last}}{t_{last} - t_{first}}

    with :math:`\delta_i` the effect of ``price_drift``, the change over the whole of the sales; the same in every
    period where the model has none.

    Parameters
    ----------
    posterior : DemandPosterior
    period : date or int
        From the first period of the sales to their last: the straight line is no forecast.
    level : str
    units : sequence of str, optional

    Raises
    ------
    SpecError
        If the period is of another kind than the sales', or outside them.
    """
    draws = posterior.coefficients(level, units)
    own = draws.sel(coefficient="log_price", drop=True)
    names = ("first_period", "last_period")
    ends = pl.concat([posterior.items[name].drop_nulls().alias("period") for name in names])
    known = pl.Series("period", [period]).dtype == ends.dtype or (isinstance(period, int) and ends.dtype.is_integer())
    if not known or not len(ends):
        raise SpecError(f"Period {period!r} is of another kind than the sales'; they have {ends.dtype}.")
    first, last = (int(one) for one in (ends.to_physical().min(), ends.to_physical().max()))  # type: ignore[arg-type]
    at = int(pl.Series([period]).to_physical()[0])
    if not first <= at <= last:
        raise SpecError(f"Period {period} is not in the sales, which run from {ends.min()!r} to {ends.max()!r}.")
    if PRICE_DRIFT not in posterior.spec.controls:
        return own
    return own + (at - last) / (last - first) * draws.sel(coefficient=PRICE_DRIFT, drop=True)
