"""Tests that go with instruments: Anderson-Rubin set, over-identification, Wu-Hausman and lead-price placebo."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from bayes_pricing.data.gram import Floats
from bayes_pricing.demand.instruments import (
    Errors,
    InstrumentRows,
    first_stage,
    freedom,
    least_squares,
    meat,
    two_stage,
)

SetShape = Literal["bounded", "unbounded", "empty"]
SCAN = 4001
TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceSet:
    """Elasticities that the instruments do not reject; valid however weak they are.

    Attributes
    ----------
    shape : str
        ``bounded``, ``unbounded`` (the instruments are too weak to bound the elasticity) or ``empty`` (no elasticity
        fits all instruments: at least one moves demand by itself).
    parts : tuple of (float or None, float or None)
        Its intervals in order; None is infinite.
    confidence : float in (0, 1)
    """

    shape: SetShape
    parts: tuple[tuple[float | None, float | None], ...]
    confidence: float

    def words(self) -> str:
        """The set as a person writes it.

        Examples
        --------
        >>> ConfidenceSet(shape="unbounded", parts=((None, -1.0), (2.0, None)), confidence=0.9).words()
        '(-inf, -1.00] or [2.00, inf)'
        """
        if not self.parts:
            return "empty"
        low = ("(-inf" if lower is None else f"[{lower:.2f}" for lower, _ in self.parts)
        high = ("inf)" if upper is None else f"{upper:.2f}]" for _, upper in self.parts)
        return " or ".join(f"{left}, {right}" for left, right in zip(low, high, strict=True))


def anderson_rubin(rows: InstrumentRows, elasticity: float, errors: Errors) -> float:
    r"""Probability of instruments so correlated with :math:`y - \varepsilon p` if `elasticity` were true.

    .. math:: AR(\varepsilon) = \frac{1}{q} \hat\delta' \hat V^{-1} \hat\delta, \qquad
              \hat\delta = (Z'Z)^{-1} Z'(y - \varepsilon p)

    against F(q, n - K); needs no strong first stage.

    References
    ----------
    Anderson & Rubin (1949), Annals of Mathematical Statistics 20(1); Andrews, Stock & Sun (2019), "Weak instruments in
    instrumental variables regression", Annual Review of Economics 11.
    """
    q = rows.instruments.shape[1]
    return float(stats.f.sf(_reduce(rows, errors).statistic(1.0, -elasticity), q, freedom(rows, q)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ReducedForm:
    """Instruments on units and on price: pulls Z'y and Z'p, and the variance of any mix of them, a quadratic in it."""

    pulls: Floats  # (2, q)
    variances: Floats  # (3, q, q): of units, of price, of their sum

    def statistic(self, of_units: float, of_price: float) -> float:
        """F statistic of the instruments in ``of_units * y + of_price * p``."""
        units, price, both = self.variances
        mixed = of_units * of_price * (both - units - price)
        variance = of_units**2 * units + of_price**2 * price + mixed
        pull = of_units * self.pulls[0] + of_price * self.pulls[1]
        return float(pull @ np.linalg.solve(variance, pull)) / len(pull)


def _reduce(rows: InstrumentRows, errors: Errors) -> _ReducedForm:
    z, q = rows.instruments, rows.instruments.shape[1]
    moments, pulls, variances = z.T @ z, [], []
    for response in (rows.log_units, rows.log_price, rows.log_units + rows.log_price):
        residual = response - z @ np.linalg.lstsq(z, response, rcond=None)[0]
        pulls.append(z.T @ response)
        if errors == "classical":
            variances.append(moments * (residual @ residual) / freedom(rows, q))
        else:
            variances.append(meat(z * residual[:, None], rows, errors, q))
    return _ReducedForm(pulls=np.array(pulls[:2]), variances=np.array(variances))


def anderson_rubin_set(rows: InstrumentRows, errors: Errors, confidence: float = 0.9) -> ConfidenceSet:
    r"""Elasticities the Anderson-Rubin test does not reject, found by scanning all of them.

    The scan runs over angles, :math:`\varepsilon = c + s \tan\phi`, so that infinity is one of its points.

    Parameters
    ----------
    rows : InstrumentRows
    errors : str
    confidence : float in (0, 1)

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> cost, taste = rng.normal(size=(2, 200))
    >>> from bayes_pricing.demand.instruments import build_instrument_rows
    >>> rows = build_instrument_rows(taste - 2.0 * cost, cost + taste, cost[:, None], ("cost",),
    ...                              np.zeros(200, dtype=np.int64), np.empty((200, 0)))
    >>> anderson_rubin_set(rows, "hc1").shape
    'bounded'
    """
    q = rows.instruments.shape[1]
    limit = float(stats.f.ppf(confidence, q, freedom(rows, q)))
    estimate = least_squares(rows, errors)
    centre, scale = estimate.elasticity, max(5.0 * estimate.standard_error, 0.5)
    reduced = _reduce(rows, errors)

    def excess(angle: float) -> float:
        of_units = math.cos(angle)
        return reduced.statistic(of_units, -(centre * of_units + scale * math.sin(angle))) - limit

    angles = np.linspace(-0.5 * math.pi, 0.5 * math.pi, SCAN)
    inside = np.array([excess(angle) for angle in angles]) <= 0
    edges = [
        float(optimize.brentq(excess, angles[at], angles[at + 1], xtol=1e-12))
        for at in np.flatnonzero(inside[1:] != inside[:-1])
    ]
    bounds: list[float | None] = [centre + scale * math.tan(edge) for edge in edges]
    if inside[0]:
        bounds.insert(0, None)
    if inside[-1]:
        bounds.append(None)
    parts = tuple(zip(bounds[::2], bounds[1::2], strict=True))
    shape: SetShape = "unbounded" if inside[0] or inside[-1] else "bounded" if parts else "empty"
    return ConfidenceSet(shape=shape, parts=parts, confidence=confidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestResult:
    """A statistic, its degrees of freedom and the probability of one as large by chance."""

    __test__ = False  # not a test of pytest's

    statistic: float
    degrees: int
    p_value: float


def over_identification(rows: InstrumentRows, errors: Errors) -> TestResult | None:
    """Do the instruments agree on one elasticity? Sargan's test for classical errors, else Hansen's J; None with one.

    A small probability says that at least one instrument moves demand by itself.

    References
    ----------
    Sargan (1958), Econometrica 26(3); Hansen (1982), Econometrica 50(4).
    """
    z, q = rows.instruments, rows.instruments.shape[1]
    if q < 2:
        return None
    residual = rows.log_units - two_stage(rows, errors).elasticity * rows.log_price
    if errors == "classical":
        fitted = z @ np.linalg.lstsq(z, residual, rcond=None)[0]
        statistic = rows.rows * float(fitted @ fitted / (residual @ residual))
    else:
        weight = meat(z * residual[:, None], rows, errors, 1)
        of_price, of_units = z.T @ rows.log_price, z.T @ rows.log_units
        pull = np.linalg.solve(weight, of_price)
        moments = of_units - float(pull @ of_units / (pull @ of_price)) * of_price
        statistic = float(moments @ np.linalg.solve(weight, moments))
    return TestResult(statistic=statistic, degrees=q - 1, p_value=float(stats.chi2.sf(statistic, q - 1)))


def wu_hausman(rows: InstrumentRows, errors: Errors) -> TestResult:
    """Did prices follow demand? F test of the first stage's residual beside price in the demand equation.

    References
    ----------
    Wu (1973), Econometrica 41(4); Hausman (1978), Econometrica 46(6).
    """
    _, residual = first_stage(rows)
    return _last_coefficient(rows, np.column_stack([rows.log_price, residual]), errors)


def lead_price_placebo(rows: InstrumentRows, lead: Floats, errors: Errors) -> TestResult:
    """Do sales answer to a price that was not yet charged? F test of the next period's price beside this period's.

    Parameters
    ----------
    rows : InstrumentRows
        Of the rows that have a next period.
    lead : array (rows,)
        Next period's log price, with the same items and controls taken out.
    """
    return _last_coefficient(rows, np.column_stack([rows.log_price, lead]), errors)


def _last_coefficient(rows: InstrumentRows, x: Floats, errors: Errors) -> TestResult:
    """Squared t statistic of the last column of `x` in the demand equation."""
    bread = np.linalg.inv(x.T @ x)
    coefficients = bread @ x.T @ rows.log_units
    residual = rows.log_units - x @ coefficients
    degrees = freedom(rows, x.shape[1])
    if errors == "classical":
        variance = bread[-1, -1] * float(residual @ residual) / degrees
    else:
        variance = float((bread @ meat(x * residual[:, None], rows, errors, x.shape[1]) @ bread)[-1, -1])
    statistic = float(coefficients[-1] ** 2 / max(variance, TINY))
    return TestResult(statistic=statistic, degrees=1, p_value=float(stats.f.sf(statistic, 1, degrees)))
