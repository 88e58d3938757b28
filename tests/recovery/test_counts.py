"""Fits of counts: equal to their PyMC definition, true to simulated demand, honest where data say nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.count_coordinates import build_counts, start_point
from bayes_pricing.demand.count_data import CountData, build_count_data
from bayes_pricing.demand.count_density import Counts, fill_coefficients, log_posterior, new_work
from bayes_pricing.demand.count_fit import CountFit, fit_counts
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.diagnostics import check_sampling
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.elasticity import attribute_table
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.demand.spec import DemandSpec, Likelihood
from bayes_pricing.demand.terms import TermRequest
from simulations.markets.course_settings import CourseMarketSettings
from simulations.markets.courses import simulate_courses
from tests.changing import changing_market, standardised

Floats = NDArray[np.float64]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Truth:
    """Simulated sales and the numbers behind them."""

    frame: pl.DataFrame
    items: pl.DataFrame
    level: Floats
    elasticity: Floats
    family: Floats
    holiday: float
    overdispersion: float


def simulate(seed: int, likelihood: Likelihood, items: int = 200, families: int = 8, weeks: int = 40) -> Truth:
    """Sales of items in families, each cycling through seven prices; one family member's price never moves."""
    rng = np.random.default_rng(seed)
    member = np.arange(items) % families
    family = rng.normal(-2.3, 0.5, families)
    elasticity = rng.normal(family[member], 0.5)
    level = rng.normal(0.5, 0.8, items) + 0.4 * (elasticity - family[member])
    log_price = rng.choice(np.linspace(-0.4, 0.4, 7), (items, weeks))
    log_price[0] = 0.0
    holiday = np.broadcast_to(rng.integers(0, 2, weeks), (items, weeks))
    exposure = rng.choice([0.5, 1.0, 2.0], (items, weeks))
    mean = np.exp(
        level[:, None]
        + elasticity[:, None] * (log_price - log_price.mean(axis=1, keepdims=True))
        + 0.3 * (holiday - holiday.mean(axis=1, keepdims=True))
    )
    overdispersion = 0.6 if likelihood == "negative_binomial" else 0.0
    extra = rng.gamma(1 / 0.36, 0.36, mean.shape) if overdispersion else 1.0
    names = [f"i{at:03d}" for at in range(items)]
    frame = pl.DataFrame(
        {
            "item": np.repeat(names, weeks),
            "family": np.repeat([f"f{at}" for at in member], weeks),
            "price": 10.0 * np.exp(log_price).ravel(),
            "quantity": rng.poisson(mean * exposure * extra).ravel(),
            "exposure": exposure.ravel(),
            "holiday": holiday.ravel().astype(float),
        }
    )
    table = frame.group_by("item").agg(pl.col("family").first()).sort("item")
    return Truth(
        frame=frame,
        items=table,
        level=level,
        elasticity=elasticity,
        family=family,
        holiday=0.3,
        overdispersion=overdispersion,
    )


def specification(likelihood: Likelihood) -> DemandSpec:
    return DemandSpec(likelihood=likelihood, levels=("family",), shared_controls=("holiday",))


def fit(truth: Truth, likelihood: Likelihood, seed: int = 1, draws: int = 500) -> CountFit:
    return fit_counts(truth.frame, specification(likelihood), truth.items, draws=draws, chains=4, seed=seed)


SIZES = np.array([-1.5, 0.5, 2.0, -1.0])


def small(likelihood: Likelihood) -> tuple[CountData, Counts, list[Floats]]:
    """Four items of known size, two families, an item-level and a shared control; the compiled model, three points."""
    rng = np.random.default_rng(3)
    rows = 48
    frame = pl.DataFrame(
        {
            "item": np.repeat(list("abcd"), rows // 4),
            "family": np.repeat(["x", "x", "y", "y"], rows // 4),
            "price": np.exp(rng.normal(0, 0.3, rows)).round(1),
            "quantity": rng.poisson(2.0, rows),
            "exposure": rng.choice([1.0, 2.0], rows),
            "display": rng.integers(0, 2, rows).astype(float),
            "holiday": rng.integers(0, 2, rows).astype(float),
            "size:level": np.repeat(SIZES, rows // 4),
        }
    ).with_columns((pl.col("size:level") * pl.col("price").log()).alias("size:log_price"))
    spec = DemandSpec(
        likelihood=likelihood,
        levels=("family",),
        controls=("display",),
        shared_controls=("holiday",),
        attributes=("size",),
    )
    data = build_count_data(frame, spec)
    counts, rough = build_counts(data)
    points = [start_point(counts, rough, np.random.default_rng(seed)) for seed in range(3)]
    points[2][[1, 7, 8]] *= -1.0  # sds stand with a sign
    return data, counts, points


def unsigned(block: Floats, scale: Floats) -> tuple[Floats, Floats]:
    """Log sds and log odds of partial correlations of a level, as PyMC has them, from its coordinates."""
    k = len(scale)
    row, column = np.tril_indices(k, -1)
    return np.log(np.abs(block[:k]) * scale), 2.0 * block[k:] * np.sign(block[row] * block[column])


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_gradient_is_that_of_the_density(likelihood: Likelihood) -> None:
    _, counts, points = small(likelihood)
    work, gradient, scratch = new_work(counts), np.zeros_like(points[0]), np.zeros_like(points[0])
    for x in points:
        log_posterior(x, counts, work, gradient)
        steps = 1e-5 * np.eye(len(x))
        differences = [
            (log_posterior(x + h, counts, work, scratch) - log_posterior(x - h, counts, work, scratch)) / 2e-5
            for h in steps
        ]
        np.testing.assert_allclose(gradient, differences, atol=1e-6)  # central differences of a density of size 100


@pytest.mark.parametrize("likelihood", ["poisson", "negative_binomial"])
def test_density_is_that_of_the_pymc_model(likelihood: Likelihood) -> None:
    from bayes_pricing.demand.model import build_count_model

    data, counts, points = small(likelihood)
    model = build_count_model(data)
    log_density, names = model.compile_logp(), [variable.name for variable in model.value_vars]
    work, gradient = new_work(counts), np.zeros_like(points[0])

    def values(x: Floats) -> dict[str, Floats]:
        """The PyMC model's own unconstrained values at `x`."""
        k, pairs = 3, 3
        fill_coefficients(x, counts, work)
        found = {"population": work.states.b[:, -2].copy()}
        for level, name in enumerate(data.tree.level_names):
            own = work.states.b[:, counts.nest.level_start[level] : counts.nest.level_start[level + 1]].T
            found[name] = own[np.argsort(counts.nest.order)] if name == "item" else own.copy()
            block, scale = x[level * (k + pairs) : (level + 1) * (k + pairs)], counts.scales.between_sd[level]
            found[f"sd_{name}_log__"], found[f"partial_{name}_logodds__"] = unsigned(block, scale)
        at = len(data.tree.level_names) * (k + pairs)
        found["shared"] = x[at : at + 3]
        found["item"][:, :2] -= SIZES[:, None] * x[at + 1 : at + 3]  # PyMC's are deviations from what size explains
        if likelihood == "negative_binomial":
            found["overdispersion_log__"] = np.log(counts.scales.overdispersion * np.abs(x[at + 3]))
        return found

    def flat(x: Floats) -> Floats:
        found = values(x)
        return np.concatenate([np.ravel(found[name]) for name in names])

    differences = []
    for x in points:
        steps = 1e-5 * np.eye(len(x))
        jacobian = np.column_stack([(flat(x + h) - flat(x - h)) / 2e-5 for h in steps])
        there = float(log_density(values(x))) + float(np.linalg.slogdet(jacobian)[1])
        differences.append(log_posterior(x, counts, work, gradient) - there)
    np.testing.assert_allclose(differences, differences[0], atol=1e-8)  # equal up to one constant


@pytest.mark.parametrize(("likelihood", "seed"), [("poisson", 11), ("poisson", 12), ("negative_binomial", 13)])
def test_recovers_what_was_simulated(likelihood: Likelihood, seed: int) -> None:
    truth = simulate(seed, likelihood)
    fitted = fit(truth, likelihood, seed)
    posterior = fitted.posterior
    diagnostics = check_sampling(posterior, fitted.statistics)
    assert diagnostics.passed, diagnostics.findings
    over = ("chain", "draw")

    def z(draws: object, true: Floats | float) -> Floats:
        array = posterior_array(draws)
        scores: Floats = (array.mean(axis=(0, 1)) - true) / array.std(axis=(0, 1))
        return scores

    item = posterior.coefficients("item")
    scores = np.concatenate(
        [
            z(item.sel(coefficient="log_price"), truth.elasticity),
            z(item.sel(coefficient="level"), truth.level),
            z(posterior.coefficients("family").sel(coefficient="log_price"), truth.family),
            np.atleast_1d(z(posterior.shared().isel(control=0), truth.holiday)),
            np.atleast_1d(z(posterior.variation("item").sel(coefficient="log_price"), 0.5)),
        ]
    )
    if truth.overdispersion:
        scores = np.append(scores, z(posterior.hyper()["overdispersion"], truth.overdispersion))
    assert np.abs(scores).max() < 4.8  # 410 scores, family error 0.1 %
    sd = item.sel(coefficient="log_price").std(over)
    assert float(sd.mean()) < 0.7 * 0.86  # 0.86: sd of an item about the population here, what no data would leave


def posterior_array(draws: object) -> Floats:
    """Draws as an array, chains and draws first."""
    return np.asarray(draws, dtype=np.float64)


def test_a_price_that_never_moved_teaches_nothing_of_its_item() -> None:
    truth = simulate(11, "poisson")
    posterior = fit(truth, "poisson", draws=300).posterior
    weight = posterior.own_data_weight()
    assert float(weight.sel(item="i000")) == 0.0
    assert float(weight.drop_sel(item="i000").min()) > 0.02
    assert float(weight.max()) < 1.0
    draws = posterior.coefficients("item").sel(coefficient="log_price")
    unmoved, others = float(draws.sel(item="i000").std()), draws.drop_sel(item="i000").std(("chain", "draw"))
    assert unmoved > float(others.quantile(0.95))  # both sides carry 2 % of Monte Carlo error


def test_same_seed_same_draws() -> None:
    truth = simulate(11, "poisson", items=20, families=2)
    one, again, other = (fit(truth, "poisson", seed, draws=100).posterior for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.item_draws, again.item_draws)
    assert one.id == again.id != other.id
    assert not np.array_equal(one.item_draws, other.item_draws)


def test_the_sampler_agrees_with_nuts_on_the_pymc_model() -> None:
    from bayes_pricing.demand.model import build_count_model
    from bayes_pricing.demand.sampling import sample_model

    truth = simulate(21, "negative_binomial", items=12, families=3, weeks=30)
    spec = specification("negative_binomial")
    told: list[float] = []
    model = build_count_model(build_count_data(truth.frame, spec))
    tree = sample_model(
        model, draws=1000, tune=1000, chains=4, seed=2, progress=lambda share, _label: told.append(share)
    )
    posterior = fit_counts(truth.frame, spec, truth.items, draws=1000, chains=4, seed=2).posterior
    reference, ours = tree["posterior"]["item"].to_numpy(), posterior.coefficients("item").to_numpy()
    sd = reference.std(axis=(0, 1))
    gap = (ours.mean(axis=(0, 1)) - reference.mean(axis=(0, 1))) / sd
    assert np.abs(gap).max() < 0.2  # 24 means with at least 800 effective draws a side: sd of a gap 0.05
    np.testing.assert_allclose(ours.std(axis=(0, 1)) / sd, 1.0, atol=0.15)  # the same, sd about 0.035
    assert told[0] == 0.0
    assert told[-1] == 1.0
    assert set(tree.attrs["seconds"]) == {"compile", "sample"}


def test_course_market_intervals_cover() -> None:
    hits: list[NDArray[np.bool_]] = []
    category_hits: list[NDArray[np.bool_]] = []
    for seed in (1, 2):
        market = simulate_courses(CourseMarketSettings(), seed=seed)
        frame, truth = market.sales(), market.truth
        items = frame.group_by("item").agg(pl.col("category").first()).sort("item")
        fitted = fit_counts(frame, DemandSpec(likelihood="poisson"), items, draws=400, chains=2, seed=seed)
        assert fitted.statistics.divergences == 0
        for level, names, true, into in (
            ("item", truth.items, truth.elasticity, hits),
            ("category", truth.categories, truth.category_mean, category_hits),
        ):
            draws = fitted.posterior.coefficients(level, list(names)).sel(coefficient="log_price")
            lower, upper = draws.quantile([0.05, 0.95], ("chain", "draw")).to_numpy()
            into.append((lower < true) & (true < upper))
    # over 4,000 items 0.9 has a standard error of 0.005, and the market's curved demand costs about a point; over 32
    # categories 0.053
    assert 0.86 < np.mean(hits) < 0.93
    assert np.mean(category_hits) > 0.72


def test_an_elasticity_of_counts_that_drifts_and_changes_with_price_is_recovered() -> None:
    """Items that sell twenty a week; a model without drift and curve is far from today's elasticity."""
    rng = np.random.default_rng(7)
    market = changing_market(rng, 3.0)
    frame = market.rows(rng.poisson(np.exp(market.log_units)))
    panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns))
    request = ModelRequest(model="poisson", terms=TermRequest(drift=True, curve="quadratic"))
    fitted = fit_demand(panel, request, SamplerSettings(draws=500), seed=3)
    assert fitted.diagnostics.passed
    market.check_recovered(fitted.posterior, tolerance=1e-3)


def test_attributes_explain_elasticities_of_counts() -> None:
    """Forty items that sell four a week, some of them once a month: sizes tell their elasticities apart."""
    rng = np.random.default_rng(5)
    items, weeks = 40, 26
    size = rng.uniform(0.0, 3.0, items)
    around = size - size.mean()
    elasticity = -2.2 + 0.6 * around + rng.normal(0.0, 0.2, 5).repeat(8) + rng.normal(0.0, 0.15, items)
    level = 1.0 + 0.5 * around + rng.normal(0.0, 0.3, items)
    log_price = rng.normal(0.0, 0.3, (items, weeks))
    away = log_price - log_price.mean(axis=1, keepdims=True)
    frame = pl.DataFrame(
        {
            "item": np.repeat([f"i{at:02d}" for at in range(items)], weeks),
            "category": np.repeat([f"c{at // 8}" for at in range(items)], weeks),
            "period": np.tile(np.arange(weeks), items),
            "price": np.exp(log_price).ravel(),
            "quantity": rng.poisson(np.exp(level[:, None] + elasticity[:, None] * away)).ravel(),
            "size": np.repeat(size, weeks),
        }
    )
    panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, attributes=("size",)))
    fitted = fit_demand(panel, ModelRequest(model="negative-binomial"), SamplerSettings(draws=500), seed=3)
    assert fitted.diagnostics.passed, fitted.diagnostics.findings
    posterior = fitted.posterior
    assert isinstance(posterior, DrawsPosterior)
    table = attribute_table(posterior)
    z = (table["mean"].to_numpy() - np.array([0.6, 0.5])) / table["sd"].to_numpy()
    assert np.abs(z).max() < 4.0
    assert table["sd"].max() < 0.2  # type: ignore[operator]  # the prior's are 0.6 and 1.1
    own = posterior.coefficients("item")
    for name, truth in (("log_price", elasticity), ("level", level)):
        assert np.abs(standardised(own.sel(coefficient=name), truth)).max() < 4.0, name
    small, large = (posterior.new_unit("item", "c2", seed=1, attributes={"size": value}) for value in (0.5, 2.5))
    apart = (large - small).sel(coefficient="log_price")
    assert float(apart.mean()) == pytest.approx(2.0 * table["mean"][0], abs=1e-6)
    # a category is as its items are on average
    members = own.sel(item=[f"i{at}" for at in range(16, 24)], coefficient="log_price").mean("item")
    category = posterior.coefficients("category", ["c2"]).sel(coefficient="log_price").isel(category=0)
    assert float((members - category).mean()) == pytest.approx(0.0, abs=3.0 * 0.15 / 8**0.5)
    again = DrawsPosterior.from_arrays(posterior.to_arrays(), posterior.metadata, posterior.items)
    assert attribute_table(again).equals(table)
