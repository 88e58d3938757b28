"""What a fitted estimator leans on: permutation importance and partial dependence, the same for every one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from bayes_pricing.baselines.protocol import FittedBaseline, Floats, SalesRows
from bayes_pricing.baselines.scores import poisson_deviance
from bayes_pricing.data.shuffling import shuffle_within_items
from bayes_pricing.errors import SpecError


def permutation_importance(fitted: FittedBaseline, rows: SalesRows, *, repeats: int, seed: int) -> pl.DataFrame:
    r"""How much worse predictions get when one column is shuffled among the rows of its item.

    .. math:: I_c = \frac1R \sum_r D(q, \hat q(\pi_r x_c)) - D(q, \hat q(x))

    with `D` the mean Poisson deviance, which also stands where rows sold nothing. Shuffling within the item keeps the
    price of a book the price of a book; a column that never moves within items scores 0. Columns that move together
    share their importance.

    Parameters
    ----------
    fitted : FittedBaseline
    rows : SalesRows
        Best of periods after those it was fitted to.
    repeats : int, at least 1
    seed : int

    Returns
    -------
    DataFrame
        ``estimator, feature`` (price, period, each control), ``importance`` (rise of the mean deviance per row; at or
        below 0 where the column does not help) and ``sd`` over repeats, the most important first.

    Raises
    ------
    SpecError
        If `repeats` is below 1.

    References
    ----------
    Fisher, Rudin & Dominici (2019), "All models are wrong, but many are useful", JMLR 20.

    Examples
    --------
    >>> from bayes_pricing.baselines.linear import LinearDemand
    >>> price = [1.0, 2.0, 4.0, 8.0]
    >>> frame = pl.DataFrame({"item": ["tea"] * 4, "price": price, "quantity": [64 / p for p in price]})
    >>> rows = SalesRows(frame=frame)
    >>> permutation_importance(LinearDemand().fit(rows), rows, repeats=3, seed=1)["feature"].to_list()
    ['price']
    """
    if not repeats >= 1:
        raise SpecError(f"repeats is {repeats}; shuffle at least once (5 is usual).")
    rng = np.random.default_rng(seed)
    actual = rows.frame["quantity"].cast(pl.Float64).to_numpy()
    base = poisson_deviance(actual, fitted.predict_units(rows.frame))
    features = ["price", *(["period"] if "period" in rows.frame.columns else []), *rows.features]
    table = []
    for feature in features:
        rises = []
        for _ in range(repeats):
            shuffled = shuffle_within_items(rows.frame, [feature], rng)
            rises.append(poisson_deviance(actual, fitted.predict_units(shuffled)) - base)
        table.append({"feature": feature, "importance": float(np.mean(rises)), "sd": float(np.std(rises))})
    estimator = pl.lit(fitted.name).alias("estimator")
    return pl.DataFrame(table).select(estimator, pl.all()).sort("importance", descending=True)


def partial_dependence(fitted: FittedBaseline, frame: pl.DataFrame, price_ratios: ArrayLike) -> pl.DataFrame:
    r"""Mean predicted units when every price is multiplied by a ratio: the demand curve an estimator has learned.

    .. math:: \bar q(r) = \frac1n \sum_j \hat q_j(r\, p_j)

    Parameters
    ----------
    fitted : FittedBaseline
    frame : DataFrame
        Rows to average over; their prices are at ratio 1.
    price_ratios : array (n_ratios,)
        Positive.

    Returns
    -------
    DataFrame
        ``estimator, price_ratio, units`` (mean per row and period).

    Raises
    ------
    SpecError
        If a ratio is not positive.

    References
    ----------
    Friedman (2001), "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29(5).

    Examples
    --------
    >>> from bayes_pricing.baselines.linear import LinearDemand
    >>> frame = pl.DataFrame({"item": ["tea"] * 3, "price": [1.0, 2.0, 4.0], "quantity": [8.0, 4.0, 2.0]})
    >>> fitted = LinearDemand().fit(SalesRows(frame=frame))
    >>> partial_dependence(fitted, frame, [1.0, 2.0])["units"].round(3).to_list()
    [4.667, 2.333]
    """
    ratios = np.asarray(price_ratios, dtype=np.float64)
    if not (ratios > 0).all():
        raise SpecError("price_ratios must be positive; 0.9 is ten per cent below each row's own price.")
    units = [float(fitted.predict_units(frame.with_columns(pl.col("price") * ratio)).mean()) for ratio in ratios]
    return pl.DataFrame({"estimator": [fitted.name] * ratios.size, "price_ratio": ratios, "units": units})


def price_ratio_grid(frame: pl.DataFrame, points: int = 9) -> Floats:
    """Ratios between the tenth and ninetieth percentile of prices over their item's mean: where the data speak.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["tea"] * 3, "price": [1.0, 2.0, 4.0]})
    >>> price_ratio_grid(frame, 3).round(2).tolist()
    [0.57, 1.0, 1.74]
    """
    ratio = frame.select(pl.col("price").log() - pl.col("price").log().mean().over("item")).to_series()
    low, high = np.quantile(ratio.to_numpy(), [0.1, 0.9])
    return np.exp(np.linspace(low, high, points))


def importance_table(fitted: Sequence[FittedBaseline], rows: SalesRows, *, repeats: int, seed: int) -> pl.DataFrame:
    """Permutation importance of several estimators on the same rows, one under the other.

    Examples
    --------
    >>> from bayes_pricing.baselines.linear import LinearDemand
    >>> frame = pl.DataFrame({"item": ["tea"] * 3, "price": [1.0, 2.0, 4.0], "quantity": [8.0, 4.0, 2.0]})
    >>> rows = SalesRows(frame=frame)
    >>> importance_table([LinearDemand().fit(rows)], rows, repeats=2, seed=1).height
    1
    """
    return pl.concat(permutation_importance(one, rows, repeats=repeats, seed=seed) for one in fitted)
