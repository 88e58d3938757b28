"""Offers at a price that were taken or not: one row per offer, or per group of equal offers with its trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import stats
from scipy.interpolate import BSpline

from bayes_pricing.errors import Finding, PanelError, Problem, Refusal

Floats = NDArray[np.float64]

SMALLEST_SHARE = 1e-9
"""Share of the price's variation that must be left once the other columns are taken out."""
FOLLOWS = 0.001
"""Probability below which a price that follows the controls is no accident."""
FEWEST_CURVE_PRICES = 3
MOST_STEPS = 6
DEGREE = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PurchaseData:
    """Offers and what came of them.

    Attributes
    ----------
    price : array (n,)
        Currency per unit, positive.
    bought, trials : arrays (n,)
        Offers taken, and offers made at that price to such customers (1 for rows of one offer).
    other : array (n, c)
        Competitors' prices, then controls, in their own units.
    names : tuple of str, length c
        Of the columns of `other`.
    competitors : int
        How many of them are competitors' prices.
    """

    price: Floats
    bought: Floats
    trials: Floats
    other: Floats
    names: tuple[str, ...]
    competitors: int

    @property
    def prices(self) -> Floats:
        """Distinct prices, ascending."""
        return np.unique(self.price)

    @property
    def rate(self) -> float:
        """Share of all offers that was taken."""
        return float(self.bought.sum() / self.trials.sum())

    def mean(self, values: Floats) -> Floats:
        """Mean over offers of an array (n, ...)."""
        found: Floats = np.average(values, axis=0, weights=self.trials)
        return found


def build_purchases(
    frame: pl.DataFrame,
    *,
    price: str,
    bought: str,
    trials: str | None = None,
    competitor_prices: Sequence[str] = (),
    controls: Sequence[str] = (),
) -> PurchaseData:
    """Offers from a table.

    Parameters
    ----------
    frame : DataFrame
    price, bought : str
        Columns: the price offered, and how many took it (0 or 1 without `trials`).
    trials : str, optional
        Column with the number of offers a row stands for.
    competitor_prices, controls : sequence of str
        Columns of other prices and of what else moves purchases, numbers.

    Raises
    ------
    PanelError
        With every problem at once: columns or values missing, a price that is not positive, more taken than offered.
    Refusal
        If the price did not vary, or does not once the other columns are taken out; or nobody bought.

    Examples
    --------
    >>> rows = pl.DataFrame({"price": [1.0, 2.0], "bought": [6, 3], "offers": [10, 10]})
    >>> data = build_purchases(rows, price="price", bought="bought", trials="offers")
    >>> data.prices.tolist(), data.rate
    ([1.0, 2.0], 0.45)
    """
    named = [price, bought, *([] if trials is None else [trials]), *competitor_prices, *controls]
    missing = [
        _problem("unknown_column", f"no column {name!r}", f"the table has {frame.columns}")
        for name in named
        if name not in frame.columns
    ]
    if missing:
        raise PanelError(missing)
    columns = [
        pl.col(price).cast(pl.Float64, strict=False).alias("price"),
        pl.col(bought).cast(pl.Float64, strict=False).alias("bought"),
        (pl.lit(1.0) if trials is None else pl.col(trials).cast(pl.Float64, strict=False)).alias("trials"),
    ]
    others = [*competitor_prices, *controls]
    rows = frame.select(
        *columns, *(pl.col(name).cast(pl.Float64, strict=False).alias(f"{at}") for at, name in enumerate(others))
    )
    _require_sound(rows, counted=trials is not None)
    data = PurchaseData(
        price=rows["price"].to_numpy(),
        bought=rows["bought"].to_numpy(),
        trials=rows["trials"].to_numpy(),
        other=np.ascontiguousarray(rows.drop("price", "bought", "trials").to_numpy().reshape(rows.height, -1)),
        names=tuple(others),
        competitors=len(competitor_prices),
    )
    _require_identified(data)
    return data


def group_offers(data: PurchaseData) -> PurchaseData:
    """Equal offers to equal customers added up: the same likelihood in fewer rows.

    Examples
    --------
    >>> rows = pl.DataFrame({"price": [1.0, 2.0, 1.0, 2.0], "bought": [1, 0, 1, 1]})
    >>> grouped = group_offers(build_purchases(rows, price="price", bought="bought"))
    >>> grouped.bought.tolist(), grouped.trials.tolist()
    ([2.0, 1.0], [2.0, 2.0])
    """
    rows = np.column_stack([data.price, data.other])
    distinct, at = np.unique(rows, axis=0, return_inverse=True)
    return replace(
        data,
        price=np.ascontiguousarray(distinct[:, 0]),
        bought=np.bincount(at.ravel(), data.bought),
        trials=np.bincount(at.ravel(), data.trials),
        other=np.ascontiguousarray(distinct[:, 1:]),
    )


def _problem(code: str, message: str, remedy: str, bad: pl.DataFrame | None = None) -> Problem:
    examples = () if bad is None else tuple(bad.head(3).to_dicts())
    return Problem(code=code, count=0 if bad is None else bad.height, message=message, remedy=remedy, examples=examples)


def _require_sound(rows: pl.DataFrame, *, counted: bool) -> None:
    """Collect every problem of the table, then refuse it once."""
    if rows.height == 0:
        raise PanelError(_problem("no_rows", "the table has no rows", "look at the query or the file"))
    bought, trials, price = pl.col("bought"), pl.col("trials"), pl.col("price")
    finite = pl.all_horizontal(pl.all().is_finite().fill_null(value=False))
    whole = (bought == bought.round()) & (trials == trials.round())
    sense = whole & (bought >= 0) & (trials >= 1) & (bought <= trials)
    taken = "bought is no whole number from 0 to the trials" if counted else "bought is neither 0 nor 1"
    remedy = "mend them" if counted else "1 where it was bought, 0 elsewhere; for counts name the column of the trials"
    found = [
        ("not_a_number", "a value missing, infinite or no number", "mend them", rows.filter(~finite)),
        ("non_positive_price", "price not positive", "leave those offers out", rows.filter(finite & (price <= 0))),
        ("bought_out_of_range", taken, remedy, rows.filter(finite & ~sense)),
    ]
    problems = [
        _problem(code, f"{bad.height} rows: {message}", remedy, bad)
        for code, message, remedy, bad in found
        if bad.height
    ]
    if problems:
        raise PanelError(problems)


def _require_identified(data: PurchaseData) -> None:
    around = data.price - data.mean(data.price)
    if len(data.prices) < 2:
        raise Refusal(
            [
                _error(
                    "no_price_variation",
                    f"every offer was made at {data.prices[0]:g}, so nothing shows what another price would do",
                    "offer at two or more prices drawn by lot (plan-test says how many offers that takes)",
                )
            ]
        )
    left = around - _fitted(data, around)
    if not float(left @ left) > SMALLEST_SHARE * float(around @ around):
        raise Refusal(
            [
                _error(
                    "no_price_variation",
                    "the other columns determine the price, so its effect cannot be told from theirs",
                    "leave out the column that goes with the price, or draw the price by lot",
                )
            ]
        )
    if not data.bought.sum() > 0:
        raise Refusal(
            [
                _error(
                    "nothing_bought",
                    f"none of {data.trials.sum():,.0f} offers was taken, at any price",
                    "offer at lower prices, or make more offers",
                )
            ]
        )


def _fitted(data: PurchaseData, around: Floats, first: int = 0) -> Floats:
    """Least-squares fit of a centred column on the other columns from `first` on, centred."""
    others = data.other[:, first:] - data.mean(data.other[:, first:])
    spread = others.std(axis=0)
    others = others[:, spread > 0] / spread[spread > 0]
    weight = np.sqrt(data.trials)
    slopes = np.linalg.lstsq(others * weight[:, None], around * weight, rcond=None)[0]
    found: Floats = others @ slopes
    return found


def price_findings(data: PurchaseData, *, randomised: bool) -> Iterator[Finding]:
    """What stands between these offers and the effect of price.

    A price declared to be drawn by lot must not follow the controls (F test); one that is not so declared gives an
    association.

    Parameters
    ----------
    data : PurchaseData
    randomised : bool
        Whether prices were drawn by lot.
    """
    if not randomised:
        yield Finding(
            code="price_not_randomised",
            severity="warning",
            message="prices were not declared to be drawn by lot: what drove both price and purchases is in the answer",
            remedy="say so where they were (--randomised-price), or test prices",
        )
        return
    controls = data.other.shape[1] - data.competitors
    freedom = len(data.price) - controls - 1
    if not controls or freedom < 1:
        return
    around = data.price - data.mean(data.price)
    fitted = _fitted(data, around, data.competitors)
    left = around - fitted
    statistic = float((fitted**2).sum() / controls / max(float((left**2).sum()) / freedom, 1e-300))
    p_value = float(stats.f.sf(statistic, controls, freedom))
    if p_value < FOLLOWS:
        yield Finding(
            code="price_follows_controls",
            severity="warning",
            message=f"the price follows the controls (p {p_value:.2g}), which a price drawn by lot would not",
            remedy="look how the prices were assigned before reading their effect causally",
        )


def _error(code: str, message: str, remedy: str) -> Finding:
    return Finding(code=code, severity="error", message=message, remedy=remedy)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepBasis:
    r"""Rising steps (I-splines, Ramsay 1988) over the tested prices: any sum with positive weights falls or rises.

    .. math:: I_m(p) = \sum_{j \ge m} B_j(p), \quad m = 1 \dots M

    of quadratic B-splines; each goes from 0 at the lowest to 1 at the highest price.

    Attributes
    ----------
    knots : array
    even : array (M,)
        Weights, one in all, whose sum is the straight line :math:`(p - p_{lo}) / (p_{hi} - p_{lo})`.
    """

    knots: Floats
    even: Floats

    def at(self, prices: Floats) -> Floats:
        """Steps (n, M) at prices inside the tested range."""
        design = BSpline.design_matrix(prices, self.knots, DEGREE).toarray()
        found: Floats = np.cumsum(design[:, ::-1], axis=1)[:, ::-1][:, 1:]
        return np.ascontiguousarray(found)

    def slope(self, prices: Floats) -> Floats:
        """Derivatives (n, M) of the steps with respect to price, none negative."""
        width = len(self.knots) - DEGREE - 1
        slopes = BSpline(self.knots, np.eye(width), DEGREE).derivative()(prices)
        found: Floats = np.cumsum(slopes[:, ::-1], axis=1)[:, ::-1][:, 1:]
        return np.ascontiguousarray(np.maximum(found, 0.0))


def build_steps(data: PurchaseData) -> StepBasis:
    """Steps with knots at quantiles of the distinct prices; of few prices one step less than there are.

    Raises
    ------
    Refusal
        If there are fewer than three distinct prices: a curve through two is the logistic one.

    Examples
    --------
    >>> rows = pl.DataFrame({"price": [1.0, 2.0, 3.0, 4.0], "bought": [1, 1, 0, 0]})
    >>> steps = build_steps(build_purchases(rows, price="price", bought="bought"))
    >>> (steps.at(np.array([1.0, 2.5, 4.0])) @ steps.even).round(9).tolist()
    [0.0, 0.5, 1.0]
    """
    prices = data.prices
    if len(prices) < FEWEST_CURVE_PRICES:
        raise Refusal(
            [
                _error(
                    "too_few_prices",
                    f"{len(prices)} prices were tested; a curve through them has no shape of its own",
                    f"use the logistic model, or test at least {FEWEST_CURVE_PRICES} prices",
                )
            ]
        )
    inner = min(len(prices) - FEWEST_CURVE_PRICES, MOST_STEPS - DEGREE)
    within = np.quantile(prices, np.linspace(0.0, 1.0, inner + 2))[1:-1]
    knots = np.concatenate([[prices[0]] * (DEGREE + 1), within, [prices[-1]] * (DEGREE + 1)])
    abscissae = np.array([knots[at + 1 : at + 1 + DEGREE].mean() for at in range(len(knots) - DEGREE - 1)])
    return StepBasis(knots=knots, even=np.diff(abscissae) / (prices[-1] - prices[0]))
