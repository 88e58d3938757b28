"""NUTS on a compiled log density, with runs made again where they were too bold or too short."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics, check_sampling
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding

Report = Callable[[int, int, bool], None]
LogDensity = Callable[[Floats], tuple[float, Floats]]

LENGTHS = (1, 4, 16)
CURED_BY_LENGTH = frozenset({"rhat", "rhat_items", "ess_bulk", "ess_tail"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingPlan:
    """How long to sample, and from which seed.

    Attributes
    ----------
    draws, tune, chains : int
        Kept draws and warm-up iterations of each chain.
    seed : int
        Same seed, same draws, whatever the number of cores.
    every : int
        Of the iterations after warm-up every how many-th is kept; their number is ``draws * every``.
    """

    draws: int
    tune: int
    chains: int
    seed: int
    every: int = 1

    @property
    def total(self) -> int:
        """Iterations of all chains, warm-up counted."""
        return self.chains * (self.tune + self.draws * self.every)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NutsDraws:
    """Kept draws and what the sampler said of all of them.

    Attributes
    ----------
    x : array (chain, draw, coordinate)
    energy, steps : arrays (chain, iteration after warm-up)
    divergences : int
        Over all iterations after warm-up.
    """

    x: Floats
    energy: Floats
    steps: Floats
    divergences: int


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def without_divergence[Run](run: Callable[[float], tuple[Run, int]], targets: Sequence[float]) -> Run:
    """The first run without a divergence as the acceptance aimed at rises, or else the last.

    Shorter steps follow a posterior into narrower places; a run that diverged is thrown away whole, so that which draws
    are kept does not depend on them.

    Examples
    --------
    >>> without_divergence(lambda target: (f"aimed at {target}", 0 if target > 0.9 else 3), (0.8, 0.95, 0.99))
    'aimed at 0.95'
    """
    for target in targets[:-1]:
        found, divergences = run(target)
        if divergences == 0:
            return found
    return run(targets[-1])[0]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SettledFit[Fitted: DemandPosterior]:
    """A posterior, the gate's verdict on it, and how many iterations each kept draw took."""

    posterior: Fitted
    diagnostics: Diagnostics
    every: int

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Says so where the run was lengthened."""
        if self.every == 1:
            return ()
        return (
            Finding(
                code="sampled_longer",
                severity="info",
                message=f"draws followed each other closely, so {self.every} times as many were made and every "
                f"{self.every}th kept",
                remedy="nothing to do; levels with few units make for such posteriors",
            ),
        )


def settle[Fitted: DemandPosterior](fit: Callable[[int], tuple[Fitted, SamplerStatistics]]) -> SettledFit[Fitted]:
    """Fit, and fit again with 4 and 16 times the iterations where nothing but length was wanting.

    The kept draws are as many as before, so the posterior does not grow. A refusal of the gate thus means that a long
    run did not help, and never that a default was too short.

    Parameters
    ----------
    fit : callable
        Takes how many iterations to make for each kept draw; gives the posterior and the sampler's statistics.
    """

    def judged(every: int) -> tuple[Fitted, Diagnostics]:
        posterior, statistics = fit(every)
        return posterior, check_sampling(posterior, statistics)

    posterior, diagnostics, every = lengthen(judged)
    return SettledFit(posterior=posterior, diagnostics=diagnostics, every=every)


def lengthen[Fitted](judged: Callable[[int], tuple[Fitted, Diagnostics]]) -> tuple[Fitted, Diagnostics, int]:
    """What `settle` does, for a fit that brings its own verdict; the last number is iterations per kept draw."""
    for every in LENGTHS:
        fitted, diagnostics = judged(every)
        failed = {check.code for check in diagnostics.checks if not check.passed}
        if not failed or failed - CURED_BY_LENGTH:
            break
    return fitted, diagnostics, every


def sample_nuts(
    size: int,
    make_log_density: Callable[[], LogDensity],
    start: Callable[[np.random.Generator], Floats],
    plan: SamplingPlan,
    targets: Sequence[float],
    report: Report | None = None,
) -> NutsDraws:
    """Sample a log density of `size` unconstrained coordinates.

    Parameters
    ----------
    size : int
    make_log_density : callable
        Gives each chain its own density (value and gradient) with its own scratch memory.
    start : callable
        A starting point from a generator.
    plan : SamplingPlan
    targets : sequence of float
        Acceptance to aim at: the first, and the next ones where a run diverged.
    report : callable, optional
        Told now and then, from another thread: iterations done, iterations in all, whether chains are warming up.
    """
    import nutpie  # type: ignore[import-untyped]  # seconds to import, so only here
    from nutpie.compiled_pyfunc import from_pyfunc  # type: ignore[import-untyped]

    def make_expand(*_seeds: int) -> Callable[[Floats], dict[str, Floats]]:
        return lambda x: {"x": x}

    def begin(chain_seed: int) -> Floats:
        return start(np.random.default_rng([plan.seed, chain_seed % 2**63]))

    def tell(chains: Sequence[Any]) -> None:
        if report is not None:
            done = sum(int(chain.finished_draws) for chain in chains)
            report(done, plan.total, any(chain.tuning for chain in chains))

    model = from_pyfunc(
        size, make_log_density, make_expand, [np.dtype(np.float64)], [(size,)], ["x"], make_initial_point_fn=begin
    )

    def run(target: float) -> tuple[Any, int]:
        trace = nutpie.sample(
            model,
            draws=plan.draws * plan.every,
            tune=plan.tune,
            chains=plan.chains,
            cores=min(plan.chains, available_cores()),
            seed=plan.seed,
            target_accept=target,
            progress_bar=False,
            progress_callback=tell if report is not None else None,
            save_warmup=False,
        )
        return trace, int(trace["sample_stats"]["diverging"].to_numpy().sum())

    trace = without_divergence(run, targets)
    stats = trace["sample_stats"]
    return NutsDraws(
        x=np.ascontiguousarray(trace["posterior"]["x"].to_numpy()[:, plan.every - 1 :: plan.every]),
        energy=stats["energy"].to_numpy().astype(np.float64),
        steps=stats["n_steps"].to_numpy().astype(np.float64),
        divergences=int(stats["diverging"].to_numpy().sum()),
    )
