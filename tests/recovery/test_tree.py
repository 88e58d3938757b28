"""The tree against the row-wise PyMC model of the same posterior, and against known truth."""

from __future__ import annotations

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.demand.gaussian_tree import kernel_tree
from bayes_pricing.demand.model import build_lognormal_model
from bayes_pricing.demand.spec import NoiseBy
from bayes_pricing.demand.tree_kernels import log_posterior, new_work
from bayes_pricing.demand.tree_posterior import TreePosterior, build_tree_posterior, price_information
from bayes_pricing.demand.tree_prior import theta_size
from bayes_pricing.demand.tree_sampling import sample_tree
from tests.trees import Market, make_market


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "controls", "shared", "noise"),
    [(0, 0, 0, "common"), (1, 1, 2, "item"), (2, 1, 2, "category"), (2, 0, 0, "item")],
)
def test_density_equals_the_row_wise_model(depth: int, controls: int, shared: int, noise: NoiseBy) -> None:
    """PyMC's log density is quadratic in the coefficients, so a Newton step integrates them out exactly."""
    market = make_market(depth, controls, shared, noise, seed=8, items=6, weeks=6)
    model = build_lognormal_model(market.rows, market.data, market.prior)
    names = [rv.name for rv in model.free_RVs if rv.name in ("population", "shared", *market.data.level_names)]
    density = model.compile_logp(mode="FAST_COMPILE")
    slope = model.compile_dlogp([model[name] for name in names], mode="FAST_COMPILE")
    shapes = {name: model.initial_point()[name].shape for name in names}
    tree = kernel_tree(market.data, market.data.gram, market.prior.root_mean)
    work = new_work(tree)
    differences = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        point, theta, extra = random_point(market, rng)
        work.log_noise[:] = extra["log_noise"]
        collapsed = log_posterior(theta, tree, market.prior.scales, work, np.zeros_like(theta)) + extra["log_prior"]
        start = point | {name: np.zeros(shape) for name, shape in shapes.items()}
        differences.append(collapsed - integrate_quadratic(density, slope, start, shapes))
    # a few thousand roundings of log densities of order 1,000
    assert_allclose(differences, differences[0], rtol=0, atol=1e-8)


def integrate_quadratic(density, slope, start, shapes) -> float:  # type: ignore[no-untyped-def]
    """Log of the integral over the named variables of exp(density), exactly quadratic in them."""
    size = sum(int(np.prod(shape)) for shape in shapes.values())

    def at(flat: np.ndarray) -> dict[str, np.ndarray]:
        parts, used = {}, 0
        for name, shape in shapes.items():
            length = int(np.prod(shape))
            parts[name] = flat[used : used + length].reshape(shape)
            used += length
        return start | parts

    base = slope(at(np.zeros(size)))
    hessian = np.array([slope(at(column)) - base for column in np.eye(size)])
    mode = np.linalg.solve(-0.5 * (hessian + hessian.T), base)
    sign, log_det = np.linalg.slogdet(-0.5 * (hessian + hessian.T) / (2 * np.pi))
    assert sign > 0
    return float(density(at(mode)) - 0.5 * log_det)


def random_point(market: Market, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray, dict]:  # type: ignore[type-arg]
    """The same hyper-parameters as PyMC's unconstrained values and as the tree's theta."""
    data, prior, k = market.data, market.prior, len(market.data.coefficients)
    point: dict[str, np.ndarray] = {}
    parts = []
    for level in data.level_names:
        log_sd, partials = rng.normal(scale=0.5, size=k), rng.normal(scale=0.5, size=k * (k - 1) // 2)
        point |= {f"sd_{level}_log__": log_sd, f"partial_{level}_logodds__": 2.0 * partials}
        parts += [log_sd, partials]
    log_noise = rng.normal(-0.5, 0.3, size=len(data.noise_groups))
    point["noise_sd_log__"] = log_noise
    extra = {"log_noise": log_noise[data.noise_group], "log_prior": 0.0}
    if data.spec.noise_by == "item":
        own = rng.normal(-0.5, 0.3, size=len(data.gram.items))
        log_spread = rng.normal(-1.0, 0.3)
        point |= {"item_noise_sd_log__": own, "noise_spread_log__": np.array(log_spread)}
        z = (own - log_noise[data.noise_group]) / np.exp(log_spread)
        extra["log_noise"] = own
        extra["log_prior"] = float(
            (log_noise - 0.5 * np.exp(2 * log_noise) / prior.noise_scale**2).sum()
            + (log_spread - 0.5 * np.exp(2 * log_spread) / prior.noise_spread_scale**2)
            - 0.5 * (z**2).sum()
            - len(own) * log_spread
        )
    else:
        parts.append(log_noise)
    theta = np.concatenate(parts)
    assert len(theta) == theta_size(len(data.level_names), k, 0 if data.spec.noise_by == "item" else len(log_noise))
    return point, theta, extra
