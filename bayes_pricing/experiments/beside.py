"""Readings that stand beside the effects: lifts, robust means, effects on compliers, time retained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.experiments.compliance import ComplierEffect, compliance_findings, complier_effect
from bayes_pricing.experiments.effects import ArmSummary, Effect, effect_of, relative_lift
from bayes_pricing.experiments.retention import retained_time, retention_contrast
from bayes_pricing.experiments.tails import robust_contrasts
from bayes_pricing.experiments.trial import Trial

Floats = NDArray[np.float64]

RETAINED = "time retained"
"""Name of the outcome that retention effects are read on, in periods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustReading:
    """A sensitivity check beside an effect; `method` as in `tails.RobustContrast`."""

    method: str
    effect: Effect


def read_lifts(trial: Trial, values: Mapping[str, Floats], probability: float) -> tuple[Effect, ...]:
    """Effects as shares of control's mean, where that is over 0 and units were assigned one by one."""
    if trial.layout != "units" or trial.cluster is not None:
        return ()
    lifts = []
    for name, outcome in values.items():
        control = ArmSummary.of(outcome[trial.arm == 0])
        if control.mean > 0:
            for place, arm in enumerate(trial.arms[1:], start=1):
                lift = relative_lift(control, ArmSummary.of(outcome[trial.arm == place]))
                lifts.append(effect_of(lift, name, arm, probability))
    return tuple(lifts)


def read_robust(trial: Trial, probability: float) -> tuple[RobustReading, ...]:
    """Capped means and the two parts of an outcome with zeros, where units were assigned one by one."""
    if trial.layout != "units" or trial.cluster is not None:
        return ()
    return tuple(
        RobustReading(method=part.method, effect=effect_of(part.contrast, name, arm, probability))
        for name, values in trial.outcomes.items()
        if np.unique(values[:1_000]).size > 2  # a yes or no has no tail
        for place, arm in enumerate(trial.arms[1:], start=1)
        for part in robust_contrasts(values[trial.arm == 0], values[trial.arm == place])
    )


def read_compliers(
    trial: Trial, values: Mapping[str, Floats], probability: float
) -> tuple[tuple[ComplierEffect, ...], list[Finding]]:
    """Effects on compliers where it is known who received what, and what is to be said of compliance."""
    if trial.received is None or trial.layout != "units":
        return (), []
    effects, findings = [], []
    for place, arm in enumerate(trial.arms[1:], start=1):
        rows = (trial.arm == 0) | (trial.arm == place)
        cluster = None if trial.cluster is None else trial.cluster[rows]
        try:
            for name, outcome in values.items():
                found, (lower, upper), compliance = complier_effect(
                    outcome[rows], trial.received[rows], trial.arm[rows] > 0, cluster, probability
                )
                sure = compliance.mean / compliance.standard_error if compliance.standard_error > 0 else np.inf
                effects.append(
                    ComplierEffect(
                        outcome=name, arm=arm, mean=found.mean, sd=found.standard_error, lower=lower, upper=upper,
                        probability=probability, compliance=compliance.mean, f_statistic=float(sure**2),
                    )
                )  # fmt: skip
            findings += compliance_findings(effects[-1])
        except Refusal as refusal:
            findings += refusal.findings
    return tuple(effects), findings


def read_retention(trial: Trial, horizon: float | None, probability: float) -> tuple[Effect, ...]:
    """Effect of each arm on the mean time retained within a horizon; left out, the longest that every arm reached.

    Raises
    ------
    SpecError
        If customers of an arm were not watched that long.
    """
    if trial.stayed is None or trial.left is None:
        return ()
    arms = [(trial.stayed[trial.arm == place], trial.left[trial.arm == place]) for place in range(len(trial.arms))]
    reached = min(float(stayed.max()) for stayed, _ in arms)
    if horizon is not None and not 0 < horizon <= reached:
        raise SpecError(f"The retention horizon is {horizon:g}; every arm was watched for {reached:g} periods at most.")
    times = [retained_time(stayed, left, reached if horizon is None else horizon) for stayed, left in arms]
    return tuple(
        effect_of(retention_contrast(times[0], time), RETAINED, arm, probability)
        for arm, time in zip(trial.arms[1:], times[1:], strict=True)
    )
