from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from bayes_pricing.demand.forecast import demand_draws
from bayes_pricing.pricing.constraints import MaxItemLossQuantile, MaxItemShortfall
from bayes_pricing.pricing.outlook import Outlook, build_block, item_facts
from bayes_pricing.pricing.profit import Economics, Objective
from bayes_pricing.pricing.risk import tail_mean
from tests.posteriors import posterior_from_draws

Floats = NDArray[np.float64]


def outlook(objective: Objective, *, spread: float = 0.1, seed: int = 1) -> Outlook:
    """Six items whose units vary by draw, costs from none to above the price, elasticities on both sides of -1."""
    rng = np.random.default_rng(seed)
    elasticity = rng.normal([-3.0, -2.0, -1.2, -0.8, -0.2, 0.1], 0.4, (500, 6))
    posterior = posterior_from_draws(
        elasticity, units=np.exp(rng.normal(3.0, spread, (500, 6))), cost=[0.0, 4.0, 6.0, 8.0, 10.0, 13.0]
    )
    block = build_block(item_facts(posterior.items, Economics(), objective), demand_draws(posterior))
    return Outlook(block=block, prices=np.tile(10.0 * np.exp(np.linspace(-0.6, 0.6, 13)), (6, 1)))


def every_change(view: Outlook) -> Floats:
    """Change on every draw, array (J, K, S)."""
    return np.stack(
        [view.block.change(view.prices[:, column], view.facts.value) for column in range(view.prices.shape[1])], axis=1
    )


@pytest.mark.parametrize("objective", ["profit", "revenue", "units"])
@pytest.mark.parametrize(("share", "spread"), [(0.05, 0.1), (0.013, 1.5), (0.3, 0.0), (0.7, 0.5)])
def test_shortfall_and_quantile_are_those_of_all_draws(objective: Objective, share: float, spread: float) -> None:
    view = outlook(objective, spread=spread)
    change = every_change(view)
    scale = np.abs(change).max()
    assert_allclose(view.shortfall(share), -tail_mean(change, share), rtol=1e-9, atol=1e-12 * scale)
    assert_allclose(view.loss_quantile(share), -np.quantile(change, share, axis=2), rtol=1e-9, atol=1e-12 * scale)
    assert (view.largest_loss >= -change.min(axis=2) - 1e-9 * scale).all()


def test_limits_allow_what_the_measures_allow() -> None:
    view = outlook("profit")
    among = np.arange(13) % 3 > 0
    wanted = np.tile(among, (6, 1))
    for amount in (0.0, 5.0, 40.0, 1e9):
        by_shortfall = (view.shortfall(0.05) <= amount + 1e-9) & (wanted | view.is_today)
        assert (MaxItemShortfall(amount=amount).allows(view, wanted) == by_shortfall).all()
        by_quantile = (view.loss_quantile(0.1) <= amount + 1e-9) & (wanted | view.is_today)
        assert (MaxItemLossQuantile(amount=amount, probability=0.1).allows(view, wanted) == by_quantile).all()


def test_an_unknown_cost_allows_nothing() -> None:
    posterior = posterior_from_draws(np.full((400, 1), -2.0))
    block = build_block(item_facts(posterior.items, Economics(), "profit"), demand_draws(posterior))
    view = Outlook(block=block, prices=np.array([[10.0, 11.0]]))
    assert MaxItemShortfall(amount=1e9).allows(view).tolist() == [[True, False]]


def test_one_exponential_per_draw_serves_an_even_grid() -> None:
    view = outlook("profit", spread=0.5)
    grid = np.concatenate([view.prices[:, 6:7], view.prices], axis=1)
    even = Outlook(block=view.block, prices=grid, geometric=True)
    assert_allclose(even.expected_units, Outlook(block=view.block, prices=grid).expected_units, rtol=1e-12)


def test_part_of_a_block_keeps_what_was_sorted() -> None:
    block = outlook("profit").block
    assert_allclose(block.sorted_elasticity, np.sort(block.draws.elasticity, axis=1))
    part = block.part(np.array([4, 1]))
    assert_allclose(part.sorted_elasticity, np.sort(block.draws.elasticity[[4, 1]], axis=1))
    some = block.on(np.array([3, 7]))
    assert_allclose(some.units_today, block.units_today[:, [3, 7]])
    assert_allclose(some.draws.elasticity, block.draws.elasticity[:, [3, 7]])
