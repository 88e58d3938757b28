"""Whether draws and data carry a price: observed support, heavy tails, and where constant elasticity turns up again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bayes_pricing.pricing.outlook import Block, Bools, ItemFacts

Floats = NDArray[np.float64]
SupportLevel = Literal["supported", "edge", "extrapolation"]

SMALLEST_SAMPLE_SHARE = 0.5
LARGEST_DRAW_SHARE = 0.01
EDGE = 0.01
"""Share of the price within which it stands at the edge of what was observed."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tails:
    """How evenly the draws carry the expectation at some prices.

    Attributes
    ----------
    sample_share : array (J,)
        Effective sample size of the weights as a share of the draws, in (0, 1].
    largest_share : array (J,)
        Share of the expectation that one draw carries.
    carried_by_few : array (J,)
        True where the expectation rests on too few draws to be believed.
    past_turning : array (J,)
        True where the price is beyond half the distance at which expected money turns up again.
    """

    sample_share: Floats
    largest_share: Floats
    carried_by_few: Bools
    past_turning: Bools


def check_tails(block: Block, prices: Floats) -> Tails:
    r"""Look at the weights :math:`w = r^{1 + \varepsilon}` (r the price ratio) that make up expected money.

    Refused are prices at which the effective sample size falls under half the draws or one draw carries over 1 % of
    the sum (ten times an even share where draws are few). For a normal elasticity of mean m and sd s the slope of
    log expected revenue in :math:`L = \log r` is :math:`(1 + m) + s^2 L`, so it turns up again (or down, for a cut)
    beyond :math:`|L| = |1 + m| / s^2`; half of that is the warning distance. Where the elasticity changes with price it
    is the mean one between today's price and the other.

    Parameters
    ----------
    block : Block
    prices : array (J,)

    Returns
    -------
    Tails

    Examples
    --------
    A lognormal weight with log sd s|L| keeps an effective share of exp(-s^2 L^2).
    """
    log_ratio = np.log(prices / block.facts.current_price)
    elasticity = block.draws.mean_elasticity(log_ratio)
    exponent = (1.0 + elasticity) * log_ratio[:, None]
    weights = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    total = weights.sum(axis=1)
    draws = elasticity.shape[1]
    sample_share = total**2 / (np.einsum("js,js->j", weights, weights) * draws)
    largest = weights.max(axis=1) / total
    mean, variance = elasticity.mean(axis=1), elasticity.var(axis=1)
    with np.errstate(divide="ignore"):
        turning = 0.5 * np.abs(1.0 + mean) / variance
    few = (sample_share < SMALLEST_SAMPLE_SHARE) | (largest > max(LARGEST_DRAW_SHARE, 10.0 / draws))
    return Tails(
        sample_share=sample_share,
        largest_share=largest,
        carried_by_few=np.asarray(few & (log_ratio != 0), dtype=np.bool_),
        past_turning=np.asarray(np.abs(log_ratio) > turning, dtype=np.bool_),
    )


def support_levels(facts: ItemFacts, prices: Floats) -> tuple[SupportLevel, ...]:
    """Where prices stand in the observed range: inside it, at its edge (within 1 %), or outside it.

    Parameters
    ----------
    facts : ItemFacts
    prices : array (J,)

    Returns
    -------
    tuple of {"supported", "edge", "extrapolation"}
    """
    outside = (prices < facts.lowest_price * (1.0 - 1e-9)) | (prices > facts.highest_price * (1.0 + 1e-9))
    edge = (prices < facts.lowest_price * (1.0 + EDGE)) | (prices > facts.highest_price * (1.0 - EDGE))
    return tuple(
        "extrapolation" if out else "edge" if near else "supported" for out, near in zip(outside, edge, strict=True)
    )
