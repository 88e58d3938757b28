"""Small tests with a known effect."""

from __future__ import annotations

import numpy as np
import polars as pl

from bayes_pricing.experiments.readout import ReadOut, ReadOutRequest, read_out
from bayes_pricing.experiments.trial import Trial, read_trial
from bayes_pricing.experiments.trial_columns import TrialColumns


def user_rows(units: int, effect: float, seed: int, arms: int = 2) -> pl.DataFrame:
    """Users with the spending before the test that foretells half of the variance of what they spend in it."""
    rng = np.random.default_rng(seed)
    arm = np.arange(units) % arms
    before = rng.normal(10.0, 2.0, size=units)
    spent = before + rng.normal(0.0, 2.0, size=units) + effect * (arm == 1)
    names = np.array(["A", "B", "C", "D"])[arm]
    return pl.DataFrame({"user": np.arange(units), "arm": names, "spent": spent, "before": before})


def cluster_rows(clusters: int, effect: float, seed: int, size: int = 20) -> pl.DataFrame:
    """Clusters of shoppers that are alike: the cluster's own level has the sd of the shopper's."""
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(clusters), size)
    arm = (cluster % 2 == 1).astype(int)
    level = rng.normal(0.0, 1.0, size=clusters)[cluster]
    spent = 10 + level + rng.normal(size=cluster.size) + effect * arm
    return pl.DataFrame({"store": cluster, "arm": np.where(arm == 1, "B", "A"), "spent": spent})


def event_rows(stores: int, weeks: int, effect: float, seed: int) -> pl.DataFrame:
    """Stores over weeks; half of them get a new price in the middle: `effect` log points of sales."""
    rng = np.random.default_rng(seed)
    store, week = np.repeat(np.arange(stores), weeks), np.tile(np.arange(weeks), stores)
    treated, after = store % 2 == 1, week >= weeks // 2
    log_sales = (
        5.0
        + rng.normal(0.0, 0.5, stores)[store]
        + rng.normal(0.0, 0.2, weeks)[week]
        + effect * (treated & after)
        + rng.normal(0.0, 0.05, store.size)
    )
    return pl.DataFrame(
        {
            "store": store,
            "week": week,
            "group": np.where(treated, "new", "old"),
            "after": after.astype(int),
            "begins": [weeks // 2 if new else None for new in treated],
            "sales": np.exp(log_sales),
        },
    )


def trial_of(frame: pl.DataFrame, **columns: object) -> Trial:
    """The checked trial of a frame with arms `arm`, control A and outcome spent, unless said otherwise."""
    named: dict[str, object] = {"arm": "arm", "control_arm": "A", "outcomes": ("spent",)}
    return read_trial(frame, TrialColumns(**{**named, **columns}))  # type: ignore[arg-type]


def read(trial: Trial, request: ReadOutRequest | None = None) -> ReadOut:
    """Read a trial out."""
    return read_out(trial, request or ReadOutRequest(), np.random.default_rng(7))


def codes(answer: ReadOut) -> set[str]:
    """Codes of what was found."""
    return {finding.code for finding in answer.findings}
