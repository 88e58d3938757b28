"""Best prices where people choose: one's own products on the joint curve of choices or shares, and a tested offer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.choice import ChoicePosterior
from bayes_pricing.demand.choice_data import OUTSIDE
from bayes_pricing.demand.choice_elasticity import PEOPLE, typical_market
from bayes_pricing.demand.purchase import PurchasePosterior
from bayes_pricing.demand.purchase_curve import GRID, purchase_probability
from bayes_pricing.demand.shares import SharePosterior
from bayes_pricing.demand.shares_people import PeopleSharePosterior
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.blocks import BlockMoney, LogitBlock
from bayes_pricing.pricing.constraints import BoxLimit, Limit, Limits, MaxShortfall, sort_limits
from bayes_pricing.pricing.functionals import Functional, TailMean
from bayes_pricing.pricing.joint_prices import JointPrices, maximize_joint
from bayes_pricing.pricing.outlook import ItemFacts, item_facts
from bayes_pricing.pricing.profit import Economics, Objective, UnitValue
from bayes_pricing.pricing.risk import tail_mean

Floats = NDArray[np.float64]
Choosers = ChoicePosterior | SharePosterior | PeopleSharePosterior

ROWS = 80_000
"""Persons times draws that the climb looks at; past it draws are thinned."""
TAIL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PeopleBlock:
    r"""A market in which every draw has several persons, each a logit of its own with an outside option.

    .. math:: q_{si} = \frac{1}{P} \sum_h P_{h}(i \mid p), \quad u_{shi} = \alpha_{shi} - \beta_{sh} p_i

    Attributes
    ----------
    logit : LogitBlock
        Of draws times persons, one after the other within a draw; its market is one person's weight.
    people : int
        Persons P on every draw.
    last : dict
        Everybody's units at the prices asked for last: a climb asks for units, then for their slopes.
    """

    logit: LogitBlock
    people: int
    last: dict[bytes, Floats] = field(default_factory=dict)

    @property
    def current_price(self) -> Floats:
        """Today's prices, array (n,)."""
        return self.logit.current_price

    def units(self, log_ratio: Floats) -> Floats:
        """Expected units per buyer, array (S, n)."""
        each = self._each(log_ratio)
        return np.asarray(each.reshape(-1, self.people, each.shape[1]).sum(axis=1))

    def pulled_back(self, log_ratio: Floats, units: Floats, weights: Floats) -> Floats:
        """Gradient of weighted units in the log price ratios, array (n,)."""
        return self.logit.pulled_back(log_ratio, self._each(log_ratio), np.repeat(weights, self.people, axis=0))

    def _each(self, log_ratio: Floats) -> Floats:
        key = log_ratio.tobytes()
        if key not in self.last:
            self.last.clear()
            self.last[key] = self.logit.units(log_ratio)
        return self.last[key]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoicePrices:
    """Best prices of one's own products in a typical market, the others' prices standing still.

    Attributes
    ----------
    own : tuple of str, length n
        Products that are priced.
    today, prices : arrays (n,)
        Mean price so far, and the best one inside the limits; currency per unit.
    units_today, units : arrays (S, n)
        Units per potential buyer, those who buy nothing counted.
    money_today, change : arrays (S,)
        Money per potential buyer at the mean prices, and its change; positive is good.
    expected_shortfall : float
        Mean loss over the worst 5 % of draws of the change; positive is money lost.
    starts, agreed : int
        Climbs, and those that ended at the best prices; nothing certifies that there are no better ones.
    """

    own: tuple[str, ...]
    today: Floats
    prices: Floats
    units_today: Floats
    units: Floats
    money_today: Floats
    change: Floats
    expected_shortfall: float
    starts: int
    agreed: int


def best_choice_prices(
    posterior: Choosers,
    economics: Economics,
    objective: Objective,
    limits: Sequence[Limit] = (),
    *,
    seed: int,
    own: Sequence[str] = (),
    functional: Functional | None = None,
) -> ChoicePrices:
    """Prices of one's own products that are expected to earn most, on the posterior's joint curve of shares.

    Parameters
    ----------
    posterior : ChoicePosterior with an outside option, SharePosterior or PeopleSharePosterior
    economics : Economics
    objective : {"revenue", "profit", "units"}
    limits : sequence of Limit
        On single prices (bounds, largest change, support, margin) and `MaxShortfall`; prices stay inside those observed
        unless a `Support` says otherwise.
    seed : int
        Of the random starts.
    own : sequence of str
        Products to price; left out, all.
    functional : Functional, optional
        What is maximised of the change per draw; its mean when left out.

    Raises
    ------
    SpecError
        If a product is unknown, or a limit is of another kind.
    Refusal
        If the model has no outside option, a cost is unknown, or no price is inside the limits.
    """
    names, low, high = _observed(posterior)
    chosen = tuple(own) or names
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise SpecError(f"There is no product {unknown[0]!r}; the model knows {', '.join(names)}.")
    kept = _readable(limits)
    at = np.array([names.index(name) for name in chosen])
    demand = _demand(posterior)
    table = pl.DataFrame(
        {"item": names, "current_price": demand.current_price, "lowest_price": low, "highest_price": high}
    ).with_columns(cost=pl.lit(None, dtype=pl.Float64))
    facts = item_facts(table, economics, objective)
    _require_costs(facts, at)
    lowest, highest = _box(kept, facts, at)
    mine = np.isin(np.arange(len(names)), at)
    money = BlockMoney(
        demand=demand,
        value=UnitValue(kept=np.where(mine, facts.value.kept, 0.0), charge=np.where(mine, facts.value.charge, 0.0)),
        lowest=lowest,
        highest=highest,
    )
    found = _climbed(money, kept, functional, seed)
    end, still = found.log_ratio[0], np.zeros(len(names))
    return ChoicePrices(
        own=chosen,
        today=demand.current_price[at],
        prices=(demand.current_price * np.exp(end))[at],
        units_today=demand.units(still)[:, at],
        units=demand.units(end)[:, at],
        money_today=money.money(still),
        change=found.change,
        expected_shortfall=-float(tail_mean(found.change, TAIL)),
        starts=found.starts,
        agreed=found.agreed,
    )


def _observed(posterior: Choosers) -> tuple[tuple[str, ...], Floats, Floats]:
    """Products, and the lowest and highest price ever seen of each."""
    if isinstance(posterior, ChoicePosterior):
        data = posterior.data
        if not data.outside:
            raise Refusal(
                [
                    Finding(
                        code="no_outside_option",
                        severity="error",
                        message="these choices say who gets a sale and not how many sales there are: no money follows",
                        remedy="add the occasions on which nothing was bought (--outside) and fit again",
                    )
                ]
            )
        offered = np.where(data.available, data.prices, np.nan)[:, :-1]
        return data.alternatives[:-1], np.nanmin(offered, axis=0), np.nanmax(offered, axis=0)
    products = [posterior.data.price[posterior.data.product == at] for at in range(len(posterior.data.products))]
    return (
        posterior.data.products,
        np.array([prices.min() for prices in products]),
        np.array([prices.max() for prices in products]),
    )


def _demand(posterior: Choosers) -> PeopleBlock:
    """Everybody's utilities in a typical market, the outside option's taken off (it is 0)."""
    market, at = typical_market(posterior), posterior.regressors.index("price")
    inside = [place for place, name in enumerate(posterior.alternatives) if name != OUTSIDE]
    tastes = posterior.tastes(PEOPLE)
    draws, people = tastes.shape[:2]
    tastes = tastes[:: max(draws * people // ROWS, 1)]
    flat = np.ascontiguousarray(tastes).reshape(-1, tastes.shape[2])
    price, others = market[inside, at], market[inside].copy()
    others[:, at] = 0.0
    return PeopleBlock(
        logit=LogitBlock(
            current_price=price,
            utility=flat @ others.T,
            sensitivity=np.repeat(-flat[:, at : at + 1], len(inside), axis=1),
            market=np.full(len(flat), 1.0 / people),
        ),
        people=people,
    )


def _readable(limits: Sequence[Limit]) -> Limits:
    other = [limit.name for limit in limits if not isinstance(limit, BoxLimit | MaxShortfall)]
    if other:
        raise SpecError(
            f"The limit {other[0]!r} is not kept for choices and shares; bounds, the largest change, support, margin "
            "and the portfolio's shortfall are."
        )
    return sort_limits(limits)


def _require_costs(facts: ItemFacts, at: NDArray[np.intp]) -> None:
    if np.isnan(facts.value.charge[at]).any():
        raise Refusal(
            [
                Finding(
                    code="cost_unknown",
                    severity="error",
                    message="costs are unknown, and a model of choices holds none",
                    remedy="give a unit cost (--unit-cost), or maximise revenue",
                )
            ]
        )


def _box(limits: Limits, facts: ItemFacts, at: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Log price ratios to today's between which own prices may move; the others' do not."""
    low, high = limits.box(facts)
    empty = [facts.items[place] for place in at if not low[place] <= high[place] * (1.0 + 1e-9)]
    if empty:
        raise Refusal(
            [
                Finding(
                    code="limits_conflict",
                    severity="error",
                    item=empty[0],
                    message=f"no price of {empty[0]!r} is inside every limit on its price",
                    remedy="relax one of them",
                )
            ]
        )
    lowest, highest = np.zeros(len(low)), np.zeros(len(low))
    lowest[at] = np.log(low[at] / facts.current_price[at])
    highest[at] = np.maximum(np.log(high[at] / facts.current_price[at]), lowest[at])
    return lowest, highest


def _climbed(money: BlockMoney, limits: Limits, functional: Functional | None, seed: int) -> JointPrices:
    shortfall = limits.shortfall
    tail = None if shortfall is None else TailMean(share=shortfall.share)
    floor = -np.inf if shortfall is None else -shortfall.amount
    found = maximize_joint([money], seed=seed, functional=functional, tail=tail, floor=floor)
    if found is None:
        raise Refusal(
            [
                Finding(
                    code="portfolio_limits_conflict",
                    severity="error",
                    message="no allowed prices were found that hold the expected shortfall",
                    remedy="raise max_shortfall, or relax the limits on prices",
                )
            ]
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OfferPrice:
    """The price of an offer that is expected to earn most inside the tested range, and its risk.

    Attributes
    ----------
    grid : array (G,)
        Prices looked at, currency.
    probability, money : arrays (S, G)
        Share of offers taken, and money per offer; positive is good.
    price : float
        The price with the largest mean money.
    best : array (S,)
        The price that earns most on each draw.
    expected_regret : float
        Mean money lost against knowing the draw; what certainty is worth at most, per offer.
    lower_tail : float
        Mean money per offer over the worst 5 % of draws at that price.
    """

    grid: Floats
    probability: Floats
    money: Floats
    price: float
    best: Floats
    expected_regret: float
    lower_tail: float


def best_offer_price(
    posterior: PurchasePosterior,
    economics: Economics,
    objective: Objective,
    *,
    lowest: float | None = None,
    highest: float | None = None,
) -> OfferPrice:
    """Price of an offer that is expected to earn most, from a grid over the tested range inside the bounds.

    Parameters
    ----------
    posterior : PurchasePosterior
    economics : Economics
        With its own cost where profit is asked for.
    objective : {"revenue", "profit", "units"}
    lowest, highest : float, optional
        Bounds on the price.

    Raises
    ------
    SpecError
        If no tested price is inside the bounds.
    Refusal
        If profit is asked for and the cost is unknown.
    """
    tested = posterior.data.prices
    low = max(tested[0], tested[0] if lowest is None else lowest)
    high = min(tested[-1], tested[-1] if highest is None else highest)
    if not low <= high:
        raise SpecError(f"No price between the bounds was tested; prices from {tested[0]:g} to {tested[-1]:g} were.")
    grid = np.linspace(low, high, GRID) if high > low else np.array([low])
    table = pl.DataFrame({"item": ["offer"], "current_price": [low], "lowest_price": [low], "highest_price": [high]})
    facts = item_facts(table.with_columns(cost=pl.lit(None, dtype=pl.Float64)), economics, objective)
    _require_costs(facts, np.array([0]))
    probability = purchase_probability(posterior, grid).to_numpy()
    money = facts.value.at(grid[None, :])[0] * probability
    place = int(money.mean(axis=0).argmax())
    return OfferPrice(
        grid=grid,
        probability=probability,
        money=money,
        price=float(grid[place]),
        best=grid[money.argmax(axis=1)],
        expected_regret=float((money.max(axis=1) - money[:, place]).mean()),
        lower_tail=float(tail_mean(money[:, place], TAIL)),
    )
