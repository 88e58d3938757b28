"""Models that were published: which fit, when, by whom, on what evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.gate import Evidence, Verdict, judge
from server.readers import readable
from server.store.audit import append_event
from server.store.database import reading, writing
from server.store.failures import NotFound
from server.store.tables import insert_new, models


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """A published model.

    Attributes
    ----------
    id : str
        Content address of what is served.
    fit_id : str
        Of the fitted posterior.
    published_at : datetime
    published_by : str
    evidence : Evidence
        What was known of it when it was published.
    about : mapping
        Plain values to show: likelihood, items, last period, data hash ...
    """

    id: str
    fit_id: str
    published_at: datetime
    published_by: str
    evidence: Evidence
    about: Mapping[str, Any]

    @property
    def verdict(self) -> Verdict:
        """What the gate says of the evidence."""
        return judge(self.evidence)


def record_model(
    engine: Engine, model_id: str, *, fit_id: str, by: str, evidence: Evidence, about: Mapping[str, Any]
) -> ModelRecord:
    """Record a published model; one that is recorded already stays as it is."""
    with writing(engine) as connection:
        return insert_model(connection, model_id, fit_id=fit_id, by=by, evidence=evidence, about=about)


def insert_model(
    connection: Connection, model_id: str, *, fit_id: str, by: str, evidence: Evidence, about: Mapping[str, Any]
) -> ModelRecord:
    """Record a published model inside the caller's transaction; one that is recorded already stays as it is."""
    values = {
        "id": model_id,
        "fit_id": fit_id,
        "published_at": datetime.now(UTC),
        "published_by": by,
        "evidence": msgspec.to_builtins(evidence),
        "about": dict(about),
    }
    if insert_new(connection, models, values):
        append_event(connection, "model_published", by, {"model": model_id, "fit": fit_id}, model_id=model_id)
    return model_in(connection, model_id)


def find_model(engine: Engine, model_id: str) -> ModelRecord:
    """One published model.

    Raises
    ------
    NotFound
        If there is none with this id.
    """
    with reading(engine) as connection:
        return model_in(connection, model_id)


def list_models(engine: Engine, *, after: str | None = None, limit: int = 100) -> tuple[ModelRecord, ...]:
    """Published models, newest first; `after` is the id of the last one of the page before.

    Raises
    ------
    NotFound
        If there is no model `after`.
    """
    query = sa.select(models).order_by(models.c.published_at.desc(), models.c.id.desc()).limit(limit)
    with reading(engine) as connection:
        if after is not None:
            last = model_in(connection, after)
            older = models.c.published_at < last.published_at
            query = query.where(older | ((models.c.published_at == last.published_at) & (models.c.id < last.id)))
        return tuple(_record(row) for row in connection.execute(query))


def models_of_fit(engine: Engine, fit_id: str) -> tuple[ModelRecord, ...]:
    """Everything that was published of one fit, oldest first."""
    query = sa.select(models).where(models.c.fit_id == fit_id).order_by(models.c.published_at)
    with reading(engine) as connection:
        return tuple(_record(row) for row in connection.execute(query))


def model_in(connection: Connection, model_id: str) -> ModelRecord:
    """One published model, inside the caller's transaction."""
    row = connection.execute(sa.select(models).where(models.c.id == model_id)).first()
    if row is None:
        raise NotFound(f"There is no published model {model_id!r}; `GET /v1/models` lists them.")
    return _record(row)


def _record(row: sa.Row[tuple[object, ...]]) -> ModelRecord:
    return ModelRecord(
        id=row.id,
        fit_id=row.fit_id,
        published_at=row.published_at,
        published_by=row.published_by,
        evidence=msgspec.convert(row.evidence, readable(Evidence)),
        about=row.about,
    )
