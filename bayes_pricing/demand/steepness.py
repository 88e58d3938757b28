"""How steep a saturating elasticity is: the value of a small grid at which the sales are most likely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from bayes_pricing.data.gram import Gram, gather_gram
from bayes_pricing.demand.spec import PRICE_CURVE, DemandSpec
from bayes_pricing.demand.terms import STEEPNESSES, price_curve_column
from bayes_pricing.errors import Finding

CLEAR = 2.0
"""Difference of log likelihoods (odds of 7 to 1) from which the sales are said to tell two steepnesses apart."""


def compare_steepness(rows: pl.LazyFrame, items: pl.DataFrame, spec: DemandSpec) -> dict[float, float]:
    r"""Log likelihood of the sales at every steepness that comes into question, all coefficients integrated out.

    .. math:: \ell(s) = \max_\theta \; \log p(y \mid \theta, s) + \log p(\theta)

    with :math:`\theta` the variance components and noise sds, periods as if they were independent. One pass over the
    rows sums up the products of all candidate columns.

    Parameters
    ----------
    rows : LazyFrame
        With ``item``, ``log_price``, ``log_units`` and the columns of the spec but for ``price_curve``.
    items : DataFrame
        With a column for every level of the spec.
    spec : DemandSpec
        Log-normal, ``price_curve`` among its controls.

    Returns
    -------
    dict of float to float
        By steepness, up to a constant.
    """
    from bayes_pricing.demand.tree_marginal import MarginalLikelihood

    away = pl.col("log_price") - pl.col("log_price").mean().over("item")
    names = {steepness: f"{PRICE_CURVE}:{steepness:g}" for steepness in STEEPNESSES}
    others = [name for name in spec.columns if name not in ("level", PRICE_CURVE)]
    wide = gather_gram(
        rows.with_columns(price_curve_column(away, one).alias(name) for one, name in names.items()),
        "item",
        "log_units",
        [*others, *names.values()],
        centred=spec.centred,
    )
    grams = {one: _with_one(wide, name, spec) for one, name in names.items()}
    likelihood = MarginalLikelihood.of(grams[STEEPNESSES[0]], items, spec)
    return {one: likelihood.largest(gram) for one, gram in grams.items()}


def _with_one(wide: Gram, name: str, spec: DemandSpec) -> Gram:
    """The statistics with one of the candidates as the price's curve."""
    kept = [wide.columns.index(name if column == PRICE_CURVE else column) for column in spec.columns]
    return replace(
        wide,
        columns=spec.columns,
        xtx=wide.xtx[:, kept][:, :, kept],
        xty=wide.xty[:, kept],
        centre=wide.centre[:, kept],
    )


def steepness_findings(log_likelihood: Mapping[float, float]) -> tuple[Finding, ...]:
    """What is to be known of the most likely steepness: that it is taken as known, and where it is doubtful.

    Examples
    --------
    >>> [finding.code for finding in steepness_findings({2.0: -9.0, 4.0: -1.0, 8.0: 0.0, 16.0: -7.0})]
    ['price_curve_steepness', 'price_curve_steepness_unclear']
    """
    chosen = max(log_likelihood, key=log_likelihood.__getitem__)
    best = log_likelihood[chosen]
    close = [one for one, value in log_likelihood.items() if one != chosen and best - value < CLEAR]
    found = [_chosen(chosen, list(log_likelihood))]
    if close:
        found.append(_unclear(chosen, close))
    if chosen == min(log_likelihood):
        found.append(_slowest(chosen))
    if chosen == max(log_likelihood):
        found.append(_fastest(chosen))
    return tuple(found)


def _chosen(steepness: float, among: list[float]) -> Finding:
    below, above = -math.expm1(-2.0 / steepness), math.expm1(2.0 / steepness)
    return Finding(
        code="price_curve_steepness",
        severity="info",
        message=f"the elasticity saturates with steepness {steepness:g}, the most likely of "
        f"{', '.join(f'{one:g}' for one in among)}: it goes three quarters of the way to its limits by {below:.0%} "
        f"under and {above:.0%} over the usual price",
        remedy="none needed; it is taken as known, so its own uncertainty is not in the intervals",
    )


def _unclear(steepness: float, close: list[float]) -> Finding:
    return Finding(
        code="price_curve_steepness_unclear",
        severity="warning",
        message=f"the sales hardly tell a steepness of {steepness:g} from {', '.join(f'{one:g}' for one in close)}, so "
        "elasticities far from the usual price are less sure than their intervals say",
        remedy="stay near the prices seen, or learn more of prices far apart",
    )


def _slowest(steepness: float) -> Finding:
    return Finding(
        code="price_curve_limits_unseen",
        severity="warning",
        message=f"the least steepness in question, {steepness:g}, is the most likely: the prices seen hardly reach "
        "where the elasticity would stop changing",
        remedy="--price-curve quadratic says the same inside the prices seen; beyond them neither is to be relied on",
    )


def _fastest(steepness: float) -> Finding:
    return Finding(
        code="price_curve_jump",
        severity="warning",
        message=f"the largest steepness in question, {steepness:g}, is the most likely: the elasticity may rather jump "
        "at the usual price",
        remedy="look for what happens there (a promotion, a price ending, a rival's price) and name it as a control",
    )
