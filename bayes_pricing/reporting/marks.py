"""How every chart of this package looks: colours that colour-blind readers can tell apart, quiet axes, plain data.

The colours are those of Okabe & Ito (2008), "Color Universal Design".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import polars as pl

from bayes_pricing.errors import SpecError

BLUE = "#0072B2"
ORANGE = "#E69F00"
VERMILLION = "#D55E00"
GREEN = "#009E73"
SKY = "#56B4E9"
PURPLE = "#CC79A7"
INK = "#1f2933"
GREY = "#6b7280"
PALE = "#d7dce2"
OTHERS = (ORANGE, GREEN, PURPLE, SKY, VERMILLION, GREY)
POSTERIOR = "this model"
FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif"


def require_columns(frame: pl.DataFrame, needed: Sequence[str], what: str) -> None:
    """Refuse a frame that a chart cannot be drawn from.

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> require_columns(pl.DataFrame({"price": [1.0]}), ["price"], "The profit curve")
    """
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise SpecError(f"{what} needs the columns {absent}; the frame has {frame.columns}.")
    if frame.height == 0:
        raise SpecError(f"{what} needs at least one row; the frame has none.")


def values(frame: pl.DataFrame, digits: int = 5) -> alt.InlineData:
    """Rows of a frame as the data of a chart: rounded to `digits` significant digits, nothing infinite.

    Examples
    --------
    >>> values(pl.DataFrame({"x": [1.2345678, float("inf")]})).to_dict()
    {'values': [{'x': 1.2346}, {'x': None}]}
    """
    floats = pl.selectors.float()
    clean = frame.with_columns(
        pl.when(floats.is_finite()).then(floats.round_sig_figs(digits)).otherwise(None).name.keep()
    )
    return alt.InlineData(values=clean.to_dicts())


def padded_range(numbers: Sequence[float | None], share: float = 0.05) -> list[float]:
    """Smallest and largest finite number, with some room on both sides.

    Examples
    --------
    >>> padded_range([0.0, 10.0, None, float("inf")])
    [-0.5, 10.5]
    """
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    room = share * (high - low) if high > low else 0.05 * max(abs(high), 1.0)
    return [low - room, high + room]


def quiet_axis(title: str | None, form: str = "", grid: bool = True, ticks: int = 6) -> alt.Axis:
    """Axis with a title and its unit, light grid, no frame.

    Examples
    --------
    >>> quiet_axis("Price (EUR per unit)").to_dict()["title"]
    'Price (EUR per unit)'
    """
    axis = alt.Axis(title=title, grid=grid, tickCount=ticks, domain=False, ticks=False)
    if form:
        axis["format"] = form
    return axis


FORMATS = {
    "share": ".1%",
    "probability": ".0%",
    "coverage": ".1%",
    "own_data_weight": ".0%",
    "price_change": "+.1%",
    "change": "+.1%",
}
TEXTS = ("label", "name", "item", "estimator", "action", "draws", "kind")


def tips(*fields: str) -> list[alt.Tooltip]:
    """What a reader sees on resting on a mark: each field with its name in words.

    Examples
    --------
    >>> [tip.to_dict()["title"] for tip in tips("item", "current_price")]
    ['item', 'current price']
    """
    return [
        alt.Tooltip(
            f"{field}:{'N' if field in TEXTS else 'Q'}",
            title=field.replace("_", " "),
            format=FORMATS.get(field, "" if field in TEXTS else ",.4~r"),
        )
        for field in fields
    ]


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """Charts drawn over each other on common axes, the first at the bottom.

    Examples
    --------
    >>> dots = alt.Chart(values(pl.DataFrame({"x": [1.0]}))).mark_point().encode(x="x:Q")
    >>> len(layered(dots, dots).to_dict()["layer"])
    2
    """
    return alt.LayerChart(layer=list(charts))


def styled(
    chart: alt.LayerChart, title: str, subtitle: str, description: str, height: int | alt.Step
) -> alt.LayerChart:
    """Give a finished chart its title, its spoken description and the common look; its width follows the page.

    Examples
    --------
    >>> bars = layered(alt.Chart(values(pl.DataFrame({"x": [1.0]}))).mark_bar().encode(x="x:Q"))
    >>> styled(bars, "Sales", "one bar", "A bar.", 80).to_dict()["width"]
    'container'
    """
    heading = alt.TitleParams(text=title, subtitle=subtitle) if title else alt.Undefined
    finished: alt.LayerChart = (
        chart.properties(
            width="container",
            height=height,
            description=description,
            title=heading,
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        )
        .configure(font=FONT, background="white", padding=4)
        .configure_view(stroke=None)
        .configure_axis(
            gridColor="#eceff2",
            labelColor=INK,
            titleColor=GREY,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=220,
            labelPadding=6,
            titlePadding=8,
        )
        .configure_legend(
            orient="top",
            title=None,
            labelFontSize=12,
            labelColor=INK,
            labelLimit=280,
            symbolSize=80,
            offset=6,
            columnPadding=16,
        )
        .configure_title(
            anchor="start",
            color=INK,
            fontSize=14,
            fontWeight=600,
            subtitleColor=GREY,
            subtitleFontSize=12,
            offset=10,
        )
    )
    return finished
