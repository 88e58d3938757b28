"""Limits in words: what is in force, and what one step looser or tighter would be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bayes_pricing.pricing.constraints import (
    Bounds,
    Capacity,
    ItemLimit,
    Limit,
    MaxChange,
    MaxChanges,
    MaxItemShortfall,
    MaxLossProbability,
    MaxShortfall,
    MinMargin,
    MinStepIfChanged,
    MinVolume,
    PriceLadder,
    Support,
)
from bayes_pricing.pricing.item_limits import Amount
from bayes_pricing.pricing.phrases import amount, joined, price, share


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInForce:
    """A limit of the policy a decision was made under.

    Attributes
    ----------
    name : str
        Its machine-readable name.
    words : str
        The same for people, a noun phrase with its numbers.
    portfolio : bool
        Whether it ties items together.
    """

    name: str
    words: str
    portfolio: bool


def limit_in_force(limit: Limit, item: str) -> LimitInForce:
    """A limit in words, with the numbers it has for one item.

    Examples
    --------
    >>> limit_in_force(MaxChange(share=0.15), "tea").words
    'the largest change of 15 %'
    >>> limit_in_force(Bounds(highest={"tea": 12.0}), "tea").words
    'the highest price of 12.00'
    """
    return LimitInForce(name=limit.name, words=limit_phrase(limit, item), portfolio=limit.enforced != "mask")


def limit_phrase(limit: Limit, item: str) -> str:
    """A limit as a noun phrase.

    Examples
    --------
    >>> limit_phrase(Support(), "tea"), limit_phrase(PriceLadder(step=0.05), "tea")
    ('the observed prices', 'the price ladder in steps of 0.05')
    """
    match limit:
        case MaxChange():
            return f"the largest change of {share(limit.share)}"
        case Support():
            return "the observed prices" + (f" widened by {share(limit.extend)}" if limit.extend else "")
        case Bounds():
            ends = (("lowest", _of(limit.lowest, item)), ("highest", _of(limit.highest, item)))
            said = tuple(f"the {end} price of {price(value)}" for end, value in ends if value is not None)
            return joined(said) if said else "the bounds of the price"
        case MinMargin():
            return f"the smallest margin of {share(limit.share)}"
        case MinStepIfChanged():
            return f"the smallest change of {share(limit.share)}"
        case MinVolume():
            return _with_amount("the smallest volume", limit.units, item, " units")
        case Capacity():
            return _with_amount("the capacity", limit.units, item, " units")
        case MaxLossProbability():
            return f"the largest probability of loss of {share(limit.probability)}"
        case MaxItemShortfall():
            return _with_amount("the item's largest expected shortfall", limit.amount, item, "")
        case PriceLadder():
            return "the price ladder" + ("" if limit.step is None else f" in steps of {limit.step:g}")
        case MaxShortfall():
            sign = "-" if limit.amount < 0 else ""
            return f"the portfolio's largest expected shortfall of {sign}{amount(limit.amount)}"
        case MaxChanges():
            return f"the limit of {limit.count:,} changes"
    return OTHERS.get(limit.name, f"the limit {limit.name.replace('_', ' ')}")


OTHERS = {
    "max_item_loss_quantile": "the item's largest loss in a bad case",
    "max_loss_quantile": "the portfolio's largest loss in a bad case",
    "max_average_move": "the largest average move of prices",
    "basket_price": "the price of the basket",
    "category_revenue_floor": "the floor of category revenue",
    "category_volume_floor": "the floor of category volume",
    "tier_order": "the order of the tiers",
    "same_price": "the equal prices within a group",
}


def moved_phrase(limit: ItemLimit, moved: ItemLimit, item: str, *, looser: bool) -> str:
    """What one step of a limit is, as the subject of a sentence: the number it would have then.

    Examples
    --------
    >>> limit = MaxChange(share=0.15)
    >>> moved_phrase(limit, limit.moved(1.0), "tea", looser=True)
    '16 %'
    >>> moved_phrase(Support(), Support().moved(-1.0), "tea", looser=False)
    'stopping 1 % short of them'
    """
    match moved:
        case MaxChange() | MinMargin() | MinStepIfChanged():
            return share(moved.share)
        case MaxLossProbability():
            return share(moved.probability)
        case MinVolume() | Capacity():
            units = _of(moved.units, item)
            return f"{amount(units)} units" if units is not None else "1 % of the units"
        case MaxItemShortfall():
            money = _of(moved.amount, item)
            return amount(money) if money is not None else "a tenth of the amount"
        case Support():
            return "going 1 % beyond them" if looser else "stopping 1 % short of them"
        case Bounds():
            return "bounds 1 % wider" if looser else "bounds 1 % narrower"
    return f"one step looser ({limit.step})" if looser else f"one step tighter ({limit.step})"


def _with_amount(title: str, setting: Amount, item: str, unit: str) -> str:
    value = _of(setting, item)
    return title if value is None else f"{title} of {amount(value)}{unit}"


def _of(setting: Amount | None, item: str) -> float | None:
    return setting.get(item) if isinstance(setting, Mapping) else setting
