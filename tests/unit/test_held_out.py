"""The back-test of a fit on its own last periods, where the model stands on columns that its design builds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import xarray as xr

from bayes_pricing import backtest as rooms
from bayes_pricing.backtest import OWN_MEAN, backtest, measure_importance
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest, build_design
from bayes_pricing.demand.fit import SamplerSettings
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.terms import TermRequest
from bayes_pricing.errors import Refusal
from tests.posteriors import ArrayPosterior

TERMS = TermRequest(season=1, season_length=20.0, trend=True)
REQUEST = ModelRequest(cross_prices=True, terms=TERMS)
ELASTICITY = -2.0
OWN = {"promotion": 1.0, "cross_price": 0.3, "price_curve": 0.25}
SHARED = {"season_sin_1": 0.8, "season_cos_1": 0.3, "trend": 0.2}
DRAWS = (2, 50)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KnownPosterior(ArrayPosterior):
    """A posterior that is sure of every effect, those of the columns that the design builds among them."""

    effects: dict[str, float] = field(default_factory=lambda: {**OWN, **SHARED})

    def coefficients(self, level: str, units: object = None) -> xr.DataArray:
        plain = ArrayPosterior.coefficients(self, level, units)  # type: ignore[arg-type]  # handed on
        names = [*self.spec.controls, *self.spec.deviations]
        shape = plain.isel(coefficient=[0]).rename(coefficient="_").isel(_=0, drop=True)
        more = [(shape * 0 + self.effects.get(name, 0.0)).expand_dims(coefficient=[name], axis=-1) for name in names]
        return xr.concat([plain, *more], dim="coefficient")

    def shared(self) -> xr.DataArray:
        values = np.array([self.effects[name] for name in self.spec.shared_controls])
        return xr.DataArray(np.broadcast_to(values, (*DRAWS, values.size)), dims=("chain", "draw", "control"))


def sales() -> SalesPanel:
    """Six items in two stores, 64 weeks, no noise: price, promotion, other prices, season and trend make the units."""
    rng = np.random.default_rng(3)
    items, stores, weeks = 6, 2, 64
    regular = np.exp(0.1 * rng.standard_normal((items, stores, weeks)))
    regular[..., 56:] *= 1.3  # prices rise in the last periods: means over all sales and over the first ones differ
    depth = 0.25 * (rng.random(regular.shape) < 0.2)
    log_price = np.log(regular) - depth
    others = log_price.reshape(2, 3, stores, weeks).sum(axis=1, keepdims=True)
    others = (others - log_price.reshape(2, 3, stores, weeks)).reshape(log_price.shape)
    week = np.arange(weeks)
    season = 0.8 * np.sin(2 * np.pi * week / 20) + 0.3 * np.cos(2 * np.pi * week / 20) + 0.2 * week / 20
    log_units = 4 + ELASTICITY * log_price + OWN["promotion"] * depth + OWN["cross_price"] * others + season
    at = [axis.ravel() for axis in np.meshgrid(*map(np.arange, regular.shape), indexing="ij")]
    frame = pl.DataFrame(
        {
            "item": [f"i{code}" for code in at[0]],
            "category": [f"c{code // 3}" for code in at[0]],
            "region": [f"s{code}" for code in at[1]],
            "period": at[2],
            "list_price": regular.ravel(),
            "price": np.exp(log_price).ravel(),
            "quantity": np.exp(log_units).ravel(),
        }
    )
    return SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns, levels=("category",)))


def know(panel: SalesPanel, request: ModelRequest, *_rest: object, **_more: object) -> SimpleNamespace:
    """In place of a fit: the truth in the terms of the design of the sales given."""
    design = build_design(panel, request)
    bend = OWN["price_curve"] * pl.col("price_curve") if "price_curve" in design.spec.controls else 0.0
    level = (
        design.frame.group_by("item").agg((pl.col("quantity").log() - bend).mean()).sort("item").collect()["quantity"]
    )
    return SimpleNamespace(posterior=known(design.items, level.to_numpy(), design.spec))


def known(items: pl.DataFrame, level: np.ndarray[tuple[int], np.dtype[np.float64]], spec: DemandSpec) -> KnownPosterior:
    draws = np.zeros((*DRAWS, items.height))
    return KnownPosterior(
        items=items,
        level=draws + level,
        elasticity=draws + ELASTICITY,
        category_elasticity=draws[:, :, :2],
        population_elasticity=draws[:, :, 0],
        smearing=draws + 1e-4,
        weight=np.full(items.height, 0.5),
        spec=spec,
    )


def test_columns_that_the_design_builds_are_there_for_the_last_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "fit_demand", know)
    found = backtest(sales(), REQUEST, SamplerSettings(), seed=1, champion=None, progress=lambda _share, _word: None)
    assert found is not None
    assert found.rows == 6 * 2 * 8
    assert found.error < 1e-9  # arithmetic only: sales have no noise, and other prices are measured as in the fit
    assert found.rival == OWN_MEAN
    assert found.rival_error > 0.3
    # shuffled, a column misses by effect times the difference of two draws: twice its variance in the mean
    rows = sales().frame.filter(pl.col("period") >= 56).collect()
    depth = pl.col("list_price").log() - pl.col("price").log()
    spread = {"price": ELASTICITY**2 * pl.col("price").log().var(ddof=0), "promotion": depth.var(ddof=0)}
    expected = rows.group_by("item", "region").agg(**spread).select(pl.col(*spread).mean()).row(0, named=True)
    importance = {one.feature: one for one in found.importance}
    assert set(importance) == {"price", "season_sin_1", "promotion", "season_cos_1", "cross_price", "trend"}
    assert [one.rise for one in found.importance] == sorted((one.rise for one in found.importance), reverse=True)
    for feature, variance in expected.items():
        one = importance[feature]
        assert one.lower < one.rise < one.upper
        assert one.lower < 2.0 * variance < one.upper, (feature, one)


def test_a_curve_is_measured_from_the_reference_price_of_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elasticity bends by 0.5 per unit of log price around the mean of the first periods, not of all."""
    monkeypatch.setattr(rooms, "fit_demand", know)
    frame = sales().frame.collect()
    away = pl.col("price").log() - pl.col("price").log().filter(pl.col("period") < 56).mean().over("item", "region")
    bent = frame.with_columns(quantity=(4 + ELASTICITY * pl.col("price").log() + OWN["price_curve"] * away**2).exp())
    roles = ColumnRoles.resolve(bent.drop("list_price").columns, levels=("category",))
    panel = SalesPanel.from_frame(bent.drop("list_price"), roles)
    request = ModelRequest(terms=TermRequest(curve="quadratic"))
    found = backtest(panel, request, SamplerSettings(), seed=1, champion=None, progress=lambda _share, _word: None)
    assert found is not None
    assert found.error < 1e-9


def test_an_elasticity_that_drifts_is_not_back_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "fit_demand", know)
    request = ModelRequest(terms=TermRequest(drift=True))
    with pytest.raises(Refusal, match="on the clock of its own sales"):
        backtest(sales(), request, SamplerSettings(), seed=1, champion=None, progress=lambda _share, _word: None)


def test_rows_of_a_single_item_tell_no_interval_of_importance() -> None:
    rows = pl.DataFrame({"item": ["tea"] * 4, "price": [1.0, 1.1, 1.2, 1.3], "quantity": [5.0, 4.0, 4.0, 3.0]})
    assert measure_importance(SimpleNamespace(), rows, seed=1) == ()


def test_a_champion_with_columns_that_are_not_there_steps_aside_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "fit_demand", know)
    panel = sales()
    design = build_design(panel, ModelRequest())
    spec = replace(design.spec, shared_controls=("weather", "trend"))
    items = design.items.with_columns(last_period=pl.lit(40))
    champion = known(items, np.zeros(items.height), spec)
    found = backtest(panel, ModelRequest(), SamplerSettings(), seed=1, champion=champion, progress=lambda _s, _w: None)
    assert found is not None
    assert found.rival == (f"{OWN_MEAN} (model {champion.id} stands on weather, trend, which these sales do not have)")
