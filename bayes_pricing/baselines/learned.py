"""Demand learned by scikit-learn: trees, forests, their ensemble, curves in log price; with bootstrap intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from bayes_pricing.baselines.features import Cells, Encoding, held_out_rows, reference_rows
from bayes_pricing.baselines.noise import CountNoise, LogResiduals, UnitsNoise
from bayes_pricing.baselines.protocol import Elasticities, Floats, SalesRows, UnitModel, resolve_unit_model
from bayes_pricing.baselines.regressors import (
    LARGEST_LOG,
    LEARNERS,
    MONOTONE,
    PACKAGED,
    Learner,
    Regressor,
    build_regressor,
    one_thread,
)
from bayes_pricing.errors import SpecError
from bayes_pricing.extras import import_extra

PRICE_STEPS = np.log(np.linspace(0.9, 1.1, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedDemand:
    r"""Units relative to the item's usual units, learned from price relative to the item's usual price.

    .. math:: E[q_{it}] = s_{it} \, \bar q_i \, f\bigl(\log p_{it} - \overline{\log p}_i,\ \text{category}_i,\
              \text{week of the year}_t,\ c_{it}\bigr)

    ==================  ==========================================================================================
    learner             :math:`f`
    ==================  ==========================================================================================
    ``boosted_trees``   100 boosted trees, falling in price
    ``random_forest``   40 bagged trees, free
    ``ensemble``        the mean of both, in logs
    ``quadratic``       a parabola in log price per category, waves of the year, linear controls
    ``cubic``           the same with a cubic
    ``gam``             the same with a cubic spline of log price (five knots at quantiles)
    ``xgboost``         100 boosted trees of XGBoost, falling in price (extra ``boosting``)
    ``lightgbm``        100 boosted trees of LightGBM, falling in price (extra ``boosting``)
    ==================  ==========================================================================================

    The elasticity is the slope of log predictions over prices from 10 % below to 10 % above the price asked about, at
    the item's mean controls and the last training week. Its interval is a bootstrap over items: `refits` fits to items
    drawn with replacement, and the Student-t interval with their standard deviation. It tells how far the fit depends
    on which items were seen, not how far a single item strays from its category. Predictive draws scatter as rows
    did that the learner was not fitted to (the last fifth of the periods): as in split-conformal prediction.

    Attributes
    ----------
    learner : str
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
    Hastie & Tibshirani (1986), "Generalized additive models", Statistical Science 1(3).
    Breiman (2001), "Random forests", Machine Learning 45.

    Examples
    --------
    >>> price = np.tile(np.linspace(4.0, 6.0, 21), 10)
    >>> frame = pl.DataFrame({"item": np.repeat(list("abcdefghij"), 21), "price": price, "quantity": 100 * price**-2})
    >>> fitted = LearnedDemand(learner="gam", seed=1, refits=2).fit(SalesRows(frame=frame))
    >>> fitted.name, round(float(fitted.own_price_elasticity(["a"], [5.0]).mean[0]), 2)
    ('generalised additive model (log units)', -2.0)
    """

    learner: Learner
    seed: int
    unit_model: UnitModel = "auto"
    probability: float = 0.9
    refits: int = 10

    def __post_init__(self) -> None:
        if self.learner not in LEARNERS:
            raise SpecError(f"LearnedDemand.learner is {self.learner!r}; choose one of {list(LEARNERS)}.")
        if self.learner in PACKAGED:
            import_extra(self.learner, "boosting")
        if not self.refits >= 2:
            raise SpecError(
                f"LearnedDemand.refits is {self.refits}; a bootstrap interval needs at least 2 (10 is usual)."
            )
        if not 0 < self.probability < 1:
            raise SpecError(f"LearnedDemand.probability is {self.probability}; it must lie between 0 and 1.")

    def fit(self, train: SalesRows) -> FittedLearnedDemand:
        """Fit on training rows: the learner, its bootstrap, and the noise of rows it was not fitted to.

        Raises
        ------
        Refusal
            If log units are asked for and some row sold nothing.
        """
        started = time.perf_counter()
        model = resolve_unit_model(self.unit_model, train)
        rng = np.random.default_rng(self.seed)
        encoding = Encoding.of(train, model)
        features, offset = encoding.features(train.frame)
        target, weight = encoding.target(train.frame, offset)
        cells = Cells.of(train.frame["item"], features, target, weight)
        fitted = FittedLearnedDemand(
            name=f"{LEARNERS[self.learner]} ({'Poisson' if model == 'counts' else 'log units'})",
            seconds=0.0,
            probability=self.probability,
            learner=self.learner,
            encoding=encoding,
            regressor=_fit(self.learner, encoding, cells),
            bootstrap=tuple(_fit(self.learner, encoding, cells.resampled(rng)) for _ in range(self.refits)),
            reference=reference_rows(train),
            noise=_held_out_noise(self.learner, train, model, rng),
        )
        return replace(fitted, seconds=time.perf_counter() - started)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FittedLearnedDemand:
    """Fitted :class:`LearnedDemand`; an item that was never seen is taken as the mean item of its category."""

    name: str
    seconds: float
    probability: float
    learner: Learner
    encoding: Encoding
    regressor: Regressor
    bootstrap: tuple[Regressor, ...]
    reference: pl.DataFrame
    noise: UnitsNoise

    def log_units(self, frame: pl.DataFrame) -> Floats:
        """Fitted log units of each row, shape (n_rows,)."""
        features, offset = self.encoding.features(frame)
        return offset + _log_prediction(self.regressor, self.encoding, features)

    def predict_units(self, frame: pl.DataFrame) -> Floats:
        """Return the expected units per period of each row, shape (n_rows,)."""
        expected: Floats = np.exp(self.log_units(frame)) * self.noise.smearing
        return expected

    def predict_draws(self, frame: pl.DataFrame, n_draws: int, rng: np.random.Generator) -> Floats:
        """Predictive draws of units, shape (n_draws, n_rows); the error of what was learned is left out."""
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
        """Slope of log predictions, dims (1 + refits, item): the fit, then its bootstrap."""
        asked = pl.DataFrame({"item": list(items), "at_price": np.asarray(at_prices, dtype=np.float64)})
        different = asked.unique(maintain_order=True).with_row_index("place")
        place = asked.join(different, on=["item", "at_price"], how="left", maintain_order="left")["place"].to_numpy()
        rows = different.join(self.reference, on="item", how="left", maintain_order="left")
        steps = [rows.with_columns(price=pl.col("at_price") * np.exp(step)) for step in PRICE_STEPS]
        features, _offset = self.encoding.features(pl.concat(steps))
        centred = PRICE_STEPS - PRICE_STEPS.mean()
        weights = centred / (centred @ centred)
        models = (self.regressor, *self.bootstrap)
        predictions = np.stack([_log_prediction(model, self.encoding, features) for model in models])
        slopes: Floats = np.einsum("s,msi->mi", weights, predictions.reshape(len(models), PRICE_STEPS.size, -1))
        return slopes[:, place]

    def _elasticities(self, name: Sequence[str], slopes: Floats, n_items: list[int]) -> Elasticities:
        known = np.array(n_items) > 0
        refits = len(self.bootstrap)
        half = stdtrit(refits - 1, (1 + self.probability) / 2) * slopes[1:].std(axis=0, ddof=1)
        upper = slopes[0] + half
        if self.learner in MONOTONE:
            upper = np.minimum(upper, 0.0)  # they cannot rise with price
        return Elasticities(
            name=tuple(name),
            mean=np.where(known, slopes[0], np.nan),
            lower=np.where(known, slopes[0] - half, -np.inf),
            upper=np.where(known, upper, np.inf),
            probability=self.probability,
            interval_kind=f"bootstrap over items, {refits} refits, Student-t",
            n_items=tuple(n_items),
        )


def _fit(learner: Learner, encoding: Encoding, cells: Cells) -> Regressor:
    with one_thread():
        return build_regressor(learner, encoding).fit(cells.features, cells.target, sample_weight=cells.weight)


def _log_prediction(regressor: Regressor, encoding: Encoding, features: Floats) -> Floats:
    """Log of units relative to the usual ones."""
    with one_thread():
        predicted = regressor.predict(features)
    return np.log(np.maximum(predicted, np.exp(-LARGEST_LOG))) if encoding.counts else predicted


def _held_out_noise(
    learner: Learner, train: SalesRows, model: Literal["log", "counts"], rng: np.random.Generator
) -> UnitsNoise:
    """Scatter of rows the learner was not fitted to: the last fifth of the periods, or a random fifth of the rows."""
    held_out = held_out_rows(train.frame, rng)
    early = train.with_frame(train.frame.filter(~pl.Series(held_out)))
    late = train.frame.filter(pl.Series(held_out))
    encoding = Encoding.of(early, model)
    features, offset = encoding.features(early.frame)
    target, weight = encoding.target(early.frame, offset)
    fitted = _fit(learner, encoding, Cells.of(early.frame["item"], features, target, weight))
    late_features, late_offset = encoding.features(late)
    log_units = late_offset + _log_prediction(fitted, encoding, late_features)
    units = late["quantity"].cast(pl.Float64).to_numpy()
    if model == "counts":
        return CountNoise.of(units, np.exp(log_units))
    return LogResiduals.of(np.log(units) - log_units)
