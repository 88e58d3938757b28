"""Fitting demand with instruments: tests first, then the joint model beside the one that takes prices as given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import polars as pl

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.demand.control_function import PRICE_RESIDUAL, fit_control_function
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.draws_posterior import Draws, DrawsPosterior
from bayes_pricing.demand.elasticity import PROBABILITY, summarize
from bayes_pricing.demand.instruments_report import (
    InstrumentReport,
    cautions,
    partial_out,
    read_columns,
    refusals,
    report_instruments,
)
from bayes_pricing.demand.nuts import SamplingPlan, SettledFit, settle
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_fit import fit_tree
from bayes_pricing.errors import Finding, Refusal

SURELY_RISING = 0.95

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credible:
    """Mean, sd and equal-tailed interval of a posterior quantity."""

    mean: float
    sd: float
    lower: float
    upper: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Endogeneity:
    r"""The fit with instruments beside the one without.

    Attributes
    ----------
    report : InstrumentReport
        Classical tests of the instruments.
    instrumented, uninstrumented : Credible
        Elasticity of the population: the joint model's, and that of the same model with prices taken as given.
    shift : float
        The first mean less the second.
    confounding : Credible
        :math:`\lambda`: by how much more log units move with the unexplained part of log price than price makes them.
    """

    report: InstrumentReport
    instrumented: Credible
    uninstrumented: Credible
    shift: float
    confounding: Credible


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndogenousFit:
    """The settled joint posterior, the comparison and what to say of both."""

    settled: SettledFit[DrawsPosterior]
    endogeneity: Endogeneity
    findings: tuple[Finding, ...]


def fit_endogenous(
    rows: pl.LazyFrame,
    items: pl.DataFrame,
    spec: DemandSpec,
    instruments: tuple[str, ...],
    plan: SamplingPlan,
    progress: Progress,
) -> EndogenousFit:
    """Test the instruments, fit demand with and without them, and compare.

    Parameters
    ----------
    rows : LazyFrame
        Columns ``item``, ``log_units``, ``log_price``, the spec's controls, the instruments and, if known, ``period``.
    items : DataFrame
        Item table.
    spec : DemandSpec
        Log-normal. Noise by item becomes noise by category: price and sales errors share one covariance.
    instruments : tuple of str
    plan : SamplingPlan
    progress : callable
        Told the finished share and what is being done.

    Raises
    ------
    Refusal
        If the instruments are weak, of the wrong sign or in conflict with what is known of elasticities; or if the
        joint posterior is sure that demand rises with price.
    """
    progress(0.0, "testing the instruments")
    controls = (*spec.controls, *spec.shared_controls)
    columns = read_columns(rows, controls, instruments)
    report = report_instruments(columns, instruments)
    refused = refusals(report, spec.priors)
    if refused:
        raise Refusal(refused)
    spec = replace(spec, correlated="all")
    if spec.noise_by == "item":
        spec = replace(spec, noise_by="category" if spec.levels else "common")
    names = ["log_price", *controls]
    plain_gram = gather_gram(rows, "item", "log_units", names)
    plain = fit_tree(
        plain_gram,
        items,
        spec,
        draws=plan.draws,
        tune=plan.tune,
        chains=plan.chains,
        seed=plan.seed,
        progress=lambda done, total: progress(0.05 + 0.25 * done / max(total, 1), "sampling with prices as given"),
    )
    wide = rows.with_columns(pl.col("log_price").alias(PRICE_RESIDUAL))
    gram = gather_gram(wide, "item", "log_units", [*names, PRICE_RESIDUAL, *instruments])
    residuals = partial_out(columns, instruments)

    def fit(every: int) -> tuple[DrawsPosterior, SamplerStatistics]:
        fitted = fit_control_function(
            gram,
            residuals,
            items,
            spec,
            plan=replace(plan, every=every),
            progress=lambda done, total: progress(
                0.3 + 0.6 * done / max(total, 1), "sampling prices and sales jointly"
            ),
        )
        return fitted.posterior, fitted.statistics

    settled = settle(fit)
    endogeneity = _compare(report, settled.posterior, plain, single=items.height == 1)
    return EndogenousFit(settled=settled, endogeneity=endogeneity, findings=(_shift(endogeneity), *cautions(report)))


def _compare(report: InstrumentReport, joint: DrawsPosterior, plain: DemandPosterior, *, single: bool) -> Endogeneity:
    """Population elasticities side by side; of a single item, that item's: the joint model has one level less."""
    instrumented = joint.coefficients("population").sel(coefficient="log_price").to_numpy()
    taken = plain.coefficients("item" if single else "population").sel(coefficient="log_price").to_numpy()
    if instrumented.mean() > 0 and (instrumented > 0).mean() > SURELY_RISING:
        raise Refusal([_rising(instrumented)])
    with_, without = _credible(instrumented), _credible(taken)
    return Endogeneity(
        report=report,
        instrumented=with_,
        uninstrumented=without,
        shift=with_.mean - without.mean,
        confounding=_credible(joint.extra["confounding"]),
    )


def _credible(draws: Floats | Draws) -> Credible:
    summary = summarize(draws.reshape(-1, 1).astype(float))
    return Credible(probability=PROBABILITY, **{name: float(value[0]) for name, value in summary.items()})


def _shift(found: Endogeneity) -> Finding:
    with_, without = found.instrumented, found.uninstrumented
    return Finding(
        code="instrument_shift",
        severity="info",
        message=f"with instruments the elasticity is {with_.mean:.2f} ({with_.lower:.2f} to {with_.upper:.2f}), with "
        f"prices taken as given {without.mean:.2f} ({without.lower:.2f} to {without.upper:.2f}): a shift of "
        f"{found.shift:+.2f}",
        remedy="the instrumented numbers are the answer if the instruments move demand through price only",
    )


def _rising(draws: Floats | Draws) -> Finding:
    return Finding(
        code="prior_conflict",
        severity="error",
        message=f"with these instruments demand would rise with price (elasticity {draws.mean():.2f}, "
        f"{(draws > 0).mean():.0%} sure), against all that is known",
        remedy="check that the instruments move demand through price only",
    )
