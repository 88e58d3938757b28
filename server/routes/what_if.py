"""Live questions: what other prices would bring, and how much would be sold."""

from __future__ import annotations

from server.operations import Ask, Operation, Reply
from server.schemas import DemandRequest, ModelQuery, WhatIfRequest


async def try_prices(ask: Ask[ModelQuery, WhatIfRequest]) -> Reply:
    """What an item's own or other prices would change against today, on the draws its recommendation rests on."""
    content, headers = await ask.service.answer("what-if", ask.body, ask.query.model)
    return Reply(content=content, headers=headers)


async def predict_demand(ask: Ask[ModelQuery, DemandRequest]) -> Reply:
    """Expected units per period of items at many prices, with 90 % intervals."""
    content, headers = await ask.service.answer("demand", ask.body, ask.query.model)
    return Reply(content=content, headers=headers)


AUDITED = {"Audit-Id": "Id under which the audit keeps this answer"}
OPERATIONS = (
    Operation(
        method="POST", path="/v1/what-if", handler=try_prices, query=ModelQuery, body=WhatIfRequest,
        answer="WhatIfAnswer", scope="prices:whatif", problems=(404, 422), headers=AUDITED,
        example={"item": "tea", "prices": [9.5, 10.5]},
    ),
    Operation(
        method="POST", path="/v1/demand", handler=predict_demand, query=ModelQuery, body=DemandRequest,
        answer="DemandAnswer", scope="prices:whatif", problems=(404, 422), headers=AUDITED,
        example={"questions": [{"item": "tea", "prices": [9.0, 10.0, 11.0]}]},
    ),
)  # fmt: skip
