"""What a purchase posterior says of price: probability, expected revenue with its band, best tested price, LOO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba as nb
import numpy as np
import xarray as xr
from scipy.special import expit

from bayes_pricing.demand.purchase import PRICE, PurchasePosterior
from bayes_pricing.demand.purchase_data import Floats, PurchaseData, group_offers
from bayes_pricing.errors import Finding, SpecError

GRID = 41
CUSTOMERS = 1000
LOO_DRAWS = 1000
LOO_OFFERS = 3000
ROWS_AT_ONCE = 500
CELLS_AT_ONCE = 2_000_000
PARETO_LIMIT = 0.7
CLOSE = 2.0
"""Differences of LOO below so many standard errors do not tell two models apart."""
EDGE_SHARE = 0.5
LARGEST_ODDS = 300.0
"""Log odds are cut here, far beyond what a chance can show, so that odds stay finite."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RevenueCurve:
    """Expected revenue (or profit) per offer against price, draws kept.

    Attributes
    ----------
    cost : float
        Cost per unit sold that was taken off, currency.
    probability : DataArray (draw, price)
        Share of offers taken.
    money : DataArray (draw, price)
        ``(price - cost) * probability``, currency per offer; positive is good.
    best : DataArray (draw,)
        The price that earns most on each draw: the posterior of the optimum inside the tested range.
    price : float
        The price with the largest expected money, the one to charge by this curve.
    findings : tuple of Finding
        Says so where the optimum may lie outside the tested prices.
    """

    cost: float
    probability: xr.DataArray
    money: xr.DataArray
    best: xr.DataArray
    price: float
    findings: tuple[Finding, ...]


@nb.njit(cache=True, nogil=True)
def _mean_chance(against: Floats, share: Floats, of_price: Floats, slope: bool, out: Floats) -> None:
    """Mean over customers of the chance (or of chance times its complement) at every price, into `out`.

    `against` (draw, customer) and `of_price` (draw, price) are odds against buying that multiply.
    """
    draws, customers = against.shape
    for d in range(draws):
        for g in range(of_price.shape[1]):
            total = 0.0
            for h in range(customers):
                chance = 1.0 / (1.0 + against[d, h] * of_price[d, g])
                total += share[h] * (chance * (1.0 - chance) if slope else chance)
            out[d, g] = total


def _customers(posterior: PurchasePosterior) -> tuple[Floats, Floats]:
    """Log odds (draw, customer) at mean price of those offers were made to, and their shares.

    Past `CUSTOMERS` distinct ones a sample seeded by the posterior, drawn by their offers.
    """
    data = posterior.data
    distinct, at = np.unique(data.other, axis=0, return_inverse=True)
    share = np.bincount(at.ravel(), data.trials) / data.trials.sum()
    if len(distinct) > CUSTOMERS:
        picked = np.random.default_rng(posterior.seed).choice(len(distinct), size=CUSTOMERS, p=share)
        distinct, share = distinct[picked], np.full(CUSTOMERS, 1.0 / CUSTOMERS)
    return posterior.level(distinct), share


def _odds_against(log_odds: Floats) -> Floats:
    return np.ascontiguousarray(np.exp(-np.clip(log_odds, -LARGEST_ODDS, LARGEST_ODDS)))


def _averaged(posterior: PurchasePosterior, prices: Floats, *, slope: bool) -> Floats:
    level, share = _customers(posterior)
    out = np.empty((len(level), len(prices)))
    _mean_chance(_odds_against(level), share, _odds_against(posterior.of_price(prices)), slope, out)
    return out


def _within(posterior: PurchasePosterior, prices: Sequence[float] | Floats | None) -> Floats:
    """Prices asked for, or a grid over the tested range; never outside it."""
    tested = posterior.data.prices
    if prices is None:
        return np.linspace(tested[0], tested[-1], GRID)
    asked = np.asarray(prices, dtype=np.float64)
    outside = asked[~((asked >= tested[0]) & (asked <= tested[-1]))]
    if len(outside):
        raise SpecError(
            f"The price {outside[0]:g} was not tested: prices from {tested[0]:g} to {tested[-1]:g} were; ask for one "
            "of those, or test further out."
        )
    return asked


def purchase_probability(posterior: PurchasePosterior, prices: Sequence[float] | Floats | None = None) -> xr.DataArray:
    r"""Share of offers taken at each price, dims (draw, price), averaged over the customers offers were made to.

    Parameters
    ----------
    posterior : PurchasePosterior
    prices : sequence of float, optional
        Inside the tested range; left out, a grid over it.

    Raises
    ------
    SpecError
        If a price lies outside the tested range.
    """
    grid = _within(posterior, prices)
    return xr.DataArray(_averaged(posterior, grid, slope=False), dims=("draw", "price"), coords={"price": grid})


def purchase_elasticity(posterior: PurchasePosterior, prices: Sequence[float] | Floats | None = None) -> xr.DataArray:
    r"""Elasticity of the share of offers taken with respect to price, dims (draw, price); negative.

    .. math:: e(p) = \eta'(p)\, p \, \frac{E[\pi (1 - \pi)]}{E[\pi]}

    with :math:`\eta` the log odds and the means over customers. Arguments as of :func:`purchase_probability`.
    """
    grid = _within(posterior, prices)
    ratio = _averaged(posterior, grid, slope=True) / _averaged(posterior, grid, slope=False)
    return xr.DataArray(posterior.price_slope(grid) * grid * ratio, dims=("draw", "price"), coords={"price": grid})


def marginal_effects(posterior: PurchasePosterior) -> xr.DataArray:
    r"""Mean change of the purchase probability per unit of each column, dims (draw, column), at the offers made.

    .. math:: \frac{1}{n} \sum_i \pi_i (1 - \pi_i) \frac{\partial \eta_i}{\partial x_i}

    Comparable with the coefficients of :func:`~bayes_pricing.demand.purchase_linear.linear_probability`.
    """
    data = group_offers(posterior.data)
    flat = posterior.beta.reshape(-1, len(posterior.names))
    first = len(posterior.names) - len(data.names)
    effects = np.empty((len(flat), 1 + len(data.names)))
    share = data.trials / data.trials.sum()
    width = max(CELLS_AT_ONCE // len(data.price), 1)
    for start in range(0, len(flat), width):
        part = slice(start, start + width)
        chance = expit(posterior.level(data.other, part) + posterior.of_price(data.price, part))
        weight = chance * (1.0 - chance) * share
        effects[part, 0] = (weight * posterior.price_slope(data.price, part)).sum(axis=1)
        effects[part, 1:] = weight.sum(axis=1)[:, None] * flat[part, first:]
    return xr.DataArray(effects, dims=("draw", "column"), coords={"column": [PRICE, *data.names]})


def expected_revenue(
    posterior: PurchasePosterior, prices: Sequence[float] | Floats | None = None, *, cost: float = 0.0
) -> RevenueCurve:
    r"""Expected revenue per offer against price, its best price inside the tested range, and the draws of both.

    .. math:: R(p) = (p - c)\, E[\pi(p)]

    Parameters
    ----------
    posterior : PurchasePosterior
    prices : sequence of float, optional
        Prices to choose from, inside the tested range; left out, a grid over it.
    cost : float
        Cost per unit sold, currency; 0 gives revenue.

    Raises
    ------
    SpecError
        If a price lies outside the tested range, or the cost is negative or not finite.
    """
    if not 0.0 <= cost < math.inf:
        raise SpecError(f"The cost per unit is {cost}; it is zero or positive.")
    probability = purchase_probability(posterior, prices)
    grid = probability["price"].to_numpy()
    money = (probability["price"] - cost) * probability
    money = money.transpose("draw", "price")
    best = grid[money.to_numpy().argmax(axis=1)]
    price = float(grid[int(money.mean("draw").to_numpy().argmax())])
    return RevenueCurve(
        cost=cost,
        probability=probability,
        money=money,
        best=xr.DataArray(best, dims=("draw",)),
        price=price,
        findings=_edge_findings(posterior, best),
    )


def _edge_findings(posterior: PurchasePosterior, best: Floats) -> tuple[Finding, ...]:
    tested = posterior.data.prices
    found = []
    for edge, words in ((tested[0], "lowest"), (tested[-1], "highest")):
        share = float((best == edge).mean())
        if share > EDGE_SHARE:
            found.append(
                Finding(
                    code="optimum_at_edge",
                    severity="warning",
                    message=f"with probability {share:.0%} the {words} price tested, {edge:g}, earns most: the best "
                    "price may lie beyond it, where nothing was tested",
                    remedy="test prices beyond it; none is recommended there",
                )
            )
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LooScore:
    """Leave-one-out score of one model.

    Attributes
    ----------
    shape : str
    elpd : float
        Expected log predictive density of all offers; larger is better.
    standard_error : float
    effective_parameters : float
    worst_pareto_k : float
        Over 0.7 the score is not to be trusted.
    """

    shape: str
    elpd: float
    standard_error: float
    effective_parameters: float
    worst_pareto_k: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LooComparison:
    """Two shapes on the same offers.

    Attributes
    ----------
    scores : tuple of LooScore
        Best first.
    difference, standard_error : float
        Score of the best less that of the other, and its standard error, offer by offer.
    offers : int
        Offers predicted: all, or a seeded sample of 3,000 where more differ.
    chosen : str
        The simpler one (logistic) unless the curve is better by over two standard errors.
    reason : str
    """

    scores: tuple[LooScore, ...]
    difference: float
    standard_error: float
    offers: int
    chosen: str
    reason: str


def compare_purchase(logistic: PurchasePosterior, curve: PurchasePosterior) -> LooComparison:
    """Compare the logistic model with the falling curve by leaving out one offer at a time.

    Offers counted in one row are left out one by one, so that counts and single rows give the same scores.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), "Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC",
    Statistics and Computing 27.

    Raises
    ------
    SpecError
        If the two were not fitted to the same offers.
    """
    if logistic.data is not curve.data:
        raise SpecError("Two models can be compared on the same offers only; fit both to one PurchaseData.")
    cells, weight = _outcomes(logistic.data, logistic.seed)
    offers = float(weight.sum())
    points, scores = [], []
    for posterior in (logistic, curve):
        elpd, khat, effective = _leave_one_out(posterior, cells, weight)
        points.append(elpd)
        scores.append(
            LooScore(
                shape=posterior.shape,
                elpd=float(weight @ elpd),
                standard_error=_error_of_sum(elpd, weight),
                effective_parameters=float(weight @ effective),
                worst_pareto_k=float(khat.max()),
            )
        )
    gain = points[1] - points[0]
    difference, error = float(weight @ gain), _error_of_sum(gain, weight)
    unsure = max(score.worst_pareto_k for score in scores) > PARETO_LIMIT
    better = difference > CLOSE * error and not unsure
    words = f"the curve's LOO score is {difference:+.1f} (se {error:.1f}) from the logistic's on {offers:,.0f} offers"
    if unsure:
        words += ", which one offer decides too much of (Pareto k over 0.7)"
    return LooComparison(
        scores=tuple(sorted(scores, key=lambda score: -score.elpd)),
        difference=abs(difference),
        standard_error=error,
        offers=int(offers),
        chosen="curve" if better else "logistic",
        reason=words + ("" if better else ", no reason to leave the simpler one"),
    )


def _error_of_sum(values: Floats, weight: Floats) -> float:
    """Standard error of a sum over offers, `weight` of them at each value."""
    mean = float(weight @ values / weight.sum())
    return math.sqrt(weight.sum() * float(weight @ (values - mean) ** 2) / weight.sum())


def _outcomes(data: PurchaseData, seed: int) -> tuple[PurchaseData, Floats]:
    """Distinct offers with each outcome, and how many there were; of too many a seeded sample."""
    cells = group_offers(data)
    counts = np.concatenate([cells.bought, cells.trials - cells.bought]).astype(np.int64)
    if (counts > 0).sum() > LOO_OFFERS:
        counts = np.random.default_rng(seed).multivariate_hypergeometric(counts, LOO_OFFERS, method="count")
    n = len(cells.price)
    kept = np.flatnonzero(counts)
    at, bought = kept % n, (kept < n).astype(float)
    chosen = replace(cells, price=cells.price[at], bought=bought, trials=np.ones(len(kept)), other=cells.other[at])
    return chosen, counts[kept].astype(float)


def _leave_one_out(posterior: PurchasePosterior, cells: PurchaseData, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Score, Pareto k and effective parameters of leaving out one offer of each kind."""
    from arviz_stats.base.array import array_stats  # imported here: a second that callers without LOO need not pay

    chains = posterior.beta.shape[0]
    every = slice(None, None, max(chains * posterior.beta.shape[1] // LOO_DRAWS, 1))
    found = np.empty((3, len(weight)))
    for start in range(0, len(weight), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        predictor = posterior.level(cells.other[part], every) + posterior.of_price(cells.price[part], every)
        chances = cells.bought[part] * predictor - np.logaddexp(0.0, predictor)
        found[:, part] = array_stats.loo(chances[None], chain_axis=0, draw_axis=1)
    elpd, khat, effective = found
    return elpd, khat, effective
