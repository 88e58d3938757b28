"""Columns the design builds itself: promotion, stocking up, season, trend, calendar, elasticity that changes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import polars as pl

from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.calendar import PeriodEffects, add_calendar
from bayes_pricing.demand.spec import PRICE_CURVE, PRICE_DRIFT, PRICE_FALL, PROMOTION, TREND, PriceCurveForm
from bayes_pricing.errors import Finding, Refusal, SpecError

DAYS_OF_YEAR = 365.25
STILL_SHARE = 0.02
"""Share of the within-item variance of log price below which the regular price, or the promotion, never moved."""
STEEPNESSES = (2.0, 4.0, 8.0, 16.0)
r"""Steepnesses :math:`s` of a saturating elasticity that come into question, per unit of log price.

Three quarters (:math:`\tanh 1`) of the way from the usual price's elasticity to a limit are gone at :math:`\pm 2/s` in
log price: at prices 172, 65, 28 and 13 % higher. Slower, no market's prices reach a limit and a quadratic says the
same; faster, it is a jump at the usual price. Between neighbours the curve hardly differs, so doubling is fine enough.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermRequest:
    """What the demand equation holds beside price and the named controls.

    Attributes
    ----------
    season : int
        Pairs of sine and cosine over the year, common to all items; 0 for none.
    season_length : float or None
        Periods of one cycle where periods are whole numbers; dates know the year.
    trend : bool
        A straight line in time, common to all items.
    stockpiling : bool
        Buyers stock up when the price falls: short-run and long-run elasticity apart.
    drift : bool
        The elasticity moves in a straight line from the first to the last period, each item's around its category's.
    curve : str
        How the elasticity changes with price: not (``constant``), in a straight line of log price (``quadratic``: log
        demand is that), or from one limit to another (``saturating``).
    months : bool
        Every month of the year has an effect of its own, common to all items.
    holidays : tuple of str
        ``NAME=2026-12-25`` or ``NAME=2026-12-20..2026-12-26``: an effect of the periods these days fall in, common to
        all items; one name may have days in several years.
    period_effects : str or None
        Every period has an effect of its own, common to ``all`` items or to those of one ``category``.

    Examples
    --------
    >>> TermRequest(season=2, season_length=52.0).season
    2
    """

    season: int = 0
    season_length: float | None = None
    trend: bool = False
    stockpiling: bool = False
    drift: bool = False
    curve: PriceCurveForm = "constant"
    months: bool = False
    holidays: tuple[str, ...] = ()
    period_effects: PeriodEffects | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.season <= 6:
            raise SpecError(f"--season is {self.season}; give 1 to 6 pairs of sine and cosine, or 0 for none.")
        if self.season_length is not None and not 2.0 * self.season < self.season_length < math.inf:
            raise SpecError(
                f"--season-length is {self.season_length}; {self.season} pairs need a cycle of more than "
                f"{2 * self.season} periods."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Terms:
    """Rows with the columns that were built.

    Attributes
    ----------
    frame : LazyFrame
    controls, shared_controls : tuple of str
        Their names: with an effect that may differ by item, and with one for all.
    findings : tuple of Finding
    """

    frame: pl.LazyFrame
    controls: tuple[str, ...]
    shared_controls: tuple[str, ...]
    findings: tuple[Finding, ...]


def add_terms(frame: pl.LazyFrame, roles: ColumnRoles, request: TermRequest, *, category: str | None = None) -> Terms:
    r"""Build the columns asked for, and that of promotions where there is a list price or a discount.

    `category` is the column of the category whose periods may have effects of their own.

    ``promotion`` is :math:`\log(\text{list price} / \text{price})`: its effect is what a price cut that is announced as
    one adds to the same cut of the regular price. ``price_fall`` is :math:`\log p_{t-1} - \log p_t`: its effect is what
    buyers take early, so that the effect of log price itself is the long-run elasticity. A saturating ``price_curve``
    has the least of the :data:`STEEPNESSES`, until the design has chosen among them.

    Parameters
    ----------
    frame : LazyFrame
        A panel's rows, ``item`` being the leaf.
    roles : ColumnRoles
        Of those rows.
    request : TermRequest

    Raises
    ------
    Refusal
        If a term needs periods and there are none, or a season of unknown length was asked for.
    SpecError
        If a named control already has the name of a term.

    Examples
    --------
    >>> rows = pl.LazyFrame({"item": ["tea"] * 3, "period": [1, 2, 3], "price": [2.0, 1.0, 2.0], "quantity": [5, 9, 4]})
    >>> roles = ColumnRoles(item="item", price="price", quantity="quantity", period="period")
    >>> add_terms(rows, roles, TermRequest(stockpiling=True)).frame.collect()["price_fall"].round(3).to_list()
    [0.0, 0.693, -0.693]
    """
    calendar = request.months or bool(request.holidays) or request.period_effects is not None
    timed = request.season > 0 or request.trend or request.stockpiling or request.drift or calendar
    if timed and roles.period is None:
        raise Refusal([_no_period()])
    shared: dict[str, pl.Expr] = {}
    findings: list[Finding] = []
    if request.season or request.trend:
        dated = frame.collect_schema()["period"] == pl.Date
        cycle, finding = _cycle(frame, request, dated=dated)
        findings += finding
        shared = _clock(request, cycle)
    if calendar:
        shared |= add_calendar(
            frame, months=request.months, holidays=request.holidays, periods=request.period_effects, category=category
        )
    controls: dict[str, pl.Expr] = {}
    if roles.list_price is not None or roles.discount is not None:
        promotion, finding = _promotion(frame, roles)
        controls, findings = controls | promotion, [*findings, *finding]
    if request.stockpiling:
        log_price = pl.col("price").log()
        before = log_price.shift(1).over("item", order_by="period")
        controls[PRICE_FALL] = (before - log_price).fill_null(0.0)
    away = pl.col("price").log() - pl.col("price").log().mean().over("item")
    if request.drift:
        controls[PRICE_DRIFT] = away * _time(frame)
    if request.curve != "constant":
        controls[PRICE_CURVE] = price_curve_column(away, STEEPNESSES[0] if request.curve == "saturating" else 0.0)
    taken = sorted({*controls, *shared} & {*roles.controls, *roles.shared_controls})
    if taken:
        raise SpecError(f"Control {taken[0]!r} has the name of a column that the model builds; rename it.")
    return Terms(
        frame=frame.with_columns(**controls, **shared),
        controls=tuple(controls),
        shared_controls=tuple(shared),
        findings=tuple(findings),
    )


def price_curve_column(away: pl.Expr, steepness: float) -> pl.Expr:
    r"""What multiplies the coefficient of the price's curve, of log price less its reference (`away`, :math:`x`).

    .. math:: \frac{2}{s} \log \cosh \frac{s x}{2}, \qquad \text{or } x^2 \text{ where } s = 0

    Examples
    --------
    >>> rows = pl.DataFrame({"x": [-0.5, 0.0, 0.5]})
    >>> rows.select(price_curve_column(pl.col("x"), 8.0))["x"].round(4).to_list()
    [0.3313, 0.0, 0.3313]
    """
    if not steepness:
        return away**2
    size = away.abs() * (0.5 * steepness)
    return (size + (-2.0 * size).exp().log1p() - math.log(2.0)) * (2.0 / steepness)


def _cycle(frame: pl.LazyFrame, request: TermRequest, *, dated: bool) -> tuple[float, tuple[Finding, ...]]:
    """Length of a cycle in the period's own unit (days for dates), and what to say of it."""
    first, last = (
        frame.select(
            pl.col("period").min().alias("first").to_physical(), pl.col("period").max().alias("last").to_physical()
        )
        .collect(engine="streaming")
        .row(0)
    )
    cycle = DAYS_OF_YEAR if dated else request.season_length
    if cycle is None:
        if request.season:
            raise Refusal([_no_length()])
        cycle = 1.0
    short = request.season > 0 and last - first < cycle
    return cycle, (_short_season(),) if short else ()


def _time(frame: pl.LazyFrame) -> pl.Expr:
    """Time from -1 in the first period to 0 in the last."""
    first, last = frame.select(
        pl.col("period").min().to_physical().alias("first"), pl.col("period").max().to_physical().alias("last")
    ).collect(engine="streaming").row(0)  # fmt: skip
    if not last > first:
        raise Refusal([_one_period()])
    return (pl.col("period").to_physical().cast(pl.Float64) - float(last)) / float(last - first)


def _clock(request: TermRequest, cycle: float) -> dict[str, pl.Expr]:
    """Season and trend as functions of the period."""
    time = pl.col("period").to_physical().cast(pl.Float64) / cycle
    found: dict[str, pl.Expr] = {}
    for harmonic in range(1, request.season + 1):
        angle = 2.0 * math.pi * harmonic * time
        found |= {f"season_sin_{harmonic}": angle.sin(), f"season_cos_{harmonic}": angle.cos()}
    if request.trend:
        found[TREND] = time - time.min()
    return found


def _promotion(frame: pl.LazyFrame, roles: ColumnRoles) -> tuple[dict[str, pl.Expr], tuple[Finding, ...]]:
    """Depth of the promotion, where both it and the regular price move."""
    price = pl.col("price").log()
    if roles.list_price is not None:
        depth = (pl.col("list_price").log() - price).fill_null(0.0)
    else:
        share = pl.col("discount").fill_null(0.0)
        largest, smallest = frame.select(largest=share.max(), smallest=share.min()).collect(engine="streaming").row(0)
        if not (largest < 1.0 and smallest >= 0.0):
            return {}, (_no_share(roles, float(largest)),)
        depth = -(1.0 - share).log()
    spread = frame.group_by("item").agg(
        weight=pl.len() - 1,
        price=price.var().fill_null(0.0),
        depth=depth.var().fill_null(0.0),
        regular=(price + depth).var().fill_null(0.0),
    )
    weight = pl.col("weight")
    pooled = spread.select((pl.col(name) * weight).sum() for name in ("price", "depth", "regular"))
    total, depths, regular = pooled.collect(engine="streaming").row(0)
    if not depths > STILL_SHARE * total:
        return {}, (_never_promoted(),)
    if not regular > STILL_SHARE * total:
        return {}, (_only_promoted(),)
    return {PROMOTION: depth}, ()


def _no_period() -> Finding:
    return Finding(
        code="terms_without_period",
        severity="error",
        message="season, trend, drift, stocking up and the calendar need to know when the sales were",
        remedy="name the period's column with --period",
    )


def _one_period() -> Finding:
    return Finding(
        code="drift_in_one_period",
        severity="error",
        message="all sales are of one period, so nothing can drift",
        remedy="leave --drift out, or give sales of more periods",
    )


def _no_length() -> Finding:
    return Finding(
        code="season_without_length",
        severity="error",
        message="periods are whole numbers, so nobody knows how many make a year",
        remedy="say it with --season-length (52 for weeks, 12 for months), or give dates",
    )


def _short_season() -> Finding:
    return Finding(
        code="season_shorter_than_cycle",
        severity="warning",
        message="the sales span less than one cycle of the season, so season and trend look alike",
        remedy="read the season's effects with care, or leave --season out",
    )


def _no_share(roles: ColumnRoles, largest: float) -> Finding:
    return Finding(
        code="discount_not_modelled",
        severity="warning",
        message=f"{roles.discount!r} is no share of the price in [0, 1) (largest {largest:g}), so promotion stays out "
        "of the model",
        remedy="give the discount as a share (0.2 for 20 %), or the regular price with --list-price",
    )


def _never_promoted() -> Finding:
    return Finding(
        code="promotion_never_moves",
        severity="info",
        message="the promotion hardly moves inside items, so it has no effect in the model",
        remedy="none needed: the elasticity is that of the price paid",
    )


def _only_promoted() -> Finding:
    return Finding(
        code="regular_price_never_moves",
        severity="warning",
        message="prices moved through promotions almost only, so the elasticity is that of promotions",
        remedy="a lasting change of the regular price may move demand less: test it before relying on it",
    )
