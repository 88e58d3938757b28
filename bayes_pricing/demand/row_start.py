"""A rough first fit of rows with sold-out weeks or Student-t errors: where the sampler starts and how it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats
from scipy.optimize import minimize_scalar

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.censoring import RowData
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE

TYPICAL_DEGREES = 5.0
SMALLEST_SD = 1e-3
BORROWED_ROWS = 4.0
"""Rows' worth of its group's residual sd that an item's own is pulled by."""

FARTHEST_LOG_SD = 1.5
"""How far from the middle of all items' log sds a rough one may lie: items of one category differ about fourfold."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowLaw:
    """Log-normal or count rows of which some ran out.

    Attributes
    ----------
    data : RowData
    log_sd : array (items,)
        Log residual sd of log-normal rows.
    dispersion : float
        Of negative binomial rows; infinite for others.
    """

    data: RowData
    log_sd: Floats
    dispersion: float = math.inf

    def refitted(self, log_rate: Floats) -> RowLaw:
        """Residual sds or the dispersion estimated from the rows that did not run out."""
        data = self.data
        if data.spec.likelihood == "lognormal":
            return replace(self, log_sd=self._log_sd(data.log_units - log_rate))
        if data.spec.likelihood == "poisson":
            return self
        seen = ~data.sold_out
        mean, count = np.exp(log_rate + data.log_exposure)[seen], data.quantity[seen]

        def loss(log_overdispersion: float) -> float:
            size = math.exp(-2.0 * log_overdispersion)
            penalty = 0.5 * math.exp(2.0 * log_overdispersion) / OVERDISPERSION_SCALE**2
            return penalty - float(np.sum(stats.nbinom.logpmf(count, size, size / (size + mean))))

        best = minimize_scalar(loss, bounds=(-4.0, 2.0), method="bounded").x
        return replace(self, dispersion=float(np.exp(-2.0 * best)))

    def _log_sd(self, residual: Floats) -> Floats:
        """By item towards its group's, or the group's where the items share one."""
        data, seen = self.data, ~self.data.sold_out
        items, group = len(data.tree.gram.items), data.tree.noise_group
        square = residual[seen] ** 2
        if data.spec.errors == "student_t":
            z = square * np.exp(-2.0 * self.log_sd[data.item[seen]])
            square = square * (TYPICAL_DEGREES + 1.0) / (TYPICAL_DEGREES + z)
        rows, total = np.bincount(data.item[seen], minlength=items), np.bincount(data.item[seen], square, items)
        prior = data.spec.priors.noise_scale**2
        group_total, group_rows = np.bincount(group, total), np.bincount(group, rows)
        of_group = ((group_total + prior) / (group_rows + 1.0))[group]
        if data.spec.noise_by != "item":
            return 0.5 * np.log(np.maximum(of_group, SMALLEST_SD**2))
        own = 0.5 * np.log(np.maximum((total + BORROWED_ROWS * of_group) / (rows + BORROWED_ROWS), SMALLEST_SD**2))
        middle = float(np.median(own))  # a mean pushed up by rows that ran out leaves the few that did not far behind
        return np.clip(own, middle - FARTHEST_LOG_SD, middle + FARTHEST_LOG_SD)

    def slopes(self, log_rate: Floats) -> tuple[Floats, Floats]:
        """Slope of each row's log likelihood in its log rate, and its information."""
        return self._log_slopes(log_rate) if self.data.spec.likelihood == "lognormal" else self._count_slopes(log_rate)

    def _log_slopes(self, log_rate: Floats) -> tuple[Floats, Floats]:
        data, inverse = self.data, np.exp(-self.log_sd)[self.data.item]
        z = (data.log_units - log_rate) * inverse
        pull, weight = z, np.ones_like(z)
        if data.spec.errors == "student_t":
            # least squares weighted anew in every round: unlike Newton's steps they find their way from far off
            weight = (TYPICAL_DEGREES + 1.0) / (TYPICAL_DEGREES + z**2)
            pull = weight * z
        bounded = np.minimum(z, 30.0)
        hazard = np.exp(stats.norm.logpdf(bounded) - stats.norm.logsf(bounded))
        pull = np.where(data.sold_out, hazard, pull)
        weight = np.where(data.sold_out, hazard * (hazard - bounded), weight)
        return pull * inverse, weight * inverse**2

    def _count_slopes(self, log_rate: Floats) -> tuple[Floats, Floats]:
        r"""Of sold-out rows :math:`s = \mu \, d \log P(N \ge n) / d\mu` and :math:`-ds / d \log \mu`."""
        data, count, size = self.data, self.data.quantity, self.dispersion
        mean = np.exp(np.clip(log_rate + data.log_exposure, -50.0, 50.0))
        damping = 1.0 if np.isinf(size) else size / (size + mean)
        residual, weight = (count - mean) * damping, mean * damping
        gone = data.sold_out & (count > 0)
        n, m = count[gone], mean[gone]
        if np.isinf(size):
            log_slope = n * np.log(m) - m - special.gammaln(n) - stats.poisson.logsf(n - 1.0, m)
            slope = np.exp(np.minimum(log_slope, 50.0))
            curvature = slope * (slope + m - n)
        else:
            share = m / (m + size)
            above = stats.nbinom.logsf(n - 1.0, size, 1.0 - share)
            log_slope = n * np.log(share) + size * np.log1p(-share) - special.betaln(n, size) - above
            slope = np.exp(np.minimum(log_slope, 50.0))
            curvature = slope * (slope + size * share - n * (1.0 - share))
        residual[data.sold_out], weight[data.sold_out] = 0.0, 0.0
        residual[gone], weight[gone] = slope, np.maximum(curvature, 0.0)
        return residual, weight
