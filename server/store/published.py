"""Published models: a fitted model as immutable, digested arrays and ready answers that every process maps.

A published folder holds thinned float32 draws, laid out item by item so that one item is one stretch of file, and for
each item its recommendation, its profit curve and the evidence of its elasticity as encoded JSON. Reading it takes
milliseconds and needs neither the sampler nor a data frame; what does need one is loaded when it is first asked for.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import StorageError
from server.readers import readable

if TYPE_CHECKING:
    import polars as pl

    from bayes_pricing.demand.draws_posterior import DrawsPosterior
    from bayes_pricing.demand.forecast import DemandDraws
    from bayes_pricing.pricing.decision import PriceDecision

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
NAMES = "names.json"
ITEMS = "items.parquet"
MOST_KEPT = 32
"""Items whose draws stay at hand for the next live question, some 40 kB each: those that people are busy with."""
BLOBS = ("recommendation", "curve", "evidence")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a published folder says of itself.

    Attributes
    ----------
    format_version : int
    id : str
        Content address: digest of everything below.
    about : dict
        Plain values to show and to decide with: fit, likelihood, data, diagnostics, policy, portfolio, categories ...
    files : dict of str to str
        Digest of every file beside the manifest.
    """

    format_version: int
    id: str
    about: dict[str, Any]
    files: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Blob:
    """Encoded answers one after the other in a mapped file; `blob[3]` are the bytes of the fourth item's."""

    content: mmap.mmap | bytes
    offsets: NDArray[np.int64]

    def __getitem__(self, place: int) -> bytes:
        return self.content[int(self.offsets[place]) : int(self.offsets[place + 1])]


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedModel:
    """A published model, ready to answer.

    Attributes
    ----------
    id : str
        Content address of what is served.
    about : dict
        See :class:`Manifest`.
    names : tuple of str
        Items, sorted.
    folder : Path
    recommendations, curves, evidence : Blob
        By item.
    """

    id: str
    about: dict[str, Any]
    names: tuple[str, ...]
    folder: Path
    recommendations: Blob
    curves: Blob
    evidence: Blob
    place: dict[str, int] = field(repr=False)
    kept: dict[str, tuple[pl.DataFrame, DemandDraws]] = field(default_factory=dict, repr=False)

    def demand(self, item: str) -> tuple[pl.DataFrame, DemandDraws]:
        """An item's row and draws, kept for the next live question about it (the last `MOST_KEPT` items)."""
        found = self.kept.get(item)
        if found is None:
            from bayes_pricing.demand.forecast import demand_draws, select_items

            found = (select_items(self.posterior, [item]), demand_draws(self.posterior, [item]))
            if len(self.kept) >= MOST_KEPT:
                self.kept.pop(next(iter(self.kept)), None)
            self.kept[item] = found
        return found

    @cached_property
    def posterior(self) -> DrawsPosterior:
        """The thinned joint draws every live answer comes from: the same ones the recommendation was made with."""
        import polars as pl

        from bayes_pricing.demand.draws_posterior import DrawsMetadata, DrawsPosterior

        metadata = msgspec.convert(self.about["posterior"], readable(DrawsMetadata))
        arrays = {
            path.stem: np.asarray(np.load(path, mmap_mode="r")) for path in sorted((self.folder / "draws").iterdir())
        }
        levels = ("item", *metadata.spec.levels)
        return DrawsPosterior(
            id=metadata.id,
            spec=metadata.spec,
            items=pl.read_parquet(self.folder / ITEMS),
            units=metadata.units,
            item_draws=arrays["item"].transpose(2, 3, 0, 1),
            upper_draws={level: arrays[f"upper_{level}"] for level in (*metadata.spec.levels, "population")},
            between_sd={level: arrays[f"sd_{level}"] for level in levels},
            correlation={},
            shared_draws=arrays["shared"],
            dispersion=arrays.get("dispersion"),
            weight=arrays["weight"],
            smearing=arrays["smearing"].transpose(1, 2, 0),
        )

    def decision(self, item: str) -> PriceDecision:
        """The decision behind one item's recommendation, without the portfolio's draws.

        Raises
        ------
        KeyError
            If there is no such item.
        """
        from bayes_pricing.errors import Finding
        from bayes_pricing.pricing.decision import ItemDecision, PriceDecision
        from server.policies import policy_flags

        money, limits = policy_flags(self.about["policy"])
        stored = self.about["decision"]
        decided = msgspec.json.decode(self.recommendations[self.place[item]], type=readable(ItemDecision))
        return PriceDecision(
            items=(decided,),
            portfolio=_portfolio(stored["portfolio"]),
            objective=stored["portfolio"]["objective_name"],
            economics=money.economics(),
            limits=tuple(limits.limits()),
            horizon_periods=stored["horizon_periods"],
            data_as_of=_period(stored["data_as_of"]),
            stale_on=_period(stored["stale_on"]),
            model=stored["model"],
            seed=self.about["seed"],
            findings=msgspec.convert(stored["findings"], readable(tuple[Finding, ...])),
        )


def load_published(root: Path, model_id: str) -> PublishedModel:
    """Load a published model, every file checked against its digest; draws stay in mapped files.

    Raises
    ------
    StorageError
        If there is none of that id, it is damaged, or it is of a later format.
    """
    folder = root / model_id
    if not model_id.isalnum():
        raise StorageError(f"{model_id!r} is no id of a published model; ids are hexadecimal digits.")
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=readable(Manifest))
    except OSError as error:
        raise StorageError(f"There is no published model {model_id!r} ({error.strerror}); publish it first.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"The manifest of {model_id!r} is damaged ({error}); publish the model again.") from error
    if manifest.format_version != FORMAT_VERSION or manifest.id != model_id:
        raise StorageError(f"{folder} is of another format or another model; publish the model again.")
    for name, expected in manifest.files.items():
        _check_file(folder, name, expected)
    names = tuple(msgspec.json.decode((folder / NAMES).read_bytes(), type=list[str]))
    recommendations, curves, evidence = (_blob(folder, name) for name in BLOBS)
    return PublishedModel(
        id=model_id,
        about=manifest.about,
        names=names,
        folder=folder,
        recommendations=recommendations,
        curves=curves,
        evidence=evidence,
        place={name: place for place, name in enumerate(names)},
    )


def reproduce(root: Path, model_id: str, kind: str, request: bytes) -> bytes:
    """The answer to a request from a published model, byte for byte as it was served.

    Raises
    ------
    StorageError
        If the model is gone or damaged.
    SpecError
        If there is no such kind of answer, or the request makes no sense.
    """
    from server.answers import answer

    return answer(load_published(root, model_id), kind, request)


def _blob(folder: Path, name: str) -> Blob:
    offsets = np.load(folder / f"{name}.offsets.npy")
    with (folder / f"{name}.bin").open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if offsets[-1] else b""
    return Blob(content=content, offsets=offsets)


def file_digest(path: Path) -> str:
    """Digest of a file's bytes, as a manifest holds it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _check_file(folder: Path, name: str, expected: str) -> None:
    try:
        found = file_digest(folder / name)
    except OSError as error:
        raise StorageError(f"{name} of the published model {folder.name!r} is missing; publish it again.") from error
    if found != expected:
        raise StorageError(
            f"{name} of the published model {folder.name!r} is not what was written; publish it again or restore it."
        )


def _period(value: str | int | None) -> Any:
    from datetime import date

    return date.fromisoformat(value) if isinstance(value, str) else value


def _portfolio(stored: Mapping[str, Any]) -> Any:
    import xarray as xr

    from bayes_pricing.pricing.decision import PortfolioDecision

    known = {name: value for name, value in stored.items() if name in PortfolioDecision.__slots__}
    none = xr.DataArray(np.empty((0, 0, 0)), dims=("metric", "chain", "draw"))
    plain = msgspec.convert(
        {
            key: value
            for key, value in known.items()
            if key not in ("residuals", "shadow_prices", "changes", "current", "recommended")
        },
        dict[str, Any],
    )
    return PortfolioDecision(
        **plain,
        shadow_prices=(),
        residuals=tuple(stored["residuals"].items()),
        changes={},
        current={},
        recommended={},
        change_draws=none,
        current_draws=none,
    )
