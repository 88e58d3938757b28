"""The package DoubleML on the same rows as our own double machine learning: a cross-check; the extra is `causal`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bayes_pricing.baselines.double_ml import (
    DoubleMachineLearning,
    EffectFreeRows,
    FittedDoubleMachineLearning,
    left_over_noise,
)
from bayes_pricing.baselines.noise import CountNoise
from bayes_pricing.baselines.protocol import Floats, SalesRows, UnitModel, resolve_unit_model
from bayes_pricing.baselines.regressors import ROWS_OF_A_LEAF, one_thread
from bayes_pricing.extras import import_extra

ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleMLReference:
    r"""One elasticity for all items by the package DoubleML, prices taken as given.

    The rows are those of :class:`bayes_pricing.baselines.double_ml.DoubleMachineLearning`, free of item and period
    effects; partialling out, cross-fitting by item, the repeated splits, their medians and the standard error clustered
    by item are the package's own (``DoubleMLPLR``). Where items are grouped our own estimator gives an elasticity per
    group and this one their common one: give both rows without levels to compare them number by number.

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

    Raises
    ------
    SpecError
        If the package is not installed, or an option is outside its range.

    References
    ----------
    Bach, Chernozhukov, Kurz & Spindler (2022), "DoubleML: an object-oriented implementation of double machine learning
    in Python", Journal of Machine Learning Research 23(53).

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> from bayes_pricing.errors import SpecError
    >>> try:
    ...     name = DoubleMLReference(seed=1).unit_model
    ... except SpecError as error:
    ...     name = str(error)
    >>> name == "auto" if find_spec("doubleml") else name.endswith("pip install 'bayes-pricing[causal]'.")
    True
    """

    seed: int
    unit_model: UnitModel = "auto"
    probability: float = 0.9
    folds: int = 5
    splits: int = 5

    def __post_init__(self) -> None:
        import_extra("doubleml", "causal")
        DoubleMachineLearning(seed=self.seed, probability=self.probability, folds=self.folds, splits=self.splits)

    def fit(self, train: SalesRows) -> FittedDoubleMachineLearning:
        """Fit on training rows.

        Raises
        ------
        Refusal
            If log units are asked for and some row sold nothing.
        """
        started = time.perf_counter()
        train = replace(train.without_instruments(), levels=())
        model = resolve_unit_model(self.unit_model, train)
        rows = EffectFreeRows.of(train, model)
        slope, error = self._estimate(rows)
        items = int(rows.item.max()) + 1
        fitted = FittedDoubleMachineLearning(
            name=f"DoubleML ({'relative units' if model == 'counts' else 'log units'})",
            seconds=0.0,
            probability=self.probability,
            group=None,
            keys=train.keys,
            categories={ALL: 0},
            slopes=np.array([slope / rows.scale[0]]),
            influence=np.full((1, items), error / rows.scale[0] / np.sqrt(items)),  # squares add up to the error's
            split_variance=np.zeros(1),
            usual=rows.usual,
            noise=CountNoise(dispersion=0.0),
        )
        return replace(fitted, noise=left_over_noise(fitted, train, model), seconds=time.perf_counter() - started)

    def _estimate(self, rows: EffectFreeRows) -> tuple[float, float]:
        """Slope and its standard error, the spread of splits included."""
        from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]  # has no types

        package = import_extra("doubleml", "causal")
        features = [f"x{number}" for number in range(rows.nuisance.shape[1])]
        frame = pd.DataFrame(rows.nuisance, columns=features).assign(y=rows.target, d=rows.price, item=rows.item)
        data = package.DoubleMLData(frame, y_col="y", d_cols="d", x_cols=features, cluster_cols="item")
        trees = HistGradientBoostingRegressor(
            max_iter=40, max_leaf_nodes=8, min_samples_leaf=ROWS_OF_A_LEAF, max_bins=64, random_state=0
        )
        state = np.random.get_state()  # noqa: NPY002 - the package draws its splits from NumPy's global state
        try:
            np.random.seed(self.seed)  # noqa: NPY002
            estimator = package.DoubleMLPLR(data, ml_l=trees, ml_m=trees, n_folds=self.folds, n_rep=self.splits)
            with one_thread():
                estimator.fit()
        finally:
            np.random.set_state(state)  # noqa: NPY002
        slope: Floats = np.asarray(estimator.coef)
        return float(slope[0]), float(np.asarray(estimator.se)[0])
