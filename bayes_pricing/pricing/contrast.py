"""One price of an item against another, on the same draws: what is gained, why, and when it would flip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.constraints import Limits, PriceLadder
from bayes_pricing.pricing.decision import Estimate, ItemDecision, estimate
from bayes_pricing.pricing.outlook import Block, Outlook

Floats = NDArray[np.float64]
REJECTED_DISTANCE = 0.03
"""Share of today's price by which a rejected alternative must differ from the price it lost to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """The looked-at price against another one, on the same draws. Money is the objective per period.

    Attributes
    ----------
    against : {"today", "best_rejected", "today_in_category"}
    price : float
        The other price, currency per unit.
    change : Estimate
        Looked-at price minus the other one, 90 % interval.
    half : Estimate
        The same with a 50 % interval.
    probability_better : float
        Posterior probability that the looked-at price earns more.
    expected_loss : float
        Mean of what is lost by the looked-at price on draws where the other one is better.
    expected_loss_of_other : float
        The same of the other price.
    forbidden_by : tuple of str
        Limits that rule the other price out; empty where it simply earns less.
    """

    against: str
    price: float
    change: Estimate
    half: Estimate
    probability_better: float
    expected_loss: float
    expected_loss_of_other: float
    forbidden_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSplit:
    r"""The change of money split, draw by draw, into what a unit earns and how many are sold.

    .. math:: \Delta = (v_1 - v_0) \frac{q_0 + q_1}{2} + (q_1 - q_0) \frac{v_0 + v_1}{2}

    Attributes
    ----------
    margin, volume : Estimate
        First and second term, money per period.
    own_volume, cross_volume : Estimate
        The volume term by this item's price and by prices of other items; they add up to it on every draw.
    residual : float
        Largest difference, over draws, between the terms' sum and the change.
    """

    margin: Estimate
    volume: Estimate
    own_volume: Estimate
    cross_volume: Estimate
    residual: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipPoint:
    r"""What the elasticity would have to be for another decision.

    .. math:: \varepsilon^*(p_0) = -\frac{k p_0}{k p_0 - b}, \qquad
              \varepsilon_{=} = -\frac{\log(v(p_1) / v(p_0))}{\log(p_1 / p_0)}

    with k the share of the price kept and b the charge per unit: at the first today's price is the best one, at the
    second both prices earn the same. Where the elasticity changes with price the first speaks of that at today's price,
    the second of its mean between the two prices.

    Attributes
    ----------
    today_best_at : float or None
        None where no elasticity makes today's price best (a unit earns nothing at it).
    today_best_beyond : float or None
        Posterior probability that the elasticity is at or beyond that point, on the side away from the change.
    equal_at : float or None
    equal_beyond : float
        Posterior probability that today's price earns more.
    cost : float or None
        Unit cost as it is, currency per unit; None unless profit is the objective.
    cost_equal_at : float or None
        Unit cost at which both prices are expected to earn the same,
        :math:`k (p_1 \bar q_1 - p_0 \bar q_0) / (\bar q_1 - \bar q_0)` less the fee; None where that is below zero.
    """

    today_best_at: float | None
    today_best_beyond: float | None
    equal_at: float | None
    equal_beyond: float
    cost: float | None
    cost_equal_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The best price that was not chosen, and the limits that rule it out (none: it simply earns less)."""

    price: float
    forbidden_by: tuple[str, ...]


def best_rejected(block: Block, limits: Limits, chosen: float) -> Rejected:
    """Best price at least 3 % of today's away from the chosen one, allowed or not, in and a little around the data.

    Parameters
    ----------
    block : Block
        One item.
    limits : Limits
    chosen : float

    Returns
    -------
    Rejected
    """
    facts = block.facts
    away = other_prices(
        (float(facts.lowest_price[0]), float(facts.highest_price[0])), float(facts.current_price[0]), chosen,
        limits.ladder,
    )  # fmt: skip
    outlook = Outlook(block=block, prices=away[None, :])
    best = int(outlook.expected_change[0].argmax())
    forbidden = tuple(limit.name for limit in limits.item if not limit.allows(outlook)[0, best])
    return Rejected(price=float(away[best]), forbidden_by=forbidden)


def other_prices(seen: tuple[float, float], current: float, chosen: float, ladder: PriceLadder | None) -> Floats:
    """Prices that a chosen one may be held against: in and a little around those seen, away from it and from today's.

    Parameters
    ----------
    seen : tuple of (float, float)
        Lowest and highest price observed.
    current, chosen : float
    ladder : PriceLadder or None

    Returns
    -------
    array (K,)
        At least one.
    """
    lowest, highest = min(seen[0], 0.8 * current), max(seen[1], 1.25 * current)
    prices = np.geomspace(lowest, highest, 61) if ladder is None else ladder.rungs(lowest, highest)
    away = prices[np.abs(prices - chosen) >= REJECTED_DISTANCE * current]
    if abs(chosen - current) > 1e-6 * current or not away.size:
        away = away[np.abs(away - current) >= REJECTED_DISTANCE * current]
    return away if away.size else np.array([chosen * (1.0 + REJECTED_DISTANCE)])


def split_change(block: Block, price: float, cross: Floats | None = None) -> ChangeSplit:
    r"""Split the change of money of one item at `price` into margin and volume, exactly on every draw.

    Parameters
    ----------
    block : Block
        One item.
    price : float
    cross : array (S,), optional
        Change of the item's log units by other items' prices, :math:`\sum_j \eta_j \log(p_j / p_{j0})`; none moves
        where left out.

    Returns
    -------
    ChangeSplit
    """
    prices, value = np.array([price]), block.facts.value
    before, after = float(value.at(block.facts.current_price)[0]), float(value.at(prices)[0])
    units = block.units_today[0]
    own = block.draws.log_growth(np.log(prices / block.facts.current_price))[0]
    other = np.zeros_like(own) if cross is None else cross
    sold = units * np.exp(own + other)
    margin = (after - before) * (units + sold) / 2.0
    worth = (before + after) / 2.0
    own_units, cross_units = split_volume(units, own, other)
    volume = (sold - units) * worth
    change = sold * after - units * before
    return ChangeSplit(
        margin=estimate(margin),
        volume=estimate(volume),
        own_volume=estimate(own_units * worth),
        cross_volume=estimate(cross_units * worth),
        residual=float(np.abs(margin + (own_units + cross_units) * worth - change).max()),
    )


def split_volume(units: Floats, own: Floats, cross: Floats) -> tuple[Floats, Floats]:
    r"""Split a change of units into own and cross effects by logarithmic-mean weights, exactly on every draw.

    .. math:: q_1 - q_0 = \Lambda\, (e + x), \qquad \Lambda = \frac{q_1 - q_0}{\log(q_1 / q_0)}, \quad
              \log(q_1 / q_0) = e + x

    Neither effect is taken first, and both change sign when the two situations are swapped.

    Parameters
    ----------
    units : array (S,)
        Units per period before.
    own, cross : arrays (S,)
        Changes of log units by the item's own price and by other items' prices.

    Returns
    -------
    tuple of arrays (S,)
        Units per period by own and by cross effects.

    References
    ----------
    Ang (2004), "Decomposition analysis for policymaking in energy", Energy Policy 32(9): the LMDI.

    Examples
    --------
    >>> own, cross = split_volume(np.array([100.0]), np.log([0.8]), np.log([1.25]))
    >>> own.round(2).tolist(), cross.round(2).tolist()  # they cancel: sales stay at 100
    ([-22.31], [22.31])
    """
    total = own + cross
    small = np.abs(total) < 1e-9
    mean = np.where(small, units * (1.0 + total / 2.0), units * np.expm1(total) / np.where(small, 1.0, total))
    return mean * own, mean * cross


def optimal_at(price: float, kept: float, charge: float) -> float | None:
    r"""Elasticity at which a price is the best one, :math:`-k p / (k p - b)`; None where a unit earns nothing at it.

    Examples
    --------
    >>> round(optimal_at(7.0, 1.0, 4.0), 4)
    -2.3333
    """
    worth = kept * price - charge
    return -kept * price / worth if worth > 0 and kept > 0 else None


def flip_point(block: Block, price: float, *, fee: float | None = None) -> FlipPoint:
    """What the elasticity or the unit cost of one item would have to be for today's price to be best, or as good.

    Parameters
    ----------
    block : Block
        One item.
    price : float
        The price today's is held against.
    fee : float, optional
        Fee per unit where profit is the objective (the rest of the charge is the cost); None for other objectives.

    Returns
    -------
    FlipPoint
    """
    value, current = block.facts.value, float(block.facts.current_price[0])
    kept, charge = float(value.kept[0]), float(value.charge[0])
    ordered = block.sorted_elasticity[0]
    best_at = optimal_at(current, kept, charge)
    beyond = None
    if best_at is not None:
        below = float(ordered.searchsorted(best_at, side="right")) / ordered.size
        beyond = below if price > current else 1.0 - below
    worth, today = kept * price - charge, kept * current - charge
    equal = -float(np.log(worth / today) / np.log(price / current)) if worth > 0 and today > 0 else None
    change = block.change(np.array([price]), value)[0]
    return FlipPoint(
        today_best_at=best_at,
        today_best_beyond=beyond,
        equal_at=equal,
        equal_beyond=float((change < 0).mean()),
        cost=None if fee is None else charge - fee,
        cost_equal_at=None if fee is None else _equal_cost(block, price, fee),
    )


def _equal_cost(block: Block, price: float, fee: float) -> float | None:
    kept, current = float(block.facts.value.kept[0]), float(block.facts.current_price[0])
    before, after = float(block.units_today.mean()), float(block.draws.units(np.array([price])).mean())
    if abs(after - before) <= 1e-12 * before:
        return None
    cost = kept * (price * after - current * before) / (after - before) - fee
    return cost if cost > 0 else None


def contrasts(
    block: Block,
    decided: ItemDecision,
    looked_at: float | None,
    rejected: Rejected | None,
    cross: Floats | None = None,
    money: Callable[[Floats], Floats] | None = None,
) -> tuple[Contrast, ...]:
    """Looked-at price against today's, and the decided price against the best rejected one; none where refused.

    `cross` is the change of log units by other items' decided prices, array (S,), in force at every price but today's;
    `money` gives what the item's category makes at prices (K,) of it, array (K, S): with it, the rejected price is held
    against the decided one by that.
    """
    if looked_at is None or rejected is None:
        return ()
    look, chosen, other = (_change(block, price, cross) for price in (looked_at, decided.price, rejected.price))
    if money is not None:
        chosen, other = money(np.array([decided.price, rejected.price]))
    return (
        contrast_of("today", decided.current_price, look, np.zeros_like(look), ()),
        contrast_of("best_rejected", rejected.price, chosen, other, rejected.forbidden_by),
    )


def _change(block: Block, price: float, cross: Floats | None) -> Floats:
    """Change of money against today on every draw, other items' prices as decided."""
    prices, value = np.array([price]), block.facts.value
    if cross is None:
        return np.asarray(block.change(prices, value)[0], dtype=np.float64)
    sold = block.draws.units(prices)[0] * np.exp(cross)
    change = sold * value.at(prices)[0] - block.units_today[0] * value.at(block.facts.current_price)[0]
    return np.asarray(change, dtype=np.float64)


def contrast_of(against: str, price: float, look: Floats, other: Floats, forbidden: tuple[str, ...] = ()) -> Contrast:
    """Money per draw at the looked-at price against money at another price, arrays (S,)."""
    difference = look - other
    return Contrast(
        against=against,
        price=price,
        change=estimate(difference),
        half=estimate(difference, 0.5),
        probability_better=float((difference > 0).mean()),
        expected_loss=float(np.maximum(-difference, 0.0).mean()),
        expected_loss_of_other=float(np.maximum(difference, 0.0).mean()),
        forbidden_by=forbidden,
    )
