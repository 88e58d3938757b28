from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.experiments.portfolio import TestBudget, choose_tests, plan_portfolio
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import normal_posterior

POSTERIOR = normal_posterior(12, 400, seed=4, sd=0.9)
LIMITS = [MaxChange(share=0.15)]


def test_the_choice_is_the_best_of_all_subsets() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        net, cost = rng.uniform(1, 10, 8), rng.uniform(1, 10, 8)
        money = float(rng.uniform(5, 30))
        budget = TestBudget(money=money, tests=4)
        subsets = np.array(list(product([0, 1], repeat=8)))
        fits = (subsets @ cost <= money) & (subsets.sum(axis=1) <= 4)
        assert net @ choose_tests(net, cost, budget) == pytest.approx((subsets @ net)[fits].max(), rel=1e-9)


def test_tests_are_ranked_by_value_per_cost_and_kept_to_the_budget() -> None:
    free = plan_portfolio(POSTERIOR, Economics(), TestBudget(cost_per_test=5.0), horizon_periods=52, limits=LIMITS)
    assert len(free.tests) >= 3
    assert all(test.chosen for test in free.tests)
    ratios = [test.ratio for test in free.tests]
    assert ratios == sorted(ratios, reverse=True)
    assert all(test.net == pytest.approx(test.information - test.cost) and test.cost >= 5.0 for test in free.tests)
    tight = plan_portfolio(
        POSTERIOR, Economics(), TestBudget(cost_per_test=5.0, tests=2, money=free.cost / 2), horizon_periods=52,
        limits=LIMITS,
    )  # fmt: skip
    assert len(tight.chosen) == 2
    assert tight.cost <= free.cost / 2
    assert tight.net < free.net
    none = plan_portfolio(
        POSTERIOR, Economics(), TestBudget(cost_per_test=5.0, money=1.0), horizon_periods=52, limits=LIMITS
    )
    assert [finding.code for finding in none.findings] == ["budget_too_small"]


def test_where_no_test_pays_it_is_refused() -> None:
    sure = normal_posterior(2, 400, seed=4, sd=1e-4)
    with pytest.raises(Refusal, match="no test of any item"):
        plan_portfolio(sure, Economics(), TestBudget(cost_per_test=1e6), horizon_periods=26, limits=LIMITS)
    with pytest.raises(SpecError, match="at least one"):
        TestBudget(tests=0)
