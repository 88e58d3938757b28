"""Fitting row by row: sold-out weeks and Student-t errors, which have no sufficient statistics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.censoring import RowData, build_row_data
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.draws_assembly import LevelDraws, assemble_draws
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.nuts import SamplingPlan, SettledFit, settle, without_divergence
from bayes_pricing.demand.robust import bounded_log_smearing
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_layout import correlation_factor
from bayes_pricing.demand.tree_posterior import price_information
from bayes_pricing.demand.tree_prior import build_tree_prior
from bayes_pricing.errors import Finding, Refusal

if TYPE_CHECKING:
    import xarray as xr

Progress = Callable[[float, str], None]
TARGET_ACCEPTANCE = (0.85, 0.95, 0.99)
RICH_ROWS = 100
"""Rows from which an item's coefficients are sampled as they are; those of items with fewer as offsets."""
WEIGHT_DRAWS = 200
MOST_ROWS = 500_000


def fit_rows(
    frame: pl.LazyFrame, items: pl.DataFrame, spec: DemandSpec, plan: SamplingPlan, progress: Progress
) -> SettledFit[DrawsPosterior]:
    """Fit demand row by row with PyMC.

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
        With cross prices, or more than half a million rows, which would take hours.
    """
    refusal = _too_much(frame, spec)
    if refusal is not None:
        raise Refusal([refusal])
    from bayes_pricing.demand.model import build_row_model
    from bayes_pricing.demand.sampling import compile_model, sample_compiled

    progress(0.0, "compiling the model")
    data = build_row_data(frame, items, spec)
    prior = build_tree_prior(data.tree, spec.priors)
    thin = float(np.median(data.tree.gram.count)) < RICH_ROWS
    compiled = compile_model(build_row_model(data, prior, data.tree.level_names[0 if thin else 1 :]))

    def fit(every: int) -> tuple[DrawsPosterior, SamplerStatistics]:
        longer = SamplingPlan(draws=plan.draws, tune=plan.tune, chains=plan.chains, seed=plan.seed, every=every)

        def run(target: float) -> tuple[xr.DataTree, int]:
            tree = sample_compiled(compiled, longer, target_accept=target, progress=progress)
            return tree, int(tree["sample_stats"]["diverging"].to_numpy().sum())

        tree = without_divergence(run, TARGET_ACCEPTANCE)
        stats = tree["sample_stats"]
        statistics = SamplerStatistics(
            divergences=int(stats["diverging"].to_numpy().sum()),
            energy=stats["energy"].to_numpy().astype(np.float64),
        )
        kept = {
            str(name): values.to_numpy()[:, every - 1 :: every].astype(np.float64)
            for name, values in tree["posterior"].items()
        }
        return _posterior(data, kept, items, spec, plan.seed), statistics

    return settle(fit)


def _too_much(frame: pl.LazyFrame, spec: DemandSpec) -> Finding | None:
    """What a row-wise model cannot take on."""
    if spec.cross_prices is not None:
        return Finding(
            code="cross_prices_row_wise",
            severity="error",
            message="cross prices were asked for together with sold-out weeks or Student-t errors",
            remedy="leave --cross-prices out, or fit --model lognormal without the sold-out column",
        )
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


def _posterior(
    data: RowData, draws: Mapping[str, Floats], items: pl.DataFrame, spec: DemandSpec, seed: int
) -> DrawsPosterior:
    """From named draws to the posterior every other fit by draws has."""
    k, levels = len(spec.coefficients), data.tree.level_names
    lower, shape = np.tril_indices(k, -1), draws["population"].shape[:2]
    correlation = {}
    for level in levels:
        partial = 2.0 * draws[f"partial_{level}"] - 1.0
        factor = correlation_factor(np.arctanh(partial), k)
        correlation[level] = (factor @ np.swapaxes(factor, -1, -2))[..., lower[0], lower[1]]
    extra: dict[str, Floats] = {}
    smearing = None
    if spec.likelihood == "lognormal":
        sd = draws["residual_sd"]
        smearing = 0.5 * sd**2
        extra["residual_sd"] = sd
    if spec.errors == "student_t":
        smearing = bounded_log_smearing(draws["residual_sd"], draws["degrees"])
        extra["degrees"] = draws["degrees"][..., None]
    found = LevelDraws(
        units={level: draws[level] for level in levels},
        population=draws["population"],
        sd={level: draws[f"sd_{level}"] for level in levels},
        correlation=correlation,
        shared=draws["shared"].reshape(*shape, -1),
        smearing=smearing,
        dispersion=draws["overdispersion"] ** -2.0 if "overdispersion" in draws else None,
        extra=extra,
    )
    return assemble_draws(found, data.tree, spec, items, weight=_own_weight(data, draws), seed=seed)


def _own_weight(data: RowData, draws: Mapping[str, Floats]) -> Floats:
    r"""Share of each item's elasticity that its own rows decide, approximately: sold-out rows count as none.

    .. math:: w_i = E\left[\frac{I_i}{I_i + 1 / \tau^2}\right]

    with :math:`I_i` the information of the item's rows about its elasticity, its other coefficients free.
    """
    k, seen = len(data.spec.coefficients), ~data.sold_out
    x = data.predictors[seen][:, :k]
    moments = np.zeros((len(data.tree.gram.items), k, k))
    np.add.at(moments, data.item[seen], x[:, :, None] * x[:, None, :])
    information = price_information(moments)[:, None]

    def thinned(name: str) -> Floats:
        flat = draws[name].reshape(-1, *draws[name].shape[2:])
        return flat[:: max(len(flat) // WEIGHT_DRAWS, 1)]

    precision = thinned("sd_item")[:, 1] ** -2.0
    if data.spec.likelihood == "lognormal":
        own = information * thinned("residual_sd").T ** -2.0
    else:
        mean = np.bincount(data.item, data.quantity) / np.maximum(np.bincount(data.item), 1)
        spread = thinned("overdispersion") ** 2 if "overdispersion" in draws else np.zeros(len(precision))
        own = information / (1.0 / np.maximum(mean, 1e-9)[:, None] + spread)
    weight: Floats = (own / (own + precision)).mean(axis=1)
    return weight
