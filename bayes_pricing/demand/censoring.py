"""Weeks that ran out of stock: what was sold is the least that would have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats, gather_gram
from bayes_pricing.demand.gaussian_tree import TreeData, build_tree_data
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_lanes import Integers
from bayes_pricing.errors import Finding, SpecError

SOLD_OUT = "sold_out"
ZERO_AS = 0.5
TINY = 1e-300
LARGEST_COUNT = 500
"""Most units of a sold-out week under a count model: up to here 64 nodes give its probability."""
NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowData:
    """Rows of sales as row-wise models see them.

    Attributes
    ----------
    spec : DemandSpec
    tree : TreeData
        Items and their nesting; its Gram statistics set the scales of priors only.
    item : int array (rows,)
    predictors : array (rows, k + m + 2 a)
        ``level`` (ones), log price, item-level and shared controls, what `a` attributes add to level and elasticity;
        centred by item but where the specification keeps a column's zero.
    log_exposure, quantity : arrays (rows,)
    sold_out : bool array (rows,)
        Rows whose sales stopped when the stock did.
    """

    spec: DemandSpec
    tree: TreeData
    item: Integers
    predictors: Floats
    log_exposure: Floats
    quantity: Floats
    sold_out: NDArray[np.bool_]

    @property
    def log_units(self) -> Floats:
        """Log units per unit of exposure (rows,); rows without sales as if half a unit were sold."""
        return np.log(np.where(self.quantity > 0, self.quantity, ZERO_AS)) - self.log_exposure


@dataclass(frozen=True, slots=True, kw_only=True)
class Functions:
    """Functions of numpy arrays, or the same of PyTensor variables: formulas are written once for both."""

    log: Callable[..., Any]
    cos: Callable[..., Any]
    arctan: Callable[..., Any]
    maximum: Callable[..., Any]
    gammaln: Callable[..., Any]
    logsumexp: Callable[..., Any]


def log_at_least(count: Floats, mean: Any, size: Any, use: Functions) -> Any:
    r"""Log probability that a count is `count` or more, elementwise, by Gauss and Legendre's rule on 64 nodes.

    .. math:: P(N \ge n) = \frac{\mu^n}{\Gamma(n)} \int_0^1 s^{n-1} e^{-\mu s} ds
              \quad\text{or}\quad \frac{x^n}{B(n, \varphi)} \int_0^1 s^{n-1} (1 - x s)^{\varphi - 1} ds, \qquad
              x = \frac{\mu}{\mu + \varphi}

    Parameters
    ----------
    count : array (rows,)
        From 1 to 500.
    mean : array-like (rows,)
    size : array-like or None
        Size of the negative binomial; None for Poisson.
    use : Functions

    Examples
    --------
    >>> from scipy import special
    >>> use = Functions(log=np.log, cos=np.cos, arctan=np.arctan, maximum=np.maximum, gammaln=special.gammaln,
    ...                 logsumexp=special.logsumexp)
    >>> round(float(np.exp(log_at_least(np.array([3.0]), np.array([2.0]), None, use))[0]), 6)  # 1 - 5 / e^2
    0.323324
    """
    s, weight = 0.5 * (1.0 + NODES), np.log(0.5 * WEIGHTS)
    table = (count - 1.0)[:, None] * np.log(s) + weight
    if size is None:
        return count * use.log(mean) - use.gammaln(count) + use.logsumexp(table - mean[:, None] * s, axis=1)
    share = mean / (mean + size)
    constant = use.gammaln(count + size) - use.gammaln(count) - use.gammaln(size)
    inside = table + (size - 1.0) * use.log(1.0 - share[:, None] * s)
    return count * use.log(share) + constant + use.logsumexp(inside, axis=1)


def log_t_above(z: Any, degrees: Any, use: Functions) -> Any:
    r"""Log probability that a Student-t number exceeds `z`, elementwise, by the same rule over angles.

    .. math:: P(T > z) = \frac{\Gamma(\frac{\nu + 1}{2})}{\sqrt\pi \, \Gamma(\frac{\nu}{2})}
              \int_{\arctan(z / \sqrt\nu)}^{\pi/2} \cos^{\nu - 1}\theta \, d\theta

    Parameters
    ----------
    z : array-like (rows,)
    degrees : scalar
    use : Functions
        As in :func:`log_at_least`.

    Examples
    --------
    >>> from scipy import special
    >>> use = Functions(log=np.log, cos=np.cos, arctan=np.arctan, maximum=np.maximum, gammaln=special.gammaln,
    ...                 logsumexp=special.logsumexp)
    >>> round(float(np.exp(log_t_above(np.array([1.0]), 1.0, use))[0]), 6)  # Cauchy
    0.25
    """
    start = use.arctan(z / degrees**0.5)
    half = 0.5 * (0.5 * np.pi - start)
    angle = start[:, None] + half[:, None] * (1.0 + NODES)
    inside = (degrees - 1.0) * use.log(use.maximum(use.cos(angle), TINY)) + np.log(WEIGHTS)
    constant = use.gammaln(0.5 * (degrees + 1.0)) - use.gammaln(0.5 * degrees) - 0.5 * np.log(np.pi)
    return constant + use.log(half) + use.logsumexp(inside, axis=1)


def sold_out_rows(frame: pl.LazyFrame) -> pl.Expr | None:
    """Which rows of a panel ran out: its flag, or sales that reached the stock; None where neither column is there."""
    names = frame.collect_schema().names()
    if SOLD_OUT in names:
        return pl.col(SOLD_OUT).cast(pl.Float64).fill_null(0.0) > 0
    return (pl.col("quantity") >= pl.col("stock")).fill_null(value=False) if "stock" in names else None


def count_sold_out(frame: pl.LazyFrame) -> int:
    """How many rows ran out.

    Examples
    --------
    >>> count_sold_out(pl.LazyFrame({"quantity": [3.0, 5.0], "stock": [5.0, 5.0]}))
    1
    """
    gone = sold_out_rows(frame)
    return 0 if gone is None else int(frame.select(gone.sum()).collect(engine="streaming").item())


def build_row_data(frame: pl.LazyFrame, items: pl.DataFrame, spec: DemandSpec) -> RowData:
    """Bring the rows into memory, centred as every model of the package centres them.

    Parameters
    ----------
    frame : LazyFrame
        Columns ``item``, ``price``, ``quantity``, the spec's controls, and where they exist ``exposure``,
        ``sold_out`` or ``stock``.
    items : DataFrame
        Item table, sorted by ``item``.
    spec : DemandSpec

    Raises
    ------
    SpecError
        If a sold-out week of a count model sold more than 500 units.
    """
    names = frame.collect_schema().names()
    exposure = pl.col("exposure") if "exposure" in names else pl.lit(1.0)
    gone = sold_out_rows(frame)
    columns = list(spec.columns[1:])
    rows = (
        frame.with_columns(
            pl.col("price").log().alias("log_price"),
            exposure.log().alias("_log_exposure"),
            (pl.lit(value=False) if gone is None else gone).alias("_gone"),
        )
        .with_columns(
            (pl.when(pl.col("quantity") > 0).then("quantity").otherwise(ZERO_AS).log() - pl.col("_log_exposure")).alias(
                "_log_units"
            )
        )
        .select("item", *columns, "quantity", "_log_exposure", "_gone", "_log_units")
        .sort("item", *columns, "quantity", "_gone")  # in full, so that the sums do not depend on the order of reading
        .collect(engine="streaming")
    )
    gram = gather_gram(rows, "item", "_log_units", columns, centred=spec.centred)
    item = (rows["item"].rank("dense") - 1).to_numpy().astype(np.int64)
    quantity, sold_out = rows["quantity"].to_numpy().astype(float), rows["_gone"].to_numpy()
    most = quantity[sold_out].max(initial=0.0)
    if spec.likelihood != "lognormal" and most > LARGEST_COUNT:
        raise SpecError(
            f"A sold-out week sold {most:,.0f} units; sold-out counts over {LARGEST_COUNT} need --model lognormal."
        )
    return RowData(
        spec=spec,
        tree=build_tree_data(gram, [[str(name) for name in items[level]] for level in spec.levels], spec),
        item=item,
        predictors=np.column_stack([np.ones(len(item)), rows.select(columns).to_numpy()]) - gram.centre[item],
        log_exposure=rows["_log_exposure"].to_numpy(),
        quantity=quantity,
        sold_out=sold_out,
    )


def censoring_finding(sold_out: int, rows: int) -> Finding:
    """Says that sold-out weeks count as the least that would have been sold."""
    return Finding(
        code="sold_out_censored",
        severity="info",
        message=f"{sold_out:,} of {rows:,} rows ran out of stock; their sales are read as the least that was wanted",
        remedy="nothing to do; predictions are of demand, which stock may not meet",
    )


def uncensored_finding(sold_out: int) -> Finding:
    """Says that the joint model of price and sales does not know of stock."""
    return Finding(
        code="sold_out_not_modelled",
        severity="warning",
        message=f"{sold_out:,} rows ran out of stock; the model with instruments takes their sales for demand",
        remedy="leave those rows out, or fit without --instrument to have them censored",
    )
