"""What an engine answers: prices, and the proof of how good they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.decision import ShadowPrice
from bayes_pricing.pricing.functionals import Functional

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """Prices of a whole problem and the bound that goes with them.

    Attributes
    ----------
    prices : array (J,)
    upper_bound : float
    certificate, engine : str
    shadow_prices : tuple of ShadowPrice
        Of the coupling limits.
    chosen_on : array of int or None
        Draws on which a portfolio risk limit was enforced; None for all.
    certified : bool
        Whether the bound is proven; otherwise it is only the best value found.
    worth : Functional or None
        What was maximised of the change per draw; None for its mean.
    """

    prices: Floats
    upper_bound: float
    certificate: str
    engine: str
    shadow_prices: tuple[ShadowPrice, ...] = ()
    chosen_on: NDArray[np.intp] | None = None
    certified: bool = True
    worth: Functional | None = None
