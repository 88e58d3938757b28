"""Cigar panel (46 states, 1963 to 1992): least squares with effects of states and years, and states apart."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.baselines.linear import LinearDemand, Pooling
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.demand.calendar import add_calendar
from tests.support import shared_data


def elasticities(pooling: Pooling, *, years: bool) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Own elasticities of the states: log sales on log real price and log real income."""
    panel = pl.read_csv(shared_data("cigar_panel.csv")).select(
        item=pl.col("state").cast(pl.String),
        period=pl.col("year"),
        price=pl.col("price") / pl.col("cpi"),
        quantity=pl.col("sales"),
        income=(pl.col("ndi") / pl.col("cpi")).log(),
    )
    effects = add_calendar(panel.lazy(), periods="all") if years else {}
    rows = SalesRows(frame=panel.with_columns(**effects), shared_controls=("income", *effects))
    fitted = LinearDemand(pooling=pooling, unit_model="log").fit(rows)
    states = panel["item"].unique().sort().to_list()
    return fitted.own_price_elasticity(states, np.ones(len(states))).mean


@pytest.mark.parametrize(
    ("pooling", "years", "known"),
    [
        ("pooled", False, -0.859),
        ("item_effects", False, -0.702),
        ("pooled", True, -1.205),
        ("item_effects", True, -1.035),
    ],
)
def test_effects_of_states_and_years(pooling: Pooling, years: bool, known: float) -> None:
    """Numbers of the panel's literature, to their three digits: effects of periods are columns of the calendar."""
    found = elasticities(pooling, years=years)
    assert found == pytest.approx(np.full(46, known), abs=6e-4)


def test_states_apart() -> None:
    """Mean -0.60 and sd 0.21 of the states' own regressions."""
    found = elasticities("separate", years=False)
    assert found.mean() == pytest.approx(-0.60, abs=0.006)
    assert found.std(ddof=1) == pytest.approx(0.21, abs=0.006)
