"""Shares to mean utilities and back: the inversion, its Jacobian and the people it is made over."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.demand.shares_inversion import Markets, fill_own_slopes, invert_shares, people_nodes

SIZES = (3, 5, 1, 4)


def mixed_shares(markets: Markets, spread: Floats, delta: Floats) -> Floats:
    """The definition, market by market."""
    found = np.empty(len(delta))
    for a, b in zip(markets.first[:-1], markets.first[1:], strict=True):
        utility = delta[a:b, None] + markets.x[a:b] @ (spread * markets.nodes).T
        weight = np.exp(utility)
        found[a:b] = (weight / (1.0 + weight.sum(axis=0))).mean(axis=1)
    return found


def simulated(seed: int, *, people: int = 60) -> tuple[Markets, Floats, Floats]:
    rng = np.random.default_rng(seed)
    first = np.concatenate([[0], np.cumsum(SIZES)])
    x = np.column_stack([rng.uniform(1.0, 4.0, first[-1]), np.ones(first[-1])])
    delta, spread = rng.normal(-1.0, 2.0, first[-1]), np.array([1.5, 0.8])
    markets = Markets(np.zeros(first[-1]), x, first.astype(np.int64), people_nodes(people, 2, seed))
    return markets._replace(log_share=np.log(mixed_shares(markets, spread, delta))), spread, delta


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_inversion_gives_the_mean_utilities_back(seed: int) -> None:
    markets, spread, truth = simulated(seed)
    found = np.zeros(len(truth))
    invert_shares(markets, spread, found)
    np.testing.assert_allclose(found, truth, atol=1e-8)  # log shares to 1e-11, over the smallest of 1 - s_0


def test_its_determinant_is_that_of_the_slopes() -> None:
    markets, spread, truth = simulated(4)
    logdet = invert_shares(markets, spread, truth.copy())
    step, expected = 1e-6, 0.0
    for a, b in zip(markets.first[:-1], markets.first[1:], strict=True):
        slopes = np.empty((b - a, b - a))
        for k in range(a, b):
            up, down = truth.copy(), truth.copy()
            up[k] += step
            down[k] -= step
            slopes[:, k - a] = (mixed_shares(markets, spread, up)[a:b] - mixed_shares(markets, spread, down)[a:b]) / (
                2.0 * step
            )
        expected += np.linalg.slogdet(slopes)[1]
    assert logdet == pytest.approx(expected, rel=1e-6)


def test_people_alike_are_the_plain_logit() -> None:
    markets, _, _ = simulated(5)
    found = np.zeros(len(markets.log_share))
    invert_shares(markets, np.zeros(2), found)
    share = np.exp(markets.log_share)
    outside = 1.0 - np.add.reduceat(share, markets.first[:-1])
    np.testing.assert_allclose(found, np.log(share) - np.log(np.repeat(outside, SIZES)), atol=1e-9)


def test_shares_that_nobody_could_give_have_no_inverse() -> None:
    markets, spread, _ = simulated(6)
    impossible = markets._replace(log_share=np.full(len(markets.log_share), -0.1))
    assert np.isnan(invert_shares(impossible, spread, np.zeros(len(markets.log_share))))


def test_own_slopes_are_finite_differences() -> None:
    markets, spread, truth = simulated(7)
    mean, around = np.empty(len(truth)), np.empty(len(truth))
    fill_own_slopes(markets, spread, truth, 0, mean, around)
    coefficient, step = -1.2, 1e-6
    row = 4
    moved = []
    for side in (step, -step):
        x, delta = markets.x.copy(), truth.copy()
        x[row, 0] += side
        delta[row] += coefficient * side
        moved.append(np.log(mixed_shares(markets._replace(x=x), spread, delta)[row]))
    slope = (moved[0] - moved[1]) / (2.0 * step)
    assert coefficient * mean[row] + spread[0] * around[row] == pytest.approx(slope, rel=1e-6)
