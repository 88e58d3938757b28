"""The fitness studio: derivatives are right, the oracle's accuracy is what it says, totals are left to chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bayes_pricing.errors import SpecError, StorageError
from simulations.markets.studio import StudioMarket, simulate_studio, write_studio
from simulations.markets.studio_truth import (
    LEVERS,
    NOISE_SD,
    StudioSettings,
    expected_revenue,
    oracle_scores,
    read_studio_truth,
    revenue_derivatives,
    revenue_scores,
)


@pytest.fixture(scope="module")
def market() -> StudioMarket:
    return simulate_studio(StudioSettings(), seed=3)


@pytest.mark.parametrize("lever", [*LEVERS, "members"])
def test_derivatives_agree_with_finite_differences(market: StudioMarket, lever: str) -> None:
    rows, step = market.panel.with_columns(pl.col(pl.Int64).cast(pl.Float64)), 1e-4
    up, down = (
        expected_revenue(market.truth, rows.with_columns(pl.col(lever) * np.exp(sign * step))) for sign in (1, -1)
    )
    numeric = (up - down) / (2 * step) / rows[lever].to_numpy()
    # Central differences in logs err by step^2 / 6 times a third derivative of the revenue's own size.
    np.testing.assert_allclose(revenue_derivatives(market.truth, rows)[lever].to_numpy(), numeric, rtol=1e-6)


def test_levers_stay_in_their_ranges_and_members_add_up(market: StudioMarket) -> None:
    for name, (lowest, highest) in LEVERS.items():
        assert market.panel[name].is_between(lowest, highest).all(), name
    following = pl.col("members").shift(-1).over("studio")
    stayed = (pl.col("members") * pl.col("retention")).round().cast(pl.Int64) + pl.col("new_members")
    assert market.panel.select((following - stayed).drop_nulls().abs().sum()).item() == 0


def test_revenue_scatters_around_its_expectation(market: StudioMarket) -> None:
    ratio = np.log(market.panel["revenue"].to_numpy() / expected_revenue(market.truth, market.panel))
    # 384 months: the sd is known to 3.6 %, the mean to 0.0026: four of each.
    assert ratio.std() == pytest.approx(NOISE_SD, rel=0.15)
    assert ratio.mean() == pytest.approx(-(NOISE_SD**2) / 2, abs=0.0104)
    other = simulate_studio(StudioSettings(), seed=4)
    assert other.panel["revenue"].sum() != market.panel["revenue"].sum()


def test_expected_scores_of_the_oracle_are_the_mean_of_realised_ones() -> None:
    expected, realised = [], []
    for seed in range(20):
        played = simulate_studio(StudioSettings(), seed=seed)
        expected.append(oracle_scores(played.truth, played.panel))
        realised.append(revenue_scores(played.panel, expected_revenue(played.truth, played.panel)))
    for name in ("mape", "r_squared", "direction"):
        gap = np.array([r[name] - e[name] for r, e in zip(realised, expected, strict=True)])
        # R-squared is a ratio of expectations, not the expectation of a ratio: 1e-4 of room for that.
        assert abs(gap.mean()) < 4 * gap.std(ddof=1) / 20**0.5 + 1e-4, name
    # The product's limits leave a model room above the oracle: MAPE under 8 %, R-squared over 0.85.
    assert expected[0]["mape"] == pytest.approx(0.04, abs=0.001)
    assert min(scores["r_squared"] for scores in expected) > 0.95
    assert min(scores["direction"] for scores in expected) > 0.93


def test_no_other_prediction_beats_the_oracle(market: StudioMarket) -> None:
    truth, panel = market.truth, market.panel
    oracle = revenue_scores(panel, expected_revenue(truth, panel))
    mean = revenue_scores(panel, np.full(panel.height, panel["revenue"].mean()))
    assert mean["r_squared"] == pytest.approx(0.0, abs=1e-12)
    frozen = revenue_scores(panel, expected_revenue(truth, panel.with_columns(attendance=pl.lit(0.7))))
    for rival in (mean, frozen):
        assert oracle["mape"] < rival["mape"]
        assert oracle["r_squared"] > rival["r_squared"]
        assert oracle["direction"] > rival["direction"]


def test_wrong_levers_are_refused_by_name(market: StudioMarket) -> None:
    with pytest.raises(SpecError, match=r"retention is 1\.2 in a row; it lies between 0\.5 and 1\.0"):
        expected_revenue(market.truth, market.panel.with_columns(retention=pl.lit(1.2)))
    with pytest.raises(SpecError, match="lack the columns \\['upsell'\\]"):
        expected_revenue(market.truth, market.panel.drop("upsell"))
    with pytest.raises(SpecError, match="no studios \\['gym'\\]"):
        expected_revenue(market.truth, market.panel.with_columns(studio=pl.lit("gym")))


def test_same_seed_same_panel_and_files_read_back(market: StudioMarket, tmp_path: Path) -> None:
    assert simulate_studio(StudioSettings(), seed=3).panel.equals(market.panel)
    panel, truth = write_studio(market, tmp_path / "studio")
    assert pl.read_parquet(panel).equals(market.panel)
    np.testing.assert_array_equal(read_studio_truth(truth).level, market.truth.level)
    with pytest.raises(StorageError, match=r"holds panel\.parquet, truth\.json already"):
        write_studio(market, tmp_path / "studio")
