"""The relaxed programme of many choosers: a small master over whole answers, and the draws streamed for each cut.

Column generation (Dantzig & Wolfe 1960) with the choosers in a few dozen parcels. Each round the master mixes the
answers found so far so that the rows hold, its multipliers price every option, the best option of every chooser at
those prices is the next answer, and the sum of those best values is an upper bound on anything that keeps the rows.
Where the mix has settled its true tail (or utility) is looked up on the draws, and another cut (or tangent) added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from bayes_pricing.errors import PricingError
from bayes_pricing.pricing.chains import chain_neighbours
from bayes_pricing.pricing.cuts import BROKEN, SETTLED, Relaxed, first_tangent, tightened
from bayes_pricing.pricing.portfolio import Portfolio
from bayes_pricing.pricing.programme import Answer, Prices, Rows, lagrangian_bound, lagrangian_score

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MOST_ROUNDS = 200
PENALTIES = (1e2, 1e4, 1e6)
"""Cost of breaking a scaled row by one, raised where it is still broken when all has settled."""
TAIL_MISSED = 2e-5
"""Relative distance by which a mix may miss a tail: whole prices are held to it exactly afterwards."""
PARCELS = (20, 60)
CHOOSERS_PER_PARCEL = 100


def solve_by_decomposition(
    portfolio: Portfolio, rows: Rows, *, start: Places, warm: Places | None = None
) -> Relaxed | None:
    """Solve the relaxed programme of many choosers; None where no mix of options keeps the rows.

    Parameters
    ----------
    portfolio : Portfolio
    rows : Rows
    start : array (R, U)
        Answers to start from, e.g. today's prices and the best ones item by item.
    warm : array (R, U), optional
        Answers of a similar programme.

    Returns
    -------
    Relaxed or None
    """
    master = _Master(portfolio, first_tangent(portfolio, rows), start if warm is None else np.vstack([start, warm]))
    best, bound = master.free(), np.inf
    penalty = 0
    for _ in range(MOST_ROUNDS):
        mixed = master.solve(PENALTIES[penalty])
        reached = lagrangian_bound(portfolio.options, master.rows, mixed.prices)
        if reached < bound:
            bound, best = reached, mixed.prices
        if bound - mixed.value > SETTLED * max(abs(bound), portfolio.options.scale) and master.grow(mixed.prices):
            continue
        if mixed.broken > BROKEN:
            if penalty + 1 == len(PENALTIES):
                return None
            penalty += 1
            continue
        if not master.tighten(mixed.share, mixed.value):
            break
        best = _widened(best, master.rows)
    answer = Answer(share=mixed.share, value=mixed.value, prices=best)
    return Relaxed(rows=master.rows, answer=answer, bound=bound, selections=master.selections)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Mixed:
    """What the master says: weights of options, its value, multipliers, and by how much a row is broken."""

    share: Floats
    value: float
    prices: Prices
    broken: float


def _widened(prices: Prices, rows: Rows) -> Prices:
    """The same multipliers once cuts or tangents have been added: nothing for the new ones."""
    return replace(
        prices,
        cuts=np.pad(prices.cuts, (0, len(rows.cuts) - prices.cuts.size)),
        goals=np.pad(prices.goals, (0, len(rows.goals) - prices.goals.size)),
    )


class _Master:
    """Answers found so far, summed over parcels of choosers, and the programme that mixes them."""

    def __init__(self, portfolio: Portfolio, rows: Rows, selections: Places) -> None:
        self.portfolio, self.rows = portfolio, rows
        options = portfolio.options
        count = int(np.clip(options.choosers // CHOOSERS_PER_PARCEL, *PARCELS))
        self.parcel = chain_neighbours(options.chains, options.choosers) % count
        self.count = count
        self.columns = rows.matrix.tocsc()
        self.selections = selections
        self.mean = np.stack([self._summed(options.mean[selection]) for selection in selections])
        self.cuts = self._with_new(np.zeros((0, len(selections), count)), rows.cuts)
        self.goals = self._with_new(np.zeros((0, len(selections), count)), rows.goals)
        self.linear = np.stack([self._limited(selection) for selection in selections], axis=1)

    def free(self) -> Prices:
        """Multipliers of rows that cost nothing."""
        goals = len(self.rows.goals)
        return Prices(cuts=np.zeros(len(self.rows.cuts)), rows=np.zeros(self.rows.bounds.size),
                      goals=np.full(goals, 1.0 / max(goals, 1)))  # fmt: skip

    def grow(self, prices: Prices) -> bool:
        """Add the best answer at these multipliers; False where it is known already."""
        score = lagrangian_score(self.portfolio.options, self.rows, prices)
        selection = self.portfolio.options.best(score)
        if (self.selections == selection).all(axis=1).any():
            return False
        self._add(selection)
        return True

    def tighten(self, share: Floats, value: float) -> bool:
        """Look the mix up on the draws and add the cuts and tangents it breaks; False where it breaks none."""
        rows = tightened(self.portfolio, self.rows, share, value, TAIL_MISSED)
        if rows is None:
            return False
        self.cuts = self._with_new(self.cuts, rows.cuts)
        self.goals = self._with_new(self.goals, rows.goals)
        self.rows = rows
        return True

    def _with_new(self, sums: Floats, rows: Floats) -> Floats:
        new = [np.stack([self._summed(row[selection]) for selection in self.selections]) for row in rows[len(sums) :]]
        return np.concatenate([sums, np.stack(new)]) if new else sums

    def _add(self, selection: Places) -> None:
        self.selections = np.vstack([self.selections, selection])
        self.mean = np.vstack([self.mean, self._summed(self.portfolio.options.mean[selection])])
        self.cuts = self._appended(self.cuts, self.rows.cuts[:, selection])
        self.goals = self._appended(self.goals, self.rows.goals[:, selection])
        self.linear = np.concatenate([self.linear, self._limited(selection)[:, None]], axis=1)

    def _appended(self, sums: Floats, rows: Floats) -> Floats:
        new = np.zeros((len(rows), 1, self.count))
        for number, row in enumerate(rows):
            new[number, 0] = self._summed(row)
        return np.concatenate([sums, new], axis=1)

    def _limited(self, selection: Places) -> Floats:
        """What an answer adds to every linear row, by parcel, array (r, parcels)."""
        taken, rows = self.columns[:, selection].tocoo(), self.rows.bounds.size
        place = taken.coords[0] * self.count + self.parcel[taken.coords[1]]
        return np.bincount(place, weights=taken.data, minlength=rows * self.count).reshape(rows, self.count)

    def _summed(self, values: Floats) -> Floats:
        return np.asarray(np.bincount(self.parcel, weights=values, minlength=self.count), dtype=np.float64)

    def solve(self, penalty: float) -> _Mixed:
        """Mix the answers: weights that sum to one in every parcel, broken rows at a cost."""
        rows, scale = self.rows, self.portfolio.options.scale
        cells, cuts, goals, linear = self.mean.size, len(self.cuts), len(self.goals), rows.bounds.size
        slack = cuts + linear
        matrix = np.zeros((cuts + goals + linear, cells + slack + 1))
        matrix[:cuts, :cells] = -self.cuts.reshape(cuts, cells) / scale
        matrix[cuts : cuts + goals, :cells] = -self.goals.reshape(goals, cells) / scale
        matrix[cuts : cuts + goals, -1] = 1.0
        matrix[cuts + goals :, :cells] = self.linear.reshape(linear, cells)
        matrix[:cuts, cells : cells + cuts] = -np.eye(cuts)
        matrix[cuts + goals :, cells + cuts : cells + slack] = -np.eye(linear)
        limit = np.concatenate([-rows.floors / scale, rows.constants / scale, rows.bounds])
        cost = np.concatenate([
            np.zeros(cells) if goals else -self.mean.ravel() / scale, np.full(slack, penalty), [-1.0 if goals else 0.0]
        ])  # fmt: skip
        one_each = np.zeros((self.count, cells + slack + 1))
        one_each[:, :cells] = np.tile(np.eye(self.count), len(self.mean))
        bounds = np.zeros((cells + slack + 1, 2))
        bounds[:-1, 1] = np.inf
        bounds[-1] = (-np.inf, np.inf) if goals else (0.0, 0.0)
        # scipy's stubs know no bounds given as an array
        result = linprog(  # type: ignore[call-overload]
            cost, A_ub=matrix, b_ub=limit, A_eq=one_each, b_eq=np.ones(self.count), bounds=bounds
        )
        if result.x is None:
            raise PricingError(f"HiGHS could not mix the answers of the decomposition: {result.message}")
        dual = np.maximum(-np.asarray(result.ineqlin.marginals, dtype=np.float64), 0.0)
        weight = result.x[:cells].reshape(self.mean.shape)
        aims = dual[cuts : cuts + goals]
        paid = penalty * float(result.x[cells : cells + slack].sum())
        return _Mixed(
            share=self._mixed(weight),
            value=(-float(result.fun) + paid) * scale,
            prices=Prices(cuts=dual[:cuts], rows=dual[cuts + goals :] * scale,
                          goals=aims / aims.sum() if goals else aims),
            broken=float(result.x[cells : cells + slack].max(initial=0.0)),
        )  # fmt: skip

    def _mixed(self, weight: Floats) -> Floats:
        share = np.zeros(self.portfolio.options.mean.size)
        for number, selection in enumerate(self.selections):
            if weight[number].any():
                share[selection] += weight[number][self.parcel]
        return share
