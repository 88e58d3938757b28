"""Looking at a running test as often as one likes: confidence sequences, guardrails, stopping by expected loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.value_of_information import unit_normal_loss

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FEWEST_PER_ARM = 200
"""Units in the smaller arm from which an asymptotic sequence is trusted: with skewed revenue and unequal arms it
crosses too often before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceTuning:
    r"""How a confidence sequence is shaped: its level, and the sample size at which it is narrowest.

    .. math:: r^2 = \frac{-2 \ln \alpha + \ln(1 - 2 \ln \alpha)}{N^*}, \qquad \alpha = 1 - \text{confidence}

    Attributes
    ----------
    planned_units : float
        Units of all arms together at which the sequence is to be tight: the planned size of the test.
    confidence : float in (0, 1)

    Examples
    --------
    >>> round(SequenceTuning(planned_units=5_000).rate, 6)
    0.03984
    """

    planned_units: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.planned_units < float("inf"):
            raise SpecError(f"SequenceTuning.planned_units is {self.planned_units}; give a finite number over 0.")
        if not 0 < self.confidence < 1:
            raise SpecError(f"SequenceTuning.confidence is {self.confidence}; give a share in (0, 1), such as 0.95.")

    @property
    def rate(self) -> float:
        """The mixture's scale r, per square root of a unit."""
        doubled = -2.0 * np.log1p(-self.confidence)
        return float(np.sqrt((doubled + np.log1p(doubled)) / self.planned_units))


def sequence_multiplier(units: ArrayLike, tuning: SequenceTuning) -> Floats:
    r"""How many standard errors an anytime-valid interval is wide to each side, where a fixed one has 1.96.

    .. math:: k(N) = \sqrt{\frac{2 (N r^2 + 1)}{N r^2} \ln \frac{\sqrt{N r^2 + 1}}{\alpha}}

    The asymptotic confidence sequence covers the truth at *all* sample sizes together with the stated confidence, so
    one may look after every unit and stop for any reason. It is asymptotic: it leans on a standard error that is
    itself known by then, so start looking once the smaller arm has two hundred units (`FEWEST_PER_ARM`).

    Parameters
    ----------
    units : array-like
        Units of all arms together, over 0.
    tuning : SequenceTuning

    Returns
    -------
    array
        Standard errors, over the fixed-size value everywhere.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas (2024), "Time-uniform central limit theory and asymptotic confidence
    sequences", Annals of Statistics 52(6).

    Examples
    --------
    >>> round(float(sequence_multiplier(266_667, SequenceTuning(planned_units=5_000))), 5)
    3.47423
    """
    count = np.asarray(units, dtype=np.float64)
    if not np.all(count > 0):
        raise SpecError("A confidence sequence needs at least one unit at every look.")
    scaled = count * tuning.rate**2
    log_term = 0.5 * np.log1p(scaled) - np.log1p(-tuning.confidence)
    return np.asarray(np.sqrt(2.0 * (scaled + 1.0) / scaled * log_term), dtype=np.float64)


def confidence_sequence(
    estimate: ArrayLike, standard_error: ArrayLike, units: ArrayLike, tuning: SequenceTuning
) -> tuple[Floats, Floats]:
    """Lower and upper ends of the anytime-valid interval of an effect, at one look or at many.

    Parameters
    ----------
    estimate, standard_error : array-like
        Effect and its standard error at each look, in the outcome's unit.
    units : array-like
        Units of all arms together at each look.
    tuning : SequenceTuning

    Returns
    -------
    lower, upper : arrays
        In the outcome's unit.

    Examples
    --------
    >>> tuning = SequenceTuning(planned_units=1_000)
    >>> lower, upper = confidence_sequence(2.0, 0.5, 1_000, tuning)
    >>> round(float(lower), 3), round(float(upper), 3)
    (0.482, 3.518)
    """
    middle = np.asarray(estimate, dtype=np.float64)
    reach = np.asarray(standard_error, dtype=np.float64) * sequence_multiplier(units, tuning)
    return middle - reach, middle + reach


def running_difference(outcome: ArrayLike, treated: ArrayLike) -> tuple[Floats, Floats]:
    """Difference of two arms' means and its standard error after every unit of a stream.

    Parameters
    ----------
    outcome : array (..., unit)
        Units in the order in which they came; leading dims are separate streams.
    treated : bool array (unit,) or (..., unit)

    Returns
    -------
    difference, standard_error : arrays (..., unit)
        Standard error with each arm's own variance; infinite while an arm has fewer than two units.

    Examples
    --------
    >>> difference, error = running_difference([1.0, 3.0, 3.0, 7.0], [False, True, False, True])
    >>> float(difference[-1]), float(round(error[-1], 4)), float(error[2])
    (3.0, 2.2361, inf)
    """
    values = np.asarray(outcome, dtype=np.float64)
    flags = np.broadcast_to(np.asarray(treated, dtype=np.bool_), values.shape)
    control_mean, control_variance = _running_mean(values, ~flags)
    treated_mean, treated_variance = _running_mean(values, flags)
    return treated_mean - control_mean, np.sqrt(treated_variance + control_variance)


def _running_mean(values: Floats, chosen: Bools) -> tuple[Floats, Floats]:
    """Mean of the chosen units so far, and the variance of that mean."""
    count = np.cumsum(chosen, axis=-1, dtype=np.float64)
    origin = values[..., :1]  # sums around a value of the stream keep their digits
    shifted = np.where(chosen, values - origin, 0.0)
    total, squares = np.cumsum(shifted, axis=-1), np.cumsum(shifted * shifted, axis=-1)
    mean = np.divide(total, count, out=np.zeros_like(total), where=count > 0)
    spread = np.maximum(squares - mean * total, 0.0)
    enough = count > 1
    variance = np.full(total.shape, np.inf)
    np.divide(spread, count * np.maximum(count - 1, 1), out=variance, where=enough)
    return mean + origin, variance


def first_crossing(
    outcome: ArrayLike, treated: ArrayLike, tuning: SequenceTuning, *, first_look: int = FEWEST_PER_ARM
) -> Floats:
    """Units of a stream after which its confidence sequence first leaves zero out; infinity where it never does.

    Parameters
    ----------
    outcome : array (..., unit)
        Units in the order in which they came; leading dims are separate streams.
    treated : bool array (unit,) or (..., unit)
    tuning : SequenceTuning
    first_look : int
        Looking starts with so many units in the smaller arm.

    Returns
    -------
    array (...)
        Units seen at the crossing.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> treated = np.arange(400) % 2 == 1
    >>> stream = rng.normal(size=400) + 0.5 * treated
    >>> float(first_crossing(stream, treated, SequenceTuning(planned_units=200), first_look=20))
    135.0
    """
    difference, error = running_difference(outcome, treated)
    units = np.arange(1, difference.shape[-1] + 1)
    in_arm = np.cumsum(np.asarray(treated, dtype=np.bool_), axis=-1)
    started = np.minimum(in_arm, units - in_arm) >= first_look
    crossed = (np.abs(difference) > error * sequence_multiplier(units, tuning)) & started
    return np.where(crossed.any(axis=-1), crossed.argmax(axis=-1) + 1.0, np.inf)


def growthbook_sequential_power(drift: ArrayLike, multiplier: ArrayLike, confidence: float = 0.95) -> Floats:
    r"""Power of a sequential test by GrowthBook's *convention*, which is not its probability of crossing.

    .. math:: 1 - \Phi(z - \delta / f) + \Phi(-z - \delta / f), \qquad f = k / z

    A two-sided z power with the standard error stretched until the fixed interval is as wide as the sequential one.
    The chance that the sequence excludes zero at the last look is ``ndtr(drift - multiplier)``; that it does at any of
    some looks, `group_sequential.crossing_probabilities`.

    Parameters
    ----------
    drift : array-like
        True effect over the standard error at the last look.
    multiplier : array-like
        Standard errors the sequence is wide at the last look (`sequence_multiplier`).
    confidence : float in (0, 1)

    Returns
    -------
    array in [0, 1]

    Examples
    --------
    >>> round(float(growthbook_sequential_power(2.013643, 3.474229)), 5)
    0.20596
    """
    z = float(ndtri(0.5 + 0.5 * confidence))
    stretched = np.asarray(drift, dtype=np.float64) * z / np.asarray(multiplier, dtype=np.float64)
    return np.asarray(ndtr(stretched - z) + ndtr(-stretched - z), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStop:
    """Whether enough is known to decide, by what a wrong decision is expected to cost.

    Attributes
    ----------
    action : str
        ``change``, ``keep`` or ``continue``.
    loss_of_change, loss_of_keep : float
        Expected loss of either decision, in the outcome's unit, zero or more.
    """

    action: Literal["change", "keep", "continue"]
    loss_of_change: float
    loss_of_keep: float


def stop_by_expected_loss(mean: float, sd: float, threshold: float) -> LossStop:
    r"""Stop as soon as the better decision is expected to lose less than a threshold named in advance.

    .. math:: E[\max(-d, 0)] \le \epsilon \Rightarrow \text{change}, \qquad E[\max(d, 0)] \le \epsilon \Rightarrow
              \text{keep}

    The posterior does not mind how often one looks, but the rule has no fixed false-alarm rate: simulate the rate of
    the threshold chosen, and name the threshold in the plan.

    Parameters
    ----------
    mean, sd : float
        Posterior of the effect d in the outcome's unit; positive is better.
    threshold : float
        Loss that one does not mind, over 0, in the same unit.

    Examples
    --------
    >>> stop_by_expected_loss(0.05, 0.03572, threshold=0.002).action
    'change'
    >>> stop_by_expected_loss(0.05, 0.03572, threshold=0.001).action
    'continue'
    """
    if not threshold > 0:
        raise SpecError(f"The threshold of expected loss is {threshold}; give a loss over 0 in the outcome's unit.")
    if not sd > 0:
        raise SpecError(f"The posterior sd of the effect is {sd}; an effect that is known exactly needs no rule.")
    change = sd * float(unit_normal_loss(mean / sd))
    keep = sd * float(unit_normal_loss(-mean / sd))
    action: Literal["change", "keep", "continue"] = "continue"
    if min(change, keep) <= threshold:
        action = "change" if change <= keep else "keep"
    return LossStop(action=action, loss_of_change=change, loss_of_keep=keep)


def check_guardrail(lower: float, upper: float, margin: float) -> Literal["safe", "breached", "open"]:
    """Non-inferiority of a metric that must not suffer: is its effect above ``-margin``, below it, or not yet known?

    Parameters
    ----------
    lower, upper : float
        Interval of the guardrail's effect; of a confidence sequence where one looks more than once.
    margin : float
        Loss that is accepted, zero or more, in the metric's unit.

    Examples
    --------
    >>> check_guardrail(-0.4, 1.0, margin=0.5), check_guardrail(-2.0, -0.6, margin=0.5)
    ('safe', 'breached')
    """
    if not margin >= 0:
        raise SpecError(f"The guardrail's margin is {margin}; give the loss that is accepted, zero or more.")
    if lower > -margin:
        return "safe"
    return "breached" if upper < -margin else "open"
