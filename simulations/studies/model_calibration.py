"""Simulation-based calibration of every model beside the tree: `python -m simulations.studies.model_calibration`.

Parameters are drawn from the priors, sales from the parameters, and the posterior comes from `fit_demand` as a user
calls it, the gate and its longer runs included; the rank of the true value among the posterior draws must be uniform
(Talts et al. 2018). The priors are the shipped ones; what a model narrows of them, and why, its case says.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.control_function import PRICE_RESIDUAL, fit_control_function
from bayes_pricing.demand.design import ModelRequest
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics
from bayes_pricing.demand.draws_posterior import DrawsPosterior
from bayes_pricing.demand.fit import SamplerSettings, fit_demand
from bayes_pricing.demand.instruments import InstrumentRows, build_instrument_rows
from bayes_pricing.demand.nuts import SamplingPlan, settle
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import CROSS_PRICE, DemandSpec
from bayes_pricing.demand.terms import TermRequest
from bayes_pricing.errors import Finding, Refusal, SpecError
from simulations.studies.model_markets import (
    CASES,
    CATEGORIES,
    COST,
    ITEMS_PER_CATEGORY,
    SEASON,
    SIZE,
    WEEKS,
    Case,
    Market,
    never_seen_items,
    simulate_market,
)
from simulations.studies.runner import Progress, Study, run_study, silent
from simulations.studies.tree_calibration import KEPT_DRAWS, table_lines

FEWEST_MARKETS = 100
"""Markets under which a table says nothing yet."""


def fit_market(case: Case, market: Market, seed: int, draws: int) -> tuple[DrawsPosterior, Diagnostics, int]:
    """The posterior, the gate's verdict, and whether the run was lengthened, of one market."""
    if case.instrument:
        return _fit_joint(case, market, seed, draws)
    roles = ColumnRoles.resolve(market.rows.columns, shared_controls=[SEASON], attributes=[SIZE] if case.terms else [])
    panel = SalesPanel.from_frame(market.rows.drop("log_price"), roles)
    request = ModelRequest(
        model=case.model,
        noise_by=case.noise_by,
        priors=case.priors,
        autocorrelation="off",
        randomised_price=True,
        cross_prices=case.crossing,
        terms=TermRequest(drift=True, curve="quadratic") if case.terms else TermRequest(),
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


def new_draws(posterior: DrawsPosterior) -> dict[str, Floats]:
    """What the posterior says of the two items of :func:`~simulations.studies.model_markets.never_seen_items`."""
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
    if posterior.spec.others:
        first = posterior.coefficients("item").isel(item=0)
        found["sd_other_prices"] = posterior.hyper()["sd_other_prices"]
        found["first pair"] = first.sel(coefficient=CROSS_PRICE) + first.sel(coefficient="other_1")
    for name in posterior.spec.attributes:
        effect = posterior.hyper()["attribute_effect"].sel(attribute=name)
        found[f"{name} on level"] = effect.sel(explained="level")
        found[f"{name} on elasticity"] = effect.sel(explained="log_price")
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
    truth = market.truth | never_seen_items(market.truth, np.random.default_rng([seed, 1]))
    started = time.process_time()
    try:
        posterior, diagnostics, longer = fit_market(case, market, seed, draws)
    except Refusal as refusal:
        return [_refused(seed, refusal.findings, started)]
    if not diagnostics.passed:
        return [_refused(seed, diagnostics.findings, started)]
    took = {"cpu": time.process_time() - started, "longer": longer}
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


def _refused(seed: int, findings: tuple[Finding, ...], started: float) -> dict[str, object]:
    return {
        "seed": seed,
        "parameter": None,
        "rank": None,
        "refused": "; ".join(f"{finding.code}: {finding.message}" for finding in findings),
        "cpu": time.process_time() - started,
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
        ``seed, parameter, rank, refused, cpu, longer``: a row for every parameter of every market, or one with
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
    title, blank, verdict, *table = table_lines(case.title, ranks, failed.height, float(fits["cpu"].sum()))
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
with its longer runs; seconds are those of the processor. Priors are the shipped ones (`Priors()`), but that the prior
mean of log units is fixed (`level_mean`; a fit takes it from its data unless told) and for what a section says. Columns
as in [the tree's calibration](tree_calibration.md). Written by `python -m simulations.studies.model_calibration`.
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
