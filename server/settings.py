"""Everything an operator may set, from the environment, checked once."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from bayes_pricing.errors import SpecError

PREFIX = "BAYES_PRICING_"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
LOG_LEVELS = ("debug", "info", "warning", "error")
YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the server and its workers were told; each field is read from ``BAYES_PRICING_<FIELD>``.

    Raises
    ------
    SpecError
        If a value makes no sense, or keys are switched off on an address that other machines reach.

    Examples
    --------
    >>> Settings.from_environment({"BAYES_PRICING_WORKERS": "2"}).workers
    2
    >>> Settings.from_environment({"BAYES_PRICING_WORKERS": "two"})
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.SpecError: BAYES_PRICING_WORKERS is 'two'; give a whole number.
    """

    data_dir: Path = field(
        default=Path("bayes-pricing-data"), metadata={"meaning": "folder of models, uploads and results"}
    )
    database_url: str = field(
        default="", metadata={"meaning": "operational database; empty: SQLite, server.db in data_dir"}
    )
    host: str = field(default="127.0.0.1", metadata={"meaning": "address to listen on"})
    port: int = field(default=8000, metadata={"meaning": "port to listen on; 0 takes a free one"})
    workers: int = field(default=1, metadata={"meaning": "processes that answer requests"})
    keys_required: bool = field(default=True, metadata={"meaning": "ask for API keys; no only on loopback"})
    allowed_hosts: tuple[str, ...] = field(
        default=(), metadata={"meaning": "Host headers to accept, with commas; empty: any"}
    )
    body_limit: int = field(default=1_000_000, metadata={"meaning": "largest request body, bytes"})
    bulk_body_limit: int = field(default=20_000_000, metadata={"meaning": "largest upload or bulk body, bytes"})
    in_flight_limit: int = field(default=64, metadata={"meaning": "requests in work at once, per process"})
    rate_per_second: float = field(default=100.0, metadata={"meaning": "requests a second, per key"})
    rate_burst: float = field(default=200.0, metadata={"meaning": "requests at once before the rate holds, per key"})
    request_seconds: float = field(default=30.0, metadata={"meaning": "longest time one request may take"})
    drain_seconds: float = field(default=30.0, metadata={"meaning": "longest wait for open requests at a stop"})
    notice_seconds: float = field(
        default=1.0, metadata={"meaning": "time between saying not ready and closing the door at a stop"}
    )
    keep_alive_seconds: int = field(
        default=75, metadata={"meaning": "how long an idle connection is kept; longer than your load balancer keeps it"}
    )
    poll_seconds: float = field(default=0.5, metadata={"meaning": "between looks at the champion and the keys"})
    idempotency_hours: float = field(default=24.0, metadata={"meaning": "how long an idempotency key is remembered"})
    lease_seconds: float = field(
        default=30.0, metadata={"meaning": "silence after which a job's worker counts as dead"}
    )
    log_level: str = field(default="info", metadata={"meaning": "debug, info, warning or error"})
    log_share: float = field(default=0.01, metadata={"meaning": "share of successful requests that is logged"})
    runtime_dir: Path = field(
        default=Path(""), metadata={"meaning": "scratch folder shared by the processes; empty: a new one"}
    )

    def __post_init__(self) -> None:
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.data_dir.absolute() / 'server.db'}")
        if not self.keys_required and self.host not in LOOPBACK:
            raise SpecError(
                f"{PREFIX}KEYS_REQUIRED is no and {PREFIX}HOST is {self.host!r}, which other machines may reach; "
                f"listen on 127.0.0.1 or ask for keys."
            )
        if self.log_level not in LOG_LEVELS:
            raise SpecError(f"{PREFIX}LOG_LEVEL is {self.log_level!r}; give one of {', '.join(LOG_LEVELS)}.")
        if not 0 <= self.log_share <= 1:
            raise SpecError(f"{PREFIX}LOG_SHARE is {self.log_share}; give a share between 0 and 1.")
        if not 0 <= self.port <= 65535:
            raise SpecError(f"{PREFIX}PORT is {self.port}; give a port between 0 and 65535.")
        for name in ("workers", "body_limit", "bulk_body_limit", "in_flight_limit", "keep_alive_seconds"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("rate_per_second", "request_seconds", "poll_seconds", "idempotency_hours", "lease_seconds"):
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0")
        self._require("rate_burst", 1 <= self.rate_burst < math.inf, "at least 1")
        for name in ("drain_seconds", "notice_seconds"):
            self._require(name, 0 <= getattr(self, name) < math.inf, "0 or more")

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise SpecError(f"{PREFIX}{name.upper()} is {getattr(self, name)}; give a number that is {what}.")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Read every ``BAYES_PRICING_*`` variable that is a setting; what is not set keeps its default."""
        given: dict[str, object] = {}
        for setting in fields(cls):
            text = environ.get(PREFIX + setting.name.upper())
            if text is not None:
                given[setting.name] = _read(PREFIX + setting.name.upper(), text, str(setting.type))
        return cls(**given)  # type: ignore[arg-type]  # each value was read by its field's own type

    def with_runtime_dir(self) -> Settings:
        """The same, with a new scratch folder where none was named; who asks removes it."""
        if self.runtime_dir != Path(""):
            self.runtime_dir.mkdir(parents=True, exist_ok=True)
            return self
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}
        return Settings(**{**values, "runtime_dir": Path(tempfile.mkdtemp(prefix="bayes-pricing-"))})

    @property
    def published_dir(self) -> Path:
        """Models as they are served."""
        return self.data_dir / "published"

    @property
    def models_dir(self) -> Path:
        """Models as they were fitted."""
        return self.data_dir / "models"

    @property
    def uploads_dir(self) -> Path:
        """Sales that came in by request."""
        return self.data_dir / "uploads"

    @property
    def sources_dir(self) -> Path:
        """Sales files that the operator put there; requests may name them."""
        return self.data_dir / "sources"

    @property
    def results_dir(self) -> Path:
        """What jobs wrote for their askers."""
        return self.data_dir / "results"

    def table(self) -> list[tuple[str, str, str]]:
        """Variable, value (a database password hidden) and meaning of every setting."""
        from sqlalchemy.engine import make_url

        rows = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.name == "database_url":
                value = make_url(value).render_as_string(hide_password=True)
            shown = {True: "yes", False: "no"}[value] if isinstance(value, bool) else value
            text = ",".join(shown) if isinstance(shown, tuple) else str(shown)
            rows.append((PREFIX + setting.name.upper(), text, str(setting.metadata["meaning"])))
        return rows


def _read(name: str, text: str, kind: str) -> object:
    if kind == "Path":
        return Path(text)
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() not in YES + NO:
            raise SpecError(f"{name} is {text!r}; give yes or no.")
        return text.lower() in YES
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    try:
        return int(text) if kind == "int" else float(text)
    except ValueError as error:
        raise SpecError(f"{name} is {text!r}; give {'a whole number' if kind == 'int' else 'a number'}.") from error
