"""From chosen prices to a `PriceDecision`: every number recomputed from the prices on the posterior's draws."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.errors import Finding
from bayes_pricing.pricing.decision import (
    NO_CHANGE,
    Action,
    Estimate,
    ItemDecision,
    PortfolioDecision,
    PriceDecision,
    estimate,
    estimates,
)
from bayes_pricing.pricing.feasibility import Expected, expected_alone, portfolio_residuals
from bayes_pricing.pricing.judging import Judged, off_ladder
from bayes_pricing.pricing.ladder import binding_limits
from bayes_pricing.pricing.outlook import Block
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem
from bayes_pricing.pricing.profit import OBJECTIVES, Objective, UnitValue
from bayes_pricing.pricing.risk import FEWEST_TAIL_DRAWS, tail_mean, tail_weights
from bayes_pricing.pricing.solution import Solution
from bayes_pricing.pricing.support import support_levels
from bayes_pricing.pricing.welfare import joint_surplus_change, surplus_change

Floats = NDArray[np.float64]
DEFAULT_TAIL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Totals:
    """Sums over items, arrays (metric, S); how many items break each limit; where prices cross, expected units too."""

    change: Floats
    current: Floats
    broken: dict[str, int]
    surplus: Floats | None = None
    expected: Expected | None = None


def assemble(
    problem: Problem, judged: Judged, solution: Solution, *, seed: int, findings: tuple[Finding, ...] = ()
) -> PriceDecision:
    """Build the decision for chosen prices, everything recomputed from them.

    Parameters
    ----------
    problem : Problem
    judged : Judged
    solution : Solution
    seed : int
    findings : tuple of Finding
        About the decision as a whole.

    Returns
    -------
    PriceDecision
    """
    values = {metric: problem.economics.unit_value(metric, problem.table) for metric in OBJECTIVES}
    parts = problem.over_blocks(lambda where, block: _decide_block(problem, judged, solution, where, block, values))
    items = [item for decided, _ in parts for item in decided]
    totals = _added([part for _, part in parts])
    portfolio = portfolio_decision(problem, solution, totals)
    items = _with_contributions(problem, items, portfolio, solution.chosen_on)
    return PriceDecision(
        items=tuple(items),
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
    )  # fmt: skip


def _added(parts: list[Totals]) -> Totals:
    broken: dict[str, int] = {}
    for part in parts:
        for name, count in part.broken.items():
            broken[name] = broken.get(name, 0) + count
    return Totals(
        change=np.sum([part.change for part in parts], axis=0),
        current=np.sum([part.current for part in parts], axis=0),
        broken=broken,
        surplus=np.sum([part.surplus for part in parts], axis=0),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Money:
    """Changes of a block's items: summaries by outcome, and the objective's mean and chance of rising, arrays (J,)."""

    summaries: dict[Objective, list[Estimate | None]]
    mean: Floats
    probability_better: Floats


def _decide_block(
    problem: Problem, judged: Judged, solution: Solution, where: slice, block: Block, values: dict[Objective, UnitValue]
) -> tuple[list[ItemDecision], Totals]:
    chosen = solution.prices[where]
    moved = np.flatnonzero(np.abs(np.log(chosen / block.facts.current_price)) > SMALLEST_MOVE)
    money, totals = _money(problem, block, where, chosen, moved, values)
    actions = _actions(judged, where, moved)
    binding = binding_limits(block, problem.limits, chosen)
    spoken = np.array([action != "refused" for action in actions], dtype=np.bool_)
    totals.broken.update({name: int((broken & spoken).sum()) for name, broken in binding.broken.items()})
    held_back = np.abs(np.log(chosen / judged.kept_prices[where])) > SMALLEST_MOVE
    coupling = tuple(shadow.limit for shadow in solution.shadow_prices)
    names = tuple(
        (*own, *coupling) if back else own for own, back in zip(binding.names, held_back.tolist(), strict=True)
    )
    decided = [
        _decide_item(judged, where, block, row, action, float(chosen[row]), money) for row, action in enumerate(actions)
    ]
    support = support_levels(block.facts, chosen)
    bound = [
        replace(
            item,
            binding=names[row] if item.action in ("change", "hold") else (),
            shadow_price=float(binding.gain_per_percent[row]) if item.action in ("change", "hold") else 0.0,
            support=support[row],
        )
        for row, item in enumerate(decided)
    ]
    return bound, totals


def _money(
    problem: Problem,
    block: Block,
    where: slice,
    chosen: Floats,
    moved: NDArray[np.intp],
    values: dict[Objective, UnitValue],
) -> tuple[_Money, Totals]:
    part = block.part(moved)
    growth = part.growth(chosen[moved])
    shape = (len(OBJECTIVES), problem.total_draws)
    totals = Totals(change=np.zeros(shape), current=np.zeros(shape), broken={}, surplus=_surplus(part, chosen[moved]))
    money = _Money(summaries={}, mean=np.zeros(len(chosen)), probability_better=np.zeros(len(chosen)))
    for index, metric in enumerate(OBJECTIVES):
        value = values[metric].part(where)
        known = ~np.isnan(value.charge)
        totals.current[index] += value.at(block.facts.current_price)[known] @ block.units_today[known]
        money.summaries[metric] = [NO_CHANGE if sure else None for sure in known.tolist()]
        if not len(moved):
            continue
        change = part.change(chosen[moved], value.part(moved), growth)
        totals.change[index] += change[known[moved]].sum(axis=0)
        for row, summary in zip(moved.tolist(), estimates(change), strict=True):
            money.summaries[metric][row] = summary if known[row] else None
        if metric == problem.objective:
            money.mean[moved], money.probability_better[moved] = change.mean(axis=1), (change > 0).mean(axis=1)
    return money, totals


def _decide_item(
    judged: Judged, where: slice, block: Block, row: int, action: Action, price: float, money: _Money
) -> ItemDecision:
    """One item's decision, limits and support left to the caller."""
    place = where.start + row
    spoken = action != "refused"
    tested = spoken and bool(np.isfinite(judged.test_net[place]))
    best = float(judged.best_mean[place])
    return ItemDecision(
        item=block.facts.items[row],
        action=action,
        current_price=float(block.facts.current_price[row]),
        recommended_price=price if spoken else None,
        revenue=money.summaries["revenue"][row] if spoken else None,
        profit=money.summaries["profit"][row] if spoken else None,
        units=money.summaries["units"][row] if spoken else None,
        probability_better=float(money.probability_better[row]) if spoken else None,
        expected_regret=max(best - float(money.mean[row]), 0.0) if spoken else None,
        regret_of_staying=max(best, 0.0) if spoken else None,
        binding=(),
        shadow_price=0.0,
        shortfall_contribution=None,
        support="supported",
        test_price=float(judged.test_price[place]) if tested else None,
        test_periods=int(judged.test_periods[place]) if tested else 0,
        value_of_testing=float(judged.test_net[place]) if tested else None,
        findings=judged.findings[place],
    )


def _surplus(block: Block, prices: Floats) -> Floats:
    """Change of consumer surplus summed over items, array (S,)."""
    today, draws = block.facts.current_price, block.draws
    if draws.curve is None:
        return surplus_change(block.units_today, today[:, None], draws.elasticity, prices[:, None]).sum(axis=0)
    return joint_surplus_change(
        lambda move: (block.units_today * np.exp(draws.log_growth(move))).T, today, np.log(prices / today)
    )


def _actions(judged: Judged, where: slice, moved: NDArray[np.intp]) -> list[Action]:
    actions: list[Action] = ["hold"] * (where.stop - where.start)
    for row in moved.tolist():
        actions[row] = "change"
    for row, _ in enumerate(actions):
        if judged.refused[where.start + row]:
            actions[row] = "refused"
        elif judged.test_first[where.start + row]:
            actions[row] = "test_first"
    return actions


def portfolio_decision(problem: Problem, solution: Solution, totals: Totals) -> PortfolioDecision:
    """The decision as a whole, recomputed from sums over items on the draws."""
    place = OBJECTIVES.index(problem.objective)
    costless = bool(np.isnan(problem.facts.profit.charge).all())
    metrics = [metric for metric in OBJECTIVES if metric != "profit" or not costless]
    change = totals.change[place]
    shortfall, share = problem.limits.shortfall, DEFAULT_TAIL
    if shortfall is not None:
        share = shortfall.share
    chosen_on = solution.chosen_on
    held_out = None if chosen_on is None else np.setdiff1d(np.arange(change.size), chosen_on)
    risk = _shortfall(change if chosen_on is None else change[chosen_on], share)
    residuals: list[tuple[str, float]] = [(name, float(count)) for name, count in totals.broken.items()]
    if problem.limits.ladder is not None:
        off = off_ladder(problem.limits.ladder, solution.prices, problem.facts.current_price)
        residuals.append((problem.limits.ladder.name, float(off.sum())))
    limited = change if chosen_on is None else change[chosen_on]
    if problem.limits.couples:
        expected = expected_alone(problem, solution.prices) if totals.expected is None else totals.expected
        residuals += portfolio_residuals(problem, expected, limited, float(totals.current[place].mean()))
    objective = float(change.mean()) if solution.worth is None else solution.worth.value(change)
    feasible = all(amount == 0 for _, amount in residuals)
    bound = max(solution.upper_bound, objective) if feasible else solution.upper_bound
    return PortfolioDecision(
        objective=objective,
        upper_bound=bound,
        gap=_gap(objective, bound),
        certificate=solution.certificate,
        certified=solution.certified,
        expected_shortfall=risk,
        shortfall_share=share,
        expected_shortfall_held_out=None if held_out is None else _shortfall(change[held_out], share),
        probability_better=float((change > 0).mean()),
        shadow_prices=solution.shadow_prices,
        residuals=tuple(residuals),
        engine=solution.engine,
        feasible=feasible,
        changes=_by_metric(totals.change, metrics),
        current=_by_metric(totals.current, metrics),
        recommended=_by_metric(totals.current + totals.change, metrics),
        change_draws=_labelled(totals.change, problem.chains),
        current_draws=_labelled(totals.current, problem.chains),
        consumer_surplus=None if totals.surplus is None else estimate(totals.surplus),
    )


def _gap(objective: float, bound: float) -> float:
    if abs(bound - objective) <= 1e-9 * abs(bound):
        return 0.0
    return (bound - objective) / abs(bound)


def _shortfall(change: Floats, share: float) -> float | None:
    if change.size * share < FEWEST_TAIL_DRAWS - 1e-9:
        return None
    return -float(tail_mean(change, share))


def _by_metric(draws: Floats, metrics: list[Objective]) -> dict[str, Estimate]:
    return {metric: estimate(draws[OBJECTIVES.index(metric)]) for metric in metrics}


def _labelled(draws: Floats, chains: int) -> xr.DataArray:
    shaped = draws.reshape(draws.shape[0], chains, -1)
    return xr.DataArray(shaped, dims=("metric", "chain", "draw"), coords={"metric": list(OBJECTIVES)})


def _with_contributions(
    problem: Problem, items: list[ItemDecision], portfolio: PortfolioDecision, chosen_on: NDArray[np.intp] | None
) -> list[ItemDecision]:
    """Split the portfolio's expected shortfall: minus each item's mean change over the portfolio's tail draws."""
    if portfolio.expected_shortfall is None:
        return items
    change = portfolio.change_draws.sel(metric=problem.objective).to_numpy().ravel()
    weights = tail_weights(change, portfolio.shortfall_share, chosen_on)
    tail = np.flatnonzero(weights)
    prices = np.array([item.price for item in items])

    def work(where: slice, block: Block) -> Floats:
        found = np.zeros(prices[where].size)
        moved = np.flatnonzero(np.abs(np.log(prices[where] / block.facts.current_price)) > SMALLEST_MOVE)
        part = block.part(moved).on(tail)
        found[moved] = -part.change(prices[where][moved], part.facts.value) @ weights[tail]
        return found

    parts = np.concatenate(problem.over_blocks(work)).tolist()
    return [replace(item, shortfall_contribution=part) for item, part in zip(items, parts, strict=True)]


def last_period(table: pl.DataFrame) -> date | int | None:
    """The day or number of the last period of the data."""
    last = table["last_period"].max() if "last_period" in table.columns else None
    return last if isinstance(last, date | int) else None


def stale_on(table: pl.DataFrame, horizon_periods: float, period_days: float | None = None) -> date | int | None:
    """When a decision goes stale: last period plus the horizon.

    Parameters
    ----------
    table : DataFrame
        Item table.
    horizon_periods : float
    period_days : float, optional
        Days from one period to the next; left out, the median spacing of an item's rows, which is too short where it
        has several rows a period, as with regions.

    Examples
    --------
    >>> days = pl.DataFrame({"first_period": [date(2026, 1, 5)], "last_period": [date(2026, 1, 26)], "rows": [8]})
    >>> str(stale_on(days, 2, period_days=7.0))
    '2026-02-09'
    """
    if not {"first_period", "last_period", "rows"} <= set(table.columns):
        return None
    last = table["last_period"].max()
    if isinstance(last, int):
        return last + round(horizon_periods)
    if not isinstance(last, date):
        return None
    spacing = period_days
    if spacing is None:
        days = (pl.col("last_period") - pl.col("first_period")).dt.total_days() / (pl.col("rows") - 1)
        spacing = table.filter(pl.col("rows") > 1).select(days.median()).item()
    return None if spacing is None else last + timedelta(days=round(spacing * horizon_periods))


def general_findings(problem: Problem) -> list[Finding]:
    """Findings that hold for the decision as a whole, whatever the prices."""
    found: list[Finding] = []
    if problem.objective != "profit" and not problem.posterior.spec.curved:
        found.append(
            Finding(code="bang_bang", severity="warning",
                    message=f"expected {problem.objective} under constant elasticity is always highest at an end of "
                    "the allowed prices",
                    remedy="give costs and maximise profit, or limit risk or volume")
        )  # fmt: skip
    unknown = int(np.isnan(problem.facts.profit.charge).sum())
    if unknown:
        found.append(
            Finding(code="profit_incomplete", severity="info",
                    message=f"{unknown} of {len(problem.items)} items have no known cost; total profit leaves them out",
                    remedy="give their cost")
        )  # fmt: skip
    return found


def held_out_findings(problem: Problem, portfolio: PortfolioDecision) -> list[Finding]:
    """A finding where the limit on the shortfall does not hold on draws that took no part in choosing."""
    shortfall, held_out = problem.limits.shortfall, portfolio.expected_shortfall_held_out
    if shortfall is None or held_out is None or held_out <= shortfall.amount:
        return []
    return [
        Finding(code="shortfall_held_out", severity="info",
                message=f"on draws that took no part in choosing prices the expected shortfall is {held_out:.6g}, over "
                f"the limit of {shortfall.amount:.6g}",
                remedy="leave some room in max_shortfall, or fit with more draws")
    ]  # fmt: skip
