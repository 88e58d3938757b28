"""Ready recommendations leave the guard at once, and are those of the handler."""

from __future__ import annotations

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from tests.api.running import Shop
from tests.api.test_prices import changing_item

OWN = ("x-request-id", "date")


@pytest.mark.parametrize("known", [False, True])
def test_both_ways_give_the_same_answer(client: TestClient[Litestar], shop: Shop, known: bool) -> None:
    """A query leads to the handler: naming the champion asks the same."""
    address = f"/v1/items/{changing_item(client)}/recommendation"
    headers = {"if-none-match": client.get(address).headers["etag"]} if known else {}
    short, long = (
        client.get(address, headers=headers),
        client.get(address, headers=headers, params={"model": shop.model}),
    )
    assert short.status_code == long.status_code == (304 if known else 200)
    assert short.content == long.content
    told = [{name: value for name, value in one.headers.items() if name not in OWN} for one in (short, long)]
    assert told[0] == told[1]


def test_an_unknown_item_is_the_handlers_problem(client: TestClient[Litestar]) -> None:
    answer = client.get("/v1/items/nothing/recommendation")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
