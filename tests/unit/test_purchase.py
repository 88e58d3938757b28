"""Purchase probability: the density's gradient, the shape of the curve, the money curve, what is refused."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.purchase import PurchasePosterior, PurchasePriors, PurchaseShape, pose_purchase
from bayes_pricing.demand.purchase_curve import (
    expected_revenue,
    marginal_effects,
    purchase_elasticity,
    purchase_probability,
)
from bayes_pricing.demand.purchase_data import PurchaseData, build_purchases, build_steps, price_findings
from bayes_pricing.demand.purchase_density import log_posterior, size_of
from bayes_pricing.demand.purchase_linear import linear_probability
from bayes_pricing.errors import PanelError, Refusal, SpecError

PRICES = [1.0, 1.5, 2.0, 3.0, 4.0]


def offers(rows: int = 200, seed: int = 1, slope: float = -1.0) -> PurchaseData:
    rng = np.random.default_rng(seed)
    price, rival, income = rng.choice(PRICES, rows), rng.choice([1.5, 2.5], rows), rng.normal(size=rows)
    bought = rng.random(rows) < expit(2.0 + slope * price + 0.4 * rival + 0.3 * income)
    frame = pl.DataFrame({"price": price, "bought": bought, "rival": rival, "income": income})
    return build_purchases(frame, price="price", bought="bought", competitor_prices=["rival"], controls=["income"])


def known(data: PurchaseData, *, level: float, slope: float) -> PurchasePosterior:
    """A logistic posterior of four equal draws."""
    beta = np.zeros((2, 2, 2 + len(data.names)))
    beta[:, :, 0], beta[:, :, 1] = level, slope
    passed = Diagnostics(checks=(), max_rhat=1.0, min_ess_bulk=1e3, min_ess_tail=1e3, divergences=0)
    return PurchasePosterior(
        id="known",
        data=data,
        shape="logistic",
        names=("constant", "price", *data.names),
        beta=beta,
        basis=None,
        falls=None,
        bend=None,
        diagnostics=passed,
        findings=(),
        seed=1,
    )


@pytest.mark.parametrize("shape", ["logistic", "curve"])
def test_gradient_is_that_of_the_density(shape: PurchaseShape) -> None:
    problem = pose_purchase(offers(), shape, PurchasePriors())
    size = size_of(problem.offers)
    at = np.random.default_rng(3).normal(scale=0.4, size=size)
    gradient = np.empty(size)
    log_posterior(at, problem.offers, gradient)

    def value(x: Floats) -> float:
        return log_posterior(x, problem.offers, np.empty(size))

    numeric = approx_fprime(at, value, 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-3)  # forward differences of a value near 100


def test_a_curve_without_bend_is_the_logistic_line() -> None:
    """Steps with their even weights fall in a straight line from the lowest to the highest price."""
    data = offers()
    basis = build_steps(data)
    grid = np.linspace(1.0, 4.0, 31)
    np.testing.assert_allclose(basis.at(grid) @ basis.even, (grid - 1.0) / 3.0, atol=1e-12)
    np.testing.assert_allclose(basis.slope(grid) @ basis.even, np.full(31, 1.0 / 3.0), atol=1e-9)
    assert basis.even.sum() == pytest.approx(1.0)
    assert (np.diff(basis.at(grid), axis=0) >= -1e-12).all()
    assert (basis.slope(grid) >= 0).all()


def test_counts_of_trials_are_the_offers_they_stand_for() -> None:
    data = offers()
    rows = pl.DataFrame({"price": data.price, "bought": data.bought, "income": data.other[:, 1].round()})
    alone = build_purchases(rows, price="price", bought="bought", controls=["income"])
    grouped = rows.group_by("price", "income", maintain_order=True).agg(pl.col("bought").sum(), pl.len().alias("n"))
    together = build_purchases(grouped, price="price", bought="bought", trials="n", controls=["income"])
    assert together.rate == pytest.approx(alone.rate)
    for errors in ("classical", "hc1"):
        one, many = linear_probability(together, errors), linear_probability(alone, errors)
        np.testing.assert_allclose(one.coefficients, many.coefficients, rtol=1e-9)
        np.testing.assert_allclose(one.standard_errors, many.standard_errors, rtol=1e-9)
    values = []
    for data in (together, alone):
        problem = pose_purchase(data, "curve", PurchasePriors()).offers
        at = np.linspace(-0.3, 0.3, size_of(problem))
        values.append(log_posterior(at, problem, np.empty(len(at))))
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_money_curve_of_known_demand() -> None:
    """With no other columns in play the best price solves p (1 - P) b = -1, here between two rungs of the grid."""
    frame = pl.DataFrame({"price": PRICES, "bought": [9, 8, 6, 3, 1], "n": [10] * 5})
    data = build_purchases(frame, price="price", bought="bought", trials="n")
    posterior = known(data, level=0.0, slope=-1.5)  # even odds at the mean price of 2.3
    chance = purchase_probability(posterior, PRICES).to_numpy()[0]
    np.testing.assert_allclose(chance, expit(-1.5 * (np.array(PRICES) - 2.3)), rtol=1e-12)
    elasticity = purchase_elasticity(posterior, [2.3]).to_numpy()[0, 0]
    assert elasticity == pytest.approx(-1.5 * 2.3 * 0.5)
    curve = expected_revenue(posterior)
    grid = np.linspace(1.0, 4.0, 3001)
    best = grid[(grid * expit(-1.5 * (grid - 2.3))).argmax()]
    assert curve.price == pytest.approx(best, abs=0.5 * 3.0 / 40)  # half a step of the grid
    assert (curve.best == curve.price).all()
    dearer = expected_revenue(posterior, cost=1.0)
    assert dearer.price > curve.price
    assert expected_revenue(known(data, level=5.0, slope=-0.1)).findings[0].code == "optimum_at_edge"
    with pytest.raises(SpecError, match="was not tested"):
        expected_revenue(posterior, [5.0])
    with pytest.raises(SpecError, match="cost per unit"):
        expected_revenue(posterior, cost=-1.0)


def test_marginal_effects_are_differences_of_probabilities() -> None:
    data = offers()
    posterior = known(data, level=0.3, slope=-0.8)
    step = 1e-5
    at = posterior.level(data.other)[0] - 0.8 * (data.price - data.mean(data.price))
    change = (expit(at - 0.8 * step) - expit(at)).mean() / step
    assert float(marginal_effects(posterior).sel(column="price")[0]) == pytest.approx(change, rel=1e-3)


def test_what_cannot_be_known_is_refused() -> None:
    one = pl.DataFrame({"price": [2.0] * 4, "bought": [0, 1, 1, 0]})
    with pytest.raises(Refusal, match="every offer was made at 2"):
        build_purchases(one, price="price", bought="bought")
    follows = pl.DataFrame({"price": [1.0, 2.0, 3.0], "bought": [1, 1, 0], "size": [2.0, 4.0, 6.0]})
    with pytest.raises(Refusal, match="other columns determine the price"):
        build_purchases(follows, price="price", bought="bought", controls=["size"])
    with pytest.raises(Refusal, match="none of 3 offers"):
        build_purchases(follows.with_columns(bought=pl.lit(0)), price="price", bought="bought")
    two = build_purchases(follows[:2], price="price", bought="bought")
    with pytest.raises(Refusal, match="no shape of its own"):
        build_steps(two)


def test_bad_rows_come_in_one_answer() -> None:
    frame = pl.DataFrame({"price": [1.0, -1.0, None, 2.0], "bought": [1, 0, 1, 2]})
    with pytest.raises(PanelError) as caught:
        build_purchases(frame, price="price", bought="bought")
    assert [(problem.code, problem.count) for problem in caught.value.problems] == [
        ("not_a_number", 1),
        ("non_positive_price", 1),
        ("bought_out_of_range", 1),
    ]
    with pytest.raises(PanelError, match="no column 'gone'"):
        build_purchases(frame, price="price", bought="bought", trials="gone")


def test_a_price_by_lot_does_not_follow_the_controls() -> None:
    data = offers()
    assert [finding.code for finding in price_findings(data, randomised=True)] == []
    assert [finding.code for finding in price_findings(data, randomised=False)] == ["price_not_randomised"]
    frame = pl.DataFrame({"price": data.price, "bought": data.bought, "zip": data.price + data.other[:, 1]})
    sorted_out = build_purchases(frame, price="price", bought="bought", controls=["zip"])
    assert [finding.code for finding in price_findings(sorted_out, randomised=True)] == ["price_follows_controls"]
