"""The demand posterior: one protocol, two implementations (draws from PyMC, draws from the Gaussian tree)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import polars as pl
import xarray as xr

from bayes_pricing.demand.spec import DemandSpec


class DemandPosterior(Protocol):
    """Read-only joint draws of every coefficient at every level, and what is known of each item.

    Draws of different items, and of an item and its category, belong to one joint posterior: draw `d` of chain `c`
    means the same state of the world everywhere.
    """

    @property
    def id(self) -> str:
        """Content address of the fitted model (hex digest of spec, data, seed and draws)."""
        ...

    @property
    def spec(self) -> DemandSpec:
        """What was assumed."""
        ...

    @property
    def items(self) -> pl.DataFrame:
        """One row per item (sorted by `item`): see :data:`bayes_pricing.demand.design.ITEM_COLUMNS`."""
        ...

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        """Draws, dims (chain, draw, <level>, coefficient); `level` is ``item``, a nesting level or ``population``.

        At ``population`` the dims are (chain, draw, coefficient). Rows above the item are means of their level's
        distribution. ``coefficient`` holds ``level`` (log units per period at the item's reference price),
        ``log_price`` (own-price elasticity, no unit) and the controls.
        """
        ...

    def shared(self) -> xr.DataArray:
        """Draws of the effects common to all items, dims (chain, draw, control)."""
        ...

    def variation(self, level: str) -> xr.DataArray:
        """Draws of the between-unit sd of units of `level` around their parent, dims (chain, draw, coefficient)."""
        ...

    def cross_elasticities(self, category: str) -> xr.DataArray | None:
        """Draws of d log units of `item` / d log price of `other`, dims (chain, draw, item, other), no unit.

        Items of one category, the own-price elasticity on the diagonal; positive for substitutes. None where the
        specification has no cross prices.
        """
        ...

    def log_smearing(self, units: Sequence[str] | None = None) -> xr.DataArray:
        """Draws of log E[exp(residual)], dims (chain, draw, item): sigma^2 / 2 for log-normal sales, 0 for counts."""
        ...

    def own_data_weight(self) -> xr.DataArray:
        """Share of each item's elasticity that its own rows decide, in [0, 1], dims (item,)."""
        ...

    def hyper(self) -> xr.Dataset:
        """Every sampled hyper-parameter, dims (chain, draw, ...): what the diagnostics gate looks at."""
        ...
