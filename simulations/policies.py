"""Policies that set prices week by week: strategies, the Bayesian optimiser, argmax of baselines, the oracle."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from bayes_pricing.baselines.protocol import FittedBaseline, SalesRows
from bayes_pricing.baselines.suite import build_estimator
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Refusal
from bayes_pricing.pricing.constraints import Limit, MaxLossProbability
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics
from bayes_pricing.pricing.strategies import (
    LITERATURE_ELASTICITY,
    CategoryLevel,
    Floats,
    Shelf,
    Strategy,
    strategies_of_practice,
)
from simulations.markets.arena import Arena

GRID_POINTS = 33
LONGER = 4
HORIZON_PERIODS = 13.0
QUICK_SAMPLER = SamplerSettings(draws=400, chains=4)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Situation:
    """What a policy knows when it sets prices for a week: its own past, nothing of the truth.

    Attributes
    ----------
    arena : Arena
        Only the oracle asks it for more than the panel's roles.
    sales : DataFrame
        All sales known: the market's past, and the policy's own weeks up to its last review.
    shelf : Shelf
    ahead : int
        Week to price, from 1.
    review : int
        How many times beliefs have been formed anew; 0 is the common start.
    seed : int
    """

    arena: Arena
    sales: pl.DataFrame
    shelf: Shelf
    ahead: int
    review: int
    seed: int


class Policy(Protocol):
    """A way of pricing a market week by week."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    @property
    def kind(self) -> str:
        """``strategy``, ``posterior``, ``baseline`` or ``oracle``."""
        ...

    def prices(self, situation: Situation) -> Floats:
        """Price of every item for the week, dims (item,)."""
        ...


def fit_market(panel: SalesPanel, sampler: SamplerSettings, *, seed: int) -> DemandPosterior:
    """A posterior that passed the gate: where the sampler was too short, it is asked for four times the draws.

    Raises
    ------
    Refusal
        If the sales identify no elasticity or the longer run did not pass either.
    """
    fitted = fit_demand(panel, ModelRequest(), sampler, seed=seed)
    if not fitted.diagnostics.passed:
        longer = SamplerSettings(draws=LONGER * sampler.draws, tune=sampler.tune, chains=sampler.chains)
        fitted = fit_demand(panel, ModelRequest(), longer, seed=seed)
    if not fitted.diagnostics.passed:
        raise Refusal(fitted.diagnostics.findings)
    return fitted.posterior


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beliefs:
    """Fits made once and shared: all policies that fit the same sales get the same posterior.

    Attributes
    ----------
    sampler : SamplerSettings
    """

    sampler: SamplerSettings = QUICK_SAMPLER
    _panels: dict[int, tuple[pl.DataFrame, SalesPanel]] = field(default_factory=dict, repr=False)
    _posteriors: dict[str, DemandPosterior] = field(default_factory=dict, repr=False)
    _baselines: dict[tuple[str, str], FittedBaseline] = field(default_factory=dict, repr=False)
    _decisions: dict[tuple[str, str], Floats] = field(default_factory=dict, repr=False)

    def _panel(self, situation: Situation) -> SalesPanel:
        key = id(situation.sales)
        if key not in self._panels:  # the frame is kept beside its panel, so that its id is not given away
            self._panels[key] = (situation.sales, situation.arena.panel(situation.sales))
        return self._panels[key][1]

    def posterior(self, situation: Situation) -> DemandPosterior:
        """The posterior of the sales known at the last review.

        Raises
        ------
        Refusal
            If the sales identify no elasticity or the sampler did not converge.
        """
        panel = self._panel(situation)
        key = panel.summary.data_hash
        if key not in self._posteriors:
            self._posteriors[key] = fit_market(panel, self.sampler, seed=situation.seed)
        return self._posteriors[key]

    def baseline(self, name: str, situation: Situation) -> FittedBaseline:
        """A baseline fitted to the sales known at the last review, its categories those of the market."""
        panel = self._panel(situation)
        key = (name, panel.summary.data_hash)
        if key not in self._baselines:
            rows = SalesRows.from_panel(panel)
            flat = SalesRows(frame=rows.frame, levels=("category",), controls=rows.controls)
            self._baselines[key] = build_estimator(name, seed=situation.seed, refits=2).fit(flat)
        return self._baselines[key]

    def decision(self, situation: Situation, limits: tuple[Limit, ...]) -> Floats:
        """The optimiser's prices under some limits, worked out once per posterior."""
        posterior, shelf = self.posterior(situation), situation.shelf
        key = (posterior.id, repr(limits))
        if key not in self._decisions:
            costs = dict(zip(shelf.items, shelf.unit_cost.tolist(), strict=True))
            decision = optimize_prices(
                posterior,
                Economics(commission=shelf.commission, cost=costs),
                "profit",
                limits,
                horizon_periods=HORIZON_PERIODS,
                seed=situation.seed,
                items=shelf.items,
                testing=None,
            )
            self._decisions[key] = shelf.held(decision.prices.sel(item=list(shelf.items)).to_numpy())
        return self._decisions[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPrices:
    """Today's prices, for ever."""

    name: str = "fixed prices"
    kind: str = "strategy"

    def prices(self, situation: Situation) -> Floats:
        """Today's prices."""
        return situation.arena.price_range[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Oracle:
    """Knows the truth: no prices in range earn more in expectation."""

    name: str = "oracle"
    kind: str = "oracle"

    def prices(self, situation: Situation) -> Floats:
        """The best prices of the week."""
        return situation.arena.best_prices(situation.ahead)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayedStrategy:
    """A strategy of practice, asked anew every week."""

    strategy: Strategy
    kind: str = "strategy"

    @property
    def name(self) -> str:
        """The strategy's own."""
        return self.strategy.name

    def prices(self, situation: Situation) -> Floats:
        """What the strategy says of the shelf."""
        return self.strategy.prices(situation.shelf)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BayesianOptimizer:
    """Prices that earn most on the posterior's draws; risk-averse where each item's risk of a loss is limited."""

    beliefs: Beliefs
    largest_loss_probability: float | None = None
    kind: str = "posterior"

    @property
    def name(self) -> str:
        """With its attitude to risk."""
        return f"Bayesian, risk-{'neutral' if self.largest_loss_probability is None else 'averse'}"

    def prices(self, situation: Situation) -> Floats:
        """The optimiser's decision on the posterior of the last review."""
        share = self.largest_loss_probability
        limits: tuple[Limit, ...] = () if share is None else (MaxLossProbability(probability=share),)
        return self.beliefs.decision(situation, limits)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CategoryPricing:
    """The category-level strategy with the posterior's mean elasticity of each category."""

    beliefs: Beliefs
    name: str = "category-level, posterior"
    kind: str = "posterior"

    def prices(self, situation: Situation) -> Floats:
        """One markup per category."""
        draws = self.beliefs.posterior(situation).coefficients("category", situation.arena.categories)
        means = draws.sel(coefficient="log_price").mean(("chain", "draw")).to_numpy()
        return CategoryLevel(elasticity=tuple(float(value) for value in means)).prices(situation.shelf)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ThompsonSampling:
    """Each week the best prices of one random posterior draw: it explores as far as it is unsure."""

    beliefs: Beliefs
    name: str = "Thompson sampling"
    kind: str = "posterior"

    def prices(self, situation: Situation) -> Floats:
        """Lerner's prices of one joint draw."""
        shelf = situation.shelf
        draws = demand_draws(self.beliefs.posterior(situation), list(shelf.items))
        rng = np.random.default_rng([situation.seed, situation.ahead])
        return shelf.lerner(draws.elasticity[:, rng.integers(draws.elasticity.shape[1])])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BaselineArgmax:
    """The price on a grid over each item's range that earns most by a baseline's predicted units."""

    estimator: str
    beliefs: Beliefs
    kind: str = "baseline"

    @property
    def name(self) -> str:
        """The baseline's own."""
        return f"argmax of {self.estimator.replace('_', ' ')}"

    def prices(self, situation: Situation) -> Floats:
        """Argmax of predicted profit."""
        fitted = self.beliefs.baseline(self.estimator, situation)
        shelf = situation.shelf
        return argmax_prices(fitted, situation.arena, shelf, situation.ahead)


def argmax_prices(fitted: FittedBaseline, arena: Arena, shelf: Shelf, ahead: int) -> Floats:
    """Prices that a fitted estimator expects to earn most, each item alone, on a grid over its range.

    Parameters
    ----------
    fitted : FittedBaseline
    arena : Arena
    shelf : Shelf
    ahead : int
        Week to price.

    Returns
    -------
    array (item,)
        Currency.
    """
    place = np.linspace(0.0, 1.0, GRID_POINTS)[:, None]
    grid = shelf.lowest_price * (shelf.highest_price / shelf.lowest_price) ** place
    items = pl.DataFrame(
        {
            "item": shelf.items,
            "category": [arena.categories[code] for code in arena.category],
            "period": [arena.period(ahead)] * len(shelf.items),
            "display": 0.0,
        }
    )
    frame = pl.concat([items.with_columns(price=pl.Series(row)) for row in grid])
    units = fitted.predict_units(frame).reshape(grid.shape)
    best = np.argmax(units * ((1 - shelf.commission) * grid - shelf.unit_cost), axis=0)
    return np.asarray(grid[best, np.arange(len(shelf.items))])


BASELINES = ("item_effects", "separate", "gam", "boosted_trees", "double_ml")


def regression_elasticities(arena: Arena) -> tuple[float, ...]:
    """Each category's elasticity by a regression with item effects: what the category-level strategy goes by.

    Examples
    --------
    >>> from simulations.markets.arena import RetailArena
    >>> from simulations.markets.retail import simulate_retail
    >>> from simulations.markets.retail_settings import RetailMarketSettings
    >>> arena = RetailArena(market=simulate_retail(RetailMarketSettings(), seed=1))
    >>> [bool(value < -1) for value in regression_elasticities(arena)]
    [True, True, True, True]
    """
    rows = SalesRows.from_panel(arena.panel(arena.sales()))
    fitted = build_estimator("item_effects", seed=1).fit(SalesRows(frame=rows.frame, levels=("category",)))
    groups = [arena.categories[code] for code in arena.category]
    means = fitted.mean_elasticity(arena.items, arena.price_range[1], groups).mean
    return tuple(float(value) for value in np.nan_to_num(means, nan=LITERATURE_ELASTICITY))


def every_policy(arena: Arena, beliefs: Beliefs) -> tuple[Policy, ...]:
    """Fixed prices, strategies of practice, argmax of baselines, four policies on the posterior, and the oracle.

    Examples
    --------
    >>> from simulations.markets.arena import RetailArena
    >>> from simulations.markets.retail import simulate_retail
    >>> from simulations.markets.retail_settings import RetailMarketSettings
    >>> arena = RetailArena(market=simulate_retail(RetailMarketSettings(), seed=1))
    >>> names = [policy.name for policy in every_policy(arena, Beliefs())]
    >>> len(names), names[0], names[-1]
    (20, 'fixed prices', 'oracle')
    """
    return (
        FixedPrices(),
        *(PlayedStrategy(strategy=one) for one in strategies_of_practice(regression_elasticities(arena))),
        *(BaselineArgmax(estimator=name, beliefs=beliefs) for name in BASELINES),
        CategoryPricing(beliefs=beliefs),
        BayesianOptimizer(beliefs=beliefs),
        BayesianOptimizer(beliefs=beliefs, largest_loss_probability=0.2),
        ThompsonSampling(beliefs=beliefs),
        Oracle(),
    )
