"""Share logit: the density against the joint normal, its gradient, elasticities of known tastes, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy import stats
from scipy.optimize import approx_fprime

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.choice_elasticity import (
    choice_elasticities,
    diversion,
    market_shares,
    willingness_to_pay,
)
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.shares import SharePosterior, SharePriors, pose_shares
from bayes_pricing.demand.shares_data import ShareData, build_shares
from bayes_pricing.demand.shares_density import log_posterior, size_of
from bayes_pricing.demand.shares_fit import fit_share_demand, report_share_instruments
from bayes_pricing.errors import PanelError, Refusal


def rows(markets: int = 8, products: int = 3, seed: int = 1, strength: float = 0.3) -> pl.DataFrame:
    """A logit with product effects, a price that follows the unseen part of utility, and one cost."""
    rng = np.random.default_rng(seed)
    cost, unseen = rng.normal(size=(2, markets, products))
    sweet, shown = np.arange(products) % 2.0, rng.normal(size=(markets, products))
    price = 2.0 + strength * cost + 0.2 * unseen
    utility = 0.5 * sweet - 1.0 * price + 0.3 * shown + 0.3 * unseen
    weight = np.exp(utility)
    share = weight / (1.0 + weight.sum(axis=1, keepdims=True))
    city, brand = np.indices(price.shape)
    return pl.DataFrame(
        {
            "city": [f"c{at:02d}" for at in city.ravel()],
            "brand": [f"b{at}" for at in brand.ravel()],
            "share": share.ravel(),
            "price": price.ravel(),
            "cost": cost.ravel(),
            "shown": shown.ravel(),
            "sweet": np.tile(sweet, markets),
        }
    )


def shares(frame: pl.DataFrame | None = None) -> ShareData:
    return build_shares(
        rows() if frame is None else frame,
        market=["city"],
        product="brand",
        share="share",
        price="price",
        controls=["sweet", "shown"],
        instruments=["cost"],
    )


def known(data: ShareData, *, price: float, product: list[float]) -> SharePosterior:
    """Two equal draws without a hierarchy; controls without effect."""
    passed = Diagnostics(checks=(), max_rhat=1.0, min_ess_bulk=1e3, min_ess_tail=1e3, divergences=0)
    return SharePosterior(
        id="known",
        data=data,
        hierarchical=False,
        instrumented=False,
        elasticity=np.full((1, 2), price / data.per_elasticity),
        by_market=None,
        product=np.tile(product, (1, 2, 1)),
        slopes=np.full((1, 2, len(data.control_names)), 0.5),
        scales={},
        first_stage=None,
        diagnostics=passed,
        seed=1,
    )


@pytest.mark.parametrize("hierarchical", [False, True])
@pytest.mark.parametrize("instrumented", [False, True])
def test_gradient_is_that_of_the_density(*, hierarchical: bool, instrumented: bool) -> None:
    posed = pose_shares(shares(), SharePriors(), hierarchical=hierarchical, instrumented=instrumented)
    size = size_of(posed)
    at = np.random.default_rng(3).normal(scale=0.3, size=size)
    gradient = np.empty(size)
    log_posterior(at, posed, gradient)

    def value(x: Floats) -> float:
        return log_posterior(x, posed, np.empty(size))

    numeric = approx_fprime(at, value, 1e-6)
    np.testing.assert_allclose(
        gradient, numeric, rtol=1e-4, atol=1e-2
    )  # forward differences of a value in the hundreds


def test_products_integrated_out_leave_the_joint_normal() -> None:
    """With everything else fixed, differences of the density are those of a normal law whose products were drawn."""
    posed = pose_shares(shares(), SharePriors(), hierarchical=True, instrumented=False)
    size, c = size_of(posed), posed.x.shape[1]
    m = posed.of_product.shape[1]

    def direct(at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        own = posed.mean + posed.sd * at[: len(posed.mean)]
        scales = np.exp(at[len(own) : len(own) + 3])
        reaction = own[m] + scales[2] * at[len(own) + 3 :][posed.market]
        product = np.repeat(np.arange(len(posed.first) - 1), np.diff(posed.first))
        mean = (posed.of_product @ own[:m])[product] + reaction * posed.price + posed.x @ own[m + 1 : m + 1 + c]
        covariance = scales[0] ** 2 * np.eye(len(mean)) + scales[1] ** 2 * (product[:, None] == product)
        normals = np.concatenate([at[: len(own)], at[len(own) + 3 :]])
        prior = -0.5 * float(normals @ normals) + float((np.log(scales) - 0.5 * (scales / posed.scale[:3]) ** 2).sum())
        return float(stats.multivariate_normal.logpdf(posed.y, mean, covariance)) + prior

    rng = np.random.default_rng(5)
    one, other = rng.normal(scale=0.3, size=(2, size))
    found = log_posterior(one, posed, np.empty(size)) - log_posterior(other, posed, np.empty(size))
    assert found == pytest.approx(direct(one) - direct(other), rel=1e-9)


def test_elasticities_of_known_tastes_are_the_logits() -> None:
    """At a typical market they are those of the closed form, and at observed shares a p (1 - s)."""
    data = shares()
    posterior = known(data, price=-1.0, product=[-1.5, -1.0, -1.3])
    share = market_shares(posterior).to_numpy()[0]
    weight = np.exp([-1.5, -1.0, -1.3, 0.0])
    np.testing.assert_allclose(share, weight / weight.sum(), rtol=1e-12)
    price = data.product_means(data.price)
    found = choice_elasticities(posterior).to_numpy()[0]
    np.testing.assert_allclose(np.diag(found)[:3], -price * (1.0 - share[:3]), rtol=1e-12)
    assert found[0, 1] == pytest.approx(price[1] * share[1])
    np.testing.assert_allclose(diversion(posterior).to_numpy()[0, 0, 1:], share[1:] / (1.0 - share[0]), rtol=1e-12)
    assert float(willingness_to_pay(posterior, "shown")[0]) == pytest.approx(0.5)
    observed = -data.price * (1.0 - data.share)
    assert float(posterior.mean_own_elasticity()[0]) == pytest.approx(observed.mean())
    by_product = posterior.own_elasticities()
    assert float(by_product.sel(product="b1")[0]) == pytest.approx(observed[data.product == 1].mean())


def test_what_differs_between_products_only_is_an_attribute() -> None:
    data = shares()
    assert (data.attribute_names, data.control_names) == (("sweet",), ("shown",))
    assert data.attributes[:, 0].tolist() == [0.0, 1.0, 0.0]


def test_instruments_undo_what_prices_that_follow_demand_do() -> None:
    data = shares(rows(markets=400))
    report = report_share_instruments(data)
    price = report.two_stage.elasticity * data.per_elasticity
    assert price == pytest.approx(-1.0, abs=4 * report.two_stage.standard_error * data.per_elasticity)
    assert report.least_squares.elasticity * data.per_elasticity > -0.7  # of -1.0 + 0.2 * 0.3 / (0.3**2 + 0.2**2)
    assert report.first_stage.f_effective > 100


def test_a_weak_instrument_gives_no_number() -> None:
    with pytest.raises(Refusal) as caught:
        fit_share_demand(shares(rows(markets=30, strength=0.0)), hierarchical=True, seed=1)
    assert caught.value.findings[0].code == "weak_instrument"


def test_bad_shares_come_in_one_answer() -> None:
    frame = pl.DataFrame(
        {
            "city": ["x", "x", "y", "y", "z", "z"],
            "brand": ["a", "b", "a", "a", "a", "b"],
            "share": [0.6, 0.4, 0.2, 0.2, 0.0, 0.3],
            "price": [1.0, -2.0, 1.5, 1.5, 1.2, 2.0],
        }
    )
    with pytest.raises(PanelError) as caught:
        build_shares(frame, market=["city"], product="brand", share="share", price="price")
    assert {problem.code: problem.count for problem in caught.value.problems} == {
        "non_positive_price": 1,
        "share_out_of_range": 1,
        "duplicate_key": 2,
        "no_outside_share": 1,
    }


def test_prices_that_never_differ_are_refused() -> None:
    with pytest.raises(Refusal, match="own effect cannot be told"):
        shares(rows().with_columns(price=1.0 + pl.col("sweet")))
