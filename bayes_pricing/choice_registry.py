"""Fitted choices, shares of markets and offers as immutable folders, in the form of every other saved model."""

from __future__ import annotations

import types
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np

from bayes_pricing.demand.choice import ChoicePosterior
from bayes_pricing.demand.control_function_fit import Endogeneity
from bayes_pricing.demand.purchase import PurchasePosterior
from bayes_pricing.demand.purchase_curve import LooComparison
from bayes_pricing.demand.shares import SharePosterior
from bayes_pricing.demand.shares_people import PeopleSharePosterior
from bayes_pricing.errors import Finding, Refusal, StorageError
from bayes_pricing.registry import library_versions
from bayes_pricing.storage import MANIFEST, Array, Bundle, read_about, read_bundle, write_bundle

ARRAY = "array"
SavedPosterior = ChoicePosterior | SharePosterior | PeopleSharePosterior | PurchasePosterior
KINDS: dict[str, type[SavedPosterior]] = {
    "choice-logit": ChoicePosterior,
    "share-logit": SharePosterior,
    "share-logit of people": PeopleSharePosterior,
    "purchase": PurchasePosterior,
}
"""What a manifest calls them, by the type of the posterior."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoiceFit:
    """A fit of choices, shares or offers as it is saved.

    Attributes
    ----------
    posterior : ChoicePosterior, SharePosterior, PeopleSharePosterior or PurchasePosterior
        With the rows it was fitted to: tastes are read at what was on offer.
    findings : tuple of Finding
        What to know of it.
    endogeneity : Endogeneity or None
        Of shares with instruments.
    comparison : LooComparison or None
        Of the two shapes of purchases.
    """

    posterior: SavedPosterior
    findings: tuple[Finding, ...] = ()
    endogeneity: Endogeneity | None = None
    comparison: LooComparison | None = None


def is_choice(directory: Path) -> bool:
    """Whether a folder holds choices, shares or offers, by its manifest; not where it holds no model at all."""
    return (directory / MANIFEST).is_file() and read_about(directory).get("kind") in KINDS


def save_choice(fitted: ChoiceFit, directory: Path) -> None:
    """Save a fit to a new folder, without pickle; a reader sees all of it or nothing.

    Raises
    ------
    Refusal
        If the diagnostics gate did not pass.
    StorageError
        If the folder holds something already.
    """
    posterior = fitted.posterior
    if not posterior.diagnostics.passed:
        raise Refusal(posterior.diagnostics.findings)
    kind = next(name for name, saved in KINDS.items() if isinstance(posterior, saved))
    arrays: dict[str, Array] = {}
    plain = _packed(posterior, "", arrays)
    write_bundle(
        Bundle(
            arrays=arrays,
            tables={},
            about={
                "kind": kind,
                "id": posterior.id,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "posterior": plain,
                "libraries": library_versions(),
                **{name: msgspec.to_builtins(getattr(fitted, name)) for name in PARTS},
            },
        ),
        directory,
    )


def load_choice(directory: Path) -> ChoiceFit:
    """Load what `save_choice` wrote: the same draws bit for bit, checked against their digests.

    Raises
    ------
    StorageError
        If there is none, it is damaged or of another format, or it holds a model of sales.
    """
    bundle = read_bundle(directory)
    kind = bundle.about.get("kind")
    if kind not in KINDS:
        raise StorageError(f"{directory} holds a model of sales; read it with `bayes_pricing.registry.load_fit`.")
    try:
        posterior = _unpacked(bundle.about["posterior"], KINDS[kind], bundle)
        parts: dict[str, Any] = {name: msgspec.convert(bundle.about[name], of) for name, of in PARTS.items()}
    except (KeyError, msgspec.ValidationError) as error:
        raise StorageError(f"{directory} was saved by another version ({error}); fit again.") from error
    return ChoiceFit(posterior=posterior, **parts)


PARTS: dict[str, Any] = {
    "findings": tuple[Finding, ...],
    "endogeneity": Endogeneity | None,
    "comparison": LooComparison | None,
}
"""Parts of a fit that JSON can hold, with their types."""


def _packed(value: object, name: str, arrays: dict[str, Array]) -> object:
    """A value as JSON can hold it; every array in it goes into `arrays` and leaves its name."""
    if isinstance(value, np.ndarray):
        arrays[name] = value
        return {ARRAY: name}
    if isinstance(value, dict):
        return {key: _packed(part, f"{name}.{key}".lstrip("."), arrays) for key, part in value.items()}
    if is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return _packed(named, name, arrays)
    return msgspec.to_builtins(value)


def _unpacked(plain: Any, kind: Any, bundle: Bundle) -> Any:
    """What `_packed` took apart."""
    if get_origin(kind) in {Union, types.UnionType}:
        if plain is None:
            return None
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if isinstance(plain, dict) and plain.keys() == {ARRAY}:
        return bundle.arrays[plain[ARRAY]]
    if get_origin(kind) is dict:
        return {key: _unpacked(part, get_args(kind)[1], bundle) for key, part in plain.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{field.name: _unpacked(plain[field.name], hints[field.name], bundle) for field in fields(kind)})
    return msgspec.convert(plain, kind)
