"""Convergence numbers are those of ArviZ, whatever the draws look like."""

from __future__ import annotations

import numpy as np
import pytest
from arviz_stats.base.array import array_stats
from numpy.testing import assert_allclose

from bayes_pricing.demand.convergence import convergence


def autocorrelated(shape: tuple[int, int, int], rho: float, seed: int) -> np.ndarray:
    """First-order autoregressions."""
    noise = np.random.default_rng(seed).normal(size=shape)
    for at in range(1, shape[1]):
        noise[:, at] += rho * noise[:, at - 1]
    return noise


@pytest.mark.parametrize(("length", "rho"), [(500, 0.0), (251, 0.9), (100, -0.6), (30, 0.99), (6, 0.0)])
def test_numbers_are_those_of_arviz(length: int, rho: float) -> None:
    """Same algorithm, so equal but for the order of sums; ties, drifting, stuck and broken chains included."""
    draws = autocorrelated((4, length, 8), rho, seed=length)
    draws[:, :, 1] = draws[:, :, 1].round()
    draws[0, :, 2] += 3.0
    draws[:, :, 3] = 7.0
    draws[1, :, 4] = 0.5
    draws[2, 3, 5] = np.nan
    draws[:, :, 6] = np.abs(draws[:, :, 6])
    rhat, bulk, tail = convergence(draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert_allclose(rhat, array_stats.rhat(draws, chain_axis=0, draw_axis=1), rtol=1e-10)
        assert_allclose(bulk, array_stats.ess(draws, chain_axis=0, draw_axis=1, method="bulk"), rtol=1e-8)
        known = array_stats.ess(draws, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    assert_allclose(tail, known, rtol=1e-8)


def test_many_columns_are_taken_in_parts() -> None:
    """What a parameter gets does not depend on its neighbours, and no parameters give no numbers."""
    draws = autocorrelated((4, 60, 300), 0.3, seed=1)
    for whole, part in zip(convergence(draws), convergence(draws[:, :, 140:150]), strict=True):
        assert_allclose(whole[140:150], part, rtol=1e-12)
    assert all(len(values) == 0 for values in convergence(draws[:, :, :0]))
