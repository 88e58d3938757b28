"""The champion: guarded, atomic, with a way back; the gate lets nothing through without evidence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.engine import Engine

from bayes_pricing.errors import Check, SpecError
from bayes_pricing.gate import BackTest, Calibration, Evidence, GateRefusal, SamplerEvidence, judge
from server.store.aliases import alias_history, current_alias, promote, rollback
from server.store.audit import list_entries, verify_chain
from server.store.failures import Conflict, NotFound, PreconditionFailed
from server.store.models import find_model, list_models, record_model
from tests.stores import BOTH, opened

CALIBRATION = Calibration(rows=2000, coverage=((0.5, 0.51), (0.8, 0.79), (0.95, 0.951)))
BACKTEST = BackTest(
    rows=400,
    periods=4,
    error=0.30,
    rival="m0",
    rival_error=0.31,
    difference_sd=0.001,
    calibration=replace(CALIBRATION, rows=400),
)
GOOD = Evidence(
    diagnostics=SamplerEvidence(
        checks=(Check(code="rhat", passed=True, finding="largest R-hat 1.002"),),
        max_rhat=1.002,
        min_ess_bulk=900.0,
        min_ess_tail=800.0,
        divergences=0,
    ),
    calibration=CALIBRATION,
    backtest=BACKTEST,
)


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with opened(request, tmp_path) as engine:
        for name, evidence in (("m1", GOOD), ("m2", GOOD), ("m3", GOOD), ("bad", Evidence())):
            record_model(engine, name, fit_id=f"fit of {name}", by="job", evidence=evidence, about={"items": 3})
        yield engine


def test_gate_passes_full_evidence() -> None:
    assert judge(GOOD).passed
    assert judge(GOOD).findings == ()


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (replace(GOOD, diagnostics=None), "diagnostics_missing"),
        (replace(GOOD, calibration=None), "calibration_missing"),
        (replace(GOOD, calibration=Calibration(rows=0, coverage=((0.5, 0.5),))), "calibration_missing"),
        (replace(GOOD, calibration=Calibration(rows=2000, coverage=((0.8, 0.70),))), "calibration"),
        (replace(GOOD, calibration=Calibration(rows=2000, coverage=((0.8, math.nan),))), "calibration"),
        (replace(GOOD, backtest=None), "backtest_missing"),
        (replace(GOOD, backtest=replace(BACKTEST, error=0.35)), "backtest"),
        (replace(GOOD, backtest=replace(BACKTEST, error=math.nan)), "backtest"),
        (replace(GOOD, backtest=replace(BACKTEST, rows=0)), "backtest"),
        (
            replace(GOOD, backtest=replace(BACKTEST, calibration=Calibration(rows=4000, coverage=((0.8, 0.6),)))),
            "backtest_coverage",
        ),
    ],
)
def test_gate_fails_each_weak_or_missing_evidence(evidence: Evidence, code: str) -> None:
    assert [finding.code for finding in judge(evidence).findings] == [code]


def test_little_worse_or_worse_by_chance_passes() -> None:
    assert judge(replace(GOOD, backtest=replace(BACKTEST, error=0.312))).passed  # 1.3 % of squared error
    assert judge(replace(GOOD, backtest=replace(BACKTEST, error=0.35, difference_sd=0.02))).passed


def test_evidence_survives_the_database(engine: Engine) -> None:
    assert find_model(engine, "m1").evidence == GOOD
    assert msgspec.convert(msgspec.to_builtins(GOOD), Evidence) == GOOD


def test_models_page_by_page_and_only_once(engine: Engine) -> None:
    record_model(engine, "m1", fit_id="another", by="other", evidence=Evidence(), about={})
    assert find_model(engine, "m1").fit_id == "fit of m1"
    first = list_models(engine, limit=3)
    rest = list_models(engine, limit=3, after=first[-1].id)
    assert [model.id for model in (*first, *rest)] == ["bad", "m3", "m2", "m1"]
    assert [entry.kind for entry in list_entries(engine)] == ["model_published"] * 4


def test_promote_and_roll_back(engine: Engine) -> None:
    assert current_alias(engine) is None
    for version, model in enumerate(("m1", "m2", "m3")):
        promote(engine, "champion", model, expected_version=version, by="ann")
    back = rollback(engine, "champion", expected_version=3, by="ann", reason="complaints")
    assert (back.model_id, back.version, back.undoes) == ("m2", 4, 3)
    assert rollback(engine, "champion", expected_version=4, by="ann").model_id == "m1"
    assert promote(engine, "champion", "m3", expected_version=5, by="ann").version == 6
    assert rollback(engine, "champion", expected_version=6, by="ann").model_id == "m1"
    with pytest.raises(Conflict, match="nothing to go back to"):
        rollback(engine, "champion", expected_version=7, by="ann")
    assert current_alias(engine) == alias_history(engine)[0]
    assert [alias.version for alias in alias_history(engine)] == [7, 6, 5, 4, 3, 2, 1]
    assert verify_chain(engine).broken == ()


def test_of_two_promotions_one_wins(engine: Engine) -> None:
    promote(engine, "champion", "m1", expected_version=0, by="ann")
    for expected in (0, 2):
        with pytest.raises(PreconditionFailed) as caught:
            promote(engine, "champion", "m2", expected_version=expected, by="bob")
        assert caught.value.current_version == 1
    with pytest.raises(PreconditionFailed):
        rollback(engine, "champion", expected_version=0, by="bob")
    assert [alias.model_id for alias in alias_history(engine)] == ["m1"]


def test_gate_is_overridden_only_with_a_reason(engine: Engine) -> None:
    with pytest.raises(GateRefusal, match="nobody tested it"):
        promote(engine, "champion", "bad", expected_version=0, by="ann")
    with pytest.raises(SpecError, match="reason"):
        promote(engine, "champion", "bad", expected_version=0, by="ann", override=True, reason=" ")
    assert current_alias(engine) is None
    alias = promote(engine, "champion", "bad", expected_version=0, by="ann", override=True, reason="first model")
    assert alias.reason == "first model"
    detail = msgspec.json.decode(list_entries(engine, kind="alias_promoted")[0].request)
    assert detail["reason"] == "first model"
    assert detail["overridden"] == ["diagnostics_missing", "calibration_missing", "backtest_missing"]


def test_unknown_model_and_repeated_request(engine: Engine) -> None:
    with pytest.raises(NotFound):
        promote(engine, "champion", "none", expected_version=0, by="ann")
    first = promote(engine, "champion", "m1", expected_version=0, by="ann", operation="op-1")
    assert promote(engine, "champion", "m1", expected_version=0, by="ann", operation="op-1") == first
    assert len(alias_history(engine)) == 1
