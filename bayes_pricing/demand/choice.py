"""Discrete choice: multinomial logit, tastes equal or different between people; fit, gate and posterior."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import optimize

from bayes_pricing.demand.choice_data import CONSTANT, ChoiceData, Floats
from bayes_pricing.demand.choice_density import Choices, add_chooser, kernel_choices, run_chain, size_of
from bayes_pricing.demand.diagnostics import Diagnostics, SamplerStatistics, check_arrays
from bayes_pricing.demand.nuts import SamplingPlan, lengthen, sample_nuts
from bayes_pricing.demand.nuts_chain import Chain
from bayes_pricing.demand.prior_ranges import require_prior_ranges
from bayes_pricing.errors import Finding, Refusal

People = NDArray[np.float32]

TARGET_ACCEPTANCE = (0.85, 0.95, 0.99)
TUNE = 500
FEWEST_OCCASIONS = 2
LOOSEST = 50.0
"""Largest standard error of a coefficient, in utility per sd of its regressor, that still is a maximum: beyond it the
likelihood is flat, as where one alternative is never chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoicePriors:
    r"""Prior distributions of a choice model in economic units.

    At mean price :math:`\bar p` and even shares the own elasticity of a logit is :math:`\beta_p \bar p (1 - 1/J)`; the
    prior of the price coefficient puts the literature's elasticities there. Other coefficients are stated per standard
    deviation of their attribute, in units of utility (a constant: per unit).

    Attributes
    ----------
    elasticity_mean, elasticity_sd : float
        Of the mean own-price elasticity (Bijmolt, van Heerde & Pieters 2005).
    elasticity_between : float
        Root mean square of its sd between people.
    attribute_sd, attribute_between : float
        The same of other coefficients, in utility.
    """

    elasticity_mean: float = -2.62
    elasticity_sd: float = 1.4
    elasticity_between: float = 0.7
    attribute_sd: float = 2.5
    attribute_between: float = 1.0

    def __post_init__(self) -> None:
        require_prior_ranges(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoicePosterior:
    """Joint draws of tastes.

    Attributes
    ----------
    id : str
        Digest of data, priors, seed and draws.
    data : ChoiceData
    mean : array (chain, draw, K)
        Mean coefficient of the population, utility per unit of the regressor.
    factor : array (chain, draw, K, K) or None
        Lower triangular C; C C' is the covariance of coefficients between people. None where tastes are equal.
    people : float32 array (chain, draw, H, K) or None
        Coefficients of every chooser; None where tastes are equal.
    diagnostics : Diagnostics
    seed : int
    """

    id: str
    data: ChoiceData
    mean: Floats
    factor: Floats | None
    people: People | None
    diagnostics: Diagnostics
    seed: int

    @property
    def alternatives(self) -> tuple[str, ...]:
        """What there was to choose from."""
        return self.data.alternatives

    @property
    def regressors(self) -> tuple[str, ...]:
        """What utility depends on."""
        return self.data.coefficients

    def typical(self) -> Floats:
        """Regressors (J, K) at the mean price and attributes of each alternative over the occasions that offered it."""
        weight = self.data.available[:, :, None].astype(float)
        return np.asarray((self.data.x * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1.0))

    def coefficients(self) -> xr.DataArray:
        """Population means, dims (chain, draw, coefficient)."""
        return xr.DataArray(
            self.mean, dims=("chain", "draw", "coefficient"), coords={"coefficient": list(self.data.coefficients)}
        )

    def between_sd(self) -> xr.DataArray:
        """Sd of coefficients between people, dims (chain, draw, coefficient); zero where tastes are equal."""
        sd = np.zeros_like(self.mean) if self.factor is None else np.sqrt((self.factor**2).sum(axis=-1))
        return xr.DataArray(
            sd, dims=("chain", "draw", "coefficient"), coords={"coefficient": list(self.data.coefficients)}
        )

    def tastes(self, people: int) -> Floats:
        """Coefficients (draw, person, K) of `people` new persons for every posterior draw, seeded by the posterior.

        Where tastes are equal there is one person, the mean.
        """
        flat: Floats = self.mean.reshape(-1, self.mean.shape[2])
        if self.factor is None:
            return flat[:, None, :]
        factor = self.factor.reshape(-1, *self.factor.shape[2:])
        z = np.random.default_rng([self.seed, people]).standard_normal((people, flat.shape[1]))
        return np.asarray(flat[:, None, :] + np.einsum("dab,pb->dpa", factor, z))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoiceMaximum:
    """Maximum of the likelihood under flat priors, equal tastes.

    Attributes
    ----------
    coefficients, errors : arrays (K,)
        Estimates and their standard errors from the inverse information.
    clustered_errors : array (K,)
        The same, clustered by chooser (sandwich).
    log_likelihood : float
    """

    coefficients: Floats
    errors: Floats
    clustered_errors: Floats
    log_likelihood: float


def maximise_choice(data: ChoiceData) -> ChoiceMaximum:
    """The conditional logit's maximum likelihood estimate (McFadden 1974).

    Raises
    ------
    Refusal
        If the likelihood has no maximum: an alternative never chosen, or choices that price or an attribute separates.
    """
    flat = _flat_choices(data)
    k = len(data.coefficients)

    def negative(beta: Floats) -> float:
        return -_likelihood(beta, flat, np.zeros(k))

    def slope(beta: Floats) -> Floats:
        gradient = np.zeros(k)
        _likelihood(beta, flat, gradient)
        return -gradient

    def curvature(beta: Floats) -> Floats:
        return _information(beta, data)

    found = optimize.minimize(negative, np.zeros(k), jac=slope, hess=curvature, method="trust-exact")
    information = _information(found.x, data)
    inverse = np.linalg.pinv(information, hermitian=True)
    errors = np.sqrt(np.diag(inverse))
    spread = data.x[data.available].std(axis=0)
    rank = np.linalg.matrix_rank(information / np.sqrt(np.outer(np.diag(information), np.diag(information))))
    if not found.success or rank < k or (errors * spread).max() > LOOSEST:
        raise Refusal(
            [
                Finding(
                    code="no_maximum",
                    severity="error",
                    message="the likelihood of these choices has no maximum (an alternative is never chosen, or a "
                    "regressor separates the choices or does not vary)",
                    remedy="leave that alternative or regressor out, or use the posterior, whose priors keep it finite",
                )
            ]
        )
    scores = _scores(found.x, data)
    people = len(data.choosers)
    correction = people / max(people - 1, 1)
    sandwich = correction * inverse @ (scores.T @ scores) @ inverse
    return ChoiceMaximum(
        coefficients=found.x,
        errors=errors,
        clustered_errors=np.sqrt(np.diag(sandwich)),
        log_likelihood=-float(found.fun),
    )


def fit_choice(
    data: ChoiceData,
    *,
    mixed: bool,
    seed: int,
    priors: ChoicePriors | None = None,
    draws: int = 1000,
    tune: int = TUNE,
    chains: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> ChoicePosterior:
    """Posterior of a multinomial logit.

    Parameters
    ----------
    data : ChoiceData
    mixed : bool
        Whether tastes differ between people (the hierarchical, or mixed, logit). Needs choosers seen more than once.
    seed : int
    priors : ChoicePriors, optional
    draws, tune, chains : int
    progress : callable, optional
        Told now and then the iterations done and in all.

    Raises
    ------
    Refusal
        If nobody chose more than once and tastes are to differ, if prices never differ between alternatives or
        occasions, or if the sampler did not pass the gate.
    """
    priors = priors if priors is not None else ChoicePriors()
    _require_identified(data, mixed=mixed)
    choices = kernel_choices(data, *choice_prior(data, priors, mixed=mixed))
    size = size_of(choices)

    def run(rng: np.random.Generator, chain: Chain) -> None:
        run_chain(rng, chain, choices)

    report = None if progress is None else (lambda done, total, _warming: progress(done, total))

    def judged(every: int) -> tuple[_Drawn, Diagnostics]:
        plan = SamplingPlan(draws=draws, tune=tune, chains=chains, seed=seed, every=every)
        found = sample_nuts(lambda: run, lambda rng: 0.1 * rng.standard_normal(size), plan, TARGET_ACCEPTANCE, report)
        drawn = _draws(found.x, choices)
        statistics = SamplerStatistics(divergences=found.divergences, energy=found.energy)
        return drawn, check_arrays(*drawn.parameters(), statistics)

    drawn, diagnostics, _ = lengthen(judged)
    if not diagnostics.passed:
        raise Refusal(diagnostics.findings)
    digest = hashlib.blake2b(repr((priors, seed, mixed, data.alternatives, data.coefficients)).encode(), digest_size=32)
    for array in (data.x, data.available, data.chosen, data.chooser, drawn.mean):
        digest.update(np.ascontiguousarray(array).data)
    return ChoicePosterior(
        id=digest.hexdigest(),
        data=data,
        mean=drawn.mean,
        factor=drawn.factor,
        people=drawn.people,
        diagnostics=diagnostics,
        seed=seed,
    )


def _require_identified(data: ChoiceData, *, mixed: bool) -> None:
    findings = []
    inside = data.prices[:, : len(data.alternatives) - data.outside]
    if np.ptp(inside - inside.mean(axis=0), axis=None) < 1e-12 and (np.ptp(inside[0]) < 1e-12 or _constants(data)):
        findings.append(
            Finding(
                code="no_price_variation",
                severity="error",
                message="no alternative's price ever differs, so its constant says all that its price could",
                remedy="add occasions at other prices, or run a price test",
            )
        )
    if mixed and len(data.chosen) < FEWEST_OCCASIONS * len(data.choosers):
        findings.append(
            Finding(
                code="one_choice_each",
                severity="error",
                message=f"{len(data.choosers)} choosers made {len(data.chosen)} choices; differences between people "
                "do not show in less than two each",
                remedy="name the column of the chooser, or fit equal tastes (mixed=False)",
            )
        )
    if findings:
        raise Refusal(findings)


def _constants(data: ChoiceData) -> bool:
    return any(name.startswith(CONSTANT) for name in data.coefficients)


def choice_prior(data: ChoiceData, priors: ChoicePriors, *, mixed: bool) -> tuple[Floats, Floats, Floats]:
    """Mean and sd of population coefficients, and root mean square spread between people, in regressor units.

    Arrays (K,); the last one is empty for equal tastes. They depend on what was on offer and not on what was chosen.
    """
    inside = data.available.copy()
    if data.outside:
        inside[:, -1] = False
    mean_price = float(data.prices[inside].mean())
    per_elasticity = 1.0 / (mean_price * (1.0 - 1.0 / len(data.alternatives)))
    k, at = len(data.coefficients), data.price_at
    scale = np.ones(k)
    for position in range(at + 1, k):
        spread = float(data.x[:, :, position][inside].std())
        scale[position] = 1.0 / spread if spread > 0 else 1.0
    mean, sd, between = np.zeros(k), priors.attribute_sd * scale, priors.attribute_between * scale
    mean[at], sd[at] = priors.elasticity_mean * per_elasticity, priors.elasticity_sd * per_elasticity
    between[at] = priors.elasticity_between * per_elasticity
    return mean, sd, between if mixed else np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    mean: Floats
    factor: Floats | None
    people: People | None

    def parameters(self) -> tuple[Floats, Floats]:
        """What the gate looks at: everything of the population, the worst of the people."""
        if self.factor is None or self.people is None:
            return self.mean, self.mean
        upper = np.concatenate([self.mean, np.sqrt((self.factor**2).sum(axis=-1))], axis=2)
        return upper, self.people.reshape(*self.people.shape[:2], -1).astype(float)


def _draws(x: Floats, choices: Choices) -> _Drawn:
    """Means, factors C and every chooser's coefficients from the coordinates."""
    k = len(choices.mean)
    mean = choices.mean + choices.sd * x[:, :, :k]
    if not len(choices.spread):
        return _Drawn(mean, None, None)
    rows, columns = np.tril_indices(k)
    factor = np.zeros((*x.shape[:2], k, k))
    factor[:, :, rows, columns] = x[:, :, k : k + len(rows)] * (choices.spread / np.sqrt(np.arange(k) + 1.0))[rows]
    z = x[:, :, k + len(rows) :].reshape(*x.shape[:2], -1, k)
    people = mean[:, :, None, :] + np.einsum("cdab,cdhb->cdha", factor, z)
    return _Drawn(mean, factor, people.astype(np.float32))


def _flat_choices(data: ChoiceData) -> Choices:
    """Everybody as one chooser, whose coefficients are free."""
    k = len(data.coefficients)
    choices = kernel_choices(data, np.zeros(k), np.ones(k), np.zeros(0))
    return choices._replace(first=np.array([0, len(data.chosen)]))


def _likelihood(beta: Floats, choices: Choices, gradient: Floats) -> float:
    return float(add_chooser(choices, 0, beta, gradient, np.zeros(choices.x.shape[1])))


def probabilities(x: Floats, available: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], beta: Floats) -> Floats:
    r"""Choice probabilities (..., J): the softmax of utilities over what is on offer.

    Parameters
    ----------
    x : array (..., J, K)
    available : bool array (..., J)
    beta : array (..., K)

    Examples
    --------
    >>> probabilities(np.array([[0.0], [0.0]]), np.ones(2, dtype=bool), np.array([1.0])).tolist()
    [0.5, 0.5]
    """
    utility = np.where(available, np.einsum("...jk,...k->...j", x, beta), -np.inf)
    weight = np.exp(utility - utility.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def _information(beta: Floats, data: ChoiceData) -> Floats:
    p = probabilities(data.x, data.available, beta[None, :])
    centred = data.x - np.einsum("tj,tjk->tk", p, data.x)[:, None, :]
    return np.asarray(np.einsum("tj,tja,tjb->ab", p, centred, centred, optimize=True))


def _scores(beta: Floats, data: ChoiceData) -> Floats:
    """Score of every chooser (H, K)."""
    p = probabilities(data.x, data.available, beta[None, :])
    rows = data.x[np.arange(len(data.chosen)), data.chosen] - np.einsum("tj,tjk->tk", p, data.x)
    scores = np.zeros((len(data.choosers), rows.shape[1]))
    np.add.at(scores, data.chooser, rows)
    return scores
