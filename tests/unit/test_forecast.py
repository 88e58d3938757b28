from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.demand.forecast import demand_draws, predict_units, select_items
from bayes_pricing.errors import SpecError
from tests.posteriors import normal_posterior, posterior_from_draws


def test_units_follow_the_elasticity_and_carry_the_smearing() -> None:
    elasticity = np.array([[-2.0, -1.0], [-1.5, -3.0]])
    posterior = posterior_from_draws(elasticity, units=[50.0, 80.0], current_price=[10.0, 20.0], smearing=0.125)
    units = predict_units(posterior, ["item-00001", "item-00000"], [10.0, 10.0])
    assert units.dims == ("chain", "draw", "item")
    # item 1 at half its price sells 2^-e times as much; item 0 stands at today's price
    np.testing.assert_allclose(units.sel(item="item-00001").to_numpy().ravel(), [160.0, 640.0])
    np.testing.assert_allclose(units.sel(item="item-00000").to_numpy().ravel(), [50.0, 50.0])


def test_a_curve_has_a_price_dimension_on_the_same_draws() -> None:
    posterior = normal_posterior(3, 40, seed=1)
    prices = np.outer(posterior.items["current_price"].to_numpy(), [0.9, 1.0, 1.1])
    curve = predict_units(posterior, posterior.names, prices)
    assert curve.dims == ("chain", "draw", "item", "price")
    np.testing.assert_allclose(curve.isel(price=1), predict_units(posterior, posterior.names, prices[:, 1]))
    draws = demand_draws(posterior)
    ratio = (curve.isel(price=2) / curve.isel(price=1)).transpose("item", "chain", "draw").to_numpy().reshape(3, -1)
    np.testing.assert_allclose(np.log(ratio), draws.elasticity * np.log(1.1))


def test_one_price_serves_all_items() -> None:
    posterior = normal_posterior(3, 40, seed=1)
    np.testing.assert_array_equal(
        predict_units(posterior, posterior.names, 9.0), predict_units(posterior, posterior.names, [9.0] * 3)
    )


@pytest.mark.parametrize(
    ("items", "prices", "problem"),
    [
        (["item-00000"], [0.0], "not positive"),
        (["item-00000"], [np.nan], "not positive"),
        (["item-00000"], [1.0, 2.0], "shape"),
        (["nobody"], [1.0], "no item 'nobody'"),
        (["item-00000", "item-00000"], [1.0, 1.0], "twice"),
    ],
)
def test_impossible_requests_are_refused(items: list[str], prices: list[float], problem: str) -> None:
    with pytest.raises(SpecError, match=problem):
        predict_units(normal_posterior(2, 40, seed=1), items, prices)


def test_an_answer_that_would_fill_memory_is_refused() -> None:
    posterior = normal_posterior(2, 40, seed=1)
    with pytest.raises(SpecError, match="2 GB"):
        predict_units(posterior, posterior.names, np.broadcast_to(10.0, (2, 4_000_000)))


def test_items_come_in_the_order_asked() -> None:
    posterior = normal_posterior(5, 40, seed=1)
    names = ["item-00003", "item-00000"]
    assert select_items(posterior, names)["item"].to_list() == names
    assert demand_draws(posterior, names).items == tuple(names)
