"""Logs as one JSON object a line, with the request's id and without secrets."""

from __future__ import annotations

import logging
import random
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from server.settings import Settings

NAME = "bayes_pricing"
REQUESTS = logging.getLogger("bayes_pricing.request")
SECRETS = re.compile(
    r"(bp_[0-9a-f]{12})_[A-Za-z0-9_-]+|(//[^/\s:@\"]*):[^/\s@\"]+@|(Bearer)\s+[^\s\"\\]+", re.IGNORECASE
)
SLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestLog:
    """What is written of a request; never its body, its query or its headers."""

    request_id: str
    method: str
    route: str
    status: int
    seconds: float
    key_id: str = ""
    client: str = ""


class JsonLines(logging.Formatter):
    """A record as one line of JSON; what looks like a key or a password is masked wherever it stands.

    Examples
    --------
    >>> record = logging.LogRecord("bayes_pricing", logging.INFO, "", 1, "told bp_0123456789ab_SECRET", (), None)
    >>> msgspec.json.decode(JsonLines().format(record))["event"]
    'told bp_0123456789ab_***'
    """

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger, event and the record's fields."""
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_info is not None and record.exc_info[1] is not None:
            line["trace"] = "".join(traceback.format_exception(record.exc_info[1]))
        return mask(msgspec.json.encode(line, enc_hook=str).decode())


def mask(text: str) -> str:
    """The text with the secrets of keys, bearer tokens and database URLs blotted out.

    Examples
    --------
    >>> mask("postgresql://me:word@host/name, Authorization: Bearer abc")
    'postgresql://me:***@host/name, Authorization: Bearer ***'
    """
    return SECRETS.sub(_masked, text)


def configure_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send the server's logs, and the HTTP server's, to standard error as JSON lines."""
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLines())
    for name in (NAME, "uvicorn", "litestar"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn.access").disabled = True


def write_log(logger: logging.Logger, level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write an event with its fields."""
    logger.log(logging.getLevelNamesMapping()[level.upper()], event, extra={"fields": fields})


def log_request(entry: RequestLog, share: float) -> None:
    """Write a request down: each that failed on our side or was slow, and a `share` of the others."""
    failed, slow = entry.status >= 500, entry.seconds > SLOW_SECONDS
    if not (failed or slow) and random.random() >= share:
        return
    fields = {
        "request_id": entry.request_id,
        "method": entry.method,
        "route": entry.route,
        "status": entry.status,
        "milliseconds": round(1000.0 * entry.seconds, 3),
        "key": entry.key_id,
        "client": entry.client,
    }
    write_log(REQUESTS, "error" if failed else "info", "request", fields)


def _masked(match: re.Match[str]) -> str:
    key, place, bearer = match.groups()
    if key is not None:
        return f"{key}_***"
    return f"{place}:***@" if place is not None else f"{bearer} ***"
