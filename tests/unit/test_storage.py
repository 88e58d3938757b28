from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import StorageError
from bayes_pricing.storage import Bundle, read_bundle, write_bundle

BUNDLE = Bundle(
    arrays={"draws": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "none": np.empty((3, 0))},
    tables={"items": pl.DataFrame({"item": ["a", "b"], "price": [1.0, 2.5]})},
    about={"seed": 7, "spec": {"levels": ["category"]}},
)


def test_a_bundle_comes_back_as_it_was(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path / "model")
    again = read_bundle(tmp_path / "model")
    for name, array in BUNDLE.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)
        assert again.arrays[name].dtype == array.dtype
    assert again.tables["items"].equals(BUNDLE.tables["items"])
    assert again.about == BUNDLE.about
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # nothing staged is left


def test_a_saved_model_is_never_overwritten(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path / "model")
    with pytest.raises(StorageError, match="never overwritten"):
        write_bundle(BUNDLE, tmp_path / "model")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path / "model")
    chunk = next(path for path in (tmp_path / "model" / "arrays.zarr" / "draws" / "c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[5] ^= 1
    chunk.write_bytes(bytes(content))
    with pytest.raises(StorageError, match=r"'draws'.*is not what was written"):
        read_bundle(tmp_path / "model")


@pytest.mark.parametrize("victim", ["items.parquet", "arrays.zarr/draws/zarr.json", "manifest.json"])
def test_a_truncated_file_is_found(tmp_path: Path, victim: str) -> None:
    write_bundle(BUNDLE, tmp_path / "model")
    path = tmp_path / "model" / victim
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StorageError):
        read_bundle(tmp_path / "model")


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="holds no saved model"):
        read_bundle(tmp_path)


def test_a_later_format_is_not_guessed_at(tmp_path: Path) -> None:
    write_bundle(BUNDLE, tmp_path / "model")
    manifest = tmp_path / "model" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(StorageError, match="format 2"):
        read_bundle(tmp_path / "model")
