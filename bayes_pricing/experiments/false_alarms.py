"""A/A splits of a real file: how often would a test have fired without any effect?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.experiments.clusters import cluster_difference
from bayes_pricing.experiments.effects import ArmSummary, difference_in_means, quantile

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """How often splits of the same units into two arms looked like an effect.

    Attributes
    ----------
    splits : int
    alpha : float
        Promised rate.
    rate : float in [0, 1]
        Share of splits with a p-value under alpha.
    lower, upper : float
        95 % interval of the rate (Wilson).
    as_promised : bool
        Whether the promised rate lies in that interval.
    median_effect_sd : float
        Median standard error over splits, in the outcome's unit: what a test of this size could see.
    """

    splits: int
    alpha: float
    rate: float
    lower: float
    upper: float
    as_promised: bool
    median_effect_sd: float


def count_false_alarms(
    outcome: Floats,
    rng: np.random.Generator,
    *,
    cluster: Ints | None = None,
    splits: int = 2_000,
    alpha: float = 0.1,
    share: float = 0.5,
) -> FalseAlarms:
    """Split units (or whole clusters) by chance again and again and read each split out as a test.

    Run it on last month's data before a test: a rate that is not the promised one says that the unit is wrong (rows
    of one customer taken for customers), or that the outcome's tail is too long for so few units.

    Parameters
    ----------
    outcome : array (unit,)
    rng : Generator
    cluster : int array (unit,), optional
        Codes; whole clusters are split, and counted instead of units.
    splits : int
    alpha : float in (0, 1)
    share : float in (0, 1)
        Of units or clusters that would get the new price.

    Returns
    -------
    FalseAlarms

    Raises
    ------
    Refusal
        If a side would have fewer than two clusters.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> count_false_alarms(rng.normal(size=200), rng, splits=500).as_promised
    True
    """
    if not (0 < alpha < 1 and 0 < share < 1 and splits >= 1):
        raise SpecError("A/A splits want alpha and share in (0, 1) and at least one split.")
    codes = np.arange(outcome.size) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    groups = int(codes.max()) + 1
    count = int(np.clip(round(share * groups), 2, groups - 2)) if groups >= 4 else 0
    if count < 2:
        raise Refusal([_too_few(groups)])
    fired, errors = np.zeros(splits, dtype=np.bool_), np.zeros(splits)
    for split in range(splits):
        chosen = np.zeros(groups, dtype=np.bool_)
        chosen[rng.permutation(groups)[:count]] = True
        treated = chosen[codes]
        if cluster is None:
            contrast = difference_in_means(ArmSummary.of(outcome[~treated]), ArmSummary.of(outcome[treated]))
        else:
            contrast = cluster_difference(outcome, treated, codes)
        fired[split], errors[split] = contrast.p_value < alpha, contrast.standard_error
    return rate_of(int(fired.sum()), splits, alpha, median_effect_sd=float(np.median(errors)))


def rate_of(fired: int, splits: int, alpha: float, *, median_effect_sd: float = float("nan")) -> FalseAlarms:
    """The rate of false alarms with its interval, from a count.

    Examples
    --------
    >>> rate_of(104, 1_000, 0.1).as_promised, rate_of(200, 1_000, 0.1).as_promised
    (True, False)
    """
    lower, upper = _wilson(fired / splits, splits)
    return FalseAlarms(
        splits=splits,
        alpha=alpha,
        rate=fired / splits,
        lower=lower,
        upper=upper,
        as_promised=lower <= alpha <= upper,
        median_effect_sd=median_effect_sd,
    )


def _wilson(rate: float, count: int) -> tuple[float, float]:
    z = quantile(0.975, float("inf"))
    middle = (rate + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * float(np.sqrt(rate * (1 - rate) / count + z * z / (4 * count**2))) / (1 + z * z / count)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _too_few(groups: int) -> Finding:
    return Finding(
        code="too_few_clusters",
        severity="error",
        message=f"{groups} clusters cannot be split into two arms of at least two",
        remedy="take smaller clusters, or more of them",
    )
