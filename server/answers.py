"""Every answer about prices as a pure function of a published model and a request: same two, same bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from bayes_pricing.errors import SpecError
from server.readers import readable
from server.schemas import BulkRequest, DemandRequest, Strict, WhatIfRequest
from server.store.failures import NotFound
from server.store.published import PublishedModel

PROBABILITY = 0.9


class ItemRequest(Strict, frozen=True, kw_only=True):
    """One item is asked about."""

    item: str


def answer(model: PublishedModel, kind: str, request: bytes) -> bytes:
    """Answer a request, given as the canonical JSON that :func:`canonical` makes.

    Raises
    ------
    SpecError
        If there is no such kind of answer, or the request makes no sense.
    NotFound
        If the model does not know an item.
    """
    found = KINDS.get(kind)
    if found is None:
        raise SpecError(f"There is no kind of answer {kind!r}; choose one of {', '.join(KINDS)}.")
    schema, make = found
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is refused where it is encoded
        return make(model, msgspec.json.decode(request, type=readable(schema)))


def canonical(request: Strict) -> bytes:
    """A request as the bytes the audit keeps: fields in their order, nothing in between.

    Examples
    --------
    >>> canonical(ItemRequest(item="tea"))
    b'{"item":"tea"}'
    """
    return msgspec.json.encode(request)


def envelope(model: PublishedModel) -> dict[str, Any]:
    """What stands around every answer: model, fit, objective, horizon, days, and the units of its numbers."""
    decision = model.about["decision"]
    money = decision["portfolio"]["currency"] or "currency"
    return {
        "model": model.id,
        "fit": model.about["fit"],
        "objective": decision["portfolio"]["objective_name"],
        "currency": decision["portfolio"]["currency"],
        "horizon_periods": decision["horizon_periods"],
        "data_as_of": decision["data_as_of"],
        "stale_on": decision["stale_on"],
        "measures": {"price": f"{money} per unit", "money": f"{money} per period", "units": "units per period"},
    }


def envelope_start(model: PublishedModel) -> bytes:
    """The envelope's JSON with its last brace left off."""
    return msgspec.json.encode(envelope(model))[:-1]


def recommendation(model: PublishedModel, request: ItemRequest) -> bytes:
    """The recommendation of one item, computed when the model was published."""
    place = require_item(model, request.item)
    return b"%b,%b}" % (envelope_start(model), decision_part(model, place))


def recommendations(model: PublishedModel, request: BulkRequest) -> bytes:
    """Recommendations of many items, each with its own status."""
    parts = [_bulk_row(model, item) for item in request.items]
    return b'%b,"items":[%b]}' % (envelope_start(model), b",".join(parts))


def decision_part(model: PublishedModel, place: int) -> bytes:
    """``"decision": {...}`` of the item at a place."""
    return b'"decision":' + model.recommendations[place]


def curve(model: PublishedModel, request: ItemRequest) -> bytes:
    """The objective per period against the price, with its band, over the observed prices."""
    place = require_item(model, request.item)
    name = msgspec.json.encode(request.item)
    return b'%b,"item":%b,"points":%b}' % (envelope_start(model), name, model.curves[place])


def explanation(model: PublishedModel, request: ItemRequest) -> bytes:
    """Why this price: the numbers, and prose rendered from them."""
    from dataclasses import replace

    from bayes_pricing.pricing.evidence import ElasticityEvidence
    from bayes_pricing.pricing.explanation import explain
    from bayes_pricing.pricing.wording import word

    place = require_item(model, request.item)
    explained = explain(model.posterior, model.decision(request.item), request.item)
    explained = replace(
        explained, elasticity=msgspec.json.decode(model.evidence[place], type=readable(ElasticityEvidence))
    )
    prose = {length: word(explained, length) for length in ("headline", "paragraph", "full")}
    return _encode(model, item=request.item, explanation=explained, prose=prose)


def what_if(model: PublishedModel, request: WhatIfRequest) -> bytes:
    """Prices of one item judged on the draws its recommendation was made with: changes against today's price."""
    from dataclasses import replace

    from bayes_pricing.pricing.constraints import sort_limits
    from bayes_pricing.pricing.outlook import Outlook, build_block, item_facts
    from server.policies import policy_flags

    require_item(model, request.item)
    money, limits = policy_flags(model.about["policy"])
    economics = money.economics()
    if request.unit_cost is not None:
        economics = replace(economics, cost=request.unit_cost)
    objective = model.about["decision"]["portfolio"]["objective_name"]
    table, draws = model.demand(request.item)
    block = build_block(item_facts(table, economics, objective), draws)
    outlook = Outlook(block=block, prices=np.array([request.prices]))
    rules = sort_limits(limits.limits()).item
    allowed = {limit.name: limit.allows(outlook)[0] for limit in rules}
    outcomes = _outcomes(block, economics, objective, table, request.prices)
    for column, outcome in enumerate(outcomes):
        outcome["forbidden_by"] = [name for name, fine in allowed.items() if not fine[column]]
    return _encode(model, item=request.item, current_price=float(block.facts.current_price[0]), outcomes=outcomes)


def demand(model: PublishedModel, request: DemandRequest) -> bytes:
    """Expected units per period at chosen prices, and the elasticity at today's price."""
    from bayes_pricing.pricing.decision import estimate, estimates

    predictions: list[dict[str, Any]] = []
    for question in request.questions:
        place = model.place.get(question.item)
        if place is None:
            predictions.append({"item": question.item, "status": "unknown_item", "elasticity": None, "points": []})
            continue
        _, draws = model.demand(question.item)
        units = np.stack([draws.units(np.array([price]))[0] for price in question.prices])
        points = [
            {"price": price, "expected_units_per_period": summary}
            for price, summary in zip(question.prices, estimates(units), strict=True)
        ]
        elasticity = estimate(draws.elasticity[0])
        predictions.append({"item": question.item, "status": "ok", "elasticity": elasticity, "points": points})
    return _encode(model, predictions=predictions)


def require_item(model: PublishedModel, item: str) -> int:
    """Where the item stands in the model.

    Raises
    ------
    NotFound
        If the model does not know it.
    """
    place = model.place.get(item)
    if place is None:
        known = ", ".join(repr(name) for name in model.names[:3])
        raise NotFound(f"The model has no item {item!r}; it knows {len(model.names)}: {known} ...; see GET /v1/items.")
    return place


Make = Callable[[PublishedModel, Any], bytes]
KINDS: dict[str, tuple[type[Strict], Make]] = {
    "recommendation": (ItemRequest, recommendation),
    "recommendations": (BulkRequest, recommendations),
    "curve": (ItemRequest, curve),
    "explanation": (ItemRequest, explanation),
    "what-if": (WhatIfRequest, what_if),
    "demand": (DemandRequest, demand),
}
"""Kinds of answers, with the schema of their requests."""


def _bulk_row(model: PublishedModel, item: str) -> bytes:
    name, place = msgspec.json.encode(item), model.place.get(item)
    if place is None:
        return b'{"item":%b,"status":"unknown_item","decision":null}' % name
    return b'{"item":%b,"status":"ok",%b}' % (name, decision_part(model, place))


def _outcomes(block: Any, economics: Any, objective: str, table: Any, asked: list[float]) -> list[dict[str, Any]]:
    """What each price of one item would bring: the item stands once for every price, so that one pass does them all."""
    from bayes_pricing.pricing.decision import NO_CHANGE, estimates
    from bayes_pricing.pricing.profit import OBJECTIVES
    from bayes_pricing.pricing.support import support_levels

    prices, same = np.array(asked), np.zeros(len(asked), dtype=np.intp)
    many = block.part(same)
    growth = many.growth(prices)
    summaries = zip(
        asked, support_levels(many.facts, prices), estimates((1.0 + growth) * many.units_today), strict=True
    )
    found: list[dict[str, Any]] = [
        {"price": price, "support": support, "units_per_period": units} for price, support, units in summaries
    ]
    moved = growth.any(axis=1).tolist()
    for metric in OBJECTIVES:
        value = economics.unit_value(metric, table).part(same)
        known = not np.isnan(value.charge).any()
        change = many.change(prices, value, growth)
        changes = estimates(change) if known else [None] * len(asked)
        for outcome, moves, summary in zip(found, moved, changes, strict=True):
            outcome[metric] = summary if moves or not known else NO_CHANGE
        if metric == objective:
            for outcome, better in zip(found, (change > 0).mean(axis=1).tolist(), strict=True):
                outcome["probability_better"] = better if known else None
    return found


def _encode(model: PublishedModel, **parts: object) -> bytes:
    from server.finite import encode_finite

    try:
        return encode_finite({**envelope(model), **parts})
    except ValueError as error:
        raise SpecError(
            f"An answer is beyond every number ({error}): a price lies too far from today's; ask for one nearer to it."
        ) from error
