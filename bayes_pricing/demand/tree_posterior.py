"""The demand posterior of the Gaussian tree: hyper-draws, what is above the items, Gram statistics; items on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.attributes import add_attribute_effects, place_new_item, unit_attributes
from bayes_pricing.demand.cross_prices import category_matrix
from bayes_pricing.demand.gaussian_tree import TreeData
from bayes_pricing.demand.nuts import available_cores
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_items import draw_items, own_weights, price_information
from bayes_pricing.demand.tree_kernels import Tree
from bayes_pricing.demand.tree_layout import correlation_factor, pair_names
from bayes_pricing.demand.tree_prior import TreePrior
from bayes_pricing.demand.tree_sampling import TreeDraws
from bayes_pricing.errors import SpecError

Array = np.ndarray[Any, np.dtype[Any]]
WEIGHT_DRAWS = 500
THREADED_FROM = 100_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreePosterior:
    """Joint posterior of a log-normal demand model, held as little as possible; a `DemandPosterior`.

    Every hyper-draw keeps one joint draw of the population, the groups and the shared coefficients. An item's
    coefficients are drawn given those, from its own Gram statistics, when somebody asks: seeded by posterior, draw and
    item, so they are the same in every process and do not depend on which other items are asked for.

    Attributes
    ----------
    data : TreeData
    prior : TreePrior
    draws : TreeDraws
    items : DataFrame
        One row per item, sorted by ``item``.
    seed : int
    id : str
        Content address: digest of specification, data, prior, seed and draws.
    kernel : Tree
        The data as the compiled kernels read them.
    item_factor : array (k, k, chain * draw)
        Cholesky factors of the items' covariance around their parent.
    """

    data: TreeData
    prior: TreePrior
    draws: TreeDraws
    items: pl.DataFrame
    seed: int
    id: str
    kernel: Tree
    item_factor: Floats

    @property
    def spec(self) -> DemandSpec:
        """What was assumed."""
        return self.data.spec

    @property
    def own(self) -> int:
        """Coefficients that units of every level have."""
        return self.prior.layout.own

    @property
    def shape(self) -> tuple[int, int]:
        """Chains and draws per chain."""
        return self.draws.theta.shape[0], self.draws.theta.shape[1]

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        """Draws, dims (chain, draw, <level>, coefficient); see :class:`bayes_pricing.demand.posterior.DemandPosterior`.

        Raises
        ------
        SpecError
            For a level or unit the model does not have.
        """
        if level == "item":
            chosen = self._positions(level, self.data.gram.items, units)
            names: Sequence[str] = [self.data.gram.items[at] for at in chosen]
            values = self._explained(self._draw_items(chosen), self.attributes("item")[chosen])
        elif level == "population":
            values = self.draws.states[:, :, -1, : self.own]
            return self._labelled(values, ("coefficient",), coefficient=self.spec.coefficients)
        elif level in self.data.sole_units:
            known = (self.data.sole_units[level],)
            names = [known[at] for at in self._positions(level, known, units)]
            values = np.repeat(self.draws.states[:, :, -1:, : self.own], len(names), axis=2)
        elif level in self.data.levels:
            at_level = self.data.levels.index(level)
            chosen = self._positions(level, self.data.units[at_level], units)
            names = [self.data.units[at_level][at] for at in chosen]
            first = int(self.kernel.level_start[at_level + 1]) - len(self.data.gram.items)
            values = self._explained(
                self.draws.states[:, :, first + chosen, : self.own], self.attributes(level)[chosen]
            )
        else:
            raise SpecError(f"The model has no level {level!r}; choose one of {self.spec.all_levels}.")
        known_names = self.data.coefficients if level == "item" else self.spec.coefficients
        return self._labelled(values, (level, "coefficient"), **{level: names, "coefficient": known_names})

    def cross_elasticities(self, category: str) -> xr.DataArray | None:
        r"""Draws of d log units of `item` / d log price of `other`, dims (chain, draw, item, other), no unit.

        .. math:: \varepsilon_{ij} = \bar\varepsilon_i + \delta_{ij}, \qquad \delta_{ij} \sim N(0, \tau^2)

        with the item's mean cross-price elasticity drawn, like its own, around its category's. The own elasticity
        stands on the diagonal; positive is a substitute; zero between items of different regions.

        Parameters
        ----------
        category : str
            A unit of the level ``spec.cross_prices``; ``population`` where that is the population.

        Returns
        -------
        DataArray or None
            None where the specification has no cross prices.

        Raises
        ------
        SpecError
            For a category the model does not have.
        """
        return category_matrix(self, category)

    def shared(self) -> xr.DataArray:
        """Draws of the effects common to all items, dims (chain, draw, control)."""
        k = self.kernel.k
        values = self.draws.states[:, :, -1, k : k + len(self.spec.shared_controls)]
        return self._labelled(values, ("control",), control=self.spec.shared_controls)

    def attributes(self, level: str) -> Floats:
        """Attributes of the units of a level, less their means over items: those of its items on average.

        Parameters
        ----------
        level : str
            ``item`` or a nesting level with two or more units.

        Returns
        -------
        array (units, attributes)
        """
        units = () if level == "item" else self.data.units[self.data.levels.index(level)]
        return unit_attributes(self.items, level, units, self.spec.attributes)

    def attribute_effects(self) -> xr.DataArray:
        """Draws of what one unit of an attribute adds, dims (chain, draw, coefficient, attribute).

        ``coefficient`` is ``level`` (log units) or ``log_price`` (elasticity); both are in the items' coefficients.
        """
        known = len(self.spec.attributes)
        values = self.draws.states[:, :, -1, self.draws.states.shape[-1] - 2 * known :]
        shaped = values.reshape(*self.shape, 2, known)
        names = {"coefficient": ("level", "log_price"), "attribute": self.spec.attributes}
        return self._labelled(shaped, ("coefficient", "attribute"), **names)

    def variation(self, level: str) -> xr.DataArray:
        """Draws of the between-unit sd of a level's units around their parent, dims (chain, draw, coefficient).

        Zero for a level with a single unit: it has no units to differ.
        """
        names = self.data.level_names
        if level in self.data.sole_units:
            values = np.zeros((*self.shape, self.own))
        elif level in names:
            values = np.exp(self.prior.layout.split(self.draws.theta)[0][:, :, names.index(level)])
        else:
            raise SpecError(f"No units of {level!r} vary around a parent; choose one of {names}.")
        return self._labelled(values, ("coefficient",), coefficient=self.spec.coefficients)

    def log_smearing(self, units: Sequence[str] | None = None) -> xr.DataArray:
        """Draws of log E[exp(residual)] = residual variance / 2, dims (chain, draw, item).

        With autocorrelation the residual's variance is that of the noise (the innovations) over one less its square.
        """
        chosen = self._positions("item", self.data.gram.items, units)
        values = (
            0.5
            / (1.0 - self.spec.autocorrelation**2)
            * np.exp(2.0 * self._log_noise(chosen)).reshape(*self.shape, len(chosen))
        )
        return self._labelled(values, ("item",), item=[self.data.gram.items[at] for at in chosen])

    def own_data_weight(self) -> xr.DataArray:
        r"""Share of each item's elasticity that its own rows decide, dims (item,), in [0, 1].

        .. math:: w_i = \operatorname{mean}_d \; S_i \, \sigma_{id}^{-2} \, [(X_i'X_i / \sigma_{id}^2
                  + \Sigma_d^{-1})^{-1}]_{\varepsilon\varepsilon}

        with :math:`S_i` the Schur complement of the elasticity in :math:`X_i'X_i`: the posterior precision that the
        item's own price variation, free of its level and controls, accounts for. Zero when no such variation is left.
        The mean is over at most 500 evenly spaced hyper-draws.
        """
        every = max(self.item_factor.shape[2] // WEIGHT_DRAWS, 1)
        chosen = np.arange(len(self.data.gram.items), dtype=np.int64)
        weight, column = self._noise_weights(chosen)
        factor, weight = (np.ascontiguousarray(values[..., ::every]) for values in (self.item_factor, weight))
        k, values = self.kernel.k, np.zeros(len(chosen))
        own = price_information(self.kernel.xtx[:, :k, :k])
        own_weights(1, own, factor, weight, column, self.kernel.xtx, values)
        return xr.DataArray(np.clip(values, 0.0, 1.0), dims=("item",), coords={"item": list(self.data.gram.items)})

    def hyper(self) -> xr.Dataset:
        """Every sampled hyper-parameter, dims (chain, draw, ...).

        ``sd_<level>`` and ``correlation_<level>`` of units around their parent, ``noise_sd`` by noise group; with noise
        by item also ``noise_spread`` (the sd of log noise sds) and ``item_noise_sd``; with cross prices
        ``sd_other_prices``, of single cross-price elasticities around their item's mean; with attributes their effects
        (``attribute_effect``), for the gate to look at.
        """
        layout, names = self.prior.layout, self.data.level_names
        log_sd, partials, tied = layout.split(self.draws.theta)
        lower = np.tril_indices(layout.correlated, -1)
        found: dict[str, xr.DataArray] = {}
        for at, level in enumerate(names):
            factor = correlation_factor(partials[:, :, at], layout.correlated)
            pairs = (factor @ np.swapaxes(factor, -1, -2))[..., lower[0], lower[1]]
            found[f"sd_{level}"] = self._labelled(
                np.exp(log_sd[:, :, at]), ("coefficient",), coefficient=self.spec.coefficients
            )
            correlated = pair_names(self.spec.coefficients[: layout.correlated])
            found[f"correlation_{level}"] = self._labelled(pairs, ("pair",), pair=correlated)
        if layout.tied:
            found["sd_other_prices"] = self._labelled(np.exp(tied[..., 0]), ())
        noise = np.exp(self.draws.log_noise)
        found["noise_sd"] = self._labelled(noise, ("noise_group",), noise_group=self.data.noise_groups)
        if self.draws.log_spread is not None and self.draws.item_log_noise is not None:
            found["noise_spread"] = self._labelled(np.exp(self.draws.log_spread), ())
            by_item = np.exp(self.draws.item_log_noise.astype(np.float64))
            found["item_noise_sd"] = self._labelled(by_item, ("item",), item=self.data.gram.items)
        if self.spec.attributes:
            found["attribute_effect"] = self.attribute_effects().rename(coefficient="explained")
        return xr.Dataset(found)

    def new_unit(
        self,
        level: str,
        parent: str | xr.DataArray | None,
        *,
        seed: int,
        attributes: Mapping[str, float | str] | None = None,
    ) -> xr.DataArray:
        """Draws for a unit never seen, dims (chain, draw, coefficient): it varies around its parent as its siblings do.

        Parameters
        ----------
        level : str
            ``item`` or a nesting level.
        parent : str, DataArray or None
            Name of its unit one level up, or draws of one that is new itself; None where that is the population.
        seed : int
            Two new units with different seeds are independent given their parent.
        attributes : mapping, optional
            What a new item is, by column: its level and elasticity are those of such an item. Left out, it is as the
            items of its parent are on average.

        Raises
        ------
        SpecError
            For a level or parent the model does not have, or attributes that are not the model's.
        """
        names = self.data.level_names
        if level not in names:
            raise SpecError(f"No units of {level!r} vary around a parent; choose one of {names}.")
        at = names.index(level)
        above, usual = self.coefficients("population"), np.zeros(len(self.spec.attributes))
        if isinstance(parent, xr.DataArray):
            above = parent
        elif at < len(self.data.levels):
            if parent is None:
                raise SpecError(f"A new {level} needs the {self.data.levels[at]} it belongs to; name its parent.")
            above = self.coefficients(self.data.levels[at], [parent]).isel({self.data.levels[at]: 0}, drop=True)
            usual = self.attributes(self.data.levels[at])[self.data.units[at].index(parent)]
        factor = self.prior.layout.factors(self.draws.theta)[:, :, at, : self.own, : self.own]
        z = np.random.default_rng([self.seed, seed]).standard_normal((*self.shape, self.own))
        drawn = above + (factor @ z[..., None])[..., 0]
        if attributes is None:
            return drawn
        effects = self.attribute_effects()
        return place_new_item(drawn, level, attributes, items=self.items, usual=usual, effects=effects)

    def own_draws(self, units: Sequence[str]) -> tuple[Floats, Floats]:
        """Draws of items' coefficients (item, chain * draw, k), less what attributes explain; of their noise sds."""
        chosen = self._positions("item", self.data.gram.items, units)
        own = np.moveaxis(self._flat(self._draw_items(chosen)), 1, 0)
        return own, np.exp(self._log_noise(chosen)).T

    def to_arrays(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Numbers, and what JSON can hold of the rest; with `items` all that reading back (`tree_fit`) needs."""
        arrays: dict[str, Array] = {}
        for prefix, value in (("gram", self.data.gram), ("prior", self.prior), ("draws", self.draws)):
            for field in fields(value):
                part = getattr(value, field.name)
                if isinstance(part, np.ndarray):
                    arrays[f"{prefix}_{field.name}"] = part
        about = {
            "id": self.id,
            "seed": self.seed,
            "spec": msgspec.to_builtins(self.spec),
            "prior": {name: getattr(self.prior, name) for name in PRIOR_NUMBERS},
            "divergences": self.draws.divergences,
            "seconds": self.draws.seconds,
        }
        return arrays, about

    def _positions(self, level: str, known: Sequence[str], units: Sequence[str] | None) -> NDArray[np.int64]:
        if units is None:
            return np.arange(len(known), dtype=np.int64)
        position = {name: at for at, name in enumerate(known)}
        missing = [name for name in units if name not in position]
        if missing:
            raise SpecError(f"The model has no {level} {missing[:3]}; it knows {len(known)}, e.g. {list(known[:3])}.")
        return np.array([position[name] for name in units], dtype=np.int64)

    def _flat(self, values: Array) -> Array:
        return values.reshape(-1, *values.shape[2:])

    def _log_noise(self, chosen: NDArray[np.int64]) -> Floats:
        """Log noise sd (chain * draw, chosen)."""
        if self.draws.item_log_noise is not None:
            return self._flat(self.draws.item_log_noise)[:, chosen].astype(np.float64)
        return np.ascontiguousarray(self._flat(self.draws.log_noise)[:, self.data.noise_group[chosen]])

    def _noise_weights(self, chosen: NDArray[np.int64]) -> tuple[Floats, NDArray[np.int64]]:
        """One over noise variances (columns, chain * draw), and each chosen item's column."""
        if self.draws.item_log_noise is not None:
            log_noise = self._log_noise(chosen)
            column = np.arange(len(chosen), dtype=np.int64)
        else:
            log_noise, column = self._flat(self.draws.log_noise), self.data.noise_group[chosen]
        return np.ascontiguousarray(np.exp(-2.0 * log_noise).T), column

    def _draw_items(self, chosen: NDArray[np.int64]) -> Floats:
        """Coefficients (chain, draw, chosen, k), from as many threads as the request is worth."""
        tree, k = self.kernel, self.kernel.k
        weight, column = self._noise_weights(chosen)
        parents, up = np.unique(tree.parent[chosen] - len(self.data.gram.items), return_inverse=True)
        states = np.moveaxis(self._flat(self.draws.states)[:, parents] - self.prior.root_mean, 0, -1)
        states = np.ascontiguousarray(states)
        out = np.empty((len(chosen), k, self.item_factor.shape[2]))

        def run(part: slice) -> None:
            places, factor = (chosen[part], up[part], column[part]), self.item_factor
            draw_items(self.seed, 0, *places, factor, weight, tree.xtx, tree.xty, states, out[part])

        parts = min(available_cores(), len(chosen)) if out.size >= THREADED_FROM * k else 1
        edges = np.linspace(0, len(chosen), parts + 1).astype(int)
        slices = [slice(int(start), int(stop)) for start, stop in pairwise(edges)]
        if parts == 1:
            run(slices[0])
        else:
            with ThreadPoolExecutor(max_workers=parts) as pool:
                list(pool.map(run, slices))
        out += self.prior.root_mean[:k, None]
        return np.moveaxis(out, -1, 0).reshape(*self.shape, len(chosen), k)

    def _explained(self, values: Floats, attributes: Floats) -> Floats:
        """Coefficients (chain, draw, units, own or more) with what attributes add to level and elasticity."""
        if not self.spec.attributes:
            return values
        return add_attribute_effects(values, attributes, self.attribute_effects().to_numpy())

    def _labelled(self, values: Array, dims: tuple[str, ...], **coords: Sequence[str]) -> xr.DataArray:
        return xr.DataArray(values, dims=("chain", "draw", *dims), coords={name: list(v) for name, v in coords.items()})


PRIOR_NUMBERS = ("noise_scale", "noise_spread_scale", "concentration")
