"""Runs, scores and models in MLflow, for those who keep their experiments there; the optional extra is `mlflow`.

Without it nothing is lost: the embedded registry keeps models and their evidence. Tracking adds a copy elsewhere, and
never changes what was fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from bayes_pricing.errors import SpecError, StorageError
from bayes_pricing.extras import import_extra

if TYPE_CHECKING:
    from bayes_pricing.baselines.suite import Comparison
    from bayes_pricing.demand.fit import DemandFit

EXPERIMENT = "bayes-pricing"
MODEL = "demand"
SCORES = ("rmse_log_units", "wape", "crps", "directional_accuracy", "coverage_50", "coverage_80", "coverage_95")
ELASTICITY = ("elasticity", "lower", "upper")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """Where a run went.

    Attributes
    ----------
    store : str
        URI of the tracking store.
    experiment, run : str
        Name of the experiment and id of the run.
    version : str or None
        Of the registered model `demand`; None where only scores were tracked.
    alias : str or None
        The alias that the version carries.

    Examples
    --------
    >>> TrackedRun(store="sqlite:///runs.db", experiment="bayes-pricing", run="ab12", version="3", alias=None).version
    '3'
    """

    store: str
    experiment: str
    run: str
    version: str | None = None
    alias: str | None = None


def check_store(store: str) -> None:
    """Refuse a store that cannot be written to before any long work begins.

    Raises
    ------
    SpecError
        If the package is not installed, or the URI is of no known kind.

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> try:
    ...     check_store("ftp://somewhere")
    ... except SpecError as error:
    ...     text = str(error)
    >>> ("neither sqlite:///FILE nor" if find_spec("mlflow") else "pip install 'bayes-pricing[mlflow]'") in text
    True
    """
    import_extra("mlflow", "mlflow")
    if urlparse(store).scheme not in ("sqlite", "postgresql", "http", "https"):
        raise SpecError(
            f"The store {store!r} is neither sqlite:///FILE nor postgresql://HOST/NAME nor the URL of a server."
        )


def track_comparison(store: str, compared: Comparison, parameters: Mapping[str, object]) -> TrackedRun:
    """Track a comparison: a run with the tables as artefacts, and below it a run per estimator with its scores.

    Parameters
    ----------
    store : str
        URI of an MLflow tracking store, e.g. ``sqlite:///runs.db``.
    compared : Comparison
    parameters : mapping
        What was asked: sales, origins, horizon, seed.

    Raises
    ------
    SpecError
        If MLflow is not installed or the URI of no known kind.
    StorageError
        If the store refuses.
    """
    check_store(store)
    with _Store(store) as opened:
        parent = opened.start("compare", parameters)
        for row in compared.table.to_dicts():
            numbers = {name: row.get(name) for name in (*SCORES, *ELASTICITY, "seconds")}
            child = opened.start(row["estimator"], {**parameters, "interval": row["interval_kind"]}, parent)
            opened.finish(child, numbers)
        tables = {
            "estimators": compared.table,
            "elasticities": compared.elasticities,
            "importance": compared.importance,
            "partial_dependence": compared.dependence,
        }
        for name, table in tables.items():
            opened.log_text(parent, table.write_json(), f"{name}.json")
        opened.finish(parent, {"estimators": compared.table.height})
        return TrackedRun(store=store, experiment=EXPERIMENT, run=parent)


def track_fit(store: str, fitted: DemandFit, folder: Path, alias: str | None = None) -> TrackedRun:
    """Track a saved model: parameters, diagnostics, elasticities, its files, and a registered version of `demand`.

    Parameters
    ----------
    store : str
        URI of an MLflow tracking store, e.g. ``sqlite:///runs.db``.
    fitted : DemandFit
        As :func:`bayes_pricing.registry.load_fit` reads it.
    folder : Path
        Where it is saved; its files become artefacts, from which it can be loaded again.
    alias : str, optional
        The alias the model has in the embedded registry, e.g. ``champion``; the version gets the same.

    Raises
    ------
    SpecError
        If MLflow is not installed or the URI of no known kind.
    StorageError
        If the store refuses.
    """
    check_store(store)
    posterior, gate = fitted.posterior, fitted.diagnostics
    parameters = {
        "model": posterior.id,
        "likelihood": posterior.spec.likelihood,
        "seed": fitted.seed,
        "rows": fitted.summary.rows,
        "items": fitted.summary.items,
        "data_hash": fitted.summary.data_hash,
        "draws": fitted.sampler.draws,
        "chains": fitted.sampler.chains,
    }
    metrics: dict[str, float | None] = {
        "max_rhat": gate.max_rhat,
        "min_ess_bulk": gate.min_ess_bulk,
        "min_ess_tail": gate.min_ess_tail,
        "divergences": gate.divergences,
        **{f"seconds_{stage}": seconds for stage, seconds in fitted.seconds.items()},
        **{f"coverage_{round(100 * level)}": share for level, share in fitted.predictions.coverage},
    }
    with _Store(store) as opened:
        run = opened.start("fit", parameters)
        opened.log_text(run, _elasticities(fitted), "elasticities.json")
        opened.log_folder(run, folder, "model")
        opened.finish(run, metrics)
        version = opened.register(run, "model", {"model": posterior.id}, alias)
        return TrackedRun(store=store, experiment=EXPERIMENT, run=run, version=version, alias=alias)


def _elasticities(fitted: DemandFit) -> str:
    from bayes_pricing.demand.elasticity import elasticity_table

    return elasticity_table(fitted.posterior).write_json()


class _Store:
    """An MLflow client on one store, with nothing global set; what the store refuses comes out as a StorageError."""

    def __init__(self, store: str) -> None:
        self._mlflow = import_extra("mlflow", "mlflow")
        self._client: Any = None
        self._store = store

    def __enter__(self) -> _Store:
        try:
            self._client = self._mlflow.MlflowClient(tracking_uri=self._store, registry_uri=self._store)
            found = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = (
                self._client.create_experiment(EXPERIMENT, artifact_location=_artefacts(self._store))
                if found is None
                else found.experiment_id
            )
        except (self._mlflow.MlflowException, OSError) as error:
            raise self._refused(error) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (self._mlflow.MlflowException, OSError)):
            raise self._refused(error) from error

    def _refused(self, error: BaseException) -> StorageError:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return StorageError(f"The tracking store refused: {reason}. What was fitted or compared is not affected.")

    def start(self, name: str, parameters: Mapping[str, object], parent: str | None = None) -> str:
        """Begin a run; its id."""
        tags = {} if parent is None else {"mlflow.parentRunId": parent}
        run: str = self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id
        for key, value in parameters.items():
            self._client.log_param(run, key, value)
        return run

    def log_text(self, run: str, text: str, name: str) -> None:
        """Keep a text as an artefact."""
        self._client.log_text(run, text, name)

    def log_folder(self, run: str, folder: Path, name: str) -> None:
        """Keep a folder's files as artefacts."""
        self._client.log_artifacts(run, str(folder), name)

    def finish(self, run: str, metrics: Mapping[str, float | None]) -> None:
        """Log the numbers that are known and end the run."""
        for key, value in metrics.items():
            if value is not None and math.isfinite(value):
                self._client.log_metric(run, key, float(value))
        self._client.set_terminated(run)

    def register(self, run: str, folder: str, tags: Mapping[str, str], alias: str | None) -> str:
        """Register a run's folder as the next version of the model; its number."""
        if not self._client.search_registered_models(filter_string=f"name = '{MODEL}'"):
            self._client.create_registered_model(MODEL)
        source = f"{self._client.get_run(run).info.artifact_uri}/{folder}"
        version: str = str(self._client.create_model_version(MODEL, source, run, tags=dict(tags)).version)
        if alias is not None:
            self._client.set_registered_model_alias(MODEL, alias, version)
        return version


def _artefacts(store: str) -> str | None:
    """Where artefacts of a database file go: beside it, not into the working directory; servers decide themselves."""
    if urlparse(store).scheme != "sqlite":
        return None
    database = Path(store.removeprefix("sqlite:///")).resolve()
    return database.with_name(f"{database.stem}-artefacts").as_uri()
