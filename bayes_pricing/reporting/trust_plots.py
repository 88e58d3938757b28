"""Charts of trust: are the predictions calibrated, do intervals hold what they promise, who scores best."""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from bayes_pricing.errors import SpecError
from bayes_pricing.reporting.formats import plain
from bayes_pricing.reporting.marks import (
    BLUE,
    GREY,
    INK,
    OTHERS,
    POSTERIOR,
    VERMILLION,
    layered,
    quiet_axis,
    require_columns,
    styled,
    tips,
    values,
)
from bayes_pricing.reporting.scoring import SCORES, mean_scores


def pit_histogram(pit: ArrayLike, bins: int = 20) -> alt.LayerChart:
    """Calibration of predictions: where sales fell in their own predictive distribution.

    Calibrated predictions give a flat histogram. A hump says the intervals are too wide, a valley too narrow, a slope
    that predictions lean to one side. The band holds 98 % of the bars of a calibrated model, each taken alone.

    Parameters
    ----------
    pit : array (rows,)
        Probability integral transforms in [0, 1], randomised for counts.
    bins : int

    Raises
    ------
    SpecError
        If there is no value, or one lies outside [0, 1].

    References
    ----------
    Gneiting, Balabdaoui & Raftery (2007), "Probabilistic forecasts, calibration and sharpness", JRSS B 69(2).

    Examples
    --------
    >>> pit_histogram(np.linspace(0.0, 1.0, 400)).to_dict()["title"]["text"]
    'Are the predictions calibrated?'
    """
    shares, low, high, n = pit_bars(pit, bins)
    edges = np.linspace(0.0, 1.0, bins + 1)
    bars = pl.DataFrame({"start": edges[:-1], "end": edges[1:], "share": shares}).with_columns(
        pl.col("share").is_between(low, high).alias("inside")
    )
    x_axis = quiet_axis("Predicted probability of selling at most what was sold", "%")
    colour = alt.Color("inside:N", scale=alt.Scale(domain=[True, False], range=[BLUE, VERMILLION]), legend=None)
    drawn = (
        alt.Chart(values(bars))
        .mark_bar(opacity=0.75, binSpacing=1)
        .encode(
            x=alt.X("start:Q", bin="binned", axis=x_axis, scale=alt.Scale(domain=[0, 1])),
            x2="end:Q",
            y=alt.Y("share:Q", axis=quiet_axis("Share of sales rows", "%", ticks=4)),
            color=colour,
            tooltip=tips("share"),
        )
    )
    band = alt.Chart(values(pl.DataFrame({"low": [low], "high": [high]}))).mark_rect(color=INK, opacity=0.12)
    outside = int((~bars["inside"]).sum())
    return styled(
        layered(drawn, band.encode(y="low:Q", y2="high:Q")),
        "Are the predictions calibrated?",
        f"{n:,} rows; flat is right; {outside} of {bins} bars leave the 98 % band",
        f"Histogram of {n} probability integral transforms in {bins} bars; {outside} outside the 98 % band.",
        220,
    )


def pit_bars(pit: ArrayLike, bins: int = 20) -> tuple[NDArray[np.float64], float, float, int]:
    """Share of rows per bar, the band's lower and upper share, and the number of rows.

    Raises
    ------
    SpecError
        If there is no value, or one lies outside [0, 1].

    Examples
    --------
    >>> shares, low, high, rows = pit_bars(np.linspace(0.0, 1.0, 1001), bins=10)
    >>> bool(np.all((shares > low) & (shares < high))), rows
    (True, 1001)
    """
    known = np.asarray(pit, dtype=float).ravel()
    if not (known.size and bool(np.all((known >= 0) & (known <= 1)))):
        raise SpecError("A PIT histogram needs values in [0, 1]; unknown values are not calibration.")
    counts = np.histogram(known, bins=np.linspace(0.0, 1.0, bins + 1))[0]
    low, high = (float(stats.binom.ppf(end, known.size, 1.0 / bins)) / known.size for end in (0.01, 0.99))
    return counts / known.size, low, high, int(known.size)


def coverage_plot(scores: pl.DataFrame) -> alt.LayerChart:
    """How often intervals of predicted units held what was sold, against how often they promised to.

    Parameters
    ----------
    scores : DataFrame
        Columns ``estimator`` and ``coverage_50, coverage_80, coverage_95`` of
        :func:`bayes_pricing.baselines.evaluation.evaluate`, averaged over its origins.

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> seen = pl.DataFrame({"estimator": ["this model"], "coverage_50": [0.49], "coverage_80": [0.81],
    ...                      "coverage_95": [0.94]})
    >>> coverage_plot(seen).to_dict()["title"]["subtitle"]
    'on the line intervals are honest; below it too narrow'
    """
    coverage = coverage_rows(scores)
    names = coverage["estimator"].unique(maintain_order=True).to_list()
    names.sort(key=lambda name: name != POSTERIOR)
    domain = alt.Scale(domain=[0, 1])
    x = alt.X("probability:Q", scale=domain, axis=quiet_axis("Promised by the interval", "%"))
    y = alt.Y("coverage:Q", scale=domain, axis=quiet_axis("Share of sales inside", "%"))
    colour = alt.Color("estimator:N", scale=alt.Scale(domain=names, range=[BLUE, *OTHERS]))
    seen = alt.Chart(values(coverage)).encode(
        x=x, y=y, color=colour, tooltip=tips("estimator", "probability", "coverage")
    )
    ideal = alt.Chart(values(pl.DataFrame({"probability": [0.0, 1.0], "coverage": [0.0, 1.0]})))
    return styled(
        layered(
            ideal.mark_line(color=GREY, strokeDash=[3, 3], strokeWidth=1).encode(x=x, y=y),
            seen.mark_line(strokeWidth=2),
            seen.mark_point(filled=True, size=60, opacity=1),
        ),
        "Do intervals hold what they promise?",
        "on the line intervals are honest; below it too narrow",
        f"Coverage seen against coverage promised for {', '.join(names)}.",
        260,
    )


def coverage_rows(scores: pl.DataFrame) -> pl.DataFrame:
    """Mean coverage over the origins: ``estimator, probability`` (promised) and ``coverage`` (seen), in [0, 1].

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> seen = pl.DataFrame({"estimator": ["a"], "coverage_50": [0.49], "coverage_80": [0.81], "coverage_95": [0.94]})
    >>> coverage_rows(seen).rows()
    [('a', 0.5, 0.49), ('a', 0.8, 0.81), ('a', 0.95, 0.94)]
    """
    promised = {"coverage_50": 0.5, "coverage_80": 0.8, "coverage_95": 0.95}
    require_columns(scores, ["estimator", *promised], "The coverage plot")
    means = scores.group_by("estimator", maintain_order=True).agg(pl.col(name).mean() for name in promised)
    long = means.unpivot(index="estimator", variable_name="probability", value_name="coverage")
    order = pl.col("estimator").replace_strict({name: place for place, name in enumerate(means["estimator"])})
    return long.with_columns(pl.col("probability").replace_strict(promised)).sort(order, "probability")


def score_plot(scores: pl.DataFrame, score: str) -> alt.LayerChart:
    """One score of every estimator, best first, with its value written beside the mark.

    Parameters
    ----------
    scores : DataFrame
        Columns ``estimator`` and `score`, as :func:`bayes_pricing.baselines.evaluation.evaluate` gives them; scores of
        several origins are averaged. The estimator ``this model`` has its own colour.
    score : str
        Which score to draw; one of :data:`bayes_pricing.reporting.scoring.SCORES`.

    Raises
    ------
    SpecError
        If the score is unknown, or no estimator has it.

    Examples
    --------
    >>> scores = pl.DataFrame({"estimator": ["linear", "this model"], "wape": [0.3, 0.2]})
    >>> score_plot(scores, "wape").to_dict()["title"]["subtitle"]
    'lower is better; best: this model'
    """
    if score not in SCORES:
        raise SpecError(f"There is no score {score!r}; choose one of {', '.join(SCORES)}.")
    require_columns(scores, ["estimator", score], f"The plot of the score {score!r}")
    meaning = SCORES[score]
    rows = mean_scores(scores.select("estimator", score))
    require_columns(rows, [score], f"The plot of the score {score!r}")
    rows = (
        rows.drop_nulls()
        .sort((pl.col(score) - meaning.best).abs())
        .select(
            "estimator",
            pl.col(score).alias("value"),
            pl.col(score).map_elements(plain, return_dtype=pl.String).alias("text"),
        )
    )
    order = rows["estimator"].to_list()
    colour = alt.condition(
        alt.FieldEqualPredicate(field="estimator", equal=POSTERIOR), alt.value(BLUE), alt.value(GREY)
    )
    ends = [0.0, *rows["value"]]
    span = max(ends) - min(ends)
    domain = [min(ends) - (0.18 * span if min(ends) < 0 else 0.0), max(ends) + 0.18 * span]
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("estimator:N", sort=order, axis=quiet_axis(None, grid=False)),
        x=alt.X("value:Q", axis=quiet_axis(meaning.heading, ticks=4), scale=alt.Scale(domain=domain, nice=False)),
    )
    return styled(
        layered(
            base.mark_bar(height=3, cornerRadius=1).encode(color=colour),
            base.mark_point(filled=True, size=80, opacity=1).encode(color=colour),
            base.mark_text(align="left", dx=9, fontSize=12, color=INK).encode(text="text:N"),
        ),
        meaning.label,
        f"{meaning.hint}; best: {order[0]}",
        f"{meaning.label} of {len(order)} estimators, best first.",
        alt.Step(26),
    )
