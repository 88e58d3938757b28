"""Tests of several prices at once: joint beliefs, costs of switching, sizes by the money a test is expected to earn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import qmc

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.sizing import TestAndRoll, TwoArms, profit_maximizing_test, score_test

Floats = NDArray[np.float64]

QUASI_DRAWS = 4096
"""Points of the scrambled Sobol sequence; the same for every size, so that sizes are compared on the same draws."""
SOBOL_SEED = 7
"""Scrambling of the sequence: it makes answers repeatable and is no source of randomness in them."""
GRID_SIZES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """What is believed of any number of arms before a test, per unit (a user, an item-week); today's arm first.

    Attributes
    ----------
    means : tuple of float
        Prior mean of each arm's mean response, money per unit.
    covariance : tuple of tuple of float
        Prior covariance of the true means: prices of one item share what is uncertain about its volume.
    noise_sds : tuple of float
        Sd of a single unit's response around its arm's mean.
    population : float
        Units the decision is for, the tested ones included.
    switching_costs : tuple of float
        Money that rolling an arm out costs once; 0 for all where left out.

    Examples
    --------
    >>> arms = Arms(means=(1.0, 1.0), covariance=((0.04, 0.0), (0.0, 0.04)), noise_sds=(1.0, 1.0), population=1e4)
    >>> arms.pair().difference_sd.__round__(4)
    0.2828
    """

    means: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise_sds: tuple[float, ...]
    population: float
    switching_costs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.means)
        matrix = np.array(self.covariance, dtype=np.float64)
        if count < 2 or matrix.shape != (count, count) or len(self.noise_sds) != count:
            raise SpecError(
                f"Arms.means has {count} entries; give at least two, as many noise sds, and their covariance."
            )
        if not (np.isfinite(self.means).all() and np.isfinite(matrix).all()):
            raise SpecError("Arms.means and Arms.covariance must be finite, in money per unit.")
        if not (np.allclose(matrix, matrix.T) and np.linalg.eigvalsh(matrix).min() >= -1e-9 * np.trace(matrix)):
            raise SpecError("Arms.covariance must be symmetric and without negative variances.")
        if not all(0 < sd < np.inf for sd in self.noise_sds):
            raise SpecError("Arms.noise_sds must be positive and finite.")
        if not 2 <= self.population < np.inf:
            raise SpecError(f"Arms.population is {self.population}; give the number of units, at least 2.")
        if self.switching_costs and len(self.switching_costs) != count:
            raise SpecError(f"Arms.switching_costs has {len(self.switching_costs)} entries for {count} arms.")
        if not all(0 <= cost < np.inf for cost in self.switching_costs):
            raise SpecError("Arms.switching_costs must be money, zero or more.")

    @property
    def costs(self) -> Floats:
        """Switching costs, zeros where none were given."""
        return np.array(self.switching_costs or (0.0,) * len(self.means))

    @property
    def difference_sds(self) -> tuple[float, ...]:
        """Prior sd of each arm minus the first; 0 for the first itself."""
        matrix = np.array(self.covariance)
        variance = np.diag(matrix) + matrix[0, 0] - 2.0 * matrix[0]
        return tuple(float(sd) for sd in np.sqrt(np.maximum(variance, 0.0)))

    def pair(self, second: int = 1) -> TwoArms:
        """Today's arm and one other, for what is known of two arms in closed form."""
        matrix, costs = np.array(self.covariance), self.costs
        sds = np.sqrt(np.diag(matrix))[[0, second]]
        cross = float(matrix[0, second] / (sds[0] * sds[1])) if sds.all() else 0.0
        return TwoArms(
            means=(self.means[0], self.means[second]),
            sds=(float(sds[0]), float(sds[1])),
            noise_sds=(self.noise_sds[0], self.noise_sds[second]),
            correlation=float(np.clip(cross, -1.0, 1.0)),
            population=self.population,
            switching_cost=float(max(costs[second] - costs[0], 0.0)),
        )


def arms_from_pair(arms: TwoArms) -> Arms:
    """Two arms in the form of many.

    Examples
    --------
    >>> arms_from_pair(TwoArms(means=(1.0, 1.1), sds=(0.1, 0.1), noise_sds=(1, 1), population=100)).means
    (1.0, 1.1)
    """
    matrix = arms.covariance
    return Arms(
        means=arms.means,
        covariance=tuple(tuple(float(value) for value in row) for row in matrix),
        noise_sds=arms.noise_sds,
        population=arms.population,
        switching_costs=(0.0, arms.switching_cost),
    )


def preposterior_covariance(arms: Arms, sizes: ArrayLike) -> Floats:
    r"""Covariance, before the test, of the posterior means after it; arms of size 0 learn from the others.

    .. math:: V = \Sigma_{\cdot B} (\Sigma_{BB} + S_B)^{-1} \Sigma_{B \cdot}, \quad S = \mathrm{diag}(s_j^2 / n_j)

    with B the arms that are tested.

    Examples
    --------
    >>> arms = Arms(means=(0.0, 0.0), covariance=((1.0, 0.5), (0.5, 1.0)), noise_sds=(1.0, 1.0), population=100)
    >>> preposterior_covariance(arms, [0.0, 1.0]).round(3).tolist()
    [[0.125, 0.25], [0.25, 0.5]]
    """
    n = np.asarray(sizes, dtype=np.float64)
    matrix, tested = np.array(arms.covariance), n > 0
    if not tested.any():
        return np.zeros_like(matrix)
    noise = np.diag(np.square(np.array(arms.noise_sds)[tested]) / n[tested])
    columns = matrix[:, tested]
    return np.asarray(columns @ np.linalg.solve(matrix[np.ix_(tested, tested)] + noise, columns.T), dtype=np.float64)


def score_sizes(arms: Arms, sizes: ArrayLike) -> TestAndRoll:
    """Expected money, regret and error of a test with given units per arm; no units at all decides now.

    Two arms have closed forms; more are averaged over quasi-random draws of the truth and of what the test will say.

    Examples
    --------
    >>> prior = ((0.04, 0.02, 0.02), (0.02, 0.04, 0.02), (0.02, 0.02, 0.04))
    >>> arms = Arms(means=(1.0, 1.0, 1.0), covariance=prior, noise_sds=(1.0, 1.0, 1.0), population=10_000)
    >>> score_sizes(arms, [200, 200, 200]).profit > score_sizes(arms, [0, 0, 0]).profit
    True
    """
    n = np.asarray(sizes, dtype=np.float64)
    if len(arms.means) == 2 and arms.costs[0] == 0:
        return score_test(arms.pair(), float(n[0]), float(n[1]))
    means, costs, left = np.array(arms.means), arms.costs, arms.population - float(n.sum())
    normals = _normals(2 * len(means))
    learnt = preposterior_covariance(arms, n)
    believed = means + normals[:, : len(means)] @ _root(learnt)
    truth = believed + normals[:, len(means) :] @ _root(np.array(arms.covariance) - learnt)
    chosen = (left * believed - costs).argmax(axis=1)
    rows = np.arange(len(chosen))
    now = float((arms.population * means - costs).max())
    rolled = float((left * believed - costs)[rows, chosen].mean()) if n.any() else now
    perfect = max(float((arms.population * truth - costs).max(axis=1).mean()), now)
    tested = float(n @ means)
    return TestAndRoll(
        n_per_arm=tuple(float(size) for size in n),
        test_profit=tested,
        rollout_profit=rolled,
        no_test_profit=now,
        perfect_information_profit=perfect,
        regret_fraction=1.0 - (tested + rolled) / perfect if perfect != 0 else float("nan"),
        error_probability=float(np.mean(chosen != (left * truth - costs).argmax(axis=1))),
    )


def best_sizes(arms: Arms) -> TestAndRoll:
    r"""Units per arm of the test that is expected to earn most; zeros where deciding now earns more.

    .. math:: \max_n \; \sum_j n_j \mu_j + E \max_j \big( (N - \textstyle\sum n) \, m'_j - c_j \big)

    with :math:`m'` the posterior means after the test and :math:`c` the costs of switching. Arms that are not worth
    testing get no units; what the others say of them still counts. Today's arm is always in the test.

    Parameters
    ----------
    arms : Arms

    Returns
    -------
    TestAndRoll

    References
    ----------
    Feit & Berman (2019), "Test & Roll: profit-maximizing A/B tests", Marketing Science 38(6).

    Examples
    --------
    >>> prior = ((0.04, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, 0.04))
    >>> arms = Arms(means=(1.0, 1.0, 0.2), covariance=prior, noise_sds=(1.0, 1.0, 1.0), population=10_000)
    >>> first, second, hopeless = best_sizes(arms).n_per_arm  # four sds behind: no unit is wasted on it
    >>> bool(hopeless == 0 and abs(first / second - 1) < 0.05)
    True
    """
    if len(arms.means) == 2 and arms.costs[0] == 0:
        return profit_maximizing_test(arms.pair())
    tested = np.ones(len(arms.means), dtype=np.bool_)
    best = _best_among(arms, tested)
    while tested.sum() > 2:
        fewer = []
        for arm in np.flatnonzero(tested[1:]) + 1:
            without = tested.copy()
            without[arm] = False
            fewer.append((without, _best_among(arms, without)))
        without, scored = max(fewer, key=lambda pair: pair[1].profit)
        if not scored.profit >= best.profit:
            break
        tested, best = without, scored
    return best if best.profit > best.no_test_profit else score_sizes(arms, np.zeros(len(arms.means)))


def best_equal_size(arms: Arms) -> TestAndRoll:
    """Best of a grid of tests with as many units in every arm: a quick look, for choosing which arms to test.

    Examples
    --------
    >>> prior = ((0.04, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, 0.04))
    >>> arms = Arms(means=(1.0, 1.0, 1.0), covariance=prior, noise_sds=(1.0, 1.0, 1.0), population=10_000)
    >>> best_equal_size(arms).profit <= 1.0001 * best_sizes(arms).profit
    True
    """
    count = len(arms.means)
    normals = _normals(2 * count)[:, :count]
    grid = np.geomspace(1.0, arms.population / (1.2 * count), GRID_SIZES)
    best = max((np.full(count, size) for size in grid), key=lambda sizes: _expected_profit(arms, normals, sizes))
    return score_sizes(arms, best)


def _best_among(arms: Arms, tested: NDArray[np.bool_]) -> TestAndRoll:
    """Best sizes where only some arms are tested."""

    def sizes(logs: Floats) -> Floats:
        full = np.zeros(tested.size)
        full[tested] = np.exp(np.clip(logs, 0.0, np.log(arms.population)))
        return full

    normals = _normals(2 * tested.size)[:, : tested.size]
    count = int(tested.sum())
    grid = np.linspace(0.0, np.log(arms.population / (1.2 * count)), GRID_SIZES)
    start = max((np.full(count, at) for at in grid), key=lambda logs: _expected_profit(arms, normals, sizes(logs)))
    scale = max(abs(_expected_profit(arms, normals, sizes(start))), 1e-300)

    def loss(logs: Floats) -> float:
        return -_expected_profit(arms, normals, sizes(logs)) / scale

    found = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-10, "maxfev": 250 * count})
    return score_sizes(arms, sizes(found.x))


def _expected_profit(arms: Arms, normals: Floats, sizes: Floats) -> float:
    """Expected money of a test, given standard normals (draw, arm); minus infinity where units run out."""
    left = arms.population - float(sizes.sum())
    if left < 0:
        return -np.inf
    means = np.array(arms.means)
    believed = means + normals @ _root(preposterior_covariance(arms, sizes))
    return float(sizes @ means + (left * believed - arms.costs).max(axis=1).mean())


def _normals(dims: int) -> Floats:
    """Quasi-random standard normals (draw, dim), each with its mirror image, so that their mean is exactly 0."""
    points = qmc.Sobol(dims, scramble=True, rng=np.random.default_rng(SOBOL_SEED)).random(QUASI_DRAWS // 2)
    half = ndtri(np.clip(points, 1e-12, 1.0 - 1e-12))
    return np.concatenate([half, -half])


def _root(matrix: Floats) -> Floats:
    """Symmetric square root: it moves smoothly with the matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedValue:
    """What a test is worth by simulation, where beliefs are no normal distribution.

    Attributes
    ----------
    net : float
        Expected money over deciding now, the test's own cost deducted.
    standard_error : float
        Of the simulation.
    draws : int
    """

    net: float
    standard_error: float
    draws: int


def simulate_test_value(draws: ArrayLike, arms: Arms, sizes: ArrayLike, rng: np.random.Generator) -> SimulatedValue:
    r"""Value of a test under any joint beliefs, given as draws: no normal distribution, no closed form.

    For every draw :math:`\theta_s` a test is played, :math:`\bar y_s \sim N(\theta_s, s^2 / n)`; what would be
    believed after it are the *other* draws, reweighted by how well they foretold it,

    .. math:: m'_s = \sum_{r \ne s} w_{rs} \theta_r, \qquad w_{rs} \propto p(\bar y_s \mid \theta_r),

    and the arm that looks best then earns its true :math:`\theta_s`. As the draw itself is left out, the value is
    never flattered; with few draws it is a little low.

    Parameters
    ----------
    draws : array-like (draw, arm)
        Joint posterior draws of the arms' mean responses, money per unit.
    arms : Arms
        Noise, population and switching costs; its means and covariance are not used.
    sizes : array-like (arm,)
        Units per arm, zero for arms that are not tested.
    rng : Generator

    Returns
    -------
    SimulatedValue

    References
    ----------
    Strong, Oakley, Brennan & Breeze (2015), "Estimating the expected value of sample information using the
    probabilistic sensitivity analysis sample", Medical Decision Making 35(5), for the aim; the weights here are exact.

    Examples
    --------
    >>> arms = Arms(means=(1.0, 1.0), covariance=((0.04, 0.0), (0.0, 0.04)), noise_sds=(1.0, 1.0), population=1e4)
    >>> rng = np.random.default_rng(1)
    >>> value = simulate_test_value(rng.normal(1.0, 0.2, (1_000, 2)), arms, [150, 150], rng)
    >>> exact = score_sizes(arms, [150, 150])
    >>> abs(value.net - (exact.profit - exact.no_test_profit)) < 3 * value.standard_error
    True
    """
    theta, n = np.asarray(draws, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if theta.ndim != 2 or theta.shape[1] != n.size or theta.shape[0] < 2:
        raise SpecError(f"Draws have shape {theta.shape} for {n.size} arms; give (draw, arm) with at least two draws.")
    tested = n > 0
    error = np.array(arms.noise_sds)[tested] / np.sqrt(n[tested])
    seen = theta[:, tested] + error * rng.standard_normal((theta.shape[0], int(tested.sum())))
    distance = (((seen[:, None, :] - theta[None, :, tested]) / error) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    weights = np.exp(-0.5 * (distance - distance.min(axis=1, keepdims=True)))
    believed = (weights / weights.sum(axis=1, keepdims=True)) @ theta
    left, costs, rows = arms.population - float(n.sum()), arms.costs, np.arange(len(theta))
    chosen = (left * believed - costs).argmax(axis=1)
    now = int((arms.population * theta.mean(axis=0) - costs).argmax())
    after = (left * theta - costs)[rows, chosen] + theta @ n
    gain = after - (arms.population * theta[:, now] - costs[now])
    return SimulatedValue(
        net=float(gain.mean()), standard_error=float(gain.std(ddof=1) / np.sqrt(len(gain))), draws=len(theta)
    )
