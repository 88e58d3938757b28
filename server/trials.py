"""From requests about price tests to the experiments room and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bayes_pricing.errors import SpecError
from server.answers import require_item
from server.policies import policy_flags
from server.readers import readable
from server.schemas import MonitorRequest, PlanRequest, ReadOutBody
from server.store.published import PublishedModel

if TYPE_CHECKING:
    import polars as pl

    from bayes_pricing.experiments.readout import ReadOut, ReadOutRequest

UNITS_ONLY = ("unit", "pre", "received", "stayed", "left", "event")
"""What cannot be asked of sums."""


def plan_from_belief(body: PlanRequest) -> dict[str, Any]:
    """Plan a test of two arms from numbers alone.

    Raises
    ------
    SpecError
        If neither an item nor a belief is given, or the numbers make no sense.
    """
    from bayes_pricing.experiments.price_test import plan_json, plan_test
    from bayes_pricing.experiments.sizing import TwoArms

    belief = body.belief
    if belief is None:
        raise SpecError("Neither `item` nor `belief` is given; name an item of the live model or say what is believed.")
    mean, sd = belief.prior_mean, belief.prior_sd
    arms = TwoArms(
        means=(mean, mean if belief.treatment_mean is None else belief.treatment_mean),
        sds=(sd, sd if belief.treatment_sd is None else belief.treatment_sd),
        noise_sds=(belief.noise_sd, belief.noise_sd),
        population=belief.population,
        correlation=belief.correlation,
    )
    return {"model": None, **plan_json(plan_test(arms, _goals(body)))}


def plan_from_model(model: PublishedModel, body: PlanRequest) -> dict[str, Any]:
    """Plan the test of an item's price with the published posterior as the prior.

    Raises
    ------
    SpecError
        If a belief is given too, or the price makes no sense.
    NotFound
        If the model does not know the item.
    Refusal
        If no price can be tested within the policy's limits.
    """
    from bayes_pricing.experiments.price_test import plan_json, plan_price_test

    if body.belief is not None or body.item is None:
        raise SpecError("Both `item` and `belief` are given; give one of them.")
    require_item(model, body.item)
    money, limits = policy_flags(model.about["policy"])
    plan = plan_price_test(
        model.posterior,
        money.economics(),
        body.item,
        horizon_periods=body.horizon_periods,
        goals=_goals(body),
        objective=model.about["decision"]["portfolio"]["objective_name"],
        test_price=body.test_price,
        limits=limits.limits(),
        weeks_per_period=body.weeks_per_period,
    )
    return {"model": model.id, **plan_json(plan)}


def monitor(body: MonitorRequest) -> dict[str, Any]:
    """Confidence sequence at every look, the first look that leaves zero, and the rule of expected loss.

    Raises
    ------
    SpecError
        If units do not grow from look to look.
    """
    from bayes_pricing.experiments.monitoring import SequenceTuning, confidence_sequence, stop_by_expected_loss

    units = np.array([look.units for look in body.looks])
    if not (np.diff(units) > 0).all():
        raise SpecError("Units must grow from look to look; give the looks in order of time.")
    effects, errors = (np.array([getattr(look, name) for look in body.looks]) for name in ("effect", "standard_error"))
    tuning = SequenceTuning(planned_units=body.planned_units, confidence=body.confidence)
    lower, upper = confidence_sequence(effects, errors, units, tuning)
    away = np.flatnonzero((lower > 0) | (upper < 0))
    stop = None
    if body.loss_threshold is not None:
        stop = stop_by_expected_loss(float(effects[-1]), float(errors[-1]), body.loss_threshold)
    return {
        "confidence": body.confidence,
        "looks": [
            {"units": float(count), "effect": float(middle), "lower": float(low), "upper": float(high)}
            for count, middle, low, high in zip(units, effects, lower, upper, strict=True)
        ],
        "first_look_beyond_zero": int(away[0]) if away.size else None,
        "expected_loss": None if stop is None else msgspec.to_builtins(stop),
    }


def read_out_rows(body: ReadOutBody) -> dict[str, Any]:
    """Read a test out of columns of rows: of units, or of sums over many.

    Raises
    ------
    SpecError
        If columns differ in length, or what is named among them is not there, or the plan is none.
    PanelError
        If the rows break the contract of a trial.
    Refusal
        If the plan was changed after it was registered.
    """
    from bayes_pricing.cli.read_test import read_out_document
    from bayes_pricing.experiments.guardrails import Guardrail
    from bayes_pricing.experiments.plan_file import Preregistration, parse_plan
    from bayes_pricing.experiments.readout import ReadOutRequest

    readable(Preregistration)
    request = ReadOutRequest(
        plan=None if body.plan is None else parse_plan(body.plan, "in `plan`"),
        shares=dict(body.shares),
        probability=body.probability,
        guardrails=tuple(Guardrail(outcome=one.outcome, margin=one.margin) for one in body.guardrails),
        retention_horizon=body.retention_horizon,
    )
    answer = _read_out(body, request)
    plain: dict[str, Any] = finite_or_null(msgspec.to_builtins(read_out_document(answer)))
    return plain


def _read_out(body: ReadOutBody, request: ReadOutRequest) -> ReadOut:
    from bayes_pricing.experiments.readout import read_out
    from bayes_pricing.experiments.summed_readout import read_out_sums
    from bayes_pricing.experiments.summed_trial import SumColumns, read_summed_trial
    from bayes_pricing.experiments.trial import read_trial
    from bayes_pricing.experiments.trial_columns import TrialColumns

    rows, rng = _columns(body).lazy(), np.random.default_rng(body.seed)
    outcomes = tuple(dict.fromkeys([*body.outcomes, *(guarded.outcome for guarded in request.guarded)]))
    if body.count is None:
        columns = TrialColumns(
            arm=body.arm,
            control_arm=body.control_arm,
            outcomes=outcomes,
            unit=body.unit,
            cluster=body.cluster,
            period=body.period,
            start=body.start,
            pre=tuple(body.pre),
            price=body.price,
            cost=body.cost,
            event=body.event,
            received=body.received,
            stayed=body.stayed,
            left=body.left,
        )
        return read_out(read_trial(rows, columns), request, rng)
    of_units = [name for name in UNITS_ONLY if getattr(body, name)]
    if of_units:
        named = ", ".join(f"`{name}`" for name in of_units)
        raise SpecError(f"Sums do not tell units apart, which {named} asks for; give rows of units.")
    sums = SumColumns(
        arm=body.arm,
        control_arm=body.control_arm,
        count=body.count,
        outcomes=outcomes,
        squares=tuple(body.squares),
        cluster=body.cluster,
        period=body.period,
        start=body.start,
        price=body.price,
        cost=body.cost,
    )
    return read_out_sums(read_summed_trial(rows, sums), request, rng)


def _columns(body: ReadOutBody) -> pl.DataFrame:
    import polars as pl

    lengths = {name: len(values) for name, values in body.columns.items()}
    if len(set(lengths.values())) > 1:
        raise SpecError(f"Columns differ in length: {lengths}; every row needs a value (or null) in each.")
    try:
        return pl.DataFrame(body.columns, strict=True)
    except (TypeError, pl.exceptions.PolarsError) as error:
        raise SpecError(f"A column mixes numbers and texts ({error}); give one kind in each.") from error


def finite_or_null(value: Any) -> Any:
    """Plain values with what does not apply (NaN where a group is too small) as null, as the shell's JSON has it."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {name: finite_or_null(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(part) for part in value]
    return value


def _goals(body: PlanRequest) -> Any:
    from bayes_pricing.experiments.price_test import TestGoals

    goals = body.goals
    return TestGoals(
        effect=goals.effect,
        alpha=goals.alpha,
        power=goals.power,
        units_per_week=goals.units_per_week,
        largest_units=goals.largest_units,
        largest_loss=goals.largest_loss,
    )
