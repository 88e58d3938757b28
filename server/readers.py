"""Types that msgspec reads, made ready by one thread at a time.

At a type's first use msgspec works out how to read it, and leaves that on the class before it is complete: a second
thread that comes at that moment reads with half of it, and the process dies. Whatever several threads read goes through
:func:`readable` therefore.
"""

from __future__ import annotations

import threading
from typing import Any

import msgspec

_ONE_AT_A_TIME = threading.Lock()
_READY: set[Any] = set()


def readable[Kind](kind: type[Kind]) -> type[Kind]:
    """The type itself, after its reader and those of all its parts are complete.

    Examples
    --------
    >>> class Price(msgspec.Struct):
    ...     amount: float
    >>> msgspec.json.decode(b'{"amount": 9.5}', type=readable(Price)).amount
    9.5
    """
    if kind not in _READY:
        with _ONE_AT_A_TIME:
            msgspec.json.Decoder(kind)
            _READY.add(kind)
    return kind
