"""From a problem with crossing prices to a search: candidate prices, groups and chains; and what cannot be met."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.constraints import Limits, MinStepIfChanged, PriceLadder
from bayes_pricing.pricing.crossed_blocks import CrossedBlock, refusal
from bayes_pricing.pricing.functionals import Functional
from bayes_pricing.pricing.joint_rules import DrawLimit, JointRules
from bayes_pricing.pricing.joint_search import Chooser, JointSearch
from bayes_pricing.pricing.portfolio import item_places
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

GRID_POINTS = 11
"""Candidates of an item without a ladder, before steps between them are halved."""
MOST_NAMED = 3
"""Findings about one conflicting limit that are written out."""


def build_search(
    rules: JointRules, blocks: tuple[CrossedBlock, ...], wish: Floats, functional: Functional | None, *, aim: str = ""
) -> JointSearch:
    """Lay out the search for the best joint prices under the rules.

    Parameters
    ----------
    rules : JointRules
    blocks : tuple of CrossedBlock
    wish : array (J,)
        Best prices without the limits that are searched under; they are candidates.
    functional : Functional or None
    aim : str
        A limit to come as near to as can be, instead of earning most.

    Raises
    ------
    Refusal
        If an item, or the items of a group together, have no candidate.
    SpecError
        If a limit names an item that is not there.
    """
    problem = rules.problem
    same, order = problem.limits.same, problem.limits.order
    groups = [] if same is None else [item_places(problem, same.name, group) for group in same.groups]
    grouped = {int(item) for group in groups for item in group}
    own = [np.array([item], dtype=np.intp) for item in range(len(problem.items)) if item not in grouped]
    near = _neighbours(problem, wish)
    choosers = tuple(_chooser(problem, items, wish, near) for items in (*groups, *own))
    owner = {int(item): number for number, chooser in enumerate(choosers) for item in chooser.items}
    chains = [] if order is None else [item_places(problem, order.name, chain) for chain in order.tiers]
    members = tuple(tuple(owner[int(item)] for item in chain) for chain in chains)
    if any(len(set(chain)) < len(chain) for chain in members):
        raise SpecError("tier_order and same_price together put a group in two places; name one item of each group.")
    return JointSearch(
        rules=rules, blocks=blocks, choosers=choosers, chains=members, functional=functional, aim=aim,
    )  # fmt: skip


def _neighbours(problem: Problem, wish: Floats) -> dict[int, list[float]]:
    """For items in a chain of tiers: the prices its neighbours have today or would like, the rise between counted."""
    order = problem.limits.order
    if order is None:
        return {}
    found: dict[int, list[float]] = {}
    current = problem.facts.current_price
    for chain in order.tiers:
        places = item_places(problem, order.name, chain)
        rise = (1.0 + order.step) ** np.arange(places.size)
        level = np.concatenate([current[places] / rise, wish[places] / rise])
        for place, factor in zip(places.tolist(), rise.tolist(), strict=True):
            found[place] = (level * factor).tolist()
    return found


def _chooser(problem: Problem, items: Places, wish: Floats, near: dict[int, list[float]]) -> Chooser:
    lowest, highest = (ends[items] for ends in problem.limits.box(problem.facts))
    low, high = float(lowest.max()), float(highest.min())
    current, ladder = problem.facts.current_price[items], problem.limits.ladder
    single = items.size == 1
    steps = [limit for limit in problem.limits.item if isinstance(limit, MinStepIfChanged)]
    smallest = max((limit.share for limit in steps), default=0.0)
    prices = current.tolist()
    if low <= high:
        if ladder is None:
            prices += [*np.geomspace(low, high, GRID_POINTS), *wish[items], *(near.get(int(items[0]), []))]
            prices += [*(current * (1.0 - smallest)), *(current * (1.0 + smallest))] if steps else []
        else:
            prices += ladder.rungs(low, high).tolist()
    every = np.unique(np.array(prices).round(12))
    kept = (every >= low * (1.0 - 1e-9)) & (every <= high * (1.0 + 1e-9))
    still = np.abs(np.log(every[:, None] / current)) <= SMALLEST_MOVE
    if ladder is not None and not single:
        kept &= still.all(axis=1) | np.isin(every, np.array(prices[items.size :]).round(12))
    for limit in steps:
        kept &= (limit.far_enough(every[:, None], current) | still).all(axis=1)
    if not kept.any():
        names = " and ".join(repr(problem.items[item]) for item in items)
        raise Refusal([
            refusal("limits_conflict" if single else "portfolio_limits_conflict",
                    f"no allowed price is {'left for' if single else 'common to'} {names}",
                    "relax the limits on its price" if single else "relax same_price, or the limits on these items",
                    problem.items[int(items[0])] if single else None)
        ])  # fmt: skip
    return Chooser(
        items=items, candidates=every[kept], lowest=low, highest=high, finer=ladder is None,
        barred=(float(current.min()) * (1.0 - smallest), float(current.max()) * (1.0 + smallest)),
    )  # fmt: skip


def ladder_rungs(block: CrossedBlock, ladder: PriceLadder) -> list[Floats]:
    """Allowed log price ratios of every item of a block; today's where the box holds it.

    Raises
    ------
    Refusal
        If an item has none.
    """
    money = block.money
    found: list[Floats] = []
    for today, low, high in zip(money.demand.current_price, money.lowest, money.highest, strict=True):
        rungs = np.log(ladder.rungs(float(today * np.exp(low)), float(today * np.exp(high))) / today)
        if low <= 1e-9 and high >= -1e-9:
            rungs = np.append(rungs[np.abs(rungs) > SMALLEST_MOVE], 0.0)
        if not rungs.size:
            raise Refusal([refusal("limits_conflict", f"no rung of the ladder lies between {today * np.exp(low):.6g} "
                                   f"and {today * np.exp(high):.6g}",
                                   "widen the limits or narrow the ladder's step")])  # fmt: skip
        found.append(np.sort(rungs))
    return found


def unattainable_jointly(rules: JointRules, blocks: tuple[CrossedBlock, ...], wish: Floats) -> tuple[Finding, ...]:
    """Findings on limits that no joint prices found keep together; nothing is relaxed.

    Limits are left out one at a time while the rest still conflict; for each of those that remain, the best that the
    search reaches while the others hold is named.
    """
    limits = rules.problem.limits
    names = [limit.name for limit in limits.item if isinstance(limit, DrawLimit)]
    names += [limit.name for limit in limits.portfolio]
    kept = list(names)
    for name in names:
        rest = [other for other in kept if other != name]
        search = build_search(_only(rules, rest), blocks, wish, None)
        if rest and search.best(wish, ways=(1.0, 0.0)).position.missed > 0:
            kept = rest
    found: list[Finding] = []
    for name in kept:
        beside = [other for other in kept if other != name]
        search = build_search(_only(rules, kept), blocks, wish, None, aim=name)
        reached = search.best(wish).position
        if reached.missed > 0:
            continue
        misses = [miss for miss in search.rules.misses(reached.point) if miss.limit == name]
        found += [
            refusal(
                "portfolio_limits_conflict",
                f"no joint prices were found that hold {miss.what} to {miss.bound:.6g}"
                f"{' while ' + ' and '.join(beside) + ' holds' if beside else ''}; "
                f"the {'smallest' if miss.reached > miss.bound else 'largest'} found is {miss.reached + 0.0:.6g}",
                f"set {name} to {miss.reached + 0.0:.6g}, or relax another limit",
            )
            for miss in misses[:MOST_NAMED]
        ]
    if found:
        return tuple(found)
    return (refusal("portfolio_limits_conflict", f"no joint prices were found that keep {' and '.join(kept)}",
                    f"relax one of {', '.join(kept)}"),)  # fmt: skip


def _only(rules: JointRules, names: list[str]) -> JointRules:
    """The same rules with only these of the limits that are looked at on joint draws."""
    limits: Limits = rules.problem.limits
    for limit in (*limits.item, *limits.portfolio):
        joint = isinstance(limit, DrawLimit) or limit in limits.portfolio
        if joint and limit.name not in names:
            limits = limits.without(limit.name)
    return replace(rules, problem=replace(rules.problem, limits=limits))
