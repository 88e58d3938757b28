from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.profit import Economics

ITEMS = pl.DataFrame({"item": ["tea", "mug"], "cost": [2.0, None]})


def test_tax_is_passed_on_and_commission_is_taken_from_what_is_left() -> None:
    money = Economics(cost=3.0, commission=0.2, fixed_fee=0.5, tax_rate=0.25)
    prices = np.array([10.0, 20.0])
    np.testing.assert_allclose(money.unit_value("revenue", ITEMS).at(prices), [8.0, 16.0])
    np.testing.assert_allclose(money.unit_value("profit", ITEMS).at(prices), [8 * 0.8 - 3.5, 16 * 0.8 - 3.5])
    np.testing.assert_allclose(money.unit_value("units", ITEMS).at(prices), [1.0, 1.0])
    assert money.profit_per_unit(10.0) == pytest.approx(2.9)


def test_costs_come_from_the_items_unless_given() -> None:
    np.testing.assert_array_equal(Economics().unit_value("profit", ITEMS).charge, [2.0, np.nan])
    np.testing.assert_array_equal(Economics(cost={"mug": 7.0}).unit_value("profit", ITEMS).charge, [np.nan, 7.0])


def test_commission_may_differ_by_item() -> None:
    value = Economics(cost=0.0, commission={"tea": 0.5, "mug": 0.25}).unit_value("profit", ITEMS)
    np.testing.assert_allclose(value.kept, [0.5, 0.75])


@pytest.mark.parametrize(
    "wrong",
    [{"cost": -1.0}, {"commission": 1.0}, {"fixed_fee": float("nan")}, {"tax_rate": -0.1}, {"cost": {"a": np.inf}}],
)
def test_impossible_economics_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="Economics"):
        Economics(**wrong)
