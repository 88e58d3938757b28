from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.experiments.price_test import TestGoals, plan_json, plan_price_test, plan_test
from bayes_pricing.experiments.sizing import TwoArms, preposterior_sd, profit_maximizing_test, score_test
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.profit import Economics
from simulations.studies.planner_value import random_arms
from tests.posteriors import posterior_from_draws

NOISE = float(np.sqrt(0.68 * 0.32))
WEBSITE = TwoArms(means=(0.68, 0.68), sds=(0.03, 0.03), noise_sds=(NOISE, NOISE), population=100_000)


def test_a_plan_from_numbers_says_everything() -> None:
    plan = plan_test(WEBSITE, TestGoals(effect=0.0136, units_per_week=1000.0))
    assert plan.power is not None
    assert plan.power.n_per_arm == pytest.approx(18467.95, abs=5e-3)
    assert plan.power.at_plan < 0.8  # the profitable test is much smaller than the significant one
    assert plan.duration_weeks == 5
    error = NOISE * np.sqrt(2.0 / 2283.89)
    assert plan.minimum_detectable_effect == pytest.approx(2.801585 * error, rel=1e-5)
    assert plan.assurance is not None
    assert plan.assurance.ceiling == pytest.approx(0.5)
    assert [finding.code for finding in plan.findings] == ["assurance_ceiling"]
    assert plan.sequential is not None
    assert plan.sequential.multiplier > 1.96
    assert plan.sequential.power_at_end < plan.power.at_plan
    assert plan.value_of_information.net == pytest.approx(plan.test_and_roll.profit - 68_000.0)
    assert plan.value_of_information.perfect == pytest.approx(69692.57 - 68_000.0, abs=5e-3)
    # what the test's answer adds after it, less what its losing arm costs during it (nothing: equal prior means)
    assert plan.value_of_information.sample == pytest.approx(plan.value_of_information.net, rel=1e-9)


def test_the_json_has_the_products_keys() -> None:
    plain = json.loads(json.dumps(plan_json(plan_test(WEBSITE, TestGoals())), allow_nan=False))
    assert set(plain) >= {"test_and_roll", "power", "minimum_detectable_effect", "assurance", "sequential",
                          "value_of_information", "duration_weeks", "findings"}  # fmt: skip
    assert plain["test_and_roll"]["n_per_arm"] == pytest.approx([2283.89, 2283.89], abs=5e-3)
    assert plain["test_and_roll"]["n_per_arm_rounded"] == [2284, 2284]
    assert plain["duration_weeks"] is None


def test_no_test_pays_where_the_answer_is_known() -> None:
    arms = TwoArms(means=(1.0, 0.5), sds=(0.01, 0.01), noise_sds=(1.0, 1.0), population=1000)
    plan = plan_test(arms, TestGoals())
    assert plan.test_and_roll.n_per_arm == (0.0, 0.0)
    assert plan.test_and_roll.profit == pytest.approx(1000.0)
    assert (plan.power, plan.assurance, plan.duration_weeks) == (None, None, None)
    assert [finding.code for finding in plan.findings] == ["no_test_pays"]


def test_correlated_arms_have_less_to_learn() -> None:
    alone = TwoArms(means=(1.0, 1.0), sds=(0.1, 0.1), noise_sds=(1.0, 1.0), population=1e4)
    together = TwoArms(means=(1.0, 1.0), sds=(0.1, 0.1), noise_sds=(1.0, 1.0), population=1e4, correlation=0.9)
    assert score_test(together, 100, 100).profit < score_test(alone, 100, 100).profit
    independent = 2 * 0.1**4 / (0.1**2 + 1.0 / 100)
    assert float(preposterior_sd(alone, 100, 100)) == pytest.approx(np.sqrt(independent))


def test_closed_forms_agree_with_simulation() -> None:
    arms = TwoArms(means=(1.0, 1.02), sds=(0.1, 0.15), noise_sds=(1.0, 0.8), population=5000, correlation=0.5)
    scored = score_test(arms, 200, 300)
    rng = np.random.default_rng(1)
    truth = rng.multivariate_normal(arms.means, arms.covariance, 200_000)
    seen = truth + rng.normal(0.0, [1.0 / np.sqrt(200), 0.8 / np.sqrt(300)], truth.shape)
    weight = arms.covariance @ np.linalg.inv(arms.covariance + np.diag([1.0 / 200, 0.64 / 300]))
    believed = np.array(arms.means) + (seen - np.array(arms.means)) @ weight.T
    taken = (believed[:, 1] > believed[:, 0]).astype(int)
    rolled = 4500 * truth[np.arange(len(truth)), taken]
    error = rolled.std() / np.sqrt(len(rolled))
    assert abs(rolled.mean() - scored.rollout_profit) < 3 * error
    wrong = (taken != truth.argmax(axis=1)).mean()
    assert abs(wrong - scored.error_probability) < 3 * np.sqrt(wrong * (1 - wrong) / len(truth))


def test_the_planned_sizes_earn_what_a_grid_of_all_sizes_finds() -> None:
    """By closed form on 20 random priors; the study plays them."""
    rng = np.random.default_rng(7)
    for _ in range(20):
        arms = random_arms(rng)
        plan = profit_maximizing_test(arms)
        grid = np.geomspace(1.0, 0.45 * arms.population, 8)
        best = max(score_test(arms, a, b).profit for a in grid for b in grid)
        assert plan.profit - plan.no_test_profit >= 0.99 * max(best - plan.no_test_profit, 0.0)


def test_a_price_test_takes_its_prior_from_the_posterior() -> None:
    rng = np.random.default_rng(2)
    level, elasticity = rng.normal(0.0, 0.3, (4000, 1)), rng.normal(-2.1, 0.8, (4000, 1))
    posterior = posterior_from_draws(elasticity, units=200.0 * np.exp(level), cost=5.0, smearing=0.02)
    plan = plan_price_test(
        posterior, Economics(), "item-00000", horizon_periods=52, goals=TestGoals(), test_price=11.0,
        limits=[MaxChange(share=0.2)],
    )  # fmt: skip
    today, test = 5.0 * 200.0 * np.exp(level), 6.0 * 200.0 * np.exp(level) * 1.1**elasticity
    assert plan.prices == (10.0, 11.0)
    assert isinstance(plan.priors, TwoArms)
    assert plan.priors.means == pytest.approx((today.mean(), test.mean()))
    # what both prices share is not to be learnt: only the difference counts
    assert plan.priors.difference_sd == pytest.approx(float((test - today).std(ddof=1)), rel=1e-9)
    assert plan.priors.difference_sd < 0.3 * plan.priors.sds[0]
    units = 200.0 * np.exp(level).mean()
    assert plan.priors.noise_sds[0] == pytest.approx(5.0 * units * np.sqrt(np.expm1(0.04)), rel=1e-9)
    assert plan.duration_weeks is not None
    assert plan.duration_weeks >= 2
    chosen = plan_price_test(posterior, Economics(), "item-00000", horizon_periods=52, goals=TestGoals())
    assert chosen.prices is not None
    assert chosen.prices[1] != 10.0


def test_a_price_below_cost_is_flagged_and_impossible_ones_refused() -> None:
    posterior = posterior_from_draws(np.random.default_rng(3).normal(-3.0, 0.5, (400, 1)), cost=9.0, smearing=0.02)
    settings: dict[str, Any] = {"horizon_periods": 26, "goals": TestGoals()}
    plan = plan_price_test(posterior, Economics(), "item-00000", test_price=8.0, **settings)
    assert "arm_below_cost" in [finding.code for finding in plan.findings]
    with pytest.raises(SpecError, match="today's price"):
        plan_price_test(posterior, Economics(), "item-00000", test_price=10.0, **settings)
    with pytest.raises(SpecError, match="positive"):
        plan_price_test(posterior, Economics(), "item-00000", test_price=-1.0, **settings)
    with pytest.raises(Refusal, match="can be tested"):
        plan_price_test(posterior, Economics(), "item-00000", limits=[MaxChange(share=0.0)], **settings)


@pytest.mark.parametrize("wrong", [{"alpha": 0.9}, {"effect": 0.0}, {"power": 1.0}, {"units_per_week": 0.0}])
def test_impossible_goals_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="TestGoals"):
        TestGoals(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"means": (np.nan, 1.0)},
        {"sds": (-1.0, 1.0)},
        {"noise_sds": (0.0, 1.0)},
        {"population": 1.0},
        {"correlation": 1.5},
    ],
)
def test_impossible_arms_are_refused(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"means": (1.0, 1.0), "sds": (1.0, 1.0), "noise_sds": (1.0, 1.0), "population": 10.0}
    with pytest.raises(SpecError, match="TwoArms"):
        TwoArms(**(right | wrong))
