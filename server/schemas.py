"""What the server is asked: frozen, strict request bodies and query parameters, with ranges and units in the names."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MOST_ITEMS = 1000
MOST_PRICES = 41

Name = Annotated[str, Meta(min_length=1, max_length=200, description="Name of an item, as in the sales.")]
Price = Annotated[float, Meta(ge=1e-4, le=1e9, description="Currency per unit.")]
Money = Annotated[float, Meta(ge=0, le=1e12)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Identity = Annotated[str, Meta(pattern="^[0-9a-f]{8,128}$", description="Id: hexadecimal digits.")]
Seed = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Group = Annotated[str, Meta(min_length=1, max_length=2000, description="Names of items with commas between.")]
Column = Annotated[str, Meta(min_length=1, max_length=200, description="Name of a column of the file.")]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of everything that comes in: frozen, and a field nobody knows is refused."""


class NoQuery(Strict, frozen=True):
    """No query parameter."""


class ModelQuery(Strict, frozen=True):
    """Which published model answers."""

    model: Identity | None = None


class PageQuery(Strict, frozen=True):
    """A page of a list."""

    cursor: Annotated[str, Meta(max_length=300, description="`next` of the page before.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=500, description="Most rows on the page.")] = 100


class ItemsQuery(PageQuery, frozen=True):
    """A page of items."""

    model: Identity | None = None


class ElasticityQuery(PageQuery, frozen=True):
    """A page of elasticities of one level."""

    level: Annotated[
        str, Meta(min_length=1, max_length=200, description="`item`, a category's level name, or `population`.")
    ] = "item"
    model: Identity | None = None


class JobsQuery(PageQuery, frozen=True):
    """A page of jobs."""

    state: Literal["queued", "running", "done", "failed", "refused", "cancelled"] | None = None


class OutcomesQuery(PageQuery, frozen=True):
    """A page of outcomes."""

    model: Identity | None = None


class AuditQuery(PageQuery, frozen=True):
    """A page of the audit."""

    kind: Annotated[str, Meta(max_length=50)] | None = None
    model: Identity | None = None


class BulkRequest(Strict, frozen=True):
    """Items whose recommendations are wanted in one call."""

    items: Annotated[list[Name], Meta(min_length=1, max_length=MOST_ITEMS)]


class WhatIfRequest(Strict, frozen=True):
    """Prices of one item to be judged on the same draws as its recommendation."""

    item: Name
    prices: Annotated[list[Price], Meta(min_length=1, max_length=MOST_PRICES)]
    unit_cost: (
        Annotated[float, Meta(ge=0, le=1e9, description="Currency per unit, instead of the known cost.")] | None
    ) = None


class DemandQuestion(Strict, frozen=True):
    """Prices of one item at which its demand is wanted."""

    item: Name
    prices: Annotated[list[Price], Meta(min_length=1, max_length=MOST_PRICES)]


class DemandRequest(Strict, frozen=True):
    """Items and prices at which demand is to be predicted."""

    questions: Annotated[list[DemandQuestion], Meta(min_length=1, max_length=50)]


class Policy(Strict, frozen=True):
    """Objective, money and limits of recommendations, under the names of the shell's flags."""

    objective: Literal["revenue", "profit", "units"] | None = None
    horizon: Annotated[float, Meta(gt=0, le=1e5, description="Periods the prices are meant for.")] = 13.0
    unit_cost: Money | None = None
    commission: Share = 0.0
    fixed_fee: Money = 0.0
    tax_rate: Annotated[float, Meta(ge=0, le=10)] = 0.0
    currency: Annotated[str, Meta(max_length=20)] = ""
    max_change: Share | None = None
    min_change: Share | None = None
    lowest_price: Price | None = None
    highest_price: Price | None = None
    extrapolate: Annotated[float, Meta(ge=0, le=1)] = 0.0
    price_step: Annotated[float, Meta(ge=0.001, le=1e6)] | None = None
    ending: Annotated[list[Share], Meta(max_length=10)] = []
    min_margin: Annotated[float, Meta(ge=-10, lt=1)] | None = None
    min_volume: Money | None = None
    capacity: Money | None = None
    max_loss_probability: Probability | None = None
    max_item_shortfall: Money | None = None
    max_shortfall: Money | None = None
    max_changes: Annotated[int, Meta(ge=0, le=10**6)] | None = None
    tail_share: Annotated[float, Meta(ge=0.001, le=0.5)] = 0.05
    max_item_loss: Money | None = None
    max_portfolio_loss_probability: Annotated[float, Meta(ge=0.001, le=0.999)] | None = None
    max_portfolio_loss: Money = 0.0
    max_average_move: Share | None = None
    basket_lowest: Annotated[float, Meta(ge=-0.99, le=10)] | None = None
    basket_highest: Annotated[float, Meta(ge=-0.99, le=10)] | None = None
    category_revenue_floor: Annotated[float, Meta(ge=0, le=10)] | None = None
    category_volume_floor: Annotated[float, Meta(ge=0, le=10)] | None = None
    tier: Annotated[list[Group], Meta(max_length=1000)] = []
    tier_step: Share = 0.0
    same_price: Annotated[list[Group], Meta(max_length=1000)] = []
    risk_tolerance: Annotated[float, Meta(gt=0, le=1e12)] | None = None
    test_cost: Money = 0.0
    no_tests: bool = False

    def flags(self) -> dict[str, object]:
        """The settings that differ from their defaults, as `policy_flags` reads them."""
        plain = msgspec.to_builtins(self)
        return {name: value for name, value in plain.items() if value != msgspec.to_builtins(Policy())[name]}


class Roles(Strict, frozen=True):
    """Which column plays which role; a role can be left out where the column carries its name."""

    item: Column | None = None
    category: Annotated[list[Column], Meta(max_length=5, description="Inner level first.")] = []
    period: Column | None = None
    price: Column | None = None
    quantity: Column | None = None
    cost: Column | None = None
    list_price: Column | None = None
    discount: Column | None = None
    stock: Column | None = None
    sold_out: Column | None = None
    exposure: Column | None = None
    region: Column | None = None
    deflator: Column | None = None
    control: Annotated[list[Column], Meta(max_length=20)] = []
    shared_control: Annotated[list[Column], Meta(max_length=20)] = []
    competitor_price: Annotated[list[Column], Meta(max_length=20)] = []
    instrument: Annotated[list[Column], Meta(max_length=20)] = []
    attribute: Annotated[list[Column], Meta(max_length=20)] = []


class Terms(Strict, frozen=True):
    """What else the demand equation holds, as the shell's flags say it; but for prices that cross, under which no
    single item's price can be answered for.
    """

    correlated: Literal["all", "price"] = "all"
    autocorrelation: Literal["auto", "off"] = "auto"
    season: Annotated[int, Meta(ge=0, le=20)] = 0
    season_length: Annotated[float, Meta(ge=2, le=1e4)] | None = None
    trend: bool = False
    stockpiling: bool = False
    drift: bool = False
    price_curve: Literal["constant", "quadratic", "saturating"] = "constant"
    month_effects: bool = False
    holiday: Annotated[list[Annotated[str, Meta(max_length=300)]], Meta(max_length=200)] = []
    period_effects: Literal["all", "category"] | None = None


class FitRequest(Strict, frozen=True):
    """Estimate demand from uploaded sales, and publish the model where its diagnostics pass."""

    sales: Annotated[
        str,
        Meta(
            pattern=r"^(upload:[0-9a-f]{64}|source:[\w][\w.-]{0,200})$",
            description="`upload:` and the id an upload was given, or `source:` and a file the operator put there.",
        ),
    ]
    absent: Literal["zero", "missing"] | None = None
    roles: Roles = Roles()
    model: Literal["auto", "lognormal", "student-t", "poisson", "negative-binomial"] = "auto"
    noise_by: Literal["common", "category", "item"] | None = None
    randomised_price: bool = False
    compare_models: Annotated[
        bool, Meta(description="Fit every family the data allow; `auto` then takes a clearly better one.")
    ] = False
    terms: Terms = Terms()
    seed: Seed = 1
    draws: Annotated[int, Meta(ge=100, le=10_000, description="Of each chain.")] = 1000
    tune: Annotated[int, Meta(ge=100, le=10_000)] | None = None
    chains: Annotated[int, Meta(ge=2, le=16)] = 4
    policy: Policy = Policy()


class PublishRequest(Strict, frozen=True):
    """Publish a saved fit, under a policy of its own."""

    fit: Identity
    policy: Policy = Policy()
    seed: Seed = 1


class BatchRequest(Strict, frozen=True):
    """Recommend prices for every item of a saved fit, under a policy of its own."""

    fit: Identity
    policy: Policy = Policy()
    seed: Seed = 1


class StudyRequest(Strict, frozen=True):
    """Run a study; its arguments are those of its command."""

    name: Literal["course_coverage", "monitoring"]
    arguments: Annotated[dict[str, Annotated[int, Meta(ge=0, le=10**6)]], Meta(max_length=10)] = {}


class PromoteRequest(Strict, frozen=True):
    """Let a published model go live."""

    model: Identity
    reason: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    override_gate: bool = False


class RollbackRequest(Strict, frozen=True):
    """Let the model before go live again."""

    reason: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None


class Goals(Strict, frozen=True):
    """What a classical test would be asked, shown beside the plan that earns most."""

    effect: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    alpha: Annotated[float, Meta(ge=0.0001, le=0.5)] = 0.05
    power: Annotated[float, Meta(ge=0.51, le=0.999)] = 0.8
    units_per_week: Annotated[float, Meta(ge=0.001, le=1e12)] | None = None
    largest_units: Annotated[float, Meta(ge=2, le=1e12, description="Most units of all arms together.")] | None = None
    largest_loss: (
        Annotated[float, Meta(gt=0, le=1e12, description="Largest expected shortfall of the test itself, money.")]
        | None
    ) = None


class Belief(Strict, frozen=True):
    """What is believed of two arms, where no model says it; money per unit."""

    prior_mean: Annotated[float, Meta(ge=-1e9, le=1e9)]
    prior_sd: Annotated[float, Meta(ge=1e-6, le=1e9)]
    noise_sd: Annotated[float, Meta(ge=1e-6, le=1e9)]
    population: Annotated[float, Meta(ge=10, le=1e12, description="Units the decision is for.")]
    treatment_mean: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    treatment_sd: Annotated[float, Meta(ge=1e-6, le=1e9)] | None = None
    correlation: Annotated[float, Meta(ge=-0.99, le=0.99)] = 0.0


class PlanRequest(Strict, frozen=True):
    """Plan a price test: of an item of the live model, or from numbers alone (exactly one of `item` and `belief`)."""

    item: Name | None = None
    test_price: Price | None = None
    horizon_periods: Annotated[float, Meta(ge=2, le=1e4)] = 13.0
    weeks_per_period: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    belief: Belief | None = None
    goals: Goals = Goals()


class Look(Strict, frozen=True):
    """What is known of a running test's effect at one look."""

    effect: Annotated[float, Meta(ge=-1e12, le=1e12, description="Treatment minus control, in the outcome's unit.")]
    standard_error: Annotated[float, Meta(ge=1e-9, le=1e12)]
    units: Annotated[float, Meta(ge=1, le=1e12, description="Of all arms together.")]


class MonitorRequest(Strict, frozen=True):
    """Looks at a running test, to be read without false alarms however often one looks."""

    looks: Annotated[list[Look], Meta(min_length=1, max_length=1000)]
    planned_units: Annotated[float, Meta(ge=1, le=1e12)]
    confidence: Annotated[float, Meta(ge=0.5, le=0.9999)] = 0.95
    loss_threshold: (
        Annotated[float, Meta(gt=0, le=1e12, description="Expected loss one does not mind, in the outcome's unit.")]
        | None
    ) = None


Cell = Annotated[float, Meta(ge=-1e12, le=1e12)] | Annotated[str, Meta(max_length=200)] | None


class Guarded(Strict, frozen=True):
    """An outcome that a change may not harm by more than a margin."""

    outcome: Column
    margin: Annotated[float, Meta(ge=0, le=1e12, description="Loss that is accepted, in the outcome's unit.")]


class ReadOutBody(Strict, frozen=True):
    """Rows of a finished test, by unit or (with `count`) as sums of many units, and what their columns mean."""

    columns: Annotated[
        dict[Column, Annotated[list[Cell], Meta(min_length=2, max_length=50_000)]], Meta(min_length=2, max_length=30)
    ]
    arm: Column
    control_arm: Annotated[str, Meta(min_length=1, max_length=200)]
    outcomes: Annotated[list[Column], Meta(min_length=1, max_length=10)]
    unit: Column | None = None
    cluster: Column | None = None
    period: Column | None = None
    start: date | Annotated[int, Meta(ge=-(10**7), le=10**7)] | None = None
    pre: Annotated[list[Column], Meta(max_length=10)] = []
    price: Column | None = None
    cost: Column | None = None
    received: Column | None = None
    stayed: Column | None = None
    left: Column | None = None
    event: Column | None = None
    retention_horizon: Annotated[float, Meta(gt=0, le=1e6, description="Periods.")] | None = None
    shares: Annotated[dict[Column, Annotated[float, Meta(gt=0, le=1e6)]], Meta(max_length=20)] = {}
    count: Column | None = None
    squares: Annotated[list[Column], Meta(max_length=10)] = []
    probability: Annotated[float, Meta(ge=0.5, le=0.9999, description="Of the intervals.")] | None = None
    guardrails: Annotated[list[Guarded], Meta(max_length=10)] = []
    plan: (
        Annotated[str, Meta(max_length=100_000, description="Text of the plan file, as `plan-test` wrote it.")] | None
    ) = None
    seed: Seed = 1


class OutcomeRequest(Strict, frozen=True):
    """What price was applied and what was sold."""

    item: Name
    applied_price: Price
    quantity: Annotated[float, Meta(ge=0, le=1e12, description="Units sold over the periods.")]
    ended_on: date
    periods: Annotated[float, Meta(gt=0, le=1e4)] = 1.0
    model: Identity | None = None
    recommendation: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=200,
                description="`Audit-Id` the recommendation came with; left out, that of the item's own.",
            ),
        ]
        | None
    ) = None
