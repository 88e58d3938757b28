"""Fitting row by row: sold-out weeks and Student-t errors, which have no sufficient statistics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.censoring import RowData, build_row_data
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.draws_assembly import assemble_draws, level_draws
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.nest_draws import draw_nest
from bayes_pricing.demand.nest_start import RoughFit
from bayes_pricing.demand.nuts import NutsDraws, Run, SamplingPlan, SettledFit, compile_run, sample_nuts, settle
from bayes_pricing.demand.robust import bounded_log_smearing
from bayes_pricing.demand.row_coordinates import build_row_problem, start_rows
from bayes_pricing.demand.row_density import (
    RowProblem,
    item_log_weight,
    item_residual_sd,
    law_places,
    new_row_work,
    run_chain,
)
from bayes_pricing.demand.row_start import RowLaw
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_items import price_information
from bayes_pricing.demand.tree_prior import build_tree_prior
from bayes_pricing.errors import Finding, Refusal

Progress = Callable[[float, str], None]
TARGET_ACCEPTANCE = (0.8, 0.95, 0.99, 0.998)
WEIGHT_DRAWS = 200
MOST_ROWS = 500_000


def fit_rows(
    frame: pl.LazyFrame, items: pl.DataFrame, spec: DemandSpec, plan: SamplingPlan, progress: Progress
) -> SettledFit[DrawsPosterior]:
    """Fit demand row by row (NUTS on the compiled density; PyMC is not imported).

    Parameters
    ----------
    frame : LazyFrame
        As :func:`bayes_pricing.demand.censoring.build_row_data` takes it.
    items : DataFrame
        Item table.
    spec : DemandSpec
    plan : SamplingPlan
    progress : callable
        Told the finished share and what is being done.

    Raises
    ------
    Refusal
        With more than half a million rows, which would take hours.
    """
    refusal = _too_much(frame, spec)
    if refusal is not None:
        raise Refusal([refusal])
    progress(0.0, "rough first fit")
    data = build_row_data(frame, items, spec)
    problem, rough = build_row_problem(data, build_tree_prior(data.tree, spec.priors))
    progress(0.02, "compiling the model")
    compile_run(_new_run(problem), start_rows(problem, rough, np.random.default_rng(0)))

    def fit(every: int) -> tuple[DrawsPosterior, SamplerStatistics]:
        found = _sample(problem, rough, replace(plan, every=every), progress)
        posterior = _posterior(data, problem, found.x, items, plan.seed)
        return posterior, SamplerStatistics(divergences=found.divergences, energy=found.energy)

    return settle(fit)


def _new_run(problem: RowProblem) -> Run:
    """What runs a chain, with scratch memory of its own."""
    work = new_row_work(problem)
    return lambda rng, chain: run_chain(rng, chain, problem, work)


def _sample(problem: RowProblem, rough: RoughFit[RowLaw], plan: SamplingPlan, progress: Progress) -> NutsDraws:
    """Unconstrained draws (chain, draw, coordinate)."""

    def report(done: int, total: int, warming: bool) -> None:
        progress(0.05 + 0.95 * done / total, "warming up" if warming else "sampling the posterior")

    return sample_nuts(
        lambda: _new_run(problem), lambda rng: start_rows(problem, rough, rng), plan, TARGET_ACCEPTANCE, report
    )


def _too_much(frame: pl.LazyFrame, spec: DemandSpec) -> Finding | None:
    """What a row-wise model cannot take on."""
    rows = int(frame.select(pl.len()).collect(engine="streaming").item())
    if rows <= MOST_ROWS:
        return None
    return Finding(
        code="too_many_rows",
        severity="error",
        message=f"{rows:,} rows; sold-out weeks and Student-t errors are fitted row by row, which takes hours from "
        f"{MOST_ROWS:,} on",
        remedy="fit a part of the items, or leave the sold-out column out and read demand as understated",
    )


def _posterior(data: RowData, problem: RowProblem, x: Floats, items: pl.DataFrame, seed: int) -> DrawsPosterior:
    """From unconstrained draws to the posterior every other fit by draws has."""
    places, spec = law_places(problem), data.spec
    extra: dict[str, Floats] = {}
    smearing = dispersion = log_weight = None
    if spec.likelihood == "lognormal":
        extra["residual_sd"] = item_residual_sd(x, problem)
        log_weight = item_log_weight(extra["residual_sd"], problem)
        smearing = 0.5 * extra["residual_sd"] ** 2
    if spec.errors == "student_t":
        extra["degrees"] = np.exp(x[:, :, places.degrees : places.degrees + 1])
        smearing = bounded_log_smearing(extra["residual_sd"], extra["degrees"][..., 0])
    if spec.likelihood == "negative_binomial":
        dispersion = (problem.scales.overdispersion * x[:, :, places.scalar]) ** -2.0
    drawn = draw_nest(x, problem.nest, problem.scales, log_weight)
    found = level_draws(drawn, data.tree, smearing=smearing, dispersion=dispersion, extra=extra)
    weight = _own_weight(data, drawn.sd[:, :, 0, 1], extra.get("residual_sd"), dispersion)
    return assemble_draws(found, data.tree, spec, items, weight=weight, seed=seed)


def _own_weight(data: RowData, item_sd: Floats, residual_sd: Floats | None, dispersion: Floats | None) -> Floats:
    r"""Share of each item's elasticity that its own rows decide, approximately: sold-out rows count as none.

    .. math:: w_i = E\left[\frac{I_i}{I_i + 1 / \tau^2}\right]

    with :math:`I_i` the information of the item's rows about its elasticity, its other coefficients free.
    """
    k, seen = len(data.spec.item_coefficients), ~data.sold_out
    x = data.predictors[seen][:, :k]
    moments = np.zeros((len(data.tree.gram.items), k, k))
    np.add.at(moments, data.item[seen], x[:, :, None] * x[:, None, :])
    information = price_information(moments)[:, None]

    def thinned(draws: Floats) -> Floats:
        flat = draws.reshape(-1, *draws.shape[2:])
        return flat[:: max(len(flat) // WEIGHT_DRAWS, 1)]

    precision = thinned(item_sd) ** -2.0
    if residual_sd is not None:
        own = information * thinned(residual_sd).T ** -2.0
    else:
        mean = np.bincount(data.item, data.quantity) / np.maximum(np.bincount(data.item), 1)
        spread = np.zeros(len(precision)) if dispersion is None else 1.0 / thinned(dispersion)
        own = information / (1.0 / np.maximum(mean, 1e-9)[:, None] + spread)
    weight: Floats = (own / (own + precision)).mean(axis=1)
    return weight
