"""Learning while earning, in simulation: Thompson sampling against a fixed test, on the same worlds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.many_arms import Arms

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolicyPlay:
    """What a policy chose in many worlds.

    Attributes
    ----------
    policy : str
    choices : array (world, unit)
        Arm of each unit.
    regret : array (world, unit)
        Expected money lost so far against the best arm of that world, zero or more and never falling.
    """

    policy: str
    choices: Ints
    regret: Floats

    def mean_regret(self) -> Floats:
        """Mean over worlds of the regret so far, array (unit,)."""
        return np.asarray(self.regret.mean(axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Beliefs:
    """Joint normal beliefs by world: mean (world, arm) and covariance (world, arm, arm), changed in place."""

    mean: Floats
    covariance: Floats

    def learn(self, arm: Ints, seen: Floats, noise_variance: Floats) -> None:
        """One response of one arm in every world, by the rank-one update of a normal distribution."""
        worlds = np.arange(len(arm))
        column = self.covariance[worlds, :, arm]
        gain = column / (column[worlds, arm] + noise_variance[arm])[:, None]
        self.mean[...] += gain * (seen - self.mean[worlds, arm])[:, None]
        self.covariance[...] -= gain[:, :, None] * column[:, None, :]


def play_thompson(arms: Arms, truth: Floats, rng: np.random.Generator) -> PolicyPlay:
    """Thompson sampling: every unit gets the arm that is best in one draw from what is believed by then.

    Parameters
    ----------
    arms : Arms
        Beliefs before the first unit; its population is the number of units, its switching costs are not counted.
    truth : array (world, arm)
        True mean response of each arm in each world, money per unit.
    rng : Generator

    References
    ----------
    Thompson (1933), Biometrika 25; Russo, Van Roy, Kazerouni, Osband & Wen (2018), "A tutorial on Thompson sampling".

    Examples
    --------
    >>> arms = Arms(means=(1.0, 1.0), covariance=((0.25, 0.0), (0.0, 0.25)), noise_sds=(1.0, 1.0), population=200)
    >>> rng = np.random.default_rng(1)
    >>> played = play_thompson(arms, rng.normal(1.0, 0.5, (100, 2)), rng)
    >>> half = played.mean_regret()[[99, 199]]
    >>> bool(half[1] - half[0] < 0.5 * half[0])  # it learns: the second half costs much less than the first
    True
    """
    beliefs, noise = _start(arms, truth), np.square(np.array(arms.noise_sds))
    worlds, units = np.arange(len(truth)), int(arms.population)
    choices = np.empty((len(truth), units), dtype=np.int64)
    for unit in range(units):
        root = _roots(beliefs.covariance)
        drawn = beliefs.mean + (root @ rng.standard_normal((*beliefs.mean.shape, 1)))[:, :, 0]
        choices[:, unit] = arm = drawn.argmax(axis=1)
        beliefs.learn(arm, truth[worlds, arm] + np.sqrt(noise[arm]) * rng.standard_normal(len(arm)), noise)
    return _played("Thompson sampling", choices, truth)


def play_test_and_roll(arms: Arms, truth: Floats, sizes: Floats, rng: np.random.Generator) -> PolicyPlay:
    """A fixed test, the arms' units interleaved, and then the arm with the best posterior mean for everybody else.

    Parameters
    ----------
    arms : Arms
    truth : array (world, arm)
    sizes : array (arm,)
        Units per arm, rounded up; zeros decide at once by the prior means.
    rng : Generator

    Examples
    --------
    >>> arms = Arms(means=(1.0, 1.0), covariance=((0.25, 0.0), (0.0, 0.25)), noise_sds=(1.0, 1.0), population=200)
    >>> rng = np.random.default_rng(1)
    >>> played = play_test_and_roll(arms, rng.normal(1.0, 0.5, (100, 2)), np.array([10.0, 10.0]), rng)
    >>> bool((played.choices[:, 20:] == played.choices[:, 20:21]).all())
    True
    """
    beliefs, noise = _start(arms, truth), np.square(np.array(arms.noise_sds))
    worlds, units = np.arange(len(truth)), int(arms.population)
    counts = np.ceil(sizes).astype(np.int64)
    if counts.sum() > units:
        raise SpecError(f"A test of {counts.sum()} units does not fit a population of {units}.")
    order = np.concatenate([np.linspace(0, 1, count, endpoint=False) + 0.5 / max(count, 1) for count in counts])
    tested = np.repeat(np.arange(len(counts)), counts)[np.argsort(order, kind="stable")]
    choices = np.empty((len(truth), units), dtype=np.int64)
    for unit, arm in enumerate(tested.tolist()):
        chosen = np.full(len(truth), arm)
        choices[:, unit] = chosen
        beliefs.learn(chosen, truth[worlds, chosen] + np.sqrt(noise[arm]) * rng.standard_normal(len(truth)), noise)
    choices[:, tested.size :] = beliefs.mean.argmax(axis=1)[:, None]
    return _played("test and roll", choices, truth)


def _start(arms: Arms, truth: Floats) -> _Beliefs:
    if truth.ndim != 2 or truth.shape[1] != len(arms.means):
        raise SpecError(f"The truth has shape {truth.shape} for {len(arms.means)} arms; give (world, arm).")
    return _Beliefs(
        mean=np.tile(np.array(arms.means, dtype=np.float64), (len(truth), 1)),
        covariance=np.tile(np.array(arms.covariance, dtype=np.float64), (len(truth), 1, 1)),
    )


def _roots(covariance: Floats) -> Floats:
    """Symmetric square roots by world."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]) @ np.swapaxes(vectors, 1, 2))


def _played(policy: str, choices: Ints, truth: Floats) -> PolicyPlay:
    lost = truth.max(axis=1, keepdims=True) - np.take_along_axis(truth, choices, axis=1)
    return PolicyPlay(policy=policy, choices=choices, regret=np.cumsum(lost, axis=1))
