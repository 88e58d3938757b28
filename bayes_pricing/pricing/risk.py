"""Risk of a change of money, measured on posterior draws: a loss is positive."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
FEWEST_TAIL_DRAWS = 20


def require_tail(draws: int, share: float) -> None:
    """Refuse a tail of fewer than 20 draws.

    Raises
    ------
    SpecError
        If `share` of `draws` is fewer than 20, or `share` is not in (0, 1).
    """
    if not 0 < share < 1:
        raise SpecError(f"The tail share is {share}; give a share in (0, 1), 0.05 for the worst 5 %.")
    if draws * share < FEWEST_TAIL_DRAWS - 1e-9:
        needed = int(np.ceil(FEWEST_TAIL_DRAWS / share))
        raise SpecError(
            f"The worst {share:.3g} of {draws} draws is fewer than {FEWEST_TAIL_DRAWS} draws, so its mean would be "
            f"noise; use at least {needed} draws or a larger tail share."
        )


def tail_mean(values: Floats, share: float) -> Floats:
    r"""Mean of the lowest `share` of the last axis, the boundary draw with its fraction of weight.

    .. math:: \frac{1}{\alpha S} \Big( \sum_{s \le \lfloor \alpha S \rfloor} x_{(s)}
              + (\alpha S - \lfloor \alpha S \rfloor)\, x_{(\lfloor \alpha S \rfloor + 1)} \Big)

    Parameters
    ----------
    values : array (..., S)
    share : float in (0, 1)
        Tail share :math:`\alpha`.

    Returns
    -------
    array (...)

    References
    ----------
    Rockafellar & Uryasev (2002), "Conditional value-at-risk for general loss distributions", J. Banking & Finance 26.

    Examples
    --------
    >>> float(tail_mean(np.arange(10.0), 0.25))
    0.8
    """
    count = round(share * values.shape[-1], 9)
    whole = min(int(count), values.shape[-1] - 1)
    ordered = np.partition(values, whole, axis=-1)
    total = ordered[..., :whole].sum(axis=-1) + (count - whole) * ordered[..., whole]
    return np.asarray(total / count, dtype=np.float64)


def tail_weights(change: Floats, share: float, among: NDArray[np.intp] | None = None) -> Floats:
    """Weight of every draw in the mean over the worst `share`, array (S,) summing to 1; the boundary draw in part.

    Parameters
    ----------
    change : array (S,)
    share : float in (0, 1)
    among : array of int, optional
        Only these draws count.

    Examples
    --------
    >>> tail_weights(np.array([3.0, 1.0, 2.0, 0.0]), 0.375).round(4).tolist()
    [0.0, 0.3333, 0.0, 0.6667]
    """
    places = np.arange(change.size) if among is None else among
    order = places[np.argsort(change[places], kind="stable")]
    count = round(share * order.size, 9)
    whole = min(int(count), order.size - 1)
    weights = np.zeros(change.size)
    weights[order[:whole]] = 1.0 / count
    weights[order[whole]] = (count - whole) / count
    return weights


def expected_shortfall(profit: xr.DataArray, level: float = 0.95) -> xr.DataArray:
    r"""Mean loss over the worst ``1 - level`` share of posterior draws.

    .. math:: ES_\alpha = -\mathbb{E}[\Pi \mid \Pi \le q_{1-\alpha}(\Pi)]

    Parameters
    ----------
    profit : DataArray, dims (chain, draw, *others)
        Profit draws in currency; a loss is negative.
    level : float in (0, 1)
        0.95 averages the worst 5 % of draws.

    Returns
    -------
    DataArray, dims (*others)
        Currency; positive means money lost.

    Raises
    ------
    SpecError
        If fewer than 20 draws fall in the tail: the estimate would be noise.

    References
    ----------
    Acerbi & Tasche (2002), "On the coherence of expected shortfall", J. Banking & Finance 26(7).

    Examples
    --------
    >>> draws = xr.DataArray(np.arange(1000.0).reshape(2, 500), dims=("chain", "draw"))
    >>> expected_shortfall(draws, level=0.95).item()
    -24.5
    """
    if not 0 < level < 1:
        raise SpecError(f"The level is {level}; give a share in (0, 1), 0.95 averages the worst 5 % of draws.")
    share = 1.0 - level
    require_tail(profit.sizes["chain"] * profit.sizes["draw"], share)
    stacked = profit.stack(sample=("chain", "draw"))
    lowest: xr.DataArray = xr.apply_ufunc(tail_mean, stacked, input_core_dims=[["sample"]], kwargs={"share": share})
    return -lowest


def lower_tail_mean(profit: xr.DataArray, share: float = 0.05) -> xr.DataArray:
    """Mean over the worst `share` of draws: the lower-tail CVaR, the negative of :func:`expected_shortfall`.

    Parameters
    ----------
    profit : DataArray, dims (chain, draw, *others)
        Currency; a loss is negative.
    share : float in (0, 1)

    Returns
    -------
    DataArray, dims (*others)
        Currency; negative means money lost.

    Raises
    ------
    SpecError
        If fewer than 20 draws fall in the tail.

    Examples
    --------
    >>> draws = xr.DataArray(np.arange(1000.0).reshape(2, 500), dims=("chain", "draw"))
    >>> lower_tail_mean(draws).item()
    24.5
    """
    return -expected_shortfall(profit, level=1.0 - share)


def probability_worse(change: xr.DataArray) -> xr.DataArray:
    """Posterior probability that a change loses money, in [0, 1], dims (*others); no change is not worse.

    Examples
    --------
    >>> probability_worse(xr.DataArray([[-1.0, 0.0, 2.0, 3.0]], dims=("chain", "draw"))).item()
    0.25
    """
    return (change < 0).mean(("chain", "draw"))


def value_quantile(change: xr.DataArray, probability: float = 0.05) -> xr.DataArray:
    """Worst-case quantile of a change of money: it is lower only with this probability.

    Parameters
    ----------
    change : DataArray, dims (chain, draw, *others)
        Currency; a loss is negative.
    probability : float in (0, 1)

    Returns
    -------
    DataArray, dims (*others)
        Currency; negative means money lost.

    Examples
    --------
    >>> value_quantile(xr.DataArray([np.arange(101.0)], dims=("chain", "draw"))).item()
    5.0
    """
    if not 0 < probability < 1:
        raise SpecError(f"The probability is {probability}; give a share in (0, 1).")
    return change.quantile(probability, dim=("chain", "draw")).drop_vars("quantile")
