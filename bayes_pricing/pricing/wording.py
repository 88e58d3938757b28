"""Prose about a decision, rendered from its explanation: no number here that is not there."""

from __future__ import annotations

from typing import Literal

from bayes_pricing.pricing.constraints import MaxChanges, MaxShortfall
from bayes_pricing.pricing.contrast import Contrast
from bayes_pricing.pricing.decision import Estimate
from bayes_pricing.pricing.explanation import Explanation

Length = Literal["headline", "paragraph", "full"]

SCALE = (
    (0.99, "virtually certain"),
    (0.95, "extremely likely"),
    (0.90, "very likely"),
    (0.66, "likely"),
    (0.33, "about as likely as not"),
    (0.10, "unlikely"),
    (0.05, "very unlikely"),
    (0.01, "extremely unlikely"),
)
NAME_WORDS = 5
"""Words of an item's name that a headline has room for."""


def likelihood_word(probability: float) -> str:
    """Verbal probability on the IPCC scale; each word's lower edge belongs to it.

    References
    ----------
    Mastrandrea et al. (2010), "Guidance note for lead authors of the IPCC Fifth Assessment Report".

    Examples
    --------
    >>> likelihood_word(0.78), likelihood_word(0.5), likelihood_word(0.004)
    ('likely', 'about as likely as not', 'exceptionally unlikely')
    """
    return next((word for edge, word in SCALE if probability >= edge), "exceptionally unlikely")


def percent(probability: float) -> str:
    """A probability as whole per cent, never as certainty.

    Examples
    --------
    >>> percent(0.784), percent(0.9999), percent(0.0)
    ('78 %', 'over 99 %', 'under 1 %')
    """
    if probability > 0.99:
        return "over 99 %"
    return "under 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"


def amount(value: float) -> str:
    """A number with as many digits as a reader can use, without its sign.

    Examples
    --------
    >>> amount(-1234.5), amount(12.345), amount(0.01234)
    ('1,234', '12.3', '0.012')
    """
    size = abs(value)
    if size >= 100:
        return f"{size:,.0f}"
    if size >= 10:
        return f"{size:.1f}"
    return f"{size:.2f}" if size >= 1 or size == 0 else f"{size:.2g}"


def price(value: float) -> str:
    """A price with two decimals.

    Examples
    --------
    >>> price(9.5)
    '9.50'
    """
    return f"{value:,.2f}"


def likely(probability: float) -> str:
    """Word and number together.

    Examples
    --------
    >>> likely(0.78)
    'likely, 78 %'
    """
    return f"{likelihood_word(probability)}, {percent(probability)}"


def word(explanation: Explanation, length: Length = "paragraph") -> str:
    """Say an explanation in prose: a headline of at most 25 words, a paragraph, or everything.

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
    sentences = [_headline(explanation), *_why(explanation)]
    if length == "full":
        sentences += [
            *_evidence(explanation), *_limits(explanation), *_flip(explanation), *_prior(explanation),
            *_testing(explanation), *_warnings(explanation), _provenance(explanation),
        ]  # fmt: skip
    return " ".join(sentences)


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
    gain = explanation.contrasts[0].change.mean if explanation.contrasts else 0.0
    chance = percent(decided.probability_better)
    if decided.support != "extrapolation":
        chance = likely(decided.probability_better)
    direction = "up" if gain >= 0 else "down"
    return (
        f"{verb} {name} from {today} to {price(decided.recommended_price)}: expected {explanation.objective} "
        f"{direction} {_money(explanation, gain)} a period (better: {chance})."
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


def _interval(explanation: Explanation, estimate: Estimate) -> str:
    return (
        f"{_signed(estimate.mean)} a period on average ({percent(estimate.probability)} between "
        f"{_signed(estimate.lower)} and {_signed(estimate.upper)})"
    )


def _signed(value: float) -> str:
    return f"{'-' if value < 0 else '+'}{amount(value)}"


def _why(explanation: Explanation) -> list[str]:
    decided = explanation.decision
    if explanation.looked_at_price is None:
        return [f"{_sentence(finding.message)}; {finding.remedy}." for finding in decided.findings]
    sentences = []
    for contrast in explanation.contrasts:
        sentences += _contrast(explanation, contrast)
    if explanation.split is not None:
        sentences.append(
            f"Of that change against today, {_signed(explanation.split.margin.mean)} comes from what a unit earns and "
            f"{_signed(explanation.split.volume.mean)} from how many are sold."
        )
        sentences.insert(1, sentences.pop())
    evidence = explanation.elasticity.estimate
    sentences.append(
        f"Its price elasticity is {evidence.mean:.2f} ({percent(evidence.probability)} between {evidence.lower:.2f} "
        f"and {evidence.upper:.2f})."
    )
    return sentences


def _contrast(explanation: Explanation, contrast: Contrast) -> list[str]:
    objective = explanation.objective
    if contrast.against == "today":
        at = price(explanation.looked_at_price or contrast.price)
        return [f"Against today, {at} changes {objective} by {_interval(explanation, contrast.change)}."]
    if contrast.price == explanation.looked_at_price:
        return []
    ruled = f", ruled out by {_joined(contrast.forbidden_by)}," if contrast.forbidden_by else ""
    return [
        f"Against the best rejected price, {price(contrast.price)}{ruled} the decision changes {objective} by "
        f"{_interval(explanation, contrast.change)} and is better with probability "
        f"{percent(contrast.probability_better)}."
    ]


def _evidence(explanation: Explanation) -> list[str]:
    evidence, support = explanation.elasticity, explanation.support
    parts = [f"{percent(part.weight)} from {_source(part.source, part.unit)}" for part in evidence.contributions]
    place = {"supported": "inside", "edge": "at the edge of", "extrapolation": "outside"}[support.level]
    return [
        f"That elasticity rests on {_joined(tuple(parts))} (approximate).",
        f"Demand is elastic: {likely(evidence.probability_elastic)}.",
        f"The price stands {place} the observed range, {price(support.lowest_price)} to "
        f"{price(support.highest_price)}, with {support.distinct_prices} prices in {support.rows} rows.",
    ]


def _source(source: str, unit: str) -> str:
    if source == "own_data":
        return "its own sales"
    return "the population" if source == "population" else f"its {source} {unit}"


def _portfolio_limits(explanation: Explanation) -> tuple[str, ...]:
    return tuple(name for name in explanation.decision.binding if name in (MaxShortfall.name, MaxChanges.name))


def _limits(explanation: Explanation) -> list[str]:
    tied = _portfolio_limits(explanation)
    held = [f"The portfolio's {_joined(tied)} keeps it from its own best price."] if tied else []
    return held + [
        f"The limit {limit.name} binds: one step looser ({limit.step}) is worth {_money(explanation, limit.looser)} a "
        f"period, one step tighter costs {_money(explanation, limit.tighter)}."
        for limit in explanation.limits
    ]


def _flip(explanation: Explanation) -> list[str]:
    flip = explanation.flip
    if flip is None or explanation.looked_at_price is None:
        return []
    side = "below" if explanation.looked_at_price > explanation.decision.current_price else "above"
    sentences = []
    if flip.equal_at is not None:
        sentences.append(
            f"Today's price would earn more than {price(explanation.looked_at_price)} if the elasticity were {side} "
            f"{flip.equal_at:.2f} ({likely(flip.equal_beyond)})."
        )
    if flip.today_best_at is not None and flip.today_best_beyond is not None:
        sentences.append(f"It would be the best price of all at an elasticity of {flip.today_best_at:.2f}.")
    return sentences


def _prior(explanation: Explanation) -> list[str]:
    prior = explanation.prior_sensitivity
    if prior is None:
        return []
    return [
        f"With half or twice the weight on the prior the best price is {price(prior.price_at_half)} or "
        f"{price(prior.price_at_double)}."
    ]


def _testing(explanation: Explanation) -> list[str]:
    testing = explanation.testing
    if testing is None:
        return []
    if testing.value <= 0:
        return [f"A test of {price(testing.test_price)} is not worth its cost."]
    return [
        f"A test of {price(testing.test_price)} over {testing.periods} periods is worth "
        f"{_money(explanation, testing.value)} over the horizon."
    ]


def _warnings(explanation: Explanation) -> list[str]:
    if explanation.looked_at_price is None:
        return []
    return [f"{_sentence(finding.message)}; {finding.remedy}." for finding in explanation.warnings]


def _provenance(explanation: Explanation) -> str:
    source = explanation.provenance
    until = "" if source.data_as_of is None else f", data to {source.data_as_of}"
    stale = "" if source.stale_on is None else f", stale from {source.stale_on}"
    return f"Model {source.model[:12]}, {source.draws} draws{until}{stale}; no personal data were used."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _joined(parts: tuple[str, ...]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
