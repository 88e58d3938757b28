"""Engine for limits that tie items together: the ladder programme, its cuts, and the certificate."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.pricing.decision import ShadowPrice
from bayes_pricing.pricing.judging import SMALLEST_MOVE, Judged
from bayes_pricing.pricing.problem import Problem
from bayes_pricing.pricing.programme import (
    SMALL_PROBLEM,
    Answer,
    Rows,
    Rungs,
    lagrangian_bound,
    lagrangian_score,
    solve_programme,
)
from bayes_pricing.pricing.risk import tail_weights
from bayes_pricing.pricing.solution import Solution

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

LADDER_POINTS = 21
SPLIT_DRAWS = 2000
"""From this many draws on, half of them are kept out of the risk limit and used to check it."""
FREE_ITEMS = 60
"""Items left to the integer programme: those whose choice is nearest to changing at the multipliers."""
MOST_ROUNDS = 40
FLOOR_GAP = 2e-3
TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Portfolio:
    """A coupled problem on the ladder: pairs, rows without cuts yet, and the draws its risk limit is enforced on."""

    problem: Problem
    rungs: Rungs
    share: float
    draws: Places | None

    def change(self, weight: Floats) -> Floats:
        """Change of the whole portfolio per draw when pairs have these weights, array (S,)."""
        total = np.zeros(self.problem.total_draws)
        used = np.flatnonzero(weight)
        for where, block in self.problem.blocks():
            inside = used[(self.rungs.item[used] >= where.start) & (self.rungs.item[used] < where.stop)]
            inside = inside[self.rungs.moved[inside]]
            if inside.size:
                part = block.part(self.rungs.item[inside] - where.start)
                total += weight[inside] @ part.change(self.rungs.price[inside], part.facts.value)
        return total

    def tail(self, weight: Floats) -> tuple[float, Floats]:
        """Tail mean of the portfolio's change, and the weights of the draws in that tail."""
        change = self.change(weight)
        weights = tail_weights(change, self.share, self.draws)
        return float(weights @ change), weights

    def cut(self, weights: Floats) -> Floats:
        """Mean change of every pair over weighted tail draws, array (n,)."""
        tail = np.flatnonzero(weights)
        row = np.zeros(self.rungs.mean.size)
        for where, block in self.problem.blocks():
            first, last = np.searchsorted(self.rungs.item, [where.start, where.stop])
            inside = np.arange(first, last)[self.rungs.moved[first:last]]
            place = self.rungs.item[inside] - where.start
            today = block.facts.current_price[place]
            log_ratio = np.log(self.rungs.price[inside] / today)
            value = block.facts.value.part(place)
            worth = value.at(self.rungs.price[inside])
            grown = np.expm1(block.draws.elasticity[:, tail][place] * log_ratio[:, None]) * worth[:, None]
            grown += (worth - value.at(today))[:, None]
            row[inside] = (grown * block.units_today[:, tail][place]) @ weights[tail]
        return row


def solve_coupled(problem: Problem, judged: Judged, separable: Solution, *, seed: int) -> Solution:
    """Best ladder prices under the portfolio's limits.

    The prices that are best item by item are kept where they meet the limits. Otherwise the relaxed programme is
    solved with cuts until its tail holds, its multipliers give the bound, and the items whose choice they leave open
    go through the integer programme, again with cuts until the true tail holds.

    Parameters
    ----------
    problem : Problem
    judged : Judged
    separable : Solution
        Best prices item by item.
    seed : int
        Splits the draws where there are enough to check the risk limit on the other half.

    Returns
    -------
    Solution

    Raises
    ------
    Refusal
        If no allowed prices meet the limits; the finding gives the largest attainable floor.
    """
    portfolio = _portfolio(problem, judged, seed)
    limits = problem.limits
    rows = Rows(
        cuts=np.zeros((0, portfolio.rungs.mean.size)),
        floor=-np.inf if limits.shortfall is None else -limits.shortfall.amount,
        most_changes=np.inf if limits.changes is None else float(limits.changes.count),
    )
    alone = _alone(portfolio, separable)
    if _keeps(portfolio, rows, alone)[0]:
        return replace(separable, chosen_on=portfolio.draws)
    relaxed = _relaxed(portfolio, rows)
    if relaxed is None:
        raise _unattainable(portfolio, rows)
    rows, answer = relaxed
    chosen = _whole(portfolio, rows, answer)
    if chosen is None:
        raise _unattainable(portfolio, rows)
    prices = np.array(problem.facts.current_price)
    prices[portfolio.rungs.item[chosen]] = portfolio.rungs.price[chosen]
    return Solution(
        prices=prices,
        upper_bound=lagrangian_bound(portfolio.rungs, rows, answer),
        certificate=f"Lagrangian bound over {portfolio.rungs.mean.size} ladder prices of {portfolio.rungs.items} items",
        engine="ladder programme with shortfall cuts",
        shadow_prices=_shadow_prices(portfolio, rows, answer),
        chosen_on=portfolio.draws,
    )


def _portfolio(problem: Problem, judged: Judged, seed: int) -> Portfolio:
    count = judged.candidates.shape[1]
    columns = np.unique(np.append([0, count - 1], np.linspace(1, max(count - 2, 1), LADDER_POINTS).round().astype(int)))
    if problem.limits.ladder is not None:
        columns = np.arange(count)
    prices, mean = judged.candidates[:, columns], judged.candidate_change[:, columns]
    moved = np.abs(np.log(prices / problem.facts.current_price[:, None])) > SMALLEST_MOVE
    allowed = np.isfinite(mean) & (moved | (columns == 0))
    item, column = np.nonzero(allowed)
    rungs = Rungs(
        item=item, price=prices[item, column], mean=np.where(moved, mean, 0.0)[item, column],
        moved=moved[item, column], items=len(problem.items),
    )  # fmt: skip
    shortfall, draws = problem.limits.shortfall, None
    if shortfall is not None and problem.total_draws >= SPLIT_DRAWS:
        order = np.random.default_rng(seed).permutation(problem.total_draws)
        draws = np.sort(order[: problem.total_draws // 2])
    return Portfolio(problem=problem, rungs=rungs, share=0.05 if shortfall is None else shortfall.share, draws=draws)


def _alone(portfolio: Portfolio, separable: Solution) -> Floats:
    rungs = portfolio.rungs
    weight = np.zeros(rungs.mean.size)
    weight[rungs.best(-np.abs(np.log(rungs.price / separable.prices[rungs.item])))] = 1.0
    return weight


def _keeps(portfolio: Portfolio, rows: Rows, weight: Floats) -> tuple[bool, Floats]:
    """Whether weights keep the rows, and the tail weights that show it where they do not."""
    few = weight @ portfolio.rungs.moved <= rows.most_changes + 1e-6
    if not np.isfinite(rows.floor):
        return bool(few), np.zeros(0)
    reached, tail = portfolio.tail(weight)
    scale = max(abs(rows.floor), TOLERANCE * float(np.abs(portfolio.rungs.mean).sum()))
    return bool(few and reached >= rows.floor - TOLERANCE * scale), tail


def _relaxed(portfolio: Portfolio, rows: Rows) -> tuple[Rows, Answer] | None:
    answer = solve_programme(portfolio.rungs, rows, integer=False)
    for _ in range(MOST_ROUNDS):
        if answer is None:
            return None
        kept, tail = _keeps(portfolio, rows, answer.share)
        if kept or not tail.size:
            break
        rows = replace(rows, cuts=np.vstack([rows.cuts, portfolio.cut(tail)]))
        answer = solve_programme(portfolio.rungs, rows, integer=False)
    return None if answer is None else (rows, answer)


def _whole(portfolio: Portfolio, rows: Rows, relaxed: Answer) -> Places | None:
    """Integer choice near the multipliers: the items with the smallest margin stay free, more of them if need be."""
    rungs = portfolio.rungs
    score = lagrangian_score(rungs, rows, relaxed)
    best = rungs.best(score)
    rest = score.copy()
    rest[best] = -np.inf
    margin = score[best] - np.maximum.reduceat(rest, rungs.starts)
    mixed = np.bincount(
        rungs.item, weights=(relaxed.share > 1e-9) & (relaxed.share < 1.0 - 1e-9), minlength=rungs.items
    )
    order = np.argsort(np.where(mixed > 0, -1.0, margin), kind="stable")
    free_items = FREE_ITEMS
    while True:
        free = np.zeros(rungs.mean.size, dtype=np.bool_)
        free[best] = True
        free |= np.isin(rungs.item, order[:free_items])
        found = _whole_among(portfolio, rows, free)
        if found is not None or free_items >= rungs.items:
            return found
        free_items *= 4


def _whole_among(portfolio: Portfolio, rows: Rows, free: NDArray[np.bool_]) -> Places | None:
    for _ in range(MOST_ROUNDS):
        answer = solve_programme(portfolio.rungs, rows, integer=True, free=free)
        if answer is None:
            return None
        kept, tail = _keeps(portfolio, rows, answer.share)
        if kept:
            return np.flatnonzero(answer.share > 0.5)
        rows = replace(rows, cuts=np.vstack([rows.cuts, portfolio.cut(tail)]))
    return None


def _unattainable(portfolio: Portfolio, rows: Rows) -> Refusal:
    """The largest floor that allowed prices reach, found by raising the tail mean itself."""
    limits = portfolio.problem.limits
    reached = None if limits.shortfall is None else _highest_tail(portfolio, rows)
    if limits.shortfall is None or reached is None:
        return Refusal([_conflict("more items must change than max_changes allows", "allow more changes")])
    return Refusal(
        [
            _conflict(
                f"no allowed prices hold the expected shortfall of the change to {limits.shortfall.amount:.6g} "
                f"per period; the smallest found is {-reached:.6g}",
                f"set max_shortfall to {-reached:.6g} or more, or relax another limit",
            )
        ]
    )


def _highest_tail(portfolio: Portfolio, rows: Rows) -> float | None:
    """Highest tail mean of whole prices: exact on small problems, else the relaxed answer rounded."""
    best: float | None = None
    small = portfolio.rungs.mean.size <= SMALL_PROBLEM
    tail = portfolio.tail(np.zeros(portfolio.rungs.mean.size))[1]
    for _ in range(MOST_ROUNDS):
        rows = replace(rows, cuts=np.vstack([rows.cuts, portfolio.cut(tail)]))
        answer = solve_programme(portfolio.rungs, rows, integer=small, raise_floor=True)
        if answer is None:
            return best
        reached, tail = portfolio.tail(answer.share)
        whole = _rounded(portfolio.rungs, answer.share)
        if whole @ portfolio.rungs.moved <= rows.most_changes:
            best = max(-np.inf if best is None else best, portfolio.tail(whole)[0])
        if reached >= answer.value - FLOOR_GAP * abs(answer.value):
            break
    return best


def _rounded(rungs: Rungs, share: Floats) -> Floats:
    """One price per item: the heaviest, today's where none has more than half."""
    whole = np.zeros(rungs.mean.size)
    whole[rungs.best(np.where((share <= 0.5) & rungs.moved, share - 1.0, share))] = 1.0
    return whole


def _conflict(message: str, remedy: str) -> Finding:
    return Finding(code="portfolio_limits_conflict", severity="error", message=message, remedy=remedy)


def _shadow_prices(portfolio: Portfolio, rows: Rows, answer: Answer) -> tuple[ShadowPrice, ...]:
    """Multipliers in money per step, beside the relaxed programme solved again one step either way."""
    found: list[ShadowPrice] = []
    limits = portfolio.problem.limits
    total = float(answer.cut_prices.sum())
    if limits.shortfall is not None and total > 0:
        step = 0.1 * abs(limits.shortfall.amount) or 0.01 * abs(answer.value)
        found.append(
            ShadowPrice(
                limit=limits.shortfall.name, value=total * step, step=f"{step:.6g} of money",
                looser=_moved_value(portfolio, replace(rows, floor=rows.floor - step), answer),
                tighter=_moved_value(portfolio, replace(rows, floor=rows.floor + step), answer),
            )
        )  # fmt: skip
    if limits.changes is not None and answer.change_price > 0:
        count = rows.most_changes
        found.append(
            ShadowPrice(
                limit=limits.changes.name, value=answer.change_price, step=limits.changes.step,
                looser=_moved_value(portfolio, replace(rows, most_changes=count + 1), answer),
                tighter=_moved_value(portfolio, replace(rows, most_changes=max(count - 1, 0.0)), answer),
            )
        )  # fmt: skip
    return tuple(found)


def _moved_value(portfolio: Portfolio, rows: Rows, answer: Answer) -> float | None:
    again = _relaxed(portfolio, rows)
    return None if again is None else again[1].value - answer.value
