"""Simulation-based calibration of every model beside the tree: `python -m simulations.studies.model_calibration`.

Parameters are drawn from the priors, sales from the parameters, and the posterior comes from `fit_demand` as a user
calls it, the gate and its longer runs included; the rank of the true value among the posterior draws must be uniform
(Talts et al. 2018). The priors are the shipped ones; what a model narrows of them, and why, its case says.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.control_function import CONFOUNDING_SD, PRICE_RESIDUAL, fit_control_function
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE
from bayes_pricing.demand.design import Model, ModelRequest
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data
from bayes_pricing.demand.instruments import InstrumentRows, build_instrument_rows
from bayes_pricing.demand.nuts import SamplingPlan, settle
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.row_density import DEGREES_RATE, DEGREES_SHAPE
from bayes_pricing.demand.spec import DemandSpec, NoiseBy, Priors
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior
from bayes_pricing.errors import Finding, Refusal, SpecError
from simulations.studies.runner import Progress, Study, run_study, silent
from simulations.studies.terms_calibration import draw_parameters
from simulations.studies.tree_calibration import KEPT_DRAWS, table_lines

CATEGORIES, ITEMS_PER_CATEGORY, WEEKS = 5, 4, 12
FEWEST_MARKETS = 100
"""Markets under which a table says nothing yet."""
SEASON, COST = "season", "freight"
COUNTS = Priors(
    level_mean=math.log(8.0), level_sd=0.5, level_between_groups=0.5, level_between_items=0.5, control_sd=0.5
)
CENSORED = Priors(level_mean=5.0, level_sd=0.5, level_between_groups=0.5, level_between_items=0.5)
FEWEST_DEGREES = 1.0
FIRST_STAGE, FIRST_STAGE_SD = 1.5, 0.5
"""Where the slope of price on its instrument is drawn from; the model's prior of it is flat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model under calibration.

    Attributes
    ----------
    title : str
    model : str
        As `--model` takes it.
    priors : Priors
        Of the simulation and of the fit.
    why : str
        What was narrowed and why; empty where the priors are the shipped ones.
    noise_by : str or None
    sold_out : bool
        Whether weeks run out of stock.
    instrument : bool
        Whether price follows demand and has an instrument.
    """

    title: str
    model: Model
    priors: Priors = field(default_factory=lambda: Priors(level_mean=5.0))
    why: str = ""
    noise_by: NoiseBy | None = None
    sold_out: bool = False
    instrument: bool = False


OF_COUNTS = (
    "Levels and the season's effect vary less than in the default priors, whose counts reach from none at all to "
    "millions of units a week: a typical item sells 8, sds of level 0.5 at all levels, season 0.5."
)
OF_STOCK = "the stock is fixed ahead, so with the default spread most items would run out always or never."
CASES: Mapping[str, Case] = {
    "poisson": Case(title="Poisson", model="poisson", priors=COUNTS, why=OF_COUNTS),
    "negative-binomial": Case(title="Negative binomial", model="negative-binomial", priors=COUNTS, why=OF_COUNTS),
    "student-t": Case(
        title="Student-t errors",
        model="student-t",
        why="Degrees of freedom below 1 (one market in two hundred) are drawn again: exp of such errors is more than a "
        "float holds.",
    ),
    "censored-lognormal": Case(
        title="Log-normal with sold-out weeks, noise by item",
        model="lognormal",
        priors=CENSORED,
        noise_by="item",
        sold_out=True,
        why=f"Levels vary less (0.5 at all levels): {OF_STOCK}",
    ),
    "censored-poisson": Case(
        title="Poisson with sold-out weeks", model="poisson", priors=COUNTS, why=OF_COUNTS, sold_out=True
    ),
    "censored-negative-binomial": Case(
        title="Negative binomial with sold-out weeks",
        model="negative-binomial",
        priors=COUNTS,
        why=OF_COUNTS,
        sold_out=True,
    ),
    "control-function": Case(
        title="Endogenous prices (control function)",
        model="lognormal",
        noise_by="common",
        instrument=True,
        why="The first stage's slopes have flat priors, from which nothing can be drawn: that on the instrument (sd 1) "
        "is drawn from N(1.5, 0.5), many times as wide as what the data leave open. Fitted below the tests of the "
        "instruments, which would select markets.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """Sales drawn from the priors.

    Attributes
    ----------
    rows : DataFrame
    truth : dict of str to float
        The parameters whose ranks are looked at.
    """

    rows: pl.DataFrame
    truth: dict[str, float]


def simulate_market(case: Case, rng: np.random.Generator) -> Market:
    """Twenty items in five categories over 12 weeks, within-item sd of log price 0.2, one seasonal control."""
    items = CATEGORIES * ITEMS_PER_CATEGORY
    n, item = items * WEEKS, np.repeat(np.arange(items), WEEKS)
    rows = pl.DataFrame(
        {
            "item": [f"item{at:02d}" for at in item],
            "category": [f"category{at // ITEMS_PER_CATEGORY}" for at in item],
            "period": np.tile(np.arange(WEEKS), items),
            "log_price": rng.normal(scale=0.2, size=n),
            SEASON: rng.normal(size=n),
        }
    )
    data, prior = _prior(case, rows)
    drawn = draw_parameters(data, prior, rng)
    truth = {name: value for name, value in drawn.truth.items() if not name.startswith("noise")}
    season = float(rng.normal(prior.root_mean[-1], prior.root_sd[-1]))
    if case.instrument:
        return _endogenous(rows, truth, drawn.item, season, drawn.noise, rng)
    price, season_by_row = _within(rows["log_price"]), _within(rows[SEASON])
    log_rate = drawn.item[item, 0] + drawn.item[item, 1] * price + season * season_by_row
    wanted = _wanted(case, log_rate, drawn.noise[item], truth, rng)
    rows = rows.with_columns(pl.col("log_price").exp().alias("price"), pl.Series("quantity", wanted))
    truth[SEASON] = season
    if case.model in ("lognormal", "student-t"):
        truth["residual sd"] = float(drawn.noise[0])
    if not case.sold_out:
        return Market(rows=rows, truth=truth)
    counts = case.model != "lognormal"
    stock = rng.integers(3, 25, size=n).astype(float) if counts else np.exp(5.0 + rng.normal(scale=0.7, size=n))
    rows = rows.with_columns(sold_out=pl.Series(wanted >= stock), quantity=pl.Series(np.minimum(wanted, stock)))
    return Market(rows=rows, truth=truth)


def _prior(case: Case, rows: pl.DataFrame) -> tuple[TreeData, TreePrior]:
    """The prior of the fit, which depends on predictors only."""
    spec = DemandSpec(shared_controls=(SEASON,), noise_by=case.noise_by or "category", priors=case.priors)
    empty = gather_gram(rows.with_columns(log_units=pl.lit(0.0)), "item", "log_units", ["log_price", SEASON])
    data = build_tree_data(empty, [rows["category"].gather_every(WEEKS).to_list()], spec)
    return data, build_tree_prior(data, case.priors)


def _within(column: pl.Series) -> Floats:
    """A column with its items' means taken off."""
    values = column.to_numpy().reshape(-1, WEEKS)
    centred: Floats = (values - values.mean(axis=1, keepdims=True)).ravel()
    return centred


def _wanted(case: Case, log_rate: Floats, sd: Floats, truth: dict[str, float], rng: np.random.Generator) -> Floats:
    """Units wanted; what else the law has is drawn and noted in `truth`."""
    if case.model == "poisson":
        return np.asarray(rng.poisson(np.exp(log_rate)), dtype=np.float64)
    if case.model == "negative-binomial":
        truth["overdispersion"] = abs(float(rng.normal(scale=OVERDISPERSION_SCALE)))
        size = truth["overdispersion"] ** -2.0
        return np.asarray(rng.poisson(rng.gamma(size, np.exp(log_rate) / size)), dtype=np.float64)
    if case.model == "lognormal":
        wanted: Floats = np.exp(log_rate + sd * rng.normal(size=len(sd)))
        return wanted
    degrees = 0.0
    while degrees < FEWEST_DEGREES:
        degrees = float(rng.gamma(DEGREES_SHAPE, 1.0 / DEGREES_RATE))
    truth["degrees"] = degrees
    return np.exp(log_rate + sd * rng.standard_t(degrees, size=len(sd)))


def _endogenous(
    rows: pl.DataFrame, truth: dict[str, float], own: Floats, season: float, noise: Floats, rng: np.random.Generator
) -> Market:
    """Price made of its instrument, the season and a shock that moves sales too."""
    n, item = rows.height, np.repeat(np.arange(len(own)), WEEKS)
    slope, by_season = rng.normal(FIRST_STAGE, FIRST_STAGE_SD), rng.normal()
    stage_sd, confounding = abs(rng.normal(scale=1.0)), rng.normal(scale=CONFOUNDING_SD)
    rows = rows.with_columns(pl.Series(COST, rng.normal(size=n)))
    shock = stage_sd * rng.normal(size=n)
    log_price = slope * rows[COST].to_numpy() + by_season * rows[SEASON].to_numpy() + shock
    price, seasonal, shock = (_within(pl.Series(column)) for column in (log_price, rows[SEASON], shock))
    # the prior is on what the season does to sales beside its way over the shock
    effect = season + confounding * by_season
    log_units = own[item, 0] + own[item, 1] * price + effect * seasonal + confounding * shock
    log_units += noise[item] * rng.normal(size=n)
    return Market(
        rows=rows.with_columns(log_price=pl.Series(log_price), log_units=pl.Series(log_units)),
        truth=truth
        | {SEASON: effect, "confounding": confounding, "first stage": slope, "first stage sd": stage_sd}
        | {"smearing": float(0.5 * (noise[0] ** 2 + (confounding * stage_sd) ** 2))},
    )


def fit_market(case: Case, market: Market, seed: int, draws: int) -> tuple[DrawsPosterior, Diagnostics, int]:
    """The posterior, the gate's verdict, and whether the run was lengthened, of one market."""
    if case.instrument:
        return _fit_joint(case, market, seed, draws)
    roles = ColumnRoles.resolve(market.rows.columns, shared_controls=[SEASON])
    panel = SalesPanel.from_frame(market.rows.drop("log_price"), roles)
    request = ModelRequest(
        model=case.model, noise_by=case.noise_by, priors=case.priors, autocorrelation="off", randomised_price=True
    )
    fitted = fit_demand(panel, request, SamplerSettings(draws=draws), seed=seed)
    longer = sum(finding.code == "sampled_longer" for finding in fitted.findings)
    if not isinstance(fitted.posterior, DrawsPosterior):
        raise SpecError(f"{case.title} was fitted on the tree, which has a study of its own.")
    return fitted.posterior, fitted.diagnostics, longer


def _fit_joint(case: Case, market: Market, seed: int, draws: int) -> tuple[DrawsPosterior, Diagnostics, int]:
    """As `fit_endogenous` does once the instruments have passed their tests."""
    spec = DemandSpec(shared_controls=(SEASON,), noise_by="common", priors=case.priors)
    rows = market.rows.with_columns(pl.col("log_price").alias(PRICE_RESIDUAL))
    items = rows.group_by("item").agg(pl.col("category").first()).sort("item")
    gram = gather_gram(rows, "item", "log_units", ["log_price", SEASON, PRICE_RESIDUAL, COST])
    residuals = _instrument_rows(rows)

    def fit(every: int) -> tuple[DrawsPosterior, SamplerStatistics]:
        plan = SamplingPlan(draws=draws, tune=500, chains=4, seed=seed, every=every)
        fitted = fit_control_function(gram, residuals, items, spec, plan=plan)
        return fitted.posterior, fitted.statistics

    settled = settle(fit)
    return settled.posterior, settled.diagnostics, int(settled.every > 1)


def _instrument_rows(rows: pl.DataFrame) -> InstrumentRows:
    log_units, log_price = rows["log_units"].to_numpy(), rows["log_price"].to_numpy()
    item = np.repeat(np.arange(CATEGORIES * ITEMS_PER_CATEGORY), WEEKS)
    return build_instrument_rows(
        log_units, log_price, rows.select(COST).to_numpy(), (COST,), item, rows.select(SEASON).to_numpy()
    )


def _never_seen(truth: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Elasticities of a new item of the first category, and of a new item of a new category."""
    by_item, by_category = (
        truth["sd_item log_price"] * rng.normal(size=2),
        truth["sd_category log_price"] * rng.normal(),
    )
    return {
        "new item log_price": float(truth["category log_price"] + by_item[0]),
        "new category's item log_price": float(truth["population log_price"] + by_category + by_item[1]),
    }


def new_draws(posterior: DrawsPosterior) -> dict[str, Floats]:
    """What the posterior says of the two items of :func:`_never_seen`."""
    item = posterior.new_unit("item", posterior.units["category"][0], seed=1)
    strange = posterior.new_unit("item", posterior.new_unit("category", None, seed=2), seed=3)
    return {
        "new item log_price": item.sel(coefficient="log_price").to_numpy(),
        "new category's item log_price": strange.sel(coefficient="log_price").to_numpy(),
    }


def draws_of(posterior: DemandPosterior) -> dict[str, Floats]:
    """Draws (chain, draw) of the parameters of :func:`simulate_market`."""
    found = {SEASON: posterior.shared().isel(control=0)}
    for name in posterior.spec.coefficients:
        found[f"population {name}"] = posterior.coefficients("population").sel(coefficient=name)
        for level in ("category", "item"):
            found[f"{level} {name}"] = posterior.coefficients(level).isel({level: 0}).sel(coefficient=name)
            found[f"sd_{level} {name}"] = posterior.variation(level).sel(coefficient=name)
    hyper = posterior.hyper()
    extra = {"residual sd": "residual_sd", "degrees": "degrees", "confounding": "confounding"}
    extra |= {"first stage": "first_stage", "first stage sd": "first_stage_sd"}
    found |= {ours: hyper[name].isel({f"{name}_at": 0}) for ours, name in extra.items() if name in hyper}
    if "overdispersion" in hyper:
        found["overdispersion"] = hyper["overdispersion"]
    if "first_stage" in hyper:
        found["smearing"] = posterior.log_smearing().isel(item=0)
    return {name: values.to_numpy() for name, values in found.items()}


def rank_task(model: str, seed: int, draws: int) -> list[dict[str, object]]:
    """Ranks in [0, 1] of one market's parameters; where the fit was refused one row that says why."""
    rng, case = np.random.default_rng(seed), CASES[model]
    market = simulate_market(case, rng)
    truth = market.truth | _never_seen(market.truth, np.random.default_rng([seed, 1]))
    started, cpu = time.perf_counter(), time.process_time()
    try:
        posterior, diagnostics, longer = fit_market(case, market, seed, draws)
    except Refusal as refusal:
        return [_refused(seed, refusal.findings, started, cpu)]
    if not diagnostics.passed:
        return [_refused(seed, diagnostics.findings, started, cpu)]
    took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "longer": longer}
    at = np.linspace(0, 4 * draws - 1, KEPT_DRAWS).astype(int)
    found = draws_of(posterior) | new_draws(posterior)
    return [
        {
            "seed": seed,
            "parameter": name,
            "rank": float((found[name].reshape(-1)[at] < value).sum() + rng.random()) / (KEPT_DRAWS + 1.0),
            "refused": "",
            **took,
        }
        for name, value in truth.items()
    ]


def _refused(seed: int, findings: tuple[Finding, ...], started: float, cpu: float) -> dict[str, object]:
    return {
        "seed": seed,
        "parameter": None,
        "rank": None,
        "refused": "; ".join(f"{finding.code}: {finding.message}" for finding in findings),
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "longer": 0,
    }


def calibrate_model(
    model: str,
    simulations: int,
    seed: int,
    *,
    draws: int = 500,
    folder: Path | None = None,
    processes: int | None = None,
    progress: Progress = silent,
) -> pl.DataFrame:
    """Ranks of one model's true parameters over many simulated markets.

    Parameters
    ----------
    model : str
        One of :data:`CASES`.
    simulations, seed : int
        Market s has seed (seed, s).
    draws : int
        Per chain, four chains.
    folder : Path, optional
        Where results are kept, so that the study can be taken up again.
    processes : int, optional

    Returns
    -------
    DataFrame
        ``seed, parameter, rank, refused, seconds, cpu, longer``: a row for every parameter of every market, or one with
        neither parameter nor rank where the fit was refused.
    """
    seeds = [int(np.random.SeedSequence([seed, at]).generate_state(1)[0]) for at in range(simulations)]
    tasks = [{"model": model, "seed": one, "draws": draws} for one in seeds]
    study = Study(name=f"calibration of {model}", work=rank_task, tasks=tasks)
    return run_study(study, folder, processes=processes, progress=progress)


def page_lines(model: str, found: pl.DataFrame) -> list[str]:
    """The section of one model: what was simulated, how many fits failed, how long they took, and the table."""
    case, known = CASES[model], found.drop_nulls("parameter")
    fits = found.group_by("seed", maintain_order=True).first()
    ranks = {
        str(name): known.filter(pl.col("parameter") == name)["rank"].to_numpy()
        for name in known["parameter"].unique(maintain_order=True)
    }
    failed = fits.filter(pl.col("parameter").is_null())
    title, blank, verdict, *table = table_lines(case.title, ranks, failed.height, float(fits["seconds"].sum()))
    if fits.height < FEWEST_MARKETS:
        verdict = f"**{fits.height} markets, {failed.height} failed fits: too few to judge by.**"
    cpu, longer = fits["cpu"].to_numpy(), int(fits["longer"].sum())
    seconds = (
        f"A fit took {np.median(cpu):.1f} seconds of processor time (median; slowest {cpu.max():.0f}); {longer} were "
        "sampled longer of their own accord."
    )
    refused = [f"- refused: {reason}" for reason in failed["refused"].to_list()]
    return [title, blank, *([case.why, ""] if case.why else []), verdict, seconds, "", *refused, *table[1:]]


HEADER = f"""# Calibration of every model beside the tree

Simulation-based calibration through `fit_demand`: {CATEGORIES * ITEMS_PER_CATEGORY} items in {CATEGORIES} categories,
{WEEKS} weeks, within-item sd of log price 0.2, a seasonal control, four chains of 500 draws, the diagnostics gate
with its longer runs. Priors are the shipped ones (`Priors()`), but that the prior mean of log units is fixed
(`level_mean`; a fit takes it from its data unless told) and for what a section says. Columns as in
[the tree's calibration](tree_calibration.md). Written by `python -m simulations.studies.model_calibration`.
"""


def write_page(results: Mapping[str, pl.DataFrame], path: Path) -> str:
    """Write the page of all models that have results."""
    lines = [HEADER]
    missing = [case.title for model, case in CASES.items() if model not in results]
    lines += [f"Not run yet: {'; '.join(missing)}.", ""] if missing else []
    for model, found in results.items():
        lines += page_lines(model, found)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return "\n".join(lines)


def main() -> None:
    """Calibrate one model or all of them, keeping every fit, and write the page of what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=[*CASES, "all"], default="all")
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--folder", type=Path, default=Path("model_calibration"), help="results of single fits")
    parser.add_argument("--processes", type=int, default=None)
    asked = parser.parse_args()
    chosen = list(CASES) if asked.model == "all" else [asked.model]
    results = {}
    for model in CASES:
        folder = asked.folder / model
        if model in chosen or len(list(folder.glob("task-*.json"))) == asked.simulations:
            results[model] = calibrate_model(
                model, asked.simulations, asked.seed, folder=folder, processes=asked.processes, progress=_tell
            )
    print(write_page(results, Path(__file__).parents[2] / "docs" / "results" / "model_calibration.md"))


def _tell(fraction: float, label: str) -> None:
    print(f"{fraction:.0%} {label}", flush=True)


if __name__ == "__main__":
    main()
