"""Nevo's cereals (simulated teaching data): logit shares with product dummies and twenty instruments."""

from __future__ import annotations

from functools import cache

import numpy as np
import polars as pl
import pytest

from bayes_pricing.demand.choice_elasticity import choice_elasticities
from bayes_pricing.demand.shares import SharePriors, fit_shares
from bayes_pricing.demand.shares_data import ShareData, build_shares
from bayes_pricing.demand.shares_fit import report_share_instruments
from bayes_pricing.demand.shares_inversion import fill_own_slopes
from bayes_pricing.demand.shares_people_density import regress
from bayes_pricing.demand.shares_people_mode import find_mode, pose_people
from tests.support import shared_data


@cache
def cereals() -> ShareData:
    return build_shares(
        pl.read_csv(shared_data("nevo_products.csv")),
        market=["market_ids"],
        product="product_ids",
        share="shares",
        price="prices",
        instruments=[f"demand_instruments{at}" for at in range(20)],
    )


def test_two_stage_least_squares_is_the_published_logit() -> None:
    data = cereals()
    report = report_share_instruments(data)
    price, error = np.array([report.two_stage.elasticity, report.two_stage.standard_error]) * data.per_elasticity
    assert price == pytest.approx(-30.1, abs=0.05)
    assert error == pytest.approx(1.0, abs=0.05)
    assert (price * data.price * (1.0 - data.share)).mean() == pytest.approx(-3.71, abs=0.005)
    assert report.first_stage.f_effective > 23.1


@pytest.mark.slow
def test_joint_posterior_stands_there_too() -> None:
    """2,256 rows leave the prior little: within a third of a standard error of the published numbers."""
    data = cereals()
    found = fit_shares(data, hierarchical=False, instrumented=True, seed=4, draws=300, tune=200)
    assert found.price_coefficient.mean() == pytest.approx(-30.1, abs=0.33)
    assert found.price_coefficient.std() == pytest.approx(1.0, rel=0.2)
    own = found.mean_own_elasticity()
    assert float(own.mean()) == pytest.approx(-3.71, abs=0.04)
    at_means = np.diagonal(choice_elasticities(found).mean("draw").to_numpy())[:-1]
    assert at_means.mean() == pytest.approx(float(own.mean()), abs=0.1)  # one typical market beside the 94 observed
    assert float(found.scales["confounding"].mean()) > 3 * float(found.scales["confounding"].std())


def test_people_who_differ_stand_near_the_published_random_coefficients() -> None:
    """At the mode of the stepped coordinates, the linear part at its mean; the study samples.

    The published -3.62 lets tastes follow demographics, which the file does not hold. Comparable is the mean own
    elasticity alone: within 0.125, one posterior sd (that of -30.1, in elasticities). The likelihood of these shares
    asks for no people who differ by chance alone.
    """
    data = cereals()
    rows = pose_people(data, ["price"], SharePriors(), instrumented=True, people=40, seed=4)
    mode = find_mode(rows)
    v = rows.v - rows.z @ np.linalg.lstsq(rows.z, rows.v, rcond=None)[0]
    linear = regress(rows, v, mode.delta, float(mode.at[-1])).centre
    mean, around = np.empty(len(v)), np.empty(len(v))
    fill_own_slopes(rows.markets, mode.at[:-1], mode.delta, 0, mean, around)
    own = rows.price * (linear[0] * mean + mode.at[0] * around)
    assert own.mean() == pytest.approx(-3.62, abs=0.125)
    assert mode.at[0] < 0.15  # sd between people in elasticities, of a prior scale of 0.7
    assert linear[0] * data.per_elasticity == pytest.approx(-30.1, abs=0.33)
