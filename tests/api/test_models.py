"""Models: which is live, how it changes, and that nobody sees a mixture; and the jobs that make them."""

from __future__ import annotations

from pathlib import Path

from litestar import Litestar
from litestar.testing import TestClient

from server.app import create_app
from server.store.database import open_database
from server.store.models import record_model
from server.store.publishing import publish_posterior
from tests.api.running import NO_EVIDENCE, Shop, market, open_shop

Http = TestClient[Litestar]
SALES = b"item,category,period,price,quantity\ntea,drinks,2026-01-05,9.5,120\n"


def add_model(shop: Shop) -> str:
    posterior = market(3, 100, seed=2)
    model = publish_posterior(posterior, shop.settings.published_dir, policy={"max_change": 0.1})
    engine = open_database(shop.settings.database_url)
    record_model(engine, model, fit_id=posterior.id, by="test", evidence=NO_EVIDENCE, about={})
    engine.dispose()
    return model


def test_a_change_of_the_champion_wants_the_version_that_was_seen(tmp_path: Path) -> None:
    shop = open_shop(tmp_path, market(3, 100))
    other = add_model(shop)
    forced = {"model": other, "reason": "trial", "override_gate": True}
    with TestClient(create_app(shop.settings)) as client:
        client.headers.update(shop.key)
        seen = client.get("/v1/aliases/champion")
        assert (seen.headers["etag"], seen.json()["current"]["model_id"]) == ('"1"', shop.model)
        assert client.put("/v1/aliases/champion", json=forced).status_code == 428
        assert client.put("/v1/aliases/champion", json=forced, headers={"If-Match": '"7"'}).status_code == 412
        gated = client.put("/v1/aliases/champion", json={"model": other}, headers={"If-Match": '"1"'})
        assert (gated.status_code, gated.json()["type"]) == (409, "/problems/gate-refused")
        assert {finding["severity"] for finding in gated.json()["findings"]} == {"error"}
        silent = client.put(
            "/v1/aliases/champion", json={"model": other, "override_gate": True}, headers={"If-Match": '"1"'}
        )
        assert silent.status_code == 422
        done = client.put("/v1/aliases/champion", json=forced, headers={"If-Match": seen.headers["etag"]})
        assert (done.status_code, done.headers["etag"]) == (200, '"2"')
        assert client.get("/v1/items").json()["model"] == other
        assert client.get("/v1/items", params={"model": shop.model}).json()["model"] == shop.model
        lost = client.put("/v1/aliases/champion", json=forced, headers={"If-Match": seen.headers["etag"]})
        assert (lost.status_code, lost.json()["type"]) == (412, "/problems/precondition-failed")
        back = client.post("/v1/aliases/champion/rollback", json={"reason": "worse"}, headers={"If-Match": '"2"'})
        assert back.json()["model_id"] == shop.model
        assert client.get("/health/ready").json()["model"] == shop.model


def test_a_model_tells_what_it_is(client: Http, shop: Shop) -> None:
    answer = client.get(f"/v1/models/{shop.model}").json()
    assert answer["verdict"]["passed"] is False
    assert answer["about"]["posterior"]["spec"]["likelihood"] == "lognormal"
    assert answer["about"]["items"] == 6
    population = answer["about"]["elasticities"][0]
    assert population["lower"] < population["mean"] < population["upper"]
    listed = client.get("/v1/models", params={"limit": 1}).json()
    assert [row["id"] for row in listed["rows"]] == [shop.model]


def test_elasticities_come_by_level(client: Http) -> None:
    items = client.get("/v1/elasticities", params={"limit": 4}).json()
    assert [row["name"] for row in items["rows"]] == [f"item-{n:05d}" for n in range(4)]
    rest = client.get("/v1/elasticities", params={"cursor": items["next"]}).json()
    assert [row["name"] for row in rest["rows"]] == ["item-00004", "item-00005"]
    assert client.get("/v1/elasticities", params={"level": "category"}).json()["rows"][0]["level"] == "category"
    assert client.get("/v1/elasticities", params={"level": "shelf"}).status_code == 404


def test_a_shop_without_a_champion_is_not_ready(tmp_path: Path) -> None:
    from server.settings import Settings

    settings = Settings(data_dir=tmp_path, runtime_dir=tmp_path / "run", keys_required=False)
    with TestClient(create_app(settings)) as client:
        answer = client.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
        refused = client.get("/v1/items")
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/unavailable")
        assert client.get("/health/live").status_code == 200


def test_from_a_sales_file_to_a_job(client: Http, shop: Shop) -> None:
    kept = client.post("/v1/uploads", content=SALES, headers={"Content-Type": "text/csv"})
    assert kept.status_code == 201
    sales = kept.json()["sales"]
    assert (shop.settings.uploads_dir / f"{kept.json()['id']}.csv").read_bytes() == SALES
    again = client.post("/v1/uploads", content=SALES, headers={"Content-Type": "text/csv"})
    assert again.json() == kept.json()
    mistaken = client.post("/v1/uploads", content=SALES, headers={"Content-Type": "application/vnd.apache.parquet"})
    assert mistaken.status_code == 422
    started = client.post("/v1/fits", json={"sales": sales, "absent": "missing", "seed": 3})
    assert (started.status_code, started.json()["created"]) == (202, True)
    address = started.headers["location"]
    assert client.get(address).json()["state"] == "queued"
    assert client.post("/v1/fits", json={"sales": sales, "absent": "missing", "seed": 3}).json()["created"] is False
    assert client.post(f"{address}/cancel").status_code == 202
    events = client.get(f"{address}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.text.count("event: progress") == 2
    assert events.text.rstrip().split("\n")[-2] == "event: finished"
    later = client.get(f"{address}/events", headers={"Last-Event-ID": "1"})
    assert later.text.count("event: progress") == 1
    assert client.post(f"{address}/cancel").status_code == 409
    assert client.post("/v1/fits", json={"sales": "upload:" + "0" * 64}).status_code == 404


def test_outcomes_are_held_against_the_claim(client: Http, shop: Shop) -> None:
    asked = {"item": "item-00002", "applied_price": 9.5, "quantity": 0, "periods": 2, "ended_on": "2026-01-12"}
    kept = client.post("/v1/outcomes", json=asked)
    assert kept.status_code == 201
    claim = kept.json()["claim"]
    assert 0 < claim["lower"] < claim["mean"] < claim["upper"]
    address = client.get("/v1/items/item-00002/recommendation").headers["audit-id"]
    assert kept.json()["recommendation_id"] == address
    record = client.get(f"/v1/models/{shop.model}/track-record").json()
    assert record["outcomes"] >= 1
    assert client.get("/v1/outcomes").json()["rows"][-1]["item"] == "item-00002"


def test_experiments(client: Http) -> None:
    belief = {"prior_mean": 0.68, "prior_sd": 0.03, "noise_sd": 0.46648, "population": 100_000}
    plan = client.post("/v1/experiments/plan", json={"belief": belief}).json()
    assert [round(size) for size in plan["test_and_roll"]["n_per_arm"]] == [2284, 2284]  # Feit & Berman, table 1
    of_item = client.post("/v1/experiments/plan", json={"item": "item-00000", "horizon_periods": 26}).json()
    assert of_item["arms"] == ["today", "test"]
    looks = [{"effect": 2.0, "standard_error": 0.5, "units": 1000}]
    seen = client.post("/v1/experiments/monitor", json={"planned_units": 1000, "looks": looks}).json()
    assert [round(seen["looks"][0][end], 3) for end in ("lower", "upper")] == [0.482, 3.518]
    assert seen["first_look_beyond_zero"] == 0
    rows = {"arm": ["A", "B"] * 100, "profit": [float(n % 7) + (n % 2) for n in range(200)]}
    read = client.post(
        "/v1/experiments/read-out",
        json={"columns": rows, "arm": "arm", "control_arm": "A", "outcomes": ["profit"]},
    ).json()
    assert {arm["name"]: arm["n"] for arm in read["arms"]} == {"A": 100, "B": 100}
    assert read["effects"][0]["lower"] < read["effects"][0]["mean"] < read["effects"][0]["upper"]
    edited = {"columns": rows, "arm": "arm", "control_arm": "A", "outcomes": ["profit"], "plan": '{"hash": "0"}'}
    assert client.post("/v1/experiments/read-out", json=edited).status_code == 422
    sums = {"arm": ["A", "B"], "n": [5000, 5300], "profit": [5000.0, 5400.0], "squares": [9000.0, 9700.0]}
    ask = {"columns": sums, "arm": "arm", "control_arm": "A", "outcomes": ["profit"], "count": "n"}
    uneven = client.post("/v1/experiments/read-out", json={**ask, "squares": ["squares"], "shares": {"A": 1, "B": 1}})
    assert (uneven.json()["status"], uneven.json()["sample_ratio"]["passed"]) == ("refused", False)
    ragged = {"columns": {"arm": ["A", "B"], "p": [1, 2, 3]}, "arm": "arm", "control_arm": "A", "outcomes": ["p"]}
    assert client.post("/v1/experiments/read-out", json=ragged).status_code == 422
