"""Prose about a decision, rendered from its explanation: no number here that is not there."""

from __future__ import annotations

import re
from typing import Literal

from bayes_pricing.errors import Finding
from bayes_pricing.pricing.contrast import Contrast
from bayes_pricing.pricing.decision import Estimate
from bayes_pricing.pricing.explanation import Explanation
from bayes_pricing.pricing.phrases import (
    PERIOD,
    SCALE,
    amount,
    joined,
    likelihood_word,
    likely,
    percent,
    price,
    signed,
)

__all__ = ["SCALE", "Length", "amount", "likelihood_word", "likely", "percent", "price", "word"]

Length = Literal["headline", "paragraph", "full"]
NAME_WORDS = 5
"""Words of an item's name that a headline has room for."""
PLACES = {"supported": "inside", "edge": "at the edge of", "extrapolation": "outside"}


def word(explanation: Explanation, length: Length = "paragraph") -> str:
    """Say an explanation in prose: a headline of at most 25 words, a paragraph of reasons, or everything.

    The paragraph stands beside the headline and does not repeat it; the full text is both, then one paragraph per
    question: what it rests on, what holds it, what would have to be true for another price, what to look out for.

    Parameters
    ----------
    explanation : Explanation
    length : {"headline", "paragraph", "full"}

    Returns
    -------
    str
    """
    if length == "headline":
        return _headline(explanation)
    if length == "paragraph":
        return " ".join(_why(explanation))
    parts = (
        [_headline(explanation)],
        _why(explanation),
        _evidence(explanation),
        _limits(explanation),
        [*_flip(explanation), *_prior(explanation), *_testing(explanation)],
        _warnings(explanation),
        [_provenance(explanation)],
    )
    return "\n\n".join(" ".join(part) for part in parts if part)


def _short(name: str) -> str:
    words = name.split()
    return name if len(words) <= NAME_WORDS else " ".join(words[:NAME_WORDS]) + " …"


def _headline(explanation: Explanation) -> str:
    decided = explanation.decision
    name, today = _short(decided.item), price(decided.current_price)
    if decided.action == "refused":
        return f"No price is recommended for {name}: {_reason(explanation)}."
    if decided.action == "test_first":
        return f"Test {price(decided.test_price or decided.current_price)} for {name} before leaving {today}."
    if decided.action == "hold" or decided.recommended_price is None or decided.probability_better is None:
        if _portfolio_limits(explanation):
            return f"Keep {name} at {today}: the portfolio's limits leave no room for its own best price."
        return f"Keep {name} at {today}: nothing allowed is expected to earn more."
    verb = "Raise" if decided.recommended_price > decided.current_price else "Cut"
    gain, better = explanation.contrasts[0].change.mean if explanation.contrasts else 0.0, decided.probability_better
    if explanation.category is not None:
        gain, better = explanation.category.change.mean, explanation.category.probability_better
    chance = percent(better) if decided.support == "extrapolation" else likely(better)
    whose = "its category's" if explanation.joint else "expected"
    return (
        f"{verb} {name} from {today} to {price(decided.recommended_price)}: {whose} {explanation.objective} "
        f"{'up' if gain >= 0 else 'down'} {_money(explanation, gain)} a {explanation.period} (better: {chance})."
    )


def _reason(explanation: Explanation) -> str:
    codes = {finding.code for finding in explanation.decision.findings if finding.severity == "error"}
    if "limits_conflict" in codes:
        return "its limits contradict each other"
    if "cost_unknown" in codes:
        return "its cost is unknown"
    return "a few draws carry the expectation"


def _money(explanation: Explanation, value: float) -> str:
    unit = "units" if explanation.objective == "units" else explanation.currency
    return f"{amount(value)} {unit}".rstrip()


def _range(estimate: Estimate) -> str:
    return f"{percent(estimate.probability)} between {signed(estimate.lower)} and {signed(estimate.upper)}"


def _why(explanation: Explanation) -> list[str]:
    if explanation.looked_at_price is None:
        return [_finding(explanation, finding) for finding in explanation.decision.findings]
    evidence = explanation.elasticity.estimate
    size, at = f"{abs(evidence.mean):.2f} %", explanation.elasticity.at_price
    where = "" if at is None else f" at its usual price of {price(at)}"
    return [
        *(_contrast(explanation, contrast) for contrast in explanation.contrasts if _speaks(explanation, contrast)),
        f"Its price elasticity{where} is {evidence.mean:.2f} ({percent(evidence.probability)} between "
        f"{evidence.lower:.2f} and {evidence.upper:.2f}): a price 1 % higher sells about {size} "
        f"{'less' if evidence.mean < 0 else 'more'}.",
        *_crossed(explanation),
    ]


def _crossed(explanation: Explanation) -> list[str]:
    """What the price brings the whole category, which is what it was chosen for."""
    category = explanation.category
    if category is None:
        return []
    changes = "changes" if explanation.decision.action == "change" else "would change"
    return [
        f"With the other prices as decided, it {changes} {explanation.objective} of the whole category by "
        f"{signed(category.change.mean)} a {explanation.period} on average ({_range(category.change)}): that is what "
        "it was chosen for."
    ]


def _speaks(explanation: Explanation, contrast: Contrast) -> bool:
    return contrast.against == "today" or contrast.price != explanation.looked_at_price


def _contrast(explanation: Explanation, contrast: Contrast) -> str:
    objective, period = explanation.objective, explanation.period
    if contrast.against != "today":
        ruled = f", ruled out by {joined(_words(explanation, contrast.forbidden_by))}" if contrast.forbidden_by else ""
        whose = "its category's " if explanation.joint else ""
        return (
            f"The best price turned down is {price(contrast.price)}{ruled}; against it this decision changes "
            f"{whose}{objective} by {signed(contrast.change.mean)} a {period} ({_range(contrast.change)}) and is "
            f"better with probability {percent(contrast.probability_better)}."
        )
    changes = "changes" if explanation.decision.action == "change" else "would change"
    said = (
        f"{price(explanation.looked_at_price or contrast.price)} instead of {price(contrast.price)} {changes} "
        f"{objective} by {signed(contrast.change.mean)} a {period} on average ({_range(contrast.change)})"
    )
    split = explanation.split
    if split is None or objective == "units":
        return said + "."
    parts = f"{signed(split.margin.mean)} from what a unit earns, {signed(split.volume.mean)} from how many are sold"
    if split.cross_volume.lower or split.cross_volume.upper:
        own, cross = signed(split.own_volume.mean), signed(split.cross_volume.mean)
        parts += f" ({own} by its own price, {cross} by those of other items)"
    return f"{said}: {parts}."


def _words(explanation: Explanation, names: tuple[str, ...]) -> tuple[str, ...]:
    known = {limit.name: limit.words for limit in explanation.policy}
    return tuple(known.get(name, f"the limit {name.replace('_', ' ')}") for name in names)


def _evidence(explanation: Explanation) -> list[str]:
    if explanation.looked_at_price is None:
        return []
    evidence, support = explanation.elasticity, explanation.support
    parts = [
        f"{part.contribution:.2f} from {_source(part.source, part.unit)} (weight {percent(part.weight)})"
        for part in evidence.contributions
    ]
    if evidence.other_coefficients is not None and abs(evidence.other_coefficients) >= 0.005:
        parts.append(f"{evidence.other_coefficients:+.2f} from its other coefficients")
    exact = "" if evidence.exact else " (approximate)"
    sentences = [
        f"The elasticity of {evidence.estimate.mean:.2f} is made of {joined(tuple(parts))}{exact}.",
        f"Demand is elastic: {likely(evidence.probability_elastic)}.",
        f"The price stands {PLACES[support.level]} the observed range, {price(support.lowest_price)} to "
        f"{price(support.highest_price)}, with {support.distinct_prices} prices in {support.rows} rows"
        f"{_near(explanation)}.",
    ]
    if support.sold_out_share:
        sentences.append(f"It was sold out in {percent(support.sold_out_share)} of its rows.")
    if support.level == "extrapolation":
        sentences.append(
            f"There, expected sales are {support.uncertainty_ratio:.2f} times as uncertain (log scale) as at its "
            "usual price; no word for that chance is earned without a test."
        )
    return sentences


def _near(explanation: Explanation) -> str:
    """How much was seen near the price, and when it last was another one."""
    support, day = explanation.support, f"{PERIOD} " if explanation.period == PERIOD else ""
    near = "" if support.rows_near is None else f", {support.rows_near} of them within 5 % of it"
    last = support.last_other_price
    return near + ("" if last is None else f"; it last had another price than today's in {day}{last}")


def _source(source: str, unit: str) -> str:
    if source == "own_data":
        return "its own sales"
    return "the population" if source == "population" else f"its {source} {unit}"


def _portfolio_limits(explanation: Explanation) -> tuple[str, ...]:
    tied = {limit.name for limit in explanation.policy if limit.portfolio}
    return tuple(name for name in explanation.decision.binding if name in tied)


def _limits(explanation: Explanation) -> list[str]:
    tied = _words(explanation, _portfolio_limits(explanation))
    held = [f"It is kept from its own best price by {joined(tied)}."] if tied else []
    own = tuple(name for name in explanation.decision.binding if name not in _portfolio_limits(explanation))
    if own and not explanation.limits and explanation.looked_at_price is not None:
        held.append(f"It is held by {joined(_words(explanation, own))}.")
    return held + [
        f"It is held by {limit.words}: {limit.looser_words} would {_step(explanation, limit.looser, 'bring', 'more')}, "
        f"{limit.tighter_words} {_step(explanation, limit.tighter, 'cost', '')}{_scope(explanation)}."
        for limit in explanation.limits
    ]


def _scope(explanation: Explanation) -> str:
    return " (its category, the other prices as decided)" if explanation.joint else ""


def _step(explanation: Explanation, value: float, verb: str, more: str) -> str:
    """What one step of a limit does; with a price ladder it may not reach the next rung."""
    if value == 0:
        return f"{verb} nothing"
    return " ".join(f"{verb} {_money(explanation, value)} {more} a {explanation.period}".split())


def _flip(explanation: Explanation) -> list[str]:
    flip = explanation.flip
    if flip is None or explanation.looked_at_price is None:
        return []
    raised = explanation.looked_at_price > explanation.decision.current_price
    straight = explanation.elasticity.at_price is None
    ways = []
    if flip.equal_at is not None:
        side = "below" if raised else "above"
        whose = "the elasticity" if straight else "its mean elasticity between the two prices"
        ways.append(f"if {whose} were {side} {flip.equal_at:.2f} ({likely(flip.equal_beyond)})")
    if flip.cost_equal_at is not None and flip.cost is not None:
        side = "below" if raised else "above"
        ways.append(f"if a unit cost {side} {price(flip.cost_equal_at)} instead of {price(flip.cost)}")
    sentences = []
    if ways:
        other = price(explanation.looked_at_price)
        whose = " its category" if explanation.joint else ""
        sentences.append(f"Today's price would earn{whose} more than {other} {', or '.join(ways)}.")
    if flip.today_best_at is not None:
        whose = " for its category" if explanation.joint else ""
        sentences.append(
            f"Today's would be the best price of all{whose} at an elasticity of {flip.today_best_at:.2f}"
            f"{'' if straight else ' there'}."
        )
    return sentences


def _prior(explanation: Explanation) -> list[str]:
    prior = explanation.prior_sensitivity
    if prior is None:
        return []
    if prior.price_moves and explanation.joint:
        return [
            f"With half the weight on the prior the best price for its category is {price(prior.price_at_half)}, with "
            f"twice the weight {price(prior.price_at_double)}, beside {price(prior.price_as_is)} as it is."
        ]
    if not prior.price_moves:
        return ["Half or twice the weight on the prior leaves the best price where it is."]
    return [
        f"With half the weight on the prior the best price is {price(prior.price_at_half)}, with twice the weight "
        f"{price(prior.price_at_double)}, beside {price(prior.price_as_is)} as it is."
    ]


def _testing(explanation: Explanation) -> list[str]:
    testing = explanation.testing
    if testing is None:
        return []
    if testing.value <= 0:
        return [f"A test of {price(testing.test_price)} is not worth its cost."]
    return [
        f"A test of {price(testing.test_price)} over {testing.periods} {explanation.period}s is worth "
        f"{_money(explanation, testing.value)} over the horizon."
    ]


def _warnings(explanation: Explanation) -> list[str]:
    if explanation.looked_at_price is None:
        return []
    return [_finding(explanation, finding) for finding in explanation.warnings]


def _finding(explanation: Explanation, finding: Finding) -> str:
    """A finding as a sentence, limits called by their words."""
    text = f"{_sentence(finding.message)}; {finding.remedy}."
    words = {limit.name: limit.words for limit in explanation.policy}
    if not words:
        return text
    names = "|".join(sorted(words, key=len, reverse=True))
    return re.sub(rf"\b({names})\b", lambda found: words[found.group()], text)


def _provenance(explanation: Explanation) -> str:
    source = explanation.provenance
    day = f"{PERIOD} " if explanation.period == PERIOD else ""
    until = "" if source.data_as_of is None else f", data to {day}{source.data_as_of}"
    stale = "" if source.stale_on is None else f", stale from {day}{source.stale_on}"
    personal = "personal data were used" if source.personal_data_used else "no personal data were used"
    return f"Model {source.model[:12]}, {source.draws} draws{until}{stale}; {personal}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
