"""A pricing problem: whose prices, on which draws, for which objective, under which limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import DemandDraws, demand_draws, select_items
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.price_curves import PriceCurve
from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.constraints import Limit, Limits, MaxItemShortfall, MaxShortfall, sort_limits
from bayes_pricing.pricing.outlook import Block, ItemFacts, build_block, item_facts
from bayes_pricing.pricing.profit import OBJECTIVES, Economics, Objective
from bayes_pricing.pricing.risk import require_tail
from bayes_pricing.pricing.value_of_information import TestingRule

Floats = NDArray[np.float64]

SMALLEST_MOVE = 1e-6
"""Log-price moves below this are rounding, not changes."""
ITEMS_AT_ONCE = 64
"""Items of one block: their draws stay in the processor's cache."""
ITEMS_FETCHED = 512
MOST_THREADS = 8
LARGEST_MEMORY_BYTES = 1_200_000_000
"""Draws are kept between passes up to this size (in single precision where double does not fit), and asked of the
posterior again beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Problem:
    """Everything an engine needs, checked once; built by :func:`build_problem`.

    Attributes
    ----------
    posterior : DemandPosterior
    table : DataFrame
        Rows of the posterior's item table, sorted by item.
    facts : ItemFacts
    limits : Limits
    objective : {"revenue", "profit", "units"}
    economics : Economics
    horizon_periods : float
    testing : TestingRule or None
    counts : bool
        Sales are counts, so that a single period's noise is at least Poisson.
    draws : DemandDraws or None
        All items' draws where they fit in memory.
    chains, total_draws : int
        Draws run chain by chain.
    period_days : float or None
        Days from one period to the next, where the calendar of the sales is known.
    """

    posterior: DemandPosterior
    table: pl.DataFrame
    facts: ItemFacts
    limits: Limits
    objective: Objective
    economics: Economics
    horizon_periods: float
    testing: TestingRule | None
    counts: bool
    draws: DemandDraws | None
    chains: int
    total_draws: int
    period_days: float | None = None

    @property
    def items(self) -> tuple[str, ...]:
        """Names, sorted."""
        return self.facts.items

    def blocks(self) -> Iterator[tuple[slice, Block]]:
        """Blocks of items in order, each with its place among all items."""
        for start in range(0, len(self.items), ITEMS_FETCHED):
            stop = min(start + ITEMS_FETCHED, len(self.items))
            fetched = self.fetch(slice(start, stop))
            for first in range(start, stop, ITEMS_AT_ONCE):
                where = slice(first, min(first + ITEMS_AT_ONCE, stop))
                yield (
                    where,
                    build_block(self.facts.part(where), fetched.part(slice(where.start - start, where.stop - start))),
                )

    def over_blocks[Result](self, work: Callable[[slice, Block], Result]) -> list[Result]:
        """Do the same work on every block, several at a time where draws are in memory; answers in order of items."""
        if self.draws is None:
            return [work(where, block) for where, block in self.blocks()]
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, MOST_THREADS)) as pool:
            starts = range(0, len(self.items), ITEMS_AT_ONCE)
            return list(pool.map(lambda start: work(*self._block(start)), starts))

    def _block(self, start: int) -> tuple[slice, Block]:
        where = slice(start, min(start + ITEMS_AT_ONCE, len(self.items)))
        return where, build_block(self.facts.part(where), self.fetch(where))

    def fetch(self, where: slice) -> DemandDraws:
        """Joint draws of the items of a slice, kept or asked of the posterior again."""
        return self.stored(where).stored_as(np.float64)

    def stored(self, where: slice) -> DemandDraws:
        """The same as it is kept, perhaps in single precision: for whoever takes a part of it and doubles that."""
        if self.draws is not None:
            return self.draws.part(where)
        return demand_draws(self.posterior, list(self.items[where]))

    def draws_of(self, places: NDArray[np.intp]) -> DemandDraws:
        """Joint draws of some items by position."""
        if self.draws is not None:
            return self.draws.part(places).stored_as(np.float64)
        return demand_draws(self.posterior, [self.items[place] for place in places])


def build_problem(
    posterior: DemandPosterior,
    economics: Economics,
    objective: Objective,
    limits: Sequence[Limit],
    *,
    horizon_periods: float,
    items: Sequence[str] | None = None,
    testing: TestingRule | None = None,
    period_days: float | None = None,
) -> Problem:
    """Check what is asked and gather the facts and, where they fit in memory, the draws.

    Raises
    ------
    SpecError
        For an unknown objective or item, a horizon that is not positive, limits that contradict each other by kind,
        too few draws for a tail that a limit speaks of, or no cost at all where profit is asked for.
    """
    if objective not in OBJECTIVES:
        raise SpecError(f"The objective {objective!r} is unknown; choose {', '.join(OBJECTIVES)}.")
    if not 0 < horizon_periods < float("inf"):
        raise SpecError(f"horizon_periods is {horizon_periods}; give the number of periods prices are meant for.")
    table = select_items(posterior, None if items is None else sorted(items))
    if not table.height:
        raise SpecError("No item is named; name at least one.")
    facts = item_facts(table, economics, objective)
    if objective == "profit" and np.isnan(facts.profit.charge).all():
        raise SpecError("No item has a cost, so its profit is unknown; give Economics.cost, or maximise revenue.")
    sorted_limits = sort_limits(limits)
    draws = _kept_draws(posterior, facts.items)
    sample = demand_draws(posterior, [facts.items[0]]) if draws is None else draws
    for limit in (*sorted_limits.item, sorted_limits.shortfall):
        if isinstance(limit, MaxItemShortfall | MaxShortfall):
            require_tail(sample.elasticity.shape[1], limit.share)
    return Problem(
        posterior=posterior,
        table=table,
        facts=facts,
        limits=sorted_limits,
        objective=objective,
        economics=economics,
        horizon_periods=horizon_periods,
        testing=testing,
        counts=posterior.spec.likelihood != "lognormal",
        draws=draws,
        chains=sample.chains,
        total_draws=sample.elasticity.shape[1],
        period_days=period_days,
    )


def _kept_draws(posterior: DemandPosterior, names: tuple[str, ...]) -> DemandDraws | None:
    """All items' draws: in double precision where they fit, in single where only that fits, else None."""
    first = demand_draws(posterior, list(names[:ITEMS_FETCHED]))
    draws = first.elasticity.shape[1]
    if len(first.items) == len(names):
        return first
    numbers = (2 if first.curve is None else 3) * draws * len(names)
    if 4 * numbers > LARGEST_MEMORY_BYTES:
        return None
    kind = np.float64 if 8 * numbers <= LARGEST_MEMORY_BYTES else np.float32
    log_units, elasticity = np.empty((len(names), draws), dtype=kind), np.empty((len(names), draws), dtype=kind)
    current, smearing = np.empty(len(names)), np.empty(len(names))
    curves: list[PriceCurve] = []
    for start in range(0, len(names), ITEMS_FETCHED):
        where = slice(start, min(start + ITEMS_FETCHED, len(names)))
        part = first if start == 0 else demand_draws(posterior, list(names[where]))
        log_units[where], elasticity[where] = part.log_units_today, part.elasticity
        current[where], smearing[where] = part.current_price, part.log_smearing
        curves += [] if part.curve is None else [part.curve.stored_as(kind)]
    return DemandDraws(
        items=names,
        current_price=current,
        log_units_today=log_units,  # single precision is a store, never computed in
        elasticity=elasticity,
        log_smearing=smearing,
        chains=first.chains,
        curve=curves[0].joined(curves[1:]) if curves else None,
    )
