"""Outcomes: claimed against realised; the alarm rings when claims do not hold, and seldom when they do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy.engine import Engine

from bayes_pricing.errors import SpecError
from bayes_pricing.gate import Evidence
from server.store.failures import NotFound
from server.store.models import record_model
from server.store.outcomes import (
    Claim,
    Outcome,
    find_outcome,
    judge_outcomes,
    list_outcomes,
    record_outcome,
    track_record,
)
from tests.stores import BOTH, opened

CLAIM = Claim(mean=100.0, lower=80.0, upper=120.0, probability=0.9)
MONDAY = date(2026, 3, 2)
ASKED: dict[str, Any] = {
    "recommendation_id": "r1",
    "model_id": "m1",
    "item": "tea",
    "applied_price": 4.5,
    "quantity": 90.0,
    "periods": 1.0,
    "ended_on": MONDAY,
    "claim": CLAIM,
    "by": "shop",
}


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with opened(request, tmp_path) as engine:
        record_model(engine, "m1", fit_id="f1", by="job", evidence=Evidence(), about={})
        yield engine


def outcomes(quantities: np.ndarray[Any, Any]) -> list[Outcome]:
    """Outcomes from an array (weeks, outcomes of a week) of units."""
    return [
        Outcome(
            sequence=0,
            id="o",
            recommendation_id="r1",
            model_id="m1",
            item="tea",
            applied_price=4.5,
            quantity=float(units),
            periods=1.0,
            ended_on=MONDAY + timedelta(weeks=week),
            claim=CLAIM,
            recorded_at=datetime(2026, 3, 2, tzinfo=UTC),
            recorded_by="shop",
        )
        for week, row in enumerate(quantities)
        for units in row
    ]


def test_recorded_listed_and_judged(engine: Engine) -> None:
    made = [record_outcome(engine, **{**ASKED, "quantity": units}) for units in (90.0, 130.0, 110.0)]
    assert list_outcomes(engine, model_id="m1") == tuple(made)
    assert list_outcomes(engine, after=made[0].sequence, limit=1) == (made[1],)
    assert find_outcome(engine, made[0].id) == made[0]
    record = track_record(engine, "m1")
    assert record.outcomes == 3
    assert record.coverage == pytest.approx(2 / 3)
    assert record.realised_over_claimed == pytest.approx(1.1)
    assert record.probability == 0.9
    assert [(window.start, window.outcomes) for window in record.windows] == [(MONDAY, 3)]
    assert not record.alarm


def test_repeated_request_is_one_outcome(engine: Engine) -> None:
    first = record_outcome(engine, **ASKED, operation="op")
    assert record_outcome(engine, **{**ASKED, "quantity": 5.0}, operation="op") == first
    assert len(list_outcomes(engine)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"applied_price": 0.0},
        {"applied_price": float("nan")},
        {"quantity": -1.0},
        {"quantity": float("inf")},
        {"periods": 0.0},
        {"claim": replace(CLAIM, lower=130.0)},
        {"claim": replace(CLAIM, mean=float("nan"))},
        {"claim": replace(CLAIM, probability=1.0)},
    ],
)
def test_nonsense_is_refused(engine: Engine, wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        record_outcome(engine, **{**ASKED, **wrong})
    with pytest.raises(NotFound):
        record_outcome(engine, **{**ASKED, "model_id": "none"})
    assert list_outcomes(engine) == ()


def test_alarm_says_on_which_side_claims_fail() -> None:
    rng = np.random.default_rng(4)
    low = judge_outcomes(outcomes(rng.normal(85.0, 12.16, (12, 50))))
    assert {finding.code for finding in low.findings} == {"coverage_low", "sales_below_claims"}
    high = judge_outcomes(outcomes(rng.normal(115.0, 12.16, (12, 50))))
    assert {finding.code for finding in high.findings} == {"coverage_low", "sales_above_claims"}
    wide = judge_outcomes(outcomes(rng.normal(100.0, 25.0, (12, 50))))
    assert "coverage_low" in {finding.code for finding in wide.findings}


def test_alarm_stays_quiet_where_claims_hold_even_if_weeks_hang_together() -> None:
    # 90 % intervals of N(100, 12.16); each week shares half of the variance. Three bets at 0.001 over 60 streams:
    # 0.18 alarms expected at most, so more than 3 would come less than once in ten thousand.
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(60):
        shared, own = rng.normal(0, 8.6, (20, 1)), rng.normal(0, 8.6, (20, 10))
        alarms += judge_outcomes(outcomes(100.0 + shared + own)).alarm
    assert alarms <= 3
