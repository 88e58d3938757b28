"""Chains of the Gaussian tree start around the mode, as far from it as the posterior is wide."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.demand.gaussian_tree import kernel_tree
from bayes_pricing.demand.spec import NoiseBy
from bayes_pricing.demand.tree_density import log_posterior
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_start import LEAST_PRECISION, find_start, residual_start
from tests.trees import make_market


@pytest.mark.parametrize(("noise_by", "groups"), [("common", 1), ("item", 0)])
def test_start_is_the_mode_and_the_metric_its_curvature(noise_by: NoiseBy, groups: int) -> None:
    """No slope at the mode, to the tolerance of the climb; the metric is the inverse curvature."""
    market = make_market(1, 1, 0, noise_by, seed=4)
    tree, prior = kernel_tree(market.data, market.data.gram, market.prior.root_mean), market.prior
    pooled, own = residual_start(tree)
    start = find_start(tree, prior, groups, pooled, own)
    work = new_work(tree)
    work.log_noise[:] = own

    def slope(theta: np.ndarray) -> np.ndarray:
        gradient = np.zeros(len(theta))
        log_posterior(theta, tree, prior.scales, work, gradient)
        return gradient

    covariance = start.factor @ start.factor.T
    assert abs(start.factor.T @ slope(start.mode)).max() < 0.05  # in posterior sds
    along = np.eye(len(start.mode)) * 1e-4
    curvature = -np.array([slope(start.mode + one) - slope(start.mode - one) for one in along]) / 2e-4
    values = np.linalg.eigvalsh(0.5 * (curvature + curvature.T))
    expected = np.sort(1.0 / np.maximum(values, LEAST_PRECISION))
    assert_allclose(np.linalg.eigvalsh(covariance), expected, rtol=1e-2)  # differences of one side, a step of 1e-5
