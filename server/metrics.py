"""Prometheus metrics of requests and of the domain, summed over the processes of one `serve`.

The processes share files in the folder that ``PROMETHEUS_MULTIPROC_DIR`` names; `serve` sets it before this module is
loaded. Without it (one process, tests) the numbers are the process's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

import sqlalchemy as sa
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.engine import Engine

from server.settings import Settings
from server.store.aliases import current_alias
from server.store.database import reading
from server.store.failures import StoreUnavailable
from server.store.jobs import count_jobs
from server.store.tables import jobs, outcomes

METRICS_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"

REQUESTS = Counter("bp_requests", "Requests answered.", ("method", "route", "status"))
SECONDS = Histogram(
    "bp_request_seconds",
    "Time from a request's head to its answer.",
    ("route",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)
RECOMMENDATIONS = Counter("bp_recommendations", "Recommendations served, by what they advise.", ("action",))
FINDINGS = Counter("bp_findings", "Findings served with answers, by code.", ("code",))
LOADED = Gauge(
    "bp_model_loaded_timestamp_seconds", "When a process last loaded the model.", ("model",), multiprocess_mode="max"
)
WARM = Gauge("bp_processes_warm", "Processes that have all loaded that live answers need.", multiprocess_mode="livesum")
LOAD_SECONDS = Gauge("bp_model_load_seconds", "Time the last load took.", ("model",), multiprocess_mode="max")


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request; `route` is the address's template, so that there are few of them."""
    _requests(method, route, status).inc()
    _seconds(route).observe(seconds)


def count_recommendation(action: str, n: int = 1) -> None:
    """Count recommendations by what they advise (change, hold, test_first, refused)."""
    _recommendations(action).inc(n)


def count_finding(code: str) -> None:
    """Count a finding that went out."""
    FINDINGS.labels(code).inc()


def set_model(model_id: str, loaded_at: datetime | None, load_seconds: float) -> None:
    """Say which model this process serves from now on, and how long it took to load."""
    LOADED.labels(model_id).set(time.time() if loaded_at is None else loaded_at.timestamp())
    LOAD_SECONDS.labels(model_id).set(load_seconds)


def set_warm() -> None:
    """Say that this process has loaded all that live answers need."""
    WARM.set(1.0)


def render_metrics(settings: Settings, engine: Engine) -> bytes:
    """All numbers in Prometheus's text form: of every process, and of the store."""
    text = generate_latest(_registry())
    store = CollectorRegistry()
    store.register(StoreNumbers(settings, engine))
    return text + generate_latest(store)


def forget_process(number: int) -> None:
    """Drop what a process that ended said of its present state; what it counted stays."""
    if MULTIPROCESS in os.environ:
        multiprocess.mark_process_dead(number)  # type: ignore[no-untyped-call]


class StoreNumbers:
    """What the store knows: jobs, the champion, claimed against realised."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The numbers, or only that the store does not answer."""
        try:
            families = [*self._jobs(), *self._champion()]
            up = 1.0
        except StoreUnavailable:
            families, up = [], 0.0
        yield _family("bp_store_up", "1 where the database answers.", up)
        yield from families

    def _jobs(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("bp_jobs", "Jobs by state.", labels=("state",))
        for state, count in count_jobs(self._engine).items():
            family.add_metric((state,), count)
        yield family
        waiting = sa.select(sa.func.min(jobs.c.created_at)).where(jobs.c.state == "queued")
        with reading(self._engine) as connection:
            oldest = connection.execute(waiting).scalar()
        age = 0.0 if oldest is None else (datetime.now(UTC) - oldest).total_seconds()
        yield _family("bp_job_oldest_wait_seconds", "How long the oldest waiting job has waited.", age)

    def _champion(self) -> Iterator[GaugeMetricFamily]:
        alias = current_alias(self._engine)
        if alias is None:
            return
        yield _family("bp_champion_version", "Version of the champion's alias.", alias.version, alias.model_id)
        age = (datetime.now(UTC) - alias.changed_at).total_seconds()
        yield _family("bp_champion_age_seconds", "Time since the champion was promoted.", age, alias.model_id)
        one = outcomes.c
        inside = sa.case((one.quantity.between(one.claimed_lower, one.claimed_upper), 1.0), else_=0.0)
        query = sa.select(
            sa.func.count(), sa.func.avg(inside), sa.func.sum(one.quantity), sa.func.sum(one.claimed_mean)
        ).where(one.model_id == alias.model_id)
        with reading(self._engine) as connection:
            count, share, sold, claimed = connection.execute(query).one()
        yield _family("bp_outcomes", "Outcomes of the champion's recommendations.", count, alias.model_id)
        if count:
            yield _family("bp_outcome_coverage", "Share inside the claimed intervals.", share, alias.model_id)
            said = "Units sold over units claimed."
            yield _family("bp_outcome_realised_over_claimed", said, sold / claimed, alias.model_id)


def _registry() -> CollectorRegistry:
    if MULTIPROCESS not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _family(name: str, said: str, value: float, model: str | None = None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, said, labels=() if model is None else ("model",))
    family.add_metric(() if model is None else (model,), value)
    return family


@cache
def _requests(method: str, route: str, status: int) -> Counter:
    return REQUESTS.labels(method, route, str(status))


@cache
def _seconds(route: str) -> Histogram:
    return SECONDS.labels(route)


@cache
def _recommendations(action: str) -> Counter:
    return RECOMMENDATIONS.labels(action)
