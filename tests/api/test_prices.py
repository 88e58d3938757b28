"""Prices over HTTP: the published decision, many of them, why, and what other prices would bring."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from bayes_pricing.pricing.decision import decision_json
from bayes_pricing.pricing.explanation import explain
from server.answers import ItemRequest, canonical
from server.store.published import load_published, reproduce
from tests.api.running import Shop

Http = TestClient[Litestar]
SAME = 1e-12
"""The what-if computes one item where publishing computed a block: the last bit of an exponential may differ."""


def as_json(value: object) -> dict[str, object]:
    plain: dict[str, object] = msgspec.json.decode(msgspec.json.encode(value))
    return plain


def changing_item(client: Http) -> str:
    rows = client.get("/v1/items").json()["rows"]
    return str(next(row["item"] for row in rows if row["action"] == "change"))


def test_recommendation_is_the_decision_of_the_thinned_posterior(client: Http, shop: Shop) -> None:
    model = load_published(shop.settings.published_dir, shop.model)
    item = changing_item(client)
    answer = client.get(f"/v1/items/{item}/recommendation").json()
    assert answer["decision"] == as_json(decision_json(model.decision(item))["items"][0])
    assert answer["model"] == shop.model
    assert answer["measures"] == {
        "price": "currency per unit", "money": "currency per period", "units": "units per period"
    }  # fmt: skip
    assert answer["decision"]["profit"]["probability"] == 0.9


def test_many_recommendations_are_the_single_ones(client: Http) -> None:
    names = [row["item"] for row in client.get("/v1/items").json()["rows"]]
    many = client.post("/v1/recommendations", json={"items": [*names, "unknown"]}).json()["items"]
    for name, row in zip(names, many, strict=False):
        assert row == {
            "item": name,
            "status": "ok",
            "decision": client.get(f"/v1/items/{name}/recommendation").json()["decision"],
        }
    assert many[-1] == {"item": "unknown", "status": "unknown_item", "decision": None}


def test_what_if_at_the_recommended_price_is_the_recommendation(client: Http) -> None:
    item = changing_item(client)
    decision = client.get(f"/v1/items/{item}/recommendation").json()["decision"]
    asked = {"item": item, "prices": [decision["recommended_price"], decision["current_price"]]}
    there, here = client.post("/v1/what-if", json=asked).json()["outcomes"]
    for metric in ("revenue", "profit", "units"):
        assert there[metric] == pytest.approx(decision[metric], rel=SAME)
        assert here[metric] == {"mean": 0.0, "lower": 0.0, "upper": 0.0, "probability": 0.9}
    assert there["probability_better"] == decision["probability_better"]
    assert there["forbidden_by"] == []


def test_what_if_names_the_limits_a_price_breaks(client: Http) -> None:
    item = changing_item(client)
    answer = client.post("/v1/what-if", json={"item": item, "prices": [500.0]}).json()
    assert answer["outcomes"][0]["forbidden_by"] == ["support"]
    assert answer["outcomes"][0]["support"] == "extrapolation"


def test_demand_falls_with_the_price(client: Http) -> None:
    item = changing_item(client)
    asked = {"questions": [{"item": item, "prices": [8.0, 10.0, 12.0]}, {"item": "unknown", "prices": [1.0]}]}
    known, unknown = client.post("/v1/demand", json=asked).json()["predictions"]
    means = [point["expected_units_per_period"]["mean"] for point in known["points"]]
    assert means == sorted(means, reverse=True)
    assert known["elasticity"]["upper"] < 0
    assert unknown == {"item": "unknown", "status": "unknown_item", "elasticity": None, "points": []}


def test_explanation_is_the_one_of_the_core(client: Http, shop: Shop) -> None:
    model = load_published(shop.settings.published_dir, shop.model)
    item = changing_item(client)
    answer = client.get(f"/v1/items/{item}/explanation").json()
    core = as_json(explain(model.posterior, model.decision(item), item))
    assert {name: part for name, part in answer["explanation"].items() if name != "elasticity"} == {
        name: part for name, part in core.items() if name != "elasticity"
    }
    parts = answer["explanation"]["elasticity"]["contributions"]
    mean = answer["explanation"]["elasticity"]["estimate"]["mean"]
    assert sum(part["contribution"] for part in parts) == pytest.approx(mean, rel=1e-6)  # float32 draws
    assert len(answer["prose"]["headline"].split()) <= 25


def test_curve_holds_todays_and_the_recommended_price(client: Http) -> None:
    item = changing_item(client)
    decision = client.get(f"/v1/items/{item}/recommendation").json()["decision"]
    prices = [point["price"] for point in client.get(f"/v1/items/{item}/curve").json()["points"]]
    assert {decision["current_price"], decision["recommended_price"]} <= set(prices)
    assert prices == sorted(prices)


def test_etag_spares_the_body_and_survives_a_restart(client: Http, shop: Shop) -> None:
    address = f"/v1/items/{changing_item(client)}/recommendation"
    first = client.get(address)
    again = client.get(address, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(address, headers={"If-None-Match": '"other"'}).content == first.content
    model = load_published(shop.settings.published_dir, shop.model)
    from server.answers import answer
    from server.finite import content_tag

    asked = canonical(ItemRequest(item=first.json()["decision"]["item"]))
    assert content_tag(answer(model, "recommendation", asked)) == first.headers["etag"]


def test_every_answer_is_in_the_audit_and_comes_again_to_the_byte(client: Http, shop: Shop) -> None:
    item = changing_item(client)
    answers = [
        client.get(f"/v1/items/{item}/recommendation"),
        client.post("/v1/what-if", json={"item": item, "prices": [9.0]}),
        client.get(f"/v1/items/{item}/explanation"),
    ]
    client.app.state.service.audit.flush()
    for answer in answers:
        entry = client.get(f"/v1/audit/{answer.headers['audit-id']}").json()
        assert entry["answer"].encode() == answer.content
        request = entry["request"].encode()
        assert reproduce(shop.settings.published_dir, entry["model_id"], entry["kind"], request) == answer.content


def test_items_come_in_pages(client: Http) -> None:
    first = client.get("/v1/items", params={"limit": 4}).json()
    rest = client.get("/v1/items", params={"limit": 4, "cursor": first["next"]}).json()
    assert [row["item"] for row in (*first["rows"], *rest["rows"])] == [f"item-{n:05d}" for n in range(6)]
    assert rest["next"] is None


def test_categories_have_elasticities_and_sales(client: Http) -> None:
    answer = client.get("/v1/categories").json()
    assert [row["name"] for row in answer["categories"]] == ["category-0", "category-1", "category-2"]
    row = answer["categories"][0]
    assert row["items"] == 2
    assert row["own_price_elasticity"]["lower"] < row["own_price_elasticity"]["upper"] < 0
    assert row["revenue_today_per_period"]["mean"] > 0


def test_a_damaged_file_is_not_loaded(shop: Shop, tmp_path: Path) -> None:
    import shutil

    from bayes_pricing.errors import StorageError

    shutil.copytree(shop.settings.published_dir / shop.model, tmp_path / shop.model)
    load_published(tmp_path, shop.model)
    target = tmp_path / shop.model / "recommendation.bin"
    content = bytearray(target.read_bytes())
    content[50] ^= 1
    target.write_bytes(content)
    with pytest.raises(StorageError, match="not what was written"):
        load_published(tmp_path, shop.model)
