"""Options of compiled functions that only compiled functions call.

Such a function needs no way in from Python: unpacking its arguments is as much code again, and it would be compiled and
optimised once more in everything that calls it. What Python calls is compiled with a way in.
"""

from __future__ import annotations

from typing import Any

INNER: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
FUSED: dict[str, Any] = INNER | {"fastmath": {"contract"}}
"""A product and a sum may become one instruction."""
VECTOR: dict[str, Any] = INNER | {"fastmath": {"contract", "reassoc"}}
"""Sums may also be added up in another order, several at once."""
