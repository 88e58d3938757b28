"""What stands beside the headline: power, sizes for it, and the assurance that a test ends significant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from bayes_pricing.errors import SpecError


def hypothesis_test_size(effect: float, noise_sd: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    r"""Units per group of a two-sided z test, :math:`n = 2 s^2 (z_{1-\alpha/2} + z_{power})^2 / d^2`.

    Examples
    --------
    >>> round(hypothesis_test_size(0.0136, (0.68 * 0.32) ** 0.5), 2)
    18467.95
    """
    _check_rates(alpha, power)
    if effect == 0:
        raise SpecError("The effect to detect is 0; no test is large enough. Give the smallest effect that matters.")
    return float(2.0 * (noise_sd * (ndtri(1.0 - alpha / 2.0) + ndtri(power)) / effect) ** 2)


def z_power(effect: float, error_sd: float, *, alpha: float = 0.05) -> float:
    """Probability that a two-sided z test finds an effect, both tails counted.

    Examples
    --------
    >>> round(z_power(2.8016, 1.0), 3)
    0.8
    """
    critical = float(ndtri(1.0 - alpha / 2.0))
    ratio = effect / error_sd
    return float(ndtr(ratio - critical) + ndtr(-ratio - critical))


def t_test_power(n: float, effect_in_sds: float, *, alpha: float = 0.05) -> float:
    """Power of a two-sided two-sample t test with `n` a group, both tails counted.

    Examples
    --------
    >>> round(t_test_power(30, 1.0), 6)
    0.967708
    """
    from scipy.stats import nct, t

    freedom = 2.0 * n - 2.0
    critical = t.ppf(1.0 - alpha / 2.0, freedom)
    shift = abs(effect_in_sds) * np.sqrt(n / 2.0)
    return float(nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift))


def t_test_size(effect_in_sds: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Units per group of a two-sided two-sample t test for an effect in standard deviations.

    Examples
    --------
    >>> round(t_test_size(0.5), 5)
    63.76561
    """
    _check_rates(alpha, power)
    if effect_in_sds == 0:
        raise SpecError("The effect to detect is 0; no test is large enough. Give the smallest effect that matters.")
    start = hypothesis_test_size(abs(effect_in_sds), 1.0, alpha=alpha, power=power)

    def short(n: float) -> float:
        return t_test_power(n, effect_in_sds, alpha=alpha) - power

    return float(brentq(short, 2.0, 2.0 * start + 10.0, xtol=1e-9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assurance:
    """Probability, before the test, that it ends significant; prior uncertainty about the effect included.

    Attributes
    ----------
    positive : float
        Significant and positive.
    either : float
        Significant in either direction.
    ceiling : float
        The most `positive` can reach however large the test: the prior probability of a positive effect.
    """

    positive: float
    either: float
    ceiling: float


def assurance(prior_mean: float, prior_sd: float, error_sd: float, *, alpha: float = 0.05) -> Assurance:
    r"""Assurance of a two-sided z test under a normal prior of the effect.

    .. math:: P(\text{significant, positive}) = \Phi\Big(\frac{m - z \tau}{\sqrt{v + \tau^2}}\Big), \qquad
              \text{ceiling} = \Phi(m / \sqrt v)

    Parameters
    ----------
    prior_mean, prior_sd : float
        :math:`m, \sqrt v` of the effect.
    error_sd : float
        Standard error :math:`\tau` of the estimated effect.
    alpha : float

    Returns
    -------
    Assurance

    References
    ----------
    O'Hagan, Stevens & Campbell (2005), "Assurance in clinical trial design", Pharmaceutical Statistics 4(3).

    Examples
    --------
    >>> found = assurance(0.2, 0.1, (2 / 392.44) ** 0.5)
    >>> round(found.positive, 5), round(found.either, 4), round(found.ceiling, 5)
    (0.68758, 0.6904, 0.97725)
    """
    critical = float(ndtri(1.0 - alpha / 2.0))
    total = np.hypot(prior_sd, error_sd)
    positive = float(ndtr((prior_mean - critical * error_sd) / total))
    negative = float(ndtr((-prior_mean - critical * error_sd) / total))
    return Assurance(positive=positive, either=positive + negative, ceiling=float(ndtr(prior_mean / prior_sd)))


def _check_rates(alpha: float, power: float) -> None:
    if not 0 < alpha < 1:
        raise SpecError(f"alpha is {alpha}; give a rate in (0, 1), 0.05 is usual.")
    if not alpha < power < 1:
        raise SpecError(f"power is {power}; give a rate between alpha and 1, 0.8 is usual.")
