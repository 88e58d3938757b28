"""What the demand equation may hold beside the own price, from known truth through `fit` to a saved model."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import xarray as xr

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.changing import elasticity_at_price, elasticity_in_period
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.elasticity import (
    attribute_table,
    cross_elasticity_table,
    elasticity_table,
    promotion_elasticity,
    response_table,
    short_run_elasticity,
)
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from bayes_pricing.demand.forecast import demand_draws, predict_units
from bayes_pricing.demand.pooling import split_elasticity
from bayes_pricing.demand.price_curves import curve_values
from bayes_pricing.demand.terms import TermRequest
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.registry import load_fit, save_fit
from tests.changing import changing_market

QUICK = SamplerSettings(draws=500, tune=300, chains=2)


def fit(frame: pl.DataFrame, request: ModelRequest, seed: int) -> DemandFit:
    return fit_demand(SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns)), request, QUICK, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("law", ["lognormal", "poisson", "sold out"])
def test_cross_price_elasticities_are_recovered(law: str, tmp_path: Path) -> None:
    """Three categories of three items over 40 weeks; |z| below 4 for 27 elasticities; the saved model says the same."""
    rng = np.random.default_rng(5)
    frames, truth = [], {}
    for category in ("jam", "rice", "tea"):
        matrix = rng.normal(0.3, 0.25, (3, 3))
        np.fill_diagonal(matrix, rng.normal(-2.5, 0.4, 3))
        log_price = rng.normal(0.0, 0.2, (40, 3))
        log_units = 5.0 + log_price @ matrix.T + rng.normal(0.0, 0.25, (40, 3))
        truth[category] = matrix
        for at in range(3):
            units = np.exp(log_units[:, at])
            if law == "poisson":
                units = rng.poisson(np.exp(3.0 + log_price @ matrix[at])).astype(float)
            columns = {"period": np.arange(40), "price": np.exp(log_price[:, at]), "quantity": units}
            if law == "sold out":
                stock = np.exp(5.4 + rng.normal(0.0, 0.4, 40))
                columns |= {"quantity": np.minimum(units, stock), "sold_out": units >= stock}
            frames.append(pl.DataFrame({"item": f"{category}-{at}", "category": category} | columns))
    request = ModelRequest(model="poisson" if law == "poisson" else "lognormal", cross_prices=True)
    frame = pl.concat([frame.cast({"item": pl.String}) for frame in frames])
    panel = SalesPanel.from_frame(frame, ColumnRoles.resolve(frame.columns))
    fitted = fit_demand(panel, request, QUICK if law == "lognormal" else SamplerSettings(draws=500), seed=3)
    assert fitted.diagnostics.passed, fitted.diagnostics.findings
    assert isinstance(fitted.posterior, TreePosterior) == (law == "lognormal")
    for category, matrix in truth.items():
        draws = fitted.posterior.cross_elasticities(category)
        assert draws is not None
        z = (draws.mean(("chain", "draw")) - matrix) / draws.std(("chain", "draw"))
        assert float(np.abs(z).max()) < 4, z
        assert float(draws.std(("chain", "draw")).max()) < 0.3  # the prior's sd of a single pair is over 0.5
    table = cross_elasticity_table(fitted.posterior)
    assert table.height == 3 * 3 * 2
    save_fit(fitted, tmp_path / "model")
    again = load_fit(tmp_path / "model").posterior
    assert cross_elasticity_table(again).equals(table)


def posterior_z(draws: xr.DataArray, truth: float) -> float:
    return float((draws.mean() - truth) / draws.std())


@pytest.mark.slow
def test_promotion_stocking_up_season_and_trend_are_told_apart(tmp_path: Path) -> None:
    """Four items over three years of weeks: regular price, promotions, buyers who stock up, a season and a trend."""
    rng = np.random.default_rng(8)
    weeks, items = 156, 4
    steps = (rng.random((weeks, items)) < 0.06) * rng.normal(0.0, 0.3, (weeks, items))
    regular = np.cumsum(steps, axis=0)
    depth = np.where(rng.random((weeks, items)) < 0.25, rng.uniform(0.1, 0.35, (weeks, items)), 0.0)
    log_price = regular - depth
    fall = np.vstack([np.zeros((1, items)), log_price[:-1] - log_price[1:]])
    days = 7 * np.arange(weeks)[:, None]
    elasticity = rng.normal(-2.0, 0.2, items)
    season = 0.3 * np.sin(2 * np.pi * (days + 4) / 365.25)  # 1970-01-05 is day four
    log_units = 5.0 + elasticity * log_price + 1.2 * depth + 0.8 * fall + season + 0.1 * days / 365.25
    log_units = log_units + rng.normal(0.0, 0.2, (weeks, items))
    dates = pl.Series("period", 4 + 7 * np.arange(weeks)).cast(pl.Int32).cast(pl.Date)
    frame = pl.concat(
        [
            pl.DataFrame(
                {
                    "item": [f"tea-{at}"] * weeks,
                    "period": dates,
                    "price": np.exp(log_price[:, at]),
                    "list_price": np.exp(regular[:, at]),
                    "quantity": np.exp(log_units[:, at]),
                }
            )
            for at in range(items)
        ]
    )
    request = ModelRequest(terms=TermRequest(season=1, trend=True, stockpiling=True), noise_by="common")
    fitted = fit(frame, request, 4)
    posterior = fitted.posterior
    assert fitted.diagnostics.passed
    assert posterior.spec.controls == ("promotion", "price_fall")
    assert posterior.spec.shared_controls == ("season_sin_1", "season_cos_1", "trend")
    z = [
        posterior_z(posterior.coefficients("item").isel(item=at).sel(coefficient="log_price"), elasticity[at])
        for at in range(items)
    ]
    population, shared = posterior.coefficients("population"), posterior.shared()
    z += [
        posterior_z(population.sel(coefficient=name), value)
        for name, value in (("promotion", 1.2), ("price_fall", 0.8))
    ]
    z += [
        posterior_z(shared.sel(control=name), value)
        for name, value in (("season_sin_1", 0.3), ("season_cos_1", 0.0), ("trend", 0.1))
    ]
    assert max(abs(one) for one in z) < 4, z
    assert float(population.sel(coefficient="price_fall").std()) < 0.35  # the prior's sd is 1
    responses = response_table(posterior)
    assert responses.columns[:3] == ["response", "level", "name"]
    short = responses.filter(response="short_run", level="population")["mean"][0]
    assert short == pytest.approx(float(short_run_elasticity(posterior, "population").mean()))
    assert short == pytest.approx(elasticity.mean() - 0.8, abs=0.5)
    assert promotion_elasticity(posterior, "item", ["tea-2"]).dims == ("chain", "draw", "item")
    save_fit(fitted, tmp_path / "model")
    assert response_table(load_fit(tmp_path / "model").posterior).equals(responses)


@pytest.mark.slow
def test_autocorrelated_residuals_are_modelled(tmp_path: Path) -> None:
    """Prices that stay for weeks and sales that follow their past: the plain model sees items differ."""
    rng = np.random.default_rng(6)
    weeks, items, rho = 60, 8, 0.6
    log_price = np.repeat(rng.normal(0.0, 0.2, (weeks // 6, items)), 6, axis=0)
    error = np.zeros((weeks, items))
    error[0] = rng.normal(0.0, 0.3 / np.sqrt(1 - rho**2), items)
    for week in range(1, weeks):
        error[week] = rho * error[week - 1] + rng.normal(0.0, 0.3, items)
    prices, units = np.exp(log_price), np.exp(5.0 - 2.2 * log_price + error)
    columns = [{"period": range(weeks), "price": prices[:, at], "quantity": units[:, at]} for at in range(items)]
    frame = pl.concat([pl.DataFrame({"item": [f"i{at}"] * weeks} | one) for at, one in enumerate(columns)])
    modelled = fit(frame, ModelRequest(noise_by="common"), 2)
    ignored = fit(frame, ModelRequest(noise_by="common", autocorrelation="off"), 2)
    assert "autocorrelation_modelled" in {finding.code for finding in modelled.findings}
    assert "autocorrelated_residuals" in {finding.code for finding in ignored.findings}
    assert modelled.posterior.spec.autocorrelation == pytest.approx(rho, abs=0.15)
    population = modelled.posterior.coefficients("population").sel(coefficient="log_price")
    assert abs(posterior_z(population, -2.2)) < 4
    # items do not differ; noise that stays takes the shape of differences between them where it is ignored
    apart, same = (
        float(one.posterior.variation("item").sel(coefficient="log_price").mean()) for one in (ignored, modelled)
    )
    assert apart > same
    stationary = 0.5 * 0.3**2 / (1 - rho**2)
    assert float(modelled.posterior.log_smearing().mean()) == pytest.approx(stationary, rel=0.3)
    save_fit(modelled, tmp_path / "model")
    again = load_fit(tmp_path / "model").posterior
    assert again.log_smearing().identical(modelled.posterior.log_smearing())


@pytest.mark.slow
def test_attributes_explain_elasticities_and_tell_of_new_items(tmp_path: Path) -> None:
    """Thirty items of six categories: what is left between items is small, and a new item is placed by what it is."""
    rng = np.random.default_rng(3)
    items, weeks = 30, 16
    size, own_label = rng.uniform(0.0, 3.0, items), rng.random(items) < 0.4
    elasticity = -2.2 + 0.5 * (size - size.mean()) - 0.7 * (own_label - own_label.mean())
    elasticity = elasticity + rng.normal(0.0, 0.25, 6).repeat(5) + rng.normal(0.0, 0.15, items)
    level = 5.0 + 0.4 * size + rng.normal(0.0, 0.3, items)
    log_price = rng.normal(0.0, 0.25, (items, weeks))
    log_units = level[:, None] + elasticity[:, None] * log_price + rng.normal(0.0, 0.25, (items, weeks))
    frame = pl.DataFrame(
        {
            "item": np.repeat([f"i{at:02d}" for at in range(items)], weeks),
            "category": np.repeat([f"c{at // 5}" for at in range(items)], weeks),
            "period": np.tile(np.arange(weeks), items),
            "price": np.exp(log_price).ravel(),
            "quantity": np.exp(log_units).ravel(),
            "size": np.repeat(size, weeks),
            "brand": np.repeat(np.where(own_label, "own", "a star"), weeks),
        }
    )
    roles = ColumnRoles.resolve(frame.columns, attributes=("size", "brand"))
    fitted = fit_demand(
        SalesPanel.from_frame(frame, roles), ModelRequest(noise_by="common", autocorrelation="off"), QUICK, seed=5
    )
    posterior = fitted.posterior
    assert isinstance(posterior, TreePosterior)
    assert fitted.diagnostics.passed
    table = attribute_table(posterior).filter(of="elasticity")
    assert table["attribute"].to_list() == ["size", "brand=own"]
    z = (table["mean"].to_numpy() - np.array([0.5, -0.7])) / table["sd"].to_numpy()
    assert np.abs(z).max() < 4.0
    assert table["sd"].max() < 0.25  # type: ignore[operator]  # the prior's are 0.5 (per sd of size) and 1
    own = elasticity_table(posterior).filter(level="item")
    assert np.abs((own["mean"].to_numpy() - elasticity) / own["sd"].to_numpy()).max() < 4.0
    split = split_elasticity(posterior, "i07")
    assert split.mean.mean() == pytest.approx(own["mean"][7], abs=0.05)  # Monte-Carlo error of a few hundred draws
    new = {
        label: posterior.new_unit("item", "c2", seed=1, attributes={"size": 3.0, "brand": label})
        for label in ("own", "x")
    }
    apart = (new["own"] - new["x"]).sel(coefficient="log_price")
    assert float(apart.mean()) == pytest.approx(table["mean"][1], abs=1e-9)
    usual = posterior.new_unit("item", "c2", seed=1).sel(coefficient="log_price")
    category = posterior.coefficients("category", ["c2"]).sel(coefficient="log_price")
    assert float(usual.mean()) == pytest.approx(float(category.mean()), abs=0.05)
    save_fit(fitted, tmp_path / "model")
    assert attribute_table(load_fit(tmp_path / "model").posterior).equals(attribute_table(posterior))


@pytest.mark.slow
def test_an_elasticity_that_drifts_and_changes_with_price_is_recovered(tmp_path: Path) -> None:
    """Buyers grow keener over a year. One constant elasticity is far from today's, the drift finds it."""
    rng = np.random.default_rng(7)
    market, names = changing_market(rng, 6.0), [f"i{at}" for at in range(8)]
    dates = [date(2025, 1, 6) + timedelta(7 * week) for week in range(52)]
    christmas = np.array([0.5 * (day == date(2025, 12, 22)) for day in dates])
    frame = market.rows(np.exp(market.log_units + christmas + rng.normal(0.0, 0.2, (8, 52))), dates)
    terms = TermRequest(drift=True, curve="quadratic", holidays=("christmas=2025-12-25..2025-12-26",))
    fitted = fit(frame, ModelRequest(terms=terms, noise_by="common", autocorrelation="off"), 3)
    posterior = fitted.posterior
    assert fitted.diagnostics.passed
    assert posterior.spec.controls == ("price_drift", "price_curve")
    draws = market.check_recovered(posterior, tolerance=1e-6)
    assert abs(posterior_z(posterior.shared().sel(control="christmas"), 0.5)) < 4.0

    constant = fit(frame, ModelRequest(noise_by="common", autocorrelation="off"), 3).posterior
    biased = constant.coefficients("population").sel(coefficient="log_price")
    assert posterior_z(biased, float(market.own.mean())) > 4.0  # half a year old: closer to zero by half of the drift

    first = elasticity_in_period(posterior, dates[0], "item", ["i3"])
    assert posterior_z(first, float((market.own - market.drift)[3])) == pytest.approx(0.0, abs=4.0)
    early = response_table(posterior).filter(response="first_period", level="population")["mean"][0]
    assert early > float(posterior.coefficients("population").sel(coefficient="log_price").mean()) + 0.5
    raised = np.exp(market.usual + 0.2)
    drawn = demand_draws(posterior, names)
    predicted = predict_units(posterior, names, raised).transpose("item", "chain", "draw").to_numpy().reshape(8, -1)
    np.testing.assert_allclose(drawn.units(raised), predicted)
    save_fit(fitted, tmp_path / "model")
    again = load_fit(tmp_path / "model").posterior
    assert elasticity_at_price(again, names, raised).identical(draws)


@pytest.mark.slow
def test_weeks_that_ran_out_of_items_whose_elasticities_drift_and_change_with_price(tmp_path: Path) -> None:
    """Elasticities and levels are recovered: units at the usual price are those at the curve's own zero."""
    rng = np.random.default_rng(8)
    market = changing_market(rng, 4.0)
    wanted = np.exp(market.log_units + rng.normal(0.0, 0.2, (8, 52)))
    stock = np.exp(4.0 + rng.normal(0.6, 0.4, (8, 52)))
    frame = market.rows(np.minimum(wanted, stock)).with_columns(sold_out=pl.Series((wanted >= stock).ravel()))
    assert 0.1 < frame["sold_out"].mean() < 0.3  # type: ignore[operator]
    request = ModelRequest(terms=TermRequest(drift=True, curve="quadratic"), noise_by="common")
    fitted = fit(frame, request, 3)
    assert fitted.diagnostics.passed, fitted.diagnostics.findings
    posterior = fitted.posterior
    market.check_recovered(posterior, tolerance=1e-3)
    level = posterior.coefficients("item").sel(coefficient="level").mean("item")
    # its sd is about 0.011; centred by its mean, the curve would bring the mean item down by 0.06
    assert abs(posterior_z(level, 4.0)) < 4.0


@pytest.mark.slow
def test_an_elasticity_that_saturates_is_recovered_at_both_ends(tmp_path: Path) -> None:
    """From -1.2 at low prices to -3 at high ones: a constant elasticity is far off at both, this one's intervals hold.

    Of 16 elasticities half a standard step or more from the usual price 90 % intervals miss 1.6 on average; more than 5
    happens once in a hundred fits.
    """
    rng = np.random.default_rng(1)
    items, weeks, steepness = 8, 52, 8.0
    names = [f"i{at}" for at in range(items)]
    own, swing = rng.normal(-2.1, 0.15, items), rng.normal(-0.9, 0.15, items)
    log_price = rng.normal(0.0, 0.3, (items, weeks))
    usual = log_price.mean(axis=1)
    away = log_price - usual[:, None]
    log_units = 6.0 + own[:, None] * away + swing[:, None] * curve_values(away, steepness)
    frame = pl.DataFrame(
        {
            "item": np.repeat(names, weeks),
            "period": np.tile(np.arange(weeks), items),
            "price": np.exp(log_price).ravel(),
            "quantity": np.exp(log_units + rng.normal(0.0, 0.05, (items, weeks))).ravel(),
        }
    )
    request = ModelRequest(terms=TermRequest(curve="saturating"), noise_by="common", autocorrelation="off")
    fitted = fit(frame, request, 3)
    posterior = fitted.posterior
    assert fitted.diagnostics.passed
    assert posterior.spec.steepness == steepness
    assert "price_curve_steepness" in {finding.code for finding in fitted.findings}
    ends = np.exp(usual[:, None] + np.array([-0.5, 0.5]))
    truth = own[:, None] + swing[:, None] * np.tanh(0.5 * steepness * np.array([-0.5, 0.5]))
    draws = elasticity_at_price(posterior, names, ends)
    lower, upper = draws.quantile([0.05, 0.95], ("chain", "draw")).to_numpy()
    assert ((truth < lower) | (truth > upper)).sum() <= 5
    z = (draws.mean(("chain", "draw")) - truth) / draws.std(("chain", "draw"))
    assert float(np.abs(z).max()) < 4.0
    constant = fit(frame, ModelRequest(noise_by="common", autocorrelation="off"), 3).posterior
    biased = elasticity_at_price(constant, names, ends).mean(("chain", "draw")).to_numpy() - truth
    assert (biased[:, 0] < -0.4).all()  # too keen at low prices
    assert (biased[:, 1] > 0.4).all()  # not keen enough at high ones
    save_fit(fitted, tmp_path / "model")
    again = load_fit(tmp_path / "model").posterior
    assert again.spec == posterior.spec
    assert elasticity_at_price(again, names, ends).identical(draws)


@pytest.mark.slow
def test_period_effects_take_out_what_moves_all_items() -> None:
    """Prices that follow a demand common to the category: the plain model is biased, effects of the weeks are not."""
    rng = np.random.default_rng(11)
    items, weeks = 6, 20
    common = rng.normal(0.0, 0.4, weeks)
    log_price = 0.3 * common + rng.normal(0.0, 0.1, (items, weeks))
    log_units = 5.0 - 2.0 * log_price + common + rng.normal(0.0, 0.1, (items, weeks))
    columns = {"item": np.repeat([f"i{at}" for at in range(items)], weeks), "period": np.tile(np.arange(weeks), items)}
    frame = pl.DataFrame(columns | {"price": np.exp(log_price).ravel(), "quantity": np.exp(log_units).ravel()})
    request = ModelRequest(noise_by="common", autocorrelation="off")
    plain = fit(frame, request, 2).posterior.coefficients("population").sel(coefficient="log_price")
    request = ModelRequest(noise_by="common", autocorrelation="off", terms=TermRequest(period_effects="all"))
    fitted = fit(frame, request, 2)
    assert fitted.diagnostics.passed
    assert posterior_z(plain, -2.0) > 4.0
    assert abs(posterior_z(fitted.posterior.coefficients("population").sel(coefficient="log_price"), -2.0)) < 4.0
    shared = fitted.posterior.shared()
    z = (shared.mean(("chain", "draw")) - (common[1:] - common[0])) / shared.std(("chain", "draw"))
    assert float(np.abs(z).max()) < 5.0  # nineteen effects
