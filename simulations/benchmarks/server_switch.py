"""How long a promotion takes to reach every process of the running server."""

from __future__ import annotations

import contextlib
import http.client
import time
from collections.abc import Iterator

import msgspec

from simulations.benchmarks.server_processes import children, open_sockets

CONNECTIONS = 8
MOST_CONNECTIONS = 256
GIVE_UP_SECONDS = 60.0
LOOK_SECONDS = 0.01
ITEM = "/v1/items/item-00000/recommendation"


class _Answer(msgspec.Struct):
    model: str


class _Alias(msgspec.Struct):
    version: int


def measure_switch(port: int, parent: int, token: str, models: tuple[str, str], rounds: int) -> list[float]:
    """Seconds from a promotion's answer until the last process answers from the promoted model, one number a round.

    Connections are held to every process and asked in turn, so that none is left out; each answer is of one of the two
    models, and no connection goes back to the model before.

    Parameters
    ----------
    port, parent : int
        Of the server, and the number of its supervisor.
    token : str
    models : tuple of str
        The live one and another published one; they are promoted in turn.
    rounds : int
    """
    headers = {"Authorization": f"Bearer {token}"}
    with connections_to_all(port, parent) as held:
        return [_switch(held, headers, models[(number + 1) % 2], models[number % 2]) for number in range(rounds)]


@contextlib.contextmanager
def connections_to_all(port: int, parent: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Connections, some of which every process below the supervisor holds."""
    processes = children(parent)
    before = [open_sockets(process) for process in processes]
    held: list[http.client.HTTPConnection] = []
    try:
        while len(held) < CONNECTIONS or any(
            open_sockets(process) <= count for process, count in zip(processes, before, strict=True)
        ):
            if len(held) >= MOST_CONNECTIONS:
                raise SystemExit(f"{MOST_CONNECTIONS} connections did not reach every process of the server.")
            held.append(http.client.HTTPConnection("127.0.0.1", port, timeout=30))
            held[-1].connect()
            _ask(held[-1], "GET", "/health/live", {})
        yield held
    finally:
        for connection in held:
            connection.close()


def _switch(held: list[http.client.HTTPConnection], headers: dict[str, str], new: str, old: str) -> float:
    """Promote a model; seconds until every connection has answered from it."""
    version = msgspec.json.decode(_ask(held[0], "GET", "/v1/aliases/champion", headers), type=_Alias).version
    body = msgspec.json.encode({"model": new, "reason": "measured", "override_gate": True})
    _ask(held[0], "PUT", "/v1/aliases/champion", headers | {"If-Match": f'"{version}"', **JSON}, body)
    begin, switched = time.perf_counter(), dict.fromkeys(held, False)
    while not all(switched.values()):
        if time.perf_counter() > begin + GIVE_UP_SECONDS:
            raise SystemExit(f"not every process served the new version within {GIVE_UP_SECONDS} seconds")
        for connection in held:
            model = msgspec.json.decode(_ask(connection, "GET", ITEM, headers), type=_Answer).model
            if model != new and (model != old or switched[connection]):
                raise SystemExit(f"a process answered from {model}, which is not the model it should serve")
            switched[connection] = model == new
        time.sleep(LOOK_SECONDS)
    return time.perf_counter() - begin


JSON = {"Content-Type": "application/json"}


def _ask(
    connection: http.client.HTTPConnection, method: str, path: str, headers: dict[str, str], body: bytes | None = None
) -> bytes:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{method} {path} answered {answer.status}: {content[:300]!r}")
    return content
