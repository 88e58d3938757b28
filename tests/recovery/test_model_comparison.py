"""Families compared on real fits: freak weeks make `auto` take Student-t errors, and nothing is hidden."""

from __future__ import annotations

import polars as pl
import pytest

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import SamplerSettings
from bayes_pricing.demand.model_comparison import fit_compared
from tests.stock_outs import simulate_stock_outs

pytestmark = pytest.mark.slow


def test_freak_weeks_make_auto_take_student_t() -> None:
    market = simulate_stock_outs(seed=5, items=4, weeks=40, counts=False, mean=50.0, degrees=2.0)
    frame = market.frame.drop("sold_out").with_columns(quantity=pl.Series(market.wanted))
    panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns))
    request = ModelRequest(noise_by="common", autocorrelation="off")
    labels: list[str] = []
    fitted = fit_compared(
        panel, request, SamplerSettings(draws=300), seed=1, progress=lambda _done, label: labels.append(label)
    )
    assert fitted.posterior.spec.errors == "student_t"
    assert fitted.choice.reason.startswith("LOO prefers it to lognormal")
    assert fitted.choice.alternatives == ("lognormal",)
    best, other = fitted.choice.scores
    assert (best.model, other.model) == ("student-t", "lognormal")
    assert other.difference is not None
    assert other.standard_error is not None
    # a row under t with 2 degrees loses about 0.25 in log density to the best normal, and there are 160
    assert other.difference < -20.0
    assert other.difference < -2.0 * other.standard_error
    assert {label.split(":")[0] for label in labels} == {"lognormal", "student-t"}
