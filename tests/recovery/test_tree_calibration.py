"""Simulation-based calibration of the tree on twenty markets; the study of the same name runs hundreds."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.spec import NoiseBy
from simulations.studies.tree_calibration import coverage, holm_accepts, simulate_ranks, uniformity_p_value


@pytest.mark.slow
@pytest.mark.parametrize(("noise_by", "markets", "seed"), [("item", 14, 11), ("common", 6, 12)])
def test_ranks_of_twenty_markets_are_uniform(noise_by: NoiseBy, markets: int, seed: int) -> None:
    """Twenty markets over both kinds of noise; a sampler off by one posterior sd fails at once."""
    ranks, failures = simulate_ranks(markets, seed, noise_by=noise_by)
    assert failures == 0
    rng = np.random.default_rng(1)
    p_values = {name: uniformity_p_value(values, rng, simulations=50_000) for name, values in ranks.items()}
    assert min(p_values.values()) > 1e-4, p_values


def test_uniform_ranks_pass_and_shifted_ones_do_not() -> None:
    rng = np.random.default_rng(3)
    uniform = rng.random(200)
    assert uniformity_p_value(uniform, rng) > 0.01
    assert uniformity_p_value(uniform**1.5, rng) < 0.01
    assert uniformity_p_value(0.5 + 0.6 * (uniform - 0.5), rng) < 0.01


def test_holm_stops_at_the_first_acceptance() -> None:
    """With three parameters at 3 % the limits are 1 %, 1.5 % and 3 %."""
    verdict = holm_accepts({"a": 0.005, "b": 0.02, "c": 0.025}, error=0.03)
    assert verdict == {"a": False, "b": True, "c": True}


def test_coverage_counts_the_central_interval() -> None:
    assert coverage(np.array([0.02, 0.3, 0.5, 0.9]), 0.5) == 0.5
