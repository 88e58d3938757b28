"""What a test taught moves the tree's posterior as if its rows had been there from the start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.panel import PanelSummary, SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.fit import DemandFit
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.tree_fit import build_tree_posterior
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.errors import Finding, PanelError, Refusal, SpecError
from bayes_pricing.experiments.learning import append_test, learn_from_test
from tests.posteriors import posterior_from_draws
from tests.unit.test_tree_posterior import make_posterior

SUMMARY = PanelSummary(
    rows=50, items=9, zero_rows=0, absent_rows=0, absent=None, first_period=1, last_period=8, periods=8,
    units={"category": 3}, data_hash="",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What of a fit a test's rows touch."""

    posterior: DemandPosterior
    findings: tuple[Finding, ...] = ()
    summary: PanelSummary = SUMMARY


def fitted() -> DemandFit:
    made = make_posterior(shared=0)
    items = made.items.with_columns(
        lowest_price=pl.lit(1.4), highest_price=pl.lit(1.9), rows=pl.Series(made.data.gram.count.astype(int))
    )
    posterior = build_tree_posterior(made.data, made.prior, made.draws, items, seed=made.seed)
    return cast("DemandFit", Fitted(posterior=posterior))


def rows_of_a_test() -> pl.DataFrame:
    """Two items at two prices far apart, four periods each."""
    move = np.tile([-0.25, 0.25], 4)
    return pl.DataFrame(
        {
            "item": np.repeat(["item0002", "item0004"], 4),
            "price": np.exp(0.5 + move),
            "quantity": np.exp(4.0 - 2.0 * move + np.tile([0.05, -0.05, -0.05, 0.05], 2)),
        }
    )


def elasticities(fit: DemandFit) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    drawn = fit.posterior.coefficients("item").sel(coefficient="log_price").to_numpy()
    return np.asarray(drawn, dtype=np.float64).reshape(-1, 9)


def test_a_test_moves_the_tree_and_narrows_it() -> None:
    before, test = fitted(), rows_of_a_test()
    after = learn_from_test(before, test)
    old, new = before.posterior, after.posterior
    assert isinstance(old, TreePosterior)
    assert isinstance(new, TreePosterior)
    # the sufficient statistics are those of all rows together
    added = new.data.gram.count - old.data.gram.count
    assert added.tolist() == [0, 0, 4, 0, 4, 0, 0, 0, 0]
    log_price = np.log(test["price"].to_numpy()[:4]) - old.data.gram.centre[2, 1]
    assert (new.data.gram.xtx - old.data.gram.xtx)[2, 1, 1] == pytest.approx(log_price @ log_price)
    narrower = elasticities(after).std(axis=0) / elasticities(before).std(axis=0)
    assert (narrower[[2, 4]] < 0.95).all()
    assert new.items["rows"].to_list() == new.data.gram.count.astype(int).tolist()
    assert new.items["highest_price"][2] == pytest.approx(np.exp(0.75))
    assert new.items["highest_price"][3] == 1.9
    assert (after.summary.rows, after.findings[-1].code) == (58, "learnt_from_test")
    assert new.id != old.id
    # half of the buyers at half of the exposure say what all of them say
    half = test.with_columns(pl.col("quantity") / 2, exposure=pl.lit(0.5))
    assert np.allclose(elasticities(learn_from_test(before, half)), elasticities(after))


def with_periods(fit: DemandFit, first: object, last: object) -> DemandFit:
    """The fit with a note of which periods each item was sold in."""
    old = cast("TreePosterior", fit.posterior)
    items = old.items.with_columns(first_period=pl.lit(first), last_period=pl.lit(last))
    posterior = build_tree_posterior(old.data, old.prior, old.draws, items, seed=old.seed)
    return cast("DemandFit", Fitted(posterior=posterior))


def test_rows_that_the_fit_has_seen_are_not_learnt_again() -> None:
    before = with_periods(fitted(), 1, 8)
    weeks = np.tile(np.arange(4), 2)
    test = rows_of_a_test().with_columns(period=9 + weeks)
    after = learn_from_test(before, test)
    assert np.allclose(elasticities(after), elasticities(learn_from_test(fitted(), rows_of_a_test())))
    assert after.posterior.items["last_period"].to_list() == [8] * 9  # items without a test have not stopped selling
    with pytest.raises(Refusal, match=r"4 of 8 rows .* \(known from 1 to 8\)") as refusal:
        learn_from_test(before, test.with_columns(period=7 + weeks))
    assert refusal.value.findings[0].code == "test_in_sales"
    assert refusal.value.findings[0].item in ("item0002", "item0004")
    with pytest.raises(Refusal, match="known from 9 to 12"):  # the same test twice
        learn_from_test(after, test)
    again = learn_from_test(after, test.with_columns(period=13 + weeks))
    assert again.posterior.items["tested_last_period"].to_list() == [None, None, 16, None, 16, *[None] * 4]
    assert learn_from_test(before, test.with_columns(period=5 + 2 * weeks), start=9).summary.rows == 54


def test_periods_are_compared_as_dates_and_must_be_there() -> None:
    before = with_periods(fitted(), date(2026, 1, 5), date(2026, 2, 23))
    test = rows_of_a_test()
    with pytest.raises(PanelError, match="no column 'period'"):
        learn_from_test(before, test)
    with pytest.raises(PanelError, match="not of the kind"):
        learn_from_test(before, test.with_columns(period=9))
    with pytest.raises(PanelError, match="cannot be read"):
        learn_from_test(before, test.with_columns(period=pl.lit("soon")))
    with pytest.raises(Refusal, match="in 2026-02-23"):
        learn_from_test(before, test.with_columns(period=pl.lit("2026-02-23")))
    assert learn_from_test(before, test.with_columns(period=pl.lit("2026-03-02"))).summary.rows == 58


def test_rows_that_no_update_can_take_are_refused() -> None:
    before, test = fitted(), rows_of_a_test()
    with pytest.raises(PanelError, match="no column 'quantity'"):
        learn_from_test(before, test.drop("quantity"))
    with pytest.raises(PanelError, match="no positive price"):
        learn_from_test(before, test.with_columns(price=pl.lit(0.0)))
    with pytest.raises(Refusal, match="sold nothing"):
        learn_from_test(before, test.with_columns(quantity=pl.lit(0.0)))
    with pytest.raises(SpecError, match="not in the fit"):
        learn_from_test(before, test.with_columns(item=pl.lit("new")))


def test_other_models_ask_for_a_fit_anew() -> None:
    foreign = cast("Any", Fitted(posterior=posterior_from_draws(np.full((10, 2), -2.0))))
    with pytest.raises(Refusal) as refusal:
        learn_from_test(foreign, rows_of_a_test())
    assert refusal.value.findings[0].code == "refit_due"


def test_rows_join_the_sales_once() -> None:
    old = pl.DataFrame({"sku": ["a", "a"], "period": [1, 2], "price": [2.0, 2.1], "quantity": [9.0, 8.0]})
    test = pl.DataFrame({"item": ["a", "a"], "period": [3, 4], "price": [2.0, 2.3], "quantity": [9.0, 7.0]})
    panel = SalesPanel.from_frame(old, ColumnRoles.resolve(old.columns))
    joined = append_test(panel, test)
    assert joined.summary.rows == 4
    with pytest.raises(PanelError):
        append_test(joined, test)
