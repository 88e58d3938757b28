r"""How good joint prices of a block can be at all: branch and bound on its price box, under log-log demand.

Money is a sum of exponentials of linear forms in log prices. On a box each one with a positive sign lies below its
secant and each one with a negative sign below minus its tangent, so that a linear function bounds their weighted sum,
and its highest value on the box is known in closed form; near a peak the second-order expansion with a bound on its
remainder is tighter. Boxes are split where they contribute most to the distance
between bound and money.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.blocks import BlockMoney, LogLogBlock

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

MOST_ITEMS = 8
"""Items up to which a block is certified; beyond, the bound would need more boxes than there is time for."""
MOST_BOXES = 30_000
MOST_TERMS = 300_000_000
"""Exponentials that may be bounded: about half a minute."""
BOXES_AT_ONCE = 32
NUMBERS_AT_ONCE = 100_000
SWEEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockBound:
    """Upper bound on the weighted money of a block and the number of boxes it took."""

    value: float
    boxes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Terms:
    """Exponentials: coefficient (T,) times exp(slopes (T, n) @ log prices); products of slopes, each pair once."""

    coefficient: Floats
    slopes: Floats
    products: Floats


def bound_block(
    block: BlockMoney, weights: Floats, reached: float, *, enough: float, most_terms: int = MOST_TERMS
) -> BlockBound | None:
    """Upper bound on the weighted money of a block over its price box; None where it is too large or not log-log.

    Parameters
    ----------
    block : BlockMoney
    weights : array (S,)
        Of the draws, zero or more.
    reached : float
        Weighted money of known prices: boxes that cannot beat it are dropped.
    enough : float
        Weighted money between the bound and what is reached at which the search may end.
    most_terms : int
        Exponentials that may be bounded before it ends anyway.

    Returns
    -------
    BlockBound or None
    """
    demand = block.demand
    if not isinstance(demand, LogLogBlock) or block.size > MOST_ITEMS:
        return None
    terms = _terms(block, demand, weights)
    low, high = block.lowest[None, :], block.highest[None, :]
    bound, split, middle = _bounds(terms, low, high)
    boxes, reached = 1, max(reached, middle)
    most = min(MOST_BOXES, most_terms // terms.coefficient.size)
    while bound.size and bound.max() > reached + enough and boxes < most:
        order = np.argsort(-bound, kind="stable")[:BOXES_AT_ONCE]
        order = order[bound[order] > reached + enough]
        rest = np.ones(bound.size, dtype=np.bool_)
        rest[order] = False
        rest &= bound > reached
        new_low, new_high = _halved(low[order], high[order], split[order])
        new_bound, new_split, middle = _bounds(terms, new_low, new_high)
        reached = max(reached, middle)  # a peak of these weights that the climb had no reason to look for
        new_bound = np.minimum(new_bound, np.tile(bound[order], 2))
        boxes += new_bound.size
        low, high = np.vstack([low[rest], new_low]), np.vstack([high[rest], new_high])
        bound, split = np.append(bound[rest], new_bound), np.append(split[rest], new_split)
    return BlockBound(value=max(float(bound.max(initial=reached)), reached), boxes=boxes)


def _terms(block: BlockMoney, demand: LogLogBlock, weights: Floats) -> _Terms:
    """Revenue first (its slope has one more in its own price), then what is charged per unit."""
    used = np.flatnonzero(weights > 0)
    scale = weights[used, None] * np.exp(demand.log_units_today[used])
    slopes = demand.elasticity[used]
    revenue, charge = scale * (block.value.kept * demand.current_price), -scale * block.value.charge
    own = slopes + np.eye(block.size)
    coefficient = np.concatenate([revenue.ravel(), charge.ravel()])
    both = np.concatenate([own.reshape(-1, block.size), slopes.reshape(-1, block.size)])
    kept = coefficient != 0
    slopes = both[kept]
    first, second = np.triu_indices(block.size)
    return _Terms(coefficient=coefficient[kept], slopes=slopes, products=slopes[:, first] * slopes[:, second])


def _bounds(terms: _Terms, low: Floats, high: Floats) -> tuple[Floats, Places, float]:
    """Upper bound on every box, the price at which to halve it, and the most reached at a middle; a few at a time."""
    step = max(NUMBERS_AT_ONCE // terms.coefficient.size, 1)
    parts = [
        _bounds_of_few(terms, low[start : start + step], high[start : start + step])
        for start in range(0, len(low), step)
    ]
    bound, split = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    return bound, split, max(part[2] for part in parts)


def _bounds_of_few(terms: _Terms, low: Floats, high: Floats) -> tuple[Floats, Places, float]:
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    amount = np.exp(middle @ terms.slopes.T)
    amount *= terms.coefficient
    reach = half @ np.abs(terms.slopes).T
    spread = np.exp(reach)
    excess = 0.5 * (spread + 1.0 / spread) - 1.0
    with np.errstate(invalid="ignore"):
        secant = np.where(reach > 1e-9, (excess + 1.0 - 1.0 / spread) / reach, 1.0)
    positive = terms.coefficient > 0
    slope = (amount * np.where(positive, secant, 1.0)) @ terms.slopes
    level = amount.sum(axis=1)
    linear = level + (amount * (excess * positive)).sum(axis=1) + (np.abs(slope) * half).sum(axis=1)
    size = np.abs(amount)
    curved = level + _curved(terms, amount, size * (spread - 1.0), half)
    size *= excess
    size /= np.maximum(reach, 1e-12)
    split = ((size @ np.abs(terms.slopes)) * half).argmax(axis=1)
    return np.minimum(linear, curved), split, float(level.max())


def _curved(terms: _Terms, amount: Floats, error: Floats, half: Floats) -> Floats:
    r"""Highest value on each box of the second-order expansion at its middle, plus what its curvature may change.

    .. math:: g \cdot d + \tfrac12 d' H d + \tfrac12 h' R h, \qquad R_{jk} = \sum_t |c_t| (e^{r_t} - 1) |g_{tj} g_{tk}|

    The quadratic is made concave by a shift of its diagonal, and lies below its tangent plane at a point near its
    peak. Around an interior optimum this bound is off by the third power of the box, the secant's by the second.
    """
    count, size = half.shape
    upper = np.triu_indices(size)
    hessian, change = np.zeros((count, size, size)), np.zeros((count, size, size))
    hessian[:, upper[0], upper[1]] = amount @ terms.products
    change[:, upper[0], upper[1]] = error @ np.abs(terms.products)
    for matrix in (hessian, change):
        matrix[:, upper[1], upper[0]] = matrix[:, upper[0], upper[1]]
    gradient = (amount @ terms.slopes) * half
    scaled = hessian * half[:, :, None] * half[:, None, :]
    shift = np.maximum(np.linalg.eigvalsh(scaled)[:, -1], 0.0) * (1.0 + 1e-9)
    scaled = scaled - shift[:, None, None] * np.eye(size)
    point = np.zeros((count, size))
    for _ in range(SWEEPS):
        for price in range(size):
            own = scaled[:, price, price]
            pull = gradient[:, price] + np.einsum("bj,bj->b", scaled[:, price], point) - own * point[:, price]
            with np.errstate(divide="ignore", invalid="ignore"):
                peak = np.where(own < 0, -pull / own, np.sign(pull))
            point[:, price] = np.clip(peak, -1.0, 1.0)
    push = gradient + np.einsum("bjk,bk->bj", scaled, point)
    quadratic = ((gradient + push) * point).sum(axis=1) / 2.0
    ahead = (np.abs(push) - push * point).sum(axis=1)
    unsure = np.einsum("bj,bjk,bk->b", half, change, half) / 2.0
    return np.asarray(quadratic + ahead + 0.5 * shift * size + unsure, dtype=np.float64)


def _halved(low: Floats, high: Floats, split: Places) -> tuple[Floats, Floats]:
    rows = np.arange(split.size)
    middle = (low[rows, split] + high[rows, split]) / 2.0
    upper_low, lower_high = low.copy(), high.copy()
    upper_low[rows, split], lower_high[rows, split] = middle, middle
    return np.vstack([low, upper_low]), np.vstack([lower_high, high])
