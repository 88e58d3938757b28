"""Outcomes with many zeros and long tails: when a mean may be trusted, and what stands beside it where not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.experiments.effects import ArmSummary, Contrast, difference_in_means

Floats = NDArray[np.float64]

SKEWNESS_FACTOR = 355.0
"""Units per arm that a mean needs for each squared unit of skewness before its z interval may be trusted."""
WINSOR_QUANTILE = 0.99
"""Where both arms are capped in the robust reading, a quantile of all units together."""

Method = Literal["capped", "share_above_zero", "mean_above_zero"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TailCheck:
    """How an outcome is spread in one arm.

    Attributes
    ----------
    n : int
        Units.
    skewness : float
        0 for a symmetric outcome; NaN where nothing varies.
    needed : float
        Units that this skewness asks for.
    zeros : float in [0, 1]
        Share of units with exactly 0.
    passed : bool
        Whether there are as many units as needed.
    """

    n: int
    skewness: float
    needed: float
    zeros: float
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustContrast:
    """A reading that long tails or zeros move less than the difference of means.

    Attributes
    ----------
    method : str
        ``capped``: means after capping every unit at the 99 % quantile of all. ``share_above_zero``: share of units
        with more than nothing. ``mean_above_zero``: mean of those units; who they are may itself be an effect.
    contrast : Contrast
    """

    method: Method
    contrast: Contrast


def check_tails(values: Floats) -> TailCheck:
    r"""Whether one arm has the units that the skewness of its outcome asks for, :math:`n \ge 355\, \gamma^2`.

    References
    ----------
    Kohavi, Deng, Longbotham & Xu (2014), "Seven rules of thumb for web site experimenters", KDD, rule 7.

    Examples
    --------
    >>> spent = np.array([0.0] * 95 + [10.0] * 5)
    >>> tail = check_tails(spent)
    >>> round(tail.skewness, 2), round(tail.needed), tail.passed, tail.zeros
    (4.13, 6054, False, 0.95)
    """
    spread = float(values.std())
    skewness = float((((values - values.mean()) / spread) ** 3).mean()) if spread > 0 else float("nan")
    needed = SKEWNESS_FACTOR * skewness**2
    return TailCheck(
        n=int(values.size),
        skewness=skewness,
        needed=needed,
        zeros=float((values == 0.0).mean()),
        passed=values.size >= needed,
    )


def robust_contrasts(control: Floats, treated: Floats) -> tuple[RobustContrast, ...]:
    """Readings beside the difference of means: capped, and in two parts where there are zeros.

    They are sensitivity checks. Capped means estimate another quantity, and the two parts of an outcome with zeros
    say *where* an effect sits; the decision stays with the mean, which is what money adds up to.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> control, treated = (rng.random(500) < share for share in (0.4, 0.5))
    >>> [part.method for part in robust_contrasts(9.0 * control, 9.0 * treated)]
    ['capped', 'share_above_zero']
    """
    cap = float(np.quantile(np.concatenate([control, treated]), WINSOR_QUANTILE))
    readings = [
        RobustContrast(method="capped", contrast=_difference(np.minimum(control, cap), np.minimum(treated, cap)))
    ]
    if (control == 0).any() or (treated == 0).any():
        sold = control > 0, treated > 0
        share = _difference(sold[0].astype(np.float64), sold[1].astype(np.float64))
        readings.append(RobustContrast(method="share_above_zero", contrast=share))
        buyers = control[sold[0]], treated[sold[1]]
        if min(part.size for part in buyers) >= 2 and np.ptp(np.concatenate(buyers)) > 0:
            readings.append(RobustContrast(method="mean_above_zero", contrast=_difference(*buyers)))
    return tuple(readings)


def _difference(control: Floats, treated: Floats) -> Contrast:
    return difference_in_means(ArmSummary.of(control), ArmSummary.of(treated))
