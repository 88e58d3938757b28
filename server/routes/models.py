"""Models: published ones, which of them is live, and how it got there."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from server.cursors import cursor_of, read_cursor
from server.operations import Ask, Operation, Reply, in_thread, page, reply
from server.problems import Failure
from server.routes.fits import accepted
from server.schemas import ElasticityQuery, NoQuery, PageQuery, PromoteRequest, PublishRequest, RollbackRequest
from server.store.aliases import Alias, alias_history, current_alias, promote, rollback
from server.store.failures import NotFound
from server.store.jobs import submit_job
from server.store.models import ModelRecord, find_model, list_models

CHAMPION = "champion"
VERSION = re.compile(r'\s*"(\d{1,12})"\s*')


async def list_published(ask: Ask[PageQuery, None]) -> Reply:
    """Published models, with what the gate says of each."""
    after, limit = read_cursor(ask.query.cursor), ask.query.limit
    records = await in_thread(lambda: list_models(ask.service.engine, after=after, limit=limit + 1))
    rows = [about_record(record) for record in records[:limit]]
    return page(rows, cursor_of(records[limit - 1].id) if len(records) > limit else None)


async def read_model(ask: Ask[NoQuery, None]) -> Reply:
    """What a model is: data, diagnostics, evidence, elasticities above the items, coefficients, policy, portfolio."""
    record = await in_thread(find_model, ask.service.engine, ask.path["model"])
    served = await ask.service.served(record.id)
    return reply({**about_record(record), "about": served.model.about})


async def read_elasticities(ask: Ask[ElasticityQuery, None]) -> Reply:
    """Own-price elasticities of one level with 90 % intervals; of the items by default."""
    served = await ask.service.served(ask.query.model)
    rows, after = await in_thread(
        elasticity_rows, served.model, ask.query.level, read_cursor(ask.query.cursor), ask.query.limit
    )
    return page(rows, after, model=served.model.id)


async def publish(ask: Ask[NoQuery, PublishRequest]) -> Reply:
    """Publish a saved fit under a policy of its own, as a job; promoting it is another request."""
    settings = ask.service.settings
    if not await in_thread((settings.models_dir / ask.body.fit).is_dir):
        raise NotFound(f"There is no saved fit {ask.body.fit!r}; run POST /v1/fits first.")
    request = {"fit": ask.body.fit, "policy": ask.body.policy.flags(), "seed": ask.body.seed}
    submitted = await in_thread(lambda: submit_job(ask.service.engine, "publish", request, by=ask.principal.key_id))
    return accepted(submitted.job, created=submitted.created)


async def read_champion(ask: Ask[NoQuery, None]) -> Reply:
    """Which model is live, and every change before; its ETag is what a change must carry as If-Match."""
    alias = await in_thread(current_alias, ask.service.engine, CHAMPION)
    history = await in_thread(alias_history, ask.service.engine, CHAMPION)
    version = 0 if alias is None else alias.version
    return reply({"version": version, "current": alias, "history": history}, headers={"etag": f'"{version}"'})


async def promote_model(ask: Ask[NoQuery, PromoteRequest]) -> Reply:
    """Let a published model go live, if the gate lets it; every process answers from it within two seconds."""
    expected = expected_version(ask.headers["if-match"])
    if ask.body.override_gate and not ask.body.reason:
        raise Failure("unprocessable", "Overriding the gate needs a reason, which is kept.")
    alias = await in_thread(
        lambda: promote(
            ask.service.engine, CHAMPION, ask.body.model, expected_version=expected, by=ask.principal.key_id,
            reason=ask.body.reason, override=ask.body.override_gate, operation=ask.operation,
        )
    )  # fmt: skip
    return await changed(ask, alias)


async def roll_back(ask: Ask[NoQuery, RollbackRequest]) -> Reply:
    """Let the model before go live again."""
    expected = expected_version(ask.headers["if-match"])
    alias = await in_thread(
        lambda: rollback(
            ask.service.engine, CHAMPION, expected_version=expected, by=ask.principal.key_id, reason=ask.body.reason,
            operation=ask.operation,
        )
    )  # fmt: skip
    return await changed(ask, alias)


async def changed(ask: Ask[Any, Any], alias: Alias) -> Reply:
    """The alias as it is now, this process already answering from it."""
    await in_thread(ask.service.live.refresh)
    return reply(alias, headers={"etag": f'"{alias.version}"'})


def expected_version(given: str) -> int:
    """The version `If-Match` names.

    Raises
    ------
    Failure
        If it is not an ETag of an alias.

    Examples
    --------
    >>> expected_version('"3"')
    3
    """
    found = VERSION.fullmatch(given)
    if found is None:
        raise Failure("invalid-request", 'If-Match must be the ETag of GET /v1/aliases/champion, such as "3".')
    return int(found[1])


def about_record(record: ModelRecord) -> dict[str, Any]:
    """A model's record with the gate's verdict."""
    plain: dict[str, Any] = msgspec.to_builtins(record)
    verdict = record.verdict
    return {
        **plain,
        "verdict": {
            "passed": verdict.passed,
            "checks": msgspec.to_builtins(verdict.checks),
            "findings": msgspec.to_builtins(verdict.findings),
        },
    }


def elasticity_rows(model: Any, level: str, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """A page of elasticities of a level."""
    import polars as pl

    from bayes_pricing.demand.elasticity import elasticity_table

    known = ("item", *model.about["posterior"]["spec"]["levels"], "population")
    if level not in known:
        raise NotFound(f"The model has no level {level!r}; it has {', '.join(known)}.")
    table = elasticity_table(model.posterior).filter(pl.col("level") == level)
    rows = table.filter(pl.col("name") > after) if after is not None else table
    more = rows.height > limit
    shown: list[dict[str, Any]] = rows.head(limit).to_dicts()
    return shown, cursor_of(shown[-1]["name"]) if more else None


OPERATIONS = (
    Operation(
        method="GET", path="/v1/models", handler=list_published, query=PageQuery, answer="ModelsPage",
        scope="models:read", problems=(404,),
    ),
    Operation(
        method="POST", path="/v1/models", handler=publish, body=PublishRequest, answer="JobAccepted",
        scope="models:publish", status=202, problems=(404, 409, 422), headers={"Location": "Where to watch the job"},
        example={"fit": "0" * 64, "policy": {"objective": "profit", "max_change": 0.15}},
    ),
    Operation(
        method="GET", path="/v1/models/{model:str}", handler=read_model, answer="ModelAnswer", scope="models:read",
        problems=(404,),
    ),
    Operation(
        method="GET", path="/v1/elasticities", handler=read_elasticities, query=ElasticityQuery,
        answer="ElasticitiesPage", scope="models:read", problems=(404,),
    ),
    Operation(
        method="GET", path="/v1/aliases/champion", handler=read_champion, answer="ChampionAnswer",
        scope="models:read",
    ),
    Operation(
        method="PUT", path="/v1/aliases/champion", handler=promote_model, body=PromoteRequest, answer="Alias",
        scope="models:publish", if_match=True, problems=(404, 409, 412, 422), headers={"ETag": "The new version"},
        example={"model": "0" * 32},
    ),
    Operation(
        method="POST", path="/v1/aliases/champion/rollback", handler=roll_back, body=RollbackRequest, answer="Alias",
        scope="models:publish", if_match=True, problems=(409, 412), headers={"ETag": "The new version"},
        example={"reason": "complaints about tea"},
    ),
)  # fmt: skip
