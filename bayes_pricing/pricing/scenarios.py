"""Money of many (item, price) pairs on the joint draws, streamed over the items so that no array grows with both."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import DemandDraws
from bayes_pricing.pricing.portfolio_limits import Pairs
from bayes_pricing.pricing.problem import ITEMS_FETCHED, MOST_THREADS, Problem

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

NUMBERS_AT_ONCE = 128_000
"""Numbers of one working array: a megabyte stays in the processor's cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scenarios:
    """Pairs of a problem and the draws they are judged on."""

    problem: Problem
    pairs: Pairs

    def total(self, weight: Floats) -> Floats:
        """Change of the whole portfolio per draw when pairs have these weights, array (S,)."""
        used = np.flatnonzero((weight != 0) & self.pairs.moved)

        def work(draws: DemandDraws, chosen: Places, place: Places) -> Floats:
            total = np.zeros(self.problem.total_draws)
            step = max(NUMBERS_AT_ONCE // total.size, 1)
            for start in range(0, chosen.size, step):
                part = slice(start, start + step)
                total += weight[chosen[part]] @ self._change(draws, chosen[part], place[part], slice(None))
            return total

        return np.asarray(sum(self._over_items(used, work), start=np.zeros(self.problem.total_draws)))

    def means(self, weights: Floats, among: Places | None = None) -> Floats:
        """Mean change of every pair over weighted draws, array (n,); pairs outside `among` have 0."""
        drawn = np.flatnonzero(weights)
        moved = np.flatnonzero(self.pairs.moved) if among is None else among[self.pairs.moved[among]]
        found = np.zeros(self.pairs.item.size)

        def work(draws: DemandDraws, chosen: Places, place: Places) -> Floats:
            step = max(NUMBERS_AT_ONCE // drawn.size, 1)
            for start in range(0, chosen.size, step):
                part = slice(start, start + step)
                found[chosen[part]] = self._change(draws, chosen[part], place[part], drawn) @ weights[drawn]
            return found

        self._over_items(moved, work)
        return found

    def _change(self, draws: DemandDraws, chosen: Places, place: Places, drawn: Places | slice) -> Floats:
        facts, item = self.problem.facts, self.pairs.item[chosen]
        value = facts.value.part(item)
        near = slice(place[0], place[-1] + 1)
        within = place - place[0]
        log_ratio = np.log(self.pairs.price[chosen] / facts.current_price[item])
        if draws.curve is None:
            change = draws.elasticity[near, drawn].astype(np.float64)[within]
            change *= log_ratio[:, None]
        else:
            change = draws.part(near).on(drawn).part(within).stored_as(np.float64).log_growth(log_ratio)
        np.exp(change, out=change)
        change *= value.at(self.pairs.price[chosen])[:, None]
        change -= value.at(facts.current_price[item])[:, None]
        change *= np.exp(draws.log_units_today[near, drawn].astype(np.float64))[within]
        return np.asarray(change, dtype=np.float64)

    def _over_items(self, places: Places, work: Callable[[DemandDraws, Places, Places], Floats]) -> list[Floats]:
        """Do the same work on the pairs of every few items, several at a time."""
        items = self.pairs.item[places]
        spans = [(start, min(start + ITEMS_FETCHED, len(self.problem.items)))
                 for start in range(0, len(self.problem.items), ITEMS_FETCHED)]  # fmt: skip

        def one(span: tuple[int, int]) -> Floats | None:
            first, last = np.searchsorted(items, span)
            if first == last:
                return None
            return work(self.problem.stored(slice(*span)), places[first:last], items[first:last] - span[0])

        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, MOST_THREADS)) as pool:
            return [result for result in pool.map(one, spans) if result is not None]
