"""How log demand bends away from a straight line in log price, on the draws a decision is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


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
