"""The compiled density of rows: its gradient, and that it is the PyMC model's."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from bayes_pricing.demand.censoring import RowData, build_row_data
from bayes_pricing.demand.nest_density import level_size, shared_place
from bayes_pricing.demand.nest_draws import draw_nest
from bayes_pricing.demand.row_coordinates import build_row_problem, start_rows
from bayes_pricing.demand.row_density import (
    RowProblem,
    item_log_weight,
    item_residual_sd,
    law_places,
    new_row_work,
    row_log_posterior,
)
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior

Floats = NDArray[np.float64]

SPECS = {
    "gaussian": DemandSpec(noise_by="item", levels=("family",), shared_controls=("holiday",)),
    "student-t": DemandSpec(
        errors="student_t", noise_by="category", levels=("family",), controls=("display",), correlated="price"
    ),
    "poisson": DemandSpec(likelihood="poisson", levels=("family",), shared_controls=("holiday",)),
    "negative binomial": DemandSpec(likelihood="negative_binomial", levels=("family",), shared_controls=("holiday",)),
    "attributes": DemandSpec(noise_by="item", levels=("family",), shared_controls=("holiday",), attributes=("size",)),
    "cross prices": DemandSpec(
        likelihood="negative_binomial",
        levels=("family",),
        controls=("display", "cross_price"),
        shared_controls=("holiday",),
        correlated="price",
        cross_prices="family",
        others=2,
    ),
}
SIZES = np.array([-1.5, 0.5, 2.0, -1.0])


def pose(spec: DemandSpec) -> tuple[RowData, TreePrior, RowProblem, list[Floats]]:
    """Four items of two families with unequal rows, some sold out; the compiled model and two points."""
    rng = np.random.default_rng(3)
    rows_of = np.array([15, 9, 12, 12])
    rows = int(rows_of.sum())
    frame = pl.DataFrame(
        {
            "item": np.repeat(list("abcd"), rows_of),
            "family": np.repeat(["x", "x", "y", "y"], rows_of),
            "price": np.exp(rng.normal(0, 0.3, rows)).round(1),
            "quantity": rng.poisson(3.0, rows).astype(float),
            "exposure": rng.choice([1.0, 2.0], rows),
            "display": rng.integers(0, 2, rows).astype(float),
            "holiday": rng.integers(0, 2, rows).astype(float),
            "sold_out": rng.random(rows) < 0.4,
            "size:level": np.repeat(SIZES, rows_of),
            "other_1": rng.normal(0, 0.3, rows),
            "other_2": np.where(np.arange(rows) < 24, rng.normal(0, 0.3, rows), 0.0),  # y has one item less
        }
    )
    frame = frame.with_columns((pl.col("other_1") + pl.col("other_2")).alias("cross_price"))
    frame = frame.with_columns((pl.col("size:level") * pl.col("price").log()).alias("size:log_price"))
    if spec.likelihood == "lognormal":
        frame = frame.with_columns(pl.col("quantity") + 0.7)
    items = pl.DataFrame({"item": list("abcd"), "family": list("xxyy")})
    data = build_row_data(frame.lazy(), items, spec)
    prior = build_tree_prior(data.tree, spec.priors)
    problem, rough = build_row_problem(data, prior)
    points = [start_rows(problem, rough, np.random.default_rng(seed)) for seed in range(2)]
    points[1][1] *= -1.0  # sds stand with a sign
    return data, prior, problem, points


@pytest.mark.parametrize("name", SPECS)
def test_gradient_is_that_of_the_density(name: str) -> None:
    _, _, problem, points = pose(SPECS[name])
    work, gradient, scratch = new_row_work(problem), np.zeros_like(points[0]), np.zeros_like(points[0])
    for x in points:
        row_log_posterior(x, problem, work, gradient)
        differences = [
            (row_log_posterior(x + h, problem, work, scratch) - row_log_posterior(x - h, problem, work, scratch)) / 2e-5
            for h in 1e-5 * np.eye(len(x))
        ]
        assert_allclose(gradient, differences, atol=1e-6)  # central differences of a density of size 100


@pytest.mark.parametrize("name", SPECS)
def test_a_point_beyond_all_numbers_leaves_nothing_behind(name: str) -> None:
    _, _, problem, points = pose(SPECS[name])
    x, expected, found = points[0], np.zeros_like(points[0]), np.zeros_like(points[0])
    value, rng, broken = row_log_posterior(x, problem, new_row_work(problem), expected), np.random.default_rng(1), 0
    for size in 10.0 ** rng.uniform(1, 8, 40):
        work = new_row_work(problem)
        broken += not np.isfinite(row_log_posterior(x + size * rng.normal(size=len(x)), problem, work, found))
        assert row_log_posterior(x, problem, work, found) == value
        assert_allclose(found, expected, rtol=1e-13)
    assert broken > 10


@pytest.mark.parametrize("name", SPECS)
def test_density_is_that_of_the_pymc_model(name: str) -> None:
    from bayes_pricing.demand.model import build_row_model

    data, prior, problem, points = pose(SPECS[name])
    model = build_row_model(data, prior)
    log_density = model.compile_logp(mode="FAST_COMPILE")
    names = [variable.name for variable in model.value_vars]

    def flat(x: Floats) -> Floats:
        return np.concatenate([np.ravel(value) for value in values(x).values()])

    def values(x: Floats) -> dict[str, Floats]:
        found = pymc_values(x, data, problem)
        return {name: found[name] for name in names}

    work, gradient, differences = new_row_work(problem), np.zeros_like(points[0]), []
    for x in points:
        steps = 1e-5 * np.eye(len(x))
        jacobian = np.column_stack([(flat(x + h) - flat(x - h)) / 2e-5 for h in steps])
        there = float(log_density(values(x))) + float(np.linalg.slogdet(jacobian)[1])
        differences.append(row_log_posterior(x, problem, work, gradient) - there)
    assert_allclose(differences, differences[0], atol=1e-8)  # equal up to one constant


def pymc_values(x: Floats, data: RowData, problem: RowProblem) -> dict[str, Floats]:
    """The PyMC model's own unconstrained values at `x`."""
    work, order, start = new_row_work(problem), problem.nest.order, problem.nest.level_start
    row_log_posterior(x, problem, work, np.zeros_like(x))
    places, k, width = law_places(problem), len(data.spec.coefficients), level_size(problem.scales)
    found = {"population": work.states.b[:, -2].copy()}
    for level, name in enumerate(data.tree.level_names):
        own = work.states.b[:, start[level] : start[level + 1]].T.copy()
        found[name] = own[np.argsort(order)] if name == "item" else own
        block, scale = x[level * width : (level + 1) * width], problem.scales.between_sd[level]
        row, column = np.tril_indices(problem.scales.correlated, -1)
        found[f"sd_{name}_log__"] = np.log(np.abs(block[:k]) * scale)
        found[f"partial_{name}_logodds__"] = 2.0 * block[k:] * np.sign(block[row] * block[column])
    shared = shared_place(problem.scales)
    if data.spec.others:
        found["population"], found["family"] = found["population"][:k], found["family"][:, :k]
        found["item"], found["other_prices"] = found["item"][:, :k], found["item"][:, k:]
        found["sd_other_prices_log__"] = np.log(problem.scales.tied_sd * np.abs(x[shared - 1]))
    found["shared"] = x[shared : places.scalar]
    if data.spec.attributes:  # PyMC's are deviations from what size explains
        found["item"][:, :2] -= SIZES[:, None] * found["shared"][-2:]
    if problem.scales.overdispersion > 0:
        found["overdispersion_log__"] = np.log(problem.scales.overdispersion * np.abs(x[places.scalar]))
    found["noise_sd_log__"] = x[places.noise : places.spread]
    if problem.noise.spread > 0:
        found["noise_spread_log__"] = np.log(problem.noise.spread * np.abs(x[places.spread]))
    found["item_noise_sd_log__"] = work.log_sd[np.argsort(order)]
    found["degrees_log__"] = x[places.degrees]
    return found


def test_draws_are_those_of_the_density() -> None:
    """What is kept of a draw, item by item in the order of the data, is what the density saw."""
    _, _, problem, points = pose(SPECS["gaussian"])
    x, work = points[0], new_row_work(problem)
    row_log_posterior(x, problem, work, np.zeros_like(x))
    order, residual_sd = problem.nest.order, item_residual_sd(x[None, None], problem)
    drawn = draw_nest(x[None, None], problem.nest, problem.scales, item_log_weight(residual_sd, problem))
    assert order.tolist() == [0, 2, 3, 1]  # most rows first
    assert_allclose(drawn.nodes[0, 0, order], work.states.b[:, :4].T, rtol=1e-6)  # single precision
    assert_allclose(residual_sd[0, 0, order], np.exp(work.log_sd), rtol=1e-12)
