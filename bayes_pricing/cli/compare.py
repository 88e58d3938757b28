"""`bayes-pricing compare`: posterior and baselines on the same sales, in one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import polars as pl
from cyclopts import Parameter

from bayes_pricing.cli.flags import Repeatable, RoleFlags, SalesFlags, SamplerFlags
from bayes_pricing.cli.output import Answer, progress_bar
from bayes_pricing.cli.text import finding_lines

if TYPE_CHECKING:
    from bayes_pricing.baselines.suite import Comparison

LEAST_PERIODS_TO_SCORE = 8
SCORED_SHARE = 6
"""Left to itself, the last sixth of the periods is held out."""


def compare(
    sales: SalesFlags,
    roles: RoleFlags | None = None,
    sampler: SamplerFlags | None = None,
    *,
    estimator: Repeatable = (),
    origins: int = 1,
    horizon: int | None = None,
    seed: int = 1,
    track: str | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> Answer:
    """Compare the posterior with regressions, trees and double machine learning: forecasts, elasticities, seconds.

    Example: bayes-pricing compare --sales sales.csv --item sku --category family --quantity units --origins 2

    Parameters
    ----------
    estimator
        Repeat it to compare only some: posterior, pooled, item_effects, separate, quadratic, cubic, gam, random_forest,
        boosted_trees, ensemble, double_ml. Left out, all of them; with --instrument also uninstrumented_posterior and
        uninstrumented_double_ml, which take prices as given, and with --sold-out uncensored_posterior, which takes
        sales for demand. By name only, from the extras boosting and causal: xgboost, lightgbm, doubleml.
    origins
        Points in time before which every estimator is fitted anew and after which it is scored; 0 scores nothing.
    horizon
        Periods scored after each origin; left out, a sixth of all periods shared by the origins.
    seed
        Same seed, same answer.
    track
        URI of an MLflow store that keeps scores and tables too, e.g. sqlite:///runs.db (needs the extra `mlflow`).
    json
        One JSON document on standard output.
    """
    from bayes_pricing.baselines.suite import ESTIMATORS, compare_estimators, naive_twins
    from bayes_pricing.tracking import check_store, track_comparison

    if track is not None:
        check_store(track)
    with progress_bar() as progress:
        panel = sales.panel(roles or RoleFlags())
        periods = panel.summary.periods if panel.roles.period is not None else 0
        scored = origins if periods >= LEAST_PERIODS_TO_SCORE else 0
        length = horizon if horizon is not None else max(periods // (SCORED_SHARE * max(origins, 1)), 1)
        compared = compare_estimators(
            panel,
            estimator or (*ESTIMATORS, *naive_twins(panel.roles)),
            n_origins=scored,
            horizon=length,
            seed=seed,
            sampler=(sampler or SamplerFlags()).settings(),
            progress=progress,
        )
    lines = compare_lines(compared, scored, length)
    tracked = None
    if track is not None:
        asked = {"sales": panel.summary.data_hash, "origins": scored, "horizon": length, "seed": seed}
        tracked = track_comparison(track, compared, asked).run
        lines += ["", f"Tracked as run {tracked}."]
    document = {
        "status": "ok",
        "tracked_run": tracked,
        "origins": scored,
        "horizon": length if scored else None,
        "estimators": compared.table.to_dicts(),
        "scores": None if compared.scores is None else compared.scores.to_dicts(),
        "elasticities": compared.elasticities.to_dicts(),
        "importance": compared.importance.to_dicts(),
        "partial_dependence": compared.dependence.to_dicts(),
        "findings": list(compared.findings),
    }
    return Answer(document=document, text="\n".join(lines))


def compare_lines(compared: Comparison, origins: int, horizon: int) -> list[str]:
    """The table for people: an asterisk marks the best of each column."""
    table = compared.table
    width = max(len(name) for name in table["estimator"])
    columns = {
        "rmse_log_units": ("RMSE log", "{:.3f}"),
        "wape": ("WAPE", "{:.3f}"),
        "crps": ("CRPS", "{:.3f}"),
        "coverage_50": ("in 50 %", "{:.2f}"),
        "coverage_80": ("in 80 %", "{:.2f}"),
        "coverage_95": ("in 95 %", "{:.2f}"),
        "width_50": ("w 50 %", "{:.1f}"),
        "width_80": ("w 80 %", "{:.1f}"),
        "width_95": ("w 95 %", "{:.1f}"),
        "directional_accuracy": ("direction", "{:.2f}"),
    }
    shown = {name: form for name, form in columns.items() if name in table.columns}
    head = f"{'':<{width}}  elasticity   interval          seconds"
    lines = [
        f"Scored on {horizon} periods after {'the last origin' if origins == 1 else f'each of {origins} origins'}:"
        if origins
        else "Too few periods to score forecasts; elasticities only:",
        head + "".join(f"{title:>11}" for title, _form in shown.values()),
    ]
    for row in table.to_dicts():
        cells = "".join(
            f"{'-' if row[name] is None else form.format(row[name]) + ('*' if name in row['best'] else ''):>11}"
            for name, (_title, form) in shown.items()
        )
        value = "     -" if row["elasticity"] is None else f"{row['elasticity']:6.2f}"
        interval = f"{row['lower']:6.2f} to {row['upper']:6.2f}"
        lines.append(f"{row['estimator']:<{width}}  {value:>10}  {interval:<17} {row['seconds']:8.1f}" + cells)
    lines += ["* best of its column; coverage is best nearest its probability.", "", "What each leans on most:"]
    top = compared.importance.filter(pl.col("importance") > 0).group_by("estimator", maintain_order=True).head(2)
    for name, rows in top.group_by("estimator", maintain_order=True):
        leading = ", ".join(
            f"{feature} ({rise:.3g})" for feature, rise in rows.select("feature", "importance").iter_rows()
        )
        lines.append(f"  {name[0]:<{width}}  {leading}")
    return [*lines, *finding_lines(compared.findings)]
