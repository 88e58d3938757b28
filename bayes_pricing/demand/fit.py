"""One way to fit: a checked panel and a request in, a posterior with its diagnostics out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import polars as pl

from bayes_pricing.data.assessment import Assessment, assess
from bayes_pricing.data.gram import Gram, gather_gram
from bayes_pricing.data.lag import LagGram, lag_products
from bayes_pricing.data.panel import PanelSummary, SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.data.sample import sample_rows
from bayes_pricing.demand.censoring import censoring_finding, count_sold_out, sold_out_rows, uncensored_finding
from bayes_pricing.demand.censoring_fit import fit_rows
from bayes_pricing.demand.choice_of_model import ModelChoice
from bayes_pricing.demand.confounding import ConfoundingSensitivity, check_confounding, confounding_finding
from bayes_pricing.demand.control_function_fit import Endogeneity, fit_endogenous
from bayes_pricing.demand.design import Design, ModelRequest, build_design
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics
from bayes_pricing.demand.identification import Identification, identify
from bayes_pricing.demand.nuts import SamplingPlan, SettledFit, settle
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.predictive import PredictiveCheck, check_predictions
from bayes_pricing.demand.robust import bounded_smearing_finding
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import Finding, SpecError

ProgressCallback = Callable[[float, str], None]
FEWEST_DRAWS = 100
FEWEST_CHAINS = 2
TREE_TUNE = 500
ROW_TUNE = 600
SAMPLED_ROWS = 2000
AUTOCORRELATION_LIMIT = 0.2


def _silent(fraction: float, label: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerSettings:
    """How long to sample; the default is four chains of 1,000 draws.

    Attributes
    ----------
    draws, chains : int
        At least 100 draws and two chains, without which convergence cannot be judged.
    tune : int or None
        Warm-up iterations; None takes what suits the model.

    Examples
    --------
    >>> SamplerSettings().chains
    4
    """

    draws: int = 1000
    tune: int | None = None
    chains: int = 4

    def __post_init__(self) -> None:
        if self.draws < FEWEST_DRAWS:
            raise SpecError(f"--draws is {self.draws}; at least {FEWEST_DRAWS} are needed to judge convergence.")
        if self.chains < FEWEST_CHAINS:
            raise SpecError(f"--chains is {self.chains}; at least {FEWEST_CHAINS} are needed to judge convergence.")
        if self.tune is not None and self.tune < FEWEST_DRAWS:
            raise SpecError(f"--tune is {self.tune}; the sampler needs at least {FEWEST_DRAWS} warm-up iterations.")


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


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Wall-clock seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to stage `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({name: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add the seconds of stages measured elsewhere."""
        for name, value in seconds.items():
            self.seconds[name] = round(self.seconds.get(name, 0.0) + value, 3)


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
    found = _fitter(design, panel.roles, sold_out)(design, sampler, seed, watch, progress)
    settled, confounding = found.settled, found.confounding
    doubt = None if confounding is None else confounding_finding(confounding, trusted=_trusted(panel.roles, request))
    extra = (*found.findings, *(() if doubt is None else (doubt,)))
    with watch.stage("predictions"):
        progress(0.95, "checking predictions on sampled rows")
        met = _met_demand(design.frame)
        predictions = check_predictions(settled.posterior, sample_rows(met, SAMPLED_ROWS, seed), seed=seed)
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
        ),
        seconds=watch.seconds,
        summary=panel.summary,
        roles=panel.roles,
        sampler=sampler,
        seed=seed,
        confounding=confounding,
        endogeneity=found.endogeneity,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """What a fitter gives back."""

    settled: SettledFit[DemandPosterior]
    findings: tuple[Finding, ...] = ()
    confounding: ConfoundingSensitivity | None = None
    endogeneity: Endogeneity | None = None


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


def _fitter(
    design: Design, roles: ColumnRoles, sold_out: int
) -> Callable[[Design, SamplerSettings, int, Stopwatch, ProgressCallback], _Found]:
    """Which of the fitters suits the design."""
    if roles.instruments:
        return partial(_fit_joint, instruments=roles.instruments, sold_out=sold_out)
    if sold_out or design.spec.errors == "student_t":
        return partial(_fit_rows, sold_out=sold_out)
    return _fit_tree if design.spec.likelihood == "lognormal" else _fit_counts


def _trusted(roles: ColumnRoles, request: ModelRequest) -> bool:
    """Whether confounding was ruled out by design: prices drawn by lot, or instruments."""
    return request.randomised_price or bool(roles.instruments)


def _fit_joint(
    design: Design,
    sampler: SamplerSettings,
    seed: int,
    watch: Stopwatch,
    progress: ProgressCallback,
    *,
    instruments: tuple[str, ...],
    sold_out: int,
) -> _Found:
    """Price and sales together, where prices followed demand and instruments tell the two apart."""
    rows, spec = _log_rows(design), design.spec
    plan = SamplingPlan(draws=sampler.draws, tune=sampler.tune or TREE_TUNE, chains=sampler.chains, seed=seed)
    with watch.stage("sample"):
        found = fit_endogenous(
            rows, design.items, spec, instruments, plan, lambda done, label: progress(0.05 + 0.85 * done, label)
        )
    columns = ["log_price", *spec.controls, *spec.shared_controls]
    gram = gather_gram(rows, "item", "log_units", columns)
    return _Found(
        settled=found.settled,
        findings=(
            *found.findings,
            *((uncensored_finding(sold_out),) if sold_out else ()),
            *_autocorrelation(rows, gram, found.settled.posterior, columns),
        ),
        confounding=check_confounding(gram, len(spec.controls)),
        endogeneity=found.endogeneity,
    )


def _fit_rows(
    design: Design, sampler: SamplerSettings, seed: int, watch: Stopwatch, progress: ProgressCallback, *, sold_out: int
) -> _Found:
    """Row by row with PyMC: sold-out weeks, Student-t errors."""
    plan = SamplingPlan(draws=sampler.draws, tune=sampler.tune or ROW_TUNE, chains=sampler.chains, seed=seed)
    with watch.stage("sample"):
        settled = fit_rows(
            design.frame,
            design.items,
            design.spec,
            plan,
            lambda done, label: progress(0.05 + 0.85 * done, label),
        )
    rows = int(design.items["rows"].sum())
    findings = [censoring_finding(sold_out, rows)] if sold_out else []
    if design.spec.errors == "student_t":
        findings.append(bounded_smearing_finding())
    return _Found(settled=settled, findings=tuple(findings))


def _fit_tree(
    design: Design, sampler: SamplerSettings, seed: int, watch: Stopwatch, progress: ProgressCallback
) -> _Found:
    """Log-normal demand from Gram statistics."""
    from bayes_pricing.demand.tree_posterior import fit_tree

    spec = design.spec
    columns = list(spec.columns[1:])
    with watch.stage("scan"):
        progress(0.05, "summing up the rows of each item")
        rows = _log_rows(design)
        gram = gather_gram(rows, "item", "log_units", columns, centred=spec.centred)

    with watch.stage("autocorrelation"):
        progress(0.08, "looking for autocorrelation")
        lagged, spec, findings = _own_past(design, rows, gram)

    def fit(every: int) -> tuple[DemandPosterior, SamplerStatistics]:
        posterior = fit_tree(
            gram,
            design.items,
            spec,
            draws=sampler.draws,
            tune=sampler.tune or TREE_TUNE,
            chains=sampler.chains,
            seed=seed,
            every=every,
            lagged=lagged,
            progress=lambda done, total: progress(0.1 + 0.75 * done / max(total, 1), _sampling_label(every)),
        )
        return posterior, SamplerStatistics(divergences=posterior.draws.divergences, energy=posterior.draws.energy)

    with watch.stage("sample"):
        settled = settle(fit)
    return _Found(settled=settled, findings=findings, confounding=check_confounding(gram, len(spec.controls)))


def _own_past(design: Design, rows: pl.LazyFrame, gram: Gram) -> tuple[LagGram | None, DemandSpec, tuple[Finding, ...]]:
    """The specification with the residuals' autocorrelation where they have one, or a warning where it is unwanted."""
    from bayes_pricing.demand.tree_autocorrelation import estimate_autocorrelation

    spec = design.spec
    if "period" not in rows.collect_schema().names():
        return None, spec, ()
    lagged = lag_products(rows, "item", "period", "log_units", spec.columns[1:], centre=gram)
    rho = estimate_autocorrelation(gram, lagged, design.items, spec)
    if abs(rho) <= AUTOCORRELATION_LIMIT:
        return lagged, spec, ()
    if design.autocorrelation == "off":
        return lagged, spec, (_autocorrelated(rho),)
    modelled = Finding(
        code="autocorrelation_modelled",
        severity="info",
        message=f"residuals follow their own past (first-order autocorrelation {rho:.2f}); the model has it",
        remedy="name what moves sales over time (season, promotion) as a control where it is known",
    )
    return lagged, replace(spec, autocorrelation=rho), (modelled,)


def _fit_counts(
    design: Design, sampler: SamplerSettings, seed: int, watch: Stopwatch, progress: ProgressCallback
) -> _Found:
    """Poisson or negative binomial demand from cells."""
    from bayes_pricing.demand.count_fit import fit_counts

    def fit(every: int) -> tuple[DemandPosterior, SamplerStatistics]:
        fitted = fit_counts(
            design.frame,
            design.spec,
            design.items,
            draws=sampler.draws,
            tune=sampler.tune,
            chains=sampler.chains,
            seed=seed,
            every=every,
            progress=lambda done, label: progress(0.05 + 0.85 * done, label if every == 1 else _sampling_label(every)),
        )
        watch.add(fitted.seconds)
        return fitted.posterior, fitted.statistics

    return _Found(settled=settle(fit))


def _sampling_label(every: int) -> str:
    return "sampling the posterior" if every == 1 else f"sampling again, {every} times as long"


def _log_rows(design: Design) -> pl.LazyFrame:
    """The design's rows with log price and log units per unit of exposure."""
    names = design.frame.collect_schema().names()
    exposure = pl.col("exposure").log() if "exposure" in names else pl.lit(0.0)
    log_units = pl.col("quantity").log() - exposure
    return design.frame.with_columns(pl.col("price").log().alias("log_price"), log_units.alias("log_units"))


def _autocorrelation(
    rows: pl.LazyFrame, gram: Gram, posterior: DemandPosterior, columns: list[str]
) -> tuple[Finding, ...]:
    """Warn where an item's residuals follow their own past: intervals are then too narrow."""
    if "period" not in rows.collect_schema().names():
        return ()
    own = posterior.coefficients("item").mean(("chain", "draw")).to_numpy()
    shared = posterior.shared().mean(("chain", "draw")).to_numpy()
    coefficients = np.hstack([own, np.broadcast_to(shared, (own.shape[0], shared.shape[0]))])
    lagged = lag_products(rows, "item", "period", "log_units", columns, centre=gram)
    found = lagged.autocorrelation(gram, coefficients)
    known = np.isfinite(found)
    if not known.any():
        return ()
    mean = float(np.average(found[known], weights=lagged.pairs[known]))
    return () if abs(mean) <= AUTOCORRELATION_LIMIT else (_autocorrelated(mean),)


def _autocorrelated(rho: float) -> Finding:
    return Finding(
        code="autocorrelated_residuals",
        severity="warning",
        message=f"residuals follow their own past (first-order autocorrelation {rho:.2f} on average)",
        remedy="name what moves sales over time (season, promotion) as a control; intervals may be too narrow",
    )
