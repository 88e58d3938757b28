"""What the posterior says of price: elasticities per item, level and population, and the spread between units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.demand.posterior import DemandPosterior
from bayes_pricing.demand.spec import PRICE_DRIFT, PRICE_FALL, PROMOTION
from bayes_pricing.errors import SpecError

PROBABILITY = 0.9
ITEMS_AT_ONCE = 1000
PRIOR_ONLY_WEIGHT = 1e-6


def summarize(draws: NDArray[np.float64], probability: float = PROBABILITY) -> dict[str, NDArray[np.float64]]:
    """Mean, sd and equal-tailed credible interval of draws.

    Parameters
    ----------
    draws : array (draws, n)
    probability : float in (0, 1)
        Share of the posterior inside the interval.

    Returns
    -------
    dict
        ``mean, sd, lower, upper``, each an array (n,), in the unit of the draws.

    Examples
    --------
    >>> summary = summarize(np.arange(101.0)[:, None])
    >>> float(summary["mean"][0]), float(summary["lower"][0]), float(summary["upper"][0])
    (50.0, 5.0, 95.0)
    """
    tail = round((1.0 - probability) / 2.0, 12)
    lower, upper = np.quantile(draws, [tail, 1.0 - tail], axis=0)
    return {"mean": draws.mean(axis=0), "sd": draws.std(axis=0, ddof=1), "lower": lower, "upper": upper}


def elasticity_table(posterior: DemandPosterior, probability: float = PROBABILITY) -> pl.DataFrame:
    """Own-price elasticities at every level, the population first and the items last.

    Rows above ``item`` are means of their level's distribution, not averages of the items sold.

    Parameters
    ----------
    posterior : DemandPosterior
    probability : float in (0, 1)
        Share of the posterior inside ``lower`` to ``upper``.

    Returns
    -------
    DataFrame
        Columns ``level, name, mean, sd, lower, upper, probability, probability_elastic`` (that demand falls by more
        than one per cent when price rises by one), ``own_data_weight`` (in [0, 1]; null above the item) and
        ``prior_only`` (true where the item's own price variation says nothing).
    """
    rows: list[pl.DataFrame] = [
        _summary_frame("population", ["population"], _flat(posterior, "population"), probability)
    ]
    for level in reversed(posterior.spec.levels):
        coefficients = posterior.coefficients(level)
        names = [str(name) for name in coefficients[level].to_numpy()]
        rows.append(_summary_frame(level, names, _flat_array(coefficients), probability))
    weights = posterior.own_data_weight().to_numpy()
    names = posterior.items["item"].to_list()
    for chunk in _chunks(names):
        draws = _flat_array(posterior.coefficients("item", chunk))
        rows.append(_summary_frame("item", chunk, draws, probability))
    table = pl.concat(rows)
    above = table.height - len(names)
    weight = pl.Series("own_data_weight", [None] * above + weights.tolist(), dtype=pl.Float64)
    return table.with_columns(weight, (weight < PRIOR_ONLY_WEIGHT).fill_null(value=False).alias("prior_only"))


def short_run_elasticity(posterior: DemandPosterior, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
    r"""Elasticity in the period of a price change, buyers stocking up included, dims (chain, draw, <level>).

    .. math:: \varepsilon_{short} = \varepsilon - \lambda

    with :math:`\varepsilon` the (long-run) own-price elasticity of the model and :math:`\lambda` the effect of
    ``price_fall``; larger in size than in the long run where buyers stock up.

    Raises
    ------
    SpecError
        If the model was fitted without stocking up.
    """
    return _response(posterior, PRICE_FALL, level, units)


def promotion_elasticity(posterior: DemandPosterior, level: str, units: Sequence[str] | None = None) -> xr.DataArray:
    r"""Elasticity of a price cut announced as a promotion, dims (chain, draw, <level>).

    .. math:: \varepsilon_{promotion} = \varepsilon - \delta

    with :math:`\varepsilon` the elasticity of the regular price and :math:`\delta` the effect of ``promotion``.

    Raises
    ------
    SpecError
        If the model has no promotion.
    """
    return _response(posterior, PROMOTION, level, units)


def response_table(posterior: DemandPosterior, probability: float = PROBABILITY) -> pl.DataFrame:
    """Short-run and promotion elasticities above the items, and those of the first period, where the model has them.

    Returns
    -------
    DataFrame
        Columns ``response`` (``short_run``, ``promotion`` or, where it drifts, ``first_period``), ``level, name, mean,
        sd, lower, upper, probability, probability_elastic``.
    """
    frames = []
    for name, column in (("short_run", PRICE_FALL), ("promotion", PROMOTION), ("first_period", PRICE_DRIFT)):
        if column not in posterior.spec.controls:
            continue
        for level in ("population", *reversed(posterior.spec.levels)):
            draws = _response(posterior, column, level, None)
            units = ["population"] if level == "population" else [str(unit) for unit in draws[level].to_numpy()]
            frame = _summary_frame(level, units, _pooled(draws), probability)
            frames.append(frame.select(pl.lit(name).alias("response"), pl.all()))
    if frames:
        return pl.concat(frames)
    return _summary_frame("", [], np.empty((2, 0)), probability).select(pl.lit("").alias("response"), pl.all())


def _response(posterior: DemandPosterior, column: str, level: str, units: Sequence[str] | None) -> xr.DataArray:
    if column not in posterior.spec.controls:
        raise SpecError(f"The model has no effect of {column!r}; it has {', '.join(posterior.spec.coefficients)}.")
    draws = posterior.coefficients(level, units)
    return draws.sel(coefficient="log_price", drop=True) - draws.sel(coefficient=column, drop=True)


def attribute_table(posterior: DemandPosterior, probability: float = PROBABILITY) -> pl.DataFrame:
    """What the items' attributes explain: by how much one unit of each moves the elasticity, and log units.

    Returns
    -------
    DataFrame
        Columns ``attribute``, ``of`` (``elasticity`` or ``log_units``), ``mean, sd, lower, upper, probability`` and
        ``probability_positive``; empty without attributes. One unit of a text's value is the difference from the
        commonest one.
    """
    names = posterior.spec.attributes
    draws = np.zeros((2, 0))
    if names:
        effects = posterior.hyper()["attribute_effect"].sel(explained=["log_price", "level"])
        draws = _pooled(effects.transpose("chain", "draw", "attribute", "explained"))
    summary = summarize(draws, probability)
    labels = {"attribute": [name for name in names for _ in range(2)], "of": ["elasticity", "log_units"] * len(names)}
    return pl.DataFrame(labels, schema=dict.fromkeys(labels, pl.String)).with_columns(
        *(pl.Series(name, summary[name]) for name in ("mean", "sd", "lower", "upper")),
        pl.lit(probability).alias("probability"),
        pl.Series("probability_positive", (draws > 0.0).mean(axis=0)),
    )


def cross_elasticity_table(posterior: DemandPosterior, probability: float = PROBABILITY) -> pl.DataFrame:
    """Cross-price elasticities of every pair of items of one category, with intervals; empty where there are none.

    Returns
    -------
    DataFrame
        Columns ``category, item, other, mean, sd, lower, upper, probability`` and ``probability_substitute`` (that
        demand for `item` rises with the price of `other`).
    """
    level = posterior.spec.cross_prices
    names = ["population"] if level == "population" else [] if level is None else posterior.items[level].unique().sort()
    frames = [_cross_frame(str(name), posterior.cross_elasticities(str(name)), probability) for name in names]
    kept = [frame for frame in frames if frame.height]
    return pl.concat(kept) if kept else _cross_frame("", None, probability)


def _cross_frame(category: str, matrix: xr.DataArray | None, probability: float) -> pl.DataFrame:
    items = [] if matrix is None else [str(name) for name in matrix["item"].to_numpy()]
    pairs = [(row, column) for row in range(len(items)) for column in range(len(items)) if row != column]
    draws = np.zeros((2, 0))
    if matrix is not None and pairs:
        at, other = np.array(pairs).T
        draws = matrix.transpose("chain", "draw", "item", "other").to_numpy()[:, :, at, other]
        draws = draws.reshape(-1, len(pairs))
    names = {"category": [category] * len(pairs), "item": [items[row] for row, _ in pairs]}
    names["other"] = [items[column] for _, column in pairs]
    summary = summarize(draws, probability)
    return pl.DataFrame(names, schema=dict.fromkeys(names, pl.String)).with_columns(
        *(pl.Series(name, summary[name]) for name in ("mean", "sd", "lower", "upper")),
        pl.lit(probability).alias("probability"),
        pl.Series("probability_substitute", (draws > 0.0).mean(axis=0)),
    )


def variation_table(posterior: DemandPosterior, probability: float = PROBABILITY) -> pl.DataFrame:
    """Between-unit standard deviations: how far units of a level differ around their parent.

    Returns
    -------
    DataFrame
        Columns ``level, coefficient, mean, lower, upper, probability``.
    """
    rows = []
    for level in ("item", *posterior.spec.levels):
        sds = posterior.variation(level)
        summary = summarize(_pooled(sds), probability)
        rows.append(
            pl.DataFrame(
                {"level": level, "coefficient": [str(name) for name in sds["coefficient"].to_numpy()]}
            ).with_columns(
                pl.Series("mean", summary["mean"]),
                pl.Series("lower", summary["lower"]),
                pl.Series("upper", summary["upper"]),
                pl.lit(probability).alias("probability"),
            )
        )
    return pl.concat(rows)


def control_table(posterior: DemandPosterior, probability: float = PROBABILITY) -> pl.DataFrame:
    """Effects of controls on log units at population level: item-level controls first, then the shared ones.

    Returns
    -------
    DataFrame
        Columns ``coefficient, shared, mean, sd, lower, upper, probability``.
    """
    population = posterior.coefficients("population")
    controls = list(posterior.spec.controls)
    frames = []
    if controls:
        frames.append(_control_rows(controls, _pooled(population.sel(coefficient=controls)), False, probability))
    shared = posterior.shared()
    if shared.sizes["control"]:
        frames.append(_control_rows(list(posterior.spec.shared_controls), _pooled(shared), True, probability))
    if not frames:
        return _control_rows([], np.empty((2, 0)), False, probability)
    return pl.concat(frames)


def _control_rows(names: list[str], draws: NDArray[np.float64], shared: bool, probability: float) -> pl.DataFrame:
    summary = summarize(draws, probability)
    return pl.DataFrame({"coefficient": pl.Series(names, dtype=pl.String)}).with_columns(
        pl.lit(shared).alias("shared"),
        *(pl.Series(name, summary[name]) for name in ("mean", "sd", "lower", "upper")),
        pl.lit(probability).alias("probability"),
    )


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), ITEMS_AT_ONCE):
        yield names[start : start + ITEMS_AT_ONCE]


def _pooled(draws: xr.DataArray) -> NDArray[np.float64]:
    """(chain, draw, n) as (chain x draw, n), for reducing only."""
    array = draws.transpose("chain", "draw", ...).to_numpy()
    return array.reshape(array.shape[0] * array.shape[1], -1).astype(float)


def _flat_array(coefficients: xr.DataArray) -> NDArray[np.float64]:
    return _pooled(coefficients.sel(coefficient="log_price"))


def _flat(posterior: DemandPosterior, level: str) -> NDArray[np.float64]:
    return _flat_array(posterior.coefficients(level))


def _summary_frame(level: str, names: list[str], draws: NDArray[np.float64], probability: float) -> pl.DataFrame:
    summary = summarize(draws, probability)
    return pl.DataFrame({"level": pl.Series([level] * len(names), dtype=pl.String), "name": names}).with_columns(
        *(pl.Series(name, summary[name]) for name in ("mean", "sd", "lower", "upper")),
        pl.lit(probability).alias("probability"),
        pl.Series("probability_elastic", (draws < -1.0).mean(axis=0)),
    )
