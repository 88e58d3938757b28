"""What the score would have been with the leak: the same trees with the refused features and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from bayes_pricing.baselines.evaluation import rolling_origin
from bayes_pricing.baselines.learned import PRICE_STEPS
from bayes_pricing.baselines.protocol import Floats, SalesRows
from bayes_pricing.baselines.regressors import one_thread
from bayes_pricing.baselines.scores import r_squared, wape

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]  # it has no types


def score_with_leak(rows: SalesRows, leaking: Sequence[str], *, horizon: int) -> pl.DataFrame:
    """Score boosted trees on the last periods twice: with features that hold the answer, and honestly.

    The trees are built as is usual where nobody guards: units from log price (against the item's mean), the item's
    mean training units, its category, the controls and, in the first row, the leaking columns, which a real decision
    day would not have.
    The elasticity is what such trees say of +-10 % price with every other feature held: near zero with the leak,
    because the trees read the units off the leaking column and have no use for the price.

    Parameters
    ----------
    rows : SalesRows
        With ``period``; its frame also has the leaking columns.
    leaking : sequence of str
        Numeric columns the guard refuses.
    horizon : int, at least 1
        Periods at the end that are forecast.

    Returns
    -------
    DataFrame
        Two rows: ``features`` (``with the leak``, ``honest``), ``r_squared``, ``wape`` (of units in the test periods)
        and ``own_price_elasticity`` (mean over test rows).

    Raises
    ------
    SpecError
        If there is no period or too few of them.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> price = rng.choice([2.0, 2.5, 3.0, 3.5], 400)
    >>> units = rng.poisson(60 * price**-2).astype(float)
    >>> frame = pl.DataFrame({"item": ["tea"] * 400, "period": range(400), "price": price, "quantity": units,
    ...                       "revenue": units * price, "enrollments": units})
    >>> table = score_with_leak(SalesRows(frame=frame), ["enrollments"], horizon=100)
    >>> leak, honest = table.rows(named=True)
    >>> leak["r_squared"] > 0.95 > honest["r_squared"], leak["own_price_elasticity"] > -0.3
    (True, True)
    """
    train, test = next(rolling_origin(rows.frame, 1, horizon))
    usual = train.group_by(rows.keys).agg(
        pl.col("quantity").mean().alias("_usual"), pl.col("price").log().mean().alias("_mean_log_price")
    )
    names = train[rows.group].cast(pl.String).unique().sort().to_list() if rows.group else []
    codes = {name: code for code, name in enumerate(names)}
    bought, sold = (frame["quantity"].cast(pl.Float64).to_numpy() for frame in (train, test))
    table = []
    for label, extra in (("with the leak", tuple(leaking)), ("honest", ())):
        columns = (*rows.features, *extra)
        trees = _plain_trees(_features(train, rows, columns, usual, codes), bought)
        features = _features(test, rows, columns, usual, codes)
        predicted = _predict(trees, features)
        table.append(
            {
                "features": label,
                "r_squared": r_squared(sold, predicted),
                "wape": wape(sold, predicted),
                "own_price_elasticity": _mean_elasticity(trees, features),
            }
        )
    return pl.DataFrame(table)


def leak_words(rows: SalesRows, leaking: Sequence[str], *, horizon: int) -> str:
    """What the guard spares the user, in two sentences: the score with the leak and the honest one beside it.

    Parameters
    ----------
    rows : SalesRows
        With ``period``, the leaking columns among its controls.
    leaking : sequence of str
    horizon : int, at least 1

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> price = rng.choice([2.0, 2.5, 3.0, 3.5], 400)
    >>> units = rng.poisson(60 * price**-2).astype(float)
    >>> frame = pl.DataFrame({"item": ["tea"] * 400, "period": range(400), "price": price, "quantity": units,
    ...                       "heads": units})
    >>> leak_words(SalesRows(frame=frame, controls=("heads",)), ["heads"], horizon=100)[:75]
    'With it boosted trees would forecast the last 100 periods with an R-squared'
    """
    without = replace(
        rows,
        controls=tuple(name for name in rows.controls if name not in leaking),
        shared_controls=tuple(name for name in rows.shared_controls if name not in leaking),
    )
    leak, honest = score_with_leak(without, leaking, horizon=horizon).rows(named=True)
    return (
        f"With {'it' if len(leaking) == 1 else 'them'} boosted trees would forecast the last {horizon} periods with an "
        f"R-squared of {leak['r_squared']:.3f} and find an elasticity of {leak['own_price_elasticity']:.2f}. Honestly "
        f"it is {honest['r_squared']:.3f}, with an elasticity of {honest['own_price_elasticity']:.2f}."
    )


def _features(
    frame: pl.DataFrame, rows: SalesRows, columns: Sequence[str], usual: pl.DataFrame, codes: dict[str, int]
) -> Floats:
    """Log price against the item's mean, the item's usual units, its category's code, then the columns."""
    category = (
        pl.col(rows.group).cast(pl.String).replace_strict(codes, default=None, return_dtype=pl.Float64)
        if rows.group
        else pl.lit(0.0)
    )
    return (
        frame.join(usual, on=rows.keys, how="left", maintain_order="left")
        .select(
            pl.col("price").log() - pl.col("_mean_log_price"),
            "_usual",
            category.alias("_category"),
            *(pl.col(c).cast(pl.Float64) for c in columns),
        )
        .to_numpy()
    )


def _plain_trees(features: Floats, units: Floats) -> HistGradientBoostingRegressor:
    from sklearn.ensemble import HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor(
        loss="poisson",
        max_iter=100,
        monotonic_cst=[-1] + [0] * (features.shape[1] - 1),
        early_stopping=False,
        random_state=0,
    )
    with one_thread():
        return trees.fit(features, units)


def _predict(trees: HistGradientBoostingRegressor, features: Floats) -> Floats:
    with one_thread():
        return np.asarray(trees.predict(features), dtype=np.float64)


def _mean_elasticity(trees: HistGradientBoostingRegressor, features: Floats) -> float:
    """Slope of log predictions over +-10 % price, averaged over rows."""
    centred = PRICE_STEPS - PRICE_STEPS.mean()
    weights = centred / (centred @ centred)
    slope = np.zeros(features.shape[0])
    for step, weight in zip(PRICE_STEPS, weights, strict=True):
        moved = features.copy()
        moved[:, 0] += step
        slope += weight * np.log(_predict(trees, moved))
    return float(slope.mean())
