"""Does the fitted model predict rows like those it saw? Probability integral transforms of a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayes_pricing.demand.equation import log_demand
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.errors import Finding

Floats = NDArray[np.float64]

PROBABILITIES = (0.5, 0.8, 0.95)
COVERAGE_TOLERANCE = 0.05
ROWS_AT_ONCE = 250
DRAWS = 400


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictiveCheck:
    """How sampled rows fall into their own posterior predictive distributions.

    Attributes
    ----------
    pit : array (rows,)
        Probability integral transforms in [0, 1]; uniform under a right model. For counts randomised by seed.
    coverage : tuple of (float, float)
        Probability of a central predictive interval, and the share of rows it holds.
    findings : tuple of Finding
        A warning for each probability whose share is off by more than `COVERAGE_TOLERANCE` and by more than chance.
    """

    pit: Floats
    coverage: tuple[tuple[float, float], ...]
    findings: tuple[Finding, ...]


def check_predictions(posterior: DemandPosterior, rows: pl.DataFrame, *, seed: int) -> PredictiveCheck:
    r"""Compare sampled rows with their posterior predictive distributions, parameters and noise included.

    .. math:: u_t = \frac{1}{D} \sum_d F(q_t \mid \theta_d), \qquad
              \text{counts: } u_t = F(q_t - 1) + v \, (F(q_t) - F(q_t - 1)), \; v \sim U(0, 1)

    Parameters
    ----------
    posterior : DemandPosterior
    rows : DataFrame
        Columns ``item, price, quantity``, the spec's controls, and ``exposure`` where there is one.
    seed : int
        Of the randomisation for counts.

    References
    ----------
    Czado, Gneiting & Held (2009), "Predictive model assessment for count data", Biometrics 65(4).
    """
    rng = np.random.default_rng(seed)
    pit = np.empty(rows.height)
    for start in range(0, rows.height, ROWS_AT_ONCE):
        part = rows.slice(start, ROWS_AT_ONCE)
        pit[start : start + part.height] = _transforms(posterior, part, rng)
    likelihood = posterior.spec.likelihood
    coverage = tuple((p, float(np.mean(np.abs(pit - 0.5) <= p / 2))) for p in PROBABILITIES)
    findings = tuple(_finding(p, share, likelihood) for p, share in coverage if _is_off(p, share, rows.height))
    return PredictiveCheck(pit=pit, coverage=coverage, findings=findings)


def _is_off(probability: float, share: float, rows: int) -> bool:
    chance = 4.0 * np.sqrt(probability * (1.0 - probability) / rows)
    return bool(abs(share - probability) > max(COVERAGE_TOLERANCE, chance))


def _finding(probability: float, share: float, likelihood: str) -> Finding:
    narrow = share < probability
    wider = (
        "let noise differ by item (--noise-by item)" if likelihood == "lognormal" else "fit --model negative-binomial"
    )
    return Finding(
        code="predictions_too_narrow" if narrow else "predictions_too_wide",
        severity="warning",
        message=f"{probability:.0%} predictive intervals hold {share:.0%} of sampled rows",
        remedy=f"name what else moves sales as a control, or {wider}"
        if narrow
        else "residuals are more peaked than the model's: ranges of single periods err on the wide side",
    )


def _transforms(posterior: DemandPosterior, rows: pl.DataFrame, rng: np.random.Generator) -> Floats:
    """Probability integral transforms of some rows."""
    spec = posterior.spec
    names = rows["item"].unique().sort().to_list()
    position = {name: at for at, name in enumerate(names)}
    at = np.array([position[name] for name in rows["item"]])
    items = posterior.items.filter(pl.col("item").is_in(names)).sort("item")
    coefficients = _thinned(posterior.coefficients("item", names).to_numpy())[:, at]
    own = [*spec.controls, *spec.deviations]
    controls = [*own, *spec.shared_controls]
    shared = _thinned(posterior.shared().to_numpy())
    effects = [coefficients[:, :, 2 + index] for index in range(len(own))]
    effects += [shared[:, None, index] for index in range(len(spec.shared_controls))]
    exposure = rows["exposure"].to_numpy() if "exposure" in rows.columns else np.ones(rows.height)
    log_units = log_demand(
        level=coefficients[:, :, 0],
        elasticity=coefficients[:, :, 1],
        log_price=np.log(rows["price"].to_numpy()),
        reference_log_price=items["reference_log_price"].to_numpy()[at],
        effects=effects,
        controls=[rows[name].to_numpy() - items[f"mean_{name}"].to_numpy()[at] for name in controls],
        log_exposure=np.log(exposure),
    )
    quantity = rows["quantity"].to_numpy()
    if spec.likelihood == "lognormal":
        sd = np.sqrt(2.0 * _thinned(posterior.log_smearing(names).to_numpy())[:, at])
        return _mean_over_draws(stats.norm.cdf(np.log(quantity), loc=log_units, scale=sd))
    below, upto = _count_cdf(posterior, quantity - 1.0, log_units), _count_cdf(posterior, quantity, log_units)
    return below + rng.random(rows.height) * (upto - below)


def _count_cdf(posterior: DemandPosterior, quantity: Floats, log_units: Floats) -> Floats:
    """Posterior predictive distribution function of counts, (rows,)."""
    mean = np.exp(log_units)
    if posterior.spec.likelihood == "poisson":
        return _mean_over_draws(stats.poisson.cdf(quantity, mean))
    size = _thinned(posterior.hyper()["overdispersion"].to_numpy())[:, None] ** -2.0
    return _mean_over_draws(stats.nbinom.cdf(quantity, size, size / (size + mean)))


def _mean_over_draws(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).mean(axis=0)


def _thinned(draws: NDArray[np.float64] | NDArray[np.float32]) -> Floats:
    """(chain, draw, ...) as at most `DRAWS` evenly spaced draws, chain after chain."""
    flat = draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])
    every = max(len(flat) // DRAWS, 1)
    return flat[::every].astype(np.float64)
