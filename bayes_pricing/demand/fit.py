"""One way to fit: a checked panel and a request in, a posterior with its diagnostics out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from bayes_pricing.data.assessment import Assessment, assess
from bayes_pricing.data.panel import PanelSummary, SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.data.sample import sample_rows
from bayes_pricing.demand.censoring import count_sold_out, sold_out_rows
from bayes_pricing.demand.choice_of_model import ModelChoice
from bayes_pricing.demand.confounding import ConfoundingSensitivity, confounding_finding
from bayes_pricing.demand.control_function_fit import Endogeneity
from bayes_pricing.demand.design import Design, ModelRequest, build_design
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.fitters import ProgressCallback as ProgressCallback
from bayes_pricing.demand.fitters import SamplerSettings as SamplerSettings
from bayes_pricing.demand.fitters import Stopwatch as Stopwatch
from bayes_pricing.demand.fitters import choose_fitter
from bayes_pricing.demand.identification import Identification, identify
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.predictive import PredictiveCheck, check_predictions
from bayes_pricing.demand.prior_sensitivity import ParameterSensitivity, check_priors, prior_findings
from bayes_pricing.errors import Finding

SAMPLED_ROWS = 2000


def _silent(fraction: float, label: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DemandFit:
    """A fitted demand model and all that is known of how it came about.

    Attributes
    ----------
    posterior : DemandPosterior
    diagnostics : Diagnostics
        Verdict of the gate; where it did not pass the posterior is for inspection only.
    predictions : PredictiveCheck
        How a seeded sample of rows falls into its predictive distributions.
    assessment : Assessment
        Of the sales, the quick one.
    identification : Identification
        What each item's own rows can say of its price; items that lean on their category are named.
    choice : ModelChoice
        The likelihood and why.
    findings : tuple of Finding
        About the data's identification, the design and the fit.
    seconds : mapping of str to float
        Wall-clock seconds by stage.
    summary : PanelSummary
        Of the sales that were fitted.
    roles : ColumnRoles
        Which of their columns played which role.
    sampler : SamplerSettings
    seed : int
    confounding : ConfoundingSensitivity or None
        What an unseen driver would have to explain; None for counts.
    endogeneity : Endogeneity or None
        The fit beside the one that takes prices as given; None without instruments.
    sensitivity : tuple of ParameterSensitivity
        What the priors and the sales each decide of elasticities and their spread; empty with instruments.
    """

    posterior: DemandPosterior
    diagnostics: Diagnostics
    predictions: PredictiveCheck
    assessment: Assessment
    identification: Identification
    choice: ModelChoice
    findings: tuple[Finding, ...]
    seconds: Mapping[str, float]
    summary: PanelSummary
    roles: ColumnRoles
    sampler: SamplerSettings
    seed: int
    confounding: ConfoundingSensitivity | None = None
    endogeneity: Endogeneity | None = None
    sensitivity: tuple[ParameterSensitivity, ...] = ()


def fit_demand(
    panel: SalesPanel,
    request: ModelRequest,
    sampler: SamplerSettings,
    *,
    seed: int,
    progress: ProgressCallback = _silent,
) -> DemandFit:
    """Fit demand to a panel: choose the model, sample it, judge the sampler, check predictions.

    Parameters
    ----------
    panel : SalesPanel
    request : ModelRequest
    sampler : SamplerSettings
    seed : int
        Same seed, same posterior.
    progress : callable, optional
        Called with (fraction done, what is being done).

    Returns
    -------
    DemandFit
        Look at ``diagnostics.passed`` before any number.

    Raises
    ------
    Refusal
        If no elasticity is identified, or the likelihood asked for cannot hold.
    """
    watch = Stopwatch()
    with watch.stage("assess"):
        progress(0.01, "assessing the sales")
        assessment, identification = assess(panel, quick=True), identify(panel, quick=True)
    with watch.stage("design"):
        progress(0.03, "choosing the model")
        design = build_design(panel, request)
    sold_out = count_sold_out(design.frame)
    found = choose_fitter(design, panel.roles, sold_out)(design, sampler, seed, watch, progress)
    settled, confounding = found.settled, found.confounding
    doubt = None if confounding is None else confounding_finding(confounding, trusted=_trusted(panel.roles, request))
    extra = (*found.findings, *(() if doubt is None else (doubt,)))
    with watch.stage("predictions"):
        progress(0.95, "checking predictions on sampled rows")
        met = _met_demand(design.frame)
        predictions = check_predictions(settled.posterior, sample_rows(met, SAMPLED_ROWS, seed), seed=seed)
    with watch.stage("priors"):
        progress(0.98, "asking what the priors decide")
        sensitivity = () if found.endogeneity else check_priors(settled.posterior, design.frame)
    progress(1.0, "fitted")
    return DemandFit(
        posterior=settled.posterior,
        diagnostics=settled.diagnostics,
        predictions=predictions,
        assessment=assessment,
        identification=identification,
        choice=design.choice,
        findings=(
            *_of_items(identification, design),
            *design.findings,
            *settled.findings,
            *extra,
            *predictions.findings,
            *prior_findings(sensitivity),
        ),
        seconds=watch.seconds,
        summary=panel.summary,
        roles=panel.roles,
        sampler=sampler,
        seed=seed,
        confounding=confounding,
        endogeneity=found.endogeneity,
        sensitivity=sensitivity,
    )


def _met_demand(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The rows that did not run out, unless all did: only their sales are draws of demand."""
    gone = sold_out_rows(frame)
    if gone is None or count_sold_out(frame) == frame.select(pl.len()).collect(engine="streaming").item():
        return frame
    return frame.filter(~gone)


def _of_items(identification: Identification, design: Design) -> tuple[Finding, ...]:
    """What was found of the items' own prices; nothing of single prices where items were taken as one."""
    if all(finding.code != "items_pooled" for finding in design.findings):
        return identification.findings
    return tuple(finding for finding in identification.findings if finding.code != "price_never_moves")


def _trusted(roles: ColumnRoles, request: ModelRequest) -> bool:
    """Whether confounding was ruled out by design: prices drawn by lot, or instruments."""
    return request.randomised_price or bool(roles.instruments)
