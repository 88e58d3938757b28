"""What stands beside a plan's headline: power, sequential sizes, the worth of knowing, the test's own risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bayes_pricing.experiments.group_sequential import plan_looks, sample_inflation
from bayes_pricing.experiments.many_arms import Arms, SimulatedValue, preposterior_covariance
from bayes_pricing.experiments.monitoring import SequenceTuning, sequence_multiplier
from bayes_pricing.experiments.power import Assurance, assurance, hypothesis_test_size, z_power
from bayes_pricing.experiments.sizing import TestAndRoll
from bayes_pricing.pricing.value_of_information import value_of_perfect_information, value_of_sample_information

Floats = NDArray[np.float64]

TAIL = 0.05
"""Share of the worst outcomes that an expected shortfall averages."""
LOOKS = 4
"""Looks for which group-sequential sizes are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPlan:
    """What a classical two-sided test would say, beside the headline.

    Attributes
    ----------
    effect : float
        The difference looked for, money per unit.
    alpha, target : float
        With several new arms the error rate is shared out over them.
    n_per_arm : float
        Units a group at which an effect of this size is found with the target probability.
    at_plan : float
        Probability that the planned sizes find it.
    """

    effect: float
    alpha: float
    target: float
    n_per_arm: float
    at_plan: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSequentialSize:
    """Units a group at most, with a few planned looks and the power asked for.

    Attributes
    ----------
    shape : {"pocock", "obrien-fleming"}
    looks : int
    inflation : float
        Times the size of a test without looks.
    n_per_arm : float
    """

    shape: Literal["pocock", "obrien-fleming"]
    looks: int
    inflation: float
    n_per_arm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialPlan:
    """The same test watched all the time with a confidence sequence tuned to the planned size, or at a few looks.

    Attributes
    ----------
    multiplier : float
        Standard errors to each side at the planned size, where a fixed interval has 1.96.
    power_at_end : float
        Probability that the sequence excludes zero at the last look, under the effect of the power plan.
    minimum_detectable_effect : float
        Effect for which that probability is the target.
    n_per_arm : float
        Units a group at which a sequence tuned to that size has the target power at its end.
    group_sequential : tuple of GroupSequentialSize
    """

    multiplier: float
    power_at_end: float
    minimum_detectable_effect: float
    n_per_arm: float
    group_sequential: tuple[GroupSequentialSize, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InformationValue:
    """What knowing is worth over the population, money.

    Attributes
    ----------
    perfect : float
        Of knowing the better arm at once.
    sample : float
        Of the planned test's answer, for the units after it.
    net : float
        Of the planned test against deciding now, what it costs to run deducted.
    simulated : SimulatedValue or None
        The net value on the posterior's own draws instead of their normal approximation; None without draws.
    """

    perfect: float
    sample: float
    net: float
    simulated: SimulatedValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestRisk:
    """What the test itself may cost against leaving today's arm alone for as long, beliefs about the arms included.

    Attributes
    ----------
    expected_cost : float
        Money; negative where the new arms are expected to earn more already during the test.
    expected_shortfall : float
        Mean loss over the worst 5 % of what is believed, money; positive is a loss.
    probability_of_loss : float
    """

    __test__ = False  # the name starts with Test; it is no test

    expected_cost: float
    expected_shortfall: float
    probability_of_loss: float


def plan_power(arms: Arms, sizes: Floats, effect: float, alpha: float, power: float) -> PowerPlan:
    """Classical power of the planned sizes, and the size that the power asked for would take.

    Examples
    --------
    >>> arms = Arms(means=(0.0, 0.0), covariance=((1.0, 0.0), (0.0, 1.0)), noise_sds=(1.0, 1.0), population=1000)
    >>> round(plan_power(arms, np.array([100.0, 100.0]), 0.4, 0.05, 0.8).at_plan, 3)
    0.807
    """
    each = alpha / (len(arms.means) - 1)
    return PowerPlan(
        effect=effect,
        alpha=alpha,
        target=power,
        n_per_arm=hypothesis_test_size(effect, _pooled(arms), alpha=each, power=power),
        at_plan=z_power(effect, error_sd(arms, sizes), alpha=each),
    )


def plan_sequential(arms: Arms, sizes: Floats, effect: float, alpha: float, power: float) -> SequentialPlan:
    """The same with a confidence sequence, and with a few planned looks.

    Examples
    --------
    >>> arms = Arms(means=(0.0, 0.0), covariance=((1.0, 0.0), (0.0, 1.0)), noise_sds=(1.0, 1.0), population=1000)
    >>> planned = plan_sequential(arms, np.array([100.0, 100.0]), 0.4, 0.05, 0.8)
    >>> [(size.shape, round(size.inflation, 3)) for size in planned.group_sequential]
    [('pocock', 1.202), ('obrien-fleming', 1.024)]
    """
    each = alpha / (len(arms.means) - 1)
    units, error = float(sizes.sum()), error_sd(arms, sizes)
    multiplier = float(sequence_multiplier(units, SequenceTuning(planned_units=units, confidence=1.0 - each)))
    drift, reach = effect / error, multiplier + float(ndtri(power))
    fixed = hypothesis_test_size(effect, _pooled(arms), alpha=each, power=power)
    shapes: tuple[Literal["pocock", "obrien-fleming"], ...] = ("pocock", "obrien-fleming")
    inflations = [sample_inflation(plan_looks(LOOKS, shape, alpha=each), power) for shape in shapes]
    return SequentialPlan(
        multiplier=multiplier,
        power_at_end=float(ndtr(drift - multiplier) + ndtr(-drift - multiplier)),
        minimum_detectable_effect=reach * error,
        n_per_arm=2.0 * (_pooled(arms) * reach / effect) ** 2,
        group_sequential=tuple(
            GroupSequentialSize(shape=shape, looks=LOOKS, inflation=times, n_per_arm=times * fixed)
            for shape, times in zip(shapes, inflations, strict=True)
        ),
    )


def plan_assurance(arms: Arms, sizes: Floats, alpha: float, draws: int = 20_000) -> Assurance:
    """Probability that the test ends significant; with several new arms, that any of them does.

    Two arms have a closed form; more are drawn, the error rate shared out over the new arms.

    Examples
    --------
    >>> arms = Arms(means=(0.0, 0.0), covariance=((1.0, 0.0), (0.0, 1.0)), noise_sds=(1.0, 1.0), population=1000)
    >>> round(plan_assurance(arms, np.array([100.0, 100.0]), 0.05).ceiling, 3)
    0.5
    """
    means = np.array(arms.means)
    if means.size == 2:
        pair = arms.pair()
        return assurance(-pair.difference_mean, pair.difference_sd, error_sd(arms, sizes), alpha=alpha)
    rng = np.random.default_rng(draws)
    truth = rng.multivariate_normal(means, np.array(arms.covariance), draws, method="eigh")
    tested = sizes > 0
    tested[0] = False
    noise = np.array(arms.noise_sds)[tested] / np.sqrt(sizes[tested])
    base = arms.noise_sds[0] / np.sqrt(sizes[0]) if sizes[0] > 0 else np.inf
    seen = truth[:, tested] - truth[:, :1] + noise * rng.standard_normal((draws, int(tested.sum())))
    seen = seen - base * rng.standard_normal((draws, 1)) if np.isfinite(base) else np.zeros_like(seen)
    limit = float(ndtri(1.0 - alpha / (2.0 * (means.size - 1)))) * np.sqrt(noise**2 + base**2)
    positive = (seen > limit).any(axis=1)
    return Assurance(
        positive=float(positive.mean()),
        either=float((positive | (seen < -limit).any(axis=1)).mean()),
        ceiling=float((truth[:, 1:].max(axis=1) > truth[:, 0]).mean()),
    )


def information_value(arms: Arms, best: TestAndRoll, simulated: SimulatedValue | None) -> InformationValue:
    """What perfect and sample information are worth beside the test's net value.

    Examples
    --------
    >>> arms = Arms(means=(0.0, 0.0), covariance=((1.0, 0.0), (0.0, 1.0)), noise_sds=(1.0, 1.0), population=1000)
    >>> from bayes_pricing.experiments.many_arms import score_sizes
    >>> value = information_value(arms, score_sizes(arms, [10, 10]), None)
    >>> bool(value.net <= value.sample <= value.perfect)
    True
    """
    sizes, means, costs = np.array(best.n_per_arm), np.array(arms.means), arms.costs
    left = arms.population - float(sizes.sum())
    if means.size == 2 and not costs.any():
        pair = arms.pair()
        known = pair.difference_sd
        learnt = preposterior_covariance(arms, sizes)
        after = float(np.sqrt(max(learnt[0, 0] + learnt[1, 1] - 2.0 * learnt[0, 1], 0.0)))
        error = float(np.sqrt(max(known**4 / after**2 - known**2, 0.0))) if after > 0 else float("inf")
        perfect = arms.population * float(value_of_perfect_information(pair.difference_mean, known))
        sample = left * float(value_of_sample_information(pair.difference_mean, known, error)) if after > 0 else 0.0
    else:
        perfect = best.perfect_information_profit - best.no_test_profit
        sample = best.rollout_profit - float((left * means - costs).max())
    return InformationValue(perfect=perfect, sample=sample, net=best.profit - best.no_test_profit, simulated=simulated)


def risk_of_test(arms: Arms, sizes: Floats) -> TestRisk:
    r"""What running the test may cost against today's arm, whose units would have earned :math:`\mu_1` each.

    .. math:: D = \sum_j n_j (\theta_j - \theta_1) \sim N(m, v), \qquad ES = -m + \sqrt v \, \varphi(z) / 0.05

    Examples
    --------
    >>> arms = Arms(means=(1.0, 0.9), covariance=((0.1, 0.0), (0.0, 0.1)), noise_sds=(1.0, 1.0), population=1000)
    >>> round(risk_of_test(arms, np.array([50.0, 50.0])).expected_cost, 6)
    5.0
    """
    weights = sizes.copy()
    weights[0] -= sizes.sum()
    mean = float(sizes @ (np.array(arms.means) - arms.means[0]))
    sd = float(np.sqrt(max(weights @ np.array(arms.covariance) @ weights, 0.0)))
    density = float(np.exp(-0.5 * ndtri(TAIL) ** 2) / np.sqrt(2.0 * np.pi))
    worse = float(ndtr(-mean / sd)) if sd > 0 else float(mean < 0)
    return TestRisk(expected_cost=-mean, expected_shortfall=-mean + sd * density / TAIL, probability_of_loss=worse)


def error_sd(arms: Arms, sizes: Floats) -> float:
    """Standard error of the least certain tested arm's difference to control.

    Examples
    --------
    >>> arms = Arms(means=(1.0, 0.9), covariance=((0.1, 0.0), (0.0, 0.1)), noise_sds=(1.0, 1.0), population=1000)
    >>> error_sd(arms, np.array([50.0, 50.0]))
    0.2
    """
    variance = np.square(np.array(arms.noise_sds)) / np.maximum(sizes, 1e-300)
    tested = np.flatnonzero(sizes[1:] > 0) + 1
    return float(np.sqrt(variance[0] + variance[tested].max()))


def _pooled(arms: Arms) -> float:
    return float(np.sqrt(np.mean(np.square(arms.noise_sds))))
