"""Log-linear regressions: pooled, with item fixed effects, and separately for every item."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from bayes_pricing.baselines.fixed_effects import EffectsData, EffectsFit, Ints, fit_least_squares, fit_poisson
from bayes_pricing.baselines.noise import CountNoise, LogResiduals, UnitsNoise
from bayes_pricing.baselines.protocol import Elasticities, Floats, SalesRows, UnitModel, resolve_unit_model
from bayes_pricing.errors import SpecError

Pooling = Literal["pooled", "item_effects", "separate"]
LABELS: dict[Pooling, str] = {
    "pooled": "pooled regression",
    "item_effects": "item fixed effects",
    "separate": "separate regressions",
}
NEVER_SOLD_UNITS = 0.5  # what a unit that never sold is taken to have sold over the training window


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearDemand:
    r"""Log units (or the log of expected counts) as a straight line in log price.

    .. math:: \log E[q_{it}] = a + \varepsilon \log p_{it} + \beta' c_{it} + \gamma' z_{it} + \log s_{it}

    ==============  ============================  ====================================================
    pooling         intercept :math:`a`           slopes :math:`\varepsilon, \beta`
    ==============  ============================  ====================================================
    pooled          per category                  per category; dear items are compared with cheap ones
    item_effects    per item (and region)         per category; an item is compared with itself only
    separate        per item (and region)         per item, those of shared controls too
    ==============  ============================  ====================================================

    The category is the innermost level; without levels there is one.

    Log units are fitted by least squares. Sales with zeros are fitted as counts, by Poisson maximum likelihood with
    the intercepts concentrated out: exact, with no column per item (2,000 of them would make scikit-learn's
    PoissonRegressor solve a 2,000 x 2,000 system at every step), on rows with equal predictors added up beforehand.

    Intervals are analytic: robust to any dependence within an item (clustered by item; Student-t with the number of
    items less one), and for separate regressions robust to unequal noise only. An item's interval under ``pooled``
    and ``item_effects`` is that of its category's common elasticity: it does not speak of how items differ.

    Attributes
    ----------
    pooling : str
        ``pooled``, ``item_effects`` or ``separate``.
    unit_model : str
        ``log``, ``counts``, or ``auto``: counts where some training row sold nothing.
    probability : float in (0, 1)
        Nominal coverage of the elasticity intervals.

    References
    ----------
    Cameron & Miller (2015), "A practitioner's guide to cluster-robust inference", J. Human Resources 50(2).

    Examples
    --------
    >>> price = [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]
    >>> frame = pl.DataFrame({"item": ["tea"] * 3 + ["rum"] * 3, "price": price,
    ...                       "quantity": [100.0 * p**-2 for p in price]})
    >>> fitted = LinearDemand(pooling="item_effects").fit(SalesRows(frame=frame))
    >>> fitted.name, [round(float(e), 3) for e in fitted.own_price_elasticity(["rum", "tea"], [5.0, 5.0]).mean]
    ('item fixed effects (log units)', [-2.0, -2.0])
    """

    pooling: Pooling = "item_effects"
    unit_model: UnitModel = "auto"
    probability: float = 0.9

    def __post_init__(self) -> None:
        if self.pooling not in LABELS:
            raise SpecError(f"LinearDemand.pooling is {self.pooling!r}; choose one of {list(LABELS)}.")
        if not 0 < self.probability < 1:
            raise SpecError(f"LinearDemand.probability is {self.probability}; it must lie between 0 and 1.")

    def fit(self, train: SalesRows) -> FittedLinearDemand:
        """Fit on training rows.

        Raises
        ------
        Refusal
            If log units are asked for and some row sold nothing.
        """
        started = time.perf_counter()
        model = resolve_unit_model(self.unit_model, train)
        columns = _Columns.of(self.pooling, train)
        rows = columns.select(train.frame)
        cells = columns.add_up(rows) if model == "counts" else rows
        data = columns.arrays(cells, log_units=model == "log")
        effects = fit_poisson(data) if model == "counts" else fit_least_squares(data)
        fitted = FittedLinearDemand(
            name=f"{LABELS[self.pooling]} ({'Poisson' if model == 'counts' else 'log units'})",
            seconds=0.0,
            probability=self.probability,
            columns=columns,
            effects=effects,
            coefficients=_coefficient_table(columns, cells, data, effects),
            slope_group=dict(zip(cells["item"].to_list(), data.slope_group.tolist(), strict=True)),
            noise=CountNoise(dispersion=0.0),
        )
        noise = _training_noise(fitted.log_units(train.frame), train.frame, model)
        return replace(fitted, noise=noise, seconds=time.perf_counter() - started)


def _training_noise(log_units: Floats, frame: pl.DataFrame, model: Literal["log", "counts"]) -> UnitsNoise:
    units = frame["quantity"].cast(pl.Float64).to_numpy()
    if model == "counts":
        return CountNoise.of(units, np.exp(log_units))
    return LogResiduals.of(np.log(units) - log_units)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedLinearDemand:
    """A fitted :class:`LinearDemand`; predictions for an item that was never seen use the mean of its category.

    Attributes
    ----------
    name : str
    seconds : float
    probability : float in (0, 1)
    effects : EffectsFit
    coefficients : polars.DataFrame
        One row per item (and region): ``group``, ``intercept`` (log units at the mean log price), and a slope per
        column: ``log_price``, then the item-level controls.
    slope_group : dict of str to int
        Which slopes an item has.
    noise : UnitsNoise
    """

    name: str
    seconds: float
    probability: float
    columns: _Columns
    effects: EffectsFit
    coefficients: pl.DataFrame
    slope_group: dict[str, int]
    noise: UnitsNoise

    def log_units(self, frame: pl.DataFrame) -> Floats:
        """Fitted log units of each row, shape (n_rows,)."""
        rows = self.columns.select(frame, sort=False)
        names = ["intercept", *self.columns.own]
        values = self.coefficients.select(*self.columns.keys, pl.col(names).name.prefix("b_"))
        means = self.coefficients.group_by("group").agg(pl.col(names).mean().name.prefix("g_"))
        joined = rows.join(values, on=self.columns.keys, how="left", maintain_order="left").join(
            means, on="group", how="left", maintain_order="left"
        )
        overall = self.coefficients.select(pl.col(names).mean()).row(0, named=True)
        beta = joined.select(
            pl.coalesce(f"b_{name}", f"g_{name}", pl.lit(overall[name])).alias(name) for name in names
        ).to_numpy()
        own = rows.select(self.columns.own).to_numpy()
        shared = rows.select(self.columns.shared).to_numpy() @ self.effects.shared if self.columns.shared else 0.0
        fitted: Floats = beta[:, 0] + (beta[:, 1:] * own).sum(axis=1) + shared + np.log(rows["exposure"].to_numpy())
        return fitted

    def predict_units(self, frame: pl.DataFrame) -> Floats:
        """Return the expected units per period of each row, shape (n_rows,)."""
        expected: Floats = np.exp(self.log_units(frame)) * self.noise.smearing
        return expected

    def predict_draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        """Predictive draws of units, shape (n_draws, n_rows); the error of the coefficients is left out."""
        return self.noise.draw(self.log_units(frame), n_draws, rng)

    def own_price_elasticity(self, items: Sequence[str], at_prices: ArrayLike) -> Elasticities:
        """Elasticity of each item; the same at every price, as the line is straight."""
        code = np.array([self.slope_group.get(item, -1) for item in items], dtype=np.int64)
        known = np.where(code >= 0, self.effects.identified[code], False)
        mean = np.where(known, self.effects.slopes[code, 0], np.nan)
        half = _half_width(self.effects.slope_variances(), self.effects.degrees_of_freedom, self.probability)[code]
        return self._elasticities(items, mean, np.where(known, half, np.inf), known.astype(np.int64).tolist())

    def mean_elasticity(self, items: Sequence[str], at_prices: ArrayLike, groups: Sequence[str]) -> Elasticities:
        """Mean elasticity of the items of each group that have one, with the interval of that mean."""
        of_group: dict[str, list[int]] = {group: [] for group in sorted(set(groups))}
        for item, group in zip(items, groups, strict=True):
            code = self.slope_group.get(item, -1)
            if code >= 0 and self.effects.identified[code]:
                of_group[group].append(code)
        mean, half = np.full(len(of_group), np.nan), np.full(len(of_group), np.inf)
        for position, codes in enumerate(of_group.values()):
            if codes:
                weights = np.bincount(codes, minlength=self.effects.identified.size) / len(codes)
                freedom = self.effects.degrees_of_freedom[weights > 0]
                variance = np.array([self.effects.mean_slope_variance(weights)])
                total = np.array([freedom.sum() if (freedom > 0).all() else 0.0])
                mean[position] = weights @ self.effects.slopes[:, 0]
                half[position] = _half_width(variance, total, self.probability)[0]
        return self._elasticities(list(of_group), mean, half, [len(codes) for codes in of_group.values()])

    def _elasticities(self, name: Sequence[str], mean: Floats, half: Floats, n_items: list[int]) -> Elasticities:
        known = np.isfinite(mean)
        return Elasticities(
            name=tuple(name),
            mean=mean,
            lower=np.where(known, mean - half, -np.inf),
            upper=np.where(known, mean + half, np.inf),
            probability=self.probability,
            interval_kind=self.columns.interval_kind,
            n_items=tuple(n_items),
        )


def _half_width(variance: Floats, freedom: Floats, probability: float) -> Floats:
    """Half the width of a Student-t interval; infinite where no degree of freedom is left."""
    quantile = np.full(freedom.shape, np.inf)
    usable = freedom > 0
    quantile[usable] = stdtrit(freedom[usable], (1 + probability) / 2)
    half: Floats = np.where(usable, np.sqrt(variance), 1.0) * quantile
    return half


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Which columns carry slopes, shared effects, intercepts and clusters."""

    pooling: Pooling
    keys: tuple[str, ...]
    group: str | None
    own: tuple[str, ...]
    shared: tuple[str, ...]
    mean_log_price: float

    @classmethod
    def of(cls, pooling: Pooling, rows: SalesRows) -> _Columns:
        separate = pooling == "separate"
        return cls(
            pooling=pooling,
            keys=rows.keys,
            group=rows.group,
            own=("log_price", *(rows.features if separate else rows.controls)),
            shared=() if separate else rows.shared_controls,
            mean_log_price=float(np.log(rows.frame["price"].to_numpy()).mean()),
        )

    @property
    def interval_kind(self) -> str:
        if self.pooling == "separate":
            return "confidence, robust to unequal noise"
        return "confidence of the category's common elasticity, clustered by item"

    def select(self, frame: pl.DataFrame, *, sort: bool = True) -> pl.DataFrame:
        """Rows with `group`, keys, the numeric columns, `units` and `exposure` (1 where there is none)."""
        exposure = pl.col("exposure") if "exposure" in frame.columns else pl.lit(1.0)
        units = pl.col("quantity") if "quantity" in frame.columns else pl.lit(None)
        group = pl.col(self.group).cast(pl.String) if self.group else pl.lit("all")
        rows = frame.select(
            group.alias("group"),
            *self.keys,
            (pl.col("price").log() - self.mean_log_price).alias("log_price"),
            *(pl.col(name).cast(pl.Float64) for name in (*self.own[1:], *self.shared)),
            units.cast(pl.Float64).alias("units"),
            exposure.cast(pl.Float64).alias("exposure"),
        )
        return rows.sort("group", *self.keys) if sort else rows

    def add_up(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Add up rows with equal predictors; separate regressions keep theirs, whose scatter gives the interval."""
        if self.pooling == "separate":
            return rows
        same = ["group", *self.keys, *self.own, *self.shared]
        return rows.group_by(same).agg(pl.col("units", "exposure").sum()).sort(same)

    def arrays(self, cells: pl.DataFrame, *, log_units: bool) -> EffectsData:
        """Sorted rows as arrays with codes for slopes, intercepts and clusters."""
        group, unit = ["group"], ["group", *self.keys]
        item = ["group", "item"]
        slopes = item if self.pooling == "separate" else group
        intercepts = group if self.pooling == "pooled" else unit
        units, exposure = cells["units"].to_numpy(), cells["exposure"].to_numpy()
        return EffectsData(
            units=np.log(units / exposure) if log_units else units,
            exposure=exposure,
            own=cells.select(self.own).to_numpy(),
            shared=cells.select(self.shared).to_numpy() if self.shared else np.empty((cells.height, 0)),
            slope_group=_codes(cells, slopes),
            unit=_codes(cells, intercepts),
            cluster=np.arange(cells.height) if self.pooling == "separate" else _codes(cells, item),
        )


def _codes(rows: pl.DataFrame, names: Sequence[str]) -> Ints:
    """Codes 0, 1, ... of runs of equal values in sorted rows."""
    return rows.select(pl.struct(names).rle_id().cast(pl.Int64)).to_series().to_numpy()


def _coefficient_table(columns: _Columns, cells: pl.DataFrame, data: EffectsData, effects: EffectsFit) -> pl.DataFrame:
    """Intercept and slopes of each item (and region)."""
    intercepts = effects.intercepts
    if not np.isfinite(intercepts).all():
        slope = np.einsum("nk,nk->n", data.own, effects.slopes[data.slope_group]) + data.shared @ effects.shared
        expected = np.bincount(data.unit, weights=data.exposure * np.exp(slope))
        intercepts = np.where(np.isfinite(intercepts), intercepts, np.log(NEVER_SOLD_UNITS / expected))
    return cells.select(
        "group",
        *columns.keys,
        pl.Series("intercept", intercepts[data.unit]),
        *(pl.Series(name, effects.slopes[data.slope_group, position]) for position, name in enumerate(columns.own)),
    ).unique(subset=columns.keys, maintain_order=True)
