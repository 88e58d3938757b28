"""Simulation-based calibration of the terms beside the price: `python -m simulations.studies.terms_calibration`.

As in :mod:`simulations.studies.tree_calibration` parameters are drawn from the shipped default priors, sales from the
parameters, and the posterior from the sales; only the prior mean of log units is fixed.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, Gram, gather_gram
from bayes_pricing.data.lag import lag_products
from bayes_pricing.demand.cross_prices import add_other_prices
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data
from bayes_pricing.demand.nuts import settle
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_FALL, PROMOTION, DemandSpec
from bayes_pricing.demand.tree_posterior import TreePosterior, build_tree_posterior
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior
from bayes_pricing.demand.tree_sampling import sample_tree
from simulations.studies.tree_calibration import KEPT_DRAWS, LOG_UNITS, table_lines

CATEGORIES, ITEMS_PER_CATEGORY, WEEKS = 5, 4, 24
RHO = 0.5

SPECS: dict[str, DemandSpec] = {
    "cross prices": DemandSpec(controls=(CROSS_PRICE,), cross_prices="category", others=ITEMS_PER_CATEGORY - 1),
    "promotion and stocking up": DemandSpec(controls=(PROMOTION, PRICE_FALL), noise_by="item"),
    "independent controls": DemandSpec(controls=("display", "leaflet"), correlated="price", noise_by="item"),
    "autocorrelation": DemandSpec(autocorrelation=RHO),
}
"""What is calibrated; noise common where not by item."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Parameters drawn from the prior.

    Attributes
    ----------
    truth : dict of str to float
        Those whose ranks are looked at.
    item : array (items, k)
    noise : array (items,)
    """

    truth: dict[str, float]
    item: Floats
    noise: Floats


def make_rows(spec: DemandSpec, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Prices and columns of five categories of four items over 24 weeks, and the item table."""
    names = [f"item{at:02d}" for at in range(CATEGORIES * ITEMS_PER_CATEGORY)]
    rows = pl.DataFrame(
        {
            "item": np.repeat(names, WEEKS),
            "category": np.repeat([f"category{at // ITEMS_PER_CATEGORY}" for at in range(len(names))], WEEKS),
            "period": np.tile(np.arange(WEEKS), len(names)),
            "price": np.exp(rng.normal(scale=0.2, size=len(names) * WEEKS)),
            **{name: rng.normal(size=len(names) * WEEKS) for name in spec.controls if name != CROSS_PRICE},
        }
    )
    items = pl.DataFrame({"item": names, "category": rows["category"].gather_every(WEEKS)})
    if PROMOTION in spec.controls:
        depth = pl.Series(np.where(rng.random(rows.height) < 0.3, rng.uniform(0.1, 0.4, rows.height), 0.0))
        before = pl.col("price").log().shift(1).over("item", order_by="period")
        rows = rows.with_columns(
            depth.alias(PROMOTION), (before - pl.col("price").log()).fill_null(0.0).alias(PRICE_FALL)
        )
    if spec.others:
        others = add_other_prices(rows.lazy(), "item", "category")
        rows, items = others.frame.sort("item", "period").collect(), items.join(others.table, on="item")
    return rows.with_columns(log_price=pl.col("price").log()), items


def draw_parameters(data: TreeData, prior: TreePrior, rng: np.random.Generator) -> Drawn:
    """Variance components, coefficients and noise from the prior."""
    layout, names = data.layout, data.spec.coefficients
    theta = np.zeros(layout.size)
    sds, partials, tied = layout.split(theta)
    sds[...] = np.log(np.abs(rng.normal(scale=prior.between_sd[:, : layout.own])))
    columns = np.array([column for row in range(layout.correlated) for column in range(row)])
    shape = prior.concentration + 0.5 * (layout.correlated - 2 - columns)
    partials[...] = np.arctanh(2.0 * rng.beta(shape, shape, size=partials.shape) - 1.0)
    if layout.tied:
        tied[...] = np.log(np.abs(rng.normal(scale=prior.between_sd[0, layout.own])))
    factors = layout.factors(theta)
    population = rng.normal(prior.root_mean, prior.root_sd)[: layout.k]
    category = population + rng.standard_normal((CATEGORIES, layout.k)) @ factors[1].T
    own = category[data.membership[0]] + rng.standard_normal((len(data.gram.items), layout.k)) @ factors[0].T
    typical = np.abs(rng.normal(scale=prior.noise_scale, size=len(data.noise_groups)))
    truth = {"noise_sd": typical[0]}
    noise = typical[data.noise_group]
    if data.spec.noise_by == "item":
        spread = abs(rng.normal(scale=prior.noise_spread_scale))
        noise = noise * np.exp(spread * rng.standard_normal(len(noise)))
        truth["noise_spread"] = spread
    for at, name in enumerate(names):
        truth |= {f"population {name}": population[at], f"category {name}": category[0, at], f"item {name}": own[0, at]}
        truth |= {f"sd_item {name}": np.exp(sds[0, at]), f"sd_category {name}": np.exp(sds[1, at])}
    if layout.tied:
        truth |= {"sd_other_prices": np.exp(tied[0]), "first pair": own[0, layout.own - 1] + own[0, layout.own]}
    return Drawn(truth={name: float(value) for name, value in truth.items()}, item=own, noise=noise)


def draws_of(posterior: TreePosterior) -> dict[str, Floats]:
    """Draws (chain, draw) of the parameters of :func:`draw_parameters`."""
    hyper, names = posterior.hyper(), posterior.spec.coefficients
    found = {"noise_sd": hyper["noise_sd"].isel(noise_group=0)}
    if "noise_spread" in hyper:
        found["noise_spread"] = hyper["noise_spread"]
    units = {level: posterior.coefficients(level) for level in ("population", "category", "item")}
    for name in names:
        found[f"population {name}"] = units["population"].sel(coefficient=name)
        for level in ("category", "item"):
            found[f"{level} {name}"] = units[level].isel({level: 0}).sel(coefficient=name)
            found[f"sd_{level} {name}"] = hyper[f"sd_{level}"].sel(coefficient=name)
    if posterior.spec.others:
        first = units["item"].isel(item=0)
        found["sd_other_prices"] = hyper["sd_other_prices"]
        found["first pair"] = first.sel(coefficient=CROSS_PRICE) + first.sel(coefficient="other_1")
    return {name: values.to_numpy() for name, values in found.items()}


def _errors(spec: DemandSpec, noise: Floats, rng: np.random.Generator) -> Floats:
    """Residuals (items, weeks): independent, or a stationary autoregression."""
    errors = noise[:, None] * rng.standard_normal((len(noise), WEEKS))
    if spec.autocorrelation:
        errors[:, 0] /= np.sqrt(1.0 - spec.autocorrelation**2)
        for week in range(1, WEEKS):
            errors[:, week] += spec.autocorrelation * errors[:, week - 1]
    return errors


def simulate_market(
    spec: DemandSpec, rng: np.random.Generator
) -> tuple[TreeData, TreePrior, pl.DataFrame, dict[str, float]]:
    """Statistics of one market's sales, the prior they were drawn from, the item table and the true parameters."""
    rows, items = make_rows(spec, rng)
    columns, groups = list(spec.columns[1:]), [items["category"].to_list()]

    def gather(log_units: Floats) -> Gram:
        return gather_gram(rows.with_columns(log_units=pl.Series(log_units)), "item", "log_units", columns)

    empty = gather(np.full(rows.height, LOG_UNITS))
    data = build_tree_data(empty, groups, spec)
    prior = build_tree_prior(data, spec.priors)
    drawn = draw_parameters(data, prior, rng)
    centred = np.column_stack([np.ones(rows.height), rows.select(columns).to_numpy()])
    centred -= np.repeat(empty.centre, WEEKS, axis=0)
    mean = (centred * np.repeat(drawn.item, WEEKS, axis=0)).sum(axis=1)
    log_units = mean + _errors(spec, drawn.noise, rng).ravel()
    gram = gather(log_units)
    if spec.autocorrelation:
        full = rows.with_columns(log_units=pl.Series(log_units)).lazy()
        lagged = lag_products(full, "item", "period", "log_units", columns, centre=gram)
        gram = lagged.quasi_difference(gram, spec.autocorrelation)
    return build_tree_data(gram, groups, spec), prior, items, drawn.truth


def simulate_rank(case: str, seed: int, draws: int, tune: int) -> dict[str, float] | None:
    """Rank in [0, 1] of every true parameter of one market among its posterior draws; None if the gate refused it."""
    rng = np.random.default_rng(seed)
    data, prior, items, truth = simulate_market(SPECS[case], rng)

    def fit(every: int) -> tuple[TreePosterior, SamplerStatistics]:
        fitted = sample_tree(data, prior, draws=draws, tune=tune, chains=4, seed=seed, every=every)
        posterior = build_tree_posterior(data, prior, fitted, items, seed=seed)
        return posterior, SamplerStatistics(divergences=fitted.divergences, energy=fitted.energy)

    settled = settle(fit)
    if not settled.diagnostics.passed:
        return None
    at = np.linspace(0, 4 * draws - 1, KEPT_DRAWS).astype(int)
    found = draws_of(settled.posterior)
    return {
        name: float((found[name].reshape(-1)[at] < value).sum() + rng.random()) / (KEPT_DRAWS + 1.0)
        for name, value in truth.items()
    }


HEADER = f"""# Calibration of the terms beside the price

Simulation-based calibration from the shipped default priors (`Priors()`), {CATEGORIES * ITEMS_PER_CATEGORY} items in
{CATEGORIES} categories, {WEEKS} weeks, sd of log price 0.2; only the prior mean of log units is fixed, and the
autocorrelation of {RHO} is taken as known. Columns as in [the tree's calibration](tree_calibration.md). Written by
`python -m simulations.studies.terms_calibration`.
"""


def run_study(n_simulations: int, seed: int, path: Path, draws: int = 1000, tune: int = 500) -> None:
    """Calibrate every case and write the table."""
    lines = [HEADER]
    seeds = [int(np.random.SeedSequence([seed, at]).generate_state(1)[0]) for at in range(n_simulations)]
    with ProcessPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for case in SPECS:
            started = time.perf_counter()
            found = list(pool.map(partial(simulate_rank, case, draws=draws, tune=tune), seeds))
            passed = [ranks for ranks in found if ranks is not None]
            names = list(passed[0]) if passed else []
            ranks = {name: np.array([one[name] for one in passed]) for name in names}
            seconds = time.perf_counter() - started
            lines += table_lines(case.capitalize(), ranks, n_simulations - len(passed), seconds)
            print("\n".join(lines[-len(names) - 6 :]), flush=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    run_study(200, 20261122, Path(__file__).parents[2] / "docs" / "results" / "terms_calibration.md")
