from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.experiments.many_arms import Arms, best_sizes, score_sizes, simulate_test_value
from bayes_pricing.experiments.plan_parts import plan_assurance
from bayes_pricing.experiments.price_arms import PriceChoice, price_arms
from bayes_pricing.experiments.price_test import TestGoals, plan_json, plan_price_test, plan_test
from bayes_pricing.experiments.sizing import TwoArms, profit_maximizing_test, score_test
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import normal_posterior

PRIOR = 0.02 * np.ones((3, 3)) + 0.02 * np.eye(3)
THREE = Arms(
    means=(1.0, 1.0, 1.05),
    covariance=tuple(tuple(row) for row in PRIOR.tolist()),
    noise_sds=(1.0, 1.2, 0.9),
    population=10_000,
    switching_costs=(0.0, 20.0, 20.0),
)


def test_many_arms_agree_with_a_plain_simulation() -> None:
    """Truth, data, posterior mean and choice, played 200,000 times without any of the formulas."""
    sizes = np.array([200.0, 150.0, 300.0])
    rng = np.random.default_rng(1)
    truth = rng.multivariate_normal(THREE.means, PRIOR, 200_000)
    noise = np.array(THREE.noise_sds) / np.sqrt(sizes)
    seen = truth + noise * rng.standard_normal(truth.shape)
    weight = PRIOR @ np.linalg.inv(PRIOR + np.diag(noise**2))
    believed = np.array(THREE.means) + (seen - np.array(THREE.means)) @ weight.T
    left = THREE.population - sizes.sum()
    taken = (left * believed - THREE.costs).argmax(axis=1)
    money = (left * truth - THREE.costs)[np.arange(len(truth)), taken]
    scored = score_sizes(THREE, sizes)
    error = money.std() / np.sqrt(len(money))
    assert abs(money.mean() - scored.rollout_profit) < 3 * error
    perfect = (THREE.population * truth - THREE.costs).max(axis=1)
    assert abs(perfect.mean() - scored.perfect_information_profit) < 3 * perfect.std() / np.sqrt(len(perfect))
    wrong = (taken != (left * truth - THREE.costs).argmax(axis=1)).mean()
    assert abs(wrong - scored.error_probability) < 0.02  # 4,096 quasi-random points


def test_the_best_sizes_beat_every_size_of_a_grid() -> None:
    best = best_sizes(THREE)
    grid = np.geomspace(20, 2_000, 5)
    others = [score_sizes(THREE, [a, b, c]).profit for a in grid for b in grid for c in grid]
    # the grid is scored on the same draws, so that nothing but the search is judged
    assert best.profit >= max(others)


def test_a_switching_cost_is_paid_once_and_only_for_the_new_arm() -> None:
    free = TwoArms(means=(1.0, 1.02), sds=(0.1, 0.15), noise_sds=(1.0, 0.8), population=5_000, correlation=0.5)
    dear = TwoArms(
        means=(1.0, 1.02), sds=(0.1, 0.15), noise_sds=(1.0, 0.8), population=5_000, correlation=0.5, switching_cost=60.0
    )
    lost = score_test(free, 200, 300).profit - score_test(dear, 200, 300).profit
    assert 0.3 * 60 < lost < 0.7 * 60  # it is paid in about half of the worlds
    assert profit_maximizing_test(dear).no_test_profit == 5_040.0
    # dearer than all there is to gain, and nothing is worth testing
    ruin = TwoArms(means=(1.0, 0.98), sds=(0.1, 0.15), noise_sds=(1.0, 0.8), population=5_000, switching_cost=1e5)
    assert profit_maximizing_test(ruin).n_per_arm == (0.0, 0.0)


def test_simulated_value_meets_the_closed_form_under_normal_beliefs() -> None:
    rng = np.random.default_rng(2)
    draws = rng.multivariate_normal(THREE.means, PRIOR, 1_500)
    exact = score_sizes(THREE, [150, 150, 150])
    value = simulate_test_value(draws, THREE, [150, 150, 150], rng)
    assert abs(value.net - (exact.profit - exact.no_test_profit)) < 3 * value.standard_error


def test_a_plan_of_three_arms_says_everything() -> None:
    plan = plan_test(THREE, TestGoals(units_per_week=500.0))
    assert plan.arms == ("control", "treatment 1", "treatment 2")
    assert plan.power is not None
    assert plan.sequential is not None
    assert plan.assurance is not None
    assert plan.risk is not None
    assert plan.duration_weeks == int(np.ceil(sum(plan.test_and_roll.n_per_arm) / 500.0))
    # any of two arms significantly better: more likely than one alone, never over the chance that one is better
    assert plan.assurance.positive < plan.assurance.ceiling < 1
    alone = plan_assurance(
        Arms(means=(1.0, 1.05), covariance=((0.04, 0.02), (0.02, 0.04)), noise_sds=(1.0, 0.9), population=1e4),
        np.array(plan.test_and_roll.n_per_arm)[[0, 2]],
        0.05,
    )
    assert plan.assurance.positive > alone.positive * 0.9
    sizes = plan_json(plan)["test_and_roll"]["n_per_arm"]
    assert len(sizes) == 3
    value = plan.value_of_information
    assert 0 < value.net < value.sample < value.perfect


def test_a_test_too_small_ever_to_help_is_named() -> None:
    arms = TwoArms(means=(1.0, 0.95), sds=(0.1, 0.1), noise_sds=(5.0, 5.0), population=1e5)
    free = plan_test(arms, TestGoals())
    assert free.test_and_roll.n_per_arm[0] > 100
    capped = plan_test(arms, TestGoals(largest_units=20))
    assert capped.test_and_roll.n_per_arm == (0.0, 0.0)
    assert [finding.code for finding in capped.findings] == ["test_too_small"]
    smaller = plan_test(arms, TestGoals(largest_units=1_000))
    assert sum(smaller.test_and_roll.n_per_arm) == pytest.approx(1_000)
    assert "test_made_smaller" in [finding.code for finding in smaller.findings]


def test_the_tests_own_loss_can_be_bounded() -> None:
    arms = TwoArms(means=(1.0, 0.95), sds=(0.1, 0.1), noise_sds=(2.0, 2.0), population=1e5)
    free = plan_test(arms, TestGoals())
    assert free.risk is not None
    bounded = plan_test(arms, TestGoals(largest_loss=free.risk.expected_shortfall / 2))
    assert bounded.risk is not None
    assert bounded.risk.expected_shortfall == pytest.approx(free.risk.expected_shortfall / 2)
    assert bounded.test_and_roll.profit < free.test_and_roll.profit


def test_several_prices_of_an_item_are_chosen_and_planned() -> None:
    posterior = normal_posterior(2, 400, seed=4, sd=1.2)
    settings: dict[str, Any] = {"horizon_periods": 104, "goals": TestGoals(), "limits": [MaxChange(share=0.2)]}
    one = plan_price_test(posterior, Economics(), "item-00000", **settings)
    two = plan_price_test(posterior, Economics(), "item-00000", choice=PriceChoice(count=2), **settings)
    assert one.prices is not None
    assert two.prices is not None
    assert two.prices[:2] == one.prices
    assert len(set(two.prices)) == 3
    assert all(abs(price / two.prices[0] - 1) <= 0.2 + 1e-9 for price in two.prices)
    simulated = one.value_of_information.simulated
    assert simulated is not None
    assert simulated.draws == 400
    # the draws are far from normal here, which the closed form does not know: no test is worth more than to know all
    draws = price_arms(
        posterior, Economics(), "item-00000", PriceChoice(), horizon_periods=104, limits=settings["limits"]
    )
    perfect = 104 * (draws.draws.max(axis=1).mean() - draws.draws.mean(axis=0).max())
    assert 0 < simulated.net < perfect < one.value_of_information.net
    assert "beliefs_not_normal" in [finding.code for finding in one.findings]


@pytest.mark.parametrize(
    "wrong",
    [
        {"covariance": ((1.0, 2.0), (2.0, 1.0))},
        {"noise_sds": (1.0,)},
        {"population": 0.0},
        {"switching_costs": (1.0, -1.0)},
        {"means": (float("nan"), 1.0)},
    ],
)
def test_impossible_arms_are_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "means": (1.0, 1.0), "covariance": ((1.0, 0.0), (0.0, 1.0)), "noise_sds": (1.0, 1.0), "population": 10.0
    }  # fmt: skip
    with pytest.raises(SpecError, match="Arms"):
        Arms(**(right | wrong))
