"""NUTS on a compiled log density, with runs made again where they were too bold or too short."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial

import numpy as np

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics, check_sampling
from bayes_pricing.demand.nuts_chain import Chain, new_chain
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding

Report = Callable[[int, int, bool], None]
Run = Callable[[np.random.Generator, Chain], None]

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


def without_divergence[Found](run: Callable[[float], tuple[Found, int]], targets: Sequence[float]) -> Found:
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
    make_run: Callable[[], Run],
    start: Callable[[np.random.Generator], Floats],
    plan: SamplingPlan,
    targets: Sequence[float],
    report: Report | None = None,
) -> NutsDraws:
    """Sample a log density of unconstrained coordinates, one compiled chain per thread.

    Parameters
    ----------
    make_run : callable
        Gives each chain what runs it, with its own scratch memory: a compiled loop over the density and
        :func:`bayes_pricing.demand.nuts_chain.advance` that holds no interpreter lock.
    start : callable
        A starting point from a generator.
    plan : SamplingPlan
    targets : sequence of float
        Acceptance to aim at: the first, and the next ones where a run diverged.
    report : callable, optional
        Told now and then: iterations done, iterations in all, whether chains are warming up.
    """

    def run(target: float) -> tuple[NutsDraws, int]:
        draws = _run_chains(make_run, start, plan, target, report, impatient=target != targets[-1])
        return draws, draws.divergences

    return without_divergence(run, targets)


def compile_run(run: Run, start: Floats) -> None:
    """Compile what runs a chain, or load it from numba's cache, at the cost of one density."""
    run(
        np.random.default_rng(0),
        new_chain(start, tune=0, draws=1, every=1, aim=0.8, impatient=False, stop=np.ones(1, dtype=np.int64)),
    )


def _run_chains(
    make_run: Callable[[], Run],
    start: Callable[[np.random.Generator], Floats],
    plan: SamplingPlan,
    target: float,
    report: Report | None,
    *,
    impatient: bool,
) -> NutsDraws:
    """All chains at one aim; an impatient run ends at its first divergence, since it is thrown away whole."""
    stop = np.zeros(1, dtype=np.int64)
    rngs = [np.random.default_rng(seed) for seed in np.random.SeedSequence(plan.seed).spawn(plan.chains)]
    chains = [
        new_chain(
            start(rng), tune=plan.tune, draws=plan.draws, every=plan.every, aim=target, impatient=impatient, stop=stop
        )
        for rng in rngs
    ]

    def tell() -> None:
        if report is not None:
            done = [int(chain.state["iteration"][0]) for chain in chains]
            report(sum(done), plan.total, min(done) < plan.tune)

    def end() -> None:
        stop[0] = 1

    runs = [partial(make_run(), rng, chain) for rng, chain in zip(rngs, chains, strict=True)]
    run_threads(runs, tell, end)
    records = np.array([chain.records for chain in chains])
    return NutsDraws(
        x=np.array([chain.draws for chain in chains]),
        energy=records[:, :, 0],
        steps=records[:, :, 1],
        divergences=int(records[:, :, 2].sum()),
    )


def run_threads(runs: Sequence[Callable[[], None]], tell: Callable[[], None], end: Callable[[], None]) -> None:
    """Run chains side by side, a thread each, as many at once as there are cores; the kernels hold no interpreter lock.

    Parameters
    ----------
    runs : sequence of callable
        One for each chain.
    tell : callable
        Called now and then and at the end, to report; what it raises stops the chains.
    end : callable
        Tells chains that still run to stop: an interrupt, or one of them failed. One that has ended does not look.
    """
    with ThreadPoolExecutor(max_workers=min(len(runs), available_cores())) as pool:
        futures = [pool.submit(run) for run in runs]
        try:
            while wait(futures, timeout=0.1).not_done:
                tell()
        finally:
            end()
        for future in futures:
            future.result()
    tell()
