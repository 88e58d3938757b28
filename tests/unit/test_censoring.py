"""Probabilities of sold-out weeks against scipy's, bounded smearing, and which rows ran out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from scipy import special, stats

from bayes_pricing.demand.censoring import (
    Functions,
    build_row_data,
    count_sold_out,
    log_at_least,
    log_t_above,
)
from bayes_pricing.demand.robust import bounded_log_smearing
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.errors import SpecError

NUMPY = Functions(
    log=np.log,
    cos=np.cos,
    arctan=np.arctan,
    maximum=np.maximum,
    gammaln=special.gammaln,
    logsumexp=special.logsumexp,
)
COUNTS = np.array([1.0, 2.0, 7.0, 30.0, 120.0, 500.0])


@pytest.mark.parametrize("mean", [0.3, 2.0, 10.0, 50.0, 200.0])
def test_counts_at_least(mean: float) -> None:
    """64 nodes keep five digits of the log probability wherever a sampler could get."""
    means = np.full(len(COUNTS), mean)
    for size in (None, 0.5, 3.0, 40.0):
        law = stats.poisson(means) if size is None else stats.nbinom(size, size / (size + means))
        expected = law.logsf(COUNTS - 1.0)
        likely = expected > -40.0
        found = log_at_least(COUNTS, means, size, NUMPY)
        assert_allclose(found[likely], expected[likely], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("degrees", [1.0, 2.5, 4.0, 30.0, 150.0])
def test_student_t_above(degrees: float) -> None:
    z = np.array([-8.0, -2.0, 0.0, 1.0, 4.0, 12.0])
    assert_allclose(log_t_above(z, degrees, NUMPY), stats.t.logsf(z, degrees), rtol=1e-5, atol=1e-6)


def test_bounded_smearing_is_the_mean_of_bounded_shocks() -> None:
    rng = np.random.default_rng(3)
    degrees, sd = 4.0, 0.4
    bound = stats.t.ppf(0.995, degrees)
    shocks = np.clip(rng.standard_t(degrees, size=400_000), -bound, bound)
    found = bounded_log_smearing(np.array([sd]), np.array(degrees))[0]
    assert found == pytest.approx(np.log(np.exp(sd * shocks).mean()), abs=0.005)  # five Monte-Carlo errors
    assert bounded_log_smearing(np.array([0.3]), np.array(5000.0))[0] == pytest.approx(0.045, abs=0.002)


def test_sold_out_is_the_flag_or_sales_that_reach_the_stock() -> None:
    flagged = pl.LazyFrame({"quantity": [1.0, 2.0, 3.0], "sold_out": [0.0, 1.0, None], "stock": [1.0, 1.0, 9.0]})
    assert count_sold_out(flagged) == 1
    assert count_sold_out(flagged.drop("sold_out")) == 2
    assert count_sold_out(flagged.select("quantity")) == 0


def test_rows_are_centred_by_item_and_large_sold_out_counts_refused() -> None:
    sales = pl.LazyFrame(
        {
            "item": ["b", "a", "a"],
            "price": [2.0, 1.0, 4.0],
            "quantity": [600.0, 0.0, 5.0],
            "sold_out": [True, False, True],
        }
    )
    items = pl.DataFrame({"item": ["a", "b"]})
    data = build_row_data(sales, items, DemandSpec(levels=()))
    assert data.item.tolist() == [0, 0, 1]
    assert_allclose(data.predictors[:, 1], [-np.log(2.0), np.log(2.0), 0.0])
    assert data.sold_out.tolist() == [False, True, True]
    with pytest.raises(SpecError, match="600 units"):
        build_row_data(sales, items, DemandSpec(levels=(), likelihood="poisson"))
