"""Every address of the server, a file per resource."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.operations import Operation


@cache
def operations() -> tuple[Operation, ...]:
    """Every operation, in the order the documentation shows them."""
    from server.routes import (
        audit,
        batches,
        categories,
        documents,
        experiments,
        fits,
        health,
        items,
        jobs,
        models,
        outcomes,
        recommendations,
        uploads,
        what_if,
    )

    rooms = (
        uploads, fits, batches, jobs, models, items, recommendations, what_if, categories, experiments, outcomes, audit,
        health, documents,
    )  # fmt: skip
    return tuple(operation for room in rooms for operation in room.OPERATIONS)


def allowed_methods(path: str) -> list[str]:
    """Methods that an address knows; none where there is no such address."""
    parts = path.strip("/").split("/")
    found = {operation.method for operation in operations() if _fits(operation.path, parts)}
    return sorted({*found, "OPTIONS"}) if found else []


def _fits(template: str, parts: list[str]) -> bool:
    wanted = template.strip("/").split("/")
    return len(wanted) == len(parts) and all(
        want.startswith("{") or want == part for want, part in zip(wanted, parts, strict=True)
    )
