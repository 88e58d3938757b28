"""Effects of a trial's arms with the error that its design asks for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.experiments.clusters import FEW_CLUSTERS, cluster_difference, randomisation_p_value
from bayes_pricing.experiments.effects import ArmSummary, Contrast, difference_in_means
from bayes_pricing.experiments.trial import Trial
from bayes_pricing.experiments.two_way import exposure_of, two_way_contrasts

Floats = NDArray[np.float64]


def estimate_contrasts(trial: Trial, outcome: str, values: Floats) -> list[Contrast]:
    """Effect of each arm other than control, with the error that the design asks for.

    - units: difference of means, each arm with its own variance; cluster-robust where there are clusters;
    - before and after: log outcome with unit and period effects, clustered;
    - alternating arms: unit and period effects, clustered by unit; where all units alternate together, difference of
      means with stretches of periods as clusters.

    Parameters
    ----------
    trial : Trial
    outcome : str
        Its name, for messages.
    values : array (row,)
        The outcome, adjusted for covariates where there are any.

    Raises
    ------
    Refusal
        If a logarithm does not exist, clusters are too few, or nothing is identified.
    """
    clusters = trial.unit if trial.cluster is None else trial.cluster
    exposure = exposure_of(trial.arm, len(trial.arms))
    if trial.layout == "before_after" and trial.period is not None:
        return two_way_contrasts(_logs(outcome, values), exposure, trial.unit, trial.period, clusters)
    if trial.layout == "switchback" and trial.period is not None:
        runs = _runs(trial)
        if runs is None:
            return two_way_contrasts(values, exposure, trial.unit, trial.period, clusters)
        means = np.bincount(trial.unit, weights=values) / np.bincount(trial.unit)
        level = values - means[trial.unit] + values.mean()
        return [cluster_difference(level[rows], trial.arm[rows] > 0, runs[rows]) for rows in _pairs(trial)]
    if trial.cluster is not None:
        return [cluster_difference(values[rows], trial.arm[rows] > 0, clusters[rows]) for rows in _pairs(trial)]
    control = ArmSummary.of(values[trial.arm == 0])
    return [difference_in_means(control, ArmSummary.of(values[trial.arm == arm])) for arm in range(1, len(trial.arms))]


def _pairs(trial: Trial) -> list[NDArray[np.bool_]]:
    """Rows of control and of one other arm."""
    return [(trial.arm == 0) | (trial.arm == arm) for arm in range(1, len(trial.arms))]


def _runs(trial: Trial) -> NDArray[np.int64] | None:
    """Stretches of periods with one arm for everybody, by row; None where units switch apart from each other."""
    if trial.period is None:
        return None
    arm_of = np.full(int(trial.period.max()) + 1, -1, dtype=np.int64)
    arm_of[trial.period] = trial.arm
    if not np.array_equal(arm_of[trial.period], trial.arm):
        return None
    starts = np.concatenate([[0], np.cumsum(np.diff(arm_of) != 0)])
    return np.asarray(starts[trial.period], dtype=np.int64)


def _logs(outcome: str, values: Floats) -> Floats:
    low = int((values <= 0).sum())
    if low:
        raise Refusal(
            [
                Finding(
                    code="zeros_under_log",
                    severity="error",
                    item=outcome,
                    message=f"{low} of {values.size} cells of {outcome!r} are zero or less: they have no logarithm",
                    remedy="use longer periods or larger units until every cell sells, or read it as a split of units",
                )
            ]
        )
    return np.asarray(np.log(values), dtype=np.float64)


def contrast_p_values(trial: Trial, values: Floats, contrasts: list[Contrast], rng: np.random.Generator) -> list[float]:
    """Two-sided p-values; with few assigned clusters the larger of Student's and the assignment's own."""
    alone = [contrast.p_value for contrast in contrasts]
    if trial.cluster is None or not trial.clustered or min(trial.assigned_counts()) < 2:
        return alone
    if sum(trial.assigned_counts()) >= FEW_CLUSTERS:
        return alone
    return [
        max(p, randomisation_p_value(values[rows], trial.arm[rows] > 0, trial.cluster[rows], rng))
        for p, rows in zip(alone, _pairs(trial), strict=True)
    ]


def check_sizes(trial: Trial) -> None:
    """Refuse a test with an arm of fewer than two rows."""
    refuse_small_arms(trial.arms, [int((trial.arm == place).sum()) for place in range(len(trial.arms))])


def refuse_small_arms(arms: Sequence[str], sizes: Sequence[int]) -> None:
    """Refuse a test with an arm of fewer than two units.

    Examples
    --------
    >>> refuse_small_arms(("A", "B"), [100, 90])
    """
    small = [name for name, size in zip(arms, sizes, strict=True) if size < 2]
    if small:
        raise Refusal(
            [
                Finding(
                    code="arm_too_small",
                    severity="error",
                    item=name,
                    message=f"arm {name!r} has fewer than two units: nothing can be told from it",
                    remedy="wait for more units, or leave the arm out",
                )
                for name in small
            ]
        )
