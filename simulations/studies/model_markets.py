"""Markets drawn from the priors of every model beside the tree, for :mod:`simulations.studies.model_calibration`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.demand.attributes import add_attributes
from bayes_pricing.demand.control_function import CONFOUNDING_SD
from bayes_pricing.demand.count_start import OVERDISPERSION_SCALE
from bayes_pricing.demand.cross_prices import add_other_prices
from bayes_pricing.demand.design import Model
from bayes_pricing.demand.gaussian_tree import build_tree_data
from bayes_pricing.demand.row_density import DEGREES_RATE, DEGREES_SHAPE
from bayes_pricing.demand.spec import CROSS_PRICE, PRICE_CURVE, PRICE_DRIFT, DemandSpec, NoiseBy, Priors
from bayes_pricing.demand.terms import price_curve_column
from bayes_pricing.demand.tree_prior import build_tree_prior
from simulations.studies.terms_calibration import draw_parameters

CATEGORIES, ITEMS_PER_CATEGORY, WEEKS = 5, 4, 12
SEASON, COST, SIZE = "season", "freight", "size"
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
    terms : bool
        Whether elasticities drift, change with price and go by the items' sizes.
    crossing : bool
        Whether prices of a category act on each other's items.
    """

    title: str
    model: Model
    priors: Priors = field(default_factory=lambda: Priors(level_mean=5.0))
    why: str = ""
    noise_by: NoiseBy | None = None
    sold_out: bool = False
    instrument: bool = False
    terms: bool = False
    crossing: bool = False

    @property
    def spec(self) -> DemandSpec:
        """What the simulation assumes beside the law of sales."""
        return DemandSpec(
            controls=((PRICE_DRIFT, PRICE_CURVE) if self.terms else ()) + ((CROSS_PRICE,) if self.crossing else ()),
            shared_controls=(SEASON,),
            attributes=(SIZE,) if self.terms else (),
            cross_prices="category" if self.crossing else None,
            others=ITEMS_PER_CATEGORY - 1 if self.crossing else 0,
            noise_by=self.noise_by or "category",
            priors=self.priors,
        )


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
    "negative-binomial-terms": Case(
        title="Negative binomial; elasticities drift, change with price and go by sizes",
        model="negative-binomial",
        priors=COUNTS,
        why=OF_COUNTS,
        terms=True,
    ),
    "poisson-crossing": Case(
        title="Poisson; prices of a category act on each other's items",
        model="poisson",
        priors=COUNTS,
        why=OF_COUNTS,
        crossing=True,
    ),
    "censored-terms": Case(
        title="Poisson with sold-out weeks; elasticities drift, change with price and go by sizes",
        model="poisson",
        priors=COUNTS,
        sold_out=True,
        why=OF_COUNTS,
        terms=True,
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
    rows, table = _with_terms(rows, rng) if case.terms else (rows, None)
    if case.crossing:
        priced = rows.with_columns(pl.col("log_price").exp().alias("price")).lazy()
        rows = add_other_prices(priced, "item", "category").frame.sort("item", "period").collect()
    gram = gather_gram(
        rows.with_columns(log_units=pl.lit(0.0)), "item", "log_units", case.spec.columns[1:], centred=case.spec.centred
    )
    data = build_tree_data(gram, [rows["category"].gather_every(WEEKS).to_list()], case.spec)
    prior, own = build_tree_prior(data, case.priors), len(case.spec.item_coefficients)
    drawn = draw_parameters(data, prior, rng, table)
    truth = {name: value for name, value in drawn.truth.items() if not name.startswith("noise")}
    season = float(rng.normal(prior.root_mean[own], prior.root_sd[own]))
    if case.instrument:
        return _endogenous(rows, truth, drawn.item, season, drawn.noise, rng)
    x = np.column_stack([np.ones(n), rows.select(case.spec.columns[1:]).to_numpy()]) - gram.centre[item]
    log_rate = (x[:, :own] * drawn.item[item]).sum(axis=1) + season * x[:, own] + x[:, own + 1 :] @ drawn.shared[1:]
    wanted = _wanted(case, log_rate, drawn.noise[item], truth, rng)
    told = ["item", "category", "period", "log_price", SEASON, *([SIZE] if case.terms else [])]
    rows = rows.select(told).with_columns(pl.col("log_price").exp().alias("price"), pl.Series("quantity", wanted))
    truth[SEASON] = season
    if case.model in ("lognormal", "student-t"):
        truth["residual sd"] = float(drawn.noise[0])
    if not case.sold_out:
        return Market(rows=rows, truth=truth)
    counts = case.model != "lognormal"
    stock = rng.integers(3, 25, size=n).astype(float) if counts else np.exp(5.0 + rng.normal(scale=0.7, size=n))
    rows = rows.with_columns(sold_out=pl.Series(wanted >= stock), quantity=pl.Series(np.minimum(wanted, stock)))
    return Market(rows=rows, truth=truth)


def _with_terms(rows: pl.DataFrame, rng: np.random.Generator) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows with the columns that the terms are made of, and the items' sizes."""
    sizes = pl.Series(SIZE, np.repeat(rng.normal(size=CATEGORIES * ITEMS_PER_CATEGORY), WEEKS))
    away = pl.col("log_price") - pl.col("log_price").mean().over("item")
    found = add_attributes(rows.with_columns(sizes, pl.col("log_price").exp().alias("price")).lazy(), (SIZE,))
    columns = {
        PRICE_DRIFT: away * (pl.col("period") / (WEEKS - 1.0) - 1.0),
        PRICE_CURVE: price_curve_column(away, 0.0),
    }
    return found.frame.with_columns(**columns).sort("item", "period").collect(), found.table


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


def never_seen_items(truth: Mapping[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Elasticities of a new item of the first category, and of a new item of a new category."""
    by_item, by_category = (
        truth["sd_item log_price"] * rng.normal(size=2),
        truth["sd_category log_price"] * rng.normal(),
    )
    return {
        "new item log_price": float(truth["category log_price"] + by_item[0]),
        "new category's item log_price": float(truth["population log_price"] + by_category + by_item[1]),
    }
