"""Decorators of compiled functions: those that Python calls, and those that only compiled functions call.

A way in from Python or from C unpacks the arguments, which is as much code again where they are many, and it would be
compiled and optimised once more in everything that calls the function. So only what Python calls has one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba as nb

_ENTRY: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
_INNER: dict[str, Any] = _ENTRY | {"no_cpython_wrapper": True}


def entry[Function: Callable[..., object]](function: Function) -> Function:
    """Compile what Python calls."""
    return cast("Function", nb.njit(**_ENTRY)(function))


def inner(function: Callable[..., Any]) -> Any:
    """Compile what only compiled functions call."""
    return nb.njit(**_INNER)(function)


def fused(function: Callable[..., Any]) -> Any:
    """As `inner`; a product and a sum may become one instruction."""
    return nb.njit(**_INNER, fastmath={"contract"})(function)


def vector(function: Callable[..., Any]) -> Any:
    """As `inner`; sums may also be added up in another order, several at once."""
    return nb.njit(**_INNER, fastmath={"contract", "reassoc"})(function)
