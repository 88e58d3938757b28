"""Scores of predicted units, the same for a point, for predictive draws and for a posterior's draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from bayes_pricing.baselines.protocol import Floats
from bayes_pricing.errors import SpecError


def rmse_log_units(actual: ArrayLike, predicted: ArrayLike) -> float:
    r"""Root mean squared error of log units: 0.1 is a typical miss of about ten per cent. Lower is better.

    .. math:: \sqrt{\tfrac1n \sum_j (\log q_j - \log \hat q_j)^2}

    Draws are first averaged on the log scale, which is the point this score asks for.

    Parameters
    ----------
    actual : array (n_rows,)
        Units sold, per period.
    predicted : array (n_rows,) or (n_draws, n_rows)
        Units, positive.

    Returns
    -------
    float
        In log units, at least 0; NaN where some row or draw is zero, as its logarithm does not exist.

    Examples
    --------
    >>> round(rmse_log_units([100.0, 100.0], [110.0, 90.0]), 3)
    0.1
    """
    sold, guess = _rows(actual, predicted)
    if not ((sold > 0).all() and (guess > 0).all()):
        return float("nan")
    return float(np.sqrt(np.mean((np.log(sold) - np.log(guess).mean(axis=0)) ** 2)))


def wape(actual: ArrayLike, predicted: ArrayLike) -> float:
    r"""Weighted absolute percentage error: the units missed as a share of the units sold. Lower is better.

    .. math:: \frac{\sum_j |q_j - \hat q_j|}{\sum_j q_j}

    Draws are first averaged: the point is expected units, as in every decision.

    Parameters
    ----------
    actual : array (n_rows,)
        Units sold, per period.
    predicted : array (n_rows,) or (n_draws, n_rows)
        Units.

    Returns
    -------
    float
        A share, at least 0; NaN where nothing was sold at all.

    Examples
    --------
    >>> wape([8.0, 2.0], [7.0, 4.0])
    0.3
    """
    sold, guess = _rows(actual, predicted)
    total = float(sold.sum())
    return float(np.abs(sold - guess.mean(axis=0)).sum()) / total if total > 0 else float("nan")


def poisson_deviance(actual: ArrayLike, predicted: ArrayLike) -> float:
    r"""Mean Poisson deviance: the fair score of expected counts when many are zero. Lower is better.

    .. math:: \tfrac2n \sum_j \Bigl(q_j \log\frac{q_j}{\hat q_j} - q_j + \hat q_j\Bigr)

    Draws are first averaged: the point is expected units.

    Parameters
    ----------
    actual : array (n_rows,)
        Units sold, per period.
    predicted : array (n_rows,) or (n_draws, n_rows)
        Units.

    Returns
    -------
    float
        No unit, at least 0; infinite where units were sold that were held to be impossible.

    Examples
    --------
    >>> poisson_deviance([3.0, 0.0], [3.0, 1.0])
    1.0
    """
    sold, guess = _rows(actual, predicted)
    expected = guess.mean(axis=0)
    if (expected[sold > 0] == 0).any():
        return float("inf")
    ratio = np.divide(sold, expected, out=np.ones_like(sold), where=sold > 0)
    return float(2 * np.mean(sold * np.log(ratio) - sold + expected))


def r_squared(actual: ArrayLike, predicted: ArrayLike) -> float:
    r"""Share of the variance of units that expected units account for. Higher is better.

    .. math:: 1 - \frac{\sum_j (q_j - \hat q_j)^2}{\sum_j (q_j - \bar q)^2}

    Parameters
    ----------
    actual : array (n_rows,)
        Units sold, per period.
    predicted : array (n_rows,) or (n_draws, n_rows)
        Units; draws are first averaged.

    Returns
    -------
    float
        At most 1; negative where the mean of all rows would have been better; NaN where units never vary.

    Examples
    --------
    >>> r_squared([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    sold, guess = _rows(actual, predicted)
    spread = float(((sold - sold.mean()) ** 2).sum())
    return 1 - float(((sold - guess.mean(axis=0)) ** 2).sum()) / spread if spread > 0 else float("nan")


def crps(actual: ArrayLike, predicted: ArrayLike) -> float:
    r"""Mean continuous ranked probability score: absolute error for distributions. Lower is better.

    .. math:: \tfrac1n \sum_j \Bigl( E|X_j - q_j| - \tfrac12 E|X_j - X_j'| \Bigr)

    with :math:`X_j, X_j'` independent draws of the predictive distribution of row `j`; the expectations are over the
    draws given, so a point forecast (one draw) scores its absolute error.

    Parameters
    ----------
    actual : array (n_rows,)
        Units sold, per period.
    predicted : array (n_rows,) or (n_draws, n_rows)
        Draws of units, sales noise included.

    Returns
    -------
    float
        In units, at least 0.

    References
    ----------
    Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).

    Examples
    --------
    >>> crps([3.0], [5.0]), crps([3.0], [[2.0], [4.0]])
    (2.0, 0.5)
    """
    sold, draws = _rows(actual, predicted)
    ordered = np.sort(draws, axis=0)
    n = ordered.shape[0]
    rank = 2 * np.arange(1, n + 1) - n - 1
    half_spread = np.einsum("d,dr->r", rank, ordered) / n**2
    return float(np.mean(np.abs(draws - sold).mean(axis=0) - half_spread))


def crps_normal(actual: ArrayLike, mean: ArrayLike, sd: ArrayLike) -> float:
    r"""Mean continuous ranked probability score of normal predictive distributions. Lower is better.

    .. math:: \tfrac1n \sum_j s_j \bigl( z_j (2\Phi(z_j) - 1) + 2\varphi(z_j) - \pi^{-1/2} \bigr), \quad
              z_j = \frac{q_j - m_j}{s_j}

    Parameters
    ----------
    actual, mean, sd : arrays (n_rows,)
        In one unit (units, or log units); `sd` may be 0, which scores the absolute error.

    Returns
    -------
    float
        In the unit of `actual`, at least 0.

    Raises
    ------
    SpecError
        If some `sd` is negative or not a number.

    References
    ----------
    Gneiting & Raftery (2007), "Strictly proper scoring rules, prediction, and estimation", JASA 102(477).

    Examples
    --------
    >>> round(crps_normal([0.0], [0.0], [1.0]), 4), crps_normal([3.0], [1.0], [0.0])
    (0.2337, 2.0)
    """
    sold, centre, scale = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (actual, mean, sd)))
    if not (scale >= 0).all():
        raise SpecError("crps_normal got a negative or missing sd; give standard deviations of at least 0.")
    miss = sold - centre
    z = np.divide(miss, scale, out=np.zeros_like(miss), where=scale > 0)
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    spread = scale * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))
    return float(np.mean(np.where(scale > 0, spread, np.abs(miss))))


def crps_quantiles(actual: ArrayLike, quantiles: ArrayLike, levels: ArrayLike) -> float:
    r"""Continuous ranked probability score from a few quantiles: twice their mean pinball loss. Lower is better.

    .. math:: \frac{2}{nK} \sum_{j,k} \bigl(\mathbf 1[q_j < x_{jk}] - \tau_k\bigr)(x_{jk} - q_j)

    It tends to the full score as evenly spaced levels :math:`\tau_k` grow dense.

    Parameters
    ----------
    actual : array (n_rows,)
        Units sold, per period.
    quantiles : array (n_levels, n_rows)
        Predictive quantiles in units.
    levels : array (n_levels,)
        Their levels, in (0, 1).

    Returns
    -------
    float
        In units, at least 0.

    Raises
    ------
    SpecError
        If a level lies outside (0, 1) or the shapes do not fit.

    Examples
    --------
    >>> crps_quantiles([3.0], [[5.0]], [0.5])
    2.0
    """
    sold, curve = _rows(actual, quantiles)
    tau = np.asarray(levels, dtype=np.float64)
    if tau.shape != (curve.shape[0],) or not ((tau > 0) & (tau < 1)).all():
        raise SpecError(f"Quantile levels are {tau}; give one level in (0, 1) for each of {curve.shape[0]} quantiles.")
    return float(2 * np.mean(((sold < curve) - tau[:, None]) * (curve - sold)))


def predictive_interval(draws: ArrayLike, probability: float) -> tuple[Floats, Floats]:
    """Equal-tailed interval of each row's draws.

    Parameters
    ----------
    draws : array (n_draws, n_rows)
        Predictive draws of units.
    probability : float in (0, 1)

    Returns
    -------
    lower, upper : arrays (n_rows,)
        In units.

    Raises
    ------
    SpecError
        If `probability` lies outside (0, 1).

    Examples
    --------
    >>> lower, upper = predictive_interval(np.arange(101.0)[:, None], 0.8)
    >>> round(float(lower[0]), 6), round(float(upper[0]), 6)
    (10.0, 90.0)
    """
    if not 0 < probability < 1:
        raise SpecError(f"The probability of an interval is {probability}; it must lie between 0 and 1.")
    tail = (1 - probability) / 2
    lower, upper = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail], axis=0)
    return lower, upper


def interval_coverage(actual: ArrayLike, lower: ArrayLike, upper: ArrayLike) -> float:
    r"""Share of rows inside their interval: best near the interval's nominal probability.

    .. math:: \tfrac1n \sum_j \mathbf 1[l_j \le q_j \le u_j]

    Small counts make intervals cover more than they say, as no interval ends between two whole numbers.

    Parameters
    ----------
    actual, lower, upper : arrays (n_rows,)
        In one unit.

    Returns
    -------
    float
        A share in [0, 1].

    Examples
    --------
    >>> interval_coverage([1.0, 5.0], [0.0, 0.0], [2.0, 2.0])
    0.5
    """
    value = np.asarray(actual, dtype=np.float64)
    return float(np.mean((np.asarray(lower) <= value) & (value <= np.asarray(upper))))


def interval_width(lower: ArrayLike, upper: ArrayLike) -> float:
    """Mean width of intervals, in their unit: narrower is better among those that cover.

    Parameters
    ----------
    lower, upper : arrays (n_rows,)

    Returns
    -------
    float
        At least 0.

    Examples
    --------
    >>> interval_width([0.0, 1.0], [2.0, 5.0])
    3.0
    """
    return float(np.mean(np.asarray(upper, dtype=np.float64) - np.asarray(lower, dtype=np.float64)))


def directional_accuracy(actual_change: ArrayLike, predicted_change: ArrayLike, price_change: ArrayLike) -> float:
    r"""When the price moved, how often did units move the way that was predicted? Higher is better; 0.5 is a coin.

    .. math:: \frac{\sum_j \mathbf 1[\Delta p_j \ne 0, \Delta q_j \ne 0]\ \mathbf 1[\operatorname{sign} \Delta\hat q_j
              = \operatorname{sign} \Delta q_j]}{\sum_j \mathbf 1[\Delta p_j \ne 0, \Delta q_j \ne 0]}

    Rows whose units did not move have no direction and are left out; a predicted change of zero is wrong.

    Parameters
    ----------
    actual_change, predicted_change : arrays (n_rows,)
        Units minus those of the item's row before, sold and expected.
    price_change : array (n_rows,)
        Price minus that of the item's row before.

    Returns
    -------
    float
        A share in [0, 1]; NaN where no row counts.

    Examples
    --------
    >>> directional_accuracy([-2.0, 3.0, 0.0, 5.0], [-1.0, -1.0, -1.0, 2.0], [0.1, -0.1, 0.1, 0.0])
    0.5
    """
    actual, predicted, price = (
        np.asarray(value, dtype=np.float64) for value in (actual_change, predicted_change, price_change)
    )
    counted = (price != 0) & (actual != 0)
    if not counted.any():
        return float("nan")
    return float(np.mean(np.sign(predicted[counted]) == np.sign(actual[counted])))


def _rows(actual: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats]:
    """Return rows (n_rows,) and draws (n_draws, n_rows); a point forecast is one draw."""
    sold = np.asarray(actual, dtype=np.float64)
    draws = np.atleast_2d(np.asarray(predicted, dtype=np.float64))
    if sold.ndim != 1 or sold.size == 0 or draws.ndim != 2 or draws.shape[1] != sold.size or draws.shape[0] == 0:
        raise SpecError(
            f"Scores need rows (n,) and predictions (n,) or (draws, n); they have shapes {sold.shape} and "
            f"{np.shape(predicted)}."
        )
    return sold, draws
