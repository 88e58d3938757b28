"""Prices that may not fall from one tier to the next: exact search along a chain, and the same as rows."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

SLACK = 1e-9
"""Relative tolerance within which a price stands on its neighbour's, not below it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chains:
    """Choosers in order, the cheapest first; a chooser stands in one chain at most.

    Attributes
    ----------
    members : array of int
        Choosers of all chains, one chain after the other.
    starts : array of int (chains + 1,)
        Where each chain begins among the members.
    options, ends : arrays of int
        Options of every member in ascending order of price, and where each member's end.
    prices : array
        Prices of those options.
    step : float
        Least rise from one member to the next, as a share of the lower price.
    """

    members: Places
    starts: Places
    options: Places
    ends: Places
    prices: Floats
    step: float

    @property
    def count(self) -> int:
        """Number of chains."""
        return self.starts.size - 1

    def each(self) -> list[Places]:
        """Choosers of every chain."""
        return [self.members[first:last] for first, last in zip(self.starts[:-1], self.starts[1:], strict=True)]


def build_chains(tiers: list[list[int]], chooser: Places, price: Floats, step: float) -> Chains:
    """Lay chains of choosers out flat.

    Parameters
    ----------
    tiers : list of list of int
        Choosers of each chain, the cheapest first.
    chooser, price : arrays (n,)
        Chooser of every option, ascending, and its price.
    step : float

    Examples
    --------
    >>> chains = build_chains([[1, 0]], np.array([0, 0, 1, 1]), np.array([5.0, 4.0, 6.0, 3.0]), 0.0)
    >>> chains.options.tolist()
    [3, 2, 1, 0]
    """
    members = np.array([member for chain in tiers for member in chain], dtype=np.intp)
    first = np.searchsorted(chooser, members)
    last = np.searchsorted(chooser, members, side="right")
    rows = [
        np.arange(start, stop)[np.argsort(price[start:stop], kind="stable")]
        for start, stop in zip(first, last, strict=True)
    ]
    options = np.concatenate(rows) if rows else np.zeros(0, dtype=np.intp)
    return Chains(
        members=members,
        starts=np.cumsum([0, *(len(chain) for chain in tiers)]).astype(np.intp),
        options=options,
        ends=np.cumsum([len(row) for row in rows]).astype(np.intp),
        prices=price[options],
        step=step,
    )


def best_on_chains(chains: Chains, score: Floats, best: Places) -> Places:
    """Best options of all choosers: `best` where they stand alone, along chains by dynamic programming.

    A chain without any order of options that keeps it has its members' last options left at minus one.
    """
    found = best.copy()
    found[chains.members] = _search(
        score[chains.options], chains.prices, chains.options, chains.starts, chains.ends, 1.0 + chains.step
    )
    return found


@nb.njit(cache=True, nogil=True)
def _search(
    score: Floats, price: Floats, option: Places, starts: Places, ends: Places, rise: float
) -> Places:  # pragma: no cover - compiled
    chosen = np.full(ends.size, -1, dtype=np.intp)
    best = np.empty(score.size)
    back = np.full(score.size, -1, dtype=np.intp)
    for chain in range(starts.size - 1):
        for member in range(starts[chain], starts[chain + 1]):
            low = 0 if member == 0 else ends[member - 1]
            if member == starts[chain]:
                best[low : ends[member]] = score[low : ends[member]]
                continue
            reach = 0 if member == 1 else ends[member - 2]
            top, source = -np.inf, -1
            for here in range(low, ends[member]):
                while reach < low and price[reach] * rise <= price[here] * (1.0 + SLACK):
                    if best[reach] > top:
                        top, source = best[reach], reach
                    reach += 1
                best[here], back[here] = top + score[here], source
        last = starts[chain + 1] - 1
        place = -1
        top = -np.inf
        for here in range(0 if last == 0 else ends[last - 1], ends[last]):
            if best[here] > top:
                top, place = best[here], here
        for member in range(last, starts[chain] - 1, -1):
            if place < 0:
                break
            chosen[member] = option[place]
            place = back[place]
    return chosen


def chain_rows(chains: Chains, price: Floats, starts: Places, chooser: Places, kept: Places) -> csr_array:
    """The same order as rows over the options kept: whoever is at a price or above pushes the next one up.

    Returns
    -------
    csr_array (rows, kept + 1), each sum at most 0
    """
    ends = np.append(starts[1:], chooser.size)
    place = np.full(chooser.size, -1, dtype=np.intp)
    place[kept] = np.arange(kept.size)
    row, column, value, count = [], [], [], 0
    for members in chains.each():
        for lower, upper in pairwise(members):
            below = np.arange(starts[lower], ends[lower])
            above = np.arange(starts[upper], ends[upper])
            below, above = below[place[below] >= 0], above[place[above] >= 0]
            for price_here in np.unique(price[below]):
                push = below[price[below] >= price_here]
                room = above[price[above] * (1.0 + SLACK) >= price_here * (1.0 + chains.step)]
                row.append(np.full(push.size + room.size, count))
                column += [place[push], place[room]]
                value.append(np.repeat([1.0, -1.0], [push.size, room.size]))
                count += 1
    return csr_array(
        (np.concatenate(value), (np.concatenate(row), np.concatenate(column))), shape=(count, kept.size + 1)
    )


def chain_neighbours(chains: Chains, choosers: int) -> Places:
    """Label of every chooser's chain, array (U,); choosers outside chains have labels of their own."""
    label = np.arange(choosers) + chains.count
    for number, members in enumerate(chains.each()):
        label[members] = number
    return label
