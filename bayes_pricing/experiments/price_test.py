"""The plan of a price test: what it earns, what it can show, how long it runs, from numbers or from a posterior."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from scipy.special import ndtr, ndtri

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.experiments.monitoring import SequenceTuning, sequence_multiplier
from bayes_pricing.experiments.sizing import (
    Assurance,
    TestAndRoll,
    TwoArms,
    assurance,
    hypothesis_test_size,
    preposterior_sd,
    profit_maximizing_test,
    z_power,
)
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.judging import judge_items, period_noise
from bayes_pricing.pricing.problem import build_problem
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import (
    TestingRule,
    value_of_perfect_information,
    value_of_sample_information,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerPlan:
    """What a classical two-sided test would say, beside the headline.

    Attributes
    ----------
    effect : float
        The difference looked for, money per unit.
    alpha, target : float
    n_per_arm : float
        Units a group at which an effect of this size is found with the target probability.
    at_plan : float
        Probability that the planned sizes find it.
    """

    effect: float
    alpha: float
    target: float
    n_per_arm: float
    at_plan: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialPlan:
    """The same test watched all the time with a confidence sequence tuned to the planned size.

    Attributes
    ----------
    multiplier : float
        Standard errors to each side at the planned size, where a fixed interval has 1.96.
    power_at_end : float
        Probability that the sequence excludes zero at the last look, under the effect of the power plan.
    minimum_detectable_effect : float
        Effect for which that probability is the target.
    """

    multiplier: float
    power_at_end: float
    minimum_detectable_effect: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InformationValue:
    """What knowing is worth over the population, money.

    Attributes
    ----------
    perfect : float
        Of knowing the better arm at once.
    sample : float
        Of the planned test's answer, for the units after it.
    net : float
        Of the planned test against deciding now, what it costs to run deducted.
    """

    perfect: float
    sample: float
    net: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TestPlan:
    """A two-arm test: the headline is expected profit, the rest stands beside it.

    Attributes
    ----------
    arms : (str, str)
        What the arms are, in the order of every pair; the first is what is done today.
    prices : (float, float) or None
        Prices of the arms where this is a price test.
    priors : TwoArms
    test_and_roll : TestAndRoll
    power : PowerPlan or None
        None where no test is planned.
    minimum_detectable_effect : float or None
        Effect found with the target probability at the planned sizes, money per unit.
    assurance : Assurance or None
    sequential : SequentialPlan or None
    value_of_information : InformationValue
    duration_weeks : int or None
        Whole weeks; None where the pace is unknown or no test is planned.
    findings : tuple of Finding
    """

    __test__ = False  # the name starts with Test; it is no test

    arms: tuple[str, str]
    prices: tuple[float, float] | None
    priors: TwoArms
    test_and_roll: TestAndRoll
    power: PowerPlan | None
    minimum_detectable_effect: float | None
    assurance: Assurance | None
    sequential: SequentialPlan | None
    value_of_information: InformationValue
    duration_weeks: int | None
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
        Pace of both arms together.
    """

    __test__ = False  # the name starts with Test; it is no test

    effect: float | None = None
    alpha: float = 0.05
    power: float = 0.8
    units_per_week: float | None = None

    def __post_init__(self) -> None:
        if self.effect is not None and not 0 < abs(self.effect) < float("inf"):
            raise SpecError(f"TestGoals.effect is {self.effect}; give the smallest difference that matters.")
        if not 0 < self.alpha < self.power < 1:
            raise SpecError("TestGoals wants 0 < alpha < power < 1, e.g. 0.05 and 0.8.")
        if self.units_per_week is not None and not 0 < self.units_per_week < float("inf"):
            raise SpecError(f"TestGoals.units_per_week is {self.units_per_week}; it must be positive.")


def plan_test(
    arms: TwoArms,
    goals: TestGoals,
    *,
    names: tuple[str, str] = ("control", "treatment"),
    prices: tuple[float, float] | None = None,
) -> TestPlan:
    """Plan a test of two arms from what is believed of them.

    Parameters
    ----------
    arms : TwoArms
        First arm first; effects are the second minus the first.
    goals : TestGoals
    names : (str, str)
    prices : (float, float), optional

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
    best = profit_maximizing_test(arms)
    first, second = best.n_per_arm
    effect = arms.difference_sd if goals.effect is None else abs(goals.effect)
    planned = first > 0
    error_sd = _error_sd(arms, first, second) if planned else float("inf")
    findings = _findings(arms, planned)
    detectable = float((ndtri(1.0 - goals.alpha / 2.0) + ndtri(goals.power)) * error_sd)
    assured = None
    if planned:
        assured = assurance(-arms.difference_mean, arms.difference_sd, error_sd, alpha=goals.alpha)
        if assured.ceiling < goals.power:
            findings.append(_ceiling(names[1], assured))
    return TestPlan(
        arms=names,
        prices=prices,
        priors=arms,
        test_and_roll=best,
        power=_power(arms, goals, effect, error_sd) if planned else None,
        minimum_detectable_effect=detectable if planned else None,
        assurance=assured,
        sequential=_sequential(goals, effect, error_sd, first + second) if planned else None,
        value_of_information=_information(arms, best),
        duration_weeks=_weeks(goals, first + second) if planned else None,
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
    limits: Sequence[Limit] = (),
    weeks_per_period: float = 1.0,
) -> TestPlan:
    """Plan the test of one item's price against today's, periods alternating, with the posterior as the prior.

    A unit is one period of the item's sales; both arms' true means come from the same joint draws, so that what is
    uncertain about both prices alike does not count as something to be learnt.

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
        Left out, the price most worth testing under the limits, support aside.
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
    problem = build_problem(
        posterior, economics, objective, limits, horizon_periods=horizon_periods, items=[item], testing=TestingRule()
    )
    if test_price is None:
        test_price = float(judge_items(problem).test_price[0])
        if not np.isfinite(test_price):
            raise Refusal([_nothing_to_test(item)])
    if not 0 < test_price < float("inf"):
        raise SpecError(f"test_price is {test_price}; prices must be positive.")
    _, block = next(problem.blocks())
    today = float(block.facts.current_price[0])
    if abs(np.log(test_price / today)) < 1e-9:
        raise SpecError(f"test_price is today's price of {item!r}, {today:g}; a test needs another one.")
    tested, current = np.array([test_price]), block.facts.current_price
    value = block.facts.value
    if np.isnan(value.charge).any():
        raise Refusal([_nothing_to_test(item)])
    units = [block.draws.units(price) for price in (current, tested)]
    draws = np.stack([value.at(price)[0] * sold[0] for price, sold in zip((current, tested), units, strict=True)])
    covariance = np.cov(draws)
    sds = np.sqrt(np.diag(covariance))
    noise = [
        max(float(np.sqrt(period_noise(problem, block, price, sold.mean(axis=1))[0])), 1e-9 * sd)
        for price, sold, sd in zip((current, tested), units, sds, strict=True)
    ]
    arms = TwoArms(
        means=(float(draws[0].mean()), float(draws[1].mean())),
        sds=(float(sds[0]), float(sds[1])),
        noise_sds=(noise[0], noise[1]),
        correlation=float(np.clip(covariance[0, 1] / (sds[0] * sds[1]), -1.0, 1.0)) if sds.all() else 0.0,
        population=horizon_periods,
    )
    paced = replace(goals, units_per_week=1.0 / weeks_per_period)
    plan = plan_test(arms, paced, names=("today", "test"), prices=(today, test_price))
    charge = float(block.facts.profit.charge[0])
    if float(block.facts.profit.kept[0]) * test_price < charge:
        below = Finding(
            code="arm_below_cost", severity="warning", item=item,
            message=f"a unit of {item!r} sold at {test_price:g} loses money", remedy="test a price above its cost",
        )  # fmt: skip
        plan = replace(plan, findings=(*plan.findings, below))
    return plan


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


def _error_sd(arms: TwoArms, first: float, second: float) -> float:
    return float(np.sqrt(arms.noise_sds[0] ** 2 / first + arms.noise_sds[1] ** 2 / second))


def _power(arms: TwoArms, goals: TestGoals, effect: float, error_sd: float) -> PowerPlan:
    pooled = float(np.sqrt(np.mean(np.square(arms.noise_sds))))
    return PowerPlan(
        effect=effect,
        alpha=goals.alpha,
        target=goals.power,
        n_per_arm=hypothesis_test_size(effect, pooled, alpha=goals.alpha, power=goals.power),
        at_plan=z_power(effect, error_sd, alpha=goals.alpha),
    )


def _sequential(goals: TestGoals, effect: float, error_sd: float, units: float) -> SequentialPlan:
    tuning = SequenceTuning(planned_units=units, confidence=1.0 - goals.alpha)
    multiplier = float(sequence_multiplier(units, tuning))
    drift = effect / error_sd
    return SequentialPlan(
        multiplier=multiplier,
        power_at_end=float(ndtr(drift - multiplier) + ndtr(-drift - multiplier)),
        minimum_detectable_effect=float((multiplier + ndtri(goals.power)) * error_sd),
    )


def _information(arms: TwoArms, best: TestAndRoll) -> InformationValue:
    first, second = best.n_per_arm
    sample = 0.0
    if first > 0:
        known, after = arms.difference_sd, float(preposterior_sd(arms, first, second))
        error_sd = float(np.sqrt(max(known**4 / after**2 - known**2, 0.0))) if after > 0 else float("inf")
        left = arms.population - first - second
        sample = left * float(value_of_sample_information(arms.difference_mean, known, error_sd))
    return InformationValue(
        perfect=arms.population * float(value_of_perfect_information(arms.difference_mean, arms.difference_sd)),
        sample=sample,
        net=best.profit - best.no_test_profit,
    )


def _weeks(goals: TestGoals, units: float) -> int | None:
    return None if goals.units_per_week is None else max(int(np.ceil(units / goals.units_per_week - 1e-9)), 1)


def _findings(arms: TwoArms, planned: bool) -> list[Finding]:
    if planned:
        return []
    return [
        Finding(code="no_test_pays", severity="warning",
                message="no test of these arms is expected to earn more than deciding now",
                remedy=f"take arm {1 if arms.means[0] >= arms.means[1] else 2}, or widen the prior if it is too sure")
    ]  # fmt: skip


def _ceiling(arm: str, assured: Assurance) -> Finding:
    return Finding(
        code="assurance_ceiling", severity="info",
        message=f"no test, however large, ends significant in favour of {arm!r} with probability over "
        f"{assured.ceiling:.2f}: that is how likely it is to be better at all",
        remedy="judge the test by its expected profit",
    )  # fmt: skip


def _nothing_to_test(item: str) -> Finding:
    return Finding(
        code="nothing_to_test", severity="error", item=item,
        message=f"no price of {item!r} can be tested: its worth is unknown or the limits leave only today's price",
        remedy="give its cost, relax the limits, or name a test price",
    )  # fmt: skip
