from __future__ import annotations

import numpy as np
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.constraints import MaxChange
from bayes_pricing.pricing.pass_through import pass_through
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import posterior_from_draws

ELASTICITY = np.array([-2.5, -3.0, -1.6])
COST = 4.0


def test_constant_elasticity_adds_its_markup_to_a_cost() -> None:
    posterior = posterior_from_draws(np.tile(ELASTICITY, (400, 1)), cost=COST, current_price=7.0, highest_price=30.0)
    markup = ELASTICITY / (1.0 + ELASTICITY)
    found = pass_through(posterior, Economics(), horizon_periods=13, seed=1, cost_rise=0.25)
    # the best price is cost times the markup; Newton's method finds it to about 1e-9 of the price
    np.testing.assert_allclose([item.price_before for item in found], COST * markup, rtol=1e-7)
    np.testing.assert_allclose([item.rate for item in found], markup, rtol=1e-6)
    np.testing.assert_allclose([item.textbook for item in found], markup, rtol=1e-12)
    assert [item.elastic_share for item in found] == [1.0, 1.0, 1.0]


def test_a_sales_tax_is_passed_on_in_full() -> None:
    posterior = posterior_from_draws(np.tile(ELASTICITY, (400, 1)), cost=COST, current_price=7.0, highest_price=30.0)
    found = pass_through(posterior, Economics(tax_rate=0.1), horizon_periods=13, seed=1, tax_rise=0.05)
    np.testing.assert_allclose([item.rate for item in found], 1.0, rtol=1e-6)
    assert [item.textbook for item in found] == [1.0, 1.0, 1.0]


def test_a_limit_keeps_a_rise_from_buyers() -> None:
    posterior = posterior_from_draws(np.full((400, 1), -2.5), cost=5.0)
    held = pass_through(posterior, Economics(), [MaxChange(share=0.0)], horizon_periods=13, seed=1, cost_rise=0.5)
    assert held[0].rate == 0.0
    assert held[0].price_after == held[0].price_before == 10.0


def test_inelastic_draws_have_no_textbook_rate() -> None:
    posterior = posterior_from_draws(np.full((400, 1), -0.5), cost=5.0)
    found = pass_through(posterior, Economics(), horizon_periods=13, seed=1, cost_rise=0.5)
    assert np.isnan(found[0].textbook)
    assert found[0].elastic_share == 0.0


@pytest.mark.parametrize("rises", [{}, {"cost_rise": 1.0, "tax_rise": 0.1}, {"cost_rise": 0.0}, {"tax_rise": -0.1}])
def test_one_positive_rise_is_wanted(rises: dict[str, float]) -> None:
    posterior = posterior_from_draws(np.full((400, 1), -2.0), cost=5.0)
    with pytest.raises(SpecError, match="exactly one of cost_rise and tax_rise"):
        pass_through(
            posterior, Economics(), horizon_periods=13, seed=1, cost_rise=rises.get("cost_rise"),
            tax_rise=rises.get("tax_rise"),
        )  # fmt: skip
