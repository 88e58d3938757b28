"""Writes the answers that the OpenAPI document shows: those of a made-up shop of two items.

python -m tests.api.write_examples
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from litestar.testing import TestClient

from server.app import create_app
from server.openapi import EXAMPLES, PATH_EXAMPLES
from server.rehearsal import made_up_posterior
from server.routes import operations
from server.store.database import open_database
from server.store.models import record_model
from server.store.publishing import publish_posterior
from tests.api.running import NO_EVIDENCE, Shop, open_shop

ITEM = "item-00000"
MOST_ROWS = 3
SALES = b"item,category,period,price,quantity\ntea,drinks,2026-01-05,9.5,120\n"


def main() -> None:
    """Ask every operation once and keep what it says."""
    with tempfile.TemporaryDirectory() as folder:
        posterior = made_up_posterior(2, seed=1)
        shop = open_shop(Path(folder), posterior)
        (shop.settings.models_dir / ("0" * 64)).mkdir(parents=True)
        other = publish_posterior(posterior, shop.settings.published_dir, policy={"max_change": 0.1})
        engine = open_database(shop.settings.database_url)
        record_model(engine, other, fit_id=posterior.id, by="test", evidence=NO_EVIDENCE, about={})
        engine.dispose()
        with TestClient(create_app(shop.settings)) as client:
            client.headers.update(shop.key)
            found = _ask_all(client, shop, other)
    content = msgspec.json.format(msgspec.json.encode(dict(sorted(found.items()))), indent=1)
    Path("server/pages", EXAMPLES).write_bytes(content + b"\n")


def _ask_all(client: Any, shop: Shop, other: str) -> dict[str, Any]:
    """Answers by operation, in an order in which each finds what it needs."""
    parts = {**PATH_EXAMPLES, "item": ITEM, "model": shop.model}
    bodies: dict[str, Any] = {
        "promote_model": {"model": other, "override_gate": True, "reason": "made up"},
        "recommend_many": {"items": [ITEM, "coffee"]},
        "try_prices": {"item": ITEM, "prices": [9.0]},
        "predict_demand": {"questions": [{"item": ITEM, "prices": [9.0]}]},
        "report_outcome": {"item": ITEM, "applied_price": 9.0, "quantity": 20, "ended_on": "2026-01-05"},
    }
    found: dict[str, Any] = {}
    for operation in sorted(operations(), key=lambda one: (one.name.startswith(("list_", "read_")), one.name)):
        if not operation.answer or operation.answer == "OpenApi":
            continue
        path = operation.path
        for name, value in parts.items():
            path = path.replace(f"{{{name}:str}}", value)
        headers = {"If-Match": client.get("/v1/aliases/champion").headers["etag"]}
        sent: dict[str, Any] = {"headers": headers}
        if operation.body is bytes:
            sent = {"content": SALES, "headers": {"Content-Type": "text/csv"}}
        elif operation.body is not None:
            sent["json"] = bodies.get(operation.name, dict(operation.example or {}))
        if operation.name == "start_fit":
            sent["json"] = {"sales": client.post("/v1/uploads", content=SALES, headers=CSV).json()["sales"]}
        answer = client.request(operation.method, path, **sent)
        if answer.status_code != operation.status:
            raise RuntimeError(f"{operation.name} answered {answer.status_code}: {answer.text}")
        found[operation.name] = _short(answer.json())
        if operation.name == "start_fit":
            parts["job"] = answer.json()["job"]["id"]
        if operation.name == "try_prices":
            client.app.state.service.audit.flush()
            parts["entry"] = answer.headers["audit-id"]
    return found


CSV = {"Content-Type": "text/csv"}


def _short(value: Any) -> Any:
    """The same with the first few of every list."""
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    return [_short(part) for part in value[:MOST_ROWS]] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
