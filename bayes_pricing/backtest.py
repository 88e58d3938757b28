"""How would the model have done on the last periods? Fitted without them, beside the champion on the same rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri, xlogy

from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.data.shuffling import shuffle_within_items
from bayes_pricing.demand.design import ModelRequest, build_design
from bayes_pricing.demand.equation import log_demand
from bayes_pricing.demand.fit import ProgressCallback, SamplerSettings, fit_demand
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.predictive import check_predictions
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_CURVE, PRICE_DRIFT, TREND, UNCENTRED
from bayes_pricing.demand.terms import price_curve_column
from bayes_pricing.errors import Finding, Refusal
from bayes_pricing.gate import BackTest, Calibration, Importance

Floats = NDArray[np.float64]

SHARE_HELD_OUT = 8
FEWEST_TRAINING_PERIODS = 6
OWN_MEAN = "each item's own mean"
SHUFFLES = 5
IMPORTANCE_LEVEL = 0.9


def backtest(
    panel: SalesPanel,
    request: ModelRequest,
    sampler: SamplerSettings,
    *,
    seed: int,
    champion: DemandPosterior | None,
    progress: ProgressCallback,
) -> BackTest | None:
    r"""Hold the last eighth of the periods out, fit the rest, and score both models on what was held out.

    The error of a row is :math:`(\log q - E \log q)^2`, or where some row sold nothing the Poisson deviance
    :math:`2 (q \log(q / m) - q + m)` of the expected units :math:`m`; the error of a model is the root of its mean.

    Parameters
    ----------
    panel : SalesPanel
        All the sales.
    request : ModelRequest
    sampler : SamplerSettings
    seed : int
    champion : DemandPosterior or None
        The rival. One that was fitted to the rows held out has seen the answers: then, and where there is none, the
        rival is each item's own mean. So it is, and says why, where the champion stands on columns that these sales
        or their design do not have.
    progress : callable
        Called with (fraction done, what is being done).

    Returns
    -------
    BackTest or None
        None where the sales have no period, or too few: then nobody can say.

    Raises
    ------
    Refusal
        If the sales without the last periods identify no elasticity, or had a term that all the sales do not have; or
        if elasticity drifts in the model, whose clock runs over its own sales only.
    """
    split = _split(panel)
    if split is None:
        return None
    train, first, periods = split
    fitted = fit_demand(train, request, sampler, seed=seed, progress=progress)
    known = _rows_in_terms(panel, request, fitted.posterior, first)
    rows = _of_items(known.filter(pl.col("period") >= first), fitted.posterior)
    rival, forecast = OWN_MEAN, _own_mean(known.filter(pl.col("period") < first))
    if champion is not None and _unseen(champion, rows):
        absent = _not_comparable(champion, rows)
        compared = rows.clear() if absent else _of_items(rows, champion)
        if compared.height:
            rival, forecast, rows = champion.id, _of_posterior(champion), compared
        elif absent:
            rival = f"{OWN_MEAN} (model {champion.id} stands on {', '.join(absent)}, which these sales do not have)"
    if not rows.height:
        return None
    own, other = _row_errors(rows, _of_posterior(fitted.posterior)), _row_errors(rows, forecast)
    importance = measure_importance(fitted.posterior, rows, seed=seed)
    check = check_predictions(fitted.posterior, rows, seed=seed)
    return BackTest(
        rows=rows.height,
        periods=periods,
        error=float(np.sqrt(own.mean())),
        rival=rival,
        rival_error=float(np.sqrt(other.mean())),
        difference_sd=_clustered_sd(own - other, rows["item"]),
        calibration=Calibration(rows=rows.height, coverage=check.coverage),
        importance=importance,
    )


def measure_importance(posterior: DemandPosterior, rows: pl.DataFrame, *, seed: int) -> tuple[Importance, ...]:
    r"""Permutation importance of the price and of every other column of the model, the most important first.

    .. math:: I_c = \frac1n \sum_j \Big( \frac1R \sum_r e_j(\pi_r x_c) - e_j(x) \Big)

    with :math:`e_j` the error of a row as :func:`backtest` takes it and :math:`\pi_r` a shuffle within items.

    Parameters
    ----------
    posterior : DemandPosterior
    rows : DataFrame
        Rows of its items in the model's terms, best of periods it was not fitted to: ``item``, ``price``, ``quantity``
        and its columns; ``exposure`` where there is one.
    seed : int

    Returns
    -------
    tuple of Importance
        Empty where all rows are of one item: nobody can tell then how sure a rise is.

    References
    ----------
    Fisher, Rudin & Dominici (2019), "All models are wrong, but many are useful", JMLR 20.
    """
    if rows["item"].n_unique() < 2:
        return ()
    forecast, rng = _of_posterior(posterior), np.random.default_rng(seed)
    base, half_width = _row_errors(rows, forecast), float(ndtri(0.5 + 0.5 * IMPORTANCE_LEVEL))
    found = []
    for feature, columns in _features(posterior).items():
        rise = -base
        for _ in range(SHUFFLES):
            rise += _row_errors(shuffle_within_items(rows, columns, rng), forecast) / SHUFFLES
        mean, around = float(rise.mean()), half_width * _clustered_sd(rise, rows["item"])
        found.append(
            Importance(feature=feature, rise=mean, lower=mean - around, upper=mean + around, level=IMPORTANCE_LEVEL)
        )
    return tuple(sorted(found, key=lambda one: -one.rise))


def _features(posterior: DemandPosterior) -> dict[str, tuple[str, ...]]:
    """What is shuffled together: the price and what the model makes of it, all prices of others, any other column."""
    spec = posterior.spec
    of_price = [name for name in spec.controls if name in UNCENTRED]
    alone = [name for name in (*spec.controls, *spec.shared_controls) if name not in (*of_price, CROSS_PRICE)]
    others = {CROSS_PRICE: (CROSS_PRICE, *spec.deviations)} if CROSS_PRICE in spec.controls else {}
    return {"price": ("price", *of_price)} | others | {name: (name,) for name in alone}


def _split(panel: SalesPanel) -> tuple[SalesPanel, date | int, int] | None:
    """The sales before the last eighth of the periods, the first of those, and how many they are."""
    if panel.roles.period is None:
        return None
    frame = panel.frame.collect()
    moments = frame["period"].unique().sort()
    held_out = max(1, moments.len() // SHARE_HELD_OUT)
    if moments.len() - held_out < FEWEST_TRAINING_PERIODS:
        return None
    first = moments[moments.len() - held_out]
    train = frame.filter(pl.col("period") < first)
    return (
        SalesPanel.from_frame(train, _canonical(panel.roles), absent=panel.summary.absent),
        first,
        held_out,
    )


def _canonical(roles: ColumnRoles) -> ColumnRoles:
    """The same roles of a panel's own frame, whose prices are real ones already."""
    own = {role: role for role in roles.single() if role != "deflator"}
    return replace(roles, **own, deflator=None)  # type: ignore[arg-type]  # names of roles


def _columns(posterior: DemandPosterior) -> tuple[str, ...]:
    """Columns that the model stands on, beside the price."""
    spec = posterior.spec
    return (*spec.controls, *spec.deviations, *spec.shared_controls)


def _rows_in_terms(
    panel: SalesPanel, request: ModelRequest, posterior: DemandPosterior, first: date | int
) -> pl.DataFrame:
    """All rows as the model sees them: leaves, promotion, season, other items' prices.

    A term may be measured from the sales it was built on (other prices from their means, a trend from its start); so
    each is moved, item by item, until its mean over the rows before `first` is the one the posterior was fitted with.
    The curve of the price is measured from the item's reference price.
    """
    if PRICE_DRIFT in posterior.spec.controls:
        raise Refusal([_drifting()])
    rows = build_design(panel, request).frame.collect()
    names = _columns(posterior)
    absent = [name for name in names if name not in rows.columns]
    if absent:
        raise Refusal([_term_gone(absent)])
    means = (pl.col(f"mean_{name}").alias(f"_{name}") for name in names)
    fitted = posterior.items.select("item", pl.col("reference_log_price").alias("_reference"), *means)
    before = pl.col("period") < first
    moved = {
        name: pl.col(name).cast(pl.Float64) - pl.col(name).filter(before).mean().over("item") + pl.col(f"_{name}")
        for name in names
    }
    if PRICE_CURVE in moved:
        away = pl.col("price").log() - pl.col("_reference")
        moved[PRICE_CURVE] = price_curve_column(away, posterior.spec.steepness)
    return rows.join(fitted, on="item", how="left", maintain_order="left").with_columns(**moved)


def _of_items(rows: pl.DataFrame, posterior: DemandPosterior) -> pl.DataFrame:
    """Rows of items that the model knows."""
    return rows.filter(pl.col("item").is_in(posterior.items["item"].to_list()))


def _not_comparable(champion: DemandPosterior, rows: pl.DataFrame) -> list[str]:
    """Columns of the champion that the rows lack, or that are measured from the sales they were built on."""
    own = (TREND, CROSS_PRICE, *UNCENTRED)
    return [name for name in _columns(champion) if name not in rows.columns or name in own]


def _drifting() -> Finding:
    return Finding(
        code="drift_not_back_tested",
        severity="error",
        message="an elasticity that drifts is measured on the clock of its own sales, so that a model of the first "
        "periods has no elasticity for the last",
        remedy="back-test the model without --drift",
    )


def _term_gone(absent: list[str]) -> Finding:
    return Finding(
        code="term_not_in_all_sales",
        severity="error",
        message=f"the sales before the last periods have the terms {', '.join(absent)}, all sales together do not: "
        "the model of the first cannot forecast the last",
        remedy="leave --list-price or --discount out, or give sales in which promotions move throughout",
    )


def _unseen(posterior: DemandPosterior, rows: pl.DataFrame) -> bool:
    last = posterior.items["last_period"].max() if "last_period" in posterior.items.columns else None
    first = rows["period"].min()
    return last is not None and first is not None and type(last) is type(first) and bool(last < first)  # type: ignore[operator]


def _row_errors(rows: pl.DataFrame, forecast: Callable[[pl.DataFrame, bool], Floats]) -> Floats:
    units = rows["quantity"].cast(pl.Float64).to_numpy()
    if (units > 0).all():
        return np.asarray((np.log(units) - forecast(rows, False)) ** 2)
    expected = np.exp(forecast(rows, True))
    return np.asarray(2.0 * (xlogy(units, units / expected) - units + expected))


def _of_posterior(posterior: DemandPosterior) -> Callable[[pl.DataFrame, bool], Floats]:
    """Forecast of log units, or where `mean` of the log of expected units."""

    def forecast(rows: pl.DataFrame, mean: bool) -> Floats:
        spec = posterior.spec
        names = rows["item"].unique().sort().to_list()
        place = {name: index for index, name in enumerate(names)}
        at = np.array([place[name] for name in rows["item"]])
        items = posterior.items.filter(pl.col("item").is_in(names)).sort("item")
        drawn = posterior.coefficients("item", names).transpose("chain", "draw", "item", "coefficient").to_numpy()
        smearing = posterior.log_smearing(names).transpose("chain", "draw", "item").to_numpy()
        centre, spread = drawn.mean(axis=(0, 1))[at], smearing.mean(axis=(0, 1))[at]
        shared = posterior.shared().mean(("chain", "draw")).to_numpy()
        own, controls = (*spec.controls, *spec.deviations), _columns(posterior)
        effects = [centre[:, 2 + index] for index in range(len(own))] + list(shared)
        exposure = rows["exposure"].to_numpy() if "exposure" in rows.columns else np.ones(rows.height)
        log_units = log_demand(
            level=centre[:, 0],
            elasticity=centre[:, 1],
            log_price=np.log(rows["price"].to_numpy()),
            reference_log_price=items["reference_log_price"].to_numpy()[at],
            effects=effects,
            controls=[rows[name].to_numpy() - items[f"mean_{name}"].to_numpy()[at] for name in controls],
            log_exposure=np.log(exposure),
        )
        return np.asarray(log_units + (spread if mean else 0.0), dtype=np.float64)

    return forecast


def _own_mean(train: pl.DataFrame) -> Callable[[pl.DataFrame, bool], Floats]:
    """Each item's own mean before: of log units, or the log of its mean units (at least half a unit in all)."""
    units = pl.col("quantity").cast(pl.Float64)
    known = train.group_by("item").agg(
        units.filter(units > 0).log().mean().alias("log"),
        (pl.max_horizontal(units.sum(), pl.lit(0.5)) / pl.len()).log().alias("mean"),
    )

    def forecast(rows: pl.DataFrame, mean: bool) -> Floats:
        column = "mean" if mean else "log"
        joined = rows.select("item").join(known, on="item", how="left", maintain_order="left")[column]
        return joined.fill_null(known[column].mean()).to_numpy()

    return forecast


def _clustered_sd(difference: Floats, items: pl.Series) -> float:
    """Standard error of a mean whose rows hang together within an item."""
    sums = (
        pl.DataFrame({"item": items, "difference": difference - difference.mean()})
        .group_by("item")
        .agg(pl.col("difference").sum())["difference"]
        .to_numpy()
    )
    clusters = len(sums)
    if clusters < 2:
        return 0.0
    return float(np.sqrt((sums**2).sum() * clusters / (clusters - 1)) / len(difference))
