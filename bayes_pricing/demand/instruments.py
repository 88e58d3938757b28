"""Classical instrumental variables on rows of sales: two-stage least squares and how strong the first stage is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bayes_pricing.data.gram import Floats
from bayes_pricing.errors import SpecError

Integers = NDArray[np.int64]
Errors = Literal["classical", "hc1", "clustered", "hac"]
ERROR_KINDS: tuple[Errors, ...] = ("classical", "hc1", "clustered", "hac")
RANK_TOLERANCE = 1e-9
SMALLEST_SHARE = 1e-10
"""Share of an instrument's variation that must be left when items and controls are taken out."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InstrumentRows:
    r"""Rows with item means and controls taken out, so that one regressor and its instruments are left.

    By Frisch, Waugh and Lovell the regression of :math:`y` on :math:`(p, W)` has the price coefficient and residuals of
    that of :math:`M_W y` on :math:`M_W p`, and so has the one with instruments.

    Attributes
    ----------
    log_units, log_price : arrays (rows,)
        Log units per period and log currency per unit, residuals on what was taken out.
    instruments : array (rows, q)
        Residuals likewise.
    names : tuple of str
        The instruments.
    item : int array (rows,)
        Position of each row's item, the cluster of its errors; rows of one item stand in order of time.
    absorbed : int
        Controls (and the common constant) taken out, which cost a degree of freedom each.
    effects : int
        Item effects taken out beyond the constant.
    control_slopes : array (c, 1 + q)
        Least-squares slopes of log price and of every instrument on the controls, items taken out.
    control_spread : array (c, c)
        Factor of the inverse second moments of the controls: their slopes vary by it times the residual sd.
    """

    log_units: Floats
    log_price: Floats
    instruments: Floats
    names: tuple[str, ...]
    item: Integers
    absorbed: int
    effects: int
    control_slopes: Floats
    control_spread: Floats

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.log_units)


def build_instrument_rows(
    log_units: Floats, log_price: Floats, instruments: Floats, names: tuple[str, ...], item: Integers, controls: Floats
) -> InstrumentRows:
    """Take item means and controls out of units, price and instruments.

    Parameters
    ----------
    log_units, log_price : arrays (rows,)
    instruments : array (rows, q)
    names : tuple of str
        Of the instruments.
    item : int array (rows,)
        From 0, none missing; zeros for a cross-section. Rows of one item in order of time.
    controls : array (rows, c)
        Other drivers of demand, without a constant.

    Raises
    ------
    SpecError
        If an instrument does not move once items and controls are taken out, or there are too few rows.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> cost, taste = rng.normal(size=(2, 200))
    >>> price = cost + taste
    >>> rows = build_instrument_rows(3.0 - 2.0 * price + 2.0 * taste, price, cost[:, None], ("cost",),
    ...                              np.zeros(200, dtype=np.int64), np.empty((200, 0)))
    >>> round(two_stage(rows, "hc1").elasticity, 1), round(least_squares(rows, "hc1").elasticity, 1)
    (-1.9, -1.0)
    """
    columns = np.column_stack([log_units, log_price, instruments, controls]).astype(float)
    within = columns - _item_means(columns, item)
    others, wanted = within[:, 2 + instruments.shape[1] :], within[:, : 2 + instruments.shape[1]]
    basis, inverse = _orthonormal(others)
    left = wanted - basis @ (basis.T @ wanted)
    items = int(item.max()) + 1
    absorbed, effects = 1 + basis.shape[1], items - 1
    if not len(left) > absorbed + effects + 1 + instruments.shape[1]:
        raise SpecError(
            f"{len(left)} rows cannot carry {items} items, {basis.shape[1]} controls and {instruments.shape[1]} "
            "instruments; give more periods or fewer instruments."
        )
    found, whole = (left[:, 2:] ** 2).sum(axis=0), ((instruments - instruments.mean(axis=0)) ** 2).sum(axis=0)
    for name, kept, before in zip(names, found, whole, strict=True):
        if not kept > SMALLEST_SHARE * before:
            raise SpecError(
                f"Instrument {name!r} does not move once items and controls are taken out; give one that varies over "
                "the periods of an item, or leave it out."
            )
    if np.linalg.matrix_rank(left[:, 2:] / np.sqrt(found)) < instruments.shape[1]:
        raise SpecError(f"Instruments {', '.join(names)} are combinations of each other; leave one out.")
    return InstrumentRows(
        log_units=left[:, 0],
        log_price=left[:, 1],
        instruments=left[:, 2:],
        names=names,
        item=item,
        absorbed=absorbed,
        effects=effects,
        control_slopes=inverse @ (basis.T @ wanted[:, 1:]),
        control_spread=inverse,
    )


def _item_means(columns: Floats, item: Integers) -> Floats:
    """Each row's item means."""
    count = np.bincount(item)
    means = np.column_stack([np.bincount(item, column) for column in columns.T]) / count[:, None]
    found: Floats = means[item]
    return found


def _orthonormal(columns: Floats) -> tuple[Floats, Floats]:
    """Orthonormal columns that span the same space, and what turns slopes on them into slopes on `columns`."""
    scale = np.sqrt((columns**2).sum(axis=0))
    scale[scale == 0] = 1.0
    left, singular, right = np.linalg.svd(columns / scale, full_matrices=False)
    kept = singular > RANK_TOLERANCE * singular.max(initial=0.0)
    return left[:, kept], right[kept].T / singular[kept] / scale[:, None]


def freedom(rows: InstrumentRows, coefficients: int) -> int:
    """Residual degrees of freedom with so many coefficients besides what was taken out."""
    return rows.rows - rows.absorbed - rows.effects - coefficients


def meat(scores: Floats, rows: InstrumentRows, errors: Errors, coefficients: int) -> Floats:
    r"""Variance of the sum of scores :math:`s_t = x_t u_t`, (m, m), with the usual small-sample factor.

    .. math:: \text{hc1: } \tfrac{n}{n-K} \sum_t s_t s_t', \qquad
              \text{clustered: } \tfrac{G}{G-1} \tfrac{n-1}{n-K} \sum_g \Big(\sum_{t \in g} s_t\Big)(\cdot)', \qquad
              \text{hac: } \tfrac{n}{n-K} \sum_{|l| \le L} \Big(1 - \tfrac{|l|}{L+1}\Big) \sum_t s_t s_{t-l}'

    Item effects nest in the clusters and do not count in their `K`; products over time stay within an item, with
    :math:`L = \lfloor 4 (T / 100)^{2/9} \rfloor` for `T` rows of an item.

    References
    ----------
    Newey & West (1987), Econometrica 55(3); Cameron & Miller (2015), "A practitioner's guide to cluster-robust
    inference", J. Human Resources 50(2).
    """
    n = rows.rows
    if errors == "clustered":
        groups = int(rows.item.max()) + 1
        sums = np.column_stack([np.bincount(rows.item, score) for score in scores.T])
        factor = groups / (groups - 1.0) * (n - 1.0) / (n - rows.absorbed - coefficients)
        clustered: Floats = factor * sums.T @ sums
        return clustered
    total = scores.T @ scores
    if errors == "hac":
        for lag in range(1, _lags(rows) + 1):
            same = (rows.item[lag:] == rows.item[:-lag])[:, None]
            product = (scores[lag:] * same).T @ scores[:-lag]
            total = total + (1.0 - lag / (_lags(rows) + 1.0)) * (product + product.T)
    robust: Floats = n / freedom(rows, coefficients) * total
    return robust


def _lags(rows: InstrumentRows) -> int:
    length = rows.rows / (int(rows.item.max()) + 1)
    return int(4.0 * (length / 100.0) ** (2.0 / 9.0))


def _covariance(x: Floats, residual: Floats, rows: InstrumentRows, errors: Errors) -> Floats:
    """Covariance of the coefficients of a regression on `x`, (m, m)."""
    bread = np.linalg.inv(x.T @ x)
    if errors == "classical":
        classical: Floats = bread * (residual @ residual) / freedom(rows, x.shape[1])
        return classical
    found: Floats = bread @ meat(x * residual[:, None], rows, errors, x.shape[1]) @ bread
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearEstimate:
    """A price elasticity by least squares, with or without instruments.

    Attributes
    ----------
    elasticity : float
        d log units / d log price, common to all items; negative for ordinary goods.
    standard_error, standard_error_classical : float
        The first of the kind `errors`.
    errors : str
        ``classical``, ``hc1`` (heteroskedasticity-robust), ``clustered`` (by item) or ``hac`` (Newey and West, within
        item).
    """

    elasticity: float
    standard_error: float
    standard_error_classical: float
    errors: Errors

    def interval(self, confidence: float = 0.9) -> tuple[float, float]:
        """Normal confidence interval."""
        reach = float(stats.norm.ppf(0.5 + confidence / 2.0)) * self.standard_error
        return self.elasticity - reach, self.elasticity + reach


def least_squares(rows: InstrumentRows, errors: Errors) -> LinearEstimate:
    """The elasticity without instruments: an association where prices followed demand."""
    return _estimate(rows, rows.log_price, errors)


def two_stage(rows: InstrumentRows, errors: Errors) -> LinearEstimate:
    r"""The elasticity by two-stage least squares.

    .. math:: \hat\varepsilon = \frac{\hat p'y}{\hat p'p}, \qquad \hat p = Z (Z'Z)^{-1} Z'p
    """
    return _estimate(rows, rows.instruments @ first_stage(rows)[0], errors)


def _estimate(rows: InstrumentRows, fitted: Floats, errors: Errors) -> LinearEstimate:
    elasticity = float(fitted @ rows.log_units / (fitted @ rows.log_price))
    residual, x = rows.log_units - elasticity * rows.log_price, fitted[:, None]
    return LinearEstimate(
        elasticity=elasticity,
        standard_error=float(np.sqrt(_covariance(x, residual, rows, errors)[0, 0])),
        standard_error_classical=float(np.sqrt(_covariance(x, residual, rows, "classical")[0, 0])),
        errors=errors,
    )


def first_stage(rows: InstrumentRows) -> tuple[Floats, Floats]:
    """Coefficients of log price on the instruments (q,), and its residuals (rows,)."""
    coefficients = np.linalg.lstsq(rows.instruments, rows.log_price, rcond=None)[0]
    return coefficients, rows.log_price - rows.instruments @ coefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStage:
    """How strongly instruments move the price, controls and items taken out.

    Attributes
    ----------
    coefficients : tuple of float
        Log price per unit of each instrument, all together.
    alone, alone_t : tuple of float
        The coefficient of each instrument when it stands alone, and its t statistic of kind `errors`.
    f_classical, f_robust : float
        F statistics of all instruments, errors classical and of kind `errors`.
    f_effective : float
        Of Montiel Olea and Pflueger; with one instrument equal to `f_robust`.
    errors : str
    share_explained : float
        Partial R-squared of the instruments in the price.
    """

    coefficients: tuple[float, ...]
    alone: tuple[float, ...]
    alone_t: tuple[float, ...]
    f_classical: float
    f_robust: float
    f_effective: float
    errors: Errors
    share_explained: float


def check_first_stage(rows: InstrumentRows, errors: Errors) -> FirstStage:
    r"""F statistics of the first stage.

    With instruments rotated so that :math:`Z'Z/n = I` and :math:`\hat W` the robust variance of
    :math:`\sqrt n \hat\pi`,

    .. math:: F_\text{eff} = \frac{n \hat\pi'\hat\pi}{\operatorname{tr} \hat W}

    References
    ----------
    Montiel Olea & Pflueger (2013), "A robust test for weak instruments", J. Business & Economic Statistics 31(3).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> cost, noise = rng.normal(size=(2, 200))
    >>> rows = build_instrument_rows(noise, cost + noise, cost[:, None], ("cost",), np.zeros(200, dtype=np.int64),
    ...                              np.empty((200, 0)))
    >>> strength = check_first_stage(rows, "hc1")
    >>> strength.f_effective > 100, abs(strength.f_effective - strength.f_robust) < 1e-9
    (True, True)
    """
    coefficients, residual = first_stage(rows)
    z, q = rows.instruments, rows.instruments.shape[1]
    by_kind = [_covariance(z, residual, rows, kind) for kind in ("classical", errors)]
    wald = [float(coefficients @ np.linalg.solve(covariance, coefficients)) / q for covariance in by_kind]
    rotation = np.linalg.cholesky(z.T @ z / rows.rows).T
    spread = rotation @ by_kind[1] @ rotation.T
    alone = [_alone(rows, at, errors) for at in range(q)]
    return FirstStage(
        coefficients=tuple(coefficients.tolist()),
        alone=tuple(value for value, _ in alone),
        alone_t=tuple(t for _, t in alone),
        f_classical=wald[0],
        f_robust=wald[1],
        f_effective=float(((rotation @ coefficients) ** 2).sum() / np.trace(spread)),
        errors=errors,
        share_explained=float(1.0 - residual @ residual / (rows.log_price @ rows.log_price)),
    )


def _alone(rows: InstrumentRows, at: int, errors: Errors) -> tuple[float, float]:
    """Coefficient and t statistic of one instrument by itself."""
    z = rows.instruments[:, at : at + 1]
    coefficient = float(z[:, 0] @ rows.log_price / (z[:, 0] @ z[:, 0]))
    variance = _covariance(z, rows.log_price - coefficient * z[:, 0], rows, errors)[0, 0]
    return coefficient, float(coefficient / np.sqrt(variance))
