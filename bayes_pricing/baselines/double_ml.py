"""Double machine learning: an elasticity with everything else about the panel learned away, over repeated splits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from bayes_pricing.baselines.noise import CountNoise, LogResiduals, UnitsNoise
from bayes_pricing.baselines.protocol import Elasticities, Floats, SalesRows, UnitModel, resolve_unit_model
from bayes_pricing.baselines.regressors import ROWS_OF_A_LEAF, one_thread
from bayes_pricing.demand.instruments import build_instrument_rows, check_first_stage
from bayes_pricing.demand.instruments_report import WEAK_F
from bayes_pricing.errors import Finding, Refusal, SpecError

Ints = NDArray[np.int64]
LEAST_PRICE_VARIANCE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleMachineLearning:
    r"""Partially linear demand with item and period effects; the nuisance is learned by boosted trees.

    .. math:: \tilde y_{it} = \varepsilon_{g(i)}\, \tilde x_{it} + u_{it}, \qquad
              \tilde y = y - \hat\ell(w), \quad \tilde x = \log p - \hat m(w)

    Log units `y` and log price are first freed of item (and region) and of period effects; what is left is predicted
    from :math:`w` (category, time, usual price, controls) by trees fitted to the *other* items (cross-fitting:
    items are split into `folds`, so that no item helps to predict itself), and the residuals are regressed on each
    other per category. Splits are repeated: the estimate is the median over `splits`, the variance the median of each
    split's variance plus its squared distance from that median (Chernozhukov et al. 2018, section 3.4). Intervals are
    analytic, clustered by item, Student-t with the number of items less one; they speak of the category's common
    elasticity.

    Where some row sold nothing, `y` is units over the item's mean units, and the slope is divided by the mean of `y`:
    with residual prices near normal that is the mean elasticity itself (Stein's lemma), with no logarithm of zero.

    Where the rows have instruments, they are freed of the same effects and of what the nuisance predicts,
    :math:`\tilde x` is projected on them, and the projection is the instrument of :math:`\tilde x`: the partially
    linear model with instruments (section 4.2 there).

    Attributes
    ----------
    seed : int
        Of the splits.
    unit_model : str
        ``log``, ``counts``, or ``auto``: counts where some training row sold nothing.
    probability : float in (0, 1)
        Nominal coverage of the intervals.
    folds, splits : int
        At least 2 folds; at least 1 split.
    instrumented : bool
        Whether to use instruments where the rows have them; otherwise prices are taken as given.

    References
    ----------
    Chernozhukov et al. (2018), "Double/debiased machine learning for treatment and structural parameters",
    Econometrics Journal 21(1).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> price = rng.uniform(4.0, 6.0, 400)
    >>> frame = pl.DataFrame({"item": np.repeat([f"i{n:02d}" for n in range(20)], 20), "price": price,
    ...                       "period": list(range(20)) * 20, "quantity": 100 * price**-2})
    >>> fitted = DoubleMachineLearning(seed=1, splits=1).fit(SalesRows(frame=frame))
    >>> fitted.name, round(float(fitted.own_price_elasticity(["i03"], [5.0]).mean[0]), 2)
    ('double machine learning (log units)', -2.0)
    """

    seed: int
    unit_model: UnitModel = "auto"
    probability: float = 0.9
    folds: int = 5
    splits: int = 5
    instrumented: bool = True

    def __post_init__(self) -> None:
        if not self.folds >= 2:
            raise SpecError(
                f"DoubleMachineLearning.folds is {self.folds}; cross-fitting needs at least 2 (5 is usual)."
            )
        if not self.splits >= 1:
            raise SpecError(f"DoubleMachineLearning.splits is {self.splits}; at least 1 is needed (5 is usual).")
        if not 0 < self.probability < 1:
            raise SpecError(f"DoubleMachineLearning.probability is {self.probability}; it must lie between 0 and 1.")

    def fit(self, train: SalesRows) -> FittedDoubleMachineLearning:
        """Fit on training rows.

        Raises
        ------
        Refusal
            If log units are asked for and some row sold nothing, there are fewer items than folds, or the instruments
            are weak.
        """
        started = time.perf_counter()
        train = train if self.instrumented else train.without_instruments()
        model = resolve_unit_model(self.unit_model, train)
        how = f"{'relative units' if model == 'counts' else 'log units'}{', instrumented' if train.instruments else ''}"
        rows = EffectFreeRows.of(train, model)
        if rows.item.max() + 1 < self.folds:
            raise Refusal([_too_few_items(int(rows.item.max()) + 1, self.folds)])
        if train.instruments:
            _refuse_weak(rows, train.instruments)
        rng = np.random.default_rng(self.seed)
        estimates = [_estimate(rows, self.folds, rng) for _ in range(self.splits)]
        slopes = np.median([slope for slope, _influence in estimates], axis=0)
        influence = np.mean([part for _slope, part in estimates], axis=0)
        spread = np.median([(slope - slopes) ** 2 for slope, _influence in estimates], axis=0)
        fitted = FittedDoubleMachineLearning(
            name=f"double machine learning ({how})",
            seconds=0.0,
            probability=self.probability,
            group=train.group,
            keys=train.keys,
            categories=rows.categories,
            slopes=slopes,
            influence=influence,
            split_variance=spread,
            usual=rows.usual,
            noise=CountNoise(dispersion=0.0),
        )
        return replace(fitted, noise=left_over_noise(fitted, train, model), seconds=time.perf_counter() - started)


def _too_few_items(items: int, folds: int) -> Finding:
    return Finding(
        code="too_few_items_to_split",
        severity="error",
        message=f"there are {items} items and {folds} folds, so that no item is predicted by others",
        remedy=f"use at most {items} folds, or leave double machine learning out",
    )


def left_over_noise(
    fitted: FittedDoubleMachineLearning, train: SalesRows, model: Literal["log", "counts"]
) -> UnitsNoise:
    """Scatter of training rows around what the elasticity and the item's usual units predict.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": list("aaabbb"), "price": [1.0, 2.0, 4.0] * 2, "quantity": [8.0, 4.0, 2.0] * 2})
    >>> fitted = DoubleMachineLearning(seed=1, folds=2, splits=1).fit(SalesRows(frame=frame))
    >>> round(left_over_noise(fitted, SalesRows(frame=frame), "log").smearing, 6)
    1.0
    """
    log_units = fitted.log_units(train.frame)
    units = train.frame["quantity"].cast(pl.Float64).to_numpy()
    return CountNoise.of(units, np.exp(log_units)) if model == "counts" else LogResiduals.of(np.log(units) - log_units)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedDoubleMachineLearning:
    """Fitted :class:`DoubleMachineLearning`.

    Units are predicted from the item's usual units and the elasticity alone: the learned nuisance belongs to periods
    that are past.
    """

    name: str
    seconds: float
    probability: float
    group: str | None
    keys: tuple[str, ...]
    categories: dict[str, int]
    slopes: Floats
    influence: Floats
    split_variance: Floats
    usual: pl.DataFrame
    noise: UnitsNoise

    def log_units(self, frame: pl.DataFrame) -> Floats:
        """Fitted log units of each row, shape (n_rows,)."""
        means = ["usual", "mean_log_price"]
        overall = self.usual.select(pl.col(means).mean()).row(0, named=True)
        by_group = self.usual.group_by("group").agg(pl.col(means).mean().name.prefix("group_"))
        rows = (
            frame.with_columns(_group(self.group).alias("group"), exposure=_exposure(frame))
            .join(self.usual.drop("group"), on=self.keys, how="left", maintain_order="left")
            .join(by_group, on="group", how="left", maintain_order="left")
            .with_columns(pl.coalesce(name, f"group_{name}", pl.lit(overall[name])).alias(name) for name in means)
        )
        slopes = np.append(self.slopes, np.nanmean(self.slopes))
        code = rows["group"].replace_strict(self.categories, default=-1, return_dtype=pl.Int64).to_numpy()
        slope = np.where(np.isfinite(slopes[code]), slopes[code], 0.0)
        relative = (rows["price"].log() - rows["mean_log_price"]).to_numpy()
        log_units: Floats = (rows["usual"] + rows["exposure"].log()).to_numpy() + slope * relative
        return log_units

    def predict_units(self, frame: pl.DataFrame) -> Floats:
        """Return the expected units per period of each row, shape (n_rows,)."""
        expected: Floats = np.exp(self.log_units(frame)) * self.noise.smearing
        return expected

    def predict_draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        """Predictive draws of units, shape (n_draws, n_rows); the error of the elasticity is left out."""
        return self.noise.draw(self.log_units(frame), n_draws, rng)

    def own_price_elasticity(self, items: Sequence[str], at_prices: ArrayLike) -> Elasticities:
        """Elasticity of each item: its category's; not known for an item that was never seen."""
        code = self._codes(items)
        weights = (code[:, None] == np.arange(self.slopes.size)).astype(np.float64)
        return self._elasticities(items, weights, (code >= 0).astype(np.int64))

    def mean_elasticity(self, items: Sequence[str], at_prices: ArrayLike, groups: Sequence[str]) -> Elasticities:
        """Mean elasticity of the seen items of each group, with the interval of that mean."""
        code, label = self._codes(items), np.asarray(groups, dtype=object)
        names = sorted(set(groups))
        counts = np.array(
            [np.bincount(code[(label == name) & (code >= 0)], minlength=self.slopes.size) for name in names]
        )
        seen = counts.sum(axis=1)
        weights = counts / np.maximum(seen, 1)[:, None]
        return self._elasticities(names, weights, seen)

    def _codes(self, items: Sequence[str]) -> Ints:
        group = dict(self.usual.select("item", "group").unique("item").iter_rows())
        codes = [self.categories[group[item]] if item in group else -1 for item in items]
        return np.where(np.isfinite(np.append(self.slopes, 0.0)[codes]), codes, -1).astype(np.int64)

    def _elasticities(self, name: Sequence[str], weights: Floats, n_items: Ints) -> Elasticities:
        """Weighted means of the categories' slopes, dims of the weights (name, category)."""
        slopes = np.nan_to_num(self.slopes)
        variance = ((weights @ self.influence) ** 2).sum(axis=1) + weights**2 @ np.nan_to_num(self.split_variance)
        clusters = (np.abs(weights @ self.influence) > 0).sum(axis=1)
        freedom = np.maximum(clusters - 1, 1)
        half = np.where(clusters > 1, stdtrit(freedom, (1 + self.probability) / 2) * np.sqrt(variance), np.inf)
        known = n_items > 0
        mean = np.where(known, weights @ slopes, np.nan)
        return Elasticities(
            name=tuple(name),
            mean=mean,
            lower=np.where(known, mean - half, -np.inf),
            upper=np.where(known, mean + half, np.inf),
            probability=self.probability,
            interval_kind="confidence of the category's common elasticity, clustered by item, over repeated splits",
            n_items=tuple(n_items.tolist()),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EffectFreeRows:
    """Rows free of item and period effects, with what the nuisance is learned from; made by :meth:`of`.

    Examples
    --------
    >>> frame = pl.DataFrame({"item": ["tea"] * 2, "price": [1.0, 4.0], "quantity": [16.0, 1.0]})
    >>> rows = EffectFreeRows.of(SalesRows(frame=frame), "log")
    >>> (rows.target / rows.price).round(6).tolist()
    [-2.0, -2.0]
    """

    target: Floats
    price: Floats
    scale: Floats  # per category: the mean of the target in levels (1 in logs)
    nuisance: Floats
    instruments: tuple[Floats, ...]  # free of item and period effects
    item: Ints
    group: Ints
    categories: dict[str, int]
    usual: pl.DataFrame

    @classmethod
    def of(cls, train: SalesRows, model: Literal["log", "counts"]) -> EffectFreeRows:
        """Take means over training rows out of log units (or relative units) and log price."""
        frame = train.frame.with_columns(_group(train.group).alias("group"), exposure=_exposure(train.frame))
        rate = pl.col("quantity") / pl.col("exposure")
        if model == "log":
            usual, target = rate.log().mean(), rate.log()
        else:
            frame = frame.filter(pl.col("quantity").sum().over(train.keys) > 0)  # what never sold shows no slope
            usual = (pl.col("quantity").sum() / pl.col("exposure").sum()).log()
            target = rate / (pl.col("quantity").sum().over(train.keys) / pl.col("exposure").sum().over(train.keys))
        table = frame.group_by(*train.keys, maintain_order=True).agg(
            pl.col("group").first(), usual.alias("usual"), pl.col("price").log().mean().alias("mean_log_price")
        )
        categories = {name: code for code, name in enumerate(table["group"].unique().sort().to_list())}
        frame = frame.with_columns(x=pl.col("price").log(), y=target)
        unit = frame.select(pl.struct(train.keys).rank("dense").cast(pl.Int64) - 1).to_series().to_numpy()
        time_ = (frame["period"].rank("dense").cast(pl.Int64) - 1).to_numpy() if "period" in frame.columns else None
        group = frame["group"].replace_strict(categories, return_dtype=pl.Int64).to_numpy()
        means = np.bincount(unit, frame["x"].to_numpy()) / np.bincount(unit)
        features = [group, np.zeros(unit.size) if time_ is None else time_, means[unit]]
        features += [frame[name].cast(pl.Float64).to_numpy() for name in train.features]
        y = frame["y"].to_numpy()
        return cls(
            target=_within(y, unit, time_),
            price=_within(frame["x"].to_numpy(), unit, time_),
            scale=np.ones(len(categories)) if model == "log" else np.bincount(group, y) / np.bincount(group),
            nuisance=np.column_stack(features),
            instruments=tuple(
                _within(frame[name].cast(pl.Float64).to_numpy(), unit, time_) for name in train.instruments
            ),
            item=(frame["item"].rank("dense").cast(pl.Int64) - 1).to_numpy(),
            group=group,
            categories=categories,
            usual=table,
        )


def _group(group: str | None) -> pl.Expr:
    return pl.col(group).cast(pl.String) if group else pl.lit("all")


def _exposure(frame: pl.DataFrame) -> pl.Expr:
    return (pl.col("exposure") if "exposure" in frame.columns else pl.lit(1.0)).cast(pl.Float64)


def _within(values: Floats, unit: Ints, time_: Ints | None) -> Floats:
    """Values free of unit and period means, by alternating projections (exact after one round where balanced)."""
    left = values - (np.bincount(unit, values) / np.bincount(unit))[unit]
    if time_ is None:
        return left
    for _ in range(20):
        period = (np.bincount(time_, left) / np.bincount(time_))[time_]
        left = left - period
        mean = (np.bincount(unit, left) / np.bincount(unit))[unit]
        left = left - mean
        if max(np.abs(mean).max(), np.abs(period).max()) < 1e-10:
            break
    return left


def _estimate(rows: EffectFreeRows, folds: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Slope per category, and each item's influence on it, dims (category, item), of one split of the items."""
    n_items, n_groups = int(rows.item.max()) + 1, rows.scale.size
    fold = rng.permutation(np.arange(n_items) % folds)[rows.item]
    series = (rows.target, rows.price, *rows.instruments)
    y, x, *z = (_residual(rows.nuisance, values, fold, folds) for values in series)
    moving = _projected(x, z) if z else x
    squares = np.bincount(rows.group, moving * x, minlength=n_groups)
    counts = np.bincount(rows.group, minlength=n_groups)
    moved = squares > LEAST_PRICE_VARIANCE * np.maximum(counts, 1)
    slope = np.divide(
        np.bincount(rows.group, moving * y, minlength=n_groups), squares, out=np.full(n_groups, np.nan), where=moved
    )
    left = y - np.nan_to_num(slope)[rows.group] * x
    influence = np.zeros((n_groups, n_items))
    np.add.at(influence, (rows.group, rows.item), moving * left)
    clusters = (influence != 0).sum(axis=1)
    inflate = np.sqrt(clusters / np.maximum(clusters - 1, 1))
    influence = influence * np.divide(inflate, squares, out=np.zeros(n_groups), where=moved)[:, None]
    return slope / rows.scale, influence / rows.scale[:, None]


def _projected(price: Floats, instruments: Sequence[Floats]) -> Floats:
    """The part of the price that instruments explain."""
    columns = np.column_stack(instruments)
    return np.asarray(columns @ np.linalg.lstsq(columns, price)[0])


def _refuse_weak(rows: EffectFreeRows, names: tuple[str, ...]) -> None:
    none = np.zeros((rows.price.size, 0))
    columns = np.column_stack(rows.instruments)
    stage = check_first_stage(
        build_instrument_rows(rows.target, rows.price, columns, names, rows.item, none), "clustered"
    )
    if not stage.f_effective >= WEAK_F:
        raise Refusal(
            [
                Finding(
                    code="weak_instrument",
                    severity="error",
                    message=f"{', '.join(names)} hardly move the price: effective F {stage.f_effective:.1f}, at least "
                    f"{WEAK_F:.0f} is needed",
                    remedy="give an instrument that moves price more, or test prices",
                )
            ]
        )


def _residual(features: Floats, values: Floats, fold: Ints, folds: int) -> Floats:
    """Values minus what trees fitted to the other folds predict."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]  # has no types

    predicted = np.empty_like(values)
    for one in range(folds):
        out = fold == one
        trees = HistGradientBoostingRegressor(
            max_iter=40, max_leaf_nodes=8, min_samples_leaf=ROWS_OF_A_LEAF, max_bins=64, random_state=0
        )
        with one_thread():
            predicted[out] = trees.fit(features[~out], values[~out]).predict(features[out])
    return values - predicted
