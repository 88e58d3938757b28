from __future__ import annotations

import pytest

from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.errors import PanelError, SpecError


def test_own_names_and_aliases_are_found() -> None:
    roles = ColumnRoles.resolve(["SKU", "Unit Price", "units-sold", "Week", "category", "store_id", "weather"])
    assert (roles.item, roles.price, roles.quantity) == ("SKU", "Unit Price", "units-sold")
    assert (roles.period, roles.region, roles.levels) == ("Week", "store_id", ("category",))
    assert roles.controls == ()


def test_names_of_peers() -> None:
    pypricing = ColumnRoles.resolve(["sku_col", "price_col", "quantity_col", "period_col", "control_tv", "iv_fuel"])
    assert pypricing.columns() == ("sku_col", "period_col", "price_col", "quantity_col", "control_tv", "iv_fuel")
    assert (pypricing.controls, pypricing.instruments) == (("control_tv",), ("iv_fuel",))
    pyblp = ColumnRoles.resolve(["market_ids", "product_ids", "shares", "prices", "demand_instruments0"])
    assert (pyblp.item, pyblp.region, pyblp.price, pyblp.quantity) == ("product_ids", "market_ids", "prices", "shares")
    assert pyblp.instruments == ("demand_instruments0",)


def test_an_explicit_role_wins_and_frees_nothing_twice() -> None:
    roles = ColumnRoles.resolve(["item", "sku", "price", "qty", "units"], item="sku", quantity="units")
    assert (roles.item, roles.quantity) == ("sku", "units")


def test_the_own_name_wins_over_an_alias() -> None:
    assert ColumnRoles.resolve(["item", "sku", "price", "quantity", "volume"]).quantity == "quantity"


def test_two_candidates_are_refused_by_name() -> None:
    with pytest.raises(PanelError) as error:
        ColumnRoles.resolve(["item", "price", "qty", "volume", "week", "month"])
    assert [problem.code for problem in error.value.problems] == ["ambiguous_column"] * 2
    assert "['qty', 'volume'] could each be the quantity" in str(error.value)
    assert "['week', 'month'] could each be the period: say which with --period" in str(error.value)


def test_missing_columns_are_all_named_with_what_is_there() -> None:
    with pytest.raises(PanelError, match=r"no column for the role 'item' among \['shop', 'euros'\]") as error:
        ColumnRoles.resolve(["shop", "euros"])
    assert len(error.value.problems) == 3


def test_no_levels_can_be_asked_for() -> None:
    assert ColumnRoles.resolve(["item", "price", "quantity", "category"], levels=()).levels == ()


def test_a_deflator_is_never_guessed() -> None:
    assert ColumnRoles.resolve(["item", "price", "quantity", "cpi"]).deflator is None


def test_a_control_may_also_be_the_discount() -> None:
    roles = ColumnRoles(item="sku", price="p", quantity="q", discount="disc", controls=("disc",))
    assert roles.columns() == ("sku", "p", "q", "disc")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ("sku",)}, "plays two roles, item and level"),
        ({"cost": "p"}, "plays two roles, price and cost"),
        ({"controls": ("q",)}, "plays two roles, quantity and controls"),
        ({"controls": ("a",), "shared_controls": ("a",)}, "item-level and shared"),
        ({"controls": ("log_price",)}, "cannot keep its name"),
        ({"controls": ("price",)}, "cannot keep its name"),
        ({"levels": ("population",)}, "cannot keep its name"),
    ],
)
def test_roles_that_exclude_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        ColumnRoles(item="sku", price="p", quantity="q", **options)  # type: ignore[arg-type]
