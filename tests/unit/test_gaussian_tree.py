"""The tree's density, gradient and draws against dense Gaussian algebra and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from bayes_pricing.demand.gaussian_tree import build_tree_data, kernel_tree
from bayes_pricing.demand.spec import Correlated, DemandSpec, NoiseBy
from bayes_pricing.demand.tree_density import log_posterior
from bayes_pricing.demand.tree_draws import draw_uppers, fill_normals, normal_quantile
from bayes_pricing.demand.tree_items import draw_items
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_layout import pair_names
from bayes_pricing.demand.tree_prior import build_tree_prior
from bayes_pricing.errors import SpecError
from tests.trees import Market, make_market

CASES = [
    (depth, controls, shared, noise)
    for depth in (0, 1, 2)
    for controls in (0, 1)
    for shared in (0, 2)
    for noise in ("common", "category", "item")
    if not (noise == "category" and depth == 0)
]


def theta_of(market: Market, seed: int) -> np.ndarray:
    data = market.data
    groups = 0 if data.spec.noise_by == "item" else len(data.noise_groups)
    return np.random.default_rng(seed).normal(scale=0.6, size=data.layout.size + groups)


def dense_log_marginal(market: Market, theta: np.ndarray, log_noise: np.ndarray) -> float:
    """Log density of all rows as one multivariate normal: the coefficients' covariance pushed through the design."""
    covariance, mean = dense_prior(market, theta)
    X = market.dense_design()
    V = X @ covariance @ X.T + np.diag(np.exp(2 * log_noise[market.rows.item]))
    r = market.rows.log_units - X @ mean
    sign, log_det = np.linalg.slogdet(2 * np.pi * V)
    assert sign > 0
    return float(-0.5 * log_det - 0.5 * r @ np.linalg.solve(V, r))


def dense_prior(market: Market, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joint prior covariance and mean of (item coefficients, shared coefficients) given hyper-parameters."""
    data, prior, k = market.data, market.prior, len(market.data.coefficients)
    items, m = len(data.gram.items), len(prior.root_mean) - k
    factors = data.layout.factors(data.layout.unsigned(theta, prior.between_sd))
    covariance = np.zeros((items * k + m, items * k + m))
    own = covariance[: items * k, : items * k].reshape(items, k, items, k)
    unit = np.arange(items)
    for level in range(len(data.level_names)):
        L = factors[level]
        own += (unit[:, None] == unit[None, :])[:, None, :, None] * (L @ L.T)[None, :, None, :]
        unit = data.membership[level][unit]
    own += np.diag(prior.root_sd[:k] ** 2)[None, :, None, :]
    covariance[items * k :, items * k :] = np.diag(prior.root_sd[k:] ** 2)
    return covariance, np.concatenate([np.tile(prior.root_mean[:k], items), prior.root_mean[k:]])


@pytest.mark.parametrize(("depth", "controls", "shared", "noise"), CASES)
def test_marginal_density_and_gradient(depth: int, controls: int, shared: int, noise: NoiseBy) -> None:
    check_density_and_gradient(make_market(depth, controls, shared, noise, seed=5))


@pytest.mark.parametrize("noise", ["common", "item"])
@pytest.mark.parametrize(("depth", "correlated", "others"), [(1, "price", 0), (2, "all", 3), (0, "price", 2)])
def test_density_with_independent_and_tied_coefficients(
    noise: NoiseBy, depth: int, correlated: Correlated, others: int
) -> None:
    """Only level and own price correlate; deviations of cross prices share one sd and exist for items alone."""
    check_density_and_gradient(make_market(depth, 2, 1, noise, seed=5, correlated=correlated, others=others))


def check_density_and_gradient(market: Market) -> None:
    noise = market.data.spec.noise_by
    tree, scales = kernel_tree(market.data, market.data.gram, market.prior.root_mean), market.prior.scales
    work = new_work(tree)
    fixed = np.random.default_rng(2).normal(-0.5, 0.3, len(market.data.gram.items))
    work.log_noise[:] = fixed
    differences = []
    for seed in (1, 2, 3):
        theta = theta_of(market, seed)
        gradient = np.zeros_like(theta)
        value = log_posterior(theta, tree, scales, work, gradient)
        log_noise = fixed if noise == "item" else theta[-len(market.data.noise_groups) :][market.data.noise_group]
        differences.append(value - dense_log_marginal(market, theta, log_noise) - log_prior(market, theta))
        assert_allclose(gradient, numerical_gradient(theta, tree, scales, work), rtol=1e-6, atol=1e-6)
    # equal up to a constant; 1e-8 is a few thousand roundings of log densities of order 100 to 1,000
    assert_allclose(differences, differences[0], rtol=0, atol=1e-8)


def log_prior(market: Market, theta: np.ndarray) -> float:
    data, prior, k = market.data, market.prior, market.data.layout.correlated
    x, partials, tied = data.layout.split(theta)
    power = np.array([prior.concentration + 0.5 * (k - 2 - column) for row in range(k) for column in range(row)])
    total = (-0.5 * x**2).sum() - 0.5 * (tied**2).sum()
    total += (power * np.log(1 - np.tanh(partials) ** 2)).sum()
    if data.spec.noise_by != "item":
        log_noise = theta[-len(data.noise_groups) :]
        total += (log_noise - 0.5 * np.exp(2 * log_noise) / prior.noise_scale**2).sum()
    return float(total)


def numerical_gradient(theta: np.ndarray, tree, scales, work) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Central differences, extrapolated once (error of order step^4)."""
    found, spare = np.zeros_like(theta), np.zeros_like(theta)
    for at in range(len(theta)):
        slopes = []
        for step in (1e-3, 5e-4):
            move = np.zeros_like(theta)
            move[at] = step
            up = log_posterior(theta + move, tree, scales, work, spare)
            slopes.append((up - log_posterior(theta - move, tree, scales, work, spare)) / (2 * step))
        found[at] = (4 * slopes[1] - slopes[0]) / 3
    return found


def test_many_coefficients_have_a_gradient() -> None:
    """Fourteen item-level coefficients (orange juice has fourteen): 105 hyper-parameters a level."""
    market = make_market(1, 12, 0, "common", seed=3, items=6)
    tree, scales = kernel_tree(market.data, market.data.gram, market.prior.root_mean), market.prior.scales
    work, theta = new_work(tree), 0.3 * theta_of(market, 1)
    gradient = np.zeros_like(theta)
    log_posterior(theta, tree, scales, work, gradient)
    assert_allclose(gradient, numerical_gradient(theta, tree, scales, work), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depth", [0, 1, 2])  # items of one parent, and of several
def test_a_point_beyond_all_numbers_leaves_nothing_behind(depth: int) -> None:
    """A first step may be far too long; what it leaves in the scratch arrays must not reach the next evaluation."""
    market = make_market(depth, 1, 1, "common", seed=3)
    tree, scales = kernel_tree(market.data, market.data.gram, market.prior.root_mean), market.prior.scales
    theta = theta_of(market, 1)
    expected, found = np.zeros_like(theta), np.zeros_like(theta)
    value = log_posterior(theta, tree, scales, new_work(tree), expected)
    rng, broken = np.random.default_rng(1), 0
    for size in 10.0 ** rng.uniform(1, 8, 40):
        work = new_work(tree)
        broken += not np.isfinite(log_posterior(theta + size * rng.normal(size=len(theta)), tree, scales, work, found))
        assert log_posterior(theta, tree, scales, work, found) == value
        assert_allclose(found, expected, rtol=1e-13)
    assert broken > 10


def test_standard_deviations_near_zero_are_ordinary() -> None:
    """The density is smooth through zero and the same on both sides of it, correlations flipped."""
    market = make_market(1, 0, 0, "common", seed=3)
    tree, scales = kernel_tree(market.data, market.data.gram, market.prior.root_mean), market.prior.scales
    work, theta = new_work(tree), theta_of(market, 1)
    gradient, mirrored = np.zeros_like(theta), np.zeros_like(theta)
    mirror = theta * np.array([-1, 1, -1, 1, 1, 1, 1])
    value = log_posterior(theta, tree, scales, work, gradient)
    assert_allclose(log_posterior(mirror, tree, scales, work, mirrored), value, rtol=1e-14)
    assert_allclose(mirrored, gradient * np.array([-1, 1, -1, 1, 1, 1, 1]), rtol=1e-9)
    for x in (1e-3, 0.0):
        theta[:2] = x
        log_posterior(theta, tree, scales, work, gradient)
        numerical = numerical_gradient(theta, tree, scales, work)
        assert np.isfinite(gradient).all()
        assert_allclose(gradient[2:], numerical[2:], rtol=1e-6, atol=1e-6)


def test_signed_and_unsigned_are_inverse() -> None:
    market = make_market(2, 1, 0, "common", seed=3)
    theta = theta_of(market, 1)
    scale, layout = market.prior.between_sd, market.data.layout
    kept = layout.unsigned(theta, scale)
    assert_allclose(layout.unsigned(layout.signed(kept, scale), scale), kept, rtol=1e-12)


def test_joint_draws_have_the_conditional_moments() -> None:
    """Mean and covariance of 40,000 draws of items, shared effects and population against dense algebra."""
    market = make_market(1, 0, 1, "common", seed=4, items=4)
    data, prior = market.data, market.prior
    tree = kernel_tree(data, data.gram, prior.root_mean)
    theta = theta_of(market, 3)
    draws, k, p = 40_000, 2, 3
    thetas = np.tile(theta, (draws, 1))
    states, logs = np.zeros((draws, len(tree.parent) + 1 - 4, p)), np.zeros(draws)
    empty = np.zeros((0, 0), dtype=np.float32)
    draw_uppers(11, thetas, empty, tree, prior.scales, new_work(tree), states, logs)
    factor = data.layout.factors(data.layout.unsigned(theta, prior.between_sd))[0]
    chol = np.tile(factor[:, :, None], draws)
    out, noise = np.zeros((4, k, draws)), np.full((1, draws), np.exp(-2 * theta[-1]))
    above, none = np.ascontiguousarray(np.moveaxis(states, 0, -1)), np.zeros(4, dtype=np.int64)
    draw_items(11, 0, np.arange(4), tree.parent[:4] - 4, none, chol, noise, tree.xtx, tree.xty, above, out)
    items = out.reshape(4 * k, draws).T + np.tile(prior.root_mean[:k], 4)
    sample = np.concatenate([items, states[:, -1, k:]], axis=1)
    covariance, mean = dense_prior(market, theta)
    X, weight = market.dense_design(), np.exp(-2 * theta[-1])
    exact = np.linalg.inv(np.linalg.inv(covariance) + weight * X.T @ X)
    centre = exact @ (np.linalg.solve(covariance, mean) + weight * X.T @ market.rows.log_units)
    sd = np.sqrt(np.diag(exact))
    # nine means and 45 covariances: five Monte-Carlo standard errors leave one false alarm in ten thousand runs
    assert_allclose((sample.mean(0) - centre) / sd, 0, atol=5 / np.sqrt(draws))
    assert_allclose((np.asarray(np.cov(sample.T)) - exact) / np.outer(sd, sd), 0, atol=5 * np.sqrt(2 / draws))


def test_normals_depend_only_on_their_counters() -> None:
    first, again, other = np.zeros(3), np.zeros(3), np.zeros(3)
    fill_normals(7, 12, 5, first, 3)
    fill_normals(7, 13, 5, other, 3)
    fill_normals(7, 12, 5, again, 3)
    assert first.tolist() == again.tolist()
    assert not np.isclose(first, other).any()


def test_normal_quantiles_agree_with_scipy() -> None:
    p = np.concatenate([np.linspace(1e-4, 1 - 1e-4, 999), 10.0 ** -np.arange(5.0, 17.0)])
    assert_allclose([normal_quantile(one) for one in p], stats.norm.ppf(p), rtol=1e-13, atol=1e-15)


def test_normals_are_normal() -> None:
    draws = np.zeros((50_000, 2))
    for at in range(len(draws)):
        fill_normals(3, at, 9, draws[at], 2)
    # five standard errors of mean, sd, fourth moment and correlations
    bound = 5 / np.sqrt(len(draws))
    assert_allclose(draws.mean(0), 0, atol=bound)
    assert_allclose(draws.std(0), 1, atol=bound)
    assert_allclose((draws**4).mean(0), 3, atol=bound * np.sqrt(96))
    assert_allclose(np.asarray(np.corrcoef(draws.T))[0, 1], 0, atol=bound)
    assert_allclose((draws[1:] * draws[:-1]).mean(0), 0, atol=bound)


def test_a_level_with_one_unit_moves_its_variance_up() -> None:
    gram = make_market(0, 0, 0, "common", seed=1, items=4).data.gram
    spec = DemandSpec(levels=("category", "department"))
    both = build_tree_data(gram, [["a", "a", "b", "b"], ["x", "x", "y", "y"]], spec)
    one = build_tree_data(gram, [["a", "a", "b", "b"], ["x"] * 4], spec)
    none = build_tree_data(gram, [["a"] * 4, ["x"] * 4], spec)
    priors = spec.priors
    share = priors.elasticity_between_groups**2 / 2
    assert both.levels == ("category", "department")
    assert one.levels == ("category",)
    assert one.sole_units == {"department": "x"}
    assert none.levels == ()
    assert_allclose(build_tree_prior(both, priors).between_sd[1:, 1], np.sqrt(share))
    assert_allclose(build_tree_prior(both, priors).root_sd[1], priors.elasticity_sd)
    assert_allclose(build_tree_prior(one, priors).between_sd[1:, 1], np.sqrt(share))
    assert_allclose(build_tree_prior(one, priors).root_sd[1], np.sqrt(priors.elasticity_sd**2 + share))
    assert_allclose(build_tree_prior(none, priors).root_sd[1], np.sqrt(priors.elasticity_sd**2 + 2 * share))


def test_levels_must_nest() -> None:
    gram = make_market(0, 0, 0, "common", seed=1, items=4).data.gram
    with pytest.raises(SpecError, match="'a' belongs to two units of level 'department'"):
        build_tree_data(
            gram, [["a", "a", "b", "b"], ["x", "y", "y", "y"]], DemandSpec(levels=("category", "department"))
        )


def test_wrong_columns_are_refused() -> None:
    gram = make_market(0, 0, 0, "common", seed=1, items=4).data.gram
    with pytest.raises(SpecError, match="gather them anew"):
        build_tree_data(gram, [], DemandSpec(levels=(), controls=("display",)))


def test_pairs_follow_the_order_of_correlations() -> None:
    assert pair_names(("level", "log_price", "a")) == ("log_price:level", "a:level", "a:log_price")
