"""Published models this process answers from: the champion, swapped whole when its alias moves, and a few others."""

from __future__ import annotations

import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from sqlalchemy.engine import Engine

from bayes_pricing.errors import StorageError
from server.answers import decision_part, envelope_start
from server.finite import content_tag
from server.readers import readable
from server.store.aliases import Alias, current_alias
from server.store.failures import NotFound, StoreUnavailable
from server.store.published import PublishedModel, load_published

OTHERS_KEPT = 4


@dataclass(slots=True)
class Ready:
    """What is known of one item's recommendation: its place, tag and advice, and the audit's id once it was served."""

    place: int
    tag: str
    action: str
    audit_id: str | None = None


class _Action(msgspec.Struct):
    action: str


def action_of(decision: bytes) -> str:
    """What an encoded decision says to do."""
    return msgspec.json.decode(decision, type=readable(_Action)).action


@dataclass(frozen=True, eq=False)
class Served:
    """A published model with the answers this process has made of it."""

    model: PublishedModel
    start: bytes
    ready: dict[str, Ready] = field(default_factory=dict)
    explained: OrderedDict[str, tuple[bytes, str]] = field(default_factory=OrderedDict)

    def recommendation(self, item: str) -> tuple[Ready, bytes] | None:
        """The ready answer of an item and its bytes, put together from the mapped file; None for an unknown item."""
        found = self.ready.get(item)
        place = self.model.place.get(item) if found is None else found.place
        if place is None:
            return None
        content = b"%b,%b}" % (self.start, decision_part(self.model, place))
        if found is None:
            action = sys.intern(action_of(self.model.recommendations[place]))
            found = self.ready[item] = Ready(place=place, tag=content_tag(content), action=action)
        return found, content


class LiveModels:
    """Holds what is live; `refresh` is called by one watcher, everybody else only reads.

    A request takes one `Served` and keeps it, so that no answer mixes two versions. A version that cannot be loaded
    leaves the one before in place and says so in `trouble`.
    """

    def __init__(
        self, root: Path, engine: Engine, loaded: Callable[[PublishedModel, float], None] | None = None
    ) -> None:
        self._root, self._engine, self._loaded = root, engine, loaded
        self._lock = threading.Lock()
        self._others: OrderedDict[str, Served] = OrderedDict()
        self.champion: Served | None = None
        self.alias: Alias | None = None
        self.trouble: str | None = "no model has been promoted yet; publish one and promote it"

    def refresh(self) -> None:
        """Look whether another model is live, and load it."""
        try:
            alias = current_alias(self._engine)
        except StoreUnavailable as error:
            self.trouble = str(error) if self.champion is None else None
            return
        if alias is None or (self.champion is not None and self.champion.model.id == alias.model_id):
            self.alias = alias
            self.trouble = None if self.champion is not None else self.trouble
            return
        try:
            self.champion = self._load(alias.model_id)
        except StorageError as error:
            kept = "the model before stays live" if self.champion is not None else "no model is live"
            self.trouble = f"version {alias.version} cannot be loaded, {kept}: {error}"
            return
        self.alias, self.trouble = alias, None

    def require(self, model_id: str | None = None) -> Served:
        """The champion, or a published model by its id (loaded where it is not yet: call from a thread).

        Raises
        ------
        StoreUnavailable
            If no model is live.
        NotFound
            If no published model has the id.
        """
        champion = self.champion
        if model_id is None or (champion is not None and champion.model.id == model_id):
            if champion is None:
                raise StoreUnavailable(f"No model is live: {self.trouble}.")
            return champion
        with self._lock:
            if model_id not in self._others:
                if not (self._root / model_id).is_dir():
                    raise NotFound(f"No published model has the id {model_id!r}; see GET /v1/models.")
                self._others[model_id] = self._load(model_id)
                while len(self._others) > OTHERS_KEPT:
                    self._others.popitem(last=False)
            self._others.move_to_end(model_id)
            return self._others[model_id]

    def _load(self, model_id: str) -> Served:
        started = time.perf_counter()
        model = load_published(self._root, model_id)
        if self._loaded is not None:
            self._loaded(model, time.perf_counter() - started)
        return Served(model=model, start=envelope_start(model))
