"""Random-coefficients logit on shares: people of one market differ in taste; fit, gate and posterior."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.choice_elasticity import PEOPLE
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics, check_arrays
from bayes_pricing.demand.nuts import lengthen
from bayes_pricing.demand.shares import SharePosterior, SharePriors
from bayes_pricing.demand.shares_data import ShareData, within_products
from bayes_pricing.demand.shares_inversion import invert_shares, people_nodes
from bayes_pricing.demand.shares_people_density import PeopleChain, PeopleRows, advance, log_target
from bayes_pricing.demand.shares_people_mode import (
    LEVEL,
    PRICE,
    PeopleMode,
    find_mode,
    first_stage,
    pose_people,
    taste_unit,
)
from bayes_pricing.errors import Refusal

TASTES = (PRICE, LEVEL)
TUNE = 400
BLOCK = 20
"""Iterations between two looks at how far the chains are."""
WANTED = 0.3
"""Share of short steps to accept."""
PARTS = 4
"""Of the warm-up: proposals are learnt at the end of each."""
WIDER = 1.1
"""Of the independent proposal, over the posterior's own spread."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeopleSharePosterior:
    r"""Joint draws of a share logit whose people differ,

    .. math:: u_{ijt} = \delta_{jt} + \sum_k \sigma_k \nu_{ik} x_{jtk} + \epsilon_{ijt}, \quad \nu_{ik} \sim N(0, 1).

    Attributes
    ----------
    base : SharePosterior
        Of the mean person: products, price, controls, first stage; its diagnostics are of everything.
    tastes_of : tuple of str
        What people differ in: ``price``, ``constant`` (all products against buying nothing), attributes, controls.
    spread : array (chain, draw, K)
        Sds of the coefficients between people, utility per unit of each of `tastes_of`.
    own : array (chain, draw, J)
        Own elasticity of each product, mean over its markets at the prices and shares observed.
    people : int
        Persons that stand for everybody.
    """

    base: SharePosterior
    tastes_of: tuple[str, ...]
    spread: Floats
    own: Floats
    people: int

    @property
    def id(self) -> str:
        """Digest of data, priors, seed and draws."""
        return self.base.id

    @property
    def data(self) -> ShareData:
        """What it was fitted to."""
        return self.base.data

    @property
    def diagnostics(self) -> Diagnostics:
        """Verdict of the gate."""
        return self.base.diagnostics

    @property
    def seed(self) -> int:
        """Of the chains and of the people."""
        return self.base.seed

    @property
    def alternatives(self) -> tuple[str, ...]:
        """Products, then the outside option."""
        return self.base.alternatives

    @property
    def regressors(self) -> tuple[str, ...]:
        """``constant:<product>``, ``price`` and controls."""
        return self.base.regressors

    @property
    def mean(self) -> Floats:
        """Coefficients of the mean person, (chain, draw, K)."""
        return self.base.mean

    def typical(self) -> Floats:
        """Regressors (J + 1, K) of a market with every product at its mean price and controls."""
        return self.base.typical()

    def tastes(self, people: int) -> Floats:
        """Coefficients (draw, person, K); with as many persons as were fitted they are the same ones.

        A taste for an attribute of products is in their constants.
        """
        data, mean = self.data, self.mean.reshape(-1, 1, len(self.regressors))
        nodes = people_nodes(people, len(self.tastes_of), self.seed)
        spread = self.spread.reshape(-1, len(self.tastes_of))
        found = np.repeat(mean, people, axis=1)
        products = len(data.products)
        for k, name in enumerate(self.tastes_of):
            away = spread[:, k, None] * nodes[:, k]
            if name == LEVEL:
                found[:, :, :products] += away[:, :, None]
            elif name in data.attribute_names:
                found[:, :, :products] += away[:, :, None] * data.attributes[:, data.attribute_names.index(name)]
            else:
                found[:, :, self.regressors.index(name)] += away
        return found

    def between_sd(self) -> xr.DataArray:
        """Sds of coefficients between people, utility per unit, dims (chain, draw, taste)."""
        return xr.DataArray(self.spread, dims=("chain", "draw", "taste"), coords={"taste": list(self.tastes_of)})

    def own_elasticities(self) -> xr.DataArray:
        """Own-price elasticity of each product, dims (draw, product): mean over its markets, as observed."""
        names = list(self.data.products)
        return xr.DataArray(self.own.reshape(-1, len(names)), dims=("draw", "product"), coords={"product": names})

    def mean_own_elasticity(self) -> xr.DataArray:
        """Mean over all rows of the own-price elasticity at observed prices and shares, dims (draw,)."""
        rows = np.bincount(self.data.product)
        return xr.DataArray(self.own.reshape(-1, len(rows)) @ (rows / rows.sum()), dims=("draw",))


def fit_people_shares(
    data: ShareData,
    *,
    tastes: Sequence[str] = TASTES,
    instrumented: bool,
    seed: int,
    priors: SharePriors | None = None,
    people: int = PEOPLE,
    draws: int = 1000,
    tune: int = TUNE,
    chains: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> PeopleSharePosterior:
    """Posterior of a share logit in which people of one market differ.

    Parameters
    ----------
    data : ShareData
    tastes : sequence of str
        What people differ in: ``price``, ``constant``, attributes and controls of the data.
    instrumented : bool
        Model price beside shares; needs instruments.
    seed : int
    priors : SharePriors, optional
    people : int
        Persons that stand for everybody, spread evenly.
    draws, tune, chains : int
    progress : callable, optional
        Told now and then the iterations done and in all.

    Raises
    ------
    Refusal
        If the sampler did not pass the gate.
    SpecError
        If a taste is unknown, or instruments are to be used and there are none.

    References
    ----------
    Berry, Levinsohn & Pakes (1995), "Automobile prices in market equilibrium", Econometrica 63(4); Jiang, Manchanda &
    Rossi (2009), "Bayesian analysis of random coefficient logit models using aggregate data", J. Econometrics 149(2).
    """
    priors = priors if priors is not None else SharePriors()
    rows = pose_people(data, tastes, priors, instrumented=instrumented, people=people, seed=seed)
    mode = find_mode(rows)
    report = progress if progress is not None else _silent

    def judged(every: int) -> tuple[_Drawn, Diagnostics]:
        plan = _Plan(draws=draws, tune=tune, every=every, seed=seed)
        done = [0] * chains

        def tell(chain: int, kept: int) -> None:
            done[chain] = kept
            report(sum(done), chains * (draws * every + tune))

        with ThreadPoolExecutor(max_workers=chains) as pool:
            found = list(pool.map(lambda chain: _run(rows, mode, plan, chain, tell), range(chains)))
        drawn = _draws(np.stack(found), rows, data, np.random.default_rng([seed, 2]))
        return drawn, check_arrays(*drawn.parameters(), SamplerStatistics(divergences=0))

    drawn, diagnostics, _ = lengthen(judged)
    if not diagnostics.passed:
        raise Refusal(diagnostics.findings)
    digest = hashlib.blake2b(repr((priors, seed, tuple(tastes), instrumented, people)).encode(), digest_size=32)
    for array in (data.share, data.price, data.controls, data.instruments, drawn.elasticity, drawn.product):
        digest.update(np.ascontiguousarray(array).data)
    base = SharePosterior(
        id=digest.hexdigest(),
        data=data,
        hierarchical=False,
        instrumented=instrumented,
        elasticity=drawn.elasticity,
        by_market=None,
        product=drawn.product,
        slopes=drawn.slopes / within_products(data, data.controls).std(axis=0),
        scales=drawn.scales,
        first_stage=None if drawn.first_stage is None else drawn.first_stage / data.per_elasticity,
        diagnostics=diagnostics,
        seed=seed,
    )
    unit = np.array([taste_unit(data, name) for name in tastes])
    return PeopleSharePosterior(
        base=base, tastes_of=tuple(tastes), spread=drawn.spread * unit, own=drawn.own, people=people
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    draws: int
    tune: int
    every: int
    seed: int


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


def _run(rows: PeopleRows, mode: PeopleMode, plan: _Plan, chain: int, tell: Callable[[int, int], None]) -> Floats:
    """One chain: warm up in four parts, the proposals learnt from each, then keep draws (draw, column)."""
    rng = np.random.default_rng([plan.seed, chain])
    where = _start(rows, mode, rng)
    k = len(rows.taste)
    columns = k + 1 + len(rows.mean) + 2 * len(rows.rows_of) + (rows.z.shape[1] + 1 if rows.z.shape[1] else 0)
    done = 0
    for _ in range(PARTS):
        seen = np.empty((plan.tune // PARTS, columns))
        for first in range(0, len(seen), BLOCK):
            where.accepted[:] = 0.0
            part = seen[first : first + BLOCK]
            advance(rng, rows, where, 1, part)
            where.step[:] *= np.exp(where.accepted[1] / len(part) - WANTED)
            done += len(part)
            tell(chain, done)
        _learn(where, seen[len(seen) // 4 :, : k + 1])
    kept = np.empty((plan.draws, columns))
    for first in range(0, plan.draws, BLOCK):
        part = kept[first : first + BLOCK]
        advance(rng, rows, where, plan.every, part)
        done += len(part) * plan.every
        tell(chain, done)
    return kept


def _start(rows: PeopleRows, mode: PeopleMode, rng: np.random.Generator) -> PeopleChain:
    """Near the mode, each chain elsewhere; chances of the inversion failing there are those of the mode."""
    v, slopes = first_stage(rows)
    factor = np.linalg.cholesky(mode.covariance)
    delta, at = mode.delta.copy(), mode.at.copy()
    for _ in range(20):
        trial, moved = mode.delta.copy(), mode.at + factor @ rng.standard_normal(len(mode.at))
        moved[:-1] = np.abs(moved[:-1])
        if np.isfinite(log_target(rows, moved, v, trial)):
            delta, at = trial, moved
            break
    return PeopleChain(
        at=at,
        delta=delta,
        jacobian=float(invert_shares(rows.markets, at[:-1], delta)),
        v=v,
        pi=slopes,
        log_stage=0.5 * float(np.log(v @ v / rows.freedom)),
        centre=mode.at.copy(),
        factor=WIDER * factor,
        step=np.sqrt(np.diag(mode.covariance)),
        accepted=np.zeros(2),
    )


def _learn(where: PeopleChain, seen: Floats) -> None:
    """Centre and spread of the proposals from draws; what did not move keeps what it has."""
    sd = seen.std(axis=0)
    if len(seen) < 10 * seen.shape[1] or not (sd > 0).all():
        return
    covariance = np.cov(seen.T) + np.diag(1e-6 * sd**2)
    where.centre[:] = seen.mean(axis=0)
    where.factor[:] = WIDER * np.linalg.cholesky(covariance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    spread: Floats
    elasticity: Floats
    slopes: Floats
    product: Floats
    scales: dict[str, Floats]
    first_stage: Floats | None
    own: Floats

    def parameters(self) -> tuple[Floats, Floats]:
        """What the gate looks at: everything above products, the worst of those."""
        upper = [self.spread, self.elasticity[:, :, None], self.slopes]
        upper += [values[:, :, None] for values in self.scales.values()]
        upper += [] if self.first_stage is None else [self.first_stage]
        return np.concatenate(upper, axis=2), self.product


def _draws(kept: Floats, rows: PeopleRows, data: ShareData, rng: np.random.Generator) -> _Drawn:
    """Parameters from the columns that :func:`advance` keeps; what the first stage leaves in the products comes off."""
    k, own, products, q = len(rows.taste), rows.x.shape[1], len(rows.rows_of), rows.z.shape[1]
    at = np.cumsum([0, k, 1, len(rows.mean), products, q + 1 if q else 0, products])
    spread, noise, linear, product, stage, elasticity = (kept[:, :, a:b] for a, b in itertools.pairwise(at))
    scales = {"noise_sd": np.exp(noise[:, :, 0])}
    slopes, product, first_stage = linear[:, :, 1:own], product + data.centre, None
    if q:
        lam, stage_sd = linear[:, :, own], np.exp(stage[:, :, q])
        scales |= {"confounding": lam, "price_noise_sd": stage_sd}
        first_stage = np.ascontiguousarray(stage[:, :, :q])
        left = (lam * stage_sd)[:, :, None]
        product = product - left / np.sqrt(rows.rows_of) * rng.standard_normal(product.shape)
        if own > 1:
            inverse = np.linalg.inv(np.linalg.cholesky(rows.x[:, 1:].T @ rows.x[:, 1:]))
            slopes = slopes - left * (rng.standard_normal(slopes.shape) @ inverse)
    return _Drawn(
        spread=np.ascontiguousarray(spread),
        elasticity=np.ascontiguousarray(linear[:, :, 0]),
        slopes=np.ascontiguousarray(slopes),
        product=np.ascontiguousarray(product),
        scales=scales,
        first_stage=first_stage,
        own=np.ascontiguousarray(elasticity),
    )
