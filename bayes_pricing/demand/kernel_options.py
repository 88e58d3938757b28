"""Options of compiled functions: those that Python calls, and those that only compiled functions call.

A way in from Python or from C unpacks the arguments, which is as much code again where they are many, and it would be
compiled and optimised once more in everything that calls the function. So only what Python calls has one.
"""

from __future__ import annotations

from typing import Any

ENTRY: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
"""Python calls it."""
INNER: dict[str, Any] = ENTRY | {"no_cpython_wrapper": True}
"""Only compiled functions call it."""
FUSED: dict[str, Any] = INNER | {"fastmath": {"contract"}}
"""As `INNER`; a product and a sum may become one instruction."""
VECTOR: dict[str, Any] = INNER | {"fastmath": {"contract", "reassoc"}}
"""As `INNER`; sums may also be added up in another order, several at once."""
