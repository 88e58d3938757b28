"""Fitting shares with instruments: tests first, then the joint model beside the one that takes prices as given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.control_function_fit import Credible, Endogeneity
from bayes_pricing.demand.elasticity import PROBABILITY, summarize
from bayes_pricing.demand.instruments import Errors
from bayes_pricing.demand.instruments_report import (
    FEWEST_CLUSTERS,
    InstrumentReport,
    SalesColumns,
    cautions,
    refusals,
    report_instruments,
)
from bayes_pricing.demand.shares import TUNE, SharePosterior, SharePriors, fit_shares
from bayes_pricing.demand.shares_data import ShareData
from bayes_pricing.demand.shares_people import PeopleSharePosterior, fit_people_shares
from bayes_pricing.demand.spec import Priors
from bayes_pricing.errors import Finding, Refusal, SpecError

SURELY_RISING = 0.95
CLUSTERS_PER_INSTRUMENT = 2

Progress = Callable[[float, str], None]


def _silent(fraction: float, label: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShareFit:
    """A share logit, what instruments say of it, and what to know.

    Attributes
    ----------
    posterior : SharePosterior or PeopleSharePosterior
        The joint one where there are instruments.
    endogeneity : Endogeneity or None
        Elasticities at mean price and share with and without instruments; None without instruments.
    findings : tuple of Finding
    """

    posterior: SharePosterior | PeopleSharePosterior
    endogeneity: Endogeneity | None
    findings: tuple[Finding, ...]


def report_share_instruments(data: ShareData, errors: Errors | None = None) -> InstrumentReport:
    """Classical tests of the instruments of shares; products and controls are taken out.

    Price is in units of elasticity at mean price and share, so that "elasticity" in the report is one, and the price
    coefficient is it times ``data.per_elasticity``.

    Parameters
    ----------
    data : ShareData
        With instruments.
    errors : str, optional
        Left out, clustered by product where there are at least twenty and two for each instrument, else robust (hc1).
    """
    products, instruments = len(data.products), len(data.instrument_names)
    many = products >= max(FEWEST_CLUSTERS, CLUSTERS_PER_INSTRUMENT * instruments)
    columns = SalesColumns(
        log_units=data.log_ratio,
        log_price=data.price * data.per_elasticity,
        instruments=data.instruments,
        controls=data.controls,
        item=data.product,
        period=None,
    )
    return report_instruments(columns, data.instrument_names, errors or ("clustered" if many else "hc1"))


def fit_share_demand(
    data: ShareData,
    *,
    hierarchical: bool = False,
    people: Sequence[str] = (),
    seed: int,
    priors: SharePriors | None = None,
    draws: int = 1000,
    tune: int = TUNE,
    chains: int = 4,
    progress: Progress = _silent,
) -> ShareFit:
    """Fit a share logit; with instruments test them, fit price and shares jointly, and compare.

    Parameters
    ----------
    data : ShareData
    hierarchical : bool
        As of :func:`~bayes_pricing.demand.shares.fit_shares`.
    people : sequence of str
        What people of one market differ in, as `tastes` of
        :func:`~bayes_pricing.demand.shares_people.fit_people_shares`; empty where they have the same tastes.
    seed : int
    priors : SharePriors, optional
    draws, tune, chains : int
    progress : callable, optional
        Told the finished share and what is being done.

    Raises
    ------
    Refusal
        If the instruments are weak, of the wrong sign (one alone) or in conflict with what is known of elasticities; if
        demand surely rises with price; or if the sampler did not pass the gate.
    SpecError
        If people are to differ and, with a hierarchy, markets too.
    """
    if people and hierarchical:
        raise SpecError("Tastes differ between people or between markets here, not both: leave one of the two out.")
    report = report_share_instruments(data) if data.instrument_names else None
    if report is not None:
        _refuse_useless(report)

    def fit(start: float, width: float, words: str, *, instrumented: bool) -> SharePosterior | PeopleSharePosterior:
        kind = partial(fit_people_shares, tastes=people) if people else partial(fit_shares, hierarchical=hierarchical)
        return kind(
            data,
            instrumented=instrumented,
            seed=seed,
            priors=priors,
            draws=draws,
            tune=tune,
            chains=chains,
            progress=lambda done, total: progress(start + width * done / max(total, 1), words),
        )

    if report is None:
        posterior = fit(0.05, 0.9, "sampling", instrumented=False)
        _refuse_rising(posterior)
        return ShareFit(posterior=posterior, endogeneity=None, findings=(_prices_given(),))
    plain = fit(0.05, 0.3, "sampling with prices as given", instrumented=False)
    posterior = fit(0.35, 0.6, "sampling prices and shares jointly", instrumented=True)
    _refuse_rising(posterior)
    joint, given = _of_mean(posterior), _of_mean(plain)
    with_, without = _credible(joint.elasticity), _credible(given.elasticity)
    endogeneity = Endogeneity(
        report=report,
        instrumented=with_,
        uninstrumented=without,
        shift=with_.mean - without.mean,
        confounding=_credible(joint.scales["confounding"]),
    )
    return ShareFit(posterior=posterior, endogeneity=endogeneity, findings=(_shift(endogeneity), *cautions(report)))


def _refuse_useless(report: InstrumentReport) -> None:
    """Several instruments are made of rivals' products and have no sign of their own; one alone is a cost."""
    if len(report.instruments) > 1:
        signless = replace(report.first_stage, alone_t=(0.0,) * len(report.instruments))
        report = replace(report, first_stage=signless)
    found = refusals(report, Priors())
    if found:
        raise Refusal(found)


def _of_mean(posterior: SharePosterior | PeopleSharePosterior) -> SharePosterior:
    """Of the mean person."""
    return posterior.base if isinstance(posterior, PeopleSharePosterior) else posterior


def _refuse_rising(posterior: SharePosterior | PeopleSharePosterior) -> None:
    elasticity = _of_mean(posterior).elasticity
    rising = float((elasticity > 0).mean())
    if rising > SURELY_RISING:
        raise Refusal(
            [
                Finding(
                    code="prior_conflict",
                    severity="error",
                    message=f"shares would rise with price (elasticity {elasticity.mean():.2f}, {rising:.0%} "
                    "sure), against all that is known",
                    remedy="prices that follow demand do this: give instruments, or controls for what drives both",
                )
            ]
        )


def _credible(draws: Floats) -> Credible:
    summary = summarize(np.asarray(draws, dtype=np.float64).reshape(-1, 1))
    return Credible(probability=PROBABILITY, **{name: float(value[0]) for name, value in summary.items()})


def _shift(found: Endogeneity) -> Finding:
    with_, without = found.instrumented, found.uninstrumented
    return Finding(
        code="instrument_shift",
        severity="info",
        message=f"with instruments the elasticity at mean price and share is {with_.mean:.2f} ({with_.lower:.2f} to "
        f"{with_.upper:.2f}), with prices taken as given {without.mean:.2f} ({without.lower:.2f} to "
        f"{without.upper:.2f}): a shift of {found.shift:+.2f}",
        remedy="the instrumented numbers are the answer if the instruments move utility through price only",
    )


def _prices_given() -> Finding:
    return Finding(
        code="prices_taken_as_given",
        severity="warning",
        message="prices are taken as given: where they follow what makes a product wanted, demand looks less elastic",
        remedy="give instruments (--instrument): costs, or prices and attributes of rivals",
    )
