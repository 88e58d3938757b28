"""`bayes-pricing plan-test`: which price test, how large, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags
from bayes_pricing.cli.flags import Repeatable
from bayes_pricing.cli.output import Answer
from bayes_pricing.cli.read_test import guardrails_of
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from datetime import date

    from bayes_pricing.experiments.plan_file import Preregistration
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
    """Pace of all arms together, for the duration."""
    largest_units: float | None = None
    """Most units of all arms together that there are to test on."""
    largest_test_loss: float | None = None
    """Largest expected shortfall of the test itself (mean loss over the worst 5 % of what is believed), money."""
    switching_cost: float = 0.0
    """Money that rolling out a new price costs once."""

    def goals(self) -> TestGoals:
        """The flags as a value."""
        from bayes_pricing.experiments.price_test import TestGoals

        return TestGoals(
            effect=self.effect,
            alpha=self.alpha,
            power=self.power,
            units_per_week=self.units_per_week,
            largest_units=self.largest_units,
            largest_loss=self.largest_test_loss,
        )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFlags:
    """Which items to test, where none is named."""

    budget: float | None = None
    """Money for tests: what they cost to set up (--test-cost) and what they give away while they run."""
    tests: int | None = None
    """Most tests at once."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DesignFlags:
    """Which design to trust among substitutes: every one is played in the fitted model."""

    move: float | None = None
    """Change of all tested prices as a share of today's (0.1 for a rise of 10 %)."""
    rival_control: str | None = None
    """Control of the fit with the log of rivals' mean price: log_NAME for `fit --competitor-price NAME`."""
    rival_level: str | None = None
    """Level whose items take buyers from each other; left out, the innermost of the fit."""
    test_weeks: int = 8
    """Length of the test."""
    lingering: float = 0.0
    """Share of a price's effect on units that comes a week late."""
    shock_sd: float = 0.05
    """Sd of what moves the log sales of all items together in a week."""
    plays: int = 200
    """Plays of each design."""
    seed: int = 1
    """Of the plays."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationFlags:
    """What a plan file fixes beside the sizes."""

    out: Path | None = None
    """Plan file to write, .toml or .json: `read-test --plan` holds the test against it."""
    name: str | None = None
    """Name of the test; left out, that of the file."""
    arm_name: Repeatable = ()
    """Name of an arm as it will stand in the data; repeatable, today's first."""
    outcome: Repeatable = ()
    """Column of an outcome of the test; repeatable, the first decides. Left out, the objective."""
    guardrail: Repeatable = ()
    """Outcome that may not suffer and the loss that is accepted, as OUTCOME=MARGIN; repeatable."""
    pre: Repeatable = ()
    """Column of a covariate that the read-out will use; repeatable."""
    probability: float = 0.9
    """Of the read-out's intervals; the decision errs at most as often as they miss."""
    start: str | None = None
    """First day of the test."""
    monitoring: Literal["fixed", "anytime", "pocock", "obrien-fleming"] = "fixed"
    """How the running test may be watched: read once, at any time, or at --looks equal steps."""
    looks: int = 1
    """Planned looks, for pocock and obrien-fleming."""

    def register(self, plan: TestPlan, objective: str, unit_cost: float | None) -> Preregistration:
        """The plan with what it is held against."""
        from datetime import UTC, datetime

        from bayes_pricing.experiments.registration import Registration, register_plan

        return register_plan(
            plan,
            Registration(
                name=self.name or (self.out.stem if self.out is not None else "test"),
                registered=datetime.now(UTC).date(),
                outcomes=self.outcome or (objective,),
                start=_day(self.start),
                arms=self.arm_name,
                monitoring=self.monitoring,
                looks=self.looks,
                unit_cost=unit_cost,
                guardrails=guardrails_of(self.guardrail),
                covariates=self.pre,
                probability=self.probability,
            ),
        )


def plan_test(
    prior: PriorFlags | None = None,
    goals: GoalFlags | None = None,
    money: MoneyFlags | None = None,
    limits: LimitFlags | None = None,
    registration: RegistrationFlags | None = None,
    budget: BudgetFlags | None = None,
    design: DesignFlags | None = None,
    *,
    model_dir: Path | None = None,
    item: str | None = None,
    test_price: Annotated[tuple[float, ...], Parameter(consume_multiple=False, negative=())] = (),
    new_prices: int = 1,
    weeks_per_period: float | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Plan a test by expected profit, from a fitted model or from numbers alone; power and assurance stand beside it.

    From a model without an item: which items to test, by value of information per cost, within --budget and --tests;
    or which design to use among substitutes, with --move and --rival-control.

    Example: bayes-pricing plan-test --prior-mean 0.68 --prior-sd 0.03 --noise-sd 0.4665 --population 100000

    Parameters
    ----------
    model_dir
        Folder written by `fit --out`; with --item, or with --budget or --tests.
    item
        Item whose price is to be tested.
    test_price
        Price to test against today's; repeatable. Left out, the one most worth testing within the limits.
    new_prices
        How many prices to choose where none is named.
    weeks_per_period
        Length of the model's periods, for the duration; left out, as the dates of its sales say.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.experiments.price_test import plan_json

    prior, goals, registration = prior or PriorFlags(), goals or GoalFlags(), registration or RegistrationFlags()
    money = money or MoneyFlags()
    budget, design = budget or BudgetFlags(), design or DesignFlags()
    if model_dir is not None and design.move is not None:
        return _advice(model_dir, design, money, limits or LimitFlags())
    if model_dir is not None and item is None and budget != BudgetFlags():
        return _portfolio(model_dir, budget, money, limits or LimitFlags())
    if (model_dir is None) != (item is None):
        raise SpecError(
            "--model-dir goes with --item (which of its items), --budget or --tests (which to test), or --move."
        )
    if model_dir is not None and item is not None:
        arms = _TestedArms(prices=test_price, count=new_prices, weeks_per_period=weeks_per_period)
        plan, objective = _from_model(model_dir, item, arms, goals, money, limits or LimitFlags())
    else:
        plan, objective = _from_numbers(prior, goals), "profit"
    document, text = {"status": "ok", **plan_json(plan)}, plan_text(plan)
    if registration.out is not None:
        from bayes_pricing.experiments.plan_file import write_plan

        digest = write_plan(registration.register(plan, objective, money.unit_cost), registration.out)
        document |= {"plan_file": str(registration.out), "plan_hash": digest}
        text += f"\nRegistered in {registration.out}; keep its hash apart from it: {digest}"
    return Answer(document=document, text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TestedArms:
    prices: tuple[float, ...]
    count: int
    weeks_per_period: float | None


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
        switching_cost=goals.switching_cost,
    )
    return plan_test(arms, goals.goals())


def _from_model(
    model_dir: Path,
    item: str,
    arms: _TestedArms,
    goals: GoalFlags,
    money: MoneyFlags,
    limits: LimitFlags,
) -> tuple[TestPlan, str]:
    """Plan from a fitted model, and the objective it is planned for."""
    from bayes_pricing.cli.policy import decidable, objective_of
    from bayes_pricing.experiments.price_arms import PriceChoice, weeks_per_period
    from bayes_pricing.experiments.price_test import plan_price_test
    from bayes_pricing.registry import load_fit

    fitted = load_fit(model_dir)
    posterior = decidable(fitted)
    objective = objective_of(posterior, money, limits)
    plan = plan_price_test(
        posterior,
        money.economics(),
        item,
        horizon_periods=limits.horizon,
        goals=goals.goals(),
        objective=objective,
        choice=PriceChoice(prices=arms.prices, count=arms.count, switching_cost=goals.switching_cost),
        limits=limits.limits(),
        weeks_per_period=arms.weeks_per_period or weeks_per_period(fitted.summary) or 1.0,
    )
    return plan, objective


def _advice(model_dir: Path, design: DesignFlags, money: MoneyFlags, limits: LimitFlags) -> Answer:
    """The design that the fitted model advises for a change of all prices."""
    import msgspec
    import numpy as np

    from bayes_pricing.cli.policy import decidable, objective_of
    from bayes_pricing.experiments.interference import TestConditions, advise_design, play_designs
    from bayes_pricing.experiments.model_response import Substitution, response_of_model
    from bayes_pricing.registry import load_fit

    posterior = decidable(load_fit(model_dir))
    level = design.rival_level or next(iter(posterior.spec.levels), None)
    if design.rival_control is None or level is None or design.move is None:
        raise SpecError(
            "To play designs give --move, --rival-control and a fit with --category and --competitor-price."
        )
    response = response_of_model(
        posterior,
        money.economics(),
        Substitution(level=level, control=design.rival_control, move=design.move, shock_sd=design.shock_sd),
        objective=objective_of(posterior, money, limits),
    )
    conditions = TestConditions(weeks=design.test_weeks, lingering=design.lingering)
    advice = advise_design(play_designs(response, conditions, np.random.default_rng(design.seed), plays=design.plays))
    text = f"Use the design {advice.kind!r}. {advice.reason}."
    return Answer(document={"status": "ok", **msgspec.to_builtins(advice)}, text=text)


def _portfolio(model_dir: Path, budget: BudgetFlags, money: MoneyFlags, limits: LimitFlags) -> Answer:
    """Which items of a model to test."""
    import msgspec

    from bayes_pricing.cli.policy import decidable, objective_of
    from bayes_pricing.cli.text import finding_lines
    from bayes_pricing.experiments.portfolio import TestBudget, plan_portfolio
    from bayes_pricing.registry import load_fit

    posterior = decidable(load_fit(model_dir))
    found = plan_portfolio(
        posterior,
        money.economics(),
        TestBudget(money=budget.budget, tests=budget.tests, cost_per_test=limits.test_cost),
        horizon_periods=limits.horizon,
        objective=objective_of(posterior, money, limits),
        limits=limits.limits(),
    )
    lines = [
        f"{len(found.chosen)} of {len(found.tests)} tests that pay: worth {found.net:,.4g}, cost {found.cost:,.4g}."
    ]
    lines += [
        f"  {test.item}: {test.current_price:,.4g} against {test.test_price:,.4g} for {test.periods} periods, worth "
        f"{test.net:,.4g}, cost {test.cost:,.4g}"
        for test in found.chosen
    ]
    document = {"status": "ok", **msgspec.to_builtins(found)}
    return Answer(document=document, text="\n".join([*lines, *finding_lines(found.findings)]))


def plan_text(plan: TestPlan) -> str:
    """The plan for people: the sizes that earn most, then what a classical test would say."""
    from bayes_pricing.cli.text import finding_lines
    from bayes_pricing.pricing.wording import percent

    best, value = plan.test_and_roll, plan.value_of_information
    sizes = [f"{size:,.1f} units of {_arm(plan, place)}" for place, size in enumerate(best.n_per_arm)]
    what = f"Test {', '.join(sizes[:-1])} and {sizes[-1]}, then roll out the best."
    lines = [
        what if any(best.n_per_arm) else "No test: decide now.",
        f"Expected money: {best.test_profit:,.1f} during the test, {best.rollout_profit:,.1f} after it; deciding now "
        f"would bring {best.no_test_profit:,.1f}, so the test is worth {value.net:,.4g}.",
        f"Regret against knowing the better arm from the start: {best.regret_fraction:.4%}; probability of rolling out "
        f"the worse: {percent(best.error_probability)}.",
    ]
    if value.simulated is not None:
        lines.append(
            f"On the model's own draws: worth {value.simulated.net:,.4g} ± {value.simulated.standard_error:,.2g}."
        )
    if plan.risk is not None:
        lines.append(
            f"The test itself: expected cost {plan.risk.expected_cost:,.4g} against leaving today's arm alone, "
            f"{plan.risk.expected_shortfall:,.4g} in the worst 5 % of what is believed."
        )
    if plan.power is not None:
        lines.append(
            f"Beside it: {plan.power.target:.0%} power for a difference of {plan.power.effect:,.4g} takes "
            f"{plan.power.n_per_arm:,.0f} units an arm; the planned sizes have {percent(plan.power.at_plan)}."
        )
    if plan.sequential is not None:
        looks = ", ".join(
            f"{size.shape} with {size.looks} looks {size.n_per_arm:,.0f}" for size in plan.sequential.group_sequential
        )
        lines.append(f"Watched at any time it would take {plan.sequential.n_per_arm:,.0f} an arm; {looks}.")
    if plan.duration_weeks is not None:
        lines.append(f"Duration: {plan.duration_weeks} whole weeks.")
    return "\n".join([*lines, *finding_lines(plan.findings)])


def _arm(plan: TestPlan, place: int) -> str:
    price = "" if plan.prices is None else f" ({plan.prices[place]:,.4g})"
    return f"{plan.arms[place]!r}{price}"


def _day(text: str | None) -> date | None:
    from datetime import date

    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise SpecError(f"--start is {text!r}; give a day such as 2026-03-02.") from error
