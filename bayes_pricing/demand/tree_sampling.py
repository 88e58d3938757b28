"""Sampling the Gaussian tree: one compiled chain per thread, run again with shorter steps where one diverged."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.gaussian_tree import TreeData, kernel_tree
from bayes_pricing.demand.nuts import SamplingPlan, run_threads, without_divergence
from bayes_pricing.demand.tree_blocked import Records, new_hamiltonian, run_chain
from bayes_pricing.demand.tree_kernels import Tree, new_work
from bayes_pricing.demand.tree_noise import new_noise_state
from bayes_pricing.demand.tree_prior import TreePrior
from bayes_pricing.demand.tree_start import find_start, residual_start

Progress = Callable[[int, int], None]
TARGET_ACCEPTANCE = (0.8, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeDraws:
    """Hyper-draws and one joint draw of everything above the items for each; plain arrays.

    Attributes
    ----------
    theta : array (chain, draw, P)
        Log between-unit sds and canonical partial correlations (atanh), as :class:`Layout` says.
    log_noise : array (chain, draw, groups)
        Log residual sd of each noise group; with noise by item the typical one of the group's items.
    log_spread : array (chain, draw) or None
        Log of the sd of items' log noise sds around their group's; None unless noise is by item.
    item_log_noise : float32 array (chain, draw, items) or None
        Log residual sd of every item; None unless noise is by item.
    states : array (chain, draw, inner nodes and root, k + m)
        Coefficients of every unit above the items, inner levels first, the population last; the columns past the k-th
        repeat the shared coefficients.
    divergences : int
        Divergent trajectories after warm-up.
    energy : array (chain, iteration after warm-up)
    steps : array (chain, iteration after warm-up)
        Leapfrog steps of each trajectory.
    seconds : float
        Wall-clock time of warm-up and sampling.
    """

    theta: Floats
    log_noise: Floats
    log_spread: Floats | None
    item_log_noise: NDArray[np.float32] | None
    states: Floats
    divergences: int
    energy: Floats
    steps: Floats
    seconds: float


def sample_tree(
    data: TreeData,
    prior: TreePrior,
    *,
    draws: int,
    tune: int,
    chains: int,
    seed: int,
    every: int = 1,
    progress: Progress | None = None,
) -> TreeDraws:
    """Sample variance components and noise with all coefficients integrated out, then draw what is above the items.

    Parameters
    ----------
    data : TreeData
    prior : TreePrior
    draws, tune, chains : int
        Kept draws and warm-up iterations of each chain (1,000, 500 and 4 are usual).
    seed : int
        Same seed, same draws, whatever the number of cores.
    every : int
        Iterations made for each kept draw.
    progress : callable, optional
        Called now and then with (iterations done, iterations in all).

    Returns
    -------
    TreeDraws
    """
    tree = kernel_tree(data, data.gram, prior.root_mean)
    started = time.perf_counter()
    plan = SamplingPlan(draws=draws, tune=tune, chains=chains, seed=seed, every=every)

    def run(target: float) -> tuple[TreeDraws, int]:
        found = _run_chains(data, prior, tree, plan, target, progress)
        return found, found.divergences

    result = without_divergence(run, TARGET_ACCEPTANCE)
    return replace(result, seconds=time.perf_counter() - started)


def _run_chains(
    data: TreeData, prior: TreePrior, tree: Tree, plan: SamplingPlan, target: float, progress: Progress | None
) -> TreeDraws:
    """Every chain on its own thread; noise by item is a block of its own, noise of groups stands with the variances."""
    by_item, groups, size = data.spec.noise_by == "item", len(data.noise_groups), prior.layout.size
    sampled, apart = (size, groups) if by_item else (size + groups, 0)
    records = [_new_records(tree, plan, sampled, apart) for _ in range(plan.chains)]
    counters = np.zeros((plan.chains, 2), dtype=np.int64)
    pooled, own = residual_start(tree)
    start = find_start(tree, prior, sampled - size, pooled, own)
    children = np.random.SeedSequence(plan.seed).spawn(plan.chains)

    def run(chain: int) -> None:
        rng = np.random.default_rng(children[chain])
        work, noise = new_work(tree), new_noise_state(tree, apart)
        state = new_hamiltonian(start.mode + start.factor @ rng.standard_normal(sampled), start.factor, target)
        work.log_noise[:] = own + rng.normal(scale=0.1, size=len(own))
        noise.typical[:] = pooled + rng.normal(scale=0.1, size=apart)
        noise.spread[0] = np.log(0.5 * prior.noise_spread_scale) + rng.normal(scale=0.1)
        first, spread_scale = chain * (plan.draws * plan.every + plan.tune), prior.noise_spread_scale
        run_chain(
            rng,
            plan.seed,
            first,
            plan.tune,
            tree,
            prior.scales,
            spread_scale,
            work,
            state,
            noise,
            records[chain],
            counters[chain],
        )

    def tell() -> None:
        if progress is not None:
            progress(int(counters[:, 0].sum()), plan.total)

    def end() -> None:
        counters[:, 1] = 1

    run_threads([partial(run, chain) for chain in range(plan.chains)], tell, end)
    stats = np.array([record.stats for record in records])
    theta = np.array([record.theta for record in records])
    return TreeDraws(
        theta=prior.layout.unsigned(theta, prior.between_sd)[:, :, :size],
        log_noise=np.array([record.typical for record in records]) if by_item else theta[:, :, size:],
        log_spread=np.array([record.spread for record in records]) if by_item else None,
        item_log_noise=np.array([record.log_noise for record in records]) if by_item else None,
        states=np.array([record.states for record in records]) + prior.root_mean,
        divergences=int(stats[:, :, 3].sum()),
        energy=stats[:, :, 0],
        steps=stats[:, :, 2],
        seconds=0.0,
    )


def _new_records(tree: Tree, plan: SamplingPlan, sampled: int, groups: int) -> Records:
    """Room for the kept draws of one chain; for the noise of items only where it comes in `groups`."""
    (items, p), inner = tree.xty.shape, len(tree.parent) + 1 - len(tree.count)
    return Records(
        theta=np.zeros((plan.draws, sampled)),
        typical=np.zeros((plan.draws, groups)),
        spread=np.zeros(plan.draws),
        log_noise=np.zeros((plan.draws, items if groups else 0), dtype=np.float32),
        states=np.zeros((plan.draws, inner, p)),
        stats=np.zeros((plan.draws * plan.every, 4)),
    )
