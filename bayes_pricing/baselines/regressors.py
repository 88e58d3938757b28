"""The regressors that learn demand from encoded rows: trees from scikit-learn, and curves in log price."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np

from bayes_pricing.baselines.protocol import Floats
from bayes_pricing.errors import SpecError
from bayes_pricing.extras import import_extra

if TYPE_CHECKING:
    from bayes_pricing.baselines.features import Encoding

Learner = Literal["boosted_trees", "random_forest", "ensemble", "quadratic", "cubic", "gam", "xgboost", "lightgbm"]
LEARNERS: dict[Learner, str] = {
    "boosted_trees": "boosted trees",
    "random_forest": "random forest",
    "ensemble": "ensemble of trees",
    "quadratic": "quadratic in log price",
    "cubic": "cubic in log price",
    "gam": "generalised additive model",
    "xgboost": "XGBoost",
    "lightgbm": "LightGBM",
}
MONOTONE: frozenset[Learner] = frozenset({"boosted_trees", "xgboost", "lightgbm"})
"""Learners whose units cannot rise with price."""
PACKAGED: frozenset[Learner] = frozenset({"xgboost", "lightgbm"})
"""Learners that stand in a package of their own name."""
TREES = 100
LEAVES = 8
CATEGORIES_LIMIT = 64  # scikit-learn allows a categorical feature no more values than bins
FOREST_TREES = 40
ROWS_OF_A_LEAF = 20
SPLINE_KNOTS = 5
WEEKS_OF_A_YEAR = 53.0
LARGEST_LOG = 20.0


class Regressor(Protocol):
    """What encoded rows are fitted with: scikit-learn's own shape."""

    def fit(self, X: Floats, y: Floats, sample_weight: Floats) -> Regressor:
        """Learn from features (row, feature)."""
        ...

    def predict(self, X: Floats) -> Floats:
        """Target of each row."""
        ...


def one_thread() -> AbstractContextManager[object]:
    """Keep the trees on one thread: two that wait for each other on a shared core took twenty times as long."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no types

    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


def build_regressor(learner: Learner, encoding: Encoding) -> Regressor:
    """An unfitted regressor for the encoding's features and target.

    Raises
    ------
    SpecError
        If the learner is unknown, or its package is not installed.

    Examples
    --------
    >>> import polars as pl
    >>> from bayes_pricing.baselines.features import Encoding
    >>> from bayes_pricing.baselines.protocol import SalesRows
    >>> frame = pl.DataFrame({"item": ["tea"] * 4, "price": [1.0, 2.0, 4.0, 8.0], "quantity": [64.0, 16.0, 4.0, 1.0]})
    >>> encoding = Encoding.of(SalesRows(frame=frame), "log")
    >>> features, offset = encoding.features(frame)
    >>> curve = build_regressor("quadratic", encoding).fit(features, *encoding.target(frame, offset))
    >>> bool(np.allclose(np.diff(curve.predict(features)), -2 * np.log(2), atol=0.01))
    True
    """
    if learner == "boosted_trees":
        return _boosted(encoding)
    if learner == "random_forest":
        return _forest()
    if learner == "ensemble":
        return _Ensemble((_boosted(encoding), _forest()), encoding.counts)
    if learner in ("quadratic", "cubic", "gam"):
        degree = {"quadratic": 2, "cubic": 3, "gam": None}[learner]
        return _Curve(degree, len(encoding.categories), encoding.counts)
    if learner == "xgboost":
        return _xgboost(encoding)
    if learner == "lightgbm":
        return _lightgbm(encoding)
    raise SpecError(f"The learner {learner!r} is unknown; choose {', '.join(get_args(Learner))}.")


def _boosted(encoding: Encoding) -> Regressor:
    from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]  # has no types

    categories = len(encoding.categories)
    trees: Regressor = HistGradientBoostingRegressor(
        loss="poisson" if encoding.counts else "squared_error",
        learning_rate=0.1,
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=ROWS_OF_A_LEAF,
        max_bins=CATEGORIES_LIMIT,
        monotonic_cst=list(_falling_in_price(encoding)),
        categorical_features=[1] if 1 < categories <= CATEGORIES_LIMIT else None,
        early_stopping=False,
        random_state=0,
    )
    return trees


def _falling_in_price(encoding: Encoding) -> tuple[int, ...]:
    """Signs that hold predictions monotone: falling in the first feature, free in the others."""
    return (-1, *(0,) * (2 + len(encoding.controls)))


def _xgboost(encoding: Encoding) -> Regressor:
    """The same trees by XGBoost; a category is a number here, which eight leaves tell apart well enough."""
    package = import_extra("xgboost", "boosting")
    trees: Regressor = package.XGBRegressor(
        objective="count:poisson" if encoding.counts else "reg:squarederror",
        n_estimators=TREES,
        learning_rate=0.1,
        tree_method="hist",
        grow_policy="lossguide",
        max_depth=0,
        max_leaves=LEAVES,
        min_child_weight=ROWS_OF_A_LEAF,
        monotone_constraints=_falling_in_price(encoding),
        n_jobs=1,
        random_state=0,
        verbosity=0,
    )
    return trees


def _lightgbm(encoding: Encoding) -> Regressor:
    """The same trees by LightGBM."""
    package = import_extra("lightgbm", "boosting")
    trees: Regressor = package.LGBMRegressor(
        objective="poisson" if encoding.counts else "regression",
        n_estimators=TREES,
        learning_rate=0.1,
        num_leaves=LEAVES,
        min_child_samples=ROWS_OF_A_LEAF,
        monotone_constraints=list(_falling_in_price(encoding)),
        deterministic=True,
        force_row_wise=True,
        n_jobs=1,
        random_state=0,
        verbosity=-1,
    )
    return trees


def _forest() -> Regressor:
    from sklearn.ensemble import RandomForestRegressor

    forest: Regressor = RandomForestRegressor(
        n_estimators=FOREST_TREES, min_samples_leaf=ROWS_OF_A_LEAF, n_jobs=1, random_state=0
    )
    return forest


class _Ensemble:
    """The mean of several regressors, of their logs for counts."""

    def __init__(self, members: tuple[Regressor, ...], counts: bool) -> None:
        self._members = members
        self._counts = counts

    def fit(self, X: Floats, y: Floats, sample_weight: Floats) -> _Ensemble:
        for member in self._members:
            member.fit(X, y, sample_weight)
        return self

    def predict(self, X: Floats) -> Floats:
        values = np.stack([member.predict(X) for member in self._members])
        if not self._counts:
            return np.asarray(values.mean(axis=0))
        return np.asarray(np.exp(np.log(np.maximum(values, np.exp(-LARGEST_LOG))).mean(axis=0)))


class _Curve:
    """A curve in log price per category (a polynomial or a cubic spline), a smooth year, and linear controls.

    A light ridge decides what the data do not; outside the prices seen a spline goes on as a straight line.
    """

    def __init__(self, degree: int | None, categories: int, counts: bool) -> None:
        self._degree = degree
        self._categories = max(categories, 1)
        self._counts = counts

    def fit(self, X: Floats, y: Floats, sample_weight: Floats) -> _Curve:
        from sklearn.linear_model import PoissonRegressor, Ridge  # type: ignore[import-untyped]
        from sklearn.pipeline import make_pipeline  # type: ignore[import-untyped]
        from sklearn.preprocessing import SplineTransformer, StandardScaler  # type: ignore[import-untyped]

        self._splines = SplineTransformer(n_knots=SPLINE_KNOTS, extrapolation="linear", knots="quantile")
        if self._degree is None:
            self._splines.fit(X[:, :1])
        self._year = np.ptp(X[:, 2]) > 0
        if self._counts:
            last = PoissonRegressor(alpha=1e-4, solver="newton-cholesky", max_iter=200)
        else:
            last = Ridge(alpha=1e-2)
        name = type(last).__name__.lower()
        self._model = make_pipeline(StandardScaler(), last)
        self._model.fit(self._design(X), y, **{f"{name}__sample_weight": sample_weight})
        return self

    def predict(self, X: Floats) -> Floats:
        return np.asarray(self._model.predict(self._design(X)))

    def _design(self, X: Floats) -> Floats:
        price = X[:, :1]
        curve = (
            self._splines.transform(price)
            if self._degree is None
            else np.hstack([price**power for power in range(1, self._degree + 1)])
        )
        category = X[:, 1]
        known = np.isfinite(category)
        member = (category[:, None] == np.arange(self._categories)).astype(np.float64)
        member[~known] = 1.0 / self._categories
        bent = (member[:, :, None] * curve[:, None, :]).reshape(len(X), -1)
        angle = 2 * np.pi * X[:, 2:3] / WEEKS_OF_A_YEAR
        waves = [wave(k * angle) for k in (1, 2, 3) for wave in (np.sin, np.cos)] if self._year else []
        return np.hstack([member, bent, *waves, X[:, 3:]])
