"""The best price of every course, known because expected demand is."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from simulations.markets.course_truth import ChoiceTruth

Floats = NDArray[np.float64]

_GRID = 65
_HALVINGS = 50


def expected_profit(truth: ChoiceTruth, prices: Floats) -> tuple[Floats, Floats]:
    r"""Expected weekly profit of each course when it alone changes its price, and its derivative in log price.

    .. math:: \Pi_j(p) = E_j(p)\,\bigl((1-\kappa) p - c_j\bigr), \qquad
              \frac{d \Pi_j}{d \log p} = E_j(p)\,\bigl((1-\kappa) p + \varepsilon_j(p) ((1-\kappa) p - c_j)\bigr)

    with :math:`\kappa` the commission (payouts and refunds), :math:`c_j` the unit cost and
    :math:`\varepsilon_j(p)` the own-price elasticity at that price, the other courses at today's prices.

    Parameters
    ----------
    truth : ChoiceTruth
    prices : array (item,)
        Currency, in the truth's item order; each is that item's own, the others stay at today's.

    Returns
    -------
    profit, derivative : array (item,)
        Currency per week; currency per week and unit of log price.

    Examples
    --------
    >>> from simulations.markets.courses import CourseMarketSettings, simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> truth = simulate_courses(settings, seed=1).truth
    >>> profit, derivative = expected_profit(truth, truth.current_price)
    >>> step = 1e-5
    >>> up, down = (expected_profit(truth, truth.current_price * np.exp(s))[0] for s in (step, -step))
    >>> bool(np.allclose((up - down) / (2 * step), derivative, rtol=1e-6, atol=1e-9))
    True
    """
    today = np.exp(truth.attraction)
    others = 1 + today.sum(axis=1, keepdims=True) - today
    own = np.exp(truth.attraction - truth.sensitivity * np.log(prices / truth.current_price))
    share = own / (others + own)
    demand = truth.segment_sizes[:, None] * share
    units = demand.sum(axis=0)
    slope = -(truth.sensitivity * (1 - share) * demand).sum(axis=0)
    kept = (1 - truth.commission) * prices
    margin = kept - truth.unit_cost
    return units * margin, units * kept + slope * margin


def optimal_prices(truth: ChoiceTruth, stretch: float) -> pl.DataFrame:
    r"""The price of each course that earns most, the others at today's prices.

    An optimum inside the range meets Lerner's condition
    :math:`\varepsilon_j(p) = -(1-\kappa)p / ((1-\kappa)p - c_j)`; a course whose demand is too inelastic for
    one has its optimum at the upper end.

    Parameters
    ----------
    truth : ChoiceTruth
    stretch : float, at least 1
        Prices searched: from the lowest posted price over this to the highest times this; 1 does not extrapolate.

    Returns
    -------
    pl.DataFrame
        `item`, `current_price`, `optimal_price`, `at` (``inside``, ``lowest``, ``highest``), `profit_today` and
        `profit_optimal` (expected, currency per week).

    Raises
    ------
    SpecError
        If `stretch` is below 1.

    References
    ----------
    Lerner (1934), "The concept of monopoly and the measurement of monopoly power", Rev. Economic Studies 1(3).

    Examples
    --------
    >>> from simulations.markets.courses import CourseMarketSettings, simulate_courses
    >>> settings = CourseMarketSettings(courses=40, learners=1_000, expected_enrollments=2_000)
    >>> best = optimal_prices(simulate_courses(settings, seed=1).truth, stretch=1.0)
    >>> bool((best["profit_optimal"] >= best["profit_today"]).all())
    True
    """
    if not 1 <= stretch < float("inf"):
        raise SpecError(f"stretch is {stretch}; 1 keeps to the posted prices, 2 looks from half to twice of them.")
    lowest, highest = np.log(truth.lowest_price / stretch), np.log(truth.highest_price * stretch)
    place = np.linspace(0, 1, _GRID)
    grid = lowest + place[:, None] * (highest - lowest)
    best = np.argmax([expected_profit(truth, np.exp(row))[0] for row in grid], axis=0)
    item = np.arange(best.size)
    left, right = grid[np.maximum(best - 1, 0), item], grid[np.minimum(best + 1, _GRID - 1), item]
    # A rising profit at the top of the range, or a falling one at its foot, leaves the optimum at that end.
    left = np.where(expected_profit(truth, np.exp(right))[1] >= 0, right, left)
    right = np.where(expected_profit(truth, np.exp(left))[1] <= 0, left, right)
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        rising = expected_profit(truth, np.exp(middle))[1] > 0
        left, right = np.where(rising, middle, left), np.where(rising, right, middle)
    found = (left + right) / 2
    at = np.select([found >= highest - 1e-12, found <= lowest + 1e-12], ["highest", "lowest"], "inside")
    return pl.DataFrame(
        {
            "item": truth.items,
            "current_price": truth.current_price,
            "optimal_price": np.exp(found),
            "at": at,
            "profit_today": expected_profit(truth, truth.current_price)[0],
            "profit_optimal": expected_profit(truth, np.exp(found))[0],
        }
    )
