"""Simulation-based calibration of choices, purchases and shares: `python -m simulations.studies.choice_calibration`.

As in :mod:`simulations.studies.tree_calibration` parameters are drawn from the shipped default priors, choices from
the parameters, and the posterior from the choices. `--keep FOLDER` keeps finished fits, so that a study goes on where
it was stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.choice import ChoicePriors, choice_prior, fit_choice, probabilities
from bayes_pricing.demand.choice_data import ChoiceData
from bayes_pricing.demand.purchase import PurchasePriors, PurchaseShape, fit_purchase, pose_purchase
from bayes_pricing.demand.purchase_data import PurchaseData
from bayes_pricing.demand.shares import SharePriors, fit_shares, pose_shares
from bayes_pricing.demand.shares_data import ShareData, within_products
from bayes_pricing.demand.shares_people import fit_people_shares
from bayes_pricing.demand.shares_people_mode import pose_people
from bayes_pricing.errors import Refusal
from simulations.studies.runner import Study, run_study
from simulations.studies.tree_calibration import KEPT_DRAWS, table_lines

OCCASIONS = 80
PEOPLE, OCCASIONS_EACH = 15, 6
OFFERS = 150
TESTED_PRICES = (1.0, 1.4, 1.8, 2.2, 2.6)
RATE = 0.5
PRODUCTS, MARKETS = 6, 12
SHOPPERS, DUMMY_SD = 25, 1.5
DRAWS, TUNE = 500, 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """How long a fit samples: per chain, four chains, and its seed."""

    draws: int
    tune: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """True parameters and their posterior draws (chain, draw)."""

    truth: dict[str, float]
    draws: dict[str, Floats]


def rank_choice(rng: np.random.Generator, sampled: Sampled, *, mixed: bool) -> Ranked:
    """Three alternatives, one attribute; tastes equal, or different between people seen again and again."""
    people = PEOPLE if mixed else OCCASIONS
    occasions = people * (OCCASIONS_EACH if mixed else 1)
    x = np.zeros((occasions, 3, 4))
    x[:, 0, 0] = x[:, 1, 1] = 1.0
    x[:, :, 2] = rng.choice(TESTED_PRICES, size=(occasions, 3))
    x[:, :, 3] = rng.integers(0, 2, size=(occasions, 3))
    data = ChoiceData(
        alternatives=("a", "b", "c"),
        coefficients=("constant:a", "constant:b", "price", "shown"),
        choosers=tuple(f"{at:03d}" for at in range(people)),
        x=x,
        available=np.ones((occasions, 3), dtype=np.bool_),
        chosen=np.zeros(occasions, dtype=np.int64),
        chooser=np.repeat(np.arange(people), occasions // people),
    )
    centre, sd, spread = choice_prior(data, ChoicePriors(), mixed=mixed)
    mean = rng.normal(centre, sd)
    factor = np.zeros((4, 4))
    if mixed:
        rows, columns = np.tril_indices(4)
        factor[rows, columns] = rng.normal(size=len(rows)) * (spread / np.sqrt(np.arange(4) + 1.0))[rows]
    tastes = mean + rng.standard_normal((people, 4)) @ factor.T
    chance = probabilities(x, data.available, tastes[data.chooser])
    chosen = (rng.random((occasions, 1)) > np.cumsum(chance, axis=1)[:, :2]).sum(axis=1)
    found = fit_choice(
        replace(data, chosen=chosen), mixed=mixed, seed=sampled.seed, draws=sampled.draws, tune=sampled.tune
    )
    truth = dict(zip(data.coefficients, mean, strict=True))
    draws = {name: found.mean[:, :, at] for at, name in enumerate(data.coefficients)}
    if found.factor is not None and found.people is not None:
        between = found.between_sd().to_numpy()
        for at, name in ((0, "constant:a"), (2, "price")):
            truth |= {f"sd {name}": float(np.sqrt((factor[at] ** 2).sum())), f"one person's {name}": tastes[0, at]}
            draws |= {f"sd {name}": between[:, :, at], f"one person's {name}": found.people[:, :, 0, at].astype(float)}
    return Ranked(truth=truth, draws=draws)


def rank_purchase(rng: np.random.Generator, sampled: Sampled, *, shape: PurchaseShape) -> Ranked:
    """Offers at five prices drawn by lot, one competitor's price and one control."""
    other = np.column_stack([rng.choice([1.2, 2.4], OFFERS), rng.normal(size=OFFERS)])
    price = rng.choice(TESTED_PRICES, OFFERS)
    data = PurchaseData(
        price=price,
        bought=np.zeros(OFFERS),
        trials=np.ones(OFFERS),
        other=other,
        names=("rival", "income"),
        competitors=1,
    )
    problem = pose_purchase(data, shape, PurchasePriors(), rate=RATE)
    offers, basis = problem.offers, problem.basis
    beta = rng.normal(offers.mean, offers.sd)
    truth = dict(zip(problem.names, beta.tolist(), strict=True))
    predictor = offers.x @ beta
    middle = np.array([TESTED_PRICES[0], TESTED_PRICES[2]])
    if basis is not None:
        centre, width, scale = offers.curve
        fall = rng.normal(centre, width)
        while fall <= 0:
            fall = rng.normal(centre, width)
        bend = abs(rng.normal(scale=scale))
        weight = np.exp(offers.log_even + bend * rng.standard_normal(len(basis.even)))
        falls = fall * weight / weight.sum()
        predictor = predictor - offers.steps @ falls
        truth |= {"fall in all": fall, "bend": bend, "fall to the middle": float(np.diff(basis.at(middle) @ falls)[0])}
    bought = (rng.random(OFFERS) < expit(predictor)).astype(float)
    found = fit_purchase(
        replace(data, bought=bought), shape, rate=RATE, seed=sampled.seed, draws=sampled.draws, tune=sampled.tune
    )
    draws = {name: found.beta[:, :, at] for at, name in enumerate(found.names)}
    if basis is not None and found.falls is not None and found.bend is not None:
        steps = np.diff(basis.at(middle), axis=0)[0]
        draws |= {"fall in all": found.falls.sum(axis=2), "bend": found.bend, "fall to the middle": found.falls @ steps}
    return Ranked(truth=truth, draws=draws)


def share_panel(rng: np.random.Generator, *, instruments: int) -> ShareData:
    """Products by market in units of elasticity, with an attribute; shares still to be filled in."""
    product, market = (index.ravel() for index in np.indices((PRODUCTS, MARKETS)))
    n = len(product)
    columns = rng.normal(size=(n, instruments))
    attribute: Floats = np.arange(PRODUCTS, dtype=np.float64) % 3.0
    return ShareData(
        products=tuple(f"p{at}" for at in range(PRODUCTS)),
        markets=tuple(f"m{at:02d}" for at in range(MARKETS)),
        product=product,
        market=market,
        share=np.full(n, 0.5 / PRODUCTS),
        outside=np.full(n, 0.5),
        price=2.0 + rng.normal(scale=0.3, size=n),
        controls=np.empty((n, 0)),
        control_names=(),
        attributes=attribute[:, None],
        attribute_names=("sweet",),
        instruments=columns,
        instrument_names=("cost", "rival")[:instruments],
        per_elasticity=1.0,
        centre=0.0,
    )


def rank_shares(rng: np.random.Generator, sampled: Sampled, *, instrumented: bool) -> Ranked:
    """Products by market; prices that follow demand where instrumented."""
    data = share_panel(rng, instruments=2 if instrumented else 0)
    product, market, attribute = data.product, data.market, data.attributes[:, 0]
    n = len(product)
    posed = pose_shares(data, SharePriors(), hierarchical=True, instrumented=instrumented)
    level, slope, elasticity = rng.normal(posed.mean, posed.sd)
    noise, product_sd, market_sd, price_noise = np.abs(rng.normal(scale=posed.scale[:4]))
    lam, pi = rng.normal(scale=posed.scale[4]), rng.normal(scale=posed.slope_sd)
    effect = level + posed.of_product[:, 1] * slope + product_sd * rng.standard_normal(PRODUCTS)
    reaction = elasticity + market_sd * rng.standard_normal(MARKETS)
    unseen = np.zeros(n)
    if instrumented:
        v = price_noise * rng.standard_normal(n)
        data, unseen = replace(data, price=2.0 + data.instruments @ pi + v), lam * v
    around = within_products(data, data.price[:, None])[:, 0]
    y = effect[product] + reaction[market] * around + unseen + noise * rng.standard_normal(n)
    all_of = 1.0 + np.bincount(market, np.exp(y))
    data = replace(data, share=np.exp(y) / all_of[market], outside=1.0 / all_of[market])
    found = fit_shares(
        data, hierarchical=True, instrumented=instrumented, seed=sampled.seed, draws=sampled.draws, tune=sampled.tune
    )
    truth = {"elasticity": elasticity, "attribute": slope / attribute.std(), "one product": effect[0]}
    truth |= {"noise_sd": noise, "product_sd": product_sd, "market_sd": market_sd}
    draws = {"elasticity": found.elasticity, "attribute": found.slopes[:, :, 0], "one product": found.product[:, :, 0]}
    if found.by_market is not None:
        truth, draws = truth | {"one market": reaction[0]}, draws | {"one market": found.by_market[:, :, 0]}
    if found.first_stage is not None:
        truth |= {"confounding": lam, "price_noise_sd": price_noise, "first stage": pi[0]}
        draws |= {"first stage": found.first_stage[:, :, 0]}
    return Ranked(truth={name: float(value) for name, value in truth.items()}, draws=draws | found.scales)


def rank_people(rng: np.random.Generator, sampled: Sampled) -> Ranked:
    """People of one market who differ in price and in buying at all; two instruments.

    Product effects come from a narrower prior than the shipped one, whose sd of 10 gives shares that nobody has seen.
    The people are those of the fit.
    """
    data, tastes, priors = share_panel(rng, instruments=2), ("price", "constant"), SharePriors(dummy_sd=DUMMY_SD)
    product, n = data.product, len(data.product)
    posed = pose_people(data, tastes, priors, instrumented=True, people=SHOPPERS, seed=sampled.seed)
    elasticity, lam = rng.normal(posed.mean, posed.sd)
    noise, price_noise = np.abs(rng.normal(scale=posed.scale[[0, 2]]))
    spread, effect = np.abs(rng.normal(scale=posed.taste)), rng.normal(scale=DUMMY_SD, size=PRODUCTS)
    pi, v = rng.normal(scale=posed.slope_sd), price_noise * rng.standard_normal(n)
    data = replace(data, price=2.0 + data.instruments @ pi + v)
    around = within_products(data, data.price[:, None])[:, 0]
    delta = effect[product] + elasticity * around + lam * v + noise * rng.standard_normal(n)
    delta, price = (column.reshape(PRODUCTS, MARKETS, 1) for column in (delta, data.price))
    nodes = posed.markets.nodes
    weight = np.exp(delta + spread[0] * nodes[:, 0] * price + spread[1] * nodes[:, 1])
    share = (weight / (1.0 + weight.sum(axis=0))).mean(axis=2)
    data = replace(data, share=share.ravel(), outside=1.0 - np.tile(share.sum(axis=0), PRODUCTS))
    found = fit_people_shares(
        data,
        tastes=tastes,
        instrumented=True,
        people=SHOPPERS,
        priors=priors,
        seed=sampled.seed,
        draws=sampled.draws,
        tune=sampled.tune,
    )
    truth = {"elasticity": elasticity, "sd of price": spread[0], "sd of constant": spread[1], "one product": effect[0]}
    truth |= {"noise_sd": noise, "confounding": lam, "price_noise_sd": price_noise}
    draws = {"elasticity": found.base.elasticity, "one product": found.base.product[:, :, 0]}
    draws |= {"sd of price": found.spread[:, :, 0], "sd of constant": found.spread[:, :, 1]}
    return Ranked(truth={name: float(value) for name, value in truth.items()}, draws=draws | found.base.scales)


CASES: dict[str, Callable[[np.random.Generator, Sampled], Ranked]] = {
    "multinomial logit": lambda rng, sampled: rank_choice(rng, sampled, mixed=False),
    "mixed logit": lambda rng, sampled: rank_choice(rng, sampled, mixed=True),
    "purchase, logistic": lambda rng, sampled: rank_purchase(rng, sampled, shape="logistic"),
    "shares, prices as given": lambda rng, sampled: rank_shares(rng, sampled, instrumented=False),
    "shares, instruments": lambda rng, sampled: rank_shares(rng, sampled, instrumented=True),
    "shares, people who differ": rank_people,
    "purchase, falling curve": lambda rng, sampled: rank_purchase(rng, sampled, shape="curve"),
}
"""What is calibrated."""


def rank_task(case: str, seed: int, draws: int, tune: int) -> list[dict[str, object]]:
    """Ranks in [0, 1] of one simulation's parameters, and the processor seconds; no name where the gate refused."""
    rng = np.random.default_rng(seed)
    started = time.process_time()
    try:
        found = CASES[case](rng, Sampled(draws=draws, tune=tune, seed=seed))
    except Refusal as refusal:
        codes = ", ".join(finding.code for finding in refusal.findings)
        return [{"case": case, "parameter": None, "rank": None, "seconds": None, "refused": codes}]
    seconds = time.process_time() - started
    at = np.linspace(0, 4 * draws - 1, KEPT_DRAWS).astype(int)
    return [
        {
            "case": case,
            "parameter": name,
            "rank": float((found.draws[name].reshape(-1)[at] < value).sum() + rng.random()) / (KEPT_DRAWS + 1.0),
            "seconds": seconds,
            "refused": None,
        }
        for name, value in found.truth.items()
    ]


def case_lines(case: str, table: pl.DataFrame) -> Iterator[str]:
    """One model's table in Markdown, with the seconds a fit takes."""
    known = table.drop_nulls("parameter")
    failures = int(table["parameter"].null_count())
    names = known["parameter"].unique(maintain_order=True).to_list()
    ranks = {name: known.filter(pl.col("parameter") == name)["rank"].to_numpy() for name in names}
    seconds = known.filter(pl.col("parameter") == names[0])["seconds"].to_numpy()
    yield from table_lines(case.capitalize(), ranks, failures, float(seconds.sum()))
    middle, slow = np.quantile(seconds, [0.5, 0.95])
    yield f"A fit takes {middle:.1f} seconds of one core (median), 95 % of fits at most {slow:.1f}."
    yield ""


HEADER = f"""# Calibration of choices, purchases and shares

Simulation-based calibration from the shipped default priors. Choices: three alternatives, two constants, price and
one attribute; {OCCASIONS} occasions with equal tastes, {PEOPLE} people with {OCCASIONS_EACH} occasions each where
tastes differ. Purchases: {OFFERS} offers at five prices drawn by lot, a competitor's price and a control; the rate at
which elasticities are stated is fixed at {RATE} (a fit takes it from its data). Shares: {PRODUCTS} products in
{MARKETS} markets with product effects, an attribute and price coefficients by market; two instruments, or prices as
given; where people of one market differ ({SHOPPERS} of them, in price and in buying at all) product effects are
drawn with an sd of {DUMMY_SD}, as one of 10 gives shares nobody has seen; the centre of the levels and the unit of
elasticity are fixed (a fit takes them from its data). Four chains of {DRAWS} draws each; a fit that does not pass the
diagnostics gate counts as a failure. The p-value is that of the rank ECDF's largest excursion (simultaneous over the
whole curve); "inside" is Holm's verdict over all parameters of a table at 1 %. The last columns are the shares of
simulations whose central credible intervals hold the truth. Seconds are those of the processor.
Written by `python -m simulations.studies.choice_calibration`.
"""


def calibrate(
    cases: Sequence[str],
    simulations: int,
    seed: int,
    path: Path,
    keep: Path | None,
    processes: int | None,
    draws: int = DRAWS,
    tune: int = TUNE,
) -> None:
    """Calibrate some cases, and write the page of all that have results."""
    seeds = [int(np.random.SeedSequence([seed, at]).generate_state(1)[0]) for at in range(simulations)]
    lines: dict[str, list[str]] = {}
    for case in CASES:
        tasks = [{"case": case, "seed": one, "draws": draws, "tune": tune} for one in seeds]
        folder = None if keep is None else keep / case.replace(",", "").replace(" ", "-")
        done = folder is not None and len(list(folder.glob("task-*.json"))) == simulations
        if case in cases or done:
            table = run_study(Study(name=case, work=rank_task, tasks=tasks), folder, processes=processes)
            lines[case] = list(case_lines(case, table))
            print("\n".join(lines[case]), flush=True)
    missing = [case for case in CASES if case not in lines]
    told = [f"Not run yet: {'; '.join(missing)}.", ""] if missing else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *told, *(line for part in lines.values() for line in part)]), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=list(CASES), action="append", help="only these; repeatable")
    parser.add_argument("--keep", type=Path, help="folder of finished fits")
    parser.add_argument("--processes", type=int, help="left out, one for each core")
    parser.add_argument("--simulations", type=int, default=200)
    parser.add_argument(
        "--page", type=Path, default=Path(__file__).parents[2] / "docs" / "results" / "choice_calibration.md"
    )
    asked = parser.parse_args()
    chosen = asked.case or list(CASES)
    calibrate(chosen, asked.simulations, 20261123, asked.page, asked.keep, asked.processes)
