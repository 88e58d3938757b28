"""Numbers that leave the server are finite: NaN and infinity are errors here, never a null in somebody's hands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec


def encode_finite(value: object) -> bytes:
    """JSON of a value; a number that is not finite is an error here, not a null in somebody's hands.

    Raises
    ------
    ValueError
        If a number is not finite.

    Examples
    --------
    >>> encode_finite({"price": 9.5})
    b'{"price":9.5}'
    """
    plain = msgspec.to_builtins(value)
    content = msgspec.json.encode(plain)
    if b"null" in content:  # what is not finite comes out as null, as None does
        require_finite(plain)
    return content


def require_finite(value: object, path: str = "$") -> None:
    """Refuse a number that is not finite anywhere in plain values.

    Raises
    ------
    ValueError
        Naming where it stands.
    """
    if isinstance(value, float):
        if not abs(value) < float("inf"):
            raise ValueError(f"{path} is {value}, which is no finite number")
    elif isinstance(value, Mapping):
        for name, part in value.items():
            require_finite(part, f"{path}.{name}")
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            require_finite(part, f"{path}[{place}]")


def content_tag(content: bytes) -> str:
    """Strong entity tag of an answer's bytes, quotes included.

    Examples
    --------
    >>> content_tag(b"tea") == content_tag(b"tea"), content_tag(b"tea") == content_tag(b"coffee")
    (True, False)
    """
    return f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
