"""Runs made again where they were too bold or too short."""

from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.nuts import settle, without_divergence
from bayes_pricing.demand.posterior import DemandPosterior
from tests.unit.test_diagnostics import independent_draws, posterior


def close_followers(seed: int, every: int) -> np.ndarray:
    """Draws whose autocorrelation is 0.95 per iteration, every how many-th kept: the shape of a slow sampler."""
    rng = np.random.default_rng(seed)
    draws = independent_draws(seed)
    chains, length = draws.shape[:2]
    noise = rng.standard_normal((chains, length * every, *draws.shape[2:]))
    slow = np.zeros_like(noise)
    for at in range(1, noise.shape[1]):
        slow[:, at] = 0.95 * slow[:, at - 1] + np.sqrt(1 - 0.95**2) * noise[:, at]
    return slow[:, every - 1 :: every]


def test_a_slow_run_is_lengthened_until_it_passes() -> None:
    """Autocorrelation 0.95 leaves about 1/39 of 4,000 draws: under 400; a sixteenth of it leaves nearly all."""
    tried: list[int] = []

    def fit(every: int) -> tuple[DemandPosterior, SamplerStatistics]:
        tried.append(every)
        return posterior(close_followers(5, every)), SamplerStatistics(divergences=0)

    settled = settle(fit)
    assert settled.diagnostics.passed
    assert tried == [1, 4, 16][: len(tried)]
    assert settled.every == tried[-1] > 1
    assert [finding.code for finding in settled.findings] == ["sampled_longer"]


def test_a_run_that_passes_is_left_alone() -> None:
    settled = settle(lambda _every: (posterior(independent_draws(1)), SamplerStatistics(divergences=0)))
    assert (settled.every, settled.findings) == (1, ())


def test_divergences_are_not_cured_by_length() -> None:
    tried: list[int] = []

    def fit(every: int) -> tuple[DemandPosterior, SamplerStatistics]:
        tried.append(every)
        return posterior(independent_draws(1)), SamplerStatistics(divergences=2)

    assert not settle(fit).diagnostics.passed
    assert tried == [1]


@pytest.mark.parametrize(("quiet_from", "kept"), [(0.8, 0.8), (0.9, 0.95), (1.0, 0.99)])
def test_the_first_quiet_run_is_kept_or_the_last(quiet_from: float, kept: float) -> None:
    assert without_divergence(lambda aim: (aim, int(aim < quiet_from)), (0.8, 0.95, 0.99)) == kept
