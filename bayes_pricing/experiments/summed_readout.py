"""What came out of a test that comes as sums: the same read-out, and what sums cannot say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Severity
from bayes_pricing.experiments.clusters import FEW_CLUSTERS, assignment_p_value, difference_of_sums
from bayes_pricing.experiments.effects import (
    ArmSummary,
    Contrast,
    Effect,
    difference_in_means,
    effect_of,
    relative_lift,
)
from bayes_pricing.experiments.estimation import refuse_small_arms
from bayes_pricing.experiments.readout import ArmReading, Estimates, ReadOut, ReadOutRequest, conclude
from bayes_pricing.experiments.summed_trial import SummedTrial
from bayes_pricing.experiments.trial_findings import assignment_findings

Floats = NDArray[np.float64]


def read_out_sums(trial: SummedTrial, request: ReadOutRequest, rng: np.random.Generator) -> ReadOut:
    """Read out a test's sums as `read_out` reads its units: same effects, same checks, same rule.

    Sums of squares give each arm's variance; clusters, and stretches of periods where arms alternate, need their totals
    only. What sums cannot say (covariates, tails, who had more than zero, whether a unit was counted twice) is
    among the findings.

    Parameters
    ----------
    trial : SummedTrial
    request : ReadOutRequest
    rng : Generator
        Draws assignments where there are few clusters but too many assignments to list.

    Raises
    ------
    Refusal
        If an arm has under two units or clusters.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.experiments.summed_trial import SumColumns, read_summed_trial
    >>> frame = pl.DataFrame({"arm": ["A", "B"], "users": [5_000, 5_300], "bought": [500, 660]})
    >>> columns = SumColumns(arm="arm", control_arm="A", count="users", outcomes=("bought",), squares=("bought",))
    >>> answer = read_out_sums(read_summed_trial(frame, columns), ReadOutRequest(), np.random.default_rng(1))
    >>> round(answer.effects[0].mean, 4), answer.decision.action, answer.refused
    (0.0245, 'inconclusive', True)
    """
    refuse_small_arms(trial.arms, [int(units) for units in trial.by_arm(trial.count)])
    contrasts = {name: _contrasts(trial, name) for name in trial.outcomes}
    estimates = Estimates(
        contrasts=contrasts, p_values={name: _p_values(trial, name, contrasts[name], rng) for name in contrasts}
    )
    unit_cost = request.plan.unit_cost if request.plan is not None else None
    findings = [*assignment_findings(trial, unit_cost, 1.0 - request.level), *summed_findings(trial)]
    concluded = conclude(trial, request, estimates, arms=_arm_readings(trial), findings=findings)
    return replace(concluded, lifts=_lifts(trial, request.level))


def _contrasts(trial: SummedTrial, outcome: str) -> list[Contrast]:
    others = range(1, len(trial.arms))
    if trial.group is not None:
        return [difference_of_sums(*_by_group(trial, outcome, arm)) for arm in others]
    arms = _summaries(trial, outcome)
    return [difference_in_means(arms[0], arms[arm]) for arm in others]


def _p_values(trial: SummedTrial, outcome: str, contrasts: list[Contrast], rng: np.random.Generator) -> list[float]:
    """Two-sided p-values; with few assigned clusters the larger of Student's and the assignment's own."""
    alone = [contrast.p_value for contrast in contrasts]
    if not trial.clustered or sum(trial.assigned_counts()) >= FEW_CLUSTERS:
        return alone
    tested = [_by_group(trial, outcome, arm) for arm in range(1, len(trial.arms))]
    return [
        max(p, assignment_p_value(units.sum(axis=0), totals.sum(axis=0), units[1] > 0, rng))
        for p, (units, totals) in zip(alone, tested, strict=True)
    ]


def _by_group(trial: SummedTrial, outcome: str, arm: int) -> tuple[Floats, Floats]:
    """Units and totals (side, group) of control and one other arm, over the groups that have either."""
    rows = (trial.arm == 0) | (trial.arm == arm)
    group = np.zeros(0, dtype=np.int64) if trial.group is None else trial.group[rows]
    codes = np.unique(group, return_inverse=True)[1]
    units, totals = np.zeros((2, int(codes.max()) + 1)), np.zeros((2, int(codes.max()) + 1))
    side = (trial.arm[rows] > 0).astype(np.int64)
    np.add.at(units, (side, codes), trial.count[rows])
    np.add.at(totals, (side, codes), trial.outcomes[outcome][rows])
    some = units.sum(axis=0) > 0
    return units[:, some], totals[:, some]


def _summaries(trial: SummedTrial, outcome: str) -> list[ArmSummary]:
    sums = (trial.by_arm(part) for part in (trial.count, trial.outcomes[outcome], trial.squares[outcome]))
    return [ArmSummary.from_sums(int(n), float(total), float(squares)) for n, total, squares in zip(*sums, strict=True)]


def _lifts(trial: SummedTrial, probability: float) -> tuple[Effect, ...]:
    if trial.group is not None:
        return ()
    return tuple(
        effect_of(relative_lift(arms[0], arm), outcome, name, probability)
        for outcome in trial.outcomes
        if (arms := _summaries(trial, outcome))[0].mean > 0
        for name, arm in zip(trial.arms[1:], arms[1:], strict=True)
    )


def _arm_readings(trial: SummedTrial) -> tuple[ArmReading, ...]:
    units = trial.by_arm(trial.count)
    means = {outcome: trial.by_arm(totals) / units for outcome, totals in trial.outcomes.items()}
    return tuple(
        ArmReading(
            name=name,
            n=int(units[place]),
            mean=float(means[trial.primary][place]),
            means={outcome: float(by_arm[place]) for outcome, by_arm in means.items()},
            price=None if trial.prices is None else trial.prices[place],
        )
        for place, name in enumerate(trial.arms)
    )


def summed_findings(trial: SummedTrial) -> list[Finding]:
    """What sums leave unsaid, and rows that were left out.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.experiments.summed_trial import SumColumns, read_summed_trial
    >>> frame = pl.DataFrame({"arm": ["A", "B"], "users": [10, 10], "bought": [3, 4]})
    >>> columns = SumColumns(arm="arm", control_arm="A", count="users", outcomes=("bought",), squares=("bought",))
    >>> [finding.code for finding in summed_findings(read_summed_trial(frame, columns))]
    ['no_covariates_in_sums']
    """
    remedy = "read rows of units with covariates (--pre) or with periods before --start"
    message = "sums carry nothing known of a unit before the test: no noise is taken away"
    found = [_finding("no_covariates_in_sums", "info", message, remedy)]
    for name in trial.outcomes:
        if _yes_or_no(trial, name):
            continue
        if trial.group is None:
            message = f"sums say nothing of the tail of {name!r}: a few large values can make its interval wrong"
            remedy = "read rows of units, at least of some days, and see the capped effect"
            found.append(_finding("tails_not_assessed", "warning", message, remedy, name))
        message = f"sums do not say how many units had a {name!r} above zero, so no conversion is read"
        remedy = "give the number of them as an outcome of its own, which is its own sum of squares"
        found.append(_finding("conversion_not_in_sums", "info", message, remedy, name))
    if trial.spread > 1 and trial.layout == "units":
        message = f"units were added up over as many as {trial.spread} rows of an arm: one in two rows counts twice"
        remedy = "count every unit once (on its first day), or read rows with --unit"
        found.append(_finding("units_not_told_apart", "warning", message, remedy))
    if trial.before_start:
        message = f"{trial.before_start:,} rows lie before the start and were left out"
        found.append(_finding("rows_before_start", "info", message, "read rows of units to use them as a covariate"))
    return found


def _yes_or_no(trial: SummedTrial, outcome: str) -> bool:
    """Whether every unit had 0 or 1, as squares equal to whole totals say."""
    totals, squares = trial.outcomes[outcome], trial.squares.get(outcome)
    return squares is not None and bool(np.array_equal(totals, squares) and np.all(totals == np.floor(totals)))


def _finding(code: str, severity: Severity, message: str, remedy: str, item: str | None = None) -> Finding:
    return Finding(code=code, severity=severity, message=message, remedy=remedy, item=item)
