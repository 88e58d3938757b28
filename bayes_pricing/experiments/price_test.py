"""The plan of a price test: what it earns, what it can show, how long it runs, from numbers or from a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding, SpecError
from bayes_pricing.experiments.many_arms import (
    Arms,
    SimulatedValue,
    arms_from_pair,
    best_sizes,
    score_sizes,
    simulate_test_value,
)
from bayes_pricing.experiments.plan_parts import (
    InformationValue,
    PowerPlan,
    SequentialPlan,
    TestRisk,
    error_sd,
    information_value,
    plan_assurance,
    plan_power,
    plan_sequential,
    risk_of_test,
)
from bayes_pricing.experiments.power import Assurance
from bayes_pricing.experiments.price_arms import PriceArms, PriceChoice, price_arms
from bayes_pricing.experiments.sizing import TestAndRoll, TwoArms
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.profit import Economics, Objective

Floats = NDArray[np.float64]

SIMULATED_DRAWS = 1_000
"""Posterior draws on which a test's value is simulated: every draw is compared with every other."""
SIMULATION_SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPlan:
    """A test: the headline is expected profit, the rest stands beside it.

    Attributes
    ----------
    arms : tuple of str
        What the arms are, in the order of everything by arm; the first is what is done today.
    prices : tuple of float or None
        Prices of the arms where this is a price test.
    priors : TwoArms or Arms
    test_and_roll : TestAndRoll
    power : PowerPlan or None
        None where no test is planned.
    minimum_detectable_effect : float or None
        Effect found with the target probability at the planned sizes, money per unit.
    assurance : Assurance or None
    sequential : SequentialPlan or None
    value_of_information : InformationValue
    risk : TestRisk or None
        What the test itself may cost against today's arm.
    duration_weeks : int or None
        Whole weeks; None where the pace is unknown or no test is planned.
    units : int
        Units of all arms together that those weeks bring; where the pace is unknown, those that earn most.
    findings : tuple of Finding
    """

    __test__ = False  # the name starts with Test; it is no test

    arms: tuple[str, ...]
    prices: tuple[float, ...] | None
    priors: TwoArms | Arms
    test_and_roll: TestAndRoll
    power: PowerPlan | None
    minimum_detectable_effect: float | None
    assurance: Assurance | None
    sequential: SequentialPlan | None
    value_of_information: InformationValue
    risk: TestRisk | None
    duration_weeks: int | None
    units: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TestGoals:
    """What a plan is held against.

    Attributes
    ----------
    effect : float, optional
        Difference to detect, money per unit; left out, the prior sd of the difference: a typical one.
    alpha, power : float
        Two-sided error rate and the power asked of the classical test.
    units_per_week : float, optional
        Pace of all arms together.
    largest_units : float, optional
        Most units of all arms together that there are to test on.
    largest_loss : float, optional
        Largest expected shortfall (mean loss over the worst 5 % of what is believed) of the test itself, money.
    """

    __test__ = False  # the name starts with Test; it is no test

    effect: float | None = None
    alpha: float = 0.05
    power: float = 0.8
    units_per_week: float | None = None
    largest_units: float | None = None
    largest_loss: float | None = None

    def __post_init__(self) -> None:
        if self.effect is not None and not 0 < abs(self.effect) < float("inf"):
            raise SpecError(f"TestGoals.effect is {self.effect}; give the smallest difference that matters.")
        if not 0 < self.alpha < self.power < 1:
            raise SpecError("TestGoals wants 0 < alpha < power < 1, e.g. 0.05 and 0.8.")
        for name in ("units_per_week", "largest_units", "largest_loss"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SpecError(f"TestGoals.{name} is {value}; it must be positive.")


def plan_test(
    arms: TwoArms | Arms,
    goals: TestGoals,
    *,
    names: tuple[str, ...] | None = None,
    prices: tuple[float, ...] | None = None,
    draws: Floats | None = None,
) -> TestPlan:
    """Plan a test of two or more arms from what is believed of them.

    Parameters
    ----------
    arms : TwoArms or Arms
        Today's arm first; effects are the others minus the first.
    goals : TestGoals
    names : tuple of str, optional
        ``control`` and ``treatment`` where left out, numbered where there are several.
    prices : tuple of float, optional
    draws : array (draw, arm), optional
        Joint draws of the arms' means, where beliefs are not normal: the test's value is simulated on them too.

    Returns
    -------
    TestPlan

    Examples
    --------
    >>> sd = (0.68 * 0.32) ** 0.5
    >>> arms = TwoArms(means=(0.68, 0.68), sds=(0.03, 0.03), noise_sds=(sd, sd), population=1e5)
    >>> plan = plan_test(arms, TestGoals(units_per_week=2000))
    >>> plan.duration_weeks, round(plan.test_and_roll.n_per_arm[0])
    (3, 2284)
    """
    joint = arms_from_pair(arms) if isinstance(arms, TwoArms) else arms
    names = names or _names(len(joint.means))
    best, findings = _within_limits(joint, best_sizes(joint), goals)
    sizes = np.array(best.n_per_arm)
    if not sizes.any():
        return TestPlan(
            arms=names, prices=prices, priors=arms, test_and_roll=best, power=None, minimum_detectable_effect=None,
            assurance=None, sequential=None, value_of_information=information_value(joint, best, None), risk=None,
            duration_weeks=None, findings=(*findings, *_no_test(joint, findings)),
        )  # fmt: skip
    worth = information_value(joint, best, _simulated(draws, joint, sizes))
    findings += _not_normal(worth)
    effect = max(joint.difference_sds) if goals.effect is None else abs(goals.effect)
    each = goals.alpha / (len(joint.means) - 1)
    weeks = _weeks(goals, float(sizes.sum()))
    assured = plan_assurance(joint, sizes, goals.alpha)
    if assured.ceiling < goals.power:
        findings.append(_ceiling(names[1:], assured))
    return TestPlan(
        arms=names,
        prices=prices,
        priors=arms,
        test_and_roll=best,
        power=plan_power(joint, sizes, effect, goals.alpha, goals.power),
        minimum_detectable_effect=float((ndtri(1.0 - each / 2.0) + ndtri(goals.power)) * error_sd(joint, sizes)),
        assurance=assured,
        sequential=plan_sequential(joint, sizes, effect, goals.alpha, goals.power),
        value_of_information=worth,
        risk=risk_of_test(joint, sizes),
        duration_weeks=weeks,
        units=_units(goals, sizes, weeks),
        findings=tuple(findings),
    )


def plan_price_test(
    posterior: DemandPosterior,
    economics: Economics,
    item: str,
    *,
    horizon_periods: float,
    goals: TestGoals,
    objective: Objective = "profit",
    test_price: float | None = None,
    choice: PriceChoice | None = None,
    limits: Sequence[Limit] = (),
    weeks_per_period: float = 1.0,
) -> TestPlan:
    """Plan the test of one item's price against today's, periods alternating, with the posterior as the prior.

    A unit is one period of the item's sales; all arms' true means come from the same joint draws, so that what is
    uncertain about every price alike does not count as something to be learnt.

    Parameters
    ----------
    posterior : DemandPosterior
    economics : Economics
    item : str
    horizon_periods : float
        Periods the decision is for, the test included.
    goals : TestGoals
        Its pace is not used: one period tests one period.
    objective : {"profit", "revenue", "units"}
    test_price : float, optional
        The one new price; left out, `choice` says which.
    choice : PriceChoice, optional
        Several new prices, or the cost of switching; left out, the one price most worth testing under the limits,
        support aside.
    limits : sequence of Limit
    weeks_per_period : float

    Returns
    -------
    TestPlan

    Raises
    ------
    SpecError
        For an unknown item, a price that is not positive or is today's, or a horizon under 2 periods.
    Refusal
        If the item's worth is unknown, or no price can be tested within the limits.
    """
    choice = choice or PriceChoice()
    if test_price is not None:
        choice = replace(choice, prices=(test_price,))
    believed = price_arms(
        posterior, economics, item, choice, horizon_periods=horizon_periods, objective=objective, limits=limits
    )
    plan = plan_believed(believed, replace(goals, units_per_week=1.0 / weeks_per_period))
    return replace(plan, findings=(*plan.findings, *believed.findings))


def plan_believed(believed: PriceArms, goals: TestGoals) -> TestPlan:
    """Plan the test of arms that came from a posterior."""
    count = len(believed.prices)
    arms = believed.arms.pair() if count == 2 else believed.arms
    names = ("today", "test") if count == 2 else ("today", *(f"test {place}" for place in range(1, count)))
    return plan_test(arms, goals, names=names, prices=believed.prices, draws=believed.draws)


def plan_json(plan: TestPlan) -> dict[str, Any]:
    """The plan as plain values for ``--json``; what does not apply is null."""
    best = plan.test_and_roll
    plain: dict[str, Any] = msgspec.to_builtins(plan)
    plain["test_and_roll"] |= {
        "n_per_arm": list(best.n_per_arm),
        "n_per_arm_rounded": [int(np.ceil(size)) for size in best.n_per_arm],
        "profit": best.profit,
    }
    return plain


def _not_normal(worth: InformationValue) -> list[Finding]:
    """Where the posterior's own draws value the test otherwise than their normal summary."""
    played = worth.simulated
    if played is None or abs(played.net - worth.net) <= max(3.0 * played.standard_error, 0.2 * abs(worth.net)):
        return []
    pays = "" if played.net > 0 else " and would not pay"
    return [
        Finding(code="beliefs_not_normal", severity="info" if played.net > 0 else "warning",
                message=f"on the model's own draws the test is worth {played.net:,.4g}{pays}, on their normal summary "
                f"{worth.net:,.4g}; the sizes rest on the latter",
                remedy="trust the value on the draws, and limit how far the test price lies from today's")
    ]  # fmt: skip


def _names(count: int) -> tuple[str, ...]:
    return ("control", "treatment") if count == 2 else ("control", *(f"treatment {arm}" for arm in range(1, count)))


def _simulated(draws: Floats | None, arms: Arms, sizes: Floats) -> SimulatedValue | None:
    if draws is None:
        return None
    thinned = draws[:: max(-(-len(draws) // SIMULATED_DRAWS), 1)]
    return simulate_test_value(thinned, arms, sizes, np.random.default_rng(SIMULATION_SEED))


def _within_limits(arms: Arms, best: TestAndRoll, goals: TestGoals) -> tuple[TestAndRoll, list[Finding]]:
    """The best test made smaller where units or the loss it may bring run out; nothing where that leaves no gain."""
    sizes = np.array(best.n_per_arm)
    if not sizes.any():
        return best, []
    shares = {"units": 1.0, "loss": 1.0}
    if goals.largest_units is not None:
        shares["units"] = goals.largest_units / float(sizes.sum())
    shortfall = risk_of_test(arms, sizes).expected_shortfall
    if goals.largest_loss is not None and shortfall > 0:
        shares["loss"] = goals.largest_loss / shortfall  # the shortfall grows in proportion to the test
    tightest = min(shares, key=lambda name: shares[name])
    if shares[tightest] >= 1:
        return best, []
    smaller = score_sizes(arms, sizes * shares[tightest])
    what = "units there are" if tightest == "units" else "loss the test may bring"
    if not smaller.profit > smaller.no_test_profit or min(size for size in smaller.n_per_arm if size > 0) < 1:
        return score_sizes(arms, np.zeros(sizes.size)), [_too_small(what, best)]
    remedy = "allow more, or accept a less certain answer"
    message = (
        f"the {what} allow {sum(smaller.n_per_arm):,.4g} of the {sizes.sum():,.4g} units that would earn most; worth "
        f"{smaller.profit - smaller.no_test_profit:,.4g} instead of {best.profit - best.no_test_profit:,.4g}"
    )
    return smaller, [Finding(code="test_made_smaller", severity="info", message=message, remedy=remedy)]


def _weeks(goals: TestGoals, units: float) -> int | None:
    return None if goals.units_per_week is None else max(int(np.ceil(units / goals.units_per_week - 1e-9)), 1)


def _units(goals: TestGoals, sizes: Floats, weeks: int | None) -> int:
    if weeks is None or goals.units_per_week is None:
        return int(np.ceil(sizes[sizes > 0]).sum())
    return int(np.floor(weeks * goals.units_per_week + 1e-9))


def _too_small(what: str, best: TestAndRoll) -> Finding:
    return Finding(
        code="test_too_small", severity="warning",
        message=f"a test within the {what} is too small ever to help: it is expected to cost more than its answer "
        f"brings, where {sum(best.n_per_arm):,.4g} units would pay",
        remedy="find more units or a longer test, or decide now",
    )  # fmt: skip


def _no_test(arms: Arms, findings: list[Finding]) -> list[Finding]:
    if findings:
        return []
    take = int((arms.population * np.array(arms.means) - arms.costs).argmax()) + 1
    return [
        Finding(code="no_test_pays", severity="warning",
                message="no test of these arms is expected to earn more than deciding now",
                remedy=f"take arm {take}, or widen the prior if it is too sure")
    ]  # fmt: skip


def _ceiling(arms: tuple[str, ...], assured: Assurance) -> Finding:
    which = repr(arms[0]) if len(arms) == 1 else "a new arm"
    return Finding(
        code="assurance_ceiling", severity="info",
        message=f"no test, however large, ends significant in favour of {which} with probability over "
        f"{assured.ceiling:.2f}: that is how likely it is to be better at all",
        remedy="judge the test by its expected profit",
    )  # fmt: skip
