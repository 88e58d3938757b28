"""Why this price: the numbers behind one item's decision, typed; prose is rendered from them elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding
from bayes_pricing.pricing.constraints import ItemLimit, Limits, sort_limits
from bayes_pricing.pricing.contrast import (
    ChangeSplit,
    Contrast,
    FlipPoint,
    Rejected,
    best_rejected,
    contrasts,
    flip_point,
    split_change,
)
from bayes_pricing.pricing.decision import ItemDecision, PriceDecision
from bayes_pricing.pricing.evidence import ElasticityEvidence, elasticity_evidence
from bayes_pricing.pricing.ladder import choose_prices
from bayes_pricing.pricing.outlook import Block, build_block, item_facts
from bayes_pricing.pricing.profit import Objective
from bayes_pricing.pricing.sensitivity import PriorSensitivity, population_log_prior, prior_sensitivity
from bayes_pricing.pricing.support import SupportLevel, support_levels
from bayes_pricing.pricing.value_of_information import value_of_perfect_information

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSupport:
    """What was observed around the looked-at price."""

    level: SupportLevel
    lowest_price: float
    highest_price: float
    distinct_prices: int
    rows: int
    log_distance_outside: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWorth:
    """A binding limit and what one step of it is worth, found by solving the item again.

    Attributes
    ----------
    name, step : str
    looser : float
        Gain of expected money per period one step looser.
    tighter : float
        Change one step tighter (zero or less).
    """

    name: str
    step: str
    looser: float
    tighter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TestingWorth:
    """What a price test of the item is worth, money of the objective."""

    __test__ = False  # the name starts with Test; it is no test

    test_price: float
    periods: int
    value: float
    perfect_information: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where the numbers come from, so that each can be computed again."""

    model: str
    chains: int
    draws: int
    seed: int
    engine: str
    horizon_periods: float
    data_as_of: date | int | None
    stale_on: date | int | None
    personal_data_used: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about one item's decision, as numbers.

    The looked-at price is the recommended one, or where today's stays the one that would be tested, or the best one
    that was rejected; parts about it are None where the item was refused.

    Attributes
    ----------
    decision : ItemDecision
    objective : {"revenue", "profit", "units"}
    currency : str
    looked_at_price : float or None
    contrasts : tuple of Contrast
        Against today's price, and of the decided price against the best rejected one.
    split : ChangeSplit or None
    elasticity : ElasticityEvidence
    prior_sensitivity : PriorSensitivity or None
    support : DataSupport
    limits : tuple of LimitWorth
    flip : FlipPoint or None
    testing : TestingWorth or None
    warnings : tuple of Finding
    provenance : Provenance
    """

    decision: ItemDecision
    objective: Objective
    currency: str
    looked_at_price: float | None
    contrasts: tuple[Contrast, ...]
    split: ChangeSplit | None
    elasticity: ElasticityEvidence
    prior_sensitivity: PriorSensitivity | None
    support: DataSupport
    limits: tuple[LimitWorth, ...]
    flip: FlipPoint | None
    testing: TestingWorth | None
    warnings: tuple[Finding, ...]
    provenance: Provenance


def explain(posterior: DemandPosterior, decision: PriceDecision, item: str) -> Explanation:
    """Explain the decision about one item from the posterior it was made with.

    Parameters
    ----------
    posterior : DemandPosterior
    decision : PriceDecision
    item : str

    Returns
    -------
    Explanation

    Raises
    ------
    SpecError
        If the decision or the posterior does not have the item.
    """
    decided = decision.item(item)
    table = select_items(posterior, [item])
    block = build_block(item_facts(table, decision.economics, decision.objective), demand_draws(posterior, [item]))
    limits = sort_limits(decision.limits)
    rejected = None if decided.action == "refused" else best_rejected(block, limits, decided.price)
    looked_at = _looked_at(decided, rejected)
    row = table.row(0, named=True)
    outside = 0.0
    if looked_at is not None:
        outside = float(max(np.log(looked_at / row["highest_price"]), np.log(row["lowest_price"] / looked_at), 0.0))
    return Explanation(
        decision=decided,
        objective=decision.objective,
        currency=decision.economics.currency,
        looked_at_price=looked_at,
        contrasts=contrasts(block, decided, looked_at, rejected),
        split=None if looked_at is None else split_change(block, looked_at),
        elasticity=elasticity_evidence(posterior, item),
        prior_sensitivity=None if looked_at is None else prior_sensitivity(
            block, limits, looked_at, population_log_prior(posterior)
        ),
        support=DataSupport(
            level=support_levels(block.facts, np.array([decided.price if looked_at is None else looked_at]))[0],
            lowest_price=float(row["lowest_price"]),
            highest_price=float(row["highest_price"]),
            distinct_prices=int(row["distinct_prices"]),
            rows=int(row["rows"]),
            log_distance_outside=outside,
        ),
        limits=_limit_worths(block, limits, decided.binding),
        flip=None if looked_at is None else flip_point(block, looked_at),
        testing=_testing(block, decided),
        warnings=(*decided.findings, *decision.findings),
        provenance=Provenance(
            model=decision.model,
            chains=block.draws.chains,
            draws=block.units_today.shape[1],
            seed=decision.seed,
            engine=decision.portfolio.engine,
            horizon_periods=decision.horizon_periods,
            data_as_of=decision.data_as_of,
            stale_on=decision.stale_on,
        ),
    )  # fmt: skip


def _looked_at(decided: ItemDecision, rejected: Rejected | None) -> float | None:
    if decided.action == "change":
        return decided.recommended_price
    if decided.action == "test_first":
        return decided.test_price
    return None if rejected is None else rejected.price


def _limit_worths(block: Block, limits: Limits, binding: tuple[str, ...]) -> tuple[LimitWorth, ...]:
    """Solve the item again with each binding limit one step looser and one tighter."""
    if not binding:
        return ()
    here = float(choose_prices(block, limits).expected_change[0])
    found: list[LimitWorth] = []
    for limit in limits.item:
        if limit.name in binding:
            looser, tighter = (_moved_worth(block, limits, limit, steps) - here for steps in (1.0, -1.0))
            found.append(
                LimitWorth(name=limit.name, step=limit.step, looser=max(looser, 0.0), tighter=min(tighter, 0.0))
            )
    return tuple(found)


def _moved_worth(block: Block, limits: Limits, limit: ItemLimit, steps: float) -> float:
    others = tuple(limit.moved(steps) if other is limit else other for other in limits.item)
    moved = Limits(item=others, ladder=limits.ladder, shortfall=None, changes=None)
    return float(choose_prices(block, moved).expected_change[0])


def _testing(block: Block, decided: ItemDecision) -> TestingWorth | None:
    if decided.test_price is None or decided.value_of_testing is None:
        return None
    change = block.change(np.array([decided.test_price]), block.facts.value)[0]
    return TestingWorth(
        test_price=decided.test_price,
        periods=decided.test_periods,
        value=decided.value_of_testing,
        perfect_information=float(value_of_perfect_information(change.mean(), change.std())),
    )
