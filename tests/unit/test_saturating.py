"""An elasticity that goes from one limit to another as the price rises: the curve's identities, and how steep it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.integrate import quad

from bayes_pricing.data.gram import gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.changing import elasticity_at_price, term_columns
from bayes_pricing.demand.design import ModelRequest, build_design, log_rows
from bayes_pricing.demand.forecast import demand_draws, predict_units
from bayes_pricing.demand.gaussian_tree import build_tree_data, kernel_tree
from bayes_pricing.demand.price_curves import Saturating, curve_slope, curve_values
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_CURVE, DemandSpec
from bayes_pricing.demand.steepness import compare_steepness, steepness_findings
from bayes_pricing.demand.terms import STEEPNESSES, TermRequest, price_curve_column
from bayes_pricing.demand.tree_prior import build_tree_prior
from bayes_pricing.demand.tree_start import find_start, residual_start
from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.curved import prices_on_curve
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import posterior_from_draws
from tests.unit.test_curved import CurvedPosterior, uncertain, with_curve

Floats = NDArray[np.float64]
STEEP = 8.0
OFFSETS = np.array([-1.5, -0.2, 0.0, 0.1, 2.0])


def curve_of(steepness: float = STEEP) -> tuple[Saturating, Floats]:
    """Five items away from their usual prices by all sorts of steps, and their elasticities today; three draws."""
    rng = np.random.default_rng(2)
    curve = Saturating(swing=rng.normal(0.0, 1.0, (5, 3)), offset=OFFSETS, steepness=steepness)
    return curve, rng.normal(-2.0, 0.5, (5, 3))


def saturating(plain: CurvedPosterior, steepness: float = STEEP) -> CurvedPosterior:
    return replace(plain, spec=DemandSpec(controls=(PRICE_CURVE,), steepness=steepness))


@pytest.mark.parametrize("steepness", [2.0, 16.0])
@pytest.mark.parametrize("move", [-1.0, -0.3, 1e-3, 0.07, 0.8])
def test_the_mean_elasticity_is_the_integral_of_the_elasticity(steepness: float, move: float) -> None:
    curve, today = curve_of(steepness)
    found = curve.mean_elasticity(today, np.full(5, move))
    for item, offset in enumerate(OFFSETS):
        change, _ = quad(
            lambda x, at=offset: np.tanh(0.5 * steepness * (at + x)) - np.tanh(0.5 * steepness * at),
            0.0,
            move,
            points=[-offset] if 0.0 < -offset / move < 1.0 else None,
            epsabs=1e-13,
            epsrel=1e-12,
        )
        assert_allclose(found[item], today[item] + curve.swing[item] * change / move, atol=1e-9)


def test_elasticity_and_bend_are_derivatives() -> None:
    """Of log units, and of the elasticity, by log price: Richardson's five points, exact to the fourth order."""
    curve, today = curve_of()
    at, step = np.array([-0.4, 0.0, 0.03, 0.2, -1.9]), 2e-3

    def derivative(of: object) -> Floats:
        values = [of(at + shift * step) for shift in (-2, -1, 1, 2)]  # type: ignore[operator]
        return np.asarray((values[0] - 8.0 * values[1] + 8.0 * values[2] - values[3]) / (12.0 * step))

    log_units = derivative(lambda move: curve.mean_elasticity(today, move) * move[:, None])
    assert_allclose(curve.elasticity_at(today, at), log_units, atol=2e-8)  # step^4 times the fifth derivative, < 10^3
    slopes = derivative(lambda move: curve.elasticity_at(today, move))
    assert_allclose(curve.bend_at(today, at), slopes, atol=1e-7)


def test_nothing_cancels_near_todays_price_and_nothing_overflows_far_from_it() -> None:
    curve, today = curve_of()
    assert (curve.mean_elasticity(today, np.zeros(5)) == today).all()
    for move in (1e-12, -1e-9, 1e-6):
        bend = curve.bend_at(today, np.zeros(5))
        assert_allclose(curve.mean_elasticity(today, np.full(5, move)), today + 0.5 * bend * move, atol=1e-11)
    far = curve.mean_elasticity(today, np.full(5, 1e4))
    limit = today + curve.swing * (1.0 - np.tanh(0.5 * STEEP * OFFSETS))[:, None]
    assert_allclose(far, limit, atol=1e-3)  # the way through the transition, about 2 / s of 10^4, is still in the mean
    assert_allclose(curve.elasticity_at(today, np.full(5, 30.0)), limit, atol=1e-12)


def test_parts_draws_and_joins_keep_each_items_own_curve() -> None:
    curve, today = curve_of()
    move = np.linspace(-0.5, 0.5, 5)
    whole = curve.mean_elasticity(today, move)
    some = np.array([3, 0])
    assert_allclose(curve.part(some).mean_elasticity(today[some], move[some]), whole[some])
    assert_allclose(curve.on(slice(1, 3)).mean_elasticity(today[:, 1:], move), whole[:, 1:])
    joined = curve.part(slice(0, 2)).joined([curve.part(slice(2, 3)), curve.part(slice(3, 5))])
    assert (joined.mean_elasticity(today, move) == whole).all()
    single = curve.stored_as(np.float32)
    assert single.swing.dtype == np.float32
    assert_allclose(single.mean_elasticity(today, move), whole, rtol=1e-5)


def test_columns_are_the_curve_and_a_flat_one_is_a_quarter_of_the_square() -> None:
    away = np.linspace(-1.2, 1.2, 25)
    frame = pl.DataFrame({"x": away})
    for steepness in (0.0, *STEEPNESSES):
        column = frame.select(price_curve_column(pl.col("x"), steepness))["x"]
        assert_allclose(column, curve_values(away, steepness), atol=1e-15)
    assert_allclose(curve_values(away, 1e-3), 1e-3 * away**2 / 4.0, rtol=1e-6, atol=1e-12)
    assert_allclose(curve_slope(np.array([-9.0, 9.0]), 4.0), [-1.0, 1.0], atol=1e-12)


def test_units_elasticities_and_new_rows_follow_the_equation() -> None:
    posterior = saturating(uncertain())
    names, prices = posterior.items["item"].to_list(), np.linspace(7.0, 14.0, 5)
    away = np.log(prices) - posterior.items["reference_log_price"].to_numpy()
    column = 2.0 / STEEP * np.log(np.cosh(0.5 * STEEP * away))
    log_units = posterior.level + posterior.elasticity * away + posterior.curve * column
    expected = np.exp(log_units).reshape(-1, 5).T
    assert_allclose(demand_draws(posterior).units(prices), expected, rtol=1e-12)
    predicted = predict_units(posterior, names, prices).transpose("item", "chain", "draw").to_numpy()
    assert_allclose(predicted.reshape(5, -1), expected, rtol=1e-12)
    slope = (posterior.elasticity + posterior.curve * np.tanh(0.5 * STEEP * away)).reshape(-1, 5).T
    assert_allclose(demand_draws(posterior).elasticity_at(np.log(prices / 10.0)), slope, atol=1e-12)
    said = elasticity_at_price(posterior, names, prices).transpose("item", "chain", "draw").to_numpy()
    assert_allclose(said.reshape(5, -1), slope, atol=1e-12)
    rows = term_columns(pl.DataFrame({"item": names, "price": prices}), posterior)
    assert_allclose(rows[PRICE_CURVE], column, atol=1e-12)


def test_revenue_peaks_where_the_elasticity_is_minus_one() -> None:
    """-1.2 - 0.8 tanh(4 x) = -1 at tanh(4 x) = -1/4, inside the prices seen; Newton finds it on the draws."""
    plain = with_curve(posterior_from_draws(np.full((400, 1), -1.2)), -0.8)
    posterior = saturating(plain)
    peak = 10.0 * np.exp(np.arctanh(-0.25) / 4.0)
    found = prices_on_curve(posterior, Economics(), "revenue").row(0, named=True)
    assert found["price"] == pytest.approx(peak, rel=1e-3)  # a parabola's top within a grid step
    assert not found["at_end"]
    decision = optimize_prices(
        posterior, Economics(), "revenue", [MaxChange(share=0.4)], horizon_periods=1.0, seed=1, testing=None
    )
    assert decision.items[0].price == pytest.approx(peak, rel=1e-9)


def market(steepness: float, swing: float, *, noise: float = 0.05, spread: float = 0.35) -> SalesPanel:
    """Ten items over 60 weeks."""
    rng = np.random.default_rng(4)
    log_price = rng.normal(1.0, spread, (10, 60))
    away = log_price - log_price.mean(axis=1, keepdims=True)
    elasticity = rng.normal(-2.0, 0.2, (10, 1))
    log_units = 5.0 + elasticity * away + swing * curve_values(away, steepness) + rng.normal(0.0, noise, (10, 60))
    frame = pl.DataFrame(
        {
            "item": np.repeat([f"item{at}" for at in range(10)], 60),
            "period": np.tile(np.arange(60), 10),
            "price": np.exp(log_price).ravel(),
            "quantity": np.exp(log_units).ravel(),
        }
    )
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns))


REQUEST = ModelRequest(terms=TermRequest(curve="saturating"))


@pytest.mark.parametrize("steepness", STEEPNESSES)
def test_clear_sales_tell_how_steep_the_curve_is(steepness: float) -> None:
    design = build_design(market(steepness, -1.0), REQUEST)
    assert design.spec.steepness == steepness
    assert design.spec.controls == (PRICE_CURVE,)
    found = log_rows(design.frame).select(
        PRICE_CURVE, away=pl.col("log_price") - pl.col("log_price").mean().over("item")
    )
    rows = found.collect()
    assert_allclose(rows[PRICE_CURVE], curve_values(rows["away"].to_numpy(), steepness), atol=1e-12)
    codes = {finding.code for finding in design.findings}
    assert "price_curve_steepness" in codes
    assert "price_curve_steepness_unclear" not in codes
    assert ("price_curve_limits_unseen" in codes) == (steepness == 2.0)
    assert ("price_curve_jump" in codes) == (steepness == 16.0)


def test_items_of_one_level_do_not_break_the_search_for_the_mode() -> None:
    """Their sd between items is zero, where the density has a crease: the search once stepped into the overflow."""
    rng = np.random.default_rng(109)
    own, swing = rng.normal(-2.1, 0.15, (8, 1)), rng.normal(-0.9, 0.15, (8, 1))
    log_price = rng.normal(0.0, 0.3, (8, 52))
    away = log_price - log_price.mean(axis=1, keepdims=True)
    log_units = 6.0 + own * away + swing * curve_values(away, STEEP) + rng.normal(0.0, 0.05, (8, 52))
    rows = pl.DataFrame(
        {
            "item": np.repeat([f"item{at}" for at in range(8)], 52),
            "log_price": away.ravel(),
            "curve": curve_values(away, STEEP).ravel(),
            "log_units": log_units.ravel(),
        }
    )
    spec = DemandSpec(levels=(), controls=(PRICE_CURVE,), steepness=STEEP)
    gram = gather_gram(
        rows.rename({"curve": PRICE_CURVE}), "item", "log_units", spec.columns[1:], centred=("log_price",)
    )
    data = build_tree_data(gram, [], spec)
    prior = build_tree_prior(data, spec.priors)
    tree = kernel_tree(data, gram, prior.root_mean)
    start = find_start(tree, prior, 1, *residual_start(tree))
    assert np.isfinite(start.factor).all()
    assert start.mode[-1] == pytest.approx(np.log(0.05), abs=0.1)  # 416 rows: the noise's log has an sd of 0.035


def test_sales_without_a_curve_cannot_tell_and_it_is_said() -> None:
    design = build_design(market(8.0, 0.0, noise=0.3, spread=0.1), REQUEST)
    assert "price_curve_steepness_unclear" in {finding.code for finding in design.findings}


def test_findings_name_what_comes_close() -> None:
    found = steepness_findings({2.0: -30.0, 4.0: -1.9, 8.0: 0.0, 16.0: -2.1})
    assert [finding.code for finding in found] == ["price_curve_steepness", "price_curve_steepness_unclear"]
    assert "steepness 8" in found[0].message
    assert "28% over" in found[0].message
    assert "of 8 from 4," in found[1].message


def test_the_steepness_is_the_one_found_with_other_columns_beside_it() -> None:
    """Columns in another order: statistics are picked by name."""
    design = build_design(market(8.0, -1.0), ModelRequest(terms=TermRequest(curve="saturating", trend=True)))
    spec = replace(design.spec, controls=("drifting", PRICE_CURVE))
    rows = log_rows(design.frame).with_columns(drifting=pl.col("period").cast(pl.Float64) / 60.0)
    found = compare_steepness(rows, design.items, spec)
    assert max(found, key=found.__getitem__) == design.spec.steepness == 8.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="steepness"):
        DemandSpec(steepness=4.0)
    with pytest.raises(SpecError, match="steepness"):
        DemandSpec(controls=(PRICE_CURVE,), steepness=-1.0)
    with pytest.raises(Refusal, match="--price-curve saturating stands in the log-normal model"):
        build_design(market(4.0, -1.0), replace(REQUEST, model="student-t"))
    spec = DemandSpec(controls=(PRICE_CURVE, CROSS_PRICE), steepness=4.0, cross_prices="population", others=1)
    posterior = replace(uncertain(), spec=spec)
    with pytest.raises(Refusal, match="elasticity changes with price"):
        optimize_prices(
            posterior, Economics(), "profit", [MaxChange(share=0.2)], horizon_periods=1.0, seed=1, testing=None
        )
