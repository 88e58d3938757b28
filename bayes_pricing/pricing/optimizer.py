"""The one entry to price decisions: best prices under limits, or a score for somebody's own prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bayes_pricing.demand.forecast import select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.assembling import assemble
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.coupled import solve_coupled
from bayes_pricing.pricing.crossed import evaluate_crossed, optimize_crossed
from bayes_pricing.pricing.crossed_blocks import prices_cross
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.functionals import ExponentialUtility
from bayes_pricing.pricing.judging import Judged, judge_given, judge_items
from bayes_pricing.pricing.ladder import GRID_POINTS
from bayes_pricing.pricing.problem import build_problem
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.solution import Solution
from bayes_pricing.pricing.value_of_information import TestingRule

DEFAULT_TESTING = TestingRule()
WITHDRAWN_SHARE = 0.1


def optimize_prices(
    posterior: DemandPosterior,
    economics: Economics,
    objective: Objective,
    limits: Sequence[Limit] = (),
    *,
    horizon_periods: float,
    seed: int,
    items: Sequence[str] | None = None,
    testing: TestingRule | None = DEFAULT_TESTING,
    utility: ExponentialUtility | None = None,
    period_days: float | None = None,
) -> PriceDecision:
    """Prices that are expected to earn most under the limits, with their worth, their risk and how good they can be.

    Every alternative is scored on the same posterior draws as its change against today's prices, so keeping them
    scores exactly 0 and is always a choice where they meet the limits themselves. The engine is picked by the
    problem and named in the answer.

    Parameters
    ----------
    posterior : DemandPosterior
    economics : Economics
    objective : {"profit", "revenue", "units"}
    limits : sequence of Limit
        No price outside the observed ones unless a `Support` says otherwise.
    horizon_periods : float
        Periods the prices are meant for: what a test's answer can still earn, and when the decision goes stale.
    seed : int
        Splits the draws in two where a portfolio risk limit is enforced on one half and checked on the other.
    items : sequence of str, optional
        When left out, all that are still sold when the data end; a finding names the others.
    testing : TestingRule or None
        When an item is to be tested first; None never asks for a test.
    utility : ExponentialUtility, optional
        Maximise the certainty equivalent of the whole portfolio's change instead of its mean.
    period_days : float, optional
        Days from one period to the next, for the day the decision goes stale; left out, the median spacing of an
        item's rows.

    Returns
    -------
    PriceDecision

    Raises
    ------
    SpecError
        For options that make no sense.
    Refusal
        If portfolio limits cannot be met by any allowed prices; the findings name the conflicting ones and the largest
        attainable floors.
    """
    gone: tuple[Finding, ...] = ()
    if items is None:
        items, gone = on_sale(posterior)
    problem = build_problem(
        posterior, economics, objective, limits, horizon_periods=horizon_periods, items=items, testing=testing,
        period_days=period_days,
    )  # fmt: skip
    if prices_cross(problem):
        decision = optimize_crossed(problem, seed=seed, functional=utility)
        return replace(decision, findings=(*decision.findings, *gone))
    judged = judge_items(problem)
    solution = _separable(judged)
    if problem.limits.couples or utility is not None:
        solution = solve_coupled(problem, judged, solution, seed=seed, functional=utility)
    decision = assemble(problem, judged, solution, seed=seed)
    return replace(decision, findings=(*decision.findings, *gone))


def _separable(judged: Judged) -> Solution:
    bound = float(np.where(judged.pinned, 0.0, judged.expected_change).sum())
    return Solution(
        prices=judged.kept_prices,
        upper_bound=bound,
        certificate=f"every one of {GRID_POINTS} grid prices or ladder rungs an item, refined around the best",
        engine="grid",
    )


def on_sale(posterior: DemandPosterior) -> tuple[list[str] | None, tuple[Finding, ...]]:
    """Items still sold when the data end (None for all of them), and a finding that names those that are not.

    An item counts as withdrawn where its last row lies further before the last period of all than a tenth of the time
    the data span.
    """
    table = posterior.items.select("item", "first_period", "last_period")
    if table["last_period"].null_count():
        return None, ()
    first, last = (table[name].to_physical().to_numpy() for name in ("first_period", "last_period"))
    gone = last.max() - last > WITHDRAWN_SHARE * (last.max() - first.min())
    names = table["item"].to_numpy()
    if not gone.any():
        return None, ()
    shown = ", ".join(repr(str(name)) for name in names[gone][:3])
    finding = Finding(
        code="not_on_sale",
        severity="warning",
        message=f"{int(gone.sum())} items had stopped selling well before the data end, e.g. {shown}",
        remedy="no price is given for them; name them among the items where they are still sold",
    )
    return [str(name) for name in names[~gone]], (finding,)


def evaluate_prices(
    posterior: DemandPosterior,
    economics: Economics,
    objective: Objective,
    limits: Sequence[Limit] = (),
    *,
    prices: Mapping[str, float],
    horizon_periods: float,
    seed: int,
    utility: ExponentialUtility | None = None,
    period_days: float | None = None,
) -> PriceDecision:
    """Score somebody's own prices on the same footing: what they earn, which limits they break, how far from the bound.

    Parameters
    ----------
    posterior, economics, objective, limits, horizon_periods, seed, utility, period_days
        As for :func:`optimize_prices`; with a utility the objective is the certainty equivalent of these prices.
    prices : mapping of item to float
        Currency per unit; items not named keep today's price.

    Returns
    -------
    PriceDecision
        Actions are `change` and `hold`; every limit a price breaks is a finding of its item, and `feasible` is false
        then. The bound is that of the best allowed prices.

    Raises
    ------
    SpecError
        For a price that is not positive, an unknown item, or options that make no sense.
    """
    bad = [item for item, price in prices.items() if not 0 < price < float("inf")]
    if bad:
        raise SpecError(f"The price of {bad[0]!r} is {prices[bad[0]]}; prices must be positive ({len(bad)} are not).")
    select_items(posterior, list(prices))
    problem = build_problem(
        posterior, economics, objective, limits, horizon_periods=horizon_periods, period_days=period_days
    )
    if prices_cross(problem):
        today = problem.facts.current_price
        own = np.array([prices.get(item, price) for item, price in zip(problem.items, today, strict=True)])
        return evaluate_crossed(problem, own, seed=seed, functional=utility)
    judged = judge_items(problem)
    best = _separable(judged)
    findings: tuple[Finding, ...] = ()
    if problem.limits.couples or utility is not None:
        try:
            best = solve_coupled(problem, judged, best, seed=seed, functional=utility)
        except Refusal as refusal:
            findings = refusal.findings
    today = problem.facts.current_price
    given = np.array([prices.get(item, price) for item, price in zip(problem.items, today, strict=True)])
    solution = Solution(
        prices=given,
        upper_bound=best.upper_bound,
        certificate=f"bound of the best allowed prices: {best.certificate}",
        engine="given prices",
        worth=utility,
    )
    none = np.zeros(len(given), dtype=np.bool_)
    scored = replace(judged, refused=none, test_first=none, findings=judge_given(problem, given))
    return assemble(problem, scored, solution, seed=seed, findings=findings)
