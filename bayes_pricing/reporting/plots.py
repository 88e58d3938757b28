"""Charts of demand: what price does to units, and how far items lean on their relatives.

Every function takes what the product hands out (tables of :mod:`bayes_pricing.demand.elasticity`, arrays of draws) and
returns an Altair chart, which a notebook shows and a report embeds. Charts of decisions stand in
:mod:`bayes_pricing.reporting.decision_plots`, those of calibration and of scores in
:mod:`bayes_pricing.reporting.trust_plots`.
"""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from bayes_pricing.errors import SpecError
from bayes_pricing.reporting.formats import percent
from bayes_pricing.reporting.marks import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    OTHERS,
    POSTERIOR,
    layered,
    padded_range,
    quiet_axis,
    require_columns,
    styled,
    tips,
    values,
)

MOST_UNITS = 60
MOST_POINTS = 2000
BINS = 40
ELASTICITY = "Own-price elasticity"


def elasticity_forest(
    table: pl.DataFrame, truth: pl.DataFrame | None = None, baselines: pl.DataFrame | None = None
) -> alt.LayerChart:
    """Elasticity of the population and of every level above the item, with intervals, sorted by value.

    Parameters
    ----------
    table : DataFrame
        Columns ``level, name, mean, lower, upper, probability`` of
        :func:`bayes_pricing.demand.elasticity.elasticity_table`; rows of level ``item`` are left out where there is
        a level between them and the population. At most 60 rows are drawn: the most and the least elastic.
    truth : DataFrame, optional
        Columns ``level, name, elasticity``: drawn as a dark tick.
    baselines : DataFrame, optional
        Columns ``estimator, level, name, mean, lower, upper``: drawn below the posterior in other colours.

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> table = pl.DataFrame({"level": ["population", "category"], "name": ["population", "tea"], "mean": [-2.0, -1.5],
    ...                       "lower": [-2.4, -2.1], "upper": [-1.6, -0.9], "probability": [0.9, 0.9]})
    >>> chart = elasticity_forest(table)
    >>> chart.to_dict()["title"]["text"]
    'Own-price elasticity'
    """
    require_columns(table, ["level", "name", "mean", "lower", "upper", "probability"], "The elasticity plot")
    rows = forest_rows(table)
    order = rows["label"].to_list()
    ours = rows.with_columns(pl.lit(POSTERIOR).alias("estimator"))
    if baselines is not None:
        require_columns(baselines, ["estimator", "level", "name", "mean", "lower", "upper"], "Baselines of the forest")
        theirs = baselines.join(rows.select("level", "name", "label"), on=["level", "name"], how="inner")
        ours = pl.concat([ours.select(FOREST_COLUMNS), theirs.select(FOREST_COLUMNS)])
    marks = None
    if truth is not None:
        require_columns(truth, ["level", "name", "elasticity"], "The truth of the forest")
        marks = rows.join(truth, on=["level", "name"], how="inner")
    level = percent(float(rows["probability"][0]))
    known = ", dark ticks the true values" if marks is not None else ""
    return styled(
        _forest_layers(ours.select(FOREST_COLUMNS), marks, order),
        "Own-price elasticity",
        f"points: means, bars: {level} intervals{known}",
        f"Elasticities of {len(order)} groups, sorted by value, each with its {level} interval.",
        alt.Step(26 if baselines is None else 15 * ours["estimator"].n_unique() + 6, **{"for": "position"}),
    )


FOREST_COLUMNS = ["estimator", "label", "mean", "lower", "upper"]


def forest_rows(table: pl.DataFrame, most: int = MOST_UNITS) -> pl.DataFrame:
    """Rows of the forest plot in drawing order, each with its unique ``label``: population first, then by value.

    Of more than `most` rows, the most and the least elastic halves of that many are kept.

    Examples
    --------
    >>> table = pl.DataFrame({"level": ["population", "category", "category"], "name": ["population", "tea", "jam"],
    ...                       "mean": [-2.0, -1.5, -2.5]})
    >>> forest_rows(table)["label"].to_list()
    ['All items', 'jam', 'tea']
    """
    above = table.filter(pl.col("level") != "item")
    rows = above if above["level"].n_unique() > 1 else table
    depth = {level: place for place, level in enumerate(rows["level"].unique(maintain_order=True))}
    rows = rows.sort(pl.col("level").replace_strict(depth, return_dtype=pl.Int64), "mean")
    if rows.height > most:
        by_value = rows["mean"].rank("ordinal")
        ends = (by_value <= most // 2) | (by_value > rows.height - most // 2)
        rows = rows.filter(ends | (rows["level"] == "population"))
    repeated = pl.col("name").is_duplicated()
    label = (
        pl.when(pl.col("level") == "population")
        .then(pl.lit("All items"))
        .when(repeated)
        .then(pl.format("{} ({})", "name", "level"))
        .otherwise(pl.col("name"))
    )
    return rows.with_columns(label.alias("label"))


def _forest_layers(rows: pl.DataFrame, truth: pl.DataFrame | None, order: list[str]) -> alt.LayerChart:
    estimators = rows["estimator"].unique(maintain_order=True).to_list()
    colour = alt.Color(
        "estimator:N",
        scale=alt.Scale(domain=estimators, range=[BLUE, *OTHERS][: len(estimators)]),
        legend=alt.Legend() if len(estimators) > 1 else None,
    )
    known = [] if truth is None else truth["elasticity"].to_list()
    scale = alt.Scale(domain=_forest_domain(rows, [-1.0, *known]), nice=False)
    y = alt.Y("label:N", sort=order, axis=quiet_axis(None, grid=False), scale=alt.Scale(domain=order))
    x = alt.X("mean:Q", scale=scale, axis=quiet_axis(ELASTICITY))
    offset = alt.YOffset("estimator:N", sort=estimators, scale=alt.Scale(domain=estimators, paddingOuter=0.2))
    base = alt.Chart(values(rows)).encode(y=y, yOffset=offset, color=colour)
    layers: list[alt.Chart] = [
        _reference_line(-1.0, scale),
        base.mark_rule(strokeWidth=2.5, clip=True, strokeCap="round").encode(
            x=alt.X("lower:Q", scale=scale), x2="upper:Q"
        ),
        base.mark_point(filled=True, size=70, opacity=1, clip=True).encode(x=x, tooltip=tips(*FOREST_COLUMNS)),
    ]
    if truth is not None:
        ticks = alt.Chart(values(truth)).mark_tick(color=INK, thickness=2.5, height=12 * len(estimators) + 6, opacity=1)
        layers.append(ticks.encode(y=y, x=alt.X("elasticity:Q", scale=scale), tooltip=tips("label", "elasticity")))
    return layered(*layers)


def _forest_domain(rows: pl.DataFrame, also: list[float]) -> list[float]:
    """Room for every mean and for the posterior's intervals; far ends of wide baseline intervals are cut off."""
    ours = rows.filter(pl.col("estimator") == POSTERIOR)
    core = padded_range([*ours["lower"], *ours["upper"], *rows["mean"], *also])
    ends = [end for end in (*rows["lower"], *rows["upper"]) if end is not None]
    reach = 0.3 * (core[1] - core[0])
    return padded_range([min(max(end, core[0] - reach), core[1] + reach) for end in (*core, *ends)], share=0.0)


def _reference_line(at: float, scale: alt.Scale) -> alt.Chart:
    rule = alt.Chart(values(pl.DataFrame({"at": [at]}))).mark_rule(color=GREY, strokeDash=[3, 3], clip=True)
    line: alt.Chart = rule.encode(x=alt.X("at:Q", scale=scale))
    return line


def shrinkage_plot(table: pl.DataFrame) -> alt.LayerChart:
    """How much of each item's elasticity its own sales decide, against the elasticity itself.

    Items on the left lean on their category; items on the right speak for themselves. Of more than 2,000 items every
    n-th by weight is drawn.

    Parameters
    ----------
    table : DataFrame
        Rows of level ``item`` with ``name, mean, lower, upper, own_data_weight, prior_only``; other rows are ignored,
        except that the population's mean is drawn as a line.

    Raises
    ------
    SpecError
        If a column is absent or there is no item.

    Examples
    --------
    >>> table = pl.DataFrame({"level": ["item", "item"], "name": ["a", "b"], "mean": [-2.0, -1.5],
    ...                       "lower": [-2.4, -2.1], "upper": [-1.6, -0.9],
    ...                       "own_data_weight": [0.4, 0.0], "prior_only": [False, True]})
    >>> shrinkage_plot(table).to_dict()["title"]["subtitle"]
    '2 items; 1 whose price says nothing of its own'
    """
    needed = ["level", "name", "mean", "lower", "upper", "own_data_weight", "prior_only"]
    require_columns(table, needed, "The shrinkage plot")
    items = table.filter(pl.col("level") == "item").sort("own_data_weight", "name")
    require_columns(items, needed, "The shrinkage plot")
    silent = int(items["prior_only"].sum())
    stride = -(-items.height // MOST_POINTS)
    kind = pl.when("prior_only").then(pl.lit("leans on its category alone")).otherwise(pl.lit("has data of its own"))
    shown = items.gather_every(stride).select(*needed[1:-1], kind.alias("kind"))
    kinds = ["has data of its own", "leans on its category alone"]
    colour = alt.Color(
        "kind:N", scale=alt.Scale(domain=kinds, range=[BLUE, ORANGE]), legend=alt.Legend() if silent else None
    )
    scale = alt.Scale(domain=padded_range(shown["mean"].to_list()), nice=False)
    points = alt.Chart(values(shown)).mark_circle(opacity=0.5 if items.height > 100 else 0.85, size=40, clip=True)
    layers: list[alt.Chart] = [
        points.encode(
            x=alt.X("own_data_weight:Q", scale=alt.Scale(domain=[0, 1]), axis=quiet_axis(OWN_WEIGHT, "%")),
            y=alt.Y("mean:Q", scale=scale, axis=quiet_axis("Own-price elasticity of the item (posterior mean)")),
            color=colour,
            tooltip=tips("name", "mean", "lower", "upper", "own_data_weight"),
        )
    ]
    population = table.filter(pl.col("level") == "population")
    if population.height:
        layers.insert(
            0,
            alt.Chart(values(population.select("mean")))
            .mark_rule(color=GREY, strokeDash=[3, 3], clip=True)
            .encode(y=alt.Y("mean:Q", scale=scale)),
        )
    share = "" if stride == 1 else f", 1 in {stride} drawn"
    return styled(
        layered(*layers),
        "How far items lean on their category",
        f"{items.height:,} items{share}; {silent:,} whose price says nothing of its own",
        f"Own-data weight against posterior mean elasticity of {items.height} items.",
        300,
    )


OWN_WEIGHT = "Weight of the item's own sales in its elasticity"


def revenue_response_plot(revenue_change: Mapping[str, ArrayLike], price_change: float = 0.1) -> alt.LayerChart:
    r"""What a price rise does to revenue, as distributions: for example prior beside posterior.

    Under constant elasticity e revenue changes by

    .. math:: (1 + c)^{1 + e} - 1

    Parameters
    ----------
    revenue_change : mapping of name to array (draws,)
        Relative changes of revenue, e.g. ``{"before the data": ..., "after the data": ...}``. The plot shows the
        central 98 % of all draws.
    price_change : float
        The rise that the changes belong to, as a fraction.

    Raises
    ------
    SpecError
        If there is no distribution, or a draw is not finite.

    Examples
    --------
    >>> draws = 1.1 ** (1.0 + np.linspace(-3.0, -1.0, 50)) - 1.0
    >>> revenue_response_plot({"after the data": draws}).to_dict()["title"]["text"]
    'Revenue after a price rise of +10 %'
    """
    bins = response_bins(revenue_change)
    names = list(revenue_change)
    bars = alt.Chart(values(bins)).mark_bar(opacity=0.6, binSpacing=0)
    x = alt.X("start:Q", bin="binned", axis=quiet_axis("Change of revenue", "+%"))
    shares = bars.encode(
        x=x,
        x2="end:Q",
        y=alt.Y("share:Q", stack=None, axis=quiet_axis("Share of draws per bar", "%", ticks=4)),
        color=alt.Color(
            "draws:N",
            scale=alt.Scale(domain=names, range=[*OTHERS[: len(names) - 1], BLUE]),
        ),
        tooltip=tips("draws", "start", "end", "share"),
    )
    return styled(
        layered(shares, _reference_line(0.0, alt.Scale())),
        f"Revenue after a price rise of +{percent(price_change)}",
        "left of the line the rise loses revenue",
        f"Distributions of the revenue change after a price rise of {percent(price_change)}: {', '.join(names)}.",
        220,
    )


def response_bins(revenue_change: Mapping[str, ArrayLike]) -> pl.DataFrame:
    """Histogram of each distribution on common bins: ``draws, start, end, share`` (of its draws in the bin).

    Bins span the central 98 % of all draws; what lies outside is not drawn.

    Raises
    ------
    SpecError
        If there is no distribution, or a draw is not finite.

    Examples
    --------
    >>> bins = response_bins({"a": np.zeros(10), "b": np.full(10, 0.2)})
    >>> bins["draws"].unique().sort().to_list(), float(bins["share"].sum())
    (['a', 'b'], 2.0)
    """
    arrays = {name: np.asarray(draws, dtype=float).ravel() for name, draws in revenue_change.items()}
    if not arrays or not all(draws.size and np.isfinite(draws).all() for draws in arrays.values()):
        raise SpecError("The revenue plot needs at least one distribution, all its draws finite.")
    pooled = np.concatenate(list(arrays.values()))
    low, high = np.quantile(pooled, [0.01, 0.99])
    edges = np.linspace(low, high if high > low else low + 1e-3, BINS + 1)
    frames = [
        pl.DataFrame({"draws": name, "start": edges[:-1], "end": edges[1:]}).with_columns(
            pl.Series("share", np.histogram(draws, bins=edges)[0] / draws.size)
        )
        for name, draws in arrays.items()
    ]
    return pl.concat(frames)
