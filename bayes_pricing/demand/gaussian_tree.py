"""The Gaussian tree's data: Gram statistics of the items and the nesting they hang on (DESIGN: all else is exact)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayes_pricing.data.gram import Floats, Gram
from bayes_pricing.demand.spec import DemandSpec
from bayes_pricing.demand.tree_kernels import Tree
from bayes_pricing.demand.tree_lanes import Integers, lay_out
from bayes_pricing.demand.tree_layout import Layout
from bayes_pricing.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TreeData:
    """Everything the Gaussian tree needs to know of the data; its cost depends on items, not on rows.

    Attributes
    ----------
    gram : Gram
        One set of sufficient statistics per item; its first columns are the item-level coefficients of the spec, the
        rest the shared ones.
    spec : DemandSpec
    levels : tuple of str
        Nesting levels kept, inner first: those of the spec with two or more units.
    units : tuple of tuple of str
        Sorted names of the units of every kept level.
    membership : tuple of arrays
        For every kept level, and last for the root (all zeros): the unit of each unit one level below (items first).
    sole_units : dict of str to str
        Levels of the spec with a single unit, and its name: they are the population, and are left out of the tree.
    noise_groups : tuple of str
        Names of the groups whose noise sd is estimated: one of all items, or the categories.
    noise_group : array (items,)
        Position of each item's noise group.
    """

    gram: Gram
    spec: DemandSpec
    levels: tuple[str, ...]
    units: tuple[tuple[str, ...], ...]
    membership: tuple[Integers, ...]
    sole_units: dict[str, str]
    noise_groups: tuple[str, ...]
    noise_group: Integers

    @property
    def coefficients(self) -> tuple[str, ...]:
        """Names of the item-level coefficients."""
        return self.spec.item_coefficients

    @property
    def layout(self) -> Layout:
        """Where the variance components stand in the sampled vector."""
        own = len(self.spec.coefficients)
        return Layout(
            levels=len(self.level_names),
            k=len(self.coefficients),
            correlated=own if self.spec.correlated == "all" else 2,
            tied=self.spec.others,
        )

    @property
    def level_names(self) -> tuple[str, ...]:
        """Levels that vary around a parent: ``("item", ...)``, inner first."""
        return ("item", *self.levels)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SalesRows:
    """Rows of sales as a log-normal model sees them.

    Attributes
    ----------
    log_units : array (rows,)
        Log of units sold.
    item : array (rows,)
        Position of the row's item in the model.
    log_price, reference_log_price : arrays (rows,)
        The reference is the item's frozen mean log price.
    controls : array (rows, item-level controls)
        Centred as in the Gram statistics; the prices of others come last.
    shared_controls : array (rows, shared controls)
    previous : array (rows,) or None
        Position of the item's row one period before, -1 where there is none; needed with autocorrelation.
    """

    log_units: Floats
    item: Integers
    log_price: Floats
    reference_log_price: Floats
    controls: Floats
    shared_controls: Floats
    previous: Integers | None = None


def build_tree_data(gram: Gram, groups: Sequence[Sequence[str]], spec: DemandSpec) -> TreeData:
    """Hang items on their nesting levels; a level with one unit is left out (its prior variance moves up).

    Parameters
    ----------
    gram : Gram
        Columns must be ``spec.columns``.
    groups : sequence of length ``len(spec.levels)``
        For every level of the spec, inner first, the name of each item's unit, in the order of ``gram.items``.
    spec : DemandSpec

    Raises
    ------
    SpecError
        If columns or groups do not fit the spec, or a unit sits in two parents.

    Examples
    --------
    >>> gram = Gram(items=("a", "b", "c"), columns=("level", "log_price"), count=np.full(3, 2.0),
    ...             xtx=np.tile(2.0 * np.eye(2), (3, 1, 1)), xty=np.zeros((3, 2)), yty=np.ones(3),
    ...             centre=np.zeros((3, 2)))
    >>> data = build_tree_data(gram, [["tea", "tea", "rice"]], DemandSpec())
    >>> data.units, data.membership[0].tolist()
    ((('rice', 'tea'),), [1, 1, 0])
    """
    if gram.columns != spec.columns:
        raise SpecError(
            f"Gram statistics have columns {gram.columns}, the specification {spec.columns}; gather them anew."
        )
    if len(groups) != len(spec.levels) or any(len(names) != len(gram.items) for names in groups):
        raise SpecError(f"Give one unit name per item for each of the levels {spec.levels}, inner first.")
    kept = [(level, list(names)) for level, names in zip(spec.levels, groups, strict=True) if len(set(names)) > 1]
    sole = {level: names[0] for level, names in zip(spec.levels, groups, strict=True) if len(set(names)) == 1}
    units: list[tuple[str, ...]] = []
    membership: list[Integers] = []
    below = list(gram.items)
    below_units = list(gram.items)
    for level, names in kept:
        parent_of = dict(zip(below, names, strict=True))
        if any(parent_of[child] != parent for child, parent in zip(below, names, strict=True)):
            torn = next(child for child, parent in zip(below, names, strict=True) if parent_of[child] != parent)
            raise SpecError(f"{torn!r} belongs to two units of level {level!r}; levels must nest, inner first.")
        names_sorted = sorted(set(names))
        position = {name: at for at, name in enumerate(names_sorted)}
        membership.append(np.array([position[parent_of[child]] for child in below_units], dtype=np.int64))
        units.append(tuple(names_sorted))
        below, below_units = names, names_sorted
    membership.append(np.zeros(len(below_units), dtype=np.int64))
    by_category = spec.noise_by != "common" and bool(kept) and kept[0][0] == spec.levels[0]
    return TreeData(
        gram=gram,
        spec=spec,
        levels=tuple(level for level, _ in kept),
        units=tuple(units),
        membership=tuple(membership),
        sole_units=sole,
        noise_groups=units[0] if by_category else ("all",),
        noise_group=membership[0] if by_category else np.zeros(len(gram.items), dtype=np.int64),
    )


def kernel_tree(data: TreeData, gram: Gram, root_mean: Floats) -> Tree:
    """The arrays that the compiled kernels read: nodes numbered level by level, the root's prior mean taken off."""
    k = len(data.coefficients)
    sizes = [len(gram.items), *(len(names) for names in data.units), 1]
    start = np.concatenate([[0], np.cumsum(sizes[:-1])]).astype(np.int64)
    parent = np.concatenate([start[at + 1] + member for at, member in enumerate(data.membership)])
    child_noise = np.full(sum(sizes) - sizes[0], -1, dtype=np.int64)
    child_noise[parent[: sizes[0]] - sizes[0]] = data.noise_group
    predicted = gram.xtx @ root_mean
    xtx, xty = np.ascontiguousarray(gram.xtx, dtype=np.float64), np.ascontiguousarray(gram.xty - predicted)
    return Tree(
        k=k,
        level_start=start,
        parent=parent,
        child_noise=child_noise,
        noise_group=data.noise_group,
        count=np.ascontiguousarray(gram.count, dtype=np.float64),
        xtx=xtx,
        xty=xty,
        yty=np.ascontiguousarray(gram.yty - 2.0 * gram.xty @ root_mean + predicted @ root_mean),
        lanes=lay_out(xtx, xty, parent[: sizes[0]] - sizes[0]),
    )
