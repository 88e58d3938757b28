"""Saved models on disk: zarr arrays, Parquet tables and a manifest; immutable, checked, moved into place at once."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from bayes_pricing.errors import StorageError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
ARRAYS = "arrays.zarr"
Array = np.ndarray[Any, np.dtype[Any]]


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """Arrays and tables that belong together, with a description that JSON can hold.

    Attributes
    ----------
    arrays : mapping of str to array
        Numbers only; text belongs into a table.
    tables : mapping of str to DataFrame
    about : mapping
        Plain values: spec, seed, data hash, library versions, diagnostics ...
    """

    arrays: Mapping[str, Array]
    tables: Mapping[str, pl.DataFrame]
    about: Mapping[str, Any]


def array_digest(array: Array) -> str:
    """Content address of one array: shape, type and values.

    Examples
    --------
    >>> array_digest(np.arange(3)) == array_digest(np.arange(3))
    True
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{array.shape}{array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def require_free(directory: Path) -> None:
    """Refuse a folder that holds something already; ask before long work whose result goes there.

    Raises
    ------
    StorageError
        If it is a file or a folder that is not empty.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise StorageError(
            f"{directory} exists and is not empty; name a new folder, saved models are never overwritten."
        )


def write_bundle(bundle: Bundle, directory: Path) -> None:
    """Write a bundle to a folder that does not exist yet (or is empty); a reader sees all of it or nothing.

    Raises
    ------
    StorageError
        If the folder holds something already.
    """
    require_free(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _write(bundle, staging)
        staging.chmod(0o755)
        if directory.exists():
            directory.rmdir()
        staging.rename(directory)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_bundle(directory: Path) -> Bundle:
    """Read a bundle back, every array and table checked against its digest.

    Raises
    ------
    StorageError
        If there is none, it is of a later format, or its content is not what was written.
    """
    import zarr

    manifest = _manifest(directory)
    try:
        stored = {name: zarr.open_array(str(directory / ARRAYS / name), mode="r") for name in manifest["arrays"]}
        arrays = {name: np.asarray(array[...]) for name, array in stored.items()}
        tables = {name: pl.read_parquet(directory / f"{name}.parquet") for name in manifest["tables"]}
    except (OSError, KeyError, ValueError, pl.exceptions.PolarsError) as error:
        raise StorageError(f"{directory} is damaged ({error}); restore it from a copy or fit again.") from error
    for name, array in arrays.items():
        _compare(directory, name, array_digest(array), manifest["arrays"][name])
    for name in tables:
        _compare(directory, name, _file_digest(directory / f"{name}.parquet"), manifest["tables"][name])
    return Bundle(arrays=arrays, tables=tables, about=manifest["about"])


def read_about(directory: Path) -> Mapping[str, Any]:
    """The description alone, in a moment and with nothing checked against digests.

    Raises
    ------
    StorageError
        If there is none, or it is of another format.
    """
    about: Mapping[str, Any] = _manifest(directory).get("about", {})
    return about


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = msgspec.json.decode((directory / MANIFEST).read_bytes())
        version = manifest["format_version"]
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StorageError(
            f"{directory} holds no saved model ({MANIFEST} is missing); run `fit --out` first."
        ) from error
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise StorageError(
            f"{directory / MANIFEST} is damaged; restore the folder from a copy or fit again."
        ) from error
    if version != FORMAT_VERSION:
        raise StorageError(f"{directory} has format {version}, this version reads {FORMAT_VERSION}; fit again.")
    return manifest


def _write(bundle: Bundle, staging: Path) -> None:
    import zarr

    group = zarr.open_group(str(staging / ARRAYS), mode="w")
    for name, array in bundle.arrays.items():
        group.create_array(name, data=np.ascontiguousarray(array), compressors=None, chunks=_one_chunk(array))
    for name, table in bundle.tables.items():
        table.write_parquet(staging / f"{name}.parquet")
    manifest = {
        "format_version": FORMAT_VERSION,
        "about": bundle.about,
        "arrays": {name: array_digest(array) for name, array in bundle.arrays.items()},
        "tables": {name: _file_digest(staging / f"{name}.parquet") for name in bundle.tables},
    }
    (staging / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))


def _one_chunk(array: Array) -> tuple[int, ...]:
    return tuple(max(size, 1) for size in array.shape)


def _file_digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _compare(directory: Path, name: str, found: str, expected: str) -> None:
    if found != expected:
        raise StorageError(
            f"{name!r} in {directory} is not what was written; restore the folder from a copy or fit again."
        )
