"""Decisions where prices cross: every category priced as one block, and the decision assembled from its joint draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.assembling import (
    Totals,
    general_findings,
    held_out_findings,
    last_period,
    portfolio_decision,
    stale_on,
)
from bayes_pricing.pricing.blocks import BlockMoney, LogLogBlock
from bayes_pricing.pricing.constraints import BoxLimit, Limits, MaxShortfall, PriceLadder
from bayes_pricing.pricing.decision import Action, Estimate, ItemDecision, PriceDecision, ShadowPrice, estimates
from bayes_pricing.pricing.functionals import Functional, TailMean
from bayes_pricing.pricing.joint_prices import STARTS, JointPrices, highest_tail, maximize_joint
from bayes_pricing.pricing.portfolio import chosen_draws
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem
from bayes_pricing.pricing.profit import OBJECTIVES
from bayes_pricing.pricing.risk import tail_weights
from bayes_pricing.pricing.sacrifices import sacrifices
from bayes_pricing.pricing.solution import Solution
from bayes_pricing.pricing.support import LARGEST_DRAW_SHARE, SMALLEST_SAMPLE_SHARE, support_levels

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

ENGINE = "joint prices by category, several starts"
SUPPORTED = "bounds, max_change, support, min_margin, ladder and max_shortfall"
REGRET_POINTS = 21


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CrossedBlock:
    """A category: its items' places in the problem and what they bring together."""

    places: Places
    money: BlockMoney


def prices_cross(problem: Problem) -> bool:
    """Whether the model has cross-price elasticities."""
    return problem.posterior.spec.cross_prices is not None


def evaluate_crossed(
    problem: Problem, prices: Floats, *, seed: int, functional: Functional | None = None
) -> PriceDecision:
    """Somebody's own prices (J,) on the same footing; the bound is that of the best prices found or certified."""
    shortfall, ladder = _known(problem.limits)
    blocks = crossed_blocks(problem)
    best = _found(problem, blocks, shortfall, ladder, functional, seed)
    moves = tuple(np.log(prices[block.places] / block.money.demand.current_price) for block in blocks)
    bound = None if best is None else best.upper_bound
    given = JointPrices(
        log_ratio=moves, change=np.zeros(0), value=0.0 if best is None else best.value, upper_bound=bound,
        starts=STARTS, agreed=0 if best is None else best.agreed, multiplier=0.0, tail=None,
    )  # fmt: skip
    return _assembled(problem, blocks, given, seed, functional)


def optimize_crossed(problem: Problem, *, seed: int, functional: Functional | None = None) -> PriceDecision:
    """Joint prices of every category under the limits, and the decision about them.

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
        For a limit that this engine does not know.
    Refusal
        If an item has no allowed price, a cost is unknown, a few draws carry the expectation, or no prices keep the
        shortfall; the finding names the largest attainable floor.
    """
    shortfall, ladder = _known(problem.limits)
    blocks = crossed_blocks(problem)
    found = _found(problem, blocks, shortfall, ladder, functional, seed)
    if found is None:
        raise Refusal([_unattainable(blocks, _tail(problem, shortfall, seed), shortfall, seed)])
    return _assembled(problem, blocks, found, seed, functional)


def _tail(problem: Problem, shortfall: MaxShortfall | None, seed: int) -> TailMean | None:
    return None if shortfall is None else TailMean(share=shortfall.share, among=chosen_draws(problem, seed))


def _found(
    problem: Problem, blocks: list[CrossedBlock], shortfall: MaxShortfall | None, ladder: PriceLadder | None,
    functional: Functional | None, seed: int,
) -> JointPrices | None:  # fmt: skip
    return maximize_joint(
        [block.money for block in blocks], seed=seed, functional=functional, tail=_tail(problem, shortfall, seed),
        floor=-np.inf if shortfall is None else -shortfall.amount,
        rungs=None if ladder is None else [_rungs(block, ladder) for block in blocks],
    )  # fmt: skip


def crossed_blocks(problem: Problem) -> list[CrossedBlock]:
    """Every category of the problem as a block of items on the joint draws."""
    unknown = np.flatnonzero(np.isnan(problem.facts.value.charge))
    if unknown.size:
        name = problem.items[int(unknown[0])]
        raise Refusal([_finding("cost_unknown", f"the cost of {name!r} is unknown, and its category is priced together",
                                "give its cost, or maximise revenue", name)])  # fmt: skip
    level = problem.posterior.spec.cross_prices
    labels = ["population"] * len(problem.items)
    if level is not None and level != "population":
        labels = [str(label) for label in problem.table[level]]
    lowest, highest = problem.limits.box(problem.facts)
    empty = np.flatnonzero(~(lowest <= highest * (1.0 + 1e-9)))
    if empty.size:
        name = problem.items[int(empty[0])]
        raise Refusal([_finding("limits_conflict", f"no price of {name!r} is inside every limit on its price",
                                "relax one of them", name)])  # fmt: skip
    found: list[CrossedBlock] = []
    for label in sorted(set(labels)):
        places = np.flatnonzero(np.array(labels) == label)
        found.append(_block(problem, label, places, lowest[places], np.maximum(lowest, highest)[places]))
    return found


def _block(problem: Problem, label: str, places: Places, lowest: Floats, highest: Floats) -> CrossedBlock:
    names = [problem.items[place] for place in places]
    matrix = problem.posterior.cross_elasticities(label)
    if matrix is None:
        raise SpecError(f"The model says that prices cross inside {label!r} but gives no cross-price elasticities.")
    whole = matrix.transpose("chain", "draw", "item", "other")
    everybody = [str(name) for name in whole["other"].to_numpy()]
    table = problem.posterior.items.filter(pl.col("item").is_in(everybody)).sort("item")
    away = dict(zip(table["item"], np.log(table["current_price"].to_numpy()) - table["reference_log_price"].to_numpy(),
                    strict=True))  # fmt: skip
    draws = demand_draws(problem.posterior, names)
    rows = whole.sel(item=names).to_numpy().reshape(-1, len(names), len(everybody))
    move = np.array([away[name] for name in everybody])
    at = [everybody.index(name) for name in names]
    elasticity = np.ascontiguousarray(rows[:, :, at])
    own = np.einsum("sii->si", elasticity)
    log_units = draws.log_units_today.T + rows @ move - own * move[at]
    today = problem.facts.current_price[places]
    return CrossedBlock(
        places=places,
        money=BlockMoney(
            demand=LogLogBlock(current_price=today, log_units_today=log_units, elasticity=elasticity),
            value=problem.facts.value.part(places),
            lowest=np.log(lowest / today),
            highest=np.log(highest / today),
        ),
    )


def _known(limits: Limits) -> tuple[MaxShortfall | None, PriceLadder | None]:
    others = [limit.name for limit in (*limits.item, *limits.portfolio)
              if not isinstance(limit, BoxLimit | MaxShortfall)]  # fmt: skip
    if others:
        raise SpecError(
            f"The limit {others[0]!r} is not known where prices cross inside a category; known are {SUPPORTED}."
        )
    return limits.shortfall, limits.ladder


def _rungs(block: CrossedBlock, ladder: PriceLadder) -> list[Floats]:
    """Allowed log price ratios of every item; today's where the box holds it."""
    money = block.money
    found: list[Floats] = []
    for today, low, high in zip(money.demand.current_price, money.lowest, money.highest, strict=True):
        rungs = np.log(ladder.rungs(float(today * np.exp(low)), float(today * np.exp(high))) / today)
        if low <= 1e-9 and high >= -1e-9:
            rungs = np.append(rungs[np.abs(rungs) > SMALLEST_MOVE], 0.0)
        if not rungs.size:
            raise Refusal([_finding("limits_conflict", f"no rung of the ladder lies between {today * np.exp(low):.6g} "
                                    f"and {today * np.exp(high):.6g}",
                                    "widen the limits or narrow the ladder's step")])  # fmt: skip
        found.append(np.sort(rungs))
    return found


def _unattainable(
    blocks: list[CrossedBlock], tail: TailMean | None, shortfall: MaxShortfall | None, seed: int
) -> Finding:
    if tail is None or shortfall is None:
        return _finding("portfolio_limits_conflict", "no prices keep the limits", "relax one of them")
    smallest = -highest_tail([block.money for block in blocks], tail, seed=seed)
    return _finding(
        "portfolio_limits_conflict",
        f"no allowed prices hold the expected shortfall of the change to {shortfall.amount:.6g} per period; "
        f"the smallest found is {smallest:.6g}",
        f"set max_shortfall to {smallest:.6g} or more, or relax another limit",
    )


def _finding(code: str, message: str, remedy: str, item: str | None = None) -> Finding:
    return Finding(code=code, severity="error", message=message, remedy=remedy, item=item)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Units:
    """Expected units of every item today and at the new prices, arrays (J, S), and the new prices (J,)."""

    today: Floats
    new: Floats
    prices: Floats


def _units(problem: Problem, blocks: list[CrossedBlock], found: JointPrices) -> _Units:
    shape = (len(problem.items), problem.total_draws)
    today, new, prices = np.zeros(shape), np.zeros(shape), problem.facts.current_price.copy()
    for block, move in zip(blocks, found.log_ratio, strict=True):
        moved = np.where(np.abs(move) > SMALLEST_MOVE, move, 0.0)
        today[block.places] = block.money.demand.units(np.zeros(move.size)).T
        new[block.places] = block.money.demand.units(moved).T
        prices[block.places] *= np.exp(moved)
    return _Units(today=today, new=new, prices=prices)


def _assembled(
    problem: Problem, blocks: list[CrossedBlock], found: JointPrices, seed: int, functional: Functional | None = None
) -> PriceDecision:
    units = _units(problem, blocks, found)
    _refuse_few_draws(problem, units)
    current = problem.facts.current_price
    values = [problem.economics.unit_value(metric, problem.table) for metric in OBJECTIVES]
    before = [value.at(current)[:, None] * units.today for value in values]
    change = [value.at(units.prices)[:, None] * units.new - old for value, old in zip(values, before, strict=True)]
    totals = Totals(
        change=np.stack([np.nansum(part, axis=0) for part in change]),
        current=np.stack([np.nansum(part, axis=0) for part in before]),
        broken=_broken(problem, units.prices),
    )
    place = OBJECTIVES.index(problem.objective)
    certified = found.upper_bound is not None
    certificate = f"{found.agreed} of {found.starts} starts agreed; " + (
        "branch and bound over every price box" if certified else "not certified: bound is the best value found"
    )
    shadow: tuple[ShadowPrice, ...] = ()
    if found.multiplier > 0 and problem.limits.shortfall is not None:
        step = 0.1 * abs(problem.limits.shortfall.amount) or 0.01 * abs(found.value)
        shadow = (ShadowPrice(limit="max_shortfall", value=found.multiplier * step, step=f"{step:.6g} of money"),)
    solution = Solution(
        prices=units.prices,
        upper_bound=float(found.value if found.upper_bound is None else found.upper_bound),
        certificate=certificate,
        engine=ENGINE,
        shadow_prices=shadow,
        chosen_on=chosen_draws(problem, seed),
        certified=certified,
        worth=functional,
    )
    portfolio = portfolio_decision(problem, solution, totals)
    weights = None
    if portfolio.expected_shortfall is not None:
        weights = tail_weights(change[place].sum(axis=0), portfolio.shortfall_share, solution.chosen_on)
    return PriceDecision(
        items=tuple(_items(problem, blocks, found, units, change, weights)),
        portfolio=portfolio,
        objective=problem.objective,
        economics=problem.economics,
        limits=problem.limits.every,
        horizon_periods=problem.horizon_periods,
        data_as_of=last_period(problem.table),
        stale_on=stale_on(problem.table, problem.horizon_periods, problem.period_days),
        model=problem.posterior.id,
        seed=seed,
        findings=(*general_findings(problem), *held_out_findings(problem, portfolio)),
    )


def _broken(problem: Problem, prices: Floats) -> dict[str, int]:
    """How many items break each limit on their price."""
    broken: dict[str, int] = {}
    for limit in problem.limits.item:
        if isinstance(limit, BoxLimit):
            low, high = limit.box(problem.facts)
            broken[limit.name] = int(((prices < low * (1.0 - 1e-9)) | (prices > high * (1.0 + 1e-9))).sum())
    return broken


def _refuse_few_draws(problem: Problem, units: _Units) -> None:
    """Refuse where the ratio of new to today's units is carried by a few draws."""
    ratio = units.new / units.today
    total = ratio.sum(axis=1)
    draws = ratio.shape[1]
    sample = total**2 / (np.einsum("js,js->j", ratio, ratio) * draws)
    few = (sample < SMALLEST_SAMPLE_SHARE) | (ratio.max(axis=1) / total > max(LARGEST_DRAW_SHARE, 10.0 / draws))
    found = [
        _finding("few_draws_carry_expectation",
                 f"at the joint prices a few posterior draws carry the expected units of {problem.items[row]!r}",
                 "limit the changes of its category, or learn its elasticities from a price test", problem.items[row])
        for row in np.flatnonzero(few)
    ]  # fmt: skip
    if found:
        raise Refusal(found)


def _items(
    problem: Problem, blocks: list[CrossedBlock], found: JointPrices, units: _Units, change: list[Floats],
    weights: Floats | None,
) -> list[ItemDecision]:  # fmt: skip
    place = OBJECTIVES.index(problem.objective)
    summaries: list[list[Estimate]] = [estimates(np.nan_to_num(part)) for part in change]
    unknown = np.isnan(problem.facts.profit.charge)
    regret, staying, binding = _regrets(problem, blocks, found)
    today = problem.facts.value.at(problem.facts.current_price) * units.today.mean(axis=1)
    given_up = sacrifices(problem, [block.places for block in blocks], today, change[place].mean(axis=1))
    support = support_levels(problem.facts, units.prices)
    moved = np.abs(np.log(units.prices / problem.facts.current_price)) > SMALLEST_MOVE
    decided: list[ItemDecision] = []
    for row, item in enumerate(problem.items):
        action: Action = "change" if moved[row] else "hold"
        own = change[place][row]
        decided.append(
            ItemDecision(
                item=item,
                action=action,
                current_price=float(problem.facts.current_price[row]),
                recommended_price=float(units.prices[row]),
                revenue=summaries[OBJECTIVES.index("revenue")][row],
                profit=None if unknown[row] else summaries[OBJECTIVES.index("profit")][row],
                units=summaries[OBJECTIVES.index("units")][row],
                probability_better=float((own > 0).mean()),
                expected_regret=float(regret[row]),
                regret_of_staying=float(staying[row]),
                binding=binding[row],
                shadow_price=0.0,
                shortfall_contribution=None if weights is None else float(-(own @ weights)),
                support=support[row],
                test_price=None,
                test_periods=0,
                value_of_testing=None,
                findings=given_up.get(item, ()),
            )
        )
    return decided


def _regrets(
    problem: Problem, blocks: list[CrossedBlock], found: JointPrices
) -> tuple[Floats, Floats, list[tuple[str, ...]]]:
    """Of every item's own price, the others at theirs: regret of the recommendation, of today's, and what binds."""
    count = len(problem.items)
    regret, staying = np.zeros(count), np.zeros(count)
    binding: list[tuple[str, ...]] = [()] * count
    for block, move in zip(blocks, found.log_ratio, strict=True):
        money = block.money
        chosen = money.money(move)
        weights = np.full(chosen.size, 1.0 / chosen.size)
        slope = money.money_and_gradient(move, weights)[1]
        for item, place in enumerate(block.places):
            best = chosen.copy()
            trial = move.copy()
            for price in np.linspace(money.lowest[item], money.highest[item], REGRET_POINTS):
                trial[item] = price
                best = np.maximum(best, money.money(trial))
            trial[item] = 0.0
            today = money.money(trial)
            regret[place] = (best - chosen).mean()
            staying[place] = (np.maximum(best, today) - today).mean()
            binding[place] = _binding(problem, int(place), float(move[item]), money, item, float(slope[item]))
    return regret, staying, binding


def _binding(problem: Problem, place: int, move: float, money: BlockMoney, item: int, slope: float) -> tuple[str, ...]:
    """Limits on the price that stand where it would go on: the box limits whose end it has reached."""
    up = slope > 0
    end = money.highest[item] if up else money.lowest[item]
    names: list[str] = []
    if abs(move - end) < 1e-6:
        for limit in problem.limits.item:
            if isinstance(limit, BoxLimit):
                low, high = (ends[place] for ends in limit.box(problem.facts))
                stop = float(problem.facts.current_price[place] * np.exp(end))
                if abs((high if up else low) / stop - 1.0) < 1e-6:
                    names.append(limit.name)
    return tuple(names)
