"""Cursors of lists: opaque to who holds them, the key of the last row to us."""

from __future__ import annotations

import base64
import binascii

from server.problems import Failure


def cursor_of(key: str | int) -> str:
    """The cursor after a row's key.

    Examples
    --------
    >>> read_cursor(cursor_of("tea"))
    'tea'
    """
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> str | None:
    """The key a cursor stands for; None at the beginning.

    Raises
    ------
    Failure
        If it is none of ours.
    """
    if cursor is None:
        return None
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Failure("unprocessable", "The cursor is none of ours; use `next` of the page before.") from error


def read_number(cursor: str | None) -> int:
    """The whole number a cursor stands for; 0 at the beginning.

    Raises
    ------
    Failure
        If it is none of ours.
    """
    text = read_cursor(cursor)
    if text is None:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Failure("unprocessable", "The cursor is none of ours; use `next` of the page before.")
    return int(text)
