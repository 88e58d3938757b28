"""Weeks that ran out: the posterior is told of them, and its naive twin is not; no sampling."""

from __future__ import annotations

import polars as pl
import pytest

from bayes_pricing.baselines.posterior import PosteriorDemand
from bayes_pricing.baselines.protocol import SalesRows
from bayes_pricing.baselines.suite import UNCENSORED, build_estimator
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles

SALES = pl.DataFrame({"item": ["tea"] * 3, "period": [1, 2, 3], "price": [3.0, 2.5, 2.0], "quantity": [4.0, 6.0, 6.0]})


class Seen(Exception):
    """Carries the panel that a fit was asked for."""


@pytest.mark.parametrize(
    ("column", "values"), [("sold_out", [0.0, 0.0, 1.0]), ("stock", [9.0, 9.0, 6.0])], ids=["sold_out", "stock"]
)
def test_what_is_known_of_stock_reaches_the_posterior_alone(
    column: str, values: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    sales = SALES.with_columns(pl.Series(column, values))
    rows = SalesRows.from_panel(SalesPanel.from_frame(sales, ColumnRoles.resolve(sales.columns)))
    assert rows.features == ()  # no baseline predicts with it

    def fit(panel: SalesPanel, *_rest: object, **_named: object) -> None:
        raise Seen(panel.roles)

    monkeypatch.setattr("bayes_pricing.baselines.posterior.fit_demand", fit)
    told = []
    for name in ("posterior", UNCENSORED):
        estimator = build_estimator(name, seed=1)
        assert isinstance(estimator, PosteriorDemand)
        with pytest.raises(Seen) as seen:
            estimator.fit(rows)
        told.append(getattr(seen.value.args[0], column))
    assert told == [column, None]
