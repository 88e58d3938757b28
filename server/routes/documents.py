"""The schema, its page, and the pages that explain the types of problems; all from files of this package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from server.operations import Ask, Operation, Reply, in_thread, reply
from server.problems import KINDS
from server.schemas import NoQuery
from server.store.failures import NotFound

FILES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "start.js": "text/javascript",
}


async def schema_page(ask: Ask[NoQuery, None]) -> Reply:
    """The documentation as a page, with nothing from any other host."""
    return Reply(content=packaged("index.html"), media_type="text/html")


async def schema_document(ask: Ask[NoQuery, None]) -> Reply:
    """This document: OpenAPI 3.1."""
    return Reply(content=await in_thread(document))


async def schema_file(ask: Ask[NoQuery, None]) -> Reply:
    """A file of the documentation's page."""
    name = ask.path["name"]
    if name not in FILES:
        raise NotFound(f"The documentation has no file {name!r}; it has {', '.join(FILES)}.")
    return Reply(content=packaged(name), media_type=FILES[name])


async def explain_problem(ask: Ask[NoQuery, None]) -> Reply:
    """What a type of problem means."""
    kind = KINDS.get(ask.path["name"])
    if kind is None:
        raise NotFound(f"There is no type of problem {ask.path['name']!r}; there are {', '.join(KINDS)}.")
    return reply({"type": kind.type, "title": kind.title, "status": kind.status})


@cache
def document() -> bytes:
    """The OpenAPI document, written once."""
    from server.openapi import build_document

    return msgspec.json.encode(build_document())


@cache
def packaged(name: str) -> bytes:
    """A file of the package."""
    return files("server.pages").joinpath(name).read_bytes()


OPERATIONS = (
    Operation(method="GET", path="/schema", handler=schema_page, answer="", answer_media="text/html", scope=None),
    Operation(method="GET", path="/schema/openapi.json", handler=schema_document, answer="OpenApi", scope=None),
    Operation(
        method="GET", path="/schema/files/{name:str}", handler=schema_file, answer="", answer_media="*/*", scope=None,
        problems=(404,),
    ),
    Operation(
        method="GET", path="/problems/{name:str}", handler=explain_problem, answer="ProblemKind", scope=None,
        problems=(404,),
    ),
)  # fmt: skip
