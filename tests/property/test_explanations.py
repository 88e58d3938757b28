"""Laws of explanations: prose says only what the numbers say, and the order of items does not matter."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from bayes_pricing.pricing.constraints import (
    Bounds,
    Limit,
    MaxChange,
    MaxChanges,
    MaxLossProbability,
    MinMargin,
    MinVolume,
    PriceLadder,
)
from bayes_pricing.pricing.contrast import split_volume
from bayes_pricing.pricing.decision import PriceDecision
from bayes_pricing.pricing.explanation import Explanation, explain
from bayes_pricing.pricing.optimizer import optimize_prices
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.value_of_information import TestingRule
from bayes_pricing.pricing.wording import SCALE, amount, likelihood_word, likely, percent, price, word
from tests.crossing import crossed_posterior
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
            tenth = f"{math.floor(1000.0 * abs(leaf)) / 10.0:.1f}" if abs(leaf) < 1 else ""
            for text in (amount(leaf), price(abs(leaf)), f"{abs(leaf):.2f}", percent(leaf), str(leaf), tenth):
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


def crossed_decisions() -> Iterator[tuple[Any, PriceDecision]]:
    """Four items whose prices cross, held by a box, by a ladder and by limits that are searched under."""
    rng = np.random.default_rng(5)
    elasticity = rng.uniform(0.0, 0.4, (4, 4)) + rng.normal(0.0, 0.05, (400, 4, 4))
    elasticity[:, np.arange(4), np.arange(4)] = rng.normal(-2.6, 0.3, (400, 4))
    posterior = crossed_posterior(elasticity, cost=5.5)
    cases: list[list[Limit]] = [
        [MaxChange(share=0.06)],
        [PriceLadder(step=0.25), MaxChange(share=0.15), MaxChanges(count=2), MinVolume(units=90.0)],
    ]
    for limits in cases:
        yield posterior, optimize_prices(posterior, Economics(), "profit", limits, horizon_periods=26, seed=1)


DECISIONS = [*decisions(), *crossed_decisions()]


@pytest.mark.parametrize(("posterior", "decision"), DECISIONS)
def test_every_number_in_the_prose_is_in_the_structure(posterior: ArrayPosterior, decision: PriceDecision) -> None:
    for name in posterior.names:
        explanation = explain(posterior, decision, name)
        full = word(explanation, "full")
        assert said_numbers(full) <= sayable_numbers(explanation), full
        assert not FORBIDDEN.search(full), full
        headline, paragraph = word(explanation, "headline"), word(explanation, "paragraph")
        assert paragraph in full
        assert headline not in paragraph
        assert full.startswith(headline)
        assert len(headline.split()) <= 25
        assert "_" not in full, full  # no machine-readable name of a limit


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
    printed = re.search(r"(over |under )?([\d.]+) %", likely(probability))
    assert printed is not None
    if printed.group(1) is None:  # the number beside the word belongs to it too
        assert likelihood_word(float(printed.group(2)) / 100.0) == said


log_effect = st.floats(-2.0, 2.0)


@given(units=st.floats(0.1, 1e4), own=log_effect, cross=log_effect)
def test_own_and_cross_effects_add_up_and_change_sign_when_the_situations_are_swapped(
    units: float, own: float, cross: float
) -> None:
    before, after = np.array([units]), np.array([units * np.exp(own + cross)])
    there = split_volume(before, np.array([own]), np.array([cross]))
    back = split_volume(after, np.array([-own]), np.array([-cross]))
    scale = units * np.exp(abs(own + cross)) * (1.0 + abs(own) + abs(cross))
    assert_allclose(there[0] + there[1], after - before, atol=1e-9 * scale)
    assert_allclose(np.add(there, back), 0.0, atol=1e-8 * scale)
    alone = split_volume(before, np.array([own]), np.zeros(1))
    assert_allclose(alone[0], before * np.expm1(own), atol=1e-9 * scale)


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
