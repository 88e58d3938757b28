r"""What became of recommendations: what the model claimed at the applied price, beside what was sold.

Outcomes come one after the other and are looked at all the time, so a fixed test would raise a false alarm sooner or
later; and outcomes of one week share its shocks, so they are not independent. The alarm bets against the claim week
by week. With :math:`d_w` the mean over a week's outcomes of (miss - stated probability of a miss),

.. math:: E_n = \frac{1}{K} \sum_{k=1}^{K} \prod_{w=1}^{n} (1 + \lambda_k d_w), \qquad 0 < \lambda_k < 1 / p,

whatever hangs together inside a week. Were the intervals right, it would ever pass :math:`1/\alpha` with probability
at most :math:`\alpha`. Three bets run, each at :math:`\alpha = 0.001`: too many misses, too many below, too many above.

References
----------
Waudby-Smith & Ramdas (2024), "Estimating means of bounded random variables by betting", JRSS-B 86(1).
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.errors import Finding, SpecError
from server.store.database import reading, writing
from server.store.failures import NotFound
from server.store.models import model_in
from server.store.tables import insert_new, outcomes

ALPHA = 0.001
BETS = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Shares of the largest bet that cannot lose everything."""

Side = Literal["inside", "below", "above"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Predictive units over the periods at the applied price, sales noise included.

    Attributes
    ----------
    mean, lower, upper : float
        Units; the central interval of `probability`.
    probability : float in (0, 1)
    """

    mean: float
    lower: float
    upper: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One recommendation's outcome: the price that was applied, the units sold, and what was claimed of them."""

    sequence: int
    id: str
    recommendation_id: str
    model_id: str
    item: str
    applied_price: float
    quantity: float
    periods: float
    ended_on: date
    claim: Claim
    recorded_at: datetime
    recorded_by: str

    @property
    def side(self) -> Side:
        """Where the units fell: inside the claimed interval, below it, or above."""
        if self.quantity < self.claim.lower:
            return "below"
        return "above" if self.quantity > self.claim.upper else "inside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Outcomes that ended in one week, which begins on the Monday `start`.

    Attributes
    ----------
    outcomes : int
    coverage : float
        Share of them inside the claimed intervals.
    realised_over_claimed : float
        Units sold over units claimed.
    """

    start: date
    outcomes: int
    coverage: float
    realised_over_claimed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackRecord:
    """Claimed against realised of one model.

    Attributes
    ----------
    outcomes : int
    coverage : float or None
        Share inside the claimed intervals; None without outcomes.
    probability : float or None
        Mean stated probability, what `coverage` should be near.
    realised_over_claimed : float or None
        Units sold over units claimed: 1 is right, below 1 the model promises too much.
    alarm : bool
        The claims do not hold.
    findings : tuple of Finding
        Why there is an alarm.
    windows : tuple of Window
        By week, oldest first.
    """

    outcomes: int
    coverage: float | None
    probability: float | None
    realised_over_claimed: float | None
    alarm: bool
    findings: tuple[Finding, ...]
    windows: tuple[Window, ...]


def record_outcome(
    engine: Engine,
    *,
    recommendation_id: str,
    model_id: str,
    item: str,
    applied_price: float,
    quantity: float,
    periods: float,
    ended_on: date,
    claim: Claim,
    by: str,
    operation: str | None = None,
) -> Outcome:
    """Record what was sold at the price that was applied.

    Parameters
    ----------
    engine : Engine
    recommendation_id : str
        The answer that was followed, or not, as the audit names it.
    model_id, item : str
    applied_price : float
        Currency per unit.
    quantity : float
        Units sold over the periods.
    periods : float
        How many periods the price stood.
    ended_on : date
        Last day of them.
    claim : Claim
    by : str
    operation : str, optional
        Of a request that may be repeated: the second time the first outcome is given again.

    Raises
    ------
    SpecError
        If a number is not finite, a price or the periods are not positive, or units are negative.
    NotFound
        If no such model was published.
    """
    _check(applied_price, quantity, periods, claim)
    name = operation or secrets.token_hex(16)
    values = {
        "id": name,
        "recommendation_id": recommendation_id,
        "model_id": model_id,
        "item": item,
        "applied_price": applied_price,
        "quantity": quantity,
        "periods": periods,
        "ended_on": ended_on,
        "claimed_mean": claim.mean,
        "claimed_lower": claim.lower,
        "claimed_upper": claim.upper,
        "probability": claim.probability,
        "recorded_at": datetime.now(UTC),
        "recorded_by": by,
    }
    with writing(engine) as connection:
        model_in(connection, model_id)
        insert_new(connection, outcomes, values)
        return _outcome(connection.execute(sa.select(outcomes).where(outcomes.c.id == name)).one())


def find_outcome(engine: Engine, outcome_id: str) -> Outcome:
    """One outcome.

    Raises
    ------
    NotFound
        If there is none with this id.
    """
    with reading(engine) as connection:
        row = connection.execute(sa.select(outcomes).where(outcomes.c.id == outcome_id)).first()
    if row is None:
        raise NotFound(f"There is no outcome {outcome_id!r}.")
    return _outcome(row)


def list_outcomes(
    engine: Engine, *, model_id: str | None = None, after: int = 0, limit: int = 100
) -> tuple[Outcome, ...]:
    """Outcomes after a sequence number, oldest first."""
    query = sa.select(outcomes).where(outcomes.c.sequence > after).order_by(outcomes.c.sequence).limit(limit)
    query = query if model_id is None else query.where(outcomes.c.model_id == model_id)
    with reading(engine) as connection:
        return tuple(_outcome(row) for row in connection.execute(query))


def track_record(engine: Engine, model_id: str) -> TrackRecord:
    """Set what a model claimed against what was sold, over all its outcomes and by week.

    Raises
    ------
    NotFound
        If no such model was published.
    """
    with reading(engine) as connection:
        model_in(connection, model_id)
        return judge_outcomes(_of_model(connection, model_id))


def judge_outcomes(found: Sequence[Outcome]) -> TrackRecord:
    """Set claims against sales.

    Parameters
    ----------
    found : sequence of Outcome
        In any order.

    Examples
    --------
    >>> judge_outcomes([]).alarm
    False
    """
    if not found:
        return TrackRecord(
            outcomes=0,
            coverage=None,
            probability=None,
            realised_over_claimed=None,
            alarm=False,
            findings=(),
            windows=(),
        )
    by_week = {start: list(group) for start, group in groupby(sorted(found, key=lambda one: one.ended_on), key=_monday)}
    weeks = list(by_week.values())
    findings = tuple(finding for side in (None, "below", "above") if (finding := _finding(weeks, side)) is not None)
    return TrackRecord(
        outcomes=len(found),
        coverage=_coverage(found),
        probability=sum(one.claim.probability for one in found) / len(found),
        realised_over_claimed=_ratio(found),
        alarm=bool(findings),
        findings=findings,
        windows=tuple(
            Window(start=start, outcomes=len(week), coverage=_coverage(week), realised_over_claimed=_ratio(week))
            for start, week in by_week.items()
        ),
    )


def _finding(weeks: Sequence[Sequence[Outcome]], side: Side | None) -> Finding | None:
    """What is wrong if misses (on one side) come too often; None while the bet against the claim does not pay."""
    share = 1.0 if side is None else 0.5
    stated = max(share * (1.0 - one.claim.probability) for week in weeks for one in week)
    capital = [1.0] * len(BETS)
    for week in weeks:
        excess = sum(_missed(one, side) - share * (1.0 - one.claim.probability) for one in week) / len(week)
        capital = [now * (1.0 + bet / stated * excess) for now, bet in zip(capital, BETS, strict=True)]
    if not sum(capital) / len(capital) >= 1.0 / ALPHA:
        return None
    total = sum(len(week) for week in weeks)
    missed = sum(_missed(one, side) for week in weeks for one in week)
    where = {None: "outside", "below": "below", "above": "above"}[side]
    return Finding(
        code={None: "coverage_low", "below": "sales_below_claims", "above": "sales_above_claims"}[side],
        severity="error",
        message=f"{missed} of {total} outcomes fell {where} their claimed intervals; at most {stated:.0%} should",
        remedy="fit again on sales up to today, and roll back if the champion is new",
    )


def _missed(one: Outcome, side: Side | None) -> bool:
    return one.side != "inside" if side is None else one.side == side


def _coverage(found: Sequence[Outcome]) -> float:
    return sum(one.side == "inside" for one in found) / len(found)


def _ratio(found: Sequence[Outcome]) -> float:
    return sum(one.quantity for one in found) / sum(one.claim.mean for one in found)


def _monday(one: Outcome) -> date:
    return one.ended_on - timedelta(days=one.ended_on.weekday())


def _check(applied_price: float, quantity: float, periods: float, claim: Claim) -> None:
    if not (applied_price > 0 and math.isfinite(applied_price)):
        raise SpecError(f"The applied price is {applied_price}; give a positive price per unit.")
    if not (quantity >= 0 and math.isfinite(quantity)):
        raise SpecError(f"The quantity is {quantity}; give the units sold, 0 or more.")
    if not (periods > 0 and math.isfinite(periods)):
        raise SpecError(f"The number of periods is {periods}; give a positive number.")
    ordered = 0 <= claim.lower <= claim.upper < math.inf and 0 < claim.mean < math.inf
    if not (ordered and 0 < claim.probability < 1):
        raise SpecError(f"The claim {claim} is no interval of units with a probability between 0 and 1.")


def _of_model(connection: Connection, model_id: str) -> list[Outcome]:
    query = sa.select(outcomes).where(outcomes.c.model_id == model_id).order_by(outcomes.c.sequence)
    return [_outcome(row) for row in connection.execute(query)]


def _outcome(row: sa.Row[tuple[object, ...]]) -> Outcome:
    return Outcome(
        sequence=row.sequence,
        id=row.id,
        recommendation_id=row.recommendation_id,
        model_id=row.model_id,
        item=row.item,
        applied_price=row.applied_price,
        quantity=row.quantity,
        periods=row.periods,
        ended_on=row.ended_on,
        claim=Claim(
            mean=row.claimed_mean, lower=row.claimed_lower, upper=row.claimed_upper, probability=row.probability
        ),
        recorded_at=row.recorded_at,
        recorded_by=row.recorded_by,
    )
