"""How likely sales are with all coefficients integrated out, to compare what is then taken as known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from scipy.optimize import minimize

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data, kernel_tree
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_density import log_posterior
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior
from bayes_pricing.demand.tree_start import climbable


@dataclass(slots=True, kw_only=True, eq=False)
class MarginalLikelihood:
    r"""Largest marginal likelihood of sales whose Gram statistics change with something else, e.g. a grid's value.

    .. math:: \max_\theta \; \log p(y \mid \theta) + \log p(\theta)

    with :math:`\theta` the variance components and noise sds (by category or common). Coefficients are integrated out,
    which keeps what is chosen by it free of the bias that residuals of fitted coefficients have.

    Attributes
    ----------
    data : TreeData
    prior : TreePrior
    best : array
        Where the last search ended: the next one starts there.
    """

    data: TreeData
    prior: TreePrior
    best: Floats

    @classmethod
    def of(cls, gram: Gram, items: pl.DataFrame, spec: DemandSpec) -> MarginalLikelihood:
        """Of sales with these statistics, or others of the same items and columns.

        Parameters
        ----------
        gram : Gram
            What priors that follow the data are taken from.
        items : DataFrame
            With a column for every level of the spec.
        spec : DemandSpec
        """
        plain = replace(spec, noise_by="category" if spec.levels else "common")
        data = build_tree_data(gram, [[str(name) for name in items[level]] for level in spec.levels], plain)
        prior, groups = build_tree_prior(data, spec.priors), len(data.noise_groups)
        return cls(
            data=data,
            prior=prior,
            best=np.concatenate([np.full(prior.layout.size, 0.3), np.full(groups, -1.0)]),
        )

    def largest(self, gram: Gram) -> float:
        """Log of it, up to what is the same for all statistics of the same rows."""
        tree, scales = kernel_tree(self.data, gram, self.prior.root_mean), self.prior.scales
        work = new_work(tree)

        def density(theta: Floats) -> tuple[float, Floats]:
            gradient = np.zeros(self.best.size)
            value = log_posterior(theta, tree, scales, work, gradient)
            return climbable(value, gradient)

        found = minimize(density, self.best, jac=True, method="L-BFGS-B", options={"maxiter": 60, "ftol": 1e-9})
        self.best = np.asarray(found.x, dtype=np.float64)
        return -float(found.fun)
