"""Every error is one form, with a type that stays, and says what to do."""

from __future__ import annotations

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from server.problems import KINDS, MEDIA_TYPE

Http = TestClient[Litestar]
WHAT_IF = {"item": "item-00000", "prices": [9.0]}


def as_problem(answer: object) -> dict[str, object]:
    body: dict[str, object] = answer.json()  # type: ignore[attr-defined]
    assert answer.headers["content-type"] == MEDIA_TYPE  # type: ignore[attr-defined]
    kind = KINDS[str(body["type"]).removeprefix("/problems/")]
    assert (body["status"], body["title"]) == (kind.status, kind.title)
    assert body["status"] == answer.status_code  # type: ignore[attr-defined]
    assert body["instance"] == answer.headers["x-request-id"]  # type: ignore[attr-defined]
    return body


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/items/unknown/recommendation", 404),
        ("GET", "/v1/items/unknown/explanation", 404),
        ("GET", "/v1/jobs/unknown", 404),
        ("GET", "/v1/models/unknown", 404),
        ("GET", "/v1/audit/unknown", 404),
        ("GET", "/problems/unknown", 404),
        ("DELETE", "/v1/items", 405),
        ("GET", "/v1/items?limit=0", 400),
        ("GET", "/v1/items?limit=1&limit=2", 400),
        ("GET", "/v1/items?unknown=1", 400),
        ("GET", "/v1/items?cursor=!", 422),
        ("GET", "/v1/audit?cursor=dGVh", 422),
        ("GET", "/v1/jobs?state=null", 400),
    ],
)
def test_addresses(client: Http, method: str, path: str, status: int) -> None:
    assert as_problem(client.request(method, path))["status"] == status


@pytest.mark.parametrize(
    ("content", "kind", "status", "pointer"),
    [
        (b"{}", "text/plain", 415, None),
        (b"{", "application/json", 400, None),
        (b"\xff", "application/json", 400, None),
        (b'{"item":"a","prices":[]}', "application/json", 400, "/prices"),
        (b'{"item":"a","prices":["x"]}', "application/json", 400, "/prices/0"),
        (b'{"item":"a","prices":[NaN]}', "application/json", 400, None),
        (b'{"item":"a","prices":[1e999]}', "application/json", 400, None),
        (b'{"item":"a","prices":[-1]}', "application/json", 400, "/prices/0"),
        (b'{"item":"a","prices":[1],"extra":1}', "application/json", 400, ""),
        (b"[" * 10_000 + b"]" * 10_000, "application/json", 400, None),
        (b'{"item":"a","prices":' + b'[{"a":' * 10_000 + b"1" + b"}]" * 10_000 + b"}", "application/json", 400, None),
        (b'{"item":"unknown","prices":[1]}', "application/json", 404, None),
        (b'{"item":"' + b"a" * 1_100_000 + b'"}', "application/json", 413, None),
    ],
)
def test_bodies(client: Http, content: bytes, kind: str, status: int, pointer: str | None) -> None:
    problem = as_problem(client.post("/v1/what-if", content=content, headers={"content-type": kind}))
    assert problem["status"] == status
    if pointer is not None:
        errors = problem["errors"]
        assert isinstance(errors, list)
        assert errors[0]["pointer"] == pointer


def test_405_names_the_methods(client: Http) -> None:
    assert client.delete("/v1/models").headers["allow"] == "GET, OPTIONS, POST"
    assert client.options("/v1/models").headers["allow"] == "GET, OPTIONS, POST"


def test_a_failure_of_ours_says_nothing_of_its_inside(client: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.service.live, "require", lambda *given: 1 / 0)
    problem = as_problem(client.get("/v1/items"))
    assert problem["status"] == 500
    assert "division" not in str(problem)


def test_numbers_that_make_no_sense_are_refused(client: Http) -> None:
    both = {"item": "item-00000", "belief": {"prior_mean": 1, "prior_sd": 1, "noise_sd": 1, "population": 100}}
    problem = as_problem(client.post("/v1/experiments/plan", json=both))
    assert (problem["status"], problem["type"]) == (422, "/problems/unprocessable")


def test_every_type_has_its_page(client: Http) -> None:
    for kind in KINDS.values():
        assert client.get(kind.type).json() == {"type": kind.type, "title": kind.title, "status": kind.status}


def test_headers_of_every_answer(client: Http) -> None:
    for path in ("/health/live", "/nowhere", "/v1/items"):
        headers = client.get(path, headers={"X-Request-Id": "my-own-id"}).headers
        assert headers["x-request-id"] == "my-own-id"
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
    assert client.get("/health/live", headers={"X-Request-Id": "bad id"}).headers["x-request-id"] != "bad id"
