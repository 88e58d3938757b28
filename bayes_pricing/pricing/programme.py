r"""The ladder programme: one price per chooser, a few rows that couple choosers, risk and utility by cuts.

.. math:: \max_x \; \min_g (\gamma_g + \sum_o G_{go} x_o) \quad \text{s.t.} \quad \sum_{o \in u} x_o = 1, \;
          \sum_o C_{io} x_o \ge f_i, \; \sum_o A_{ro} x_o \le b_r

A chooser is an item, or a group of items with one price in common; an option is one of its prices. Each cut :math:`C_i`
puts equal weight on the worst draws of an earlier answer; each goal :math:`G_g` is the objective itself or, where it is
concave (a utility, a tail mean), its tangent at an earlier answer. The textbook programme with a row per draw
(Rockafellar & Uryasev 2000) has the same optimum and does not finish on a few hundred items.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array, csr_array, vstack

from bayes_pricing.pricing.chains import Chains, best_on_chains, build_chains, chain_rows

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Places = NDArray[np.intp]

SECONDS = 5.0
"""Longest one integer programme may take; what it has found by then is used and its distance from the bound shown."""
INTEGER_GAP = 1e-4
SMALL_PROBLEM = 100
"""Number of options up to which integer programmes are solved to the last digit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Options:
    """Every option of every chooser, as flat arrays of length n ordered by chooser.

    Attributes
    ----------
    chooser : array of int
        Place of the chooser, 0 to U - 1; every chooser has at least one option.
    price : array
        Currency per unit.
    mean : array
        Expected change of the objective per period against today.
    choosers : int
        Number of choosers U.
    chains : Chains
        Choosers whose prices may not fall from one to the next.
    starts : array (U,)
        First option of every chooser.
    scale : float
        Mean absolute size of `mean` per chooser: money divided by it is of order one.
    """

    chooser: Places
    price: Floats
    mean: Floats
    choosers: int
    chains: Chains
    starts: Places = field(init=False)
    scale: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", np.searchsorted(self.chooser, np.arange(self.choosers)))
        object.__setattr__(self, "scale", float(np.abs(self.mean).sum()) / max(self.choosers, 1) or 1.0)

    def part(self, kept: Bools) -> Options:
        """The choosers and options kept, choosers numbered anew; a chain is kept whole or not at all."""
        _, chooser = np.unique(self.chooser[kept], return_inverse=True)
        place = np.full(self.choosers, -1, dtype=np.intp)
        place[self.chooser[kept]] = chooser
        tiers = [place[chain].tolist() for chain in self.chains.each() if place[chain[0]] >= 0]
        price = self.price[kept]
        return Options(
            chooser=chooser.astype(np.intp), price=price, mean=self.mean[kept], choosers=int((place >= 0).sum()),
            chains=build_chains(tiers, chooser, price, self.chains.step),
        )  # fmt: skip

    def best(self, score: Floats) -> Places:
        """The option of every chooser that together have the highest score, chains kept, array (U,)."""
        top = np.maximum.reduceat(score, self.starts)
        hit = np.flatnonzero(score >= top[self.chooser])
        first = np.ones(hit.size, dtype=np.bool_)
        first[1:] = np.diff(self.chooser[hit]) > 0
        best = hit[first]
        return best_on_chains(self.chains, score, best) if self.chains.count else best


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """What couples the choosers, as rows over options.

    Attributes
    ----------
    cuts : array (m, n)
        Tail mean of every option under each cut's weights, unit of the objective.
    floors : array (m,)
        Lowest tail mean that each cut allows.
    tails : array of int (m,)
        Which of the portfolio's tails each cut belongs to.
    matrix : csr_array (r, n)
        Coefficients of the linear limits.
    bounds : array (r,)
        Their highest sums.
    goals : array (g, n), constants : array (g,)
        Tangents of a concave objective; none where the objective is the mean of the options.
    """

    cuts: Floats
    floors: Floats
    tails: Places
    matrix: csr_array
    bounds: Floats
    goals: Floats
    constants: Floats

    def with_cut(self, cut: Floats, floor: float, tail: int) -> Rows:
        """The same with one cut more."""
        return replace(
            self, cuts=np.vstack([self.cuts, cut]), floors=np.append(self.floors, floor),
            tails=np.append(self.tails, tail),
        )  # fmt: skip

    def with_goal(self, goal: Floats, constant: float) -> Rows:
        """The same with one tangent of the objective more."""
        return replace(self, goals=np.vstack([self.goals, goal]), constants=np.append(self.constants, constant))

    def part(self, kept: Places) -> Rows:
        """The same over some of the options."""
        return replace(self, cuts=self.cuts[:, kept], goals=self.goals[:, kept], matrix=self.matrix[:, kept])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prices:
    """Multipliers of a programme's rows, zero or more; those of the goals sum to 1 where there are any."""

    cuts: Floats
    rows: Floats
    goals: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """Solution of a programme.

    Attributes
    ----------
    share : array (n,)
        Weight of every option, 0 or 1 where integers were asked for.
    value : float
        Objective reached by the programme's own rows.
    prices : Prices
        Multipliers; all zero for integer programmes.
    """

    share: Floats
    value: float
    prices: Prices


def solve_programme(
    options: Options, rows: Rows, *, integer: bool, free: Bools | None = None, gap: float = INTEGER_GAP
) -> Answer | None:
    """Solve the programme or its relaxation with HiGHS; None where it has no solution.

    Parameters
    ----------
    options : Options
    rows : Rows
    integer : bool
        One option per chooser; otherwise choosers may mix options, which bounds what they can reach.
    free : array of bool (n,), optional
        Only these options may be taken; every chooser must keep one.
    gap : float
        Relative distance from its best answer at which an integer programme may stop, unless it is a small one.

    Returns
    -------
    Answer or None
    """
    kept = np.arange(options.mean.size) if free is None else np.flatnonzero(free)
    aim = len(rows.goals) > 0
    cost = np.append(np.zeros(kept.size) if aim else -options.mean[kept] / options.scale, -1.0 if aim else 0.0)
    matrix, limit = _matrix(options, rows.part(kept), kept)
    one_each = coo_array(
        (np.ones(kept.size), (options.chooser[kept], np.arange(kept.size))), shape=(options.choosers, kept.size + 1)
    )
    bounds = np.zeros((kept.size + 1, 2))
    bounds[:-1, 1] = 1.0
    bounds[-1] = (-np.inf, np.inf) if aim else (0.0, 0.0)
    gap = gap if kept.size > SMALL_PROBLEM else 0.0
    # scipy's stubs leave out the sparse matrices that linprog takes
    result = linprog(  # type: ignore[call-overload]
        cost, A_ub=matrix, b_ub=limit, A_eq=csr_array(one_each), b_eq=np.ones(options.choosers), bounds=bounds,
        integrality=np.append(np.ones(kept.size, dtype=np.int64), 0) if integer else None,
        options={"time_limit": SECONDS, "mip_rel_gap": gap} if integer else {},
    )  # fmt: skip
    if result.x is None:
        return None
    share = np.zeros(options.mean.size)
    share[kept] = np.round(result.x[:-1]) if integer else result.x[:-1]
    dual = np.zeros(limit.size) if integer else np.maximum(-np.asarray(result.ineqlin.marginals, dtype=np.float64), 0.0)
    return Answer(share=share, value=-float(result.fun) * options.scale, prices=_prices(options, rows, dual))


def _prices(options: Options, rows: Rows, dual: Floats) -> Prices:
    """Multipliers in money from those of the scaled programme: cuts, goals, linear rows, then chains."""
    cuts, goals = len(rows.cuts), len(rows.goals)
    weight = dual[cuts : cuts + goals]
    return Prices(
        cuts=dual[:cuts],
        goals=weight / weight.sum() if goals and weight.sum() > 0 else np.full(goals, 1.0 / max(goals, 1)),
        rows=dual[cuts + goals : cuts + goals + rows.bounds.size] * options.scale,
    )


def _matrix(options: Options, rows: Rows, kept: Places) -> tuple[csr_array, Floats]:
    scale = options.scale
    goals = np.hstack([-rows.goals / scale, np.ones((len(rows.goals), 1))])
    parts = [
        csr_array(np.hstack([-rows.cuts / scale, np.zeros((len(rows.cuts), 1))])),
        csr_array(goals),
        csr_array((rows.matrix.data, rows.matrix.indices, rows.matrix.indptr), shape=(rows.bounds.size, kept.size + 1)),
    ]
    limits = [-rows.floors / scale, rows.constants / scale, rows.bounds]
    if options.chains.count:
        tied = chain_rows(options.chains, options.price, options.starts, options.chooser, kept)
        parts.append(tied)
        limits.append(np.zeros(tied.shape[0]))
    return csr_array(vstack(parts)), np.concatenate(limits)


def lagrangian_score(options: Options, rows: Rows, prices: Prices) -> Floats:
    """Worth of every option at the multipliers: its mean (or tangents), what it adds to each tail, minus its rows."""
    score = prices.goals @ rows.goals if len(rows.goals) else options.mean.copy()
    if len(rows.cuts):
        score += prices.cuts @ rows.cuts
    if rows.bounds.size:
        score -= rows.matrix.T @ prices.rows
    return np.asarray(score, dtype=np.float64)


def lagrangian_bound(options: Options, rows: Rows, prices: Prices) -> float:
    r"""Upper bound on the objective of any prices that keep the rows, whatever the multipliers are.

    .. math:: \sum_u \max_{o \in u} \big(\sum_g \pi_g G_{go} + \sum_i \mu_i C_{io} - \sum_r \nu_r A_{ro}\big)
              + \sum_g \pi_g \gamma_g - \sum_i \mu_i f_i + \sum_r \nu_r b_r

    Along chains the maximum is found by dynamic programming. Computed here, not taken from the solver: a solver's
    mistake can only loosen it.
    """
    score = lagrangian_score(options, rows, prices)
    bound = float(score[options.best(score)].sum())
    if len(rows.goals):
        bound += float(prices.goals @ rows.constants)
    if len(rows.cuts):
        bound -= float(prices.cuts @ rows.floors)
    return bound + float(prices.rows @ rows.bounds)
