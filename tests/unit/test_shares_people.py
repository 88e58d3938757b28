"""People who differ: the collapsed density against the joint normal, the chain against quadrature, tastes as known."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.choice_elasticity import choice_elasticities, diversion, market_shares
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.shares import SharePosterior, SharePriors
from bayes_pricing.demand.shares_data import ShareData, build_shares
from bayes_pricing.demand.shares_fit import fit_share_demand
from bayes_pricing.demand.shares_inversion import people_nodes
from bayes_pricing.demand.shares_people import PeopleSharePosterior, fit_people_shares
from bayes_pricing.demand.shares_people_density import log_prior, log_target, regress
from bayes_pricing.demand.shares_people_mode import pose_people
from bayes_pricing.errors import SpecError

PRIORS = SharePriors(dummy_sd=2.0)


def shares(markets: int = 8) -> ShareData:
    """Three products with an attribute, a control and one cost."""
    rng = np.random.default_rng(5)
    cost, unseen, shown = rng.normal(size=(3, markets, 3))
    price = 2.0 + 0.4 * cost + 0.2 * unseen
    weight = np.exp(0.5 * np.array([0.0, 1.0, 0.0]) - price + 0.3 * shown + 0.4 * unseen)
    city, brand = np.indices(price.shape)
    rows = pl.DataFrame(
        {
            "city": city.ravel(),
            "brand": [f"b{at}" for at in brand.ravel()],
            "share": (weight / (1.0 + weight.sum(axis=1, keepdims=True))).ravel(),
            "price": price.ravel(),
            "cost": cost.ravel(),
            "shown": shown.ravel(),
            "sweet": np.tile([0.0, 1.0, 0.0], markets),
        }
    )
    return build_shares(
        rows, market=["city"], product="brand", share="share", price="price", controls=["sweet", "shown"],
        instruments=["cost"],
    )  # fmt: skip


def known(tastes: tuple[str, ...], spread: list[float]) -> PeopleSharePosterior:
    """Two equal draws, price coefficient -1."""
    data = shares()
    base = SharePosterior(
        id="known",
        data=data,
        hierarchical=False,
        instrumented=False,
        elasticity=np.full((1, 2), -1.0 / data.per_elasticity),
        by_market=None,
        product=np.tile([-1.5, -1.0, -1.3], (1, 2, 1)),
        slopes=np.full((1, 2, 1), 0.5),
        scales={},
        first_stage=None,
        diagnostics=Diagnostics(checks=(), max_rhat=1.0, min_ess_bulk=1e3, min_ess_tail=1e3, divergences=0),
        seed=9,
    )
    return PeopleSharePosterior(
        base=base, tastes_of=tastes, spread=np.tile(spread, (1, 2, 1)), own=np.full((1, 2, 3), -1.0), people=200
    )


@pytest.mark.parametrize("instrumented", [False, True])
def test_what_is_integrated_out_leaves_the_joint_normal(*, instrumented: bool) -> None:
    rows = pose_people(shares(), ["price"], PRIORS, instrumented=instrumented, people=10, seed=1)
    rng = np.random.default_rng(2)

    def both(log_noise: float) -> tuple[float, float]:
        delta, v = rng.normal(-1.0, 1.0, len(rows.v)), rng.normal(size=len(rows.v))
        x = rows.x
        if instrumented:  # a residual of the first stage has mean zero within a product
            v = v - (np.bincount(rows.product, v) / rows.rows_of)[rows.product]
            x = np.column_stack([x, v])
        covariance = np.exp(2.0 * log_noise) * np.eye(len(v)) + (x * rows.sd**2) @ x.T
        covariance += PRIORS.dummy_sd**2 * (rows.product[:, None] == rows.product)
        direct = float(stats.multivariate_normal.logpdf(delta, rows.level + x @ rows.mean, covariance))
        return regress(rows, v, delta, log_noise).value, direct

    (one, one_direct), (other, other_direct) = both(-0.5), both(0.4)
    assert one - other == pytest.approx(one_direct - other_direct, rel=1e-9)


def test_the_chain_stands_where_quadrature_does() -> None:
    """Prices as given, the sd of tastes near zero, where proposals fold."""
    data = shares()
    rows = pose_people(data, ["price"], PRIORS, instrumented=False, people=30, seed=6)
    sds, noises = np.linspace(0.015, 3.0, 60), np.linspace(-3.5, 0.5, 40)
    delta, table = np.zeros(len(rows.v)), np.empty((60, 40))
    for a, sd in enumerate(sds):
        for b, noise in enumerate(noises):
            table[a, b] = log_target(rows, np.array([sd, noise]), rows.v, delta)
    weight = np.exp(table - table.max())
    weight /= weight.sum()
    found = fit_people_shares(
        data, tastes=["price"], instrumented=False, seed=6, people=30, priors=PRIORS, draws=300, tune=80
    )
    for draws, grid, share in (
        (found.spread[:, :, 0] / data.per_elasticity, sds, weight.sum(axis=1)),
        (np.log(found.base.scales["noise_sd"]), noises, weight.sum(axis=0)),
    ):
        centre = float(share @ grid)
        width = float(np.sqrt(share @ (grid - centre) ** 2))
        assert abs(draws.mean() - centre) < 4.0 * width / np.sqrt(found.diagnostics.min_ess_bulk) + 0.01 * width
        assert draws.std() == pytest.approx(width, rel=0.15)  # 400 effective draws: 4 times 1 / sqrt(800)


def test_the_prior_is_half_normal() -> None:
    rows = pose_people(shares(), ["price", "constant"], PRIORS, instrumented=False, people=10, seed=1)
    one, other = np.array([0.3, 0.5, -1.0]), np.array([0.9, 0.1, 0.2])

    def direct(at: Floats) -> float:
        scales = np.array([PRIORS.elasticity_between, PRIORS.taste_between])
        noise = float(np.exp(at[2]))
        return float(stats.halfnorm.logpdf(at[:2] / scales).sum() + stats.halfnorm.logpdf(noise) + at[2])

    assert log_prior(rows, one) - log_prior(rows, other) == pytest.approx(direct(one) - direct(other))


def test_people_differ_in_what_was_said() -> None:
    """Constants move together, an attribute moves the products that have it, price moves as price."""
    posterior = known(("constant", "sweet", "price", "shown"), [0.8, 0.6, 0.4, 0.2])
    people = posterior.tastes(200)[0]
    np.testing.assert_allclose(people.mean(axis=0), posterior.mean[0, 0], atol=1e-9)
    sds = people.std(axis=0)
    np.testing.assert_allclose(sds, [0.8, 1.0, 0.8, 0.4, 0.2], atol=1e-9)  # nodes are white: 0.8 and 0.6 add squared
    assert posterior.regressors == ("constant:b0", "constant:b1", "constant:b2", "price", "shown")


def test_substitution_goes_by_people_and_not_by_shares() -> None:
    posterior = known(("sweet",), [2.0])
    market, nodes = posterior.typical(), people_nodes(200, 1, 9)[:, 0]
    utility = (market @ posterior.mean[0, 0])[:, None] + 2.0 * nodes * np.array([0.0, 1.0, 0.0, 0.0])[:, None]
    chance = np.exp(utility) / np.exp(utility).sum(axis=0)
    np.testing.assert_allclose(market_shares(posterior).to_numpy()[0], chance.mean(axis=1), rtol=1e-12)
    cross = choice_elasticities(posterior).to_numpy()[0]
    expected = market[2, 3] * (chance[0] * chance[2]).mean() / chance[0].mean()
    assert cross[0, 2] == pytest.approx(expected)
    assert cross[1, 2] < 0.8 * cross[0, 2]  # the plain logit would have them equal
    assert diversion(posterior).to_numpy()[0].sum(axis=1)[:3] == pytest.approx(1.0)


def test_what_cannot_be_asked_is_named() -> None:
    with pytest.raises(SpecError, match="choose one or more of price, constant, sweet, shown"):
        pose_people(shares(), ["colour"], PRIORS, instrumented=True, people=10, seed=1)
    with pytest.raises(SpecError, match="each once"):
        pose_people(shares(), ["price", "price"], PRIORS, instrumented=True, people=10, seed=1)
    with pytest.raises(SpecError, match="not both"):
        fit_share_demand(shares(), hierarchical=True, people=["price"], seed=1)
