"""Outcomes: the price that was applied and what was sold, held against what the model claimed."""

from __future__ import annotations

from typing import Any

import msgspec

from server.answers import ItemRequest, answer, canonical, require_item
from server.claims import claim_units
from server.cursors import cursor_of, read_number
from server.operations import Ask, Operation, Reply, in_thread, page, reply
from server.schemas import NoQuery, OutcomeRequest, OutcomesQuery
from server.store.audit import answer_id
from server.store.outcomes import Claim, list_outcomes, record_outcome, track_record
from server.store.published import PublishedModel


async def report_outcome(ask: Ask[NoQuery, OutcomeRequest]) -> Reply:
    """Say what price was applied and what was sold; the answer holds it against the model's own claim."""
    served = await ask.service.served(ask.body.model)
    require_item(served.model, ask.body.item)
    return reply(await in_thread(keep_outcome, ask, served.model), status=201)


async def list_reported(ask: Ask[OutcomesQuery, None]) -> Reply:
    """Outcomes in the order they were reported."""
    query, after = ask.query, read_number(ask.query.cursor)
    found = await in_thread(
        lambda: list_outcomes(ask.service.engine, model_id=query.model, after=after, limit=query.limit + 1)
    )
    more = len(found) > query.limit
    return page(list(found[: query.limit]), cursor_of(found[query.limit - 1].sequence) if more else None)


async def read_track_record(ask: Ask[NoQuery, None]) -> Reply:
    """How a model's claims have held: coverage of its intervals, realised over claimed, and whether they part."""
    served = await ask.service.served(ask.path["model"])
    return reply(await in_thread(track_record, ask.service.engine, served.model.id))


def keep_outcome(ask: Ask[NoQuery, OutcomeRequest], model: PublishedModel) -> dict[str, Any]:
    """Record an outcome beside the claim of the model for the applied price."""
    body, probability = ask.body, 0.9
    mean, lower, upper = claim_units(model, body.item, body.applied_price, body.periods, probability)
    recommendation = body.recommendation or recommendation_id(model, body.item)
    outcome = record_outcome(
        ask.service.engine,
        recommendation_id=recommendation,
        model_id=model.id,
        item=body.item,
        applied_price=body.applied_price,
        quantity=body.quantity,
        periods=body.periods,
        ended_on=body.ended_on,
        claim=Claim(mean=mean, lower=lower, upper=upper, probability=probability),
        by=ask.principal.key_id,
        operation=ask.operation,
    )
    plain: dict[str, Any] = msgspec.to_builtins(outcome)
    return plain


def recommendation_id(model: PublishedModel, item: str) -> str:
    """The audit's id of a model's recommendation of an item, whether it was served yet or not."""
    asked = canonical(ItemRequest(item=item))
    return answer_id("recommendation", model.id, asked, answer(model, "recommendation", asked))


OPERATIONS = (
    Operation(
        method="POST", path="/v1/outcomes", handler=report_outcome, body=OutcomeRequest, answer="Outcome",
        scope="outcomes:write", status=201, problems=(404, 409, 422),
        example={"item": "tea", "applied_price": 9.5, "quantity": 120, "periods": 1, "ended_on": "2026-01-05"},
    ),
    Operation(
        method="GET", path="/v1/outcomes", handler=list_reported, query=OutcomesQuery, answer="OutcomesPage",
        scope="models:read",
    ),
    Operation(
        method="GET", path="/v1/models/{model:str}/track-record", handler=read_track_record, answer="TrackRecord",
        scope="models:read", problems=(404,),
    ),
)  # fmt: skip
