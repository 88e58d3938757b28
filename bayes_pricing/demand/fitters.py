"""The samplers behind one way to fit: tree, counts, single rows, or price and sales together, as the design asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Gram, gather_gram
from bayes_pricing.data.lag import LagGram, lag_products
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.censoring import censoring_finding, uncensored_finding
from bayes_pricing.demand.censoring_fit import fit_rows
from bayes_pricing.demand.confounding import ConfoundingSensitivity, check_confounding
from bayes_pricing.demand.control_function_fit import Endogeneity, fit_endogenous
from bayes_pricing.demand.design import Design, log_rows
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.nuts import SamplingPlan, SettledFit, settle
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.robust import bounded_smearing_finding
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import Finding, SpecError

ProgressCallback = Callable[[float, str], None]
FEWEST_DRAWS = 100
FEWEST_CHAINS = 2
TREE_TUNE = 500
ROW_TUNE = 600
AUTOCORRELATION_LIMIT = 0.2


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What a fitter gives back."""

    settled: SettledFit[DemandPosterior]
    findings: tuple[Finding, ...] = ()
    confounding: ConfoundingSensitivity | None = None
    endogeneity: Endogeneity | None = None


def choose_fitter(
    design: Design, roles: ColumnRoles, sold_out: int
) -> Callable[[Design, SamplerSettings, int, Stopwatch, ProgressCallback], Found]:
    """Which of the fitters suits the design."""
    if roles.instruments:
        return partial(_fit_joint, instruments=roles.instruments, sold_out=sold_out)
    if sold_out or design.spec.errors == "student_t":
        return partial(_fit_rows, sold_out=sold_out)
    return _fit_tree if design.spec.likelihood == "lognormal" else _fit_counts


def _fit_joint(
    design: Design,
    sampler: SamplerSettings,
    seed: int,
    watch: Stopwatch,
    progress: ProgressCallback,
    *,
    instruments: tuple[str, ...],
    sold_out: int,
) -> Found:
    """Price and sales together, where prices followed demand and instruments tell the two apart."""
    rows, spec = log_rows(design.frame), design.spec
    plan = SamplingPlan(draws=sampler.draws, tune=sampler.tune or TREE_TUNE, chains=sampler.chains, seed=seed)
    with watch.stage("sample"):
        found = fit_endogenous(
            rows, design.items, spec, instruments, plan, lambda done, label: progress(0.05 + 0.85 * done, label)
        )
    columns = ["log_price", *spec.controls, *spec.shared_controls]
    gram = gather_gram(rows, "item", "log_units", columns)
    return Found(
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
) -> Found:
    """Row by row: sold-out weeks, Student-t errors."""
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
    return Found(settled=settled, findings=tuple(findings))


def _fit_tree(
    design: Design, sampler: SamplerSettings, seed: int, watch: Stopwatch, progress: ProgressCallback
) -> Found:
    """Log-normal demand from Gram statistics."""
    from bayes_pricing.demand.tree_fit import fit_tree

    spec = design.spec
    columns = list(spec.columns[1:])
    with watch.stage("scan"):
        progress(0.05, "summing up the rows of each item")
        rows = log_rows(design.frame)
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
    return Found(settled=settled, findings=findings, confounding=check_confounding(gram, len(spec.controls)))


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
) -> Found:
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

    return Found(settled=settle(fit))


def _sampling_label(every: int) -> str:
    return "sampling the posterior" if every == 1 else f"sampling again, {every} times as long"


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
