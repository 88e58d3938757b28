"""Why this price: the numbers behind one item's decision, typed; prose is rendered from them elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.items import rows_near
from bayes_pricing.demand.forecast import demand_draws, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding
from bayes_pricing.pricing.category_curve import (
    CategoryCurve,
    category_curve,
    joint_flip_point,
    joint_limit_step,
    joint_prior_sensitivity,
    joint_rejected,
)
from bayes_pricing.pricing.constraints import ItemLimit, Limits, sort_limits
from bayes_pricing.pricing.contrast import (
    ChangeSplit,
    Contrast,
    FlipPoint,
    Rejected,
    best_rejected,
    contrast_of,
    contrasts,
    flip_point,
    split_change,
)
from bayes_pricing.pricing.cross_effects import CrossEffects, cross_effects
from bayes_pricing.pricing.decision import ItemDecision, PriceDecision
from bayes_pricing.pricing.evidence import ElasticityEvidence, elasticity_evidence
from bayes_pricing.pricing.ladder import choose_prices
from bayes_pricing.pricing.limit_words import LimitInForce, limit_in_force, limit_phrase, moved_phrase
from bayes_pricing.pricing.outlook import Block, build_block, item_facts
from bayes_pricing.pricing.phrases import period_word
from bayes_pricing.pricing.profit import Objective
from bayes_pricing.pricing.sensitivity import PriorSensitivity, prior_sensitivity, top_log_prior
from bayes_pricing.pricing.support import SupportLevel, support_levels
from bayes_pricing.pricing.value_of_information import value_of_perfect_information

Floats = NDArray[np.float64]

NEAR = 0.05
"""Share of a price within which rows count as near it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSupport:
    """What was observed around the looked-at price.

    Attributes
    ----------
    level : {"supported", "edge", "extrapolation"}
    lowest_price, highest_price : float
        Range ever observed, currency per unit.
    distinct_prices, rows : int
    log_distance_outside : float
        Log distance beyond the observed range, 0 inside it.
    distance_in_sds : float or None
        Log distance from the item's usual price in within-item sds of log price; None where the price never moved.
    uncertainty_ratio : float
        Posterior sd of log units at the looked-at price over that at the usual price: how much less is known there.
    rows_near : int or None
        Rows whose price was within 5 % of the looked-at one; None for models saved before this was kept.
    last_other_price : date, int or None
        Last period in which the price differed from today's by about 1 % or more; None where it never did.
    sold_out_share : float or None
        Share of rows in which the item was sold out; None where the sales do not say.
    """

    level: SupportLevel
    lowest_price: float
    highest_price: float
    distinct_prices: int
    rows: int
    log_distance_outside: float
    distance_in_sds: float | None
    uncertainty_ratio: float
    rows_near: int | None = None
    last_other_price: date | int | None = None
    sold_out_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWorth:
    """A binding limit and what one step of it is worth, found by solving the item again.

    Attributes
    ----------
    name, words, step : str
        Machine-readable name; the limit and its step for people.
    looser_words, tighter_words : str
        What the limit would be one step looser and one tighter.
    looser : float
        Gain of expected money per period one step looser.
    tighter : float
        Change one step tighter (zero or less).
    """

    name: str
    words: str
    step: str
    looser_words: str
    tighter_words: str
    looser: float
    tighter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TestingWorth:
    """What a price test of the item is worth, money of the objective.

    Attributes
    ----------
    test_price : float
        Currency per unit, against today's.
    periods : int
        Length of the best test.
    value : float
        What it adds to deciding now over the horizon, its cost deducted; negative where it is not worth it.
    perfect_information : float
        What knowing the change of money exactly would be worth per period: no test is worth more.
    """

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
    that was rejected; parts about it are None where the item was refused. Where prices cross, other items stand at the
    prices decided for them; limits one step on, flip point and prior then count the money of the whole category.

    Attributes
    ----------
    decision : ItemDecision
    objective : {"revenue", "profit", "units"}
    currency, period : str
        What money and a period are called.
    looked_at_price : float or None
    contrasts : tuple of Contrast
        Against today's price, and of the decided price against the best rejected one.
    split : ChangeSplit or None
    elasticity : ElasticityEvidence
    prior_sensitivity : PriorSensitivity or None
    support : DataSupport
    policy : tuple of LimitInForce
        Every limit the decision was made under, in words.
    limits : tuple of LimitWorth
        The item's own binding limits.
    flip : FlipPoint or None
    testing : TestingWorth or None
    warnings : tuple of Finding
    provenance : Provenance
    joint : bool
        Whether prices cross, so that the item's price is chosen for its category.
    category : Contrast or None
        The looked-at price against today's in money of the whole category, the other prices as decided; None where
        prices do not cross.
    """

    decision: ItemDecision
    objective: Objective
    currency: str
    period: str
    looked_at_price: float | None
    contrasts: tuple[Contrast, ...]
    split: ChangeSplit | None
    elasticity: ElasticityEvidence
    prior_sensitivity: PriorSensitivity | None
    support: DataSupport
    policy: tuple[LimitInForce, ...]
    limits: tuple[LimitWorth, ...]
    flip: FlipPoint | None
    testing: TestingWorth | None
    warnings: tuple[Finding, ...]
    provenance: Provenance
    joint: bool = False
    category: Contrast | None = None


def explain(
    posterior: DemandPosterior,
    decision: PriceDecision,
    item: str,
    *,
    period: str | None = None,
    findings: Sequence[Finding] = (),
) -> Explanation:
    """Explain the decision about one item from the posterior it was made with.

    Parameters
    ----------
    posterior : DemandPosterior
    decision : PriceDecision
    item : str
    period : str, optional
        What a period is called; left out, read off the decision's own days.
    findings : sequence of Finding
        What the fit found: those about this item become warnings of its explanation.

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
    crossed = cross_effects(posterior, decision, item)
    if crossed is not None:
        block = _at_their_prices(block, crossed)
    cross = None if crossed is None else crossed.decided
    limits = sort_limits(decision.limits)
    curve = None if crossed is None else category_curve(posterior, decision, item)
    rejected = None
    if decided.action != "refused":
        rejected = best_rejected(block, limits, decided.price) if curve is None else joint_rejected(curve, limits)
    looked_at = _looked_at(decided, rejected)
    called = period_word(decision.data_as_of, decision.stale_on, decision.horizon_periods)
    about = tuple(finding for finding in findings if finding.item == item)
    reasons = _Reasons()
    if looked_at is not None and curve is None:
        reasons = _why_alone(posterior, decision, block, limits, looked_at)
    elif looked_at is not None and curve is not None:
        reasons = _why_jointly(posterior, decision, curve, limits, looked_at)
    return Explanation(
        decision=decided,
        objective=decision.objective,
        currency=decision.economics.currency,
        period=called if period is None else period,
        looked_at_price=looked_at,
        contrasts=contrasts(block, decided, looked_at, rejected, cross, None if curve is None else curve.money),
        split=None if looked_at is None else split_change(block, looked_at, cross),
        elasticity=elasticity_evidence(posterior, item, None if posterior.spec.curved else block.draws.elasticity[0]),
        prior_sensitivity=reasons.prior,
        support=_support(block, table.row(0, named=True), decided.price if looked_at is None else looked_at),
        policy=tuple(limit_in_force(limit, item) for limit in decision.limits),
        limits=reasons.limits,
        flip=reasons.flip,
        testing=_testing(block, decided),
        warnings=(*decided.findings, *about, *decision.findings),
        provenance=_provenance(decision, block),
        joint=crossed is not None,
        category=reasons.category,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reasons:
    """What is found by looking at other prices again: the prior's weight, limits one step on, the flip point."""

    prior: PriorSensitivity | None = None
    limits: tuple[LimitWorth, ...] = ()
    flip: FlipPoint | None = None
    category: Contrast | None = None


def _why_alone(
    posterior: DemandPosterior, decision: PriceDecision, block: Block, limits: Limits, price: float
) -> _Reasons:
    item = block.facts.items[0]
    binding = decision.item(item).binding
    worth = 0.0 if not binding else float(choose_prices(block, limits).expected_change[0])
    return _Reasons(
        prior=prior_sensitivity(block, limits, price, _log_prior(posterior)),
        limits=_limit_worths(
            item, limits, binding, lambda limit, moved: _moved_worth(block, limits, limit, moved) - worth
        ),
        flip=flip_point(block, price, fee=_fee(decision)),
    )


def _why_jointly(
    posterior: DemandPosterior, decision: PriceDecision, curve: CategoryCurve, limits: Limits, price: float
) -> _Reasons:
    item = curve.problem.items[curve.place]
    return _Reasons(
        prior=joint_prior_sensitivity(curve, limits, price, _log_prior(posterior)),
        limits=_limit_worths(
            item, limits, decision.item(item).binding,
            lambda limit, moved: joint_limit_step(curve, limits, limit, moved),
        ),
        flip=joint_flip_point(curve, price, fee=_fee(decision)),
        category=contrast_of("today_in_category", curve.current, *curve.money(np.array([price, curve.current]))),
    )  # fmt: skip


def _at_their_prices(block: Block, crossed: CrossEffects) -> Block:
    """The block with today's units as they are at the other items' prices today."""
    log_units = block.draws.log_units_today + crossed.today
    return replace(block, draws=replace(block.draws, log_units_today=log_units), units_today=np.exp(log_units))


def _fee(decision: PriceDecision) -> float | None:
    return decision.economics.fixed_fee if decision.objective == "profit" else None


def _log_prior(posterior: DemandPosterior) -> Floats:
    population = posterior.coefficients("population").sel(coefficient="log_price").transpose("chain", "draw")
    return top_log_prior(posterior, population.to_numpy().ravel())


def _support(block: Block, row: dict[str, Any], price: float) -> DataSupport:
    lowest, highest, spread = (float(row[name]) for name in ("lowest_price", "highest_price", "within_sd_log_price"))
    log_usual, log_today = float(row["reference_log_price"]), float(np.log(block.facts.current_price[0]))
    counts = row.get("price_counts")  # absent in models saved before it was kept
    usual, there = (
        float((block.draws.log_units_today[0] + block.draws.log_growth(np.array([away]))[0]).std())
        for away in (log_usual - log_today, np.log(price) - log_today)
    )
    return DataSupport(
        level=support_levels(block.facts, np.array([price]))[0],
        lowest_price=lowest,
        highest_price=highest,
        distinct_prices=int(row["distinct_prices"]),
        rows=int(row["rows"]),
        log_distance_outside=float(max(np.log(price / highest), np.log(lowest / price), 0.0)),
        distance_in_sds=abs(float(np.log(price)) - log_usual) / spread if spread > 0 else None,
        uncertainty_ratio=there / usual if usual > 0 else 1.0,
        rows_near=None if counts is None else rows_near(counts, price, NEAR),
        last_other_price=row.get("last_other_price"),
        sold_out_share=row.get("sold_out_share"),
    )


def _provenance(decision: PriceDecision, block: Block) -> Provenance:
    return Provenance(
        model=decision.model,
        chains=block.draws.chains,
        draws=block.units_today.shape[1],
        seed=decision.seed,
        engine=decision.portfolio.engine,
        horizon_periods=decision.horizon_periods,
        data_as_of=decision.data_as_of,
        stale_on=decision.stale_on,
    )


def _looked_at(decided: ItemDecision, rejected: Rejected | None) -> float | None:
    if decided.action == "change":
        return decided.recommended_price
    if decided.action == "test_first":
        return decided.test_price
    return None if rejected is None else rejected.price


def _limit_worths(
    item: str, limits: Limits, binding: tuple[str, ...], gain: Callable[[ItemLimit, ItemLimit], float]
) -> tuple[LimitWorth, ...]:
    """What each binding limit brings one step looser and costs one tighter: `gain` solves the item again."""
    found: list[LimitWorth] = []
    for limit in limits.item:
        if limit.name in binding:
            looser, tighter = limit.moved(1.0), limit.moved(-1.0)
            found.append(
                LimitWorth(
                    name=limit.name,
                    words=limit_phrase(limit, item),
                    step=limit.step,
                    looser_words=moved_phrase(limit, looser, item, looser=True),
                    tighter_words=moved_phrase(limit, tighter, item, looser=False),
                    looser=max(gain(limit, looser), 0.0),
                    tighter=min(gain(limit, tighter), 0.0),
                )
            )
    return tuple(found)


def _moved_worth(block: Block, limits: Limits, limit: ItemLimit, moved: ItemLimit) -> float:
    others = tuple(moved if other is limit else other for other in limits.item)
    return float(choose_prices(block, replace(limits, item=others)).expected_change[0])


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
