"""Own-price elasticity where it is not one number: at a price, in a period; and new rows of such models."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import ArrayLike

from bayes_pricing.demand.attributes import item_attributes
from bayes_pricing.demand.forecast import positive_prices, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.price_curves import curve_slope
from bayes_pricing.demand.spec import PRICE_CURVE, PRICE_DRIFT, UNCENTRED
from bayes_pricing.demand.terms import price_curve_column
from bayes_pricing.errors import SpecError


def elasticity_at_price(posterior: DemandPosterior, items: Sequence[str], prices: ArrayLike) -> xr.DataArray:
    r"""Draws of d log units / d log price at chosen prices, dims (chain, draw, item) or (chain, draw, item, price).

    .. math:: \varepsilon_i(p) = \varepsilon_i + 2 \kappa_i x, \qquad x = \log p - \overline{\log p}_i

    or, where it saturates, :math:`\varepsilon_i + \kappa_i \tanh(s x / 2)`, with :math:`\kappa_i` the effect of
    ``price_curve``; the same at every price where the model has none. In the last period where it drifts.

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
    slope = curve_slope(np.log(wanted).T - reference, posterior.spec.steepness)
    change = xr.DataArray(slope, dims=names[::-1]).transpose(*names)
    curve = draws.sel(coefficient=PRICE_CURVE, drop=True) if posterior.spec.curved else 0.0 * own
    return (own + curve * change).transpose("chain", "draw", *names)


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
    ends = _ends(posterior)
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


def term_columns(rows: pl.DataFrame, posterior: DemandPosterior) -> pl.DataFrame:
    """New rows of a fitted model's items with the columns it makes of price, time and what the items are.

    Those of an elasticity that drifts or changes with price, and of attributes. Periods after the last of the fit's
    count as the last: its straight line is no forecast.

    Parameters
    ----------
    rows : DataFrame
        Columns ``item``, ``price`` and, where the elasticity drifts, ``period``.
    posterior : DemandPosterior
    """
    spec = posterior.spec
    if not spec.attributes and not set(UNCENTRED) & set(spec.controls):
        return rows
    known = posterior.items.select("item", pl.col("reference_log_price").alias("_reference")).with_columns(
        pl.Series(f"{name}:level", values)
        for name, values in zip(spec.attributes, item_attributes(posterior.items, spec.attributes).T, strict=True)
    )
    log_price = pl.col("price").log()
    away = log_price - pl.col("_reference")
    columns = {f"{name}:log_price": pl.col(f"{name}:level") * log_price for name in spec.attributes}
    if PRICE_CURVE in spec.controls:
        columns[PRICE_CURVE] = price_curve_column(away, spec.steepness)
    if PRICE_DRIFT in spec.controls:
        ends = _ends(posterior).to_physical()
        first, last = (float(one) for one in (ends.min(), ends.max()))  # type: ignore[arg-type]
        time = (pl.col("period").to_physical().cast(pl.Float64) - last) / (last - first)
        columns[PRICE_DRIFT] = away * time.clip(upper_bound=0.0)
    return rows.join(known, on="item", how="left", maintain_order="left").with_columns(**columns).drop("_reference")


def _ends(posterior: DemandPosterior) -> pl.Series:
    """First and last periods of the items."""
    names = ("first_period", "last_period")
    return pl.concat([posterior.items[name].drop_nulls().alias("period") for name in names])
