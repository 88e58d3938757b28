"""A price decision as data: what to charge, what it is worth, and which limits stopped it going further."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import msgspec
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, SpecError
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.support import SupportLevel

Floats = NDArray[np.float64]
Action = Literal["change", "hold", "test_first", "refused"]
PROBABILITY = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Posterior mean and equal-tailed credible interval holding `probability` of the draws."""

    mean: float
    lower: float
    upper: float
    probability: float = PROBABILITY


def estimate(draws: Floats, probability: float = PROBABILITY) -> Estimate:
    """Summarise draws of one quantity, array (S,).

    Examples
    --------
    >>> estimate(np.arange(101.0))
    Estimate(mean=50.0, lower=5.0, upper=95.0, probability=0.9)
    """
    return estimates(draws[None, :], probability)[0]


def estimates(draws: Floats, probability: float = PROBABILITY) -> list[Estimate]:
    """Summarise each row of draws, array (J, S)."""
    tail = round((1.0 - probability) / 2.0, 12)
    ordered = np.sort(draws, axis=1)  # faster than a selection of four places in each row
    lower, upper = _between(ordered, tail), _between(ordered, 1.0 - tail)
    return [
        Estimate(mean=mean, lower=low, upper=high, probability=probability)
        for mean, low, high in zip(draws.mean(axis=1).tolist(), lower.tolist(), upper.tolist(), strict=True)
    ]


def _between(ordered: Floats, share: float) -> Floats:
    """Quantile of ascending rows, linear between neighbours."""
    place = share * (ordered.shape[1] - 1)
    below = min(int(place), max(ordered.shape[1] - 2, 0))
    left, right = ordered[:, below], ordered[:, min(below + 1, ordered.shape[1] - 1)]
    return np.asarray(left + (right - left) * (place - below), dtype=np.float64)


NO_CHANGE = Estimate(mean=0.0, lower=0.0, upper=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemDecision:
    """What to do with the price of one item. Money is per period, changes are against today on the same draws.

    Attributes
    ----------
    item : str
    action : {"change", "hold", "test_first", "refused"}
        `hold` keeps today's price because nothing allowed is expected to earn more; `test_first` keeps it until a
        test has been read (the worth of testing exceeds that of acting, see
        :class:`bayes_pricing.pricing.value_of_information.TestingRule`); `refused` says no price can honestly be given.
    current_price, recommended_price : float
        Currency per unit; no recommendation where refused.
    revenue, profit, units : Estimate
        Change per period; None where refused, profit also where the cost is unknown.
    probability_better : float in [0, 1]
        Posterior probability that expected money over the horizon (the objective) rises; 0 where nothing changes.
    expected_regret : float
        Mean over draws of that draw's best allowed price minus the recommendation, objective per period, coupling
        limits left out.
    regret_of_staying : float
        The same of keeping today's price.
    binding : tuple of str
        Limits with no slack left: without them a price next to this one would earn more; a portfolio's limit where it
        keeps the item from its own best price.
    shadow_price : float
        Expected gain per period if the price could move one per cent further against the binding limits.
    shortfall_contribution : float or None
        The item's part of the portfolio's expected shortfall; the parts add up to it.
    support : {"supported", "edge", "extrapolation"}
        Where the recommended price stands in the observed range.
    test_price : float or None
        The price most worth testing against today's.
    test_periods : int
        Length of that test, 0 where none fits the horizon.
    value_of_testing : float or None
        Expected money over the horizon that the test adds to deciding now, its own cost deducted.
    findings : tuple of Finding
        Reasons for a refusal or a test, and warnings.
    """

    item: str
    action: Action
    current_price: float
    recommended_price: float | None
    revenue: Estimate | None
    profit: Estimate | None
    units: Estimate | None
    probability_better: float | None
    expected_regret: float | None
    regret_of_staying: float | None
    binding: tuple[str, ...]
    shadow_price: float
    shortfall_contribution: float | None
    support: SupportLevel
    test_price: float | None
    test_periods: int
    value_of_testing: float | None
    findings: tuple[Finding, ...] = ()

    @property
    def price(self) -> float:
        """What is charged if the decision is followed: today's price where nothing is recommended."""
        return self.current_price if self.recommended_price is None else self.recommended_price


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowPrice:
    """What one step of a limit is worth.

    Attributes
    ----------
    limit : str
    value : float
        Expected gain of the objective per period for one step looser, to first order.
    step : str
        What one step is.
    looser, tighter : float or None
        Change of the attainable objective per period found by solving again one step looser and one tighter.
    """

    limit: str
    value: float
    step: str
    looser: float | None = None
    tighter: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PortfolioDecision:
    """The decision as a whole. Money is per period; changes are against today on the same draws.

    Attributes
    ----------
    objective : float
        Expected change of the objective per period; its certainty equivalent where a utility was maximised.
    upper_bound : float
        No allowed prices among the candidates have a higher expected change.
    gap : float
        (upper bound - objective) as a share of the bound's uplift; 0 where they agree, negative only where prices
        that somebody gave earn more than the limits allow.
    certificate : str
        What the bound rests on.
    certified : bool
        Whether the bound is proven: for more than eight items whose prices cross it is only the best value found.
    expected_shortfall : float or None
        Mean loss over the worst `shortfall_share` of draws, a loss positive; None with too few draws.
    expected_shortfall_held_out : float or None
        The same on draws that took no part in choosing prices; None where all took part.
    probability_better : float
        Posterior probability that expected money rises.
    shadow_prices : tuple of ShadowPrice
    residuals : tuple of (str, float)
        How far each limit is broken when recomputed from the prices, 0 where it is met: items for limits on items,
        money for the shortfall, items too many for the number of changes.
    engine : str
    feasible : bool
        Recomputed from the prices.
    changes, current, recommended : dict of str to Estimate
        ``revenue, profit, units`` per period of all items; no ``profit`` where no cost is known.
    change_draws, current_draws : DataArray, dims (metric, chain, draw)
    consumer_surplus : Estimate or None
        Change of buyers' surplus per period, positive good for them; None where prices cross.
    """

    objective: float
    upper_bound: float
    gap: float
    certificate: str
    expected_shortfall: float | None
    shortfall_share: float
    expected_shortfall_held_out: float | None
    probability_better: float
    shadow_prices: tuple[ShadowPrice, ...]
    residuals: tuple[tuple[str, float], ...]
    engine: str
    feasible: bool
    changes: dict[str, Estimate]
    current: dict[str, Estimate]
    recommended: dict[str, Estimate]
    change_draws: xr.DataArray
    current_draws: xr.DataArray
    certified: bool = True
    consumer_surplus: Estimate | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PriceDecision:
    """What to charge for every item, what it is worth, and which limits stopped it going further.

    Attributes
    ----------
    items : tuple of ItemDecision
        Sorted by item.
    portfolio : PortfolioDecision
    objective : {"revenue", "profit", "units"}
    economics : Economics
    limits : tuple of Limit
        As applied, the default support included.
    horizon_periods : float
        Periods the prices are meant for.
    data_as_of, stale_on : date, int or None
        Last period of the data, and that plus the horizon.
    model : str
        Id of the posterior.
    seed : int
    findings : tuple of Finding
        About the decision as a whole.
    """

    items: tuple[ItemDecision, ...]
    portfolio: PortfolioDecision
    objective: Objective
    economics: Economics
    limits: tuple[Limit, ...]
    horizon_periods: float
    data_as_of: date | int | None
    stale_on: date | int | None
    model: str
    seed: int
    findings: tuple[Finding, ...] = ()

    @property
    def prices(self) -> xr.DataArray:
        """Price of every item if the decision is followed, dims (item,), currency per unit."""
        names = [item.item for item in self.items]
        return xr.DataArray([item.price for item in self.items], dims=("item",), coords={"item": names})

    def item(self, name: str) -> ItemDecision:
        """The decision about one item.

        Raises
        ------
        SpecError
            If the decision is not about it.
        """
        index = bisect_left(self.items, name, key=lambda decided: decided.item)
        if index == len(self.items) or self.items[index].item != name:
            known = ", ".join(repr(decided.item) for decided in self.items[:3])
            raise SpecError(f"The decision has no item {name!r}; it has {len(self.items)} items: {known} ...")
        return self.items[index]

    def count(self, action: Action) -> int:
        """How many items have this action."""
        return sum(decided.action == action for decided in self.items)


def decision_json(decision: PriceDecision) -> dict[str, Any]:
    """The decision as plain values for ``--json``: ``items`` and ``portfolio``, with horizon, days and findings.

    Draws are left out. Every number is finite or null.
    """
    portfolio = decision.portfolio
    summary = {
        name: getattr(portfolio, name)
        for name in PortfolioDecision.__slots__
        if name not in ("change_draws", "current_draws", "residuals")
    }
    return {
        "items": [msgspec.to_builtins(item) for item in decision.items],
        "portfolio": {
            **msgspec.to_builtins(summary),
            "residuals": dict(portfolio.residuals),
            "objective_name": decision.objective,
            "currency": decision.economics.currency,
        },
        "horizon_periods": decision.horizon_periods,
        "data_as_of": _plain_period(decision.data_as_of),
        "stale_on": _plain_period(decision.stale_on),
        "model": decision.model,
        "limits": [{"name": limit.name, **msgspec.to_builtins(limit)} for limit in decision.limits],
        "findings": [msgspec.to_builtins(finding) for finding in decision.findings],
    }


def _plain_period(period: date | int | None) -> str | int | None:
    return period.isoformat() if isinstance(period, date) else period


def boldest_changes(decision: PriceDecision, count: int) -> tuple[ItemDecision, ...]:
    """The `count` items whose price is to change by the largest share of today's, the boldest first."""
    changes = [item for item in decision.items if item.action == "change"]
    return tuple(sorted(changes, key=lambda item: (-abs(item.price / item.current_price - 1.0), item.item))[:count])
