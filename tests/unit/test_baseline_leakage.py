from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.baselines.leak_demonstration import score_with_leak
from bayes_pricing.baselines.leakage import LeakageError, find_leaks, refuse_leaks, require_known_on_the_day
from bayes_pricing.baselines.protocol import SalesRows


def sales(n_items: int = 40, n_periods: int = 30) -> pl.DataFrame:
    rng = np.random.default_rng(5)
    item = np.repeat(np.arange(n_items), n_periods)
    price = rng.choice([2.0, 2.5, 3.0, 3.5], item.size)
    units = rng.poisson(np.exp(rng.normal(1.5, 0.7, n_items))[item] * (price / 2.5) ** -2)
    frame = pl.DataFrame(
        {
            "item": [f"i{code:02d}" for code in item],
            "period": np.tile(np.arange(n_periods), n_items),
            "price": price,
            "quantity": units.astype(float),
            "display": rng.integers(0, 2, item.size),
        }
    )
    own, units_sold = pl.col("quantity"), pl.col("quantity").cum_sum().over("item")
    return frame.with_columns(
        heads=own * 3 + 1,
        takings=own * pl.col("price"),
        log_heads=own.log1p(),
        so_far=units_sold,
        until_now=units_sold - own,
        pace=own.rolling_mean(4, min_samples=1).over("item"),
        pace_before=own.shift(1).rolling_mean(3, min_samples=1).over("item").fill_null(0.0),
        yesterday=own.shift(1).over("item").fill_null(0.0),
        popularity=own.sum().over("item"),
    )


def test_values_give_leaks_away_whatever_their_name() -> None:
    kinds = {leak.feature: leak.kind for leak in find_leaks(SalesRows(frame=sales()), sales().columns[4:])}
    assert kinds == {
        "heads": "same_period",
        "takings": "same_period",
        "so_far": "running_total",
        "pace": "recent_sum",
        "popularity": "whole_total",
    }


def test_logs_are_found_where_nothing_is_zero() -> None:
    frame = sales().with_columns(pl.col("quantity") + 1.0).with_columns(power=pl.col("quantity") ** 1.7)
    assert [leak.kind for leak in find_leaks(SalesRows(frame=frame), ["power"])] == ["same_period"]


def test_order_of_rows_does_not_matter() -> None:
    frame = sales().sample(fraction=1.0, shuffle=True, seed=3)
    assert [leak.kind for leak in find_leaks(SalesRows(frame=frame), ["so_far", "until_now"])] == ["running_total"]


@pytest.mark.parametrize(
    "name", ["enrollments", "revenue", "total_enrollments", "enrollment_velocity", "Units Sold", "quantity_7d"]
)
def test_names_of_the_outcome_are_refused_even_if_declared(name: str) -> None:
    with pytest.raises(LeakageError) as caught:
        require_known_on_the_day([name], [name])
    assert [leak.feature for leak in caught.value.leaks] == [name]
    assert name in str(caught.value)
    assert "value of the period before" in str(caught.value)


@pytest.mark.parametrize("name", ["units_last_week", "revenue_lag", "sold_out", "display", "temperature", "unit_cost"])
def test_what_is_known_on_the_day_passes(name: str) -> None:
    require_known_on_the_day([name], [name])


def test_what_is_not_declared_is_refused() -> None:
    with pytest.raises(LeakageError, match=r"'weather' is not among the features known .*: leave it out"):
        require_known_on_the_day(["weather"], ["display"])


def test_every_leak_is_named_at_once() -> None:
    rows = SalesRows(frame=sales(), controls=("display", "heads"), shared_controls=("so_far",))
    with pytest.raises(LeakageError) as caught:
        refuse_leaks(rows, rows.features)
    assert [leak.feature for leak in caught.value.leaks] == ["heads", "so_far"]


def test_the_leaking_score_stands_beside_the_honest_one() -> None:
    rows = SalesRows(frame=sales(n_items=100, n_periods=60), shared_controls=("display",))
    leak, honest = score_with_leak(rows, ["heads", "takings"], horizon=10).rows(named=True)
    assert leak["r_squared"] > 0.99
    assert abs(leak["own_price_elasticity"]) < 0.1
    assert honest["r_squared"] < 0.9
    assert honest["own_price_elasticity"] < -1.3
