"""One price of an item against another, on the same draws: what is gained, why, and when it would flip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.constraints import Limits
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
    against : {"today", "best_rejected"}
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
        The volume term by this item's price and by prices of other items (none are modelled yet: zero).
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
    second both prices earn the same.

    Attributes
    ----------
    today_best_at : float or None
        None where no elasticity makes today's price best (a unit earns nothing at it).
    today_best_beyond : float or None
        Posterior probability that the elasticity is at or beyond that point, on the side away from the change.
    equal_at : float or None
    equal_beyond : float
        Posterior probability that today's price earns more.
    """

    today_best_at: float | None
    today_best_beyond: float | None
    equal_at: float | None
    equal_beyond: float


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
    current = float(block.facts.current_price[0])
    lowest = min(float(block.facts.lowest_price[0]), 0.8 * current)
    highest = max(float(block.facts.highest_price[0]), 1.25 * current)
    prices = np.geomspace(lowest, highest, 61) if limits.ladder is None else limits.ladder.rungs(lowest, highest)
    away = prices[np.abs(prices - chosen) >= REJECTED_DISTANCE * current]
    if abs(chosen - current) > 1e-6 * current or not away.size:
        away = away[np.abs(away - current) >= REJECTED_DISTANCE * current]
    if not away.size:
        away = np.array([chosen * (1.0 + REJECTED_DISTANCE)])
    outlook = Outlook(block=block, prices=away[None, :])
    best = int(outlook.expected_change[0].argmax())
    forbidden = tuple(limit.name for limit in limits.item if not limit.allows(outlook)[0, best])
    return Rejected(price=float(away[best]), forbidden_by=forbidden)


def split_change(block: Block, price: float) -> ChangeSplit:
    """Split the change of money of one item at `price` into margin and volume, exactly on every draw.

    Parameters
    ----------
    block : Block
        One item.
    price : float

    Returns
    -------
    ChangeSplit
    """
    prices, value = np.array([price]), block.facts.value
    before, after = float(value.at(block.facts.current_price)[0]), float(value.at(prices)[0])
    units = block.units_today[0]
    sold = block.draws.units(prices)[0]
    margin = (after - before) * (units + sold) / 2.0
    volume = (sold - units) * (before + after) / 2.0
    residual = np.abs(margin + volume - block.change(prices, value)[0]).max()
    return ChangeSplit(
        margin=estimate(margin),
        volume=estimate(volume),
        own_volume=estimate(volume),
        cross_volume=estimate(np.zeros_like(volume)),
        residual=float(residual),
    )


def optimal_at(price: float, kept: float, charge: float) -> float | None:
    r"""Elasticity at which a price is the best one, :math:`-k p / (k p - b)`; None where a unit earns nothing at it.

    Examples
    --------
    >>> round(optimal_at(7.0, 1.0, 4.0), 4)
    -2.3333
    """
    worth = kept * price - charge
    return -kept * price / worth if worth > 0 and kept > 0 else None


def flip_point(block: Block, price: float) -> FlipPoint:
    """What the elasticity of one item would have to be for today's price to be best, or as good as `price`."""
    value, current = block.facts.value, float(block.facts.current_price[0])
    ordered = block.sorted_elasticity[0]
    best_at = optimal_at(current, float(value.kept[0]), float(value.charge[0]))
    raised = price > current
    beyond = None
    if best_at is not None:
        below = float(ordered.searchsorted(best_at, side="right")) / ordered.size
        beyond = below if raised else 1.0 - below
    worth, today = float(value.at(np.array([price]))[0]), float(value.at(block.facts.current_price)[0])
    equal = -float(np.log(worth / today) / np.log(price / current)) if worth > 0 and today > 0 else None
    change = block.change(np.array([price]), value)[0]
    return FlipPoint(
        today_best_at=best_at, today_best_beyond=beyond, equal_at=equal, equal_beyond=float((change < 0).mean())
    )


def contrasts(
    block: Block, decided: ItemDecision, looked_at: float | None, rejected: Rejected | None
) -> tuple[Contrast, ...]:
    """Looked-at price against today's, and the decided price against the best rejected one; none where refused."""
    if looked_at is None or rejected is None:
        return ()
    value = block.facts.value
    look = block.change(np.array([looked_at]), value)[0]
    chosen = block.change(np.array([decided.price]), value)[0]
    other = block.change(np.array([rejected.price]), value)[0]
    return (
        _contrast("today", decided.current_price, look, np.zeros_like(look), ()),
        _contrast("best_rejected", rejected.price, chosen, other, rejected.forbidden_by),
    )


def _contrast(against: str, price: float, look: Floats, other: Floats, forbidden: tuple[str, ...]) -> Contrast:
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
