"""The fitness studio: a monthly panel of seven levers, the members they make, and revenue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr

from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.studio_truth import (
    LEVERS,
    NOISE_SD,
    StudioSettings,
    StudioTruth,
    draw_studio,
    expected_revenue,
    write_studio_truth,
)

Floats = NDArray[np.float64]

MEMORY = 0.6
"""Correlation of a lever with itself a month before."""

USUAL: Mapping[str, tuple[float, float]] = {
    "retention": (0.84, 0.97),
    "ticket": (80.0, 300.0),
    "attendance": (0.5, 0.95),
    "new_members": (10.0, 90.0),
    "staff_utilisation": (0.65, 1.0),
    "upsell": (0.02, 0.4),
    "classes": (120.0, 450.0),
}
"""What levers move in from month to month, inside the ranges of :data:`simulations.markets.studio_truth.LEVERS`."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StudioMarket:
    """A simulated panel of studios and its truth.

    Attributes
    ----------
    truth : StudioTruth
    panel : DataFrame
        One row per studio and month, sorted: `studio`, `month` (its first day), the seven levers, `members` at the
        start of the month and `revenue` in currency.

    Examples
    --------
    >>> simulate_studio(StudioSettings(), seed=1).panel.height
    384
    """

    truth: StudioTruth
    panel: pl.DataFrame


def simulate_studio(settings: StudioSettings, seed: int) -> StudioMarket:
    """Play studios month by month; levers wander whatever revenue does, each apart from the others.

    Members who stay are a binomial number, and `retention` is the share that did; with the new members they are the
    members at the start of the next month.

    Parameters
    ----------
    settings : StudioSettings
    seed : int
        The same seed gives the same rows.

    Raises
    ------
    SpecError
        If `seed` is negative.

    Examples
    --------
    >>> market = simulate_studio(StudioSettings(studios=1, months=12), seed=1)
    >>> first, second = market.panel.head(2).to_dicts()
    >>> round(first["members"] * first["retention"]) + first["new_members"] == second["members"]
    True
    """
    if not seed >= 0:
        raise SpecError(f"seed is {seed}; choose a whole number of at least 0.")
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(3)]
    truth = draw_studio(settings, seed, streams[0])
    levers = _draw_levers(settings, streams[1])
    members = np.full(settings.studios, settings.members)
    path, kept_share = [], []
    for month in range(settings.months):
        kept = streams[1].binomial(members, levers["retention"][:, month])
        # A lever stays in its range; of a hundred members fewer than half stay once in 10^15 months.
        kept = np.maximum(kept, np.ceil(LEVERS["retention"][0] * members).astype(np.int64))
        path.append(members)
        kept_share.append(kept / np.maximum(members, 1))
        members = kept + levers["new_members"][:, month].astype(np.int64)
    levers["retention"], levers["members"] = np.stack(kept_share, axis=1), np.stack(path, axis=1)
    panel = _panel(truth, levers)
    noise = streams[2].normal(-(NOISE_SD**2) / 2, NOISE_SD, panel.height)
    revenue = np.round(expected_revenue(truth, panel) * np.exp(noise), 2)
    return StudioMarket(truth=truth, panel=panel.with_columns(pl.Series("revenue", revenue)))


def _draw_levers(settings: StudioSettings, rng: np.random.Generator) -> dict[str, Floats]:
    """Levers by name, dims (studio, month): places in their usual ranges that wander with memory."""
    levers: dict[str, Floats] = {}
    for name, (lowest, highest) in USUAL.items():
        place = rng.standard_normal((settings.studios, settings.months))
        for month in range(1, settings.months):
            place[:, month] = MEMORY * place[:, month - 1] + np.sqrt(1 - MEMORY**2) * place[:, month]
        value = lowest + (highest - lowest) * ndtr(place)
        whole = name in ("new_members", "classes")
        levers[name] = np.rint(value) if whole else np.round(value, 2 if name == "ticket" else 4)
    return levers


def _panel(truth: StudioTruth, levers: Mapping[str, Floats]) -> pl.DataFrame:
    settings = truth.settings
    first = 12 * settings.first_month.year + settings.first_month.month - 1
    months = pl.Series([date(at // 12, at % 12 + 1, 1) for at in range(first, first + settings.months)])
    whole = ("new_members", "classes", "members")
    return pl.DataFrame(
        {
            "studio": np.repeat(np.array(truth.studios), settings.months),
            "month": months.gather(np.tile(np.arange(settings.months), settings.studios)),
            **{
                name: levers[name].ravel().astype(np.int64 if name in whole else np.float64)
                for name in (*LEVERS, "members")
            },
        }
    )


def write_studio(market: StudioMarket, out_dir: Path) -> tuple[Path, Path]:
    """Write ``panel.parquet`` and, apart from it, ``truth.json``.

    Raises
    ------
    StorageError
        If the directory holds a market already.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     panel, truth = write_studio(simulate_studio(StudioSettings(), seed=1), Path(folder))
    ...     pl.read_parquet(panel).columns[-1]
    'revenue'
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    panel, truth = out_dir / "panel.parquet", out_dir / "truth.json"
    taken = [path.name for path in (panel, truth) if path.exists()]
    if taken:
        raise StorageError(f"{out_dir} holds {', '.join(taken)} already: choose another directory, or remove them.")
    market.panel.write_parquet(panel)
    write_studio_truth(market.truth, truth)
    return panel, truth
