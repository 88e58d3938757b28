"""How log demand bends away from a straight line in log price, on the draws a decision is made with."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

LOG_2 = math.log(2.0)
NEAR = 0.5
"""Half the steepness times the log of a price over today's, up to which sums of logarithms would cancel."""


class PriceCurve(Protocol):
    """What the draws of some items hold beside the elasticity at today's price.

    Every method takes the elasticities at today's price (J, S) and the log of a price over today's (J,).
    """

    def mean_elasticity(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """Growth of log units from today's price to another per unit of log price, array (J, S)."""
        ...

    def elasticity_at(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """d log units / d log price at the other price, array (J, S)."""
        ...

    def bend_at(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """Change of the elasticity per unit of log price at the other price, array (J, S)."""
        ...

    def part(self, where: slice | Places) -> Self:
        """The same of some of the items, by position."""
        ...

    def on(self, draws: slice | Places) -> Self:
        """The same on some of the draws."""
        ...

    def stored_as(self, kind: type[np.floating[Any]]) -> Self:
        """The same in another precision."""
        ...

    def joined(self, others: list[Self]) -> Self:
        """These items followed by those of others, on the same draws."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quadratic:
    r"""Log demand quadratic in log price, an elasticity that is a straight line in it.

    .. math:: \log \frac{q(p)}{q(p_0)} = \varepsilon_0 L + \kappa L^2, \qquad L = \log(p / p_0)

    with :math:`\varepsilon_0` the elasticity at today's price :math:`p_0`.

    Attributes
    ----------
    bend : array (J, S)
        :math:`\kappa`.

    Examples
    --------
    >>> curve = Quadratic(bend=np.array([[-0.5]]))
    >>> today, raised = np.array([[-2.0]]), np.array([0.1])
    >>> curve.mean_elasticity(today, raised).item(), curve.elasticity_at(today, raised).item()
    (-2.05, -2.1)
    """

    bend: Floats

    def mean_elasticity(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """Half the way from today's elasticity to that at the other price."""
        return elasticity + self.bend * log_ratio[:, None]

    def elasticity_at(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """Elasticity at the other price."""
        return elasticity + 2.0 * self.bend * log_ratio[:, None]

    def bend_at(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """The same at every price."""
        return 2.0 * self.bend

    def part(self, where: slice | Places) -> Quadratic:
        """The same of some of the items, by position."""
        return Quadratic(bend=self.bend[where])

    def on(self, draws: slice | Places) -> Quadratic:
        """The same on some of the draws."""
        return Quadratic(bend=self.bend[:, draws])

    def stored_as(self, kind: type[np.floating[Any]]) -> Quadratic:
        """The same in another precision."""
        return Quadratic(bend=self.bend.astype(kind, copy=False))

    def joined(self, others: list[Quadratic]) -> Quadratic:
        """These items followed by those of others, on the same draws."""
        return Quadratic(bend=np.concatenate([self.bend, *(other.bend for other in others)]))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Saturating:
    r"""Elasticity that goes from one limit to another as the price rises, a logistic smooth transition.

    .. math:: \varepsilon(p) = \varepsilon + \kappa \tanh \frac{s x}{2}, \qquad
              \log q(p) = \dots + \varepsilon x + \kappa \frac{2}{s} \log \cosh \frac{s x}{2}

    with :math:`x` the log of the price over the item's usual one, where the elasticity is :math:`\varepsilon`; far
    below it is :math:`\varepsilon - \kappa`, far above :math:`\varepsilon + \kappa`. With :math:`L = \log(p / p_0)`
    and :math:`x_0` today's :math:`x`

    .. math:: \varepsilon(p) = \varepsilon_0 + \kappa \left(\tanh \frac{s (x_0 + L)}{2} - \tanh \frac{s x_0}{2}\right)

    Attributes
    ----------
    swing : array (J, S)
        :math:`\kappa`: half of the way between the two limits.
    offset : array (J,)
        :math:`x_0`: log of today's price over the usual one.
    steepness : float
        :math:`s`, per unit of log price.

    References
    ----------
    Terasvirta (1994), "Specification, estimation, and evaluation of smooth transition autoregressive models", J.
    American Statistical Association 89. Singh & Maddala (1976), "A function for size distribution of incomes",
    Econometrica 44: willingness to pay whose demand this is where :math:`\kappa = \varepsilon`.

    Examples
    --------
    >>> curve = Saturating(swing=np.array([[-1.0]]), offset=np.zeros(1), steepness=8.0)
    >>> today, raised = np.array([[-2.0]]), np.array([0.5])
    >>> curve.mean_elasticity(today, raised).round(3).item(), curve.elasticity_at(today, raised).round(3).item()
    (-2.663, -2.964)
    """

    swing: Floats
    offset: Floats
    steepness: float

    def mean_elasticity(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        r"""Mean of the elasticities on the way from today's price to the other, today's own where they are the same.

        With :math:`a = s x_0 / 2` and :math:`b = s L / 2` it is off today's by

        .. math:: \kappa \left(\frac{1}{b} \log \frac{\cosh(a + b)}{\cosh a} - \tanh a\right), \qquad
                  \frac{\cosh(a + b)}{\cosh a} = 1 + 2 \sinh^2 \frac{b}{2} + \tanh a \sinh b

        the second form near today's price, where nothing cancels.
        """
        start, way = 0.5 * self.steepness * self.offset, 0.5 * self.steepness * log_ratio
        close, slope = np.clip(way, -NEAR, NEAR), np.tanh(start)
        near = np.log1p(2.0 * np.sinh(0.5 * close) ** 2 + slope * np.sinh(close))
        growth = np.where(close == way, near, _log_cosh(start + way) - _log_cosh(start))
        mean = np.where(way == 0.0, slope, growth / np.where(way == 0.0, 1.0, way))
        return np.asarray(elasticity + self.swing * (mean - slope)[:, None])

    def elasticity_at(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """Elasticity at the other price."""
        there = curve_slope(self.offset + log_ratio, self.steepness) - curve_slope(self.offset, self.steepness)
        return np.asarray(elasticity + self.swing * there[:, None])

    def bend_at(self, elasticity: Floats, log_ratio: Floats) -> Floats:
        """Largest at the usual price, nothing far from it."""
        there = curve_slope(self.offset + log_ratio, self.steepness)
        return np.asarray(self.swing * (0.5 * self.steepness * (1.0 - there**2))[:, None])

    def part(self, where: slice | Places) -> Saturating:
        """The same of some of the items, by position."""
        return replace(self, swing=self.swing[where], offset=self.offset[where])

    def on(self, draws: slice | Places) -> Saturating:
        """The same on some of the draws."""
        return replace(self, swing=self.swing[:, draws])

    def stored_as(self, kind: type[np.floating[Any]]) -> Saturating:
        """The draws in another precision."""
        return replace(self, swing=self.swing.astype(kind, copy=False))

    def joined(self, others: list[Saturating]) -> Saturating:
        """These items followed by those of others, on the same draws."""
        parts = [self, *others]
        return replace(
            self,
            swing=np.concatenate([part.swing for part in parts]),
            offset=np.concatenate([part.offset for part in parts]),
        )


def curve_values(away: Floats, steepness: float) -> Floats:
    r"""What multiplies :math:`\kappa` in log units at `away`, x: :math:`(2/s) \log \cosh(s x/2)`, or :math:`x^2`.

    Examples
    --------
    >>> curve_values(np.array([0.5]), 0.0).item(), curve_values(np.array([0.5]), 8.0).round(4).item()
    (0.25, 0.3313)
    """
    return np.asarray(2.0 / steepness * _log_cosh(0.5 * steepness * away) if steepness else away**2)


def curve_slope(away: Floats, steepness: float) -> Floats:
    r"""What multiplies :math:`\kappa` in the elasticity at `away`, x: :math:`\tanh(s x / 2)`, or :math:`2 x`.

    Examples
    --------
    >>> curve_slope(np.array([0.5]), 0.0).item(), curve_slope(np.array([0.5]), 8.0).round(4).item()
    (1.0, 0.964)
    """
    return np.asarray(np.tanh(0.5 * steepness * away) if steepness else 2.0 * away)


def curve_from(slope: Floats, away: Floats, steepness: float) -> Quadratic | Saturating:
    """The curve seen from prices `away` (J,) from the usual ones in logs; `slope` has the draws of kappa, (J, S)."""
    if steepness:
        return Saturating(swing=slope, offset=away, steepness=steepness)
    return Quadratic(bend=slope)


def _log_cosh(values: Floats) -> Floats:
    size = np.abs(values)
    return np.asarray(size + np.log1p(np.exp(-2.0 * size)) - LOG_2)
