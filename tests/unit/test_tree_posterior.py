"""Tree posteriors built from made-up hyper-draws: what is asked for, in any order, is the same world."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayes_pricing.demand.gaussian_tree import kernel_tree
from bayes_pricing.demand.spec import NoiseBy
from bayes_pricing.demand.tree_draws import draw_uppers
from bayes_pricing.demand.tree_fit import build_tree_posterior, from_arrays
from bayes_pricing.demand.tree_items import price_information
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_likelihood import sales_log_likelihood
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.tree_sampling import TreeDraws
from bayes_pricing.errors import SpecError
from tests.trees import make_market


def make_posterior(
    noise_by: NoiseBy = "common", *, depth: int = 1, controls: int = 0, shared: int = 1, draws: int = 50
) -> TreePosterior:
    market = make_market(depth, controls, shared, noise_by, seed=6)
    data, prior = market.data, market.prior
    rng = np.random.default_rng(1)
    theta = rng.normal(-0.5, 0.3, (2, draws, data.layout.size))
    log_noise = rng.normal(-0.7, 0.1, (2, draws, len(data.noise_groups)))
    by_item = rng.normal(-0.7, 0.2, (2, draws, len(data.gram.items))).astype(np.float32)
    tree = kernel_tree(data, data.gram, prior.root_mean)
    states, logs = np.zeros((2 * draws, len(tree.parent) + 1 - len(tree.count), tree.xty.shape[1])), np.zeros(2 * draws)
    flat = np.concatenate([data.layout.signed(theta, prior.between_sd), log_noise], axis=2).reshape(2 * draws, -1)
    none = np.zeros((0, 0), dtype=np.float32)
    draw_uppers(4, flat, none, tree, prior.scales, new_work(tree), states, logs)
    made = TreeDraws(
        theta=theta,
        log_noise=log_noise,
        log_spread=rng.normal(-1, 0.1, (2, draws)) if noise_by == "item" else None,
        item_log_noise=by_item if noise_by == "item" else None,
        states=states.reshape(2, draws, *states.shape[1:]) + prior.root_mean,
        divergences=0,
        energy=rng.normal(size=(2, draws)),
        steps=np.ones((2, draws)),
        seconds=0.1,
    )
    return build_tree_posterior(data, prior, made, market.items, seed=17)


@pytest.mark.parametrize("noise_by", ["common", "item"])
def test_item_draws_do_not_depend_on_what_else_is_asked(noise_by: NoiseBy) -> None:
    posterior = make_posterior(noise_by)
    everything = posterior.coefficients("item")
    some = posterior.coefficients("item", ["item0005", "item0002"])
    assert some.dims == ("chain", "draw", "item", "coefficient")
    assert_array_equal(some, everything.sel(item=["item0005", "item0002"]))
    assert_array_equal(posterior.log_smearing(["item0003"]), posterior.log_smearing().sel(item=["item0003"]))


def test_large_requests_run_in_threads_and_agree() -> None:
    """Nine items by 24,000 draws are split over cores; the draws are those of a request for one item."""
    posterior = make_posterior(draws=12_000, shared=0)
    everything = posterior.coefficients("item")
    assert_array_equal(everything.sel(item=["item0004"]), posterior.coefficients("item", ["item0004"]))


def test_levels_and_their_names() -> None:
    posterior = make_posterior(controls=1)
    category = posterior.coefficients("category")
    assert category.dims == ("chain", "draw", "category", "coefficient")
    assert category["category"].to_numpy().tolist() == ["category0", "category1", "category2"]
    assert posterior.coefficients("population").dims == ("chain", "draw", "coefficient")
    assert posterior.shared()["control"].to_numpy().tolist() == ["shared0"]
    assert set(posterior.hyper()) == {"sd_item", "sd_category", "correlation_item", "correlation_category", "noise_sd"}
    assert_array_equal(posterior.variation("item"), posterior.hyper()["sd_item"])
    with pytest.raises(SpecError, match="no level 'brand'"):
        posterior.coefficients("brand")
    with pytest.raises(SpecError, match="no item"):
        posterior.coefficients("item", ["nothing"])


def test_own_data_weight_is_a_share_and_zero_without_price_moves() -> None:
    weight = make_posterior().own_data_weight()
    assert (weight.to_numpy() >= 0).all()
    assert (weight.to_numpy() <= 1).all()
    assert weight.to_numpy()[:2].tolist() == [0.0, 0.0]  # no rows; a price that never moves
    assert (weight.to_numpy()[2:] > 0.05).all()


def test_own_data_weight_of_one_coefficient_pair_by_hand() -> None:
    r"""Information on price over noise variance, times the (price, price) entry of (X'X/s2 + inverse Sigma)^-1."""
    posterior = make_posterior(draws=1, shared=0)
    factor, noise = posterior.item_factor, np.exp(2 * posterior.draws.log_noise).ravel()
    by_hand = np.zeros(9)
    information = price_information(posterior.data.gram.xtx)
    for d in range(2):
        precision = np.linalg.inv(factor[:, :, d] @ factor[:, :, d].T)
        variance = np.linalg.inv(posterior.data.gram.xtx / noise[d] + precision)[:, 1, 1]
        by_hand += 0.5 * information / noise[d] * variance
    assert_allclose(posterior.own_data_weight(), by_hand, rtol=1e-9)


def test_price_information_is_zero_where_a_control_explains_all() -> None:
    x = np.array([-1.0, 0.0, 1.0, 0.5])
    X = np.column_stack([np.ones(4), x, 2.0 * x + 3.0])
    free = np.column_stack([np.ones(4), x, [1.0, -1.0, 1.0, 0.0]])
    information = price_information(np.array([X.T @ X, free.T @ free]))
    assert information[0] == 0.0
    residual = x - free[:, [0, 2]] @ np.linalg.lstsq(free[:, [0, 2]], x, rcond=None)[0]
    assert_allclose(information[1], residual @ residual, rtol=1e-12)


@pytest.mark.parametrize("noise_by", ["category", "item"])
def test_arrays_and_back(noise_by: NoiseBy) -> None:
    posterior = make_posterior(noise_by, depth=2)
    arrays, about = posterior.to_arrays()
    again = from_arrays(arrays, json.loads(json.dumps(about)), posterior.items)
    assert again.id == posterior.id
    assert again.spec == posterior.spec
    assert_array_equal(again.coefficients("item"), posterior.coefficients("item"))
    assert_array_equal(again.hyper()["noise_sd"], posterior.hyper()["noise_sd"])


def test_id_follows_the_draws() -> None:
    assert make_posterior().id == make_posterior().id
    assert make_posterior().id != make_posterior(draws=49).id


def test_a_new_item_varies_around_its_category() -> None:
    posterior = make_posterior(draws=20_000, shared=0)
    new = posterior.new_unit("item", "category1", seed=3)
    parent = posterior.coefficients("category", ["category1"]).isel(category=0)
    spread = posterior.variation("item")
    scaled = ((new - parent) / spread).to_numpy().reshape(-1, 2)
    # mean and sd of 40,000 standard normals to five standard errors
    assert_allclose(scaled.mean(axis=0), 0, atol=5 / np.sqrt(40_000))
    assert_allclose(scaled.std(axis=0), 1, atol=5 / np.sqrt(2 * 40_000))
    with pytest.raises(SpecError, match="name its parent"):
        posterior.new_unit("item", None, seed=1)


def test_an_item_of_a_new_category_has_both_widths() -> None:
    """Variances add: around the population a new category's, and around that the new item's own."""
    posterior = make_posterior(draws=20_000)
    category = posterior.new_unit("category", None, seed=3)
    item = posterior.new_unit("item", category, seed=4)
    away = (item - posterior.coefficients("population")).sel(coefficient="log_price")
    spread = (posterior.variation("item") ** 2 + posterior.variation("category") ** 2).sel(
        coefficient="log_price"
    ) ** 0.5
    # 40,000 draws: five standard errors of an sd
    assert_allclose(float((away / spread).std()), 1, atol=5 / np.sqrt(2 * 40_000))


@pytest.mark.parametrize(("noise_by", "shared"), [("common", 2), ("item", 0)])
def test_log_likelihood_of_sales_is_that_of_the_rows(noise_by: NoiseBy, shared: int) -> None:
    """From Gram statistics as from rows: the normal density of every row at each draw, constants aside."""
    market = make_market(1, 1, shared, noise_by, seed=6)
    posterior = make_posterior(noise_by, depth=1, controls=1, shared=shared, draws=5)
    own, noise = posterior.own_draws(market.data.gram.items)
    every = np.concatenate(
        [own.transpose(1, 0, 2).reshape(10, -1), posterior.shared().to_numpy().reshape(10, -1)], axis=1
    )
    residual = market.rows.log_units - every @ market.dense_design().T
    sds = noise.T[:, market.rows.item]
    direct = -(np.log(sds) + 0.5 * (residual / sds) ** 2).sum(axis=1)
    assert_allclose(sales_log_likelihood(posterior), direct, rtol=1e-10)
