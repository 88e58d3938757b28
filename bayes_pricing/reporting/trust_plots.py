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


def coverage_plot(coverage: pl.DataFrame) -> alt.LayerChart:
    """How often intervals held what they should, against how often they promised to.

    Parameters
    ----------
    coverage : DataFrame
        Columns ``estimator, probability`` (promised) and ``coverage`` (seen), both in [0, 1].

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> seen = pl.DataFrame({"estimator": ["this model"] * 2, "probability": [0.5, 0.9], "coverage": [0.48, 0.91]})
    >>> coverage_plot(seen).to_dict()["title"]["subtitle"]
    'on the line intervals are honest; below it too narrow'
    """
    require_columns(coverage, ["estimator", "probability", "coverage"], "The coverage plot")
    names = coverage["estimator"].unique(maintain_order=True).to_list()
    names.sort(key=lambda name: name != POSTERIOR)
    domain = alt.Scale(domain=[0, 1])
    x = alt.X("probability:Q", scale=domain, axis=quiet_axis("Promised by the interval", "%"))
    y = alt.Y("coverage:Q", scale=domain, axis=quiet_axis("Seen", "%"))
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


def score_plot(scores: pl.DataFrame, score: str, unit: str = "") -> alt.LayerChart:
    """One score of every estimator, best first, with its value written beside the mark.

    Parameters
    ----------
    scores : DataFrame
        Columns ``estimator, score, value, lower_is_better``; rows of other scores are ignored.
    score : str
        Which score to draw.
    unit : str
        Unit of the score for the axis title.

    Raises
    ------
    SpecError
        If a column is absent or no row has this score.

    Examples
    --------
    >>> scores = pl.DataFrame({"estimator": ["this model", "linear"], "score": ["WAPE"] * 2, "value": [0.2, 0.3],
    ...                        "lower_is_better": [True, True]})
    >>> score_plot(scores, "WAPE").to_dict()["title"]["subtitle"]
    'lower is better; best: this model'
    """
    require_columns(scores, ["estimator", "score", "value", "lower_is_better"], "The score plot")
    rows = scores.filter((pl.col("score") == score) & pl.col("value").is_finite())
    require_columns(rows, ["value"], f"The plot of the score {score!r}")
    low_wins = bool(rows["lower_is_better"][0])
    rows = rows.sort("value", descending=not low_wins).select(
        "estimator", "value", pl.col("value").map_elements(plain, return_dtype=pl.String).alias("text")
    )
    order = rows["estimator"].to_list()
    colour = alt.condition(
        alt.FieldEqualPredicate(field="estimator", equal=POSTERIOR), alt.value(BLUE), alt.value(GREY)
    )
    base = alt.Chart(values(rows)).encode(
        y=alt.Y("estimator:N", sort=order, axis=quiet_axis(None, grid=False)),
        x=alt.X(
            "value:Q",
            axis=quiet_axis(f"{score} ({unit})" if unit else score, ticks=4),
            scale=alt.Scale(domainMin=min(0.0, *rows["value"])),
        ),
    )
    return styled(
        layered(
            base.mark_bar(height=3, cornerRadius=1).encode(color=colour),
            base.mark_point(filled=True, size=80, opacity=1).encode(color=colour),
            base.mark_text(align="left", dx=9, fontSize=12, color=INK).encode(text="text:N"),
        ),
        score,
        f"{'lower' if low_wins else 'higher'} is better; best: {order[0]}",
        f"{score} of {len(order)} estimators, best first.",
        alt.Step(26),
    )
