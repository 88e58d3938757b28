"""What the priors decide of the parameters, and what the sales: power scaling of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.row_laws import row_laws, row_log_likelihood
from bayes_pricing.errors import Finding

LIMIT = 0.05
DELTA = 0.01
"""By how much the log (base 2) of the power is moved up and down, to take a slope."""
MOST_DRAWS = 1000
MOST_ROWS = 10_000
ROWS_AT_ONCE = 1000
MOST_ITEMS = 50
Diagnosis = Literal["conflict", "prior matters", "fine", "not assessed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterSensitivity:
    """How far the posterior of one parameter moves as the priors, or the sales, count for a little more or less.

    Attributes
    ----------
    level, name : str
        Level and unit; ``between <level>`` is the sd of elasticities between the units of a level.
    prior : float
        Distance of the distributions (cumulative Jensen-Shannon) per doubling of the weight of the elasticities' priors
        at the top of the model; over 0.05 counts.
    likelihood : float or None
        The same of the sales; None where there are too many rows to look at all of them.
    diagnosis : str
        ``conflict`` where both count (they pull apart), ``prior matters`` where only the prior does (the sales say
        little), ``fine``, or ``not assessed`` where the prior counts and the sales were not looked at.
    """

    level: str
    name: str
    prior: float
    likelihood: float | None
    diagnosis: Diagnosis


def check_priors(posterior: DemandPosterior, frame: pl.LazyFrame) -> tuple[ParameterSensitivity, ...]:
    r"""Power-scale the priors of the elasticities, and the likelihood, of a fit.

    .. math:: p_\alpha(\theta \mid y) \propto p(\theta)^\alpha \, p(y \mid \theta)
              \quad\text{and}\quad p(\theta) \, p(y \mid \theta)^\alpha

    by importance weights of the draws; the slope of the distance in :math:`\log_2 \alpha` at 1. Looked at are the
    population's mean, the sds between units, the means of the levels, and elasticities of at most 50 items.

    Parameters
    ----------
    posterior : DemandPosterior
    frame : LazyFrame
        The rows of the fit as :func:`bayes_pricing.demand.row_laws.row_laws` takes them.

    References
    ----------
    Kallioinen, Paananen, Bürkner & Vehtari (2024), "Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling", Statistics and Computing 34:57.
    """
    known = _parameters(posterior)
    population = known[0][2]
    priors = _slopes([draws for _, _, draws in known], _thin(top_log_prior(posterior, population)))
    likelihood = _log_likelihood(posterior, frame)
    sales = None if likelihood is None else _slopes([draws for _, _, draws in known], likelihood)
    return tuple(
        ParameterSensitivity(
            level=level,
            name=name,
            prior=priors[at],
            likelihood=None if sales is None else sales[at],
            diagnosis=_diagnose(priors[at], None if sales is None else sales[at]),
        )
        for at, (level, name, _) in enumerate(known)
    )


def prior_findings(sensitivity: tuple[ParameterSensitivity, ...]) -> tuple[Finding, ...]:
    """Names conflicts of prior and sales, one finding for all; no more than a fact where sales say little.

    Examples
    --------
    >>> torn = ParameterSensitivity(level="population", name="population", prior=0.2, likelihood=0.3,
    ...                             diagnosis="conflict")
    >>> [finding.code for finding in prior_findings((torn,))]
    ['prior_data_conflict']
    """
    torn = [one for one in sensitivity if one.diagnosis == "conflict" and one.level != "item"]
    if not torn:
        return ()
    names = ", ".join(f"{one.level} {one.name}".removesuffix(" population") for one in torn[:3])
    return (
        Finding(
            code="prior_data_conflict",
            severity="warning",
            message=f"prior and sales pull apart on {len(torn)} of the parameters above the items, e.g. {names}",
            remedy="ask what moves these sales beside price; where the sales are right, state your own priors",
        ),
    )


def top_log_prior(posterior: DemandPosterior, population_elasticity: Floats) -> Floats:
    r"""Log density of the priors at the top of the model at its draws, array (S,), up to a constant.

    .. math:: -\frac{(\mu - m)^2}{2 s^2} - \sum_{\ell} \frac{\tau_\ell^2}{2 t_\ell^2}

    with :math:`\mu` the population's mean elasticity and :math:`\tau_\ell` the between-unit sd of elasticities at each
    level that varies. A level with a single unit is left out and gives its prior variance to the next one up.

    Parameters
    ----------
    posterior : DemandPosterior
    population_elasticity : array (S,)
        The posterior's own draws of it.

    Returns
    -------
    array (S,)
    """
    spec = posterior.spec
    group_variance = spec.priors.elasticity_between_groups**2 / max(len(spec.levels), 1)
    scales = {"item": spec.priors.elasticity_between_items**2}
    waiting = 0.0 if spec.levels else group_variance
    for level in spec.levels:
        waiting += group_variance
        if posterior.items[level].n_unique() > 1:
            scales[level], waiting = waiting, 0.0
    deviation = population_elasticity - spec.priors.elasticity_mean
    log_prior = -0.5 * deviation**2 / (spec.priors.elasticity_sd**2 + waiting)
    for level, variance in scales.items():
        between = posterior.variation(level).sel(coefficient="log_price").transpose("chain", "draw").to_numpy().ravel()
        log_prior = log_prior - 0.5 * between**2 / variance
    return np.asarray(log_prior, dtype=np.float64)


def _parameters(posterior: DemandPosterior) -> list[tuple[str, str, Floats]]:
    """Level, name and draws (S,) of what is looked at, the population's mean first."""

    def flat(level: str, units: list[str]) -> Floats:
        draws = posterior.coefficients(level, units).sel(coefficient="log_price")
        found: Floats = draws.to_numpy().reshape(-1, len(units)).astype(np.float64)
        return found

    population = posterior.coefficients("population").sel(coefficient="log_price").to_numpy().ravel()
    found = [("population", "population", population.astype(np.float64))]
    for level in ("item", *posterior.spec.levels):
        between = posterior.variation(level).sel(coefficient="log_price").transpose("chain", "draw").to_numpy().ravel()
        if between.std() > 0:
            found.append(("between", level, between.astype(np.float64)))
    for level in (*reversed(posterior.spec.levels), "item"):
        names = posterior.items[level].unique().sort().cast(pl.String).to_list()
        kept = names[:: max(-(-len(names) // MOST_ITEMS), 1)]
        if len(names) > 1:
            found += [(level, name, draws) for name, draws in zip(kept, flat(level, kept).T, strict=True)]
    return found


def _log_likelihood(posterior: DemandPosterior, frame: pl.LazyFrame) -> Floats | None:
    """Log likelihood of all rows under at most `MOST_DRAWS` draws; None where they are too many."""
    # loaded here: they load numba, which doors to saved models do not need
    from bayes_pricing.demand.censoring import sold_out_rows
    from bayes_pricing.demand.tree_likelihood import sales_log_likelihood
    from bayes_pricing.demand.tree_posterior import TreePosterior

    gone = sold_out_rows(frame)
    marked = frame.with_columns((pl.lit(value=False) if gone is None else gone).alias("_gone"))
    if int(frame.select(pl.len()).collect(engine="streaming").item()) > MOST_ROWS:
        return None
    if isinstance(posterior, TreePosterior):
        return _thin(sales_log_likelihood(posterior))
    rows = marked.collect(engine="streaming")
    total = None
    for start in range(0, rows.height, ROWS_AT_ONCE):
        part = rows.slice(start, ROWS_AT_ONCE)
        laws = row_laws(posterior, part, MOST_DRAWS)
        value = row_log_likelihood(laws, part["quantity"].to_numpy(), part["_gone"].to_numpy()).sum(axis=1)
        total = value if total is None else total + value
    return total


def _thin(draws: Floats) -> Floats:
    """Evenly spaced draws, as those of the laws of rows are."""
    return draws[:: max(len(draws) // MOST_DRAWS, 1)]


def _slopes(parameters: list[Floats], log_density: Floats) -> list[float]:
    """Slope of the distance from the posterior of every parameter as the power of one density leaves 1."""
    from arviz_stats.base.array import array_stats  # a second, which callers that fit nothing need not pay

    alphas = (2.0**-DELTA, 2.0**DELTA)
    weights = []
    for alpha in alphas:
        smoothed, _ = array_stats.psislw((alpha - 1.0) * log_density)
        weight = np.exp(smoothed - smoothed.max())
        weights.append(weight / weight.sum())
    lower, upper = (weight[None] for weight in weights)  # one chain
    return [float(array_stats.power_scale_sense(_thin(draws)[None], lower, upper, *alphas)) for draws in parameters]


def _diagnose(prior: float, likelihood: float | None) -> Diagnosis:
    if not prior >= LIMIT:
        return "fine"
    if likelihood is None:
        return "not assessed"
    return "conflict" if likelihood >= LIMIT else "prior matters"
