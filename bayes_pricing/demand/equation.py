"""The demand equation, written once: plain arithmetic that serves a PyMC graph and posterior draws alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def log_demand(
    *,
    level: Any,
    elasticity: Any,
    log_price: Any,
    reference_log_price: Any,
    effects: Sequence[Any] = (),
    controls: Sequence[Any] = (),
    log_exposure: Any = 0.0,
) -> Any:
    r"""Log of the units a price is expected to sell, before smearing.

    .. math:: \log q = \alpha + \varepsilon (\log p - \overline{\log p}) + \sum_c \beta_c x_c + \log(\text{exposure})

    Parameters
    ----------
    level : array-like
        Log units per period at the reference price, controls at the values they are centred on.
    elasticity : array-like
        Own-price elasticity, d log units / d log price, no unit; negative for ordinary goods.
    log_price, reference_log_price : array-like
        Log currency per unit; the reference is the item's mean log price, frozen with the fit.
    effects, controls : sequences of equal length
        Effects (log units per unit of the control) and centred values of the controls.
    log_exposure : array-like
        Log of the exposure (visits, shops) of the row; 0 where there is none.

    Returns
    -------
    array-like
        Whatever adding and multiplying the arguments gives: numbers, numpy or xarray arrays, PyTensor variables.

    Examples
    --------
    >>> round(log_demand(level=4.0, elasticity=-2.0, log_price=0.1, reference_log_price=0.0), 6)
    3.8
    """
    total = level + elasticity * (log_price - reference_log_price) + log_exposure
    for effect, control in zip(effects, controls, strict=True):
        total = total + effect * control
    return total
