"""`bayes-pricing track`: a saved model into an MLflow store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bayes_pricing.cli.output import Answer


def track(
    *,
    model_dir: Path,
    to: str,
    alias: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Track a saved model in MLflow: parameters, diagnostics, elasticities, files, and a registered version.

    Example: bayes-pricing track --model-dir model --to sqlite:///runs.db --alias champion

    Parameters
    ----------
    model_dir
        Folder of a fitted model, as `fit --out` wrote it.
    to
        URI of the tracking store: sqlite:///FILE, or the URL of a server. Needs the extra `mlflow`.
    alias
        Alias the model has in the registry, for example champion; the registered version gets the same.
    json
        One JSON document on standard output.
    """
    from bayes_pricing.registry import load_fit
    from bayes_pricing.tracking import check_store, track_fit

    check_store(to)
    fitted = load_fit(model_dir)
    tracked = track_fit(to, fitted, model_dir, alias)
    document = {
        "status": "ok",
        "model": fitted.posterior.id,
        "store": tracked.store,
        "experiment": tracked.experiment,
        "run": tracked.run,
        "version": tracked.version,
        "alias": tracked.alias,
    }
    named = "" if alias is None else f", alias {alias}"
    text = f"Model {fitted.posterior.id[:12]} is version {tracked.version} of `demand`{named}; run {tracked.run}."
    return Answer(document=document, text=text)
