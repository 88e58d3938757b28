"""`bayes-pricing plan-test`: which price test, how large, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags
from bayes_pricing.cli.output import Answer
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from bayes_pricing.experiments.price_test import TestGoals, TestPlan


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class PriorFlags:
    """What is believed of the arms, where no model says it; all in money per unit."""

    prior_mean: float | None = None
    """Mean response of either arm."""
    prior_sd: float | None = None
    """Sd of the prior of either arm's mean."""
    treatment_mean: float | None = None
    """Mean response of the second arm, where it differs."""
    treatment_sd: float | None = None
    """Sd of the prior of the second arm's mean, where it differs."""
    correlation: float = 0.0
    """Correlation of the two true means."""
    noise_sd: float | None = None
    """Sd of a single unit's response."""
    population: float | None = None
    """Units the decision is for, the tested ones included."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class GoalFlags:
    """What a classical test would be asked, shown beside the headline."""

    effect: float | None = None
    """Difference to detect; left out, a typical one under the prior."""
    alpha: float = 0.05
    """Two-sided error rate."""
    power: float = 0.8
    """Probability of finding the effect."""
    units_per_week: float | None = None
    """Pace of both arms together, for the duration."""

    def goals(self) -> TestGoals:
        """The flags as a value."""
        from bayes_pricing.experiments.price_test import TestGoals

        return TestGoals(effect=self.effect, alpha=self.alpha, power=self.power, units_per_week=self.units_per_week)


def plan_test(
    prior: PriorFlags | None = None,
    goals: GoalFlags | None = None,
    money: MoneyFlags | None = None,
    limits: LimitFlags | None = None,
    *,
    model_dir: Path | None = None,
    item: str | None = None,
    test_price: float | None = None,
    weeks_per_period: float = 1.0,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Plan a test by expected profit, from a fitted model or from numbers alone; power and assurance stand beside it.

    Example: bayes-pricing plan-test --prior-mean 0.68 --prior-sd 0.03 --noise-sd 0.4665 --population 100000

    Parameters
    ----------
    model_dir
        Folder written by `fit --out`; with --item.
    item
        Item whose price is to be tested.
    test_price
        Price to test against today's; left out, the one most worth testing within the limits.
    weeks_per_period
        Length of the model's periods, for the duration: 1 for weeks, 0.142857 for days, 4.345 for months.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.experiments.price_test import plan_json

    prior, goals = prior or PriorFlags(), goals or GoalFlags()
    if (model_dir is None) != (item is None):
        raise SpecError("--model-dir and --item go together: which model, and which of its items.")
    if model_dir is not None and item is not None:
        plan = _from_model(
            model_dir, item, (test_price, weeks_per_period), goals, money or MoneyFlags(), limits or LimitFlags()
        )
    else:
        plan = _from_numbers(prior, goals)
    return Answer(document={"status": "ok", **plan_json(plan)}, text=plan_text(plan))


def _from_numbers(prior: PriorFlags, goals: GoalFlags) -> TestPlan:
    from bayes_pricing.experiments.price_test import plan_test
    from bayes_pricing.experiments.sizing import TwoArms

    needed = {
        "--prior-mean": prior.prior_mean,
        "--prior-sd": prior.prior_sd,
        "--noise-sd": prior.noise_sd,
        "--population": prior.population,
    }
    missing = [name for name, value in needed.items() if value is None]
    mean, sd, noise, population = needed.values()
    if mean is None or sd is None or noise is None or population is None:
        raise SpecError(f"Without a model, {', '.join(missing)} must be given (or --model-dir and --item).")
    arms = TwoArms(
        means=(mean, mean if prior.treatment_mean is None else prior.treatment_mean),
        sds=(sd, sd if prior.treatment_sd is None else prior.treatment_sd),
        noise_sds=(noise, noise),
        population=population,
        correlation=prior.correlation,
    )
    return plan_test(arms, goals.goals())


def _from_model(
    model_dir: Path,
    item: str,
    arm: tuple[float | None, float],
    goals: GoalFlags,
    money: MoneyFlags,
    limits: LimitFlags,
) -> TestPlan:
    """Plan from a fitted model; `arm` is the price to test and the length of a period in weeks."""
    from bayes_pricing.cli.policy import decidable, objective_of
    from bayes_pricing.experiments.price_test import plan_price_test
    from bayes_pricing.registry import load_fit

    posterior = decidable(load_fit(model_dir))
    return plan_price_test(
        posterior,
        money.economics(),
        item,
        horizon_periods=limits.horizon,
        goals=goals.goals(),
        objective=objective_of(posterior, money, limits),
        test_price=arm[0],
        limits=limits.limits(),
        weeks_per_period=arm[1],
    )


def plan_text(plan: TestPlan) -> str:
    """The plan for people: the sizes that earn most, then what a classical test would say."""
    from bayes_pricing.cli.text import finding_lines
    from bayes_pricing.pricing.wording import percent

    best, value = plan.test_and_roll, plan.value_of_information
    first, second = best.n_per_arm
    lines = [
        f"Test {first:,.1f} units of {plan.arms[0]!r} and {second:,.1f} of {plan.arms[1]!r}, then roll out the better.",
        f"Expected money: {best.test_profit:,.1f} during the test, {best.rollout_profit:,.1f} after it; deciding now "
        f"would bring {best.no_test_profit:,.1f}, so the test is worth {value.net:,.4g}.",
        f"Regret against knowing the better arm from the start: {best.regret_fraction:.4%}; probability of rolling out "
        f"the worse: {percent(best.error_probability)}.",
    ]
    if plan.power is not None:
        lines.append(
            f"Beside it: {plan.power.target:.0%} power for a difference of {plan.power.effect:,.4g} takes "
            f"{plan.power.n_per_arm:,.0f} units an arm; the planned sizes have {percent(plan.power.at_plan)}."
        )
    if plan.duration_weeks is not None:
        lines.append(f"Duration: {plan.duration_weeks} whole weeks.")
    return "\n".join([*lines, *finding_lines(plan.findings)])
