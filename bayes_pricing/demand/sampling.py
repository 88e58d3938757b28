"""Sampling a PyMC model with nutpie: reproducible by seed, quiet, with progress and the time each stage took."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bayes_pricing.demand.nuts import available_cores

if TYPE_CHECKING:
    import pymc as pm  # type: ignore[import-untyped]
    import xarray as xr

Progress = Callable[[float, str], None]
SHARE_OF_COMPILING = 0.3
TARGET_ACCEPTANCE = 0.8


def sample_model(
    model: pm.Model,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    progress: Progress | None = None,
) -> xr.DataTree:
    """Draw from the posterior of a PyMC model by NUTS.

    Parameters
    ----------
    model : pm.Model
    draws, tune, chains : int
        Kept draws and warm-up iterations of each chain; chains run on all cores.
    seed : int
        Same seed, same draws.
    progress : callable, optional
        Told now and then, from another thread, the finished share and what is being done.

    Returns
    -------
    DataTree
        ``posterior`` and ``sample_stats``, dims (chain, draw, ...); ``attrs["seconds"]`` holds the wall-clock
        seconds of ``compile`` and ``sample``.
    """
    import nutpie  # type: ignore[import-untyped]  # seconds to import: only where something is sampled

    started = time.perf_counter()
    if progress is not None:
        progress(0.0, "compiling the model")
    with warnings.catch_warnings():
        # numba cannot cache functions that close over data, and says so for every model
        warnings.filterwarnings("ignore", message="Cannot cache compiled function")
        compiled = nutpie.compile_pymc_model(model)
    compiled_at = time.perf_counter()

    def report(states: Sequence[Any]) -> None:
        if progress is not None:
            share = sum(int(state.finished_draws) for state in states) / (chains * (tune + draws))
            progress(SHARE_OF_COMPILING + (1.0 - SHARE_OF_COMPILING) * share, "sampling the posterior")

    tree: xr.DataTree = nutpie.sample(
        compiled,
        draws=draws,
        tune=tune,
        chains=chains,
        cores=min(chains, available_cores()),
        seed=seed,
        target_accept=TARGET_ACCEPTANCE,
        progress_bar=False,
        progress_callback=report,
        save_warmup=False,
    )
    tree.attrs["seconds"] = {"compile": compiled_at - started, "sample": time.perf_counter() - compiled_at}
    return tree
