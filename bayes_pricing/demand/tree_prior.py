"""Priors of the Gaussian tree as numbers: what each level's scales become once levels are known and dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.gaussian_tree import TreeData
from bayes_pricing.demand.spec import Priors
from bayes_pricing.demand.tree_kernels import Scales


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreePrior:
    r"""Prior of every parameter of the tree, frozen with the fit (a new week of data does not move it).

    .. math:: \mu \sim N(\text{root\_mean}, \text{root\_sd}^2), \quad
              s_{\ell a} \sim N^+(0, \text{between\_sd}_{\ell a}^2), \quad R_\ell \sim LKJ(\eta), \quad
              \sigma_g \sim N^+(0, \text{noise\_scale}^2)

    and, with noise by item, :math:`\log \sigma_i \sim N(\log \sigma_{g(i)}, \omega^2)`,
    :math:`\omega \sim N^+(0, \text{noise\_spread\_scale}^2)`.

    Attributes
    ----------
    root_mean, root_sd : arrays (k + m,)
        Population mean of the k item-level coefficients, then the m shared ones.
    between_sd : array (levels, k)
        Half-normal scales, items first.
    noise_scale, noise_spread_scale, concentration : float
    """

    root_mean: Floats
    root_sd: Floats
    between_sd: Floats
    noise_scale: float
    noise_spread_scale: float
    concentration: float

    @property
    def scales(self) -> Scales:
        """The part the compiled kernels read."""
        return Scales(
            sd=np.ascontiguousarray(self.between_sd),
            root=np.ascontiguousarray(self.root_sd),
            noise=float(self.noise_scale),
            concentration=float(self.concentration),
        )


def build_tree_prior(data: TreeData, priors: Priors) -> TreePrior:
    """Spread economic priors over the levels the data have.

    The group variance is shared equally by the nesting levels of the spec. A level that was dropped (one unit) or does
    not exist gives its share to the next one up, in the end to the population mean. Priors of a control are per
    within-item standard deviation of that control; log units start around the data's own mean.

    Examples
    --------
    >>> from bayes_pricing.demand.gaussian_tree import build_tree_data
    >>> from bayes_pricing.demand.spec import DemandSpec
    >>> gram = Gram(items=("a", "b"), columns=("level", "log_price"), count=np.full(2, 2.0),
    ...             xtx=np.tile(2.0 * np.eye(2), (2, 1, 1)), xty=np.full((2, 2), 6.0), yty=np.ones(2),
    ...             centre=np.zeros((2, 2)))
    >>> prior = build_tree_prior(build_tree_data(gram, [], DemandSpec(levels=())), Priors())
    >>> prior.root_mean.tolist(), prior.root_sd.round(3).tolist()
    ([3.0, -2.62], [5.385, 1.221])
    """
    scale = 1.0 / control_scale(data.gram, len(data.spec.controls) + len(data.spec.shared_controls))
    own = len(data.spec.controls)
    item = np.array(
        [priors.level_between_items, priors.elasticity_between_items, *(priors.control_between * scale[:own])]
    )
    group = np.array(
        [priors.level_between_groups, priors.elasticity_between_groups, *(priors.control_between * scale[:own])]
    )
    share = group**2 / max(len(data.spec.levels), 1)
    waiting = np.zeros_like(group) if data.spec.levels else share
    between = [item]
    for level in data.spec.levels:
        waiting = waiting + share
        if level in data.levels:
            between.append(np.sqrt(waiting))
            waiting = np.zeros_like(group)
    root = np.array([priors.level_sd, priors.elasticity_sd, *(priors.control_sd * scale[:own])])
    centre = np.zeros(len(data.gram.columns))
    centre[0] = data.gram.xty[:, 0].sum() / max(data.gram.count.sum(), 1.0)
    centre[1] = priors.elasticity_mean
    return TreePrior(
        root_mean=centre,
        root_sd=np.concatenate([np.sqrt(root**2 + waiting), priors.control_sd * scale[own:]]),
        between_sd=np.array(between),
        noise_scale=priors.noise_scale,
        noise_spread_scale=priors.noise_spread_scale,
        concentration=priors.correlation_concentration,
    )


def control_scale(gram: Gram, controls: int) -> Floats:
    """Within-item sd of the last `controls` columns, pooled over items; the overall sd, or 1, where that is zero."""
    scale = np.ones(controls)
    rows = max(float(gram.count.sum()), 1.0)
    for at in range(controls):
        column = gram.xtx.shape[1] - controls + at
        total, square = gram.xtx[:, 0, column], gram.xtx[:, column, column]
        within = float((square - total**2 / np.maximum(gram.count, 1.0)).sum()) / rows
        overall = float(square.sum() - total.sum() ** 2 / rows) / rows
        for variance in (within, overall):
            if variance > 1e-12 * float(square.sum()) / rows and variance > 0:
                scale[at] = math.sqrt(variance)
                break
    return scale


def theta_size(levels: int, k: int, noise_groups: int) -> int:
    """Length of the unconstrained vector: per level k log sds and k(k-1)/2 partial correlations, then log noise sds."""
    return levels * (k + k * (k - 1) // 2) + noise_groups


def pair_names(coefficients: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the pairs of coefficients in the order correlations are stored: row by row below the diagonal.

    Examples
    --------
    >>> pair_names(("level", "log_price", "disp"))
    ('log_price:level', 'disp:level', 'disp:log_price')
    """
    return tuple(f"{name}:{other}" for at, name in enumerate(coefficients) for other in coefficients[:at])


def unsigned(theta: Floats, between_sd: Floats) -> Floats:
    """From the sampler's signed sds to log sds: signs move into the partial correlations; the rest is left as it is.

    Examples
    --------
    >>> unsigned(np.array([-0.5, 1.0, 0.3]), np.array([[2.0, 1.0]])).tolist()
    [0.0, 0.0, -0.3]
    """
    levels, k = between_sd.shape
    found = theta.copy()
    sds, partials = split_theta(theta, levels, k)
    log_sds, flipped = split_theta(found, levels, k)  # views
    log_sds[...] = np.log(np.abs(sds) * between_sd)
    for at, (row, column) in enumerate(zip(*np.tril_indices(k, -1), strict=True)):
        flipped[..., at] = partials[..., at] * np.sign(sds[..., row]) * np.sign(sds[..., column])
    return found


def signed(theta: Floats, between_sd: Floats) -> Floats:
    """From log sds back to (positive) sds in units of their prior scale: the inverse of :func:`unsigned`."""
    found = theta.copy()
    log_sds, _ = split_theta(found, *between_sd.shape)  # a view
    log_sds[...] = np.exp(log_sds) / between_sd
    return found


def split_theta(theta: Floats, levels: int, k: int) -> tuple[Floats, Floats]:
    """Log sds (..., levels, k) and partial correlations on the atanh scale (..., levels, k(k-1)/2)."""
    by_level = theta[..., : theta_size(levels, k, 0)].reshape(*theta.shape[:-1], levels, -1)
    return by_level[..., :k], by_level[..., k:]


def correlation_factor(partials: Floats, k: int) -> Floats:
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
