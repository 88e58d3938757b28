"""Are these instruments good enough to speak of the effect of price? Numbers, then a verdict in findings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.instruments import (
    Errors,
    FirstStage,
    InstrumentRows,
    Integers,
    LinearEstimate,
    build_instrument_rows,
    check_first_stage,
    least_squares,
    two_stage,
)
from bayes_pricing.demand.instruments_tests import (
    ConfidenceSet,
    TestResult,
    anderson_rubin_set,
    lead_price_placebo,
    over_identification,
    wu_hausman,
)
from bayes_pricing.demand.spec import Priors
from bayes_pricing.errors import Finding, SpecError

WEAK_F = 10.0
STRONG_F = 23.1
"""Effective F from which the worst bias of two-stage least squares is at most a tenth of that of least squares, at 5 %
(Montiel Olea and Pflueger 2013, one instrument)."""
WRONG_SIGN_T = -1.96
CONFLICT_SDS = 3.0
DISAGREEMENT = 0.05
PLACEBO = 0.01
FEWEST_CLUSTERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentReport:
    """What classical tests say of the instruments, all on the same rows with items and controls taken out.

    Attributes
    ----------
    instruments : tuple of str
    rows, items : int
    first_stage : FirstStage
    least_squares, two_stage : LinearEstimate
        One elasticity common to all items, without and with instruments.
    anderson_rubin : ConfidenceSet
        Elasticities not rejected, however weak the instruments.
    over_identification : TestResult or None
        Whether several instruments agree; None with one.
    wu_hausman : TestResult
        Whether price is endogenous at all.
    lead_price_placebo : TestResult or None
        Whether sales answer to the next period's price; None without periods.
    """

    instruments: tuple[str, ...]
    rows: int
    items: int
    first_stage: FirstStage
    least_squares: LinearEstimate
    two_stage: LinearEstimate
    anderson_rubin: ConfidenceSet
    over_identification: TestResult | None
    wu_hausman: TestResult
    lead_price_placebo: TestResult | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SalesColumns:
    """Rows of sales as arrays, sorted by item and period.

    Attributes
    ----------
    log_units, log_price : arrays (rows,)
    instruments, controls : arrays (rows, q) and (rows, c)
    item : int array (rows,)
    period : array (rows,) or None
        None where an item has several rows in one period: those have no order.
    """

    log_units: Floats
    log_price: Floats
    instruments: Floats
    controls: Floats
    item: Integers
    period: Integers | None


def read_columns(frame: pl.LazyFrame, controls: tuple[str, ...], instruments: tuple[str, ...]) -> SalesColumns:
    """Bring the columns that instruments need into memory.

    Parameters
    ----------
    frame : LazyFrame
        Columns ``item``, ``log_units``, ``log_price``, controls, instruments and, where there is one, ``period``.
    """
    dated = "period" in frame.collect_schema()
    key = ["item", "period"] if dated else ["item"]
    wanted = list(dict.fromkeys((*key, "log_units", "log_price", *controls, *instruments)))
    rows = frame.select(wanted).sort(key).collect(engine="streaming")
    ordered = dated and not rows.select(pl.struct(key).is_duplicated().any()).item()
    period = rows["period"].to_physical().to_numpy().astype(np.int64) if ordered else None
    return SalesColumns(
        log_units=rows["log_units"].to_numpy(),
        log_price=rows["log_price"].to_numpy(),
        instruments=rows.select(instruments).to_numpy().astype(float),
        controls=np.column_stack([np.empty((rows.height, 0)), *(rows[name].to_numpy() for name in controls)]),
        item=(rows["item"].rank("dense") - 1).to_numpy().astype(np.int64),
        period=period,
    )


def partial_out(columns: SalesColumns, names: tuple[str, ...]) -> InstrumentRows:
    """The columns with items and controls taken out."""
    return build_instrument_rows(
        columns.log_units, columns.log_price, columns.instruments, names, columns.item, columns.controls
    )


def choose_errors(columns: SalesColumns) -> Errors:
    """Clustered by item where there are twenty items or more, HAC for fewer items over time, else HC1."""
    items = int(columns.item.max()) + 1
    if items >= FEWEST_CLUSTERS:
        return "clustered"
    return "hac" if columns.period is not None and len(columns.item) > items else "hc1"


def report_instruments(columns: SalesColumns, names: tuple[str, ...], errors: Errors | None = None) -> InstrumentReport:
    """Run every test.

    Parameters
    ----------
    columns : SalesColumns
    names : tuple of str
        Of the instruments.
    errors : str, optional
        Left out, :func:`choose_errors`.
    """
    rows, kind = partial_out(columns, names), errors or choose_errors(columns)
    return InstrumentReport(
        instruments=names,
        rows=rows.rows,
        items=int(rows.item.max()) + 1,
        first_stage=check_first_stage(rows, kind),
        least_squares=least_squares(rows, kind),
        two_stage=two_stage(rows, kind),
        anderson_rubin=anderson_rubin_set(rows, kind),
        over_identification=over_identification(rows, kind),
        wu_hausman=wu_hausman(rows, kind),
        lead_price_placebo=_placebo(columns, kind),
    )


def _placebo(columns: SalesColumns, errors: Errors) -> TestResult | None:
    """The lead-price placebo on rows that have a next period; None where they are too few or price never moves."""
    if columns.period is None:
        return None
    led = np.flatnonzero(columns.item[1:] == columns.item[:-1])
    if not len(led):
        return None
    item = np.unique(columns.item[led], return_inverse=True)[1].astype(np.int64)
    lead = columns.log_price[led + 1, None]
    try:
        rows = build_instrument_rows(
            columns.log_units[led], columns.log_price[led], lead, ("lead",), item, columns.controls[led]
        )
    except SpecError:
        return None
    return lead_price_placebo(rows, rows.instruments[:, 0], errors)


def refusals(report: InstrumentReport, priors: Priors) -> list[Finding]:
    """Why no effect of price can be given from these instruments; empty where one can."""
    stage, found = report.first_stage, []
    wrong = [
        (name, slope, t)
        for name, slope, t in zip(report.instruments, stage.alone, stage.alone_t, strict=True)
        if t < WRONG_SIGN_T
    ]
    for name, slope, t in wrong:
        found.append(
            _error(
                "instrument_wrong_sign",
                f"price falls as {name!r} rises (first-stage slope {slope:.3g}, t {t:.1f}); a cost or tax raises price",
                "find what stands behind it (a price that is an average of past costs, a missing control); of a "
                "variable that should lower price, give the negative",
            )
        )
    if not stage.f_effective >= WEAK_F:
        found.append(
            _error(
                "weak_instrument",
                f"{_names(report)} hardly move the price: effective F {stage.f_effective:.1f}, at least {WEAK_F:.0f} "
                f"is needed (the data alone allow elasticities {report.anderson_rubin.words()})",
                "give an instrument that moves price more, or test prices; without --instrument the fit is an "
                "association",
            )
        )
    total = np.sqrt(priors.elasticity_sd**2 + priors.elasticity_between_groups**2 + priors.elasticity_between_items**2)
    estimate = report.two_stage
    distance = (estimate.elasticity - priors.elasticity_mean) / np.hypot(total, estimate.standard_error)
    if not found and not abs(distance) <= CONFLICT_SDS:
        found.append(
            _error(
                "prior_conflict",
                f"the instruments give an elasticity of {estimate.elasticity:.2f} (se {estimate.standard_error:.2f}), "
                f"{abs(distance):.1f} standard deviations from what is known of elasticities",
                "check that the instruments move demand through price only, and the units of price and quantity",
            )
        )
    return found


def cautions(report: InstrumentReport) -> Iterator[Finding]:
    """What to know beside an answer that can be given."""
    stage, estimate = report.first_stage, report.two_stage
    if stage.f_effective < STRONG_F:
        yield _warning(
            "moderate_instrument",
            f"{_names(report)} move the price moderately (effective F {stage.f_effective:.1f}, strong from "
            f"{STRONG_F}); the Anderson-Rubin set, valid at any strength, is {report.anderson_rubin.words()} "
            f"({report.anderson_rubin.confidence:.0%})",
            "read the set beside the interval",
        )
    lower, upper = estimate.interval()
    if lower < -1.0 and upper > 0.0:
        yield _warning(
            "imprecise_elasticity",
            f"instruments alone give an elasticity of {estimate.elasticity:.2f} (se {estimate.standard_error:.2f}): "
            "this does not say whether demand is elastic or reacts at all, and the interval leans on the prior",
            "give more rows or a stronger instrument, or test prices",
        )
    agreement = report.over_identification
    if agreement is not None and agreement.p_value < DISAGREEMENT:
        yield _warning(
            "instruments_disagree",
            f"the instruments point to different elasticities (over-identification p {agreement.p_value:.3f})",
            "at least one moves demand by itself; fit with each alone and keep those that can be defended",
        )
    placebo = report.lead_price_placebo
    if placebo is not None and placebo.p_value < PLACEBO:
        yield _warning(
            "lead_price_matters",
            f"sales follow the next period's price (placebo p {placebo.p_value:.3f}), which was not charged yet",
            "prices answer demand, or buyers wait for announced prices; do not read an uninstrumented fit causally",
        )


def _names(report: InstrumentReport) -> str:
    return " and ".join(repr(name) for name in report.instruments)


def _error(code: str, message: str, remedy: str) -> Finding:
    return Finding(code=code, severity="error", message=message, remedy=remedy)


def _warning(code: str, message: str, remedy: str) -> Finding:
    return Finding(code=code, severity="warning", message=message, remedy=remedy)
