"""`bayes-pricing read-test`: what came out of a price test, and what to do now."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from bayes_pricing.cli.flags import Repeatable
from bayes_pricing.cli.output import DONE, REFUSED, Answer
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import numpy as np

    from bayes_pricing.experiments.effects import Effect
    from bayes_pricing.experiments.guardrails import Guardrail
    from bayes_pricing.experiments.readout import ReadOut, ReadOutRequest
    from bayes_pricing.experiments.summed_trial import SumColumns
    from bayes_pricing.experiments.trial_columns import TrialColumns


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class LearningFlags:
    """How the test's rows join the sales of a fitted model, so that it learns from them."""

    model_dir: Path | None = None
    """Model to update, a folder written by `fit --out`; with --update-out, --item, --quantity and --price."""
    update_out: Path | None = None
    """New folder for the updated model."""
    item: str | None = None
    """Column of the item, as the model calls it; one row per item, period and price shown."""
    quantity: str | None = None
    """Column of the units sold."""
    exposure: str | None = None
    """Column of the share of buyers who saw the row's price; left out, all of them did."""

    def learn(self, trial: TrialFlags) -> str:
        """Update the model and save it; its new id."""
        from bayes_pricing.data.sources import read_sales
        from bayes_pricing.experiments.learning import learn_from_test
        from bayes_pricing.registry import load_fit, save_fit

        if self.model_dir is None or self.update_out is None or not (self.item and self.quantity and trial.price):
            raise SpecError(
                "To learn from a test give --model-dir, --update-out, --item, --quantity and --price (and --period)."
            )
        if trial.count is not None:
            raise SpecError("A model learns from sales of items at prices, not from sums; leave --count out.")
        named = {self.item: "item", self.quantity: "quantity", trial.price: "price"}
        named |= {trial.period: "period"} if trial.period else {}
        named |= {self.exposure: "exposure"} if self.exposure else {}
        rows = read_sales(trial.data, trial.query).rename(named)
        learnt = learn_from_test(load_fit(self.model_dir), rows, _period(trial.start))
        save_fit(learnt, self.update_out)
        return learnt.posterior.id


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFlags:
    """Where the test's rows are, and what their columns mean."""

    data: str
    """CSV or Parquet file, or a database URL (with --query)."""
    arm: str
    """Column of the arm."""
    control_arm: str
    """Its value for control."""
    outcome: Repeatable
    """Column of an outcome of which more is better; repeatable, the decision rests on the first."""
    count: str | None = None
    """Column of the units of a row: rows are arms (by day, by cluster), outcomes are sums over their units."""
    square: Repeatable = ()
    """With --count, column of the sum of squares of an outcome; once per outcome, guardrails last."""
    query: str | None = None
    """SQL that selects the rows, where --data is a database URL."""
    unit: str | None = None
    """Column of what was assigned (a user, an item); its rows are added up. Left out, each row is a unit."""
    cluster: str | None = None
    """Column of what was assigned together (a store, a category)."""
    period: str | None = None
    """Column of the period (date, week, number)."""
    start: str | None = None
    """First period of the test; earlier rows make the outcome's own covariate."""
    pre: Repeatable = ()
    """Column of a covariate known before the test; repeatable."""
    price: str | None = None
    """Column of the price paid."""
    cost: str | None = None
    """Column of the cost per unit: an arm priced below it is never chosen."""
    received: str | None = None
    """Column with 1 where the unit got what its arm was to get, else 0: effects on those who did stand beside."""
    stayed: str | None = None
    """Column of the periods a customer was seen; with --left, the effect on the time retained stands beside."""
    left: str | None = None
    """Column with 1 where the customer left then, 0 where it was still there."""
    event: str | None = None
    """Before and after: column with 0 and 1, or with the period from which on the row's unit has the change."""

    def read_out(self, request: ReadOutRequest, rng: np.random.Generator) -> ReadOut:
        """Read the test out, from units or from sums; guardrails are outcomes too."""
        from bayes_pricing.data.sources import read_sales
        from bayes_pricing.experiments.readout import read_out
        from bayes_pricing.experiments.summed_readout import read_out_sums
        from bayes_pricing.experiments.summed_trial import read_summed_trial
        from bayes_pricing.experiments.trial import read_trial

        rows = read_sales(self.data, self.query)
        outcomes = tuple(dict.fromkeys([*self.outcome, *(guarded.outcome for guarded in request.guarded)]))
        if self.count is not None:
            return read_out_sums(read_summed_trial(rows, self._sums(self.count, outcomes)), request, rng)
        if self.square:
            raise SpecError("Sums of squares go with the units that they are over; name their column with --count.")
        return read_out(read_trial(rows, self._columns(outcomes)), request, rng)

    def _sums(self, count: str, outcomes: tuple[str, ...]) -> SumColumns:
        from bayes_pricing.experiments.summed_trial import SumColumns

        unknown = {"--unit": self.unit, "--pre": self.pre, "--received": self.received, "--event": self.event}
        unknown |= {"--stayed": self.stayed, "--left": self.left}
        named = [flag for flag, value in unknown.items() if value]
        if named:
            raise SpecError(f"Sums do not tell units apart, which {', '.join(named)} asks for; give rows of units.")
        return SumColumns(
            arm=self.arm,
            control_arm=self.control_arm,
            count=count,
            outcomes=outcomes,
            squares=self.square,
            cluster=self.cluster,
            period=self.period,
            start=_period(self.start),
            price=self.price,
            cost=self.cost,
        )

    def _columns(self, outcomes: tuple[str, ...]) -> TrialColumns:
        from bayes_pricing.experiments.trial_columns import TrialColumns

        return TrialColumns(
            arm=self.arm,
            control_arm=self.control_arm,
            outcomes=outcomes,
            unit=self.unit,
            cluster=self.cluster,
            period=self.period,
            start=_period(self.start),
            pre=self.pre,
            price=self.price,
            cost=self.cost,
            event=self.event,
            received=self.received,
            stayed=self.stayed,
            left=self.left,
        )


def read_test(
    trial: TrialFlags,
    learning: LearningFlags | None = None,
    *,
    plan: Path | None = None,
    share: Repeatable = (),
    guardrail: Repeatable = (),
    probability: float | None = None,
    retention_horizon: float | None = None,
    seed: int = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Read a price test out: effects with intervals, whether the test was run as promised, change or keep.

    A broken test (a wrong sample ratio, another test than the planned one) is shown and leaves with exit code 3; no
    model learns from it.

    Example: bayes-pricing read-test --data test.csv --arm arm --control-arm A --outcome profit --unit user

    Of sums: bayes-pricing read-test --data arms.csv --arm arm --control-arm A --count users --outcome profit
    --square profit_squared

    Parameters
    ----------
    plan
        Plan file written before the test; departures from it are named, and its rule decides.
    share
        Promised share of an arm, as ARM=SHARE on any scale; repeatable. Without it and a plan, equal shares.
    guardrail
        Outcome that may not suffer and the loss that is accepted, as OUTCOME=MARGIN; repeatable. A plan brings its own.
    probability
        Of the intervals; the decision errs at most as often as they miss. Left out, the plan's, else 0.9.
    retention_horizon
        Periods within which time retained is counted; left out, the longest that every arm was watched.
    seed
        Of the assignments drawn where there are few clusters.
    json
        One JSON document on standard output.
    """
    import numpy as np

    from bayes_pricing.experiments.plan_file import read_plan
    from bayes_pricing.experiments.readout import ReadOutRequest

    registered = read_plan(plan) if plan is not None else None
    request = ReadOutRequest(
        plan=registered,
        shares=dict(_share(text) for text in share),
        guardrails=guardrails_of(guardrail),
        probability=probability,
        retention_horizon=retention_horizon,
    )
    answer = trial.read_out(request, np.random.default_rng(seed))
    document, text = read_out_document(answer), read_out_text(answer, log=trial.event is not None)
    if learning is not None and learning != LearningFlags() and not answer.refused:
        document |= {"updated_model": learning.learn(trial)}
        text += f"\nThe model learnt from the test: {learning.update_out}."
    return Answer(document=document, text=text, exit_code=REFUSED if answer.refused else DONE)


def read_out_document(answer: ReadOut) -> dict[str, object]:
    """The read-out as plain values."""
    ratio = answer.sample_ratio
    decision = answer.decision
    return {
        "status": "refused" if answer.refused else "ok",
        "arms": answer.arms,
        "effects": answer.effects,
        "sample_ratio": ratio if ratio is not None else {"p_value": None, "passed": None},
        "decision": {
            "action": decision.action,
            "arm": decision.arm,
            "outcome": decision.outcome,
            "expected_loss": decision.expected_loss,
            "rule": decision.rule,
        },
        "findings": answer.findings,
        "lifts": answer.lifts,
        "robust": answer.robust,
        "variance_reduction": answer.variance_reduction,
        "tests": answer.tests,
        "procedure": answer.procedure,
        "guardrails": answer.guardrails,
        "compliers": answer.compliers,
        "retention": answer.retention,
    }


def read_out_text(answer: ReadOut, *, log: bool = False) -> str:
    """The read-out for people."""
    from bayes_pricing.cli.text import finding_lines

    decision = answer.decision
    said = {
        "change": f"Change to {decision.arm!r}",
        "keep": f"Keep {decision.arm!r}",
        "inconclusive": "Inconclusive",
    }[decision.action]
    cost = "" if decision.expected_loss is None else f" Expected loss if wrong: {decision.expected_loss:.4g} per unit."
    lines = [f"{said} ({decision.rule}).{cost}", ""]
    arms = ", ".join(f"{arm.name} {arm.n:,} (mean {arm.mean:,.4g})" for arm in answer.arms)
    lines.append(f"Units and mean {decision.outcome}: {arms}.")
    if log:
        lines.append("Effects are on the log outcome: 0.10 is about 10 % more.")
    lines += [_effect_line(effect) for effect in answer.effects]
    lines += [f"  as a share of control: {_effect_line(lift).strip()}" for lift in answer.lifts]
    lines += [f"  {ROBUST_WORDS[part.method]}: {_effect_line(part.effect).strip()}" for part in answer.robust]
    lines += [
        f"  on those who got it ({one.compliance:.0%}): {one.outcome}, {one.arm}: {one.mean:+,.4g} "
        f"({one.lower:+,.4g} to {one.upper:+,.4g})"
        for one in answer.compliers
    ]
    lines += [_effect_line(effect) for effect in answer.retention]
    lines += [
        f"Guardrail {one.outcome}, {one.arm}: {one.status} ({one.lower:+,.4g} to {one.upper:+,.4g}, "
        f"margin {one.margin:g})."
        for one in answer.guardrails
    ]
    lines += [
        f"Covariates took away {part.gain:.0%} of the variance of {part.outcome}.".replace("%", " %")
        for part in answer.variance_reduction
    ]
    if answer.sample_ratio is not None:
        lines.append(f"Sample ratio: p {answer.sample_ratio.p_value:.2g}.")
    return "\n".join([*lines, *finding_lines(answer.findings)])


ROBUST_WORDS = {
    "capped": "capped at the 99 % quantile",
    "share_above_zero": "share above zero",
    "mean_above_zero": "mean of those above zero",
}


def _effect_line(effect: Effect) -> str:
    from bayes_pricing.pricing.wording import percent

    return (
        f"  {effect.outcome}, {effect.arm}: {effect.mean:+,.4g} ({effect.lower:+,.4g} to {effect.upper:+,.4g}), "
        f"better with probability {percent(effect.probability_better)}"
    )


def _period(text: str | None) -> date | int | None:
    from datetime import date

    if text is None:
        return None
    try:
        return int(text) if text.lstrip("-").isdigit() and len(text) < 8 else date.fromisoformat(text)
    except ValueError as error:
        raise SpecError(f"--start is {text!r}; give a day such as 2026-01-05 or a whole number.") from error


def guardrails_of(texts: Sequence[str]) -> tuple[Guardrail, ...]:
    """Guardrails written as OUTCOME=MARGIN."""
    from bayes_pricing.experiments.guardrails import Guardrail

    pairs = [_named_number(text, "--guardrail", "the outcome and its margin, such as kept=0.01") for text in texts]
    return tuple(Guardrail(outcome=outcome, margin=margin) for outcome, margin in pairs)


def _share(text: str) -> tuple[str, float]:
    arm, share = _named_number(text, "--share", "the arm and its share, such as B=0.5")
    if not share > 0:
        raise SpecError(f"--share is {text!r}; a share must be over 0.")
    return arm, share


def _named_number(text: str, flag: str, meant: str) -> tuple[str, float]:
    name, found, number = text.rpartition("=")
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not (found and name and abs(value) < float("inf")):
        raise SpecError(f"{flag} is {text!r}; give {meant}.")
    return name, value
