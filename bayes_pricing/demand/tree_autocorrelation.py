"""First-order autocorrelation of residuals, common to all items, by the largest marginal likelihood."""

from __future__ import annotations

import numpy as np
import polars as pl
from scipy.optimize import minimize_scalar

from bayes_pricing.data.gram import Gram
from bayes_pricing.data.lag import LagGram
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_marginal import MarginalLikelihood

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
    likelihood = MarginalLikelihood.of(gram, items, spec)
    runs = float((gram.count - lagged.pairs).sum())

    def loss(rho: float) -> float:
        return -likelihood.largest(lagged.quasi_difference(gram, rho)) - 0.5 * runs * float(np.log1p(-(rho**2)))

    search = minimize_scalar(loss, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 2e-3})
    return float(search.x)
