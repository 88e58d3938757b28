from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.diagnostics import SamplerStatistics, check_sampling, diagnostics_json, rhat_limit
from tests.posteriors import ArrayPosterior, posterior_from_draws

CHAINS, DRAWS, ITEMS = 4, 1000, 3
QUIET = SamplerStatistics(divergences=0, energy=np.random.default_rng(5).normal(size=(CHAINS, DRAWS)))


def posterior(elasticity: np.ndarray) -> ArrayPosterior:
    return posterior_from_draws(elasticity.reshape(CHAINS * DRAWS, ITEMS), chains=CHAINS)


def independent_draws(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(-2.0, 0.3, size=(CHAINS, DRAWS, ITEMS))


def test_independent_draws_pass_with_the_effective_size_of_all_draws() -> None:
    verdict = check_sampling(posterior(independent_draws(1)), QUIET)
    assert verdict.passed, verdict.findings
    assert 0.99 < verdict.max_rhat < 1.01
    assert verdict.min_ess_bulk > 0.8 * CHAINS * DRAWS  # independent draws: close to their number
    assert verdict.findings == ()


def test_a_chain_that_sits_elsewhere_fails_on_rhat() -> None:
    draws = independent_draws(2)
    draws[0] += 1.0  # three standard deviations
    verdict = check_sampling(posterior(draws), QUIET)
    assert not verdict.passed
    assert verdict.max_rhat > 1.2
    assert {finding.code for finding in verdict.findings} >= {"rhat", "ess_bulk"}


def test_nan_draws_never_pass() -> None:
    draws = independent_draws(3)
    draws[1, 5, 2] = np.nan
    verdict = check_sampling(posterior(draws), QUIET)
    assert not verdict.passed
    assert "rhat_items" in {finding.code for finding in verdict.findings}
    assert diagnostics_json(verdict)["passed"] is False
    assert diagnostics_json(verdict)["max_rhat"] is None


@pytest.mark.parametrize("divergences", [1, -1])
def test_divergent_or_unknown_fails(divergences: int) -> None:
    verdict = check_sampling(posterior(independent_draws(4)), SamplerStatistics(divergences=divergences))
    assert [finding.code for finding in verdict.findings] == ["divergences"]


def test_energy_that_wanders_fails_on_ebfmi() -> None:
    wandering = np.cumsum(np.random.default_rng(6).normal(size=(CHAINS, DRAWS)), axis=1)
    verdict = check_sampling(posterior(independent_draws(4)), SamplerStatistics(divergences=0, energy=wandering))
    assert [finding.code for finding in verdict.findings] == ["ebfmi"]


def test_rhat_limit_holds_its_false_alarm_rate() -> None:
    """Eight split chains worth 100 independent draws each (many more, autocorrelated): one in a thousand."""
    rng = np.random.default_rng(7)
    means = rng.normal(size=(20_000, 8)) / np.sqrt(100.0)
    rhat = np.sqrt(1.0 + means.var(axis=1, ddof=1))  # the within-chain variance is known well
    assert (rhat > rhat_limit(1, ess=800.0)).mean() < 0.002  # 0.001 expected, sd 0.0002
    assert (rhat > rhat_limit(1, ess=8000.0)).mean() > 0.03  # the bare 1.01 would cry wolf
