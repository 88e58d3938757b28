"""Which items to test: value of information per cost, under a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.judging import judge_items
from bayes_pricing.pricing.problem import Problem, build_problem
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import TestingRule

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestBudget:
    """What there is to spend on tests.

    Attributes
    ----------
    money : float, optional
        Sum of the tests' costs: what each costs to set up and what it gives away while it runs.
    tests : int, optional
        Most tests at once.
    cost_per_test : float
        Money one test costs beyond the sales it risks.
    """

    __test__ = False  # the name starts with Test; it is no test

    money: float | None = None
    tests: int | None = None
    cost_per_test: float = 0.0

    def __post_init__(self) -> None:
        if self.money is not None and not 0 <= self.money < float("inf"):
            raise SpecError(f"TestBudget.money is {self.money}; give money, zero or more.")
        if self.tests is not None and self.tests < 1:
            raise SpecError(f"TestBudget.tests is {self.tests}; give at least one.")
        if not 0 <= self.cost_per_test < float("inf"):
            raise SpecError(f"TestBudget.cost_per_test is {self.cost_per_test}; give money, zero or more.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemTest:
    """The test of an item that is worth most.

    Attributes
    ----------
    item : str
    current_price, test_price : float
        Currency per unit.
    periods : int
        Length, prices alternating.
    information : float
        What its answer is worth over the rest of the horizon, money.
    cost : float
        What setting it up costs, and half of its periods at the price that looks worse, money.
    net : float
        Information less cost.
    ratio : float
        Information per money of cost; infinite for a test without cost.
    chosen : bool
        Whether it is in the budget.
    """

    item: str
    current_price: float
    test_price: float
    periods: int
    information: float
    cost: float
    net: float
    ratio: float
    chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPortfolio:
    """Tests that pay, the best value per cost first, and which of them the budget holds.

    Attributes
    ----------
    tests : tuple of ItemTest
    net, cost : float
        Of the chosen tests together.
    findings : tuple of Finding
    """

    __test__ = False  # the name starts with Test; it is no test

    tests: tuple[ItemTest, ...]
    net: float
    cost: float
    findings: tuple[Finding, ...]

    @property
    def chosen(self) -> tuple[ItemTest, ...]:
        """Tests to run."""
        return tuple(test for test in self.tests if test.chosen)


def plan_portfolio(
    posterior: DemandPosterior,
    economics: Economics,
    budget: TestBudget,
    *,
    horizon_periods: float,
    objective: Objective = "profit",
    limits: Sequence[Limit] = (),
    items: Sequence[str] | None = None,
) -> TestPortfolio:
    r"""Rank items by what a test of them is worth per cost, and pick those that earn most within a budget.

    .. math:: \max \sum_i x_i (V_i - C_i) \quad \text{so that} \quad \sum_i x_i C_i \le \text{money}, \;
              \sum_i x_i \le \text{tests}

    solved to the optimum as an integer programme. Each item is valued by itself: what one test says of its relatives
    comes on top.

    Parameters
    ----------
    posterior : DemandPosterior
    economics : Economics
    budget : TestBudget
    horizon_periods : float
        Periods that prices are meant for.
    objective : {"profit", "revenue", "units"}
    limits : sequence of Limit
        Of the items; test prices keep to them, support aside.
    items : sequence of str, optional

    Returns
    -------
    TestPortfolio

    Raises
    ------
    Refusal
        If no test of any item is expected to pay.

    References
    ----------
    Azevedo, Deng, Montiel Olea, Rao & Weyl (2020), "A/B testing with fat tails", J. Political Economy 128(12): where
    effects have fat tails, many small tests beat a few large ones.
    """
    rule = TestingRule(cost=budget.cost_per_test)
    problem = build_problem(
        posterior, economics, objective, limits, horizon_periods=horizon_periods, items=items, testing=rule
    )
    judged = judge_items(problem)
    pays = np.flatnonzero(np.isfinite(judged.test_price) & (judged.test_net > 0))
    if not pays.size:
        raise Refusal([_nothing_pays()])
    net = judged.test_net[pays]
    cost = _costs(problem, judged.test_price, judged.test_periods, rule)[pays]
    chosen = choose_tests(net, cost, budget)
    with np.errstate(divide="ignore"):
        ratio = np.where(cost > 0, (net + cost) / cost, np.inf)
    tests = [
        ItemTest(
            item=problem.items[place],
            current_price=float(problem.facts.current_price[place]),
            test_price=float(judged.test_price[place]),
            periods=int(judged.test_periods[place]),
            information=float(net[row] + cost[row]),
            cost=float(cost[row]),
            net=float(net[row]),
            ratio=float(ratio[row]),
            chosen=bool(chosen[row]),
        )
        for row, place in enumerate(pays.tolist())
    ]
    return TestPortfolio(
        tests=tuple(sorted(tests, key=lambda test: (-test.ratio, -test.net, test.item))),
        net=float(net[chosen].sum()),
        cost=float(cost[chosen].sum()),
        findings=() if chosen.any() else (_budget_too_small(float(cost.min())),),
    )


def choose_tests(net: Floats, cost: Floats, budget: TestBudget) -> NDArray[np.bool_]:
    """Tests that together earn most within the budget, by an integer programme.

    Examples
    --------
    >>> choose_tests(np.array([10.0, 9.0, 8.0]), np.array([10.0, 6.0, 4.0]), TestBudget(money=10.0)).tolist()
    [False, True, True]
    """
    from scipy.optimize import Bounds, LinearConstraint, milp

    rows, most = [np.ones(net.size)], [float(net.size if budget.tests is None else budget.tests)]
    if budget.money is not None:
        rows.append(cost)
        most.append(budget.money)
    scale = max(float(net.max()), 1e-300)
    found = milp(
        -net / scale,
        integrality=np.ones(net.size, dtype=np.int64),
        bounds=Bounds(0.0, 1.0),
        constraints=LinearConstraint(np.array(rows), ub=np.array(most)),
    )
    chosen = np.asarray(found.x) > 0.5 if found.x is not None else np.zeros(net.size, dtype=np.bool_)
    return np.asarray(chosen, dtype=np.bool_)


def _costs(problem: Problem, test_price: Floats, periods: NDArray[np.int64], rule: TestingRule) -> Floats:
    """Setting up, and half of the periods at the price that is expected to bring less."""
    change = np.zeros(test_price.size)
    for where, block in problem.blocks():
        price = np.where(np.isfinite(test_price[where]), test_price[where], block.facts.current_price)
        change[where] = block.change(price, block.facts.value).mean(axis=1)
    return np.asarray(rule.cost + 0.5 * periods * np.abs(change), dtype=np.float64)


def _nothing_pays() -> Finding:
    return Finding(
        code="no_test_pays", severity="error", message="no test of any item is expected to earn more than deciding now",
        remedy="decide now; or lengthen the horizon, or relax the limits on prices",
    )  # fmt: skip


def _budget_too_small(cheapest: float) -> Finding:
    return Finding(
        code="budget_too_small", severity="warning",
        message=f"the cheapest test costs {cheapest:,.4g}, more than there is",
        remedy="find more money for tests, or decide now",
    )  # fmt: skip
