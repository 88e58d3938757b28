"""The tree against the row-wise PyMC model of the same posterior, and against known truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from bayes_pricing.data.gram import Gram
from bayes_pricing.demand.diagnostics import SamplerStatistics, check_sampling
from bayes_pricing.demand.gaussian_tree import kernel_tree
from bayes_pricing.demand.model import build_lognormal_model
from bayes_pricing.demand.spec import Correlated, DemandSpec, NoiseBy
from bayes_pricing.demand.tree_density import log_posterior
from bayes_pricing.demand.tree_fit import fit_tree
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.update import update_week
from bayes_pricing.errors import Refusal
from tests.trees import Market, make_market


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "controls", "shared", "noise", "correlated", "others"),
    [
        (0, 0, 0, "common", "all", 0),
        (1, 1, 2, "item", "price", 2),  # and residuals that follow their own past
        (2, 1, 2, "category", "all", 0),
        (2, 0, 0, "item", "all", 0),
    ],
)
def test_density_equals_the_row_wise_model(
    depth: int, controls: int, shared: int, noise: NoiseBy, correlated: Correlated, others: int
) -> None:
    """PyMC's log density is quadratic in the coefficients, so a Newton step integrates them out exactly."""
    market = make_market(
        depth,
        controls,
        shared,
        noise,
        seed=8,
        items=6,
        weeks=6,
        correlated=correlated,
        others=others,
        autocorrelation=0.4 if others else 0.0,
    )
    model = build_lognormal_model(market.rows, market.data, market.prior)
    names = [
        rv.name
        for rv in model.free_RVs
        if rv.name in ("population", "shared", "other_prices", *market.data.level_names)
    ]
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
        parts: dict[str, np.ndarray] = {}
        used = 0
        for name, shape in shapes.items():
            length = int(np.prod(shape))
            parts[name] = flat[used : used + length].reshape(shape)
            used += length
        return {**start, **parts}

    base = slope(at(np.zeros(size)))
    hessian = np.array([slope(at(column)) - base for column in np.eye(size)])
    mode = np.linalg.solve(-0.5 * (hessian + hessian.T), base)
    sign, log_det = np.linalg.slogdet(-0.5 * (hessian + hessian.T) / (2 * np.pi))
    assert sign > 0
    return float(density(at(mode)) - 0.5 * log_det)


def random_point(market: Market, rng: np.random.Generator) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """The same hyper-parameters as PyMC's unconstrained values and as the tree's theta."""
    data, prior, layout = market.data, market.prior, market.data.layout
    k = layout.own
    point: dict[str, np.ndarray] = {}
    parts = []
    jacobian = 0.0  # PyMC's density is of log sds, the tree's of sds
    for level in data.level_names:
        log_sd, partials = rng.normal(scale=0.5, size=k), rng.normal(scale=0.5, size=layout.pairs)
        point |= {f"sd_{level}_log__": log_sd, f"partial_{level}_logodds__": 2.0 * partials}
        parts += [np.exp(log_sd) / prior.between_sd[data.level_names.index(level), :k], partials]
        jacobian += float(log_sd.sum())
    if layout.tied:
        log_tied = rng.normal(scale=0.5)
        point["sd_other_prices_log__"] = np.array(log_tied)
        parts.append(np.exp([log_tied]) / prior.between_sd[0, k])
        jacobian += log_tied
    log_noise = rng.normal(-0.5, 0.3, size=len(data.noise_groups))
    point["noise_sd_log__"] = log_noise
    extra: dict[str, Any] = {"log_noise": log_noise[data.noise_group], "log_prior": jacobian}
    if data.spec.noise_by == "item":
        own = rng.normal(-0.5, 0.3, size=len(data.gram.items))
        log_spread = rng.normal(-1.0, 0.3)
        point |= {"item_noise_sd_log__": own, "noise_spread_log__": np.array(log_spread)}
        z = (own - log_noise[data.noise_group]) / np.exp(log_spread)
        extra["log_noise"] = own
        extra["log_prior"] += float(
            (log_noise - 0.5 * np.exp(2 * log_noise) / prior.noise_scale**2).sum()
            + (log_spread - 0.5 * np.exp(2 * log_spread) / prior.noise_spread_scale**2)
            - 0.5 * (z**2).sum()
            - len(own) * log_spread
        )
    else:
        parts.append(log_noise)
    theta = np.concatenate(parts)
    assert len(theta) == layout.size + (0 if data.spec.noise_by == "item" else len(log_noise))
    return point, theta, extra


ITEMS, CATEGORIES = 60, 6
SD_ITEM, SD_CATEGORY = np.array([0.8, 0.5]), np.array([0.6, 0.4])
POPULATION, SEASON = np.array([4.0, -2.2]), 0.3


def simulate_panel(seed: int, weeks: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], list[str]]:
    """Designs (items, weeks, 3), log units, truth and category names of a market with noise by item."""
    rng = np.random.default_rng(seed)
    member = np.arange(ITEMS) % CATEGORIES
    category = POPULATION + SD_CATEGORY * rng.standard_normal((CATEGORIES, 2))
    item = category[member] + SD_ITEM * rng.standard_normal((ITEMS, 2))
    noise = 0.4 * np.exp(0.4 * rng.standard_normal(ITEMS))
    X = np.ones((ITEMS, weeks, 3))
    X[:, :, 1] = rng.normal(scale=0.15, size=(ITEMS, weeks))
    X[:, :, 2] = np.sin(np.arange(weeks) / 4.0)
    effects = np.column_stack([item, np.full(ITEMS, SEASON)])
    log_units = (X * effects[:, None]).sum(2) + noise[:, None] * rng.standard_normal((ITEMS, weeks))
    truth = {"category": category, "item": item, "noise": noise}
    return X, log_units, truth, [f"category{at}" for at in member]


def gram_of(X: np.ndarray, y: np.ndarray) -> Gram:
    return Gram(
        items=tuple(f"item{at:02d}" for at in range(len(X))),
        columns=("level", "log_price", "season"),
        count=np.full(len(X), float(X.shape[1])),
        xtx=np.einsum("jta,jtb->jab", X, X),
        xty=np.einsum("jta,jt->ja", X, y),
        yty=np.einsum("jt,jt->j", y, y),
        centre=np.zeros((len(X), 3)),
    )


def fit_panel(X: np.ndarray, y: np.ndarray, categories: list[str], noise_by: NoiseBy, seed: int) -> TreePosterior:
    spec = DemandSpec(shared_controls=("season",), noise_by=noise_by)
    gram = gram_of(X, y)
    items = pl.DataFrame({"item": gram.items, "category": categories})
    return fit_tree(gram, items, spec, draws=1000, tune=500, chains=4, seed=seed)


def z_scores(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Distance of the truth from the posterior mean in posterior sds; draws are (chain, draw, ...)."""
    return np.asarray((draws.mean((0, 1)) - truth) / draws.std((0, 1))).ravel()


@pytest.mark.slow
@pytest.mark.parametrize(("noise_by", "seed"), [("item", 1), ("item", 2), ("item", 3), ("common", 4), ("category", 5)])
def test_recovers_known_truth(noise_by: NoiseBy, seed: int) -> None:
    X, y, truth, categories = simulate_panel(seed, weeks=40)
    posterior = fit_panel(X, y, categories, noise_by, seed)
    statistics = SamplerStatistics(divergences=posterior.draws.divergences, energy=posterior.draws.energy)
    diagnostics = check_sampling(posterior, statistics)
    assert diagnostics.passed, diagnostics.findings
    few = [
        z_scores(posterior.coefficients("population").to_numpy(), POPULATION),
        z_scores(posterior.shared().to_numpy(), np.array([SEASON])),
        z_scores(np.log(posterior.variation("item").to_numpy()), np.log(SD_ITEM)),
        z_scores(np.log(posterior.variation("category").to_numpy()), np.log(SD_CATEGORY)),
        z_scores(posterior.coefficients("category").to_numpy(), truth["category"]),
    ]
    assert abs(np.concatenate(few)).max() < 4.1  # 19 parameters, family error 0.1 %
    if noise_by == "item":
        items = [z_scores(posterior.coefficients("item").to_numpy(), truth["item"])]
        items.append(z_scores(np.log(posterior.hyper()["item_noise_sd"].to_numpy()), np.log(truth["noise"])))
        assert abs(np.concatenate(items)).max() < 4.9  # 180 parameters, skewed noise sds: a little over the normal 4.5
    sd = posterior.coefficients("population").sel(coefficient="log_price").std()
    assert float(sd) < 0.4 * posterior.spec.priors.elasticity_sd  # the data taught something


@pytest.mark.slow
def test_posterior_agrees_with_the_row_wise_model() -> None:
    """NUTS on PyMC's row-wise model of a small panel: means and sds within Monte-Carlo error."""
    import nutpie  # type: ignore[import-untyped]
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    market = make_market(1, 0, 0, "common", seed=21, items=8, weeks=12)
    fitted = sample_market(market)
    compiled = nutpie.compile_pymc_model(build_lognormal_model(market.rows, market.data, market.prior))
    trace = nutpie.sample(
        compiled, draws=1500, tune=500, chains=2, cores=2, seed=5, target_accept=0.9, progress_bar=False
    )
    rows = trace["posterior"]
    pairs = {
        "population": (fitted.coefficients("population"), rows["population"]),
        "category": (fitted.coefficients("category"), rows["category"]),
        "item": (fitted.coefficients("item"), rows["item"]),
        "noise": (fitted.hyper()["noise_sd"], rows["noise_sd"]),
        "sd": (fitted.variation("item"), rows["sd_item"]),
    }
    for name, (tree, row_wise) in pairs.items():
        ours, theirs = tree.to_numpy(), row_wise.to_numpy()
        ours, theirs = (values.reshape(*values.shape[:2], -1) for values in (ours, theirs))
        for at in range(ours.shape[2]):
            sizes = [float(array_stats.ess(values[:, :, at], chain_axis=0, draw_axis=1)) for values in (ours, theirs)]
            # 32 means and as many sds: 4.5 standard errors; heavy tails make those of sds twice the normal ones
            error = ours[:, :, at].std() * np.sqrt(1 / sizes[0] + 1 / sizes[1])
            assert abs(ours[:, :, at].mean() - theirs[:, :, at].mean()) < 4.5 * error, (name, at, sizes)
            assert abs(ours[:, :, at].std() - theirs[:, :, at].std()) < 9.0 * error / np.sqrt(2), (name, at, sizes)


def sample_market(market: Market) -> TreePosterior:
    return fit_tree(market.data.gram, market.items, market.data.spec, draws=1000, tune=500, chains=4, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("noise_by", ["common", "item"])
def test_a_new_week_equals_a_refit(noise_by: NoiseBy) -> None:
    """Means within 0.15 posterior sds and sds within 15 %: the weights leave some hundreds of effective draws."""
    X, y, _, categories = simulate_panel(9, weeks=31)
    old = fit_panel(X[:, :30], y[:, :30], categories, noise_by, seed=2)
    new = update_week(old, gram_of(X[:, 30:], y[:, 30:]))
    refit = fit_panel(X, y, categories, noise_by, seed=3)
    questions: list[Callable[[TreePosterior], Any]] = [
        lambda posterior: posterior.coefficients("population"),
        lambda posterior: posterior.coefficients("category"),
        lambda posterior: posterior.coefficients("item"),
        lambda posterior: np.log(posterior.variation("item")),
        lambda posterior: np.log(posterior.hyper()["noise_sd"]),
        lambda posterior: 0.5 * np.log(2.0 * posterior.log_smearing()),
    ]
    for ask in questions:
        updated, sampled = ask(new).to_numpy(), ask(refit).to_numpy()
        sd = sampled.std((0, 1))
        assert_allclose((updated.mean((0, 1)) - sampled.mean((0, 1))) / sd, 0, atol=0.15)
        assert_allclose(updated.std((0, 1)) / sd, 1, atol=0.15)
    before, after = (posterior.coefficients("item").to_numpy() for posterior in (old, new))
    moved = (after.mean((0, 1)) - before.mean((0, 1))) / before.std((0, 1))
    assert abs(moved).max() > 0.3  # there was something to learn


@pytest.mark.slow
def test_a_shock_asks_for_a_refit() -> None:
    X, y, _, categories = simulate_panel(9, weeks=31)
    old = fit_panel(X[:, :30], y[:, :30], categories, "common", seed=2)
    with pytest.raises(Refusal, match="fit the model again"):
        update_week(old, gram_of(X[:, 30:], y[:, 30:] + 8.0))
