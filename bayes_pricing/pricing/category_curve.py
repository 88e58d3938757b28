"""One price of a category whose prices cross, the others as decided: what it brings the category, and why it stops."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.pricing.constraints import BoxLimit, ItemLimit, Limits, MinStepIfChanged, Support, sort_limits
from bayes_pricing.pricing.contrast import FlipPoint, Rejected, other_prices
from bayes_pricing.pricing.crossed_blocks import CrossedBlock, crossed_blocks
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.joint_rules import JointPoint, JointRules
from bayes_pricing.pricing.judging import off_ladder
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem, build_problem
from bayes_pricing.pricing.sensitivity import PriorSensitivity, scaled_prior

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

GRID_POINTS = 61
FINER_POINTS, FINER_ROUNDS = 21, 3
"""Without a ladder the best price is looked for again around itself, ten times finer each time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CategoryCurve:
    """Money of a category as one of its prices moves, the other items at the prices decided for them.

    Attributes
    ----------
    problem : Problem
        The items of the category that were decided about.
    block : CrossedBlock
    place : int
        Of the item in the block.
    decided : array (n,)
        Prices as decided.
    units : array (n, S)
        Expected units per period there.
    """

    problem: Problem
    block: CrossedBlock
    place: int
    decided: Floats
    units: Floats

    @property
    def current(self) -> float:
        """Today's price of the item."""
        return float(self.block.demand.current_price[self.place])

    def units_at(self, price: float) -> Floats:
        """Units of every item with this one at a price, array (n, S)."""
        move = np.log(price / self.decided[self.place])
        return np.asarray(self.units * np.exp(move * self.block.columns[self.place]), dtype=np.float64)

    def parts(self, price: float) -> Floats:
        """Money of every item with this one at a price, array (n, S)."""
        prices = self.decided.copy()
        prices[self.place] = price
        return np.asarray(self.block.money.value.at(prices)[:, None] * self.units_at(price), dtype=np.float64)

    def money(self, prices: Floats) -> Floats:
        """Money of the category at prices (K,) of the item, array (K, S)."""
        return np.stack([self.parts(float(price)).sum(axis=0) for price in prices])

    def allowed(self, prices: Floats, limits: Limits) -> Bools:
        """Which prices (K,) of the item the limits on items allow it; today's box and ladder exceptions included."""
        facts, place = self.problem.facts, self.place
        found = np.ones(prices.size, dtype=np.bool_)
        still = np.abs(np.log(prices / self.current)) <= SMALLEST_MOVE
        for limit in limits.item:
            if isinstance(limit, BoxLimit):
                low, high = (ends[place] for ends in limit.box(facts))
                found &= (prices >= low * (1.0 - 1e-9)) & (prices <= high * (1.0 + 1e-9))
            elif isinstance(limit, MinStepIfChanged):
                found &= limit.far_enough(prices, np.array(self.current)) | still
        if limits.ladder is not None:
            found &= ~off_ladder(limits.ladder, prices, np.full(prices.size, self.current))
        rules = replace(self._rules, problem=replace(self.problem, limits=limits))
        if rules.of_items:
            for place_of_price in np.flatnonzero(found):
                price = float(prices[place_of_price])
                everybody = self.decided.copy()
                everybody[place] = price
                point = JointPoint(prices=everybody, units=self.units_at(price), money=self.parts(price))
                found[place_of_price] = not any(place in items for items in rules.breaking(point).values())
        return found

    @property
    def _rules(self) -> JointRules:
        current = self.block.demand.current_price
        units = self.block.demand.units(np.zeros(current.size)).T
        today = JointPoint(prices=current, units=units, money=self.block.money.value.at(current)[:, None] * units)
        return JointRules(problem=self.problem, today=today, among=None)

    def candidates(self, limits: Limits) -> Floats:
        """Allowed prices of the item: the ladder's rungs or an even grid in log price, today's and the decided one."""
        low, high = (float(ends[self.place]) for ends in limits.box(self.problem.facts))
        low, high = min(low, high), max(low, high)
        between = np.geomspace(low, high, GRID_POINTS) if limits.ladder is None else limits.ladder.rungs(low, high)
        every = np.unique(np.append(between, [self.current, self.decided[self.place]]).round(12))
        return every[self.allowed(every, limits)]

    def best(self, limits: Limits) -> float:
        """Most money, in expectation, that the category makes with the item at a price that the limits allow."""
        prices = self.candidates(limits)
        if not prices.size:
            return float("-inf")
        worth = self.money(prices).mean(axis=1)
        if limits.ladder is not None:
            return float(worth.max())
        low, high = (float(ends[self.place]) for ends in limits.box(self.problem.facts))
        step = np.log(high / low) / GRID_POINTS if high > low else 0.0
        best, top = float(prices[worth.argmax()]), float(worth.max())
        for _ in range(FINER_ROUNDS if step > 0 else 0):
            around = np.clip(best * np.exp(np.linspace(-step, step, FINER_POINTS)), low, high)
            around = around[self.allowed(around, limits)]
            if around.size:
                worth = self.money(around).mean(axis=1)
                if worth.max() > top:
                    best, top = float(around[worth.argmax()]), float(worth.max())
            step /= FINER_POINTS // 2
        return top


def category_curve(posterior: DemandPosterior, decision: PriceDecision, item: str) -> CategoryCurve:
    """The curve of one item of a decision where prices cross.

    Raises
    ------
    Refusal
        If a cost in the item's category is unknown.
    """
    level = posterior.spec.cross_prices
    names = [decided.item for decided in decision.items]
    if level is not None and level != "population":
        labels = select_items(posterior, names)[level].to_list()
        own = labels[names.index(item)]
        names = [name for name, label in zip(names, labels, strict=True) if label == own]
    problem = build_problem(
        posterior, decision.economics, decision.objective, [limit for limit in decision.limits if
                                                            limit.enforced == "mask"],
        horizon_periods=decision.horizon_periods, items=names,
    )  # fmt: skip
    (block,) = crossed_blocks(replace(problem, limits=sort_limits([])))
    decided = np.array([decision.item(name).price for name in problem.items])
    moves = np.log(decided / problem.facts.current_price)
    return CategoryCurve(
        problem=problem, block=block, place=problem.items.index(item), decided=decided,
        units=np.ascontiguousarray(block.demand.units(moves).T),
    )  # fmt: skip


def joint_flip_point(curve: CategoryCurve, price: float, *, fee: float | None = None) -> FlipPoint:
    r"""What an item's elasticity or cost would have to be for today's price to be best for its category, or as good.

    .. math:: \varepsilon^*_i = -\frac{k p_0 Q_i + \sum_{j \ne i} E[v_j q_j \varepsilon_{ji}]}{v_i(p_0)\, Q_i}, \qquad
              \varepsilon_{=} = \frac{\log \frac{v_i(p_0) Q_i + M(p_0) - M(p_1)}{v_i(p_1) Q_i}}{\log (p_1 / p_0)}

    with :math:`Q_i` the item's expected units at today's price and :math:`M` what the other items are expected to
    bring, all of them at the prices decided for them.

    Parameters
    ----------
    curve : CategoryCurve
    price : float
        The price today's is held against.
    fee : float, optional
        Fee per unit where profit is the objective.

    Returns
    -------
    FlipPoint
        Its probabilities are about the category's money.
    """
    place, current, value = curve.place, curve.current, curve.block.money.value
    kept, charge = float(value.kept[place]), float(value.charge[place])
    own = curve.block.columns[place][place]
    before, after = curve.parts(current), curve.parts(price)
    units = float(curve.units_at(current)[place].mean())
    others = np.arange(len(before)) != place
    margin, later = kept * current - charge, kept * price - charge
    pulled = float((before[others] * curve.block.columns[place][others]).mean(axis=1).sum())
    best_at = -(kept * current * units + pulled) / (margin * units) if margin > 0 else None
    beyond = None
    if best_at is not None:
        below = float((own <= best_at).mean())
        beyond = below if price > current else 1.0 - below
    lost = float(after[others].sum(axis=0).mean() - before[others].sum(axis=0).mean())
    left = margin * units - lost
    moves = abs(np.log(price / current)) > SMALLEST_MOVE
    equal = float(np.log(left / (later * units)) / np.log(price / current)) if left > 0 < later and moves else None
    sold = float(curve.units_at(price)[place].mean())
    cost = None
    if fee is not None and abs(sold - units) > 1e-12 * units:
        found = (kept * (price * sold - current * units) + lost) / (sold - units) - fee
        cost = found if found > 0 else None
    return FlipPoint(
        today_best_at=best_at,
        today_best_beyond=beyond,
        equal_at=equal,
        equal_beyond=float((after.sum(axis=0) < before.sum(axis=0)).mean()),
        cost=None if fee is None else charge - fee,
        cost_equal_at=cost,
    )


def joint_prior_sensitivity(curve: CategoryCurve, limits: Limits, price: float, log_prior: Floats) -> PriorSensitivity:
    """Power-scale the prior of one price of a category, the others as decided; arguments as for one item alone."""
    candidates = curve.candidates(limits)
    money = curve.money(candidates)
    change = curve.money(np.array([price, curve.current]))
    return scaled_prior(
        candidates, money.mean(axis=1), lambda weights: money @ weights / weights.size, change[0] - change[1], log_prior
    )


def joint_rejected(curve: CategoryCurve, limits: Limits) -> Rejected:
    """Best price for the category that was not chosen, at least 3 % away from the decided one and from today's."""
    place, decided = curve.place, float(curve.decided[curve.place])
    facts = curve.problem.facts
    seen = (float(facts.lowest_price[place]), float(facts.highest_price[place]))
    away = other_prices(seen, curve.current, decided, limits.ladder)
    best = away[[int(curve.money(away).mean(axis=1).argmax())]]
    alone = sort_limits([Support(extend=1.0)])
    forbidden = tuple(limit.name for limit in limits.item if not curve.allowed(best, replace(alone, item=(limit,)))[0])
    return Rejected(price=float(best[0]), forbidden_by=forbidden)


def joint_limit_step(curve: CategoryCurve, limits: Limits, limit: ItemLimit, moved: ItemLimit) -> float:
    """Change of the category's expected money when one limit moves and the item's price is chosen again."""
    others = tuple(moved if other is limit else other for other in limits.item)
    return curve.best(replace(limits, item=others)) - curve.best(limits)
