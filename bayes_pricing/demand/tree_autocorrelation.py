"""First-order autocorrelation of residuals, common to all items, by the largest marginal likelihood."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
from scipy.optimize import minimize, minimize_scalar

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.data.lag import LagGram
from bayes_pricing.demand.gaussian_tree import build_tree_data, kernel_tree
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_density import log_posterior
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_prior import build_tree_prior

WIDEST = 0.95


def estimate_autocorrelation(gram: Gram, lagged: LagGram, items: pl.DataFrame, spec: DemandSpec) -> float:
    r"""Autocorrelation at which the sales are most likely, all coefficients integrated out.

    .. math:: \hat\rho = \arg\max_\rho \max_\theta \; \log p(y \mid \theta, \rho) + \log p(\theta), \qquad
              e_{it} = \rho e_{i,t-1} + u_{it}

    with variance components and noise sds (by category or common) at their best values. Integrating the coefficients
    out keeps the estimate free of the bias that residuals of fitted coefficients have.

    Parameters
    ----------
    gram : Gram
    lagged : LagGram
        Of the same rows.
    items : DataFrame
        With a column for every level of the spec.
    spec : DemandSpec

    Returns
    -------
    float in (-0.95, 0.95)
        0 where no item was seen in two consecutive periods.
    """
    if not lagged.pairs.sum() > 0:
        return 0.0
    plain = replace(spec, noise_by="category" if spec.levels else "common")
    data = build_tree_data(gram, [[str(name) for name in items[level]] for level in spec.levels], plain)
    prior, groups = build_tree_prior(data, spec.priors), len(data.noise_groups)
    scales, size = prior.scales, prior.layout.size + groups
    work = new_work(kernel_tree(data, gram, prior.root_mean))
    runs = float((gram.count - lagged.pairs).sum())
    best = np.concatenate([np.full(prior.layout.size, 0.3), np.full(groups, -1.0)])

    def loss(rho: float) -> float:
        nonlocal best
        tree = kernel_tree(data, lagged.quasi_difference(gram, rho), prior.root_mean)

        def density(theta: Floats) -> tuple[float, Floats]:
            gradient = np.zeros(size)
            value = log_posterior(theta, tree, scales, work, gradient)
            return -value, -gradient

        found = minimize(density, best, jac=True, method="L-BFGS-B", options={"maxiter": 60, "ftol": 1e-9})
        best = np.asarray(found.x, dtype=np.float64)
        return float(found.fun) - 0.5 * runs * float(np.log1p(-(rho**2)))

    search = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 2e-3})
    return float(search.x)
