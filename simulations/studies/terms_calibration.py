"""Simulation-based calibration of the terms beside the price: `python -m simulations.studies.terms_calibration`.

As in :mod:`simulations.studies.tree_calibration` parameters are drawn from the shipped default priors, sales from the
parameters, and the posterior from the sales; only the prior mean of log units is fixed. Every market's ranks are kept
in a folder (`--keep`), so that a study that was interrupted goes on from there.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, Gram, gather_gram
from bayes_pricing.data.lag import lag_products
from bayes_pricing.demand.attributes import add_attributes, item_attributes
from bayes_pricing.demand.cross_prices import add_other_prices
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data
from bayes_pricing.demand.nuts import settle
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_CURVE, PRICE_DRIFT, PRICE_FALL, PROMOTION, DemandSpec
from bayes_pricing.demand.terms import price_curve_column
from bayes_pricing.demand.tree_fit import build_tree_posterior
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior
from bayes_pricing.demand.tree_sampling import sample_tree
from simulations.studies.runner import Study, run_study
from simulations.studies.tree_calibration import KEPT_DRAWS, LOG_UNITS, all_inside, table_lines

CATEGORIES, ITEMS_PER_CATEGORY, WEEKS = 5, 4, 24
RHO = 0.5
STEEPNESS = 8.0

SPECS: dict[str, DemandSpec] = {
    "cross prices": DemandSpec(controls=(CROSS_PRICE,), cross_prices="category", others=ITEMS_PER_CATEGORY - 1),
    "promotion and stocking up": DemandSpec(controls=(PROMOTION, PRICE_FALL), noise_by="item"),
    "independent controls": DemandSpec(controls=("display", "leaflet"), correlated="price", noise_by="item"),
    "autocorrelation": DemandSpec(autocorrelation=RHO),
    "attributes": DemandSpec(attributes=("size",)),
    "drift and curve": DemandSpec(controls=(PRICE_DRIFT, PRICE_CURVE)),
    "saturating": DemandSpec(controls=(PRICE_CURVE,), steepness=STEEPNESS),
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
        Without what attributes add.
    shared : array (m,)
        Effects common to all items, those of attributes among them.
    noise : array (items,)
    """

    truth: dict[str, float]
    item: Floats
    shared: Floats
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
    log_price = pl.col("price").log()
    away = log_price - log_price.mean().over("item")
    rows = rows.with_columns(
        *(
            [(away * (pl.col("period") / (WEEKS - 1.0) - 1.0)).alias(PRICE_DRIFT)]
            if PRICE_DRIFT in spec.controls
            else []
        ),
        *([price_curve_column(away, spec.steepness).alias(PRICE_CURVE)] if spec.curved else []),
    )
    if spec.attributes:
        sized = rows.with_columns(size=pl.Series(np.repeat(rng.normal(size=len(names)), WEEKS)))
        attributes = add_attributes(sized.lazy(), spec.attributes)
        rows, items = attributes.frame.sort("item", "period").collect(), items.join(attributes.table, on="item")
    if spec.others:
        others = add_other_prices(rows.lazy(), "item", "category")
        rows, items = others.frame.sort("item", "period").collect(), items.join(others.table, on="item")
    return rows.with_columns(log_price=pl.col("price").log()), items


def draw_parameters(
    data: TreeData, prior: TreePrior, rng: np.random.Generator, items: pl.DataFrame | None = None
) -> Drawn:
    """Variance components, coefficients and noise from the prior; `items` has the attributes where there are some."""
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
    root = rng.normal(prior.root_mean, prior.root_sd)
    population, shared = root[: layout.k], root[layout.k :]
    category = population + rng.standard_normal((CATEGORIES, layout.k)) @ factors[1].T
    own = category[data.membership[0]] + rng.standard_normal((len(data.gram.items), layout.k)) @ factors[0].T
    typical = np.abs(rng.normal(scale=prior.noise_scale, size=len(data.noise_groups)))
    truth = {"noise_sd": typical[0]}
    noise = typical[data.noise_group]
    if data.spec.noise_by == "item":
        spread = abs(rng.normal(scale=prior.noise_spread_scale))
        noise = noise * np.exp(spread * rng.standard_normal(len(noise)))
        truth["noise_spread"] = spread
    known = len(data.spec.attributes)
    table = pl.DataFrame({"item": data.gram.items}) if items is None else items
    values, effects = item_attributes(table, data.spec.attributes), shared[len(shared) - 2 * known :].reshape(2, known)
    whole, of_category = own[0].copy(), category[0].copy()
    whole[:2] += effects @ values[0]
    of_category[:2] += effects @ values[:ITEMS_PER_CATEGORY].mean(axis=0)
    for at, name in enumerate(names):
        truth |= {f"population {name}": population[at], f"category {name}": of_category[at], f"item {name}": whole[at]}
        truth |= {f"sd_item {name}": np.exp(sds[0, at]), f"sd_category {name}": np.exp(sds[1, at])}
    if layout.tied:
        truth |= {"sd_other_prices": np.exp(tied[0]), "first pair": own[0, layout.own - 1] + own[0, layout.own]}
    for at, name in enumerate(data.spec.attributes):
        truth |= {f"{name} on level": effects[0, at], f"{name} on elasticity": effects[1, at]}
    return Drawn(truth={name: float(value) for name, value in truth.items()}, item=own, shared=shared, noise=noise)


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
    for name in posterior.spec.attributes:
        effect = posterior.attribute_effects().sel(attribute=name)
        found[f"{name} on level"] = effect.sel(coefficient="level")
        found[f"{name} on elasticity"] = effect.sel(coefficient="log_price")
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
        full = rows.with_columns(log_units=pl.Series(log_units))
        return gather_gram(full, "item", "log_units", columns, centred=spec.centred)

    empty = gather(np.full(rows.height, LOG_UNITS))
    data = build_tree_data(empty, groups, spec)
    prior = build_tree_prior(data, spec.priors)
    drawn = draw_parameters(data, prior, rng, items)
    centred = np.column_stack([np.ones(rows.height), rows.select(columns).to_numpy()])
    centred -= np.repeat(empty.centre, WEEKS, axis=0)
    k = drawn.item.shape[1]
    mean = (centred[:, :k] * np.repeat(drawn.item, WEEKS, axis=0)).sum(axis=1) + centred[:, k:] @ drawn.shared
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


def calibrate(case: str, seed: int, draws: int, tune: int) -> list[dict[str, object]]:
    """One market of one case as rows: parameter and rank, or that the gate refused the fit; and the seconds it took."""
    started = time.process_time()
    ranks = simulate_rank(case, seed, draws, tune)
    about: dict[str, object] = {"case": case, "seed": seed, "seconds": time.process_time() - started}
    if ranks is None:
        return [about | {"parameter": None, "rank": None}]
    return [about | {"parameter": name, "rank": rank} for name, rank in ranks.items()]


HEADER = f"""# Calibration of the terms beside the price

Simulation-based calibration from the shipped default priors (`Priors()`), {CATEGORIES * ITEMS_PER_CATEGORY} items in
{CATEGORIES} categories, {WEEKS} weeks, sd of log price 0.2; only the prior mean of log units is fixed, and the
autocorrelation of {RHO} and the steepness of {STEEPNESS:g} are taken as known. Columns as in
[the tree's calibration](tree_calibration.md); seconds are those of one core, all markets together. Were every fit
exact, one table in a hundred would still have a parameter outside: such a case is looked at again in twice as many
markets, all of them new, and both tables stand here. Written by `python -m simulations.studies.terms_calibration`.
"""


def ranks_of(rows: pl.DataFrame) -> dict[str, Floats]:
    """Ranks of every parameter of one case."""
    ranked = rows.drop_nulls("rank").partition_by("parameter", as_dict=True, maintain_order=True)
    return {str(name): one["rank"].to_numpy() for (name,), one in ranked.items()}


def write_page(looks: list[pl.DataFrame], path: Path) -> None:
    """The tables of every case, the first look and, where there was one, the second."""
    missing = [case for case in SPECS if case not in looks[0]["case"].unique().to_list()]
    lines = [HEADER, *([f"Not run yet: {'; '.join(missing)}.", ""] if missing else [])]
    for case in SPECS:
        for look, found in enumerate(looks):
            rows = found.filter(pl.col("case") == case)
            if not rows.height:
                continue
            seconds = float(rows.unique("seed")["seconds"].sum())
            title = case.capitalize() + (", looked at again" if look else "")
            lines += table_lines(title, ranks_of(rows), rows.filter(pl.col("rank").is_null()).height, seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")


def look_at(cases: list[str], seeds: list[int], name: str, keep: Path | None, processes: int | None) -> pl.DataFrame:
    """Calibrate some cases on the markets of these seeds, a row for every parameter and market."""
    tasks = [{"case": case, "seed": seed, "draws": 500, "tune": 500} for case in cases for seed in seeds]
    return run_study(
        Study(name=name, work=calibrate, tasks=tasks),
        keep,
        processes=processes,
        progress=lambda done, label: print(f"{done:.0%} {label}", flush=True),
    )


def main() -> None:
    """Read the command line, calibrate, look again where a parameter lies outside, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=200, help="markets of each case")
    parser.add_argument("--case", choices=list(SPECS), action="append", help="only these cases; repeatable")
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--processes", type=int, default=None, help="all cores when left out")
    parser.add_argument("--keep", type=Path, default=None, help="folder of finished markets")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parents[2] / "docs" / "results" / "terms_calibration.md"
    )
    asked = parser.parse_args()
    seeds, new_seeds = (
        [int(np.random.SeedSequence([*start, at]).generate_state(1)[0]) for at in range(count)]
        for start, count in (([asked.seed], asked.simulations), ([asked.seed, 2], 2 * asked.simulations))
    )
    first = look_at(asked.case or list(SPECS), seeds, "terms_calibration", asked.keep, asked.processes)
    looks, parts = [first], first.partition_by("case", as_dict=True, maintain_order=True)
    outside = [str(case) for (case,), rows in parts.items() if not all_inside(ranks_of(rows))]
    if outside:
        folder = None if asked.keep is None else asked.keep / "again"
        looks.append(look_at(outside, new_seeds, "terms_calibration again", folder, asked.processes))
    write_page(looks, asked.out)


if __name__ == "__main__":
    main()
