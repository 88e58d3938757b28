"""Shares of products in markets, with an outside option: what sold, out of what could have been sold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bayes_pricing.demand.choice_data import Floats, Integers
from bayes_pricing.errors import Finding, PanelError, Problem, Refusal

SMALLEST_SHARE = 1e-9
"""Share of the price's variation that must be left once products and controls are taken out."""
FEWEST_MARKETS = 2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShareData:
    r"""Products by market; rows sorted by product, then market.

    Attributes
    ----------
    products, markets : tuples of str, lengths J and T
    product, market : int arrays (n,)
        Positions.
    share : array (n,)
        Of everybody in the market, those who bought nothing counted; in (0, 1).
    outside : array (n,)
        Share of those who bought nothing in the row's market; in (0, 1).
    price : array (n,)
        Currency per unit.
    controls : array (n, c)
        What else moves utility and differs between the markets of a product.
    control_names : tuple of str
    attributes : array (J, A)
        What differs between products only.
    attribute_names : tuple of str
    instruments : array (n, q)
        What moves price but not utility.
    instrument_names : tuple of str
    per_elasticity : float
        Price coefficient per unit of elasticity at mean price and share, :math:`1 / (\bar p (1 - \bar s))`.
    centre : float
        Mean log ratio: the prior mean of a product's utility at its mean price.
    """

    products: tuple[str, ...]
    markets: tuple[str, ...]
    product: Integers
    market: Integers
    share: Floats
    outside: Floats
    price: Floats
    controls: Floats
    control_names: tuple[str, ...]
    attributes: Floats
    attribute_names: tuple[str, ...]
    instruments: Floats
    instrument_names: tuple[str, ...]
    per_elasticity: float
    centre: float

    @property
    def log_ratio(self) -> Floats:
        r""":math:`\log s_{jt} - \log s_{0t}`, the mean utility of the product (Berry 1994)."""
        found: Floats = np.log(self.share) - np.log(self.outside)
        return found

    def product_means(self, values: Floats) -> Floats:
        """Means (J,) of an array (n,) by product."""
        found: Floats = np.bincount(self.product, values) / np.bincount(self.product)
        return found


def build_shares(
    frame: pl.DataFrame,
    *,
    market: Sequence[str],
    product: str,
    share: str,
    price: str,
    controls: Sequence[str] = (),
    instruments: Sequence[str] = (),
) -> ShareData:
    """Shares from a table with one row per market and product on sale; what they leave of one bought nothing.

    Parameters
    ----------
    frame : DataFrame
    market : sequence of str
        Columns that together name the market (a city and a quarter).
    product, share, price : str
        Columns; shares are of all who could have bought, so that those of a market sum to less than one.
    controls : sequence of str
        Columns of what else moves utility; one that never differs within a product is an attribute of products.
    instruments : sequence of str
        Columns that move price but not utility.

    Raises
    ------
    PanelError
        With every problem at once: columns or values missing, a share outside (0, 1), shares of a market that leave
        nothing for the outside option, a product twice in a market.
    Refusal
        If prices do not differ once products and controls are taken out.

    Examples
    --------
    >>> rows = pl.DataFrame({"city": ["x", "x", "y", "y"], "brand": ["a", "b"] * 2, "share": [0.2, 0.3, 0.25, 0.25],
    ...                      "price": [2.0, 3.0, 1.5, 3.5]})
    >>> data = build_shares(rows, market=["city"], product="brand", share="share", price="price")
    >>> data.products, data.outside.tolist()
    (('a', 'b'), [0.5, 0.5, 0.5, 0.5])
    """
    numbers = {"share": share, "price": price}
    wanted = [*market, product, share, price, *controls, *instruments]
    missing = [
        _problem("unknown_column", f"no column {name!r}", f"the table has {frame.columns}")
        for name in wanted
        if name not in frame.columns
    ]
    if missing:
        raise PanelError(missing)
    rows = frame.select(
        pl.concat_str([pl.col(name).cast(pl.String) for name in market], separator=" ").alias("market"),
        pl.col(product).cast(pl.String).alias("product"),
        *(pl.col(column).cast(pl.Float64, strict=False).alias(role) for role, column in numbers.items()),
        *(pl.col(name).cast(pl.Float64, strict=False).alias(f"x{at}") for at, name in enumerate(controls)),
        *(pl.col(name).cast(pl.Float64, strict=False).alias(f"z{at}") for at, name in enumerate(instruments)),
    ).with_columns((1.0 - pl.col("share").sum().over("market")).alias("outside"))
    _require_sound(rows)
    rows = rows.sort("product", "market")
    products, markets = (rows[name].unique().sort() for name in ("product", "market"))
    position = rows["product"].rank("dense").to_numpy().astype(np.int64) - 1
    x = rows.select(pl.col("^x\\d+$")).to_numpy().reshape(rows.height, -1)
    own = np.column_stack([np.bincount(position, column) for column in x.T] or [np.empty((len(products), 0))])
    own = own / np.bincount(position)[:, None]
    varies = (np.abs(x - own[position]) > SMALLEST_SHARE * np.abs(x).max(axis=0, initial=1.0)).any(axis=0)
    share_of, price_of = rows["share"].to_numpy(), rows["price"].to_numpy()
    outside = rows["outside"].to_numpy()
    data = ShareData(
        products=tuple(products),
        markets=tuple(markets),
        product=position,
        market=rows["market"].rank("dense").to_numpy().astype(np.int64) - 1,
        share=share_of,
        outside=outside,
        price=price_of,
        controls=np.ascontiguousarray(x[:, varies]),
        control_names=tuple(name for name, moves in zip(controls, varies, strict=True) if moves),
        attributes=np.ascontiguousarray(own[:, ~varies]),
        attribute_names=tuple(name for name, moves in zip(controls, varies, strict=True) if not moves),
        instruments=np.ascontiguousarray(rows.select(pl.col("^z\\d+$")).to_numpy().reshape(rows.height, -1)),
        instrument_names=tuple(instruments),
        per_elasticity=1.0 / float(price_of.mean() * (1.0 - share_of.mean())),
        centre=float((np.log(share_of) - np.log(outside)).mean()),
    )
    _require_identified(data)
    return data


def _problem(code: str, message: str, remedy: str, bad: pl.DataFrame | None = None) -> Problem:
    examples = () if bad is None else tuple(bad.head(3).to_dicts())
    return Problem(code=code, count=0 if bad is None else bad.height, message=message, remedy=remedy, examples=examples)


def _require_sound(rows: pl.DataFrame) -> None:
    """Collect every problem of the table, then refuse it once."""
    if rows.height == 0:
        raise PanelError(_problem("no_rows", "the table has no rows", "look at the query or the file"))
    numeric = [name for name, kind in rows.schema.items() if kind == pl.Float64]
    finite = pl.all_horizontal(pl.col(name).is_finite().fill_null(value=False) for name in numeric)
    named = pl.all_horizontal(pl.col("market", "product").is_not_null())
    share = pl.col("share")
    twice = rows.filter(pl.struct("market", "product").is_duplicated())
    full = rows.filter(finite & (pl.col("outside") <= 0)).unique("market", maintain_order=True)
    found = [
        ("not_a_number", "a value missing, infinite or no number", "mend them", rows.filter(~finite)),
        ("missing_name", "market or product missing", "name them", rows.filter(~named)),
        ("non_positive_price", "price not positive", "leave out what was not on sale",
         rows.filter(finite & (pl.col("price") <= 0))),
        ("share_out_of_range", "share not between 0 and 1", "the logarithm of a share of zero does not exist: join "
         "markets until every product sold, or model counts", rows.filter(finite & ((share <= 0) | (share >= 1)))),
        ("duplicate_key", "a product twice in a market", "add them up", twice),
        ("no_outside_share", "markets whose shares sum to one or more", "shares are of all who could have bought, not "
         "of what was sold", full),
    ]  # fmt: skip
    problems = [
        _problem(code, f"{bad.height} rows: {message}", remedy, bad.select("market", "product", "share", "price"))
        for code, message, remedy, bad in found
        if bad.height
    ]
    if problems:
        raise PanelError(problems)


def _require_identified(data: ShareData) -> None:
    left = residual_of(data, data.price[:, None])[:, 0]
    if not float(left @ left) > SMALLEST_SHARE * float(((data.price - data.price.mean()) ** 2).sum()) or (
        len(data.markets) < FEWEST_MARKETS
    ):
        raise Refusal(
            [
                Finding(
                    code="no_price_variation",
                    severity="error",
                    message=f"over {len(data.markets)} markets no product's price differs once the controls are taken "
                    "out, so its own effect cannot be told from the product's",
                    remedy="add markets with other prices, or run a price test",
                )
            ]
        )


def within_products(data: ShareData, values: Floats) -> Floats:
    """Columns (n, m) less their means over the markets of a product."""
    means = np.column_stack([data.product_means(column) for column in values.T] or [np.empty((len(data.products), 0))])
    found: Floats = values - means[data.product]
    return found


def control_basis(data: ShareData) -> Floats:
    """Orthonormal columns (n, at most c) that span the controls within products."""
    controls = within_products(data, data.controls)
    scale = np.sqrt((controls**2).sum(axis=0))
    left, singular, _ = np.linalg.svd(controls / np.where(scale > 0, scale, 1.0), full_matrices=False)
    found: Floats = left[:, singular > SMALLEST_SHARE * singular.max(initial=0.0)]
    return np.ascontiguousarray(found)


def residual_of(data: ShareData, values: Floats) -> Floats:
    """Columns (n, m) with products and controls taken out."""
    within, basis = within_products(data, values), control_basis(data)
    found: Floats = within - basis @ (basis.T @ within)
    return found
