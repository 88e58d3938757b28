"""From effects to a decision: change, keep or inconclusive, without false alarms over arms or looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bayes_pricing.experiments.effects import Effect, holm
from bayes_pricing.experiments.group_sequential import plan_looks
from bayes_pricing.experiments.monitoring import FEWEST_PER_ARM, SequenceTuning, sequence_multiplier
from bayes_pricing.experiments.plan_file import REACHED, Preregistration

Action = Literal["change", "keep", "inconclusive"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do after a test.

    Attributes
    ----------
    action : str
        ``change`` to the arm, ``keep`` control, or ``inconclusive``.
    arm : str or None
        The arm to use from now on; None where the test does not say.
    outcome : str
        Primary outcome that it rests on.
    expected_loss : float or None
        What following it is expected to lose, per unit in the outcome's unit; None where inconclusive.
    rule : str
        How it was reached.
    """

    action: Action
    arm: str | None
    outcome: str
    expected_loss: float | None
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Primary-outcome evidence of one arm.

    Attributes
    ----------
    effect : Effect
    p_value : float
        Two-sided, of a single look.
    allowed : bool
        Whether the arm may be chosen at all (not below cost, no guardrail breached).
    safe : bool
        Whether every guardrail is known to hold; until then the arm is not chosen, nor given up.
    """

    effect: Effect
    p_value: float
    allowed: bool = True
    safe: bool = True


def judge(evidence: Sequence[Evidence], control: str, plan: Preregistration | None, counts: Sequence[int]) -> Verdict:
    """Decide by the planned rule; by a two-sided test at one minus the interval's probability where there is no plan.

    - one look: Holm's adjustment over the arms;
    - watched, or read before its time: a confidence sequence, the error rate shared out over the arms;
    - planned looks: the group-sequential bound of this look, shared out in the same way;
    - a planned loss threshold: change or keep as soon as that is expected to lose no more.

    An arm is taken if it is better beyond doubt, the best of them if several are; control is kept if every arm is
    worse beyond doubt.

    Parameters
    ----------
    evidence : sequence of Evidence
        One per arm other than control, of the primary outcome.
    control : str
    plan : Preregistration, optional
    counts : sequence of int
        What was assigned so far, by arm.

    Examples
    --------
    >>> from bayes_pricing.experiments.effects import Contrast, effect_of
    >>> contrast = Contrast(mean=2.0, standard_error=0.5)
    >>> evidence = Evidence(effect=effect_of(contrast, "profit", "B"), p_value=contrast.p_value)
    >>> judge([evidence], "A", None, [250, 250]).action
    'change'
    """
    outcome = evidence[0].effect.outcome
    if plan is not None and plan.loss_threshold is not None:
        return _by_loss(evidence, control, plan.loss_threshold)
    alpha = 1.0 - evidence[0].effect.probability
    clear, rule = _clear(evidence, alpha, plan, counts)
    winners = [
        one.effect
        for one, sure in zip(evidence, clear, strict=True)
        if sure and one.effect.mean > 0 and one.allowed and one.safe
    ]
    if winners:
        best = max(winners, key=lambda effect: effect.mean)
        return Verdict(action="change", arm=best.arm, outcome=outcome, expected_loss=best.expected_loss, rule=rule)
    if all(not one.allowed or (sure and one.effect.mean < 0) for one, sure in zip(evidence, clear, strict=True)):
        loss = max(_loss_of_keeping(one) for one in evidence)
        return Verdict(action="keep", arm=control, outcome=outcome, expected_loss=loss, rule=rule)
    return Verdict(action="inconclusive", arm=None, outcome=outcome, expected_loss=None, rule=rule)


def _clear(
    evidence: Sequence[Evidence], alpha: float, plan: Preregistration | None, counts: Sequence[int]
) -> tuple[list[bool], str]:
    """Which arms differ from control beyond doubt, and by which rule."""
    over = f" over {len(evidence)} arms" if len(evidence) > 1 else ""
    bound, rule = watching_bound(plan, counts, alpha)
    if bound is None:
        adjusted = holm(np.array([one.p_value for one in evidence]))
        step = " after Holm's adjustment" + over if over else ""
        return [bool(p < alpha) for p in adjusted], f"{rule}{step}"
    return [abs(one.effect.mean) > bound * one.effect.sd > 0 for one in evidence], f"{rule}{over}"


def watching_bound(plan: Preregistration | None, counts: Sequence[int], alpha: float) -> tuple[float | None, str]:
    """How many standard errors an effect must lie from a value to differ from it by the planned rule, and that rule.

    The error rate is shared out over the arms. None where one look is enough, infinity where it is too early to say.

    Examples
    --------
    >>> watching_bound(None, [500, 500], 0.1)
    (None, 'one look: two-sided p under 0.1')
    """
    each, units = alpha / (len(counts) - 1), sum(counts)
    share = units / plan.planned_units if plan is not None else 1.0
    if plan is None or (plan.monitoring == "fixed" and share >= REACHED):
        return None, f"one look: two-sided p under {alpha:.2g}"
    if plan.monitoring in ("pocock", "obrien-fleming"):
        look = round(share * plan.looks)
        if 1 <= look <= plan.looks and abs(share * plan.looks - look) <= 0.05 * plan.looks:
            bound = float(plan_looks(plan.looks, plan.monitoring, alpha=each).bounds[look - 1])
            return bound, f"look {look} of {plan.looks}: {plan.monitoring} bound {bound:.2f}"
    if min(counts) < FEWEST_PER_ARM:
        return float("inf"), f"a confidence sequence, which speaks from {FEWEST_PER_ARM} units an arm on"
    bound = float(sequence_multiplier(units, SequenceTuning(planned_units=plan.planned_units, confidence=1.0 - each)))
    return bound, f"a confidence sequence, {bound:.2f} standard errors wide to each side"


def _by_loss(evidence: Sequence[Evidence], control: str, threshold: float) -> Verdict:
    outcome, rule = evidence[0].effect.outcome, f"an expected loss of at most {threshold:g} per unit"
    allowed = [one.effect for one in evidence if one.allowed and one.safe]
    best = max(allowed, key=lambda effect: effect.mean, default=None)
    if best is not None and best.mean > 0 and best.expected_loss <= threshold:
        return Verdict(action="change", arm=best.arm, outcome=outcome, expected_loss=best.expected_loss, rule=rule)
    keeping = max(_loss_of_keeping(one) for one in evidence)
    if keeping <= threshold:
        return Verdict(action="keep", arm=control, outcome=outcome, expected_loss=keeping, rule=rule)
    return Verdict(action="inconclusive", arm=None, outcome=outcome, expected_loss=None, rule=rule)


def _loss_of_keeping(one: Evidence) -> float:
    """Mean of ``max(0, effect)``: what not changing to the arm is expected to lose; 0 for an arm nobody may use."""
    return max(one.effect.mean + one.effect.expected_loss, 0.0) if one.allowed else 0.0
