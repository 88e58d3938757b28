"""The publish gate: typed evidence in, a verdict out; what is missing fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from bayes_pricing.errors import Check, Finding, Refusal

if TYPE_CHECKING:
    from bayes_pricing.demand.fit import DemandFit

COVERAGE_TOLERANCE = 0.05
CHANCE_SDS = 4.0
WORSE_TOLERANCE = 0.02
WORSE_SDS = 2.0


class GateRefusal(Refusal):
    """A model may not go live: what of its evidence failed or is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerEvidence:
    """What the diagnostics of a fit said, in plain values: a server reads it without loading what computed it.

    Attributes
    ----------
    checks : tuple of Check
    max_rhat, min_ess_bulk, min_ess_tail : float
    divergences : int
    """

    checks: tuple[Check, ...]
    max_rhat: float
    min_ess_bulk: float
    min_ess_tail: float
    divergences: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Shares of rows that central predictive intervals hold.

    Attributes
    ----------
    rows : int
        Rows looked at.
    coverage : tuple of (float, float)
        Probability of the interval, and the share of rows it holds.
    """

    rows: int
    coverage: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """How much worse forecasts get when one column is shuffled among the rows of its item.

    Attributes
    ----------
    feature : str
        ``price``, a control, or a term the model builds; ``cross_price`` stands for all prices of other items. The
        curve of an elasticity that changes with price goes with the price.
    rise : float
        Of the mean error of a row: squared error of log units, or Poisson deviance where some row held out sold
        nothing. Zero or below where the column does not help. Columns that move together share their importance.
    lower, upper : float
        Interval of the rise; its standard error takes the rows of an item as one cluster.
    level : float
        Probability of the interval.
    """

    feature: str
    rise: float
    lower: float
    upper: float
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BackTest:
    """How the model's forecasts of periods it had not seen scored, beside the champion's on the same rows.

    Attributes
    ----------
    rows, periods : int
        Held out.
    error : float
        Root mean squared error of log units (of log(1 + units) for counts) of the model, fitted without them.
    rival : str
        Who it is measured against: a model's id, or ``"last price and mean units"`` where there is no champion.
    rival_error : float
        The same score of the rival, on the same rows.
    difference_sd : float
        Standard error of the difference of mean squared errors, rows clustered by item.
    calibration : Calibration
        Of the predictive intervals of the rows held out.
    importance : tuple of Importance
        Of the model's columns for its forecasts of the rows held out, the most important first; empty where those are
        rows of a single item, whose errors say nothing of how far the next item's would lie.
    """

    rows: int
    periods: int
    error: float
    rival: str
    rival_error: float
    difference_sd: float
    calibration: Calibration
    importance: tuple[Importance, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a model that asks to go live; None where nobody looked.

    Attributes
    ----------
    diagnostics : SamplerEvidence or None
        Of the sampler.
    calibration : Calibration or None
        On rows the model was fitted to.
    backtest : BackTest or None
        On periods it had not seen.
    """

    diagnostics: SamplerEvidence | None = None
    calibration: Calibration | None = None
    backtest: BackTest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says.

    Attributes
    ----------
    checks : tuple of Check
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Every check passed, and there was at least one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The failed checks as findings."""
        return tuple(
            Finding(code=check.code, severity="error", message=check.finding, remedy=check.remedy)
            for check in self.checks
            if not check.passed
        )


def judge(evidence: Evidence) -> Verdict:
    r"""Judge whether a model may go live: its sampler, its calibration, its back-test against the champion.

    Coverage may be off by 0.05 or by four binomial standard errors, whichever is more. The back-test fails where the
    model is worse than its rival by more than 2 % of the rival's squared error and by more than two standard errors:

    .. math:: e^2 - e_r^2 > \max(0.02 \, e_r^2, \; 2 \, s_{e^2 - e_r^2})

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Verdict
        Evidence that is missing, or is not a number, fails.

    Examples
    --------
    >>> verdict = judge(Evidence())
    >>> verdict.passed, [finding.code for finding in verdict.findings]
    (False, ['diagnostics_missing', 'calibration_missing', 'backtest_missing'])
    """
    checks = [*_sampler(evidence.diagnostics), *_calibration(evidence.calibration, "calibration")]
    if evidence.backtest is None:
        missing = "nobody tested it on periods it had not seen"
        return Verdict(checks=(*checks, _missing("backtest", missing, "let a job fit it: that holds periods out")))
    backtest = evidence.backtest
    return Verdict(checks=(*checks, _rival(backtest), *_calibration(backtest.calibration, "backtest_coverage")))


def require_passed(verdict: Verdict) -> None:
    """Go on only if the verdict is good.

    Raises
    ------
    GateRefusal
        With a finding for each check that failed.
    """
    if not verdict.passed:
        raise GateRefusal(verdict.findings)


def fit_evidence(fitted: DemandFit, backtest: BackTest | None = None) -> Evidence:
    """What a fit says of itself, with the back-test that somebody ran of it."""
    predictions = fitted.predictions
    return Evidence(
        diagnostics=msgspec.convert(msgspec.to_builtins(fitted.diagnostics), SamplerEvidence),
        calibration=Calibration(rows=len(predictions.pit), coverage=predictions.coverage),
        backtest=backtest,
    )


def _sampler(diagnostics: SamplerEvidence | None) -> list[Check]:
    if diagnostics is None or not diagnostics.checks:
        return [_missing("diagnostics", "the sampler's diagnostics are not known", "fit it again with this version")]
    return list(diagnostics.checks)


def _calibration(calibration: Calibration | None, code: str) -> list[Check]:
    if calibration is None or not calibration.rows > 0 or not calibration.coverage:
        return [_missing(code, "its predictive intervals were not checked", "fit it again with this version")]
    return [_held(code, probability, share, calibration.rows) for probability, share in calibration.coverage]


def _held(code: str, probability: float, share: float, rows: int) -> Check:
    chance = CHANCE_SDS * math.sqrt(probability * (1.0 - probability) / rows)
    return Check(
        code=code,
        passed=abs(share - probability) <= max(COVERAGE_TOLERANCE, chance),
        finding=f"its {probability:.0%} predictive intervals hold {share:.1%} of {rows:,} rows",
        remedy="name what else moves sales as a control, or let noise differ by item",
    )


def _rival(backtest: BackTest) -> Check:
    worse = backtest.error**2 - backtest.rival_error**2
    allowed = max(WORSE_TOLERANCE * backtest.rival_error**2, WORSE_SDS * backtest.difference_sd)
    return Check(
        code="backtest",
        passed=backtest.rows > 0 and worse <= allowed,
        finding=f"its error on {backtest.rows:,} rows it had not seen is {backtest.error:.4f}, "
        f"that of {backtest.rival} {backtest.rival_error:.4f}",
        remedy="keep the champion, and look at what changed in the sales or the model",
    )


def _missing(code: str, what: str, remedy: str) -> Check:
    return Check(code=f"{code}_missing", passed=False, finding=what, remedy=remedy)
