"""What answers about price tests look like: the structures of the experiments room, where what does not apply is null.

The numbers of a read-out may not exist (a group is too small for a variance): they are null there, where the room has
NaN. A test holds the fields of every structure equal to those of the room's own.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from bayes_pricing.errors import Finding
from bayes_pricing.experiments.plan_parts import InformationValue, PowerPlan, SequentialPlan, TestRisk
from bayes_pricing.experiments.power import Assurance

Number = float | None


class Priors(msgspec.Struct, frozen=True, kw_only=True):
    """What is believed of the arms, money per unit: two of them by `sds` and `correlation`, more by `covariance`."""

    means: list[float]
    noise_sds: list[float]
    population: float
    sds: list[float] | None = None
    correlation: float | None = None
    switching_cost: float | None = None
    covariance: list[list[float]] | None = None
    switching_costs: list[float] | None = None


class TestAndRollAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes that earn most, and what they are expected to earn; money over the population."""

    __test__ = False  # the name starts with Test; it is no test

    n_per_arm: list[float]
    n_per_arm_rounded: list[int]
    profit: float
    test_profit: float
    rollout_profit: float
    no_test_profit: float
    perfect_information_profit: float
    regret_fraction: float
    error_probability: float


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A planned test; parts that do not apply are null. `model` is null where the prior came with the request."""

    model: str | None
    arms: list[str]
    prices: list[float] | None
    priors: Priors
    test_and_roll: TestAndRollAnswer
    power: PowerPlan | None
    minimum_detectable_effect: float | None
    assurance: Assurance | None
    sequential: SequentialPlan | None
    value_of_information: InformationValue
    risk: TestRisk | None
    duration_weeks: int | None
    units: int
    findings: list[Finding]


class ArmAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One arm as it came out: units, means of its outcomes, mean price paid."""

    name: str
    n: int
    mean: Number
    means: dict[str, Number]
    price: Number


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """An arm against control, with the interval that holds `probability`."""

    outcome: str
    arm: str
    mean: Number
    sd: Number
    lower: Number
    upper: Number
    probability: float


class EffectAnswer(Reading, frozen=True, kw_only=True):
    """The effect of an arm against control, with its interval and what choosing it may cost."""

    probability_better: Number
    expected_loss: Number


class SampleRatioAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether units came in the shares that were promised; null where none were."""

    p_value: Number
    passed: bool | None
    threshold: float | None = None
    counts: list[int] = []
    expected: list[float] = []


class VerdictAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Change or keep, by which rule, and what a wrong choice is expected to cost."""

    action: Literal["change", "keep", "inconclusive"]
    arm: str | None
    outcome: str
    expected_loss: Number
    rule: str


class RobustAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The same effect read by another method."""

    method: str
    effect: EffectAnswer


class VarianceReductionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What covariates known before the test were worth."""

    outcome: str
    covariates: int
    gain: Number
    units_without: int


class PairedTestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A p-value alone and adjusted for all that were looked at with it."""

    outcome: str
    arm: str
    p_value: Number
    adjusted: Number


class GuardrailAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome that may not suffer: its interval against the margin."""

    outcome: str
    arm: str
    margin: float
    lower: Number
    upper: Number
    status: Literal["safe", "breached", "open"]


class ComplierAnswer(Reading, frozen=True, kw_only=True):
    """The effect on units that got what they were assigned."""

    compliance: Number
    f_statistic: Number


class ReadOutAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A finished test: arms, effects with intervals, sample ratio, decision; `refused` where the test is broken."""

    status: Literal["ok", "refused"]
    arms: list[ArmAnswer]
    effects: list[EffectAnswer]
    sample_ratio: SampleRatioAnswer
    decision: VerdictAnswer
    findings: list[Finding]
    lifts: list[EffectAnswer]
    robust: list[RobustAnswer]
    variance_reduction: list[VarianceReductionAnswer]
    tests: list[PairedTestAnswer]
    procedure: str
    guardrails: list[GuardrailAnswer]
    compliers: list[ComplierAnswer]
    retention: list[EffectAnswer]
