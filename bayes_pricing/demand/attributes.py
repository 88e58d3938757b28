"""What an item is (size, brand) as an explanation of how much it sells and how its sales react to price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import xarray as xr
from numpy.typing import NDArray

from bayes_pricing.data.gram import Floats
from bayes_pricing.errors import Finding, PanelError, Problem, Refusal, SpecError

MOST_VALUES = 12
"""Different texts of an attribute up to which each (but the commonest) has an effect of its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributes:
    """Rows with the columns of the items' attributes.

    Attributes
    ----------
    frame : LazyFrame
        With ``<name>:level`` (the attribute, less its mean over items) and ``<name>:log_price`` (that times log price).
    names : tuple of str
        Numbers keep their column's name; a text makes one of every value but the commonest, ``brand=own label``.
    table : DataFrame
        One row per item, sorted: ``item`` and ``attribute_<name>``, the values as they are (texts: 0 or 1).
    """

    frame: pl.LazyFrame
    names: tuple[str, ...]
    table: pl.DataFrame


def add_attributes(frame: pl.LazyFrame, columns: Sequence[str]) -> Attributes:
    """Give every row its item's attributes, centred over items, alone and times log price.

    Parameters
    ----------
    frame : LazyFrame
        With ``item``, ``price`` and the attributes.
    columns : sequence of str

    Raises
    ------
    PanelError
        If an attribute changes inside an item.
    Refusal
        If all items have the same value, or a text has more than twelve.

    Examples
    --------
    >>> rows = pl.LazyFrame({"item": ["a", "a", "b", "c"], "price": [1.0, 1.0, 1.0, 1.0], "size": [1.0, 1.0, 3.0, 2.0],
    ...                      "brand": ["own", "own", "own", "star"]})
    >>> found = add_attributes(rows, ["size", "brand"])
    >>> found.names, found.table.row(2)
    (('size', 'brand=star'), ('c', 2.0, 1.0))
    >>> found.frame.collect()["size:level"].to_list()
    [-1.0, -1.0, 1.0, 0.0]
    """
    found = frame.group_by("item").agg(
        *(pl.col(name).first() for name in columns),
        *(pl.col(name).n_unique().alias(f"_{name}") for name in columns),
    )
    items = found.collect(engine="streaming").sort("item")
    moving = [name for name in columns if (items[f"_{name}"] > 1).any()]
    if moving:
        raise PanelError([_moving(name, items) for name in moving])
    values: dict[str, pl.Series] = {}
    for name in columns:
        values |= _values(name, items[name])
    table = items.select("item").with_columns(pl.Series(f"attribute_{name}", one) for name, one in values.items())
    log_price = pl.col("price").log()
    joined = frame.join(
        table.with_columns(pl.col(f"attribute_{name}") - pl.col(f"attribute_{name}").mean() for name in values).lazy(),
        on="item",
        maintain_order="left",
    ).rename({f"attribute_{name}": f"{name}:level" for name in values})
    prices = {f"{name}:log_price": pl.col(f"{name}:level") * log_price for name in values}
    return Attributes(frame=joined.with_columns(**prices), names=tuple(values), table=table)


def item_attributes(items: pl.DataFrame, names: Sequence[str]) -> Floats:
    """Attributes of every item of an item table, less their means, (items, attributes)."""
    found = np.zeros((items.height, len(names)))
    for at, name in enumerate(names):
        raw = items[f"attribute_{name}"].to_numpy().astype(np.float64)
        found[:, at] = raw - raw.mean()
    return found


def unit_attributes(items: pl.DataFrame, level: str, units: Sequence[str], names: Sequence[str]) -> Floats:
    """Attributes of the units of a level, less their means over items: those of its items on average.

    Parameters
    ----------
    items : DataFrame
        Item table with ``attribute_<name>`` and the levels.
    level : str
        ``item`` or a nesting level.
    units, names : sequence of str
        Units of the level, sorted, and attributes.

    Returns
    -------
    array (units, attributes)

    Examples
    --------
    >>> items = pl.DataFrame({"item": ["a", "b", "c"], "family": ["x", "x", "y"], "attribute_size": [1.0, 2.0, 6.0]})
    >>> unit_attributes(items, "family", ["x", "y"], ["size"]).tolist()
    [[-1.5], [3.0]]
    """
    values = item_attributes(items, names)
    if level == "item":
        return values
    position = {name: at for at, name in enumerate(units)}
    member = np.array([position[str(name)] for name in items[level]], dtype=np.int64)
    total = np.zeros((len(units), values.shape[1]))
    np.add.at(total, member, values)
    return np.asarray(total / np.bincount(member, minlength=len(units))[:, None], dtype=np.float64)


def add_attribute_effects(coefficients: NDArray[Any], attributes: Floats, effects: Floats) -> NDArray[Any]:
    """Coefficients of units with what attributes add to their level and elasticity; a copy.

    Parameters
    ----------
    coefficients : array (chain, draw, units, k)
    attributes : array (units, attributes)
    effects : array (chain, draw, 2, attributes)
        On level and elasticity, per unit of each attribute.

    Examples
    --------
    >>> effects = np.array([[[[1.0], [-0.5]]]])
    >>> add_attribute_effects(np.zeros((1, 1, 1, 3)), np.array([[2.0]]), effects).ravel().tolist()
    [2.0, -1.0, 0.0]
    """
    found = coefficients.copy()
    found[..., :2] += np.einsum("ua,cdka->cduk", attributes, effects).astype(found.dtype)
    return found


def new_attributes(items: pl.DataFrame, names: Sequence[str], values: Mapping[str, float | str]) -> Floats:
    """Attributes of an item never seen, less the means of those that were, (attributes,).

    Parameters
    ----------
    items : DataFrame
        The fitted model's item table.
    names : sequence of str
        Of the model, ``brand=star`` for texts.
    values : mapping
        The attributes by their column's name.

    Raises
    ------
    SpecError
        If one is missing, or unknown.

    Examples
    --------
    >>> items = pl.DataFrame({"item": ["a", "b"], "attribute_size": [1.0, 3.0], "attribute_brand=star": [0.0, 1.0]})
    >>> new_attributes(items, ["size", "brand=star"], {"size": 4.0, "brand": "star"}).tolist()
    [2.0, 0.5]
    """
    wanted = {name.partition("=")[0] if name not in values else name for name in names}
    if wanted != set(values):
        raise SpecError(f"Give the attributes {sorted(wanted)} of the new item; {sorted(values)} were given.")
    raw = []
    for name in names:
        column, _, text = name.partition("=")
        given = values.get(name, values.get(column))
        raw.append(float(given == text) if text and name not in values else float(given))  # type: ignore[arg-type]
    means = items.select(pl.col(f"attribute_{name}").mean() for name in names).to_numpy()[0]
    return np.asarray(np.array(raw) - means, dtype=np.float64)


def place_new_item(
    usual_item: xr.DataArray,
    level: str,
    attributes: Mapping[str, float | str],
    *,
    items: pl.DataFrame,
    usual: Floats,
    effects: xr.DataArray,
) -> xr.DataArray:
    """Draws of an item never seen, given those of one that is as its parent's items are on average.

    Parameters
    ----------
    usual_item : DataArray, dims (chain, draw, coefficient)
    level : str
        What is new; only items have attributes.
    attributes : mapping
        What the item is, by column.
    items : DataFrame
        The fitted model's item table.
    usual : array (attributes,)
        Of its parent's items on average, less the means over items.
    effects : DataArray, dims (chain, draw, coefficient, attribute)

    Raises
    ------
    SpecError
        If not an item is new, or the attributes are not the model's.
    """
    if level != "item":
        raise SpecError(f"Attributes are those of items; a new {level} has none of its own.")
    names = [str(name) for name in effects["attribute"].to_numpy()]
    away = new_attributes(items, names, attributes) - usual
    moved = add_attribute_effects(usual_item.to_numpy()[:, :, None], away[None], effects.to_numpy())
    return usual_item.copy(data=moved[:, :, 0])


def _values(name: str, column: pl.Series) -> dict[str, pl.Series]:
    """An attribute as numbers: itself, or one indicator of each text but the commonest."""
    if column.n_unique() < 2:
        raise Refusal([_never_differs(name)])
    if column.dtype.is_numeric():
        return {name: column.cast(pl.Float64)}
    counts = column.value_counts().sort("count", name, descending=[True, False])
    texts = counts[name].to_list()
    if len(texts) > MOST_VALUES:
        raise Refusal([_too_many(name, len(texts))])
    return {f"{name}={text}": (column == text).cast(pl.Float64) for text in texts[1:]}


def _moving(name: str, items: pl.DataFrame) -> Problem:
    broken = items.filter(pl.col(f"_{name}") > 1)
    return Problem(
        code="attribute_changes",
        count=broken.height,
        examples=tuple(broken.select("item").head(3).to_dicts()),
        message=f"{broken.height} items have more than one value of the attribute {name!r}",
        remedy="name what changes inside an item with --control",
    )


def _never_differs(name: str) -> Finding:
    return Finding(
        code="attribute_never_differs",
        severity="error",
        message=f"all items have the same {name!r}, so it explains nothing",
        remedy="leave it out, or name an attribute in which items differ",
    )


def _too_many(name: str, values: int) -> Finding:
    return Finding(
        code="attribute_with_many_values",
        severity="error",
        message=f"the attribute {name!r} has {values} different texts (at most {MOST_VALUES})",
        remedy="name it as a level with --category: its units then vary around their parent",
    )
