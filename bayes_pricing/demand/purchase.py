"""Purchase probability against price: logistic, or a falling curve of any shape; fit, gate and posterior."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics, check_arrays
from bayes_pricing.demand.nuts import SamplingPlan, lengthen, sample_nuts
from bayes_pricing.demand.nuts_chain import Chain
from bayes_pricing.demand.prior_ranges import require_prior_ranges
from bayes_pricing.demand.purchase_data import (
    Floats,
    PurchaseData,
    StepBasis,
    build_steps,
    group_offers,
    price_findings,
)
from bayes_pricing.demand.purchase_density import Offers, run_chain, size_of
from bayes_pricing.errors import Finding, Refusal

PurchaseShape = Literal["logistic", "curve"]

TARGET_ACCEPTANCE = (0.85, 0.95, 0.99)
TUNE = 500
CONSTANT = "constant"
PRICE = "price"
ALL = slice(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchasePriors:
    r"""Prior distributions of a purchase model in economic units.

    At mean price :math:`\bar p` and the mean rate :math:`r` the elasticity of a logit is
    :math:`\beta_p \bar p (1 - r)`.

    Attributes
    ----------
    elasticity_mean, elasticity_sd : float
        Of the purchase probability with respect to its price, at mean price and rate (Bijmolt, van Heerde & Pieters
        2005).
    cross_elasticity_sd : float
        Of that with respect to a competitor's price, around zero.
    level_sd : float
        Sd of the log odds at mean price, around even odds.
    control_sd : float
        Change of the log odds over one sd of a control.
    bend_sd : float
        Scale of the half-normal that says how far the falling curve may be from a straight line in the log odds.
    """

    elasticity_mean: float = -2.62
    elasticity_sd: float = 1.4
    cross_elasticity_sd: float = 1.4
    level_sd: float = 2.5
    control_sd: float = 1.0
    bend_sd: float = 1.0

    def __post_init__(self) -> None:
        require_prior_ranges(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PurchasePosterior:
    r"""Joint draws of a purchase model.

    Attributes
    ----------
    id : str
        Digest of data, priors, seed and draws.
    data : PurchaseData
    shape : str
    names : tuple of str, length k
        ``constant`` (log odds where everything is at its mean), ``price`` (logistic only), then the other columns.
    beta : array (chain, draw, k)
        Log odds per unit of each column.
    basis : StepBasis or None
        Of the curve; None for the logistic model.
    falls : array (chain, draw, M) or None
        By how much the log odds fall over each step; none negative.
    bend : array (chain, draw) or None
        :math:`\tau`: zero is the logistic model.
    diagnostics : Diagnostics
    findings : tuple of Finding
    seed : int
    """

    id: str
    data: PurchaseData
    shape: PurchaseShape
    names: tuple[str, ...]
    beta: Floats
    basis: StepBasis | None
    falls: Floats | None
    bend: Floats | None
    diagnostics: Diagnostics
    findings: tuple[Finding, ...]
    seed: int

    def coefficients(self) -> xr.DataArray:
        """Log odds per unit of each column, dims (chain, draw, coefficient)."""
        return xr.DataArray(self.beta, dims=("chain", "draw", "coefficient"), coords={"coefficient": list(self.names)})

    def level(self, at: Floats, part: slice = ALL) -> Floats:
        """Log odds (draw, n) at mean price, for customers with other columns `at` (n, c), for a part of the draws."""
        flat = self.beta.reshape(-1, len(self.names))[part]
        first = len(self.names) - len(self.data.names)
        around = at - self.data.mean(self.data.other)
        found: Floats = flat[:, :1] + flat[:, first:] @ around.T
        return found

    def of_price(self, prices: Floats, part: slice = ALL) -> Floats:
        """What price adds to the log odds, (draw, n), zero on average over the offers."""
        if self.basis is None or self.falls is None:
            flat = self.beta.reshape(-1, len(self.names))[part]
            line: Floats = flat[:, 1:2] * (prices - self.data.mean(self.data.price))
            return line
        steps = self.basis.at(prices) - self.data.mean(self.basis.at(self.data.price))
        curve: Floats = -self.falls.reshape(-1, steps.shape[1])[part] @ steps.T
        return curve

    def price_slope(self, prices: Floats, part: slice = ALL) -> Floats:
        """Derivative of the log odds in price, (draw, n), per currency."""
        if self.basis is None or self.falls is None:
            flat = self.beta.reshape(-1, len(self.names))[part]
            line: Floats = np.repeat(flat[:, 1:2], len(prices), axis=1)
            return line
        slopes = self.basis.slope(prices)
        curve: Floats = -self.falls.reshape(-1, slopes.shape[1])[part] @ slopes.T
        return curve


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PurchaseProblem:
    """Offers as the sampler reads them, with names of the columns and the steps."""

    offers: Offers
    names: tuple[str, ...]
    basis: StepBasis | None


def pose_purchase(
    data: PurchaseData, shape: PurchaseShape, priors: PurchasePriors, *, rate: float | None = None
) -> PurchaseProblem:
    """Data and prior side by side.

    Parameters
    ----------
    data : PurchaseData
    shape : {"logistic", "curve"}
    priors : PurchasePriors
    rate : float in (0, 1), optional
        Purchase rate at which elasticities are stated; left out, that of the data.

    Raises
    ------
    Refusal
        If a curve is asked for and fewer than three prices were tested.
    """
    rate = data.rate if rate is None else rate
    mean_price = float(data.mean(data.price))
    open_share = max(1.0 - rate, 1.0 / (data.trials.sum() + 2.0))
    around = data.other - data.mean(data.other)
    sd = np.sqrt(data.mean(around**2))
    rivals = data.mean(data.other)[: data.competitors]
    others = priors.control_sd / np.where(sd > 0, sd, 1.0)
    others[: data.competitors] = priors.cross_elasticity_sd / (rivals * open_share)
    per_elasticity = 1.0 / (mean_price * open_share)
    slope_mean, slope_sd = priors.elasticity_mean * per_elasticity, priors.elasticity_sd * per_elasticity
    constant = np.ones((len(data.price), 1))
    basis = build_steps(data) if shape == "curve" else None
    if basis is None:
        line = (data.price - mean_price)[:, None]
        x, names = np.hstack([constant, line, around]), (CONSTANT, PRICE, *data.names)
        mean = np.concatenate([[0.0, slope_mean], np.zeros(len(others))])
        scale = np.concatenate([[priors.level_sd, slope_sd], others])
        steps, even, curve = np.zeros((len(x), 0)), np.zeros(0), np.zeros(3)
    else:
        x, names = np.hstack([constant, around]), (CONSTANT, *data.names)
        mean, scale = np.zeros(1 + len(others)), np.concatenate([[priors.level_sd], others])
        steps = basis.at(data.price) - data.mean(basis.at(data.price))
        width = float(np.ptp(data.price))
        even, curve = np.log(basis.even), np.array([-slope_mean * width, slope_sd * width, priors.bend_sd])
    offers = Offers(
        x=np.ascontiguousarray(x),
        steps=np.ascontiguousarray(steps),
        bought=data.bought,
        trials=data.trials,
        mean=mean,
        sd=scale,
        log_even=even,
        curve=curve,
    )
    return PurchaseProblem(offers=offers, names=names, basis=basis)


def fit_purchase(
    data: PurchaseData,
    shape: PurchaseShape,
    *,
    seed: int,
    randomised: bool = False,
    priors: PurchasePriors | None = None,
    rate: float | None = None,
    draws: int = 1000,
    tune: int = TUNE,
    chains: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> PurchasePosterior:
    """Posterior of the purchase probability against price.

    Parameters
    ----------
    data : PurchaseData
    shape : {"logistic", "curve"}
        A straight line in the log odds, or a falling curve of any shape, which holds the line as its simplest case.
    seed : int
    randomised : bool
        Whether prices were drawn by lot; where not, the answer is an association, and a finding says so.
    priors : PurchasePriors, optional
    rate : float in (0, 1), optional
        Purchase rate at which the prior elasticities are stated; left out, that of the data.
    draws, tune, chains : int
    progress : callable, optional
        Told now and then the iterations done and in all.

    Raises
    ------
    Refusal
        If a curve is asked for and fewer than three prices were tested, or the sampler did not pass the gate.
    """
    priors = priors if priors is not None else PurchasePriors()
    problem = pose_purchase(group_offers(data), shape, priors, rate=rate)
    offers, size = problem.offers, size_of(problem.offers)

    def run(rng: np.random.Generator, chain: Chain) -> None:
        run_chain(rng, chain, offers)

    def start(rng: np.random.Generator) -> Floats:
        return 0.1 * rng.standard_normal(size)

    report = None if progress is None else (lambda done, total, _warming: progress(done, total))

    def judged(every: int) -> tuple[_Drawn, Diagnostics]:
        plan = SamplingPlan(draws=draws, tune=tune, chains=chains, seed=seed, every=every)
        found = sample_nuts(lambda: run, start, plan, TARGET_ACCEPTANCE, report)
        drawn = _draws(found.x, offers)
        parameters = drawn.parameters()
        statistics = SamplerStatistics(divergences=found.divergences, energy=found.energy)
        return drawn, check_arrays(parameters, parameters, statistics)

    drawn, diagnostics, _ = lengthen(judged)
    if not diagnostics.passed:
        raise Refusal(diagnostics.findings)
    digest = hashlib.blake2b(repr((priors, seed, shape, problem.names, rate)).encode(), digest_size=32)
    for array in (data.price, data.bought, data.trials, data.other, drawn.beta):
        digest.update(np.ascontiguousarray(array).data)
    return PurchasePosterior(
        id=digest.hexdigest(),
        data=data,
        shape=shape,
        names=problem.names,
        beta=drawn.beta,
        basis=problem.basis,
        falls=drawn.falls,
        bend=drawn.bend,
        diagnostics=diagnostics,
        findings=tuple(price_findings(data, randomised=randomised)),
        seed=seed,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    beta: Floats
    falls: Floats | None
    bend: Floats | None

    def parameters(self) -> Floats:
        """What the gate looks at."""
        if self.falls is None or self.bend is None:
            return self.beta
        return np.concatenate([self.beta, self.falls, self.bend[:, :, None]], axis=2)


def _draws(x: Floats, offers: Offers) -> _Drawn:
    """Coefficients, falls over each step and bend from the coordinates."""
    k = offers.x.shape[1]
    beta = offers.mean + offers.sd * x[:, :, :k]
    if not offers.steps.shape[1]:
        return _Drawn(beta, None, None)
    bend = np.exp(x[:, :, k + 1])
    score = offers.log_even + bend[:, :, None] * x[:, :, k + 2 :]
    weight = np.exp(score - score.max(axis=2, keepdims=True))
    weight /= weight.sum(axis=2, keepdims=True)
    return _Drawn(beta, np.exp(x[:, :, k])[:, :, None] * weight, bend)
