"""Gradient-boosted trees whose predicted units never rise with price."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from bayes_pricing.baselines.noise import CountNoise, LogResiduals, UnitsNoise
from bayes_pricing.baselines.protocol import Elasticities, Floats, SalesRows, UnitModel, resolve_unit_model
from bayes_pricing.errors import SpecError

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]  # has no types

PRICE_STEPS = np.log(np.linspace(0.9, 1.1, 5))
HELD_OUT_SHARE = 0.2
CATEGORIES_LIMIT = 64  # scikit-learn allows a categorical feature no more values than bins
LEAST_SEASONAL_SPAN_DAYS = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class BoostedTrees:
    r"""Boosted trees for units relative to the item's usual units, monotone in price.

    .. math:: E[q_{it}] = s_{it} \, \bar q_i \, f\bigl(\log p_{it} - \overline{\log p}_i,\ \text{category}_i,\
              \text{week of the year}_t,\ c_{it}\bigr), \quad f \text{ falling in its first argument}

    Means are over training rows. The item's usual units :math:`\bar q_i` enter as an offset and not as one more
    feature to learn: for the Poisson loss, fitting :math:`q / \bar q` with weights :math:`\bar q` is that offset
    exactly; log units are fitted by squares of their deviation from the item's mean. Every feature is known on the
    day of the decision; the week is used where training spans a year.

    The elasticity is the slope of log predictions over prices from 10 % below to 10 % above the price asked about
    (five points), at the item's mean controls and the last training week. Its interval is a bootstrap over items:
    `refits` fits to items drawn with replacement, and the Student-t interval with their standard deviation. It tells
    how far the trees depend on which items were seen, not how far a single item strays from what they predict of it,
    nor the bias of trees towards flat answers. No upper end is above 0, as the trees cannot rise with price.

    Attributes
    ----------
    seed : int
        Of the bootstrap.
    unit_model : str
        ``log``, ``counts``, or ``auto``: counts where some training row sold nothing.
    probability : float in (0, 1)
        Nominal coverage of the elasticity intervals.
    refits : int
        Bootstrap fits, at least 2.

    References
    ----------
    Friedman (2001), "Greedy function approximation: a gradient boosting machine", Annals of Statistics 29(5).

    Examples
    --------
    >>> price = np.tile(np.linspace(4.0, 6.0, 21), 10)
    >>> frame = pl.DataFrame({"item": np.repeat(list("abcdefghij"), 21), "price": price, "quantity": 100 * price**-2})
    >>> fitted = BoostedTrees(seed=1, refits=2).fit(SalesRows(frame=frame))
    >>> elasticity = fitted.own_price_elasticity(["a"], [5.0])
    >>> fitted.name, bool(-2.3 < elasticity.mean[0] < -1.7)
    ('boosted trees (log units)', True)
    """

    seed: int
    unit_model: UnitModel = "auto"
    probability: float = 0.9
    refits: int = 10

    def __post_init__(self) -> None:
        if not self.refits >= 2:
            raise SpecError(
                f"BoostedTrees.refits is {self.refits}; a bootstrap interval needs at least 2 (10 is usual)."
            )
        if not 0 < self.probability < 1:
            raise SpecError(f"BoostedTrees.probability is {self.probability}; it must lie between 0 and 1.")

    def fit(self, train: SalesRows) -> FittedBoostedTrees:
        """Fit on training rows: the trees, their bootstrap, and the noise of rows they were not fitted to.

        Raises
        ------
        Refusal
            If log units are asked for and some row sold nothing.
        """
        started = time.perf_counter()
        model = resolve_unit_model(self.unit_model, train)
        rng = np.random.default_rng(self.seed)
        encoding = _Encoding.of(train, model)
        features, offset = encoding.features(train.frame)
        target, weight = encoding.target(train.frame, offset)
        cells = _Cells.of(train.frame["item"], features, target, weight)
        trees = _fit_trees(encoding, cells)
        bootstrap = tuple(_fit_trees(encoding, cells.resampled(rng)) for _ in range(self.refits))
        fitted = FittedBoostedTrees(
            name=f"boosted trees ({'Poisson' if model == 'counts' else 'log units'})",
            seconds=0.0,
            probability=self.probability,
            encoding=encoding,
            trees=trees,
            bootstrap=bootstrap,
            reference=_reference_rows(train),
            noise=_held_out_noise(train, model, rng),
        )
        return replace(fitted, seconds=time.perf_counter() - started)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedBoostedTrees:
    """Fitted :class:`BoostedTrees`; an item that was never seen is taken as the mean item of its category."""

    name: str
    seconds: float
    probability: float
    encoding: _Encoding
    trees: HistGradientBoostingRegressor
    bootstrap: tuple[HistGradientBoostingRegressor, ...]
    reference: pl.DataFrame
    noise: UnitsNoise

    def log_units(self, frame: pl.DataFrame) -> Floats:
        """Fitted log units of each row, shape (n_rows,)."""
        features, offset = self.encoding.features(frame)
        return offset + self.encoding.log_prediction(self.trees, features)

    def predict_units(self, frame: pl.DataFrame) -> Floats:
        """Return the expected units per period of each row, shape (n_rows,)."""
        expected: Floats = np.exp(self.log_units(frame)) * self.noise.smearing
        return expected

    def predict_draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        """Predictive draws of units, shape (n_draws, n_rows); the error of the trees' shape is left out."""
        return self.noise.draw(self.log_units(frame), n_draws, rng)

    def own_price_elasticity(self, items: Sequence[str], at_prices: ArrayLike) -> Elasticities:
        """Elasticity of each item around its price; not known for an item that was never seen."""
        known = np.isin(np.asarray(items, dtype=object), self.reference["item"].to_list())
        draws = self._slopes(items, at_prices)
        return self._elasticities(items, draws, known.astype(np.int64).tolist())

    def mean_elasticity(self, items: Sequence[str], at_prices: ArrayLike, groups: Sequence[str]) -> Elasticities:
        """Mean elasticity of the seen items of each group, with the interval of that mean."""
        known = np.isin(np.asarray(items, dtype=object), self.reference["item"].to_list())
        draws = self._slopes(items, at_prices)
        names = sorted(set(groups))
        members = [(np.asarray(groups, dtype=object) == name) & known for name in names]
        means = np.stack([draws[:, rows].mean(axis=1) if rows.any() else draws[:, 0] for rows in members], axis=1)
        return self._elasticities(names, means, [int(rows.sum()) for rows in members])

    def _slopes(self, items: Sequence[str], at_prices: ArrayLike) -> Floats:
        """Slope of log predictions, dims (1 + refits, item): the trees, then their bootstrap."""
        asked = pl.DataFrame({"item": list(items), "at_price": np.asarray(at_prices, dtype=np.float64)})
        different = asked.unique(maintain_order=True).with_row_index("place")
        place = asked.join(different, on=["item", "at_price"], how="left", maintain_order="left")["place"].to_numpy()
        rows = different.join(self.reference, on="item", how="left", maintain_order="left")
        steps = [rows.with_columns(price=pl.col("at_price") * np.exp(step)) for step in PRICE_STEPS]
        features, _offset = self.encoding.features(pl.concat(steps))
        centred = PRICE_STEPS - PRICE_STEPS.mean()
        weights = centred / (centred @ centred)
        models = (self.trees, *self.bootstrap)
        predictions = np.stack([self.encoding.log_prediction(model, features) for model in models])
        slopes: Floats = np.einsum("s,msi->mi", weights, predictions.reshape(len(models), PRICE_STEPS.size, -1))
        return slopes[:, place]

    def _elasticities(self, name: Sequence[str], slopes: Floats, n_items: list[int]) -> Elasticities:
        known = np.array(n_items) > 0
        refits = len(self.bootstrap)
        half = stdtrit(refits - 1, (1 + self.probability) / 2) * slopes[1:].std(axis=0, ddof=1)
        return Elasticities(
            name=tuple(name),
            mean=np.where(known, slopes[0], np.nan),
            lower=np.where(known, slopes[0] - half, -np.inf),
            upper=np.where(known, np.minimum(slopes[0] + half, 0.0), np.inf),
            probability=self.probability,
            interval_kind=f"bootstrap over items, {refits} refits, Student-t",
            n_items=tuple(n_items),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Encoding:
    """Turns rows into features with nothing but training means; `table` has a row per item (and region)."""

    counts: bool
    keys: tuple[str, ...]
    group: str | None
    controls: tuple[str, ...]
    seasonal: bool
    table: pl.DataFrame
    categories: dict[str, int]

    @classmethod
    def of(cls, train: SalesRows, model: Literal["log", "counts"]) -> _Encoding:
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

    def log_prediction(self, trees: HistGradientBoostingRegressor, features: Floats) -> Floats:
        """Log of units relative to the usual ones."""
        with one_thread():
            predicted: Floats = trees.predict(features)
        return np.log(predicted) if self.counts else predicted


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
class _Cells:
    """Rows of one item with equal features, added up: both losses depend on them only through these sums."""

    item: NDArray[np.int64]
    features: Floats
    target: Floats
    weight: Floats

    @classmethod
    def of(cls, item: pl.Series, features: Floats, target: Floats, weight: Floats) -> _Cells:
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

    def resampled(self, rng: np.random.Generator) -> _Cells:
        """As many items, drawn with replacement; an item drawn twice weighs twice."""
        n_items = int(self.item.max()) + 1
        times = np.bincount(rng.integers(n_items, size=n_items), minlength=n_items)[self.item]
        drawn = times > 0
        return _Cells(
            item=self.item[drawn],
            features=self.features[drawn],
            target=self.target[drawn],
            weight=(self.weight * times)[drawn],
        )


def one_thread() -> AbstractContextManager[object]:
    """Keep the trees on one thread: two that wait for each other on a shared core took twenty times as long."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

    limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="openmp")
    return limits


def _fit_trees(encoding: _Encoding, cells: _Cells) -> HistGradientBoostingRegressor:
    from sklearn.ensemble import HistGradientBoostingRegressor

    categories = len(encoding.categories)
    trees = HistGradientBoostingRegressor(
        loss="poisson" if encoding.counts else "squared_error",
        learning_rate=0.1,
        max_iter=100,
        max_leaf_nodes=8,
        min_samples_leaf=20,
        max_bins=CATEGORIES_LIMIT,
        monotonic_cst=[-1] + [0] * (cells.features.shape[1] - 1),
        categorical_features=[1] if 1 < categories <= CATEGORIES_LIMIT else None,
        early_stopping=False,
        random_state=0,
    )
    with one_thread():
        return trees.fit(cells.features, cells.target, sample_weight=cells.weight)


def _reference_rows(train: SalesRows) -> pl.DataFrame:
    """One row per item: what its rows look like but for the price (mean controls, last period)."""
    kept = [name for name in (*train.levels, *train.keys[1:]) if name != "item"]
    last = [pl.lit(train.frame["period"].max()).alias("period")] if "period" in train.frame.columns else []
    return (
        train.frame.group_by("item", maintain_order=True)
        .agg(
            *(pl.col(name).first() for name in kept), *(pl.col(name).cast(pl.Float64).mean() for name in train.features)
        )
        .with_columns(*last)
    )


def _held_out_noise(train: SalesRows, model: Literal["log", "counts"], rng: np.random.Generator) -> UnitsNoise:
    """Scatter of rows the trees were not fitted to: the last fifth of the periods, or a random fifth of the rows."""
    held_out = _held_out_rows(train.frame, rng)
    early = train.with_frame(train.frame.filter(~pl.Series(held_out)))
    late = train.frame.filter(pl.Series(held_out))
    encoding = _Encoding.of(early, model)
    features, offset = encoding.features(early.frame)
    target, weight = encoding.target(early.frame, offset)
    trees = _fit_trees(encoding, _Cells.of(early.frame["item"], features, target, weight))
    late_features, late_offset = encoding.features(late)
    log_units = late_offset + encoding.log_prediction(trees, late_features)
    units = late["quantity"].cast(pl.Float64).to_numpy()
    if model == "counts":
        return CountNoise.of(units, np.exp(log_units))
    return LogResiduals.of(np.log(units) - log_units)


def _held_out_rows(frame: pl.DataFrame, rng: np.random.Generator) -> NDArray[np.bool_]:
    if "period" in frame.columns:
        rank = frame["period"].rank("dense").to_numpy()
        if rank.max() >= 1 / HELD_OUT_SHARE:
            return np.asarray(rank > (1 - HELD_OUT_SHARE) * rank.max())
    chosen = np.zeros(frame.height, dtype=bool)
    chosen[rng.permutation(frame.height)[: max(1, int(HELD_OUT_SHARE * frame.height))]] = True
    return chosen
