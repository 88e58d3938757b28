"""Which of several families predicts rows left out best: PSIS-LOO on one footing for counts and log-normal sales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.sample import sample_rows
from bayes_pricing.demand.censoring import sold_out_rows
from bayes_pricing.demand.choice_of_model import ModelScore, possible_models, quantity_facts
from bayes_pricing.demand.design import Model, ModelRequest, build_design
from bayes_pricing.demand.fit import DemandFit, ProgressCallback, SamplerSettings, fit_demand
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.row_laws import row_laws, row_log_likelihood
from bayes_pricing.errors import Finding, Refusal

LOO_ROWS = 1000
LOO_DRAWS = 4000
GONE = "_gone"
ROUGH_K = 0.7
MANY_ROUGH = 0.01
CLEAR_DIFFERENCE, CLEAR_ERRORS = 4.0, 2.0
"""A model is taken instead of the one the rules chose if it is better by 4 and by 2 standard errors (Sivula et al.)."""
MODELS: Mapping[str, Model] = {
    "lognormal": "lognormal",
    "student_t": "student-t",
    "poisson": "poisson",
    "negative_binomial": "negative-binomial",
}


def fit_compared(
    panel: SalesPanel, request: ModelRequest, sampler: SamplerSettings, *, seed: int, progress: ProgressCallback
) -> DemandFit:
    """Fit every family the data allow, score each by LOO, and return the chosen one with all scores in its ``choice``.

    Under ``--model auto`` a family that is clearly better than the one the rules chose (by more than 4 and by more than
    two standard errors of the difference) takes its place; a model that was asked for stays.

    Parameters
    ----------
    panel, request, sampler, seed, progress
        As of :func:`bayes_pricing.demand.fit.fit_demand`.

    Raises
    ------
    Refusal
        If the family that the rules chose, or that was asked for, is refused.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), "Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC",
    Statistics and Computing 27; Sivula, Magnusson, Matamoros & Vehtari (2025), "Uncertainty in Bayesian leave-one-out
    cross-validation based model comparison", Bayesian Analysis.
    """
    design = build_design(panel, request)
    first: Model = "student-t" if design.spec.errors == "student_t" else MODELS[design.spec.likelihood]
    others = [MODELS[name] for name in possible_models(quantity_facts(design.frame)) if MODELS[name] != first]
    share = 1.0 / (1 + len(others))
    fits: dict[Model, DemandFit] = {}
    refused: list[ModelScore] = []
    for at, model in enumerate((first, *others)):

        def told(done: float, label: str, at: int = at, model: Model = model) -> None:
            progress((at + done) * share, f"{model}: {label}")

        try:
            fits[model] = fit_demand(
                panel, replace(request, model=model if at else request.model), sampler, seed=seed, progress=told
            )
        except Refusal as refusal:
            if model == first:
                raise
            refused.append(ModelScore(model=model, refused=refusal.findings[0].message))
    return _chosen(first, fits, refused, request, design.frame, seed)


def _chosen(
    first: Model,
    fits: dict[Model, DemandFit],
    refused: list[ModelScore],
    request: ModelRequest,
    frame: pl.LazyFrame,
    seed: int,
) -> DemandFit:
    """The first model's fit, or a clearly better one's, with the scores."""
    failed = [name for name, fitted in fits.items() if not fitted.diagnostics.passed]
    refused += [ModelScore(model=name, refused="the diagnostics gate refused it") for name in failed]
    if first in failed:
        return fits[first]
    scores = score_models({name: fits[name].posterior for name in fits if name not in failed}, frame, seed=seed)
    chosen, best, own = first, scores[0], next(score for score in scores if score.model == first)
    difference, error = own.difference or 0.0, own.standard_error or 0.0
    reason = fits[first].choice.reason
    if request.model == "auto" and -difference > max(CLEAR_DIFFERENCE, CLEAR_ERRORS * error):
        chosen = next(name for name in fits if name == best.model)
        better = f"LOO prefers it to {first} by {-difference:.0f} (standard error {error:.0f})"
        reason = f"{better}; by the rules: {reason}"
    found, considered = fits[chosen], {*fits, *(score.model for score in refused)}
    choice = replace(
        fits[first].choice,
        likelihood=found.choice.likelihood,
        reason=reason,
        alternatives=tuple(name for name in MODELS if MODELS[name] in considered and MODELS[name] != chosen),
        scores=(*scores, *refused),
    )
    return replace(found, choice=choice, findings=(*found.findings, *_findings(scores, chosen)))


def _findings(scores: tuple[ModelScore, ...], chosen: str) -> tuple[Finding, ...]:
    """Says which family predicts best where that is not the one that was taken, and where LOO is rough."""
    best, own = scores[0], next(score for score in scores if score.model == chosen)
    found = []
    if own.difference is not None and -own.difference > CLEAR_ERRORS * (own.standard_error or 0.0):
        found.append(
            Finding(
                code="another_family_predicts_better",
                severity="warning",
                message=f"left-out rows are predicted better by {best.model}: by {-own.difference:.1f} (standard error "
                f"{own.standard_error:.1f}) in expected log density",
                remedy=f"look at --model {best.model} too: elasticities that differ between the two are in doubt",
            )
        )
    rough = [score.model for score in scores if (score.rough_share or 0.0) > MANY_ROUGH]
    if rough:
        found.append(
            Finding(
                code="loo_rough",
                severity="warning",
                message=f"LOO is rough for {', '.join(rough)}: single rows move the posterior (Pareto k over 0.7)",
                remedy="read differences under ten as none; look at those rows",
            )
        )
    return tuple(found)


def score_models(
    posteriors: Mapping[str, DemandPosterior], frame: pl.LazyFrame, *, seed: int, rows: int = LOO_ROWS
) -> tuple[ModelScore, ...]:
    """Score models of one panel by LOO, best first.

    Parameters
    ----------
    posteriors : mapping of str to DemandPosterior
        Of the same rows.
    frame : LazyFrame
        Those rows, as the models saw them.
    seed : int
        Of the sample of rows that is looked at.
    rows : int
        Rows looked at; sums are scaled to all rows.
    """
    gone = sold_out_rows(frame)
    marked = frame.with_columns((pl.lit(value=False) if gone is None else gone).alias(GONE))
    sample = sample_rows(marked, rows, seed)
    factor = int(frame.select(pl.len()).collect(engine="streaming").item()) / sample.height
    found = {name: leave_one_out(posterior, sample) for name, posterior in posteriors.items()}
    order = sorted(found, key=lambda name: -float(found[name].elpd.sum()))
    best = found[order[0]].elpd
    return tuple(
        ModelScore(
            model=name,
            elpd=float(factor * found[name].elpd.sum()),
            difference=float(factor * (found[name].elpd - best).sum()),
            standard_error=float(factor * np.sqrt(sample.height) * (found[name].elpd - best).std()),
            effective_parameters=float(factor * found[name].effective_parameters.sum()),
            largest_pareto_k=float(found[name].pareto_k.max()),
            rough_share=float((~(found[name].pareto_k <= ROUGH_K)).mean()),
        )
        for name in order
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LeftOut:
    """Of every row: expected log predictive density, effective parameters and Pareto k, arrays (rows,)."""

    elpd: Floats
    effective_parameters: Floats
    pareto_k: Floats


def leave_one_out(posterior: DemandPosterior, rows: pl.DataFrame) -> LeftOut:
    """PSIS-LOO of single rows.

    Parameters
    ----------
    posterior : DemandPosterior
        Its chains are taken as one; draws are near independent after the gate.
    rows : DataFrame
        As :func:`bayes_pricing.demand.row_laws.row_laws` takes them, with :data:`GONE`.
    """
    from arviz_stats.base.array import array_stats  # a second, which callers that compare nothing need not pay

    pointwise = row_log_likelihood(
        row_laws(posterior, rows, LOO_DRAWS), rows["quantity"].to_numpy(), rows[GONE].to_numpy()
    )
    elpd, k, parameters = array_stats.loo(pointwise.T[:, None, :], chain_axis=-2, draw_axis=-1)
    return LeftOut(elpd=np.asarray(elpd), effective_parameters=np.asarray(parameters), pareto_k=np.asarray(k))
