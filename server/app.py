"""The application: every operation as a Litestar handler behind the guard, errors as problems of one form."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from server.finite import content_tag
from server.guard import LOGGER, SLASH_INSIDE, Guard
from server.operations import Ask, Operation, Reply
from server.problems import MEDIA_TYPE, Failure, FieldProblem, problem_of
from server.readers import readable
from server.routes import allowed_methods, operations
from server.schemas import Strict
from server.service import serving
from server.settings import Settings
from server.short_way import matches
from server.store.keys import ANYBODY

NUMBERS = ("limit",)
"""Query parameters that are whole numbers."""
WHOLE = re.compile(r"-?[0-9]{1,9}")
AnyRequest = Request[Any, Any, Any]


def create_app(settings: Settings, warmed: Callable[[], None] | None = None) -> Litestar:
    """Build the application; it opens the store when it starts, not here, so that processes may be forked after.

    Parameters
    ----------
    settings : Settings
    warmed : callable, optional
        Called once when everything that answers need is loaded.

    Returns
    -------
    Litestar
    """
    settings = settings.with_runtime_dir()
    app = Litestar(
        route_handlers=[build_handler(operation) for operation in operations()],
        exception_handlers={HTTPException: answer_problem, Exception: answer_problem},
        openapi_config=None,
        lifespan=[serving],
        request_max_body_size=settings.bulk_body_limit,
        state=State({"settings": settings, "warmed": warmed}),
        logging_config=None,
    )
    app.asgi_handler = Guard(app.asgi_handler, app)
    return app


def build_handler(operation: Operation) -> HTTPRouteHandler:
    """A Litestar handler that checks a request against an operation's schemas and sends its answer."""

    async def handle(request: AnyRequest) -> Response[Any]:
        principal = request.scope["state"].get("principal", ANYBODY)
        if operation.scope is not None:
            principal.require(operation.scope)
        if operation.if_match and "if-match" not in request.headers:
            raise Failure("precondition-required", 'Say which version you saw: If-Match: "<version>" from its ETag.')
        ask: Ask[Any, Any] = Ask(
            service=request.app.state.service,
            principal=principal,
            path={name: str(part).replace(SLASH_INSIDE, "/") for name, part in request.path_params.items()},
            query=read_query(request.scope["query_string"], operation.query),
            body=None if operation.body is None else await read_body(request, operation),
            headers=request.headers,
            operation=request.scope["state"].get("operation"),
        )
        return send_reply(await operation.handler(ask), request)

    handle.__name__ = operation.name
    handle.__doc__ = operation.handler.__doc__
    return HTTPRouteHandler(
        operation.path, http_method=operation.method, name=operation.name, status_code=operation.status
    )(handle)


def read_query[Query: Strict](text: bytes, schema: type[Query]) -> Query:
    """Query parameters as their schema says.

    Raises
    ------
    Failure
        For a parameter nobody knows, one given twice, or a value that does not fit.
    """
    if not text and not schema.__struct_fields__:
        return schema()
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise Failure("invalid-request", f"The query string cannot be read: {error}.") from error
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise Failure("invalid-request", f"The query parameter {twice!r} is given more than once.")
    try:
        return msgspec.convert({name: _number(name, text) for name, text in pairs}, readable(schema))
    except msgspec.ValidationError as error:
        raise invalid("query parameters do", error) from error


def _number(name: str, text: str) -> str | int:
    """A parameter that is a number as one; the others are texts, `null` among them."""
    return int(text) if name in NUMBERS and WHOLE.fullmatch(text) else text


async def read_body(request: AnyRequest, operation: Operation) -> Any:
    """The body as its schema says; raw bytes where the operation reads files.

    Raises
    ------
    Failure
        For another content type, a body over the limit, or one that does not fit the schema.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not given and not await request.body():
        raise Failure("invalid-request" if operation.body is not bytes else "unprocessable", "The body is empty.")
    if given not in operation.media:
        known = " or ".join(operation.media)
        raise Failure("unsupported-media-type", f"The content type is {given!r}; send {known}.")
    settings: Settings = request.app.state.settings
    limit = settings.body_limit if operation.body is not bytes else settings.bulk_body_limit
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise Failure("body-too-large", f"The body has {declared} bytes; this address takes {limit} at most.")
    content = await request.body()
    if len(content) > limit:
        raise Failure("body-too-large", f"The body has {len(content)} bytes; this address takes {limit} at most.")
    if operation.body is bytes:
        return content
    try:
        return msgspec.json.decode(content, type=readable(operation.body))
    except msgspec.ValidationError as error:
        try:
            return msgspec.convert(whole_numbers(msgspec.json.decode(content)), readable(operation.body))
        except msgspec.MsgspecError:
            raise invalid("body does", error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure("invalid-request", f"The body is not JSON: {error}.") from error


def whole_numbers(value: Any) -> Any:
    """Plain values with 3.0 as 3: JSON has one kind of number, and its schemas call both an integer."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole_numbers(part) for name, part in value.items()}
    return [whole_numbers(part) for part in value] if isinstance(value, list) else value


def invalid(what: str, error: msgspec.ValidationError) -> Failure:
    """The problem of a request that does not fit its schema, with a pointer to the place.

    Examples
    --------
    >>> failure = invalid("body does", msgspec.ValidationError("Expected `float`, got `str` - at `$.prices[0]`"))
    >>> failure.errors[0].pointer, failure.errors[0].detail
    ('/prices/0', 'Expected `float`, got `str`')
    """
    text, _, place = str(error).partition(" - at `")
    path = place.rstrip("`").removeprefix("$").replace("[...]", "/*").replace("[", "/").replace("]", "")
    problem = FieldProblem(pointer=path.replace(".", "/"), detail=text)
    return Failure("invalid-request", f"The {what} not fit the schema: {error}.", (problem,))


def send_reply(answered: Reply, request: AnyRequest) -> Response[Any]:
    """An answer with its tag; 304 and no body where the asker has it already."""
    if answered.stream is not None:
        return Stream(answered.stream, media_type=answered.media_type, headers=dict(answered.headers))
    headers = {"cache-control": "private, no-cache", **answered.headers}
    status, content = answered.status, answered.content
    if request.method == "GET" and status == 200:
        tag = headers.setdefault("etag", content_tag(content))
        if matches(request.headers.get("if-none-match"), tag):
            status, content = 304, b""
    return Response(content, status_code=status, media_type=answered.media_type, headers=headers)


def answer_problem(request: AnyRequest, error: Exception) -> Response[bytes]:
    """Any error of a handler or of the routing as a problem."""
    request_id = str(request.scope["state"].get("request_id", ""))
    problem, headers = problem_of(error, request_id)
    if problem.type.endswith("/failed"):
        LOGGER.error("failed", exc_info=error, extra={"fields": {"request_id": request_id}})
    if problem.status == 405:
        headers["allow"] = ", ".join(allowed_methods(request.scope["path"]))
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers={"cache-control": "no-store", **headers},
    )
