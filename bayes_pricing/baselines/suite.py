"""The estimators by name and what `compare` does with them: scores, elasticities, what each leans on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from bayes_pricing.baselines.double_ml import DoubleMachineLearning
from bayes_pricing.baselines.double_ml_reference import DoubleMLReference
from bayes_pricing.baselines.evaluation import compare_elasticities, evaluate, rolling_origin
from bayes_pricing.baselines.inspection import importance_table, partial_dependence, price_ratio_grid
from bayes_pricing.baselines.leak_demonstration import leak_words
from bayes_pricing.baselines.leakage import LeakageError, refuse_leaks
from bayes_pricing.baselines.learned import LearnedDemand
from bayes_pricing.baselines.linear import LinearDemand
from bayes_pricing.baselines.posterior import PosteriorDemand
from bayes_pricing.baselines.protocol import Baseline, FittedBaseline, SalesRows
from bayes_pricing.data.panel import SalesPanel
from bayes_pricing.data.roles import ColumnRoles
from bayes_pricing.demand.fit import SamplerSettings
from bayes_pricing.errors import Finding, Refusal, SpecError

ESTIMATORS = (
    "posterior",
    "pooled",
    "item_effects",
    "separate",
    "quadratic",
    "cubic",
    "gam",
    "random_forest",
    "boosted_trees",
    "ensemble",
    "double_ml",
)
"""What `compare` compares unless told otherwise."""
UNINSTRUMENTED = ("uninstrumented_posterior", "uninstrumented_double_ml")
"""Estimators of the same name that take prices as given, for sales that have instruments."""
UNCENSORED = "uncensored_posterior"
"""The posterior that takes sales for demand, for sales that ran out now and then."""
OPTIONAL = ("xgboost", "lightgbm", "doubleml")
"""Estimators of packages that the extras `boosting` and `causal` bring; compared when named."""
REPEATS = 5


def build_estimator(name: str, *, seed: int, refits: int = 10, sampler: SamplerSettings | None = None) -> Baseline:
    """An estimator by its name.

    Parameters
    ----------
    name : str
        One of :data:`ESTIMATORS`, :data:`UNINSTRUMENTED`, :data:`UNCENSORED` or :data:`OPTIONAL`. The posterior and
        double machine learning use instruments where the rows have them, the posterior what is known of stock; all
        others take prices as given and sales for demand.
    seed : int
    refits : int
        Bootstrap fits behind the intervals of learned demand.
    sampler : SamplerSettings, optional
        Of the posterior.

    Raises
    ------
    SpecError
        If the name is unknown, or the package that an estimator stands in is not installed.

    Examples
    --------
    >>> build_estimator("item_effects", seed=1).pooling
    'item_effects'
    """
    if name in ("posterior", "uninstrumented_posterior", UNCENSORED):
        return PosteriorDemand(
            seed=seed,
            sampler=sampler or SamplerSettings(),
            instrumented=name not in UNINSTRUMENTED,
            censored=name != UNCENSORED,
        )
    if name in ("pooled", "item_effects", "separate"):
        return LinearDemand(pooling=name)  # type: ignore[arg-type]  # narrowed by the line above
    if name in ("double_ml", "uninstrumented_double_ml"):
        return DoubleMachineLearning(seed=seed, instrumented=name not in UNINSTRUMENTED)
    if name == "doubleml":
        return DoubleMLReference(seed=seed)
    if name in (*ESTIMATORS, *OPTIONAL):
        return LearnedDemand(learner=name, seed=seed, refits=refits)  # type: ignore[arg-type]
    raise SpecError(
        f"The estimator {name!r} is unknown; choose {', '.join((*ESTIMATORS, *UNINSTRUMENTED, UNCENSORED, *OPTIONAL))}."
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Posterior and baselines on the same sales.

    Attributes
    ----------
    table : DataFrame
        One row per estimator: mean scores over origins, ``elasticity, lower, upper, probability, interval_kind`` (mean
        over the items sold), ``seconds`` of the fit to all sales, and ``best`` (names of the scores it wins).
    scores : DataFrame or None
        Scores by estimator and origin; None where there are too few periods.
    elasticities : DataFrame
        By estimator, level and name.
    importance, dependence : DataFrame
        Permutation importance and partial dependence of each estimator.
    findings : tuple of Finding
        Estimators that refused these sales, and why; what all of them leave out.
    """

    table: pl.DataFrame
    scores: pl.DataFrame | None
    elasticities: pl.DataFrame
    importance: pl.DataFrame
    dependence: pl.DataFrame
    findings: tuple[Finding, ...]


LOWER_IS_BETTER = ("rmse_log_units", "wape", "crps")
NOMINAL = {"coverage_50": 0.5, "coverage_80": 0.8, "coverage_95": 0.95}
SHOWN = (*LOWER_IS_BETTER, "directional_accuracy", *NOMINAL, "width_50", "width_80", "width_95")


def naive_twins(roles: ColumnRoles) -> tuple[str, ...]:
    """Estimators that leave out what the roles tell of instruments and stock, to stand beside those that use it.

    Examples
    --------
    >>> naive_twins(ColumnRoles(item="item", price="price", quantity="quantity", sold_out="sold_out"))
    ('uncensored_posterior',)
    """
    return (*(UNINSTRUMENTED if roles.instruments else ()), *((UNCENSORED,) if roles.sold_out or roles.stock else ()))


def compare_estimators(
    panel: SalesPanel,
    names: Sequence[str],
    *,
    n_origins: int,
    horizon: int,
    seed: int,
    sampler: SamplerSettings | None = None,
    progress: Callable[[float, str], None] = lambda _fraction, _label: None,
) -> Comparison:
    """Fit every estimator before every origin and once to all sales, and lay the results side by side.

    Parameters
    ----------
    panel : SalesPanel
    names : sequence of str
        As :func:`build_estimator` knows them.
    n_origins, horizon : int
        As in :func:`bayes_pricing.baselines.evaluation.rolling_origin`; no origin scores nothing.
    seed : int
    sampler : SamplerSettings, optional
    progress : callable, optional

    Returns
    -------
    Comparison

    Raises
    ------
    LeakageError
        If a control would not be known on the day; it says what the score would have been with it and without.
    Refusal
        If every estimator refuses the sales.
    SpecError
        For an unknown name, or too few periods.
    """
    rows = SalesRows.from_panel(panel)
    _refuse_leaks(rows, horizon)
    scores, fitted = [], []
    findings: list[Finding] = [_sold_out_taken_as_demand()] if UNCENSORED in naive_twins(panel.roles) else []
    estimators = [(name, build_estimator(name, seed=seed, sampler=sampler)) for name in names]
    for at, (name, estimator) in enumerate(estimators):
        progress(at / len(names), f"fitting {name.replace('_', ' ')}")
        try:
            if n_origins > 0:
                scores.append(evaluate([estimator], rows, n_origins=n_origins, horizon=horizon, seed=seed))
            fitted.append(estimator.fit(rows))
        except Refusal as refusal:
            findings += [_left_out(name, finding) for finding in refusal.findings if finding.severity == "error"]
    if not fitted:
        raise Refusal(findings)
    progress(0.95, "asking what each leans on")
    known = [level for level in panel.roles.levels if level in rows.frame.columns]
    elasticities = compare_elasticities(fitted, panel.item_table(), known)
    table = pl.concat(scores) if scores else None
    late = rows if n_origins == 0 else rows.with_frame(list(rolling_origin(rows.frame, n_origins, horizon))[-1][1])
    grid = price_ratio_grid(rows.frame)
    return Comparison(
        table=summary_table(fitted, table, elasticities),
        scores=table,
        elasticities=elasticities,
        importance=importance_table(fitted, late, repeats=REPEATS, seed=seed),
        dependence=pl.concat(partial_dependence(one, late.frame, grid) for one in fitted),
        findings=tuple(findings),
    )


def _refuse_leaks(rows: SalesRows, horizon: int) -> None:
    try:
        refuse_leaks(rows, rows.features)
    except LeakageError as error:
        if "period" not in rows.frame.columns or not rows.frame["period"].n_unique() > horizon:
            raise
        names = [leak.feature for leak in error.leaks]
        raise LeakageError(error.leaks, shown=leak_words(rows, names, horizon=horizon)) from error


def _sold_out_taken_as_demand() -> Finding:
    return Finding(
        code="sold_out_taken_as_demand",
        severity="warning",
        message="only the posterior knows which rows ran out: all others take their sales for demand",
        remedy="read the posterior's elasticities, for which those rows are the least that was wanted",
    )


def _left_out(name: str, finding: Finding) -> Finding:
    return Finding(
        code=finding.code,
        severity="warning",
        message=f"{name.replace('_', ' ')} is left out: {finding.message}",
        remedy=finding.remedy,
        item=finding.item,
    )


def summary_table(
    fitted: Sequence[FittedBaseline], scores: pl.DataFrame | None, elasticities: pl.DataFrame
) -> pl.DataFrame:
    """One row per estimator, in the order fitted: mean scores, mean elasticity, seconds, and the scores it wins.

    Examples
    --------
    >>> from bayes_pricing.baselines.linear import LinearDemand
    >>> frame = pl.DataFrame({"item": ["tea"] * 3, "price": [1.0, 2.0, 4.0], "quantity": [8.0, 4.0, 2.0]})
    >>> fitted = [LinearDemand().fit(SalesRows(frame=frame))]
    >>> items = pl.DataFrame({"item": ["tea"], "current_price": [4.0]})
    >>> summary_table(fitted, None, compare_elasticities(fitted, items, [])).row(0)[:2]
    ('item fixed effects (log units)', -1.0)
    """
    population = elasticities.filter(pl.col("level") == "population").select(
        "estimator", pl.col("mean").alias("elasticity"), "lower", "upper", "probability", "interval_kind", "seconds"
    )
    order = pl.DataFrame({"estimator": [one.name for one in fitted]})
    table = order.join(population, on="estimator", how="left", maintain_order="left")
    if scores is None:
        return table
    means = scores.group_by("estimator", maintain_order=True).agg(pl.col(name).mean() for name in SHOWN)
    table = table.join(means, on="estimator", how="left", maintain_order="left")
    wins: dict[str, list[str]] = {name: [] for name in table["estimator"]}
    for score in (*LOWER_IS_BETTER, "directional_accuracy", *NOMINAL):
        values = table[score].drop_nulls()
        if values.len():
            wins[_winner(table, score)].append(score)
    return table.with_columns(pl.Series("best", list(wins.values()), dtype=pl.List(pl.String)))


def _winner(table: pl.DataFrame, score: str) -> str:
    value = pl.col(score)
    if score in NOMINAL:
        value = (value - NOMINAL[score]).abs()
    elif score not in LOWER_IS_BETTER:
        value = -value
    return str(table.filter(pl.col(score).is_not_null()).sort(value, maintain_order=True)["estimator"][0])
