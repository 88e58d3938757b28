"""Posteriors built from arrays: joint draws made up in a test, behind the same protocol as a fitted model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.demand.spec import DemandSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayPosterior:
    """Joint draws of level and elasticity held in arrays (chain, draw, item); implements `DemandPosterior`."""

    items: pl.DataFrame
    level: Floats
    elasticity: Floats
    category_elasticity: Floats
    population_elasticity: Floats
    smearing: Floats
    weight: Floats
    spec: DemandSpec = field(default_factory=DemandSpec)
    id: str = "a" * 64

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.items["item"]]

    def _positions(self, units: Sequence[str] | None) -> NDArray[np.intp]:
        if units is None:
            return np.arange(len(self.names))
        position = {name: index for index, name in enumerate(self.names)}
        return np.array([position[name] for name in units], dtype=np.intp)

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        if level == "population":
            values = np.stack([np.zeros_like(self.population_elasticity), self.population_elasticity], axis=-1)
            return xr.DataArray(values, dims=("chain", "draw", "coefficient"), coords=_COEFFICIENTS)
        if level == "item":
            at = self._positions(units)
            values = np.stack([self.level[:, :, at], self.elasticity[:, :, at]], axis=-1)
            names = self.names if units is None else list(units)
        else:
            known = sorted(set(self.items[level].to_list()))
            names = known if units is None else list(units)
            at = np.array([known.index(name) for name in names], dtype=np.intp)
            chosen = self.category_elasticity[:, :, at]
            values = np.stack([np.zeros_like(chosen), chosen], axis=-1)
        return xr.DataArray(
            values, dims=("chain", "draw", level, "coefficient"), coords={level: names, **_COEFFICIENTS}
        )

    def shared(self) -> xr.DataArray:
        chains, draws = self.population_elasticity.shape
        return xr.DataArray(np.zeros((chains, draws, 0)), dims=("chain", "draw", "control"))

    def variation(self, level: str) -> xr.DataArray:
        chains, draws = self.population_elasticity.shape
        values = np.full((chains, draws, 2), 0.4)
        return xr.DataArray(values, dims=("chain", "draw", "coefficient"), coords=_COEFFICIENTS)

    def cross_elasticities(self, category: str) -> xr.DataArray | None:
        return None

    def log_smearing(self, units: Sequence[str] | None = None) -> xr.DataArray:
        at = self._positions(units)
        names = self.names if units is None else list(units)
        return xr.DataArray(self.smearing[:, :, at], dims=("chain", "draw", "item"), coords={"item": names})

    def own_data_weight(self) -> xr.DataArray:
        return xr.DataArray(self.weight, dims=("item",), coords={"item": self.names})

    def hyper(self) -> xr.Dataset:
        return xr.Dataset({"population_elasticity": (("chain", "draw"), self.population_elasticity)})


_COEFFICIENTS = {"coefficient": ["level", "log_price"]}


def posterior_from_draws(
    elasticity: ArrayLike,
    *,
    units: ArrayLike = 100.0,
    current_price: ArrayLike = 10.0,
    lowest_price: ArrayLike | None = None,
    highest_price: ArrayLike | None = None,
    cost: ArrayLike | None = None,
    chains: int = 2,
    smearing: float = 0.0,
    spec: DemandSpec | None = None,
) -> ArrayPosterior:
    """A posterior whose items have these draws; `elasticity` and `units` (at today's price) broadcast to (draw, item).

    Observed prices span 0.5 to 2 times today's unless given.
    """
    draws = np.atleast_2d(np.asarray(elasticity, dtype=float).T).T
    total, count = draws.shape
    log_units = np.log(np.broadcast_to(np.asarray(units, dtype=float), (total, count)))
    price = np.broadcast_to(np.asarray(current_price, dtype=float), (count,))
    low = price * 0.5 if lowest_price is None else np.broadcast_to(np.asarray(lowest_price, dtype=float), (count,))
    high = price * 2.0 if highest_price is None else np.broadcast_to(np.asarray(highest_price, dtype=float), (count,))
    names = [f"item-{index:05d}" for index in range(count)]
    costs = [None] * count if cost is None else np.broadcast_to(np.asarray(cost, dtype=float), (count,)).tolist()
    items = pl.DataFrame(
        {
            "item": names,
            "category": [f"category-{index % 3}" for index in range(count)],
            "current_price": price,
            "reference_log_price": np.log(price),
            "lowest_price": low,
            "highest_price": high,
            "distinct_prices": np.where(high > low, 7, 1),
            "rows": np.full(count, 52),
            "units_per_period": np.exp(log_units).mean(axis=0),
            "cost": pl.Series(costs, dtype=pl.Float64),
            "exposure": np.ones(count),
            "first_period": np.full(count, 1),
            "last_period": np.full(count, 52),
            "within_sd_log_price": np.log(high / low) / 4.0,
        }
    )
    shape = (chains, total // chains, count)
    categories = len(set(items["category"]))
    grouped = np.stack([draws[:, index::3].mean(axis=1) for index in range(categories)], axis=-1)
    return ArrayPosterior(
        items=items,
        level=(log_units - smearing).reshape(shape),
        elasticity=draws.reshape(shape),
        category_elasticity=grouped.reshape((*shape[:2], categories)),
        population_elasticity=draws.mean(axis=1).reshape(shape[:2]),
        smearing=np.full(shape, smearing),
        weight=np.full(count, 0.6),
        spec=DemandSpec() if spec is None else spec,
    )


def normal_posterior(
    items: int, draws: int, *, seed: int, mean: float = -2.2, sd: float = 0.35, unit_cost_share: float = 0.5
) -> ArrayPosterior:
    """Items whose elasticities share a common and an own normal part, joint over items, prices around 10."""
    rng = np.random.default_rng(seed)
    common = rng.normal(0.0, 0.3 * sd, (draws, 1))
    centre = rng.normal(mean, 0.4, items)
    elasticity = centre + common + rng.normal(0.0, sd, (draws, items))
    price = rng.uniform(5.0, 15.0, items)
    units = np.exp(rng.normal(3.0, 0.5, items) + rng.normal(0.0, 0.1, (draws, items)))
    return posterior_from_draws(
        elasticity,
        units=units,
        current_price=price,
        lowest_price=price * 0.75,
        highest_price=price * 1.3,
        cost=price * unit_cost_share,
    )
