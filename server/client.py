"""A typed client of the server: a method for every operation, answers as the types the schema is written from."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bayes_pricing.errors import PricingError
from server import answer_types as a
from server import schemas as s
from server.problems import Problem

JSON = "application/json"


class ServerProblem(PricingError):
    """The server answered with a problem.

    Attributes
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")


class Client:
    """Asks one server; every method is an operation of its OpenAPI document under the operation's own name.

    Parameters
    ----------
    address : str
        Such as ``http://127.0.0.1:8000``.
    token : str
        API key; empty where the server asks for none.
    timeout_seconds : float

    Examples
    --------
    >>> Client("http://127.0.0.1:8000", "bp_...").address
    'http://127.0.0.1:8000'
    """

    def __init__(self, address: str, token: str = "", timeout_seconds: float = 30.0) -> None:
        self.address = address.rstrip("/")
        self._token = token
        self._timeout = timeout_seconds

    def upload_sales(self, content: bytes, media_type: str = "text/csv") -> a.UploadAnswer:
        """Send a sales file; `sales` of the answer goes into :meth:`start_fit`."""
        return self._ask(a.UploadAnswer, "POST", "/v1/uploads", content, headers={"Content-Type": media_type})

    def start_fit(self, body: s.FitRequest, *, idempotency_key: str | None = None) -> a.JobAccepted:
        """Estimate demand from sales, as a job."""
        return self._ask(a.JobAccepted, "POST", "/v1/fits", body, headers=_once(idempotency_key))

    def start_batch(self, body: s.BatchRequest, *, idempotency_key: str | None = None) -> a.JobAccepted:
        """Recommend prices for all items of a fit on every draw, as a job."""
        return self._ask(a.JobAccepted, "POST", "/v1/batches", body, headers=_once(idempotency_key))

    def start_study(self, body: s.StudyRequest, *, idempotency_key: str | None = None) -> a.JobAccepted:
        """Run a study, as a job."""
        return self._ask(a.JobAccepted, "POST", "/v1/studies", body, headers=_once(idempotency_key))

    def read_result(self, job: str) -> bytes:
        """The file that a finished batch (JSON) or study (Markdown) wrote."""
        with self._open("GET", f"/v1/jobs/{_part(job)}/result", None, {}) as answer:
            content: bytes = answer.read()
            return content

    def list_all_jobs(self, query: s.JobsQuery | None = None) -> a.JobsPage:
        """Jobs, the latest first."""
        return self._ask(a.JobsPage, "GET", "/v1/jobs", query=query)

    def read_job(self, job: str) -> a.Job:
        """One job."""
        return self._ask(a.Job, "GET", f"/v1/jobs/{_part(job)}")

    def stop_job(self, job: str) -> a.Job:
        """Cancel a job."""
        return self._ask(a.Job, "POST", f"/v1/jobs/{_part(job)}/cancel")

    def watch_job(self, job: str) -> Iterator[tuple[float, str]]:
        """Progress of a job as it comes, ``(fraction, label)``, until it ends."""
        with self._open("GET", f"/v1/jobs/{_part(job)}/events", None, {}) as answer:
            kind = ""
            for line in answer:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "progress":
                    event = msgspec.json.decode(value)
                    yield event["progress"], event["label"]

    def list_published(self, query: s.PageQuery | None = None) -> a.ModelsPage:
        """Published models."""
        return self._ask(a.ModelsPage, "GET", "/v1/models", query=query)

    def publish(self, body: s.PublishRequest, *, idempotency_key: str | None = None) -> a.JobAccepted:
        """Publish a saved fit, as a job."""
        return self._ask(a.JobAccepted, "POST", "/v1/models", body, headers=_once(idempotency_key))

    def read_model(self, model: str) -> a.ModelAnswer:
        """A model in full."""
        return self._ask(a.ModelAnswer, "GET", f"/v1/models/{_part(model)}")

    def read_elasticities(self, query: s.ElasticityQuery | None = None) -> a.ElasticitiesPage:
        """Elasticities of one level."""
        return self._ask(a.ElasticitiesPage, "GET", "/v1/elasticities", query=query)

    def read_champion(self) -> a.ChampionAnswer:
        """Which model is live; `version` is what a change asks for."""
        return self._ask(a.ChampionAnswer, "GET", "/v1/aliases/champion")

    def promote_model(self, body: s.PromoteRequest, *, version: int, idempotency_key: str | None = None) -> a.Alias:
        """Let a model go live."""
        headers = {"If-Match": f'"{version}"', **_once(idempotency_key)}
        return self._ask(a.Alias, "PUT", "/v1/aliases/champion", body, headers=headers)

    def roll_back(self, body: s.RollbackRequest, *, version: int, idempotency_key: str | None = None) -> a.Alias:
        """Let the model before go live again."""
        headers = {"If-Match": f'"{version}"', **_once(idempotency_key)}
        return self._ask(a.Alias, "POST", "/v1/aliases/champion/rollback", body, headers=headers)

    def list_items(self, query: s.ItemsQuery | None = None) -> a.ItemsPage:
        """Items of a model."""
        return self._ask(a.ItemsPage, "GET", "/v1/items", query=query)

    def read_recommendation(self, item: str, query: s.ModelQuery | None = None) -> a.RecommendationAnswer:
        """The price to charge for an item."""
        return self._ask(a.RecommendationAnswer, "GET", f"/v1/items/{_part(item)}/recommendation", query=query)

    def read_curve(self, item: str, query: s.ModelQuery | None = None) -> a.CurveAnswer:
        """What an item would bring at every price."""
        return self._ask(a.CurveAnswer, "GET", f"/v1/items/{_part(item)}/curve", query=query)

    def explain_item(self, item: str, query: s.ModelQuery | None = None) -> a.ExplanationAnswer:
        """Why this price."""
        return self._ask(a.ExplanationAnswer, "GET", f"/v1/items/{_part(item)}/explanation", query=query)

    def recommend_many(self, body: s.BulkRequest, query: s.ModelQuery | None = None) -> a.BulkAnswer:
        """Recommendations of many items."""
        return self._ask(a.BulkAnswer, "POST", "/v1/recommendations", body, query=query)

    def try_prices(self, body: s.WhatIfRequest, query: s.ModelQuery | None = None) -> a.WhatIfAnswer:
        """What other prices would bring."""
        return self._ask(a.WhatIfAnswer, "POST", "/v1/what-if", body, query=query)

    def predict_demand(self, body: s.DemandRequest, query: s.ModelQuery | None = None) -> a.DemandAnswer:
        """How much would be sold."""
        return self._ask(a.DemandAnswer, "POST", "/v1/demand", body, query=query)

    def list_categories(self, query: s.ModelQuery | None = None) -> a.CategoriesAnswer:
        """Categories: elasticity and performance."""
        return self._ask(a.CategoriesAnswer, "GET", "/v1/categories", query=query)

    def plan_experiment(self, body: s.PlanRequest, query: s.ModelQuery | None = None) -> a.PlanAnswer:
        """Plan a price test."""
        return self._ask(a.PlanAnswer, "POST", "/v1/experiments/plan", body, query=query)

    def monitor_experiment(self, body: s.MonitorRequest) -> a.MonitorAnswer:
        """Look at a running test."""
        return self._ask(a.MonitorAnswer, "POST", "/v1/experiments/monitor", body)

    def read_out_experiment(self, body: s.ReadOutBody) -> a.ReadOutAnswer:
        """Read a finished test out."""
        return self._ask(a.ReadOutAnswer, "POST", "/v1/experiments/read-out", body)

    def report_outcome(self, body: s.OutcomeRequest, *, idempotency_key: str | None = None) -> a.Outcome:
        """Say what was charged and sold."""
        return self._ask(a.Outcome, "POST", "/v1/outcomes", body, headers=_once(idempotency_key))

    def list_reported(self, query: s.OutcomesQuery | None = None) -> a.OutcomesPage:
        """Outcomes that were reported."""
        return self._ask(a.OutcomesPage, "GET", "/v1/outcomes", query=query)

    def read_track_record(self, model: str) -> a.TrackRecord:
        """How a model's claims have held."""
        return self._ask(a.TrackRecord, "GET", f"/v1/models/{_part(model)}/track-record")

    def list_audit(self, query: s.AuditQuery | None = None) -> a.AuditPage:
        """The audit."""
        return self._ask(a.AuditPage, "GET", "/v1/audit", query=query)

    def read_audit(self, entry: str) -> a.AuditAnswer:
        """One entry of the audit."""
        return self._ask(a.AuditAnswer, "GET", f"/v1/audit/{_part(entry)}")

    def live(self) -> a.Liveness:
        """Whether the process runs."""
        return self._ask(a.Liveness, "GET", "/health/live")

    def ready(self) -> a.Readiness:
        """Whether answers can be given."""
        return self._ask(a.Readiness, "GET", "/health/ready")

    def _ask[Result](
        self,
        kind: type[Result],
        method: str,
        path: str,
        body: s.Strict | bytes | None = None,
        *,
        query: s.Strict | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Result:
        content, sent = body if isinstance(body, bytes) else None, dict(headers or {})
        if isinstance(body, s.Strict):
            content, sent["Content-Type"] = msgspec.json.encode(body), JSON
        if query is not None:
            asked = {name: value for name, value in msgspec.to_builtins(query).items() if value is not None}
            path = f"{path}?{urllib.parse.urlencode(asked)}"
        with self._open(method, path, content, sent) as answer:
            return msgspec.json.decode(answer.read(), type=kind)

    def _open(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> Any:
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(f"{self.address}{path}", data=content, headers=headers, method=method)
        try:
            return urllib.request.urlopen(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            with error:
                raise ServerProblem(msgspec.json.decode(error.read(), type=Problem)) from error


def _once(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}


def _part(name: str) -> str:
    return urllib.parse.quote(name, safe="")
