"""From joint prices to a `PriceDecision`: every number recomputed from the prices, all moved at once, on the draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.pricing.assembling import (
    Totals,
    general_findings,
    held_out_findings,
    last_period,
    portfolio_decision,
    stale_on,
)
from bayes_pricing.pricing.constraints import BoxLimit, MinStepIfChanged
from bayes_pricing.pricing.crossed_blocks import CrossedBlock, refusal
from bayes_pricing.pricing.decision import Action, Estimate, ItemDecision, PriceDecision, ShadowPrice, estimates
from bayes_pricing.pricing.functionals import Functional
from bayes_pricing.pricing.joint_rules import JointPoint, JointRules
from bayes_pricing.pricing.judging import few_draws, limits_broken, off_ladder
from bayes_pricing.pricing.ladder import probes
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem
from bayes_pricing.pricing.profit import OBJECTIVES
from bayes_pricing.pricing.risk import tail_weights
from bayes_pricing.pricing.sacrifices import sacrifices
from bayes_pricing.pricing.solution import Solution
from bayes_pricing.pricing.support import LARGEST_DRAW_SHARE, SMALLEST_SAMPLE_SHARE, support_levels
from bayes_pricing.pricing.welfare import joint_surplus_change

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

REGRET_POINTS = 21


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossedAnswer:
    """Joint prices (J,) and how good they are; the fields mean what they mean in a `Solution`."""

    prices: Floats
    upper_bound: float
    certified: bool
    certificate: str
    engine: str
    shadow_prices: tuple[ShadowPrice, ...]
    worth: Functional | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Joint:
    """What everything is recomputed from: the problem, its rules, and where it stands at the new prices."""

    problem: Problem
    blocks: list[CrossedBlock]
    rules: JointRules
    point: JointPoint

    @property
    def moves(self) -> Floats:
        """Log price ratios to today, array (J,)."""
        return np.asarray(np.log(self.point.prices / self.problem.facts.current_price), dtype=np.float64)


def assemble_crossed(
    problem: Problem,
    blocks: list[CrossedBlock],
    rules: JointRules,
    answer: CrossedAnswer,
    *,
    seed: int,
    findings: tuple[Finding, ...] = (),
    of_items: dict[str, tuple[Finding, ...]] | None = None,
) -> PriceDecision:
    """Build the decision for joint prices.

    Parameters
    ----------
    problem : Problem
    blocks : list of CrossedBlock
    rules : JointRules
    answer : CrossedAnswer
    seed : int
    findings : tuple of Finding
        About the decision as a whole.
    of_items : dict of str to tuple of Finding, optional
        About single items.

    Raises
    ------
    Refusal
        If a few draws carry the expectation at prices that are recommended; of prices that somebody gave it is a
        finding.
    """
    joint = _Joint(problem=problem, blocks=blocks, rules=rules, point=_point(problem, blocks, answer.prices))
    if of_items is None:
        _refuse_few_draws(joint)
    values = [problem.economics.unit_value(metric, problem.table) for metric in OBJECTIVES]
    current, prices = problem.facts.current_price, joint.point.prices
    before = [value.at(current)[:, None] * rules.today.units for value in values]
    change = [value.at(prices)[:, None] * joint.point.units - old for value, old in zip(values, before, strict=True)]
    totals = Totals(
        change=np.stack([np.nansum(part, axis=0) for part in change]),
        current=np.stack([np.nansum(part, axis=0) for part in before]),
        broken={name: int(broken.sum()) for name, broken in _broken(joint).items()},
        surplus=_surplus(joint),
        expected=rules.expected(joint.point),
    )
    solution = Solution(
        prices=prices, upper_bound=answer.upper_bound, certificate=answer.certificate, engine=answer.engine,
        shadow_prices=answer.shadow_prices, chosen_on=rules.among, certified=answer.certified, worth=answer.worth,
    )  # fmt: skip
    portfolio = portfolio_decision(problem, solution, totals)
    own = change[OBJECTIVES.index(problem.objective)]
    weights = None
    if portfolio.expected_shortfall is not None:
        weights = tail_weights(own.sum(axis=0), portfolio.shortfall_share, rules.among)
    return PriceDecision(
        items=tuple(_items(joint, change, weights, {} if of_items is None else of_items)),
        portfolio=portfolio,
        objective=problem.objective,
        economics=problem.economics,
        limits=problem.limits.every,
        horizon_periods=problem.horizon_periods,
        data_as_of=last_period(problem.table),
        stale_on=stale_on(problem.table, problem.horizon_periods, problem.period_days),
        model=problem.posterior.id,
        seed=seed,
        findings=(*findings, *general_findings(problem), *held_out_findings(problem, portfolio)),
    )


def breaks_of_items(
    problem: Problem, rules: JointRules, blocks: list[CrossedBlock], prices: Floats
) -> dict[str, tuple[Finding, ...]]:
    """Findings on items whose given prices break a limit, or whose expectation a few draws carry."""
    joint = _Joint(problem=problem, blocks=blocks, rules=rules, point=_point(problem, blocks, prices))
    broken = _broken(joint)
    if problem.limits.ladder is not None:
        broken[problem.limits.ladder.name] = off_ladder(problem.limits.ladder, prices, problem.facts.current_price)
    few = set(_carried_by_few(joint).tolist())
    found: dict[str, tuple[Finding, ...]] = {}
    for place, item in enumerate(problem.items):
        names = [name for name, breaks in broken.items() if breaks[place]]
        said = [*([limits_broken(item, names)] if names else []), *([few_draws(item)] if place in few else [])]
        if said:
            found[item] = tuple(said)
    return found


def _point(problem: Problem, blocks: list[CrossedBlock], prices: Floats) -> JointPoint:
    """Where the problem stands at some prices; a move that is only rounding is none."""
    current = problem.facts.current_price
    prices = np.where(np.abs(np.log(prices / current)) > SMALLEST_MOVE, prices, current)
    units = np.zeros((len(current), problem.total_draws))
    for block in blocks:
        units[block.places] = block.demand.units(np.log(prices[block.places] / current[block.places])).T
    return JointPoint(prices=prices, units=units, money=problem.facts.value.at(prices)[:, None] * units)


def _surplus(joint: _Joint) -> Floats:
    parts = [
        joint_surplus_change(block.demand.units, block.demand.current_price, joint.moves[block.places])
        for block in joint.blocks
    ]
    return np.asarray(np.sum(parts, axis=0), dtype=np.float64)


def _broken(joint: _Joint) -> dict[str, NDArray[np.bool_]]:
    """Which items break each limit on items."""
    problem, prices = joint.problem, joint.point.prices
    current = problem.facts.current_price
    broken: dict[str, NDArray[np.bool_]] = {}
    for limit in problem.limits.item:
        if isinstance(limit, BoxLimit):
            low, high = limit.box(problem.facts)
            broken[limit.name] = (prices < low * (1.0 - 1e-9)) | (prices > high * (1.0 + 1e-9))
        elif isinstance(limit, MinStepIfChanged):
            broken[limit.name] = ~limit.far_enough(prices, current) & (np.abs(joint.moves) > SMALLEST_MOVE)
    for name, places in joint.rules.breaking(joint.point).items():
        broken[name] = np.isin(np.arange(prices.size), places)
    return broken


def _carried_by_few(joint: _Joint) -> Places:
    """Items whose ratio of new to today's units is carried by a few draws."""
    ratio = joint.point.units / joint.rules.today.units
    total = ratio.sum(axis=1)
    draws = ratio.shape[1]
    sample = total**2 / (np.einsum("js,js->j", ratio, ratio) * draws)
    few = (sample < SMALLEST_SAMPLE_SHARE) | (ratio.max(axis=1) / total > max(LARGEST_DRAW_SHARE, 10.0 / draws))
    return np.flatnonzero(few)


def _refuse_few_draws(joint: _Joint) -> None:
    names = [joint.problem.items[row] for row in _carried_by_few(joint)]
    if names:
        raise Refusal([
            refusal("few_draws_carry_expectation",
                    f"at the joint prices a few posterior draws carry the expected units of {name!r}",
                    "limit the changes of its category, or learn its elasticities from a price test", name)
            for name in names
        ])  # fmt: skip


def _items(
    joint: _Joint, change: list[Floats], weights: Floats | None, of_items: dict[str, tuple[Finding, ...]]
) -> list[ItemDecision]:
    problem = joint.problem
    place = OBJECTIVES.index(problem.objective)
    summaries: list[list[Estimate]] = [estimates(np.nan_to_num(part)) for part in change]
    unknown = np.isnan(problem.facts.profit.charge)
    regret, staying = _regrets(joint)
    binding, gain = _binding(joint)
    given_up = sacrifices(
        problem, [block.places for block in joint.blocks], joint.rules.money_today,
        change[place].mean(axis=1),
    )  # fmt: skip
    support = support_levels(problem.facts, joint.point.prices)
    moved = np.abs(joint.moves) > SMALLEST_MOVE
    decided: list[ItemDecision] = []
    for row, item in enumerate(problem.items):
        action: Action = "change" if moved[row] else "hold"
        own = change[place][row]
        decided.append(
            ItemDecision(
                item=item,
                action=action,
                current_price=float(problem.facts.current_price[row]),
                recommended_price=float(joint.point.prices[row]),
                revenue=summaries[OBJECTIVES.index("revenue")][row],
                profit=None if unknown[row] else summaries[OBJECTIVES.index("profit")][row],
                units=summaries[OBJECTIVES.index("units")][row],
                probability_better=float((own > 0).mean()),
                expected_regret=float(regret[row]),
                regret_of_staying=float(staying[row]),
                binding=binding[row],
                shadow_price=float(gain[row]),
                shortfall_contribution=None if weights is None else float(-(own @ weights)),
                support=support[row],
                test_price=None,
                test_periods=0,
                value_of_testing=None,
                findings=(*of_items.get(item, ()), *given_up.get(item, ())),
            )
        )
    return decided


def _regrets(joint: _Joint) -> tuple[Floats, Floats]:
    """Of every item's own price, the others at theirs: regret of the recommendation and of today's, arrays (J,)."""
    regret, staying = np.zeros(len(joint.problem.items)), np.zeros(len(joint.problem.items))
    for block in joint.blocks:
        for item, place in enumerate(block.places.tolist()):
            low, high = float(block.money.lowest[item]), float(block.money.highest[item])
            moves = np.append(np.linspace(low, high, REGRET_POINTS), 0.0)
            money = np.stack([_money_at(joint, block, item, move) for move in moves])
            chosen = joint.point.money[block.places].sum(axis=0)
            best = np.maximum(money[:-1].max(axis=0), chosen)
            regret[place] = (best - chosen).mean()
            staying[place] = (np.maximum(best, money[-1]) - money[-1]).mean()
    return regret, staying


def _units_at(joint: _Joint, block: CrossedBlock, item: int, move: float) -> Floats:
    """Units of a category with one item at another log price ratio, array (n, S)."""
    delta = move - joint.moves[block.places[item]]
    return np.asarray(joint.point.units[block.places] * np.exp(delta * block.columns[item]), dtype=np.float64)


def _money_at(joint: _Joint, block: CrossedBlock, item: int, move: float) -> Floats:
    """Money of a category with one item at another log price ratio, array (S,)."""
    prices = joint.point.prices[block.places].copy()
    prices[item] = block.demand.current_price[item] * np.exp(move)
    return np.asarray(block.money.value.at(prices) @ _units_at(joint, block, item, move), dtype=np.float64)


def _binding(joint: _Joint) -> tuple[list[tuple[str, ...]], Floats]:
    """Limits that forbid a price next to an item's own at which its category earns more, and the gain per per cent."""
    problem, prices = joint.problem, joint.point.prices
    names: list[tuple[str, ...]] = [()] * prices.size
    gains = np.zeros(prices.size)
    near = np.stack(probes(prices, problem.limits.ladder), axis=1)
    already = {miss.limit for miss in joint.rules.misses(joint.point)} if _searched(problem) else set()
    for block in joint.blocks:
        scale = float(np.abs(joint.point.money[block.places]).mean(axis=1).sum())
        here = float(joint.point.money[block.places].sum(axis=0).mean())
        for item, place in enumerate(block.places.tolist()):
            for price in near[place]:
                move = float(np.log(price / problem.facts.current_price[place]))
                more = float(_money_at(joint, block, item, move).mean()) - here
                if not more > 1e-9 * scale:
                    continue
                held = tuple(name for name in _forbids(joint, block, item, float(price)) if name not in already)
                names[place] = (*names[place], *(name for name in held if name not in names[place]))
                if held:
                    gains[place] = max(gains[place], more / abs(np.log(price / prices[place])) * np.log(1.01))
    return names, gains


def _searched(problem: Problem) -> bool:
    """Whether a limit has to be looked at on joint draws."""
    return problem.limits.couples or any(not isinstance(limit, BoxLimit) for limit in problem.limits.item)


def _forbids(joint: _Joint, block: CrossedBlock, item: int, price: float) -> list[str]:
    """Limits that forbid a price of one item while the others stand where they are."""
    problem, place = joint.problem, int(block.places[item])
    move = float(np.log(price / problem.facts.current_price[place]))
    found: list[str] = []
    for limit in problem.limits.item:
        if isinstance(limit, BoxLimit):
            low, high = (ends[place] for ends in limit.box(problem.facts))
            if not low * (1.0 - 1e-9) <= price <= high * (1.0 + 1e-9):
                found.append(limit.name)
        elif isinstance(limit, MinStepIfChanged):
            today = problem.facts.current_price[[place]]
            if abs(move) > SMALLEST_MOVE and not limit.far_enough(np.array([price]), today)[0]:
                found.append(limit.name)
    if not _searched(problem):
        return found
    prices, units, money = joint.point.prices.copy(), joint.point.units.copy(), joint.point.money.copy()
    prices[place] = price
    units[block.places] = _units_at(joint, block, item, move)
    money[block.places] = block.money.value.at(prices[block.places])[:, None] * units[block.places]
    misses = joint.rules.misses(JointPoint(prices=prices, units=units, money=money))
    return list(dict.fromkeys([*found, *(miss.limit for miss in misses)]))
