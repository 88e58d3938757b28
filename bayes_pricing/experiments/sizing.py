"""How large a test of two arms should be: by the money it is expected to earn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import ndtr

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoArms:
    """What is believed of two arms before a test, per unit (a user, an item-week).

    Attributes
    ----------
    means, sds : (float, float)
        Normal prior of each arm's mean response, money per unit.
    correlation : float in [-1, 1]
        Between the two true means; two prices of one item move together.
    noise_sds : (float, float)
        Sd of a single unit's response around its arm's mean.
    population : float
        Units the decision is for, the tested ones included.
    switching_cost : float
        Money that rolling out the second arm costs once (labels, letters to customers), zero or more.

    Examples
    --------
    >>> arms = TwoArms(means=(0.68, 0.68), sds=(0.03, 0.03), noise_sds=(0.5, 0.5), population=1e5)
    >>> round(arms.difference_sd, 5)
    0.04243
    """

    means: tuple[float, float]
    sds: tuple[float, float]
    noise_sds: tuple[float, float]
    population: float
    correlation: float = 0.0
    switching_cost: float = 0.0

    def __post_init__(self) -> None:
        if not all(abs(mean) < np.inf for mean in self.means):
            raise SpecError("TwoArms.means must be finite, in money per unit.")
        if not all(0 <= sd < np.inf for sd in self.sds):
            raise SpecError("TwoArms.sds must be zero or more (an arm that is known) and finite.")
        if not all(0 < sd < np.inf for sd in self.noise_sds):
            raise SpecError("TwoArms.noise_sds must be positive and finite.")
        if not -1 <= self.correlation <= 1:
            raise SpecError(f"TwoArms.correlation is {self.correlation}; give a number in [-1, 1].")
        if not 2 <= self.population < np.inf:
            raise SpecError(f"TwoArms.population is {self.population}; give the number of units, at least 2.")
        if not 0 <= self.switching_cost < np.inf:
            raise SpecError(f"TwoArms.switching_cost is {self.switching_cost}; give money, zero or more.")

    @property
    def covariance(self) -> Floats:
        """Prior covariance of the two true means, array (2, 2)."""
        first, second = self.sds
        cross = self.correlation * first * second
        return np.array([[first**2, cross], [cross, second**2]])

    @property
    def difference_mean(self) -> float:
        """Prior mean of the first arm minus the second."""
        return self.means[0] - self.means[1]

    @property
    def difference_sd(self) -> float:
        """Prior sd of the first arm minus the second."""
        contrast = np.array([1.0, -1.0])
        return float(np.sqrt(max(contrast @ self.covariance @ contrast, 0.0)))

    @property
    def symmetric(self) -> bool:
        """Whether the closed form holds: equal, independent arms."""
        equal = self.means[0] == self.means[1] and self.sds[0] == self.sds[1] and self.noise_sds[0] == self.noise_sds[1]
        return equal and self.correlation == 0.0 and self.switching_cost == 0.0 and self.sds[0] > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TestAndRoll:
    """A profit-maximising test: `n_per_arm` units a group, then the better arm for everybody else.

    Attributes
    ----------
    n_per_arm : tuple of float
        Unrounded, in the order of the arms; zero where deciding now is expected to earn more.
    test_profit, rollout_profit : float
        Expected money during the test and after it.
    no_test_profit : float
        Expected money of giving everybody the arm with the better prior mean.
    perfect_information_profit : float
        Expected money if the better arm were known from the start.
    regret_fraction : float
        Share of the latter that is lost.
    error_probability : float
        Probability that the worse arm is rolled out.
    """

    __test__ = False  # the name starts with Test; it is no test

    n_per_arm: tuple[float, ...]
    test_profit: float
    rollout_profit: float
    no_test_profit: float
    perfect_information_profit: float
    regret_fraction: float
    error_probability: float

    @property
    def profit(self) -> float:
        """Expected money of test and roll-out together."""
        return self.test_profit + self.rollout_profit


def symmetric_size(prior_sd: float, noise_sd: float, population: float) -> float:
    r"""Profit-maximising units per group for two equal, independent arms.

    .. math:: n^* = \sqrt{\tfrac{N}{4} r + (\tfrac34 r)^2} - \tfrac34 r, \qquad r = (s / \sigma)^2

    Parameters
    ----------
    prior_sd, noise_sd : float
        :math:`\sigma` of an arm's true mean and s of a single response.
    population : float

    Returns
    -------
    float

    References
    ----------
    Feit & Berman (2019), "Test & Roll: profit-maximizing A/B tests", Marketing Science 38(6), eq. 10.

    Examples
    --------
    >>> round(symmetric_size(0.03, (0.68 * 0.32) ** 0.5, 1e5), 2)
    2283.89
    """
    ratio = (noise_sd / prior_sd) ** 2
    return float(np.sqrt(0.25 * population * ratio + (0.75 * ratio) ** 2) - 0.75 * ratio)


def preposterior_sd(arms: TwoArms, n_first: Floats | float, n_second: Floats | float) -> Floats:
    r"""Sd, before the test, of the posterior mean of the difference after it.

    .. math:: v^2 = c' \Sigma (\Sigma + S)^{-1} \Sigma c, \quad S = \mathrm{diag}(s_j^2 / n_j), \; c = (1, -1)'

    With independent arms this is Feit & Berman's :math:`\sum_j \sigma_j^4 / (\sigma_j^2 + s_j^2 / n_j)`.
    """
    first, second = np.asarray(n_first, dtype=np.float64), np.asarray(n_second, dtype=np.float64)
    covariance = arms.covariance
    left, right = covariance @ np.array([1.0, -1.0])
    with np.errstate(divide="ignore"):
        a = covariance[0, 0] + arms.noise_sds[0] ** 2 / first
        b = covariance[1, 1] + arms.noise_sds[1] ** 2 / second
    cross = covariance[0, 1]
    determinant = a * b - cross**2
    variance = (left**2 * b + right**2 * a - 2.0 * left * right * cross) / determinant
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)), dtype=np.float64)


def profit_maximizing_test(arms: TwoArms) -> TestAndRoll:
    r"""Profit-maximising test of two arms, in closed form where they are equal and numerically elsewhere.

    .. math:: \max_{n_1, n_2} \; \sum_j \mu_j n_j + (N - n_1 - n_2)
              \big( \mu_2 + e\,\Phi(e / v) + v\,\varphi(e / v) \big), \quad e = \mu_1 - \mu_2

    At least one unit goes to each arm. What rolling out the second arm costs once is shared out over the units that are
    left: its mean falls by that much there.

    Parameters
    ----------
    arms : TwoArms

    Returns
    -------
    TestAndRoll

    References
    ----------
    Feit & Berman (2019), "Test & Roll: profit-maximizing A/B tests", Marketing Science 38(6).

    Examples
    --------
    >>> sd = (0.68 * 0.32) ** 0.5
    >>> plan = profit_maximizing_test(TwoArms(means=(0.68, 0.68), sds=(0.03, 0.03), noise_sds=(sd, sd), population=1e5))
    >>> round(plan.profit, 1), round(plan.error_probability, 4)
    (69536.0, 0.1001)
    """
    if arms.symmetric:
        size = max(symmetric_size(arms.sds[0], arms.noise_sds[0], arms.population), 1.0)
        return score_test(arms, size, size)
    best = _best_sizes(arms)
    scored = score_test(arms, *best)
    return scored if scored.profit > scored.no_test_profit else score_test(arms, 0.0, 0.0)


def score_test(arms: TwoArms, n_first: float, n_second: float) -> TestAndRoll:
    """Expected money, regret and error of a test of given size; sizes of 0 decide at once.

    Parameters
    ----------
    arms : TwoArms
    n_first, n_second : float
        Units in each arm.

    Returns
    -------
    TestAndRoll
    """
    nothing = n_first <= 0 or n_second <= 0
    sd = 0.0 if nothing else float(preposterior_sd(arms, n_first, n_second))
    tested = 0.0 if nothing else n_first * arms.means[0] + n_second * arms.means[1]
    left = arms.population - (0.0 if nothing else n_first + n_second)
    rolled = left * _better_of_two(arms, sd, left)
    perfect = arms.population * _better_of_two(arms, arms.difference_sd, arms.population)
    return TestAndRoll(
        n_per_arm=(0.0, 0.0) if nothing else (float(n_first), float(n_second)),
        test_profit=float(tested),
        rollout_profit=float(rolled),
        no_test_profit=no_test_profit(arms),
        perfect_information_profit=float(perfect),
        regret_fraction=float(1.0 - (tested + rolled) / perfect) if perfect != 0 else float("nan"),
        error_probability=_error_probability(arms, sd, left),
    )


def no_test_profit(arms: TwoArms) -> float:
    """Expected money of deciding now: the better prior mean for everybody, a switch paid for.

    Examples
    --------
    >>> no_test_profit(TwoArms(means=(1.0, 1.1), sds=(1, 1), noise_sds=(1, 1), population=100, switching_cost=20.0))
    100.0
    """
    return float(max(arms.population * arms.means[0], arms.population * arms.means[1] - arms.switching_cost))


def _better_of_two(arms: TwoArms, sd: Floats | float, left: Floats | float) -> Floats:
    """Mean response over the units left when the better arm is taken, given the preposterior sd of the difference."""
    toll = arms.switching_cost / np.maximum(np.asarray(left, dtype=np.float64), 1.0)
    gap = arms.difference_mean + toll
    spread = np.asarray(sd, dtype=np.float64)
    score = np.clip(gap / np.maximum(spread, 1e-300), -40.0, 40.0)  # beyond 40 sds nothing changes any more
    density = np.exp(-0.5 * score**2) / np.sqrt(2.0 * np.pi)
    return np.asarray(arms.means[1] - toll + gap * ndtr(score) + spread * density, dtype=np.float64)


def _error_probability(arms: TwoArms, sd: float, units: float) -> float:
    """P(the arm taken is the worse one): the mean over posterior means of the chance that the sign is wrong."""
    left = np.sqrt(max(arms.difference_sd**2 - sd**2, 0.0))
    gap = arms.difference_mean + arms.switching_cost / max(units, 1.0)
    if sd == 0:
        return float(ndtr(-abs(gap) / left)) if left > 0 else 0.0
    if left == 0:
        return 0.0
    z = np.linspace(-9.0, 9.0, 20001)
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    return float(np.trapezoid(density * ndtr(-np.abs(gap + sd * z) / left), z))


def _best_sizes(arms: TwoArms) -> tuple[float, float]:
    half = np.log(0.5 * arms.population)

    def loss(logs: Floats) -> float:
        first, second = np.exp(logs)
        left = arms.population - first - second
        if left < 0 or logs.min() < 0:
            return np.inf
        profit = first * arms.means[0] + second * arms.means[1]
        return -float(profit + left * _better_of_two(arms, preposterior_sd(arms, first, second), left))

    grid = np.linspace(0.0, half, 41)
    first, second = np.meshgrid(np.exp(grid), np.exp(grid), indexing="ij")
    profit = first * arms.means[0] + second * arms.means[1]
    left = arms.population - first - second
    profit = profit + left * _better_of_two(arms, preposterior_sd(arms, first, second), left)
    row, column = np.unravel_index(int(np.argmax(profit)), profit.shape)
    start = np.array([grid[row], grid[column]])
    found = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": abs(loss(start)) * 1e-14})
    best = found.x if found.fun <= loss(start) else start
    return float(np.exp(best[0])), float(np.exp(best[1]))
