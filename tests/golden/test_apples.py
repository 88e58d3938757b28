"""Apples: 660 households' stated purchase at randomised prices, the linear probability model's published numbers."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.purchase import fit_purchase
from bayes_pricing.demand.purchase_curve import compare_purchase, expected_revenue, marginal_effects
from bayes_pricing.demand.purchase_data import PurchaseData, build_purchases
from bayes_pricing.demand.purchase_linear import linear_probability
from tests.support import shared_data

CONTROLS = ("faminc", "hhsize", "educ", "age")


@cache
def apples(controls: tuple[str, ...] = CONTROLS) -> PurchaseData:
    rows = pl.read_csv(shared_data("apple_ecolabel.csv")).with_columns(bought=(pl.col("ecolbs") > 0).cast(pl.Int8))
    return build_purchases(rows, price="ecoprc", bought="bought", competitor_prices=["regprc"], controls=controls)


def test_linear_probability_is_the_published_one() -> None:
    found = linear_probability(apples())
    own, cross = found.names.index("price"), found.names.index("regprc")
    assert found.coefficients[[own, cross]] == pytest.approx([-0.803, 0.719], abs=5e-4)
    assert found.standard_errors[[own, cross]] == pytest.approx([0.109, 0.132], abs=5e-4)
    prices_only = linear_probability(apples(()))
    assert prices_only.coefficients[1:] == pytest.approx([-0.845, 0.735], abs=5e-4)


@pytest.mark.slow
def test_both_shapes_agree_with_it_and_loo_keeps_the_simpler() -> None:
    """Mean marginal effects within half a standard error of the linear model's, which is a line through the curve."""
    data = apples(())
    linear = linear_probability(data)
    fits = [fit_purchase(data, shape, seed=2, randomised=True, draws=500, tune=300) for shape in ("logistic", "curve")]
    for fitted in fits:
        effects = marginal_effects(fitted)
        gap = effects.mean("draw").to_numpy()[:2] - linear.coefficients[1:3]
        assert (np.abs(gap) < 0.5 * linear.standard_errors[1:3]).all(), gap
        assert effects.std("draw").to_numpy()[:2] == pytest.approx(linear.standard_errors[1:3], rel=0.25)
        assert [finding.code for finding in fitted.findings] == []
        money = expected_revenue(fitted)
        assert 0.85 < money.price < 1.15
        low, high = np.quantile(money.best, [0.05, 0.95])
        assert data.prices[0] < low < high < data.prices[-1]
    compared = compare_purchase(*fits)
    assert compared.chosen == "logistic"
    assert compared.difference < 2 * compared.standard_error
    assert max(score.worst_pareto_k for score in compared.scores) < 0.7
