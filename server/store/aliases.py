"""Names for models that move: the champion, who promoted it, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.errors import SpecError
from bayes_pricing.gate import require_passed
from server.store.audit import append_event
from server.store.database import reading, writing
from server.store.failures import Conflict, PreconditionFailed
from server.store.models import model_in
from server.store.tables import alias_changes, aliases, insert_new

CHAMPION = "champion"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name at one moment of its history.

    Attributes
    ----------
    name, model_id : str
    version : int
        Counts every change from 1; what `If-Match` is compared with.
    undoes : int or None
        The version that a roll-back undid.
    changed_at : datetime
    changed_by : str
    reason : str or None
        Always there where the gate was overridden.
    """

    name: str
    model_id: str
    version: int
    undoes: int | None
    changed_at: datetime
    changed_by: str
    reason: str | None


def current_alias(engine: Engine, name: str = CHAMPION) -> Alias | None:
    """Which model the name means now; None where it never meant any."""
    with reading(engine) as connection:
        return _current(connection, name)


def alias_history(engine: Engine, name: str = CHAMPION, limit: int = 50) -> tuple[Alias, ...]:
    """Every change of the name, newest first."""
    query = sa.select(alias_changes).where(alias_changes.c.name == name)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(alias_changes.c.version.desc()).limit(limit)).all()
    return tuple(_alias(row) for row in rows)


def promote(
    engine: Engine,
    name: str,
    model_id: str,
    *,
    expected_version: int,
    by: str,
    reason: str | None = None,
    override: bool = False,
    operation: str | None = None,
) -> Alias:
    """Let the name mean another model, if its evidence passes the gate; all or nothing.

    Parameters
    ----------
    engine : Engine
    name, model_id : str
    expected_version : int
        The version the caller saw; 0 where the name meant nothing yet.
    by : str
        Who asks.
    reason : str, optional
        Why; needed with `override`.
    override : bool
        Promote although the gate fails; the reason and what failed are kept.
    operation : str, optional
        Of a request that may be repeated: the second time the first answer is given again.

    Raises
    ------
    NotFound
        If no such model is published.
    PreconditionFailed
        If the name is in another version.
    GateRefusal
        If the evidence fails and is not overridden.
    SpecError
        If an override has no reason.
    """
    if override and not (reason or "").strip():
        raise SpecError("The gate is overridden without a reason; say why, it is kept in the audit.")
    with writing(engine) as connection:
        done = _done(connection, operation)
        if done is not None:
            return done
        verdict = model_in(connection, model_id).verdict
        if not override:
            require_passed(verdict)
        overridden = [finding.code for finding in verdict.findings]
        detail = {"overridden": overridden} if overridden else {}
        return _change(
            connection, name, model_id, expected_version, by=by, reason=reason, operation=operation, detail=detail
        )


def rollback(
    engine: Engine,
    name: str,
    *,
    expected_version: int,
    by: str,
    reason: str | None = None,
    operation: str | None = None,
) -> Alias:
    """Let the name mean what it meant before its last change that still stands; twice goes back two.

    Raises
    ------
    PreconditionFailed
        If the name is in another version than the caller saw.
    Conflict
        If it meant nothing before.
    """
    with writing(engine) as connection:
        done = _done(connection, operation)
        if done is not None:
            return done
        _require_version(connection, name, expected_version)
        rows = connection.execute(
            sa.select(alias_changes).where(alias_changes.c.name == name).order_by(alias_changes.c.version)
        ).all()
        standing: list[Alias] = []
        for alias in map(_alias, rows):
            if alias.undoes is None:
                standing.append(alias)
            else:
                standing.pop()
        if len(standing) < 2:
            raise Conflict(f"{name!r} has nothing to go back to; promote a model instead.")
        undone, before = standing[-1], standing[-2]
        return _change(
            connection,
            name,
            before.model_id,
            expected_version,
            by=by,
            reason=reason,
            operation=operation,
            undoes=undone.version,
        )


def _change(
    connection: Connection,
    name: str,
    model_id: str,
    expected_version: int,
    *,
    by: str,
    reason: str | None,
    operation: str | None,
    undoes: int | None = None,
    detail: Mapping[str, object] | None = None,
) -> Alias:
    _take_version(connection, name, expected_version)
    alias = Alias(
        name=name,
        model_id=model_id,
        version=expected_version + 1,
        undoes=undoes,
        changed_at=datetime.now(UTC),
        changed_by=by,
        reason=reason,
    )
    values = {
        "name": name,
        "version": alias.version,
        "model_id": model_id,
        "undoes": undoes,
        "changed_at": alias.changed_at,
        "changed_by": by,
        "reason": reason,
        "operation": operation,
    }
    connection.execute(alias_changes.insert().values(values))
    told = {"alias": name, "model": model_id, "version": alias.version, "reason": reason, **(detail or {})}
    kind = "alias_promoted" if undoes is None else "alias_rolled_back"
    append_event(connection, kind, by, told, model_id=model_id)
    return alias


def _take_version(connection: Connection, name: str, expected: int) -> None:
    """Move the name from the expected version to the next; of two at once, one finds no row to move."""
    if expected == 0:
        taken = insert_new(connection, aliases, {"name": name, "version": 1})
    else:
        where = (aliases.c.name == name) & (aliases.c.version == expected)
        taken = connection.execute(aliases.update().where(where).values(version=expected + 1)).rowcount == 1
    if not taken:
        _refuse_version(connection, name, expected)


def _require_version(connection: Connection, name: str, expected: int) -> None:
    found = connection.execute(sa.select(aliases.c.version).where(aliases.c.name == name)).scalar() or 0
    if found != expected:
        _refuse_version(connection, name, expected)


def _refuse_version(connection: Connection, name: str, expected: int) -> None:
    found = connection.execute(sa.select(aliases.c.version).where(aliases.c.name == name)).scalar() or 0
    raise PreconditionFailed(
        f"{name!r} is in version {found}, you saw {expected}; read it again and decide anew.", current_version=found
    )


def _done(connection: Connection, operation: str | None) -> Alias | None:
    if operation is None:
        return None
    row = connection.execute(sa.select(alias_changes).where(alias_changes.c.operation == operation)).first()
    return None if row is None else _alias(row)


def _current(connection: Connection, name: str) -> Alias | None:
    row = connection.execute(
        sa.select(alias_changes)
        .join(aliases, (aliases.c.name == alias_changes.c.name) & (aliases.c.version == alias_changes.c.version))
        .where(aliases.c.name == name)
    ).first()
    return None if row is None else _alias(row)


def _alias(row: sa.Row[tuple[object, ...]]) -> Alias:
    return Alias(
        name=row.name,
        model_id=row.model_id,
        version=row.version,
        undoes=row.undoes,
        changed_at=row.changed_at,
        changed_by=row.changed_by,
        reason=row.reason,
    )
