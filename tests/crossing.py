"""Posteriors from arrays whose prices cross inside one population."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.demand.spec import CROSS_PRICE
from tests.posteriors import ArrayPosterior, posterior_from_draws

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossedPosterior:
    """An array posterior with a matrix of elasticities (chain, draw, item, other)."""

    base: ArrayPosterior
    matrix: Floats

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    @property
    def spec(self) -> Any:
        spec, others = self.base.spec, self.matrix.shape[-1] - 1
        return replace(spec, cross_prices="population", others=others, controls=(*spec.controls, CROSS_PRICE))

    def cross_elasticities(self, category: str) -> xr.DataArray:
        assert category == "population"
        names = self.base.names
        return xr.DataArray(
            self.matrix, dims=("chain", "draw", "item", "other"), coords={"item": names, "other": names}
        )


def crossed_posterior(
    elasticity: Floats, *, highest: float = 12.5, cost: float = 4.0, current_price: ArrayLike = 10.0
) -> CrossedPosterior:
    """A posterior with these draws (draw, item, other), 100 units of each item at today's prices."""
    draws, items = elasticity.shape[:2]
    own = np.einsum("sii->si", elasticity)
    base = posterior_from_draws(
        own, cost=cost, lowest_price=4.1, highest_price=highest, current_price=current_price
    )  # fmt: skip
    return CrossedPosterior(base=base, matrix=elasticity.reshape(2, draws // 2, items, items))
