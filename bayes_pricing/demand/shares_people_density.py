r"""Posterior of the random-coefficients logit on shares: a few coordinates stepped, the linear rest drawn.

.. math:: \delta_{jt}(\sigma) &= \alpha_j + x_{jt}'\beta + e\, p_{jt} + \xi_{jt}, \qquad
          p_{jt} = \dots + z_{jt}'\pi + v_{jt}, \qquad \xi_{jt} = \lambda v_{jt} + u_{jt} \\
          p(s \mid \cdot) &= N(\xi; \dots) \prod_t \left| \partial s_t / \partial \delta_t \right|^{-1}

Given the sds of tastes :math:`\sigma`, that of `u` and :math:`\pi`, mean utilities are a linear regression with normal
priors: :math:`e, \beta, \lambda` and the products are integrated out of the step in :math:`(\sigma, \log \sigma_u)` and
drawn after it. Price is around its product's mean and in units of elasticity, controls likewise with one sd each; `v`
and `z` have products and controls taken out, so that what these leave of :math:`\lambda v` in the products and
:math:`\beta` is drawn apart. Two proposals take turns: an independent t around the mode, folded at zero, and a short
step, folded too (both are reversible, as sds are not negative).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayes_pricing.demand.choice_data import Floats, Integers
from bayes_pricing.demand.shares_inversion import Markets, fill_own_slopes, invert_shares

FREEDOM = 5.0
"""Of the independent proposal: its tails are heavier than the posterior's."""
STAGE_STEPS = 3
RIDGE_STEPS = 10
RIDGE_SCALES = (0.01, 1.0)
"""Of moves along the ridge on which lambda times pi stands still, in logs; every size between them is tried."""


class PeopleRows(NamedTuple):
    """Data and prior as the chains read them; rows market by market."""

    markets: Markets
    product: Integers  # (n,)
    rows_of: Floats  # (J,) how many rows a product has
    level: float  # log ratio that product effects are around
    x: Floats  # (n, 1 + c) price and controls around the product's mean
    price: Floats  # (n,) in units of elasticity
    v: Floats  # (n,) price with products and controls taken out
    z: Floats  # (n, q) instruments likewise; q = 0 takes prices as given
    zz: Floats  # (q, q)
    zv: Floats  # (q,)
    of_price: Floats  # (c,) slopes of price on the controls
    mean: Floats  # (m,) prior of e, beta and, with instruments, lambda
    sd: Floats  # (m,)
    taste: Floats  # (K,) half-normal scales of the sds of tastes
    scale: Floats  # (3,) of sigma_u, of product effects, of sigma_v
    slope_sd: Floats  # (q,) prior sd of pi
    freedom: float  # rows less products and controls
    price_at: int  # position of price among tastes, -1 where everybody's is the same


@dataclass(slots=True, kw_only=True, eq=False)
class PeopleChain:
    """Where a chain stands, and how it proposes.

    Attributes
    ----------
    at : array (K + 1,)
        Sds of tastes, log sigma_u.
    delta, jacobian : array (n,) and float
        Mean utilities there, and their log |ds/d delta|.
    v, pi, log_stage : array (n,), array (q,) and float
        Residual and slopes of the first stage, and log sigma_v.
    centre, factor : array (K + 1,), array (K + 1, K + 1)
        Of the independent proposal, lower triangular.
    step : array (K + 1,)
        Of the short one.
    accepted : array (2,)
        Of either, since last looked at.
    """

    at: Floats
    delta: Floats
    jacobian: float
    v: Floats
    pi: Floats
    log_stage: float
    centre: Floats
    factor: Floats
    step: Floats
    accepted: Floats


class Regression(NamedTuple):
    """Mean utilities regressed on the linear part, which is integrated out of `value`."""

    value: float  # log likelihood
    centre: Floats  # (m,) mean of the linear part
    factor: Floats  # (m, m) Cholesky factor of its precision
    sums: Floats  # (J,) of mean utilities around the level


def regress(rows: PeopleRows, v: Floats, delta: Floats, log_noise: float) -> Regression:
    """Log likelihood of mean utilities (n,) at a noise sd and a residual `v` of the first stage."""
    x = np.column_stack([rows.x, v]) if len(rows.mean) > rows.x.shape[1] else rows.x
    y, precision = delta - rows.level, math.exp(-2.0 * log_noise)
    sums = np.bincount(rows.product, y, len(rows.rows_of))
    within = float(y @ y - (sums**2 / rows.rows_of).sum())
    wide = 1.0 / precision + rows.rows_of * rows.scale[1] ** 2
    factor = np.linalg.cholesky(x.T @ x * precision + np.diag(rows.sd**-2))
    half = np.linalg.solve(factor, x.T @ y * precision + rows.mean / rows.sd**2)
    value = -(len(y) - len(sums)) * log_noise - 0.5 * within * precision
    value -= 0.5 * float((np.log(wide) + sums**2 / rows.rows_of / wide).sum())
    value += 0.5 * float(half @ half) - float(np.log(np.diag(factor)).sum())
    return Regression(value, np.linalg.solve(factor.T, half), factor, sums)


def log_prior(rows: PeopleRows, at: Floats) -> float:
    """Half-normal sds of tastes and of the noise, the latter in its logarithm."""
    noise = math.exp(at[-1]) / rows.scale[0]
    return float(at[-1] - 0.5 * noise**2 - 0.5 * ((at[:-1] / rows.taste) ** 2).sum())


def log_target(rows: PeopleRows, at: Floats, v: Floats, delta: Floats) -> float:
    """Log density of the stepped coordinates given the first stage; `delta` is where the inversion starts and ends."""
    logdet = invert_shares(rows.markets, at[:-1], delta)
    if math.isnan(logdet):
        return -math.inf
    return regress(rows, v, delta, float(at[-1])).value - logdet + log_prior(rows, at)


def _log_proposal(chain: PeopleChain, at: Floats) -> float:
    """Log density of the folded t: the sum over the signs that fold to the same place."""
    width = len(at)
    signs = 1.0 - 2.0 * (np.arange(1 << (width - 1))[:, None] >> np.arange(width) & 1)
    left = np.linalg.solve(chain.factor, (signs * at - chain.centre).T)
    return float(np.log(((1.0 + (left**2).sum(axis=0) / FREEDOM) ** (-0.5 * (FREEDOM + width))).sum()))


def _proposed(rng: np.random.Generator, chain: PeopleChain, *, independent: bool) -> Floats:
    normal = rng.standard_normal(len(chain.at))
    if independent:
        at = chain.centre + chain.factor @ normal * math.sqrt(FREEDOM / rng.chisquare(FREEDOM))
    else:
        at = chain.at + chain.step * normal
    at[:-1] = np.abs(at[:-1])
    return np.asarray(at)


def _move(rng: np.random.Generator, rows: PeopleRows, chain: PeopleChain, *, independent: bool) -> None:
    """One accepted or rejected step of the sds of tastes and of the noise, the linear part integrated out."""
    here = regress(rows, chain.v, chain.delta, float(chain.at[-1])).value
    here += log_prior(rows, chain.at) - chain.jacobian
    at, delta = _proposed(rng, chain, independent=independent), chain.delta.copy()
    chance = math.log(rng.random())
    logdet = invert_shares(rows.markets, at[:-1], delta)
    if math.isnan(logdet):
        return
    gain = regress(rows, chain.v, delta, float(at[-1])).value + log_prior(rows, at) - logdet - here
    if independent:
        gain += _log_proposal(chain, chain.at) - _log_proposal(chain, at)
    if chance < gain:
        chain.at, chain.delta, chain.jacobian = at, delta, logdet
        chain.accepted[0 if independent else 1] += 1.0


def _draw_linear(rng: np.random.Generator, rows: PeopleRows, chain: PeopleChain) -> tuple[Floats, Floats]:
    """e, beta and lambda, then the products, given everything else; with instruments the first stage follows."""
    log_noise = float(chain.at[-1])
    found = regress(rows, chain.v, chain.delta, log_noise)
    linear = found.centre + np.linalg.solve(found.factor.T, rng.standard_normal(len(found.centre)))
    precision = math.exp(-2.0 * log_noise)
    total = rows.rows_of * precision + rows.scale[1] ** -2
    product = found.sums * precision / total + rng.standard_normal(len(total)) / np.sqrt(total)
    if len(rows.mean) > rows.x.shape[1]:
        _draw_stage(rng, rows, chain, linear)
    return linear, product


def _draw_stage(rng: np.random.Generator, rows: PeopleRows, chain: PeopleChain, linear: Floats) -> None:
    """The first stage given the rest: its slopes from both equations, then its noise."""
    lam, precision, stage = float(linear[-1]), math.exp(-2.0 * chain.at[-1]), math.exp(-2.0 * chain.log_stage)
    left = chain.delta - rows.level - (linear[0] + lam) * rows.v
    factor = np.linalg.cholesky(rows.zz * (stage + lam * lam * precision) + np.diag(rows.slope_sd**-2))
    half = np.linalg.solve(factor, rows.z.T @ (stage * rows.v - lam * precision * left))
    chain.pi = np.linalg.solve(factor.T, half + rng.standard_normal(len(half)))
    chain.v = rows.v - rows.z @ chain.pi
    _slide(rng, rows, chain, linear)
    squares, width = float(chain.v @ chain.v), 2.4 / math.sqrt(2.0 * rows.freedom)
    for _ in range(STAGE_STEPS):
        there = chain.log_stage + width * rng.standard_normal()
        if math.log(rng.random()) < _log_stage(rows, squares, there) - _log_stage(rows, squares, chain.log_stage):
            chain.log_stage = there


def _slide(rng: np.random.Generator, rows: PeopleRows, chain: PeopleChain, linear: Floats) -> None:
    r"""Steps to :math:`(c \lambda, \pi / c)` with e and beta such that mean utilities stay as likely as they are.

    Where v explains nearly all of :math:`\xi`, shares say :math:`\lambda \pi` and little else; drawing one of the two
    given the other then goes nowhere. The change of variables has the Jacobian :math:`c^{1 - q}`.
    """
    variance, q = math.exp(2.0 * chain.log_stage), len(chain.pi)
    cross, own = float(chain.pi @ rows.zv), float(chain.pi @ rows.zz @ chain.pi)
    sizes = np.exp(
        rng.uniform(math.log(RIDGE_SCALES[0]), math.log(RIDGE_SCALES[1]), RIDGE_STEPS)
    ) * rng.standard_normal(RIDGE_STEPS)
    chances = np.log(rng.random(RIDGE_STEPS))
    at = linear.copy()

    def log_density(there: Floats, scale: float) -> float:
        """Of first stage and priors at pi over `scale`."""
        prior = (((there - rows.mean) / rows.sd) ** 2).sum() + ((chain.pi / scale / rows.slope_sd) ** 2).sum()
        return float(-0.5 * prior - 0.5 * (own / scale - 2.0 * cross) / scale / variance)

    scale = 1.0
    here = log_density(at, scale)
    for size, chance in zip(sizes, chances, strict=True):
        trial = scale * math.exp(size)
        there = linear.copy()
        there[-1] = linear[-1] * trial
        there[0] += linear[-1] - there[-1]
        there[1:-1] += (there[-1] - linear[-1]) * rows.of_price
        value = log_density(there, trial)
        if chance < value - here + (1 - q) * size:
            at, here, scale = there, value, trial
    linear[:] = at
    chain.pi = chain.pi / scale
    chain.v = rows.v - rows.z @ chain.pi


def _log_stage(rows: PeopleRows, squares: float, log_stage: float) -> float:
    """Log density of the first stage's noise, in its logarithm."""
    variance = math.exp(2.0 * log_stage)
    return float(log_stage * (1.0 - rows.freedom) - 0.5 * squares / variance - 0.5 * variance / rows.scale[2] ** 2)


def advance(rng: np.random.Generator, rows: PeopleRows, chain: PeopleChain, every: int, out: Floats) -> None:
    """Iterations of one chain, each `every`-th kept as a row of `out`.

    Columns: sds of tastes and log sigma_u (K + 1), e, beta and lambda (m), products (J), pi and log sigma_v (q + 1 or
    none), mean own elasticity of each product (J).
    """
    q = rows.z.shape[1]
    mean, around = np.empty(len(rows.v)), np.empty(len(rows.v))
    for kept in range(len(out)):
        for _ in range(every):
            _move(rng, rows, chain, independent=True)
            _move(rng, rows, chain, independent=False)
            linear, product = _draw_linear(rng, rows, chain)
        fill_own_slopes(rows.markets, chain.at[:-1], chain.delta, rows.price_at, mean, around)
        slope = linear[0] * mean + (chain.at[rows.price_at] * around if rows.price_at >= 0 else 0.0)
        own = np.bincount(rows.product, slope * rows.price, len(rows.rows_of)) / rows.rows_of
        stage = [chain.pi, [chain.log_stage]] if q else []
        out[kept] = np.concatenate([chain.at, linear, product, *stage, own])
