"""A coupled problem laid out for the engines: choosers, their options, the rows between them, and their draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bayes_pricing.errors import Finding, Refusal, SpecError
from bayes_pricing.pricing.chains import Chains, build_chains
from bayes_pricing.pricing.functionals import Functional, TailMean
from bayes_pricing.pricing.judging import Judged, off_ladder
from bayes_pricing.pricing.outlook import Bools, Outlook, build_block
from bayes_pricing.pricing.portfolio_limits import Pairs, Row
from bayes_pricing.pricing.problem import ITEMS_AT_ONCE, SMALLEST_MOVE, Problem
from bayes_pricing.pricing.programme import Options, Rows
from bayes_pricing.pricing.scenarios import Scenarios

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

LADDER_POINTS = 21
SPLIT_DRAWS = 2000
"""From this many draws on, half of them are kept out of the risk limit and used to check it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Portfolio:
    """A coupled problem on the ladder.

    Attributes
    ----------
    problem : Problem
    pairs : Pairs
    option : array (n,)
        Option that each pair belongs to: its own, or its group's.
    options : Options
    functional : Functional or None
        What is maximised of the change per draw; None for its mean.
    tails : tuple of (TailMean, float)
        What limits on the tail of the change hold up, and their floors.
    rows : Rows
        Without cuts and tangents.
    row_limits : tuple of Row
        What each linear row stands for.
    """

    problem: Problem
    pairs: Pairs
    option: Places
    options: Options
    functional: Functional | None
    tails: tuple[tuple[TailMean, float], ...]
    rows: Rows
    row_limits: tuple[Row, ...]

    @property
    def scenarios(self) -> Scenarios:
        """The pairs on their draws."""
        return Scenarios(problem=self.problem, pairs=self.pairs)

    def change(self, share: Floats) -> Floats:
        """Change of the whole portfolio per draw when options have these weights, array (S,)."""
        return self.scenarios.total(share[self.option])

    def row(self, weights: Floats, among: Bools | None = None) -> Floats:
        """Mean change of every option over weighted draws, array (options,); those outside `among` are left at 0."""
        places = None if among is None else np.flatnonzero(among[self.option])
        return self._summed(self.scenarios.means(weights, places))

    def prices(self, chosen: Places) -> Floats:
        """Price of every item when these options are chosen, array (J,)."""
        taken = np.zeros(self.options.mean.size, dtype=np.bool_)
        taken[chosen] = True
        pairs = np.flatnonzero(taken[self.option])
        return self.pairs.price[pairs]

    def nearest(self, prices: Floats) -> Places:
        """Options nearest to given prices, one per chooser."""
        distance = np.abs(np.log(self.pairs.price / prices[self.pairs.item]))
        return self.options.best(-self._summed(distance))

    def _summed(self, of_pair: Floats) -> Floats:
        if self.option.size == self.options.mean.size:
            return of_pair
        return np.bincount(self.option, weights=of_pair, minlength=self.options.mean.size)


def build_portfolio(problem: Problem, judged: Judged, functional: Functional | None, *, seed: int) -> Portfolio:
    """Lay a coupled problem out on the ladder.

    Raises
    ------
    SpecError
        If a limit names an item or category that is not there.
    Refusal
        If the items of a group have no allowed price in common, or a chain of tiers none that keeps its order.
    """
    pairs, mean, chooser, column = _pairs(problem, judged)
    first = option = np.arange(chooser.size)
    if problem.limits.same is not None:
        key = chooser * (int(column.max()) + 1) + column
        _, first, option = np.unique(key, return_index=True, return_inverse=True)
    size = first.size
    options = Options(
        chooser=chooser[first],
        price=pairs.price[first],
        mean=np.bincount(option, weights=mean, minlength=size),
        choosers=int(chooser.max()) + 1,
        chains=_chains(problem, chooser, pairs, chooser[first], pairs.price[first]),
    )
    if options.chains.count and (options.best(np.zeros(size)) < 0).any():
        raise Refusal([_conflict("tier_order", "no allowed prices keep the order of the tiers")])
    limits = tuple(row for limit in problem.limits.linear for row in limit.rows(pairs))
    shortfall = problem.limits.shortfall
    among = chosen_draws(problem, seed)
    tails = () if shortfall is None else ((TailMean(share=shortfall.share, among=among), -shortfall.amount),)
    return Portfolio(
        problem=problem,
        pairs=pairs,
        option=option,
        options=options,
        functional=functional,
        tails=tails,
        rows=Rows(
            cuts=np.zeros((0, size)),
            floors=np.zeros(0),
            tails=np.zeros(0, dtype=np.intp),
            matrix=_row_matrix(limits, option, size),
            bounds=np.array([row.bound for row in limits]),
            goals=np.zeros((0, size)),
            constants=np.zeros(0),
        ),
        row_limits=limits,
    )


def chosen_draws(problem: Problem, seed: int) -> Places | None:
    """Draws on which the tail of the change is limited, ascending; None for all of them where they are few."""
    total = problem.total_draws
    if total < SPLIT_DRAWS or (problem.limits.shortfall is None and problem.limits.quantile is None):
        return None
    order = np.random.default_rng(seed).permutation(total)
    return np.sort(order[: total // 2])


def _row_matrix(limits: tuple[Row, ...], option: Places, size: int) -> csr_array:
    if not limits:
        return csr_array((0, size))
    row = np.repeat(np.arange(len(limits)), [limit.places.size for limit in limits])
    column = option[np.concatenate([limit.places for limit in limits])]
    matrix = csr_array((np.concatenate([limit.values for limit in limits]), (row, column)), shape=(len(limits), size))
    matrix.sum_duplicates()
    return matrix


def _pairs(problem: Problem, judged: Judged) -> tuple[Pairs, Floats, Places, Places]:
    """Every allowed pair with its mean, its chooser and its place among that chooser's options."""
    current = problem.facts.current_price
    columns = _columns(problem, judged)
    prices, mean = judged.candidates[:, columns], judged.candidate_change[:, columns]
    units = judged.candidate_units[:, columns]
    moved = np.abs(np.log(prices / current[:, None])) > SMALLEST_MOVE
    allowed = np.isfinite(mean) & (moved | (np.arange(columns.size) == 0))
    own, groups = _choosers(problem)
    allowed[np.concatenate([np.zeros(0, dtype=np.intp), *groups])] = False
    item, column = np.nonzero(allowed)
    found = [_Found(item, column, prices[item, column], mean[item, column], units[item, column])]
    found += _shared(problem, judged, groups)
    found += _neighbouring(problem, judged, columns.size)
    every = _Found.joined(found)
    every = every.part(np.lexsort((every.column, every.item)))
    far = np.abs(np.log(every.price / current[every.item])) > SMALLEST_MOVE
    pairs = Pairs(
        table=problem.table, level=next(iter(problem.posterior.spec.levels), None), facts=problem.facts,
        units_today=judged.candidate_units[:, 0],
        kept=problem.economics.unit_value("revenue", problem.table).kept,
        item=every.item, price=every.price, units=every.units, moved=far,
    )  # fmt: skip
    return pairs, np.where(far, every.mean, 0.0), own[every.item], every.column


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """Pairs as flat arrays."""

    item: Places
    column: Places
    price: Floats
    mean: Floats
    units: Floats

    def part(self, where: Places | Bools) -> _Found:
        return _Found(self.item[where], self.column[where], self.price[where], self.mean[where], self.units[where])

    @staticmethod
    def joined(parts: list[_Found]) -> _Found:
        return _Found(
            np.concatenate([part.item for part in parts]), np.concatenate([part.column for part in parts]),
            np.concatenate([part.price for part in parts]), np.concatenate([part.mean for part in parts]),
            np.concatenate([part.units for part in parts]),
        )  # fmt: skip


def _columns(problem: Problem, judged: Judged) -> Places:
    """Candidates that enter the programme: today's, every few of the grid, and the best one; a ladder's all."""
    count = judged.candidates.shape[1]
    if problem.limits.ladder is not None:
        return np.arange(count)
    grid = np.linspace(1, max(count - 2, 1), LADDER_POINTS).round().astype(np.intp)
    return np.unique(np.append([0, count - 1], grid))


def _choosers(problem: Problem) -> tuple[Places, list[Places]]:
    """Chooser of every item, groups of one price together, and the items of each group."""
    same = problem.limits.same
    groups = [] if same is None else [item_places(problem, same.name, group) for group in same.groups]
    label = np.arange(len(problem.items))
    for group in groups:
        label[group] = group.min()
    _, own = np.unique(label, return_inverse=True)
    return own.astype(np.intp), groups


def item_places(problem: Problem, name: str, items: tuple[str, ...]) -> Places:
    """Places of the items that a limit names.

    Raises
    ------
    SpecError
        If one of them is not among the items decided about.
    """
    place = {item: index for index, item in enumerate(problem.items)}
    unknown = [item for item in items if item not in place]
    if unknown:
        raise SpecError(f"{name} names {unknown[0]!r}, which is not among the {len(place)} items decided about.")
    return np.array([place[item] for item in items], dtype=np.intp)


def _chains(problem: Problem, chooser: Places, pairs: Pairs, of_option: Places, price: Floats) -> Chains:
    order = problem.limits.order
    if order is None:
        return build_chains([], of_option, price, 0.0)
    own = np.zeros(len(problem.items), dtype=np.intp)
    own[pairs.item] = chooser
    tiers = [own[item_places(problem, order.name, chain)].tolist() for chain in order.tiers]
    named = [member for chain in tiers for member in chain]
    if len(set(named)) < len(named):
        raise SpecError("tier_order and same_price together put a group in two places; name one item of each group.")
    return build_chains(tiers, of_option, price, order.step)


def _evaluated(problem: Problem, judged: Judged, items: Places, prices: Floats) -> tuple[Floats, Floats, Bools]:
    """Mean change, expected units and permission of prices (T, K) of some items; pinned items keep today's."""
    mean, units, allowed = np.zeros(prices.shape), np.zeros(prices.shape), np.zeros(prices.shape, dtype=np.bool_)
    for start in range(0, items.size, ITEMS_AT_ONCE):
        rows = np.arange(start, min(start + ITEMS_AT_ONCE, items.size))
        part = items[rows]
        block = build_block(problem.facts.part(part), problem.draws_of(part))
        outlook = Outlook(block=block, prices=prices[rows])
        mean[rows], units[rows] = outlook.expected_change, outlook.expected_units
        may = problem.limits.allows(outlook)
        if problem.limits.ladder is not None:
            flat = off_ladder(
                problem.limits.ladder, prices[rows].ravel(), np.repeat(block.facts.current_price, prices.shape[1])
            )
            may &= ~flat.reshape(may.shape)
        allowed[rows] = np.where(judged.pinned[part][:, None], outlook.is_today, may)
    return mean, units, allowed


def _shared(problem: Problem, judged: Judged, groups: list[Places]) -> list[_Found]:
    """Options of every group of items with one price in common."""
    found: list[_Found] = []
    lowest, highest = problem.limits.box(problem.facts)
    for group in groups:
        low, high = float(lowest[group].max()), float(highest[group].min())
        prices = [*problem.facts.current_price[group], *judged.kept_prices[group]]
        if low <= high:
            ladder = problem.limits.ladder
            between = np.geomspace(low, high, LADDER_POINTS) if ladder is None else ladder.rungs(low, high)
            prices += between.tolist()
        common = np.unique(np.array(prices).round(12))
        mean, units, allowed = _evaluated(problem, judged, group, np.tile(common, (group.size, 1)))
        kept = np.flatnonzero(allowed.all(axis=0))
        if not kept.size:
            names = ", ".join(repr(problem.items[item]) for item in group)
            raise Refusal([_conflict("same_price", f"no allowed price is common to {names}")])
        found.append(
            _Found(np.repeat(group, kept.size), np.tile(kept, group.size), np.tile(common[kept], group.size),
                   mean[:, kept].ravel(), units[:, kept].ravel())
        )  # fmt: skip
    return found


def _neighbouring(problem: Problem, judged: Judged, columns: int) -> list[_Found]:
    """For items in a chain of tiers: the prices its neighbours have today or would like, as further options."""
    order, same = problem.limits.order, problem.limits.same
    if order is None:
        return []
    grouped = set() if same is None else {item for group in same.groups for item in group}
    current, wanted = problem.facts.current_price, judged.kept_prices
    items: list[int] = []
    prices: list[Floats] = []
    for chain in order.tiers:
        places = item_places(problem, order.name, chain)
        rise = (1.0 + order.step) ** np.arange(places.size)
        level = np.concatenate([current[places] / rise, wanted[places] / rise])
        for number, (name, place) in enumerate(zip(chain, places, strict=True)):
            if name not in grouped:
                items.append(int(place))
                prices.append(level * rise[number])
    if not items:
        return []
    width = max(row.size for row in prices)
    own = np.array(items, dtype=np.intp)
    matrix = np.stack([np.pad(row, (0, width - row.size), constant_values=row[0]) for row in prices])
    mean, units, allowed = _evaluated(problem, judged, own, matrix)
    allowed &= np.abs(np.log(matrix / current[own][:, None])) > SMALLEST_MOVE
    row, column = np.nonzero(allowed)
    return [_Found(own[row], columns + column, matrix[row, column], mean[row, column], units[row, column])]


def _conflict(limit: str, message: str) -> Finding:
    return Finding(
        code="portfolio_limits_conflict", severity="error", message=message,
        remedy=f"relax {limit}, or the limits on the items it names",
    )  # fmt: skip
