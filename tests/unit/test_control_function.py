"""The joint density of price and sales against dense Gaussian algebra; what the shell refuses of instruments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from bayes_pricing.data.gram import gather_gram
from bayes_pricing.demand.control_function import PRICE_RESIDUAL, JointProblem, pose_joint
from bayes_pricing.demand.control_function_density import log_joint, new_root
from bayes_pricing.demand.instruments import InstrumentRows, build_instrument_rows
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_kernels import new_work
from bayes_pricing.demand.tree_prior import correlation_factor, split_theta
from tests.endogenous import simulate_endogenous
from tests.shell.running import run

SPEC = DemandSpec(levels=("category",), shared_controls=("season",), noise_by="common")


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return simulate_endogenous(seed=3, items=6, weeks=7, instruments=2).frame


@pytest.fixture(scope="module")
def rows(frame: pl.DataFrame) -> InstrumentRows:
    item = (frame["item"].rank("dense") - 1).to_numpy().astype(np.int64)
    instruments, season = frame.select("cost0", "cost1").to_numpy(), frame.select("season").to_numpy()
    log_units, log_price = frame["quantity"].log().to_numpy(), frame["price"].log().to_numpy()
    return build_instrument_rows(log_units, log_price, instruments, ("cost0", "cost1"), item, season)


@pytest.fixture(scope="module")
def problem(frame: pl.DataFrame, rows: InstrumentRows) -> JointProblem:
    logs = frame.with_columns(pl.col("quantity").log().alias("log_units"), pl.col("price").log().alias("log_price"))
    logs = logs.with_columns(pl.col("log_price").alias(PRICE_RESIDUAL))
    gram = gather_gram(logs, "item", "log_units", ["log_price", "season", PRICE_RESIDUAL, "cost0", "cost1"])
    items = frame.group_by("item").agg(pl.col("category").first()).sort("item")
    return pose_joint(gram, rows, items, SPEC)


def evaluate(problem: JointProblem, theta: np.ndarray) -> tuple[float, np.ndarray]:
    work, root = new_work(problem.tree), new_root(problem.tree.xty.shape[1], len(problem.stage.slope))
    gradient = np.zeros(problem.size)
    scales = problem.prior.scales
    return log_joint(theta, problem.groups, problem.tree, scales, problem.stage, work, root, gradient), gradient


def test_gradient_is_the_slope(problem: JointProblem) -> None:
    theta = np.random.default_rng(5).normal(scale=0.5, size=problem.size)
    _, gradient = evaluate(problem, theta)
    step = 1e-5
    numeric = [
        (evaluate(problem, theta + step * e)[0] - evaluate(problem, theta - step * e)[0]) / (2 * step)
        for e in np.eye(problem.size)
    ]
    # central differences err by the third derivative times 1e-10 and by rounding of order 1e-9 / step
    assert_allclose(numeric, gradient, rtol=1e-5, atol=1e-4)


def dense(problem: JointProblem, frame: pl.DataFrame, rows: InstrumentRows, theta: np.ndarray) -> float:
    """The same log density from one big covariance matrix of all sales."""
    prior, stage, k = problem.prior, problem.stage, 2
    pi = stage.slope + stage.factor @ theta[-3:-1]
    log_sd = stage.log_sd + stage.log_sd_width * theta[-1]
    centred = frame.select(
        (pl.col(name).log() if name == "price" else pl.col(name))
        - (pl.col(name).log() if name == "price" else pl.col(name)).mean().over("item")
        for name in ("price", "season", "cost0", "cost1")
    ).to_numpy()
    residual = centred[:, 0] - centred[:, 2:] @ pi
    x = np.column_stack([np.ones(len(centred)), centred[:, 0]])
    item = (frame["item"].rank("dense") - 1).to_numpy().astype(int)
    category = (frame["category"].rank("dense") - 1).to_numpy().astype(int)
    sds, partials = split_theta(theta, *prior.between_sd.shape)
    factor = (sds * prior.between_sd)[..., None] * correlation_factor(partials, k)
    root = prior.root_sd[:k]
    same_item, same_category = item[:, None] == item[None, :], category[:, None] == category[None, :]
    noise = float(np.exp(theta[-4]))
    covariance = noise**2 * np.eye(len(x)) + (x * root**2) @ x.T
    covariance += same_item * (x @ factor[0] @ factor[0].T @ x.T)
    covariance += same_category * (x @ factor[1] @ factor[1].T @ x.T)
    for column, sd in ((centred[:, 1], prior.root_sd[2]), (residual, prior.root_sd[3])):
        covariance += sd**2 * np.outer(column, column)
    mean = x @ prior.root_mean[:k]
    value = float(stats.multivariate_normal.logpdf(frame["quantity"].log().to_numpy(), mean, covariance))
    value += float(-0.5 * (sds**2).sum() - 0.5 * (noise / prior.noise_scale) ** 2 + np.log(noise))
    for partial in partials.ravel():  # two coefficients: LKJ is a Beta, tanh its Jacobian
        value += 2.0 * prior.concentration * float(np.log(1.0 / np.cosh(partial)))
    left = rows.log_price - rows.instruments @ pi
    value += -stage.degrees * log_sd - 0.5 * float(left @ left) * np.exp(-2.0 * log_sd)
    return float(value + log_sd - 0.5 * np.exp(2.0 * log_sd) / stage.prior_sd**2)


def test_density_equals_dense_algebra(problem: JointProblem, frame: pl.DataFrame, rows: InstrumentRows) -> None:
    rng = np.random.default_rng(9)
    differences = []
    for _ in range(4):
        theta = rng.normal(scale=0.4, size=problem.size)
        differences.append(evaluate(problem, theta)[0] - dense(problem, frame, rows, theta))
    assert_allclose(differences, differences[0], rtol=0, atol=1e-7)  # roundings of a 42 by 42 determinant


def test_shell_refuses_a_weak_instrument(tmp_path: Path) -> None:
    market = simulate_endogenous(seed=5, items=8, weeks=20, instruments=1, strength=0.02)
    sales = tmp_path / "sales.parquet"
    market.frame.write_parquet(sales)
    ran = run("fit", "--sales", sales, "--instrument", "cost0", "--out", tmp_path / "model", "--json")
    assert ran.code == 3
    assert "weak_instrument" in {finding["code"] for finding in ran.json["findings"]}
    assert not (tmp_path / "model").exists()


def test_shell_refuses_an_instrument_of_the_wrong_sign(tmp_path: Path) -> None:
    market = simulate_endogenous(seed=6, items=8, weeks=20, instruments=1)
    sales = tmp_path / "sales.parquet"
    market.frame.with_columns(cost0=-pl.col("cost0")).write_parquet(sales)
    ran = run("fit", "--sales", sales, "--instrument", "cost0", "--json")
    assert ran.code == 3
    assert [finding["code"] for finding in ran.json["findings"]] == ["instrument_wrong_sign"]


def test_shell_refuses_instruments_with_counts(tmp_path: Path) -> None:
    market = simulate_endogenous(seed=6, items=8, weeks=20, instruments=1)
    sales = tmp_path / "sales.parquet"
    market.frame.write_parquet(sales)
    ran = run("fit", "--sales", sales, "--instrument", "cost0", "--model", "poisson", "--json")
    assert ran.code == 3
    assert [finding["code"] for finding in ran.json["findings"]] == ["instruments_need_logs"]
