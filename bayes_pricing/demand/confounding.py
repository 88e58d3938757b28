"""How strong would an unseen driver of price and sales have to be to explain the elasticity away?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.errors import Finding

FRAGILE = 0.1
"""Robustness value below which a driver that explains a tenth of price and of sales would undo the sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfoundingSensitivity:
    r"""Sensitivity of the least-squares elasticity to one unobserved confounder.

    Attributes
    ----------
    elasticity, standard_error : float
        Common to all items; items and controls taken out.
    partial_r2 : float in [0, 1]
        Share of the remaining variation of log units that log price explains: a confounder that explained all of it
        would have to explain at least this share of price to remove the elasticity.
    robustness_value : float in [0, 1]
        Share of what is left of price *and* of units that a confounder must explain to bring the elasticity to zero.
    robustness_value_significance : float in [0, 1]
        The same to make it insignificant at 5 %.
    """

    elasticity: float
    standard_error: float
    partial_r2: float
    robustness_value: float
    robustness_value_significance: float


def robustness_value(t: float, freedom: float, share: float = 1.0) -> float:
    r"""Share of price and units a confounder must explain to take away `share` of the estimate.

    .. math:: RV_q = \tfrac12 \left(\sqrt{f_q^4 + 4 f_q^2} - f_q^2\right), \qquad f_q = q \, |t| / \sqrt{\text{freedom}}

    References
    ----------
    Cinelli & Hazlett (2020), "Making sense of sensitivity", J. Royal Statistical Society B 82(1).

    Examples
    --------
    >>> round(robustness_value(4.18, 783), 3)  # their example of Darfur
    0.139
    """
    return _value(share * abs(t) / np.sqrt(freedom))


def _value(f: float) -> float:
    square = f * f
    return float(0.5 * (np.sqrt(square * square + 4.0 * square) - square))


def check_confounding(gram: Gram, controls: int) -> ConfoundingSensitivity | None:
    """Sensitivity of the pooled within-item elasticity, from Gram statistics; None where price or freedom is wanting.

    Parameters
    ----------
    gram : Gram
        Columns ``level``, ``log_price``, then controls.
    controls : int
        How many of the first controls have effects by item; the rest are common.
    """
    moments, freedom = _pooled_moments(gram, controls)
    own = moments[0, 0] - _explained(moments[2:, 2:], moments[2:, 0], moments[2:, 0])
    cross = moments[0, 1] - _explained(moments[2:, 2:], moments[2:, 0], moments[2:, 1])
    total = moments[1, 1] - _explained(moments[2:, 2:], moments[2:, 1], moments[2:, 1])
    if not (freedom >= 2 and own > 1e-12 * max(moments[0, 0], 1e-300) and total > 0):
        return None
    elasticity = cross / own
    residual = max(total - elasticity * cross, 1e-300)
    standard_error = float(np.sqrt(residual / freedom / own))
    t = elasticity / standard_error
    critical = float(stats.t.isf(0.025, freedom - 1)) / np.sqrt(freedom - 1)
    return ConfoundingSensitivity(
        elasticity=float(elasticity),
        standard_error=standard_error,
        partial_r2=float(t * t / (t * t + freedom)),
        robustness_value=robustness_value(t, freedom),
        robustness_value_significance=_significance_value(abs(t) / np.sqrt(freedom), critical),
    )


def _significance_value(f: float, critical: float) -> float:
    """Robustness value for significance (Cinelli & Hazlett's exact form, with its extreme case)."""
    if f <= critical:
        return 0.0
    return _value(f - critical) if f <= 1.0 / critical else float((f * f - critical**2) / (1.0 + f * f))


def _pooled_moments(gram: Gram, controls: int) -> tuple[Floats, float]:
    """Second moments of (price, units, common controls), the items' own effects taken out, summed; and the freedom."""
    p, own = gram.xtx.shape[1], [0, *range(2, 2 + controls)]
    rest = [1, *range(2 + controls, p)]
    whole = np.zeros((len(gram.items), p + 1, p + 1))
    whole[:, :p, :p] = gram.xtx
    whole[:, :p, p] = whole[:, p, :p] = gram.xty
    whole[:, p, p] = gram.yty
    kept = [rest[0], p, *rest[1:]]
    inner = whole[:, own][:, :, own]
    inverse = np.linalg.pinv(inner, rcond=1e-10, hermitian=True)
    across = whole[:, own][:, :, kept]
    left = whole[:, kept][:, :, kept] - np.swapaxes(across, 1, 2) @ inverse @ across
    taken = np.linalg.matrix_rank(inner, hermitian=True).sum()
    freedom = float(gram.count.sum()) - float(taken) - len(kept) + 1
    return left.sum(axis=0), freedom


def _explained(block: Floats, left: Floats, right: Floats) -> float:
    """a' B^+ c."""
    return float(left @ np.linalg.pinv(block, rcond=1e-10, hermitian=True) @ right) if len(left) else 0.0


def confounding_finding(found: ConfoundingSensitivity, *, trusted: bool) -> Finding | None:
    """Say what it would take; nothing where prices are `trusted` (drawn by lot, or with instruments)."""
    if trusted:
        return None
    fragile = found.robustness_value < FRAGILE
    return Finding(
        code="confounding_sensitivity",
        severity="warning" if fragile else "info",
        message=f"an unseen driver that explains {found.robustness_value:.1%} of what is left of both price and sales "
        f"would bring the elasticity to zero ({found.robustness_value_significance:.1%} to make it insignificant)",
        remedy="name such drivers (season, promotion, quality) as controls, or give an instrument or a price test"
        if fragile
        else "think whether one so strong was left out; a price test settles it",
    )
