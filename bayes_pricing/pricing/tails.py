"""Kernels of the grid engine: what the worst draws lose at a price, found without looking at all of them.

The change of money :math:`q_0 (v(p) r^{\\varepsilon} - v(p_0))` is monotone in the elasticity but for today's units
:math:`q_0`. The draws of the most adverse elasticities give an upper bound on the boundary of the tail, and the range
of today's units turns it into an elasticity beyond which no draw can lose that much: a few hundred exponentials where
there would be thousands, and the same answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

WIDENED = 1e-9
"""Relative distance by which the elasticity that bounds the search is moved outwards: rounding drops no draw."""
DRAWS_AT_ONCE = 512
"""Draws whose working numbers stay in the processor's first cache."""


@nb.njit(cache=True, nogil=True, error_model="numpy")
def _lowest(
    elasticity: Floats,
    ordered: Floats,
    units: Floats,
    log_ratio: float,
    worth: float,
    today: float,
    count: int,
    found: Floats,
) -> int:  # pragma: no cover - compiled
    """Fill `found` with changes, the `count` lowest of all draws among them; returns how many."""
    draws = elasticity.size
    extra = worth - today
    smallest, largest = np.inf, 0.0
    for draw in range(draws):
        smallest, largest = min(smallest, units[draw]), max(largest, units[draw])
    if worth == 0.0 or 2 * count > draws or not smallest > 0.0:
        for draw in range(draws):
            found[draw] = units[draw] * (math.expm1(elasticity[draw] * log_ratio) * worth + extra)
        return draws
    low = (log_ratio > 0.0) == (worth > 0.0)
    sign = 1.0 if low else -1.0  # from here on the most adverse elasticities times the sign are the lowest
    edge = sign * (ordered[count - 1] if low else ordered[draws - count])
    filled, top = 0, -np.inf
    for draw in range(draws):
        if sign * elasticity[draw] <= edge:
            change = units[draw] * (math.expm1(elasticity[draw] * log_ratio) * worth + extra)
            found[filled] = change
            filled += 1
            top = max(top, change)
    ratio = (top / (largest if top < 0.0 else smallest) + today) / worth
    if ratio <= 0.0:
        if worth > 0.0:
            return filled
        limit = np.inf
    else:
        limit = sign * math.log(ratio) / log_ratio
        limit += WIDENED * (1.0 + abs(limit))
    for draw in range(draws):
        if edge < sign * elasticity[draw] <= limit:
            change = units[draw] * (math.expm1(elasticity[draw] * log_ratio) * worth + extra)
            if change <= top:
                found[filled] = change
                filled += 1
    return filled


@nb.njit(cache=True, nogil=True)
def _select(values: Floats, size: int, place: int) -> None:  # pragma: no cover - compiled
    """Move the `place` + 1 lowest of the first `size` values to the front, the largest of them last (Hoare 1961)."""
    left, right = 0, size - 1
    while left < right:
        pivot = values[(left + right) // 2]
        low, high = left, right
        while low <= high:
            while values[low] < pivot:
                low += 1
            while values[high] > pivot:
                high -= 1
            if low <= high:
                values[low], values[high] = values[high], values[low]
                low += 1
                high -= 1
        if place <= high:
            right = high
        elif place >= low:
            left = low
        else:
            return


@nb.njit(cache=True, nogil=True)
def _lowest_of_pairs(
    elasticity: Floats, ordered: Floats, units: Floats, row: Places, money: Floats, count: int
) -> Floats:  # pragma: no cover - compiled
    """The `count` lowest changes of every pair, the largest of them last, array (n, count)."""
    draws = elasticity.shape[1]
    buffer, result = np.empty(draws), np.empty((row.size, count))
    for pair in range(row.size):
        item, log_ratio, worth, today = row[pair], money[pair, 0], money[pair, 1], money[pair, 2]
        if math.isnan(worth):
            result[pair] = np.nan
            continue
        filled = _lowest(elasticity[item], ordered[item], units[item], log_ratio, worth, today, count, buffer)
        _select(buffer, filled, count - 1)
        result[pair] = buffer[:count]
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prospects:
    """(Item, price) pairs and the draws that tell what they bring.

    Attributes
    ----------
    elasticity, ordered, units : array (J, S)
        Elasticities, the same in ascending order, and units per period at today's price.
    row : array of int (n,)
        Item of every pair.
    money : array (n, 3)
        Log of the price over today's, worth of a unit at it and at today's.
    """

    elasticity: Floats
    ordered: Floats
    units: Floats
    row: Places
    money: Floats

    def lowest(self, count: int) -> Floats:
        """The `count` lowest changes of money of every pair, the largest of them last, (n, count); NaN if unknown."""
        elasticity = np.ascontiguousarray(self.elasticity)
        found: Floats = _lowest_of_pairs(elasticity, self.ordered, self.units, self.row, self.money, count)
        return found

    def tail_mean(self, share: float) -> Floats:
        """Mean change over the worst `share` of draws, the boundary draw with its fraction of weight, array (n,)."""
        draws = self.elasticity.shape[1]
        count = round(share * draws, 9)
        whole = min(int(count), draws - 1)
        lowest = self.lowest(whole + 1)
        total = lowest[:, :whole].sum(axis=1) + (count - whole) * lowest[:, whole]
        return np.asarray(total / count, dtype=np.float64)

    def quantile(self, probability: float) -> Floats:
        """Quantile of the change, linear between draws, array (n,)."""
        draws = self.elasticity.shape[1]
        place = probability * (draws - 1)
        below = min(int(place), draws - 2)
        lowest = self.lowest(below + 2)
        left, right = lowest[:, :-1].max(axis=1), lowest[:, -1]
        return np.asarray(left + (right - left) * (place - below), dtype=np.float64)


@nb.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def geometric_sums(units: Floats, step: Floats, columns: int) -> Floats:  # pragma: no cover - compiled
    """Sums over draws of units that grow by `step` from one column to the next, array (J, columns); units are spent."""
    sums = np.zeros((units.shape[0], columns))
    for item in range(units.shape[0]):
        for start in range(0, units.shape[1], DRAWS_AT_ONCE):
            now = units[item, start : start + DRAWS_AT_ONCE]
            grow = step[item, start : start + DRAWS_AT_ONCE]
            for column in range(columns):
                total = 0.0
                for draw in range(now.size):
                    total += now[draw]
                    now[draw] *= grow[draw]
                sums[item, column] += total
    return sums


@nb.njit(cache=True, nogil=True)
def _place(ascending: Floats, size: int, value: float) -> int:  # pragma: no cover - compiled
    """How many of the first `size` ascending numbers are below a value."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if ascending[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@nb.njit(cache=True, nogil=True)
def count_below(ordered: Floats, thresholds: Floats) -> Floats:  # pragma: no cover - compiled
    """How many of each row's ascending numbers (J, S) are below each of its thresholds (J, K), array (J, K)."""
    found = np.empty(thresholds.shape)
    for row in range(thresholds.shape[0]):
        for column in range(thresholds.shape[1]):
            found[row, column] = _place(ordered[row], ordered.shape[1], thresholds[row, column])
    return found


@nb.njit(cache=True, nogil=True, error_model="numpy")
def means_of_best(
    elasticity: Floats, units: Floats, prices: Floats, facts: Floats
) -> Floats:  # pragma: no cover - compiled
    r"""Mean over draws of the change at the price that is best on the draw, array (J,).

    Of two neighbouring prices the higher is better on a draw where its elasticity is above
    :math:`-\log(v_{k+1} / v_k) / (L_{k+1} - L_k)`; these thresholds rise with the price, so one search per draw finds
    its best price.

    Parameters
    ----------
    elasticity, units : array (J, S)
        Units per period at today's price.
    prices : array (J, K)
        Prices to choose from, ascending, infinite where there are no more; one at least.
    facts : array (J, 3)
        Today's price, the share of a price that is kept, and what a unit costs.
    """
    found = np.empty(prices.shape[0])
    worth, log_ratio, thresholds = np.empty(prices.shape[1]), np.empty(prices.shape[1]), np.empty(prices.shape[1])
    for row in range(prices.shape[0]):
        current, kept, charge = facts[row, 0], facts[row, 1], facts[row, 2]
        count, last = 0, 0.0
        for price in prices[row]:
            if price <= last * (1.0 + 1e-12) or not price < np.inf:
                continue
            last = price
            if count > 0 and not worth[count - 1] > 0.0:
                count -= 1  # a price that earns nothing a unit gives way to a higher one
            worth[count], log_ratio[count] = kept * price - charge, math.log(price / current)
            if count > 0:
                thresholds[count - 1] = -math.log(worth[count] / worth[count - 1]) / (
                    log_ratio[count] - log_ratio[count - 1]
                )
            count += 1
        today, total = kept * current - charge, 0.0
        for draw in range(elasticity.shape[1]):
            best = _place(thresholds, count - 1, elasticity[row, draw])
            grown = math.expm1(elasticity[row, draw] * log_ratio[best])
            total += units[row, draw] * (grown * worth[best] + (worth[best] - today))
        found[row] = total / elasticity.shape[1]
    return found
