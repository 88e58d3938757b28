"""Charts of decisions: the profit curve of one item, the odds of the whole portfolio, and which items move where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from bayes_pricing.errors import SpecError
from bayes_pricing.pricing.constraints import Limit
from bayes_pricing.pricing.decision import ItemDecision, PriceDecision
from bayes_pricing.pricing.frontier import FrontierPoint
from bayes_pricing.pricing.limit_words import limit_phrase
from bayes_pricing.reporting.content import PriceCurve
from bayes_pricing.reporting.formats import interval, percent, price, signed
from bayes_pricing.reporting.marks import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    VERMILLION,
    layered,
    padded_range,
    quiet_axis,
    require_columns,
    styled,
    tips,
    values,
)
from bayes_pricing.reporting.plots import BINS, MOST_POINTS

Floats = NDArray[np.float64]
ACTIONS = {"change": BLUE, "hold": GREY, "test_first": ORANGE, "refused": INK}
ACTION_WORDS = {"change": "change", "hold": "hold", "test_first": "test first", "refused": "refused"}


def profit_curve_plot(curve: PriceCurve) -> alt.LayerChart:
    """Expected profit of one item at every price, with its band, today's price and the recommended one.

    The prices seen in the data are shaded; outside them the curve is extrapolation.

    Examples
    --------
    >>> points = pl.DataFrame({"price": [9.0, 10.0, 11.0], "mean": [50.0, 55.0, 53.0], "lower": [40.0, 45.0, 40.0],
    ...                        "upper": [60.0, 65.0, 66.0]})
    >>> curve = PriceCurve(points=points, current_price=9.0, recommended_price=10.0,
    ...                    lowest_price=8.5, highest_price=11.5)
    >>> profit_curve_plot(curve).to_dict()["title"]["text"]
    'Profit at every price'
    """
    points, outcome = curve.points.sort("price"), curve.outcome.capitalize()
    ends = [*points["price"], curve.current_price, curve.recommended_price]
    domain = [min(ends), max(ends)]
    x = alt.X("price:Q", scale=alt.Scale(domain=domain, nice=False), axis=quiet_axis(f"Price ({curve.price_unit})"))
    y_scale = alt.Scale(domain=padded_range([*points["lower"], *points["upper"]], share=0.15), nice=False)
    y_axis = quiet_axis(f"{outcome} ({curve.unit})", ticks=5)
    seen = pl.DataFrame({"from": [max(curve.lowest_price, domain[0])], "to": [min(curve.highest_price, domain[1])]})
    ground = alt.Chart(values(seen)).mark_rect(color=PALE, opacity=0.4)
    base = alt.Chart(values(points)).encode(x=x)
    return styled(
        layered(
            ground.encode(x=alt.X("from:Q", scale=alt.Scale(domain=domain, nice=False)), x2="to:Q"),
            base.mark_area(color=BLUE, opacity=0.2).encode(
                y=alt.Y("lower:Q", scale=y_scale, axis=y_axis), y2="upper:Q"
            ),
            base.mark_line(color=BLUE, strokeWidth=2.5).encode(
                y=alt.Y("mean:Q", scale=y_scale), tooltip=tips("price", "mean", "lower", "upper")
            ),
            *_price_marks(curve.current_price, curve.recommended_price, domain),
        ),
        f"{outcome} at every price",
        f"line: mean, band: {percent(curve.probability)} interval, grey ground: prices seen in the data",
        f"{outcome} against price; today {price(curve.current_price)}, recommended {price(curve.recommended_price)}.",
        280,
    )


LABEL_ROOM = 0.24
"""Share of a chart's width that the label of a price needs."""


def _price_marks(current: float, recommended: float, domain: list[float]) -> list[alt.Chart]:
    """Lines at both prices; the lower one's label on its left, the other's on its right, where there is room."""
    scale = alt.Scale(domain=domain, nice=False)
    places = [(current, f"today {price(current)}", GREY), (recommended, f"recommended {price(recommended)}", GREEN)]
    if current == recommended:
        places = [(current, f"today and recommended {price(current)}", GREEN)]
    marks = []
    for row, (at, text, colour) in enumerate(places):
        here = alt.Chart(values(pl.DataFrame({"price": [at], "text": [text]}), digits=9))
        x = alt.X("price:Q", scale=scale)
        share = (at - domain[0]) / (domain[1] - domain[0])
        right: bool = at == max(current, recommended)
        if not LABEL_ROOM < share < 1.0 - LABEL_ROOM:
            right = share < 0.5
        marks.append(
            here.mark_rule(color=colour, strokeWidth=2, strokeDash=[5, 3] if colour == GREY else [1, 0]).encode(x=x)
        )
        words = here.mark_text(
            align="left" if right else "right",
            dx=6 if right else -6,
            dy=2 + 16 * row,
            baseline="top",
            color=colour,
            fontWeight=600,
            fontSize=12,
        )
        marks.append(words.encode(x=x, y=alt.value(0), text="text:N"))
    return marks


def portfolio_change_plot(decision: PriceDecision, period: str = "period") -> alt.LayerChart:
    """Distribution of the whole portfolio's change of the objective against today's prices, losses in another colour.

    Parameters
    ----------
    decision : PriceDecision
    period : str
        What a period is called, e.g. ``week``.

    Raises
    ------
    SpecError
        If a draw is not finite.
    """
    outcome, unit = decision.objective, outcome_unit(decision, period)
    draws = objective_draws(decision)
    bins = change_bins(draws)
    summary = decision.portfolio.changes[outcome]
    low, high, mean, loses = summary.lower, summary.upper, summary.mean, float((draws < 0).mean())
    top = 1.15 * max(bins["share"])
    side = alt.Color(
        "side:N",
        scale=alt.Scale(domain=["worse than today", "better than today"], range=[VERMILLION, BLUE]),
        legend=alt.Legend(),
    )
    bars = (
        alt.Chart(values(bins))
        .mark_bar(opacity=0.8, binSpacing=1)
        .encode(
            x=alt.X("start:Q", bin="binned", axis=quiet_axis(f"Change of {outcome} ({unit})")),
            x2="end:Q",
            y=alt.Y("share:Q", axis=quiet_axis("Share of draws", "%", ticks=4), scale=alt.Scale(domain=[0, top])),
            color=side,
            tooltip=tips("start", "end", "share"),
        )
    )
    middle = alt.Chart(values(pl.DataFrame({"low": [low], "high": [high], "mean": [mean]})))
    zero = alt.Chart(values(pl.DataFrame({"at": [0.0]}))).mark_rule(color=INK, strokeWidth=1.5)
    return styled(
        layered(
            bars,
            zero.encode(x="at:Q"),
            middle.mark_rule(color=INK, strokeWidth=3).encode(x="low:Q", x2="high:Q", y=alt.value(6)),
            middle.mark_point(filled=True, color=INK, size=90, opacity=1).encode(x="mean:Q", y=alt.value(6)),
        ),
        f"Change of {outcome} of the whole portfolio",
        f"mean {signed(mean)} {interval(low, high)} {unit}; loses in {percent(loses)} of draws",
        f"Distribution of the change of {outcome}; mean {signed(mean)} {unit}, a loss in {percent(loses)} of draws.",
        240,
    )


def frontier_plot(points: Sequence[FrontierPoint], decision: PriceDecision, period: str = "period") -> alt.LayerChart:
    """Expected gain against expected shortfall: how much gain each degree of safety leaves, and where this decision is.

    Parameters
    ----------
    points : sequence of FrontierPoint
        At least one.
    decision : PriceDecision
    period : str

    Raises
    ------
    SpecError
        If there is no point.
    """
    if not points:
        raise SpecError("A frontier needs at least one point; ask `efficient_frontier` for two or more.")
    outcome, unit = decision.objective, outcome_unit(decision, period)
    frame = pl.DataFrame(
        {
            "shortfall": [point.expected_shortfall for point in points],
            "gain": [point.objective for point in points],
            "changes": [point.changes for point in points],
        }
    )
    here = decision.portfolio.expected_shortfall
    mine = pl.DataFrame({"shortfall": [here], "gain": [decision.portfolio.objective], "text": ["this decision"]})
    mine = mine.filter(pl.col("shortfall").is_not_null())
    spread_x = padded_range([*frame["shortfall"], *mine["shortfall"]], share=0.12)
    spread_y = padded_range([*frame["gain"], *mine["gain"], 0.0], share=0.12)
    x = alt.X(
        "shortfall:Q",
        scale=alt.Scale(domain=spread_x, nice=False),
        axis=quiet_axis(f"Expected shortfall ({unit}; a loss is positive)"),
    )
    y_axis = quiet_axis(f"Expected change of {outcome} ({unit})", ticks=5)
    y = alt.Y("gain:Q", scale=alt.Scale(domain=spread_y, nice=False), axis=y_axis)
    base = alt.Chart(values(frame)).encode(x=x, y=y)
    marked = alt.Chart(values(mine)).encode(x=x, y=y)
    return styled(
        layered(
            base.mark_line(color=BLUE, strokeWidth=2.5),
            base.mark_point(color=BLUE, filled=True, size=60, opacity=1).encode(
                tooltip=tips("shortfall", "gain", "changes")
            ),
            marked.mark_point(color=GREEN, filled=True, size=130, opacity=1, shape="diamond"),
            marked.mark_text(color=GREEN, dy=18, fontWeight=600, fontSize=12).encode(text="text:N"),
        ),
        "Gain against risk",
        f"each point: the prices with the highest expected {outcome} for their risk",
        f"Expected change of {outcome} against expected shortfall for {len(points)} limits on the shortfall.",
        280,
    )


def objective_draws(decision: PriceDecision) -> Floats:
    """Draws of the portfolio's change of the objective per period, all chains together, for reducing only."""
    draws = decision.portfolio.change_draws.sel(metric=decision.objective).transpose("chain", "draw")
    return draws.to_numpy().astype(float).ravel()


def outcome_unit(decision: PriceDecision, period: str, outcome: str | None = None) -> str:
    """Unit of an outcome (the objective unless named) per period: units or money."""
    if (outcome or decision.objective) == "units":
        return f"units per {period}"
    return f"{decision.economics.currency or 'currency'} per {period}"


def decision_frame(decision: PriceDecision) -> pl.DataFrame:
    """One row per item of a decision, for charts and tables.

    Returns
    -------
    DataFrame
        Columns ``item, action, current_price, recommended_price`` (today's where none is recommended), ``move``
        (relative change of price; of the test price where a test comes first),
        ``{revenue,profit,units}_{mean,lower,upper}``,
        ``probability, probability_better, expected_regret, binding`` and ``reason`` (texts or null), ``test_price,
        test_periods, value_of_testing``.
    """
    limits = {limit.name: limit for limit in decision.limits}
    return pl.DataFrame([_item_row(item, limits) for item in decision.items], schema=DECISION_SCHEMA)


OUTCOMES = ("revenue", "profit", "units")
DECISION_SCHEMA: dict[str, type[pl.DataType]] = {
    "item": pl.String,
    "action": pl.String,
    "current_price": pl.Float64,
    "recommended_price": pl.Float64,
    "move": pl.Float64,
    **{f"{outcome}_{part}": pl.Float64 for outcome in OUTCOMES for part in ("mean", "lower", "upper")},
    "probability": pl.Float64,
    "probability_better": pl.Float64,
    "expected_regret": pl.Float64,
    "binding": pl.String,
    "reason": pl.String,
    "test_price": pl.Float64,
    "test_periods": pl.Int64,
    "value_of_testing": pl.Float64,
}


def _item_row(item: ItemDecision, limits: Mapping[str, Limit]) -> dict[str, object]:
    row: dict[str, object] = {
        name: getattr(item, name)
        for name in (
            "item",
            "action",
            "current_price",
            "probability_better",
            "expected_regret",
            "test_price",
            "test_periods",
            "value_of_testing",
        )
    }
    considered = item.test_price if item.action == "test_first" and item.test_price is not None else item.price
    row |= {"recommended_price": item.price, "move": considered / item.current_price - 1.0}
    estimates = {"revenue": item.revenue, "profit": item.profit, "units": item.units}
    for outcome, estimate in estimates.items():
        for part in ("mean", "lower", "upper"):
            row[f"{outcome}_{part}"] = None if estimate is None else getattr(estimate, part)
        if estimate is not None:
            row["probability"] = estimate.probability
    held = [limit_phrase(limits[name], item.item) if name in limits else name for name in item.binding]
    row["binding"] = ", ".join(words.removeprefix("the ") for words in held) or None
    row["reason"] = item.findings[0].message if item.findings else None
    return row


def change_bins(change: ArrayLike) -> pl.DataFrame:
    """Histogram of changes with an edge at zero: ``start, end, share, side``.

    Draws further out than half the width of the middle 99 % are added to the end bars.

    Raises
    ------
    SpecError
        If there is no draw or one is not finite.

    Examples
    --------
    >>> change_bins([-1.0, 1.0, 2.0, 3.0])["share"].sum()
    1.0
    """
    draws = np.asarray(change, dtype=float).ravel()
    if not (draws.size and bool(np.isfinite(draws).all())):
        raise SpecError("The portfolio plot needs finite draws of the change; unknown is not zero.")
    near, far = np.quantile(draws, [0.005, 0.995])
    width = max((far - near) / BINS, 1e-9 * max(1.0, abs(far)))
    low, high = max(draws.min(), 1.5 * near - 0.5 * far), min(draws.max(), 1.5 * far - 0.5 * near)
    edges = width * np.arange(np.floor(low / width), np.ceil(high / width) + 1.5)
    shares = np.histogram(np.clip(draws, edges[0], edges[-1]), bins=edges)[0] / draws.size
    return pl.DataFrame({"start": edges[:-1], "end": edges[1:], "share": shares}).with_columns(
        pl.when(pl.col("end") <= width / 2)
        .then(pl.lit("worse than today"))
        .otherwise(pl.lit("better than today"))
        .alias("side")
    )


def decision_overview_plot(decision: PriceDecision, elasticities: pl.DataFrame) -> alt.LayerChart:
    """Change of price against elasticity, one point per item, coloured by what is to be done.

    Items to be tested first stand at the price to be tested. Of more than 2,000 items every n-th is drawn.

    Parameters
    ----------
    decision : PriceDecision
    elasticities : DataFrame
        As :func:`bayes_pricing.demand.elasticity.elasticity_table` gives them.

    Raises
    ------
    SpecError
        If a column is absent or there are no rows.
    """
    require_columns(elasticities, ["level", "name", "mean", "lower", "upper"], "The overview")
    items = with_elasticity(decision_frame(decision), elasticities)
    stride = -(-items.height // MOST_POINTS)
    counts = dict(items.group_by("action").len().iter_rows())
    present = [action for action in ACTIONS if counts.get(action)]
    words = [ACTION_WORDS[action] for action in present]
    shown = items.gather_every(stride).select(
        "item",
        pl.col("action").replace(ACTION_WORDS),
        "elasticity",
        pl.col("move").alias("price_change"),
        "current_price",
        "recommended_price",
    )
    points = alt.Chart(values(shown)).mark_point(filled=True, size=45, opacity=0.55 if items.height > 100 else 0.85)
    spread = padded_range([*shown["price_change"], 0.0], share=0.1)
    scatter = points.encode(
        x=alt.X(
            "elasticity:Q",
            scale=alt.Scale(zero=False, nice=False, padding=8),
            axis=quiet_axis("Own-price elasticity of the item (posterior mean)"),
        ),
        y=alt.Y(
            "price_change:Q",
            scale=alt.Scale(domain=spread, nice=False),
            axis=quiet_axis("Change of price", "+%"),
        ),
        color=alt.Color("action:N", scale=alt.Scale(domain=words, range=[ACTIONS[action] for action in present])),
        shape=alt.Shape("action:N", scale=alt.Scale(domain=words, range=["circle", "square", "triangle-up", "cross"])),
        tooltip=tips("item", "action", "current_price", "recommended_price", "elasticity"),
    )
    zero = alt.Chart(values(pl.DataFrame({"at": [0.0]}))).mark_rule(color=GREY, strokeWidth=1)
    every = "" if stride == 1 else f"; 1 in {stride} drawn"
    return styled(
        layered(zero.encode(y="at:Q"), scatter),
        "Which items move, and why",
        ", ".join(f"{counts[action]:,} {ACTION_WORDS[action]}" for action in present) + every,
        f"Recommended change of price against elasticity for {items.height} items.",
        320,
    )


def with_elasticity(items: pl.DataFrame, elasticities: pl.DataFrame) -> pl.DataFrame:
    """Items with ``elasticity, elasticity_lower, elasticity_upper`` of their own row of the elasticity table.

    Examples
    --------
    >>> table = pl.DataFrame({"level": ["item"], "name": ["a"], "mean": [-2.0], "lower": [-3.0], "upper": [-1.0]})
    >>> with_elasticity(pl.DataFrame({"item": ["a"]}), table).row(0)
    ('a', -2.0, -3.0, -1.0)
    """
    known = elasticities.filter(pl.col("level") == "item").select(
        pl.col("name").alias("item"),
        pl.col("mean").alias("elasticity"),
        pl.col("lower").alias("elasticity_lower"),
        pl.col("upper").alias("elasticity_upper"),
    )
    return items.drop("elasticity", strict=False).join(known, on="item", how="left", maintain_order="left")
