"""Keys, scopes, rates, room and idempotency."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import httpx
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from server.app import create_app
from server.store.database import open_database
from server.store.keys import create_key, revoke_key
from tests.api.running import Shop, market, open_shop

Http = TestClient[Litestar]
BODY = {"item": "item-00000", "prices": [9.0]}


def key_for(shop: Shop, *scopes: str, expires: timedelta | None = None) -> tuple[str, str]:
    engine = open_database(shop.settings.database_url)
    at = None if expires is None else datetime.now(UTC) + expires
    made = create_key(engine, name="one", scopes=scopes, expires_at=at, by="test")
    engine.dispose()
    return made.key.id, made.token


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_a_valid_key_nothing_is_told(client: Http, shop: Shop) -> None:
    forged = shop.token[:-1] + ("A" if shop.token[-1] != "A" else "B")
    for headers in ({"Authorization": ""}, bearer(forged), bearer("x"), {"Authorization": f"Basic {shop.token}"}):
        for path in ("/v1/items", "/v1/nowhere", "/metrics"):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get("/health/live", headers={"Authorization": ""}).status_code == 200


def test_a_key_may_do_what_its_scopes_say(client: Http, shop: Shop) -> None:
    _, token = key_for(shop, "prices:read")
    client.app.state.service.keys.refresh()
    assert client.get("/v1/items", headers=bearer(token)).status_code == 200
    refused = client.post("/v1/what-if", json=BODY, headers=bearer(token))
    assert (refused.status_code, refused.json()["type"]) == (403, "/problems/scope-missing")
    assert "prices:whatif" in refused.json()["detail"]


def test_a_revoked_key_ends(client: Http, shop: Shop) -> None:
    name, token = key_for(shop, "prices:read")
    client.app.state.service.keys.refresh()
    assert client.get("/v1/items", headers=bearer(token)).status_code == 200
    engine = open_database(shop.settings.database_url)
    revoke_key(engine, name, by="test")
    engine.dispose()
    client.app.state.service.keys.refresh()
    assert client.get("/v1/items", headers=bearer(token)).status_code == 401


def test_a_rate_holds_and_says_when_to_come_again(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, market(2, 100), rate_per_second=0.5, rate_burst=3.0)
    with TestClient(create_app(shop.settings)) as client:
        client.headers.update(shop.key)
        statuses = [client.get("/v1/items").status_code for _ in range(5)]
        assert statuses == [200, 200, 200, 429, 429]
        refused = client.get("/v1/items")
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert refused.json()["type"] == "/problems/rate-limited"
        assert client.get("/health/ready").status_code == 200


def test_more_requests_than_there_is_room_for_are_sent_away(client: Http, shop: Shop) -> None:
    app = client.app

    async def crowd() -> list[int]:
        found: list[int] = []
        transport = httpx.ASGITransport(app=app)

        async def one(http: httpx.AsyncClient) -> None:
            answer = await http.post("/v1/what-if", json=BODY)
            found.append(answer.status_code)
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "1"

        async with (
            httpx.AsyncClient(transport=transport, base_url="http://test", headers=shop.key) as http,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(shop.settings.in_flight_limit + 20):
                tasks.start_soon(one, http)
        return found

    statuses = anyio.run(crowd)
    assert set(statuses) == {200, 503}


def test_an_idempotency_key_does_it_once(client: Http) -> None:
    asked = {"item": "item-00000", "applied_price": 9.5, "quantity": 12, "ended_on": "2026-01-05"}
    headers = {"Idempotency-Key": "outcome-1"}
    first, again = (client.post("/v1/outcomes", json=asked, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = client.post("/v1/outcomes", json={**asked, "quantity": 13}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (422, "/problems/idempotency-mismatch")
    refused = client.post("/v1/outcomes", json=asked, headers={"Idempotency-Key": "two words"})
    assert refused.status_code == 400


def test_the_answer_of_an_idempotency_key_is_its_owners(client: Http, shop: Shop) -> None:
    _, token = key_for(shop, "outcomes:write")
    client.app.state.service.keys.refresh()
    asked = {"item": "item-00001", "applied_price": 9.5, "quantity": 12, "ended_on": "2026-01-05"}
    headers = {"Idempotency-Key": "mine"}
    mine = client.post("/v1/outcomes", json=asked, headers=headers)
    other = client.post("/v1/outcomes", json=asked, headers={**headers, **bearer(token)})
    assert mine.json()["id"] != other.json()["id"]


@pytest.mark.parametrize("host", ["evil.example", ""])
def test_foreign_hosts_are_not_answered(tmp_path: Path, host: str) -> None:
    shop = open_shop(tmp_path, market(2, 100), allowed_hosts=("prices.example",))
    with TestClient(create_app(shop.settings)) as client:
        assert client.get("/v1/items", headers={**shop.key, "Host": host}).status_code == 400
        assert client.get("/v1/items", headers={**shop.key, "Host": "prices.example:8000"}).status_code == 200
