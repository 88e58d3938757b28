"""The OpenAPI 3.1 document, written from the operations and from the types that check and make their bodies."""

from __future__ import annotations

import inspect
import re
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import msgspec

from server import answer_types
from server.operations import JSON, Operation
from server.problems import BY_STATUS, KINDS, MEDIA_TYPE, Problem
from server.routes import operations
from server.schemas import Strict
from server.store.keys import SCOPES

REFERENCE = "#/components/schemas/{name}"
ALWAYS = (400,)
"""Problems of every address."""
WITH_KEY = (401, 403, 429, 503)
WITH_BODY = (413, 415)
ANSWER_HEADERS = {"X-Request-Id": "Id of the request, to be quoted when asking for help"}
EXAMPLES = "examples.json"
INTRODUCTION = """Prices with credible intervals and the reasons for them.

From a sales file to an explained price, in a shell: `ADDRESS` is this server, `KEY` an API key, `sales.csv` a table
with a row per item and period; columns called `item`, `category`, `period`, `price`, `quantity` and `cost` are found by
themselves, others are named in the fit's `roles`.

```sh
{first_steps}```

`POST /v1/uploads` keeps the file; `POST /v1/fits` starts a job that fits, tests the model on periods it has not seen
and publishes it; `GET /v1/jobs/{{job}}/events` tells its progress up to its end, `GET /v1/jobs/{{job}}` its `result`.
`PUT /v1/aliases/champion` lets the `published` model go live where its evidence passes the gate: `If-Match` carries the
version that `GET /v1/aliases/champion` shows, in quotes. Within two seconds every process answers from it (before the
very first promotion, 503). Every number that is estimated comes with its interval and the model that gave it; changes
are against today's price, per period."""


def build_document() -> dict[str, Any]:
    """The whole document as plain values."""
    everything = operations()
    types = [Problem, *_bodies(everything), *_answers(everything)]
    _, components = msgspec.json.schema_components(types, ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in everything:
        shown = re.sub(r"\{(\w+):str\}", r"{\1}", operation.path)
        paths.setdefault(shown, {})[operation.method.lower()] = describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bayes_pricing",
            "version": version("bayes-pricing"),
            "description": INTRODUCTION.format(first_steps=first_steps()),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {name: tidy(schema) for name, schema in components.items()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": f"API key `bp_<id>_<secret>`. Scopes: {', '.join(SCOPES)}.",
                }
            },
        },
    }


def first_steps() -> str:
    """The shell's lines from a sales file to an explained price, as the documentation shows them."""
    return files("server.pages").joinpath("first_steps.sh").read_text()


@cache
def examples() -> dict[str, Any]:
    """An answer of every operation, as a made-up shop gave it; `tests/api/write_examples.py` writes them."""
    found: dict[str, Any] = msgspec.json.decode(files("server.pages").joinpath(EXAMPLES).read_bytes())
    return found


def describe(operation: Operation) -> dict[str, Any]:
    """One operation of the document."""
    text = inspect.getdoc(operation.handler) or ""
    needs = f" Scope: `{operation.scope}`." if operation.scope else " Needs no key."
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.path.strip("/").split("/")[1 if operation.path.startswith("/v1/") else 0]],
        "summary": re.split(r"[.;:]\s", text.rstrip("."))[0],
        "description": " ".join(text.split()) + needs,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if operation.scope is not None:
        described["security"] = [{"key": []}]
    if operation.body is not None:
        described["requestBody"] = _request_body(operation)
    return described


def tidy(schema: dict[str, Any]) -> dict[str, Any]:
    """A component's schema with the docstring's first sentence as its description, and no inputs left open."""
    if "description" in schema:
        schema["description"] = schema["description"].split("\n\n")[0].replace("\n", " ")
    return schema


def _bodies(everything: tuple[Operation, ...]) -> list[Any]:
    return list(dict.fromkeys(operation.body for operation in everything if operation.body not in (None, bytes)))


def _answers(everything: tuple[Operation, ...]) -> list[Any]:
    names = dict.fromkeys(operation.answer for operation in everything if operation.answer)
    return [getattr(answer_types, name) for name in names]


def _reference(kind: Any) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(name=kind if isinstance(kind, str) else kind.__name__)}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "example": PATH_EXAMPLES.get(name, "tea"),
        }
        for name in re.findall(r"\{(\w+):str\}", operation.path)
    ]
    found += _query_parameters(operation.query)
    if operation.if_match:
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "description": "ETag of the version you saw",
                "schema": {"type": "string", "pattern": '^"[0-9]{1,12}"$'},
                "example": '"1"',
            }
        )
    if operation.method in ("POST", "PUT"):
        found.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key with the same body is done once and answered again as the first time",
                "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
            }
        )
    return found


def _query_parameters(query: type[Strict]) -> list[dict[str, Any]]:
    (_,), components = msgspec.json.schema_components([query], ref_template=REFERENCE)
    schema = components[query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema["required"], "schema": _without_null(part)}
        for name, part in schema["properties"].items()
    ]


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """A parameter that may be left out: absent, not null."""
    choices = [choice for choice in part.get("anyOf", []) if choice != {"type": "null"}]
    if choices:
        return dict(choices[0])
    kept = {name: value for name, value in part.items() if not (name == "default" and value is None)}
    if "enum" in kept:
        kept["enum"] = [value for value in kept["enum"] if value is not None]
    return kept


def _request_body(operation: Operation) -> dict[str, Any]:
    if operation.body is bytes:
        binary: dict[str, dict[str, Any]] = {
            media: {"schema": {"type": "string", "format": "binary", "minLength": 1}} for media in operation.media
        }
        binary["text/csv"]["example"] = "item,category,period,price,quantity\ntea,drinks,2026-01-05,9.5,120\n"
        return {"required": True, "content": binary}
    content: dict[str, Any] = {"schema": _reference(operation.body)}
    if operation.example is not None:
        content["example"] = dict(operation.example)
    return {"required": True, "content": {JSON: content}}


def _responses(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {operation.answer_media: {"schema": {}}}
    if operation.answer:
        content = {JSON: {"schema": _reference(operation.answer)}}
    if operation.name in examples():
        content[JSON]["example"] = examples()[operation.name]
    names = {**operation.headers, **ANSWER_HEADERS}
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()}
    good = {"description": "As asked", "headers": headers, "content": content}
    responses: dict[str, Any] = {str(operation.status): good}
    if operation.method == "GET":
        responses["304"] = {"description": "You have it already (If-None-Match)"}
    statuses = {*ALWAYS, *operation.problems}
    statuses |= set(WITH_KEY) if operation.scope else set()
    statuses |= set(WITH_BODY) if operation.body is not None else set()
    statuses |= {409, 422} if operation.method in ("POST", "PUT") else set()
    statuses |= {422} if "cursor" in operation.query.__struct_fields__ else set()
    statuses |= {428} if operation.if_match else set()
    for status in sorted(statuses):
        responses[str(status)] = _problem_response(status)
    if operation.name == "ready":
        responses["503"] = {"description": "Not ready", "content": {JSON: {"schema": _reference("Readiness")}}}
    return responses


def _problem_response(status: int) -> dict[str, Any]:
    kind = KINDS[BY_STATUS[status]]
    example = {
        "type": kind.type,
        "title": kind.title,
        "status": status,
        "detail": "What was found, where, and what to do.",
        "instance": "5f0c3d1a2b4e6f70",
    }
    return {
        "description": kind.title,
        "content": {MEDIA_TYPE: {"schema": _reference(Problem), "example": example}},
    }


PATH_EXAMPLES = {
    "item": "tea",
    "job": "0" * 32,
    "model": "0" * 32,
    "entry": "0" * 64,
    "name": "not-found",
}
"""What a path's parts look like."""
