"""Small made-up markets for tests of the Gaussian tree: rows, Gram statistics and priors that belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.data.gram import Gram
from bayes_pricing.demand.gaussian_tree import SalesRows, TreeData, build_tree_data
from bayes_pricing.demand.spec import Correlated, DemandSpec, NoiseBy, Priors
from bayes_pricing.demand.tree_prior import TreePrior, build_tree_prior

Floats = NDArray[np.float64]
LEVELS = ("category", "department", "country")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    rows: SalesRows
    data: TreeData
    prior: TreePrior
    items: pl.DataFrame

    @property
    def design(self) -> Floats:
        rows = self.rows
        deviation = rows.log_price - rows.reference_log_price
        return np.column_stack([np.ones(len(deviation)), deviation, rows.controls, rows.shared_controls])

    def dense_design(self) -> Floats:
        """Rows by (item coefficients, item by item, then shared coefficients)."""
        k, X = len(self.data.coefficients), self.design
        items, m = len(self.data.gram.items), X.shape[1] - k
        dense = np.zeros((len(X), items * k + m))
        for row, item in enumerate(self.rows.item):
            dense[row, item * k : (item + 1) * k] = X[row, :k]
        dense[:, items * k :] = X[:, k:]
        return dense


def gram_of_rows(rows: SalesRows, names: tuple[str, ...], columns: tuple[str, ...]) -> Gram:
    """Gram statistics of rows whose columns are already centred."""
    deviation = rows.log_price - rows.reference_log_price
    X = np.column_stack([np.ones(len(deviation)), deviation, rows.controls, rows.shared_controls])
    J, p = len(names), X.shape[1]
    xtx, xty, yty = np.zeros((J, p, p)), np.zeros((J, p)), np.zeros(J)
    np.add.at(xtx, rows.item, X[:, :, None] * X[:, None, :])
    np.add.at(xty, rows.item, X * rows.log_units[:, None])
    np.add.at(yty, rows.item, rows.log_units**2)
    centre = np.zeros((J, p))
    np.maximum.at(centre[:, 1], rows.item, rows.reference_log_price)
    count = np.bincount(rows.item, minlength=J).astype(np.float64)
    return Gram(items=names, columns=columns, count=count, xtx=xtx, xty=xty, yty=yty, centre=centre)


def make_market(
    depth: int,
    controls: int,
    shared: int,
    noise_by: NoiseBy,
    *,
    seed: int,
    items: int = 9,
    weeks: int = 8,
    priors: Priors | None = None,
    correlated: Correlated = "all",
    others: int = 0,
    autocorrelation: float = 0.0,
) -> Market:
    """Items with very different rows: the first sells nothing yet, the second's price never moves."""
    rng = np.random.default_rng(seed)
    count = rng.integers(weeks // 2, weeks + 1, size=items)
    count[0] = 0
    item = np.repeat(np.arange(items), count)
    n = len(item)
    reference = np.full(n, 0.5)
    log_price = reference + rng.normal(scale=0.3, size=n)
    log_price[item == 1] = reference[item == 1]
    rows = SalesRows(
        log_units=4.0 - 2.0 * (log_price - reference) + rng.normal(scale=0.5, size=n),
        item=item.astype(np.int64),
        log_price=log_price,
        reference_log_price=reference,
        controls=rng.normal(scale=0.5, size=(n, controls + (1 + others if others else 0))),
        shared_controls=rng.normal(scale=0.5, size=(n, shared)),
        previous=np.where(np.diff(item, prepend=-1) == 0, np.arange(n) - 1, -1),
    )
    names = tuple(f"item{at:04d}" for at in range(items))
    groups: list[NDArray[np.int64]] = []
    units = items
    for at in range(depth):
        units = max(2, units // 3)
        groups.append((np.arange(items) if at == 0 else groups[-1]) % units)
    spec = DemandSpec(
        levels=LEVELS[:depth],
        controls=(*(f"control{c}" for c in range(controls)), *(("cross_price",) if others else ())),
        shared_controls=tuple(f"shared{c}" for c in range(shared)),
        correlated=correlated,
        cross_prices="population" if others else None,
        others=others,
        autocorrelation=autocorrelation,
        noise_by=noise_by,
        priors=priors or Priors(),
    )
    named = [[f"{LEVELS[at]}{unit}" for unit in group] for at, group in enumerate(groups)]
    gram = gram_of_rows(rows, names, spec.columns)
    data = build_tree_data(gram, named, spec)
    table = pl.DataFrame({"item": names, **{LEVELS[at]: group for at, group in enumerate(named)}})
    prior = build_tree_prior(data, spec.priors)
    if autocorrelation:
        data = replace(data, gram=quasi_differenced(rows, gram, autocorrelation))
    return Market(rows=rows, data=data, prior=prior, items=table)


def quasi_differenced(rows: SalesRows, gram: Gram, rho: float) -> Gram:
    """Statistics of z_t - rho z_(t-1), and of sqrt(1 - rho^2) z_t for the first row of an item; columns centred."""
    deviation = rows.log_price - rows.reference_log_price
    Z = np.column_stack([np.ones(len(deviation)), deviation, rows.controls, rows.shared_controls, rows.log_units])
    assert rows.previous is not None
    follows = rows.previous >= 0
    turned = np.where(follows[:, None], Z - rho * Z[rows.previous], np.sqrt(1.0 - rho**2) * Z)
    sums = np.zeros((len(gram.items), Z.shape[1], Z.shape[1]))
    np.add.at(sums, rows.item, turned[:, :, None] * turned[:, None, :])
    return replace(gram, xtx=sums[:, :-1, :-1].copy(), xty=sums[:, :-1, -1].copy(), yty=sums[:, -1, -1].copy())
