"""Decisions where prices cross: every category priced as one block, under every limit, with an honest certificate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.branch_and_bound import MOST_ITEMS
from bayes_pricing.pricing.constraints import BoxLimit, Limits, MaxShortfall, MinStepIfChanged, sort_limits
from bayes_pricing.pricing.crossed_answer import CrossedAnswer, assemble_crossed, breaks_of_items
from bayes_pricing.pricing.crossed_blocks import CrossedBlock, crossed_blocks, refusal
from bayes_pricing.pricing.decision import PriceDecision, ShadowPrice
from bayes_pricing.pricing.functionals import Functional, TailMean
from bayes_pricing.pricing.joint_prices import JointPrices, highest_tail, maximize_joint
from bayes_pricing.pricing.joint_rules import JointPoint, JointRules
from bayes_pricing.pricing.joint_search import JointSearch, Position
from bayes_pricing.pricing.joint_search_setup import build_search, ladder_rungs, unattainable_jointly
from bayes_pricing.pricing.portfolio import chosen_draws
from bayes_pricing.pricing.portfolio_limits import PortfolioLimit, RowLimit
from bayes_pricing.pricing.problem import Problem

Floats = NDArray[np.float64]

ENGINE = "joint prices by category, several starts"
SEARCH_ENGINE = "joint prices by category, searched under every limit"


def optimize_crossed(problem: Problem, *, seed: int, functional: Functional | None = None) -> PriceDecision:
    """Joint prices of every category under the limits, and the decision about them.

    Without limits that tie prices together beyond the shortfall, prices are climbed from several starts. Where the
    result breaks another limit, a search over candidate prices takes it from there, every trial held against every
    limit on all draws.

    Parameters
    ----------
    problem : Problem
    seed : int
        Of the random starts, and of the draws held out.
    functional : Functional, optional
        What is maximised of the change per draw; its mean when left out.

    Returns
    -------
    PriceDecision
        Each item's change counts its own money with all prices moved at once.

    Raises
    ------
    SpecError
        If a limit names an item or category that is not there.
    Refusal
        If an item has no allowed price, a cost is unknown, a few draws carry the expectation, or no prices found keep
        the limits; the findings name the conflicting ones and the largest attainable floors.
    """
    blocks = crossed_blocks(problem)
    rules = _rules(problem, blocks, seed)
    return assemble_crossed(problem, blocks, rules, _solved(problem, blocks, rules, functional, seed), seed=seed)


def evaluate_crossed(
    problem: Problem, prices: Floats, *, seed: int, functional: Functional | None = None
) -> PriceDecision:
    """Somebody's own prices (J,) on the same footing; the bound is that of the best prices found or certified."""
    blocks = crossed_blocks(replace(problem, limits=_feasible_boxes(problem)))
    rules = _rules(problem, blocks, seed)
    findings: tuple[Finding, ...] = ()
    try:
        blocks = crossed_blocks(problem)
        best = _solved(problem, blocks, rules, functional, seed)
    except Refusal as refused:
        findings = refused.findings
        best = _without_limits(problem, blocks, functional, seed)
    given = replace(
        best, prices=prices, engine="given prices", shadow_prices=(), certificate=f"bound of the best allowed prices: "
        f"{best.certificate}",
    )  # fmt: skip
    return assemble_crossed(
        problem, blocks, rules, given, seed=seed, findings=findings, of_items=breaks_of_items(problem, rules, blocks,
                                                                                             prices),
    )  # fmt: skip


def _feasible_boxes(problem: Problem) -> Limits:
    """The limits without those on single prices, where these leave some item no price at all."""
    lowest, highest = problem.limits.box(problem.facts)
    if (lowest <= highest * (1.0 + 1e-9)).all():
        return problem.limits
    kept = [limit for limit in problem.limits.every if not isinstance(limit, BoxLimit)]
    return sort_limits(kept)


def _rules(problem: Problem, blocks: list[CrossedBlock], seed: int) -> JointRules:
    current = problem.facts.current_price
    units = np.zeros((len(problem.items), problem.total_draws))
    for block in blocks:
        units[block.places] = block.demand.units(np.zeros(block.places.size)).T
    today = JointPoint(prices=current, units=units, money=problem.facts.value.at(current)[:, None] * units)
    return JointRules(problem=problem, today=today, among=chosen_draws(problem, seed))


def _tail(problem: Problem, seed: int) -> TailMean | None:
    shortfall = problem.limits.shortfall
    return None if shortfall is None else TailMean(share=shortfall.share, among=chosen_draws(problem, seed))


def _climbed(
    problem: Problem, blocks: list[CrossedBlock], functional: Functional | None, seed: int, *, laddered: bool
) -> JointPrices | None:
    shortfall = problem.limits.shortfall
    rungs = _rungs(problem, blocks) if laddered else None
    return maximize_joint(
        [block.money for block in blocks], seed=seed, functional=functional, tail=_tail(problem, seed),
        floor=-np.inf if shortfall is None else -shortfall.amount, rungs=rungs,
    )  # fmt: skip


def _prices(problem: Problem, blocks: list[CrossedBlock], found: JointPrices) -> Floats:
    prices = problem.facts.current_price.copy()
    for block, move in zip(blocks, found.log_ratio, strict=True):
        prices[block.places] *= np.exp(move)
    return prices


def _answer(
    problem: Problem, blocks: list[CrossedBlock], found: JointPrices, functional: Functional | None
) -> CrossedAnswer:
    """What the climbs found, as it is."""
    certified = found.upper_bound is not None
    shortfall = problem.limits.shortfall
    shadow: tuple[ShadowPrice, ...] = ()
    if found.multiplier > 0 and shortfall is not None:
        step = 0.1 * abs(shortfall.amount) or 0.01 * abs(found.value)
        shadow = (ShadowPrice(limit="max_shortfall", value=found.multiplier * step, step=f"{step:.6g} of money"),)
    return CrossedAnswer(
        prices=_prices(problem, blocks, found),
        upper_bound=float(found.value if found.upper_bound is None else found.upper_bound),
        certified=certified,
        certificate=f"{found.agreed} of {found.starts} starts agreed; "
        + ("branch and bound over every price box" if certified else f"not certified: {_uncertified(blocks)}"),
        engine=ENGINE,
        shadow_prices=shadow,
        worth=functional,
    )


def _uncertified(blocks: list[CrossedBlock]) -> str:
    largest = max(block.places.size for block in blocks)
    why = f"prices of {largest} items cross, a proof takes {MOST_ITEMS} at most" if largest > MOST_ITEMS else "no proof"
    return f"the bound is the best value found ({why})"


def _solved(
    problem: Problem, blocks: list[CrossedBlock], rules: JointRules, functional: Functional | None, seed: int
) -> CrossedAnswer:
    climbed = _climbed(problem, blocks, functional, seed, laddered=True)
    if climbed is None:
        if len(_searched_limits(problem.limits)) > 0:
            raise Refusal(unattainable_jointly(rules, tuple(blocks), _wish(problem, blocks, functional, seed)))
        raise Refusal([_unattainable(problem, blocks, seed)])
    relaxed = _answer(problem, blocks, climbed, functional)
    if not _searched_limits(problem.limits):
        return relaxed
    search = build_search(rules, tuple(blocks), relaxed.prices, functional)
    if not search.at(relaxed.prices).missed and _far_enough(problem, relaxed.prices):
        return relaxed
    found = search.best(relaxed.prices)
    best = found.position
    if best.missed > 0:
        raise Refusal(unattainable_jointly(rules, tuple(blocks), relaxed.prices))
    left_out = ", ".join(_searched_limits(problem.limits))
    reason = (
        f"branch and bound over every price box, {left_out} left out" if relaxed.certified
        else f"not certified: the bound is the best value found without {left_out}"
    )  # fmt: skip
    return replace(
        relaxed,
        prices=best.point.prices,
        certificate=f"{found.agreed} of {found.starts} searches agreed; {reason}",
        upper_bound=max(relaxed.upper_bound, best.worth),
        engine=SEARCH_ENGINE,
        shadow_prices=_shadow_prices(search, tuple(blocks), best, relaxed.prices),
    )


def _searched_limits(limits: Limits) -> list[str]:
    """Names of the limits that have no box and no multiplier in the climbs."""
    item = [limit.name for limit in limits.item if not isinstance(limit, BoxLimit)]
    return item + [limit.name for limit in limits.portfolio if not isinstance(limit, MaxShortfall)]


def _far_enough(problem: Problem, prices: Floats) -> bool:
    current = problem.facts.current_price
    still = np.abs(np.log(prices / current)) < 1e-9
    return all(
        bool((limit.far_enough(prices, current) | still).all())
        for limit in problem.limits.item
        if isinstance(limit, MinStepIfChanged)
    )


def _wish(problem: Problem, blocks: list[CrossedBlock], functional: Functional | None, seed: int) -> Floats:
    """Best prices (J,) by the box limits alone."""
    free = replace(problem, limits=problem.limits.without(MaxShortfall.name))
    found = _climbed(free, blocks, functional, seed, laddered=False)
    return problem.facts.current_price if found is None else _prices(problem, blocks, found)


def _without_limits(
    problem: Problem, blocks: list[CrossedBlock], functional: Functional | None, seed: int
) -> CrossedAnswer:
    """Best prices by the box limits alone, where no prices keep all limits: what somebody's own prices are held to."""
    free = replace(problem, limits=problem.limits.without(MaxShortfall.name))
    found = _climbed(free, blocks, functional, seed, laddered=False)
    if found is None:
        raise SpecError("No joint prices were found at all; check the model's cross-price elasticities.")
    return _answer(free, blocks, found, functional)


def _unattainable(problem: Problem, blocks: list[CrossedBlock], seed: int) -> Finding:
    tail, shortfall = _tail(problem, seed), problem.limits.shortfall
    if tail is None or shortfall is None:
        return refusal("portfolio_limits_conflict", "no prices keep the limits", "relax one of them")
    smallest = 0.0 - highest_tail([block.money for block in blocks], tail, seed=seed, rungs=_rungs(problem, blocks))
    return refusal(
        "portfolio_limits_conflict",
        f"no allowed prices hold the expected shortfall of the change to {shortfall.amount:.6g} per period; "
        f"the smallest found is {smallest:.6g}",
        f"set max_shortfall to {smallest:.6g} or more, or relax another limit",
    )


def _rungs(problem: Problem, blocks: list[CrossedBlock]) -> list[list[Floats]] | None:
    ladder = problem.limits.ladder
    return None if ladder is None else [ladder_rungs(block, ladder) for block in blocks]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """A limit and its neighbours one step either way."""

    limit: PortfolioLimit
    looser: PortfolioLimit
    tighter: PortfolioLimit
    words: str


def _shadow_prices(
    search: JointSearch, blocks: tuple[CrossedBlock, ...], best: Position, wish: Floats
) -> tuple[ShadowPrice, ...]:
    """What one step of each limit that the prices stand on is worth, searched again from these prices."""
    rules = search.rules
    found: list[ShadowPrice] = []
    for step in _steps(rules.problem.limits, best):
        tighter = _moved(rules, step.limit, step.tighter)
        if not any(miss.limit == step.limit.name for miss in tighter.misses(best.point)):
            continue
        gains = []
        for moved in (_moved(rules, step.limit, step.looser), tighter):
            again = build_search(moved, blocks, wish, search.functional).best(best.point.prices, ways=(1.0,)).position
            gains.append(None if again.missed > 0 else again.worth - best.worth)
        looser = max(gains[0] or 0.0, 0.0)
        found.append(
            ShadowPrice(limit=step.limit.name, value=looser, step=step.words, looser=looser,
                        tighter=None if gains[1] is None else min(gains[1], 0.0))
        )  # fmt: skip
    return tuple(found)


def _steps(limits: Limits, best: Position) -> list[_Step]:
    found = [
        _Step(limit=limit, looser=limit.moved(1.0), tighter=limit.moved(-1.0), words=limit.step)
        for limit in limits.portfolio
        if isinstance(limit, RowLimit)
    ]
    shortfall = limits.shortfall
    if shortfall is not None:
        step = 0.1 * abs(shortfall.amount) or 0.01 * abs(best.worth)
        looser, tighter = (replace(shortfall, amount=shortfall.amount + side * step) for side in (1.0, -1.0))
        found.append(_Step(limit=shortfall, looser=looser, tighter=tighter, words=f"{step:.6g} of money"))
    return found


def _moved(rules: JointRules, limit: PortfolioLimit, moved: PortfolioLimit) -> JointRules:
    limits = [moved if other is limit else other for other in rules.problem.limits.every]
    return replace(rules, problem=replace(rules.problem, limits=sort_limits(limits)))
