"""Fitted models as immutable folders: what was assumed, seen, drawn and judged, with the versions that did it."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bayes_pricing.data.assessment import Assessment
from bayes_pricing.data.panel import PanelSummary
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.choice_of_model import ModelChoice
from bayes_pricing.demand.confounding import ConfoundingSensitivity
from bayes_pricing.demand.control_function_fit import Endogeneity
from bayes_pricing.demand.diagnostics import Diagnostics
from bayes_pricing.demand.draws_posterior import DrawsMetadata, DrawsPosterior
from bayes_pricing.demand.fit import DemandFit, SamplerSettings
from bayes_pricing.demand.identification import Identification
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.predictive import PredictiveCheck
from bayes_pricing.demand.prior_sensitivity import ParameterSensitivity
from bayes_pricing.demand.tree_fit import from_arrays as tree_from_arrays
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.errors import Finding, Refusal, StorageError
from bayes_pricing.storage import Bundle, read_bundle, write_bundle

LIBRARIES = ("bayes-pricing", "numpy", "scipy", "polars", "numba", "nutpie", "pymc")
ITEMS = "items"
IDENTIFICATION = "identification"
PIT = "check_pit"
KINDS = ("tree", "draws")


def save_fit(fitted: DemandFit, directory: Path) -> None:
    """Save a fitted model to a new folder, without pickle; a reader sees all of it or nothing.

    Raises
    ------
    Refusal
        If the diagnostics gate did not pass: what was refused saves nothing.
    StorageError
        If the folder holds something already.
    """
    if not fitted.diagnostics.passed:
        raise Refusal(fitted.diagnostics.findings)
    posterior = fitted.posterior
    if isinstance(posterior, TreePosterior):
        kind, (arrays, about) = "tree", posterior.to_arrays()
    elif isinstance(posterior, DrawsPosterior):
        kind, arrays, about = "draws", dict(posterior.to_arrays()), msgspec.to_builtins(posterior.metadata)
    else:
        raise StorageError(f"A {type(posterior).__name__} cannot be saved; save what `fit_demand` returned.")
    write_bundle(
        Bundle(
            arrays={**arrays, PIT: fitted.predictions.pit},
            tables={ITEMS: posterior.items, IDENTIFICATION: fitted.identification.table},
            about={
                "kind": kind,
                "id": posterior.id,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "posterior": about,
                "seed": fitted.seed,
                "libraries": library_versions(),
                **{name: msgspec.to_builtins(getattr(fitted, name)) for name in PARTS},
                "coverage": fitted.predictions.coverage,
                "prediction_findings": msgspec.to_builtins(fitted.predictions.findings),
                "identification_findings": msgspec.to_builtins(fitted.identification.findings),
                "prior_only": fitted.identification.prior_only,
                "left_out": fitted.identification.left_out,
            },
        ),
        directory,
    )


def load_fit(directory: Path) -> DemandFit:
    """Load a saved model; everything is checked against its digests.

    Raises
    ------
    StorageError
        If there is none, it is damaged or of a later format, or it holds choices, shares or offers.
    """
    bundle = read_bundle(directory)
    about = bundle.about
    if about.get("kind") not in KINDS:
        raise StorageError(
            f"{directory} holds a {about.get('kind')} model, not one of sales; `recommend` and `explain` read it, and "
            "from Python `bayes_pricing.choice_registry.load_choice`."
        )
    try:
        posterior = _posterior(bundle)
        parts: dict[str, Any] = {name: msgspec.convert(about[name], kind) for name, kind in PARTS.items()}
        predictions = PredictiveCheck(
            pit=np.asarray(bundle.arrays[PIT]),
            coverage=tuple((float(p), float(share)) for p, share in about["coverage"]),
            findings=msgspec.convert(about["prediction_findings"], tuple[Finding, ...]),
        )
        identification = Identification(
            table=bundle.tables[IDENTIFICATION],
            findings=msgspec.convert(about["identification_findings"], tuple[Finding, ...]),
            prior_only=tuple(about["prior_only"]),
            left_out=tuple(about["left_out"]),
        )
    except (KeyError, msgspec.ValidationError) as error:
        raise StorageError(f"{directory} was saved by another version ({error}); fit again.") from error
    return DemandFit(
        posterior=posterior,
        predictions=predictions,
        identification=identification,
        seed=int(about["seed"]),
        **parts,
    )


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide the numbers."""
    return {name: version(name) for name in LIBRARIES}


PARTS: dict[str, Any] = {
    "diagnostics": Diagnostics,
    "assessment": Assessment,
    "choice": ModelChoice,
    "findings": tuple[Finding, ...],
    "seconds": dict[str, float],
    "summary": PanelSummary,
    "roles": ColumnRoles,
    "sampler": SamplerSettings,
    "confounding": ConfoundingSensitivity | None,
    "endogeneity": Endogeneity | None,
    "sensitivity": tuple[ParameterSensitivity, ...],
}
"""Parts of a fit that JSON can hold, with their types."""


def _posterior(bundle: Bundle) -> DemandPosterior:
    about, items = bundle.about["posterior"], bundle.tables[ITEMS]
    if bundle.about["kind"] == "tree":
        return tree_from_arrays(bundle.arrays, about, items)
    return DrawsPosterior.from_arrays(bundle.arrays, msgspec.convert(about, DrawsMetadata), items)
