"""Metrics that must not suffer: non-inferiority of every arm, at as many looks as the plan allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bayes_pricing.errors import Finding, SpecError
from bayes_pricing.experiments.effects import Effect
from bayes_pricing.experiments.monitoring import check_guardrail


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """An outcome that a change may not harm by more than a margin.

    Attributes
    ----------
    outcome : str
        Of which more is better: share retained, conversion, visits.
    margin : float
        Loss that is accepted, zero or more, in the outcome's unit.

    Examples
    --------
    >>> Guardrail(outcome="retained", margin=0.01).margin
    0.01
    """

    outcome: str
    margin: float

    def __post_init__(self) -> None:
        if not 0 <= self.margin < float("inf"):
            raise SpecError(f"Guardrail.margin is {self.margin}; give the loss that is accepted, zero or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardrailReading:
    """Where a guardrail stands.

    Attributes
    ----------
    outcome, arm : str
    margin : float
    lower, upper : float
        Interval of the effect that it was held against; that of a confidence sequence where the test is watched.
    status : {"safe", "breached", "open"}
        Effect above ``-margin``, below it, or not yet known.
    """

    outcome: str
    arm: str
    margin: float
    lower: float
    upper: float
    status: Literal["safe", "breached", "open"]


def read_guardrails(
    guardrails: Sequence[Guardrail], effects: Sequence[Effect], bound: float | None
) -> tuple[GuardrailReading, ...]:
    """Hold every arm's effect on every guardrail against its margin.

    A change needs *all* guardrails safe, so no allowance for their number is due.

    Parameters
    ----------
    guardrails : sequence of Guardrail
    effects : sequence of Effect
        Of all outcomes.
    bound : float or None
        Standard errors to each side where the test is watched; None takes the effects' own intervals.

    Examples
    --------
    >>> effect = Effect(outcome="kept", arm="B", mean=0.0, sd=0.01, lower=-0.016, upper=0.016, probability=0.9,
    ...                 probability_better=0.5, expected_loss=0.004)
    >>> read_guardrails([Guardrail(outcome="kept", margin=0.02)], [effect], None)[0].status
    'safe'
    >>> read_guardrails([Guardrail(outcome="kept", margin=0.02)], [effect], 3.0)[0].status
    'open'
    """
    readings = []
    for guardrail in guardrails:
        for effect in effects:
            if effect.outcome != guardrail.outcome:
                continue
            reach = None if bound is None else bound * effect.sd
            lower = effect.lower if reach is None else effect.mean - reach
            upper = effect.upper if reach is None else effect.mean + reach
            status = check_guardrail(lower, upper, guardrail.margin)
            readings.append(
                GuardrailReading(
                    outcome=effect.outcome,
                    arm=effect.arm,
                    margin=guardrail.margin,
                    lower=lower,
                    upper=upper,
                    status=status,
                )
            )
    return tuple(readings)


def guardrail_findings(readings: Sequence[GuardrailReading]) -> list[Finding]:
    """What breached or open guardrails mean for an arm: it may not be chosen, or not yet."""
    found = []
    for reading in readings:
        if reading.status == "breached":
            found.append(
                Finding(
                    code="guardrail_breached",
                    severity="error",
                    item=reading.arm,
                    message=f"{reading.arm!r} takes more than {reading.margin:g} from {reading.outcome!r} "
                    f"({reading.lower:.3g} to {reading.upper:.3g})",
                    remedy="do not roll it out; end the arm if the test still runs",
                )
            )
        elif reading.status == "open":
            found.append(
                Finding(
                    code="guardrail_open",
                    severity="warning",
                    item=reading.arm,
                    message=f"{reading.arm!r} may still take more than {reading.margin:g} from {reading.outcome!r} "
                    f"({reading.lower:.3g} to {reading.upper:.3g})",
                    remedy="run the test longer, or accept a wider margin in the next plan",
                )
            )
    return found
