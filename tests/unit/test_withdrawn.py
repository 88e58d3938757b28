"""Items that stopped selling get no price, and own prices are held to the ladder."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
import pytest

from bayes_pricing.pricing.constraints import PriceLadder
from bayes_pricing.pricing.optimizer import evaluate_prices, on_sale, optimize_prices
from bayes_pricing.pricing.profit import Economics
from tests.posteriors import ArrayPosterior, posterior_from_draws


def posterior(last_of_first: date) -> ArrayPosterior:
    made = posterior_from_draws(np.random.default_rng(1).normal(-2.5, 0.2, size=(400, 3)), cost=4.0)
    dates = pl.Series("last_period", [last_of_first, date(2025, 12, 29), date(2025, 12, 29)])
    items = made.items.with_columns(dates, pl.lit(date(2025, 1, 6)).alias("first_period"))
    object.__setattr__(made, "items", items)
    return made


def test_a_withdrawn_item_gets_no_price_and_is_named() -> None:
    decision = optimize_prices(
        posterior(date(2025, 7, 28)), Economics(), "profit", horizon_periods=13.0, seed=1, testing=None
    )
    assert [item.item for item in decision.items] == ["item-00001", "item-00002"]
    named = [finding for finding in decision.findings if finding.code == "not_on_sale"]
    assert len(named) == 1
    assert "'item-00000'" in named[0].message


def test_a_short_gap_at_the_end_is_no_withdrawal() -> None:
    assert on_sale(posterior(date(2025, 12, 8))) == (None, ())


@pytest.mark.parametrize(("price", "feasible"), [(9.99, True), (9.37, False), (10.0, True)])
def test_own_prices_are_held_to_the_ladder_but_for_todays(price: float, feasible: bool) -> None:
    decision = evaluate_prices(
        posterior(date(2025, 12, 29)),
        Economics(),
        "profit",
        [PriceLadder(endings=(0.99,))],
        prices={"item-00000": price},
        horizon_periods=13.0,
        seed=1,
    )
    assert decision.portfolio.feasible is feasible
    broken = {finding.code for finding in decision.item("item-00000").findings}
    assert ("breaks_limit" in broken) is not feasible
