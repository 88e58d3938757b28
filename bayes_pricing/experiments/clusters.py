"""Tests assigned by cluster (store, category, region, week): errors that count clusters, not rows."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.experiments.effects import Contrast, welch_contrast

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

FEW_CLUSTERS = 30
"""Under so many clusters the t distribution is doubtful and the assignment itself is used for the p-value."""
MOST_LISTED = 5_000
"""Assignments are listed one by one up to here, drawn by chance above."""


def cluster_difference(outcome: Floats, treated: Bools, cluster: Ints) -> Contrast:
    r"""Difference of two arms' means over units, with an error robust to any likeness inside clusters.

    Where a cluster lies in one arm only, with :math:`y_g, n_g` its total and units,

    .. math:: \mathrm{Var}(\bar y_a) = \frac{G_a}{G_a - 1} \frac{\sum_g (y_g - n_g \bar y_a)^2}{(\sum_g n_g)^2}

    and Satterthwaite's degrees of freedom from :math:`G_a - 1` in each arm. Where clusters have units in both arms,
    the sandwich of the two-mean regression with G - 1 degrees of freedom.

    Parameters
    ----------
    outcome : array (unit,)
    treated : bool array (unit,)
    cluster : int array (unit,)
        Codes from 0.

    Raises
    ------
    Refusal
        If an arm has fewer than two clusters: chance and effect cannot be told apart.

    Examples
    --------
    >>> outcome = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 5.0, 9.0, 8.0])
    >>> treated = np.arange(8) >= 4
    >>> contrast = cluster_difference(outcome, treated, np.arange(8) // 2)
    >>> contrast.mean, round(contrast.standard_error, 4), round(contrast.degrees_of_freedom, 3)
    (4.5, 1.8028, 1.742)
    """
    codes = np.unique(cluster, return_inverse=True)[1]
    groups = int(codes.max()) + 1
    middle = float(outcome.mean())  # taken out first, so that nothing is lost to a large common level
    sides = (~treated, treated)
    units = np.stack([np.bincount(codes[side], minlength=groups) for side in sides]).astype(np.float64)
    totals = np.stack([np.bincount(codes[side], outcome[side] - middle, minlength=groups) for side in sides])
    return difference_of_sums(units, totals)


def difference_of_sums(units: Floats, totals: Floats) -> Contrast:
    """The same from each cluster's units and total: more is not needed.

    Parameters
    ----------
    units, totals : arrays (side, cluster)
        Control first; 0 where a cluster has nobody in an arm.

    Raises
    ------
    Refusal
        If an arm has fewer than two clusters: chance and effect cannot be told apart.

    Examples
    --------
    >>> units = np.array([[2.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 2.0]])
    >>> contrast = difference_of_sums(units, np.array([[3.0, 7.0, 0.0, 0.0], [0.0, 0.0, 11.0, 17.0]]))
    >>> contrast.mean, round(contrast.standard_error, 4), round(contrast.degrees_of_freedom, 3)
    (4.5, 1.8028, 1.742)
    """
    present, size = units > 0, units.sum(axis=1)
    counts, groups = present.sum(axis=1), units.shape[1]
    if counts.min() < 2:
        raise Refusal([_too_few(int(counts.min()))])
    means = totals.sum(axis=1) / size
    difference = float(means[1] - means[0])
    scores = (totals - units * means[:, None]) / size[:, None]
    if not (present[0] & present[1]).any():
        parts = [(float(n / (n - 1) * (score**2).sum()), float(n - 1)) for n, score in zip(counts, scores, strict=True)]
        return welch_contrast(difference, parts)
    variance = groups / (groups - 1) * float(((scores[1] - scores[0]) ** 2).sum())
    return welch_contrast(difference, [(variance, groups - 1.0)])


def randomisation_p_value(outcome: Floats, treated: Bools, cluster: Ints, rng: np.random.Generator) -> float:
    """Two-sided p-value from the assignment of clusters to arms alone: no distribution is assumed.

    Every way to assign as many clusters is listed, or 4,999 are drawn where there are over 5,000; the statistic is the
    difference of means over its own cluster-robust error. Clusters lie in one arm each.

    Parameters
    ----------
    outcome : array (unit,)
    treated : bool array (unit,)
    cluster : int array (unit,)
    rng : Generator
        Used where assignments are drawn.

    Returns
    -------
    float in (0, 1]
        Its smallest possible value is one over the number of assignments (two over it where arms are equal).

    References
    ----------
    Young (2019), "Channeling Fisher: randomization tests and the statistical insignificance of seemingly significant
    experimental results", QJE 134(2).

    Examples
    --------
    >>> outcome = np.array([1.0, 2.0, 3.0, 14.0, 15.0, 16.0])
    >>> treated = np.arange(6) >= 3
    >>> round(randomisation_p_value(outcome, treated, np.arange(6), np.random.default_rng(1)), 3)
    0.1
    """
    codes = np.unique(cluster, return_inverse=True)[1]
    sizes = np.bincount(codes).astype(np.float64)
    totals = np.bincount(codes, weights=outcome)
    return assignment_p_value(sizes, totals, np.bincount(codes, weights=treated.astype(np.float64)) > 0, rng)


def assignment_p_value(sizes: Floats, totals: Floats, arm: Bools, rng: np.random.Generator) -> float:
    """The same from each cluster's units and total.

    Parameters
    ----------
    sizes, totals : arrays (cluster,)
    arm : bool array (cluster,)
        Whether the cluster was treated.
    rng : Generator
        Draws assignments where there are too many to list.

    Examples
    --------
    >>> totals = np.array([1.0, 2.0, 3.0, 14.0, 15.0, 16.0])
    >>> round(assignment_p_value(np.ones(6), totals, np.arange(6) >= 3, np.random.default_rng(1)), 3)
    0.1
    """
    totals = totals - sizes * (totals.sum() / sizes.sum())
    assigned = int(arm.sum())
    if comb(sizes.size, assigned) <= MOST_LISTED:
        listed = np.array(list(combinations(range(sizes.size), assigned)), dtype=np.int64)
        chosen = np.zeros((len(listed), sizes.size), dtype=np.bool_)
        np.put_along_axis(chosen, listed, values=True, axis=1)
    else:
        ranks = rng.random((MOST_LISTED - 1, sizes.size)).argsort(axis=1)
        chosen = np.vstack([arm, ranks < assigned])
    statistics = np.abs(_studentised(chosen, totals, sizes))
    observed = float(np.abs(_studentised(arm[None, :], totals, sizes))[0])
    return float(np.mean(statistics >= observed * (1 - 1e-9)))


def _studentised(chosen: Bools, totals: Floats, sizes: Floats) -> Floats:
    """Difference of means over its cluster-robust error, for each row of an assignment."""
    difference = np.zeros(len(chosen))
    variance = np.zeros(len(chosen))
    for sign, side in ((1.0, chosen.astype(np.float64)), (-1.0, (~chosen).astype(np.float64))):
        clusters, units = side.sum(axis=1), side @ sizes
        mean = side @ totals / units
        squares = side @ totals**2 - 2 * mean * (side @ (totals * sizes)) + mean**2 * (side @ sizes**2)
        variance += clusters / (clusters - 1) * np.maximum(squares, 0.0) / units**2
        difference += sign * mean
    floor = 1e-12 * max(float(np.abs(totals / sizes).max()), 1e-300)
    return np.asarray(difference / np.maximum(np.sqrt(variance), floor), dtype=np.float64)


def _too_few(count: int) -> Finding:
    clusters = "one cluster" if count == 1 else f"{count} clusters"
    return Finding(
        code="too_few_clusters",
        severity="error",
        message=f"an arm has {clusters}: its effect cannot be told from that cluster's luck",
        remedy="assign at least two clusters, better ten, to each arm, or switch prices back and forth over time",
    )
