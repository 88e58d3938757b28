"""What a published model claims will be sold at a price: the interval that outcomes are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from bayes_pricing.demand.draws_posterior import DrawsPosterior
    from server.store.published import PublishedModel

NOISE_DRAWS = 10
"""Sales noise drawn for every posterior draw of a claim."""
Array = NDArray[Any]


def claim_units(
    model: PublishedModel, item: str, price: float, periods: float, probability: float = 0.9
) -> tuple[float, float, float]:
    """Units an item is claimed to sell over some periods at a price, sales noise included.

    Returns
    -------
    tuple of float
        Mean, and lower and upper end of the central predictive interval of `probability`.

    Raises
    ------
    SpecError
        For an unknown item or a price that is not positive.
    """
    from bayes_pricing.demand.forecast import predict_units

    with np.errstate(over="ignore"):
        expected = predict_units(model.posterior, [item], price).to_numpy().ravel() * periods
    rng = np.random.default_rng([int(model.id[:15], 16), model.place[item]])
    if not np.isfinite(expected).all():
        raise SpecError(f"The price {price:g} of {item!r} lies too far from today's for any claim; check it.")
    units = noisy_units(model.posterior, item, expected, periods, rng)
    tail = (1.0 - probability) / 2.0
    lower, upper = np.quantile(units, [tail, 1.0 - tail])
    return float(expected.mean()), float(lower), float(upper)


def noisy_units(
    posterior: DrawsPosterior, item: str, expected: Array, periods: float, rng: np.random.Generator
) -> Array:
    r"""Units sold over some periods, one value per draw of what is expected of them: independent noise every period.

    Log-normal sales of one period have :math:`\sigma^2 = 2 \log E[e^{residual}]`; their sum over n periods is taken as
    log-normal with the same two moments (Fenton-Wilkinson), :math:`\sigma_n^2 = \log(1 + (e^{\sigma^2} - 1) / n)`.
    A sum of n negative binomials of size r is one of size nr.

    Parameters
    ----------
    posterior : DrawsPosterior
    item : str
    expected : array (S,)
        Units expected over all periods, per draw.
    periods : float
    rng : Generator

    Returns
    -------
    array (S,)
        Units.
    """
    draws = NOISE_DRAWS * len(expected)
    mean = np.tile(expected, NOISE_DRAWS)
    if posterior.spec.likelihood == "lognormal":
        variance = 2.0 * np.tile(posterior.log_smearing([item]).to_numpy().ravel(), NOISE_DRAWS).astype(np.float64)
        of_sum = np.log1p(np.expm1(variance) / periods)
        return np.asarray(mean * np.exp(np.sqrt(of_sum) * rng.standard_normal(draws) - 0.5 * of_sum))
    if posterior.dispersion is not None:
        size = np.tile(posterior.dispersion.ravel(), NOISE_DRAWS) * periods
        mean = rng.gamma(size, mean / size)
    return np.asarray(rng.poisson(mean), dtype=np.float64)
