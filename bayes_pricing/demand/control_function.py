"""Demand with endogenous prices: first stage and outcome jointly, on the Gaussian tree (control function)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.control_function_density import Stage, draw_above_items, new_root, run_chain
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.draws_assembly import LevelDraws, assemble_draws
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data, kernel_tree
from bayes_pricing.demand.instruments import InstrumentRows, first_stage, freedom
from bayes_pricing.demand.nuts import NutsDraws, Run, SamplingPlan, sample_nuts
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_items import draw_items, own_weights, price_information
from bayes_pricing.demand.tree_kernels import Tree, new_work
from bayes_pricing.demand.tree_prior import (
    TreePrior,
    build_tree_prior,
    correlation_factor,
    split_theta,
    theta_size,
    unsigned,
)
from bayes_pricing.demand.tree_sampling import Progress
from bayes_pricing.demand.tree_start import residual_start

CONFOUNDING_SD = 3.0
"""Prior sd of lambda, by how much more sales move with the unexplained part of log price than price itself makes them;
it has the unit of an elasticity, and twice the literature's spread of elasticities is a loose belief about it."""
PRICE_RESIDUAL = "log_price_residual"
TARGET_ACCEPTANCE = (0.9, 0.97, 0.995)
WEIGHT_DRAWS = 500
NO_SPREAD = 1e-9
"""Between-item sd where there is one item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlFunctionFit:
    r"""A joint posterior of demand and of the price that followed it.

    .. math:: \log q_{it} = \alpha_i + \varepsilon_i (\log p_{it} - \overline{\log p}_i) + \dots + u_{it}, \qquad
              \log p_{it} = \pi_{0i} + \pi'z_{it} + \dots + v_{it}, \qquad (u, v) \sim N(0, \Omega)

    Attributes
    ----------
    posterior : DrawsPosterior
        Its `extra` hyper-parameters are ``confounding`` (:math:`\lambda = \Omega_{uv} / \Omega_{vv}`),
        ``first_stage`` (:math:`\pi`) and ``first_stage_sd`` (:math:`\sqrt{\Omega_{vv}}`).
    statistics : SamplerStatistics
    """

    posterior: DrawsPosterior
    statistics: SamplerStatistics


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointProblem:
    """What the sampler of the joint model needs.

    Attributes
    ----------
    data : TreeData
        With :data:`PRICE_RESIDUAL` and the instruments as last columns.
    prior : TreePrior
    tree : Tree
    stage : Stage
        Sums of the first stage.
    groups : int
        Noise groups.
    size : int
        Unconstrained coordinates.
    """

    data: TreeData
    prior: TreePrior
    tree: Tree
    stage: Stage
    groups: int
    size: int


def fit_control_function(
    gram: Gram,
    rows: InstrumentRows,
    items: pl.DataFrame,
    spec: DemandSpec,
    *,
    plan: SamplingPlan,
    progress: Progress | None = None,
) -> ControlFunctionFit:
    """Fit demand and the first stage of its price together.

    Parameters
    ----------
    gram : Gram
        Of ``spec.coefficients``, ``spec.shared_controls``, then :data:`PRICE_RESIDUAL` (log price once more) and the
        instruments.
    rows : InstrumentRows
        Of the same rows, for the first stage.
    items : DataFrame
        Item table.
    spec : DemandSpec
        Log-normal, noise common or by category.
    plan : SamplingPlan
        500 iterations of warm-up are usual.
    progress : callable, optional
        Called with (iterations done, iterations in all).
    """
    problem = pose_joint(gram, rows, items, spec)
    draws = _sample(problem, plan, progress)
    return ControlFunctionFit(
        posterior=_posterior(problem, draws.x, rows, items, spec, plan.seed),
        statistics=SamplerStatistics(divergences=draws.divergences, energy=draws.energy),
    )


def pose_joint(gram: Gram, rows: InstrumentRows, items: pl.DataFrame, spec: DemandSpec) -> JointProblem:
    """Data, priors and first stage as the density reads them; arguments as of :func:`fit_control_function`."""
    wide = replace(spec, shared_controls=(*spec.shared_controls, PRICE_RESIDUAL, *rows.names))
    data = build_tree_data(gram, [[str(name) for name in items[level]] for level in spec.levels], wide)
    prior = build_tree_prior(data, spec.priors)
    q, root_sd = len(rows.names), prior.root_sd.copy()
    root_sd[-1 - q], root_sd[-q:] = CONFOUNDING_SD, 1.0  # the instruments' own coefficients are never free
    between = prior.between_sd.copy()
    if len(gram.items) == 1:  # a level with one member is dropped and its prior variance moves up
        k = between.shape[1]
        root_sd[:k] = np.sqrt(root_sd[:k] ** 2 + between[0] ** 2)
        between[0] = NO_SPREAD
    prior = replace(prior, root_sd=root_sd, between_sd=between)
    groups, (levels, k) = len(data.noise_groups), between.shape
    return JointProblem(
        data=data,
        prior=prior,
        tree=kernel_tree(data, gram, prior.root_mean),
        stage=_stage(rows, prior.noise_scale),
        groups=groups,
        size=theta_size(levels, k, groups) + q + 1,
    )


def _stage(rows: InstrumentRows, prior_sd: float) -> Stage:
    """Sums of the first stage, and least squares to centre its parameters at."""
    slope, residual = first_stage(rows)
    z, degrees = rows.instruments, float(freedom(rows, 0))
    variance = float(residual @ residual) / max(degrees - len(slope), 1.0)
    moments = z.T @ z
    return Stage(
        price=float(rows.log_price @ rows.log_price),
        cross=z.T @ rows.log_price,
        moments=moments,
        degrees=degrees,
        slope=slope,
        factor=np.linalg.cholesky(variance * np.linalg.inv(moments)),
        log_sd=0.5 * float(np.log(variance)),
        log_sd_width=float(np.sqrt(0.5 / degrees)),
        prior_sd=prior_sd,
    )


def _sample(problem: JointProblem, plan: SamplingPlan, progress: Progress | None) -> NutsDraws:
    """Unconstrained hyper-parameters, the first stage's last."""
    tree, stage, groups, scales = problem.tree, problem.stage, problem.groups, problem.prior.scales
    pooled, _ = residual_start(tree)
    first = problem.size - groups - len(stage.slope) - 1

    def make_run() -> Run:
        work, root = new_work(tree), new_root(tree.xty.shape[1], len(stage.slope))
        return lambda rng, chain: run_chain(rng, chain, groups, tree, scales, stage, work, root)

    def start(rng: np.random.Generator) -> Floats:
        theta = rng.normal(scale=0.2, size=problem.size)
        by_level, _ = split_theta(theta, *problem.prior.between_sd.shape)  # a view
        by_level[...] = 0.5 * np.exp(by_level)
        theta[first : first + groups] += pooled
        return theta

    report = None if progress is None else lambda done, total, _warming: progress(done, total)
    return sample_nuts(make_run, start, plan, TARGET_ACCEPTANCE, report)


def _posterior(
    problem: JointProblem, theta: Floats, rows: InstrumentRows, items: pl.DataFrame, spec: DemandSpec, seed: int
) -> DrawsPosterior:
    """Coefficients given the hyper-draws, their extra columns dropped, in the shape every other fit by draws has."""
    (chains, draws, _), tree = theta.shape, problem.tree
    flat = theta.reshape(chains * draws, -1)
    k, m, groups, q = tree.k, len(spec.shared_controls), problem.groups, len(rows.names)
    rng = np.random.default_rng([seed, 1])
    states, pi = _draw_above(problem, flat, rng, seed)
    log_sd, factor, pairs = _scales(problem, flat)
    noise_sd = np.exp(flat[:, -q - 1 - groups : -q - 1])
    own = _draw_items(problem, states, factor[:, 0], noise_sd, seed)
    confounding = states[:, -1, k + m].copy()
    stage_sd = np.exp(problem.stage.log_sd + problem.stage.log_sd_width * flat[:, -1])
    states[:, :, : k + m] += problem.prior.root_mean[: k + m]
    own += problem.prior.root_mean[:k]
    shift = confounding[:, None] * _control_slopes(rows, pi, stage_sd, rng)
    states[:, :, 2 : k + m] += shift[:, None, :]
    own[:, :, 2:] += shift[:, None, : k - 2]
    structural = noise_sd**2 + (confounding * stage_sd)[:, None] ** 2  # the variance of u, were price set at will

    def shaped(values: Floats) -> Floats:
        return values.reshape(chains, draws, *values.shape[1:])

    level_start = tree.level_start - len(tree.count)
    names = problem.data.level_names
    varies = {name: name != "item" or len(tree.count) > 1 for name in names}
    levels = LevelDraws(
        units={"item": shaped(own)}
        | {name: shaped(states[:, level_start[at] : level_start[at + 1], :k]) for at, name in enumerate(names) if at},
        population=shaped(states[:, -1, :k]),
        sd={name: shaped(np.exp(log_sd[:, at]) * varies[name]) for at, name in enumerate(names)},
        correlation={name: shaped(pairs[:, at] * varies[name]) for at, name in enumerate(names)},
        shared=shaped(states[:, -1, k : k + m]),
        smearing=shaped(0.5 * structural[:, problem.data.noise_group]),
        extra={
            "confounding": shaped(confounding[:, None]),
            "first_stage": shaped(pi),
            "first_stage_sd": shaped(stage_sd[:, None]),
        },
    )
    weight = _own_weight(problem, factor[:, 0], noise_sd, own)
    return assemble_draws(levels, problem.data, spec, items, weight=weight, seed=seed)


def _draw_above(problem: JointProblem, flat: Floats, rng: np.random.Generator, seed: int) -> tuple[Floats, Floats]:
    """States of all nodes above the items (draws, nodes, p), and the first stage's slopes (draws, q)."""
    tree, q = problem.tree, len(problem.stage.slope)
    p, inner = tree.xty.shape[1], len(tree.parent) + 1 - len(tree.count)
    states, pi = np.zeros((len(flat), inner, p)), np.zeros((len(flat), q))
    normals = rng.standard_normal((len(flat), p - q))
    work, root, scales = new_work(tree), new_root(p, q), problem.prior.scales
    draw_above_items(seed, flat, normals, problem.groups, tree, scales, problem.stage, work, root, states, pi)
    return states, pi


def _scales(problem: JointProblem, flat: Floats) -> tuple[Floats, Floats, Floats]:
    """Log sds (draws, levels, k), covariance factors (draws, levels, k, k) and correlations (draws, levels, pairs)."""
    levels, k = problem.prior.between_sd.shape
    log_sd, partials = split_theta(unsigned(flat, problem.prior.between_sd), levels, k)
    correlation = correlation_factor(partials, k)
    rows, columns = np.tril_indices(k, -1)
    pairs = (correlation @ np.swapaxes(correlation, -1, -2))[..., rows, columns]
    return log_sd, np.exp(log_sd)[..., None] * correlation, pairs


def _draw_items(problem: JointProblem, states: Floats, factor: Floats, noise_sd: Floats, seed: int) -> Floats:
    """Coefficients of the items given what is above them, (draws, items, k), the prior mean of the root taken off."""
    tree = problem.tree
    chosen = np.arange(len(tree.count), dtype=np.int64)
    out = np.empty((len(chosen), tree.k, len(states)))
    draw_items(
        seed,
        0,
        chosen,
        tree.parent[chosen] - len(chosen),
        tree.noise_group,
        np.ascontiguousarray(np.moveaxis(factor, 0, -1)),
        np.ascontiguousarray(noise_sd.T**-2.0),
        tree.xtx,
        tree.xty,
        np.ascontiguousarray(np.moveaxis(states, 0, -1)),
        out,
    )
    return np.ascontiguousarray(np.moveaxis(out, -1, 0))


def _control_slopes(rows: InstrumentRows, pi: Floats, stage_sd: Floats, rng: np.random.Generator) -> Floats:
    r"""Draws of the controls' slopes in the first stage, (draws, c), given the instruments'.

    The tree sees :math:`\log p - \pi'z`, so its control effects are those of demand less :math:`\lambda` times these.
    """
    mean = rows.control_slopes[:, 0] - pi @ rows.control_slopes[:, 1:].T
    noise = rng.standard_normal((len(pi), mean.shape[1])) @ rows.control_spread.T
    slopes: Floats = mean + stage_sd[:, None] * noise
    return slopes


def _own_weight(problem: JointProblem, factor: Floats, noise_sd: Floats, own: Floats) -> Floats:
    """Share of each item's elasticity that its own rows decide; of a single item, what they took off the prior."""
    tree = problem.tree
    if len(tree.count) == 1:
        taken: Floats = 1.0 - own[:, :, 1].var(axis=0) / problem.prior.root_sd[1] ** 2
        return np.clip(taken, 0.0, 1.0)
    every, weight = max(len(factor) // WEIGHT_DRAWS, 1), np.zeros(len(tree.count))
    chol = np.ascontiguousarray(np.moveaxis(factor[::every], 0, -1))
    precision = np.ascontiguousarray(noise_sd[::every].T ** -2.0)
    information = price_information(tree.xtx[:, : tree.k, : tree.k])
    own_weights(1, information, chol, precision, tree.noise_group, tree.xtx, weight)
    return np.clip(weight, 0.0, 1.0)
