"""Sampling a PyMC model with nutpie: reproducible by seed, quiet, with progress and the time each stage took."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from bayes_pricing.demand.nuts import SamplingPlan, available_cores

if TYPE_CHECKING:
    import pymc as pm  # type: ignore[import-untyped]
    import xarray as xr

Progress = Callable[[float, str], None]
SHARE_OF_COMPILING = 0.3


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
    started = time.perf_counter()
    if progress is not None:
        progress(0.0, "compiling the model")
    compiled = compile_model(model)
    compiled_at = time.perf_counter()
    plan = SamplingPlan(draws=draws, tune=tune, chains=chains, seed=seed)
    tree = sample_compiled(compiled, plan, progress=progress)
    tree.attrs["seconds"] = {"compile": compiled_at - started, "sample": time.perf_counter() - compiled_at}
    return tree


def compile_model(model: pm.Model) -> Any:
    """Compile a PyMC model for nutpie, once for any number of runs."""
    import nutpie  # type: ignore[import-untyped]  # seconds to import: only where something is sampled

    with warnings.catch_warnings():
        # numba cannot cache functions that close over data, and says so for every model
        warnings.filterwarnings("ignore", message="Cannot cache compiled function")
        return nutpie.compile_pymc_model(model)


def sample_compiled(
    compiled: Any, plan: SamplingPlan, *, target_accept: float = 0.8, progress: Progress | None = None
) -> xr.DataTree:
    """Draw from a compiled model; ``plan.every`` iterations are made for each kept draw, and all are returned.

    Parameters
    ----------
    compiled
        Of :func:`compile_model`.
    plan : SamplingPlan
    target_accept : float in (0, 1)
        Acceptance to aim at; higher takes shorter steps.
    progress : callable, optional
        As in :func:`sample_model`.
    """
    import nutpie

    def report(states: Sequence[Any]) -> None:
        if progress is not None:
            share = sum(int(state.finished_draws) for state in states) / plan.total
            progress(SHARE_OF_COMPILING + (1.0 - SHARE_OF_COMPILING) * share, "sampling the posterior")

    tree: xr.DataTree = nutpie.sample(
        compiled,
        draws=plan.draws * plan.every,
        tune=plan.tune,
        chains=plan.chains,
        cores=min(plan.chains, available_cores()),
        seed=plan.seed,
        target_accept=target_accept,
        progress_bar=False,
        progress_callback=report,
        save_warmup=False,
    )
    return tree
