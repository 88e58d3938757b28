"""The linear probability model beside the posterior: least squares on bought or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bayes_pricing.demand.purchase_data import Floats, PurchaseData

LinearErrors = Literal["classical", "hc1"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearProbability:
    """Least-squares effects on the purchase probability.

    Attributes
    ----------
    names : tuple of str
        ``constant``, ``price``, then the other columns.
    coefficients, standard_errors : arrays
        Probability per unit of each column (per currency for prices).
    errors : str
        ``classical`` or ``hc1``.
    outside : float in [0, 1]
        Share of offers whose fitted probability is below 0 or above 1.
    """

    names: tuple[str, ...]
    coefficients: Floats
    standard_errors: Floats
    errors: LinearErrors
    outside: float


def linear_probability(data: PurchaseData, errors: LinearErrors = "classical") -> LinearProbability:
    r"""Least squares of bought (0 or 1) on price and the other columns, each offer one observation.

    .. math:: y_i = b_0 + b_p p_i + b_x' x_i + u_i

    Under a price drawn by lot :math:`b_p` is the mean effect of a unit of currency whatever the curve; it is no curve
    to set prices by, since its probabilities leave [0, 1].

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.demand.purchase_data import build_purchases
    >>> rows = pl.DataFrame({"price": [1.0, 2.0, 3.0], "bought": [60, 50, 40], "offers": [100] * 3})
    >>> found = linear_probability(build_purchases(rows, price="price", bought="bought", trials="offers"))
    >>> found.names, found.coefficients.round(9).tolist()
    (('constant', 'price'), [0.7, -0.1])
    """
    x = np.column_stack([np.ones(len(data.price)), data.price, data.other])
    scale = np.sqrt((x**2).mean(axis=0))
    x = x / scale
    bread = np.linalg.pinv(x.T @ (data.trials[:, None] * x), hermitian=True)
    slopes = bread @ (x.T @ data.bought)
    fitted = x @ slopes
    missed = data.trials - data.bought
    squares = data.bought * (1.0 - fitted) ** 2 + missed * fitted**2
    offers = data.trials.sum()
    freedom = offers - x.shape[1]
    if errors == "classical":
        covariance = bread * squares.sum() / freedom
    else:
        covariance = offers / freedom * bread @ (x.T @ (squares[:, None] * x)) @ bread
    return LinearProbability(
        names=("constant", "price", *data.names),
        coefficients=slopes / scale,
        standard_errors=np.sqrt(np.diag(covariance)) / scale,
        errors=errors,
        outside=float(data.trials[(fitted < 0) | (fitted > 1)].sum() / offers),
    )
