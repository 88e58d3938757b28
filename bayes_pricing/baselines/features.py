"""What learners see of a row: price relative to the item's usual one, category, week, controls; and what they fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bayes_pricing.baselines.protocol import Floats, SalesRows

LEAST_SEASONAL_SPAN_DAYS = 365
HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoding:
    """Turns rows into features with nothing but training means; made by :meth:`of`.

    Attributes
    ----------
    counts : bool
        Whether the target is units relative to the item's usual units; log units minus the item's usual ones otherwise.
    keys : tuple of str
    group : str or None
        The innermost level.
    controls : tuple of str
    seasonal : bool
        Whether training spans a year, so that the week of the year is a feature (0 otherwise).
    table : DataFrame
        One row per item (and region): ``usual`` log units, ``mean_log_price`` and ``group``.
    categories : dict of str to int

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["tea", "tea"], "price": [2.0, 8.0], "quantity": [4.0, 1.0]})
    >>> encoding = Encoding.of(SalesRows(frame=frame), "log")
    >>> features, offset = encoding.features(frame)
    >>> features[:, 0].round(3).tolist(), offset.round(3).tolist()
    ([-0.693, 0.693], [0.693, 0.693])
    """

    counts: bool
    keys: tuple[str, ...]
    group: str | None
    controls: tuple[str, ...]
    seasonal: bool
    table: pl.DataFrame
    categories: dict[str, int]

    @classmethod
    def of(cls, train: SalesRows, model: Literal["log", "counts"]) -> Encoding:
        """Take means over training rows."""
        group = _group_expression(train.group)
        rows = train.frame.with_columns(group=group, exposure=_exposure(train.frame))
        units, exposure = pl.col("quantity"), pl.col("exposure")
        if model == "counts":
            rate = float(rows["quantity"].sum()) / float(rows["exposure"].sum())
            usual = ((units.sum() + rate) / (exposure.sum() + 1.0)).log()  # one period of the mean item: never 0
        else:
            usual = (units / exposure).log().mean()
        table = rows.group_by(*train.keys, maintain_order=True).agg(
            pl.col("group").first(), usual.alias("usual"), pl.col("price").log().mean().alias("mean_log_price")
        )
        names = table["group"].unique().sort().to_list()
        return cls(
            counts=model == "counts",
            keys=train.keys,
            group=train.group,
            controls=train.features,
            seasonal=_covers_a_year(train.frame),
            table=table,
            categories={name: i for i, name in enumerate(names)},
        )

    def features(self, frame: pl.DataFrame) -> tuple[Floats, Floats]:
        """Feature matrix (n_rows, n_features) and offset (n_rows,): the item's usual log units and log exposure."""
        means = ["usual", "mean_log_price"]
        by_group = self.table.group_by("group").agg(pl.col(means).mean().name.prefix("group_"))
        overall = self.table.select(pl.col(means).mean()).row(0, named=True)
        season = pl.col("period").dt.week() if self.seasonal else pl.lit(0)
        rows = (
            frame.with_columns(_group_expression(self.group).alias("group"), exposure=_exposure(frame))
            .join(self.table.drop("group"), on=self.keys, how="left", maintain_order="left")
            .join(by_group, on="group", how="left", maintain_order="left")
            .with_columns(pl.coalesce(name, f"group_{name}", pl.lit(overall[name])).alias(name) for name in means)
        )
        features = rows.select(
            pl.col("price").log() - pl.col("mean_log_price"),
            pl.col("group").replace_strict(self.categories, default=None, return_dtype=pl.Float64),
            season.cast(pl.Float64).alias("week"),
            *(pl.col(name).cast(pl.Float64) for name in self.controls),
        )
        return features.to_numpy(), rows.select(pl.col("usual") + pl.col("exposure").log()).to_series().to_numpy()

    def target(self, frame: pl.DataFrame, offset: Floats) -> tuple[Floats, Floats]:
        """Target and weight of each row, given its offset."""
        units = frame["quantity"].cast(pl.Float64).to_numpy()
        if self.counts:
            usual = np.exp(offset)
            return units / usual, usual
        return np.log(units) - offset, np.ones_like(units)


def _group_expression(group: str | None) -> pl.Expr:
    return pl.col(group).cast(pl.String) if group else pl.lit("all")


def _exposure(frame: pl.DataFrame) -> pl.Expr:
    return (pl.col("exposure") if "exposure" in frame.columns else pl.lit(1.0)).cast(pl.Float64)


def _covers_a_year(frame: pl.DataFrame) -> bool:
    """Whether periods are dates that span a year, so that a week of the year was seen before."""
    if "period" not in frame.columns or not frame.schema["period"].is_temporal():
        return False
    first, last = frame.select(pl.col("period").min().alias("first"), pl.col("period").max().alias("last")).row(0)
    return bool((last - first).days >= LEAST_SEASONAL_SPAN_DAYS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """Rows of one item with equal features, added up: squares and the Poisson loss depend only on these sums.

    Attributes
    ----------
    item : int array (cell,)
        Codes 0, 1, ...
    features, target, weight : arrays (cell, feature), (cell,), (cell,)

    Examples
    --------
    >>> one = np.zeros((2, 1))
    >>> cells = Cells.of(pl.Series(["tea", "tea"]), one, np.array([1.0, 3.0]), np.ones(2))
    >>> cells.target.tolist(), cells.weight.tolist()
    ([2.0], [2.0])
    """

    item: NDArray[np.int64]
    features: Floats
    target: Floats
    weight: Floats

    @classmethod
    def of(cls, item: pl.Series, features: Floats, target: Floats, weight: Floats) -> Cells:
        """Add up rows of one item with equal features; the target becomes their weighted mean."""
        same = [f"f{i}" for i in range(features.shape[1])]
        sums = (
            pl.DataFrame(features, schema=same)
            .with_columns(item=item.rank("dense").cast(pl.Int64) - 1, weight=weight, total=target * weight)
            .group_by("item", *same, maintain_order=True)
            .agg(pl.col("weight", "total").sum())
        )
        return cls(
            item=sums["item"].to_numpy(),
            features=sums.select(same).to_numpy(),
            target=sums.select(pl.col("total") / pl.col("weight")).to_series().to_numpy(),
            weight=sums["weight"].to_numpy(),
        )

    def resampled(self, rng: np.random.Generator) -> Cells:
        """As many items, drawn with replacement; an item drawn twice weighs twice."""
        n_items = int(self.item.max()) + 1
        times = np.bincount(rng.integers(n_items, size=n_items), minlength=n_items)[self.item]
        drawn = times > 0
        return Cells(
            item=self.item[drawn],
            features=self.features[drawn],
            target=self.target[drawn],
            weight=(self.weight * times)[drawn],
        )


def reference_rows(train: SalesRows) -> pl.DataFrame:
    """One row per item: what its rows look like but for the price (mean controls, last period).

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["tea", "tea"], "period": [1, 2], "price": [2.0, 3.0], "quantity": [1.0, 1.0]})
    >>> reference_rows(SalesRows(frame=frame)).rows()
    [('tea', 2)]
    """
    kept = [name for name in (*train.levels, *train.keys[1:]) if name != "item"]
    last = [pl.lit(train.frame["period"].max()).alias("period")] if "period" in train.frame.columns else []
    return (
        train.frame.group_by("item", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in kept), *(pl.col(name).cast(pl.Float64).mean() for name in train.features)
        )
        .with_columns(*last)
    )


def held_out_rows(frame: pl.DataFrame, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark the last fifth of the periods, or a random fifth of the rows where there are too few periods.

    Examples
    --------
    >>> held_out_rows(pl.DataFrame({"period": [1, 2, 3, 4, 5]}), np.random.default_rng(1)).tolist()
    [False, False, False, False, True]
    """
    if "period" in frame.columns:
        rank = frame["period"].rank("dense").to_numpy()
        if rank.max() >= 1 / HELD_OUT_SHARE:
            return np.asarray(rank > (1 - HELD_OUT_SHARE) * rank.max())
    chosen = np.zeros(frame.height, dtype=bool)
    chosen[rng.permutation(frame.height)[: max(1, int(HELD_OUT_SHARE * frame.height))]] = True
    return chosen
