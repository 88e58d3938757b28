"""What it is worth to know more before deciding: closed forms for two actions with a normal difference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.decision import PriceDecision

Floats = NDArray[np.float64]


def unit_normal_loss(distance: ArrayLike) -> Floats:
    r"""Expected loss of the standard normal beyond a point, :math:`L(u) = \varphi(u) - u (1 - \Phi(u))`.

    Examples
    --------
    >>> [round(float(unit_normal_loss(u)), 5) for u in (0.0, 0.5, 1.0)]
    [0.39894, 0.1978, 0.08332]
    """
    u = np.asarray(distance, dtype=np.float64)
    return np.asarray(np.exp(-0.5 * u * u) / np.sqrt(2.0 * np.pi) - u * ndtr(-u), dtype=np.float64)


def value_of_perfect_information(mean: ArrayLike, sd: ArrayLike) -> Floats:
    r"""Expected gain of learning a difference :math:`d \sim N(m, s^2)` exactly before choosing its sign.

    .. math:: EVPI = E[\max(d, 0)] - \max(m, 0) = s\, L(|m| / s)

    Parameters
    ----------
    mean, sd : array-like
        Difference of two actions, in money; ``sd`` zero or more.

    Returns
    -------
    array
        In the unit of the difference, zero or more.

    Examples
    --------
    >>> round(float(value_of_perfect_information(0.0, 10.0)), 4)
    3.9894
    """
    m, s = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(sd, dtype=np.float64))
    known = s <= 0
    safe = np.where(known, 1.0, s)
    return np.where(known, 0.0, safe * unit_normal_loss(np.abs(m) / safe))


def value_of_sample_information(mean: ArrayLike, sd: ArrayLike, error_sd: ArrayLike) -> Floats:
    r"""Expected gain of observing the difference with an error before choosing, never more than perfect information.

    .. math:: EVSI = s_{pre}\, L(|m| / s_{pre}), \qquad s_{pre}^2 = \frac{s^4}{s^2 + \tau^2}

    Parameters
    ----------
    mean, sd : array-like
        Prior of the difference, in money.
    error_sd : array-like
        Standard error :math:`\tau` of the test's estimate, in the same unit.

    Returns
    -------
    array

    References
    ----------
    Raiffa & Schlaifer (1961), "Applied Statistical Decision Theory", ch. 5.

    Examples
    --------
    >>> round(float(value_of_sample_information(0.0, 10.0, 10.0)), 4)
    2.8209
    """
    variance = np.square(np.asarray(sd, dtype=np.float64))
    total = variance + np.square(np.asarray(error_sd, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        preposterior = np.where(total > 0, variance / np.sqrt(total), 0.0)
    return value_of_perfect_information(mean, preposterior)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestingRule:
    """When an item is tested before its price is changed for good.

    A test alternates the new price with today's for an even number of periods and then keeps the better one for the
    rest of the horizon. It is preferred where that is expected to earn more than acting at once:

    (horizon - periods) x EVSI > periods / 2 x |expected change| + cost,

    the left side being what the test's answer is worth afterwards, the right side what half of its periods at the
    price that looks worse, and the trouble, cost.

    Attributes
    ----------
    cost : float
        Money one test costs beyond the sales it risks.
    largest_share : float in (0, 1]
        Longest test as a share of the horizon.

    Examples
    --------
    >>> TestingRule(cost=50.0).largest_share
    0.5
    """

    __test__ = False  # the name starts with Test; it is no test

    cost: float = 0.0
    largest_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.cost < float("inf"):
            raise SpecError(f"TestingRule.cost is {self.cost}; give money, zero or more.")
        if not 0 < self.largest_share <= 1:
            raise SpecError(f"TestingRule.largest_share is {self.largest_share}; give a share in (0, 1].")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TestWorth:
    """What the best test of some price changes is worth over the horizon, beside deciding now.

    Attributes
    ----------
    net : array (J,)
        Expected gain over deciding now, money over the horizon; minus infinity where no test fits the horizon.
    periods : array (J,)
        Length of that test.
    information : array (J,)
        EVSI per period of that test, money per period.
    """

    __test__ = False  # the name starts with Test; it is no test

    net: Floats
    periods: NDArray[np.int64]
    information: Floats


def worth_of_testing(
    mean: Floats, sd: Floats, noise_variance: Floats, horizon_periods: float, rule: TestingRule
) -> TestWorth:
    r"""Best length of an alternating test of a price change, and its worth against deciding now.

    .. math:: \max_T \; (H - T)\, EVSI(T) - \tfrac{T}{2} |m| - \text{cost}, \qquad \tau^2(T) = \frac{2 \omega^2}{T}

    Parameters
    ----------
    mean, sd : array (J,)
        Posterior of the change of money per period.
    noise_variance : array (J,)
        :math:`\omega^2`: sum of the variances of one period's money at the two prices.
    horizon_periods : float
        Periods H over which the better price is used.
    rule : TestingRule

    Returns
    -------
    TestWorth

    Examples
    --------
    >>> one = np.ones(1)
    >>> worth = worth_of_testing(0.5 * one, 10 * one, 4.0 * one, 26, TestingRule())
    >>> int(worth.periods[0]), round(float(worth.net[0]), 1)
    (2, 87.5)
    """
    longest = int(horizon_periods * rule.largest_share)
    net = np.full(mean.shape, -np.inf)
    periods = np.zeros(mean.shape, dtype=np.int64)
    information = np.zeros(mean.shape)
    length = 2
    while length <= longest:
        gain = value_of_sample_information(mean, sd, np.sqrt(2.0 * noise_variance / length))
        worth = (horizon_periods - length) * gain - 0.5 * length * np.abs(mean) - rule.cost
        better = worth > net
        net, periods = np.where(better, worth, net), np.where(better, length, periods)
        information = np.where(better, gain, information)
        length += 2 if length < 12 else length // 2 // 2 * 2
    return TestWorth(net=net, periods=periods, information=information)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCandidate:
    """An item and the test of it that is worth most.

    Attributes
    ----------
    item : str
    current_price, test_price : float
        Currency per unit.
    periods : int
        Length of the test, prices alternating.
    value : float
        Expected money over the horizon that the test adds to deciding now, its own cost deducted.
    action : str
        What the decision does with the item now.
    """

    __test__ = False  # the name starts with Test; it is no test

    item: str
    current_price: float
    test_price: float
    periods: int
    value: float
    action: str


def most_worth_testing(decision: PriceDecision, count: int = 20) -> tuple[TestCandidate, ...]:
    """Items whose price test is worth most, the best first; only tests that are worth their cost.

    Parameters
    ----------
    decision : PriceDecision
    count : int
        At most this many.

    Returns
    -------
    tuple of TestCandidate
    """
    candidates = [
        TestCandidate(
            item=item.item,
            current_price=item.current_price,
            test_price=item.test_price,
            periods=item.test_periods,
            value=item.value_of_testing,
            action=item.action,
        )
        for item in decision.items
        if item.test_price is not None and item.value_of_testing is not None and item.value_of_testing > 0
    ]
    return tuple(sorted(candidates, key=lambda candidate: (-candidate.value, candidate.item))[:count])
