"""Less noise from what was known before the test: adjustment for pre-period covariates, its gain measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Adjustment:
    """An outcome with the part that pre-period covariates foretell taken out.

    Attributes
    ----------
    adjusted : array (unit,)
        The outcome's unit; the same mean over all units as before.
    slopes : array (covariate,)
        Outcome per unit of each covariate.
    gain : float
        Share of the outcome's variance within arms that is gone, measured; 0 means the covariates foretell nothing.
    filled : int
        Units without a pre-period value, given the mean and a column that marks them.
    """

    adjusted: Floats
    slopes: Floats
    gain: float
    filled: int


def adjust_for_covariates(outcome: Floats, arm: Ints, covariates: Floats) -> Adjustment:
    r"""Take out of an outcome what covariates known before the test foretell (CUPED).

    .. math:: \tilde y_i = y_i - \theta' (x_i - \bar x), \qquad
              \theta = \mathrm{Var}_w(x)^{-1} \mathrm{Cov}_w(x, y)

    with variances within arms, so that the effect itself never enters the slopes; variance falls by
    :math:`\rho^2`. The adjusted outcome has the same expected effect, because chance alone made the arms' covariates
    differ. Only what was known before the assignment may be used.

    Parameters
    ----------
    outcome : array (unit,)
    arm : int array (unit,)
    covariates : array (unit, covariate)
        NaN where a unit has no pre-period value.

    Raises
    ------
    SpecError
        If no covariate varies within the arms.

    References
    ----------
    Deng, Xu, Kohavi & Walker (2013), "Improving the sensitivity of online controlled experiments by utilizing
    pre-experiment data", WSDM.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> before = rng.normal(size=1_000)
    >>> arm = rng.integers(2, size=1_000)
    >>> outcome = 0.8 * before + 0.6 * rng.normal(size=1_000) + 0.1 * arm
    >>> round(adjust_for_covariates(outcome, arm, before[:, None]).gain, 2)
    0.65
    """
    columns, filled = _filled(covariates)
    within = _within_arms(np.column_stack([columns, outcome]), arm)
    spread = within[:, :-1].std(axis=0)
    useful = spread > 1e-10 * np.maximum(np.abs(columns).max(axis=0, initial=0.0), 1e-300)
    if not useful.any():
        raise SpecError("The pre-period covariate is the same for every unit; leave it out.")
    slopes = np.zeros(columns.shape[1])
    slopes[useful], *_ = np.linalg.lstsq(within[:, :-1][:, useful], within[:, -1], rcond=1e-10)
    adjusted = outcome - (columns - columns.mean(axis=0)) @ slopes
    arms = int(np.unique(arm).size)
    before = float((within[:, -1] ** 2).sum()) / max(outcome.size - arms, 1)
    left = within[:, -1] - within[:, :-1] @ slopes
    after = float((left**2).sum()) / max(outcome.size - arms - int(useful.sum()), 1)
    gain = 1.0 - after / before if before > 0 else 0.0
    return Adjustment(adjusted=adjusted, slopes=slopes[: covariates.shape[1]], gain=gain, filled=filled)


def _filled(covariates: Floats) -> tuple[Floats, int]:
    """Covariates without gaps, and a marking column for each that had some."""
    missing = np.isnan(covariates)
    known = np.where(missing, 0.0, covariates)
    counts = (~missing).sum(axis=0)
    means = known.sum(axis=0) / np.maximum(counts, 1)
    columns = np.where(missing, means, covariates)
    marks = missing[:, missing.any(axis=0)].astype(np.float64)
    return np.column_stack([columns, marks]), int(missing.any(axis=1).sum())


def _within_arms(columns: Floats, arm: Ints) -> Floats:
    within = columns.copy()
    for name in np.unique(arm):
        chosen = arm == name
        within[chosen] -= columns[chosen].mean(axis=0)
    return within
