"""What answers look like, for the OpenAPI document and the client; loaded when one of them is asked for.

The parts are the very types of the rooms below, so that the schema cannot say another thing than the shell's JSON.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import msgspec

from bayes_pricing.errors import Check, Finding
from bayes_pricing.experiments.monitoring import LossStop
from bayes_pricing.gate import Evidence
from bayes_pricing.pricing.decision import Estimate, ItemDecision
from bayes_pricing.pricing.explanation import Explanation
from server.experiment_types import PlanAnswer, ReadOutAnswer
from server.routes.items import ItemSummary
from server.store.aliases import Alias
from server.store.jobs import Job
from server.store.outcomes import Outcome, TrackRecord

__all__ = ["Alias", "Job", "Outcome", "PlanAnswer", "ReadOutAnswer", "TrackRecord"]


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Units of an answer's numbers."""

    price: str
    money: str
    units: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What stands around every answer about prices; changes are against today's price, per period."""

    model: str
    fit: str
    objective: Literal["revenue", "profit", "units"]
    currency: str
    horizon_periods: float
    data_as_of: date | int | None
    stale_on: date | int | None
    measures: Measures


class RecommendationAnswer(Answer, frozen=True, kw_only=True):
    """The recommendation of one item."""

    decision: ItemDecision


class BulkRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of many items: `decision` is null where the model does not know it."""

    item: str
    status: Literal["ok", "unknown_item"]
    decision: ItemDecision | None


class BulkAnswer(Answer, frozen=True, kw_only=True):
    """Recommendations of many items, in the order asked."""

    items: list[BulkRow]


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """Objective per period at a price, with the band that holds `probability` of the draws."""

    price: float
    mean: float
    lower: float
    upper: float
    probability: float


class CurveAnswer(Answer, frozen=True, kw_only=True):
    """The profit curve of one item; no points where it was refused."""

    item: str
    points: list[CurvePoint]


class Prose(msgspec.Struct, frozen=True, kw_only=True):
    """The explanation in words, in three lengths; every number in it is in the structure."""

    headline: str
    paragraph: str
    full: str


class ExplanationAnswer(Answer, frozen=True, kw_only=True):
    """Why this price."""

    item: str
    explanation: Explanation
    prose: Prose


class WhatIfOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a price would bring: expected units, and changes against today's price, per period."""

    price: float
    support: Literal["supported", "edge", "extrapolation"]
    units_per_period: Estimate
    revenue: Estimate | None
    profit: Estimate | None
    units: Estimate | None
    probability_better: float | None
    forbidden_by: list[str]


class WhatIfAnswer(Answer, frozen=True, kw_only=True):
    """Prices of one item, judged."""

    item: str
    current_price: float
    outcomes: list[WhatIfOutcome]


class DemandPoint(msgspec.Struct, frozen=True, kw_only=True):
    """Expected units per period at a price."""

    price: float
    expected_units_per_period: Estimate


class DemandPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """Demand of one item at the prices asked."""

    item: str
    status: Literal["ok", "unknown_item"]
    elasticity: Estimate | None
    points: list[DemandPoint]


class DemandAnswer(Answer, frozen=True, kw_only=True):
    """Demand at many prices."""

    predictions: list[DemandPrediction]


class ItemsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of items."""

    model: str
    rows: list[ItemSummary]
    next: str | None


class Elasticity(msgspec.Struct, frozen=True, kw_only=True):
    """An own-price elasticity and its interval; above `item` the mean of the level's distribution."""

    level: str
    name: str
    mean: float
    sd: float
    lower: float
    upper: float
    probability: float
    probability_elastic: float
    own_data_weight: float | None
    prior_only: bool


class ElasticitiesPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of elasticities."""

    model: str
    rows: list[Elasticity]
    next: str | None


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """A unit of a level above the items: how it reacts, what it sells today, what the decision is expected to add."""

    level: str
    name: str
    items: int
    own_price_elasticity: Elasticity | None
    revenue_today_per_period: Estimate
    profit_today_per_period: Estimate
    units_today_per_period: Estimate
    revenue_change_per_period: Estimate
    profit_change_per_period: Estimate
    units_change_per_period: Estimate


class CategoriesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All categories, with the population they come from."""

    model: str
    population: Elasticity
    categories: list[Category]


class UploadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was kept; `sales` goes into a fit."""

    sales: str
    id: str
    size_bytes: int
    format: Literal["csv", "parquet"]


class JobAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """A job that will be done; `created` is false where the same was asked for before."""

    job: Job
    created: bool


class JobsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs."""

    rows: list[Job]
    next: str | None


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What the publish gate says of the evidence."""

    passed: bool
    checks: list[Check]
    findings: list[Finding]


class PublishedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A published model and the gate's verdict."""

    id: str
    fit_id: str
    published_at: str
    published_by: str
    evidence: Evidence
    about: dict[str, Any]
    verdict: Gate


class ModelAnswer(PublishedRecord, frozen=True, kw_only=True):
    """A model in full; `about` holds data, diagnostics, elasticities, variation, coefficients, policy and portfolio."""


class ModelsPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of published models."""

    rows: list[PublishedRecord]
    next: str | None


class ChampionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Which model is live, and every change before."""

    version: int
    current: Alias | None
    history: list[Alias]


class LookAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An effect with its anytime-valid interval at one look."""

    units: float
    effect: float
    lower: float
    upper: float


class MonitorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A running test: intervals that hold at all looks together, and what a wrong decision would cost."""

    confidence: float
    looks: list[LookAnswer]
    first_look_beyond_zero: int | None
    expected_loss: LossStop | None


class OutcomesPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of outcomes."""

    rows: list[Outcome]
    next: str | None


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the audit's chain."""

    sequence: int
    id: str
    at: str
    kind: str
    model_id: str
    by: str
    row_hash: str
    served: int
    first_served: str | None
    last_served: str | None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit."""

    rows: list[AuditRow]
    next: str | None


class AuditAnswer(AuditRow, frozen=True, kw_only=True):
    """A row of the audit with request and answer as they were."""

    request: str
    answer: str


class Liveness(msgspec.Struct, frozen=True, kw_only=True):
    """The process runs."""

    status: Literal["live"]


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether answers can be given, from which model, and why not."""

    status: Literal["ready", "not ready"]
    model: str | None
    version: int
    reason: str | None


class ProblemKind(msgspec.Struct, frozen=True, kw_only=True):
    """A type of problem."""

    type: str
    title: str
    status: int


class OpenApi(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
