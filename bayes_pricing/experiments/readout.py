"""What came out of a price test: effects with intervals, whether it was run as promised, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, SpecError
from bayes_pricing.experiments.beside import RobustReading, read_compliers, read_lifts, read_retention, read_robust
from bayes_pricing.experiments.compliance import ComplierEffect
from bayes_pricing.experiments.covariates import adjust_for_covariates
from bayes_pricing.experiments.effects import Contrast, Effect, effect_of, holm
from bayes_pricing.experiments.estimation import check_sizes, contrast_p_values, estimate_contrasts
from bayes_pricing.experiments.guardrails import Guardrail, GuardrailReading, guardrail_findings, read_guardrails
from bayes_pricing.experiments.plan_file import Preregistration, departures
from bayes_pricing.experiments.sample_ratio import READ_OUT_THRESHOLD, SampleRatio, check_sample_ratio
from bayes_pricing.experiments.trial import AssignedTrial, Trial
from bayes_pricing.experiments.trial_findings import data_findings, ratio_findings, tail_findings
from bayes_pricing.experiments.verdict import Evidence, Verdict, judge, watching_bound

Floats = NDArray[np.float64]

NOT_FORBIDDING = ("peeked", "arm_below_cost", "guardrail_breached", "no_compliance")
"""Error findings that the rule of the decision already takes into account; any other makes it inconclusive."""
USUAL_PROBABILITY = 0.9
"""Of intervals, where nobody asked for another."""
ASKS = ("shares_not_promised",)
"""Findings that make it inconclusive because something was not said, not because the test is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmReading:
    """One arm as it came out.

    Attributes
    ----------
    name : str
    n : int
        Units.
    mean : float
        Of the primary outcome, per unit (per unit and period where arms alternate or an event is read).
    means : mapping of str to float
        Of every outcome.
    price : float or None
        Mean price paid.
    """

    name: str
    n: int
    mean: float
    means: Mapping[str, float]
    price: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceReduction:
    """What pre-period covariates were worth: share of the variance within arms that they took away, measured."""

    outcome: str
    covariates: int
    gain: float
    units_without: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """p-value of one outcome in one arm, alone and adjusted for all that were looked at with it."""

    outcome: str
    arm: str
    p_value: float
    adjusted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOut:
    """The read-out of a test.

    Attributes
    ----------
    arms : tuple of ArmReading
        Control first.
    effects : tuple of Effect
        By outcome and arm, against control; on the log outcome for a before-and-after reading.
    sample_ratio : SampleRatio or None
        None where no shares were promised (an event, alternating arms).
    decision : Verdict
    findings : tuple of Finding
    lifts : tuple of Effect
        The same as shares of control's mean, where that is over 0 and units were assigned one by one.
    robust : tuple of RobustReading
    variance_reduction : tuple of VarianceReduction
    tests : tuple of PairedTest
        The primary outcome's arms form one family, all other outcomes another; Holm's adjustment in each.
    procedure : str
        How false alarms were kept out.
    guardrails : tuple of GuardrailReading
    compliers : tuple of ComplierEffect
        Effects on units that got what they were assigned, where it is known who did.
    retention : tuple of Effect
        On the mean time retained, in periods.
    """

    arms: tuple[ArmReading, ...]
    effects: tuple[Effect, ...]
    sample_ratio: SampleRatio | None
    decision: Verdict
    findings: tuple[Finding, ...]
    lifts: tuple[Effect, ...] = ()
    robust: tuple[RobustReading, ...] = ()
    variance_reduction: tuple[VarianceReduction, ...] = ()
    tests: tuple[PairedTest, ...] = ()
    procedure: str = ""
    guardrails: tuple[GuardrailReading, ...] = ()
    compliers: tuple[ComplierEffect, ...] = ()
    retention: tuple[Effect, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the test itself is broken, so that its effects may be looked at but decide nothing."""
        return bool(_forbidding(self.findings, besides=ASKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOutRequest:
    """How to read a test out.

    Attributes
    ----------
    plan : Preregistration, optional
        What was promised; departures are found and its rule decides.
    shares : mapping of str to float
        Promised share of each arm, on any positive scale; equal where neither this nor a plan says otherwise.
    probability : float in (0, 1), optional
        Of the intervals; the error rate of the decision is one minus it, two-sided. Left out, the plan's, else 0.9.
    guardrails : tuple of Guardrail
        Outcomes that may not suffer; those of the plan where there is one.
    retention_horizon : float, optional
        Periods within which time retained is counted; left out, the longest that every arm reached.
    """

    plan: Preregistration | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    probability: float | None = None
    guardrails: tuple[Guardrail, ...] = ()
    retention_horizon: float | None = None

    def __post_init__(self) -> None:
        if self.probability is not None and not 0 < self.probability < 1:
            raise SpecError(f"ReadOutRequest.probability is {self.probability}; give a share in (0, 1), such as 0.9.")
        if self.plan is not None and self.guardrails and set(self.guardrails) != set(self.plan.guardrails):
            raise SpecError("Guardrails are those of the plan; leave them out here, or read the test without a plan.")

    @property
    def guarded(self) -> tuple[Guardrail, ...]:
        """Guardrails in force."""
        return self.guardrails if self.plan is None else self.plan.guardrails

    @property
    def level(self) -> float:
        """Probability of the intervals in force."""
        planned = self.plan.probability if self.plan is not None else None
        return self.probability or planned or USUAL_PROBABILITY


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimates:
    """Effects and p-values, by outcome and there by arm other than control."""

    contrasts: Mapping[str, Sequence[Contrast]]
    p_values: Mapping[str, Sequence[float]]


def read_out(trial: Trial, request: ReadOutRequest, rng: np.random.Generator) -> ReadOut:
    """Estimate effects with the error that the design asks for, check the test itself, and decide.

    The decision rests on the first outcome. It is inconclusive, whatever the effects, where the sample ratio is wrong
    or the test is not the planned one.

    Parameters
    ----------
    trial : Trial
    request : ReadOutRequest
    rng : Generator
        Draws assignments where there are few clusters but too many assignments to list.

    Raises
    ------
    Refusal
        If an arm has under two units or clusters, a log outcome is not over 0, or nothing is identified.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.experiments.trial import read_trial
    >>> from bayes_pricing.experiments.trial_columns import TrialColumns
    >>> rng = np.random.default_rng(1)
    >>> arm = np.arange(4_000) % 2
    >>> frame = pl.DataFrame({"arm": arm, "profit": rng.normal(10.0 + 0.5 * arm, 3.0)})
    >>> trial = read_trial(frame, TrialColumns(arm="arm", control_arm="0", outcomes=("profit",)))
    >>> answer = read_out(trial, ReadOutRequest(), rng)
    >>> answer.decision.action, answer.decision.arm, answer.sample_ratio.passed
    ('change', '1', True)
    """
    check_sizes(trial)
    adjusted = {
        name: adjust_for_covariates(trial.outcomes[name], trial.arm, columns)
        for name, columns in trial.covariates.items()
    }
    values = {name: adjusted[name].adjusted if name in adjusted else trial.outcomes[name] for name in trial.outcomes}
    contrasts = {name: estimate_contrasts(trial, name, values[name]) for name in trial.outcomes}
    p_values = {name: contrast_p_values(trial, values[name], contrasts[name], rng) for name in trial.outcomes}
    unit_cost = request.plan.unit_cost if request.plan is not None else None
    compliers, compliance = read_compliers(trial, values, request.level)
    concluded = conclude(
        trial,
        request,
        Estimates(contrasts=contrasts, p_values=p_values),
        arms=_arm_readings(trial),
        findings=[*data_findings(trial, unit_cost, 1.0 - request.level), *tail_findings(trial), *compliance],
    )
    return replace(
        concluded,
        lifts=read_lifts(trial, values, request.level),
        robust=read_robust(trial, request.level),
        variance_reduction=tuple(
            VarianceReduction(outcome=name, covariates=a.slopes.size, gain=a.gain, units_without=a.filled)
            for name, a in adjusted.items()
        ),
        compliers=compliers,
        retention=read_retention(trial, request.retention_horizon, request.level),
    )


def conclude(
    trial: AssignedTrial,
    request: ReadOutRequest,
    estimates: Estimates,
    *,
    arms: tuple[ArmReading, ...],
    findings: Sequence[Finding],
) -> ReadOut:
    """From estimates to the decision: sample ratio, departures from the plan, guardrails, and the rule.

    Parameters
    ----------
    trial : Trial or SummedTrial
    request : ReadOutRequest
    estimates : Estimates
    arms : tuple of ArmReading
    findings : sequence of Finding
        What the data themselves said.
    """
    plan, alpha = request.plan, 1.0 - request.level
    effects = tuple(
        effect_of(contrast, name, arm, request.level)
        for name in trial.outcomes
        for arm, contrast in zip(trial.arms[1:], estimates.contrasts[name], strict=True)
    )
    ratio = _ratio(trial, request)
    tests = _tests(trial, estimates.p_values)
    bound = watching_bound(plan, trial.assigned_counts(), alpha)[0]
    guarded = read_guardrails(_known(request.guarded, trial), effects, bound)
    found = [
        *ratio_findings(ratio, promised=bool(request.shares) or plan is not None),
        *(departures(plan, trial, tuple(trial.outcomes), request.level) if plan is not None else ()),
        *findings,
        *guardrail_findings(guarded),
        *_secondary_findings(tests, trial.primary, alpha),
    ]
    decision = _decide(trial, request, effects, estimates.p_values[trial.primary], found)
    return ReadOut(
        arms=arms,
        effects=effects,
        sample_ratio=ratio,
        decision=decision,
        findings=tuple(found),
        tests=tests,
        procedure=(
            f"The decision rests on {trial.primary!r} alone: {decision.rule}. "
            "Other outcomes are a family of their own under Holm's adjustment."
        ),
        guardrails=guarded,
    )


def _known(guardrails: tuple[Guardrail, ...], trial: AssignedTrial) -> tuple[Guardrail, ...]:
    unknown = [guardrail.outcome for guardrail in guardrails if guardrail.outcome not in trial.outcomes]
    if unknown:
        raise SpecError(f"The guardrail {unknown[0]!r} is no outcome that is read; name it as one (--outcome).")
    return guardrails


def _forbidding(findings: Sequence[Finding], *, besides: tuple[str, ...] = ()) -> list[str]:
    """Codes of what makes the decision inconclusive whatever the effects."""
    codes = [f.code for f in findings if f.severity == "error" and f.code not in (*NOT_FORBIDDING, *besides)]
    return list(dict.fromkeys(codes))


def _ratio(trial: AssignedTrial, request: ReadOutRequest) -> SampleRatio | None:
    promised = request.shares or {arm.name: arm.share for arm in (request.plan.arms if request.plan else ())}
    if trial.layout != "units" and not request.shares:
        return None
    unknown = sorted(set(request.shares) - set(trial.arms))
    if unknown or (request.shares and len(request.shares) < len(trial.arms)):
        raise SpecError(f"Shares are given for {sorted(request.shares)}; give one for each of {list(trial.arms)}.")
    shares = [promised.get(arm, 1.0) for arm in trial.arms] if set(promised) >= set(trial.arms) else None
    return check_sample_ratio(trial.assigned_counts(), shares, threshold=READ_OUT_THRESHOLD)


def _tests(trial: AssignedTrial, p_values: Mapping[str, Sequence[float]]) -> tuple[PairedTest, ...]:
    pairs = [(name, arm, p) for name in trial.outcomes for arm, p in zip(trial.arms[1:], p_values[name], strict=True)]
    first = len(trial.arms) - 1
    alone = np.array([p for _, _, p in pairs])
    adjusted = np.concatenate([holm(alone[:first]), holm(alone[first:])])
    return tuple(
        PairedTest(outcome=name, arm=arm, p_value=p, adjusted=float(a))
        for (name, arm, p), a in zip(pairs, adjusted, strict=True)
    )


def _secondary_findings(tests: tuple[PairedTest, ...], primary: str, alpha: float) -> list[Finding]:
    return [
        Finding(
            code="secondary_effect",
            severity="info",
            item=test.arm,
            message=f"{test.outcome!r} moved too (p {test.adjusted:.2g} after adjustment for all secondary outcomes)",
            remedy="read it beside the decision, which rests on the primary outcome",
        )
        for test in tests
        if test.outcome != primary and test.adjusted < alpha
    ]


def _decide(
    trial: AssignedTrial,
    request: ReadOutRequest,
    effects: tuple[Effect, ...],
    p_values: Sequence[float],
    findings: list[Finding],
) -> Verdict:
    primary = trial.primary
    barred = {finding.item for finding in findings if finding.code in ("arm_below_cost", "guardrail_breached")}
    waiting = {finding.item for finding in findings if finding.code == "guardrail_open"}
    evidence = [
        Evidence(effect=effect, p_value=p, allowed=effect.arm not in barred, safe=effect.arm not in waiting)
        for effect, p in zip(effects[: len(trial.arms) - 1], p_values, strict=True)
    ]
    verdict = judge(evidence, trial.arms[0], request.plan, trial.assigned_counts())
    against = _forbidding(findings)
    if against:
        rule = f"no decision: {', '.join(against)}"
        return Verdict(action="inconclusive", arm=None, outcome=primary, expected_loss=None, rule=rule)
    return verdict


def _arm_readings(trial: Trial) -> tuple[ArmReading, ...]:
    primary = trial.primary
    readings = []
    for place, name in enumerate(trial.arms):
        rows = (trial.assigned[trial.unit] if trial.layout == "before_after" else trial.arm) == place
        means = {outcome: float(values[rows].mean()) for outcome, values in trial.outcomes.items()}
        price = None if trial.prices is None else trial.prices[place]
        n = int(np.unique(trial.unit[rows]).size)
        readings.append(ArmReading(name=name, n=n, mean=means[primary], means=means, price=price))
    return tuple(readings)
