"""Published instrumental-variable answers (tuna, cigarettes, airfare), by the classical estimators and by `fit`."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.fit import DemandFit, SamplerSettings, fit_demand
from bayes_pricing.demand.instruments import Errors
from bayes_pricing.demand.instruments_report import InstrumentReport, read_columns, report_instruments
from bayes_pricing.errors import Refusal
from tests.support import shared_data

SAMPLER = SamplerSettings(draws=500, chains=2)


def tuna(brand: int) -> pl.DataFrame:
    return pl.read_csv(shared_data("tuna_dominicks.csv")).select(
        item=pl.lit(f"brand {brand}"),
        period="WEEK",
        price=pl.col(f"LPRICE{brand}").exp(),
        quantity=f"MOVE{brand}",
        nsale=f"NSALE{brand}",
        customers=pl.col("FULLCUST").log(),
        wholesale=f"LWHPRIC{brand}",
    )


def cigarettes() -> pl.DataFrame:
    """Ten-year differences of logs by state; taxes in differences of levels."""
    real = pl.read_csv(shared_data("cigarettes_sw.csv")).select(
        "state",
        "year",
        price=(pl.col("price") / pl.col("cpi")).log(),
        quantity=pl.col("packs").log(),
        income=(pl.col("income") / pl.col("population") / pl.col("cpi")).log(),
        sales_tax=(pl.col("taxs") - pl.col("tax")) / pl.col("cpi"),
        cigarette_tax=pl.col("tax") / pl.col("cpi"),
    )
    then, now = (real.filter(pl.col("year") == year).sort("state").drop("state", "year") for year in (1985, 1995))
    names = real.filter(pl.col("year") == 1985).sort("state").select(item="state")
    change = pl.DataFrame({name: now[name] - then[name] for name in now.columns})
    return names.hstack(change.with_columns(pl.col("price", "quantity").exp()))


def airfare() -> pl.DataFrame:
    return pl.read_csv(shared_data("airfare.csv")).with_columns(
        pl.col("id").cast(pl.String).alias("item"),
        pl.col("lfare").exp().alias("price"),
        pl.col("lpassen").exp().alias("quantity"),
        pl.col("dist").log().alias("ldist"),
        pl.col("dist").log().pow(2).alias("ldist_squared"),
    )


def report(
    frame: pl.DataFrame, controls: tuple[str, ...], instruments: tuple[str, ...], errors: Errors
) -> InstrumentReport:
    logs = frame.lazy().with_columns(log_price=pl.col("price").log(), log_units=pl.col("quantity").log())
    return report_instruments(read_columns(logs, controls, instruments), instruments, errors)


@pytest.mark.parametrize(
    ("brand", "elasticity", "error", "f"),
    [
        (1, -0.79, 1.43, 110),
        (2, -3.93, 0.28, 160),
        (3, 22, None, 4.7),
        (4, -4.28, 0.67, 129),
        (5, 29, None, 1.0),
        (6, 14.8, 4.4, 19.6),
        (7, -168, None, 0.0),
    ],
)
def test_tuna_two_stage(brand: int, elasticity: float, error: float | None, f: float) -> None:
    """HC1 errors and the classical first-stage F, to the digits that are published."""
    found = report(tuna(brand), ("nsale", "customers"), ("wholesale",), "hc1")
    assert found.two_stage.elasticity == pytest.approx(elasticity, rel=0.01)
    assert found.first_stage.f_classical == pytest.approx(f, rel=0.01, abs=0.05)
    if error is not None:
        assert found.two_stage.standard_error == pytest.approx(error, abs=0.03)
    if brand == 6:
        assert found.first_stage.coefficients[0] == pytest.approx(-0.119, abs=0.001)


@pytest.mark.parametrize(
    ("instruments", "elasticity", "error", "f"),
    [
        (("sales_tax",), -0.94, 0.21, 33.7),
        (("cigarette_tax",), -1.34, 0.23, 107.2),
        (("sales_tax", "cigarette_tax"), -1.20, 0.20, 88.6),
    ],
)
def test_cigarettes_two_stage(instruments: tuple[str, ...], elasticity: float, error: float, f: float) -> None:
    """Stock and Watson's table; one item, since every state has one row."""
    frame = cigarettes().with_columns(item=pl.lit("all"))
    found = report(frame, ("income",), instruments, "hc1")
    assert found.two_stage.elasticity == pytest.approx(elasticity, abs=0.005)
    assert found.two_stage.standard_error == pytest.approx(error, abs=0.005)
    assert found.first_stage.f_robust == pytest.approx(f, abs=0.06)
    assert found.anderson_rubin.shape == "bounded"
    if len(instruments) == 2:
        agreement = found.over_identification
        assert agreement is not None
        assert 0.02 < agreement.p_value < 0.1  # Stock and Watson's J of 4.93 under homoskedasticity has p 0.026


def test_airfare_two_stage() -> None:
    year = airfare().filter(pl.col("year") == 1997).with_columns(item=pl.lit("all"))
    cross = report(year, ("ldist", "ldist_squared"), ("concen",), "classical")
    assert cross.least_squares.elasticity == pytest.approx(-0.391, abs=0.001)
    assert cross.least_squares.standard_error == pytest.approx(0.067, abs=0.001)
    assert cross.two_stage.elasticity == pytest.approx(-1.17, abs=0.005)
    assert cross.two_stage.standard_error == pytest.approx(0.39, abs=0.005)
    assert cross.first_stage.f_classical == pytest.approx(39.7, abs=0.05)
    effects = airfare().with_columns(period="year")
    panel = report(effects, ("y98", "y99", "y00"), ("concen",), "clustered")
    assert panel.two_stage.elasticity == pytest.approx(-0.302, abs=0.001)
    assert panel.two_stage.standard_error_classical == pytest.approx(0.277, abs=0.001)
    assert panel.two_stage.standard_error == pytest.approx(0.612, abs=0.002)
    assert panel.first_stage.f_classical == pytest.approx(33.0, abs=0.05)
    assert panel.first_stage.f_effective == pytest.approx(11.7, abs=0.05)
    lower, upper = panel.two_stage.interval()
    assert lower < -1 < 0 < upper


def fit(frame: pl.DataFrame, controls: tuple[str, ...], instruments: tuple[str, ...]) -> DemandFit:
    names = ["item", "period", "price", "quantity", *controls, *instruments]
    kept = frame.select(name for name in names if name in frame.columns)
    roles = ColumnRoles.resolve(kept.columns, shared_controls=controls, instruments=instruments)
    return fit_demand(SalesPanel.from_frame(kept, roles), ModelRequest(), SAMPLER, seed=7)


def population(fitted: DemandFit) -> tuple[float, float]:
    assert fitted.diagnostics.passed, fitted.diagnostics.findings
    draws = fitted.posterior.coefficients("population").sel(coefficient="log_price")
    return float(draws.mean()), float(draws.std())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instruments", "elasticity", "error"),
    [
        (("sales_tax",), -0.94, 0.21),
        (("cigarette_tax",), -1.34, 0.23),
        (("sales_tax", "cigarette_tax"), -1.20, 0.20),
    ],
)
def test_cigarettes_jointly(instruments: tuple[str, ...], elasticity: float, error: float) -> None:
    """Within half a standard error, and an sd within a quarter of it."""
    mean, sd = population(fit(cigarettes(), ("income",), instruments))
    assert mean == pytest.approx(elasticity, abs=0.5 * error)
    assert sd == pytest.approx(error, rel=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(("brand", "elasticity", "error"), [(2, -3.93, 0.28), (4, -4.28, 0.67)])
def test_tuna_jointly(brand: int, elasticity: float, error: float) -> None:
    mean, _ = population(fit(tuna(brand), ("nsale", "customers"), ("wholesale",)))
    assert mean == pytest.approx(elasticity, abs=error)


@pytest.mark.slow
def test_tuna_brand_1_is_called_imprecise() -> None:
    fitted = fit(tuna(1), ("nsale", "customers"), ("wholesale",))
    assert "imprecise_elasticity" in {finding.code for finding in fitted.findings}
    assert fitted.endogeneity is not None
    assert fitted.endogeneity.shift > 1.0  # least squares says -3.7


@pytest.mark.parametrize(
    ("brand", "code"),
    [(3, "weak_instrument"), (5, "weak_instrument"), (6, "instrument_wrong_sign"), (7, "weak_instrument")],
)
def test_tuna_is_refused(brand: int, code: str) -> None:
    with pytest.raises(Refusal) as refusal:
        fit(tuna(brand), ("nsale", "customers"), ("wholesale",))
    assert code in {finding.code for finding in refusal.value.findings}


@pytest.mark.slow
def test_airfare_1997_jointly() -> None:
    frame = airfare().filter(pl.col("year") == 1997)
    fitted = fit(frame, ("ldist", "ldist_squared"), ("concen",))
    mean, sd = population(fitted)
    assert mean == pytest.approx(-1.17, abs=0.5 * 0.39)
    assert sd == pytest.approx(0.39, rel=0.25)
    assert np.isclose(fitted.endogeneity.uninstrumented.mean, -0.391, atol=0.02) if fitted.endogeneity else False
