"""From Gram statistics to a tree posterior: fitted anew, put together from draws, or read back from arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import msgspec
import numpy as np
import polars as pl

from bayes_pricing.data.gram import Gram
from bayes_pricing.data.lag import LagGram
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data, kernel_tree
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_posterior import Array, TreePosterior
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior
from bayes_pricing.demand.tree_sampling import Progress, TreeDraws, sample_tree
from bayes_pricing.errors import SpecError


def build_tree_posterior(
    data: TreeData, prior: TreePrior, draws: TreeDraws, items: pl.DataFrame, *, seed: int
) -> TreePosterior:
    """Put draws, data and item table together; the id is the digest of all of it."""
    digest = hashlib.blake2b(digest_size=32)
    digest.update(msgspec.json.encode(data.spec) + str(seed).encode() + items.write_csv().encode())
    for part in (data.gram, prior, draws):
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).data)
    factor = prior.layout.factors(draws.theta)[:, :, 0]
    return TreePosterior(
        data=data,
        prior=prior,
        draws=draws,
        items=items,
        seed=seed,
        id=digest.hexdigest(),
        kernel=kernel_tree(data, data.gram, prior.root_mean),
        item_factor=np.ascontiguousarray(np.moveaxis(factor.reshape(-1, *factor.shape[2:]), 0, -1)),
    )


def fit_tree(
    gram: Gram,
    items: pl.DataFrame,
    spec: DemandSpec,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    every: int = 1,
    lagged: LagGram | None = None,
    progress: Progress | None = None,
) -> TreePosterior:
    """Fit a log-normal demand model from Gram statistics.

    Parameters
    ----------
    gram : Gram
    items : DataFrame
        One row per item of `gram`, in the same order, with a column for every level of the spec.
    spec : DemandSpec
    draws, tune, chains : int
        Kept draws and warm-up iterations of each chain (1,000, 500 and 4 are usual).
    seed : int
    every : int
        Iterations made for each kept draw.
    lagged : LagGram, optional
        Products of consecutive periods of the same rows; needed where the spec has autocorrelation.
    progress : callable, optional
        Called now and then with (iterations done, iterations in all).

    Raises
    ------
    SpecError
        If items, columns or levels do not fit each other.
    """
    data = build_tree_data(gram, _groups(gram, items, spec), spec)
    prior = build_tree_prior(data, spec.priors)
    if spec.autocorrelation:
        if lagged is None:
            raise SpecError("The specification has autocorrelation; give the products of consecutive periods (lagged).")
        data = replace(data, gram=lagged.quasi_difference(gram, spec.autocorrelation))
    result = sample_tree(data, prior, draws=draws, tune=tune, chains=chains, seed=seed, every=every, progress=progress)
    return build_tree_posterior(data, prior, result, items, seed=seed)


def from_arrays(arrays: Mapping[str, Array], about: Mapping[str, Any], items: pl.DataFrame) -> TreePosterior:
    """The posterior that :meth:`TreePosterior.to_arrays` took apart, with the same id and the same item draws."""
    spec = msgspec.convert(about["spec"], DemandSpec)
    gram = Gram(
        items=tuple(items["item"].to_list()),
        columns=spec.columns,
        **{name: np.asarray(arrays[f"gram_{name}"]) for name in ("count", "xtx", "xty", "yty", "centre")},
    )
    data = build_tree_data(gram, _groups(gram, items, spec), spec)
    prior = TreePrior(
        root_mean=np.asarray(arrays["prior_root_mean"]),
        root_sd=np.asarray(arrays["prior_root_sd"]),
        between_sd=np.asarray(arrays["prior_between_sd"]),
        noise_scale=float(about["prior"]["noise_scale"]),
        noise_spread_scale=float(about["prior"]["noise_spread_scale"]),
        concentration=float(about["prior"]["concentration"]),
        layout=data.layout,
    )
    draws = TreeDraws(
        theta=np.asarray(arrays["draws_theta"]),
        log_noise=np.asarray(arrays["draws_log_noise"]),
        log_spread=arrays.get("draws_log_spread"),
        item_log_noise=arrays.get("draws_item_log_noise"),
        states=np.asarray(arrays["draws_states"]),
        divergences=int(about["divergences"]),
        energy=np.asarray(arrays["draws_energy"]),
        steps=np.asarray(arrays["draws_steps"]),
        seconds=float(about["seconds"]),
    )
    posterior = build_tree_posterior(data, prior, draws, items, seed=int(about["seed"]))
    return replace(posterior, id=str(about["id"]))


def _groups(gram: Gram, items: pl.DataFrame, spec: DemandSpec) -> list[list[str]]:
    if tuple(items["item"].to_list()) != gram.items:
        raise SpecError("The item table and the Gram statistics name different items; sort both by item.")
    missing = [level for level in spec.levels if level not in items.columns]
    if missing:
        raise SpecError(f"The item table has no column {missing}; it must hold every level of the specification.")
    return [[str(name) for name in items[level].to_list()] for level in spec.levels]
