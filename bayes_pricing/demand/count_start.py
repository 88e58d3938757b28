"""A rough first fit of counts, to tell the sampler where to start and how to move."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.count_data import CountData, count_log_likelihood
from bayes_pricing.demand.nest_start import NestedRows, nest_rows
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior

OVERDISPERSION_SCALE = 1.0
"""Half-normal scale of 1 / sqrt(dispersion), the sd of the extra variation of sales relative to their mean."""


def count_prior(data: CountData) -> TreePrior:
    """Priors of :func:`build_tree_prior`, the population's level centred at the data's own mean log rate.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.demand.count_data import build_count_data
    >>> from bayes_pricing.demand.spec import DemandSpec
    >>> frame = pl.DataFrame({"item": ["a", "b"], "price": [1.0, 2.0], "quantity": [3, 5]})
    >>> prior = count_prior(build_count_data(frame, DemandSpec(likelihood="poisson", levels=())))
    >>> round(float(np.exp(prior.root_mean[0])), 6)
    4.0
    """
    prior = build_tree_prior(data.tree, data.spec.priors)
    if data.spec.priors.level_mean is not None:
        return prior
    exposure = data.exposure if data.spec.likelihood == "poisson" else data.exposure * data.rows
    mean = prior.root_mean.copy()
    mean[0] = np.log(max(float(data.total.sum()), 0.5) / float(exposure.sum()))
    return replace(prior, root_mean=mean)


def nested_counts(data: CountData) -> NestedRows:
    """The cells as rows of the nesting."""
    return nest_rows(data.tree, count_prior(data), data.item, data.predictors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CountLaw:
    """Poisson or negative binomial cells; `dispersion` is infinite for Poisson."""

    data: CountData
    dispersion: float = math.inf

    def refitted(self, log_rate: Floats) -> CountLaw:
        """The dispersion of the largest posterior density at these rates."""
        if self.data.spec.likelihood == "poisson":
            return self

        def loss(log_overdispersion: float) -> float:
            penalty = 0.5 * math.exp(2.0 * log_overdispersion) / OVERDISPERSION_SCALE**2
            return penalty - count_log_likelihood(self.data, log_rate, math.exp(-2.0 * log_overdispersion))

        best = minimize_scalar(loss, bounds=(-4.0, 2.0), method="bounded").x
        return replace(self, dispersion=float(np.exp(-2.0 * best)))

    def slopes(self, log_rate: Floats) -> tuple[Floats, Floats]:
        """Slope of the log likelihood of each cell in its log rate, and its expected information."""
        data = self.data
        mean = data.exposure * np.exp(log_rate)
        if not np.isfinite(self.dispersion):
            return data.total - mean, mean
        damping = self.dispersion / (self.dispersion + mean)
        return (data.total - data.rows * mean) * damping, data.rows * mean * damping
