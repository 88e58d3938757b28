"""Rows of units over periods: effects net of what is special to each unit and to each period."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.experiments.effects import Contrast

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST_SWEEPS = 10_000
_SETTLED = 1e-11  # change of a sweep, relative to the column's spread
_SPANNED = 1e-8  # share of an arm's variation that must be left beside the unit and period effects


def two_way_contrasts(response: Floats, exposure: Floats, unit: Ints, period: Ints, cluster: Ints) -> list[Contrast]:
    r"""Effect of each arm with unit and period effects, errors clustered.

    .. math:: y_{it} = a_i + b_t + \sum_j \tau_j D_{jit} + e_{it}

    With two groups and a common start this is the difference in differences. The variance is the cluster sandwich
    times :math:`\frac{G}{G-1} \frac{n - 1}{n - K}` (K: arms and periods; unit effects lie inside clusters), its t
    distribution has G - 1 degrees of freedom.

    Parameters
    ----------
    response : array (row,)
        Log outcome for an effect in log points.
    exposure : array (row, arm)
        1 where the arm is at work in that row, else 0.
    unit, period, cluster : int arrays (row,)
        Codes.

    Raises
    ------
    Refusal
        If there are fewer than two clusters, or unit and period effects leave nothing of an arm to compare.

    References
    ----------
    Bertrand, Duflo & Mullainathan (2004), "How much should we trust differences-in-differences estimates?", QJE 119(1).

    Examples
    --------
    >>> unit, period = np.repeat(np.arange(4), 2), np.tile(np.arange(2), 4)
    >>> exposure = ((unit >= 2) & (period == 1)).astype(float)[:, None]
    >>> response = np.array([0.0, 1.0, 2.0, 3.2, 5.0, 5.5, 7.0, 7.7])
    >>> effect = two_way_contrasts(response, exposure, unit, period, cluster=unit)[0]
    >>> round(effect.mean, 6), effect.degrees_of_freedom
    (-0.5, 3.0)
    """
    groups, codes = np.unique(cluster, return_inverse=True)
    if groups.size < 2:
        raise Refusal([_refused("too_few_clusters", "all rows lie in one cluster", "compare at least two")])
    units, periods = (np.unique(codes_of, return_inverse=True)[1] for codes_of in (unit, period))
    columns = _swept(np.column_stack([exposure, response]), units, periods)
    inside, outcome = columns[:, :-1], columns[:, -1]
    _check_identified(exposure, inside)
    bread = np.linalg.inv(inside.T @ inside)
    effects = bread @ (inside.T @ outcome)
    scores = inside * (outcome - inside @ effects)[:, None]
    totals = np.zeros((groups.size, inside.shape[1]))
    np.add.at(totals, codes, scores)
    rows, parameters = response.size, inside.shape[1] + int(periods.max()) + 1
    factor = groups.size / (groups.size - 1) * (rows - 1) / max(rows - parameters, 1)
    variance = np.diag(factor * bread @ (totals.T @ totals) @ bread)
    return [
        Contrast(mean=float(mean), standard_error=float(np.sqrt(max(v, 0.0))), degrees_of_freedom=groups.size - 1.0)
        for mean, v in zip(effects, variance, strict=True)
    ]


def _swept(columns: Floats, unit: Ints, period: Ints) -> Floats:
    """Columns without their unit and period means, by sweeping one after the other until nothing moves."""
    swept = columns - columns.mean(axis=0)
    scale = np.maximum(swept.std(axis=0), 1e-300)
    counts = [np.bincount(codes).astype(np.float64) for codes in (unit, period)]
    for _ in range(_MOST_SWEEPS):
        moved = 0.0
        for codes, count in zip((unit, period), counts, strict=True):
            for place in range(swept.shape[1]):
                means = np.bincount(codes, weights=swept[:, place]) / count
                swept[:, place] -= means[codes]
                moved = max(moved, float(np.abs(means).max()) / scale[place])
        if moved < _SETTLED:
            return swept
    raise Refusal(
        [_refused("effects_unsettled", "unit and period effects barely overlap", "use periods that most units share")]
    )


def _check_identified(exposure: Floats, inside: Floats) -> None:
    total = ((exposure - exposure.mean(axis=0)) ** 2).sum(axis=0)
    left = (inside**2).sum(axis=0)
    enough = left > _SPANNED * np.maximum(total, 1e-300)
    if enough.all() and np.linalg.matrix_rank(inside.T @ inside, hermitian=True) == inside.shape[1]:
        return
    remedy = "a before-and-after reading needs units that got the change and units that did not, before and after it"
    raise Refusal([_refused("not_identified", "unit and period effects explain the whole of an arm", remedy)])


def _refused(code: str, message: str, remedy: str) -> Finding:
    return Finding(code=code, severity="error", message=message, remedy=remedy)


def exposure_of(arm: Ints, arms: int) -> Floats:
    """One column per arm other than control: 1 in the rows where it is at work.

    Examples
    --------
    >>> exposure_of(np.array([0, 1, 2]), arms=3).tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """
    return np.asarray(arm[:, None] == np.arange(1, arms), dtype=np.float64)
