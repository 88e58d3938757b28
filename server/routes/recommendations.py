"""Recommendations of many items in one call."""

from __future__ import annotations

from server.metrics import count_recommendation
from server.operations import Ask, Operation, Reply
from server.schemas import BulkRequest, ModelQuery


async def recommend_many(ask: Ask[ModelQuery, BulkRequest]) -> Reply:
    """Recommendations of up to 1,000 items, each with its own status; those of single items, byte for byte."""
    content, headers = await ask.service.answer("recommendations", ask.body, ask.query.model)
    count_recommendation("bulk", len(ask.body.items))
    return Reply(content=content, headers=headers)


OPERATIONS = (
    Operation(
        method="POST", path="/v1/recommendations", handler=recommend_many, query=ModelQuery, body=BulkRequest,
        answer="BulkAnswer", scope="prices:read", problems=(404,),
        headers={"Audit-Id": "Id under which the audit keeps this answer"},
        example={"items": ["tea", "coffee"]},
    ),
)  # fmt: skip
