"""Laws of explanations: prose says only what the numbers say, and the order of items does not matter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayes_pricing.pricing.constraints import Bounds, Limit, MaxChange, MaxChanges, MaxLossProbability, MinMargin
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.explanation import Explanation, explain
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import TestingRule
from bayes_pricing.pricing.wording import SCALE, amount, likelihood_word, percent, price, word
from tests.posteriors import ArrayPosterior, normal_posterior

FORBIDDEN = re.compile(r"\b(will|guarantee\w*|proves?|optimal)\b", re.IGNORECASE)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for child in value.values():
            yield from leaves(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from leaves(child)
    else:
        yield value


def said_numbers(text: str) -> set[str]:
    return {match.rstrip(",") for match in NUMBER.findall(text)}


def sayable_numbers(explanation: Explanation) -> set[str]:
    """Every way a number or text of the structure may appear in prose."""
    found: set[str] = {"1", "99"}  # "under 1 %" and "over 99 %"
    for leaf in leaves(msgspec.to_builtins(explanation)):
        if isinstance(leaf, str):
            found |= said_numbers(leaf) | said_numbers(leaf[:12])
        elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
            for text in (amount(leaf), price(abs(leaf)), f"{abs(leaf):.2f}", percent(leaf), str(leaf)):
                found |= said_numbers(text)
    return found


def decisions() -> Iterator[tuple[ArrayPosterior, PriceDecision]]:
    cases: list[tuple[Objective, list[Limit], TestingRule | None]] = [
        ("profit", [MaxChange(share=0.15), MaxLossProbability(probability=0.2)], None),
        ("profit", [MaxChange(share=0.15)], TestingRule()),
        ("revenue", [MaxChange(share=0.1), MaxChanges(count=4)], None),
        ("units", [MinMargin(share=0.3)], None),
        ("profit", [Bounds(lowest=11.0), MinMargin(share=0.35), MaxChange(share=0.15)], None),
    ]
    for seed, (objective, limits, testing) in enumerate(cases):
        posterior = normal_posterior(12, 400, seed=seed, sd=0.8)
        money = Economics(commission=0.1, currency="EUR")
        yield (
            posterior,
            optimize_prices(posterior, money, objective, limits, horizon_periods=26, seed=1, testing=testing),
        )


DECISIONS = list(decisions())


@pytest.mark.parametrize(("posterior", "decision"), DECISIONS)
def test_every_number_in_the_prose_is_in_the_structure(posterior: ArrayPosterior, decision: PriceDecision) -> None:
    for name in posterior.names:
        explanation = explain(posterior, decision, name)
        full = word(explanation, "full")
        assert said_numbers(full) <= sayable_numbers(explanation), full
        assert not FORBIDDEN.search(full), full
        assert word(explanation, "paragraph") in full
        assert full.startswith(word(explanation, "headline"))
        assert len(word(explanation, "headline").split()) <= 25


def test_every_action_is_worded() -> None:
    assert {item.action for _, decision in DECISIONS for item in decision.items} == {
        "change", "hold", "test_first", "refused",
    }  # fmt: skip


@given(probability=st.floats(0.0, 1.0))
def test_words_match_probabilities(probability: float) -> None:
    edges = {label: edge for edge, label in SCALE}
    said = likelihood_word(probability)
    assert probability >= edges.get(said, 0.0)
    higher = [edge for edge, label in SCALE if edge > edges.get(said, 0.0)]
    assert not higher or probability < min(higher)
    assert percent(probability) not in ("100 %", "0 %")


@settings(deadline=None, max_examples=5)
@given(order=st.permutations(range(8)))
def test_explaining_is_invariant_to_the_order_of_items(order: list[int]) -> None:
    posterior = normal_posterior(8, 400, seed=2)
    names = [posterior.names[index] for index in order]
    straight = optimize_prices(posterior, Economics(), "profit", horizon_periods=13, seed=1)
    shuffled = optimize_prices(posterior, Economics(), "profit", items=names, horizon_periods=13, seed=1)
    for name in names[:3]:
        first, second = explain(posterior, straight, name), explain(posterior, shuffled, name)
        # totals over items may add up in another order, so the last digits of the item's share of the tail may differ
        assert word(first, "full") == word(second, "full")
        assert first.contrasts == second.contrasts
        assert first.split == second.split


def test_relaxing_a_binding_limit_never_loses_and_tightening_never_gains() -> None:
    for posterior, decision in DECISIONS:
        for name in posterior.names:
            for limit in explain(posterior, decision, name).limits:
                assert limit.looser >= 0.0
                assert limit.tighter <= 0.0


def test_contrast_is_paired_and_losses_balance() -> None:
    for posterior, decision in DECISIONS:
        for name in posterior.names:
            for contrast in explain(posterior, decision, name).contrasts:
                balance = contrast.expected_loss_of_other - contrast.expected_loss
                assert balance == pytest.approx(contrast.change.mean, abs=1e-9 * (1.0 + abs(balance)))
                assert contrast.half.lower >= contrast.change.lower
                assert np.isfinite(contrast.price)
