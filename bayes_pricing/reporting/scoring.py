"""What each score of the comparison means to a reader: its name, its unit, and which value is best."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from bayes_pricing.reporting.formats import plain
from bayes_pricing.reporting.marks import require_columns


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreMeaning:
    """How a score is called, its unit, and the value that would be best (the nearer, the better)."""

    label: str
    unit: str
    best: float

    @property
    def heading(self) -> str:
        """Label with its unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def hint(self) -> str:
        """Which way is better, in words."""
        if self.best == 0:
            return "lower is better"
        return "higher is better" if self.best == 1 and self.unit == "share" else f"best near {plain(self.best)}"


SCORES = {
    "wape": ScoreMeaning(label="WAPE", unit="share missed", best=0.0),
    "rmse_log_units": ScoreMeaning(label="RMSE", unit="log units", best=0.0),
    "crps": ScoreMeaning(label="CRPS", unit="units", best=0.0),
    "poisson_deviance": ScoreMeaning(label="Poisson deviance", unit="per row", best=0.0),
    "directional_accuracy": ScoreMeaning(label="Direction right", unit="share", best=1.0),
    "coverage_80": ScoreMeaning(label="Coverage of 80 % intervals", unit="", best=0.8),
    "elasticity_error": ScoreMeaning(label="Elasticity error", unit="mean absolute", best=0.0),
    "seconds": ScoreMeaning(label="Time to fit", unit="seconds", best=0.0),
}


def mean_scores(scores: pl.DataFrame) -> pl.DataFrame:
    """Mean of every score over the origins, one row per estimator in the order given.

    A score that some origin of an estimator does not have is null: means over different rows do not compare. Columns
    without any known score are left out.

    Parameters
    ----------
    scores : DataFrame
        As :func:`bayes_pricing.baselines.evaluation.evaluate` gives them.

    Raises
    ------
    SpecError
        If there is no estimator.

    Examples
    --------
    >>> scores = pl.DataFrame({"estimator": ["a", "a", "b"], "wape": [0.2, 0.4, None], "crps": [None, None, None]})
    >>> mean_scores(scores).rows()
    [('a', 0.30000000000000004), ('b', None)]
    """
    require_columns(scores, ("estimator",), "The comparison")
    known = [name for name in SCORES if name in scores.columns]
    complete = (
        pl.when(pl.col(name).cast(pl.Float64).is_finite().fill_null(value=False).all())
        .then(pl.col(name).cast(pl.Float64).mean())
        .alias(name)
        for name in known
    )
    means = scores.group_by("estimator", maintain_order=True).agg(*complete)
    return means.select("estimator", *(name for name in known if means[name].null_count() < means.height))


def elasticity_errors(elasticities: pl.DataFrame, truth: pl.DataFrame) -> pl.DataFrame:
    """Mean absolute error of each estimator's elasticities against the truth, over the groups all of them know.

    Parameters
    ----------
    elasticities : DataFrame
        Columns ``estimator, level, name, mean``.
    truth : DataFrame
        Columns ``level, name, elasticity``.

    Returns
    -------
    DataFrame
        Columns ``estimator, elasticity_error``.

    Examples
    --------
    >>> seen = pl.DataFrame({"estimator": ["a"], "level": ["category"], "name": ["tea"], "mean": [-2.0]})
    >>> true = pl.DataFrame({"level": ["category"], "name": ["tea"], "elasticity": [-1.5]})
    >>> elasticity_errors(seen, true).rows()
    [('a', 0.5)]
    """
    both = elasticities.join(truth, on=["level", "name"]).filter(pl.col("mean").is_finite(), pl.col("level") != "item")
    shared = pl.len().over("level", "name") == elasticities["estimator"].n_unique()
    error = (pl.col("mean") - pl.col("elasticity")).abs().mean().alias("elasticity_error")
    return both.filter(shared).group_by("estimator", maintain_order=True).agg(error)
