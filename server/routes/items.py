"""Items of a published model, and what is known of each."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec

from server.answers import ItemRequest, canonical
from server.cursors import cursor_of, read_cursor
from server.metrics import count_recommendation
from server.operations import Ask, Operation, Reply, page
from server.readers import readable
from server.schemas import ItemsQuery, ModelQuery
from server.store.failures import NotFound

if TYPE_CHECKING:
    from server.live import Served
    from server.service import Service


async def list_items(ask: Ask[ItemsQuery, None]) -> Reply:
    """Items the model knows, by name, with what it says to do with each price."""
    served = await ask.service.served(ask.query.model)
    names, after = served.model.names, read_cursor(ask.query.cursor)
    start = 0 if after is None else bisect_right(names, after)
    shown = names[start : start + ask.query.limit]
    rows = [summary(served.model.recommendations[start + place]) for place in range(len(shown))]
    return page(rows, cursor_of(shown[-1]) if start + len(shown) < len(names) else None, model=served.model.id)


async def read_recommendation(ask: Ask[ModelQuery, None]) -> Reply:
    """The price to charge for an item, what it changes with intervals, how sure that is, and what stopped it."""
    served = await ask.service.served(ask.query.model)
    reply = ready_reply(ask.service, served, ask.path["item"])
    if reply is None:
        raise NotFound(f"The model has no item {ask.path['item']!r}; see GET /v1/items.")
    return reply


def ready_reply(service: Service, served: Served, item: str) -> Reply | None:
    """A recommendation that lies ready, told to the audit and counted; None where the model has no such item."""
    found = served.recommendation(item)
    if found is None:
        return None
    ready, content = found
    if ready.audit_id is None:
        asked = canonical(ItemRequest(item=item))
        ready.audit_id = service.audit.served("recommendation", served.model.id, asked, content)
    else:
        service.audit.again(ready.audit_id)
    count_recommendation(ready.action)
    return Reply(content=content, headers={"etag": ready.tag, "audit-id": ready.audit_id})


async def read_curve(ask: Ask[ModelQuery, None]) -> Reply:
    """What an item would bring at every price in reach, with its 90 % band."""
    content, headers = await ask.service.answer("curve", ItemRequest(item=ask.path["item"]), ask.query.model)
    return Reply(content=content, headers=headers)


async def explain_item(ask: Ask[ModelQuery, None]) -> Reply:
    """Why this price: contrasts, margin and volume, evidence, prior, limits, flip point, worth of a test; and prose."""
    content, headers = await ask.service.explanation(ask.path["item"], ask.query.model)
    return Reply(content=content, headers=headers)


class ItemSummary(msgspec.Struct, frozen=True):
    """What a list of items shows of each."""

    item: str
    action: str
    current_price: float
    recommended_price: float | None
    probability_better: float | None


def summary(decision: bytes) -> ItemSummary:
    """The few fields of a decision that a list shows."""
    return msgspec.json.decode(decision, type=readable(ItemSummary))


AUDITED = {"Audit-Id": "Id under which the audit keeps this answer"}
OPERATIONS = (
    Operation(
        method="GET", path="/v1/items", handler=list_items, query=ItemsQuery, answer="ItemsPage", scope="prices:read",
        problems=(404,),
    ),
    Operation(
        method="GET", path="/v1/items/{item:str}/recommendation", handler=read_recommendation, query=ModelQuery,
        answer="RecommendationAnswer", scope="prices:read", problems=(404,), headers=AUDITED,
    ),
    Operation(
        method="GET", path="/v1/items/{item:str}/curve", handler=read_curve, query=ModelQuery, answer="CurveAnswer",
        scope="prices:read", problems=(404,), headers=AUDITED,
    ),
    Operation(
        method="GET", path="/v1/items/{item:str}/explanation", handler=explain_item, query=ModelQuery,
        answer="ExplanationAnswer", scope="prices:read", problems=(404,), headers=AUDITED,
    ),
)  # fmt: skip
