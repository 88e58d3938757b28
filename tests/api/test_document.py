"""The OpenAPI document, its page, the client that is kept equal to it, and what the server does not load."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags
from bayes_pricing.cli.fit import fit
from bayes_pricing.cli.flags import RoleFlags, SamplerFlags, TermFlags
from bayes_pricing.cli.read_test import TrialFlags
from bayes_pricing.demand.design import Model
from bayes_pricing.experiments import (
    beside,
    compliance,
    effects,
    guardrails,
    price_test,
    readout,
    sample_ratio,
    sizing,
    verdict,
)
from bayes_pricing.experiments.price_test import TestGoals
from server import answer_types, schemas, tasks
from server import experiment_types as types
from server.client import Client, ServerProblem
from server.openapi import build_document, examples
from server.routes import operations
from tests.api.running import Shop, running

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Http = TestClient[Litestar]
DOCUMENTS = {"schema_page", "schema_document", "schema_file", "explain_problem", "metrics"}


def test_the_page_needs_no_other_host(client: Http) -> None:
    page = client.get("/schema", headers={"Authorization": ""})
    assert page.headers["content-type"].startswith("text/html")
    assert "http" not in page.text
    for address in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert client.get(address).status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]


def test_the_document_describes_every_operation_with_problems_and_examples(client: Http) -> None:
    document = client.get("/schema/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    described = {op["operationId"]: op for path in document["paths"].values() for op in path.values()}
    assert set(described) == {operation.name for operation in operations()}
    for operation in operations():
        found = described[operation.name]
        assert found["summary"]
        assert "400" in found["responses"]
        if operation.scope is not None:
            assert {"401", "403", "429", "503"} <= set(found["responses"])
            assert operation.scope in found["description"]
        if operation.body is not None:
            assert all(
                "example" in content
                for name, content in found["requestBody"]["content"].items()
                if "parquet" not in name
            )


def test_examples_fit_their_schemas() -> None:
    for operation in operations():
        if operation.example is not None:
            assert msgspec.convert(dict(operation.example), operation.body) is not None


def test_every_answer_has_an_example_that_fits_its_type() -> None:
    answering = {one.name: one.answer for one in operations() if one.answer and one.answer != "OpenApi"}
    assert set(examples()) == set(answering)
    for name, answer in answering.items():
        kind = getattr(answer_types, answer)
        told = msgspec.convert(examples()[name], kind)
        plain = msgspec.to_builtins(told)
        assert set(plain) == set(examples()[name]), name  # nothing more and nothing less than the type has


def test_policies_and_roles_have_the_flags_of_the_shell() -> None:
    flags = {flag.name for kind in (MoneyFlags, LimitFlags) for flag in fields(kind)}
    assert set(schemas.Policy.__struct_fields__) == flags
    assert set(schemas.Roles.__struct_fields__) == {flag.name for flag in fields(RoleFlags)}


def test_fits_and_read_outs_ask_what_the_shell_asks() -> None:
    """Names of models, and every column of a trial; `data` and `query` are how the shell finds its rows."""
    for request in (schemas.FitRequest, tasks.FitRequest):
        assert get_type_hints(request)["model"] == Model  # other families are fitted in the shell only, and not saved
    assert set(msgspec.to_builtins(schemas.FitRequest(sales="upload:" + "0" * 64))) == set(
        tasks.FitRequest.__struct_fields__
    )
    asked = set(inspect.signature(fit).parameters) - {"sampler", "choice", "out", "json"}
    sampler = {flag.name for flag in fields(SamplerFlags)}
    assert asked | sampler | {"absent", "policy"} == set(schemas.FitRequest.__struct_fields__)
    terms = {flag.name for flag in fields(TermFlags)} - {"cross_prices"}
    assert set(schemas.Terms.__struct_fields__) == terms
    shell = {flag.name for flag in fields(TrialFlags)} - {"data", "query"}
    renamed = {"outcome": "outcomes", "square": "squares"}
    assert {renamed.get(name, name) for name in shell} <= set(schemas.ReadOutBody.__struct_fields__)
    assert set(schemas.Goals.__struct_fields__) == {goal.name for goal in fields(TestGoals)}


@pytest.mark.parametrize(
    ("answer", "room", "more"),
    [
        (types.ReadOutAnswer, readout.ReadOut, {"status"}),
        (types.ArmAnswer, readout.ArmReading, set()),
        (types.EffectAnswer, effects.Effect, set()),
        (types.SampleRatioAnswer, sample_ratio.SampleRatio, set()),
        (types.VerdictAnswer, verdict.Verdict, set()),
        (types.RobustAnswer, beside.RobustReading, set()),
        (types.VarianceReductionAnswer, readout.VarianceReduction, set()),
        (types.PairedTestAnswer, readout.PairedTest, set()),
        (types.GuardrailAnswer, guardrails.GuardrailReading, set()),
        (types.ComplierAnswer, compliance.ComplierEffect, set()),
        (types.PlanAnswer, price_test.TestPlan, {"model"}),
        (types.TestAndRollAnswer, sizing.TestAndRoll, {"n_per_arm_rounded", "profit"}),
        (types.Priors, sizing.TwoArms, {"covariance", "switching_costs"}),
    ],
)
def test_answers_about_price_tests_have_the_fields_of_the_room(
    answer: type[msgspec.Struct], room: type[DataclassInstance], more: set[str]
) -> None:
    assert set(answer.__struct_fields__) == {part.name for part in fields(room)} | more


def test_no_answer_is_an_open_object() -> None:
    """Open are only what rooms below leave open: a job's request and result, what is told about a model, OpenAPI."""
    left_open = {"Job", "ModelAnswer", "PublishedRecord", "OpenApi"}
    for name, schema in build_document()["components"]["schemas"].items():
        if name in left_open or "properties" not in schema:
            continue
        for field, part in schema["properties"].items():
            assert part != {}, f"{name}.{field}"
            bare = part.get("type") == "object" and not part.get("additionalProperties")
            assert not bare, f"{name}.{field} is an open object"


def test_the_client_has_every_operation_and_its_types() -> None:
    methods = {name: method for name, method in vars(Client).items() if not name.startswith("_")}
    assert set(methods) == {operation.name for operation in operations()} - DOCUMENTS
    for operation in operations():
        if operation.name in DOCUMENTS or not operation.answer:
            continue
        found = inspect.get_annotations(methods[operation.name], eval_str=True)
        assert found["return"] is getattr(answer_types, operation.answer)
        if operation.body not in (None, bytes):
            assert found["body"] is operation.body


def test_the_client_and_schemathesis_against_the_running_server(shop: Shop) -> None:
    with running(shop) as address:
        asker = Client(address, shop.token)
        item = asker.list_items().rows[0].item
        answer = asker.read_recommendation(item)
        assert answer.decision.item == item
        tried = asker.try_prices(schemas.WhatIfRequest(item=item, prices=[answer.decision.current_price]))
        assert tried.outcomes[0].profit is not None
        assert tried.outcomes[0].profit.mean == 0.0
        assert asker.explain_item(item).explanation.decision == answer.decision
        with pytest.raises(ServerProblem, match="404 There is no such thing: The model has no item 'tea/green'"):
            asker.read_recommendation("tea/green")
        run_schemathesis(address, shop.token)


def run_schemathesis(address: str, token: str) -> None:
    """All checks on one case of everything; with ``BAYES_PRICING_CONTRACT_CASES=20`` all phases and so many cases."""
    cases = int(os.environ.get("BAYES_PRICING_CONTRACT_CASES", "1"))
    phases = "examples,fuzzing,stateful" if cases == 1 else "examples,coverage,fuzzing,stateful"
    program = Path(sys.executable).with_name("st")
    settings = str(Path(__file__).with_name("schemathesis.toml"))
    document = f"{address}/schema/openapi.json"
    done = subprocess.run(
        [str(program), "--config-file", settings, "run", document, "-H", f"Authorization: Bearer {token}",
         "--seed", "1", "-n", str(cases), "--exclude-path-regex", "events$", "--no-color", "--phases", phases],
        capture_output=True, text=True, check=False, timeout=300 if cases == 1 else 3600,
    )  # fmt: skip
    sys.stdout.write(done.stdout[-1500:])  # the counts, for who reads along
    assert done.returncode == 0, done.stdout[-6000:]
