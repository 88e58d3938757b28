"""Tests with a few planned looks: bounds that keep the error rate, by recursive integration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from bayes_pricing.errors import SpecError

Floats = NDArray[np.float64]
BoundShape = Literal["pocock", "obrien-fleming"]

_PANEL_SDS = 5.0  # standard deviations of a step that one panel of Gauss-Legendre nodes spans: errors under 1e-8
_PANEL_NODES, _PANEL_WEIGHTS = np.polynomial.legendre.leggauss(16)
_WIDEST = 9.0  # beyond so many standard errors there is no probability left


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupSequentialBounds:
    """Where a test with planned looks stops.

    Attributes
    ----------
    shape : str
        ``pocock`` (the same bound at every look) or ``obrien-fleming`` (strict early, near the fixed one at the end).
    information : array (look,)
        Share of the final information at each look, the last being 1.
    bounds : array (look,)
        The test stops where ``abs(z)`` is over it.
    alpha : float in (0, 1)
        Two-sided error rate over all looks.
    """

    shape: BoundShape
    information: Floats
    bounds: Floats
    alpha: float


def plan_looks(
    looks: int, shape: BoundShape, *, alpha: float = 0.05, information: ArrayLike | None = None
) -> GroupSequentialBounds:
    r"""Two-sided bounds for a number of looks.

    .. math:: c_k = C_P \;\text{(Pocock)}, \qquad c_k = C_B / \sqrt{t_k} \;\text{(O'Brien-Fleming)}

    with the constant that makes the chance of crossing any bound equal to ``alpha`` where there is no effect.

    Parameters
    ----------
    looks : int
        At least 1.
    shape : str
        ``pocock`` or ``obrien-fleming``.
    alpha : float in (0, 1)
    information : array-like, optional
        Rising shares of the final information, the last 1; equal steps where left out.

    Raises
    ------
    SpecError
        If the looks, the shape, the rate or the shares make no sense.

    References
    ----------
    Jennison & Turnbull (2000), "Group Sequential Methods with Applications to Clinical Trials", chapters 2 and 19.

    Examples
    --------
    >>> plan_looks(5, "pocock").bounds.round(3)[-1], plan_looks(5, "obrien-fleming").bounds.round(3)[-1]
    (np.float64(2.413), np.float64(2.04))
    """
    if looks < 1:
        raise SpecError(f"A test has at least one look, not {looks}.")
    if shape not in ("pocock", "obrien-fleming"):
        raise SpecError(f"The bounds {shape!r} are not known; choose 'pocock' or 'obrien-fleming'.")
    if not 0 < alpha < 1:
        raise SpecError(f"alpha is {alpha}; give an error rate in (0, 1), such as 0.05.")
    shares = np.arange(1, looks + 1) / looks if information is None else np.asarray(information, dtype=np.float64)
    _check_information(shares, looks)
    form = np.ones(looks) if shape == "pocock" else 1.0 / np.sqrt(shares)

    def excess(constant: float) -> float:
        return float(crossing_probabilities(constant * form, shares).sum()) - alpha

    fixed = float(ndtri(1.0 - alpha / 2.0))
    constant = fixed if looks == 1 else float(brentq(excess, 0.999 * fixed, float(ndtri(1 - alpha / 2 / looks)) + 1e-6))
    return GroupSequentialBounds(shape=shape, information=shares, bounds=constant * form, alpha=alpha)


def crossing_probabilities(bounds: ArrayLike, information: ArrayLike, drift: float = 0.0) -> Floats:
    r"""Chance that a test first crosses its bounds at each look, on either side.

    .. math:: Z_k \sim N(\delta \sqrt{t_k}, 1), \qquad
              \mathrm{Cov}(Z_j, Z_k) = \sqrt{t_j / t_k} \;\text{for}\; j \le k

    Parameters
    ----------
    bounds : array-like (look,)
        Over 0; infinity means no stopping at that look.
    information : array-like (look,)
        Rising shares of the final information, the last 1.
    drift : float
        Expected z at the last look: true effect over its final standard error.

    Returns
    -------
    array (look,)
        Their sum is the power at ``drift``, or the error rate at 0.

    References
    ----------
    Armitage, McPherson & Rowe (1969), "Repeated significance tests on accumulating data", JRSS A 132(2).

    Examples
    --------
    >>> two_fixed_looks = crossing_probabilities([1.959964, 1.959964], [0.5, 1.0])
    >>> round(float(two_fixed_looks.sum()), 4)
    0.0831
    """
    limits = np.minimum(np.asarray(bounds, dtype=np.float64), _WIDEST + abs(drift))
    shares = np.asarray(information, dtype=np.float64)
    _check_information(shares, limits.size)
    if not np.all(limits > 0):
        raise SpecError("Bounds are distances from zero: each must be over 0.")
    # The walk is S = z * sqrt(t): independent increments with mean drift * step and variance step.
    edges = limits * np.sqrt(shares)
    steps = np.diff(shares, prepend=0.0)
    crossed = np.empty(limits.size)
    nodes, weights = np.zeros(1), np.ones(1)
    for look, (edge, step) in enumerate(zip(edges, steps, strict=True)):
        spread, ahead = np.sqrt(step), nodes + drift * step
        crossed[look] = weights @ (ndtr((ahead - edge) / spread) + ndtr((-edge - ahead) / spread))
        places, lengths = _legendre(edge, spread, float(steps[look + 1]) if look + 1 < steps.size else step)
        kernel = np.exp(-0.5 * ((places[:, None] - ahead) / spread) ** 2) / (spread * np.sqrt(2.0 * np.pi))
        nodes, weights = places, lengths * (kernel @ weights)
    return crossed


def sample_inflation(planned: GroupSequentialBounds, power: float = 0.8) -> float:
    """How much larger the largest size of a test with looks is than that of a fixed test of the same power.

    Examples
    --------
    >>> round(sample_inflation(plan_looks(5, "pocock"), 0.8), 3)
    1.228
    """
    if not planned.alpha < power < 1:
        raise SpecError(f"power is {power}; give a share over alpha ({planned.alpha}) and under 1, such as 0.8.")
    ones = np.ones(1)
    fixed_bound = float(ndtri(1.0 - planned.alpha / 2.0)) * ones

    def needed(bounds: Floats, information: Floats) -> float:
        def gap(drift: float) -> float:
            return float(crossing_probabilities(bounds, information, drift).sum()) - power

        return float(brentq(gap, 0.0, 12.0))

    return float((needed(planned.bounds, planned.information) / needed(fixed_bound, ones)) ** 2)


def _legendre(edge: float, spread: float, next_step: float) -> tuple[Floats, Floats]:
    """Nodes and weights between the bounds, dense enough for the density and for the next step's kernel."""
    finest = min(spread, float(np.sqrt(next_step)))
    panels = max(3, int(np.ceil(2.0 * edge / (_PANEL_SDS * finest))))
    half = edge / panels
    middles = -edge + half * (2.0 * np.arange(panels) + 1.0)
    nodes = (middles[:, None] + half * _PANEL_NODES).ravel()
    return nodes, np.tile(half * _PANEL_WEIGHTS, panels)


def _check_information(shares: Floats, looks: int) -> None:
    rising = shares.shape == (looks,) and bool(np.all(np.diff(shares, prepend=0.0) > 0))
    if not rising or abs(float(shares[-1]) - 1.0) > 1e-9:
        raise SpecError(
            f"information must rise over {looks} looks to 1, such as 0.5 and 1; "
            f"it is {', '.join(f'{share:g}' for share in shares)}."
        )
