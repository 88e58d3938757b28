"""Expected units at any price, per posterior draw: the one door from a demand posterior to money."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.demand.equation import log_demand
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.price_curves import PriceCurve, curve_from, curve_slope, curve_values
from bayes_pricing.demand.spec import PRICE_CURVE
from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]

LARGEST_ANSWER_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandDraws:
    r"""What a decision needs of the posterior of some items, as plain arrays on the same joint draws.

    .. math:: E[q_{id}(p)] = \exp(a_{id} + \bar\varepsilon_{id}(p) \log(p / p_{i0}))

    with :math:`\bar\varepsilon(p)` the mean elasticity between today's price and p: the elasticity itself where it is
    one number.

    Attributes
    ----------
    items : tuple of str, length J
    current_price : array (J,)
        Today's price :math:`p_{i0}`, currency per unit.
    log_units_today : array (J, S)
        :math:`a`: log expected units per period at today's price, smearing and exposure included.
    elasticity : array (J, S)
        :math:`\varepsilon`: own-price elasticity at today's price, no unit.
    log_smearing : array (J,)
        Posterior mean of log E[exp(residual)].
    chains : int
        Draws run chain by chain: S = chains x draws.
    curve : PriceCurve or None
        How the elasticity changes with price; None where it does not.
    """

    items: tuple[str, ...]
    current_price: Floats
    log_units_today: Floats
    elasticity: Floats
    log_smearing: Floats
    chains: int
    curve: PriceCurve | None = None

    def part(self, where: slice | NDArray[np.intp]) -> DemandDraws:
        """The same draws of some of the items, by position."""
        positions = np.arange(len(self.items))[where]
        return DemandDraws(
            items=tuple(self.items[index] for index in positions),
            current_price=self.current_price[where],
            log_units_today=self.log_units_today[where],
            elasticity=self.elasticity[where],
            log_smearing=self.log_smearing[where],
            chains=self.chains,
            curve=None if self.curve is None else self.curve.part(where),
        )

    def on(self, draws: slice | NDArray[np.intp]) -> DemandDraws:
        """The same items on some of the draws."""
        return replace(
            self,
            log_units_today=self.log_units_today[:, draws],
            elasticity=self.elasticity[:, draws],
            curve=None if self.curve is None else self.curve.on(draws),
        )

    def stored_as(self, kind: type[np.floating[Any]]) -> DemandDraws:
        """The same in another precision: single is a store, never computed in."""
        return replace(
            self,
            log_units_today=self.log_units_today.astype(kind, copy=False),
            elasticity=self.elasticity.astype(kind, copy=False),
            curve=None if self.curve is None else self.curve.stored_as(kind),
        )

    def mean_elasticity(self, log_ratio: Floats) -> Floats:
        """Growth of log units per unit of log price from today's to prices `log_ratio` (J,) away, array (J, S)."""
        return self.elasticity if self.curve is None else self.curve.mean_elasticity(self.elasticity, log_ratio)

    def log_growth(self, log_ratio: Floats) -> Floats:
        """Log of units over today's, at prices whose log over today's is `log_ratio` (J,), array (J, S)."""
        return np.asarray(self.mean_elasticity(log_ratio) * log_ratio[:, None], dtype=np.float64)

    def elasticity_at(self, log_ratio: Floats) -> Floats:
        """Elasticity at prices `log_ratio` (J,) away from today's in logs, array (J, S)."""
        return self.elasticity if self.curve is None else self.curve.elasticity_at(self.elasticity, log_ratio)

    def units(self, prices: Floats) -> Floats:
        """Expected units per period of every item at its price, array (J, S); `prices` is (J,)."""
        return np.asarray(
            np.exp(self.log_units_today + self.log_growth(np.log(prices / self.current_price))), dtype=np.float64
        )

    def labelled(self, values: Floats) -> xr.DataArray:
        """Give an array (J, S) or (S,) its names: dims (chain, draw, item) or (chain, draw)."""
        if values.ndim == 1:
            return xr.DataArray(values.reshape(self.chains, -1), dims=("chain", "draw"))
        shaped = values.reshape(len(self.items), self.chains, -1).transpose(1, 2, 0)
        return xr.DataArray(shaped, dims=("chain", "draw", "item"), coords={"item": list(self.items)})


def select_items(posterior: DemandPosterior, items: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows of the posterior's item table for `items`, in the order asked; all of them when `items` is None.

    Raises
    ------
    SpecError
        If an item is unknown or named twice.
    """
    table = posterior.items
    if items is None:
        return table
    names = table["item"]
    places = names.search_sorted(pl.Series(list(items), dtype=pl.String)).to_numpy().clip(max=table.height - 1)
    found = table[places]
    unknown = [name for name, known in zip(items, found["item"], strict=True) if name != known]
    if unknown:
        known = ", ".join(repr(name) for name in names.head(3))
        raise SpecError(f"The model has no item {unknown[0]!r} ({len(unknown)} unknown); it knows {known} ...")
    if len(set(items)) < len(items):
        raise SpecError("An item is named twice; name each item once.")
    return found


def demand_draws(posterior: DemandPosterior, items: Sequence[str] | None = None) -> DemandDraws:
    """Joint draws of today's expected units and the elasticity of some items, controls at their usual values.

    Parameters
    ----------
    posterior : DemandPosterior
    items : sequence of str, optional
        All items when left out.

    Returns
    -------
    DemandDraws

    Raises
    ------
    SpecError
        For an unknown item.
    """
    table = select_items(posterior, items)
    return _draws_at(posterior, table, table["current_price"].to_numpy().astype(np.float64))


def _draws_at(posterior: DemandPosterior, table: pl.DataFrame, prices: Floats) -> DemandDraws:
    """Joint draws at a price of each item of the table, which stands as its current one."""
    names = [str(name) for name in table["item"]]
    coefficients = posterior.coefficients("item", names).transpose("item", "coefficient", "chain", "draw")
    smearing = _flat(posterior.log_smearing(names).transpose("item", "chain", "draw"))
    usual = elasticity = _flat(coefficients.sel(coefficient="log_price"))
    away = np.log(prices)[:, None] - table["reference_log_price"].to_numpy()[:, None]
    steepness, curve, effects = posterior.spec.steepness, None, []
    if posterior.spec.curved:
        effects = [_flat(coefficients.sel(coefficient=PRICE_CURVE))]
        curve = curve_from(effects[0], away[:, 0], steepness)
        elasticity = elasticity + effects[0] * curve_slope(away, steepness)
    log_units = log_demand(
        level=_flat(coefficients.sel(coefficient="level")) + smearing,
        elasticity=usual,
        log_price=away,
        reference_log_price=0.0,
        effects=effects,
        controls=[curve_values(away, steepness)] * len(effects),
        log_exposure=np.log(table["exposure"].to_numpy())[:, None],
    )
    return DemandDraws(
        items=tuple(names),
        current_price=prices,
        log_units_today=np.asarray(log_units, dtype=np.float64),
        elasticity=elasticity,
        log_smearing=smearing.mean(axis=1),
        chains=coefficients.sizes["chain"],
        curve=curve,
    )


def predict_units(posterior: DemandPosterior, items: Sequence[str], prices: ArrayLike) -> xr.DataArray:
    r"""Expected units per period at chosen prices, one value per posterior draw.

    .. math:: E[q] = \exp(\alpha + \varepsilon x + \kappa c(x) + m + \log(\text{exposure})), \qquad
              x = \log p - \overline{\log p}

    with :math:`m = \log E[e^{residual}]` (the smearing that turns a median into a mean), where the elasticity changes
    with price :math:`c(x) = x^2`, or :math:`(2 / s) \log \cosh(s x / 2)` where it saturates, and controls at their
    usual values. Only the uncertainty about demand is in the
    draws, not the noise of a single period's sales.

    Parameters
    ----------
    posterior : DemandPosterior
    items : sequence of str, length J
    prices : array-like, shape (J,) or (J, K), or one number for all
        Currency per unit, positive.

    Returns
    -------
    DataArray, dims (chain, draw, item) or (chain, draw, item, price)
        Units per period.

    Raises
    ------
    SpecError
        For a price that is not positive and finite, a shape that does not fit, an unknown item, or an answer over
        2 GB: ask for fewer items at a time.
    """
    wanted = positive_prices(prices, len(items))
    table = select_items(posterior, items)
    columns = [wanted] if wanted.ndim == 1 else [wanted[:, index] for index in range(wanted.shape[1])]
    first = _draws_at(posterior, table, columns[0])
    if first.elasticity.size * len(columns) * 8 > LARGEST_ANSWER_BYTES:
        raise SpecError("The units asked for would fill more than 2 GB; ask for fewer items or prices at a time.")
    units = [first.labelled(first.units(column)) for column in columns]
    if wanted.ndim == 1:
        return units[0]
    return xr.concat(units, dim="price").transpose("chain", "draw", "item", "price")


def positive_prices(prices: ArrayLike, items: int) -> Floats:
    """Prices as an array (items,) or (items, prices), one number standing for all.

    Raises
    ------
    SpecError
        For a price that is not positive and finite, or a shape that does not fit.

    Examples
    --------
    >>> positive_prices(2.0, 3).tolist()
    [2.0, 2.0, 2.0]
    """
    wanted = np.asarray(prices, dtype=np.float64)
    if not (np.isfinite(wanted) & (wanted > 0)).all():
        raise SpecError("A price asked for is not positive and finite; give prices in currency per unit.")
    if wanted.ndim == 0:
        wanted = np.full(items, float(wanted))
    if wanted.ndim > 2 or wanted.shape[0] != items:
        raise SpecError(f"Prices have shape {wanted.shape} for {items} items; give (items,) or (items, prices).")
    return wanted


def _flat(values: xr.DataArray) -> Floats:
    array = values.to_numpy()
    return np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape[0], -1)
