"""Idempotency: once done, answered the same; another body, a running twin and a dead owner told apart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from server.store.database import writing
from server.store.failures import IdempotencyInFlight, IdempotencyMismatch
from server.store.idempotency import StoredAnswer, Ticket, abandon, begin, complete
from server.store.tables import idempotency
from tests.stores import BOTH, opened

ANSWER = StoredAnswer(status=201, headers={"Location": "/v1/jobs/1"}, body=b'{"id":1}')


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with opened(request, tmp_path) as engine:
        yield engine


def ask(
    engine: Engine, *, key: str = "k", who: str = "shop", route: str = "POST /v1/fits", body: bytes = b"{}"
) -> Ticket | StoredAnswer:
    return begin(engine, key=key, principal_id=who, route=route, body=body)


def test_second_time_gets_the_first_answer(engine: Engine) -> None:
    ticket = ask(engine)
    assert isinstance(ticket, Ticket)
    complete(engine, ticket, ANSWER)
    assert ask(engine) == ANSWER
    with pytest.raises(IdempotencyMismatch):
        ask(engine, body=b'{"other":1}')


def test_other_key_asker_or_route_is_another_request(engine: Engine) -> None:
    tickets = [ask(engine), ask(engine, key="k2"), ask(engine, who="studio"), ask(engine, route="POST /v1/outcomes")]
    assert len({ticket.operation for ticket in tickets if isinstance(ticket, Ticket)}) == 4


def test_twin_waits_and_failed_request_is_done_anew(engine: Engine) -> None:
    ticket = ask(engine)
    assert isinstance(ticket, Ticket)
    with pytest.raises(IdempotencyInFlight):
        ask(engine)
    with pytest.raises(IdempotencyMismatch):
        ask(engine, body=b"other")
    abandon(engine, ticket)
    assert ask(engine) == ticket


def test_request_of_a_dead_process_is_taken_over(engine: Engine) -> None:
    code = (
        "from server.store.database import open_database; from server.store.idempotency import begin; import sys\n"
        "begin(open_database(sys.argv[1]), key='k', principal_id='shop', route='POST /v1/fits', body=b'{}')"
    )
    subprocess.run([sys.executable, "-c", code, engine.url.render_as_string(hide_password=False)], check=True)
    assert isinstance(ask(engine), Ticket)
    with pytest.raises(IdempotencyInFlight):
        ask(engine)


def test_record_ends(engine: Engine) -> None:
    ticket = begin(engine, key="k", principal_id="shop", route="r", body=b"1", hours=-1)
    assert isinstance(ticket, Ticket)
    assert isinstance(begin(engine, key="k", principal_id="shop", route="r", body=b"2"), Ticket)
    with writing(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(idempotency)).scalar() == 1
