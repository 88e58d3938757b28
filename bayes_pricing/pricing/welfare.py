"""For the economist: what a change of prices does to buyers."""

from __future__ import annotations

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
