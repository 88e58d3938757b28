"""Regressions with thousands of intercepts concentrated out: least squares and Poisson, with robust covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.baselines.protocol import Floats

Ints = NDArray[np.int64]
MAX_STEPS = 60
STEP_TOLERANCE = 1e-8
LARGEST_STEP = 1.0  # in log units per sd of a column: keeps Newton inside the region where its quadratic holds
RANK_TOLERANCE = 1e-9  # relative to the largest eigenvalue; columns are scaled to unit sd first


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EffectsData:
    """Rows sorted by slope group, intercept unit and cluster; codes run from 0 without gaps.

    Attributes
    ----------
    units, exposure : arrays (row,)
        Units (or log units for least squares) and exposure.
    own : array (row, k)
        Columns with one coefficient per slope group; the first is log price.
    shared : array (row, s)
        Columns with one coefficient for all.
    slope_group, unit, cluster : int arrays (row,)
        Which slopes, which intercept and which cluster a row belongs to; units and clusters nest in slope groups.
    """

    units: Floats
    exposure: Floats
    own: Floats
    shared: Floats
    slope_group: Ints
    unit: Ints
    cluster: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EffectsFit:
    r"""Coefficients, intercepts, and what is needed for the robust variance of any mean of price slopes.

    With :math:`h_c` the influence of cluster `c` on the price slope of its own group and :math:`\psi_c` on the shared
    coefficients, the variance of :math:`\sum_g w_g \varepsilon_g` is
    :math:`\sum_c (w_{g(c)} h_c - m' \psi_c)^2` with :math:`m = \sum_g w_g M_g`; the sums are kept per group.

    Attributes
    ----------
    slopes : array (group, k)
        0 for a column that the group's rows say nothing about.
    identified : bool array (group,)
        Whether the group's rows decide its price slope.
    shared : array (s,)
    intercepts : array (unit,)
        Log units at zero columns and exposure 1; -inf for a unit that never sold.
    degrees_of_freedom : array (group,)
    """

    slopes: Floats
    identified: NDArray[np.bool_]
    shared: Floats
    intercepts: Floats
    degrees_of_freedom: Floats
    own_variance: Floats
    cross: Floats
    loading: Floats
    shared_variance: Floats

    def slope_variances(self) -> Floats:
        """Robust variance of each group's price slope, dims (group,)."""
        shared = np.einsum("gs,st,gt->g", self.loading, self.shared_variance, self.loading)
        variances: Floats = self.own_variance - 2 * (self.loading * self.cross).sum(axis=1) + shared
        return np.maximum(variances, 0.0)

    def mean_slope_variance(self, weights: Floats) -> float:
        """Robust variance of the weighted sum of the groups' price slopes; weights have dims (group,)."""
        used = np.flatnonzero(weights)
        chosen = weights[used]
        mixed = chosen @ self.loading[used]
        own = float(chosen**2 @ self.own_variance[used])
        cross = float(mixed @ (chosen @ self.cross[used]))
        return max(own - 2 * cross + float(mixed @ self.shared_variance @ mixed), 0.0)


def fit_least_squares(data: EffectsData) -> EffectsFit:
    r"""Least squares of log units on the columns and one intercept per unit (the within estimator).

    .. math:: y_{it} = a_i + x_{it}' \beta_{g(i)} + z_{it}' \gamma + e_{it}

    Examples
    --------
    >>> one = np.zeros(4, dtype=np.int64)
    >>> data = EffectsData(units=np.array([4.0, 2.1, -0.1, 2.0]), exposure=np.ones(4),
    ...                    own=np.array([[-1.0], [0.0], [1.0], [0.0]]), shared=np.empty((4, 0)),
    ...                    slope_group=one, unit=one, cluster=np.arange(4))
    >>> fit = fit_least_squares(data)
    >>> round(float(fit.slopes[0, 0]), 3), round(float(fit.intercepts[0]), 3)
    (-2.05, 2.0)
    """
    layout = _Layout.of(data)
    columns, scale = _scaled(layout, data)
    weights = np.ones_like(data.units)
    within = layout.within(columns, weights)
    response = layout.within(data.units[:, None], weights)[:, 0]
    system = _Arrow.of(layout.cross_products(within, weights), data.own.shape[1])
    own, shared = system.solve(layout.scores(within, response))
    unexplained = data.units - _linear(columns, own, shared, data.slope_group)
    intercepts = layout.unit_sums(unexplained) / layout.unit_sums(weights)
    scores = layout.cluster_sums(within * (unexplained - intercepts[data.unit])[:, None])
    solution = _Solution(own=own, shared=shared, intercepts=intercepts, identified=system.identified, scale=scale)
    return _with_robust_variance(solution, layout, system, scores)


def fit_poisson(data: EffectsData) -> EffectsFit:
    r"""Poisson maximum likelihood with one intercept per unit, concentrated out at every step.

    .. math:: E[q_{it}] = s_{it} e^{a_i + x_{it}' \beta_{g(i)} + z_{it}' \gamma}, \quad
              e^{\hat a_i} = \frac{\sum_t q_{it}}{\sum_t s_{it} e^{x_{it}' \beta + z_{it}' \gamma}}

    Rows of one unit with the same columns may be added up beforehand (units and exposure): the estimate and its
    variance clustered by unit stay the same. It needs no more than a correct mean: units may be over-dispersed or
    fractional. A slope without a maximum (all sales at the lowest price) comes back as not identified.

    References
    ----------
    Hausman, Hall & Griliches (1984), "Econometric models for count data", Econometrica 52(4).
    Wooldridge (1999), "Distribution-free estimation of some nonlinear panel data models", J. Econometrics 90(1).

    Examples
    --------
    >>> one = np.zeros(3, dtype=np.int64)
    >>> data = EffectsData(units=np.array([8.0, 2.0, 0.5]), exposure=np.ones(3), own=np.log([[1.0], [2.0], [4.0]]),
    ...                    shared=np.empty((3, 0)), slope_group=one, unit=one, cluster=np.arange(3))
    >>> round(float(fit_poisson(data).slopes[0, 0]), 6)
    -2.0
    """
    layout = _Layout.of(data)
    columns, scale = _scaled(layout, data)
    sold = layout.unit_sums(data.units)
    own = np.zeros((layout.group_starts.size, data.own.shape[1]))
    shared = np.zeros(data.shared.shape[1])
    own_step, shared_step = _DampedStep.start(own), _DampedStep.start(shared[None, :])
    for _ in range(MAX_STEPS):
        expected, _intercepts = _concentrated(layout, data, columns, own, shared, sold)
        within = layout.within(columns, expected)
        system = _Arrow.of(layout.cross_products(within, expected), data.own.shape[1])
        newton, shared_newton = system.solve(layout.scores(within, data.units - expected))
        own_step, shared_step = own_step.towards(newton), shared_step.towards(shared_newton[None, :])
        if own_step.converged.all() and shared_step.converged.all():
            break
        own, shared = own + own_step.step, shared + shared_step.step[0]
    converged = own_step.converged
    own[~converged] = 0.0
    expected, intercepts = _concentrated(layout, data, columns, own, shared, sold)
    scores = layout.cluster_sums(within * (data.units - expected)[:, None])
    solution = _Solution(
        own=own, shared=shared, intercepts=intercepts, identified=system.identified & converged, scale=scale
    )
    return _with_robust_variance(solution, layout, system, scores)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _DampedStep:
    """A Newton step per row of coefficients, cut to a reach that halves whenever two long steps go back and forth."""

    step: Floats
    reach: Floats
    converged: NDArray[np.bool_]

    @classmethod
    def start(cls, coefficients: Floats) -> _DampedStep:
        rows = coefficients.shape[0]
        return cls(
            step=np.zeros_like(coefficients), reach=np.full(rows, LARGEST_STEP), converged=np.zeros(rows, dtype=bool)
        )

    def towards(self, newton: Floats) -> _DampedStep:
        length = np.abs(newton).max(axis=1, initial=0.0)
        turned = (self.step * newton).sum(axis=1) < 0
        reach = np.where(turned & (length > self.reach), self.reach / 2, self.reach)
        cut = np.minimum(1.0, reach / np.maximum(length, STEP_TOLERANCE))
        return _DampedStep(step=newton * cut[:, None], reach=reach, converged=length < STEP_TOLERANCE)


def _concentrated(
    layout: _Layout, data: EffectsData, columns: Floats, own: Floats, shared: Floats, sold: Floats
) -> tuple[Floats, Floats]:
    """Expected units and intercepts, given slopes; never overflows."""
    linear = _linear(columns, own, shared, data.slope_group)
    peak = np.maximum.reduceat(linear, layout.unit_starts)
    relative = data.exposure * np.exp(linear - peak[data.unit])
    total = layout.unit_sums(relative)
    expected = relative * (sold / total)[data.unit]
    intercepts = np.full(sold.size, -np.inf)
    np.log(sold / total, out=intercepts, where=sold > 0)
    return expected, intercepts - peak


def _linear(columns: Floats, own: Floats, shared: Floats, slope_group: Ints) -> Floats:
    k = own.shape[1]
    fitted: Floats = np.einsum("nk,nk->n", columns[:, :k], own[slope_group]) + columns[:, k:] @ shared
    return fitted


def _scaled(layout: _Layout, data: EffectsData) -> tuple[Floats, Floats]:
    """Columns centred on their mean and scaled to a within-unit sd of 1, so that one tolerance fits all."""
    columns = np.hstack([data.own, data.shared])
    spread = layout.within(columns, np.ones_like(data.units)).std(axis=0)
    scale = np.where(spread > RANK_TOLERANCE * np.abs(columns).max(axis=0, initial=0.0), spread, 1.0)
    return columns / scale, scale


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Layout:
    """Where units, clusters and slope groups start in the sorted rows."""

    unit: Ints
    slope_group: Ints
    unit_starts: Ints
    cluster_starts: Ints
    group_starts: Ints

    @classmethod
    def of(cls, data: EffectsData) -> _Layout:
        return cls(
            unit=data.unit,
            slope_group=data.slope_group,
            unit_starts=_starts(data.unit),
            cluster_starts=_starts(data.cluster),
            group_starts=_starts(data.slope_group),
        )

    def unit_sums(self, values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values, self.unit_starts, axis=0)
        return sums

    def cluster_sums(self, values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values, self.cluster_starts, axis=0)
        return sums

    def within(self, columns: Floats, weights: Floats) -> Floats:
        """Columns minus their weighted mean over the unit's rows."""
        total = self.unit_sums(weights)
        sums = self.unit_sums(columns * weights[:, None])
        means = np.divide(sums, total[:, None], out=np.zeros_like(sums), where=total[:, None] > 0)
        return columns - means[self.unit]

    def cross_products(self, within: Floats, weights: Floats) -> Floats:
        """Weighted products of columns summed by slope group, dims (group, column, column)."""
        width = within.shape[1]
        products = np.empty((self.group_starts.size, width, width))
        for i in range(width):
            for j in range(i, width):
                sums = np.add.reduceat(weights * within[:, i] * within[:, j], self.group_starts)
                products[:, i, j] = products[:, j, i] = sums
        return products

    def scores(self, within: Floats, residual: Floats) -> Floats:
        """Columns times residual summed by slope group, dims (group, column)."""
        sums: Floats = np.add.reduceat(within * residual[:, None], self.group_starts, axis=0)
        return sums


def _starts(codes: Ints) -> Ints:
    return np.concatenate([[0], np.flatnonzero(np.diff(codes)) + 1]).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Arrow:
    """Normal equations with one block per slope group, bordered by the shared columns."""

    k: int
    inverse: Floats  # (group, k, k)
    border: Floats  # (group, k, s): inverse @ (own x shared products)
    shared_inverse: Floats  # (s, s)
    identified: NDArray[np.bool_]
    rank: Ints

    @classmethod
    def of(cls, products: Floats, k: int) -> _Arrow:
        own, cross = products[:, :k, :k], products[:, :k, k:]
        largest = float(np.abs(own).max(initial=0.0))
        inverse = np.linalg.pinv(own, rcond=RANK_TOLERANCE, hermitian=True)
        projector = inverse @ own
        alive = own[:, 0, 0] > RANK_TOLERANCE * RANK_TOLERANCE * largest
        identified = alive & (np.abs(projector[:, 0, 0] - 1.0) < 1e-6)  # estimable: e_1 lies in the row space
        rank = np.rint(np.trace(projector, axis1=1, axis2=2)).astype(np.int64)
        border = inverse @ cross
        schur = (products[:, k:, k:] - cross.transpose(0, 2, 1) @ border).sum(axis=0)
        return cls(
            k=k,
            inverse=inverse,
            border=border,
            identified=identified,
            rank=rank,
            shared_inverse=np.linalg.pinv(schur, rcond=RANK_TOLERANCE, hermitian=True),
        )

    def solve(self, scores: Floats) -> tuple[Floats, Floats]:
        """Coefficients (group, k) and (s,) for right-hand sides (group, k + s)."""
        own, rest = scores[:, : self.k], scores[:, self.k :]
        shared = self.shared_inverse @ (rest - np.einsum("gks,gk->gs", self.border, own)).sum(axis=0)
        return np.einsum("gij,gj->gi", self.inverse, own) - self.border @ shared, shared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Solution:
    """Estimates in scaled columns (`scale` undoes it)."""

    own: Floats
    shared: Floats
    intercepts: Floats
    identified: NDArray[np.bool_]
    scale: Floats


def _with_robust_variance(solution: _Solution, layout: _Layout, system: _Arrow, scores: Floats) -> EffectsFit:
    """Turn the clusters' scores, dims (cluster, column), into their influence on the price slopes.

    Small-sample factor: G / (G - 1) for G clusters in a slope group; n / (n - parameters) where each row is its own.
    """
    k, n_groups = system.k, layout.group_starts.size
    group = layout.slope_group[layout.cluster_starts]
    clusters = np.bincount(group, minlength=n_groups).astype(np.float64)
    if group.size == layout.unit.size:
        units = np.bincount(layout.slope_group[layout.unit_starts], minlength=n_groups)
        freedom = np.maximum(clusters - system.rank - units, 0.0)
    else:
        freedom = clusters - 1.0
    inflate = np.sqrt(np.divide(clusters, freedom, out=np.zeros_like(clusters), where=freedom > 0))[group]
    price = solution.scale[0]
    direct = np.einsum("ck,ck->c", system.inverse[group, 0, :], scores[:, :k]) * inflate / price
    psi = (scores[:, k:] - np.einsum("cks,ck->cs", system.border[group], scores[:, :k])) @ system.shared_inverse
    psi = psi * inflate[:, None]
    cross = np.zeros((n_groups, psi.shape[1]))
    np.add.at(cross, group, direct[:, None] * psi)
    return EffectsFit(
        slopes=solution.own / solution.scale[:k],
        identified=solution.identified,
        shared=solution.shared / solution.scale[k:],
        intercepts=solution.intercepts,
        degrees_of_freedom=freedom,
        own_variance=np.bincount(group, weights=direct**2, minlength=n_groups),
        cross=cross,
        loading=system.border[:, 0, :] / price,
        shared_variance=psi.T @ psi,
    )
