"""Every problem that the document names is met: each status of each operation, and each type of problem."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from server.app import create_app
from server.openapi import describe
from server.operations import Operation
from server.problems import KINDS
from server.routes import operations
from server.store.database import open_database
from server.store.idempotency import begin
from server.store.jobs import cancel_job, submit_job
from server.store.keys import create_key
from tests.api.running import Shop, market, open_shop
from tests.api.test_problems import as_problem

Http = TestClient[Litestar]
BY_NAME = {operation.name: operation for operation in operations()}
DOCUMENTED = [
    (operation.name, int(status))
    for operation in operations()
    for status, told in describe(operation)["responses"].items()
    if "application/problem+json" in told.get("content", {})
]
REST = {
    "list_items": {"params": {"model": "0" * 32}},
    "read_elasticities": {"params": {"level": "shelf"}},
    "list_categories": {"params": {"model": "0" * 32}},
    "predict_demand": {"params": {"model": "0" * 32}},
    "recommend_many": {"params": {"model": "0" * 32}},
    "list_published": {"params": {"cursor": "MDAw"}},
    "list_all_jobs": {"params": {"cursor": "MDAw"}},
    "plan_experiment": {"json": {"item": "nobody"}},
}
"""Requests that name what is not there, beside those whose path or whose example does."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shop, Http]]:
    """A shop of its own, whose state these requests spoil, with room for one request at a time beside the first."""
    shop = open_shop(tmp_path_factory.mktemp("problems"), market(2, 100), in_flight_limit=1)
    with TestClient(create_app(shop.settings), raise_server_exceptions=False) as client:
        client.headers.update(shop.key)
        yield shop, client


def ask(client: Http, operation: Operation, **given: Any) -> httpx.Response:
    """A request that would do, but for what is given."""
    path = operation.path
    for part in ("item", "job", "model", "entry", "name"):
        path = path.replace(f"{{{part}:str}}", "0" * 32)
    headers = {"If-Match": '"1"'} if operation.if_match else {}
    sent: dict[str, Any] = {"headers": {**headers, **given.pop("headers", {})}}
    if operation.body is bytes:
        sent |= {"content": b"item\n", "headers": {"Content-Type": "text/csv", **sent["headers"]}}
    elif operation.body is not None:
        sent["json"] = dict(operation.example or {})
    answer: httpx.Response = client.request(operation.method, path, **{**sent, **given})
    return answer


def token_for(shop: Shop, client: Http, **given: Any) -> dict[str, str]:
    engine = open_database(shop.settings.database_url)
    token = create_key(engine, name="other", by="test", **given).token
    engine.dispose()
    client.app.state.service.keys.refresh()
    return {"Authorization": f"Bearer {token}"}


def provoke(status: int, shop: Shop, client: Http, operation: Operation) -> httpx.Response:
    """The answer to a request that is wrong in the way a status means."""
    if status == 400:
        return ask(client, operation, params={"nobody": "1"})
    if status == 401:
        return ask(client, operation, headers={"Authorization": "Bearer bp_0_0"})
    if status == 403:
        other = next(scope for scope in ("audit:read", "prices:read") if scope != operation.scope)
        return ask(client, operation, headers=token_for(shop, client, scopes=(other,)))
    if status == 404:
        return ask(client, operation, **REST.get(operation.name, {}))
    if status == 409:
        return _conflict(shop, client, operation)
    if status == 412:
        forced = {"model": shop.model, "override_gate": True, "reason": "test"}
        known = {"json": forced} if operation.name == "promote_model" else {}
        return ask(client, operation, headers={"If-Match": '"999"'}, **known)
    if status == 413:
        return ask(client, operation, headers={"Content-Length": "99999999"}, **_bytes(operation))
    if status == 415:
        return ask(client, operation, headers={"Content-Type": "text/plain"}, **_bytes(operation))
    if status == 422:
        return _senseless(client, operation)
    if status == 428:
        return client.request(operation.method, operation.path, json=dict(operation.example or {}))
    if status == 429:
        hasty = token_for(shop, client, scopes=(operation.scope,), rate_per_second=0.001)
        return [ask(client, operation, headers=hasty) for _ in range(2)][-1]
    raise AssertionError(f"nobody knows how to provoke {status}")


def _bytes(operation: Operation) -> dict[str, Any]:
    if operation.body is bytes:
        return {}
    encoded = msgspec.json.encode(operation.example)
    return {"content": encoded, "json": None} if operation.body is not None else {}


def _conflict(shop: Shop, client: Http, operation: Operation) -> httpx.Response:
    """Somebody else is doing the same under the same idempotency key."""
    key, service = secrets.token_hex(8), client.app.state.service
    principal = service.keys.authenticate(shop.token).key_id
    path = operation.path.replace("{job:str}", "0" * 32)
    content = b"{}"
    begin(service.engine, key=key, principal_id=principal, route=f"{operation.method} {path}", body=content, hours=1)
    return ask(client, operation, content=content, json=None, headers={"Idempotency-Key": key})


def _senseless(client: Http, operation: Operation) -> httpx.Response:
    """An idempotency key that was used for another body; a cursor of nobody."""
    if operation.method == "GET":
        return ask(client, operation, params={"cursor": "!"})
    headers = {"Idempotency-Key": secrets.token_hex(8)}
    ask(client, operation, content=b"1", json=None, headers=headers)
    return ask(client, operation, content=b"2", json=None, headers=headers)


@pytest.mark.parametrize(("name", "status"), [pair for pair in DOCUMENTED if pair[1] != 503])
def test_documented_status(room: tuple[Shop, Http], name: str, status: int) -> None:
    shop, client = room
    assert as_problem(provoke(status, shop, client, BY_NAME[name]))["status"] == status


def test_every_address_with_a_key_can_be_too_full(room: tuple[Shop, Http]) -> None:
    """Somebody watches a job, and there is room for one."""
    shop, client = room
    engine = open_database(shop.settings.database_url)
    job = submit_job(engine, "nothing", {}, by="test").job
    watcher = threading.Thread(target=client.get, args=(f"/v1/jobs/{job.id}/events",))
    watcher.start()
    try:
        while client.get("/v1/items").status_code != 503:
            pass
        for name, status in DOCUMENTED:
            if status == 503:
                refused = ask(client, BY_NAME[name])
                assert as_problem(refused)["type"] == "/problems/unavailable"
                assert refused.headers["retry-after"] == "1"
    finally:
        cancel_job(engine, job.id)
        watcher.join()
        engine.dispose()
    assert client.get("/v1/items").status_code == 200


def test_the_types_that_share_a_status(room: tuple[Shop, Http]) -> None:
    shop, client = room
    met = {
        as_problem(answer)["type"]
        for answer in (
            client.put("/v1/aliases/champion", json={"model": shop.model}, headers={"If-Match": '"1"'}),
            client.post("/v1/experiments/monitor", json={"planned_units": 9, "looks": LOOKS}),
            client.post("/v1/experiments/read-out", json={**TRIAL, "plan": EDITED}),
            client.delete("/v1/items"),
        )
    }
    names = ("gate-refused", "unprocessable", "refused", "method-not-allowed")
    assert met == {f"/problems/{name}" for name in names}
    by_status = {KINDS[name].status for name in KINDS}
    assert by_status == {status for _, status in DOCUMENTED} | {405, 500}  # 500 is provoked beside the other problems


LOOKS = [{"effect": 1, "standard_error": 1, "units": units} for units in (2, 1)]
TRIAL = {
    "columns": {"arm": ["A", "B"] * 4, "profit": [1.0, 2.0, 1.5, 2.5] * 2}, "arm": "arm", "control_arm": "A",
    "outcomes": ["profit"],
}  # fmt: skip
PLAN = {
    "name": "tea", "arms": [{"name": "A"}, {"name": "B"}], "outcomes": ["profit"], "planned_units": 8,
    "registered": "2026-03-01", "hash": "0" * 32,
}  # fmt: skip
EDITED = msgspec.json.encode(PLAN).decode()
"""A plan whose content is not what its hash says."""
