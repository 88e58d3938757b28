from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, SpecError
from bayes_pricing.pricing.constraints import Bounds, MaxChange, Support
from bayes_pricing.pricing.curve import price_curve
from bayes_pricing.pricing.explanation import explain
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.wording import word
from tests.posteriors import normal_posterior, posterior_from_draws


def test_the_flip_point_of_a_raise() -> None:
    rng = np.random.default_rng(1)
    posterior = posterior_from_draws(rng.normal(-1.5, 0.3, (4000, 1)), cost=5.0)
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1, testing=None
    )
    found = explain(posterior, decision, "item-00000")
    assert found.flip is not None
    assert found.flip.today_best_at == pytest.approx(-2.0)  # -10 / (10 - 5)
    # equal profit at 11 and 10: (6 / 5) 1.1^e = 1
    assert found.flip.equal_at == pytest.approx(-np.log(1.2) / np.log(1.1))
    elasticity = posterior.elasticity
    assert found.flip.today_best_beyond == pytest.approx(float((elasticity <= -2.0).mean()))
    assert found.flip.equal_beyond == pytest.approx(float((elasticity < -np.log(1.2) / np.log(1.1)).mean()))
    assert found.contrasts[0].probability_better == pytest.approx(1.0 - found.flip.equal_beyond)


def test_the_flip_point_with_commission_and_fee() -> None:
    posterior = posterior_from_draws(np.full(400, -1.5), cost=3.0)
    money = Economics(commission=0.2, fixed_fee=1.0)
    decision = optimize_prices(
        posterior, money, "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1, testing=None
    )
    found = explain(posterior, decision, "item-00000")
    assert found.flip is not None
    assert found.flip.today_best_at == pytest.approx(-8.0 / 4.0)
    # at 11 sales are 1.1^-1.5 of today's: the cost at which 0.8 p q - (1 + c) q is the same at both
    sold = 1.1**-1.5
    assert found.flip.cost == pytest.approx(3.0)
    assert found.flip.cost_equal_at == pytest.approx(0.8 * (11.0 * sold - 10.0) / (sold - 1.0) - 1.0)


def test_a_binding_cap_is_worth_the_slope_of_profit() -> None:
    posterior = posterior_from_draws(np.full(400, -2.0), cost=6.0)  # best price 12
    decision = optimize_prices(
        posterior, Economics(), "profit", [Bounds(highest=11.0)], horizon_periods=13, seed=1, testing=None
    )
    (limit,) = explain(posterior, decision, "item-00000").limits

    def profit(price: float) -> float:
        return (price - 6.0) * 1e4 / price**2

    assert limit.name == "bounds"
    assert limit.looser == pytest.approx(profit(11.0 * 1.01) - profit(11.0))
    assert limit.tighter == pytest.approx(profit(11.0 * 0.99) - profit(11.0))
    slope = (profit(11.0 + 1e-5) - profit(11.0 - 1e-5)) / 2e-5
    # the slope is taken over a thousandth of the price
    assert decision.items[0].shadow_price == pytest.approx(slope * 11.0 * np.log(1.01), rel=1e-2)


def test_the_best_rejected_price_is_compared_on_the_same_draws() -> None:
    posterior = normal_posterior(4, 500, seed=2)
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.05)], horizon_periods=13, seed=1, testing=None
    )
    for name in posterior.names:
        found = explain(posterior, decision, name)
        rejected = found.contrasts[1]
        assert rejected.against == "best_rejected"
        assert abs(rejected.price / found.decision.price - 1.0) > 0.02
        if rejected.change.mean < 0:  # it would earn more, so something forbids it
            assert rejected.forbidden_by


def test_a_refused_item_is_explained_by_its_reasons() -> None:
    posterior = posterior_from_draws(np.full(400, -2.0), cost=3.0)
    decision = optimize_prices(
        posterior, Economics(), "profit", [Bounds(lowest=14.0), MaxChange(share=0.2)], horizon_periods=13, seed=1
    )
    found = explain(posterior, decision, "item-00000")
    assert (found.looked_at_price, found.contrasts, found.split, found.flip) == (None, (), None, None)
    assert word(found, "headline") == "No price is recommended for item-00000: its limits contradict each other."
    assert "the lowest price of 14.00 and the largest change of 20 %" in word(found)
    with pytest.raises(SpecError, match="has no item 'x'"):
        explain(posterior, decision, "x")


def test_decisions_that_lean_on_the_prior_say_so() -> None:
    rng = np.random.default_rng(3)
    common = rng.normal(-2.2, 0.5, (4000, 1))
    posterior = posterior_from_draws(common, cost=5.0, lowest_price=8.0, highest_price=12.0)
    decision = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1, testing=None)
    found = explain(posterior, decision, "item-00000").prior_sensitivity
    assert found is not None
    # the prior sits at -2.62: more of it means more elastic demand, hence a lower price
    assert found.price_at_double < found.price_at_half
    assert found.price_moves
    priors = posterior.spec.priors  # one item in one category: the groups' variance is the population's
    variance = priors.elasticity_sd**2 + priors.elasticity_between_groups**2
    log_prior = -0.5 * (common[:, 0] - priors.elasticity_mean) ** 2 / variance
    price = decision.items[0].price
    change = (price - 5.0) * 100.0 * (price / 10.0) ** common[:, 0] - 500.0
    assert found.change_per_doubling == pytest.approx(np.log(2) * np.cov(change, log_prior, ddof=0)[0, 1])


def test_a_change_is_worded_with_its_number_and_its_word() -> None:
    rng = np.random.default_rng(4)
    posterior = posterior_from_draws(rng.normal(-1.6, 0.3, (2000, 1)), cost=5.0)
    decision = optimize_prices(
        posterior, Economics(currency="EUR"), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1, testing=None
    )
    headline = word(explain(posterior, decision, "item-00000"), "headline")
    assert headline.startswith("Raise item-00000 from 10.00 to 11.00: expected profit up ")
    assert "EUR a period (better: likely, " in headline or "(better: very likely, " in headline


def test_a_period_is_called_by_its_calendar_and_a_limit_by_its_words() -> None:
    posterior = posterior_from_draws(np.full(400, -1.5), cost=5.0)
    days = [date(2025, 1, 6), date(2025, 12, 29)]
    weekly = replace(
        posterior, items=posterior.items.with_columns(first_period=pl.lit(days[0]), last_period=pl.lit(days[1]))
    )  # 52 rows over 51 weeks
    decision = optimize_prices(
        weekly, Economics(currency="EUR"), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1, testing=None
    )
    found = explain(weekly, decision, "item-00000")
    assert found.period == "week"
    assert word(found, "headline").endswith(" EUR a week (better: virtually certain, over 99 %).")
    assert "It is held by the largest change of 10 %: 11 % would bring " in word(found, "full")
    assert explain(weekly, decision, "item-00000", period="visit").period == "visit"


def test_findings_of_the_fit_about_the_item_become_warnings() -> None:
    posterior = posterior_from_draws(np.full((400, 2), -1.5), cost=5.0)
    decision = optimize_prices(posterior, Economics(), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1)
    about = [
        Finding(code="trend", severity="warning", item=name, message="its price follows time", remedy="test it")
        for name in posterior.names
    ]
    found = explain(posterior, decision, "item-00001", findings=about)
    assert about[1] in found.warnings
    assert about[0] not in found.warnings
    assert "Its price follows time; test it." in word(found, "full")


def test_units_are_more_uncertain_far_from_the_usual_price() -> None:
    rng = np.random.default_rng(5)
    posterior = posterior_from_draws(
        rng.normal(-1.5, 0.5, (4000, 1)), cost=5.0, units=np.exp(rng.normal(4, 0.1, (4000, 1)))
    )
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.1)], horizon_periods=13, seed=1, testing=None
    )
    support = explain(posterior, decision, "item-00000").support
    log_ratio = np.log(decision.items[0].price / 10.0)
    # independent level and slope of sds 0.1 and 0.5: 5 % is four standard errors of a ratio of sds of 4,000 draws
    assert support.uncertainty_ratio == pytest.approx(np.hypot(1.0, 5.0 * log_ratio), rel=0.05)
    assert support.distance_in_sds == pytest.approx(abs(log_ratio) / (np.log(4.0) / 4.0))


def test_a_price_outside_the_data_gets_no_word_of_confidence() -> None:
    posterior = posterior_from_draws(np.full(400, -1.5), cost=5.0, lowest_price=9.0, highest_price=10.0)
    decision = optimize_prices(
        posterior, Economics(), "profit", [Support(extend=0.1)], horizon_periods=13, seed=1, testing=None
    )
    headline = word(explain(posterior, decision, "item-00000"), "headline")
    assert headline.endswith("(better: over 99 %).")


class CrossedPair:
    """Two items whose prices cross, from arrays."""

    def __init__(self, pairs: NDArray[np.float64]) -> None:
        self.base = posterior_from_draws(np.einsum("sii->si", pairs), cost=4.0, lowest_price=4.1, highest_price=20.0)
        self.matrix = pairs.reshape(2, -1, 2, 2)
        self.spec = replace(self.base.spec, cross_prices="population", others=1, controls=("cross_price",))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.base, name)

    def cross_elasticities(self, category: str) -> xr.DataArray:
        names = self.base.names
        return xr.DataArray(
            self.matrix, dims=("chain", "draw", "item", "other"), coords={"item": names, "other": names}
        )


def test_where_prices_cross_the_explanation_agrees_with_the_joint_decision() -> None:
    rng = np.random.default_rng(6)
    pairs = np.array([[-3.0, 0.5], [0.5, -3.0]]) + rng.normal(0.0, 0.1, (400, 2, 2))
    posterior: Any = CrossedPair(pairs)
    decision = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1)
    for item in decision.items:
        found = explain(posterior, decision, item.item)
        assert found.split is not None
        assert item.profit is not None
        # the same draws on two ways through the arithmetic
        assert found.contrasts[0].change.mean == pytest.approx(item.profit.mean, rel=1e-9)
        assert found.split.residual < 1e-9
        # both prices fall from 10 to about 6.67, so each takes sales from the other
        assert found.split.own_volume.mean > 0 > found.split.cross_volume.mean
        assert "by those of other items" in word(found)


def test_where_prices_cross_reasons_count_the_category() -> None:
    rng = np.random.default_rng(6)
    pairs = np.array([[-3.0, 0.8], [0.8, -3.0]]) + rng.normal(0.0, 0.1, (400, 2, 2))
    posterior: Any = CrossedPair(pairs)
    decision = optimize_prices(
        posterior, Economics(), "profit", [MaxChange(share=0.05)], horizon_periods=13, seed=1
    )  # fmt: skip
    first, second = decision.items
    found = explain(posterior, decision, first.item)
    assert found.joint
    assert first.price == pytest.approx(9.5)
    assert second.price == pytest.approx(9.5)

    def money(price: float, own: Any = pairs[:, 0, 0], cost: float = 4.0) -> Any:
        """Profit per draw of both items with the first at a price, the second as decided."""
        mine, other = np.log(price / 10.0), np.log(second.price / 10.0)
        sold = 100.0 * np.exp(own * mine + pairs[:, 0, 1] * other)
        return sold * (price - cost) + 100.0 * np.exp(pairs[:, 1, 0] * mine + pairs[:, 1, 1] * other) * (
            second.price - 4.0
        )

    (limit,) = found.limits
    assert limit.name == "max_change"
    assert limit.looser == pytest.approx(money(9.4).mean() - money(9.5).mean(), rel=1e-6)
    assert limit.tighter == pytest.approx(money(9.6).mean() - money(9.5).mean(), rel=1e-6)
    assert first.shadow_price == pytest.approx(-limit.tighter, rel=0.1)  # one per cent of either side of a curve
    flip = found.flip
    assert flip is not None
    assert flip.equal_at is not None
    assert flip.today_best_at is not None
    assert flip.cost_equal_at is not None
    assert flip.equal_beyond == (money(9.5) < money(10.0)).mean()
    # at the flip points, the expected money of the category is what they say
    assert money(9.5, flip.equal_at).mean() == pytest.approx(money(10.0, flip.equal_at).mean(), rel=1e-9)
    slope = money(10.0 * (1 + 1e-6), flip.today_best_at).mean() - money(10.0 * (1 - 1e-6), flip.today_best_at).mean()
    assert abs(slope) < 1e-6  # money of about 1,000
    dearer = flip.cost_equal_at
    assert money(9.5, cost=dearer).mean() == pytest.approx(money(10.0, cost=dearer).mean(), rel=1e-9)
    prior = found.prior_sensitivity
    assert prior is not None
    assert prior.price_as_is == pytest.approx(9.5)
    whole = found.category
    assert whole is not None
    assert whole.change.mean == pytest.approx((money(9.5) - money(10.0)).mean(), rel=1e-9)
    curve = price_curve(posterior, decision, first.item)
    at = curve.filter((curve["price"] - 9.5).abs() < 1e-9)
    assert at["mean"].item() == pytest.approx(money(9.5).mean(), rel=1e-9)
    assert word(found, "headline").startswith("Cut item-00000 from 10.00 to 9.50: its category's profit up")
    told = word(found, "full")
    assert "Today's price would earn its category more than 9.50 if the elasticity were above" in told
    assert "(its category, the other prices as decided)" in told
