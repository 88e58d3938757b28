"""What a price does to how long customers stay: mean time retained, with customers who are still there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.effects import Contrast

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainedTime:
    """Mean time that customers of one arm stay within a horizon.

    Attributes
    ----------
    n : int
        Customers.
    left : int
        How many were seen to leave within the horizon.
    mean : float
        Periods, at most the horizon.
    standard_error : float
    """

    n: int
    left: int
    mean: float
    standard_error: float


def retained_time(duration: Floats, left: Bools, horizon: float) -> RetainedTime:
    r"""Restricted mean time retained: the area under the Kaplan-Meier curve up to a horizon.

    .. math:: \mu = \int_0^h S(t)\,dt, \qquad
              \mathrm{Var} = \sum_{t_i \le h} \Big(\int_{t_i}^h S\Big)^2 \frac{d_i}{r_i (r_i - d_i)}

    with d customers leaving among r still there at each time. It needs no assumption about the shape of churn, and its
    difference between arms is in time: at a price per period, in money.

    Parameters
    ----------
    duration : array (customer,)
        Periods seen, over 0.
    left : bool array (customer,)
        True where the customer left then, False where still there when last seen.
    horizon : float
        Periods.

    Raises
    ------
    SpecError
        If a duration is not over 0, or nobody was watched up to the horizon.

    References
    ----------
    Royston & Parmar (2013), "Restricted mean survival time", BMC Medical Research Methodology 13:152.

    Examples
    --------
    >>> retained_time(np.array([1.0, 2.0, 3.0, 4.0]), np.array([True, True, True, False]), horizon=4.0).mean
    2.5
    """
    if not (duration > 0).all() or not horizon > 0:
        raise SpecError("Durations and the horizon of retention must be over 0, in periods.")
    if not duration.max() >= horizon:
        raise SpecError(
            f"Nobody was watched for {horizon:g} periods (at most {duration.max():g}); name a shorter horizon."
        )
    times = np.unique(duration[left & (duration <= horizon)])
    at_risk = np.array([(duration >= time).sum() for time in times], dtype=np.float64)
    gone = np.array([(left & (duration == time)).sum() for time in times], dtype=np.float64)
    curve = np.concatenate([[1.0], np.cumprod(1.0 - gone / at_risk)])
    steps = np.diff(np.concatenate([[0.0], times, [horizon]]))
    areas = curve * steps
    after = areas[::-1].cumsum()[::-1][1:]  # area beyond each time of leaving
    staying = at_risk - gone
    terms = np.divide(after**2 * gone, at_risk * staying, out=np.zeros_like(after), where=staying > 0)
    return RetainedTime(
        n=int(duration.size),
        left=int(gone.sum()),
        mean=float(areas.sum()),
        standard_error=float(np.sqrt(terms.sum())),
    )


def retention_contrast(control: RetainedTime, treated: RetainedTime) -> Contrast:
    """Difference of mean time retained between two arms, in periods; negative where the arm drives customers away.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> stay = [rng.exponential(mean, 2_000) for mean in (10.0, 8.0)]
    >>> arms = [retained_time(np.minimum(time, 12.0), time < 12.0, horizon=12.0) for time in stay]
    >>> contrast = retention_contrast(*arms)
    >>> bool(abs(contrast.mean - (8 * (1 - np.exp(-1.5)) - 10 * (1 - np.exp(-1.2)))) < 3 * contrast.standard_error)
    True
    """
    return Contrast(
        mean=treated.mean - control.mean,
        standard_error=float(np.hypot(treated.standard_error, control.standard_error)),
    )
