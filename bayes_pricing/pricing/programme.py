r"""The ladder programme: one price per item, a few rows that couple items, expected shortfall by cuts.

.. math:: \max_x \sum_{jk} \bar D_{jk} x_{jk} \quad \text{s.t.} \quad \sum_k x_{jk} = 1, \;
          \sum_{jk} \Big(\sum_s w^i_s D_{jks}\Big) x_{jk} \ge f, \; \sum_{jk} [k \ne today]\, x_{jk} \le N

with one row per cut i, whose weights w put equal mass on the worst draws of an earlier answer. The textbook programme
with a row per draw (Rockafellar & Uryasev 2000) has the same optimum and does not finish on a few hundred items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SECONDS = 10.0
"""Longest one integer programme may take; what it has found by then is used and its distance from the bound shown."""
INTEGER_GAP = 1e-4
SMALL_PROBLEM = 100
"""Number of ladder prices up to which integer programmes are solved to the last digit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rungs:
    """Every allowed (item, price) pair of a problem, as flat arrays of length n ordered by item.

    Attributes
    ----------
    item : array of int
        Place of the item.
    price : array
    mean : array
        Expected change of the objective per period against today, all draws.
    moved : array of bool
        The price differs from today's.
    items : int
        Number of items J; every item has at least one pair.
    """

    item: NDArray[np.intp]
    price: Floats
    mean: Floats
    moved: Bools
    items: int

    @property
    def starts(self) -> NDArray[np.intp]:
        """First pair of every item."""
        return np.searchsorted(self.item, np.arange(self.items))

    def best(self, score: Floats) -> NDArray[np.intp]:
        """The pair of every item with the highest score, array (J,)."""
        top = np.maximum.reduceat(score, self.starts)
        hit = np.flatnonzero(score >= top[self.item])
        _, first = np.unique(self.item[hit], return_index=True)
        return hit[first]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """The coupling rows of a programme.

    Attributes
    ----------
    cuts : array (m, n)
        Tail mean of every pair under each cut's weights, unit of the objective.
    floor : float
        Lowest tail mean allowed; minus infinity where none is.
    most_changes : float
        Most items that may move; infinity where all may.
    """

    cuts: Floats
    floor: float
    most_changes: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """Solution of a programme.

    Attributes
    ----------
    share : array (n,)
        Weight of every pair, 0 or 1 where integers were asked for.
    value : float
        Objective reached; the tail mean where that was maximised.
    cut_prices : array (m,)
        Multipliers of the cuts, zero or more; empty for integer programmes.
    change_price : float
        Multiplier of the number of changes.
    """

    share: Floats
    value: float
    cut_prices: Floats
    change_price: float


def solve_programme(
    rungs: Rungs, rows: Rows, *, integer: bool, raise_floor: bool = False, free: Bools | None = None
) -> Answer | None:
    """Solve the programme or its relaxation with HiGHS; None where it has no solution.

    Parameters
    ----------
    rungs : Rungs
    rows : Rows
    integer : bool
        One price per item; otherwise items may mix prices, which bounds what they can reach.
    raise_floor : bool
        Maximise the tail mean itself instead of the objective under a floor.
    free : array of bool (n,), optional
        Only these pairs may be chosen; every item must keep one.

    Returns
    -------
    Answer or None
    """
    kept = np.arange(rungs.mean.size) if free is None else np.flatnonzero(free)
    scale = float(np.abs(rungs.mean).sum()) / rungs.items or 1.0
    cost = np.append(np.zeros(kept.size), -1.0) if raise_floor else np.append(-rungs.mean[kept] / scale, 0.0)
    matrix, limit = _coupling_rows(rungs, rows, kept, scale, raise_floor)
    one_each = coo_array(
        (np.ones(kept.size), (rungs.item[kept], np.arange(kept.size))), shape=(rungs.items, kept.size + 1)
    )
    bounds = np.zeros((kept.size + 1, 2))
    bounds[:-1, 1] = 1.0
    bounds[-1] = (-np.inf, np.inf) if raise_floor else (0.0, 0.0)
    gap = INTEGER_GAP if kept.size > SMALL_PROBLEM else 0.0
    # scipy's stubs leave out the sparse matrices that linprog takes
    result = linprog(  # type: ignore[call-overload]
        cost, A_ub=matrix, b_ub=limit, A_eq=csr_array(one_each), b_eq=np.ones(rungs.items), bounds=bounds,
        integrality=np.append(np.ones(kept.size, dtype=np.int64), 0) if integer else None,
        options={"time_limit": SECONDS, "mip_rel_gap": gap} if integer else {},
    )  # fmt: skip
    if result.x is None:
        return None
    share = np.zeros(rungs.mean.size)
    share[kept] = np.round(result.x[:-1]) if integer else result.x[:-1]
    prices = np.zeros(limit.size) if integer else -np.asarray(result.ineqlin.marginals, dtype=np.float64)
    cuts = len(rows.cuts)
    return Answer(
        share=share,
        value=-float(result.fun) * scale,
        cut_prices=np.maximum(prices[:cuts], 0.0),
        change_price=float(max(prices[cuts], 0.0)) * scale if limit.size > cuts else 0.0,
    )


def _coupling_rows(
    rungs: Rungs, rows: Rows, kept: NDArray[np.intp], scale: float, raise_floor: bool
) -> tuple[Floats, Floats]:
    matrix = [np.append(-cut[kept] / scale, 1.0 if raise_floor else 0.0) for cut in rows.cuts]
    limit = [0.0 if raise_floor else -rows.floor / scale] * len(rows.cuts)
    if np.isfinite(rows.most_changes):
        matrix.append(np.append(rungs.moved[kept].astype(np.float64), 0.0))
        limit.append(rows.most_changes)
    if not matrix:
        return np.zeros((0, kept.size + 1)), np.zeros(0)
    return np.stack(matrix), np.array(limit)


def lagrangian_score(rungs: Rungs, rows: Rows, answer: Answer) -> Floats:
    """Worth of every pair at the multipliers: its mean, plus what it adds to each tail, minus the price of a change."""
    score = rungs.mean - answer.change_price * rungs.moved
    return np.asarray(score + answer.cut_prices @ rows.cuts if len(rows.cuts) else score, dtype=np.float64)


def lagrangian_bound(rungs: Rungs, rows: Rows, answer: Answer) -> float:
    r"""Upper bound on the objective of any prices that keep the rows, whatever the multipliers are.

    .. math:: \sum_j \max_k \big(\bar D_{jk} + \sum_i \mu_i c_{ijk} - \nu [k \ne today]\big) - f \sum_i \mu_i + \nu N

    Computed here, not taken from the solver: a solver's mistake can only loosen it.
    """
    bound = float(np.maximum.reduceat(lagrangian_score(rungs, rows, answer), rungs.starts).sum())
    if len(rows.cuts):
        bound -= rows.floor * float(answer.cut_prices.sum())
    if np.isfinite(rows.most_changes):
        bound += answer.change_price * rows.most_changes
    return bound
