"""Effects of arms against control: difference of means, relative lift, and what a posterior says about them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.value_of_information import unit_normal_loss

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """One arm's outcome in three numbers, which add up over files and days.

    Attributes
    ----------
    n : int
        Units, at least 2.
    mean, variance : float
        Of the outcome over units; the variance divides by ``n - 1``.
    """

    n: int
    mean: float
    variance: float

    def __post_init__(self) -> None:
        if self.n < 2 or not self.variance >= 0:
            raise SpecError(
                f"An arm with n={self.n} and variance={self.variance} has no effect to read: needs 2 units."
            )

    @classmethod
    def of(cls, values: Floats) -> ArmSummary:
        """Summarise one value per unit.

        Examples
        --------
        >>> ArmSummary.of(np.array([1.0, 3.0]))
        ArmSummary(n=2, mean=2.0, variance=2.0)
        """
        if values.size < 2:
            raise SpecError(f"An arm with {values.size} units has no effect to read; it needs at least 2.")
        return cls(n=int(values.size), mean=float(values.mean()), variance=float(values.var(ddof=1)))

    @classmethod
    def from_sums(cls, n: int, total: float, squares: float) -> ArmSummary:
        """Summarise aggregated data: units, sum of the outcome, sum of its squares.

        Examples
        --------
        >>> ArmSummary.from_sums(10, 100.0, 1002.25)
        ArmSummary(n=10, mean=10.0, variance=0.25)
        """
        if n < 2:
            raise SpecError(f"An arm with {n} units has no effect to read; it needs at least 2.")
        return cls(n=n, mean=total / n, variance=max(squares - total * total / n, 0.0) / (n - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """An estimated effect before any words about it.

    Attributes
    ----------
    mean : float
        Arm minus control, in the outcome's unit (or a share, for a lift).
    standard_error : float
        Zero or more.
    degrees_of_freedom : float
        Of its t distribution; infinity is the normal.
    """

    mean: float
    standard_error: float
    degrees_of_freedom: float = inf

    @property
    def p_value(self) -> float:
        """Two-sided p-value of no effect; 1 where nothing varies."""
        if not self.standard_error > 0:
            return 1.0
        return 2.0 * _cumulative(-abs(self.mean) / self.standard_error, self.degrees_of_freedom)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """An effect as people and machines read it, under a flat prior unless it says otherwise.

    Attributes
    ----------
    outcome, arm : str
    mean, sd : float
        Effect against control and its standard error, in the outcome's unit; positive is more of the outcome.
    lower, upper : float
        Ends of the central interval.
    probability : float in (0, 1)
        Of that interval.
    probability_better : float in [0, 1]
        That the arm has more of the outcome than control.
    expected_loss : float
        Mean of ``max(0, -effect)``: what changing to the arm is expected to lose, zero or more, per unit.
    """

    outcome: str
    arm: str
    mean: float
    sd: float
    lower: float
    upper: float
    probability: float
    probability_better: float
    expected_loss: float


def difference_in_means(control: ArmSummary, treated: ArmSummary) -> Contrast:
    r"""Difference of two means, each arm with its own variance.

    .. math:: s^2 = \frac{s_A^2}{n_A} + \frac{s_B^2}{n_B}, \qquad
              \nu = \frac{s^4}{(s_A^2/n_A)^2/(n_A - 1) + (s_B^2/n_B)^2/(n_B - 1)}

    References
    ----------
    Welch (1947), "The generalization of Student's problem when several different population variances are involved",
    Biometrika 34.

    Examples
    --------
    >>> a, b = ArmSummary(n=10, mean=10.0, variance=0.25), ArmSummary(n=10, mean=10.5, variance=1.0)
    >>> contrast = difference_in_means(a, b)
    >>> round(contrast.mean, 3), round(contrast.standard_error, 4), round(contrast.degrees_of_freedom, 2)
    (0.5, 0.3536, 13.24)
    """
    parts = [(arm.variance / arm.n, arm.n - 1.0) for arm in (control, treated)]
    return welch_contrast(treated.mean - control.mean, parts)


def relative_lift(control: ArmSummary, treated: ArmSummary) -> Contrast:
    r"""Difference of two means as a share of control's, by the delta method.

    .. math:: \mathrm{Var} = \frac{s_B^2}{n_B \mu_A^2} + \frac{s_A^2 \mu_B^2}{n_A \mu_A^4}

    Raises
    ------
    SpecError
        If control's mean is not over 0: a share of it has no meaning.

    References
    ----------
    GrowthBook's statistics engine (gbstats).

    Examples
    --------
    >>> control = ArmSummary.from_sums(10, 100.0, 1002.25)
    >>> treated = ArmSummary.from_sums(10, 105.0, 1111.5)
    >>> lift = relative_lift(control, treated)
    >>> round(lift.mean, 5), round(lift.standard_error, 5)
    (0.05, 0.03572)
    """
    base = control.mean
    if not base > 0:
        raise SpecError(
            f"Control's mean is {base:g}: a relative lift needs a mean over 0; read the difference instead."
        )
    variance = treated.variance / treated.n / base**2 + control.variance / control.n * treated.mean**2 / base**4
    return Contrast(mean=treated.mean / base - 1.0, standard_error=float(np.sqrt(variance)))


def with_prior(contrast: Contrast, mean: float, sd: float) -> Contrast:
    r"""Combine an estimate with a normal prior of the effect, such as the demand model's own.

    .. math:: m' = \frac{m_0/s_0^2 + m/s^2}{1/s_0^2 + 1/s^2}, \qquad s'^2 = \frac{1}{1/s_0^2 + 1/s^2}

    The estimate's t distribution is taken as normal.

    Examples
    --------
    >>> posterior = with_prior(Contrast(mean=0.05, standard_error=0.03572), mean=0.1, sd=0.1**0.5)
    >>> round(posterior.mean, 5), round(posterior.standard_error, 5)
    (0.05063, 0.03549)
    """
    if not (sd > 0 and contrast.standard_error > 0):
        raise SpecError(f"A prior sd of {sd} and a standard error of {contrast.standard_error}: both must be over 0.")
    prior_precision, precision = sd**-2, contrast.standard_error**-2
    total = prior_precision + precision
    combined = (mean * prior_precision + contrast.mean * precision) / total
    return Contrast(mean=combined, standard_error=float(total**-0.5))


def effect_of(contrast: Contrast, outcome: str, arm: str, probability: float = 0.9) -> Effect:
    r"""Read a posterior off an estimate: interval, probability of being better, expected loss.

    For a t distribution with :math:`\nu` degrees of freedom, location m and scale s, and u = m / s,

    .. math:: E[\max(0, -d)] = s \left( \frac{\nu + u^2}{\nu - 1} f_\nu(u) - u F_\nu(-u) \right)

    Parameters
    ----------
    contrast : Contrast
    outcome, arm : str
    probability : float in (0, 1)

    Examples
    --------
    >>> effect = effect_of(Contrast(mean=0.05, standard_error=0.03572), "revenue", "B")
    >>> round(effect.probability_better, 4), round(effect.expected_loss, 5)
    (0.9192, 0.00131)
    """
    mean, error, freedom = contrast.mean, contrast.standard_error, contrast.degrees_of_freedom
    reach = error * quantile(0.5 + 0.5 * probability, freedom) if error > 0 else 0.0
    better = _cumulative(mean / error, freedom) if error > 0 else float(np.heaviside(mean, 0.5))
    return Effect(
        outcome=outcome,
        arm=arm,
        mean=mean,
        sd=error,
        lower=mean - reach,
        upper=mean + reach,
        probability=probability,
        probability_better=better,
        expected_loss=_expected_loss(mean, error, freedom),
    )


def holm(p_values: Floats) -> Floats:
    """Adjust p-values so that the chance of any false alarm among all of them stays at the level used.

    References
    ----------
    Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian J. Statistics 6(2).

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).round(6).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(p_values[order] * np.arange(p_values.size, 0, -1))
    adjusted = np.empty_like(stepped)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def welch_contrast(mean: float, parts: list[tuple[float, float]]) -> Contrast:
    """Contrast of independent parts, each a (variance, degrees of freedom), by Satterthwaite.

    Examples
    --------
    >>> welch_contrast(1.0, [(0.5, 9), (0.5, 9)]).degrees_of_freedom
    18.0
    """
    total = sum(variance for variance, _ in parts)
    if not total > 0:
        return Contrast(mean=mean, standard_error=0.0)
    freedom = total**2 / sum(variance**2 / degrees for variance, degrees in parts)
    return Contrast(mean=mean, standard_error=float(np.sqrt(total)), degrees_of_freedom=float(freedom))


def quantile(probability: float, degrees_of_freedom: float) -> float:
    """Quantile of Student's t; of the normal where the degrees of freedom are infinite.

    Examples
    --------
    >>> round(quantile(0.975, inf), 4), round(quantile(0.975, 10), 4)
    (1.96, 2.2281)
    """
    return float(ndtri(probability) if degrees_of_freedom == inf else stdtrit(degrees_of_freedom, probability))


def _cumulative(value: float, freedom: float) -> float:
    return float(ndtr(value) if freedom == inf else stdtr(freedom, value))


def _expected_loss(mean: float, error: float, freedom: float) -> float:
    if not error > 0:
        return max(0.0, -mean)
    u = mean / error
    if freedom > 1e6:
        return error * float(unit_normal_loss(u))
    if not freedom > 1:
        return inf  # the mean of so heavy a tail does not exist
    from scipy.stats import t

    slope = (freedom + u * u) / (freedom - 1.0) * float(t.pdf(u, freedom))
    return max(error * (slope - u * _cumulative(-u, freedom)), 0.0)
