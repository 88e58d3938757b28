"""Not everybody got what was assigned: the effect on those who did, with an interval that weak compliance widens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.experiments.clusters import cluster_difference
from bayes_pricing.experiments.effects import ArmSummary, Contrast, difference_in_means, quantile

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

STRONG = 10.0
"""F statistic of the assignment on what was received under which compliance is called weak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComplierEffect:
    """Effect on compliers: units that get the new price because they were assigned to it (LATE, CACE).

    Attributes
    ----------
    outcome, arm : str
    mean, sd : float
        In the outcome's unit, per complier.
    lower, upper : float
        Interval by inverting the test of no effect left (Anderson-Rubin): right whatever the compliance.
    probability : float in (0, 1)
    compliance : float
        Share of units that are compliers: received in the arm less received in control.
    f_statistic : float
        How surely compliance differs from zero; under 10 it is weak.
    """

    outcome: str
    arm: str
    mean: float
    sd: float
    lower: float
    upper: float
    probability: float
    compliance: float
    f_statistic: float


def complier_effect(
    outcome: Floats, received: Floats, treated: Bools, cluster: Ints | None = None, probability: float = 0.9
) -> tuple[Contrast, tuple[float, float], Contrast]:
    r"""Complier average effect of what was received, the assignment being the lot that was drawn.

    .. math:: \hat b = \frac{\bar y_1 - \bar y_0}{\bar d_1 - \bar d_0}, \qquad
              \{ b : |\bar y_1 - \bar y_0 - b (\bar d_1 - \bar d_0)| \le t \, s(y - b d) \}

    It holds where the assignment works through what is received alone and nobody does the opposite of what was
    assigned. The difference by assignment stays what a roll-out would bring if compliance stays what it was.

    Parameters
    ----------
    outcome : array (unit,)
    received : array (unit,)
        1 where the unit got the new price (or a share of it), else 0.
    treated : bool array (unit,)
        Whether it was assigned.
    cluster : int array (unit,), optional
    probability : float in (0, 1)

    Returns
    -------
    effect : Contrast
        Wald estimate with its delta-method error.
    interval : (float, float)
        Ends of the Anderson-Rubin interval.
    compliance : Contrast
        Difference of received shares.

    Raises
    ------
    Refusal
        If compliance cannot be told from none at this level: the effect could be anything.

    References
    ----------
    Angrist, Imbens & Rubin (1996), "Identification of causal effects using instrumental variables", JASA 91;
    Anderson & Rubin (1949), Annals of Mathematical Statistics 20.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> treated = np.arange(4_000) % 2 == 1
    >>> received = (treated & (rng.random(4_000) < 0.6)).astype(float)
    >>> effect, (lower, upper), compliance = complier_effect(rng.normal(2.0 * received), received, treated)
    >>> bool(lower < 2.0 < upper), round(compliance.mean, 2)
    (True, 0.6)
    """

    def difference(values: Floats) -> Contrast:
        if cluster is not None:
            return cluster_difference(values, treated, cluster)
        return difference_in_means(ArmSummary.of(values[~treated]), ArmSummary.of(values[treated]))

    compliance, total = difference(received), difference(outcome)
    reach = quantile(0.5 + 0.5 * probability, compliance.degrees_of_freedom)
    if not abs(compliance.mean) > reach * compliance.standard_error:
        raise Refusal([_no_compliance(compliance)])
    ratio = total.mean / compliance.mean
    left = difference(outcome - ratio * received)
    effect = Contrast(
        mean=ratio,
        standard_error=left.standard_error / abs(compliance.mean),
        degrees_of_freedom=left.degrees_of_freedom,
    )
    return effect, _interval(total, compliance, difference(outcome + received), probability), compliance


def compliance_findings(effect: ComplierEffect) -> list[Finding]:
    """Weak or partial compliance, named.

    Examples
    --------
    >>> weak = ComplierEffect(outcome="profit", arm="B", mean=1.0, sd=1.0, lower=-9.0, upper=9.0, probability=0.9,
    ...                       compliance=0.05, f_statistic=4.0)
    >>> [finding.code for finding in compliance_findings(weak)]
    ['weak_compliance']
    """
    if effect.f_statistic < STRONG:
        message = f"few units of {effect.arm!r} got what was assigned (F {effect.f_statistic:.1f}): compliers' effects "
        return [
            Finding(code="weak_compliance", severity="warning", item=effect.arm, message=message + "are loosely known",
                    remedy="read the effect by assignment, and see that the price is shown")
        ]  # fmt: skip
    if effect.compliance > 0.99:
        return []
    return [
        Finding(code="non_compliance", severity="info", item=effect.arm,
                message=f"{effect.compliance:.0%} of the units got {effect.arm!r} because of it".replace("%", " %"),
                remedy="effects are by assignment; those on compliers stand beside them")
    ]  # fmt: skip


def _interval(total: Contrast, compliance: Contrast, summed: Contrast, probability: float) -> tuple[float, float]:
    """Roots of the quadratic in b at which the test of no effect left is at its limit."""
    variances = total.standard_error**2, compliance.standard_error**2
    covariance = 0.5 * (summed.standard_error**2 - variances[0] - variances[1])
    square = quantile(0.5 + 0.5 * probability, total.degrees_of_freedom) ** 2
    a = compliance.mean**2 - square * variances[1]
    b = total.mean * compliance.mean - square * covariance
    c = total.mean**2 - square * variances[0]
    root = float(np.sqrt(max(b * b - a * c, 0.0)))
    if not a > 0:
        return float("-inf"), float("inf")
    return (b - root) / a, (b + root) / a


def _no_compliance(compliance: Contrast) -> Finding:
    return Finding(
        code="no_compliance",
        severity="error",
        message=f"what units received hardly depends on what was assigned ({compliance.mean:+.3f} "
        f"± {compliance.standard_error:.3f})",
        remedy="find out who was shown which price; there is no effect on compliers without compliers",
    )
