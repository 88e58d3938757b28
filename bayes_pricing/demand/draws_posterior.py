"""A demand posterior held as draws: what fits by sampling every coefficient (counts and other PyMC models) leave."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.demand.attributes import place_new_item, unit_attributes
from bayes_pricing.demand.cross_prices import category_matrix
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_layout import pair_names
from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
Draws = NDArray[np.float32]
ATTRIBUTE_EFFECT = "attribute_effect"
SD_OTHER_PRICES = "sd_other_prices"


class DrawsMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """What a saved posterior needs besides its arrays and its item table; plain values that JSON can hold.

    Attributes
    ----------
    id : str
    spec : DemandSpec
    units : mapping of str to tuple of str
        Sorted names of the units of every nesting level of the spec.
    """

    id: str
    spec: DemandSpec
    units: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawsPosterior:
    """Joint draws of every coefficient at every level; implements :class:`DemandPosterior`.

    Attributes
    ----------
    id : str
        Hex digest of specification, item table, seed and draws.
    spec : DemandSpec
    items : DataFrame
        One row per item, sorted by ``item``.
    units : mapping of str to tuple of str
        Sorted names of the units of every nesting level of the spec.
    item_draws : float32 array (chain, draw, item, coefficient)
        Of ``spec.item_coefficients``; all others of ``spec.coefficients``.
    upper_draws : mapping of str to float32 array
        (chain, draw, unit, coefficient) for every nesting level, (chain, draw, coefficient) for ``population``.
    between_sd : mapping of str to array (chain, draw, coefficient)
        For ``item`` and every nesting level; zero for a level with one unit, which is the population.
    correlation : mapping of str to array (chain, draw, pair)
        Correlations between coefficients of one unit, for the same levels.
    shared_draws : array (chain, draw, control)
    dispersion : array (chain, draw) or None
        Size of the negative binomial: variance = mean + mean^2 / dispersion.
    weight : array (item,)
        Share of each item's elasticity that its own rows decide.
    smearing : float32 array (chain, draw, item) or None
        log E[exp(residual)] of log units; None, for zero, where the log rate is that of the mean (counts).
    extra : mapping of str to array (chain, draw, n)
        Hyper-parameters that only this model has; with attributes their effects, on levels, then on elasticities.
    """

    id: str
    spec: DemandSpec
    items: pl.DataFrame
    units: Mapping[str, tuple[str, ...]]
    item_draws: Draws
    upper_draws: Mapping[str, Draws]
    between_sd: Mapping[str, Floats]
    correlation: Mapping[str, Floats]
    shared_draws: Floats
    dispersion: Floats | None
    weight: Floats
    smearing: Draws | None = None
    extra: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names, k = self.items["item"].to_list(), len(self.spec.coefficients)
        each = len(self.spec.item_coefficients)
        chains, draws = self.shared_draws.shape[:2]
        if self.item_draws.shape != (chains, draws, len(names), each) or self.weight.shape != (len(names),):
            raise SpecError(
                f"Draws of items have shape {self.item_draws.shape} and weights {self.weight.shape}; the item table "
                f"has {len(names)} items and the specification {each} coefficients."
            )
        for level in self.spec.levels:
            expected = (chains, draws, len(self.units[level]), k)
            if self.upper_draws[level].shape != expected:
                raise SpecError(f"Draws of {level!r} have shape {self.upper_draws[level].shape}, not {expected}.")

    def coefficients(self, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
        """Draws, dims (chain, draw, <level>, coefficient), without <level> for ``population``.

        Raises
        ------
        SpecError
            If there is no such level or unit.
        """
        coefficient = list(self.spec.coefficients)
        if level == "population":
            return xr.DataArray(
                self.upper_draws[level], dims=("chain", "draw", "coefficient"), coords={"coefficient": coefficient}
            )
        if level != "item" and level not in self.spec.levels:
            raise SpecError(f"There is no level {level!r}; choose one of {', '.join(self.spec.all_levels)}.")
        names = self.items["item"].to_list() if level == "item" else list(self.units[level])
        draws = self.item_draws if level == "item" else self.upper_draws[level]
        if units is not None:
            draws, names = draws[:, :, _positions(names, units, level)], list(units)
        known = list(self.spec.item_coefficients) if level == "item" else coefficient
        return xr.DataArray(
            draws, dims=("chain", "draw", level, "coefficient"), coords={level: names, "coefficient": known}
        )

    def shared(self) -> xr.DataArray:
        """Draws of the effects common to all items, dims (chain, draw, control)."""
        return xr.DataArray(
            self.shared_draws, dims=("chain", "draw", "control"), coords={"control": list(self.spec.shared_controls)}
        )

    def variation(self, level: str) -> xr.DataArray:
        """Draws of the between-unit sd of `level` around its parent, dims (chain, draw, coefficient)."""
        if level not in self.between_sd:
            raise SpecError(f"There is no level {level!r} that varies; choose one of {', '.join(self.between_sd)}.")
        return xr.DataArray(
            self.between_sd[level],
            dims=("chain", "draw", "coefficient"),
            coords={"coefficient": list(self.spec.coefficients)},
        )

    def cross_elasticities(self, category: str) -> xr.DataArray | None:
        """Draws of d log units of `item` / d log price of `other`, dims (chain, draw, item, other); None without them.

        As :meth:`bayes_pricing.demand.posterior.DemandPosterior.cross_elasticities` says.

        Raises
        ------
        SpecError
            For a category the model does not have.
        """
        return category_matrix(self, category)

    def log_smearing(self, units: Sequence[str] | None = None) -> xr.DataArray:
        """Draws of log E[exp(residual)], dims (chain, draw, item): zero for counts, whose log rate is of the mean."""
        known = self.items["item"].to_list()
        names = known if units is None else list(units)
        places = _positions(known, names, "item")
        shape = (*self.shared_draws.shape[:2], len(names))
        values = np.zeros(shape, dtype=np.float32) if self.smearing is None else self.smearing[:, :, places]
        return xr.DataArray(values, dims=("chain", "draw", "item"), coords={"item": names})

    def own_data_weight(self) -> xr.DataArray:
        """Share of each item's elasticity that its own rows decide, in [0, 1], dims (item,)."""
        return xr.DataArray(self.weight, dims=("item",), coords={"item": self.items["item"].to_list()})

    def hyper(self) -> xr.Dataset:
        """Every sampled hyper-parameter: sds and correlations of every level, dispersion, dims (chain, draw, ...)."""
        pairs = list(pair_names(self.spec.coefficients))
        coefficients = list(self.spec.coefficients)
        variables: dict[str, tuple[tuple[str, ...], Floats]] = {}
        for level, sds in self.between_sd.items():
            variables[f"{level}_sd"] = (("chain", "draw", "coefficient"), sds)
            variables[f"{level}_correlation"] = (("chain", "draw", "pair"), self.correlation[level])
        if self.dispersion is not None:
            variables["overdispersion"] = (("chain", "draw"), self.dispersion**-0.5)
        if self.smearing is not None:
            variables["log_smearing"] = (("chain", "draw", "item"), self.smearing.astype(np.float64))
        for name, values in self.extra.items():
            if name == SD_OTHER_PRICES:
                variables[name] = (("chain", "draw"), values[..., 0])
            elif name != ATTRIBUTE_EFFECT:
                variables[name] = (("chain", "draw", f"{name}_at"), values)
        found = xr.Dataset(variables, coords={"coefficient": coefficients, "pair": pairs})
        if self.spec.attributes:
            found[ATTRIBUTE_EFFECT] = self.attribute_effects().rename(coefficient="explained")
        return found

    def attribute_effects(self) -> xr.DataArray:
        """Draws of what one unit of an attribute adds, dims (chain, draw, coefficient, attribute).

        ``coefficient`` is ``level`` (log units) or ``log_price`` (elasticity); both are in the items' coefficients.
        """
        shape = (*self.shared_draws.shape[:2], 2, len(self.spec.attributes))
        values = self.extra[ATTRIBUTE_EFFECT].reshape(shape) if self.spec.attributes else np.zeros(shape)
        names = {"coefficient": ["level", "log_price"], "attribute": list(self.spec.attributes)}
        return xr.DataArray(values, dims=("chain", "draw", *names), coords=names)

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
            ``item`` or a nesting level with two units or more.
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
            For attributes that are not the model's, and a level or parent it does not have: of one unit nobody can
            tell how far others lie from it.
        """
        varying = ("item", *(name for name in self.spec.levels if len(self.units[name]) > 1))
        if level not in varying:
            raise SpecError(f"No units of {level!r} vary around a parent; choose one of {varying}.")
        above = (*varying, "population")[varying.index(level) + 1]
        mean, usual = self.coefficients("population"), np.zeros(len(self.spec.attributes))
        if isinstance(parent, xr.DataArray):
            mean = parent
        elif above != "population":
            if parent is None:
                raise SpecError(f"A new {level} needs the {above} it belongs to; name its parent.")
            mean = self.coefficients(above, [parent]).isel({above: 0}, drop=True)
            names = self.units[above]
            usual = unit_attributes(self.items, above, names, self.spec.attributes)[names.index(parent)]
        sd, k = self.between_sd[level], len(self.spec.coefficients)
        row, column = np.tril_indices(k, -1)
        correlation = np.broadcast_to(np.eye(k), (*sd.shape[:2], k, k)).copy()
        correlation[..., row, column] = correlation[..., column, row] = self.correlation[level]
        z = np.random.default_rng([zlib.crc32(self.id.encode()), seed]).standard_normal(sd.shape)
        drawn = mean + sd * (np.linalg.cholesky(correlation) @ z[..., None])[..., 0]
        if attributes is None:
            return drawn
        effects = self.attribute_effects()
        return place_new_item(drawn, level, attributes, items=self.items, usual=usual, effects=effects)

    def thin(self, draws: int) -> DrawsPosterior:
        """The same posterior with at most `draws` draws per chain, evenly spaced."""
        kept = np.unique(np.linspace(0, self.shared_draws.shape[1] - 1, draws).round().astype(int))

        def some[Array: (Draws, Floats)](arrays: Mapping[str, Array]) -> dict[str, Array]:
            return {name: array[:, kept] for name, array in arrays.items()}

        return replace(
            self,
            item_draws=self.item_draws[:, kept],
            upper_draws=some(self.upper_draws),
            between_sd=some(self.between_sd),
            correlation=some(self.correlation),
            shared_draws=self.shared_draws[:, kept],
            dispersion=None if self.dispersion is None else self.dispersion[:, kept],
            smearing=None if self.smearing is None else self.smearing[:, kept],
            extra=some(self.extra),
        )

    @property
    def metadata(self) -> DrawsMetadata:
        """What to save beside :meth:`to_arrays` and :attr:`items`."""
        return DrawsMetadata(id=self.id, spec=self.spec, units=dict(self.units))

    def to_arrays(self) -> dict[str, NDArray[np.float64] | Draws]:
        """All draws as plain arrays, for :meth:`from_arrays`."""
        arrays: dict[str, NDArray[np.float64] | Draws] = {
            "item": self.item_draws,
            "shared": self.shared_draws,
            "weight": self.weight,
        }
        arrays |= {f"upper_{level}": draws for level, draws in self.upper_draws.items()}
        arrays |= {f"sd_{level}": draws for level, draws in self.between_sd.items()}
        arrays |= {f"correlation_{level}": draws for level, draws in self.correlation.items()}
        if self.dispersion is not None:
            arrays["dispersion"] = self.dispersion
        if self.smearing is not None:
            arrays["smearing"] = self.smearing
        return arrays | {f"extra_{name}": values for name, values in self.extra.items()}

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, NDArray[np.float64] | Draws], metadata: DrawsMetadata, items: pl.DataFrame
    ) -> DrawsPosterior:
        """The posterior that :meth:`to_arrays` and :attr:`metadata` came from, draw for draw."""
        levels = metadata.spec.levels
        wide = {name: array.astype(np.float64, copy=False) for name, array in arrays.items() if not _is_narrow(name)}
        return DrawsPosterior(
            id=metadata.id,
            spec=metadata.spec,
            items=items,
            units=metadata.units,
            item_draws=arrays["item"].astype(np.float32, copy=False),
            upper_draws={
                level: arrays[f"upper_{level}"].astype(np.float32, copy=False) for level in (*levels, "population")
            },
            between_sd={level: wide[f"sd_{level}"] for level in ("item", *levels)},
            correlation={level: wide[f"correlation_{level}"] for level in ("item", *levels)},
            shared_draws=wide["shared"],
            dispersion=wide.get("dispersion"),
            weight=wide["weight"],
            smearing=arrays["smearing"].astype(np.float32, copy=False) if "smearing" in arrays else None,
            extra={name.removeprefix("extra_"): array for name, array in wide.items() if name.startswith("extra_")},
        )


def _is_narrow(name: str) -> bool:
    """Whether an array of :meth:`DrawsPosterior.to_arrays` holds coefficients, which are kept in single precision."""
    return name in ("item", "smearing") or name.startswith("upper_")


def _positions(names: Sequence[str], units: Sequence[str], level: str) -> NDArray[np.intp]:
    """Where `units` stand among `names`."""
    place = {name: at for at, name in enumerate(names)}
    unknown = [unit for unit in units if unit not in place]
    if unknown:
        raise SpecError(f"{unknown[0]!r} is no {level} of this fit; it has {len(place)}, e.g. {next(iter(place))!r}.")
    return np.array([place[unit] for unit in units], dtype=np.intp)
