"""How much a decision leans on the prior: power scaling applied to money, not only to parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.pricing.constraints import Limits
from bayes_pricing.pricing.ladder import choose_prices
from bayes_pricing.pricing.outlook import Block, Outlook

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSensitivity:
    """What happens to a decision when the prior of the population's mean elasticity counts for more or less.

    Attributes
    ----------
    change_per_doubling : float
        Change of the expected change of money per period when the prior is given twice the weight, to first order.
    price_at_half, price_at_double : float
        Best allowed price when the prior has half and twice its weight, currency per unit.
    smallest_sample_share : float in (0, 1]
        Effective share of the draws left after the heavier of the two reweightings; under 0.1 the two prices are rough.
    scaled : str
        Which prior is scaled.
    """

    change_per_doubling: float
    price_at_half: float
    price_at_double: float
    smallest_sample_share: float
    scaled: str = "normal prior of the population's mean elasticity"


def power_scaling_gradient(values: Floats, log_prior: Floats) -> float:
    r"""Derivative of a posterior mean with respect to the log (base 2) of the prior's power.

    .. math:: \frac{d\, E[v]}{d \log_2 \alpha} \Big|_{\alpha = 1} = \ln 2 \; \mathrm{Cov}(v, \log p(\theta))

    Parameters
    ----------
    values : array (S,)
        Draws of the quantity.
    log_prior : array (S,)
        Log prior density at the same draws, up to a constant.

    Returns
    -------
    float
        In the unit of the values.

    References
    ----------
    Kallioinen, Paananen, Bürkner & Vehtari (2024), "Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling", Statistics and Computing 34:57.

    Examples
    --------
    >>> theta = np.array([1.0, 2.0, 3.0])
    >>> round(power_scaling_gradient(theta, -0.5 * theta**2), 4)
    -0.9242
    """
    return float(np.log(2.0) * np.mean((values - values.mean()) * (log_prior - log_prior.mean())))


def population_log_prior(posterior: DemandPosterior) -> Floats:
    """Log density of the prior of the population's mean elasticity at its draws, array (S,), up to a constant."""
    draws = posterior.coefficients("population").sel(coefficient="log_price").transpose("chain", "draw").to_numpy()
    mean, sd = posterior.spec.priors.elasticity_mean, population_prior_sd(posterior)
    return np.asarray(-0.5 * ((draws.ravel() - mean) / sd) ** 2, dtype=np.float64)


def population_prior_sd(posterior: DemandPosterior) -> float:
    r"""Prior sd of the population's mean elasticity: levels that were dropped have given their variance up.

    .. math:: s^2 = s_\mu^2 + \sum_{	ext{levels dropped above the last kept one}} s_g^2 / n_	ext{levels}
    """
    spec = posterior.spec
    share = spec.priors.elasticity_between_groups**2 / max(len(spec.levels), 1)
    kept = [bool(posterior.variation(level).sel(coefficient="log_price").max() > 0) for level in spec.levels]
    waiting = share if not spec.levels else 0.0
    for is_kept in kept:
        waiting = 0.0 if is_kept else waiting + share
    return float(np.sqrt(spec.priors.elasticity_sd**2 + waiting))


def prior_sensitivity(block: Block, limits: Limits, price: float, log_prior: Floats) -> PriorSensitivity:
    """Power-scale the prior of one item's decision.

    Parameters
    ----------
    block : Block
        One item.
    limits : Limits
        Which prices are allowed is left as it is under the posterior itself.
    price : float
        The price whose expected change is looked at.
    log_prior : array (S,)

    Returns
    -------
    PriorSensitivity
    """
    change = block.change(np.array([price]), block.facts.value)[0]
    choice = choose_prices(block, limits)
    best: list[float] = []
    shares: list[float] = []
    for power in (0.5, 2.0):
        weights = np.exp((power - 1.0) * (log_prior - log_prior.max() if power > 1 else log_prior - log_prior.min()))
        weights /= weights.mean()
        shares.append(float(1.0 / np.mean(weights**2)))
        weighted = replace(block, units_today=block.units_today * weights)
        outlook = Outlook(block=weighted, prices=choice.outlook.prices, geometric=choice.outlook.geometric)
        score = np.where(choice.allowed, outlook.expected_change, -np.inf)[0]
        best.append(float(choice.outlook.prices[0, score.argmax()]))
    return PriorSensitivity(
        change_per_doubling=power_scaling_gradient(change, log_prior),
        price_at_half=best[0],
        price_at_double=best[1],
        smallest_sample_share=min(shares),
    )
