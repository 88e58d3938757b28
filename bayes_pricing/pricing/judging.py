"""Every item judged alone: its best allowed price, whether that can be believed, and whether to test it first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Finding
from bayes_pricing.pricing.constraints import PriceLadder, Support
from bayes_pricing.pricing.ladder import GRID_POINTS, Choice, best_on_each_draw, choose_prices, conflicting_limits
from bayes_pricing.pricing.outlook import Block, Bools, Outlook
from bayes_pricing.pricing.problem import SMALLEST_MOVE, Problem
from bayes_pricing.pricing.support import check_tails, support_levels
from bayes_pricing.pricing.value_of_information import TestingRule, worth_of_testing

Floats = NDArray[np.float64]

TEST_MOVE = 0.1
"""Where today's price stays, a test of a tenth up or down is what is valued."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """What each item would do if nothing tied it to the others, and what it may do in a portfolio.

    Attributes
    ----------
    prices, expected_change : array (J,)
        Best allowed price and its expected change of the objective per period.
    best_mean : array (J,)
        Mean over draws of the best allowed change on that draw.
    refused, test_first : array (J,)
        Items whose price stays for one of these reasons; they are pinned to today's price in a portfolio.
    candidates : array (J, K)
        Candidate prices, today's first, the best one last.
    candidate_change : array (J, K)
        Their expected change; minus infinity where a limit forbids the price or the item is pinned.
    candidate_units : array (J, K)
        Expected units per period at each candidate.
    test_price, test_net : array (J,)
    test_periods : array (J,)
    findings : tuple of tuple of Finding, length J
    """

    prices: Floats
    expected_change: Floats
    best_mean: Floats
    refused: Bools
    test_first: Bools
    candidates: Floats
    candidate_change: Floats
    candidate_units: Floats
    test_price: Floats
    test_net: Floats
    test_periods: NDArray[np.int64]
    findings: tuple[tuple[Finding, ...], ...]

    @property
    def pinned(self) -> Bools:
        """Items whose price stays today's whatever the others do."""
        return self.refused | self.test_first

    @property
    def kept_prices(self) -> Floats:
        """Price each item has when nothing couples them: the best one, or today's where pinned."""
        return np.where(self.pinned, self.candidates[:, 0], self.prices)


def judge_items(problem: Problem, points: int = GRID_POINTS) -> Judged:
    """Judge every item of a problem on its own, block by block.

    Parameters
    ----------
    problem : Problem
    points : int
        Grid points in log price where there is no ladder.

    Returns
    -------
    Judged
    """
    parts = problem.over_blocks(lambda _, block: _judge_block(problem, block, points))
    width = max(part.candidates.shape[1] for part in parts)
    return Judged(
        prices=np.concatenate([part.prices for part in parts]),
        expected_change=np.concatenate([part.expected_change for part in parts]),
        best_mean=np.concatenate([part.best_mean for part in parts]),
        refused=np.concatenate([part.refused for part in parts]),
        test_first=np.concatenate([part.test_first for part in parts]),
        candidates=np.concatenate([_widened(part.candidates, width) for part in parts]),
        candidate_change=np.concatenate([_widened(part.candidate_change, width) for part in parts]),
        candidate_units=np.concatenate([_widened(part.candidate_units, width) for part in parts]),
        test_price=np.concatenate([part.test_price for part in parts]),
        test_net=np.concatenate([part.test_net for part in parts]),
        test_periods=np.concatenate([part.test_periods for part in parts]),
        findings=tuple(findings for part in parts for findings in part.findings),
    )


def judge_given(problem: Problem, prices: Floats) -> tuple[tuple[Finding, ...], ...]:
    """What is wrong with given prices, item by item: limits they break, and expectations that a few draws carry."""
    findings: list[tuple[Finding, ...]] = []
    for where, block in problem.blocks():
        given = prices[where]
        outlook = Outlook(block=block, prices=given[:, None])
        broken = {limit.name: ~limit.allows(outlook)[:, 0] for limit in problem.limits.item}
        if problem.limits.ladder is not None:
            broken[problem.limits.ladder.name] = off_ladder(problem.limits.ladder, given, block.facts.current_price)
        tails = check_tails(block, given)
        for row, item in enumerate(block.facts.items):
            names = [name for name, breaks in broken.items() if breaks[row]]
            found = [limits_broken(item, names)] if names else []
            if tails.carried_by_few[row]:
                found.append(few_draws(item))
            findings.append(tuple(found))
    return tuple(findings)


def off_ladder(ladder: PriceLadder, prices: Floats, current: Floats) -> Bools:
    """Which prices (J,) are no rung of the ladder; today's price is a choice even where it is none."""
    rungs = [ladder.rungs(price * (1.0 - 1e-6), price * (1.0 + 1e-6)) for price in prices.tolist()]
    missing = np.array([rung.size == 0 for rung in rungs], dtype=np.bool_)
    return missing & (np.abs(np.log(prices / current)) > SMALLEST_MOVE)


def _judge_block(problem: Problem, block: Block, points: int) -> Judged:
    facts = block.facts
    choice = choose_prices(block, problem.limits, points)
    current = facts.current_price
    moves = choice.possible & (np.abs(np.log(choice.prices / current)) > SMALLEST_MOVE)
    prices = np.where(moves, choice.prices, current)
    tails = check_tails(block, prices)
    refused = ~choice.possible | tails.carried_by_few
    never_moved = ~refused & (facts.highest_price <= facts.lowest_price * (1.0 + 1e-9))
    test = _best_test(problem, block, prices, moves)
    first = np.zeros(len(current), dtype=np.bool_)
    if problem.testing is not None:
        first = ~refused & (moves | never_moved) & choice.allowed[:, 0] & (test.net > 0)
    levels = support_levels(facts, prices)
    findings: list[list[Finding]] = [[] for _ in current]
    _refusal_findings(problem, block, choice, tails.carried_by_few, findings)
    for row in np.flatnonzero(~refused):
        findings[row] += _warnings(
            facts.items[row],
            never_moved=bool(never_moved[row]),
            first=bool(first[row]),
            past_turning=bool(tails.past_turning[row]),
            extrapolates=levels[row] == "extrapolation" and not first[row],
        )
    pinned = refused | first
    own_units = np.where(moves, choice.expected_units, choice.outlook.expected_units[:, 0])
    change = np.where(choice.allowed, choice.outlook.expected_change, -np.inf)
    own = np.where(moves, choice.expected_change, change[:, 0])
    change = np.where(pinned[:, None], -np.inf, np.concatenate([change, own[:, None]], axis=1))
    change[pinned, 0] = 0.0
    return Judged(
        prices=prices,
        expected_change=np.where(moves, choice.expected_change, 0.0),
        best_mean=best_on_each_draw(block, choice),
        refused=refused,
        test_first=first,
        candidates=np.concatenate([choice.outlook.prices, prices[:, None]], axis=1),
        candidate_change=change,
        candidate_units=np.concatenate([choice.outlook.expected_units, own_units[:, None]], axis=1),
        test_price=test.price,
        test_net=test.net,
        test_periods=test.periods,
        findings=tuple(tuple(row) for row in findings),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Test:
    price: Floats
    net: Floats
    periods: NDArray[np.int64]


def _best_test(problem: Problem, block: Block, prices: Floats, moves: Bools) -> _Test:
    """The test of the new price, or where none is new of a tenth up or down, support left aside: tests make support."""
    current = block.facts.current_price
    lowest, highest = problem.limits.box(block.facts, without=Support.name)
    lowest, highest = np.minimum(lowest, current), np.maximum(highest, current)
    cut = _test_worth(problem, block, np.where(moves, prices, (current * (1.0 - TEST_MOVE)).clip(lowest, highest)))
    still = np.flatnonzero(~moves)
    if not len(still):
        return cut
    price, net, periods = cut.price.copy(), cut.net.copy(), cut.periods.copy()
    rise = _test_worth(problem, block.part(still), (current * (1.0 + TEST_MOVE)).clip(lowest, highest)[still])
    better = rise.net > net[still]
    price[still], net[still] = np.where(better, rise.price, price[still]), np.where(better, rise.net, net[still])
    periods[still] = np.where(better, rise.periods, periods[still])
    return _Test(price=price, net=net, periods=periods)


def _test_worth(problem: Problem, block: Block, candidate: Floats) -> _Test:
    current = block.facts.current_price
    growth = block.growth(candidate)
    change = block.change(candidate, block.facts.value, growth)
    today = block.units_today.mean(axis=1)
    sold = today + np.einsum("js,js->j", growth, block.units_today) / growth.shape[1]
    noise = period_noise(problem, block, candidate, sold) + period_noise(problem, block, current, today)
    rule = TestingRule() if problem.testing is None else problem.testing
    worth = worth_of_testing(change.mean(axis=1), change.std(axis=1), noise, problem.horizon_periods, rule)
    same = np.abs(np.log(candidate / current)) <= SMALLEST_MOVE
    return _Test(price=np.where(same, np.nan, candidate), net=np.where(same, -np.inf, worth.net), periods=worth.periods)


def period_noise(problem: Problem, block: Block, prices: Floats, units: Floats) -> Floats:
    r"""Variance of one period's money at `prices`, from the noise of sales alone, array (J,).

    .. math:: v(p)^2 \bar q^2 (e^{\sigma^2} - 1) \;\text{(log-normal)}, \qquad v(p)^2 \bar q \;\text{(counts)}

    `prices` and the expected `units` per period at them are arrays (J,). Counts are taken as Poisson; over-dispersion
    would make a test somewhat less informative than stated.
    """
    spread = units if problem.counts else units**2 * np.expm1(2.0 * block.draws.log_smearing)
    return np.asarray(block.facts.value.at(prices) ** 2 * spread, dtype=np.float64)


def _refusal_findings(
    problem: Problem, block: Block, choice: Choice, few: Bools, findings: list[list[Finding]]
) -> None:
    facts = block.facts
    unknown = np.isnan(facts.value.charge)
    for row in np.flatnonzero(unknown):
        findings[row].append(
            Finding(code="cost_unknown", severity="error", item=facts.items[row],
                    message=f"the cost of {facts.items[row]!r} is unknown, so its profit is too",
                    remedy="give its cost, or maximise revenue")
        )  # fmt: skip
    stuck = np.flatnonzero(~choice.possible & ~unknown)
    if len(stuck):
        conflicts = conflicting_limits(block.part(stuck), problem.limits)
        for row, names in zip(stuck, conflicts, strict=True):
            findings[row].append(
                Finding(code="limits_conflict", severity="error", item=facts.items[row],
                        message=f"no price of {facts.items[row]!r} meets {' and '.join(names)} together",
                        remedy=f"relax one of {', '.join(names)}")
            )  # fmt: skip
    for row in np.flatnonzero(few & choice.possible):
        findings[row].append(few_draws(facts.items[row]))


def limits_broken(item: str, names: list[str]) -> Finding:
    """A finding that a given price breaks limits."""
    return Finding(
        code="breaks_limit", severity="error", item=item,
        message=f"the price given for {item!r} breaks {' and '.join(names)}",
        remedy="move the price, or relax the limit",
    )  # fmt: skip


def few_draws(item: str) -> Finding:
    """A finding that a few draws carry the expectation at a price."""
    return Finding(
        code="few_draws_carry_expectation", severity="error", item=item,
        message=f"at the price looked at for {item!r} a few posterior draws carry the expectation",
        remedy="limit the change, or learn its elasticity from a price test",
    )  # fmt: skip


def _warnings(item: str, *, never_moved: bool, first: bool, past_turning: bool, extrapolates: bool) -> list[Finding]:
    found: list[Finding] = []
    if never_moved:
        found.append(
            Finding(code="price_never_moved", severity="warning", item=item,
                    message=f"the price of {item!r} never moved, so no other price is supported by its data",
                    remedy="run a price test")
        )  # fmt: skip
    if first:
        found.append(
            Finding(code="test_first", severity="info", item=item,
                    message=f"a test of {item!r} is expected to earn more than changing its price at once",
                    remedy="plan the test, or switch the testing rule off")
        )  # fmt: skip
    if past_turning:
        found.append(
            Finding(code="past_turning_point", severity="warning", item=item,
                    message=f"the new price of {item!r} is far enough from today's for the width of the elasticity to "
                    "drive its expected revenue",
                    remedy="limit the change, or narrow the elasticity with a test")
        )  # fmt: skip
    if extrapolates:
        found.append(
            Finding(code="extrapolation", severity="warning", item=item,
                    message=f"the best price of {item!r} is outside every price observed for it",
                    remedy="test it before it is charged, or leave support as it is")
        )  # fmt: skip
    return found


def _widened(values: Floats, width: int) -> Floats:
    """Repeat the first column's meaning in padding: today's price, or a change that is never picked."""
    missing = width - values.shape[1]
    if not missing:
        return values
    return np.concatenate([np.repeat(values[:, :1], missing, axis=1), values], axis=1)
