"""Where the Gaussian tree's variance components stand in the vector that is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_pricing.data.gram import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Level by level from the items up: sds, then partial correlations (atanh); last the one sd of tied coefficients.

    The sampler's sds are in units of their prior scale and may carry a sign; kept draws hold log sds.

    Attributes
    ----------
    levels : int
        Levels that vary around a parent, items first.
    k : int
        Coefficients of every item, the tied ones last.
    correlated : int
        So many of the first coefficients correlate; the others are independent.
    tied : int
        So many of the last coefficients share one sd between items, and exist at no other level.

    Examples
    --------
    >>> Layout(levels=2, k=5, correlated=2, tied=2).size
    9
    """

    levels: int
    k: int
    correlated: int
    tied: int

    @property
    def own(self) -> int:
        """Coefficients with an sd of their own at every level."""
        return self.k - self.tied

    @property
    def pairs(self) -> int:
        """Correlations of one level."""
        return self.correlated * (self.correlated - 1) // 2

    @property
    def size(self) -> int:
        """Length of the vector, noise left out."""
        return self.levels * (self.own + self.pairs) + (self.tied > 0)

    def split(self, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Views: sds (..., levels, own), partial correlations (..., levels, pairs), the tied sd (..., 0 or 1)."""
        end = self.levels * (self.own + self.pairs)
        by_level = theta[..., :end].reshape(*theta.shape[:-1], self.levels, self.own + self.pairs)
        return by_level[..., : self.own], by_level[..., self.own :], theta[..., end : self.size]

    def factors(self, theta: Floats) -> Floats:
        """Cholesky factors (..., levels, k, k) of each level's covariance, from log sds (tied: items only)."""
        log_sd, partials, tied = self.split(theta)
        found = np.zeros((*log_sd.shape[:-1], self.k, self.k))
        along = np.arange(self.k)
        found[..., along, along] = 1.0
        found[..., : self.correlated, : self.correlated] = correlation_factor(partials, self.correlated)
        found[..., : self.own, :] *= np.exp(log_sd)[..., None]
        found[..., 1:, self.own :, :] = 0.0
        if self.tied:
            found[..., 0, self.own :, :] *= np.exp(tied)[..., None]
        return found

    def unsigned(self, theta: Floats, between_sd: Floats) -> Floats:
        """From the sampler's signed sds to log sds: signs move into the partial correlations, the rest is left.

        Parameters
        ----------
        theta : array (..., at least `size`)
        between_sd : array (levels, k)
            Prior scales.

        Examples
        --------
        >>> layout = Layout(levels=1, k=2, correlated=2, tied=0)
        >>> layout.unsigned(np.array([-0.5, 1.0, 0.3]), np.array([[2.0, 1.0]])).tolist()
        [0.0, 0.0, -0.3]
        """
        found = theta.copy()
        sds, partials, tied = self.split(theta)
        log_sds, flipped, log_tied = self.split(found)
        log_sds[...] = np.log(np.abs(sds) * between_sd[:, : self.own])
        log_tied[...] = np.log(np.abs(tied) * between_sd[0, self.own : self.own + 1])
        for at, (row, column) in enumerate(zip(*np.tril_indices(self.correlated, -1), strict=True)):
            flipped[..., at] = partials[..., at] * np.sign(sds[..., row]) * np.sign(sds[..., column])
        return found

    def signed(self, theta: Floats, between_sd: Floats) -> Floats:
        """From log sds back to (positive) sds in units of their prior scale: the inverse of :meth:`unsigned`."""
        found = theta.copy()
        log_sds, _, log_tied = self.split(found)
        log_sds[...] = np.exp(log_sds) / between_sd[:, : self.own]
        log_tied[...] = np.exp(log_tied) / between_sd[0, self.own : self.own + 1]
        return found


def plain_layout(levels: int, k: int) -> Layout:
    """The layout where all coefficients correlate and none share an sd."""
    return Layout(levels=levels, k=k, correlated=k, tied=0)


def pair_names(coefficients: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the pairs of coefficients in the order correlations are stored: row by row below the diagonal.

    Examples
    --------
    >>> pair_names(("level", "log_price", "disp"))
    ('log_price:level', 'disp:level', 'disp:log_price')
    """
    return tuple(f"{name}:{other}" for at, name in enumerate(coefficients) for other in coefficients[:at])


def correlation_factor(partials: Any, k: int) -> Floats:
    r"""Cholesky factors of correlation matrices from canonical partial correlations.

    .. math:: R_{ij} = z_{ij} \prod_{l<j} \sqrt{1 - z_{il}^2}, \quad R_{ii} = \prod_{l<i} \sqrt{1 - z_{il}^2},
              \quad z = \tanh(\text{partials})

    Parameters
    ----------
    partials : array (..., k(k-1)/2)
        Row by row below the diagonal, on the atanh scale.

    Returns
    -------
    array (..., k, k)

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), "Generating random correlation matrices", J. Multivariate Analysis 100(9).

    Examples
    --------
    >>> factor = correlation_factor(np.arctanh([0.6]), 2)
    >>> (factor @ factor.T).round(6).tolist()
    [[1.0, 0.6], [0.6, 1.0]]
    """
    factor = np.zeros((*np.shape(partials)[:-1], k, k))
    at = 0
    for row in range(k):
        rest: Floats = np.ones(np.shape(partials)[:-1])
        for column in range(row):
            factor[..., row, column] = np.tanh(partials[..., at]) * rest
            rest = rest / np.cosh(partials[..., at])
            at += 1
        factor[..., row, row] = rest
    return factor
