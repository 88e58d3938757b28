"""From a sampler's arrays to a posterior held as draws: one shape for every model that the tree does not serve."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.attributes import add_attribute_effects, unit_attributes
from bayes_pricing.demand.draws_posterior import ATTRIBUTE_EFFECT, SD_OTHER_PRICES, Draws, DrawsPosterior
from bayes_pricing.demand.gaussian_tree import TreeData
from bayes_pricing.demand.nest_draws import NestDraws
from bayes_pricing.demand.nest_start import build_nodes
from bayes_pricing.demand.spec import DemandSpec

NO_FLOATS = np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LevelDraws:
    """Joint draws of every coefficient that was sampled.

    Attributes
    ----------
    units : mapping of str to array (chain, draw, unit, k)
        For ``item`` and every level of the data's nesting; an item's with what attributes add to them, a unit's above
        without.
        With cross prices more than the specification's own coefficients: an item's deviations stand last.
    population : array (chain, draw, k)
    sd : mapping of str to array (chain, draw, k)
        Between units of the same levels.
    correlation : mapping of str to array (chain, draw, k (k - 1) / 2)
    shared : array (chain, draw, m)
    smearing : array (chain, draw, item) or None
        log E[exp(residual)] of log units; None for counts.
    dispersion : array (chain, draw) or None
        Size of the negative binomial.
    extra : mapping of str to array (chain, draw, n)
        Hyper-parameters of the model's own; with attributes their effects, on levels, then on elasticities.
    """

    units: Mapping[str, Floats | Draws]
    population: Floats | Draws
    sd: Mapping[str, Floats]
    correlation: Mapping[str, Floats]
    shared: Floats
    smearing: Floats | None = None
    dispersion: Floats | None = None
    extra: Mapping[str, Floats] = field(default_factory=dict)


def level_draws(
    drawn: NestDraws,
    data: TreeData,
    *,
    smearing: Floats | None = None,
    dispersion: Floats | None = None,
    extra: Mapping[str, Floats] | None = None,
) -> LevelDraws:
    """Draws of a nesting by level; `smearing`, `dispersion` and `extra` are what the law of sales has besides."""
    start = build_nodes(data).level_start
    found = dict(extra or {})
    if data.spec.attributes:
        found[ATTRIBUTE_EFFECT] = drawn.effects
    if drawn.tied is not None:
        found[SD_OTHER_PRICES] = drawn.tied[..., None]
    return LevelDraws(
        units={level: drawn.nodes[:, :, start[at] : start[at + 1]] for at, level in enumerate(data.level_names)},
        population=drawn.nodes[:, :, -1],
        sd={level: drawn.sd[:, :, at] for at, level in enumerate(data.level_names)},
        correlation={level: drawn.correlation[:, :, at] for at, level in enumerate(data.level_names)},
        shared=drawn.shared,
        smearing=smearing,
        dispersion=dispersion,
        extra=found,
    )


def assemble_draws(
    draws: LevelDraws, data: TreeData, spec: DemandSpec, items: pl.DataFrame, *, weight: Floats, seed: int
) -> DrawsPosterior:
    """A posterior whose id is the digest of what was assumed and drawn; levels with one unit are the population.

    Parameters
    ----------
    draws : LevelDraws
    data : TreeData
        Items and their nesting.
    spec : DemandSpec
    items : DataFrame
        Item table, sorted by ``item``.
    weight : array (items,)
        Share of each item's elasticity that its own rows decide.
    seed : int
    """
    units: dict[str, tuple[str, ...]] = {}
    own = len(spec.coefficients)
    uppers = {"population": draws.population[..., :own].astype(np.float32)}
    between, correlation = dict(draws.sd), dict(draws.correlation)
    for level, names in zip(data.levels, data.units, strict=True):
        units[level], uppers[level] = names, draws.units[level][..., :own].astype(np.float32)
        if spec.attributes:
            effects = draws.extra[ATTRIBUTE_EFFECT].reshape(*draws.shared.shape[:2], 2, len(spec.attributes))
            usual = unit_attributes(items, level, names, spec.attributes)
            uppers[level] = add_attribute_effects(uppers[level], usual, effects)
    for level, name in data.sole_units.items():
        units[level], uppers[level] = (name,), uppers["population"][:, :, None, :]
        between[level] = np.zeros_like(uppers["population"], dtype=np.float64)
        correlation[level] = np.zeros_like(draws.correlation["item"])
    return DrawsPosterior(
        id=_identity(draws, spec, items, seed),
        spec=spec,
        items=items,
        units=units,
        item_draws=draws.units["item"].astype(np.float32),
        upper_draws=uppers,
        between_sd=between,
        correlation=correlation,
        shared_draws=np.ascontiguousarray(draws.shared, dtype=np.float64),
        dispersion=draws.dispersion,
        weight=weight,
        smearing=None if draws.smearing is None else draws.smearing.astype(np.float32),
        extra=dict(draws.extra),
    )


def _identity(draws: LevelDraws, spec: DemandSpec, items: pl.DataFrame, seed: int) -> str:
    digest = hashlib.blake2b(msgspec.json.encode([spec, seed]), digest_size=32)
    digest.update(items.write_csv().encode())
    parts = [*draws.units.values(), draws.population, *draws.sd.values(), draws.shared, *draws.extra.values()]
    for part in (*parts, draws.smearing, draws.dispersion):
        digest.update(np.ascontiguousarray(NO_FLOATS if part is None else part).data)
    return digest.hexdigest()
