"""What was promised before a test started: a plan file with a hash, and every way in which a test departed from it."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

import msgspec

from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.experiments.guardrails import Guardrail
from bayes_pricing.experiments.trial import AssignedTrial

Monitoring = Literal["fixed", "anytime", "pocock", "obrien-fleming"]

REACHED = 0.99
"""Share of the planned units from which a test counts as finished."""
TABLES = ("arms", "guardrails")
"""Fields of a plan that are lists of tables."""
OVERRUN = 1.1
"""Share of the planned units from which a test counts as prolonged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedArm:
    """One arm of a planned test.

    Attributes
    ----------
    name : str
        As it will stand in the data.
    share : float
        Of the units, on any positive scale.
    price : float, optional
        Currency per unit.
    """

    name: str
    share: float = 1.0
    price: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preregistration:
    """What is fixed before the first unit is assigned.

    Attributes
    ----------
    name : str
    arms : tuple of PlannedArm
        Control first.
    outcomes : tuple of str
        The first is the primary outcome.
    planned_units : int
        Units (clusters, where clusters are assigned) of all arms together at which the test ends.
    registered : date
        Day on which this was fixed.
    start : date, optional
        Day of the first assignment.
    weeks : int, optional
        Whole weeks it runs.
    assigned : str
        ``unit`` or ``cluster``.
    monitoring : str
        ``fixed``: read once at the end. ``anytime``: watched with a confidence sequence. ``pocock`` or
        ``obrien-fleming``: read at `looks` equal steps.
    looks : int
    unit_cost : float, optional
        Currency per unit: no arm may be priced below it.
    loss_threshold : float, optional
        Expected loss that one does not mind, in the primary outcome's unit: decides instead of the interval.
    guardrails : tuple of Guardrail
        Outcomes that a change may not harm by more than a margin.
    covariates : tuple of str
        Columns known before the test that will take noise away.
    probability : float in (0, 1), optional
        Of the read-out's intervals; one minus it is the two-sided error rate of the decision.

    Raises
    ------
    Refusal
        If an arm is priced below cost.

    Examples
    --------
    >>> plan = Preregistration(name="tea", arms=(PlannedArm(name="A", price=4.0), PlannedArm(name="B", price=4.5)),
    ...                        outcomes=("profit",), planned_units=4_000, registered=date(2026, 3, 1), unit_cost=2.0)
    >>> plan.content_hash[:8]
    '027632ca'
    """

    name: str
    arms: tuple[PlannedArm, ...]
    outcomes: tuple[str, ...]
    planned_units: int
    registered: date
    start: date | None = None
    weeks: int | None = None
    assigned: Literal["unit", "cluster"] = "unit"
    monitoring: Monitoring = "fixed"
    looks: int = 1
    unit_cost: float | None = None
    loss_threshold: float | None = None
    guardrails: tuple[Guardrail, ...] = ()
    covariates: tuple[str, ...] = ()
    probability: float | None = None

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(names) < 2 or len(set(names)) < len(names):
            raise SpecError(f"Preregistration.arms are {names}; give at least two, each with a name of its own.")
        if not self.outcomes:
            raise SpecError("Preregistration.outcomes is empty; name the primary outcome first.")
        if not all(arm.share > 0 for arm in self.arms):
            raise SpecError("Preregistration.arms: every share must be over 0.")
        if not self.planned_units >= 2 * len(names):
            raise SpecError(
                f"Preregistration.planned_units is {self.planned_units}; each arm needs at least two units."
            )
        if self.looks < 1 or (self.monitoring in ("fixed", "anytime") and self.looks != 1):
            raise SpecError(f"Preregistration.looks is {self.looks}; only 'pocock' and 'obrien-fleming' count looks.")
        if self.weeks is not None and self.weeks < 1:
            raise SpecError(f"Preregistration.weeks is {self.weeks}; a test runs whole weeks, at least one.")
        if self.loss_threshold is not None and not self.loss_threshold > 0:
            raise SpecError(f"Preregistration.loss_threshold is {self.loss_threshold}; give a loss over 0.")
        if self.probability is not None and not 0 < self.probability < 1:
            raise SpecError(f"Preregistration.probability is {self.probability}; give a share in (0, 1), such as 0.9.")
        below = below_cost([(arm.name, arm.price, self.unit_cost) for arm in self.arms])
        if below:
            raise Refusal(below)

    @property
    def content_hash(self) -> str:
        """Hash of everything above that was said, the same for the same plan in any file format."""
        said = msgspec.json.encode(_said(msgspec.to_builtins(self)), order="sorted")
        return hashlib.blake2b(said, digest_size=16).hexdigest()


def below_cost(arms: Sequence[tuple[str, float | None, float | None]]) -> list[Finding]:
    """One finding per arm whose price is below its cost, from (name, price, cost).

    Examples
    --------
    >>> [finding.item for finding in below_cost([("A", 4.0, 3.0), ("B", 2.5, 3.0), ("C", None, 3.0)])]
    ['B']
    """
    return [
        Finding(
            code="arm_below_cost",
            severity="error",
            item=name,
            message=f"arm {name!r} sells at {price:g}, below its cost of {cost:g}: every sale loses money",
            remedy="leave the arm out, or correct price or cost",
        )
        for name, price, cost in arms
        if price is not None and cost is not None and price < cost
    ]


def write_plan(plan: Preregistration, path: Path) -> str:
    """Write a plan with its hash to a .toml or .json file that does not exist yet, and return the hash.

    Keep the hash where the plan's author cannot change it (a ticket, a mail): a file alone can be written anew.

    Raises
    ------
    SpecError
        If the file exists or its name ends otherwise.

    Examples
    --------
    >>> import tempfile
    >>> plan = Preregistration(name="tea", arms=(PlannedArm(name="A"), PlannedArm(name="B")), outcomes=("profit",),
    ...                        planned_units=4_000, registered=date(2026, 3, 1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "plan.toml"
    ...     _ = write_plan(plan, path)
    ...     read_plan(path) == plan
    True
    """
    if path.exists():
        raise SpecError(f"{path} exists; a plan is never overwritten, name a new file.")
    content = {**_said(msgspec.to_builtins(plan, builtin_types=(date,))), "hash": plan.content_hash}
    if path.suffix == ".json":
        text = msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"
    elif path.suffix == ".toml":
        text = _toml(content)
    else:
        raise SpecError(f"{path.name!r} is neither .toml nor .json; name the plan file with one of the two.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return plan.content_hash


def read_plan(path: Path) -> Preregistration:
    """Read a plan file back, its content held against its hash.

    Raises
    ------
    SpecError
        If the file is missing, is no plan or has an unknown field.
    Refusal
        If its content is not what was registered, it was registered after the start, or it has no hash.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise SpecError(f"The plan file {path} does not exist.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"The plan file {path} cannot be read: {error}.") from error
    return parse_plan(text, path.name)


def parse_plan(text: str, name: str) -> Preregistration:
    """A plan from the text of its file, JSON or TOML, its content held against its hash.

    Parameters
    ----------
    text : str
    name : str
        What errors call it.

    Raises
    ------
    SpecError
        If the text is no plan or has an unknown field.
    Refusal
        If its content is not what was registered, it was registered after the start, or it has no hash.
    """
    try:
        content = msgspec.json.decode(text)
    except msgspec.DecodeError:
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"The plan {name} cannot be read as JSON or TOML: {error}.") from error
    if not isinstance(content, dict):
        raise SpecError(f"The plan {name} holds no plan; it must be a table of fields.")
    known = set(Preregistration.__dataclass_fields__)
    unknown = sorted(set(content) - known - {"hash"})
    if unknown:
        raise SpecError(f"The plan {name} has the unknown field {unknown[0]!r}; known are {', '.join(sorted(known))}.")
    stated = content.pop("hash", None)
    try:
        plan = msgspec.convert(content, Preregistration)
    except msgspec.ValidationError as error:
        raise SpecError(f"The plan {name}: {error}.") from error
    if stated != plan.content_hash:
        raise Refusal([_edited(name, None if stated is None else str(stated), plan.content_hash)])
    if plan.start is not None and plan.registered > plan.start:
        raise Refusal([_late(plan)])
    return plan


def departures(
    plan: Preregistration, trial: AssignedTrial, outcomes: Sequence[str], probability: float | None = None
) -> list[Finding]:
    """Every way in which a test is not the one that was planned.

    Findings of severity ``error`` forbid a decision by the planned rule; ``peeked`` (fewer units than planned, read as
    if finished) makes the read-out fall back on a confidence sequence.

    Parameters
    ----------
    plan : Preregistration
    trial : Trial or SummedTrial
    outcomes : sequence of str
        Read out, the primary one first.
    probability : float in (0, 1), optional
        Of the intervals that were asked for.
    """
    found: list[Finding] = []
    planned_arms = tuple(arm.name for arm in plan.arms)
    if trial.arms[0] != planned_arms[0]:
        found.append(_departure("other_control", f"control is {trial.arms[0]!r}, planned was {planned_arms[0]!r}"))
    if set(trial.arms) != set(planned_arms):
        found.append(_departure("other_arms", f"arms are {_list(trial.arms)}, planned were {_list(planned_arms)}"))
    if outcomes[0] != plan.outcomes[0]:
        message = f"the primary outcome is {outcomes[0]!r}, planned was {plan.outcomes[0]!r}"
        found.append(_departure("other_primary_outcome", message))
    guarded = {guardrail.outcome for guardrail in plan.guardrails}
    extra = [name for name in outcomes if name not in plan.outcomes and name not in guarded]
    if extra:
        found.append(_departure("unplanned_outcome", f"{_list(extra)} was not planned: exploratory", "info"))
    missing = [name for name in (*plan.outcomes, *sorted(guarded)) if name not in outcomes]
    if missing:
        found.append(_departure("missing_outcome", f"{_list(missing)} was planned and is not read out", "warning"))
    if (plan.assigned == "cluster") != trial.assigned_by_cluster:
        message = f"the plan assigns by {plan.assigned}, the data by {'cluster' if plan.assigned == 'unit' else 'unit'}"
        found.append(_departure("other_assignment", message))
    found += _estimator_findings(plan, trial.pre, probability)
    return [*found, *_size_findings(plan, trial), *_week_findings(plan, trial)]


def _estimator_findings(plan: Preregistration, pre: Sequence[str], probability: float | None) -> list[Finding]:
    """Other covariates or another interval than planned: an effect with several ways to be read has none."""
    found = []
    if plan.covariates and set(pre) != set(plan.covariates):
        used = _list(pre) if pre else "none"
        found.append(_departure("other_covariates", f"covariates are {used}, planned were {_list(plan.covariates)}"))
    elif pre and not plan.covariates:
        message = f"the plan names no covariate, the effect is adjusted for {_list(pre)}: exploratory"
        found.append(_departure("unplanned_covariate", message, "warning"))
    if plan.probability is not None and probability is not None and probability != plan.probability:
        message = f"intervals have a probability of {probability:g}, planned was {plan.probability:g}"
        found.append(_departure("other_probability", message))
    return found


def _size_findings(plan: Preregistration, trial: AssignedTrial) -> list[Finding]:
    units = sum(trial.assigned_counts())
    share = units / plan.planned_units
    size = f"{units:,} of {plan.planned_units:,} planned units"
    if plan.monitoring == "fixed" and share < REACHED:
        remedy = (
            "wait for the planned size, or plan with --monitoring anytime: until then a confidence sequence decides"
        )
        return [Finding(code="peeked", severity="error", message=f"the test is read at {size}", remedy=remedy)]
    if share > OVERRUN:
        message = f"the test was prolonged to {size}"
        return [_departure("prolonged", message, "warning")]
    return []


def _week_findings(plan: Preregistration, trial: AssignedTrial) -> list[Finding]:
    """Rows before the planned start, and a length that was not planned; an event needs rows before it."""
    if trial.periods is None or trial.layout == "before_after":
        return []
    first, last = trial.periods
    if not isinstance(first, date) or not isinstance(last, date):
        return []
    if plan.start is not None and first < plan.start:
        return [_departure("other_start", f"the test has rows from {first}, planned was {plan.start}", "warning")]
    days = (last - first).days + 1
    if plan.weeks is None:
        return []
    if days in (plan.weeks * 7, plan.weeks * 7 - 6):  # periods are days, or the first days of weeks
        return []
    message = f"the test spans {days} days, planned were {plan.weeks} whole weeks"
    return [_departure("other_duration", message, "warning")]


def _departure(code: str, message: str, severity: Literal["info", "warning", "error"] = "error") -> Finding:
    return Finding(
        code=code, severity=severity, message=message, remedy="read out what was planned, and the rest as exploratory"
    )


def _edited(name: str, stated: str | None, found: str) -> Finding:
    if stated is None:
        return Finding(
            code="plan_not_registered",
            severity="error",
            message=f"the plan {name} has no hash: nobody can tell when it was written",
            remedy="write it with write_plan before the test starts",
        )
    hashes = f"its hash is {found[:12]}, registered {stated[:12]}"
    return Finding(
        code="plan_edited",
        severity="error",
        message=f"the plan {name} was changed after it was registered ({hashes})",
        remedy="restore the registered file, or read the test out without a plan and call it exploratory",
    )


def _late(plan: Preregistration) -> Finding:
    return Finding(
        code="plan_registered_late",
        severity="error",
        message=f"the plan was registered on {plan.registered}, after the start on {plan.start}",
        remedy="use the plan that was registered before the start, or read the test out as exploratory",
    )


def _list(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _said(content: dict[str, object]) -> dict[str, object]:
    """What was said: fields that are left open do not count, so that a plan keeps its hash when fields are added."""
    return {name: value for name, value in content.items() if value is not None and value != () and value != []}


def _toml(content: dict[str, object]) -> str:
    """Plain values, lists of texts and the tables of arms and guardrails as TOML."""
    lines = [f"{name} = {_toml_value(value)}" for name, value in content.items() if name not in TABLES]
    for table in TABLES:
        rows = content.get(table, ())
        for row in rows if isinstance(rows, list | tuple) else ():
            lines += ["", f"[[{table}]]", *(f"{name} = {_toml_value(v)}" for name, v in row.items() if v is not None)]
    return "\n".join(lines) + "\n"


def _toml_value(value: object) -> str:
    if isinstance(value, date):
        return value.isoformat()
    return msgspec.json.encode(value).decode()  # JSON's texts, numbers and lists of them are TOML's
