"""Where an elasticity comes from, against dense linear algebra on the same hyper-draws."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from bayes_pricing.demand.pooling import split_elasticity
from bayes_pricing.demand.spec import NoiseBy
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.tree_prior import correlation_factor, split_theta
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.evidence import elasticity_evidence
from tests.unit.test_tree_posterior import make_posterior

Floats = NDArray[np.float64]


def dense_elasticities(posterior: TreePosterior, draw: int) -> Floats:
    """Mean elasticity of every item given one draw of the root: one joint normal equation, solved whole."""
    k, tree = posterior.kernel.k, posterior.kernel
    nodes, items = len(tree.parent), len(posterior.data.gram.items)
    flat = posterior.draws.theta.reshape(-1, posterior.draws.theta.shape[-1])[draw]
    log_sd, partials = split_theta(flat, len(posterior.data.level_names), k)
    root = posterior.draws.states.reshape(-1, *posterior.draws.states.shape[2:])[draw, -1] - posterior.prior.root_mean
    if posterior.draws.item_log_noise is not None:
        by_item = posterior.draws.item_log_noise.reshape(-1, items)[draw].astype(float)
    else:
        by_group = posterior.draws.log_noise.reshape(-1, posterior.draws.log_noise.shape[-1])[draw]
        by_item = by_group[posterior.data.noise_group]
    precision, information = np.zeros((nodes * k, nodes * k)), np.zeros(nodes * k)
    level = np.searchsorted(tree.level_start, np.arange(nodes), side="right") - 1
    for node in range(nodes):
        at, up = slice(node * k, node * k + k), int(tree.parent[node])
        factor = np.exp(log_sd[level[node]])[:, None] * correlation_factor(partials[level[node]], k)
        inverse = np.linalg.inv(factor @ factor.T)
        precision[at, at] += inverse
        if up < nodes:
            above = slice(up * k, up * k + k)
            precision[above, above] += inverse
            precision[at, above] -= inverse
            precision[above, at] -= inverse
        else:
            information[at] += inverse @ root[:k]
        if node < items:
            weight = np.exp(-2.0 * by_item[node])
            precision[at, at] += weight * tree.xtx[node][:k, :k]
            information[at] += weight * (tree.xty[node][:k] - tree.xtx[node][:k, k:] @ root[k:])
    solution = np.linalg.solve(precision, information).reshape(nodes, k)
    return np.asarray(solution[:items, 1] + posterior.prior.root_mean[1])


@pytest.mark.parametrize(("noise_by", "depth", "controls"), [("common", 0, 1), ("item", 1, 0), ("category", 2, 2)])
def test_parts_add_up_to_the_dense_conditional_mean(noise_by: NoiseBy, depth: int, controls: int) -> None:
    posterior = make_posterior(noise_by, depth=depth, controls=controls, draws=3)
    expected = np.stack([dense_elasticities(posterior, draw) for draw in range(6)])
    for place, item in enumerate(posterior.data.gram.items):
        split = split_elasticity(posterior, item)
        total = split.contribution.sum(axis=0) + split.other_coefficients
        assert_allclose(split.mean, expected[:, place], atol=1e-9)  # two solutions of one well-conditioned system
        assert_allclose(total, split.mean, atol=1e-12)
        assert_allclose(split.weight.sum(axis=0), 1.0, atol=1e-12)
        assert (split.weight >= 0).all()
        assert [source for source, _ in split.sources] == ["own_data", *posterior.data.levels, "population"]


def test_own_weight_is_the_posteriors_own() -> None:
    posterior = make_posterior("item", depth=1, controls=1)
    weights = posterior.own_data_weight()
    for item in posterior.data.gram.items:
        split = split_elasticity(posterior, item)
        assert_allclose(split.weight[0].mean(), weights.sel(item=item).item(), atol=1e-9)


def test_an_item_whose_price_never_moved_speaks_through_its_other_coefficients_only() -> None:
    split = split_elasticity(make_posterior(depth=1), "item0001")
    assert_allclose(split.weight[0], 0.0)
    assert_allclose(split.contribution[0], 0.0)
    assert np.abs(split.other_coefficients).max() > 1e-3  # its level is correlated with the elasticity it has not shown


def test_one_level_of_one_coefficient_is_the_textbook_shrinkage() -> None:
    """With correlations of zero the elasticity stands alone: u = s / (s + 1 / tau^2)."""
    posterior = make_posterior(depth=0, shared=0)
    theta = posterior.draws.theta
    theta[..., 2:] = 0.0
    posterior.item_factor[1, 0], posterior.item_factor[0, 1] = 0.0, 0.0
    posterior.item_factor[1, 1] = np.exp(theta[..., 1]).ravel()
    item = 4
    posterior.kernel.xtx[item, 0, 1] = posterior.kernel.xtx[item, 1, 0] = 0.0
    information = posterior.kernel.xtx[item, 1, 1] * np.exp(-2.0 * posterior.draws.log_noise.ravel())
    expected = information / (information + np.exp(-2.0 * theta[..., 1]).ravel())
    split = split_elasticity(posterior, posterior.data.gram.items[item])
    assert_allclose(split.weight[0], expected, rtol=1e-9)
    assert_allclose(split.other_coefficients, 0.0, atol=1e-12)


def test_contributions_and_other_coefficients_add_up_to_the_posterior_mean() -> None:
    posterior = make_posterior("item", depth=2, controls=1, draws=200)
    for item in posterior.data.gram.items:
        evidence = elasticity_evidence(posterior, item)
        assert evidence.exact
        assert evidence.other_coefficients is not None
        total = sum(part.contribution for part in evidence.contributions) + evidence.other_coefficients
        assert_allclose(total, evidence.estimate.mean, atol=1e-12)
        # Monte-Carlo error of 400 independent draws, shared out: within five standard errors of zero
        assert abs(evidence.simulation_error) < 5 * evidence.sd / np.sqrt(400)


def test_an_unknown_item_is_refused() -> None:
    with pytest.raises(SpecError, match="no item 'x'"):
        split_elasticity(make_posterior(draws=3), "x")
