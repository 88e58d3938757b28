"""Fitting counts: cells in, joint posterior draws out (NUTS on the compiled density; PyMC is not imported)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_coordinates import build_counts, start_point
from bayes_pricing.demand.count_data import CountData, build_count_data
from bayes_pricing.demand.count_density import Counts, new_work, run_chain
from bayes_pricing.demand.count_start import CountLaw, nested_counts
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.draws_assembly import assemble_draws, level_draws
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.nest_density import shared_place
from bayes_pricing.demand.nest_draws import NestDraws, draw_nest
from bayes_pricing.demand.nest_start import RoughFit, item_information
from bayes_pricing.demand.nuts import Run, SamplingPlan, compile_run, sample_nuts
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import SpecError

Progress = Callable[[float, str], None]
DEFAULT_TUNE = 300
TARGET_ACCEPTANCE = (0.8, 0.95, 0.99, 0.998)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountFit:
    """A posterior of counts and what the sampler said of it.

    Attributes
    ----------
    posterior : DrawsPosterior
    statistics : SamplerStatistics
    seconds : dict of str to float
        Wall-clock seconds of ``data``, ``start`` (rough fit), ``compile`` and ``sample``.
    """

    posterior: DrawsPosterior
    statistics: SamplerStatistics
    seconds: dict[str, float]


def fit_counts(
    frame: pl.LazyFrame | pl.DataFrame,
    spec: DemandSpec,
    items: pl.DataFrame,
    *,
    draws: int,
    chains: int,
    seed: int,
    tune: int | None = None,
    every: int = 1,
    progress: Progress | None = None,
) -> CountFit:
    """Fit a Poisson or negative binomial demand model.

    Parameters
    ----------
    frame : polars frame
        Rows as :func:`bayes_pricing.demand.count_data.build_count_data` takes them.
    spec : DemandSpec
        With a count likelihood.
    items : DataFrame
        Item table: one row per item, sorted by ``item``.
    draws, chains : int
        Kept draws of each chain, and chains; 1,000 and 4 are usual.
    seed : int
        Same seed, same draws, whatever the number of cores.
    tune : int, optional
        Warm-up iterations of each chain; by default 300, the start being close already.
    every : int
        Iterations made for each kept draw.
    progress : callable, optional
        Told now and then, from another thread, the finished share and what is being done.

    Returns
    -------
    CountFit

    Raises
    ------
    SpecError
        If the rows are no counts, or the item table names other items than the rows.
    """
    clock = [time.perf_counter()]
    data = build_count_data(frame, spec)
    if tuple(items["item"].to_list()) != data.items:
        raise SpecError("The item table and the rows name different items, or the table is not sorted by item.")
    clock.append(time.perf_counter())
    _tell(progress, 0.0, "rough first fit")
    counts, rough = build_counts(data)
    clock.append(time.perf_counter())
    _tell(progress, 0.01, "compiling the model")
    compile_run(_new_run(counts), start_point(counts, rough, np.random.default_rng(0)))
    clock.append(time.perf_counter())
    plan = SamplingPlan(draws=draws, tune=DEFAULT_TUNE if tune is None else tune, chains=chains, seed=seed, every=every)
    x, statistics = _sample(counts, rough, plan, progress)
    posterior = _posterior(data, counts, x, items, plan)
    clock.append(time.perf_counter())
    stages = np.diff(clock).round(3).tolist()
    return CountFit(
        posterior=posterior,
        statistics=statistics,
        seconds=dict(zip(("data", "start", "compile", "sample"), stages, strict=True)),
    )


def _tell(progress: Progress | None, fraction: float, label: str) -> None:
    if progress is not None:
        progress(fraction, label)


def _new_run(counts: Counts) -> Run:
    """What runs a chain, with scratch memory of its own."""
    work = new_work(counts)
    return lambda rng, chain: run_chain(rng, chain, counts, work)


def _sample(
    counts: Counts, rough: RoughFit[CountLaw], plan: SamplingPlan, progress: Progress | None
) -> tuple[Floats, SamplerStatistics]:
    """Unconstrained draws (chain, draw, coordinate)."""

    def report(done: int, total: int, warming: bool) -> None:
        _tell(progress, 0.05 + 0.9 * done / total, "warming up" if warming else "sampling")

    found = sample_nuts(
        lambda: _new_run(counts),
        lambda rng: start_point(counts, rough, rng),
        plan,
        TARGET_ACCEPTANCE,
        report if progress is not None else None,
    )
    return found.x, SamplerStatistics(divergences=found.divergences, energy=found.energy)


def _posterior(data: CountData, counts: Counts, x: Floats, items: pl.DataFrame, plan: SamplingPlan) -> DrawsPosterior:
    """From unconstrained draws to draws of every coefficient."""
    drawn, scales = draw_nest(x, counts.nest, counts.scales), counts.scales
    gamma = shared_place(scales) + len(scales.shared_sd)
    dispersion = (scales.overdispersion * x[:, :, gamma]) ** -2.0 if scales.overdispersion > 0 else None
    found = level_draws(drawn, data.tree, dispersion=dispersion)
    weight = _own_data_weight(data, drawn, dispersion)
    return assemble_draws(found, data.tree, data.spec, items, weight=weight, seed=plan.seed)


def _own_data_weight(data: CountData, drawn: NestDraws, dispersion: Floats | None) -> Floats:
    r"""Share of each item's elasticity that its own rows decide.

    .. math:: w_i = E\left[\frac{I_i}{I_i + 1/\tau^2}\right]

    with :math:`I_i` the information of its rows about its elasticity, its other coefficients unknown, at the posterior
    mean, and :math:`\tau` the between-item sd, averaged over its draws. Zero where the price never moves, or only with
    the controls.
    """
    centre, shared = drawn.nodes.mean(axis=(0, 1), dtype=np.float64), drawn.shared.mean(axis=(0, 1))
    size = np.inf if dispersion is None else float(np.mean(dispersion**-0.5) ** -2.0)
    curvature, _ = item_information(nested_counts(data), CountLaw(data=data, dispersion=size), centre, shared)
    at = data.spec.coefficients.index("log_price")
    other = [j for j in range(curvature.shape[1]) if j != at]
    cross = curvature[:, other, at]
    inverse = np.linalg.pinv(curvature[:, other][:, :, other], rcond=1e-10, hermitian=True)
    explained = (cross[:, None, :] @ inverse @ cross[:, :, None])[:, 0, 0]
    own = curvature[:, at, at] - explained
    own = np.where(own > 1e-9 * curvature[:, at, at], own, 0.0)
    item_sd = drawn.sd[:, :, 0, 1].ravel()
    precision = item_sd[:: max(len(item_sd) // 200, 1)] ** -2.0
    weight: Floats = (own[:, None] / (own[:, None] + precision)).mean(axis=1)
    return weight
