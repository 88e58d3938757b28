"""Runs made again where they were too bold or too short."""

from __future__ import annotations

from collections.abc import Callable

import numba as nb
import numpy as np
import pytest

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand import nuts
from bayes_pricing.demand.diagnostics import SamplerStatistics, check_arrays
from bayes_pricing.demand.nuts import NutsDraws, SamplingPlan, sample_nuts, settle, without_divergence
from bayes_pricing.demand.nuts_chain import Chain, advance
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


TRUE_SD = np.array([0.01, 1.0, 30.0, 2.0])
CORRELATION = np.array([[1.0, 0.0, 0.8, 0.0], [0.0, 1.0, 0.0, -0.5], [0.8, 0.0, 1.0, 0.0], [0.0, -0.5, 0.0, 1.0]])
PRECISION = np.linalg.inv(CORRELATION * np.outer(TRUE_SD, TRUE_SD))
MEAN = np.array([5.0, -2.0, 100.0, 0.0])
NORMAL, LAPLACE, FUNNEL = range(3)


@nb.njit(nogil=True, error_model="numpy")
def run_target(rng: np.random.Generator, chain: Chain, target: int, precision: Floats) -> None:
    """A correlated normal; heavy tails that bend at zero; Neal's funnel, as wide as exp(x / 2) in all but the first."""
    more = True
    while more:
        x, gradient, value = chain.x, chain.gradient, 0.0
        for a in range(len(x)):
            gradient[a] = 0.0
            if target == NORMAL:
                for b in range(len(x)):
                    gradient[a] -= precision[a, b] * (x[b] - MEAN[b])
                value += 0.5 * gradient[a] * (x[a] - MEAN[a])
            elif target == LAPLACE:
                gradient[a] = -np.sign(x[a])
                value -= abs(x[a])
            elif a > 0:
                square = x[a] * x[a] * np.exp(-x[0])
                gradient[a] = -x[a] * np.exp(-x[0])
                gradient[0] += 0.5 * square - 0.5
                value -= 0.5 * square + 0.5 * x[0]
        if target == FUNNEL:
            gradient[0] -= x[0] / 9.0
            value -= x[0] * x[0] / 18.0
        chain.value[0] = value
        more = advance(rng, chain)


def sample(
    target: int,
    plan: SamplingPlan,
    targets: tuple[float, ...] = (0.8,),
    size: int = 4,
    report: Callable[[int, int, bool], None] | None = None,
) -> NutsDraws:
    """Draws of one of the targets, begun at standard normal points."""
    return sample_nuts(
        lambda: lambda rng, chain: run_target(rng, chain, target, PRECISION),
        lambda rng: rng.standard_normal(size),
        plan,
        targets,
        report,
    )


PLAN = SamplingPlan(draws=2000, tune=500, chains=4, seed=3)


def test_a_correlated_normal_of_very_different_scales() -> None:
    """Thousands of effective draws: means to 4 sds / sqrt(1,500), sds to 6 %, correlations to 0.06 (3 to 4 errors)."""
    found = sample(NORMAL, PLAN)
    assert check_arrays(found.x, found.x, SamplerStatistics(divergences=0, energy=found.energy)).passed
    flat = found.x.reshape(-1, 4)
    np.testing.assert_allclose((flat.mean(axis=0) - MEAN) / TRUE_SD, 0.0, atol=0.1)
    np.testing.assert_allclose(flat.std(axis=0) / TRUE_SD, 1.0, atol=0.06)
    np.testing.assert_allclose(np.corrcoef(flat.T), CORRELATION, atol=0.06)
    assert found.divergences == 0
    assert found.steps.mean() < 16.0  # the scales were learnt: with unit ones it would take thousands
    energy = found.energy - found.energy.mean()  # half a chi-square of 8 degrees: variance 4
    assert (energy**2).mean() == pytest.approx(4.0, rel=0.15)


def test_tails_heavier_than_a_normal() -> None:
    """Laplace: quantiles at -log 2, 0 and log 20; 0.15 is 4 errors of the last from 2,000 effective draws."""
    flat = sample(LAPLACE, PLAN).x.ravel()
    np.testing.assert_allclose(np.quantile(flat, [0.25, 0.5, 0.975]), [-np.log(2), 0.0, np.log(20)], atol=0.15)


def test_same_draws_on_one_core_and_on_many(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SamplingPlan(draws=50, tune=50, chains=3, seed=8, every=2)
    many = sample(NORMAL, plan)
    monkeypatch.setattr(nuts, "available_cores", lambda: 1)
    np.testing.assert_array_equal(sample(NORMAL, plan).x, many.x)
    assert (many.x.shape, many.steps.shape) == ((3, 50, 4), (3, 100))


def test_a_funnel_diverges_is_made_again_and_is_owned_up_to() -> None:
    """Its neck is as narrow as one wants, so every aim diverges, and what is left is counted."""
    reports: list[int] = []
    found = sample(FUNNEL, PLAN, (0.6, 0.7), size=8, report=lambda done, _total, _warming: reports.append(done))
    assert found.divergences > 0
    assert reports[-1] == PLAN.total  # the last aim runs to its end whatever happens


def test_a_stopped_chain_ends() -> None:
    """A report that raises, as an interrupt does, comes out, and no chain runs on."""

    def interrupt(done: int, _total: int, _warming: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample(FUNNEL, SamplingPlan(draws=10**6, tune=500, chains=2, seed=1), size=8, report=interrupt)
