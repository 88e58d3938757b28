"""Every error as one form: RFC 9457 problems with stable types, and one table from exceptions to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from litestar.exceptions import HTTPException

from bayes_pricing.errors import Finding, PanelError, PricingError, Refusal, SpecError, StorageError
from bayes_pricing.gate import GateRefusal
from server.store.failures import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
    KeyRefused,
    NotFound,
    PreconditionFailed,
    ScopeMissing,
    StoreUnavailable,
)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "/problems/"


class FieldProblem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong at one place of a request: a JSON pointer, and words."""

    pointer: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong (RFC 9457): `type` names the kind for good, `detail` tells this occurrence and what to do."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[FieldProblem, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem: its name in the type's address, its status and its title, which never change."""

    name: str
    status: int
    title: str

    @property
    def type(self) -> str:
        """Address of the page that explains the kind."""
        return TYPE_PREFIX + self.name


KINDS = {
    kind.name: kind
    for kind in (
        Kind("invalid-request", 400, "The request does not fit the schema"),
        Kind("key-refused", 401, "No valid API key"),
        Kind("scope-missing", 403, "The key may not do this"),
        Kind("not-found", 404, "There is no such thing"),
        Kind("method-not-allowed", 405, "This address does not know the method"),
        Kind("conflict", 409, "The state of things forbids it"),
        Kind("gate-refused", 409, "The model may not go live"),
        Kind("precondition-failed", 412, "It has changed since it was read"),
        Kind("body-too-large", 413, "The body is too large"),
        Kind("unsupported-media-type", 415, "The content type is not one this address reads"),
        Kind("unprocessable", 422, "The request is well formed and makes no sense"),
        Kind("refused", 422, "The numbers cannot honestly be given"),
        Kind("idempotency-mismatch", 422, "The idempotency key was used for another request"),
        Kind("precondition-required", 428, "If-Match is missing"),
        Kind("rate-limited", 429, "Too many requests"),
        Kind("failed", 500, "The server failed"),
        Kind("unavailable", 503, "Not now"),
    )
}
"""Every kind of problem there is."""

BY_STATUS = {400: "invalid-request", 401: "key-refused", 403: "scope-missing", 404: "not-found"} | {
    405: "method-not-allowed", 409: "conflict", 412: "precondition-failed", 413: "body-too-large",
    415: "unsupported-media-type", 422: "unprocessable", 428: "precondition-required", 429: "rate-limited",
    503: "unavailable",
}  # fmt: skip

BY_EXCEPTION: tuple[tuple[type[BaseException], str], ...] = (
    (StoreUnavailable, "unavailable"),
    (NotFound, "not-found"),
    (PreconditionFailed, "precondition-failed"),
    (IdempotencyInFlight, "conflict"),
    (IdempotencyMismatch, "idempotency-mismatch"),
    (Conflict, "conflict"),
    (KeyRefused, "key-refused"),
    (ScopeMissing, "scope-missing"),
    (GateRefusal, "gate-refused"),
    (Refusal, "refused"),
    (PanelError, "unprocessable"),
    (SpecError, "unprocessable"),
    (StorageError, "unavailable"),
    (RecursionError, "invalid-request"),
    (TimeoutError, "unavailable"),
)


class Failure(PricingError):
    """A problem raised where it is found, in the words of the HTTP side; `kind` is one of :data:`KINDS`."""

    def __init__(
        self, kind: str, detail: str, errors: tuple[FieldProblem, ...] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        self.kind, self.detail, self.errors, self.headers = kind, detail, errors, dict(headers or {})
        super().__init__(detail)


def problem_of(error: BaseException, instance: str) -> tuple[Problem, dict[str, str]]:
    """The problem an exception means, and the headers that go with it; no stack and no secret in either.

    Examples
    --------
    >>> problem, headers = problem_of(NotFound("There is no item 'tea'."), "r-1")
    >>> problem.status, problem.type, problem.detail
    (404, '/problems/not-found', "There is no item 'tea'.")
    """
    findings: tuple[Finding, ...] = ()
    errors: tuple[FieldProblem, ...] = ()
    headers: dict[str, str] = {}
    if isinstance(error, Failure):
        name, detail, errors, headers = error.kind, error.detail, error.errors, dict(error.headers)
    elif isinstance(error, HTTPException):
        name = BY_STATUS.get(error.status_code, "failed" if error.status_code >= 500 else "invalid-request")
        detail, headers = error.detail, dict(error.headers or {})
    else:
        name = next((found for kind, found in BY_EXCEPTION if isinstance(error, kind)), "failed")
        detail = str(error) or type(error).__name__
        findings = error.findings if isinstance(error, Refusal) else ()
    if name == "failed":
        detail = "Something went wrong here, not with the request; quote the instance when asking for help."
    if isinstance(error, RecursionError):
        detail = "The body is nested too deeply."
    if name in ("unavailable", "rate-limited") or isinstance(error, IdempotencyInFlight):
        headers.setdefault("retry-after", "1")
    if name == "key-refused":
        headers["www-authenticate"] = "Bearer"
    kind = KINDS[name]
    problem = Problem(
        type=kind.type, title=kind.title, status=kind.status, detail=detail, instance=instance, errors=errors,
        findings=findings,
    )  # fmt: skip
    return problem, headers
