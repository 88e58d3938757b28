"""The short way of what is asked most: recommendations that lie ready, sent from the guard without routing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from server.routes.items import ready_reply

if TYPE_CHECKING:
    from litestar.types import Scope, Send

    from server.service import Service
    from server.store.keys import Principal

TEMPLATE = "/v1/items/{item}/recommendation"
ADDRESS = re.compile(r"/v1/items/([^/]+)/recommendation")
SCOPE = "prices:read"


async def send_ready(scope: Scope, item: str, service: Service, given: dict[bytes, bytes], send: Send) -> bool:
    """Answer a recommendation of the champion as its handler would, header for header.

    Returns
    -------
    bool
        False where nothing was sent and the handler is to answer: an item the champion does not know.
    """
    reply = ready_reply(service, service.live.require(), item)
    if reply is None:
        return False
    scope["path_template"] = TEMPLATE
    tag = reply.headers["etag"]
    known = matches(given.get(b"if-none-match", b"").decode("latin-1"), tag)
    content = b"" if known else reply.content
    headers = [
        (b"cache-control", b"private, no-cache"),
        (b"etag", tag.encode()),
        (b"audit-id", reply.headers["audit-id"].encode()),
    ]
    if not known:
        headers += [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", str(len(content)).encode()),
        ]
    await send({"type": "http.response.start", "status": 304 if known else 200, "headers": headers})
    await send({"type": "http.response.body", "body": content, "more_body": False})
    return True


def asked_item(scope: Scope, principal: Principal) -> str | None:
    """The item of a plain request for a recommendation; None where the request goes the usual way."""
    if scope.get("method") != "GET" or scope["query_string"] or SCOPE not in principal.scopes:
        return None
    found = ADDRESS.fullmatch(scope["path"])
    return None if found is None else found[1]


def matches(given: str | None, tag: str) -> bool:
    """Whether `If-None-Match` names a tag.

    Examples
    --------
    >>> matches('"a", W/"b"', '"b"'), matches("*", '"b"'), matches(None, '"b"')
    (True, True, False)
    """
    if not given:
        return False
    return given.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in given.split(",")]
