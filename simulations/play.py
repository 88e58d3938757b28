"""Playing a market: every policy meets the same weeks, the same luck, and pays for its own prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.strategies import Floats, Shelf
from simulations.markets.arena import Arena
from simulations.policies import Policy, Situation

MONTH_WEEKS = 4
SAME_PRICE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How long a market is played and how often beliefs are formed anew.

    Attributes
    ----------
    weeks : int, at least 4
    review_every : int
        Weeks after which a policy sees its own sales and fits again; 0 never: it plays what it knew at the start.
    seed : int
        Of the luck and of the fits.

    Raises
    ------
    SpecError
        If there are fewer than four weeks.
    """

    weeks: int = 26
    review_every: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.weeks >= MONTH_WEEKS:
            raise SpecError(f"Rules.weeks is {self.weeks}; at least {MONTH_WEEKS} are needed to have a worst month.")
        if not self.review_every >= 0:
            raise SpecError(f"Rules.review_every is {self.review_every}; 0 never reviews, 13 does once a quarter.")


def build_shelf(arena: Arena) -> Shelf:
    """What strategies see of a market's items at the end of its sales."""
    sales = arena.sales()
    means = sales.group_by("item").agg(pl.col("price", "quantity").mean()).sort("item")
    lowest, today, highest = arena.price_range
    usual = means["price"].to_numpy()
    return Shelf(
        items=arena.items,
        category=arena.category,
        unit_cost=arena.unit_cost,
        current_price=today,
        usual_price=usual,
        lowest_price=lowest,
        highest_price=highest,
        units_per_period=means["quantity"].cast(pl.Float64).to_numpy(),
        rival_price=usual,
        period=0,
        age_periods=np.full(len(arena.items), float(sales["period"].n_unique())),
        commission=arena.commission,
    )


def play(arena: Arena, policies: Sequence[Policy], rules: Rules) -> pl.DataFrame:
    """Let every policy price the same weeks with the same luck.

    Parameters
    ----------
    arena : Arena
    policies : sequence of Policy
    rules : Rules

    Returns
    -------
    DataFrame
        One row per policy: ``policy, kind, profit`` (realised, currency per week), ``expected_profit``, ``regret``
        (oracle's expected profit minus this, per week; at least 0), ``regret_share`` (of the oracle's profit),
        ``worst_month`` (lowest realised profit of four weeks in a row, per week) and ``price_changes`` (per item).

    Examples
    --------
    >>> from simulations.markets.retail import simulate_retail
    >>> from simulations.markets.retail_settings import RetailMarketSettings
    >>> from simulations.markets.arena import RetailArena
    >>> from simulations.policies import FixedPrices, Oracle
    >>> arena = RetailArena(market=simulate_retail(RetailMarketSettings(), seed=1))
    >>> table = play(arena, [FixedPrices(), Oracle()], Rules(weeks=8))
    >>> bool(table["regret"][0] > table["regret"][1]), table["price_changes"][0]
    (True, 0.0)
    """
    luck = np.random.default_rng([rules.seed, 7]).standard_normal((rules.weeks, len(arena.items)))
    shelf = build_shelf(arena)
    best = np.array([_profit(arena, arena.best_prices(week), week).sum() for week in range(1, rules.weeks + 1)])
    return pl.DataFrame([_play_one(arena, policy, rules, shelf, luck, best) for policy in policies])


def _profit(arena: Arena, prices: Floats, ahead: int) -> Floats:
    """Expected profit of every item."""
    margin = (1 - arena.commission) * prices - arena.unit_cost
    return arena.expected_units(prices, ahead) * margin


def _play_one(
    arena: Arena, policy: Policy, rules: Rules, shelf: Shelf, luck: Floats, best: Floats
) -> dict[str, str | float]:
    known, review = arena.sales(), 0
    own_weeks: list[pl.DataFrame] = []
    expected, realised, changes, before = np.empty(rules.weeks), np.empty(rules.weeks), 0, shelf.current_price
    for week in range(rules.weeks):
        if rules.review_every and week and week % rules.review_every == 0:
            known, own_weeks, review = pl.concat([known, *own_weeks]), [], review + 1
        situation = Situation(
            arena=arena,
            sales=known,
            shelf=replace(shelf, period=week, age_periods=shelf.age_periods + week),
            ahead=week + 1,
            review=review,
            seed=rules.seed,
        )
        prices = policy.prices(situation)
        units = arena.draw_units(arena.expected_units(prices, week + 1), luck[week])
        expected[week] = _profit(arena, prices, week + 1).sum()
        realised[week] = (units * ((1 - arena.commission) * prices - arena.unit_cost)).sum()
        changes += int((np.abs(prices / before - 1) > SAME_PRICE).sum())
        before = prices
        if rules.review_every:
            own_weeks.append(_week_of_sales(arena, known, prices, units, week + 1))
    months = np.convolve(realised, np.ones(MONTH_WEEKS) / MONTH_WEEKS, mode="valid")
    return {
        "policy": policy.name,
        "kind": policy.kind,
        "profit": float(realised.mean()),
        "expected_profit": float(expected.mean()),
        "regret": float((best - expected).mean()),
        "regret_share": float((best - expected).sum() / best.sum()),
        "worst_month": float(months.min()),
        "price_changes": changes / len(shelf.items),
    }


def _week_of_sales(arena: Arena, known: pl.DataFrame, prices: Floats, units: Floats, ahead: int) -> pl.DataFrame:
    """A week's rows in the form of the sales before it: last values of what does not change."""
    last = known.group_by("item", maintain_order=True).last().sort("item")
    return last.with_columns(
        pl.lit(arena.period(ahead)).alias("period").cast(known.schema["period"]),
        pl.Series("price", prices),
        pl.Series("quantity", units).cast(known.schema["quantity"]),
    ).select(known.columns)
