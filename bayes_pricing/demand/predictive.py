"""Does the fitted model predict rows like those it saw? Probability integral transforms of a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
FAR = 0.00135
"""Probability of a normal number beyond three sds, on one side."""
HEAVY_RATIO, FEWEST_FAR = 3.0, 8


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
    if likelihood == "lognormal" and posterior.spec.errors == "gaussian":
        findings = (*findings, *_heavy_tails(pit))
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowLaws:
    """The laws of some rows' sales under draws of a posterior.

    Attributes
    ----------
    likelihood : str
    log_rate : array (draws, rows)
        Log of the median of log-normal sales, or of the mean of counts.
    sd : array (draws, rows) or None
        Residual sd of log units (the scale of Student-t errors); None for counts.
    degrees : array (draws, 1) or None
        Degrees of freedom of Student-t errors.
    size : array (draws, 1) or None
        Of the negative binomial.
    """

    likelihood: str
    log_rate: Floats
    sd: Floats | None = None
    degrees: Floats | None = None
    size: Floats | None = None

    def log_units_law(self) -> Any:
        """Distribution of log units, a frozen scipy distribution of shape (draws, rows)."""
        if self.degrees is not None:
            return stats.t(self.degrees, loc=self.log_rate, scale=self.sd)
        return stats.norm(loc=self.log_rate, scale=self.sd)

    def count_law(self) -> Any:
        """Distribution of counts, a frozen scipy distribution of shape (draws, rows)."""
        mean = np.exp(self.log_rate)
        return stats.poisson(mean) if self.size is None else stats.nbinom(self.size, self.size / (self.size + mean))


def row_laws(posterior: DemandPosterior, rows: pl.DataFrame, draws: int = DRAWS) -> RowLaws:
    """What a posterior says of single rows, from at most `draws` draws, chain after chain.

    Parameters
    ----------
    posterior : DemandPosterior
    rows : DataFrame
        As :func:`check_predictions` takes them.
    draws : int
    """
    spec = posterior.spec
    names = rows["item"].unique().sort().to_list()
    position = {name: at for at, name in enumerate(names)}
    at = np.array([position[name] for name in rows["item"]])
    items = posterior.items.filter(pl.col("item").is_in(names)).sort("item")
    coefficients = _thinned(posterior.coefficients("item", names).to_numpy(), draws)[:, at]
    own = [*spec.controls, *spec.deviations]
    controls = [*own, *spec.shared_controls]
    shared = _thinned(posterior.shared().to_numpy(), draws)
    effects = [coefficients[:, :, 2 + index] for index in range(len(own))]
    effects += [shared[:, None, index] for index in range(len(spec.shared_controls))]
    exposure = rows["exposure"].to_numpy() if "exposure" in rows.columns else np.ones(rows.height)
    log_rate = log_demand(
        level=coefficients[:, :, 0],
        elasticity=coefficients[:, :, 1],
        log_price=np.log(rows["price"].to_numpy()),
        reference_log_price=items["reference_log_price"].to_numpy()[at],
        effects=effects,
        controls=[rows[name].to_numpy() - items[f"mean_{name}"].to_numpy()[at] for name in controls],
        log_exposure=np.log(exposure),
    )
    if spec.likelihood == "poisson":
        return RowLaws(likelihood=spec.likelihood, log_rate=log_rate)
    hyper = posterior.hyper() if spec.likelihood != "lognormal" or spec.errors == "student_t" else None
    if hyper is None:
        sd = np.sqrt(2.0 * _thinned(posterior.log_smearing(names).to_numpy(), draws)[:, at])
        return RowLaws(likelihood=spec.likelihood, log_rate=log_rate, sd=sd)
    if spec.likelihood == "negative_binomial":
        size = _thinned(hyper["overdispersion"].to_numpy(), draws)[:, None] ** -2.0
        return RowLaws(likelihood=spec.likelihood, log_rate=log_rate, size=size)
    place = {name: index for index, name in enumerate(posterior.items["item"])}
    own_place = np.array([place[name] for name in rows["item"]])
    return RowLaws(
        likelihood=spec.likelihood,
        log_rate=log_rate,
        sd=_thinned(hyper["residual_sd"].to_numpy(), draws)[:, own_place],
        degrees=_thinned(hyper["degrees"].to_numpy(), draws),
    )


def _heavy_tails(pit: Floats) -> tuple[Finding, ...]:
    """Warn where many more rows are far off than normal errors allow: their share beyond three sds is 0.27 %."""
    far, rows = int((np.minimum(pit, 1.0 - pit) < FAR).sum()), len(pit)
    if rows == 0 or not far > max(FEWEST_FAR, HEAVY_RATIO * 2.0 * FAR * rows):
        return ()
    return (
        Finding(
            code="heavy_tails",
            severity="warning",
            message=f"{far} of {rows} sampled rows lie beyond three sds of their prediction, where normal errors put "
            f"{2.0 * FAR * rows:.0f}",
            remedy="fit --model student-t, or let --compare-models decide; look at those weeks",
        ),
    )


def _transforms(posterior: DemandPosterior, rows: pl.DataFrame, rng: np.random.Generator) -> Floats:
    """Probability integral transforms of some rows."""
    laws, quantity = row_laws(posterior, rows), rows["quantity"].to_numpy()
    if laws.likelihood == "lognormal":
        return _mean_over_draws(laws.log_units_law().cdf(np.log(quantity)))
    law = laws.count_law()
    below, upto = _mean_over_draws(law.cdf(quantity - 1.0)), _mean_over_draws(law.cdf(quantity))
    return below + rng.random(rows.height) * (upto - below)


def _mean_over_draws(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).mean(axis=0)


def _thinned(draws: NDArray[np.float64] | NDArray[np.float32], most: int) -> Floats:
    """(chain, draw, ...) as at most `most` evenly spaced draws, chain after chain."""
    flat = draws.reshape(draws.shape[0] * draws.shape[1], *draws.shape[2:])
    every = max(len(flat) // most, 1)
    return flat[::every].astype(np.float64)
