"""Plots of the study tables: a dot and an interval per row, written as plain SVG beside the table in the docs.

They are drawn by hand, since a chart of Altair becomes a picture only with a renderer that is no dependency here; a
page of the docs shows such a file as an image, without scripts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import polars as pl
from scipy import stats

from bayes_pricing.errors import SpecError
from bayes_pricing.reporting.marks import BLUE, FONT, GREEN, GREY, INK, ORANGE, PALE, VERMILLION, require_columns

ROW, HEADING, GAP, NUMBER, MARGIN = 20.0, 30.0, 28.0, 64.0, 12.0
"""Pixels: height of a row and of a group's heading, space between panels, room for a number, margin of the picture."""
PANEL_WIDTH = 300.0
CHARACTER = 6.9
"""Usual width of a letter in pixels at 12 px."""
COLOURS = {"strategy": ORANGE, "baseline": GREEN, "posterior": BLUE, "oracle": INK, "fixed": GREY}
OTHER_COLOUR = VERMILLION


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One column of dots: a number per row, with an interval where there is one.

    Attributes
    ----------
    title : str
    value, lower, upper : sequence of float or None
        One per row; a row without a value says so, one without ends has a dot only.
    percent : bool
        Whether numbers are shares to be written in per cent.
    reference : float, optional
        Where a dashed line is drawn.

    Examples
    --------
    >>> Panel(title="coverage", value=[0.88], lower=[None], upper=[None], percent=True, reference=0.9).domain
    (0.0, 0.9)
    """

    title: str
    value: Sequence[float | None]
    lower: Sequence[float | None]
    upper: Sequence[float | None]
    percent: bool = False
    reference: float | None = None

    @property
    def domain(self) -> tuple[float, float]:
        """From 0, or the smallest number if it is negative, to the largest finite one."""
        numbers = [*self.value, *self.lower, *self.upper, self.reference, 0.0]
        finite = [number for number in numbers if number is not None and math.isfinite(number)]
        low, high = min(finite), max(finite)
        return low, high if high > low else low + 1.0

    def word(self, number: float) -> str:
        """A number as the plot writes it.

        Examples
        --------
        >>> Panel(title="", value=[], lower=[], upper=[], percent=True).word(0.123)
        '12.3 %'
        """
        return f"{100 * number:.1f} %" if self.percent else f"{number:,.3g}"


def regret_intervals(table: pl.DataFrame, probability: float = 0.95) -> pl.DataFrame:
    """Mean share of the best profit that each policy loses, with a Student-t interval over markets.

    Parameters
    ----------
    table : DataFrame
        One row per market and policy, with ``policy, kind, regret_share``, as a back-test returns it.
    probability : float in (0, 1)

    Returns
    -------
    DataFrame
        `policy`, `kind`, `regret_share`, `lower`, `upper` (no ends where there is one market), the least first: what
        :func:`write_policy_plot` draws.

    Examples
    --------
    >>> table = pl.DataFrame({"policy": ["a"] * 2, "kind": ["strategy"] * 2, "regret_share": [0.1, 0.2]})
    >>> regret_intervals(table).select(pl.col(pl.Float64).round(3)).row(0)
    (0.15, -0.485, 0.785)
    """
    require_columns(table, ["policy", "kind", "regret_share"], "The policy plot")
    quantile = (1 + probability) / 2
    share = pl.col("regret_share")
    summary = table.group_by("policy", "kind", maintain_order=True).agg(
        share.mean(), share.std().alias("sd"), share.count().alias("markets")
    )
    freedom = np.maximum(summary["markets"].to_numpy() - 1, 1)
    half = pl.Series("half", stats.t.ppf(quantile, freedom)) * summary["sd"] / summary["markets"].sqrt()
    return (
        summary.with_columns(half.alias("half"))
        .with_columns(lower=share - pl.col("half"), upper=share + pl.col("half"))
        .select("policy", "kind", "regret_share", "lower", "upper")
        .sort("regret_share", maintain_order=True)
    )


def write_policy_plot(summary: pl.DataFrame, path: Path, title: str = "Regret by policy") -> Path:
    """Draw what each policy loses of the best profit, with its interval, coloured by kind.

    Parameters
    ----------
    summary : DataFrame
        `policy`, `kind`, `regret_share` and, where known, `lower` and `upper` of it: :func:`regret_intervals` of a
        back-test's rows gives them.
    path : Path
        SVG file; its folder is made if absent.
    title : str

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> import tempfile
    >>> summary = pl.DataFrame({"policy": ["oracle", "cost plus"], "kind": ["oracle", "strategy"],
    ...                         "regret_share": [0.0, 0.12], "lower": [0.0, 0.1], "upper": [0.0, 0.14]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = write_policy_plot(summary, Path(folder) / "policies.svg").read_text(encoding="utf-8")
    >>> text.count("<circle"), "12.0 %" in text
    (2, True)
    """
    require_columns(summary, ["policy", "kind", "regret_share"], "The policy plot")
    panel = Panel(
        title="regret, share of the oracle's profit",
        value=summary["regret_share"].to_list(),
        lower=_column(summary, "lower"),
        upper=_column(summary, "upper"),
        percent=True,
    )
    kinds = summary["kind"].to_list()
    legend = [(kind, COLOURS.get(kind, OTHER_COLOUR)) for kind in dict.fromkeys(kinds)]
    return _write(
        path,
        draw_rows(
            [("", summary["policy"].to_list())],
            [COLOURS.get(kind, OTHER_COLOUR) for kind in kinds],
            [panel],
            title=title,
            legend=legend,
        ),
    )


def write_estimator_plot(
    summary: pl.DataFrame, path: Path, title: str = "Elasticity error and coverage by estimator"
) -> Path:
    """Draw elasticity error, coverage of 90 % intervals and regret of each estimator, a group of rows per market.

    Parameters
    ----------
    summary : DataFrame
        `market`, `scenario`, `estimator`, `elasticity_error`, `coverage` and `regret` (a share), null where an
        estimator refused; where they are there, `error_lower`, `error_upper`, `regret_lower` and `regret_upper` are
        drawn as intervals.
    path : Path
        SVG file; its folder is made if absent.
    title : str

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.

    Examples
    --------
    >>> import tempfile
    >>> summary = pl.DataFrame({"market": ["retail"] * 2, "scenario": ["base"] * 2, "estimator": ["posterior", "gam"],
    ...                         "elasticity_error": [0.2, None], "coverage": [0.9, None], "regret": [0.01, None]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     text = write_estimator_plot(summary, Path(folder) / "estimators.svg").read_text(encoding="utf-8")
    >>> text.count("<circle"), text.count(">refused<")
    (3, 1)
    """
    needed = ["market", "scenario", "estimator", "elasticity_error", "coverage", "regret"]
    require_columns(summary, needed, "The estimator plot")
    parts = summary.partition_by("market", "scenario", maintain_order=True)
    rows = pl.concat([part.sort("regret", nulls_last=True, maintain_order=True) for part in parts])
    groups = [
        (f"{part['market'][0]}, {part['scenario'][0]}", list(names))
        for part in rows.partition_by("market", "scenario", maintain_order=True)
        for names in [[str(name).replace("_", " ") for name in part["estimator"]]]
    ]
    panels = [
        _panel(rows, "elasticity error", "elasticity_error", "error"),
        _panel(rows, "coverage of 90 % intervals", "coverage", "coverage", percent=True, reference=0.9),
        _panel(rows, "regret", "regret", "regret", percent=True),
    ]
    colours = [BLUE if name == "posterior" else GREY for name in rows["estimator"]]
    return _write(
        path, draw_rows(groups, colours, panels, title=title, legend=[("posterior", BLUE), ("baseline", GREY)])
    )


def _panel(
    rows: pl.DataFrame, title: str, column: str, ends: str, percent: bool = False, reference: float | None = None
) -> Panel:
    return Panel(
        title=title,
        value=rows[column].to_list(),
        lower=_column(rows, f"{ends}_lower"),
        upper=_column(rows, f"{ends}_upper"),
        percent=percent,
        reference=reference,
    )


def _column(frame: pl.DataFrame, name: str) -> list[float | None]:
    return frame[name].to_list() if name in frame.columns else [None] * frame.height


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def draw_rows(
    groups: Sequence[tuple[str, Sequence[str]]],
    colours: Sequence[str],
    panels: Sequence[Panel],
    *,
    title: str,
    legend: Sequence[tuple[str, str]] = (),
) -> str:
    """SVG text of named rows with a dot and an interval in every panel.

    Parameters
    ----------
    groups : sequence of (heading, labels)
        Rows from the top down; an empty heading takes no room.
    colours : sequence of str
        One per row.
    panels : sequence of Panel
        From left to right, one value per row.
    title : str
    legend : sequence of (word, colour)

    Raises
    ------
    SpecError
        If colours or panels do not have one entry per row.

    Examples
    --------
    >>> panel = Panel(title="regret", value=[1.0], lower=[0.5], upper=[1.5])
    >>> draw_rows([("", ["a"])], [BLUE], [panel], title="Regret").startswith("<svg")
    True
    """
    labels = [label for _heading, names in groups for label in names]
    lengths = {len(labels), len(colours), *(len(ends) for p in panels for ends in (p.value, p.lower, p.upper))}
    if len(lengths) != 1 or not labels:
        raise SpecError(
            f"A plot of {len(labels)} rows got columns of lengths {sorted(lengths)}; give one entry per row."
        )
    left = MARGIN + CHARACTER * max(len(text) for text in [*labels, *(heading for heading, _names in groups)]) + 8
    width = left + len(panels) * (PANEL_WIDTH + NUMBER + GAP) + MARGIN
    parts = [_text(MARGIN, 26, title, size=15, weight=600)]
    at = MARGIN
    for word, colour in legend:
        parts += [_square(at, 39, colour), _text(at + 14, 48, word, fill=GREY)]
        at += 30 + CHARACTER * len(word)
    top = 66.0 + 12
    middles: list[float] = []
    y = top
    for heading, names in groups:
        if heading:
            y += HEADING
            parts.append(_text(MARGIN, y - 8, heading, weight=600))
        for name in names:
            parts.append(_text(left - 8, y + 14, name, anchor="end"))
            middles.append(y + ROW / 2)
            y += ROW
    for place, panel in enumerate(panels):
        start = left + place * (PANEL_WIDTH + NUMBER + GAP)
        parts += _draw_panel(panel, start, top, y, middles, colours, "refused" if place == 0 else "–")
    height = y + 34
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{escape(FONT, {chr(34): "&quot;"})}" font-size="12">'
    )
    background = f"<title>{escape(title)}</title>\n" + '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"


def _draw_panel(
    panel: Panel,
    left: float,
    top: float,
    bottom: float,
    middles: Sequence[float],
    colours: Sequence[str],
    absent: str,
) -> list[str]:
    """Grid, title, reference line, then a line, a dot and a number per row; a word where there is no number."""
    low, high = panel.domain

    def x(number: float) -> float:
        return left + PANEL_WIDTH * (number - low) / (high - low)

    parts = [_text(left, 66, panel.title, fill=GREY)]
    for tick in _ticks(low, high):
        parts += [_line(x(tick), top, x(tick), bottom, PALE, 1)]
        parts += [_text(x(tick), bottom + 16, panel.word(tick), anchor="middle", fill=GREY)]
    if panel.reference is not None:
        parts.append(_line(x(panel.reference), top, x(panel.reference), bottom, GREY, 1, dash=True))
    for value, lower, upper, y, colour in zip(panel.value, panel.lower, panel.upper, middles, colours, strict=True):
        if value is None or not math.isfinite(value):
            parts.append(_text(left + 4, y + 4, absent, fill=GREY))
            continue
        if lower is not None and upper is not None and math.isfinite(lower) and math.isfinite(upper):
            parts.append(_line(x(lower), y, x(upper), y, colour, 2.5))
        parts += [_circle(x(value), y, colour), _text(left + PANEL_WIDTH + 12, y + 4, panel.word(value))]
    return parts


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers in a range, at most `most` steps apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _text(
    x: float, y: float, text: str, anchor: str = "start", fill: str = INK, size: int = 12, weight: int = 400
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )


def _circle(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'


def _square(x: float, y: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="10" height="10" fill="{colour}"/>'


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, width: float, dash: bool = False) -> str:
    style = ' stroke-dasharray="3 3"' if dash else ""
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{style}/>'
    )
