"""Scores of families: probabilities on one footing, leave-one-out against the closed form, who is taken."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.model_comparison import GONE, leave_one_out, score_models
from bayes_pricing.demand.row_laws import RowLaws, row_log_likelihood
from bayes_pricing.demand.spec import DemandSpec

NEVER = np.array([False])


def log_normal(eta: float, sd: float, degrees: float | None = None) -> RowLaws:
    shape = None if degrees is None else np.full((1, 1), degrees)
    return RowLaws(likelihood="lognormal", log_rate=np.full((1, 1), eta), sd=np.full((1, 1), sd), degrees=shape)


@pytest.mark.parametrize("degrees", [None, 4.0])
def test_probabilities_of_whole_units_add_to_one(degrees: float | None) -> None:
    """Units from 1 up, and what rounds to none."""
    laws = log_normal(1.0, 0.5, degrees)
    units = np.arange(1.0, 20_000.0)
    found = [row_log_likelihood(laws, units[at : at + 1], NEVER)[0, 0] for at in range(60)]
    rest = laws.log_units_law().sf(np.log(60.5)) + laws.log_units_law().cdf(np.log(0.5))
    assert np.exp(found).sum() + rest[0, 0] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("eta", [4.0, 9.0, 14.0])
def test_many_whole_units_have_the_density_times_the_jacobian(eta: float) -> None:
    q = np.array([np.round(np.exp(9.0))])
    density = stats.norm.logpdf(np.log(q), eta, 0.7) - np.log(q)
    assert_allclose(row_log_likelihood(log_normal(eta, 0.7), q, NEVER)[0], density, atol=1e-6)  # curvature over a unit


def test_sold_out_rows_count_as_at_least_as_many() -> None:
    gone = np.array([False, True])
    quantity = np.array([3.0, 3.0])
    poisson = RowLaws(likelihood="poisson", log_rate=np.log(np.full((1, 2), 2.0)))
    assert_allclose(
        row_log_likelihood(poisson, quantity, gone)[0], [stats.poisson.logpmf(3, 2.0), stats.poisson.logsf(2, 2.0)]
    )
    found = row_log_likelihood(log_normal(1.0, 0.5), quantity, gone)[0]
    assert found[1] == pytest.approx(stats.norm.logsf(np.log(3.0), 1.0, 0.5))


def posterior(draws: np.ndarray, sd: float) -> DrawsPosterior:
    """One item whose level has these draws (chain, draw)."""
    chains, length = draws.shape
    level = np.stack([draws, np.zeros_like(draws)], axis=-1).astype(np.float32)
    return DrawsPosterior(
        id="test",
        spec=DemandSpec(levels=()),
        items=pl.DataFrame({"item": ["a"], "reference_log_price": [0.0]}),
        units={},
        item_draws=level[:, :, None, :],
        upper_draws={"population": level},
        between_sd={"item": np.ones((chains, length, 2))},
        correlation={"item": np.zeros((chains, length, 1))},
        shared_draws=np.zeros((chains, length, 0)),
        dispersion=None,
        weight=np.ones(1),
        smearing=np.full((chains, length, 1), 0.5 * sd**2, dtype=np.float32),
    )


def test_leave_one_out_is_the_closed_form() -> None:
    """A normal mean under a flat prior: leaving a row out gives N(mean of the others, sd^2 (1 + 1 / (n - 1)))."""
    rng, n, sd = np.random.default_rng(1), 40, 0.5
    y = rng.normal(3.0, sd, n)
    draws = rng.normal(y.mean(), sd / np.sqrt(n), (4, 1000))
    rows = pl.DataFrame({"item": ["a"] * n, "price": [1.0] * n, "quantity": np.exp(y), GONE: [False] * n})
    others = (y.sum() - y) / (n - 1)
    exact = stats.norm.logpdf(y, others, sd * np.sqrt(1.0 + 1.0 / (n - 1))) - y
    found = leave_one_out(posterior(draws, sd), rows)
    assert_allclose(found.elpd, exact, atol=0.01)  # 4,000 draws of a weight whose sd is about 0.2
    assert found.effective_parameters.sum() == pytest.approx(1.0, abs=0.35)  # the sum of 40 squares over n
    assert found.pareto_k.max() < 0.5


def test_scores_are_of_all_rows_and_best_first() -> None:
    rng, n = np.random.default_rng(2), 400
    y = rng.normal(3.0, 0.5, n)
    frame = pl.LazyFrame({"item": ["a"] * n, "period": range(n), "price": [1.0] * n, "quantity": np.exp(y)})
    draws = rng.normal(y.mean(), 0.025, (4, 250))
    right, wrong = posterior(draws, 0.5), posterior(draws + 0.5, 0.5)
    scores = score_models({"wrong": wrong, "right": right}, frame, seed=1, rows=100)
    assert [score.model for score in scores] == ["right", "wrong"]
    assert scores[0].difference == 0.0
    # every row loses (0.5 / 0.5)^2 / 2 on average; over 100 of 400 rows the sum has a standard error of 4 * 10 * 1
    assert scores[1].difference == pytest.approx(-200.0, abs=130.0)
    assert scores[1].standard_error == pytest.approx(40.0, rel=0.3)
    whole = score_models({"right": right}, frame, seed=1, rows=400)[0]
    assert scores[0].elpd == pytest.approx(whole.elpd, rel=0.1)
