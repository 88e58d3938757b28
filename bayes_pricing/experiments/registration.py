"""From the plan of a test to the file that fixes it before the first unit is assigned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from bayes_pricing.errors import Refusal, SpecError
from bayes_pricing.experiments.guardrails import Guardrail
from bayes_pricing.experiments.plan_file import Monitoring, PlannedArm, Preregistration
from bayes_pricing.experiments.price_test import TestPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a plan does not say by itself.

    Attributes
    ----------
    name : str
    registered : date
        Today.
    outcomes : tuple of str
        Columns of the data to come, the primary outcome first.
    start : date, optional
    arms : tuple of str
        Names of the arms as they will stand in the data, today's first; those of the plan where empty.
    monitoring : str
    looks : int
    unit_cost : float, optional
    guardrails : tuple of Guardrail
    covariates : tuple of str
        Columns known before the test that will take noise away.
    probability : float in (0, 1)
        Of the read-out's intervals.
    """

    name: str
    registered: date
    outcomes: tuple[str, ...]
    start: date | None = None
    arms: tuple[str, ...] = ()
    monitoring: Monitoring = "fixed"
    looks: int = 1
    unit_cost: float | None = None
    guardrails: tuple[Guardrail, ...] = ()
    covariates: tuple[str, ...] = ()
    probability: float = 0.9


def register_plan(plan: TestPlan, registration: Registration) -> Preregistration:
    """Fix a planned test: arms with units, their shares and prices, whole weeks, outcomes and the rule of the decision.

    Where the pace is known the test runs its whole weeks and ends at the units that they bring.

    Parameters
    ----------
    plan : TestPlan
    registration : Registration

    Raises
    ------
    Refusal
        If no test is worth running, or an arm is priced below cost.
    SpecError
        If names and arms do not go together.

    Examples
    --------
    >>> from bayes_pricing.experiments.price_test import TestGoals, plan_test
    >>> from bayes_pricing.experiments.sizing import TwoArms
    >>> sd = (0.68 * 0.32) ** 0.5
    >>> arms = TwoArms(means=(0.68, 0.68), sds=(0.03, 0.03), noise_sds=(sd, sd), population=1e5)
    >>> fixed = register_plan(
    ...     plan_test(arms, TestGoals(units_per_week=2000)),
    ...     Registration(name="tea", registered=date(2026, 3, 1), outcomes=("profit",)),
    ... )
    >>> fixed.weeks, fixed.planned_units, [arm.share for arm in fixed.arms]
    (3, 6000, [0.5, 0.5])
    """
    sizes = np.array(plan.test_and_roll.n_per_arm)
    if not sizes.any():
        raise Refusal(plan.findings)
    names = registration.arms or plan.arms
    if len(names) != len(plan.arms):
        raise SpecError(
            f"The plan has {len(plan.arms)} arms and {len(names)} names; name each arm once, today's first."
        )
    prices = plan.prices or (None,) * len(names)
    arms = tuple(
        PlannedArm(name=name, share=round(float(size / sizes.sum()), 6), price=price)
        for name, size, price in zip(names, sizes, prices, strict=True)
        if size > 0
    )
    return Preregistration(
        name=registration.name,
        arms=arms,
        outcomes=registration.outcomes,
        planned_units=max(plan.units, 2 * len(arms)),
        registered=registration.registered,
        start=registration.start,
        weeks=plan.duration_weeks,
        monitoring=registration.monitoring,
        looks=registration.looks,
        unit_cost=registration.unit_cost,
        guardrails=registration.guardrails,
        covariates=registration.covariates,
        probability=registration.probability,
    )
