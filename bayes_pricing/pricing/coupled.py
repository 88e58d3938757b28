"""Engines for limits that tie items together: relaxed programme, certificate, whole prices, shadow prices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import Refusal
from bayes_pricing.pricing.chance import solve_with_quantile
from bayes_pricing.pricing.conflicts import unattainable
from bayes_pricing.pricing.cuts import Relaxed
from bayes_pricing.pricing.decision import ShadowPrice
from bayes_pricing.pricing.functionals import Functional
from bayes_pricing.pricing.judging import Judged
from bayes_pricing.pricing.portfolio import Portfolio, build_portfolio, chosen_draws
from bayes_pricing.pricing.problem import Problem
from bayes_pricing.pricing.programme import Rows
from bayes_pricing.pricing.relaxing import DECOMPOSED_FROM, relax
from bayes_pricing.pricing.solution import Solution
from bayes_pricing.pricing.whole import choose_whole, keeps

Floats = NDArray[np.float64]

LADDER_ENGINE = "ladder programme with shortfall cuts"
DECOMPOSITION_ENGINE = "decomposition with shortfall cuts"


def solve_coupled(
    problem: Problem, judged: Judged, separable: Solution, *, seed: int, functional: Functional | None = None
) -> Solution:
    """Best ladder prices under the portfolio's limits.

    The prices that are best item by item are kept where they meet the limits. Otherwise the relaxed programme is
    solved with cuts until its tail holds (as one linear programme up to 300 choosers, by decomposition beyond), its
    multipliers give the bound, and the choosers that they leave open go through the integer programme, again with
    cuts until the true tail holds.

    Parameters
    ----------
    problem : Problem
    judged : Judged
    separable : Solution
        Best prices item by item.
    seed : int
        Splits the draws where there are enough to check the risk limit on the other half.
    functional : Functional, optional
        What is maximised of the change per draw; its mean when left out.

    Returns
    -------
    Solution

    Raises
    ------
    Refusal
        If no allowed prices meet the limits; the findings name the conflicting ones and the largest attainable
        floors.
    """
    portfolio = build_portfolio(problem, judged, functional, seed=seed)
    chosen_on = chosen_draws(problem, seed)
    engine = LADDER_ENGINE if portfolio.options.choosers < DECOMPOSED_FROM else DECOMPOSITION_ENGINE
    if problem.limits.quantile is not None:
        return solve_with_quantile(portfolio, problem.limits.quantile, engine=engine, chosen_on=chosen_on)
    tied = problem.limits.order is not None or problem.limits.same is not None
    if functional is None and not tied and keeps(portfolio, portfolio.rows, portfolio.nearest(separable.prices)):
        return replace(separable, chosen_on=chosen_on)
    relaxed = relax(portfolio, portfolio.rows)
    whole = None if relaxed is None else choose_whole(portfolio, relaxed)
    if relaxed is None or whole is None:
        raise Refusal(unattainable(problem, judged, seed=seed))
    options = portfolio.options
    return Solution(
        prices=portfolio.prices(whole.chosen),
        upper_bound=relaxed.bound,
        certificate=f"Lagrangian bound over {options.mean.size} ladder prices of {options.choosers} "
        f"{'items' if problem.limits.same is None else 'items and groups'}, recomputed from its multipliers",
        engine=engine,
        shadow_prices=_shadow_prices(portfolio, relaxed),
        chosen_on=chosen_on,
        worth=functional,
    )


def _shadow_prices(portfolio: Portfolio, relaxed: Relaxed) -> tuple[ShadowPrice, ...]:
    """Multipliers in money per step, beside the relaxed programme solved again one step either way."""
    limits, rows, prices = portfolio.problem.limits, relaxed.rows, relaxed.answer.prices
    found: list[ShadowPrice] = []
    total = float(prices.cuts.sum())
    if limits.shortfall is not None and total > 0:
        step = 0.1 * abs(limits.shortfall.amount) or 0.01 * abs(relaxed.answer.value)
        found.append(
            ShadowPrice(
                limit=limits.shortfall.name, value=total * step, step=f"{step:.6g} of money",
                looser=_with_floor(portfolio, relaxed, -step), tighter=_with_floor(portfolio, relaxed, step),
            )
        )  # fmt: skip
    for limit in limits.linear:
        places = [place for place, row in enumerate(portfolio.row_limits) if row.limit == limit.name]
        looser, tighter = limit.moved(1.0).rows(portfolio.pairs), limit.moved(-1.0).rows(portfolio.pairs)
        if not prices.rows[places].sum() > 0 or len(looser) != len(places) or len(tighter) != len(places):
            continue
        more, less = rows.bounds.copy(), rows.bounds.copy()
        more[places], less[places] = [row.bound for row in looser], [row.bound for row in tighter]
        found.append(
            ShadowPrice(
                limit=limit.name, value=float(prices.rows @ (more - rows.bounds)), step=limit.step,
                looser=_solved_again(portfolio, relaxed, replace(rows, bounds=more)),
                tighter=_solved_again(portfolio, relaxed, replace(rows, bounds=less)),
            )
        )  # fmt: skip
    return tuple(found)


def _with_floor(portfolio: Portfolio, relaxed: Relaxed, step: float) -> float | None:
    tails = tuple((tail, floor + step) for tail, floor in portfolio.tails)
    rows: Rows = replace(relaxed.rows, floors=relaxed.rows.floors + step)
    return _solved_again(replace(portfolio, tails=tails), relaxed, rows)


def _solved_again(portfolio: Portfolio, relaxed: Relaxed, rows: Rows) -> float | None:
    again = relax(portfolio, rows, warm=relaxed.selections)
    return None if again is None else again.answer.value - relaxed.answer.value
