"""One price for everybody that switches back and forth: when to toss the coin, and what the answer is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def switch_points(periods: int, carryover: int) -> tuple[int, ...]:
    r"""Periods at which a fair coin sets the arm, best against the worst case of outcomes.

    .. math:: \{1, 2m + 1, 3m + 1, \ldots, (n - 2) m + 1\}, \qquad T = n m

    Parameters
    ----------
    periods : int
        Horizon T, a multiple of the carryover and at least four times it.
    carryover : int
        Periods m for which a price still shows after it is gone; 1 at least. Test m and 2m where it is not known.

    Returns
    -------
    tuple of int
        Counted from 1; the arm holds until the next.

    Raises
    ------
    SpecError
        If the horizon does not suit the carryover.

    References
    ----------
    Bojinov, Simchi-Levi & Zhao (2023), "Design and analysis of switchback experiments", Management Science 69(7).

    Examples
    --------
    >>> switch_points(12, 2), switch_points(15, 3)
    ((1, 5, 7, 9), (1, 7, 10))
    """
    if carryover < 1:
        raise SpecError(f"A carryover of {carryover} periods: give at least 1.")
    steps, rest = divmod(periods, carryover)
    if rest or steps < 4:
        longer = max(4, -(-periods // carryover)) * carryover
        raise SpecError(
            f"{periods} periods do not suit a carryover of {carryover}: take a multiple of it, at least four times, "
            f"such as {longer}."
        )
    return (1, *(step * carryover + 1 for step in range(2, steps - 1)))


def draw_switches(points: Sequence[int], periods: int, rng: np.random.Generator) -> Bools:
    """Toss the coin at each point and hold it until the next.

    Returns
    -------
    bool array (period,)
        Whether the new arm is at work.

    Examples
    --------
    >>> draw_switches((1, 5, 7, 9), 12, np.random.default_rng(3)).astype(int).tolist()
    [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    """
    lengths = np.diff([*points, periods + 1])
    return np.repeat(rng.random(len(points)) < 0.5, lengths)


def switchback_effect(outcome: ArrayLike, treated: ArrayLike, points: Sequence[int], carryover: int) -> float:
    r"""Lasting effect of the new arm per period, unbiased for any outcomes with that much carryover.

    .. math:: \hat\tau = \frac{1}{T - m} \sum_{t = m + 1}^{T} Y_t
              \left( \frac{1[w_{t-m:t} = 1]}{P(w_{t-m:t} = 1)} - \frac{1[w_{t-m:t} = 0]}{P(w_{t-m:t} = 0)} \right)

    Only periods count whose last m neighbours had the same arm; each is weighted by how rare that was.

    Parameters
    ----------
    outcome : array-like (period,)
    treated : bool array-like (period,)
    points : sequence of int
        Where the coin was tossed, counted from 1.
    carryover : int
        Periods m.

    Returns
    -------
    float
        In the outcome's unit per period.

    Examples
    --------
    >>> treated = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    >>> round(switchback_effect(np.where(treated, 7.0, 0.0), treated, (1, 5, 7, 9), 2), 6)
    5.6
    """
    values, arms = np.asarray(outcome, dtype=np.float64), np.asarray(treated, dtype=np.bool_)
    weights = _weights(arms[None, :], points, carryover)[0]
    return float(weights @ values)


def switchback_p_value(
    outcome: ArrayLike,
    treated: ArrayLike,
    points: Sequence[int],
    carryover: int,
    rng: np.random.Generator,
    draws: int = 4_999,
) -> float:
    """Two-sided p-value of no effect at all, by tossing the same coins again.

    The outcome is centred first, which changes nothing where there is no effect and takes its level out of the noise.

    Returns
    -------
    float in (0, 1]

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> points = switch_points(56, 1)
    >>> treated = draw_switches(points, 56, rng)
    >>> switchback_p_value(rng.normal(100.0 + 3.0 * treated), treated, points, 1, rng, draws=999) < 0.01
    True
    """
    values = np.asarray(outcome, dtype=np.float64)
    values = values - values.mean()
    lengths = np.diff([*points, values.size + 1])
    again = np.repeat(rng.random((draws, len(points))) < 0.5, lengths, axis=1)
    arms = np.vstack([np.asarray(treated, dtype=np.bool_), again])
    effects = np.abs(_weights(arms, points, carryover) @ values)
    return float(np.mean(effects >= effects[0] * (1 - 1e-9)))


def _weights(arms: Bools, points: Sequence[int], carryover: int) -> Floats:
    """What each period's outcome counts for, for each row of an assignment."""
    periods = arms.shape[1]
    if not periods > carryover:
        raise SpecError(f"{periods} periods with a carryover of {carryover} leave nothing to compare.")
    toss = np.searchsorted(np.asarray(points), np.arange(1, periods + 1), side="right")
    weights = np.zeros(arms.shape)
    for t in range(carryover, periods):
        window = arms[:, t - carryover : t + 1]
        rarity = 2.0 ** (toss[t] - toss[t - carryover] + 1)
        weights[:, t] = rarity * (window.all(axis=1).astype(np.float64) - (~window).all(axis=1))
    return np.asarray(weights / (periods - carryover), dtype=np.float64)
