"""`bayes-pricing models`: what is published, what is live, and the way from one to the other."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cyclopts

from bayes_pricing.cli.output import Answer
from server.commands import Flag, StoreFlags, open_engine, operator, settings_of

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from server.store.aliases import Alias
    from server.store.models import ModelRecord

models = cyclopts.App(
    name="models", help="Published models: list, show, publish, promote, roll back.", help_format="plaintext"
)


@models.command(name="list")
def list_models(*, limit: int = 50, flags: StoreFlags | None = None) -> Answer:
    """List published models, newest first, and which is the champion.

    Example: bayes-pricing models list

    Parameters
    ----------
    limit
        Most models to list.
    """
    from server.store.aliases import current_alias
    from server.store.models import list_models as stored_models

    with open_engine(settings_of(flags)) as engine:
        found, champion = stored_models(engine, limit=limit), current_alias(engine)
    name = None if champion is None else champion.model_id
    document = {
        "status": "ok",
        "champion": name,
        "version": 0 if champion is None else champion.version,
        "models": [_model_json(model) for model in found],
    }
    text = "\n".join(_model_line(model, champion=model.id == name) for model in found) or "No model is published."
    return Answer(document=document, text=text)


@models.command
def show(model_id: str, /, *, flags: StoreFlags | None = None) -> Answer:
    """Show a published model: its evidence, what the gate says, how its claims held.

    Example: bayes-pricing models show 7c21d0

    Parameters
    ----------
    model_id
        As `models list` shows it.
    """
    import msgspec

    from server.store.models import find_model
    from server.store.outcomes import track_record

    with open_engine(settings_of(flags)) as engine:
        model, record = find_model(engine, model_id), track_record(engine, model_id)
    document = {"status": "ok", **_model_json(model), "track_record": msgspec.to_builtins(record)}
    lines = [_model_line(model), *(f"  {check.finding}: {_passed(check.passed)}" for check in model.verdict.checks)]
    held = "no outcomes yet" if record.coverage is None else f"{record.coverage:.0%} of {record.outcomes} outcomes held"
    return Answer(document=document, text="\n".join([*lines, f"  claims: {held}"]))


@models.command
def publish(*, model_dir: Path, policy: Path | None = None, seed: int = 1, flags: StoreFlags | None = None) -> Answer:
    """Publish a model that `fit --out` saved; it goes live only when it is promoted.

    Example: bayes-pricing models publish --model-dir model --policy policy.toml

    Parameters
    ----------
    model_dir
        Folder written by `fit --out`.
    policy
        TOML file with objective and limits, as for `recommend`.
    seed
        Same seed, same answers.
    """
    from server.tasks import publish_fit

    settings = settings_of(flags)
    with open_engine(settings) as engine:
        record = publish_fit(settings, engine, model_dir, by=operator(), policy=_policy(policy), seed=seed)
    return Answer(document={"status": "ok", **_model_json(record)}, text=f"Published {_model_line(record)}")


@models.command
def promote(
    model_id: str,
    /,
    *,
    expected_version: int | None = None,
    reason: str | None = None,
    override: Flag = False,
    flags: StoreFlags | None = None,
) -> Answer:
    """Let a published model be the champion, if its evidence passes the gate; servers follow within two seconds.

    Example: bayes-pricing models promote 7c21d0 --expected-version 3

    Parameters
    ----------
    model_id
        As `models list` shows it.
    expected_version
        Version of the champion that you saw; left out, the present one.
    reason
        Why; kept in the audit.
    override
        Promote although the gate refuses; needs a reason.
    """
    from server.store.aliases import CHAMPION
    from server.store.aliases import promote as move

    with open_engine(settings_of(flags)) as engine:
        alias = move(
            engine,
            CHAMPION,
            model_id,
            expected_version=_version(engine, expected_version),
            by=operator(),
            reason=reason,
            override=override,
        )
    return _alias_answer(alias)


@models.command
def rollback(
    *, expected_version: int | None = None, reason: str | None = None, flags: StoreFlags | None = None
) -> Answer:
    """Let the model before be the champion again.

    Example: bayes-pricing models rollback --reason "prices looked wrong"

    Parameters
    ----------
    expected_version
        Version of the champion that you saw; left out, the present one.
    reason
        Why; kept in the audit.
    """
    from server.store.aliases import CHAMPION
    from server.store.aliases import rollback as move_back

    with open_engine(settings_of(flags)) as engine:
        version = _version(engine, expected_version)
        alias = move_back(engine, CHAMPION, expected_version=version, by=operator(), reason=reason)
    return _alias_answer(alias)


def _policy(path: Path | None) -> dict[str, Any]:
    from bayes_pricing.cli.decision_flags import LimitFlags, MoneyFlags
    from bayes_pricing.cli.policy import read_policy

    if path is None:
        return {}
    flags = read_policy(path, MoneyFlags(), LimitFlags())
    return {
        field.name: value
        for one in flags
        for field in fields(one)
        if (value := getattr(one, field.name)) != getattr(type(one)(), field.name)
    }


def _version(engine: Engine, expected: int | None) -> int:
    from server.store.aliases import current_alias

    if expected is not None:
        return expected
    alias = current_alias(engine)
    return 0 if alias is None else alias.version


def _alias_answer(alias: Alias) -> Answer:
    document = {
        "status": "ok",
        "alias": alias.name,
        "model": alias.model_id,
        "version": alias.version,
        "reason": alias.reason,
    }
    return Answer(document=document, text=f"{alias.name} is now {alias.model_id}, version {alias.version}.")


def _model_json(model: ModelRecord) -> dict[str, object]:
    return {
        "id": model.id,
        "fit": model.fit_id,
        "published_at": model.published_at,
        "published_by": model.published_by,
        "passes_gate": model.verdict.passed,
        "findings": model.verdict.findings,
        "about": model.about,
    }


def _model_line(model: ModelRecord, *, champion: bool = False) -> str:
    gate = "passes the gate" if model.verdict.passed else "fails the gate"
    mark = "  CHAMPION" if champion else ""
    return f"{model.id}  {model.published_at:%Y-%m-%d %H:%M}  {model.about.get('items', '?')} items  {gate}{mark}"


def _passed(passed: bool) -> str:
    return "passed" if passed else "FAILED"
