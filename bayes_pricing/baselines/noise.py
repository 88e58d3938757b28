"""The noise of single sales around expected units, so that a point estimator too can be scored as a distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayes_pricing.baselines.protocol import Floats

RESIDUALS_KEPT = 2000


class UnitsNoise(Protocol):
    """How units scatter around what an estimator expects."""

    @property
    def smearing(self) -> float:
        """Expected units divided by exp(fitted log units)."""
        ...

    def draw(self, log_units: Floats, n_draws: int, rng: np.random.Generator) -> Floats:
        """Draws of units, shape (n_draws, n_rows), around exp(log_units)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LogResiduals:
    r"""Residuals of log units, resampled: no shape is assumed.

    .. math:: q = e^{\hat y + e}, \quad E[q] = e^{\hat y} \cdot \tfrac1n \sum_j e^{e_j}

    Attributes
    ----------
    residuals : array (n,)
        Log units minus fitted log units; at most 2,000 equally spaced quantiles of them.

    References
    ----------
    Duan (1983), "Smearing estimate: a nonparametric retransformation method", JASA 78(383).

    Examples
    --------
    >>> noise = LogResiduals.of(np.array([-0.1, 0.0, 0.1]))
    >>> round(noise.smearing, 4)
    1.0033
    """

    residuals: Floats

    @classmethod
    def of(cls, residuals: Floats) -> LogResiduals:
        """Keep all residuals where they are few, and their quantiles where they are many."""
        if residuals.size <= RESIDUALS_KEPT:
            return cls(residuals=residuals)
        return cls(residuals=np.quantile(residuals, (np.arange(RESIDUALS_KEPT) + 0.5) / RESIDUALS_KEPT))

    @property
    def smearing(self) -> float:
        """Mean of exp(residual), no unit."""
        return float(np.exp(self.residuals).mean())

    def draw(self, log_units: Floats, n_draws: int, rng: np.random.Generator) -> Floats:
        """Draws of units, shape (n_draws, n_rows)."""
        draws: Floats = np.exp(log_units + rng.choice(self.residuals, size=(n_draws, log_units.size)))
        return draws


@dataclass(frozen=True, slots=True, kw_only=True)
class CountNoise:
    r"""Poisson sales whose rate itself varies (negative binomial) as much as the training rows show.

    .. math:: \operatorname{Var}[q] = \mu + \phi \mu^2, \quad
              \hat\phi = \max\Bigl(0, \frac{\sum (q - \hat\mu)^2 - q}{\sum \hat\mu^2}\Bigr)

    Attributes
    ----------
    dispersion : float, at least 0
        The :math:`\phi` above; 0 is Poisson.

    Examples
    --------
    >>> CountNoise.of(units=np.array([0.0, 4.0, 0.0, 4.0]), expected=np.full(4, 2.0))
    CountNoise(dispersion=0.5)
    """

    dispersion: float

    @classmethod
    def of(cls, units: Floats, expected: Floats) -> CountNoise:
        """Estimate the dispersion by the method of moments."""
        scale = float((expected**2).sum())
        excess = float(((units - expected) ** 2 - units).sum())
        return cls(dispersion=max(0.0, excess / scale) if scale > 0 else 0.0)

    @property
    def smearing(self) -> float:
        """1: a count model speaks of expected units already."""
        return 1.0

    def draw(self, log_units: Floats, n_draws: int, rng: np.random.Generator) -> Floats:
        """Draws of units, shape (n_draws, n_rows)."""
        expected = np.broadcast_to(np.exp(log_units), (n_draws, log_units.size))
        if self.dispersion > 0:
            expected = expected * rng.gamma(1 / self.dispersion, self.dispersion, size=expected.shape)
        return np.asarray(rng.poisson(expected), dtype=np.float64)
