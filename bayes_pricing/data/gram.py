"""Gram statistics: all that a Gaussian demand model needs to know of an item's rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gram:
    """Sufficient statistics of a linear model with Gaussian errors, one set per item; they add over rows and files.

    Attributes
    ----------
    items : tuple of str, length J
        Sorted item names.
    columns : tuple of str, length p
        ``level`` (a column of ones), ``log_price`` (centred by `centre`), item-level controls, shared controls.
    count : array (J,)
        Rows.
    xtx : array (J, p, p)
    xty : array (J, p)
        The response is log units.
    yty : array (J,)
    centre : array (J, p)
        What was subtracted from each column before the products: the item's mean log price, frozen with the fit
        so that new weeks enter on the same footing; zero for `level`.
    """

    items: tuple[str, ...]
    columns: tuple[str, ...]
    count: Floats
    xtx: Floats
    xty: Floats
    yty: Floats
    centre: Floats
