"""Did the arms get the units they were promised? A wrong ratio means a broken test, whatever its effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, gammaln

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]

MONITOR_THRESHOLD = 0.001
"""p-value under which a ratio watched while a test runs is called wrong: strict, for it is looked at often."""
READ_OUT_THRESHOLD = 0.01
"""The same for a finished test, which is looked at once: 5,000 against 5,300 (p = 0.003) does not pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRatio:
    """Units per arm against the shares they were promised.

    Attributes
    ----------
    p_value : float in [0, 1]
        Of the chi-square test.
    passed : bool
        Whether the p-value is at least the threshold.
    threshold : float
    counts : tuple of int
        Units (clusters, where clusters were assigned) by arm.
    expected : tuple of float
        What the shares promised.
    """

    p_value: float
    passed: bool
    threshold: float
    counts: tuple[int, ...]
    expected: tuple[float, ...]


def check_sample_ratio(
    counts: Sequence[int], shares: Sequence[float] | None = None, *, threshold: float = MONITOR_THRESHOLD
) -> SampleRatio:
    r"""Chi-square test of the arms' sizes against their promised shares.

    .. math:: \chi^2 = \sum_j \frac{(n_j - N s_j)^2}{N s_j}, \qquad J - 1 \text{ degrees of freedom}

    Parameters
    ----------
    counts : sequence of int
        Units by arm, at least two arms.
    shares : sequence of float, optional
        Promised shares by arm (any positive scale); equal where left out.
    threshold : float in (0, 1)

    References
    ----------
    Fabijan et al. (2019), "Diagnosing sample ratio mismatch in online controlled experiments", KDD.

    Examples
    --------
    >>> check_sample_ratio([5_000, 5_010]).passed, check_sample_ratio([5_000, 5_500]).passed
    (True, False)
    >>> round(check_sample_ratio([5_000, 5_300]).p_value, 5)
    0.00312
    """
    observed, probabilities = _checked(counts, shares)
    if not 0 < threshold < 1:
        raise SpecError(f"The threshold of the sample ratio is {threshold}; give a p-value in (0, 1), such as 0.001.")
    total = float(observed.sum())
    expected = probabilities * total
    statistic = float(((observed - expected) ** 2 / expected).sum()) if total > 0 else np.nan
    p_value = float(chdtrc(observed.size - 1, statistic))
    return SampleRatio(
        p_value=p_value,
        passed=p_value >= threshold,
        threshold=threshold,
        counts=tuple(int(count) for count in observed),
        expected=tuple(float(value) for value in expected),
    )


def sample_ratio_e_values(
    counts: ArrayLike, shares: Sequence[float] | None = None, *, concentration: float = 100.0
) -> Floats:
    r"""Evidence against the promised shares that may be looked at after every unit.

    .. math:: E = \frac{B(\alpha + n)}{B(\alpha) \prod_j s_j^{n_j}}, \qquad \alpha = \text{concentration} \cdot s

    A Dirichlet mixture against the promised multinomial. Where the promise holds, the chance that it *ever* reaches
    1 / p is at most p (Ville): ``1 / max(E)`` is an anytime p-value.

    Parameters
    ----------
    counts : array-like (..., arm)
        Units so far by arm, at one look or at many.
    shares : sequence of float, optional
        Promised shares by arm; equal where left out.
    concentration : float
        Units' worth of belief in the promised shares: larger is quicker on small departures and slower on gross ones.

    Returns
    -------
    array (...)

    References
    ----------
    Lindon & Malek (2022), "Anytime-valid inference for multinomial count data", NeurIPS.

    Examples
    --------
    >>> looks = np.array([[500, 510], [5_000, 5_500]])
    >>> [bool(value > 1_000) for value in sample_ratio_e_values(looks)]
    [False, True]
    """
    observed, probabilities = _checked(counts, shares)
    if not concentration > 0:
        raise SpecError(f"The concentration of the sample ratio is {concentration}; give a number over 0.")
    prior = concentration * probabilities
    total = observed.sum(axis=-1)
    log_mixture = gammaln(prior + observed).sum(axis=-1) - gammaln(concentration + total)
    log_start = gammaln(prior).sum() - gammaln(concentration)
    log_promised = (observed * np.log(probabilities)).sum(axis=-1)
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(log_mixture - log_start - log_promised), dtype=np.float64)


def _checked(counts: ArrayLike, shares: Sequence[float] | None) -> tuple[Floats, Floats]:
    observed = np.asarray(counts, dtype=np.float64)
    arms = observed.shape[-1] if observed.ndim else 0
    if arms < 2 or not np.all(observed >= 0):
        raise SpecError("A sample ratio needs the units of at least two arms, each zero or more.")
    weights = np.ones(arms) if shares is None else np.asarray(shares, dtype=np.float64)
    if weights.shape != (arms,) or not np.all(weights > 0):
        raise SpecError(f"A sample ratio of {arms} arms needs {arms} shares, each over 0; they are {list(weights)}.")
    return observed, weights / weights.sum()
