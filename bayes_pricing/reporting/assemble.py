"""From what a run produced to the parts of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl

from bayes_pricing.demand.elasticity import elasticity_table, variation_table
from bayes_pricing.demand.fit import DemandFit
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import DemandSpec, Priors
from bayes_pricing.errors import Finding
from bayes_pricing.pricing.constraints import PriceLadder
from bayes_pricing.pricing.curve import price_curve
from bayes_pricing.pricing.decision import PROBABILITY, ItemDecision, PriceDecision
from bayes_pricing.pricing.explanation import Explanation, explain
from bayes_pricing.pricing.frontier import efficient_frontier, price_of_caution
from bayes_pricing.pricing.wording import word
from bayes_pricing.registry import library_versions
from bayes_pricing.reporting.content import (
    DecisionPart,
    DemandPart,
    Fact,
    ItemStory,
    PriceCurve,
    Provenance,
    SalesPart,
    TrustPart,
)
from bayes_pricing.reporting.formats import percent_change, price, signed

MODEL_WORDS = {
    "lognormal": "log-normal demand",
    "poisson": "Poisson counts",
    "negative_binomial": "negative binomial counts",
}
PRIOR_DRAWS = 4000
PRICE_RISE = 1.1
CURVE_REACH = (0.75, 1.33)
"""How far below and above the prices in question a curve is drawn, as shares of them."""


def sales_part(fitted: DemandFit, source: str) -> SalesPart:
    """The sales a model was fitted to, and what was found in them."""
    return SalesPart(
        source=source,
        summary=fitted.summary,
        assessment=fitted.assessment,
        identification=fitted.identification,
    )


def demand_part(fitted: DemandFit, truth: pl.DataFrame | None = None, *, seed: int) -> DemandPart:
    """What price does to demand, beside what was believed before the data."""
    spec, rng = fitted.posterior.spec, np.random.default_rng(seed)
    nesting = " within ".join(("items", *spec.levels))
    return DemandPart(
        model=f"{MODEL_WORDS[spec.likelihood]}, {nesting}",
        why=fitted.choice.reason,
        elasticities=elasticity_table(fitted.posterior),
        variation=variation_table(fitted.posterior),
        truth=truth,
        revenue_change={
            "any item, before the data": prior_revenue_change(spec, rng),
            "any item, after the data": posterior_revenue_change(fitted.posterior, rng),
        },
    )


def prior_revenue_change(spec: DemandSpec, rng: np.random.Generator) -> np.ndarray:
    r"""Relative change of one item's revenue when its price rises by 10 %, as believed before any data.

    .. math:: 1.1^{1 + \varepsilon} - 1

    with :math:`\varepsilon` drawn from the prior of any one item: population, groups and item.

    Parameters
    ----------
    spec : DemandSpec
    rng : numpy Generator

    Returns
    -------
    array (draws,)
        Share of today's revenue; negative is a loss.

    Examples
    --------
    >>> change = prior_revenue_change(DemandSpec(), np.random.default_rng(1))
    >>> bool((change < 0).mean() > 0.8)  # most goods lose revenue when they get dearer
    True
    """
    priors: Priors = spec.priors
    between = np.abs(rng.normal(size=(2, PRIOR_DRAWS)))
    scales = np.array([priors.elasticity_between_groups, priors.elasticity_between_items])[:, None]
    spread = (between * scales * rng.normal(size=(2, PRIOR_DRAWS))).sum(axis=0)
    elasticity = priors.elasticity_mean + priors.elasticity_sd * rng.normal(size=PRIOR_DRAWS) + spread
    return np.asarray(PRICE_RISE ** (1.0 + elasticity) - 1.0)


def posterior_revenue_change(posterior: DemandPosterior, rng: np.random.Generator) -> np.ndarray:
    """The same as :func:`prior_revenue_change` after the data: any one item, not one of those seen, array (draws,)."""
    elasticity = posterior.coefficients("population").sel(coefficient="log_price").to_numpy().ravel()
    for level in ("item", *posterior.spec.levels):
        sd = posterior.variation(level).sel(coefficient="log_price").to_numpy().ravel()
        elasticity = elasticity + sd * rng.normal(size=sd.shape)
    return np.asarray(PRICE_RISE ** (1.0 + elasticity) - 1.0)


def decision_part(
    posterior: DemandPosterior,
    decision: PriceDecision,
    stories: Sequence[str],
    period: str,
    findings: Sequence[Finding] = (),
) -> DecisionPart:
    """The decision, with the stories of some items in the order given; `findings` are those of the fit."""
    told = tuple(item_story(posterior, decision, item, period, findings) for item in stories)
    return DecisionPart(decision=decision, stories=told)


FRONTIER_POINTS = 6


def with_frontier(
    part: DecisionPart, posterior: DemandPosterior, *, seed: int, points: int = FRONTIER_POINTS
) -> DecisionPart:
    """The same part with the frontier of gain against risk and what each risk limit costs; solves a dozen times."""
    decision = part.decision
    asked = (posterior, decision.economics, decision.objective, decision.limits)
    items = [item.item for item in decision.items]
    horizon = decision.horizon_periods
    return replace(
        part,
        frontier=efficient_frontier(*asked, horizon_periods=horizon, seed=seed, items=items, points=points),
        caution=price_of_caution(*asked, horizon_periods=horizon, seed=seed, items=items),
    )


def item_story(
    posterior: DemandPosterior, decision: PriceDecision, item: str, period: str, findings: Sequence[Finding] = ()
) -> ItemStory:
    """One item's decision in words and as a curve."""
    explained = explain(posterior, decision, item, period=period, findings=findings)
    decided = decision.item(item)
    currency = decision.economics.currency or "currency"
    return ItemStory(
        item=item,
        action=decided.action,
        headline=word(explained, "headline"),
        paragraph=word(explained, "paragraph"),
        full=tuple(word(explained, "full").split("\n\n")[2:]),
        facts=_story_facts(explained, currency),
        curve=PriceCurve(
            points=_near(price_curve(posterior, decision, item), decided),
            current_price=decided.current_price,
            recommended_price=decided.price,
            lowest_price=explained.support.lowest_price,
            highest_price=explained.support.highest_price,
            outcome=f"{decision.objective} of its category" if explained.joint else decision.objective,
            unit=f"units per {period}" if decision.objective == "units" else f"{currency} per {period}",
            price_unit=f"{currency} per unit",
            probability=PROBABILITY,
            joint=explained.joint,
        ),
    )


def _near(points: pl.DataFrame, decided: ItemDecision) -> pl.DataFrame:
    """The part of a curve around the prices in question: what lies far off would flatten all that matters."""
    low, high = sorted((decided.current_price, decided.price))
    return points.filter(pl.col("price").is_between(CURVE_REACH[0] * low, CURVE_REACH[1] * high))


def _story_facts(explained: Explanation, currency: str) -> tuple[Fact, ...]:
    """Today's price and the new one, what that changes, and what holds it at what cost."""
    decided, unit = explained.decision, f"{currency} per unit"
    facts = [Fact(label="Today", value=price(decided.current_price), unit=unit)]
    if decided.recommended_price is not None:
        move = percent_change(decided.recommended_price / decided.current_price - 1.0)
        facts.append(Fact(label="New price", value=f"{price(decided.recommended_price)} ({move})", unit=unit))
    per = f"{'units' if explained.objective == 'units' else currency} per {explained.period}"
    change = {"revenue": decided.revenue, "profit": decided.profit, "units": decided.units}[explained.objective]
    if change is not None and decided.action == "change":
        own = " of its own" if explained.joint else ""
        facts.append(Fact(label=f"Change of {explained.objective}{own}", value=change, unit=per))
    if explained.category is not None and decided.action == "change":
        facts.append(
            Fact(label=f"Change of its category's {explained.objective}", value=explained.category.change, unit=per)
        )
    for limit in explained.limits:
        looser, tighter = (f"{signed(value)} {per}" if value else "nothing" for value in (limit.looser, limit.tighter))
        cost = f"{limit.looser_words} would bring {looser}, {limit.tighter_words} {tighter}"
        facts.append(Fact(label="What holds it", value=f"{limit.words}: {cost}"))
    tied = [force.words for force in explained.policy if force.portfolio and force.name in decided.binding]
    facts += [Fact(label="What holds it", value=words) for words in tied]
    if not decided.binding and decided.action in ("change", "hold"):
        rungs = [force.words for force in explained.policy if force.name == PriceLadder.name]
        facts.append(Fact(label="What holds it", value=f"nothing but {rungs[0]}" if rungs else "nothing"))
    return tuple(facts)


def trust_part(fitted: DemandFit) -> TrustPart:
    """The gate's verdict and how sampled rows fall into their predictive distributions."""
    return TrustPart(diagnostics=fitted.diagnostics, pit=fitted.predictions.pit)


def provenance(fitted: DemandFit, seconds: Mapping[str, float], command: str) -> Provenance:
    """What it takes to get the same report again."""
    return Provenance(
        model_id=fitted.posterior.id,
        seed=fitted.seed,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=library_versions(),
        seconds=seconds,
        command=command,
    )
