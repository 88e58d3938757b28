"""What workers can do: fit, publish, recommend in bulk, run a study; each is what the shell does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from sqlalchemy.engine import Connection, Engine

from bayes_pricing.errors import Finding, Refusal, SpecError
from server.settings import Settings
from server.store.aliases import current_alias
from server.store.failures import NotFound
from server.store.models import ModelRecord, find_model, insert_model, models_of_fit, record_model
from server.worker import Done, Handler, JobRun

if TYPE_CHECKING:
    from bayes_pricing.demand.design import ModelRequest
    from bayes_pricing.demand.fit import DemandFit
    from bayes_pricing.demand.posterior import DemandPosterior
    from bayes_pricing.gate import BackTest, Evidence

UPLOAD = re.compile(r"upload:([0-9a-f]{64})")
SOURCE = re.compile(r"source:([A-Za-z0-9][A-Za-z0-9._-]{0,199}\.(?:csv|parquet))")
FIT_ID = re.compile(r"[0-9a-f]{8,64}")
STUDIES: Mapping[str, tuple[str, ...]] = {
    "course_coverage": ("seeds", "first"),
    "monitoring": ("streams", "planned", "tests", "seed"),
}
"""Studies that a job may run, and their whole-number arguments."""


class FitRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fit, back-test and publish; the names are those of `bayes-pricing fit`, `roles` those of its column flags."""

    sales: str
    absent: Literal["zero", "missing"] | None = None
    roles: dict[str, Any] = {}
    model: Literal["auto", "lognormal", "student-t", "poisson", "negative-binomial"] = "auto"
    noise_by: Literal["common", "category", "item"] | None = None
    randomised_price: bool = False
    compare_models: bool = False
    terms: dict[str, Any] = {}
    seed: int = 1
    draws: int = 1000
    tune: int | None = None
    chains: int = 4
    policy: dict[str, Any] = {}


class PublishRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Publish a saved fit under a policy."""

    fit: str
    policy: dict[str, Any] = {}
    seed: int = 1


class RecommendRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recommend prices for all items of a saved fit, every draw used."""

    model: str
    policy: dict[str, Any] = {}
    seed: int = 1


class StudyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run one of `STUDIES`."""

    name: str
    arguments: dict[str, int] = {}


def fit(run: JobRun) -> Done:
    """Fit demand as `bayes-pricing fit --out` does, test it on its last periods, and publish it.

    Where the sales without the last periods, or the model, allow no such test, the result says why and the model is
    published without: it goes live only with a recorded reason.

    Raises
    ------
    Refusal
        If nothing is identified or the sampler did not converge: nothing is saved then.
    """
    from bayes_pricing.backtest import backtest
    from bayes_pricing.cli.fit import fit_json
    from bayes_pricing.cli.flags import RoleFlags, SalesFlags, SamplerFlags
    from bayes_pricing.demand.fit import fit_demand
    from bayes_pricing.demand.model_comparison import MODELS, fit_compared
    from bayes_pricing.gate import fit_evidence
    from server.policies import policy_flags
    from server.store.publishing import publish_model

    asked = _read(run, FitRequest)
    policy_flags(asked.policy)
    roles = _convert(asked.roles, RoleFlags, "roles")
    sampler = SamplerFlags(draws=asked.draws, tune=asked.tune, chains=asked.chains).settings()
    request = _model_request(asked)
    panel = SalesFlags(sales=str(sales_file(run.settings, asked.sales)), absent=asked.absent).panel(roles)
    fitter = fit_compared if asked.compare_models else fit_demand
    fitted = fitter(panel, request, sampler, seed=asked.seed, progress=_part(run, 0.0, 0.45))
    if not fitted.diagnostics.passed:
        raise Refusal((*fitted.diagnostics.findings, *fitted.findings))
    if asked.compare_models:  # the family that was found is what is tested
        spec = fitted.posterior.spec
        request = replace(request, model="student-t" if spec.errors == "student_t" else MODELS[spec.likelihood])
    champion = _champion(run)
    told = _part(run, 0.45, 0.8, "back-test: ")
    tested: BackTest | None = None
    untested: tuple[Finding, ...] = ()
    try:
        tested = backtest(panel, request, sampler, seed=asked.seed, champion=champion, progress=told)
    except Refusal as refusal:  # the fit of all sales stands; the gate misses what it could not see
        untested = refusal.findings
    folder = save_once(run.settings, fitted)
    published = publish_model(
        folder, run.settings.published_dir, policy=asked.policy, seed=asked.seed, progress=_part(run, 0.8, 1.0)
    )
    evidence, about = fit_evidence(fitted, tested), _about(fitted)

    def record(connection: Connection) -> ModelRecord:
        return insert_model(
            connection, published, fit_id=fitted.posterior.id, by=run.job.created_by, evidence=evidence, about=about
        )

    document = msgspec.json.decode(msgspec.json.encode(fit_json(fitted), enc_hook=_plain))
    result = {
        "model": fitted.posterior.id,
        "published": published,
        "document": document,
        "not_back_tested": msgspec.to_builtins(untested),
    }
    return Done(result=result, also=record)


def _model_request(asked: FitRequest) -> ModelRequest:
    """What model a fit asks for, as `bayes-pricing fit` reads it from its flags."""
    from bayes_pricing.cli.flags import TermFlags
    from bayes_pricing.demand.design import ModelRequest
    from bayes_pricing.demand.terms import TermRequest

    terms = _convert(asked.terms, TermFlags, "terms")
    return ModelRequest(
        model=asked.model,
        noise_by=asked.noise_by,
        randomised_price=asked.randomised_price,
        correlated=terms.correlated,
        autocorrelation=terms.autocorrelation,
        terms=TermRequest(
            season=terms.season,
            season_length=terms.season_length,
            trend=terms.trend,
            stockpiling=terms.stockpiling,
            drift=terms.drift,
            curve=terms.price_curve,
            months=terms.month_effects,
            holidays=tuple(terms.holiday),
            period_effects=terms.period_effects,
        ),
    )


def publish(run: JobRun) -> Done:
    """Publish a saved fit, perhaps under another policy; the back-test of the fit stays its evidence."""
    from server.policies import policy_flags

    asked = _read(run, PublishRequest)
    policy_flags(asked.policy)
    folder = fit_folder(run.settings, asked.fit)
    run.progress(0.05, "publishing")
    record = publish_fit(run.settings, run.engine, folder, by=run.job.created_by, policy=asked.policy, seed=asked.seed)
    return Done(result={"model": record.fit_id, "published": record.id})


def publish_fit(
    settings: Settings,
    engine: Engine,
    folder: Path,
    *,
    by: str,
    policy: Mapping[str, Any] | None = None,
    seed: int = 1,
    evidence: Evidence | None = None,
) -> ModelRecord:
    """Publish a saved fit and record it, with the evidence given, or else that of an earlier publication of the fit.

    Raises
    ------
    StorageError
        If there is no saved fit, or it is damaged.
    Refusal
        If no prices can honestly be recommended from it.
    """
    from bayes_pricing.gate import fit_evidence
    from bayes_pricing.registry import load_fit
    from server.store.publishing import publish_model

    fitted = load_fit(folder)
    save_once(settings, fitted)
    if evidence is None:
        earlier = models_of_fit(engine, fitted.posterior.id)
        evidence = earlier[0].evidence if earlier else fit_evidence(fitted)
    published = publish_model(folder, settings.published_dir, policy=policy, seed=seed)
    return record_model(engine, published, fit_id=fitted.posterior.id, by=by, evidence=evidence, about=_about(fitted))


def recommend(run: JobRun) -> Done:
    """Recommend prices from a saved fit as `bayes-pricing recommend` does; the answer is a file of results."""
    from bayes_pricing.cli.policy import decidable, decide
    from bayes_pricing.pricing.decision import decision_json
    from bayes_pricing.pricing.phrases import calendar_days
    from bayes_pricing.registry import load_fit
    from server.policies import policy_flags

    asked = _read(run, RecommendRequest)
    money, limits = policy_flags(asked.policy)
    run.progress(0.05, "reading the model")
    fitted = load_fit(fit_folder(run.settings, asked.model))
    run.progress(0.2, "judging prices on every posterior draw")
    decision = decide(decidable(fitted), money, limits, seed=asked.seed, period_days=calendar_days(fitted.summary))
    run.progress(0.95, "writing the answer")
    document = {"status": "ok", **decision_json(decision)}
    name = f"{run.job.id}.json"
    _write(run.settings.results_dir / name, msgspec.json.encode(document, enc_hook=_plain))
    return Done(result={"file": name, "items": fitted.posterior.items.height})


def study(run: JobRun) -> Done:
    """Run a study in a process of its own; its table is a file of results."""
    asked = _read(run, StudyRequest)
    known = STUDIES.get(asked.name)
    if known is None:
        raise SpecError(f"There is no study {asked.name!r}; choose from {', '.join(sorted(STUDIES))}.")
    unknown = sorted(set(asked.arguments) - set(known))
    if unknown:
        raise SpecError(f"The study {asked.name!r} has no argument {unknown[0]!r}; it has {', '.join(known)}.")
    run.settings.results_dir.mkdir(parents=True, exist_ok=True)
    name = f"{run.job.id}.md"
    out = run.settings.results_dir.absolute() / name
    words = [word for key, value in asked.arguments.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-m", f"simulations.studies.{asked.name}", *words, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        began = time.monotonic()
        while process.poll() is None:
            run.progress(0.5, f"running for {int(time.monotonic() - began) // 60} minutes")
            time.sleep(0.2)
    finally:
        process.kill()
        said = process.communicate()[1]
    if process.returncode != 0 or not out.is_file():
        raise RuntimeError(f"the study {asked.name} ended with {process.returncode}: {said[-2000:]}")
    return Done(result={"file": name})


HANDLERS: Mapping[str, Handler] = {"fit": fit, "publish": publish, "recommend": recommend, "study": study}
"""What a worker does for each kind of job."""


def sales_file(settings: Settings, place: str) -> Path:
    """The file that a request means: ``upload:<sha256>`` or ``source:<name>`` of the operator's folder, nothing else.

    Raises
    ------
    SpecError
        If it is another form, or there is no such file.
    """
    upload, source = UPLOAD.fullmatch(place), SOURCE.fullmatch(place)
    if upload is not None:
        paths = [settings.uploads_dir / f"{upload[1]}{suffix}" for suffix in (".csv", ".parquet")]
    elif source is not None:
        paths = [settings.sources_dir / source[1]]
    else:
        raise SpecError(f"sales is {place!r}; give upload:<id of an upload> or source:<name>.csv or .parquet.")
    found = [path for path in paths if path.is_file()]
    if not found:
        raise SpecError(f"There is no {place!r}; upload the sales first, or ask the operator for the source.")
    return found[0]


def fit_folder(settings: Settings, fit_id: str) -> Path:
    """Folder of a saved fit.

    Raises
    ------
    NotFound
        If there is none with this id.
    """
    folder = settings.models_dir / fit_id
    if FIT_ID.fullmatch(fit_id) is None or not folder.is_dir():
        raise NotFound(f"There is no saved fit {fit_id!r}.")
    return folder


def save_once(settings: Settings, fitted: DemandFit) -> Path:
    """Save a fit under its id, unless it is there: the id is a content address."""
    from bayes_pricing.registry import save_fit

    folder = settings.models_dir / fitted.posterior.id
    if not folder.is_dir():
        save_fit(fitted, folder)
    return folder


def _read[Request](run: JobRun, kind: type[Request]) -> Request:
    return _convert(run.job.request, kind, f"the request of a job of kind {run.job.kind!r}")


def _convert[Request](given: Mapping[str, Any], kind: type[Request], what: str) -> Request:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise SpecError(f"{what[0].upper()}{what[1:]} cannot be read: {error}.") from error


def _part(run: JobRun, start: float, end: float, before: str = "") -> Callable[[float, str], None]:
    """Progress of a part of a job, told as progress of the whole."""

    def tell(fraction: float, label: str) -> None:
        run.progress(start + (end - start) * fraction, before + label)

    return tell


def _champion(run: JobRun) -> DemandPosterior | None:
    """The posterior behind the champion, if there is one and its fit is still kept."""
    from bayes_pricing.registry import load_fit

    alias = current_alias(run.engine)
    if alias is None:
        return None
    folder = run.settings.models_dir / find_model(run.engine, alias.model_id).fit_id
    return load_fit(folder).posterior if folder.is_dir() else None


def _about(fitted: DemandFit) -> dict[str, Any]:
    summary = fitted.summary
    last = summary.last_period
    return {
        "likelihood": fitted.posterior.spec.likelihood,
        "items": summary.items,
        "rows": summary.rows,
        "data_as_of": None if last is None else str(last),
        "data_hash": summary.data_hash,
        "seed": fitted.seed,
    }


def _write(path: Path, content: bytes) -> None:
    """Write a file; a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        staging.write_bytes(content)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _plain(value: object) -> object:
    """Dates, NumPy scalars and the like as plain values."""
    for method in ("isoformat", "item"):
        convert = getattr(value, method, None)
        if convert is not None:
            return convert()
    return str(value)
