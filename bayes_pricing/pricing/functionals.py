"""What is made of a portfolio's draws: their mean, a risk-averse certainty equivalent, the mean of the worst ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.risk import tail_weights

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


class Functional(Protocol):
    """A concave functional of the change per draw, in money: a tangent anywhere lies above it everywhere."""

    def value(self, change: Floats) -> float:
        """Worth of the change per draw, array (S,)."""
        ...

    def tangent(self, change: Floats) -> Floats:
        """Weights of the draws, array (S,) summing to 1: the gradient at this change."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExponentialUtility:
    r"""Constant absolute risk aversion: money is worth its certainty equivalent.

    .. math:: CE = -\tau \log E\big[e^{-\Delta / \tau}\big]

    A change of prices is worth as much as this sure gain to somebody whose risk tolerance is :math:`\tau`; for small
    risks it is the mean minus the variance over :math:`2 \tau`. Loss is worth less than the mean, never more.

    Attributes
    ----------
    tolerance : float
        Risk tolerance, currency per period: about the stake at which an even bet to win it or lose half of it is
        just acceptable.

    References
    ----------
    Howard (1988), "Decision analysis: practice and promise", Management Science 34(6).

    Examples
    --------
    >>> utility = ExponentialUtility(tolerance=100.0)
    >>> round(utility.value(np.array([100.0, -50.0])), 1)
    -0.8
    """

    tolerance: float

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < float("inf"):
            raise SpecError(f"ExponentialUtility.tolerance is {self.tolerance}; give money per period, positive.")

    def value(self, change: Floats) -> float:
        """Certainty equivalent of the change per draw, array (S,), currency per period."""
        exponent = -change / self.tolerance
        top = float(exponent.max())
        return -self.tolerance * (top + float(np.log(np.exp(exponent - top).mean())))

    def tangent(self, change: Floats) -> Floats:
        """Weights of the draws, array (S,) summing to 1: bad draws weigh more."""
        exponent = -change / self.tolerance
        weights = np.exp(exponent - exponent.max())
        return np.asarray(weights / weights.sum(), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TailMean:
    """Mean over the worst `share` of the draws `among`: what a limit on the expected shortfall holds up."""

    share: float
    among: Places | None = None

    def value(self, change: Floats) -> float:
        """Tail mean of the change per draw, array (S,)."""
        return float(self.tangent(change) @ change)

    def tangent(self, change: Floats) -> Floats:
        """Weights of the draws, array (S,) summing to 1."""
        return tail_weights(change, self.share, self.among)
