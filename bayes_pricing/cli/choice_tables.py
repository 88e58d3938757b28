"""Posterior draws of choices and purchases as rows: every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Row = dict[str, object]


def interval(draws: Floats) -> dict[str, float]:
    """``mean, sd, lower, upper, probability`` of draws of one quantity.

    Examples
    --------
    >>> interval(np.arange(101.0))["upper"]
    95.0
    """
    from bayes_pricing.demand.elasticity import PROBABILITY, summarize

    summary = summarize(np.asarray(draws, dtype=np.float64).reshape(-1, 1))
    return {name: float(value[0]) for name, value in summary.items()} | {"probability": PROBABILITY}


def rows(names: Sequence[str], draws: Floats) -> list[Row]:
    """One row for each of `names`, the last axis of `draws`: ``name, mean, sd, lower, upper, probability``."""
    flat = np.asarray(draws).reshape(-1, len(names))
    return [{"name": name, **interval(column)} for name, column in zip(names, flat.T, strict=True)]


def elasticity_rows(level: str, names: Sequence[str], draws: Floats) -> list[Row]:
    """Rows of `fit`'s ``elasticities``; a choice model's items have no weight of their own rows."""
    flat = np.asarray(draws).reshape(-1, len(names))
    return [
        {
            "level": level,
            **row,
            "probability_elastic": float((column < -1.0).mean()),
            "own_data_weight": None,
            "prior_only": False,
        }
        for row, column in zip(rows(names, flat), flat.T, strict=True)
    ]


def pair_rows(
    names: Sequence[str], pairs: Sequence[tuple[int, int]], draws: Floats, keys: tuple[str, str]
) -> list[Row]:
    """One row for each pair of positions in `names`, called `keys`."""
    return [
        {keys[0]: names[a], keys[1]: names[b], **interval(column)}
        for (a, b), column in zip(pairs, draws.T, strict=True)
    ]


def median_row(name: str, draws: Floats) -> dict[str, float | str]:
    """Median and interval of a ratio, which may have no mean."""
    found = interval(draws)
    return {
        "name": name,
        "median": float(np.median(draws)),
        "lower": found["lower"],
        "upper": found["upper"],
        "probability": found["probability"],
    }
