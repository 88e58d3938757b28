"""What can go wrong at the store, as types; the HTTP edge has one table from these to problems."""

from __future__ import annotations

from bayes_pricing.errors import PricingError


class StoreUnavailable(PricingError):
    """The database is locked, full or gone; nothing was changed, and trying again later may work."""


class NotFound(PricingError):
    """There is no such record."""


class Conflict(PricingError):
    """What was asked does not fit the state of the record."""


class PreconditionFailed(PricingError):
    """The record is not in the version the caller saw.

    Attributes
    ----------
    current_version : int
        The version it is in; 0 where there is none yet.
    """

    def __init__(self, message: str, *, current_version: int) -> None:
        self.current_version = current_version
        super().__init__(message)


class KeyRefused(PricingError):
    """The key is missing, malformed, unknown, revoked or expired; the message does not say which."""


class ScopeMissing(PricingError):
    """The key is good, but not for this.

    Attributes
    ----------
    scope : str
        What it would need.
    """

    def __init__(self, message: str, *, scope: str) -> None:
        self.scope = scope
        super().__init__(message)


class IdempotencyMismatch(PricingError):
    """An idempotency key came back with another request than its first."""


class IdempotencyInFlight(PricingError):
    """The first request with this idempotency key is still being answered."""


class LeaseLost(PricingError):
    """Another worker has taken the job over; what this one did is thrown away."""
