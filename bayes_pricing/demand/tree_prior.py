"""Priors of the Gaussian tree as numbers: what each level's scales become once levels are known and dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.gaussian_tree import TreeData
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_CURVE, PRICE_DRIFT, PRICE_FALL, PROMOTION, Priors
from bayes_pricing.demand.tree_kernels import Scales
from bayes_pricing.demand.tree_layout import Layout, plain_layout
from bayes_pricing.demand.tree_layout import correlation_factor as correlation_factor
from bayes_pricing.demand.tree_layout import pair_names as pair_names


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
        Half-normal scales, items first; tied coefficients, which only items have, are zero above.
    noise_scale, noise_spread_scale, concentration : float
    layout : Layout
        Which coefficients correlate, and which share one sd.
    """

    root_mean: Floats
    root_sd: Floats
    between_sd: Floats
    noise_scale: float
    noise_spread_scale: float
    concentration: float
    layout: Layout

    @property
    def scales(self) -> Scales:
        """The part the compiled kernels read."""
        return Scales(
            sd=np.ascontiguousarray(self.between_sd),
            root=np.ascontiguousarray(self.root_sd),
            noise=float(self.noise_scale),
            concentration=float(self.concentration),
            correlated=self.layout.correlated,
            tied=self.layout.tied,
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
    scale = 1.0 / control_scale(data.gram, len(data.gram.columns) - 2)
    shared = scale[len(data.coefficients) - 2 :][: len(data.spec.shared_controls)]
    own = [_own_prior(name, priors, one) for name, one in zip(data.spec.coefficients, [1.0, 1.0, *scale], strict=False)]
    tied = np.zeros(data.spec.others)
    item = np.concatenate([[one.between_items for one in own], tied + priors.cross_price_deviation])
    group = np.concatenate([[one.between_groups for one in own], tied])
    share = group**2 / max(len(data.spec.levels), 1)
    waiting = np.zeros_like(group) if data.spec.levels else share
    between = [item]
    for level in data.spec.levels:
        waiting = waiting + share
        if level in data.levels:
            between.append(np.sqrt(waiting))
            waiting = np.zeros_like(group)
    root = np.concatenate([[one.sd for one in own], tied])
    centre = np.zeros(len(data.gram.columns))
    centre[: len(own)] = [one.mean for one in own]
    own_mean = data.gram.xty[:, 0].sum() / max(data.gram.count.sum(), 1.0)
    centre[0] = own_mean if priors.level_mean is None else priors.level_mean
    return TreePrior(
        root_mean=centre,
        root_sd=np.concatenate([np.sqrt(root**2 + waiting), priors.control_sd * shared, _attribute_sds(data, priors)]),
        between_sd=np.array(between),
        noise_scale=priors.noise_scale,
        noise_spread_scale=priors.noise_spread_scale,
        concentration=priors.correlation_concentration,
        layout=data.layout,
    )


class _OwnPrior(NamedTuple):
    """Prior of one coefficient that units of every level have."""

    mean: float
    sd: float
    between_groups: float
    between_items: float


def _own_prior(name: str, priors: Priors, scale: float) -> _OwnPrior:
    """Prior of a coefficient; `scale` is one over a control's within-item sd."""
    if name == "level":
        return _OwnPrior(0.0, priors.level_sd, priors.level_between_groups, priors.level_between_items)
    if name == "log_price":
        between = (priors.elasticity_between_groups, priors.elasticity_between_items)
        return _OwnPrior(priors.elasticity_mean, priors.elasticity_sd, *between)
    if name == CROSS_PRICE:
        between = (priors.cross_price_between, priors.cross_price_between)
        return _OwnPrior(priors.cross_price_mean, priors.cross_price_sd, *between)
    if name == PRICE_DRIFT:
        return _OwnPrior(0.0, priors.drift_sd, priors.drift_between, priors.drift_between)
    if name == PRICE_CURVE:
        return _OwnPrior(0.0, priors.curve_sd, priors.curve_between, priors.curve_between)
    if name in (PROMOTION, PRICE_FALL):
        return _OwnPrior(0.0, priors.response_sd, priors.response_between, priors.response_between)
    return _OwnPrior(0.0, priors.control_sd * scale, priors.control_between * scale, priors.control_between * scale)


def attribute_values(data: TreeData) -> Floats:
    """Attributes of the items, less their means over items, (items, a)."""
    places = [data.gram.columns.index(name) for name in data.spec.attribute_levels]
    found: Floats = data.gram.xtx[:, 0, places] / np.maximum(data.gram.count, 1.0)[:, None]
    return found


def _attribute_sds(data: TreeData, priors: Priors) -> Floats:
    """Prior sds of the attributes' effects on log units, then on elasticities."""
    values = attribute_values(data)
    two = np.array([len(np.unique(column.round(9))) == 2 for column in values.T], dtype=bool)
    scale = 1.0 / np.where(two, 0.5 * np.ptp(values, axis=0), values.std(axis=0)) if values.size else np.empty(0)
    return np.concatenate([priors.attribute_level_sd * scale, priors.attribute_elasticity_sd * scale])


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
    """Length of the unconstrained vector where all coefficients correlate: variance components, then log noise sds."""
    return plain_layout(levels, k).size + noise_groups


def unsigned(theta: Floats, between_sd: Floats) -> Floats:
    """:meth:`Layout.unsigned` where all coefficients correlate."""
    return plain_layout(*between_sd.shape).unsigned(theta, between_sd)


def split_theta(theta: Floats, levels: int, k: int) -> tuple[Floats, Floats]:
    """Views of sds and partial correlations (:meth:`Layout.split`) where all coefficients correlate."""
    sds, partials, _ = plain_layout(levels, k).split(theta)
    return sds, partials
