"""Commands that the server adds to the shell: `serve`, `worker`, `keys` and `audit`."""

from __future__ import annotations

import getpass
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from bayes_pricing.cli.output import FAILED, Answer
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from server.settings import Settings
    from server.store.keys import ApiKey

Json = Annotated[bool, Parameter(negative=())]
Flag = Annotated[bool, Parameter(negative=())]
Scopes = Annotated[tuple[str, ...], Parameter(name="--scope", consume_multiple=False, negative=())]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFlags:
    """Whose store a command opens, and how it answers."""

    data_dir: Path | None = None
    """The server's folder."""
    json: Json = False
    """One JSON document on standard output."""


keys = cyclopts.App(name="keys", help="Make, list and end API keys.", help_format="plaintext")
audit = cyclopts.App(name="audit", help="Verify the audit, and reproduce an answer from it.", help_format="plaintext")


def serve(
    *,
    host: str | None = None,
    port: int | None = None,
    workers: int | None = None,
    data_dir: Path | None = None,
    no_keys: Flag = False,
    show_settings: Flag = False,
    json: Json = False,
) -> Answer | None:
    """Answer requests over HTTP until told to stop; every setting is a BAYES_PRICING_* variable, some are flags too.

    Example: bayes-pricing serve --workers 2 --port 8000

    Parameters
    ----------
    host
        Address to listen on.
    port
        Port to listen on.
    workers
        Processes that answer.
    data_dir
        Folder of models, uploads and results, and of the SQLite database where no other is named.
    no_keys
        Answer without API keys; on loopback only.
    show_settings
        Print the settings in force and leave.
    json
        One JSON document on standard output.
    """
    given = {"host": host, "port": port, "workers": workers, "data_dir": data_dir}
    settings = settings_in_force(keys_required=False if no_keys else None, **given)
    if show_settings:
        table = settings.table()
        width = max(len(name) for name, _, _ in table)
        text = "\n".join(f"{name:<{width}}  {value}\n{'':<{width}}  ({meaning})" for name, value, meaning in table)
        return Answer(document={"status": "ok", "settings": {name: value for name, value, _ in table}}, text=text)
    from server.serving import run_server

    code = run_server(settings)
    return Answer(document={"status": "ok" if code == 0 else "failed"}, text="Stopped.", exit_code=code)


def worker(*, once: Flag = False, flags: StoreFlags | None = None) -> Answer:
    """Do the jobs that the server was asked for: fits, publications, bulk recommendations, studies.

    Example: bayes-pricing worker

    Parameters
    ----------
    once
        Leave when no job is left.
    """
    from server.logs import configure_logging
    from server.tasks import HANDLERS
    from server.warming import rehearse_fit
    from server.worker import run_worker

    settings = settings_of(flags)
    configure_logging(settings)
    stop = threading.Event()
    previous = {
        number: signal.signal(number, lambda got, frame: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with open_engine(settings) as engine:
            taken = run_worker(settings, engine, HANDLERS, stop=stop, once=once, warm=rehearse_fit)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return Answer(document={"status": "ok", "jobs": taken}, text=f"Took {taken} jobs.")


@keys.command
def create(
    *,
    name: str,
    scopes: Scopes = (),
    days: float | None = 365.0,
    rate_per_second: float | None = None,
    flags: StoreFlags | None = None,
) -> Answer:
    """Make a key; it is shown this once and kept nowhere.

    Example: bayes-pricing keys create --name shop --scope prices:read --scope prices:whatif --days 90

    Parameters
    ----------
    name
        Who will hold it.
    scopes
        What it is good for; repeatable.
    days
        How long it lasts.
    rate_per_second
        Its own rate limit; left out, the server's.
    """
    from server.store.keys import create_key

    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with open_engine(settings_of(flags)) as engine:
        new = create_key(
            engine, name=name, scopes=scopes, expires_at=expires, rate_per_second=rate_per_second, by=operator()
        )
    text = f"{new.token}\n\nThis is the only time it is shown. Key {_key_line(new.key)}"
    return Answer(document={"status": "ok", "token": new.token, "key": _key_json(new.key)}, text=text)


@keys.command(name="list")
def list_all(*, flags: StoreFlags | None = None) -> Answer:
    """List the keys, without their secrets.

    Example: bayes-pricing keys list
    """
    from server.store.keys import list_keys

    with open_engine(settings_of(flags)) as engine:
        found = list_keys(engine)
    text = "\n".join(_key_line(key) for key in found) or "There are no keys; make one with `keys create`."
    return Answer(document={"status": "ok", "keys": [_key_json(key) for key in found]}, text=text)


@keys.command
def revoke(key_id: str, /, *, flags: StoreFlags | None = None) -> Answer:
    """End a key now; servers stop taking it within a second.

    Example: bayes-pricing keys revoke 3f0a91b2c4d5

    Parameters
    ----------
    key_id
        As `keys list` shows it.
    """
    from server.store.keys import revoke_key

    with open_engine(settings_of(flags)) as engine:
        key = revoke_key(engine, key_id, by=operator())
    return Answer(document={"status": "ok", "key": _key_json(key)}, text=f"Revoked {_key_line(key)}")


@audit.command
def verify(*, head: str | None = None, flags: StoreFlags | None = None) -> Answer:
    """Walk the audit's chain and name every edited, removed or reordered row; exit code 1 if there is one.

    Example: bayes-pricing audit verify --head 1204:9f2c...

    Parameters
    ----------
    head
        A head that an earlier run printed: proves that nothing before it was rewritten.
    """
    from server.store.audit import verify_chain

    with open_engine(settings_of(flags)) as engine:
        report = verify_chain(engine, head)
    document = {
        "status": "failed" if report.broken else "ok",
        "rows": report.rows,
        "head": report.head,
        "broken": report.broken,
    }
    words = [f"{report.rows:,} rows, {'BROKEN' if report.broken else 'the chain holds'}.", *report.broken]
    text = "\n".join([*words, f"Head: {report.head} (keep it elsewhere, and give it to --head next time)"])
    return Answer(document=document, text=text, exit_code=FAILED if report.broken else 0)


@audit.command
def replay(entry_id: str, /, *, flags: StoreFlags | None = None) -> Answer:
    """Answer an audited question again from its model, and compare byte by byte; exit code 1 if they differ.

    Example: bayes-pricing audit replay 5b0c3e...

    Parameters
    ----------
    entry_id
        Of the answer, as the audit names it.
    """
    from server.store.audit import find_entry
    from server.store.published import reproduce

    settings = settings_of(flags)
    with open_engine(settings) as engine:
        entry = find_entry(engine, entry_id)
    if not entry.answer:
        raise SpecError(f"The audit's entry {entry_id!r} is the event {entry.kind!r}; only answers can be given again.")
    again = reproduce(settings.published_dir, entry.model_id, entry.kind, entry.request)
    same = again == entry.answer
    at = next((place for place, (a, b) in enumerate(zip(again, entry.answer, strict=False)) if a != b), None)
    where = min(len(again), len(entry.answer)) if at is None else at
    document: dict[str, object] = {
        "status": "ok" if same else "failed",
        "id": entry.id,
        "kind": entry.kind,
        "model": entry.model_id,
        "served": entry.served,
        "first_served": entry.first_served,
        "last_served": entry.last_served,
        "reproduced": same,
        "first_difference": None if same else where,
        "answer": entry.answer.decode(errors="replace"),
    }
    said = "The same bytes come out again." if same else f"DIFFERENT from byte {where} on."
    text = f"{entry.kind} of model {entry.model_id}, served {entry.served} times. {said}\n{document['answer']}"
    return Answer(document=document, text=text, exit_code=0 if same else FAILED)


def settings_in_force(**given: object) -> Settings:
    """The environment's settings, with the flags that were given in their place."""
    from server.settings import PREFIX, Settings

    environ = dict(os.environ)
    for name, value in given.items():
        if value is not None:
            environ[PREFIX + name.upper()] = str(value) if not isinstance(value, bool) else ("yes" if value else "no")
    return Settings.from_environment(environ)


def settings_of(flags: StoreFlags | None) -> Settings:
    """The environment's settings, in the folder of the flags if they name one."""
    return settings_in_force(data_dir=None if flags is None else flags.data_dir)


@contextmanager
def open_engine(settings: Settings) -> Iterator[Engine]:
    """The operational database, in its newest schema, until the block ends."""
    from server.store.database import open_database

    engine = open_database(settings.database_url)
    try:
        yield engine
    finally:
        engine.dispose()


def operator() -> str:
    """Who sits at the shell."""
    return f"shell:{getpass.getuser()}"


def _key_json(key: ApiKey) -> dict[str, object]:
    return {field.name: getattr(key, field.name) for field in fields(key)}


def _key_line(key: ApiKey) -> str:
    end = "revoked" if key.revoked_at else f"until {key.expires_at:%Y-%m-%d}" if key.expires_at else "without end"
    if key.expires_at is not None and not key.revoked_at and not key.active(datetime.now(UTC)):
        end = f"expired {key.expires_at:%Y-%m-%d}"
    return f"{key.id}  {key.name:<24} {end:<20} {' '.join(key.scopes)}"
