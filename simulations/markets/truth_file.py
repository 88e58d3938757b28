"""The truth of a market as a JSON file, apart from everything a user sees; every number is read back exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from bayes_pricing.errors import StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_truth_file(truth: DataclassInstance, path: Path, name: str) -> None:
    """Write a truth, a frozen dataclass of ``settings``, names, numbers and arrays, as JSON.

    Parameters
    ----------
    truth : dataclass
    path : Path
    name : str
        Name and version of the format, which the reader asks for again.

    Examples
    --------
    >>> import tempfile
    >>> from simulations.markets.studio_truth import StudioTruth, StudioSettings, draw_studio
    >>> truth = draw_studio(StudioSettings(), 1, np.random.default_rng(1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_truth_file(truth, Path(folder) / "truth.json", "studio/1")
    ...     again = read_truth_file(Path(folder) / "truth.json", "studio/1", StudioTruth, StudioSettings)
    >>> again.settings == truth.settings
    True
    """
    content = {field.name: _plain(getattr(truth, field.name)) for field in fields(truth)}
    path.write_text(json.dumps({"format": name, **content}, allow_nan=False), encoding="utf-8")


def _plain(value: Any) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if hasattr(value, "__dataclass_fields__"):
        return {key: entry.isoformat() if isinstance(entry, date) else entry for key, entry in asdict(value).items()}
    return value


def read_truth_file[T: DataclassInstance](path: Path, name: str, kind: type[T], settings: type) -> T:
    """Read back what :func:`write_truth_file` wrote.

    Raises
    ------
    StorageError
        If the file is missing, no JSON, or of another format.

    Examples
    --------
    >>> from simulations.markets.studio_truth import StudioTruth, StudioSettings
    >>> read_truth_file(Path("nowhere.json"), "studio/1", StudioTruth, StudioSettings)
    Traceback (most recent call last):
        ...
    bayes_pricing.errors.StorageError: nowhere.json is no studio/1 file: simulate the market again.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.pop("format") != name:
            raise ValueError("another format")
        hints = get_type_hints(kind)
        values = {key: _typed(value, hints[key]) for key, value in document.items() if key != "settings"}
        build: Callable[..., T] = kind
        return build(settings=_settings(document["settings"], settings), **values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{path} is no {name} file: simulate the market again.") from error


def _settings(document: dict[str, Any], kind: type) -> object:
    hints = get_type_hints(kind)
    return kind(**{key: date.fromisoformat(value) if hints[key] is date else value for key, value in document.items()})


def _typed(value: Any, hint: object) -> object:
    """Lists are tuples of names or arrays, as the field says."""
    if not isinstance(value, list):
        return value
    if "tuple" in str(hint):
        return tuple(value)
    return np.array(value, dtype=np.int64 if "int64" in str(hint) else np.float64)
