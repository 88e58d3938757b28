"""Honest comparison: rolling origin in time, one table of scores, one table of elasticities."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from bayes_pricing.baselines.leakage import refuse_leaks
from bayes_pricing.baselines.protocol import Baseline, Elasticities, FittedBaseline, Floats, SalesRows
from bayes_pricing.baselines.scores import (
    crps,
    directional_accuracy,
    interval_coverage,
    interval_width,
    poisson_deviance,
    predictive_interval,
    r_squared,
    rmse_log_units,
    wape,
)
from bayes_pricing.errors import SpecError

PROBABILITIES = (0.5, 0.8, 0.95)
DRAWS = 200


def rolling_origin(frame: pl.DataFrame, n_origins: int, horizon: int) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Split sales in time: train on all periods before an origin, test on the `horizon` periods from it.

    Test windows follow one another and the last ends with the data, so each row is tested at most once and no
    training row is later than a test row.

    Parameters
    ----------
    frame : DataFrame
        With ``period``.
    n_origins : int, at least 1
    horizon : int, at least 1
        Periods in a test window.

    Yields
    ------
    train, test : DataFrame, DataFrame

    Raises
    ------
    SpecError
        If there is no ``period``, or too few periods to leave one for training.

    Examples
    --------
    >>> frame = pl.DataFrame({"period": [1, 2, 3, 4, 5]})
    >>> [(train["period"].to_list(), test["period"].to_list()) for train, test in rolling_origin(frame, 2, 1)]
    [([1, 2, 3], [4]), ([1, 2, 3, 4], [5])]
    """
    if "period" not in frame.columns:
        raise SpecError("A rolling origin needs a period; name the column that says when each row was sold.")
    if not (n_origins >= 1 and horizon >= 1):
        raise SpecError(f"A rolling origin needs n_origins and horizon of at least 1, not {n_origins} and {horizon}.")
    periods = frame["period"].unique().sort()
    first = periods.len() - n_origins * horizon
    if first < 1:
        raise SpecError(
            f"{n_origins} origins of {horizon} periods need more than {n_origins * horizon} periods; the sales have "
            f"{periods.len()}. Ask for fewer origins or a shorter horizon."
        )
    for start in range(first, periods.len(), horizon):
        window = periods[start : start + horizon].implode()
        yield frame.filter(pl.col("period") < periods[start]), frame.filter(pl.col("period").is_in(window))


def score_forecast(
    train: SalesRows, test: pl.DataFrame, predict_units: Callable[[pl.DataFrame], Floats], draws: ArrayLike
) -> dict[str, float]:
    """Every score of one forecast; a posterior is scored by the same call.

    Parameters
    ----------
    train : SalesRows
        What the forecast was made from; its last rows say from where prices and units moved.
    test : DataFrame
        Rows forecast.
    predict_units : function of a DataFrame
        Expected units of any rows, shape (n_rows,).
    draws : array (n_draws, n_rows)
        Predictive draws of units of `test`, sales noise included.

    Returns
    -------
    dict
        ``rmse_log_units``, ``wape``, ``poisson_deviance``, ``r_squared``, ``crps``, ``directional_accuracy``, and
        ``coverage_`` and ``width_`` of the 50, 80 and 95 % intervals, as :mod:`bayes_pricing.baselines.scores`
        defines them.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["tea"] * 3, "period": [1, 2, 3], "price": [2.0, 3.0, 2.0],
    ...                       "quantity": [6.0, 4.0, 6.0]})
    >>> train, test = next(rolling_origin(frame, 1, 1))
    >>> scores = score_forecast(
    ...     SalesRows(frame=train), test, lambda rows: 12 / rows["price"].to_numpy(), [[5.0], [7.0]])
    >>> scores["wape"], scores["crps"], scores["directional_accuracy"]
    (0.0, 0.5, 1.0)
    """
    actual = test["quantity"].cast(pl.Float64).to_numpy()
    sampled = np.asarray(draws, dtype=np.float64)
    expected = predict_units(test)
    scores = {
        "rmse_log_units": rmse_log_units(actual, sampled),
        "wape": wape(actual, expected),
        "poisson_deviance": poisson_deviance(actual, expected),
        "r_squared": r_squared(actual, expected),
        "crps": crps(actual, sampled),
        "directional_accuracy": _direction(train, test, predict_units),
    }
    for probability in PROBABILITIES:
        lower, upper = predictive_interval(sampled, probability)
        scores[f"coverage_{probability:.0%}".rstrip("%")] = interval_coverage(actual, lower, upper)
        scores[f"width_{probability:.0%}".rstrip("%")] = interval_width(lower, upper)
    return scores


def evaluate(
    baselines: Sequence[Baseline],
    rows: SalesRows,
    *,
    n_origins: int,
    horizon: int,
    seed: int,
    known_on_the_day: Collection[str] | None = None,
) -> pl.DataFrame:
    """Fit every estimator before every origin and score it on what came after.

    Whether some row sold nothing is settled once, on all rows, so that no estimator changes its unit model between
    origins.

    Parameters
    ----------
    baselines : sequence of Baseline
        The posterior too, behind the same protocol.
    rows : SalesRows
        With ``period``; of a panel, ``SalesRows.from_panel(panel)``.
    n_origins, horizon : int
        As in :func:`rolling_origin`; the horizon in periods.
    seed : int
        Of the predictive draws.
    known_on_the_day : collection of str, optional
        Controls known when the price is set; all of them unless given. Names and values are checked either way.

    Returns
    -------
    DataFrame
        One row per estimator and origin: ``estimator, origin`` (first test period), ``train_rows, test_rows,
        seconds`` (of the fit), and the scores of :func:`score_forecast`; a score that does not exist (log units of
        zero) is null.

    Raises
    ------
    LeakageError
        If a control would not be known on the day.
    SpecError
        If there is no period or too few of them.

    Examples
    --------
    >>> from bayes_pricing.baselines.linear import LinearDemand
    >>> price = [2.0, 3.0, 2.5, 2.0, 3.0, 2.5]
    >>> frame = pl.DataFrame({"item": ["tea"] * 6, "period": range(6), "price": price,
    ...                       "quantity": [12 / p for p in price]})
    >>> table = evaluate([LinearDemand()], SalesRows(frame=frame), n_origins=2, horizon=1, seed=1)
    >>> table["origin"].to_list(), table["wape"].round(6).to_list()
    ([4, 5], [0.0, 0.0])
    """
    refuse_leaks(rows, rows.features if known_on_the_day is None else known_on_the_day)
    rng = np.random.default_rng(seed)
    table: list[dict[str, object]] = []
    for train_frame, test in rolling_origin(rows.frame, n_origins, horizon):
        train = rows.with_frame(train_frame)
        for baseline in baselines:
            fitted = baseline.fit(train)
            draws = fitted.predict_draws(test, DRAWS, rng)
            table.append(
                {
                    "estimator": fitted.name,
                    "origin": test["period"].min(),
                    "train_rows": train_frame.height,
                    "test_rows": test.height,
                    "seconds": fitted.seconds,
                    **score_forecast(train, test, fitted.predict_units, draws),
                }
            )
    return pl.DataFrame(table).with_columns(pl.col(pl.Float64).fill_nan(None))


def compare_elasticities(fitted: Sequence[FittedBaseline], items: pl.DataFrame, levels: Sequence[str]) -> pl.DataFrame:
    """Mean own-price elasticity of the items sold, overall and in each unit of each level, by every estimator.

    Parameters
    ----------
    fitted : sequence of FittedBaseline
    items : DataFrame
        One row per item: ``item``, the levels and ``current_price`` (a panel's ``item_table()``).
    levels : sequence of str
        Nesting levels to show, e.g. ``("category",)``; the population is always shown.

    Returns
    -------
    DataFrame
        ``estimator, level, name, mean, lower, upper, probability, interval_kind, items`` (how many have an
        elasticity) and ``seconds`` (of the fit). An elasticity that is not known is null in an infinite interval.

    Raises
    ------
    SpecError
        If `items` lacks a column.

    Examples
    --------
    >>> from bayes_pricing.baselines.linear import LinearDemand
    >>> frame = pl.DataFrame({"item": list("aabb"), "category": list("xxyy"), "price": [1.0, 2.0, 1.0, 2.0],
    ...                       "quantity": [4.0, 1.0, 8.0, 4.0]})
    >>> fitted = LinearDemand().fit(SalesRows(frame=frame, levels=("category",)))
    >>> items = pl.DataFrame({"item": ["a", "b"], "category": ["x", "y"], "current_price": [1.0, 1.0]})
    >>> compare_elasticities([fitted], items, ["category"]).select("level", "name", pl.col("mean").round(3)).rows()
    [('population', 'population', -1.5), ('category', 'x', -2.0), ('category', 'y', -1.0)]
    """
    absent = [name for name in ("item", "current_price", *levels) if name not in items.columns]
    if absent:
        raise SpecError(f"compare_elasticities needs the columns {absent} in `items`; it has {items.columns}.")
    shown = ["population", *levels]
    asked = items.with_columns(pl.lit("population").alias("population"))
    labels = [f"{place:02d} {name}" for place, level in enumerate(shown) for name in asked[level].cast(pl.String)]
    names = items["item"].to_list() * len(shown)
    prices = np.tile(items["current_price"].to_numpy(), len(shown))
    frames = []
    for estimator in fitted:
        table = elasticity_frame(estimator.name, estimator.mean_elasticity(names, prices, labels), estimator.seconds)
        place = pl.col("name").str.head(2).cast(pl.Int64)
        frames.append(
            table.with_columns(
                place.replace_strict(dict(enumerate(shown)), return_dtype=pl.String).alias("level"),
                pl.col("name").str.slice(3),
            )
        )
    order = ["estimator", "level", "name", "mean", "lower", "upper", "probability", "interval_kind", "items", "seconds"]
    return pl.concat(frames).select(order)


def elasticity_frame(estimator: str, elasticities: Elasticities, seconds: float) -> pl.DataFrame:
    """Elasticities as a tidy frame, one row per name, so that posterior and baselines stack.

    Examples
    --------
    >>> draws = np.array([[-2.0], [-1.0]])
    >>> tea = Elasticities.from_draws(["tea"], draws, probability=0.5, interval_kind="credible")
    >>> elasticity_frame("posterior", tea, 3.0).select("estimator", "name", "mean", "items").row(0)
    ('posterior', 'tea', -1.5, 1)
    """
    return pl.DataFrame(
        {
            "estimator": [estimator] * len(elasticities.name),
            "name": elasticities.name,
            "mean": elasticities.mean,
            "lower": elasticities.lower,
            "upper": elasticities.upper,
            "probability": [elasticities.probability] * len(elasticities.name),
            "interval_kind": [elasticities.interval_kind] * len(elasticities.name),
            "items": elasticities.n_items,
            "seconds": [seconds] * len(elasticities.name),
        },
        schema_overrides={"name": pl.String, "items": pl.Int64},
    ).with_columns(pl.col("mean").fill_nan(None))


def _direction(train: SalesRows, test: pl.DataFrame, predict_units: Callable[[pl.DataFrame], Floats]) -> float:
    """Directional accuracy over steps into the test rows, the first one from the unit's last training row."""
    keys = list(train.keys)
    last = train.frame.sort("period").group_by(keys, maintain_order=True).last()
    rows = pl.concat([last.select(test.columns), test]).sort([*keys, "period"])
    rows = rows.with_columns(expected=predict_units(rows))
    steps = rows.select(
        pl.col(name).cast(pl.Float64).diff().over(keys) for name in ("quantity", "expected", "price")
    ).drop_nulls()
    return directional_accuracy(*(steps[name].to_numpy() for name in ("quantity", "expected", "price")))
