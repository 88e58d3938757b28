"""How much a decision leans on the prior: power scaling applied to money, not only to parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.demand.prior_sensitivity import top_log_prior as top_log_prior
from bayes_pricing.pricing.constraints import Limits
from bayes_pricing.pricing.ladder import choose_prices
from bayes_pricing.pricing.outlook import Block, Outlook

Floats = NDArray[np.float64]


SCALED = "priors of the population's mean elasticity and of how much elasticities differ"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorSensitivity:
    """What happens to a decision when the priors at the top of the model count for more or less.

    Attributes
    ----------
    change_per_doubling : float
        Change of the expected change of money per period when the prior is given twice the weight, to first order.
    price_as_is, price_at_half, price_at_double : float
        Best candidate price under the prior as it is, with half and with twice its weight, currency per unit.
    price_moves : bool
        Whether half or twice the weight moves the best candidate price.
    smallest_sample_share : float in (0, 1]
        Effective share of the draws left after the heavier of the two reweightings; under 0.1 the two prices are rough.
    scaled : str
        Which priors are scaled: those of the top level only, as the levels below are part of the model.
    """

    change_per_doubling: float
    price_as_is: float
    price_at_half: float
    price_at_double: float
    price_moves: bool
    smallest_sample_share: float
    scaled: str = SCALED


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
        From :func:`top_log_prior`.

    Returns
    -------
    PriorSensitivity
    """
    change = block.change(np.array([price]), block.facts.value)[0]
    choice = choose_prices(block, limits)
    prices, geometric = choice.outlook.prices, choice.outlook.geometric

    def scores(weights: Floats) -> Floats:
        weighted = replace(block, units_today=block.units_today * weights)
        outlook = Outlook(block=weighted, prices=prices, geometric=geometric)
        found: Floats = np.where(choice.allowed, outlook.expected_change, -np.inf)[0]
        return found

    as_is = np.where(choice.allowed, choice.outlook.expected_change, -np.inf)[0]
    return scaled_prior(prices[0], as_is, scores, change, log_prior)


def scaled_prior(
    candidates: Floats, as_is: Floats, scores: Callable[[Floats], Floats], change: Floats, log_prior: Floats
) -> PriorSensitivity:
    """The best of some candidate prices under half and twice the prior's weight.

    Parameters
    ----------
    candidates, as_is : arrays (K,)
        Prices, and what each is worth under the prior as it is.
    scores : callable
        Worth of every candidate, array (K,), when draws have these weights (S,), of mean 1.
    change : array (S,)
        Change of money per draw at the price that is looked at.
    log_prior : array (S,)

    Returns
    -------
    PriorSensitivity
    """
    best, shares = [float(candidates[as_is.argmax()])], []
    for power in (0.5, 2.0):
        log_weight = (power - 1.0) * log_prior
        weights = np.exp(log_weight - log_weight.max())
        weights /= weights.mean()
        shares.append(float(1.0 / np.mean(weights**2)))
        best.append(float(candidates[scores(weights).argmax()]))
    return PriorSensitivity(
        change_per_doubling=power_scaling_gradient(change, log_prior),
        price_as_is=best[0],
        price_at_half=best[1],
        price_at_double=best[2],
        price_moves=best[1] != best[0] or best[2] != best[0],
        smallest_sample_share=min(shares),
    )
