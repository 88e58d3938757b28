"""Simulation-based calibration of the Gaussian tree: `python -m simulations.studies.tree_calibration`.

Parameters are drawn from the shipped default priors, sales from the parameters, and the posterior from the sales; over
many such markets the rank of the true value among the posterior draws must be uniform (Talts et al. 2018). The one
thing fixed is the prior mean of log units, which a fit takes from its data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.diagnostics import SamplerStatistics
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data
from bayes_pricing.demand.nuts import settle
from bayes_pricing.demand.spec import DemandSpec, NoiseBy
from bayes_pricing.demand.tree_fit import build_tree_posterior
from bayes_pricing.demand.tree_layout import correlation_factor
from bayes_pricing.demand.tree_posterior import TreePosterior
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior
from bayes_pricing.demand.tree_sampling import sample_tree

ITEMS_PER_CATEGORY = 5
CATEGORIES = 4
WEEKS = 20
KEPT_DRAWS = 199
LEVELS_OF_INTERVALS = (0.5, 0.8, 0.9, 0.95)
LOG_UNITS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedMarket:
    """Sales drawn from the prior, and the parameters they were drawn with.

    Attributes
    ----------
    data : TreeData
    prior : TreePrior
    items : DataFrame
    truth : dict of str to float
        The parameters whose ranks are looked at.
    """

    data: TreeData
    prior: TreePrior
    items: pl.DataFrame
    truth: dict[str, float]


def simulate_market(noise_by: NoiseBy, rng: np.random.Generator) -> SimulatedMarket:
    """One market from the default priors: 20 items in four categories, 20 weeks, one shared control."""
    spec = DemandSpec(levels=("category",), shared_controls=("season",), noise_by=noise_by)
    items = ITEMS_PER_CATEGORY * CATEGORIES
    category = np.arange(items) // ITEMS_PER_CATEGORY
    X = np.ones((items, WEEKS, 3))
    X[:, :, 1] = rng.normal(scale=0.2, size=(items, WEEKS))
    X[:, :, 1] -= X[:, :, 1].mean(axis=1, keepdims=True)
    X[:, :, 2] = rng.normal(size=(items, WEEKS))
    names = tuple(f"item{at:02d}" for at in range(items))
    groups = [f"category{at}" for at in category]
    empty = _gram(names, X, np.full((items, WEEKS), LOG_UNITS))
    data = build_tree_data(empty, [groups], spec)
    prior = build_tree_prior(data, spec.priors)
    truth, effects, noise = _draw_parameters(data, prior, category, rng)
    log_units = (X * effects[:, None, :]).sum(axis=2) + noise[:, None] * rng.standard_normal((items, WEEKS))
    data = build_tree_data(_gram(names, X, log_units), [groups], spec)
    return SimulatedMarket(data=data, prior=prior, items=pl.DataFrame({"item": names, "category": groups}), truth=truth)


def _gram(names: tuple[str, ...], X: Floats, log_units: Floats) -> Gram:
    return Gram(
        items=names,
        columns=("level", "log_price", "season"),
        count=np.full(len(names), float(X.shape[1])),
        xtx=np.einsum("jta,jtb->jab", X, X),
        xty=np.einsum("jta,jt->ja", X, log_units),
        yty=np.einsum("jt,jt->j", log_units, log_units),
        centre=np.zeros((len(names), X.shape[2])),
    )


def _draw_parameters(
    data: TreeData, prior: TreePrior, category: np.ndarray[tuple[int], np.dtype[np.int64]], rng: np.random.Generator
) -> tuple[dict[str, float], Floats, Floats]:
    """Hyper-parameters, effects (items, 3) and noise sds (items,) from the prior."""
    truth: dict[str, float] = {}
    factors = []
    for at, level in enumerate(data.level_names):
        sd = np.abs(rng.normal(scale=prior.between_sd[at]))
        partial = 2.0 * rng.beta(prior.concentration, prior.concentration) - 1.0
        factors.append(sd[:, None] * correlation_factor(np.arctanh([partial]), 2))
        truth |= {f"sd_{level} level": sd[0], f"sd_{level} log_price": sd[1], f"correlation_{level}": partial}
    population = rng.normal(prior.root_mean, prior.root_sd)
    categories = population[:2] + rng.standard_normal((CATEGORIES, 2)) @ factors[1].T
    own = categories[category] + rng.standard_normal((len(category), 2)) @ factors[0].T
    typical = np.abs(rng.normal(scale=prior.noise_scale, size=len(data.noise_groups)))
    noise = typical[data.noise_group]
    truth["noise_sd"] = float(typical[0])
    if data.spec.noise_by == "item":
        spread = abs(rng.normal(scale=prior.noise_spread_scale))
        noise = noise * np.exp(spread * rng.standard_normal(len(noise)))
        truth |= {"noise_spread": spread, "item noise_sd": float(noise[0])}
    truth |= {"population log_price": population[1], "population level": population[0], "season": population[2]}
    truth |= {"category log_price": categories[0, 1], "item log_price": own[0, 1], "item level": own[0, 0]}
    effects = np.column_stack([own, np.full(len(own), population[2])])
    return {name: float(value) for name, value in truth.items()}, effects, noise


def _draws_of(posterior: TreePosterior) -> dict[str, Floats]:
    """Draws (chain, draw) of the parameters named in a market's truth."""
    hyper, found = posterior.hyper(), {}
    for level in posterior.data.level_names:
        for coefficient in ("level", "log_price"):
            found[f"sd_{level} {coefficient}"] = hyper[f"sd_{level}"].sel(coefficient=coefficient)
        found[f"correlation_{level}"] = hyper[f"correlation_{level}"].isel(pair=0)
    found["noise_sd"] = hyper["noise_sd"].isel(noise_group=0)
    if "noise_spread" in hyper:
        found |= {"noise_spread": hyper["noise_spread"], "item noise_sd": hyper["item_noise_sd"].isel(item=0)}
    for name, level in (("population", "population"), ("category", "category"), ("item", "item")):
        values = posterior.coefficients(level)
        values = values if level == "population" else values.isel({level: 0})
        found |= {
            f"{name} {coefficient}": values.sel(coefficient=coefficient) for coefficient in ("level", "log_price")
        }
    found["season"] = posterior.shared().isel(control=0)
    return {name: values.to_numpy() for name, values in found.items()}


def simulate_rank(noise_by: NoiseBy, seed: int, draws: int, tune: int) -> dict[str, float] | None:
    """Rank in [0, 1] of every true parameter of one market among its posterior draws; None if the fit did not pass."""
    rng = np.random.default_rng(seed)
    market = simulate_market(noise_by, rng)

    def fit(every: int) -> tuple[TreePosterior, SamplerStatistics]:
        fitted = sample_tree(market.data, market.prior, draws=draws, tune=tune, chains=4, seed=seed, every=every)
        posterior = build_tree_posterior(market.data, market.prior, fitted, market.items, seed=seed)
        return posterior, SamplerStatistics(divergences=fitted.divergences, energy=fitted.energy)

    settled = settle(fit)
    if not settled.diagnostics.passed:
        return None
    at = np.linspace(0, 4 * draws - 1, KEPT_DRAWS).astype(int)
    found = _draws_of(settled.posterior)
    return {
        name: float((found[name].reshape(-1)[at] < value).sum() + rng.random()) / (KEPT_DRAWS + 1.0)
        for name, value in market.truth.items()
    }


def simulate_ranks(
    n_simulations: int, seed: int, *, noise_by: NoiseBy, draws: int = 1000, tune: int = 500, processes: int = 1
) -> tuple[dict[str, Floats], int]:
    """Ranks of true parameters over many simulated markets.

    Parameters
    ----------
    n_simulations : int
    seed : int
        Market s has seed (seed, s).
    noise_by : str
    draws, tune : int
        Per chain, four chains.
    processes : int

    Returns
    -------
    ranks : dict of str to array
        In [0, 1] and uniform if the sampler is right; one entry per fit that passed the diagnostics gate.
    failures : int
        Fits that did not pass.
    """
    seeds = [int(np.random.SeedSequence([seed, at]).generate_state(1)[0]) for at in range(n_simulations)]
    plans = [(noise_by, one, draws, tune) for one in seeds]
    if processes == 1:
        found = [simulate_rank(*plan) for plan in plans]
    else:
        with ProcessPoolExecutor(max_workers=processes) as pool:
            found = list(pool.map(simulate_rank, *zip(*plans, strict=True)))
    passed = [ranks for ranks in found if ranks is not None]
    names = list(passed[0]) if passed else []
    return {name: np.array([ranks[name] for ranks in passed]) for name in names}, n_simulations - len(passed)


def uniformity_p_value(ranks: Floats, rng: np.random.Generator, simulations: int = 20_000) -> float:
    """How often uniform ranks stray further from the diagonal of their ECDF than these (simultaneous bands).

    The distance is the smallest pointwise binomial tail over 50 points, as in Säilynoja, Bürkner & Vehtari (2022),
    "Graphical test for discrete uniformity", Statistics and Computing 32.

    Examples
    --------
    >>> uniformity_p_value(np.full(100, 0.4), np.random.default_rng(1)) < 0.001
    True
    """
    n, grid = len(ranks), np.linspace(0.02, 0.98, 49)
    below = stats.binom.cdf(np.arange(n + 1)[:, None], n, grid)
    above = stats.binom.sf(np.arange(n + 1)[:, None] - 1, n, grid)
    tail = 2.0 * np.minimum(below, above)

    def distance(values: Floats) -> Floats:
        counts = (values[..., None, :] <= grid[:, None]).sum(axis=-1)
        return np.asarray(tail[counts, np.arange(len(grid))].min(axis=-1))

    observed = distance(ranks)
    batches = max(simulations // 1000, 1)
    smaller = sum(int((distance(rng.random((1000, n))) <= observed).sum()) for _ in range(batches))
    return (smaller + 1.0) / (batches * 1000 + 1.0)


def holm_accepts(p_values: dict[str, float], error: float = 0.01) -> dict[str, bool]:
    """Which parameters stay inside their bands with the family's error rate held at `error` (Holm 1979).

    Examples
    --------
    >>> holm_accepts({"a": 0.2, "b": 0.001})
    {'b': False, 'a': True}
    """
    accepted: dict[str, bool] = {}
    for at, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        earlier_accepted = any(accepted.values())
        accepted[name] = earlier_accepted or p > error / (len(p_values) - at)
    return accepted


def all_inside(ranks: dict[str, Floats]) -> bool:
    """Whether no parameter of a table lies outside its band."""
    rng = np.random.default_rng(1)
    return all(holm_accepts({name: uniformity_p_value(values, rng) for name, values in ranks.items()}).values())


def coverage(ranks: Floats, probability: float) -> float:
    """Share of markets whose central interval of that probability holds the truth."""
    return float((np.abs(ranks - 0.5) <= probability / 2.0).mean())


def table_lines(title: str, ranks: dict[str, Floats], failures: int, seconds: float) -> Iterator[str]:
    """The study's table for one model, in Markdown."""
    count = len(next(iter(ranks.values()))) if ranks else 0
    rng = np.random.default_rng(1)
    p_values = {name: uniformity_p_value(values, rng) for name, values in ranks.items()}
    inside = holm_accepts(p_values)
    verdict = "all inside" if all(inside.values()) else "NOT all inside"
    yield f"## {title}"
    yield ""
    yield f"{count + failures} markets, {failures} failed fits, {seconds:.0f} seconds; ranks of the rest {verdict}."
    yield ""
    yield "| parameter | p (simultaneous) | inside | " + " | ".join(f"{p:.0%}" for p in LEVELS_OF_INTERVALS) + " |"
    yield "|---|---|---|" + "---|" * len(LEVELS_OF_INTERVALS)
    for name, values in ranks.items():
        shares = " | ".join(f"{coverage(values, p):.3f}" for p in LEVELS_OF_INTERVALS)
        yield f"| {name} | {p_values[name]:.3f} | {'yes' if inside[name] else 'no'} | {shares} |"
    yield ""


HEADER = f"""# Calibration of the Gaussian tree

Simulation-based calibration from the shipped default priors (`Priors()`), {ITEMS_PER_CATEGORY * CATEGORIES} items in
{CATEGORIES} categories, {WEEKS} weeks, within-item sd of log price 0.2, one shared control; only the prior mean of log
units is fixed (a fit takes it from its data). Four chains of 1,000 draws each; a fit that does not pass the diagnostics
gate counts as a failure. The p-value is that of the rank ECDF's largest excursion (simultaneous over the whole curve);
"inside" is Holm's verdict over all parameters of a table at 1 %. The last columns are the shares of markets whose
central credible intervals hold the truth. Written by `python -m simulations.studies.tree_calibration`.
"""


def run_study(n_simulations: int, seed: int, path: Path) -> None:
    """Calibrate common noise and noise by item, and write the table."""
    lines = [HEADER]
    for noise_by in ("common", "item"):
        started = time.perf_counter()
        ranks, failures = simulate_ranks(
            n_simulations, seed, noise_by="item" if noise_by == "item" else "common", processes=os.cpu_count() or 1
        )
        seconds = time.perf_counter() - started
        lines += table_lines("Noise by item" if noise_by == "item" else "Noise common", ranks, failures, seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    run_study(200, 20261121, Path(__file__).parents[2] / "docs" / "results" / "tree_calibration.md")
