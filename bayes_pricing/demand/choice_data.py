"""Choices people made among alternatives with prices: one occasion after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.errors import PanelError, Problem

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

OUTSIDE = "outside"
CONSTANT = "constant:"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChoiceData:
    r"""Occasions on which somebody chose one of J alternatives (or none of them).

    Utility of alternative j on occasion t for chooser h is

    .. math:: u_{jt} = x_{jt}' \beta_h + \epsilon_{jt}, \quad \epsilon \sim \text{Gumbel},

    with :math:`x` a constant for every alternative but the base, the price and the attributes.

    Attributes
    ----------
    alternatives : tuple of str, length J
        With `outside`, the last one is ``outside``: nothing bought, utility 0.
    coefficients : tuple of str, length K
        ``constant:<alternative>`` for all but the base, then ``price``, then the attributes.
    choosers : tuple of str, length H
        Who chose; one occasion each where the data do not say.
    x : array (T, J, K)
        Regressors; price in currency.
    available : bool array (T, J)
    chosen : int array (T,)
        Position of the alternative chosen.
    chooser : int array (T,)
        Position in `choosers`; rows of one chooser stand together.
    """

    alternatives: tuple[str, ...]
    coefficients: tuple[str, ...]
    choosers: tuple[str, ...]
    x: Floats
    available: Flags
    chosen: Integers
    chooser: Integers

    @property
    def outside(self) -> bool:
        """Whether buying nothing is one of the alternatives."""
        return self.alternatives[-1] == OUTSIDE

    @property
    def price_at(self) -> int:
        """Position of the price among the coefficients."""
        return self.coefficients.index("price")

    @property
    def prices(self) -> Floats:
        """Prices (T, J), currency; zero for the outside option."""
        return np.ascontiguousarray(self.x[:, :, self.price_at])


def build_choices(
    frame: pl.DataFrame,
    *,
    occasion: str,
    alternative: str,
    chosen: str,
    price: str,
    attributes: Sequence[str] = (),
    chooser: str | None = None,
    outside: bool = False,
    base: str | None = None,
) -> ChoiceData:
    """Choices from a table with one row per occasion and alternative that was on offer.

    Parameters
    ----------
    frame : DataFrame
    occasion, alternative, chosen, price : str
        Columns: which occasion, which alternative, 1 where it was chosen (0 elsewhere), its price in currency.
    attributes : sequence of str
        Further columns that move utility (a feature, a display), numbers.
    chooser : str, optional
        Column that names who chose; needed for tastes that differ between people.
    outside : bool
        Whether an occasion without a chosen row means that nothing was bought. Where false every occasion needs one.
    base : str, optional
        Alternative without a constant of its own; by default the outside option, or else the last alternative.

    Raises
    ------
    PanelError
        With every problem at once: missing columns, missing or infinite values, a price that is not positive, an
        occasion with two choices or with none, an alternative twice on one occasion.

    Examples
    --------
    >>> rows = pl.DataFrame({"trip": [1, 1, 2, 2], "brand": ["a", "b"] * 2, "bought": [1, 0, 0, 1],
    ...                      "price": [2.0, 3.0, 2.5, 2.0]})
    >>> data = build_choices(rows, occasion="trip", alternative="brand", chosen="bought", price="price")
    >>> data.alternatives, data.coefficients, data.chosen.tolist()
    (('a', 'b'), ('constant:a', 'price'), [0, 1])
    """
    named = {"occasion": occasion, "alternative": alternative, "chosen": chosen, "price": price}
    named |= {} if chooser is None else {"chooser": chooser}
    _require_columns(frame, [*named.values(), *attributes])
    rows = frame.select(
        *(pl.col(column).alias(f"_{role}") for role, column in named.items()),
        *(pl.col(name).cast(pl.Float64, strict=False) for name in attributes),
    ).with_columns(
        pl.col("_alternative").cast(pl.String),
        pl.col("_chosen").cast(pl.Float64, strict=False),
        pl.col("_price").cast(pl.Float64, strict=False),
        (pl.col("_chooser") if chooser is not None else pl.col("_occasion")).cast(pl.String).alias("_chooser"),
    )
    _require_sound(rows, attributes, outside=outside)
    names = sorted(rows["_alternative"].unique().to_list())
    base = base if base is not None else (OUTSIDE if outside else names[-1])
    if base not in names and not (outside and base == OUTSIDE):
        raise PanelError(_problem("unknown_base", f"the base {base!r} is none of {names}", "name one of them"))
    if len(names) + outside < 2:
        raise PanelError(
            _problem("one_alternative", f"only {names} is ever on offer", "a choice needs two, or outside=True")
        )
    constants = [name for name in names if name != base]
    coefficients = (*(CONSTANT + name for name in constants), "price", *attributes)
    rows = rows.sort("_chooser", "_occasion", "_alternative")
    keys = rows.select("_chooser", "_occasion").unique(maintain_order=True)
    t = rows.join(keys.with_row_index("_t"), on=["_chooser", "_occasion"], how="left", maintain_order="left")["_t"]
    at, j = t.to_numpy().astype(np.int64), np.searchsorted(names, rows["_alternative"].to_numpy())
    width = len(names) + outside
    x = np.zeros((keys.height, width, len(coefficients)))
    for position, name in enumerate(constants):
        x[:, names.index(name), position] = 1.0
    x[at, j, len(constants)] = rows["_price"].to_numpy()
    for position, name in enumerate(attributes):
        x[at, j, len(constants) + 1 + position] = rows[name].to_numpy()
    available = np.zeros((keys.height, width), dtype=np.bool_)
    available[at, j] = True
    picked = np.full(keys.height, width - 1, dtype=np.int64)
    if outside:
        available[:, -1] = True
    bought = rows["_chosen"].to_numpy() == 1.0
    picked[at[bought]] = j[bought]
    people, chooser_at = np.unique(keys["_chooser"].to_numpy(), return_inverse=True)
    return ChoiceData(
        alternatives=(*names, OUTSIDE) if outside else tuple(names),
        coefficients=coefficients,
        choosers=tuple(str(name) for name in people),
        x=x,
        available=available,
        chosen=picked,
        chooser=chooser_at.astype(np.int64),
    )


def _problem(code: str, message: str, remedy: str, bad: pl.DataFrame | None = None) -> Problem:
    examples = () if bad is None else tuple(bad.head(3).rename(lambda name: name.removeprefix("_")).to_dicts())
    return Problem(code=code, count=1 if bad is None else bad.height, message=message, remedy=remedy, examples=examples)


def _require_columns(frame: pl.DataFrame, names: Sequence[str]) -> None:
    missing = [
        _problem("unknown_column", f"no column {name!r}", f"the table has {frame.columns}")
        for name in names
        if name not in frame.columns
    ]
    if missing:
        raise PanelError(missing)


def _require_sound(rows: pl.DataFrame, attributes: Sequence[str], *, outside: bool) -> None:
    """Collect every problem of the table, then refuse it once."""
    if rows.height == 0:
        raise PanelError(_problem("no_rows", "the table has no rows", "look at the query or the file"))
    keys = ["_chooser", "_occasion"]
    picks = rows.group_by(keys, maintain_order=True).agg(pl.col("_chosen").sum())
    finite = pl.all_horizontal(pl.col(name).is_finite().fill_null(value=False) for name in ("_price", *attributes))
    flag = pl.col("_chosen").is_in([0.0, 1.0]).fill_null(value=False)
    named = pl.all_horizontal(pl.col("_occasion", "_alternative", "_chooser").is_not_null())
    twice = rows.group_by(*keys, "_alternative", maintain_order=True).len().filter(pl.col("len") > 1)
    found = [
        ("not_a_number", "price or attribute missing, infinite or no number", "mend them", rows.filter(~finite)),
        ("price_not_positive", "price not positive", "leave out what was not for sale",
         rows.filter(pl.col("_price") <= 0)),
        ("chosen_not_a_flag", "chosen neither 0 nor 1", "1 where it was chosen, 0 elsewhere", rows.filter(~flag)),
        ("missing_name", "occasion, alternative or chooser missing", "name them", rows.filter(~named)),
        ("reserved_name", f"an alternative named {OUTSIDE!r}", "leave those rows out and say outside=True",
         rows.filter(pl.col("_alternative") == OUTSIDE)),
        ("duplicate_key", "an alternative twice on one occasion", "one row for each", twice),
        ("two_choices", "an occasion with two choices", "one occasion for each", picks.filter(pl.col("_chosen") > 1)),
    ]  # fmt: skip
    if not outside:
        none = picks.filter(pl.col("_chosen") < 1)
        found.append(("no_choice", "an occasion without a choice", "outside=True if that means nothing bought", none))
    problems = [
        _problem(code, f"{bad.height} rows or occasions: {message}", remedy, bad)
        for code, message, remedy, bad in found
        if bad.height
    ]
    if problems:
        raise PanelError(problems)
