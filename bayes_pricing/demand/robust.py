"""Student-t errors: what a week of sales is worth in money when the logs have heavy tails."""

from __future__ import annotations

import numpy as np
from scipy import stats

from bayes_pricing.data.gram import Floats
from bayes_pricing.errors import Finding

BOUND_PROBABILITY = 0.995
"""A week's shock counts at most as its 99.5 % quantile, and at least as its 0.5 % one."""
NODES = 81


def bounded_log_smearing(sd: Floats, degrees: Floats, probability: float = BOUND_PROBABILITY) -> Floats:
    r"""Log of the mean of exp(residual) with residuals held inside their central quantiles.

    .. math:: \log E\left[\exp\left(\sigma \min(\max(T_\nu, -b), b)\right)\right], \qquad
              b = F_\nu^{-1}(\text{probability})

    Without the bound the mean is infinite for every :math:`\nu`: exp of a Student-t has no moments. One week in a
    hundred reaches the bound, so money answers are those of all but freak weeks, and freak weeks count as good or bad
    as the hundredth.

    Parameters
    ----------
    sd : array (..., n)
        Scale of the residual of log units.
    degrees : array (...,)
        Degrees of freedom.
    probability : float in (0.5, 1)

    Returns
    -------
    array (..., n)
        Near half the variance for many degrees of freedom.

    Examples
    --------
    >>> round(float(bounded_log_smearing(np.array([0.3]), np.array(1000.0))[0]), 3)  # a normal's is 0.045
    0.044
    >>> round(float(bounded_log_smearing(np.array([0.3]), np.array(3.0))[0]), 3)
    0.107
    """
    u, weight = np.polynomial.legendre.leggauss(NODES)
    share = 2.0 * probability - 1.0
    quantiles = np.asarray(stats.t.ppf(0.5 + 0.5 * share * u, degrees[..., None]))  # (..., nodes)
    bound = np.asarray(stats.t.ppf(probability, degrees))[..., None]
    inside = np.zeros(np.broadcast_shapes(sd.shape, (*degrees.shape, 1)))
    for at in range(NODES):
        inside += 0.5 * share * weight[at] * np.exp(sd * quantiles[..., at : at + 1])
    outside = 2.0 * (1.0 - probability) * np.cosh(sd * bound)
    found: Floats = np.log(inside + outside)
    return found


def bounded_smearing_finding() -> Finding:
    """Says how money answers treat freak weeks."""
    return Finding(
        code="bounded_smearing",
        severity="info",
        message="errors are Student-t, whose mean in money does not exist; expected units count a week's shock at most "
        f"as its {BOUND_PROBABILITY:.1%} quantile",
        remedy="nothing to do; medians and elasticities do not depend on it",
    )
