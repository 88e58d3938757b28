"""What a choice posterior says of price: elasticities, diversion and willingness to pay, per draw."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import xarray as xr

from bayes_pricing.demand.choice import probabilities
from bayes_pricing.demand.choice_data import Floats
from bayes_pricing.errors import SpecError

PEOPLE = 200
DRAWS_AT_ONCE = 200


class Tastes(Protocol):
    """A posterior of utilities that are linear in price: of individual choices, or of shares in markets."""

    @property
    def alternatives(self) -> tuple[str, ...]:
        """What there is to choose from, J names."""
        ...

    @property
    def regressors(self) -> tuple[str, ...]:
        """What utility depends on, K names, ``price`` among them."""
        ...

    @property
    def mean(self) -> Floats:
        """Coefficients of the mean person or market, (chain, draw, K)."""
        ...

    def typical(self) -> Floats:
        """Regressors (J, K) of a market with everything at its mean."""
        ...

    def tastes(self, people: int) -> Floats:
        """Coefficients (draw, person, K) of `people` persons; one where everybody has the same."""
        ...


def typical_market(posterior: Tastes) -> Floats:
    """Regressors (J, K) at the mean price and attributes of each alternative where it was on offer."""
    return posterior.typical()


def market_shares(posterior: Tastes, x: Floats | None = None, people: int = PEOPLE) -> xr.DataArray:
    r"""Shares of a market in which every alternative is on offer, dims (draw, alternative).

    .. math:: s_j = E_\beta[P(j \mid x, \beta)]

    over `people` persons drawn from the population, the same for every draw up to its parameters.

    Parameters
    ----------
    posterior : Tastes
        Of individual choices (`fit_choice`) or of shares (`fit_shares`).
    x : array (J, K), optional
        Regressors; by default :func:`typical_market`.
    people : int
    """
    shares, _ = _shares_and_slopes(posterior, _market(posterior, x), people)
    names = list(posterior.alternatives)
    return xr.DataArray(shares, dims=("draw", "alternative"), coords={"alternative": names})


def choice_elasticities(posterior: Tastes, x: Floats | None = None, people: int = PEOPLE) -> xr.DataArray:
    r"""Own- and cross-price elasticities of market shares, dims (draw, alternative, price_of).

    .. math:: e_{jk} = \frac{\partial s_j}{\partial p_k} \frac{p_k}{s_j}, \quad
              \frac{\partial s_j}{\partial p_k} = E_\beta[\beta_p P_j (1\{j = k\} - P_k)]

    With equal tastes this is :math:`\beta_p p_k (1\{j=k\} - s_k)`: every cross elasticity to one price is the same
    (independence of irrelevant alternatives); tastes that differ lift that.

    Parameters
    ----------
    posterior : Tastes
    x : array (J, K), optional
        Regressors; by default :func:`typical_market`.
    people : int
        Persons the expectation runs over.
    """
    market = _market(posterior, x)
    shares, slopes = _shares_and_slopes(posterior, market, people)
    price = market[:, posterior.regressors.index("price")]
    names = list(posterior.alternatives)
    return xr.DataArray(
        slopes * price[None, None, :] / shares[:, :, None],
        dims=("draw", "alternative", "price_of"),
        coords={"alternative": names, "price_of": names},
    )


def diversion(posterior: Tastes, x: Floats | None = None, people: int = PEOPLE) -> xr.DataArray:
    r"""Where buyers go when a price rises, dims (draw, from, to); each row sums to one over the other alternatives.

    .. math:: D_{kj} = - \frac{\partial s_j / \partial p_k}{\partial s_k / \partial p_k}, \quad j \ne k
    """
    _, slopes = _shares_and_slopes(posterior, _market(posterior, x), people)
    own = np.einsum("dkk->dk", slopes)
    ratio = -np.swapaxes(slopes, 1, 2) / own[:, :, None]
    at = np.arange(ratio.shape[1])
    ratio[:, at, at] = 0.0
    names = list(posterior.alternatives)
    return xr.DataArray(ratio, dims=("draw", "from", "to"), coords={"from": names, "to": names})


def willingness_to_pay(posterior: Tastes, attribute: str) -> xr.DataArray:
    r"""What one unit of an attribute is worth to the mean person, currency, dims (draw,): :math:`-\mu_a / \mu_p`.

    Read it by quantiles: a ratio whose denominator can come near zero has no mean.

    Raises
    ------
    SpecError
        If there is no such coefficient.
    """
    names = posterior.regressors
    if attribute not in names or attribute == "price":
        raise SpecError(f"no attribute {attribute!r}; choose one of {[name for name in names if name != 'price']}.")
    flat = posterior.mean.reshape(-1, len(names))
    return xr.DataArray(-flat[:, names.index(attribute)] / flat[:, names.index("price")], dims=("draw",))


def _market(posterior: Tastes, x: Floats | None) -> Floats:
    market = typical_market(posterior) if x is None else np.asarray(x, dtype=np.float64)
    expected = (len(posterior.alternatives), len(posterior.regressors))
    if market.shape != expected:
        raise SpecError(f"the market has shape {market.shape}; it needs (alternatives, coefficients) = {expected}.")
    return market


def _shares_and_slopes(posterior: Tastes, market: Floats, people: int) -> tuple[Floats, Floats]:
    """Shares (draw, J) and slopes d s_j / d p_k (draw, J, J)."""
    tastes = posterior.tastes(people)
    offered = np.ones(len(market), dtype=np.bool_)
    shares = np.empty((len(tastes), len(market)))
    slopes = np.empty((len(tastes), len(market), len(market)))
    for start in range(0, len(tastes), DRAWS_AT_ONCE):
        part = tastes[start : start + DRAWS_AT_ONCE]
        p = probabilities(market, offered, part)
        weighted = part[:, :, posterior.regressors.index("price"), None] * p
        shares[start : start + len(part)] = p.mean(axis=1)
        cross = np.einsum("dpj,dpk->djk", weighted, p) / p.shape[1]
        slopes[start : start + len(part)] = -cross
        at = np.arange(len(market))
        slopes[start : start + len(part), at, at] += weighted.mean(axis=1)
    return shares, slopes
