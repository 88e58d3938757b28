"""Where chains of the Gaussian tree start: around the posterior's mode, with the curvature there as first metric."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.tree_density import log_posterior
from bayes_pricing.demand.tree_kernels import Tree, new_work
from bayes_pricing.demand.tree_prior import TreePrior

STEP = 1e-5
LEAST_PRECISION = 1.0
MOST_ITERATIONS = 200
WALL = 1e100


class Start(NamedTuple):
    """Variance components (and noise of groups) at the mode, and a Cholesky factor of their rough covariance."""

    mode: Floats  # (P,)
    factor: Floats  # (P, P)


def residual_start(tree: Tree) -> tuple[float, Floats]:
    """Log residual sd of least squares by item: pooled, and each item's own drawn towards it by ten rows' worth."""
    solution = np.linalg.pinv(tree.xtx, rcond=1e-10, hermitian=True) @ tree.xty[:, :, None]
    rss = np.maximum(tree.yty - (tree.xty[:, None, :] @ solution)[:, 0, 0], 0.0)
    freedom = np.maximum(tree.count - tree.k, 0.0)
    pooled = (rss.sum() + 1e-6) / max(float(freedom.sum()), 1.0)
    own = (rss + 10.0 * pooled) / (freedom + 10.0)
    return float(0.5 * np.log(pooled)), 0.5 * np.log(own)


def climbable(value: float, gradient: Floats) -> tuple[float, Floats]:
    """Loss and slope for a search of the mode; a step so far out that the density overflowed is a wall to turn from.

    Where an sd between units is zero the density has a crease, and a search that meets it may step that far.

    Examples
    --------
    >>> climbable(float("nan"), np.array([1.0, np.nan]))
    (1e+100, array([0., 0.]))
    """
    if np.isfinite(value) and np.isfinite(gradient).all():
        return -value, -gradient
    return WALL, np.zeros(len(gradient))


def find_start(tree: Tree, prior: TreePrior, groups: int, pooled: float, own: Floats) -> Start:
    """Climb to the mode and look at the curvature there; directions as flat as the prior or bent up count as the prior.

    Coefficients of controls may differ between items a hundred times less than the prior allows. A chain that had to
    learn that by itself would spend most of its time doing so.

    Parameters
    ----------
    tree : Tree
    prior : TreePrior
    groups : int
        Noise groups that stand with the variance components; none where noise is by item.
    pooled, own : float and array (items,)
        Log residual sds as :func:`residual_start` gives them; the latter stand for the noise of items.
    """
    work, size = new_work(tree), prior.layout.size
    work.log_noise[:] = own
    begin = np.zeros(size + groups)
    sds, _, tied = prior.layout.split(begin)
    sds[...], tied[...], begin[size:] = 0.3, 0.3, pooled

    def slope(theta: Floats) -> Floats:
        gradient = np.zeros(len(theta))
        log_posterior(theta, tree, prior.scales, work, gradient)
        return -gradient

    def loss(theta: Floats) -> tuple[float, Floats]:
        gradient = np.zeros(len(theta))
        value = log_posterior(theta, tree, prior.scales, work, gradient)
        return climbable(value, gradient)

    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": MOST_ITERATIONS, "ftol": 1e-10})
    mode = np.asarray(found.x, dtype=np.float64)
    work = new_work(tree)  # what a step into the overflow left behind would stay
    work.log_noise[:] = own
    here = slope(mode)
    curvature = np.array([(slope(mode + STEP * along) - here) / STEP for along in np.eye(len(mode))])
    values, vectors = np.linalg.eigh(0.5 * (curvature + curvature.T))
    spread = vectors / np.sqrt(np.maximum(values, LEAST_PRECISION))
    return Start(mode=mode, factor=np.linalg.cholesky(spread @ spread.T))
