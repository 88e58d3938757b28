"""Does the fitted model predict rows like those it saw? Probability integral transforms of a sample of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.row_laws import row_laws
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
    laws, quantity = row_laws(posterior, rows, DRAWS), rows["quantity"].to_numpy()
    if laws.likelihood == "lognormal":
        return _mean_over_draws(laws.log_units_law().cdf(np.log(quantity)))
    law = laws.count_law()
    below, upto = _mean_over_draws(law.cdf(quantity - 1.0)), _mean_over_draws(law.cdf(quantity))
    return below + rng.random(rows.height) * (upto - below)


def _mean_over_draws(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64).mean(axis=0)
