"""For the economist: what a change of prices does to buyers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def surplus_change(units_today: ArrayLike, price_today: ArrayLike, elasticity: ArrayLike, price: ArrayLike) -> Floats:
    r"""Change of consumer surplus when a price moves, all other prices held; positive is good for buyers.

    .. math:: -\int_{p_0}^{p} q(x)\, dx = -q_0 p_0 \frac{(p / p_0)^{1 + \varepsilon} - 1}{1 + \varepsilon}

    Parameters
    ----------
    units_today : array-like
        Units per period at today's price.
    price_today, price : array-like
        What buyers pay, tax included, currency per unit.
    elasticity : array-like

    Returns
    -------
    array
        Currency per period, of the arguments' common shape.

    References
    ----------
    Willig (1976), "Consumer's surplus without apology", American Economic Review 66(4).

    Examples
    --------
    >>> float(surplus_change(100.0, 10.0, -2.0, 12.5).round(6))
    -200.0
    >>> float(surplus_change(100.0, 10.0, -1.0, 12.5).round(4))
    -223.1436
    """
    power = 1.0 + np.asarray(elasticity, dtype=np.float64)
    log_ratio = np.log(np.asarray(price, dtype=np.float64) / np.asarray(price_today, dtype=np.float64))
    exponent = power * log_ratio
    flat = np.abs(exponent) < 1e-8
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.where(flat, log_ratio * (1.0 + 0.5 * exponent), np.expm1(exponent) / power)
    return np.asarray(-np.asarray(units_today) * np.asarray(price_today) * grown, dtype=np.float64)


PATH_POINTS = 8
"""Points of Gauss-Legendre quadrature: exact to a millionth for changes of price by half and elasticities to -5."""


def joint_surplus_change(units: Callable[[Floats], Floats], price_today: Floats, log_ratio: Floats) -> Floats:
    r"""Change of consumer surplus when the prices of items that cross move together; positive is good for buyers.

    .. math:: -\int_0^1 \sum_j q_j(t)\, p_j(t)\, L_j\, dt, \qquad \log p_j(t) = \log p_{j0} + t L_j

    The prices move along a straight line in log price. Only where the effects of one item's price on another's sales
    are those of a consumer with one set of wants (symmetric in money) would every other path give the same.

    Parameters
    ----------
    units : callable
        Expected units per period, array (S, n), at log price ratios (n,).
    price_today, log_ratio : arrays (n,)

    Returns
    -------
    array (S,)
        Currency per period.

    References
    ----------
    Hotelling (1938), "The general welfare in relation to problems of taxation and of railway and utility rates",
    Econometrica 6(3).

    Examples
    --------
    >>> alone = lambda move: 100.0 * np.exp(-2.0 * move)[None, :]
    >>> joint_surplus_change(alone, np.array([10.0]), np.log([1.25])).round(6).tolist()
    [-200.0]
    """
    nodes, weights = np.polynomial.legendre.leggauss(PATH_POINTS)
    found = np.zeros(units(log_ratio).shape[0])
    for node, weight in zip((nodes + 1.0) / 2.0, weights / 2.0, strict=True):
        found -= weight * units(node * log_ratio) @ (price_today * np.exp(node * log_ratio) * log_ratio)
    return np.asarray(found, dtype=np.float64)
