"""What an address of the server is: method, path, scope, schemas in and out, and the five lines that answer it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import anyio.to_thread
import msgspec

from server.finite import encode_finite
from server.schemas import NoQuery, Strict

if TYPE_CHECKING:
    from server.service import Service
    from server.store.keys import Principal

JSON = "application/json"
Method = Literal["GET", "POST", "PUT"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask[Query: Strict, Body]:
    """A request whose schema was checked.

    Attributes
    ----------
    service : Service
        What the process has: models, store, audit.
    principal : Principal
        Who asks.
    path : mapping of str to str
        Parts of the address.
    query, body
        As the operation's schemas say; `body` is None where there is none.
    headers : mapping of str to str
    operation : str or None
        Of an idempotency key, so that doing it again does it once.
    """

    service: Service
    principal: Principal
    path: Mapping[str, str]
    query: Query
    body: Body
    headers: Mapping[str, str]
    operation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer as it goes out; one with a `stream` goes out as server-sent events."""

    content: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


Handler = Callable[[Ask[Any, Any]], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one address.

    Attributes
    ----------
    method, path : str
    handler : Handler
        Its docstring is the description.
    answer : str
        Name of the answer's type in `server.answer_types`; empty where the answer is not JSON.
    scope : str or None
        What a key must be allowed; None needs no key.
    query, body : type
    status : int
    media : tuple of str
        Content types of the body it reads.
    answer_media : str
    problems : tuple of int
        Statuses of problems beyond those every operation has.
    headers : mapping of str to str
        Names and meanings of answer headers.
    if_match : bool
        The request must carry `If-Match`.
    example : dict or None
        A body that works on the documentation's own model.
    """

    method: Method
    path: str
    handler: Handler
    answer: str
    scope: str | None
    query: type[Strict] = NoQuery
    body: Any = None
    status: int = 200
    media: tuple[str, ...] = (JSON,)
    answer_media: str = JSON
    problems: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    if_match: bool = False
    example: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Operation id: the handler's own name."""
        return self.handler.__name__


def reply(value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A value as JSON, every number finite."""
    return Reply(content=encode_finite(value), status=status, headers=headers or {})


def page(rows: list[Any], after: str | None, **parts: object) -> Reply:
    """A page of a list; `next` is the cursor of the page after it, null on the last."""
    return reply({**parts, "rows": rows, "next": after})


async def in_thread[*Args, Result](work: Callable[[*Args], Result], *args: *Args) -> Result:
    """Do blocking work off the event loop."""
    return await anyio.to_thread.run_sync(work, *args)


def plain(value: object) -> Any:
    """Dataclasses and structs as plain values, instants as text."""
    return msgspec.to_builtins(value)
